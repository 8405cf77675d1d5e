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

use crate::model::{BlockEntry, BlockKey, Network, Proposal, Wish};

/// Ids of exchanges kept with an entry: enough to look at, and no more than a feed can carry.
const MAX_SAMPLES: usize = 10;
/// Signals counted apart with an entry.
const MAX_SIGNALS: usize = 16;

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
            if (logged && !logs) || (logged == logs && *expires_at > known.expires_at) {
                entry.expires_at = *expires_at;
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

/// A network that holds an allowed address cannot be listed either: refusing it would refuse the address.
fn allowed(allow: &[Network], key: &BlockKey) -> bool {
    key.network()
        .is_some_and(|network| allow.iter().any(|allowed| allowed.overlaps(network)))
}

fn refuse(outcome: Outcome) -> Decision {
    Decision {
        outcome,
        edit: None,
    }
}

/// Adds evidence; the newest samples win.
fn add(entry: &mut BlockEntry, evidence: &BTreeMap<String, u64>, samples: &[String]) {
    for (signal, count) in evidence {
        if entry.evidence.len() < MAX_SIGNALS || entry.evidence.contains_key(signal) {
            let known = entry.evidence.entry(signal.clone()).or_default();
            *known = known.saturating_add(*count);
        }
    }
    for sample in samples {
        if !entry.samples.contains(sample) {
            entry.samples.push(sample.clone());
        }
    }
    let over = entry.samples.len().saturating_sub(MAX_SAMPLES);
    entry.samples.drain(..over);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BlockKind;

    fn key(entity: &str) -> BlockKey {
        let kind = if entity.contains('/') {
            BlockKind::Cidr
        } else {
            BlockKind::Ip
        };
        BlockKey::new("z", kind, entity).unwrap()
    }

    fn block(entity: &str, until: i64, count: u64) -> Proposal {
        Proposal {
            id: format!("{entity}-{until}"),
            answer: false,
            key: key(entity),
            reason: format!("until {until}"),
            wish: Wish::Block {
                rule: Some("r".to_owned()),
                evidence: BTreeMap::from([("requests".to_owned(), count)])
                    .into_iter()
                    .filter(|(_, count)| *count > 0)
                    .collect(),
                samples: Vec::new(),
                expires_at: until,
            },
        }
    }

    fn withdraw(entity: &str) -> Proposal {
        Proposal {
            wish: Wish::Withdraw,
            ..block(entity, 0, 0)
        }
    }

    fn rules(max: usize) -> Rules {
        Rules {
            enforce: true,
            allow: vec![Network::parse("192.0.2.0/24").unwrap()],
            max,
            log_only: BTreeSet::new(),
        }
    }

    /// `1.1.1.1 until 30 (5, revision 2)` for every entry.
    fn shown(list: &BlockList) -> Vec<String> {
        let line = |entry: &BlockEntry| {
            format!(
                "{} until {} ({}, revision {})",
                entry.key.entity(),
                entry.expires_at,
                entry.evidence.get("requests").copied().unwrap_or_default(),
                entry.revision
            )
        };
        list.entries().map(line).collect()
    }

    #[test]
    fn proposals_fold_in_log_order() {
        use Outcome::{Added, Allowed, Expired, Extended, Full, NotListed, Unchanged, Withdrawn};
        let mut list = BlockList::new(rules(2), []);
        // (now, proposal, outcome, list afterwards)
        let steps: &[(i64, Proposal, Outcome, &[&str])] = &[
            (
                10,
                block("1.1.1.1", 20, 2),
                Added,
                &["1.1.1.1 until 20 (2, revision 1)"],
            ),
            (
                11,
                block("1.1.1.1", 30, 3),
                Extended,
                &["1.1.1.1 until 30 (5, revision 2)"],
            ),
            // A shorter expiry adds its evidence and changes nothing else.
            (
                12,
                block("1.1.1.1", 15, 1),
                Extended,
                &["1.1.1.1 until 30 (6, revision 3)"],
            ),
            (
                12,
                block("1.1.1.1", 15, 0),
                Unchanged,
                &["1.1.1.1 until 30 (6, revision 3)"],
            ),
            (
                13,
                block("2.2.2.2", 13, 1),
                Expired,
                &["1.1.1.1 until 30 (6, revision 3)"],
            ),
            (
                13,
                block("192.0.2.9", 99, 1),
                Allowed,
                &["1.1.1.1 until 30 (6, revision 3)"],
            ),
            (
                13,
                block("192.0.0.0/16", 99, 1),
                Allowed,
                &["1.1.1.1 until 30 (6, revision 3)"],
            ),
            (
                13,
                withdraw("2.2.2.2"),
                NotListed,
                &["1.1.1.1 until 30 (6, revision 3)"],
            ),
            (
                14,
                block("2.2.2.0/24", 40, 1),
                Added,
                &[
                    "1.1.1.1 until 30 (6, revision 3)",
                    "2.2.2.0/24 until 40 (1, revision 1)",
                ],
            ),
            (
                15,
                block("3.3.3.3", 40, 1),
                Full,
                &[
                    "1.1.1.1 until 30 (6, revision 3)",
                    "2.2.2.0/24 until 40 (1, revision 1)",
                ],
            ),
            (
                16,
                withdraw("2.2.2.0/24"),
                Withdrawn,
                &["1.1.1.1 until 30 (6, revision 3)"],
            ),
            // Ended but not yet swept: it is a new entry, not a longer one.
            (
                31,
                block("1.1.1.1", 50, 1),
                Added,
                &["1.1.1.1 until 50 (1, revision 1)"],
            ),
        ];
        for (sequence, (now, proposal, outcome, expected)) in steps.iter().enumerate() {
            let decision = list.apply(proposal, sequence as u64, *now);
            assert_eq!(decision.outcome, *outcome, "{proposal:?}");
            assert_eq!(shown(&list), *expected, "{proposal:?}");
            match (&decision.edit, outcome) {
                (Some(Edit::Listed(entry)), Added | Extended) => {
                    assert_eq!(entry.sequence, sequence as u64);
                    assert_eq!(entry.updated_at, *now);
                }
                (Some(Edit::Ended(ended)), Withdrawn) => assert_eq!(*ended, proposal.key),
                (None, _) => {}
                (edit, _) => panic!("{edit:?} for {outcome:?}"),
            }
        }
        assert_eq!(list.expire(49), []);
        assert_eq!(list.expire(50), [Edit::Ended(key("1.1.1.1"))]);
        assert!(list.is_empty());
    }

    #[test]
    fn a_new_configuration_holds_for_old_entries() {
        let mut before = BlockList::new(
            Rules {
                enforce: false,
                allow: Vec::new(),
                max: 9,
                log_only: BTreeSet::new(),
            },
            [],
        );
        for entity in ["192.0.2.1", "3.3.3.3"] {
            before.apply(&block(entity, 99, 1), 7, 1);
        }
        assert!(before.entries().all(|entry| entry.simulated));
        let mut after = BlockList::new(rules(9), before.entries().cloned());
        let edits = after.reconcile(2);
        assert_eq!(edits.len(), 2, "{edits:?}");
        assert_eq!(edits[0], Edit::Ended(key("192.0.2.1")));
        let Edit::Listed(entry) = &edits[1] else {
            panic!("{edits:?}");
        };
        assert_eq!(
            (entry.simulated, entry.revision, entry.sequence),
            (false, 2, 7)
        );
        assert_eq!(after.reconcile(3), []);
    }

    #[test]
    fn what_only_logs_never_stands_for_an_enforced_entry() {
        let rules = Rules {
            log_only: BTreeSet::from(["log".to_owned()]),
            ..rules(9)
        };
        let by = |name: &str, until: i64| {
            let mut proposal = block("1.1.1.1", until, 1);
            if let Wish::Block { rule, .. } = &mut proposal.wish {
                *rule = Some(name.to_owned());
            }
            proposal
        };
        let mut list = BlockList::new(rules.clone(), []);
        let mut state = |proposal: &Proposal| {
            list.apply(proposal, 0, 1);
            let entry = list.entries().next().unwrap();
            let rule = entry.rule.clone().unwrap();
            (
                rule,
                entry.simulated,
                entry.expires_at,
                entry.evidence["requests"],
            )
        };
        for (proposal, rule, simulated, until, count) in [
            (by("log", 90), "log", true, 90, 1),
            (by("log", 95), "log", true, 95, 2),
            // It is enforced for as long as the rule that may block says, not longer.
            (by("block", 50), "block", false, 50, 3),
            (by("log", 99), "block", false, 50, 4),
            (by("block", 60), "block", false, 60, 5),
        ] {
            let expected = (rule.to_owned(), simulated, until, count);
            assert_eq!(state(&proposal), expected, "{proposal:?}");
        }
        // The rule is given the right to block, and loses it again.
        let mut list = BlockList::new(rules.clone(), []);
        list.apply(&by("log", 90), 0, 1);
        let entries: Vec<_> = list.entries().cloned().collect();
        let mut blocks = BlockList::new(self::rules(9), entries);
        assert_eq!(blocks.reconcile(2).len(), 1);
        assert!(blocks.entries().all(|entry| !entry.simulated));
        let mut logs = BlockList::new(rules, blocks.entries().cloned());
        assert_eq!(logs.reconcile(3).len(), 1);
        assert!(logs.entries().all(|entry| entry.simulated));
    }

    #[test]
    fn evidence_is_bounded() {
        let mut list = BlockList::new(rules(9), []);
        for number in 0..40 {
            let mut proposal = block("1.1.1.1", 99, 1);
            let Wish::Block {
                evidence, samples, ..
            } = &mut proposal.wish
            else {
                unreachable!()
            };
            evidence.insert(format!("signal {number}"), u64::MAX);
            samples.push(format!("req-{number}"));
            list.apply(&proposal, number, 1);
        }
        let entry = list.entries().next().unwrap();
        assert_eq!(entry.evidence.len(), MAX_SIGNALS);
        assert_eq!(entry.evidence["requests"], 40);
        assert_eq!(entry.samples.len(), MAX_SAMPLES);
        assert_eq!(entry.samples.last().unwrap(), "req-39");
    }
}
