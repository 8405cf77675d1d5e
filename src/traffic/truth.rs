//! What is true of the traffic that was generated: the counts behind `report --json` (design section 10), labels, insights.
//!
//! Enters: the facts of each exchange as the generator made it. Leaves: JSON values. Nothing is looked up in a schema, a token or a
//! certificate here, and no code of the pipeline is called, so that the two can disagree.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::endpoints::{Endpoint, Flaw};
use super::scenario::Scenario;
use crate::model::{
    Direction, EventTime, MINUTE_MILLIS, Method, MtlsOutcome, Reject, SchemaOutcome,
    SessionOutcome, TokenOutcome, TokenReason,
};

/// Minutes in the shorter range, which labels and insights are judged over too.
const DAY_MINUTES: i64 = 1_440;
/// Minutes in the longer range.
const WEEK_MINUTES: i64 = 10_080;
/// Most session identifiers and token configurations of a zone in any scenario.
const MAX_IDENTIFIERS: usize = 3;
const MAX_CONFIGURATIONS: usize = 2;

/// Range of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// The 1,440 minutes that end with the newest.
    Day,
    /// The 10,080 minutes that end with the newest.
    Week,
}

impl Range {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Day, Self::Week];

    /// The value of `--range`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "24h",
            Self::Week => "7d",
        }
    }
}

/// Facts of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// Index into the endpoints of the scenario.
    pub(super) endpoint: usize,
    pub(super) millis: i64,
    pub(super) session: SessionOutcome,
    /// Which identifiers of the zone are present, bit by bit.
    pub(super) identifiers: u8,
    pub(super) tokens: [TokenOutcome; MAX_CONFIGURATIONS],
    pub(super) request: SchemaOutcome,
    pub(super) flaw: Option<Flaw>,
    pub(super) mtls: MtlsOutcome,
}

/// Facts of one response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) response: SchemaOutcome,
    pub(super) flaw: Option<Flaw>,
}

#[derive(Clone, Debug, Default)]
struct TokenCounts {
    valid: u64,
    missing: u64,
    not_captured: u64,
    reasons: [u64; TokenReason::ALL.len()],
    successful_invalid: u64,
}

/// Counts of one endpoint in one range.
#[derive(Clone, Debug, Default)]
struct Counts {
    /// Unanswered, then by hundreds.
    statuses: [u64; 6],
    sessions: [u64; SessionOutcome::ALL.len()],
    successful_sessions: [u64; SessionOutcome::ALL.len()],
    identifiers: [u64; MAX_IDENTIFIERS],
    tokens: [TokenCounts; MAX_CONFIGURATIONS],
    requests: [u64; SchemaOutcome::ALL.len()],
    responses: [u64; SchemaOutcome::ALL.len()],
    successful_violating: u64,
    mtls: [u64; MtlsOutcome::ALL.len()],
    successful_revoked: u64,
}

/// Everything known about a stretch of traffic; complete when the generator has written its last line.
#[derive(Clone, Debug)]
pub struct Truth {
    scenario: Scenario,
    /// Start of the newest minute with an exchange, epoch milliseconds.
    newest: Option<i64>,
    day: Vec<Counts>,
    week: Vec<Counts>,
    violations: BTreeMap<(Direction, &'static str), u64>,
    rejects: BTreeMap<Reject, u64>,
    /// Exchanges that have a zone.
    exchanges: u64,
    unzoned: u64,
    orphan_responses: u64,
    lines: u64,
}

fn bump(counts: &mut [u64], index: usize) {
    if let Some(count) = counts.get_mut(index) {
        *count += 1;
    }
}

impl Truth {
    /// Nothing yet. `newest` is the time of the newest exchange that will be made.
    pub(super) fn new(scenario: &Scenario, newest: Option<EventTime>) -> Self {
        let counts = vec![Counts::default(); scenario.endpoints().len()];
        Self {
            scenario: scenario.clone(),
            newest: newest.map(EventTime::minute_millis),
            day: counts.clone(),
            week: counts,
            violations: BTreeMap::new(),
            rejects: BTreeMap::new(),
            exchanges: 0,
            unzoned: 0,
            orphan_responses: 0,
            lines: 0,
        }
    }

