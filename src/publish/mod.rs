//! What the pipeline says to others. Layer 2: forms events and puts them where they are read; never judges.

pub mod blocklist;
pub mod events;
pub mod exporters;
pub mod feed;
pub mod file;
pub mod kafka;

/// Topic of label events.
pub const LABELS: &str = "labels";
/// Topic of insight events.
pub const INSIGHTS: &str = "insights";
/// Topic of the block list: the newest record of a key is what holds.
pub const BLOCK_LIST: &str = "blocklist";
/// Topic of control-plane objects.
pub const CONTROL: &str = "control";
/// Topic of what nodes and people propose; one partition, whose owner is the evaluator.
pub const PROPOSALS: &str = "proposals";
/// Topic of refused records.
pub const DEAD_LETTER: &str = "deadletter";
