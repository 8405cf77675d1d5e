//! Thresholds over batches as a flush makes them, in any order and cut.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, MapBuilder, MapFieldNames, StringArray, StringBuilder, TimestampMillisecondArray,
    UInt8Builder, UInt16Builder, UInt64Array,
};

use super::series::{Sketch, distinct};
use super::*;

/// (minute, kind, entity, signal, requests, endpoints, addresses); the last two are numbers of registers.
pub(super) type Row<'r> = (i64, &'r str, &'r str, &'r str, u64, u16, u16);

fn sketches(rows: &[Row<'_>], of: impl Fn(&Row<'_>) -> u16) -> ArrayRef {
    let names = MapFieldNames {
        entry: "entries".to_owned(),
        key: "key".to_owned(),
        value: "value".to_owned(),
    };
    let mut builder = MapBuilder::new(Some(names), UInt16Builder::new(), UInt8Builder::new());
    for row in rows {
        for register in 0..of(row) {
            builder.keys().append_value(register);
            builder.values().append_value(1);
        }
        builder.append(true).unwrap();
    }
    Arc::new(builder.finish())
}

pub(super) fn batch(rows: &[Row<'_>]) -> RecordBatch {
    let minutes = rows.iter().map(|row| row.0 * MINUTE_MILLIS);
    let times = TimestampMillisecondArray::from_iter_values(minutes).with_timezone("UTC");
    let text = |of: fn(&Row<'_>) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
    };
    RecordBatch::try_from_iter([
        ("window_start", Arc::new(times) as ArrayRef),
        ("zone", text(|_| "z".to_owned())),
        ("kind", text(|row| row.1.to_owned())),
        ("entity", text(|row| row.2.to_owned())),
        ("signal", text(|row| row.3.to_owned())),
        (
            "requests",
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.4))),
        ),
        ("endpoints", sketches(rows, |row| row.5)),
        ("addresses", sketches(rows, |row| row.6)),
    ])
    .unwrap()
}

pub(super) fn threshold(name: &str, count: u64, minutes: i64) -> Threshold {
    Threshold {
        name: name.to_owned(),
        signal: "refused".to_owned(),
        kind: BlockKind::Ip,
        count,
        within: minutes * MINUTE_MILLIS,
        distinct_endpoints: 0,
        distinct_addresses: 0,
        duration: 1,
        blocks: false,
    }
}

/// Signals said in all, by threshold.
fn totals(crossings: &[Crossing]) -> BTreeMap<usize, u64> {
    let mut totals = BTreeMap::new();
    for crossing in crossings {
        *totals.entry(crossing.threshold).or_default() += crossing.signals;
    }
    totals
}

/// What is tried, the threshold, (minute, requests, endpoints, addresses), signals said.
type Case<'c> = (&'c str, Threshold, &'c [(i64, u64, u16, u16)], u64);

