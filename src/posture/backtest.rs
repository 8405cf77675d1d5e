//! What a candidate (a rule, a schema, a token configuration) would have done to recorded exchanges, added up. Layer 1.
//!
//! Enters: one [`Case`] and one [`Finding`] per exchange and candidate, in any order. Leaves: a [`Tally`]: exact counts, the
//! endpoints and entities with the most matches, and some exchanges to look at. Equal exchanges give equal tallies
//! whatever their order, as long as no cap is reached.
//!
//! Memory is bounded by [`Limits`]: what comes after a cap is counted in `overflow` and never moves a count that is shown.
//! Reading, judging and printing are not here.

pub mod listing;
mod ranking;
mod samples;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use ranking::{Ranking, Row};
pub use samples::{Sample, Samples};

use crate::detect::blocklist::allowed;
use crate::model::{BlockKey, BlockKind, EventTime, Network};

/// What the client of an exchange had shown, by the policy that is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A session identifier, and no token or certificate that was refused.
    Valid,
    /// A token that is invalid, or a certificate that failed or was revoked.
    Refused,
    /// No session identifier, and the log would have shown one.
    Absent,
    /// The log does not say, or no identifier is configured.
    Unknown,
}

/// One exchange as a candidate meets it.
#[derive(Debug)]
pub struct Case<'c> {
    /// When.
    pub at: EventTime,
    /// Id of the request, where it was logged.
    pub id: Option<&'c str>,
    /// Method.
    pub method: &'static str,
    /// Lower-case host.
    pub host: &'c str,
    /// Path template as the candidate's policy declares it.
    pub endpoint: &'c str,
    /// Status; `None` = unanswered.
    pub status: Option<u16>,
    /// What the client had shown.
    pub standing: Standing,
}

impl Case<'_> {
    /// Whether the answer was a success (design section 4).
    #[must_use]
    pub fn successful(&self) -> bool {
        matches!(self.status, Some(200..=299))
    }

    /// A success for a client that was who it said: whoever would have been refused here was probably wanted.
    #[must_use]
    pub fn probably_wanted(&self) -> bool {
        self.successful() && self.standing == Standing::Valid
    }
}

/// What a candidate says about an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The rule fires, the request violates, the token is invalid.
    Matches,
    /// It does not.
    Passes,
    /// The log does not show what it takes to say.
    NotCaptured,
    /// The candidate is not about this exchange.
    NotCovered,
}

/// What a candidate says about one exchange, with everything that follows.
#[derive(Debug)]
pub struct Finding<'f> {
    /// In short.
    pub outcome: Outcome,
    /// In the words of the verdict, such as `fires`, `violates`, `missing`.
    pub word: &'static str,
    /// Why: the reason of an invalid token, the violations of a request.
    pub reasons: &'f [String],
    /// Whether the policy in force objects too.
    pub already: bool,
    /// Who it is from, one entity of a kind. Looked at where the outcome matches.
    pub entities: &'f [(BlockKind, String)],
    /// Whom the block list would have got.
    pub listed: &'f [BlockKey],
}

/// Bounds of one tally.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Endpoints; the cap of a report.
    pub endpoints: usize,
    /// Entities of each kind, and entities of the block list.
    pub entities: usize,
    /// Different reasons.
    pub reasons: usize,
    /// Exchanges to look at.
    pub samples: usize,
}

impl Limits {
    /// Entities remembered over all candidates: at some 150 bytes each a bound of about 60 MB.
    const ENTITIES: usize = 400_000;
    /// Tables of entities in a tally: four kinds and the block list.
    const TABLES: usize = 5;

    /// The bounds of each of so many candidates.
    #[must_use]
    pub fn shared_by(candidates: usize, samples: usize) -> Self {
        let each = Self::ENTITIES / Self::TABLES / candidates.max(1);
        Self {
            endpoints: 10_000,
            entities: each.max(1_000),
            reasons: 1_000,
            samples,
        }
    }
}

/// Successful answers among the matches, by what the client had shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Successful {
    /// All of them.
    pub total: u64,
    /// To valid sessions: likely false positives.
    pub valid: u64,
    /// To clients whose token or certificate is refused today already.
    pub refused: u64,
    /// Without a session.
    pub absent: u64,
    /// Where nobody knows.
    pub unknown: u64,
}

