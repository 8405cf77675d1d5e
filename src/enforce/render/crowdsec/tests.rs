//! What a bouncer is told, pull after pull.

use super::*;
use crate::detect::blocklist::Edit;
use crate::enforce::Journal;
use crate::enforce::fixtures::{entry, in_zone};
use crate::model::BlockKind;

const HOUR: i64 = 3_600_000;

fn everyone() -> Filter {
    Filter {
        selection: Selection::default(),
        scopes: Vec::new(),
        origins: Vec::new(),
        containing: Vec::new(),
        not_containing: Vec::new(),
        dedup: true,
        wanted: Wanted::default(),
    }
}

/// `192.0.2.1 59m0s`, one per decision.
fn shown(decisions: &[Decision]) -> Vec<String> {
    let line = |decision: &Decision| format!("{} {}", decision.value, decision.duration);
    decisions.iter().map(line).collect()
}

fn ip(address: &str, until: i64) -> BlockEntry {
    entry(BlockKind::Ip, address, until)
}

fn pull(journal: &Journal, since: u64, now: i64) -> [Vec<String>; 2] {
    let changes = journal.since(since).unwrap();
    let (new, deleted) = stream(journal.view(), &changes, &everyone(), now);
    [shown(&new), shown(&deleted)]
}

#[test]
fn durations_are_written_as_go_writes_them() {
    for (millis, expected) in [
        (259_380_000, "72h3m0s"),
        (3_599_000, "59m59s"),
        (10_000, "10s"),
        (60_000, "1m0s"),
        (3_600_000, "1h0m0s"),
        (1_499, "1s"),
        (1_500, "2s"),
        (0, "0s"),
        (-400, "0s"),
        (-5_000, "-5s"),
        (-3_661_000, "-1h1m1s"),
        (i64::MAX, "2562047788015h12m56s"),
    ] {
        assert_eq!(go_duration(millis), expected, "{millis}");
    }
}

#[test]
fn a_decision_has_the_members_of_crowdsec() {
    let listed = entry(BlockKind::Cidr, "192.0.2.0/24", 10 * HOUR);
    let text = serde_json::to_string(&decision(&listed, HOUR)).unwrap();
    let id = decision(&listed, 0).id;
    let uuid = entry_id(&listed);
    assert_eq!(
        text,
        format!(
            r#"{{"duration":"9h0m0s","id":{id},"origin":"gatewatch","scenario":"gatewatch/stuffing","scope":"Range","type":"ban","value":"192.0.2.0/24","uuid":"{uuid}"}}"#
        )
    );
    assert!(id > 0 && id < 1 << 53);
    let mut extended = listed.clone();
    extended.expires_at += HOUR;
    assert_eq!(
        decision(&extended, 0).id,
        id,
        "the id stays while it is listed"
    );
    extended.created_at += 1;
    assert_ne!(decision(&extended, 0).id, id);
    let by_hand = BlockEntry {
        rule: None,
        ..listed
    };
    assert_eq!(decision(&by_hand, 0).scenario, "gatewatch/manual");
}

