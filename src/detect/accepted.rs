//! Something that should have been refused was answered with success. Once is enough: each is a hole, not a rate.

use super::{Counts, Limits};
use crate::model::OperationKey;

/// At least one such request.
pub(super) fn any(_: &OperationKey, counts: Counts, _: &Limits) -> bool {
    counts.hits > 0
}
