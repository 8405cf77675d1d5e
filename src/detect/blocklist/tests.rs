//! The fold: proposals in the order of the log, and in any other.

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
fn an_entry_ends_with_the_last_time_that_can_be_written() {
    let mut list = BlockList::new(rules(9), []);
    list.apply(&block("1.1.1.1", i64::MAX, 1), 0, 1);
    let entry = list.entries().next().unwrap();
    let end = crate::model::EventTime::from_millis(entry.expires_at);
    assert!(end.is_some(), "{entry:?}");
    let again = list.apply(&block("1.1.1.1", i64::MAX, 0), 1, 2);
    assert_eq!(again.outcome, Outcome::Unchanged);
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
    assert_eq!(entry.samples.len(), Samples::MOST);
}

/// Two rules and two flushes of each find the same client at the same time: whoever is first, the entry is the same.
#[test]
fn an_entry_does_not_depend_on_the_order_of_its_proposals() {
    let mut proposals: Vec<Proposal> = Vec::new();
    for (rule, until, count, ids) in [
        ("a", 40, 2, ["1", "2"]),
        ("a", 50, 3, ["3", "4"]),
        ("b", 60, 4, ["2", "5"]),
        ("logs", 90, 5, ["6", "7"]),
    ] {
        let mut proposal = block("1.1.1.1", until, count);
        let Wish::Block {
            rule: by, samples, ..
        } = &mut proposal.wish
        else {
            panic!("{proposal:?}");
        };
        *by = Some(rule.to_owned());
        samples.extend(ids.map(str::to_owned));
        proposals.push(proposal);
    }
    let mut rules = rules(9);
    rules.log_only.insert("logs".to_owned());
    let mut entries = Vec::new();
    for at in 0..24 {
        let mut left: Vec<&Proposal> = proposals.iter().collect();
        let mut list = BlockList::new(rules.clone(), []);
        let mut number = at;
        while !left.is_empty() {
            let next = left.remove(number % left.len());
            number /= left.len() + 1;
            list.apply(next, 7, 1);
        }
        entries.extend(list.entries().cloned());
    }
    let first = entries.first().unwrap();
    assert_eq!(
        (
            first.rule.as_deref(),
            first.expires_at,
            first.evidence["requests"]
        ),
        (Some("a"), 60, 14)
    );
    assert!(!first.simulated && first.samples.len() > 5);
    for entry in &entries {
        // One that changed nothing but samples is a revision as well.
        let same = BlockEntry {
            revision: first.revision,
            reason: first.reason.clone(),
            ..entry.clone()
        };
        assert_eq!(same, *first);
    }
}
