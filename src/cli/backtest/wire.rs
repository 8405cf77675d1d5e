//! The result as `--json` prints it. Numbers are exact counts of exchanges; what exceeds a cap is in `overflow`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::judging::{Tallies, Tried};
use super::range::Range;
use super::simulation::Simulated;
use crate::config::{Candidate, Subject, Trial};
use crate::model::{BlockKey, EventTime, RuleAction};
use crate::pipeline::stream::Counts;
use crate::posture::backtest::listing::{Listed, Requests};
use crate::posture::backtest::{Ranking, Row, Sample, Standing, Tally};

/// Everything that is printed.
pub(super) struct Report<'r> {
    pub(super) trial: &'r Trial,
    /// Name of the traffic.
    pub(super) source: String,
    pub(super) range: Range,
    /// What was read, in the range or not.
    pub(super) read: Counts,
    pub(super) tried: Tried,
    /// Whether hashes are those of the pipeline's store.
    pub(super) comparable: bool,
    /// Most rows of a list.
    pub(super) top: usize,
}

/// What a candidate is called.
pub(super) fn kind(candidate: &Candidate) -> &'static str {
    match candidate.subject {
        Subject::Rule { .. } => "rule",
        Subject::Schema { .. } => "schema",
        Subject::TokenConfiguration { .. } => "token_configuration",
    }
}

/// Whether what is no longer objected to means anything: a new rule or configuration takes nothing away.
pub(super) fn compares(candidate: &Candidate) -> bool {
    candidate.subject.replaces() || matches!(candidate.subject, Subject::Schema { .. })
}

/// The name of a standing.
pub(super) fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Valid => "valid",
        Standing::Refused => "refused",
        Standing::Absent => "absent",
        Standing::Unknown => "unknown",
    }
}

fn text(at: EventTime) -> String {
    at.to_string()
}

