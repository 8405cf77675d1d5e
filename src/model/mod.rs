//! The nouns: what a log line becomes, what is said about it, where it stood.
//!
//! Layer 0. Nothing here reads, writes, serializes or asks for the time; every border owns its wire types.

mod block;
mod exchange;
mod operation;
mod place;
mod samples;
mod time;
mod verdict;

pub use block::{BlockEntry, BlockKey, BlockKind, Network, Proposal, Wish};
pub use exchange::{
    COOKIE, Captured, Client, ClientCertificate, Exchange, Headers, Request, Response,
};
pub use operation::{Method, OVERFLOW, OperationId, OperationKey, OperationSource};
pub use place::{Position, Problem, Problems, Reject};
pub use samples::Samples;
pub use time::{EventTime, MINUTE_MILLIS};
pub use verdict::{
    Direction, Location, MtlsOutcome, MtlsReason, MtlsVerdict, RuleAction, RuleKind, RuleVerdict,
    SchemaAction, SchemaOutcome, SchemaVerdict, SessionOutcome, SessionVerdict, TokenOutcome,
    TokenReason, Violation, ViolationClass,
};
