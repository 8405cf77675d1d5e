//! The block list as a fold over its proposals: (list, proposal, wall time) → what changes. Pure; the evaluator is the
//! only one who applies it, in the order of the log, so every reader of the topic sees one history.
//!
//! Enters: entries as they were published, proposals, the present. Leaves: a [`Decision`] for each proposal, with the
//! entry to publish or its end.
//!
//! - A listed entity stays listed until the later of the two expiries; evidence adds up.
//! - The allow list wins over everything, also over entries that were listed before it was written.
//! - An entry is simulated unless `enforce` is on and the rule that it stands for may block. A rule that may block takes
//!   an entry over from one that only logs, never the other way round.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{BlockEntry, BlockKey, EventTime, Network, Proposal, Samples, Wish};

/// Signals counted apart with an entry.
const MAX_SIGNALS: usize = 16;

/// What counts of decisions call an entry that time or a new configuration changed, beside the names of outcomes.
pub const ENDED: &str = "ended";

/// What a configuration says about the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whether entries are meant to be enforced; else they are simulated.
    pub enforce: bool,
    /// Addresses that are never refused.
    pub allow: Vec<Network>,
    /// Most entries.
    pub max: usize,
    /// Rules whose entries are simulated whatever `enforce` says.
    pub log_only: BTreeSet<String>,
}

impl Rules {
    /// Whether an entry that stands for this rule only shows what would be refused.
    fn simulates(&self, rule: Option<&String>) -> bool {
        !self.enforce || self.logs(rule)
    }

    fn logs(&self, rule: Option<&String>) -> bool {
        rule.is_some_and(|rule| self.log_only.contains(rule))
    }
}

/// What became of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The entity was not listed and now is.
    Added,
    /// It was listed: expiry, evidence or reason changed.
    Extended,
    /// It was listed, and the proposal says nothing new.
    Unchanged,
    /// It was listed and no longer is.
    Withdrawn,
    /// It was not listed, so there was nothing to withdraw.
    NotListed,
    /// The allow list names it.
    Allowed,
    /// The list is full.
    Full,
    /// The proposed expiry has passed.
    Expired,
}

impl Outcome {
    /// The name in payloads and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Extended => "extended",
            Self::Unchanged => "unchanged",
            Self::Withdrawn => "withdrawn",
            Self::NotListed => "not_listed",
            Self::Allowed => "allowed",
            Self::Full => "full",
            Self::Expired => "expired",
        }
    }

    /// Whether the proposal was refused.
    #[must_use]
    pub fn refused(self) -> bool {
        matches!(self, Self::Allowed | Self::Full | Self::Expired)
    }
}

/// What changes in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The entry is now this.
    Listed(BlockEntry),
    /// The entry is gone.
    Ended(BlockKey),
}

/// What became of a proposal, and what is to be published for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What became of it.
    pub outcome: Outcome,
    /// What changes.
    pub edit: Option<Edit>,
}

/// The entries that hold.
#[derive(Clone, Debug)]
pub struct BlockList {
    rules: Rules,
    entries: BTreeMap<BlockKey, BlockEntry>,
}

impl BlockList {
    /// The list as it was published.
    #[must_use]
    pub fn new(rules: Rules, entries: impl IntoIterator<Item = BlockEntry>) -> Self {
        let entries = entries.into_iter().map(|entry| (entry.key.clone(), entry));
        Self {
            rules,
            entries: entries.collect(),
        }
    }

