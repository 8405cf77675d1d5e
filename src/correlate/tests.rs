//! The join, record by record; and a seeded check that every rebuild ends in the same join.

use super::*;

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Joined(u64, u64),
    Unanswered(u64),
    Orphan(u64),
}

fn at(seconds: i64) -> EventTime {
    EventTime::from_seconds(seconds).unwrap()
}

/// Applies (id, side, event time) records at offsets 0, 1, 2 …
fn run(limits: Limits, records: &[(&str, char, i64)]) -> (Vec<Seen>, Correlator) {
    let mut join = Correlator::new(limits, 0, None);
    let mut seen = Vec::new();
    for (offset, record) in (0..).zip(records) {
        step(&mut join, offset, *record, &mut seen);
    }
    (seen, join)
}

fn step(
    join: &mut Correlator,
    offset: u64,
    (id, side, time): (&str, char, i64),
    seen: &mut Vec<Seen>,
) {
    let mut emit = |emission: Emission<'_>| {
        seen.push(match emission {
            Emission::Joined(half) => Seen::Joined(half.offset, offset),
            Emission::Unanswered(half) => Seen::Unanswered(half.offset),
            Emission::Orphan => Seen::Orphan(offset),
        });
    };
    if side == 'x' {
        join.pass(at(time), offset + 1, &mut emit);
    } else {
        let side = if side == 'q' {
            Side::Request
        } else {
            Side::Response
        };
        join.apply(
            id,
            side,
            at(time),
            id.as_bytes(),
            (offset, offset + 1),
            &mut emit,
        );
    }
}

#[test]
fn either_half_may_come_first() {
    let (seen, join) = run(
        Limits::default(),
        &[("a", 'q', 1), ("b", 's', 1), ("b", 'q', 1), ("a", 's', 2)],
    );
    assert_eq!(seen, [Seen::Joined(1, 2), Seen::Joined(0, 3)]);
    assert_eq!(join.open(), 0);
}

#[test]
fn a_pair_delivered_late_joins_on_the_stream_clock() {
    let (seen, _) = run(
        Limits::default(),
        &[("", 'x', 5000), ("a", 'q', 1), ("a", 's', 2)],
    );
    assert_eq!(seen, [Seen::Joined(1, 2)]);
}

#[test]
fn a_half_expires_when_more_than_the_timeout_behind() {
    let (seen, _) = run(
        Limits::default(),
        &[("a", 'q', 0), ("", 'x', 30), ("a", 's', 30)],
    );
    assert_eq!(
        seen,
        [Seen::Joined(0, 2)],
        "exactly the timeout is not more"
    );
    let (seen, _) = run(
        Limits::default(),
        &[("a", 'q', 0), ("", 'x', 31), ("a", 's', 31)],
    );
    assert_eq!(seen, [Seen::Unanswered(0)]);
    let (seen, _) = run(Limits::default(), &[("a", 'q', 0), ("a", 's', 99)]);
    assert_eq!(seen, [Seen::Joined(0, 1)], "join comes before the clock");
}

#[test]
fn a_second_request_lets_the_first_go() {
    let (seen, _) = run(
        Limits::default(),
        &[("a", 'q', 0), ("a", 'q', 1), ("a", 's', 2)],
    );
    assert_eq!(seen, [Seen::Unanswered(0), Seen::Joined(1, 2)]);
    let (seen, _) = run(
        Limits::default(),
        &[("a", 's', 0), ("a", 's', 1), ("a", 'q', 2)],
    );
    assert_eq!(seen, [Seen::Orphan(1), Seen::Joined(1, 2)]);
}

#[test]
fn bounds_let_the_oldest_go() {
    let few = Limits {
        max_open: 2,
        ..Limits::default()
    };
    let (seen, _) = run(
        few,
        &[("a", 'q', 0), ("b", 's', 0), ("c", 'q', 0), ("d", 'q', 0)],
    );
    assert_eq!(seen, [Seen::Unanswered(0), Seen::Orphan(3)]);
    let small = Limits {
        max_open_bytes: 5,
        ..Limits::default()
    };
    let (seen, _) = run(small, &[("aaa", 'q', 0), ("bbb", 'q', 0)]);
    assert_eq!(seen, [Seen::Unanswered(0)]);
    let short = Limits {
        max_span: 2,
        ..Limits::default()
    };
    let (seen, join) = run(
        short,
        &[("a", 'q', 0), ("", 'x', 0), ("", 'x', 0), ("", 'x', 0)],
    );
    assert_eq!((seen, join.open()), (vec![Seen::Unanswered(0)], 0));
}

#[test]
fn a_rebuild_at_any_record_goes_on_like_the_original() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |bound: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };
    let ids: Vec<String> = (0..9).map(|n| format!("id{n}")).collect();
    let limits = Limits {
        max_open: 6,
        max_span: 40,
        ..Limits::default()
    };
    for _ in 0..200 {
        let mut clock = 100;
        let records: Vec<(&str, char, i64)> = (0..60)
            .map(|_| {
                clock += i64::try_from(next(9)).unwrap();
                let late = if next(10) == 0 { 90 } else { 0 };
                let side = *['q', 's', 'q', 's', 'x']
                    .get(usize::try_from(next(5)).unwrap())
                    .unwrap();
                (
                    ids[usize::try_from(next(9)).unwrap()].as_str(),
                    side,
                    clock - late,
                )
            })
            .collect();
        let cut = usize::try_from(next(60)).unwrap();
        let (_, original) = run(limits, &records[..cut]);
        let state = original.state();
        let mut rebuilt = Correlator::new(limits, state.from, state.clock);
        let (mut scratch, mut expected) = (Vec::new(), Vec::new());
        let from = usize::try_from(state.from).unwrap();
        for (position, record) in (state.from..).zip(&records[from..cut]) {
            if state.closed.contains(&position) {
                // A finished record still moved the clock.
                rebuilt.pass(at(record.2), position + 1, &mut |_| ());
            } else {
                step(&mut rebuilt, position, *record, &mut scratch);
            }
        }
        let mut original = original;
        let mut seen = Vec::new();
        for (offset, record) in (cut as u64..).zip(&records[cut..]) {
            step(&mut original, offset, *record, &mut expected);
            step(&mut rebuilt, offset, *record, &mut seen);
        }
        assert_eq!(seen, expected);
        assert_eq!(rebuilt.state().from, original.state().from);
    }
}
