//! Merged windows → labels and insights (design section 7). A pure function of rows and configuration, in event time.
//!
//! Recipe for a new insight: `sql/detect/<name>.sql` groups and counts, `detect/<name>.rs` judges (thresholds in a
//! struct with reasons), a line in [`DETECTORS`] and, if its counts are new, in [`MEASURES`]; a golden case that fires
//! and one that must not.

mod accepted;
mod authentication;
pub mod blocklist;
mod evaluator;
mod sliding;
pub mod thresholds;

pub use evaluator::{Change, Evaluator, Finding, State};

use crate::model::OperationKey;

/// Minutes over which labels and insights hold: 24 hours.
pub const WINDOW_MINUTES: i64 = 1_440;

/// Counts of one operation over the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that speak for the finding.
    pub hits: u64,
    /// Requests of the same kind that do not.
    pub others: u64,
}

/// What a configuration changes about detection.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Methods without authentication labels: pre-flights and probes carry no credentials by design.
    pub excluded_methods: Vec<String>,
    /// Fewest successful requests for an authentication label; 1 is the vendor's behaviour.
    pub min_successful: u64,
}

/// Something that is counted per operation and minute.
#[derive(Debug)]
pub struct Measure {
    /// Name.
    pub name: &'static str,
    /// Query over `endpoint_windows`: `window_start`, the operation, `hits`, `others`.
    pub sql: &'static str,
}

/// Every measure; a [`Detector`] names its by index.
pub const MEASURES: [Measure; 4] = [
    Measure {
        name: "authentication",
        sql: include_str!("../../sql/detect/authentication.sql"),
    },
    Measure {
        name: "invalid_token_accepted",
        sql: include_str!("../../sql/detect/invalid_token_accepted.sql"),
    },
    Measure {
        name: "revoked_certificate_accepted",
        sql: include_str!("../../sql/detect/revoked_certificate_accepted.sql"),
    },
    Measure {
        name: "schema_violation_accepted",
        sql: include_str!("../../sql/detect/schema_violation_accepted.sql"),
    },
];

/// How much somebody should hurry. OCSF 1.3 `severity_id`; the vendor publishes none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// 2
    Low,
    /// 3
    Medium,
    /// 4
    High,
    /// 5
    Critical,
}

/// What a detector finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A fact about the operation.
    Label,
    /// Something to look at.
    Insight(Severity),
}

/// One label or insight: what it counts and when it holds.
#[derive(Debug)]
pub struct Detector {
    /// Name of the label, or of the insight.
    pub name: &'static str,
    /// Label or insight.
    pub kind: Kind,
    /// One sentence for people.
    pub title: &'static str,
    /// Index into [`MEASURES`].
    pub measure: usize,
    /// Whether the finding holds.
    pub holds: fn(&OperationKey, Counts, &Limits) -> bool,
}

/// Every label and insight.
pub const DETECTORS: &[Detector] = &[
    Detector {
        name: authentication::MISSING_LABEL,
        kind: Kind::Label,
        title: "every successful request lacks a session identifier",
        measure: 0,
        holds: authentication::missing,
    },
    Detector {
        name: authentication::MIXED_LABEL,
        kind: Kind::Label,
        title: "some successful requests lack a session identifier, others carry one",
        measure: 0,
        holds: authentication::mixed,
    },
    Detector {
        name: "operation_unauthenticated",
        kind: Kind::Insight(Severity::High),
        title: "Unauthenticated API endpoint detected",
        measure: 0,
        holds: authentication::missing,
    },
    Detector {
        name: "operation_mixed_authentication",
        kind: Kind::Insight(Severity::High),
        title: "Mixed-authentication API endpoint detected",
        measure: 0,
        holds: authentication::mixed,
    },
    Detector {
        name: "invalid_token_accepted",
        kind: Kind::Insight(Severity::Critical),
        title: "Invalid token accepted with a successful response",
        measure: 1,
        holds: accepted::any,
    },
    Detector {
        name: "revoked_certificate_accepted",
        kind: Kind::Insight(Severity::Critical),
        title: "Revoked client certificate accepted with a successful response",
        measure: 2,
        holds: accepted::any,
    },
    Detector {
        name: "schema_violation_accepted",
        kind: Kind::Insight(Severity::Medium),
        title: "Schema violation accepted with a successful response",
        measure: 3,
        holds: accepted::any,
    },
];

/// The labels that hold for these authentication counts; at most one.
#[must_use]
pub fn labels(operation: &OperationKey, counts: Counts, limits: &Limits) -> Vec<&'static str> {
    let labels = DETECTORS
        .iter()
        .filter(|detector| detector.kind == Kind::Label);
    labels
        .filter(|detector| (detector.holds)(operation, counts, limits))
        .map(|detector| detector.name)
        .collect()
}

#[cfg(test)]
mod tests;