#[test]
fn a_threshold_fires_in_its_window_and_says_what_happened_there() {
    const IP: &str = "203.0.113.7";
    let wide = |endpoints, addresses| Threshold {
        distinct_endpoints: endpoints,
        distinct_addresses: addresses,
        ..threshold("t", 10, 5)
    };
    let cases: [Case<'_>; 13] = [
        (
            "enough in one minute",
            threshold("t", 10, 5),
            &[(7, 10, 1, 1)],
            10,
        ),
        ("one too few", threshold("t", 10, 5), &[(7, 9, 1, 1)], 0),
        (
            "enough together",
            threshold("t", 10, 5),
            &[(3, 4, 1, 1), (7, 6, 1, 1)],
            10,
        ),
        (
            "a minute too far apart",
            threshold("t", 10, 5),
            &[(2, 4, 1, 1), (7, 6, 1, 1)],
            0,
        ),
        (
            "what came long before does not count",
            threshold("t", 10, 5),
            &[(1, 3, 1, 1), (20, 12, 1, 1)],
            12,
        ),
        (
            "nor what comes long after",
            threshold("t", 10, 5),
            &[(1, 12, 1, 1), (20, 3, 1, 1)],
            12,
        ),
        (
            "windows that overlap count a minute once",
            threshold("t", 10, 5),
            &[(1, 6, 1, 1), (3, 6, 1, 1), (6, 6, 1, 1)],
            18,
        ),
        (
            "a window of one minute",
            threshold("t", 10, 1),
            &[(1, 9, 1, 1), (2, 9, 1, 1)],
            0,
        ),
        (
            "once is enough where one is",
            threshold("t", 1, 1),
            &[(1, 1, 1, 1), (2, 1, 1, 1)],
            2,
        ),
        (
            "enough endpoints",
            wide(3, 0),
            &[(1, 5, 3, 1), (2, 5, 1, 1)],
            10,
        ),
        (
            "too few endpoints",
            wide(3, 0),
            &[(1, 5, 2, 1), (2, 5, 1, 1)],
            0,
        ),
        ("enough addresses", wide(0, 4), &[(1, 10, 1, 4)], 10),
        ("too few addresses", wide(0, 4), &[(1, 99, 9, 3)], 0),
    ];
    for (what, threshold, minutes, expected) in cases {
        let rows: Vec<Row<'_>> = minutes
            .iter()
            .map(|(minute, requests, endpoints, addresses)| {
                (
                    *minute, "ip", IP, "refused", *requests, *endpoints, *addresses,
                )
            })
            .collect();
        let mut watch = Watch::new(vec![threshold], BTreeMap::new());
        watch.add(&batch(&rows));
        let (crossings, changed) = watch.look();
        assert_eq!(
            totals(&crossings).get(&0).copied().unwrap_or_default(),
            expected,
            "{what}"
        );
        assert_eq!(crossings.len(), changed.len(), "{what}");
        assert_eq!(watch.look().0, [], "{what}: it is said once");
    }
}

#[test]
fn only_the_signal_and_kind_that_are_meant_count() {
    let rows: [Row<'_>; 5] = [
        (1, "ip", "203.0.113.7", "refused", 5, 1, 1),
        (1, "ip", "203.0.113.7", "violation", 50, 1, 1),
        (
            1,
            "session",
            "0123456789abcdef0123456789abcdef",
            "refused",
            50,
            1,
            1,
        ),
        (1, "ip", "203.0.113.8", "refused", 50, 1, 1),
        (1, "ip", crate::model::OVERFLOW, "refused", 500, 1, 1),
    ];
    let mut watch = Watch::new(vec![threshold("t", 10, 5)], BTreeMap::new());
    watch.add(&batch(&rows));
    let (crossings, _) = watch.look();
    let keys: Vec<String> = crossings
        .iter()
        .map(|crossing| crossing.key.to_string())
        .collect();
    assert_eq!(keys, ["z/ip/203.0.113.8"]);
}

