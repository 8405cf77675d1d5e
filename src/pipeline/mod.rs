//! The only place that knows the order: source → decode → correlate → enrich → window → store → detect → publish.
//!
//! Three stages run beside each other: a thread reads, a thread judges, and the caller's task sums, stores and
//! publishes. The channels between them are bounded, so a slow disk slows the reader down and nothing is dropped.

pub mod commit;
mod detections;
pub mod evaluator;
pub mod feeding;
pub mod http;
mod inputs;
mod judging;
mod listing;
pub mod partition;
pub(crate) mod proposing;
pub mod run;
pub mod service;
pub mod stream;

pub use commit::Committer;
pub use inputs::{hash_key, known_key};
pub use listing::Desk;
pub use partition::{Flush, Partition, keeping};
pub use run::{Fault, Progress, Summary, run};
pub use stream::{Emitted, Sink, Stream};
