//! What the pipeline says to others. Layer 2: forms events and puts them where they are read; never judges.

pub mod events;
pub mod file;

/// Topic of label events.
pub const LABELS: &str = "labels";
/// Topic of insight events.
pub const INSIGHTS: &str = "insights";
/// Topic of refused records.
pub const DEAD_LETTER: &str = "deadletter";
