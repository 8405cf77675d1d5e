//! Client certificate authorities.
use super::objects::MtlsObject;
use crate::model::Problems;
/// Authorities of one zone.
#[derive(Debug, Default)]
pub struct Mtls {}
impl Mtls {
    pub(super) fn compile(_objects: &[MtlsObject], _place: &str, _problems: &mut Problems) -> Self {
        Self::default()
    }
}