    pub(super) fn count_line(&mut self) {
        self.lines += 1;
    }

    pub(super) fn count_reject(&mut self, reason: Reject) {
        *self.rejects.entry(reason).or_default() += 1;
    }

    pub(super) fn count_unzoned(&mut self) {
        self.unzoned += 1;
    }

    pub(super) fn count_orphan(&mut self) {
        self.orphan_responses += 1;
    }

    /// Counts an exchange; without an answer it is unanswered.
    pub(super) fn count(&mut self, facts: &Facts, answer: Option<&Answer>) {
        self.exchanges += 1;
        let flaws = [
            (Direction::Request, facts.flaw),
            (Direction::Response, answer.and_then(|answer| answer.flaw)),
        ];
        for (direction, flaw) in flaws {
            if let Some(flaw) = flaw {
                let key = (direction, flaw.class.as_str());
                *self.violations.entry(key).or_default() += 1;
            }
        }
        let Some(newest) = self.newest else { return };
        let age = (newest - facts.millis.div_euclid(MINUTE_MILLIS) * MINUTE_MILLIS) / MINUTE_MILLIS;
        for (minutes, counts) in [(DAY_MINUTES, &mut self.day), (WEEK_MINUTES, &mut self.week)] {
            if age < minutes
                && let Some(counts) = counts.get_mut(facts.endpoint)
            {
                counts.add(facts, answer);
            }
        }
    }

    /// Lines written, bad ones included.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Exchanges that belong to a zone, over the whole traffic.
    #[must_use]
    pub fn exchanges(&self) -> u64 {
        self.exchanges
    }

    /// Exchanges of hosts that are in no zone.
    #[must_use]
    pub fn unzoned(&self) -> u64 {
        self.unzoned
    }

    /// Responses whose request never came.
    #[must_use]
    pub fn orphan_responses(&self) -> u64 {
        self.orphan_responses
    }

    /// What `report --json --range …` prints, endpoints sorted by zone, host, endpoint and method.
    #[must_use]
    pub fn report(&self, range: Range) -> Value {
        let counts = match range {
            Range::Day => &self.day,
            Range::Week => &self.week,
        };
        let mut rows = Vec::new();
        for ((endpoint, counts), day) in self.scenario.endpoints().iter().zip(counts).zip(&self.day)
        {
            if counts.total() > 0 {
                let labels: Vec<&str> = self.label(endpoint, day).into_iter().collect();
                let value = self.endpoint(endpoint, counts, &labels);
                let zone = self.scenario.zone(endpoint.zone).map(|zone| zone.id);
                let method = Method::parse(endpoint.method).as_str();
                rows.push(((zone, endpoint.host, endpoint.template, method), value));
            }
        }
        rows.sort_by_key(|(key, _)| *key);
        let endpoints: Vec<Value> = rows.into_iter().map(|(_, value)| value).collect();
        let as_of = self.newest.and_then(EventTime::from_millis);
        json!({
            "as_of": as_of.map(|at| at.to_string()),
            "range": range.as_str(),
            "endpoints": endpoints,
        })
    }

    /// Labels that hold at the end, as (operation id, label).
    #[must_use]
    pub fn labels(&self) -> Vec<(String, &'static str)> {
        let mut labels: Vec<_> = self
            .scenario
            .endpoints()
            .iter()
            .zip(&self.day)
            .filter_map(|(endpoint, day)| {
                Some((self.operation_id(endpoint), self.label(endpoint, day)?))
            })
            .collect();
        labels.sort();
        labels
    }

