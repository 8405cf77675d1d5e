//! The block list over recorded exchanges: who would have been on it, since when, and what they did while they were.
//!
//! Enters: proposals with the event time at which a pipeline would have made them, and every request of whoever can be listed.
//! Leaves: a [`Ledger`], whose decisions are those of [`BlockList`] with event time in the place of wall time. Requests are
//! kept by the minute, so what somebody did *later* begins with the minute after the one that listed them.
//!
//! Memory is bounded: what comes after a cap is counted in `overflow`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::detect::blocklist::{BlockList, Edit, Outcome, Rules};
use crate::model::{BlockKey, MINUTE_MILLIS, Proposal, Samples, Wish};

/// Minutes remembered over all entities, at some 24 bytes each.
const MAX_MINUTES: usize = 2_000_000;
/// Minutes of entities in which rules that block fired, at some 200 bytes each.
const MAX_FIRINGS: usize = 200_000;

/// Requests of an entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// All of them.
    pub total: u64,
    /// Successful answers to valid sessions.
    pub wanted: u64,
}

/// What entities asked for, minute by minute.
#[derive(Debug)]
pub struct Followed {
    entities: HashMap<Box<str>, Vec<(i64, Requests)>, foldhash::fast::RandomState>,
    left: usize,
    /// Requests that came after the cap.
    pub overflow: u64,
}

impl Default for Followed {
    fn default() -> Self {
        Self {
            entities: HashMap::default(),
            left: MAX_MINUTES,
            overflow: 0,
        }
    }
}

impl Followed {
    /// Adds a request of an entity, `zone/kind/entity`, in this minute (epoch milliseconds).
    pub fn add(&mut self, entity: &str, minute: i64, wanted: bool) {
        if !self.entities.contains_key(entity) {
            self.entities.insert(entity.into(), Vec::new());
        }
        let Some(minutes) = self.entities.get_mut(entity) else {
            return;
        };
        // Logs are nearly in order, so the minute is nearly always the last one.
        let at = minutes.partition_point(|(known, _)| *known < minute);
        if minutes.get(at).is_none_or(|(known, _)| *known != minute) {
            let Some(left) = self.left.checked_sub(1) else {
                self.overflow += 1;
                return;
            };
            self.left = left;
            minutes.insert(at, (minute, Requests::default()));
        }
        if let Some((_, requests)) = minutes.get_mut(at) {
            requests.total += 1;
            requests.wanted += u64::from(wanted);
        }
    }

    /// The requests of an entity while it was listed.
    fn during(&self, entity: &str, stays: &[Stay]) -> Requests {
        let listed = |minute: i64| {
            let mut stays = stays.iter();
            stays.any(|stay| stay.minute < minute && minute < stay.until)
        };
        let minutes = self.entities.get(entity).into_iter().flatten();
        let listed = minutes.filter(|(minute, _)| listed(*minute));
        listed.fold(Requests::default(), |sum, (_, requests)| Requests {
            total: sum.total + requests.total,
            wanted: sum.wanted + requests.wanted,
        })
    }
}

/// Minute, entity and rule.
type Place = (i64, BlockKey, Box<str>);

/// How often rules that block fired, minute by minute.
#[derive(Debug, Default)]
pub struct Firings {
    minutes: BTreeMap<Place, (i64, i64, u64, Samples)>,
    /// Firings that came after the cap.
    pub overflow: u64,
}

/// A minute in which a rule that blocks fired for an entity.
#[derive(Clone, Copy, Debug)]
pub struct Firing<'f> {
    /// Whom it lists.
    pub key: &'f BlockKey,
    /// Id of the rule.
    pub rule: &'f str,
    /// When it fired first in this minute, epoch milliseconds.
    pub first_at: i64,
    /// When last.
    pub last_at: i64,
    /// How often.
    pub count: u64,
    /// Ids of some of the exchanges.
    pub samples: &'f Samples,
}

impl Firings {
    /// Adds that a rule fired for an entity at a time, epoch milliseconds, by the exchange of this id.
    pub fn add(&mut self, key: BlockKey, rule: &str, at: i64, id: Option<&str>) {
        let place = (
            at.div_euclid(MINUTE_MILLIS) * MINUTE_MILLIS,
            key,
            rule.into(),
        );
        if self.minutes.len() >= MAX_FIRINGS && !self.minutes.contains_key(&place) {
            self.overflow += 1;
            return;
        }
        let new = || (at, at, 0, Samples::default());
        let (first, last, count, samples) = self.minutes.entry(place).or_insert_with(new);
        *first = at.min(*first);
        *last = at.max(*last);
        *count += 1;
        if let Some(id) = id {
            samples.add(id);
        }
    }

