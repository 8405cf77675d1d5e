//! Judged exchanges → what each candidate would have done.
//!
//! Enters: exchanges as the policy with the candidates judges them. Each is judged by the policy in force too, and the two
//! verdicts side by side are what the tallies add up. Which exchanges there are is decided in `recorded.rs`.

use std::collections::BTreeMap;

use super::range::Range;
use super::simulation::{Simulated, Simulation, spared};
use crate::config::{Candidate, Subject, Trial};
use crate::enrich::{Judge, Judged, entity, rulebook};
use crate::model::{
    BlockKey, BlockKind, Direction, EventTime, Exchange, MtlsOutcome, Network, Reject, RuleKind,
    RuleVerdict, SchemaOutcome, SessionOutcome, TokenOutcome,
};
use crate::pipeline::{Emitted, Sink};
use crate::policy::Zone;
use crate::posture::backtest::{Case, Finding, Limits, Outcome, Standing, Tally};

/// Kinds of entities that matches are counted by.
const KINDS: [BlockKind; 4] = [
    BlockKind::Ip,
    BlockKind::Session,
    BlockKind::Token,
    BlockKind::Certificate,
];

/// What was looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    /// Exchanges of a zone.
    pub(super) exchanges: u64,
    /// Of those, the ones in the range.
    pub(super) in_range: u64,
    /// Refused records by reason.
    pub(super) rejected: BTreeMap<&'static str, u64>,
    /// Times of the first and the last exchange, in the range or not.
    pub(super) seen: Option<(EventTime, EventTime)>,
    /// Times of the first and the last one in the range.
    pub(super) judged: Option<(EventTime, EventTime)>,
}

/// Everything that was found out.
pub(super) struct Tried {
    /// What was looked at.
    pub(super) totals: Totals,
    /// What each candidate would have done, in their order.
    pub(super) tallies: Vec<Tallies>,
    /// The block list as the candidates would have it.
    pub(super) listed: Simulated,
    /// The block list as the configuration in force would have it.
    pub(super) listed_now: Simulated,
}

/// What one candidate would have done.
pub(super) struct Tallies {
    /// By requests, or by whole exchanges.
    pub(super) requests: Tally,
    /// What a schema says of the responses.
    pub(super) responses: Option<Tally>,
}

/// Takes exchanges for every candidate.
pub(super) struct Trying<'t> {
    trial: &'t Trial,
    present: Judge,
    now: Judged,
    range: Range,
    tallies: Vec<Tallies>,
    listing: Simulation,
    listing_now: Simulation,
    pub(super) totals: Totals,
}

fn widen(span: &mut Option<(EventTime, EventTime)>, at: EventTime) {
    let (first, last) = span.unwrap_or((at, at));
    *span = Some((first.min(at), last.max(at)));
}

impl<'t> Trying<'t> {
    /// Nothing looked at yet. `judges` judge by the policy in force and by the one with the candidates.
    pub(super) fn new(
        trial: &'t Trial,
        (present, then): (Judge, Judge),
        range: Range,
        samples: usize,
    ) -> anyhow::Result<Self> {
        let limits = Limits::shared_by(trial.candidates.len(), samples);
        let settings = &trial.settings.block_list;
        let tally = || Tally::new(limits, &settings.allow);
        let tallies = |candidate: &Candidate| Tallies {
            requests: tally(),
            responses: matches!(candidate.subject, Subject::Schema { .. }).then(tally),
        };
        Ok(Self {
            trial,
            now: Judged::default(),
            range,
            tallies: trial.candidates.iter().map(tallies).collect(),
            listing: Simulation::new(then, &trial.block_list, true)?,
            listing_now: Simulation::new(present.clone(), settings, false)?,
            present,
            totals: Totals::default(),
        })
    }

    /// Everything that was found out.
    ///
    /// # Errors
    /// The sums of the windows failed, which is a bug.
    pub(super) fn finish(self) -> anyhow::Result<Tried> {
        Ok(Tried {
            totals: self.totals,
            tallies: self.tallies,
            listed: self.listing.finish()?,
            listed_now: self.listing_now.finish()?,
        })
    }
}