    /// The entries, in the order of their keys.
    pub fn entries(&self) -> impl Iterator<Item = &BlockEntry> {
        self.entries.values()
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Applies one proposal, which stands at `sequence` in the log; `now` is wall time, epoch milliseconds.
    pub fn apply(&mut self, proposal: &Proposal, sequence: u64, now: i64) -> Decision {
        let key = &proposal.key;
        let Wish::Block {
            rule,
            evidence,
            samples,
            expires_at,
        } = &proposal.wish
        else {
            return match self.entries.remove(key) {
                Some(_) => Decision {
                    outcome: Outcome::Withdrawn,
                    edit: Some(Edit::Ended(key.clone())),
                },
                None => refuse(Outcome::NotListed),
            };
        };
        // What is no time could not be read again.
        let expires_at = &EventTime::clamped(*expires_at).millis();
        if *expires_at <= now {
            return refuse(Outcome::Expired);
        }
        if self.allows(key) {
            return refuse(Outcome::Allowed);
        }
        let known = self.entries.get(key).filter(|entry| entry.expires_at > now);
        let (outcome, entry) = if let Some(known) = known {
            let mut entry = known.clone();
            let (logged, logs) = (
                self.rules.logs(known.rule.as_ref()),
                self.rules.logs(rule.as_ref()),
            );
            let (longer, alike) = (*expires_at > known.expires_at, logged == logs);
            if (logged && !logs) || (alike && longer) {
                entry.expires_at = *expires_at;
            }
            // Of several that ask for the same, the first by name is told, whichever came last.
            let first = *rule < known.rule || (*rule == known.rule && longer);
            if (logged && !logs) || (alike && first) {
                entry.reason.clone_from(&proposal.reason);
                entry.rule.clone_from(rule);
            }
            add(&mut entry, evidence, samples);
            entry.simulated = self.rules.simulates(entry.rule.as_ref());
            if entry == *known {
                return refuse(Outcome::Unchanged);
            }
            entry.revision += 1;
            (Outcome::Extended, entry)
        } else {
            if self.entries.len() >= self.rules.max && !self.entries.contains_key(key) {
                return refuse(Outcome::Full);
            }
            let mut entry = BlockEntry {
                key: key.clone(),
                simulated: self.rules.simulates(rule.as_ref()),
                reason: proposal.reason.clone(),
                rule: rule.clone(),
                evidence: BTreeMap::new(),
                samples: Vec::new(),
                created_at: now,
                updated_at: now,
                expires_at: *expires_at,
                revision: 1,
                sequence,
            };
            add(&mut entry, evidence, samples);
            (Outcome::Added, entry)
        };
        let entry = BlockEntry {
            updated_at: now,
            sequence,
            ..entry
        };
        self.entries.insert(key.clone(), entry.clone());
        Decision {
            outcome,
            edit: Some(Edit::Listed(entry)),
        }
    }

    /// Takes off what ended by `now`.
    pub fn expire(&mut self, now: i64) -> Vec<Edit> {
        let ended = self
            .entries
            .extract_if(.., |_, entry| entry.expires_at <= now);
        ended.map(|(key, _)| Edit::Ended(key)).collect()
    }

    /// Brings entries of an earlier configuration in line with this one: what is allowed now ends, and what may be
    /// enforced now is.
    pub fn reconcile(&mut self, now: i64) -> Vec<Edit> {
        let allow = std::mem::take(&mut self.rules.allow);
        let ended = self
            .entries
            .extract_if(.., |key, _| allowed(&allow, key))
            .map(|(key, _)| Edit::Ended(key));
        let mut edits: Vec<_> = ended.collect();
        self.rules.allow = allow;
        for entry in self.entries.values_mut() {
            let simulated = self.rules.simulates(entry.rule.as_ref());
            if entry.simulated != simulated {
                entry.simulated = simulated;
                entry.revision += 1;
                entry.updated_at = now;
                edits.push(Edit::Listed(entry.clone()));
            }
        }
        edits
    }

    fn allows(&self, key: &BlockKey) -> bool {
        allowed(&self.rules.allow, key)
    }
}

/// Whether the allow list names an entity. A network that holds an allowed address cannot be listed either: refusing it
/// would refuse the address.
#[must_use]
pub fn allowed(allow: &[Network], key: &BlockKey) -> bool {
    key.network()
        .is_some_and(|network| allow.iter().any(|allowed| allowed.overlaps(network)))
}

fn refuse(outcome: Outcome) -> Decision {
    Decision {
        outcome,
        edit: None,
    }
}

/// Adds evidence and samples.
fn add(entry: &mut BlockEntry, evidence: &BTreeMap<String, u64>, samples: &[String]) {
    for (signal, count) in evidence {
        if entry.evidence.len() < MAX_SIGNALS || entry.evidence.contains_key(signal) {
            let known = entry.evidence.entry(signal.clone()).or_default();
            *known = known.saturating_add(*count);
        }
    }
    let all = entry.samples.iter().chain(samples).map(String::as_str);
    entry.samples = all.collect::<Samples>().ids();
}

#[cfg(test)]
mod tests;
