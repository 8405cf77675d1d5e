#![forbid(unsafe_code)]
//! # Gatewatch
//!
//! API-security posture from gateway logs: every request and response event is judged (did it carry a session
//! identifier, is its token valid, does it conform to the API schema, what was its client certificate worth), the
//! verdicts are added up per minute and endpoint, and what follows from the sums is said to whoever subscribes.
//!
//! ## The path of one log line
//!
//! ```text
//! source → decode → correlate → enrich → window → store → detect → publish
//! ```
//!
//! A log line walks it left to right and never back.
//!
//! 1. [`source`] reads lines with their offsets in the decompressed stream, on a thread of its own.
//! 2. [`decode`] turns a line into a [`model::Exchange`] borrowed from it, or into a [`model::Reject`].
//! 3. [`correlate`] joins request and response halves. Its state is an offset, a clock and a short list, so any reader
//!    can rebuild it from the log.
//! 4. [`enrich`] judges the exchange against a [`policy::Policy`]: four verdicts, one function each, in event time. Then
//!    it appends the outcome to Arrow columns; nothing of the event itself is kept.
//! 5. [`window`] adds up the columns of one flush by the SQL in `sql/windows/`. Sums are additive, so rows of different
//!    flushes, files and nodes merge by addition and a late event needs no special path.
//! 6. [`store`] keeps the sums and merges them when they are read.
//! 7. [`detect`] judges sliding sums of the last 24 hours at every tick of event time: labels and insights.
//! 8. [`publish`] forms events with deterministic ids and appends them to topics.
//!
//! [`telemetry`] holds what the program says about itself, [`api`] serves it to probes and scrapers.
//!
//! [`pipeline`] is the only place that knows this order. [`posture`] turns merged sums into the figures of a report.
//! [`config`] reads pipeline files, [`cli`] is the command, [`traffic`] makes synthetic traffic with known truth.
//!
//! ## Layers
//!
//! | layer | modules | may import |
//! | --- | --- | --- |
//! | 0 | `model`, `clock`, `telemetry` | nothing of ours |
//! | 1 | `decode`, `correlate`, `policy`, `enrich`, `window`, `detect`, `posture`, `traffic` | 0 and 1; no I/O, no clock |
//! | 2 | `source`, `store`, `publish` | 0 and 1, not each other |
//! | 3 | `pipeline`, `api` | 0–2, not each other |
//! | 4 | `config`, `cli`, `main` | everything |
//!
//! `tests/it/house.rs` reads every `use crate::…` and fails on a breach. `pipeline` takes its settings from `config`,
//! which is the one arrow that points up: settings are plain values, and a second struct with the same fields would
//! only be a place to forget one.
//!
//! ## What never happens
//!
//! - Layer 1 does not fail on hostile input: it answers with verdicts and rejects.
//! - Nobody but [`clock`] knows the present: replaying yesterday's log gives yesterday's verdicts.
//! - A flush is never half counted: the store's manifest is replaced after everything it names is on disk, and the topic
//!   files are cut back to the lengths in it.
//! - "Not captured" never counts as absent, invalid or violating.
//! - A token, a session value or a body never leaves [`enrich`]; keyed hashes do.

pub mod api;
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
pub mod telemetry;
pub mod traffic;
pub mod window;
pub mod wire;
