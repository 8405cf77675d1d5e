//! Authentication posture: does an operation answer clients that do not show who they are? (feature map section 1.1)
//!
//! `hits` are successful requests without a session identifier, `others` those with one.

use super::{Counts, Limits};
use crate::model::OperationKey;

/// The vendor's label for operations without any authentication.
pub(super) const MISSING_LABEL: &str = "cf-risk-missing-auth";
/// The vendor's label for operations that some clients use without authentication.
pub(super) const MIXED_LABEL: &str = "cf-risk-mixed-auth";

/// All successful requests lack an identifier.
pub(super) fn missing(operation: &OperationKey, counts: Counts, limits: &Limits) -> bool {
    judged(operation, counts, limits) && counts.hits > 0 && counts.others == 0
}

/// Some successful requests lack an identifier.
pub(super) fn mixed(operation: &OperationKey, counts: Counts, limits: &Limits) -> bool {
    judged(operation, counts, limits) && counts.hits > 0 && counts.others > 0
}

fn judged(operation: &OperationKey, counts: Counts, limits: &Limits) -> bool {
    counts.hits + counts.others >= limits.min_successful
        && !limits.excluded_methods.contains(&operation.method)
}
