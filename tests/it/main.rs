//! The one integration binary: everything that needs only the public interface and the built command.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops where something is wrong"
)]

mod abuse;
mod adapters;
mod backtest;
mod bad_input;
mod block_list;
mod command;
mod conformance_certificates;
mod conformance_schema;
mod conformance_tokens;
mod corpora;
mod crash;
mod events;
mod feeds;
mod follow;
mod fuzz_findings;
#[path = "../../fuzz/src/lib.rs"]
mod fuzz_targets;
mod grammar;
mod hostile_files;
mod house;
mod http_source;
mod jwks;
mod payloads;
mod privacy;
mod quickstart;
mod services;
mod services_clickhouse;
mod simulation;
mod slowest;
mod truth;
