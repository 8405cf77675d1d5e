//! Some matching exchanges to look at: likely false positives first, then spread over the range by a hash of the exchange.
//!
//! The choice depends on the exchanges only, not on the order in which they are read.

use std::cmp::Reverse;

use siphasher::sip::SipHasher13;

use super::{Case, Finding, Standing};
use crate::model::EventTime;

/// Longest id that is kept, bytes; ids of gateways have some 40.
const MAX_ID: usize = 200;

/// A matching exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Id of the request, where it was logged and is no longer than ids are.
    pub id: Option<String>,
    /// When.
    pub at: EventTime,
    /// Method.
    pub method: &'static str,
    /// Host.
    pub host: String,
    /// Path template.
    pub endpoint: String,
    /// Status; `None` = unanswered.
    pub status: Option<u16>,
    /// What the client had shown.
    pub standing: Standing,
    /// Whether it is a success for a valid session.
    pub probably_wanted: bool,
    /// Whether the policy in force objects too.
    pub already: bool,
    /// Why it matches.
    pub reasons: Vec<String>,
}

/// The exchanges chosen so far.
#[derive(Debug)]
pub struct Samples {
    most: usize,
    /// By rank, the best first.
    kept: Vec<((Reverse<bool>, u64), Sample)>,
}

impl Samples {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            kept: Vec::new(),
        }
    }

    pub(super) fn offer(&mut self, case: &Case<'_>, finding: &Finding<'_>) {
        let rank = (Reverse(case.probably_wanted()), hash(case));
        let at = self.kept.partition_point(|(known, _)| *known <= rank);
        if at >= self.most {
            return;
        }
        self.kept.truncate(self.most.saturating_sub(1));
        let id = case.id.filter(|id| id.len() <= MAX_ID);
        let sample = Sample {
            id: id.map(str::to_owned),
            at: case.at,
            method: case.method,
            host: case.host.to_owned(),
            endpoint: case.endpoint.to_owned(),
            status: case.status,
            standing: case.standing,
            probably_wanted: case.probably_wanted(),
            already: finding.already,
            reasons: finding.reasons.to_vec(),
        };
        self.kept.insert(at, (rank, sample));
    }

    /// The chosen ones in the order of time.
    #[must_use]
    pub fn chosen(&self) -> Vec<&Sample> {
        let mut chosen: Vec<_> = self.kept.iter().map(|(_, sample)| sample).collect();
        chosen.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        chosen
    }
}

/// Anything that tells exchanges apart; the key is none, because nothing is gained by being looked at.
fn hash(case: &Case<'_>) -> u64 {
    let text = format!(
        "{}\n{}\n{} {}{}",
        case.id.unwrap_or_default(),
        case.at.nanos(),
        case.method,
        case.host,
        case.endpoint
    );
    SipHasher13::new().hash(text.as_bytes())
}
