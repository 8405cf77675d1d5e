//! Where records come from. Layer 2: reads, never judges.

pub mod file;
pub mod http;
