//! Session identifiers.
use super::{objects::SessionIdentifierObject, tokens::Tokens};
use crate::model::Problems;
/// Session identifiers of one zone, in order.
#[derive(Debug, Default)]
pub struct Sessions {
    /// Names as reported.
    pub names: Vec<String>,
}
impl Sessions {
    pub(super) fn compile(
        _objects: &[SessionIdentifierObject],
        _tokens: &Tokens,
        _place: &str,
        _problems: &mut Problems,
    ) -> Self {
        Self::default()
    }
}