impl Report<'_> {
    /// The action of a candidate, when it is a rule.
    pub(super) fn action(&self, candidate: &Candidate) -> Option<RuleAction> {
        let Subject::Rule { number, .. } = candidate.subject else {
            return None;
        };
        let zone = self.trial.policy.zones.get(candidate.zone)?;
        Some(zone.rules.rules.get(number)?.action)
    }

    /// Whether the zone knows what a session is; without, nobody can tell who is wanted.
    pub(super) fn knows_sessions(&self, candidate: &Candidate) -> bool {
        let zone = self.trial.settings.policy.zones.get(candidate.zone);
        zone.is_some_and(|zone| !zone.sessions.names.is_empty())
    }

    pub(super) fn wire(&self) -> impl Serialize + use<'_> {
        let totals = &self.tried.totals;
        let candidates = self.trial.candidates.iter().zip(&self.tried.tallies);
        Wire {
            source: &self.source,
            range: WireRange {
                from: self.range.from.map(text),
                until: self.range.until.map(text),
            },
            traffic: WireTraffic {
                records: self.read.records,
                exchanges: totals.exchanges,
                in_range: totals.in_range,
                first_at: totals.judged.map(|(first, _)| text(first)),
                last_at: totals.judged.map(|(_, last)| text(last)),
                unzoned: self.read.unzoned,
                unanswered: self.read.unanswered,
                orphan_responses: self.read.orphan_responses,
                rejected: &totals.rejected,
            },
            hashes: if self.comparable {
                "pipeline"
            } else {
                "this_run"
            },
            candidates: candidates
                .map(|(candidate, tallies)| self.candidate(candidate, tallies))
                .collect(),
            block_list: self.listings(),
        }
    }

    fn candidate<'w>(
        &'w self,
        candidate: &'w Candidate,
        tallies: &'w Tallies,
    ) -> WireCandidate<'w> {
        let tally = &tallies.requests;
        let zone = self.trial.policy.zones.get(candidate.zone);
        let replaces = candidate.subject.replaces();
        let successful = &tally.successful;
        WireCandidate {
            kind: kind(candidate),
            title: &candidate.title,
            zone: zone.map_or("", |zone| &zone.id),
            replaces,
            action: self.action(candidate).map(RuleAction::as_str),
            judged: tally.judged,
            not_captured: tally.not_captured,
            not_covered: tally.not_covered,
            matches: tally.matches,
            newly: tally.newly,
            already: tally.already,
            no_longer: compares(candidate).then_some(tally.no_longer),
            outcomes: &tally.words,
            successful: WireSuccessful {
                total: successful.total,
                valid_session: successful.valid,
                refused_credential: successful.refused,
                no_session: successful.absent,
                unknown: successful.unknown,
            },
            likely_false_positives: self.knows_sessions(candidate).then_some(successful.valid),
            reasons: self.list(&tally.reasons, false),
            endpoints: self.list(&tally.endpoints, true),
            entities: tally
                .entities
                .iter()
                .map(|(kind, ranking)| (kind.as_str(), self.list(ranking, false)))
                .collect(),
            block_list: WireBlockList {
                exempt: tally.exempt,
                list: self.list(&tally.listed, false),
            },
            samples: tally.samples.chosen().into_iter().map(sample).collect(),
            response: tallies.responses.as_ref().map(|tally| self.response(tally)),
        }
    }

    fn response<'w>(&'w self, tally: &'w Tally) -> WireResponse<'w> {
        WireResponse {
            judged: tally.judged,
            not_captured: tally.not_captured,
            not_covered: tally.not_covered,
            violating: tally.matches,
            newly: tally.newly,
            already: tally.already,
            no_longer: tally.no_longer,
            outcomes: &tally.words,
            reasons: self.sides(&tally.reasons, false),
            endpoints: self.sides(&tally.endpoints, true),
            samples: tally.samples.chosen().into_iter().map(answer).collect(),
        }
    }

    fn sides<'w>(&'w self, ranking: &'w Ranking, shares: bool) -> WireSides<'w> {
        let side = |(name, row): (&'w str, Row)| WireSide {
            name,
            violating: row.matches,
            judged: shares.then_some(row.judged),
            first_at: text(row.first_at),
            last_at: text(row.last_at),
        };
        WireSides {
            distinct: ranking.matching(),
            overflow: ranking.overflow,
            top: ranking.top(self.top).into_iter().map(side).collect(),
        }
    }

    /// Everybody on the list of the whole configuration, and how that compares with the one in force.
    pub(super) fn compared(&self) -> Compared<'_> {
        let Simulated {
            ledger, followed, ..
        } = &self.tried.listed;
        let now = &self.tried.listed_now.ledger;
        let rows = ledger.rows(followed);
        let sum = |of: fn(&Requests) -> u64| rows.iter().map(|(.., later)| of(later)).sum();
        Compared {
            new: ledger.keys().filter(|key| !now.lists(key)).count(),
            no_longer: now.keys().filter(|key| !ledger.lists(key)).count(),
            later: Requests {
                total: sum(|later| later.total),
                wanted: sum(|later| later.wanted),
            },
            rows,
        }
    }

    fn listings(&self) -> WireListings<'_> {
        let compared = self.compared();
        let Simulated {
            ledger,
            followed,
            overflow,
        } = &self.tried.listed;
        let now = &self.tried.listed_now.ledger;
        let rows = compared.rows.into_iter().take(self.top);
        WireListings {
            distinct: ledger.len(),
            new: compared.new,
            no_longer: compared.no_longer,
            exempt: ledger.exempt.len(),
            no_room: ledger.full,
            overflow: *overflow,
            later: later(compared.later),
            later_overflow: followed.overflow,
            top: rows
                .map(|(key, listed, requests)| WireListed {
                    zone: key.zone(),
                    kind: key.kind().as_str(),
                    entity: key.entity(),
                    rules: listed.rules.iter().map(String::as_str).collect(),
                    action: action(listed).as_str(),
                    new: !now.lists(key),
                    entries: listed.entries,
                    evidence: &listed.evidence,
                    samples: listed.samples.ids(),
                    first_at: text(EventTime::clamped(listed.first_at)),
                    until: text(EventTime::clamped(listed.until)),
                    later: later(requests),
                })
                .collect(),
        }
    }

    fn list<'w>(&self, ranking: &'w Ranking, shares: bool) -> WireList<'w> {
        WireList {
            distinct: ranking.matching(),
            overflow: ranking.overflow,
            top: ranking
                .top(self.top)
                .into_iter()
                .map(|found| row(found, shares))
                .collect(),
        }
    }
}

/// The block list of a whole configuration.
pub(super) struct Compared<'c> {
    /// Entities that the configuration in force does not list.
    pub(super) new: usize,
    /// Entities that only the configuration in force lists.
    pub(super) no_longer: usize,
    /// What all of them did while they were listed.
    pub(super) later: Requests,
    /// Everybody, who was probably wanted most first.
    pub(super) rows: Vec<(&'c BlockKey, &'c Listed, Requests)>,
}

/// What its entries would have been worth with `enforce = true`.
pub(super) fn action(listed: &Listed) -> RuleAction {
    if listed.blocks {
        RuleAction::Block
    } else {
        RuleAction::Log
    }
}

fn later(requests: Requests) -> WireLater {
    WireLater {
        requests: requests.total,
        likely_false_positives: requests.wanted,
    }
}

fn row((name, row): (&str, Row), shares: bool) -> WireRow<'_> {
    WireRow {
        name,
        matches: row.matches,
        judged: shares.then_some(row.judged),
        likely_false_positives: row.probably_wanted,
        first_at: text(row.first_at),
        last_at: text(row.last_at),
    }
}

fn sample(sample: &Sample) -> WireSample<'_> {
    WireSample {
        id: sample.id.as_deref(),
        time: text(sample.at),
        method: sample.method,
        host: &sample.host,
        endpoint: &sample.endpoint,
        status: sample.status,
        client: standing(sample.standing),
        likely_false_positive: sample.probably_wanted,
        already: sample.already,
        reasons: &sample.reasons,
    }
}

