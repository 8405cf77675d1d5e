#![forbid(unsafe_code)]
//! Gatewatch.

pub mod enrich;
pub mod model;
pub mod policy;
