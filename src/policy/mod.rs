//! What to judge against: compiled once from declarative objects, immutable, swapped whole.
//!
//! Enters: [`objects::ZoneObject`]s with every file already read. Leaves: a [`Policy`], or every problem at once.
//! No I/O and no clock here.

pub mod mtls;
pub mod objects;
pub mod operations;
pub mod path;
pub mod rulebook;
pub mod rules;
pub mod schemas;
pub mod sessions;
pub mod tokens;
pub mod zones;

pub use zones::{Policy, Zone};

use crate::model::Problems;

/// Compiles all zones; the only compiler of policy.
///
/// # Errors
/// Every problem found, with its place in the pipeline file or in the file it names.
pub fn compile(zones: &[objects::ZoneObject]) -> Result<Policy, Problems> {
    let mut problems = Problems::default();
    let policy = zones::Policy::compile(zones, &mut problems);
    if problems.is_empty() {
        Ok(policy)
    } else {
        Err(problems)
    }
}