fn answer(sample: &Sample) -> WireAnswer<'_> {
    WireAnswer {
        id: sample.id.as_deref(),
        time: text(sample.at),
        method: sample.method,
        host: &sample.host,
        endpoint: &sample.endpoint,
        status: sample.status,
        already: sample.already,
        reasons: &sample.reasons,
    }
}

#[derive(Serialize)]
struct Wire<'w> {
    source: &'w str,
    range: WireRange,
    traffic: WireTraffic<'w>,
    /// `pipeline` = the hashes of windows and block list; `this_run` = of no use elsewhere.
    hashes: &'static str,
    candidates: Vec<WireCandidate<'w>>,
    block_list: WireListings<'w>,
}

/// The list of the whole configuration with the candidates.
#[derive(Serialize)]
struct WireListings<'w> {
    distinct: usize,
    new: usize,
    no_longer: usize,
    exempt: usize,
    no_room: u64,
    overflow: u64,
    later: WireLater,
    later_overflow: u64,
    top: Vec<WireListed<'w>>,
}

#[derive(Serialize)]
struct WireListed<'w> {
    zone: &'w str,
    kind: &'static str,
    entity: &'w str,
    rules: Vec<&'w str>,
    action: &'static str,
    new: bool,
    entries: u64,
    evidence: &'w BTreeMap<String, u64>,
    samples: Vec<String>,
    first_at: String,
    until: String,
    later: WireLater,
}

#[derive(Serialize)]
struct WireLater {
    requests: u64,
    likely_false_positives: u64,
}

#[derive(Serialize)]
struct WireRange {
    from: Option<String>,
    until: Option<String>,
}

#[derive(Serialize)]
struct WireTraffic<'w> {
    records: u64,
    exchanges: u64,
    in_range: u64,
    first_at: Option<String>,
    last_at: Option<String>,
    unzoned: u64,
    unanswered: u64,
    orphan_responses: u64,
    rejected: &'w BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
struct WireCandidate<'w> {
    kind: &'static str,
    title: &'w str,
    zone: &'w str,
    replaces: bool,
    action: Option<&'static str>,
    judged: u64,
    not_captured: u64,
    not_covered: u64,
    matches: u64,
    newly: u64,
    already: u64,
    no_longer: Option<u64>,
    outcomes: &'w BTreeMap<&'static str, u64>,
    successful: WireSuccessful,
    likely_false_positives: Option<u64>,
    reasons: WireList<'w>,
    endpoints: WireList<'w>,
    entities: BTreeMap<&'static str, WireList<'w>>,
    block_list: WireBlockList<'w>,
    samples: Vec<WireSample<'w>>,
    response: Option<WireResponse<'w>>,
}

/// What a schema says of the responses; nobody is refused for it.
#[derive(Serialize)]
struct WireResponse<'w> {
    judged: u64,
    not_captured: u64,
    not_covered: u64,
    violating: u64,
    newly: u64,
    already: u64,
    no_longer: u64,
    outcomes: &'w BTreeMap<&'static str, u64>,
    reasons: WireSides<'w>,
    endpoints: WireSides<'w>,
    samples: Vec<WireAnswer<'w>>,
}

#[derive(Serialize)]
struct WireSides<'w> {
    distinct: usize,
    overflow: u64,
    top: Vec<WireSide<'w>>,
}

#[derive(Serialize)]
struct WireSide<'w> {
    name: &'w str,
    violating: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    judged: Option<u64>,
    first_at: String,
    last_at: String,
}

#[derive(Serialize)]
struct WireAnswer<'w> {
    id: Option<&'w str>,
    time: String,
    method: &'static str,
    host: &'w str,
    endpoint: &'w str,
    status: Option<u16>,
    already: bool,
    reasons: &'w [String],
}

#[derive(Serialize)]
struct WireSuccessful {
    total: u64,
    valid_session: u64,
    refused_credential: u64,
    no_session: u64,
    unknown: u64,
}

#[derive(Serialize)]
struct WireList<'w> {
    distinct: usize,
    overflow: u64,
    top: Vec<WireRow<'w>>,
}

#[derive(Serialize)]
struct WireRow<'w> {
    name: &'w str,
    matches: u64,
    /// Of endpoints only: entities are counted where they match.
    #[serde(skip_serializing_if = "Option::is_none")]
    judged: Option<u64>,
    likely_false_positives: u64,
    first_at: String,
    last_at: String,
}

#[derive(Serialize)]
struct WireBlockList<'w> {
    exempt: u64,
    #[serde(flatten)]
    list: WireList<'w>,
}

#[derive(Serialize)]
struct WireSample<'w> {
    id: Option<&'w str>,
    time: String,
    method: &'static str,
    host: &'w str,
    endpoint: &'w str,
    status: Option<u16>,
    client: &'static str,
    likely_false_positive: bool,
    already: bool,
    reasons: &'w [String],
}
