//! Tallies of cases written by hand.

use super::*;

fn at(seconds: i64) -> EventTime {
    EventTime::from_seconds(1_700_000_000 + seconds).unwrap()
}

fn case(seconds: i64, status: Option<u16>, standing: Standing) -> Case<'static> {
    Case {
        at: at(seconds),
        id: Some("req"),
        method: "GET",
        host: "api.example",
        endpoint: "/orders",
        status,
        standing,
    }
}

fn key(kind: BlockKind, entity: &str) -> BlockKey {
    BlockKey::new("z", kind, entity).unwrap()
}

fn tally() -> Tally {
    Tally::new(Limits::shared_by(1, 3), &[])
}

fn finding(outcome: Outcome, already: bool) -> Finding<'static> {
    let word = if outcome == Outcome::Matches {
        "fires"
    } else {
        "quiet"
    };
    Finding {
        outcome,
        word,
        reasons: &[],
        already,
        entities: &[],
        listed: &[],
    }
}

#[test]
fn every_exchange_is_counted_once_by_its_outcome() {
    use Outcome::{Matches, NotCaptured, NotCovered, Passes};
    let mut tally = tally();
    for (outcome, already) in [
        (Matches, false),
        (Matches, true),
        (Matches, true),
        (Passes, false),
        (Passes, true),
        (NotCaptured, true),
        (NotCovered, false),
        (NotCovered, true),
    ] {
        tally.add(
            &case(0, Some(200), Standing::Unknown),
            &finding(outcome, already),
        );
    }
    assert_eq!((tally.judged, tally.matches), (5, 3));
    assert_eq!((tally.not_captured, tally.not_covered), (1, 2));
    assert_eq!((tally.newly, tally.already, tally.no_longer), (1, 2, 2));
    assert_eq!(tally.words, BTreeMap::from([("fires", 3), ("quiet", 5)]));
    let (name, row) = tally.endpoints.top(5)[0];
    assert_eq!(
        (name, row.judged, row.matches),
        ("GET api.example/orders", 5, 3)
    );
}

#[test]
fn a_likely_false_positive_is_a_success_for_a_valid_session() {
    use Standing::{Absent, Refused, Unknown, Valid};
    let mut tally = tally();
    for (status, standing) in [
        (Some(200), Valid),
        (Some(299), Valid),
        (Some(300), Valid),
        (Some(199), Valid),
        (None, Valid),
        (Some(204), Refused),
        (Some(204), Absent),
        (Some(204), Unknown),
        (Some(403), Absent),
    ] {
        tally.add(
            &case(0, status, standing),
            &finding(Outcome::Matches, false),
        );
        tally.add(&case(0, status, standing), &finding(Outcome::Passes, false));
    }
    let expected = Successful {
        total: 5,
        valid: 2,
        refused: 1,
        absent: 1,
        unknown: 1,
    };
    assert_eq!(tally.successful, expected);
    assert_eq!(tally.endpoints.top(1)[0].1.probably_wanted, 2);
}

#[test]
fn entities_are_ranked_with_the_times_of_their_matches() {
    let mut tally = tally();
    let (a, b, c) = ("192.0.2.1", "192.0.2.2", "192.0.2.3");
    for (seconds, ip) in [(9, b), (5, b), (7, a), (1, c), (8, a), (7, b)] {
        let entities = [(BlockKind::Ip, ip.to_owned())];
        let listed = [key(BlockKind::Ip, ip)];
        let found = Finding {
            entities: &entities,
            listed: &listed,
            ..finding(Outcome::Matches, false)
        };
        tally.add(&case(seconds, Some(200), Standing::Valid), &found);
    }
    let top = tally.entities[&BlockKind::Ip].top(2);
    let names: Vec<_> = top.iter().map(|(name, row)| (*name, row.matches)).collect();
    assert_eq!(names, [(b, 3), (a, 2)]);
    assert_eq!((top[0].1.first_at, top[0].1.last_at), (at(5), at(9)));
    assert_eq!(tally.entities[&BlockKind::Ip].matching(), 3);
    assert_eq!(tally.listed.top(1)[0].0, "ip/192.0.2.2");
}

#[test]
fn an_endpoint_without_a_match_is_no_finding() {
    let mut tally = tally();
    tally.add(
        &case(3, None, Standing::Valid),
        &finding(Outcome::Passes, false),
    );
    assert_eq!(tally.endpoints.top(9), []);
    tally.add(
        &case(5, None, Standing::Valid),
        &finding(Outcome::Matches, false),
    );
    tally.add(
        &case(1, None, Standing::Valid),
        &finding(Outcome::Passes, false),
    );
    let (_, row) = tally.endpoints.top(9)[0];
    assert_eq!((row.judged, row.matches, row.first_at), (3, 1, at(5)));
}

#[test]
fn the_allow_list_wins() {
    let allow = [Network::parse("192.0.2.0/24").unwrap()];
    let mut tally = Tally::new(Limits::shared_by(1, 0), &allow);
    for (kind, entity) in [
        (BlockKind::Ip, "192.0.2.9"),
        (BlockKind::Cidr, "192.0.0.0/16"),
        (BlockKind::Ip, "192.0.3.9"),
        (BlockKind::UserAgent, "192.0.2.9"),
    ] {
        let listed = [key(kind, entity)];
        let found = Finding {
            listed: &listed,
            ..finding(Outcome::Matches, false)
        };
        tally.add(&case(0, None, Standing::Valid), &found);
    }
    let names: Vec<_> = tally.listed.top(9).iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["ip/192.0.3.9", "user_agent/192.0.2.9"]);
    assert_eq!((tally.exempt, tally.samples.chosen().len()), (2, 0));
}

#[test]
fn what_comes_after_a_cap_is_counted_and_changes_nothing() {
    let limits = Limits {
        entities: 2,
        ..Limits::shared_by(1, 0)
    };
    let mut tally = Tally::new(limits, &[]);
    for ip in ["a", "b", "c", "a", "d", "c"] {
        let entities = [(BlockKind::Ip, ip.to_owned())];
        let found = Finding {
            entities: &entities,
            ..finding(Outcome::Matches, false)
        };
        tally.add(&case(0, None, Standing::Valid), &found);
    }
    let ranking = &tally.entities[&BlockKind::Ip];
    let names: Vec<_> = ranking
        .top(9)
        .iter()
        .map(|(name, row)| (*name, row.matches))
        .collect();
    assert_eq!((names, ranking.overflow), (vec![("a", 2), ("b", 1)], 3));
    assert_eq!(tally.matches, 6);
}

#[test]
fn samples_do_not_depend_on_the_order_and_show_likely_false_positives_first() {
    let standing = |number: i64| {
        if number % 20 == 0 {
            Standing::Valid
        } else {
            Standing::Absent
        }
    };
    let chosen = |numbers: &mut dyn Iterator<Item = i64>| {
        let mut tally = Tally::new(Limits::shared_by(1, 7), &[]);
        for number in numbers {
            let case = case(number, Some(200), standing(number));
            tally.add(&case, &finding(Outcome::Matches, false));
        }
        let chosen = tally.samples.chosen();
        let chosen = chosen.into_iter().cloned();
        chosen.collect::<Vec<_>>()
    };
    let forwards = chosen(&mut (0..100));
    assert_eq!(forwards, chosen(&mut (0..100).rev()));
    assert_eq!(forwards.len(), 7);
    // All five of them, and two others; in the order of time.
    assert_eq!(
        forwards
            .iter()
            .filter(|sample| sample.probably_wanted)
            .count(),
        5
    );
    assert!(forwards.is_sorted_by_key(|sample| sample.at));
}