impl Sink for Trying<'_> {
    fn judged(&mut self, judge: &Judge, exchange: &Exchange<'_>, judged: &Judged, _: Emitted) {
        self.totals.exchanges += 1;
        widen(&mut self.totals.seen, exchange.at);
        if !self.range.contains(exchange.at) {
            return;
        }
        self.totals.in_range += 1;
        widen(&mut self.totals.judged, exchange.at);
        // Both policies have the same zones.
        let (Some(zone), true) = (
            judge.policy().zones.get(judged.zone),
            self.present.judge(exchange, &mut self.now),
        ) else {
            return;
        };
        let Some(zone_now) = self.present.policy().zones.get(self.now.zone) else {
            return;
        };
        let side = Sides {
            exchange,
            now: (zone_now, &self.now),
            then: (zone, judged),
            allow: &self.trial.settings.block_list.allow,
        };
        let entry = judged.matched.operation;
        let entry = entry.and_then(|at| zone.operations.entries.get(at as usize));
        let case = Case {
            at: exchange.at,
            id: exchange.id.as_deref(),
            method: judged.method.as_str(),
            host: &judged.host,
            endpoint: entry.map_or(judged.endpoint.as_str(), |entry| &entry.declared),
            status: exchange.response.as_ref().map(|response| response.status),
            standing: standing(&self.now),
        };
        for (candidate, tallies) in self.trial.candidates.iter().zip(&mut self.tallies) {
            if candidate.zone == judged.zone {
                side.add(candidate.subject, &case, &mut tallies.requests);
                if let Some(responses) = &mut tallies.responses {
                    side.add_response(&case, responses);
                }
            }
        }
        let wanted = case.probably_wanted();
        self.listing.add(zone, exchange, judged, wanted);
        self.listing_now.add(zone_now, exchange, &self.now, wanted);
    }

    fn rejected(&mut self, reason: Reject, _: &[u8], _: u64) {
        *self.totals.rejected.entry(reason.as_str()).or_default() += 1;
    }
}

/// What the client had shown, by the policy in force.
fn standing(now: &Judged) -> Standing {
    let token = matches!(now.token, Some(TokenOutcome::Invalid(_)));
    let certificate = matches!(now.mtls.outcome, MtlsOutcome::Failed | MtlsOutcome::Revoked);
    match now.session.outcome {
        _ if token || certificate => Standing::Refused,
        SessionOutcome::Present => Standing::Valid,
        SessionOutcome::Absent => Standing::Absent,
        SessionOutcome::NotCaptured | SessionOutcome::NotConfigured => Standing::Unknown,
    }
}

/// An exchange as it is judged now, and as it would be.
struct Sides<'s> {
    exchange: &'s Exchange<'s>,
    now: (&'s Zone, &'s Judged),
    then: (&'s Zone, &'s Judged),
    allow: &'s [Network],
}

/// What a candidate says, before it is known who is meant.
struct Said {
    outcome: Outcome,
    word: &'static str,
    reasons: Vec<String>,
    already: bool,
}

