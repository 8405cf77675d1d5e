//! What is fuzzed: one module a target, each with `run`, which must end soon and without a panic for any input.
//!
//! Enters: bytes. Leaves: nothing, or a panic that names a broken promise. The integration tests of the program
//! include this file and run every target over the kept inputs, so a target never falls behind the program.

pub mod certificate;
pub mod crl;
pub mod event;
pub mod judging;
pub mod openapi;
pub mod path;
pub mod rule;
pub mod token;

/// A target: its name and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("event", event::run),
    ("token", token::run),
    ("path", path::run),
    ("openapi", openapi::run),
    ("certificate", certificate::run),
    ("crl", crl::run),
    ("rule", rule::run),
];