    /// All of them, by minute.
    pub fn iter(&self) -> impl Iterator<Item = Firing<'_>> {
        let minutes = self.minutes.iter();
        minutes.map(|((_, key, rule), (first, last, count, samples))| Firing {
            key,
            rule,
            first_at: *first,
            last_at: *last,
            count: *count,
            samples,
        })
    }
}

/// A time on the list: requests of later minutes than the first, before the end.
#[derive(Clone, Copy, Debug)]
struct Stay {
    minute: i64,
    until: i64,
}

/// What is known of somebody who would have been listed.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// The rules and thresholds that asked for it.
    pub rules: BTreeSet<String>,
    /// How often each signal was seen.
    pub evidence: BTreeMap<String, u64>,
    /// Ids of some of the exchanges.
    pub samples: Samples,
    /// When first, epoch milliseconds.
    pub first_at: i64,
    /// When the last entry ends, epoch milliseconds.
    pub until: i64,
    /// How often it was listed anew.
    pub entries: u64,
    /// Whether a rule or threshold with the action `block` is among those that asked.
    pub blocks: bool,
    stays: Vec<Stay>,
}

/// The list over the whole range.
#[derive(Debug)]
pub struct Ledger {
    list: BlockList,
    listed: BTreeMap<BlockKey, Listed>,
    /// Whom the allow list spares.
    pub exempt: BTreeSet<BlockKey>,
    /// Proposals for which there was no room.
    pub full: u64,
    sequence: u64,
    minute: i64,
}