/// However events are ordered and cut into flushes, whether minutes are added or replaced by merged ones, and wherever the
/// process is started anew: the same evidence in the end.
#[test]
fn the_same_events_say_the_same_however_they_arrive() {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |bound: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };
    let thresholds = vec![threshold("few", 6, 3), threshold("many", 20, 10)];
    for round in 0..60 {
        // One event each: the minute.
        let mut events: Vec<i64> = (0..80).map(|_| i64::try_from(next(60)).unwrap()).collect();
        let minutes = |events: &[i64]| -> BTreeMap<i64, u64> {
            let mut minutes = BTreeMap::new();
            for minute in events {
                *minutes.entry(*minute).or_default() += 1;
            }
            minutes
        };
        let rows = |minutes: &BTreeMap<i64, u64>| -> RecordBatch {
            let rows: Vec<Row<'_>> = minutes
                .iter()
                .map(|(minute, count)| (*minute, "ip", "203.0.113.7", "refused", *count, 1, 1))
                .collect();
            batch(&rows)
        };
        let mut whole = Watch::new(thresholds.clone(), BTreeMap::new());
        whole.add(&rows(&minutes(&events)));
        let expected = totals(&whole.look().0);
        for at in (1..events.len()).rev() {
            events.swap(at, usize::try_from(next(at as u64 + 1)).unwrap());
        }
        for merged in [false, true] {
            let mut watch = Watch::new(thresholds.clone(), BTreeMap::new());
            let mut said = Vec::new();
            let mut at = 0;
            while at < events.len() {
                let to = (at + 1 + usize::try_from(next(9)).unwrap()).min(events.len());
                if merged {
                    watch.add_merged(&[rows(&minutes(&events[..to]))]);
                } else {
                    watch.add(&rows(&minutes(&events[at..to])));
                }
                said.extend(watch.look().0);
                if next(5) == 0 {
                    // Started anew, with the windows as they were stored and what was said.
                    let kept = watch
                        .all_said()
                        .map(|(key, said)| (key.clone(), said.clone()));
                    watch = Watch::new(thresholds.clone(), kept.collect());
                    watch.add_merged(&[rows(&minutes(&events[..to]))]);
                    let again = watch.look().0;
                    assert_eq!(again, [], "round {round}: said twice");
                }
                at = to;
            }
            assert_eq!(totals(&said), expected, "round {round}, merged: {merged}");
        }
    }
}

#[test]
fn memory_is_bounded() {
    let mut watch = Watch::new(vec![threshold("t", 1, 1)], BTreeMap::new());
    watch.most = 100;
    for number in 0..500_i64 {
        let entity = format!("203.0.{}.{}", number / 250, number % 250);
        watch.add(&batch(&[(number, "ip", &entity, "refused", 1, 1, 1)]));
        let (crossings, changed) = watch.look();
        assert_eq!(crossings.len(), 1);
        assert!(watch.entities.len() <= 100);
        assert_eq!(
            watch.all_said().count(),
            watch.entities.len(),
            "{changed:?}"
        );
    }
    // Minutes that are too old to be counted again are forgotten with what was said about them.
    let mut watch = Watch::new(vec![threshold("t", 1, 1)], BTreeMap::new());
    for minute in 0..300 {
        watch.add(&batch(&[(minute, "ip", "203.0.113.7", "refused", 1, 1, 1)]));
        watch.look();
    }
    let key = BlockKey::new("z", BlockKind::Ip, "203.0.113.7").unwrap();
    assert_eq!(watch.said(&key).unwrap()["t"].len(), 62);
}

#[test]
fn distinct_values_are_estimated() {
    for used in [0_u16, 1, 2, 5, 10, 40] {
        let sketch: Sketch = (0..used).map(|register| (register, 1)).collect();
        assert_eq!(distinct(&sketch), u64::from(used));
    }
    // Two thousand values fill 1,278 registers on average: 2,048 × (1 − e^(−2000/2048)).
    let sketch: Sketch = (0..1_278).map(|register| (register, 1)).collect();
    assert!(distinct(&sketch).abs_diff(2_000) < 10);
    let full: Sketch = (0..2_048).map(|register| (register, 5)).collect();
    assert!(distinct(&full) > 40_000);
}

#[test]
fn defaults_only_log_and_have_names_of_their_own() {
    let defaults = defaults::thresholds();
    let names: BTreeSet<&str> = defaults.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names.len(), defaults.len());
    assert!(
        defaults
            .iter()
            .all(|one| !one.blocks && one.count > 0 && one.within > 0)
    );
}

