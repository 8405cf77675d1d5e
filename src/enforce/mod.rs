//! The block list as gateways need it: what is refused now, and in the words of each gateway.
//!
//! Enters: the edits of the list. Leaves: a [`View`] that answers "is this refused?" in microseconds, a [`Journal`] of
//! numbered changes for readers that follow the list, and renderings in the formats of gateways. Layer 1: no I/O, no clock
//! (the present is an argument), nothing is delivered from here.
//!
//! Entries that are only simulated are never found by a look-up and never rendered unless somebody asks to see them.

mod address;
mod journal;
pub mod render;
mod view;

#[cfg(test)]
pub(crate) mod fixtures;

pub use journal::{Change, Journal};
pub use view::{Asked, Selection, View};

use uuid::Uuid;

use crate::model::BlockEntry;

/// The id of an entry from its listing to its end: the same in every process, so that a refusal can be traced.
#[must_use]
pub fn entry_id(entry: &BlockEntry) -> Uuid {
    let name = format!("gatewatch:blocklist:{}\n{}", entry.key, entry.created_at);
    Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes())
}