    /// Insights that are open at the end, as (kind, operation id).
    #[must_use]
    pub fn insights(&self) -> Vec<(&'static str, String)> {
        let mut open = Vec::new();
        for (endpoint, day) in self.scenario.endpoints().iter().zip(&self.day) {
            let label = self.label(endpoint, day);
            // Cookies that look like tokens are sent whether or not somebody configured them.
            let configured = self
                .scenario
                .zone(endpoint.zone)
                .map_or(0, |zone| zone.tokens.len());
            let tokens = day.tokens.iter().take(configured);
            let invalid: u64 = tokens.map(|counts| counts.successful_invalid).sum();
            for (kind, holds) in [
                (
                    "operation_unauthenticated",
                    label == Some("cf-risk-missing-auth"),
                ),
                (
                    "operation_mixed_authentication",
                    label == Some("cf-risk-mixed-auth"),
                ),
                ("invalid_token_accepted", invalid > 0),
                ("revoked_certificate_accepted", day.successful_revoked > 0),
                ("schema_violation_accepted", day.successful_violating > 0),
            ] {
                if holds {
                    open.push((kind, self.operation_id(endpoint)));
                }
            }
        }
        open.sort();
        open
    }

    /// Rejected lines by reason.
    #[must_use]
    pub fn rejects(&self) -> BTreeMap<&'static str, u64> {
        self.rejects
            .iter()
            .map(|(reason, count)| (reason.as_str(), *count))
            .collect()
    }

    /// Violations over the whole traffic, as `<direction>/<class>`.
    #[must_use]
    pub fn violations(&self) -> BTreeMap<String, u64> {
        self.violations
            .iter()
            .map(|((direction, class), count)| (format!("{}/{class}", direction.as_str()), *count))
            .collect()
    }

    /// Everything in one document, for a file next to the log.
    #[must_use]
    pub fn document(&self) -> Value {
        let mut document = Map::new();
        for range in Range::ALL {
            document.insert(range.as_str().to_owned(), self.report(range));
        }
        let labels: Vec<Value> = self
            .labels()
            .into_iter()
            .map(|(id, label)| json!({"operation_id": id, "label": label}))
            .collect();
        let insights: Vec<Value> = self
            .insights()
            .into_iter()
            .map(|(kind, id)| json!({"kind": kind, "operation_id": id}))
            .collect();
        document.insert("labels".to_owned(), Value::Array(labels));
        document.insert("insights".to_owned(), Value::Array(insights));
        document.insert("violations".to_owned(), json!(self.violations()));
        document.insert("rejects".to_owned(), json!(self.rejects()));
        document.insert("lines".to_owned(), json!(self.lines));
        document.insert("exchanges".to_owned(), json!(self.exchanges));
        document.insert("unzoned".to_owned(), json!(self.unzoned));
        document.insert("orphan_responses".to_owned(), json!(self.orphan_responses));
        Value::Object(document)
    }

    /// Design section 7, over one day; `OPTIONS` and `HEAD` have none.
    fn label(&self, endpoint: &Endpoint, day: &Counts) -> Option<&'static str> {
        let configured = self
            .scenario
            .zone(endpoint.zone)
            .is_some_and(|zone| !zone.identifiers.is_empty());
        if !configured || ["OPTIONS", "HEAD"].contains(&endpoint.method) {
            return None;
        }
        let [with, without, ..] = day.successful_sessions;
        match (with, without) {
            (_, 0) => None,
            (0, _) => Some("cf-risk-missing-auth"),
            _ => Some("cf-risk-mixed-auth"),
        }
    }

    fn operation_id(&self, endpoint: &Endpoint) -> String {
        let zone = self.scenario.zone(endpoint.zone).map_or("", |zone| zone.id);
        let mut canonical = String::new();
        let mut number = 0;
        for piece in endpoint.template.split_inclusive('}') {
            match piece.split_once('{') {
                Some((before, _)) => {
                    number += 1;
                    canonical.push_str(before);
                    // Writing to a string cannot fail.
                    let _ = write!(canonical, "{{var{number}}}");
                }
                None => canonical.push_str(piece),
            }
        }
        let method = Method::parse(endpoint.method).as_str();
        let name = format!("gatewatch:{zone}\n{method}\n{}\n{canonical}", endpoint.host);
        Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string()
    }

    fn endpoint(&self, endpoint: &Endpoint, counts: &Counts, labels: &[&str]) -> Value {
        let zone = self.scenario.zone(endpoint.zone);
        let [none, first, second, third, fourth, fifth] = counts.statuses;
        let [present, absent, not_captured, _] = counts.successful_sessions;
        let mut identifiers = Map::new();
        let mut tokens = Map::new();
        if let Some(zone) = zone {
            for ((_, name), count) in zone.identifiers.iter().zip(counts.identifiers) {
                if count > 0 {
                    identifiers.insert((*name).to_owned(), json!(count));
                }
            }
            for (plan, counts) in zone.tokens.iter().zip(&counts.tokens) {
                tokens.insert(plan.title.to_owned(), counts.to_json());
            }
        }
        json!({
            "zone": zone.map_or("", |zone| zone.id),
            "host": endpoint.host,
            "method": Method::parse(endpoint.method).as_str(),
            "endpoint": endpoint.template,
            "operation_id": self.operation_id(endpoint),
            "source": endpoint.source.as_str(),
            "requests": {"total": counts.total(), "1xx": first, "2xx": second, "3xx": third,
                         "4xx": fourth, "5xx": fifth, "none": none},
            "session": {
                "successful": {"present": present, "absent": absent, "not_captured": not_captured},
                "all": named(SessionOutcome::ALL, SessionOutcome::as_str, &counts.sessions),
                "identifiers": identifiers,
            },
            "tokens": tokens,
            "schema": {
                "request": named(SchemaOutcome::ALL, SchemaOutcome::as_str, &counts.requests),
                "response": named(SchemaOutcome::ALL, SchemaOutcome::as_str, &counts.responses),
                "successful_violating": counts.successful_violating,
            },
            "mtls": named(MtlsOutcome::ALL, MtlsOutcome::as_str, &counts.mtls),
            "labels": labels,
        })
    }
}

