#![forbid(unsafe_code)]
//! Gatewatch.

pub mod cli;
pub mod clock;
pub mod enrich;
pub mod model;
pub mod policy;
pub mod traffic;
