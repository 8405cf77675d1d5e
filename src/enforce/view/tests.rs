//! What a view finds, what it hides, and what it leaves to others.

use super::*;
use crate::enforce::fixtures::{entry, in_zone};

fn view(entries: &[BlockEntry]) -> View {
    let mut view = View::empty(0);
    for entry in entries {
        view.insert(&Arc::new(entry.clone()));
    }
    view
}

fn refused(view: &View, asked: &Asked<'_>, now: i64) -> Option<String> {
    view.refuses(asked, now)
        .map(|entry| entry.key.entity().to_owned())
}

fn from(address: &str) -> Asked<'static> {
    Asked {
        zone: "z",
        address: address.parse().ok(),
        ..Asked::default()
    }
}

#[test]
fn the_narrowest_network_that_still_holds_refuses() {
    let view = view(&[
        entry(BlockKind::Cidr, "192.0.2.0/24", 100),
        entry(BlockKind::Cidr, "192.0.2.128/25", 50),
        entry(BlockKind::Ip, "192.0.2.200", 20),
        entry(BlockKind::Cidr, "2001:db8::/32", 100),
        entry(BlockKind::Cidr, "::ffff:198.51.100.0/120", 100),
        entry(BlockKind::Cidr, "::/0", 10),
    ]);
    for (address, now, expected) in [
        ("192.0.2.200", 0, Some("192.0.2.200")),
        ("192.0.2.200", 20, Some("192.0.2.128/25")),
        ("192.0.2.200", 50, Some("192.0.2.0/24")),
        ("192.0.2.200", 100, None),
        ("192.0.2.1", 0, Some("192.0.2.0/24")),
        ("::ffff:192.0.2.1", 0, Some("192.0.2.0/24")),
        ("198.51.100.9", 0, Some("198.51.100.0/24")),
        ("192.0.3.1", 0, None),
        ("2001:db8::1", 0, Some("2001:db8::/32")),
        ("2001:db9::1", 0, Some("::/0")),
        ("2001:db9::1", 10, None),
    ] {
        let found = refused(&view, &from(address), now);
        assert_eq!(found.as_deref(), expected, "{address} at {now}");
    }
}

#[test]
fn a_network_that_is_listed_twice_holds_until_both_ended() {
    let all = [
        entry(BlockKind::Ip, "192.0.2.1", 100),
        entry(BlockKind::Cidr, "192.0.2.1/32", 100),
    ];
    for first in 0..all.len() {
        let mut view = view(&all);
        for (count, at) in (0..all.len())
            .map(|step| (first + step) % all.len())
            .enumerate()
        {
            assert!(refused(&view, &from("192.0.2.1"), 0).is_some(), "{count}");
            view.remove(&all[at].key);
        }
        assert_eq!(refused(&view, &from("192.0.2.1"), 0), None);
        assert!(view.is_empty() && view.zones.is_empty());
    }
}

#[test]
fn every_kind_is_found_in_its_zone_only() {
    let hash = "00112233445566778899aabbccddeeff";
    let certificate = "ab".repeat(32);
    let entries = [
        entry(BlockKind::Asn, "64500", 100),
        entry(BlockKind::Session, hash, 100),
        entry(BlockKind::Token, &hash.replace('0', "1"), 100),
        entry(BlockKind::Certificate, &certificate, 100),
        entry(BlockKind::UserAgent, "curl/8.5.0", 100),
        in_zone("other", BlockKind::Ip, "192.0.2.1", 100),
    ];
    let view = view(&entries);
    let bytes: Hash = bytes(hash);
    let asked = |zone| Asked {
        zone,
        ..Asked::default()
    };
    let cases = [
        (
            Asked {
                asn: Some(64500),
                ..asked("z")
            },
            Some("64500"),
        ),
        (
            Asked {
                asn: Some(0),
                ..asked("z")
            },
            None,
        ),
        (
            Asked {
                sessions: &[bytes],
                ..asked("z")
            },
            Some(hash),
        ),
        (
            Asked {
                tokens: &[bytes],
                ..asked("z")
            },
            None,
        ),
        (
            Asked {
                sessions: &[[0; 16], bytes],
                ..asked("z")
            },
            Some(hash),
        ),
        (
            Asked {
                certificate: Some([0xab; 32]),
                ..asked("z")
            },
            Some(certificate.as_str()),
        ),
        (
            Asked {
                user_agent: Some("curl/8.5.0"),
                ..asked("z")
            },
            Some("curl/8.5.0"),
        ),
        (
            Asked {
                user_agent: Some("Curl/8.5.0"),
                ..asked("z")
            },
            None,
        ),
        (
            Asked {
                asn: Some(64500),
                ..asked("other")
            },
            None,
        ),
        (from("192.0.2.1"), None),
        (
            Asked {
                zone: "other",
                ..from("192.0.2.1")
            },
            Some("192.0.2.1"),
        ),
        (
            Asked {
                zone: "none",
                ..from("192.0.2.1")
            },
            None,
        ),
    ];
    for (asked, expected) in cases {
        assert_eq!(refused(&view, &asked, 0).as_deref(), expected, "{asked:?}");
        assert_eq!(refused(&view, &asked, 100), None, "{asked:?} at its end");
    }
    let mut view = view;
    for entry in &entries {
        view.remove(&entry.key);
    }
    assert!(view.is_empty() && view.zones.is_empty());
}

#[test]
fn simulated_entries_refuse_nobody_and_hide_nothing() {
    let simulated = BlockEntry {
        simulated: true,
        ..entry(BlockKind::Ip, "192.0.2.1", 100)
    };
    let network = entry(BlockKind::Cidr, "192.0.2.0/24", 100);
    let mut view = view(&[network, simulated.clone()]);
    assert_eq!(
        refused(&view, &from("192.0.2.1"), 0).as_deref(),
        Some("192.0.2.0/24")
    );
    let count = |view: &View, simulated| {
        let selection = Selection {
            zones: Vec::new(),
            simulated,
        };
        view.select(&selection, 0).count()
    };
    assert_eq!((count(&view, false), count(&view, true)), (1, 2));
    let meant = BlockEntry {
        simulated: false,
        ..simulated.clone()
    };
    view.insert(&Arc::new(meant));
    assert_eq!(
        refused(&view, &from("192.0.2.1"), 0).as_deref(),
        Some("192.0.2.1")
    );
    view.insert(&Arc::new(simulated));
    assert_eq!(
        refused(&view, &from("192.0.2.1"), 0).as_deref(),
        Some("192.0.2.0/24")
    );
    assert_eq!((count(&view, false), count(&view, true)), (1, 2));
}

#[test]
fn what_somebody_holds_does_not_change() {
    let mut view = view(&[entry(BlockKind::Ip, "192.0.2.1", 100)]);
    let held = view.clone();
    view.remove(&held.entries.keys().next().unwrap().clone());
    view.insert(&Arc::new(entry(BlockKind::Ip, "192.0.2.2", 100)));
    assert_eq!((held.sequence(), view.sequence()), (1, 3));
    assert!(refused(&held, &from("192.0.2.1"), 0).is_some());
    assert!(refused(&held, &from("192.0.2.2"), 0).is_none());
    assert!(refused(&view, &from("192.0.2.1"), 0).is_none());
}