impl Successful {
    fn add(&mut self, standing: Standing) {
        self.total += 1;
        *match standing {
            Standing::Valid => &mut self.valid,
            Standing::Refused => &mut self.refused,
            Standing::Absent => &mut self.absent,
            Standing::Unknown => &mut self.unknown,
        } += 1;
    }
}

/// What one candidate would have done.
#[derive(Debug)]
pub struct Tally {
    /// Exchanges that it is about and that could be judged.
    pub judged: u64,
    /// Exchanges that it matches.
    pub matches: u64,
    /// Exchanges that could not be judged.
    pub not_captured: u64,
    /// Exchanges that it is not about.
    pub not_covered: u64,
    /// Matches to which the policy in force does not object.
    pub newly: u64,
    /// Matches to which it does.
    pub already: u64,
    /// Exchanges to which the policy in force objects and the candidate does not, also because it is not about them.
    pub no_longer: u64,
    /// Exchanges by the word of their verdict.
    pub words: BTreeMap<&'static str, u64>,
    /// Successful answers among the matches.
    pub successful: Successful,
    /// Why.
    pub reasons: Ranking,
    /// Where; also endpoints without a match.
    pub endpoints: Ranking,
    /// Who.
    pub entities: BTreeMap<BlockKind, Ranking>,
    /// Whom the block list would have got, as `kind/entity`.
    pub listed: Ranking,
    /// Whom it would not have got because the allow list names them, as exchanges.
    pub exempt: u64,
    /// Exchanges to look at.
    pub samples: Samples,
    limits: Limits,
    allow: Vec<Network>,
    key: String,
}

impl Tally {
    /// Nothing yet; `allow` is never listed.
    #[must_use]
    pub fn new(limits: Limits, allow: &[Network]) -> Self {
        Self {
            judged: 0,
            matches: 0,
            not_captured: 0,
            not_covered: 0,
            newly: 0,
            already: 0,
            no_longer: 0,
            words: BTreeMap::new(),
            successful: Successful::default(),
            reasons: Ranking::new(limits.reasons),
            endpoints: Ranking::new(limits.endpoints),
            entities: BTreeMap::new(),
            listed: Ranking::new(limits.entities),
            exempt: 0,
            samples: Samples::new(limits.samples),
            limits,
            allow: allow.to_vec(),
            key: String::new(),
        }
    }

    /// Adds one exchange.
    pub fn add(&mut self, case: &Case<'_>, finding: &Finding<'_>) {
        *self.words.entry(finding.word).or_default() += 1;
        match finding.outcome {
            Outcome::NotCovered => {
                self.not_covered += 1;
                self.no_longer += u64::from(finding.already);
                return;
            }
            Outcome::NotCaptured => {
                self.not_captured += 1;
                return;
            }
            Outcome::Passes => {
                self.judged += 1;
                self.no_longer += u64::from(finding.already);
            }
            Outcome::Matches => {
                self.judged += 1;
                self.matches += 1;
                self.newly += u64::from(!finding.already);
                self.already += u64::from(finding.already);
            }
        }
        let matches = finding.outcome == Outcome::Matches;
        self.key.clear();
        for part in [case.method, " ", case.host, case.endpoint] {
            self.key.push_str(part);
        }
        self.endpoints.add(&self.key, case, matches);
        if !matches {
            return;
        }
        if case.successful() {
            self.successful.add(case.standing);
        }
        for reason in finding.reasons {
            self.reasons.add(reason, case, true);
        }
        for (kind, entity) in finding.entities {
            let cap = self.limits.entities;
            let ranking = self.entities.entry(*kind);
            let ranking = ranking.or_insert_with(|| Ranking::new(cap));
            ranking.add(entity, case, true);
        }
        let mut exempt = false;
        for key in finding.listed {
            if allowed(&self.allow, key) {
                exempt = true;
                continue;
            }
            self.key.clear();
            for part in [key.kind().as_str(), "/", key.entity()] {
                self.key.push_str(part);
            }
            self.listed.add(&self.key, case, true);
        }
        self.exempt += u64::from(exempt);
        self.samples.offer(case, finding);
    }
}