impl Ledger {
    /// An empty list.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            list: BlockList::new(rules, []),
            listed: BTreeMap::new(),
            exempt: BTreeSet::new(),
            full: 0,
            sequence: 0,
            minute: i64::MIN,
        }
    }

    /// Applies a proposal that is made at `now` because of what happened in `minute`, both epoch milliseconds. Proposals
    /// come in the order of `now`.
    pub fn apply(&mut self, proposal: &Proposal, minute: i64, now: i64) {
        let Wish::Block {
            rule,
            evidence,
            samples,
            ..
        } = &proposal.wish
        else {
            return;
        };
        // Who has served their time makes room.
        if now / MINUTE_MILLIS > self.minute {
            self.minute = now / MINUTE_MILLIS;
            self.list.expire(now);
        }
        self.sequence += 1;
        let decision = self.list.apply(proposal, self.sequence, now);
        match decision.outcome {
            Outcome::Allowed => {
                self.exempt.insert(proposal.key.clone());
            }
            Outcome::Full => self.full += 1,
            _ => {}
        }
        let Some(Edit::Listed(entry)) = decision.edit else {
            return;
        };
        let listed = self.listed.entry(entry.key).or_insert_with(|| Listed {
            first_at: now,
            ..Listed::default()
        });
        listed.rules.extend(rule.clone());
        for (signal, count) in evidence {
            *listed.evidence.entry(signal.clone()).or_default() += count;
        }
        for id in samples {
            listed.samples.add(id);
        }
        listed.blocks |= !entry.simulated;
        listed.until = entry.expires_at;
        match listed.stays.last_mut() {
            Some(stay) if decision.outcome == Outcome::Extended => stay.until = entry.expires_at,
            _ => {
                listed.entries += 1;
                listed.stays.push(Stay {
                    minute,
                    until: entry.expires_at,
                });
            }
        }
    }

    /// Who would have been listed.
    pub fn keys(&self) -> impl Iterator<Item = &BlockKey> {
        self.listed.keys()
    }

    /// How many would have been listed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.listed.len()
    }

    /// Whether nobody would have been listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Whether somebody would have been listed.
    #[must_use]
    pub fn lists(&self, key: &BlockKey) -> bool {
        self.listed.contains_key(key)
    }

    /// Everybody who would have been listed with what they did while they were: who was probably wanted most comes
    /// first, then who asked most.
    #[must_use]
    pub fn rows(&self, followed: &Followed) -> Vec<(&BlockKey, &Listed, Requests)> {
        let rows = self.listed.iter().map(|(key, listed)| {
            let later = followed.during(&key.to_string(), &listed.stays);
            (key, listed, later)
        });
        let mut rows: Vec<_> = rows.collect();
        // Keys are in order already, and this sort keeps it.
        rows.sort_by_key(|(.., later)| std::cmp::Reverse((later.wanted, later.total)));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BlockKind, Network};

    const MINUTE: i64 = MINUTE_MILLIS;

    fn key(entity: &str) -> BlockKey {
        BlockKey::new("z", BlockKind::Ip, entity).unwrap()
    }

    fn proposal(entity: &str, rule: &str, expires_at: i64) -> Proposal {
        Proposal {
            id: String::new(),
            answer: false,
            key: key(entity),
            reason: rule.to_owned(),
            wish: Wish::Block {
                rule: Some(rule.to_owned()),
                evidence: BTreeMap::from([("refused".to_owned(), 2)]),
                samples: Vec::new(),
                expires_at,
            },
        }
    }

    fn ledger(max: usize) -> Ledger {
        Ledger::new(Rules {
            enforce: true,
            allow: vec![Network::parse("192.0.2.0/24").unwrap()],
            max,
            log_only: BTreeSet::from(["logs".to_owned()]),
        })
    }

    #[test]
    fn requests_count_from_the_minute_after_the_listing_to_its_end() {
        let mut followed = Followed::default();
        // One request a minute, every other one wanted, and the minutes in no order.
        for minute in [5, 4, 0, 1, 2, 3, 6, 7, 8, 9] {
            followed.add("z/ip/203.0.113.1", minute * MINUTE, minute % 2 == 0);
            followed.add("z/ip/203.0.113.2", minute * MINUTE, true);
        }
        let mut ledger = ledger(10);
        // Listed in minute 1 for two minutes, extended in minute 2 by two more, and again in minute 7.
        for (minute, second, until) in [(1, 0, 3), (2, 30, 4), (7, 1, 9)] {
            let now = minute * MINUTE + second * 1_000;
            let until = until * MINUTE + second * 1_000;
            ledger.apply(
                &proposal("203.0.113.1", "logs", until),
                minute * MINUTE,
                now,
            );
        }
        let rows = ledger.rows(&followed);
        let [(found, listed, later)] = rows.as_slice() else {
            panic!("{rows:?}");
        };
        assert_eq!(**found, key("203.0.113.1"));
        // Minutes 2, 3 and 4; 8 and 9.
        assert_eq!((later.total, later.wanted), (5, 3));
        assert_eq!(
            (listed.first_at, listed.until),
            (MINUTE, 9 * MINUTE + 1_000)
        );
        assert_eq!((listed.entries, listed.blocks), (2, false));
        assert_eq!(listed.evidence["refused"], 6);
    }

    #[test]
    fn the_allow_list_and_the_room_are_those_of_the_list() {
        let mut ledger = ledger(1);
        ledger.apply(&proposal("192.0.2.1", "logs", 9 * MINUTE), 0, 0);
        ledger.apply(&proposal("203.0.113.1", "logs", 2 * MINUTE), 0, 0);
        ledger.apply(&proposal("203.0.113.1", "blocks", 2 * MINUTE), 0, 1);
        ledger.apply(&proposal("203.0.113.2", "logs", 9 * MINUTE), MINUTE, MINUTE);
        // By now there is room again.
        ledger.apply(
            &proposal("203.0.113.3", "logs", 9 * MINUTE),
            3 * MINUTE,
            3 * MINUTE,
        );
        let keys: Vec<&str> = ledger.keys().map(BlockKey::entity).collect();
        assert_eq!(keys, ["203.0.113.1", "203.0.113.3"]);
        assert_eq!((ledger.exempt.len(), ledger.full, ledger.len()), (1, 1, 2));
        let first = &ledger.listed[&key("203.0.113.1")];
        assert!(first.blocks && first.rules.len() == 2 && first.entries == 1);
        assert!(!ledger.listed[&key("203.0.113.3")].blocks);
        assert!(ledger.lists(&key("203.0.113.3")) && !ledger.lists(&key("203.0.113.2")));
    }

    #[test]
    fn firings_are_kept_by_the_minute() {
        let mut firings = Firings::default();
        for at in [61_500, 61_000, 119_999, 120_000] {
            firings.add(key("203.0.113.1"), "r", at, Some("a"));
        }
        firings.add(key("203.0.113.2"), "r", 5, None);
        let found: Vec<_> = firings
            .iter()
            .map(|firing| {
                let ids = firing.samples.ids().len();
                (firing.key.entity(), firing.first_at, firing.count, ids)
            })
            .collect();
        let expected = [
            ("203.0.113.2", 5, 1, 0),
            ("203.0.113.1", 61_000, 3, 1),
            ("203.0.113.1", 120_000, 1, 1),
        ];
        assert_eq!(found, expected);
    }
}
