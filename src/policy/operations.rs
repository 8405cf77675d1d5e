//! Operations and their router.
use super::objects::{OperationObject, SchemaObject};
use crate::model::{Method, OperationSource, Problems};
/// Operations of one zone.
#[derive(Debug, Default)]
pub struct Operations {
    /// Entries.
    pub entries: Vec<OperationEntry>,
}
/// One operation.
#[derive(Debug)]
pub struct OperationEntry {
    /// Method.
    pub method: Method,
    /// Canonical template.
    pub canonical: String,
    /// Template with declared names.
    pub declared: String,
    /// Where it is known from.
    pub source: OperationSource,
}
/// What a request matched. Indexes into `entries`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Most specific operation of schemas and saved ones: the endpoint.
    pub operation: Option<u32>,
    /// Most specific operation of a schema: what conformance is judged against.
    pub schema: Option<u32>,
}
impl Operations {
    pub(super) fn compile(
        _schemas: &[SchemaObject],
        _saved: &[OperationObject],
        _place: &str,
        _problems: &mut Problems,
    ) -> Self {
        Self::default()
    }
    /// Finds the operation of a request; `host` lower case without port, `path` normalised.
    #[must_use]
    pub fn find(&self, _method: Method, _host: &str, _path: &str) -> Match {
        Match::default()
    }
    /// Whether some schema covers the host.
    #[must_use]
    pub fn covers(&self, _host: &str) -> bool {
        false
    }
    /// The known operation with exactly this canonical template, for reports.
    #[must_use]
    pub fn known(&self, _method: Method, _host: &str, _canonical: &str) -> Option<&OperationEntry> {
        None
    }
}
