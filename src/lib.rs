#![forbid(unsafe_code)]
//! Gatewatch.

pub mod cli;
pub mod clock;
pub mod config;
pub mod correlate;
pub mod decode;
pub mod detect;
pub mod enrich;
pub mod model;
pub mod pipeline;
pub mod policy;
pub mod posture;
pub mod publish;
pub mod source;
pub mod store;
pub mod traffic;
pub mod window;
