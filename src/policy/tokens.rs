//! Token configurations.
use super::objects::TokenConfigurationObject;
use crate::model::Problems;
/// Token configurations of one zone, in order.
#[derive(Debug, Default)]
pub struct Tokens {
    /// Configurations.
    pub configurations: Vec<TokenConfiguration>,
}
/// One.
#[derive(Debug)]
pub struct TokenConfiguration {
    /// Id.
    pub id: String,
    /// Title.
    pub title: String,
}
impl Tokens {
    pub(super) fn compile(
        _zone: &str,
        _objects: &[TokenConfigurationObject],
        _place: &str,
        _problems: &mut Problems,
    ) -> Self {
        Self::default()
    }
}
