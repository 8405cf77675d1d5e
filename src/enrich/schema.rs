//! Schema verdicts.
use crate::model::{Exchange, SchemaVerdict};
use crate::policy::operations::{Match, Operations};
/// Judges both sides of an exchange. `host` lower case without port, `path` normalised.
pub fn judge(
    _operations: &Operations,
    _matched: Match,
    _exchange: &Exchange<'_>,
    _host: &str,
    _path: &str,
    _verdict: &mut SchemaVerdict,
) {
}