#[test]
fn pulls_tell_what_happened_in_between() {
    let mut journal = Journal::new(0);
    journal.apply(&[
        Edit::Listed(ip("192.0.2.1", HOUR)),
        Edit::Listed(ip("192.0.2.2", 2 * HOUR)),
    ]);
    assert_eq!(
        pull(&journal, 0, 0),
        [vec!["192.0.2.1 1h0m0s", "192.0.2.2 2h0m0s"], vec![]]
    );
    let seen = journal.view().sequence();
    assert_eq!(pull(&journal, seen, 0), [[""; 0], [""; 0]]);

    // More evidence is nothing new, a longer time is.
    let more = BlockEntry {
        revision: 2,
        updated_at: 9,
        ..ip("192.0.2.1", HOUR)
    };
    journal.apply(&[Edit::Listed(more), Edit::Listed(ip("192.0.2.2", 3 * HOUR))]);
    assert_eq!(pull(&journal, seen, 0), [vec!["192.0.2.2 3h0m0s"], vec![]]);

    let seen = journal.view().sequence();
    journal.apply(&[Edit::Ended(ip("192.0.2.2", 0).key)]);
    journal.expire(HOUR);
    assert_eq!(
        pull(&journal, seen, HOUR + 5_000),
        [vec![], vec!["192.0.2.1 -5s", "192.0.2.2 -1s"]]
    );

    // Withdrawn and listed anew for less between two pulls: bouncers that read `new` first would let it in.
    let seen = journal.view().sequence();
    let shorter = BlockEntry {
        created_at: HOUR,
        ..ip("192.0.2.3", 2 * HOUR)
    };
    journal.apply(&[Edit::Listed(ip("192.0.2.3", 9 * HOUR))]);
    let between = journal.view().sequence();
    journal.apply(&[Edit::Ended(shorter.key.clone()), Edit::Listed(shorter)]);
    assert_eq!(
        pull(&journal, between, HOUR),
        [vec!["192.0.2.3 1h0m0s"], vec![]]
    );
    assert_eq!(
        pull(&journal, seen, HOUR),
        [vec!["192.0.2.3 1h0m0s"], vec![]]
    );
    // Shortened without having ended.
    let between = journal.view().sequence();
    journal.apply(&[Edit::Listed(BlockEntry {
        created_at: HOUR,
        ..ip("192.0.2.3", 2 * HOUR - 60_000)
    })]);
    assert_eq!(
        pull(&journal, between, HOUR),
        [vec!["192.0.2.3 59m0s"], vec![]]
    );

    // No longer meant: ended, as bouncers see it.
    let seen = journal.view().sequence();
    let simulated = BlockEntry {
        simulated: true,
        ..ip("192.0.2.3", 2 * HOUR)
    };
    journal.apply(&[
        Edit::Listed(simulated),
        Edit::Listed(BlockEntry {
            simulated: true,
            ..ip("192.0.2.4", 2 * HOUR)
        }),
    ]);
    assert_eq!(pull(&journal, seen, HOUR), [vec![], vec!["192.0.2.3 -1s"]]);
}

#[test]
fn one_value_in_two_zones_is_one_decision_until_both_ended() {
    let mut journal = Journal::new(0);
    journal.apply(&[
        Edit::Listed(in_zone("a", BlockKind::Ip, "192.0.2.1", HOUR)),
        Edit::Listed(in_zone("b", BlockKind::Ip, "192.0.2.1", 2 * HOUR)),
    ]);
    assert_eq!(pull(&journal, 0, 0), [vec!["192.0.2.1 2h0m0s"], vec![]]);
    let all = Filter {
        dedup: false,
        ..everyone()
    };
    let (new, _) = startup(journal.view(), &[], &all, 0);
    assert_eq!(shown(&new), ["192.0.2.1 1h0m0s", "192.0.2.1 2h0m0s"]);
    let only = Filter {
        selection: Selection {
            zones: vec!["a".to_owned()],
            simulated: false,
        },
        ..everyone()
    };
    let (new, _) = startup(journal.view(), &[], &only, 0);
    assert_eq!(shown(&new), ["192.0.2.1 1h0m0s"]);

    let seen = journal.view().sequence();
    journal.apply(&[Edit::Ended(in_zone("b", BlockKind::Ip, "192.0.2.1", 0).key)]);
    // The other zone still lists it: told once more, with its time, and not taken back.
    assert_eq!(pull(&journal, seen, 0), [vec!["192.0.2.1 1h0m0s"], vec![]]);
    // Whoever knows decisions by their ids is told which one is over.
    let changes = journal.since(seen).unwrap();
    let (new, deleted) = stream(journal.view(), &changes, &all, 0);
    assert_eq!(
        (shown(&new), shown(&deleted)),
        (
            vec!["192.0.2.1 1h0m0s".to_owned()],
            vec!["192.0.2.1 -1s".to_owned()]
        )
    );
    assert_ne!(new[0].id, deleted[0].id);
    let seen = journal.view().sequence();
    journal.expire(HOUR);
    assert_eq!(pull(&journal, seen, HOUR), [vec![], vec!["192.0.2.1 -1s"]]);
    let kept = journal.since(0).unwrap();
    let (new, deleted) = startup(journal.view(), &kept, &everyone(), HOUR);
    assert_eq!(
        (shown(&new), shown(&deleted)),
        (vec![], vec!["192.0.2.1 -1s".to_owned()])
    );
}

