//! Judges one exchange: plain calls in a row, one per verdict.

#[cfg(test)]
mod fixtures;
pub mod mtls;
pub mod privacy;
pub mod schema;
pub mod session;
pub mod token;