/// A session has a row for each operation; they are one count, however the store cuts its answer.
#[test]
fn merged_rows_of_one_minute_are_one_count() {
    let rows: [Row<'_>; 3] = [
        (1, "ip", "203.0.113.7", "refused", 4, 1, 1),
        (1, "ip", "203.0.113.7", "refused", 4, 1, 1),
        (1, "ip", "203.0.113.7", "refused", 4, 1, 1),
    ];
    let mut watch = Watch::new(vec![threshold("t", 10, 5)], BTreeMap::new());
    watch.add_merged(&[batch(&rows[..1]), batch(&rows[1..])]);
    assert_eq!(totals(&watch.look().0), BTreeMap::from([(0, 12)]));
    // The same again is nothing new, nor is a replica that is behind.
    watch.add_merged(&[batch(&rows)]);
    watch.add_merged(&[batch(&rows[..2])]);
    assert_eq!(watch.look().0, []);
    watch.add_merged(&[batch(&rows), batch(&rows[..1])]);
    assert_eq!(totals(&watch.look().0), BTreeMap::from([(0, 4)]));
}

/// Whoever comes back after everything was forgotten is another crossing, and not a repetition of the first.
#[test]
fn what_is_said_again_is_told_from_what_is_new() {
    let mut watch = Watch::new(vec![threshold("t", 10, 5)], BTreeMap::new());
    let mut minutes = Vec::new();
    for minute in [1, 500] {
        watch.add_merged(&[batch(&[(minute, "ip", "203.0.113.7", "refused", 10, 1, 1)])]);
        let (crossings, _) = watch.look();
        assert_eq!(totals(&crossings), BTreeMap::from([(0, 10)]));
        minutes.extend(crossings.into_iter().map(|crossing| crossing.minutes));
    }
    let expected = [1, 500].map(|minute| BTreeMap::from([(minute * MINUTE_MILLIS, 10)]));
    assert_eq!(minutes, expected);
}

#[test]
fn samples_come_from_the_minutes_that_count() {
    let rows: [Row<'_>; 3] = [
        (1, "ip", "203.0.113.7", "refused", 3, 1, 1),
        (20, "ip", "203.0.113.7", "refused", 6, 1, 1),
        (21, "ip", "203.0.113.7", "refused", 6, 1, 1),
    ];
    let mut ids: Vec<Option<Vec<(u16, &str)>>> = vec![
        Some(vec![(Samples::place("early").unwrap(), "early")]),
        Some(vec![(Samples::place("a").unwrap(), "a")]),
        Some(vec![(Samples::place("b").unwrap(), "b")]),
    ];
    for (known, expected) in [(true, vec!["a", "b"]), (false, vec!["b"])] {
        if !known {
            // As rows of an earlier version are.
            ids[1] = None;
        }
        let mut builder = MapBuilder::new(None, UInt16Builder::new(), StringBuilder::new());
        for row in &ids {
            for (place, id) in row.iter().flatten() {
                builder.keys().append_value(*place);
                builder.values().append_value(id);
            }
            builder.append(row.is_some()).unwrap();
        }
        let plain = batch(&rows);
        let mut columns: Vec<(String, ArrayRef)> = Vec::new();
        for (field, column) in plain.schema().fields().iter().zip(plain.columns()) {
            columns.push((field.name().clone(), Arc::clone(column)));
        }
        columns.push(("samples".to_owned(), Arc::new(builder.finish())));
        let mut watch = Watch::new(vec![threshold("t", 10, 5)], BTreeMap::new());
        watch.add(&RecordBatch::try_from_iter(columns).unwrap());
        let (crossings, _) = watch.look();
        assert_eq!(crossings[0].samples.ids(), expected);
    }
}

#[test]
fn hours_that_arrive_in_one_flush_all_count() {
    let mut watch = Watch::new(vec![threshold("t", 3, 2)], BTreeMap::new());
    let hours = [0, 600, 1_200];
    let rows = hours.map(|minute| (minute, "ip", "203.0.113.7", "refused", 3, 1, 1));
    watch.add(&batch(&rows));
    let (crossings, _) = watch.look();
    assert_eq!(totals(&crossings), BTreeMap::from([(0, 9)]));
    // What is older than the reach is let go of then: more of it is not counted again.
    watch.add(&batch(&rows[..1]));
    assert_eq!(watch.look().0, []);
}