#[test]
fn every_decision_that_ended_is_told_to_whoever_knows_decisions() {
    let mut journal = Journal::new(0);
    let relisted = BlockEntry {
        created_at: 5_000,
        ..ip("192.0.2.2", 2 * HOUR)
    };
    journal.apply(&[
        Edit::Listed(in_zone("a", BlockKind::Ip, "192.0.2.1", HOUR)),
        Edit::Listed(in_zone("b", BlockKind::Ip, "192.0.2.1", 2 * HOUR)),
        Edit::Listed(ip("192.0.2.2", 9 * HOUR)),
    ]);
    let seen = journal.view().sequence();
    journal.apply(&[
        Edit::Ended(in_zone("a", BlockKind::Ip, "192.0.2.1", 0).key),
        Edit::Ended(in_zone("b", BlockKind::Ip, "192.0.2.1", 0).key),
        Edit::Listed(relisted),
    ]);
    let changes = journal.since(seen).unwrap();
    let all = Filter {
        dedup: false,
        ..everyone()
    };
    let (new, deleted) = stream(journal.view(), &changes, &all, 0);
    assert_eq!(shown(&new), ["192.0.2.2 2h0m0s"]);
    let mut over = shown(&deleted);
    over.sort();
    assert_eq!(over, ["192.0.2.1 -1s", "192.0.2.1 -1s", "192.0.2.2 -1s"]);
    let (new, deleted) = stream(journal.view(), &changes, &everyone(), 0);
    assert_eq!(shown(&new), ["192.0.2.2 2h0m0s"]);
    assert_eq!(shown(&deleted), ["192.0.2.1 -1s"]);
}

#[test]
fn whoever_asks_for_simulated_entries_is_told_when_they_come_and_go() {
    let mut journal = Journal::new(0);
    let simulated = |until| BlockEntry {
        simulated: true,
        ..ip("192.0.2.1", until)
    };
    let filter = Filter {
        selection: Selection {
            zones: Vec::new(),
            simulated: true,
        },
        ..everyone()
    };
    journal.apply(&[Edit::Listed(simulated(HOUR))]);
    let pull = |journal: &Journal, since, now| {
        let changes = journal.since(since).unwrap();
        let (new, deleted) = stream(journal.view(), &changes, &filter, now);
        [shown(&new), shown(&deleted)]
    };
    assert_eq!(pull(&journal, 0, 0), [vec!["192.0.2.1 1h0m0s"], vec![]]);
    let asked = Filter {
        wanted: Wanted {
            network: Network::parse("192.0.2.1"),
            contains: true,
            ..Wanted::default()
        },
        ..filter.clone()
    };
    assert_eq!(
        shown(&live(journal.view(), &asked, 0)),
        ["192.0.2.1 1h0m0s"]
    );
    // Enforced from now on: still the one decision.
    let seen = journal.view().sequence();
    journal.apply(&[Edit::Listed(ip("192.0.2.1", 2 * HOUR))]);
    assert_eq!(pull(&journal, seen, 0), [vec!["192.0.2.1 2h0m0s"], vec![]]);
    journal.apply(&[Edit::Listed(simulated(2 * HOUR))]);
    let seen = journal.view().sequence();
    journal.expire(2 * HOUR);
    assert_eq!(
        pull(&journal, seen, 2 * HOUR + 5_000),
        [vec![], vec!["192.0.2.1 -5s"]]
    );
}

#[test]
fn a_page_is_a_part_in_the_order_of_ids() {
    let mut journal = Journal::new(0);
    journal.replace(
        (1..=5)
            .map(|last| ip(&format!("192.0.2.{last}"), HOUR))
            .collect(),
    );
    let all = live(journal.view(), &everyone(), 0);
    let mut ids: Vec<u64> = all.iter().map(|decision| decision.id).collect();
    assert_eq!(Page::default().of(all.clone()), all);
    ids.sort_unstable();
    for (after, skip, most, expected) in [
        (None, 0, Some(2), &ids[..2]),
        (None, 3, None, &ids[3..]),
        (Some(ids[1]), 1, Some(1), &ids[3..4]),
        (Some(ids[4]), 0, None, &[]),
        (None, 0, Some(0), &[]),
    ] {
        let page = Page { after, skip, most };
        let part = page.of(all.clone());
        let part: Vec<u64> = part.iter().map(|decision| decision.id).collect();
        assert_eq!(part, expected, "{page:?}");
    }
}

