//! Where log lines come from. Layer 2: delivers records with their offsets, never judges.

pub mod file;
pub mod http;
pub mod jwks;
pub mod kafka;