impl Sides<'_> {
    fn add(&self, subject: Subject, case: &Case<'_>, tally: &mut Tally) {
        let said = match subject {
            Subject::Rule { number, replaces } => self.rule(number, replaces),
            Subject::Schema { .. } => self.schema(Direction::Request),
            Subject::TokenConfiguration { number, replaces } => self.token(number, replaces),
        };
        let matches = said.outcome == Outcome::Matches;
        let (entities, listed) = if matches {
            (self.entities(), self.listed(subject))
        } else {
            (Vec::new(), Vec::new())
        };
        let finding = Finding {
            outcome: said.outcome,
            word: said.word,
            reasons: &said.reasons,
            already: said.already,
            entities: &entities,
            listed: &listed,
        };
        tally.add(case, &finding);
    }

    fn rule(&self, number: usize, replaces: bool) -> Said {
        let of = |(zone, judged)| rulebook::verdict(zone, judged, u16::try_from(number).ok()?);
        // The rule whose place it takes; a new rule is compared with all of them.
        let already = if replaces {
            of(self.now).is_some_and(|verdict| verdict.fires)
        } else {
            self.now.1.rules.iter().any(|verdict| verdict.fires)
        };
        let (outcome, word) = match of(self.then) {
            None => (Outcome::NotCovered, "not_covered"),
            Some(verdict) if !verdict.known => (Outcome::NotCaptured, "not_captured"),
            Some(verdict) if verdict.fires => (Outcome::Matches, "fires"),
            Some(_) => (Outcome::Passes, "quiet"),
        };
        Said {
            outcome,
            word,
            reasons: Vec::new(),
            already,
        }
    }

    /// What a schema says of the response. Nobody is refused for it.
    fn add_response(&self, case: &Case<'_>, tally: &mut Tally) {
        let said = self.schema(Direction::Response);
        let finding = Finding {
            outcome: said.outcome,
            word: said.word,
            reasons: &said.reasons,
            already: said.already,
            entities: &[],
            listed: &[],
        };
        tally.add(case, &finding);
    }

    fn schema(&self, direction: Direction) -> Said {
        let side = |judged: &Judged| match direction {
            Direction::Request => judged.schema.request,
            Direction::Response => judged.schema.response,
        };
        let (_, judged) = self.then;
        let outcome = match side(judged) {
            SchemaOutcome::Violates => Outcome::Matches,
            SchemaOutcome::Conforms | SchemaOutcome::NoOperation => Outcome::Passes,
            // An operation was found, so it is the log that shows too little.
            SchemaOutcome::NotEvaluated if judged.matched.schema.is_some() => Outcome::NotCaptured,
            SchemaOutcome::NotEvaluated => Outcome::NotCovered,
        };
        let violations = judged.schema.violations.iter();
        let violations = violations.filter(|violation| violation.direction == direction);
        let reasons = violations.map(|violation| {
            let (location, class) = (violation.location.as_str(), violation.class.as_str());
            format!("{location} {} {class}", violation.target)
        });
        let mut reasons: Vec<String> = reasons.collect();
        // One exchange counts once for each reason.
        reasons.sort_unstable();
        reasons.dedup();
        Said {
            outcome,
            word: side(judged).as_str(),
            reasons,
            already: side(self.now.1) == SchemaOutcome::Violates,
        }
    }

    fn token(&self, number: usize, replaces: bool) -> Said {
        let of = |judged: &Judged| judged.tokens.get(number).map(|verdict| verdict.outcome);
        let invalid = |outcome| matches!(outcome, Some(TokenOutcome::Invalid(_)));
        // The configuration whose place it takes; a new one is compared with what all of them together say.
        let already = if replaces {
            invalid(of(self.now.1))
        } else {
            invalid(self.now.1.token)
        };
        let found = of(self.then.1);
        let outcome = match found {
            Some(TokenOutcome::Invalid(_)) => Outcome::Matches,
            Some(TokenOutcome::Valid | TokenOutcome::Missing) => Outcome::Passes,
            Some(TokenOutcome::NotCaptured | TokenOutcome::NotEvaluated) => Outcome::NotCaptured,
            None => Outcome::NotCovered,
        };
        let reason = found.and_then(TokenOutcome::reason);
        Said {
            outcome,
            word: found.map_or("not_covered", TokenOutcome::as_str),
            reasons: reason
                .map(|reason| reason.as_str().to_owned())
                .into_iter()
                .collect(),
            already,
        }
    }

    fn entities(&self) -> Vec<(BlockKind, String)> {
        let entity = |kind: BlockKind| Some((kind, entity::of(kind, self.exchange, self.then.1)?));
        KINDS.into_iter().filter_map(entity).collect()
    }

    /// Whom the block list would have got: of a rule, what it lists, as though its action were `block`; of a schema or token
    /// configuration, what rules and schema validation list because of it and did not list without.
    fn listed(&self, subject: Subject) -> Vec<BlockKey> {
        let (zone, judged) = self.then;
        let spared = spared(zone, self.exchange, judged, self.allow);
        let mut keys = Vec::new();
        for verdict in &judged.rules {
            let meant = match subject {
                Subject::Rule { number, .. } => is(verdict, number),
                Subject::Schema { .. } | Subject::TokenConfiguration { .. } => {
                    let id = zone.rules.id(*verdict);
                    let mut now = self.now.1.blocking();
                    let blocking = judged.blocking().any(|other| other == verdict);
                    blocking && !now.any(|known| self.now.0.rules.id(*known) == id)
                }
            };
            if !meant {
                continue;
            }
            if let Some(client) = &spared {
                return vec![client.clone()];
            }
            for kind in &zone.rules.lists(*verdict).kinds {
                let entity = entity::of(*kind, self.exchange, judged);
                let key = entity.and_then(|entity| BlockKey::new(&zone.id, *kind, &entity).ok());
                if let Some(key) = key.filter(|key| !keys.contains(key)) {
                    keys.push(key);
                }
            }
        }
        keys
    }
}

/// Whether a verdict is that of the rule of this number.
fn is(verdict: &RuleVerdict, number: usize) -> bool {
    verdict.kind != RuleKind::Schema && verdict.rule.is_some_and(|at| usize::from(at) == number)
}
