//! Judges one exchange: plain calls in a row, one per verdict.

pub mod mtls;
pub mod schema;
pub mod session;
pub mod token;