/// An object with one count per outcome, zeros included.
fn named<T: Copy>(all: &[T], name: fn(T) -> &'static str, counts: &[u64]) -> Value {
    let members = all
        .iter()
        .zip(counts)
        .map(|(outcome, count)| (name(*outcome).to_owned(), json!(count)));
    Value::Object(members.collect())
}

impl Counts {
    fn total(&self) -> u64 {
        self.statuses.iter().sum()
    }

    fn add(&mut self, facts: &Facts, answer: Option<&Answer>) {
        let status = answer.map_or(0, |answer| answer.status);
        let successful = (200..300).contains(&status);
        bump(&mut self.statuses, usize::from(status / 100));
        bump(&mut self.sessions, facts.session as usize);
        bump(&mut self.requests, facts.request as usize);
        let response = answer.map_or(SchemaOutcome::NotEvaluated, |answer| answer.response);
        bump(&mut self.responses, response as usize);
        bump(&mut self.mtls, facts.mtls as usize);
        for (counts, outcome) in self.tokens.iter_mut().zip(facts.tokens) {
            counts.add(outcome, successful);
        }
        if successful {
            bump(&mut self.successful_sessions, facts.session as usize);
            for (bit, count) in self.identifiers.iter_mut().enumerate() {
                *count += u64::from(facts.identifiers >> bit & 1);
            }
            self.successful_violating += u64::from(facts.request == SchemaOutcome::Violates);
            self.successful_revoked += u64::from(facts.mtls == MtlsOutcome::Revoked);
        }
    }
}

impl TokenCounts {
    fn add(&mut self, outcome: TokenOutcome, successful: bool) {
        match outcome {
            TokenOutcome::Valid => self.valid += 1,
            TokenOutcome::Missing => self.missing += 1,
            TokenOutcome::NotCaptured => self.not_captured += 1,
            // No traffic that is made here is a flood.
            TokenOutcome::NotEvaluated => {}
            TokenOutcome::Invalid(reason) => {
                bump(&mut self.reasons, reason as usize);
                self.successful_invalid += u64::from(successful);
            }
        }
    }

    fn to_json(&self) -> Value {
        let reasons: Map<String, Value> = TokenReason::ALL
            .iter()
            .zip(self.reasons)
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| (reason.as_str().to_owned(), json!(count)))
            .collect();
        json!({
            "valid": self.valid,
            "missing": self.missing,
            "not_captured": self.not_captured,
            "invalid": self.reasons.iter().sum::<u64>(),
            "reasons": reasons,
            "successful_invalid": self.successful_invalid,
        })
    }
}
