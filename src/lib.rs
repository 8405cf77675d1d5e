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
//! 1. [`source`] delivers records with their offsets: lines of a [file](source::file), [batches over HTTP](source::http),
//!    or the partitions of [Kafka topics](source::kafka), which a polling thread of its own takes from the group.
//! 2. [`decode`] turns a line into a [`model::Exchange`] borrowed from it, or into a [`model::Reject`].
//! 3. [`correlate`] joins request and response halves. Its state is an offset, a clock and a short list, so any reader
//!    can rebuild it from the log.
//! 4. [`enrich`] judges the exchange against a [`policy::Policy`]: four verdicts, one function each, in event time. Then
//!    it appends the outcome to Arrow columns. Of the event itself nothing is kept, unless the pipeline keeps
//!    [evidence](enrich::evidence): then what broke something, and a sample, become rows of the table
//!    [`events`](window::events), without credentials, which [`cli::events`] asks in the rules language.
//! 5. [`window`] adds up the columns of one flush by the SQL in `sql/windows/`. Sums are additive, so rows of different
//!    flushes, files and nodes merge by addition and a late event needs no special path.
//! 6. [`store`] keeps the sums (and the evidence, as it is) and merges them when they are read: [Parquet files](store::local) for one node,
//!    [ClickHouse](store::clickhouse) for many. Both answer with the same rows.
//! 7. [`detect`] judges sliding sums of the last 24 hours at every tick of event time: labels and insights. Of several
//!    nodes one at a time does so, see [`pipeline::evaluator`].
//! 8. [`publish`] forms events with deterministic ids and appends them to [topic files](publish::file) or
//!    [Kafka topics](publish::kafka). The JSON Schemas of all payloads are in `src/publish/schemas`.
//!
//! [`enforce`] is the way back: the block list as gateways need it. [`publish::feed`] holds it for this process, whoever
//! decided it: the fold in [`pipeline`] or, read from the topic by [`pipeline::feeding`], the evaluator. From there
//! [`publish::exporters`] write files and set the tables of running gateways, [`api`] serves bouncers and readers, and
//! [`api::Gate`] answers a gateway about one request, judged by [`enrich`] like a log line.
//!
//! [`pipeline`] is the only place that knows this order. It has three forms: [`pipeline::run`](mod@pipeline::run) for a file into the
//! local store, [`pipeline::http`] for batches, [`pipeline::service`] for Kafka, ClickHouse and Kafka. All judge with one
//! [`pipeline::partition`], so they cannot disagree.
//!
//! What judging needs from outside while it runs, the keys that issuers serve at a URL, [`source::jwks`] keeps up to date and
//! delivers through [`policy::tokens::KeyFeed`], so that judging itself touches no network.
//!
//! [`wire`] is what edges share: how a Kafka cluster is reached, how a port is served and how a [URL](wire::outbound) is asked. [`telemetry`] holds what the
//! program says about itself, [`api`] serves it to probes and scrapers. [`posture`] turns merged sums into the figures of a
//! report, and [`posture::backtest`] adds up what a candidate rule, schema or token configuration would have done.
//! [`config`] reads pipeline files, [`cli`] is the command, [`traffic`] makes synthetic traffic with known truth.
//!
//! ## Layers
//!
//! | layer | modules | may import |
//! | --- | --- | --- |
//! | 0 | `model`, `clock`, `telemetry` | nothing of ours |
//! | 1 | `decode`, `correlate`, `policy`, `enrich`, `window`, `detect`, `enforce`, `posture`, `traffic` | 0 and 1; no I/O, no clock |
//! | 1½ | `wire` | 0 |
//! | 2 | `source`, `store`, `publish` | 0, 1 and `wire`, not each other |
//! | 3 | `pipeline`, `api` | 0–2 and `config`, not each other |
//! | 4 | `config`, `cli`, `main` | everything; `config` neither `pipeline` nor `api` |
//!
//! `tests/it/house.rs` reads every `use crate::…`, has the exact list, and fails on a breach. `pipeline` and `api` take
//! their settings from `config`, which is the one arrow that points up: settings are plain values, and a second struct
//! with the same fields would only be a place to forget one.
//!
//! ## Exactly once, as a service
//!
//! A flush covers the offsets `[a, b)` of one partition. Its five steps are one function, `write` in
//! `pipeline/service/owner.rs`; Kafka's group and the ledger in ClickHouse are all that coordinates nodes.
//!
//! | step | where | why a repetition changes nothing |
//! | --- | --- | --- |
//! | the range is cut, by size or time | `pipeline/service/worker.rs` | – |
//! | 1. intent: commit `a` with the end `b` | `pipeline/service/mark.rs` | a new owner writes exactly this range |
//! | 2. insert the sums | `store/clickhouse/blocks.rs` | same rows, same cuts, same deduplication tokens |
//! | 3. publish dead letters, and proposals before 2 | `publish/kafka/outbox.rs` | same keys and ids |
//! | 4. one row into the ledger | `store/clickhouse/ledger.rs` | same token; from here on the flush is done |
//! | 5. commit `b` with the join state | `source/kafka/poller.rs` | the ledger knows already |
//!
//! Steps 2 to 4 are `keep` in `pipeline/service/edges.rs`; the HTTP source of the service (`pipeline/service/http.rs`) has
//! only these. A new owner of a partition finds its place in `pipeline/service/resume.rs`, a pure function of the
//! committed offset and the ledger. Fencing is [`source::kafka`]'s: one thread commits, and only under the assignment
//! in which the flush was read. What only a person can decide is [`pipeline::service::repair`]. Labels, insights and the
//! block list are said once by [`pipeline::evaluator`], in transactions.
//!
//! ## What never happens
//!
//! - Layer 1 does not fail on hostile input: it answers with verdicts and rejects.
//! - Nobody but [`clock`] knows the present: replaying yesterday's log gives yesterday's verdicts.
//! - A flush is never half counted: the local store's manifest is replaced after everything it names is on disk, and the
//!   topic files are cut back to the lengths in it; in ClickHouse the same range is written again under the same tokens.
//! - "Not captured" never counts as absent, invalid or violating.
//! - A token, a session value or a body never leaves [`enrich`]; keyed hashes do.

pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod correlate;
pub mod decode;
pub mod detect;
pub mod enforce;
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