#[test]
fn filters_choose_scopes_origins_and_scenarios() {
    let mut journal = Journal::new(0);
    journal.replace(vec![
        ip("192.0.2.1", HOUR),
        entry(BlockKind::Cidr, "192.0.2.0/24", HOUR),
        entry(BlockKind::Asn, "64500", HOUR),
        BlockEntry {
            rule: None,
            ..entry(BlockKind::UserAgent, "curl/8.5.0", HOUR)
        },
    ]);
    let texts = |list: &[&str]| {
        list.iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    for (filter, expected) in [
        (
            everyone(),
            vec!["192.0.2.1", "192.0.2.0/24", "64500", "curl/8.5.0"],
        ),
        (
            Filter {
                scopes: texts(&["ip", "RANGE"]),
                ..everyone()
            },
            vec!["192.0.2.1", "192.0.2.0/24"],
        ),
        (
            Filter {
                scopes: texts(&["as"]),
                ..everyone()
            },
            vec!["64500"],
        ),
        (
            Filter {
                scopes: texts(&["Country"]),
                ..everyone()
            },
            vec![],
        ),
        (
            Filter {
                origins: texts(&["crowdsec"]),
                ..everyone()
            },
            vec![],
        ),
        (
            Filter {
                origins: texts(&["cscli", "gatewatch"]),
                scopes: texts(&["AS"]),
                ..everyone()
            },
            vec!["64500"],
        ),
        (
            Filter {
                containing: texts(&["MANUAL"]),
                ..everyone()
            },
            vec!["curl/8.5.0"],
        ),
        (
            Filter {
                not_containing: texts(&["stuff"]),
                ..everyone()
            },
            vec!["curl/8.5.0"],
        ),
    ] {
        let (new, _) = startup(journal.view(), &[], &filter, 0);
        let values: Vec<_> = new.iter().map(|decision| decision.value.as_str()).collect();
        assert_eq!(values, expected, "{filter:?}");
    }
}

#[test]
fn live_questions_are_answered_by_address_network_and_value() {
    let mut journal = Journal::new(0);
    journal.replace(vec![
        ip("192.0.2.1", HOUR),
        entry(BlockKind::Cidr, "192.0.2.0/24", HOUR),
        entry(BlockKind::Cidr, "192.0.0.0/16", 1),
        entry(BlockKind::Cidr, "2001:db8::/32", HOUR),
        in_zone("b", BlockKind::Ip, "192.0.2.1", 2 * HOUR),
        entry(BlockKind::UserAgent, "curl/8.5.0", HOUR),
    ]);
    let network = |text: &str, contains| Wanted {
        network: Network::parse(text),
        contains,
        ..Wanted::default()
    };
    let value = |text: &str| Wanted {
        value: Some(text.to_owned()),
        ..Wanted::default()
    };
    let kind = |text: &str| Wanted {
        remediation: Some(text.to_owned()),
        ..Wanted::default()
    };
    for (wanted, expected) in [
        (
            network("192.0.2.1", true),
            vec!["192.0.2.1 2h0m0s", "192.0.2.0/24 1h0m0s"],
        ),
        (
            network("::ffff:192.0.2.1", true),
            vec!["192.0.2.1 2h0m0s", "192.0.2.0/24 1h0m0s"],
        ),
        (network("192.0.2.9", true), vec!["192.0.2.0/24 1h0m0s"]),
        (network("198.51.100.1", true), vec![]),
        (network("192.0.2.0/25", true), vec!["192.0.2.0/24 1h0m0s"]),
        (network("192.0.2.0/23", true), vec![]),
        (
            network("192.0.0.0/16", false),
            vec!["192.0.2.1 2h0m0s", "192.0.2.0/24 1h0m0s"],
        ),
        (network("2001:db8::1", true), vec!["2001:db8::/32 1h0m0s"]),
        (network("::/0", false), vec!["2001:db8::/32 1h0m0s"]),
        (value("192.0.2.0/24"), vec!["192.0.2.0/24 1h0m0s"]),
        (value("192.0.2"), vec![]),
        (value(""), vec![]),
        (value("curl/8.5.0"), vec!["curl/8.5.0 1h0m0s"]),
        (value("CURL/8.5.0"), vec![]),
        (kind(""), vec![]),
        (kind("captcha"), vec![]),
        (
            kind("ban"),
            vec![
                "192.0.2.1 2h0m0s",
                "192.0.2.0/24 1h0m0s",
                "2001:db8::/32 1h0m0s",
                "curl/8.5.0 1h0m0s",
            ],
        ),
    ] {
        let filter = Filter {
            wanted,
            ..everyone()
        };
        let found = live(journal.view(), &filter, 1);
        assert_eq!(shown(&found), expected, "{:?}", filter.wanted);
    }
}
