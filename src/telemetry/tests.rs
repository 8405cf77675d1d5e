//! The text of the metrics, read back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Flushed, Health, Metrics, Part, Stage};

/// Samples by name and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[test]
fn everything_that_is_counted_is_shown() {
    let metrics = Metrics::new();
    let flushed = Flushed {
        records: 10,
        exchanges: 7,
        unzoned: 1,
        orphan_responses: 2,
        unanswered: 3,
        operations_overflowed: 4,
        entities_overflowed: 5,
        events_overflowed: 6,
        rejected: vec![("malformed", 1), ("too_large", 2), ("malformed", 3)],
    };
    metrics.flushed(&flushed);
    metrics.flushed(&flushed);
    metrics.rows(25);
    metrics.took(Stage::Insert, Duration::from_millis(3));
    metrics.store_retried(1);
    metrics.published("labels", 6);
    metrics.token_lookups(90, 10);
    metrics.token_lookups(100, 11);
    metrics.token_work(12, 3);
    metrics.token_work(11, 4);
    metrics.evaluator(true);
    metrics.ticked(12);
    metrics.watermark(1_763_625_600_500);
    metrics.rebalanced();
    metrics.gap(13);
    metrics.http_batch(429);
    let topic: Arc<str> = "events".into();
    metrics.lag(&topic, 3, 14);
    metrics.join(&topic, 3, 15, 1_600);

    let text = metrics.encode();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let samples = samples(&text);
    for (name, expected) in [
        ("gatewatch_records_total", 20.0),
        ("gatewatch_exchanges_total", 14.0),
        ("gatewatch_unzoned_exchanges_total", 2.0),
        ("gatewatch_orphan_responses_total", 4.0),
        ("gatewatch_unanswered_requests_total", 6.0),
        ("gatewatch_overflow_total{kind=\"operations\"}", 8.0),
        ("gatewatch_overflow_total{kind=\"entities\"}", 10.0),
        (
            "gatewatch_rejected_records_total{reason=\"malformed\"}",
            8.0,
        ),
        (
            "gatewatch_rejected_records_total{reason=\"too_large\"}",
            4.0,
        ),
        ("gatewatch_flushes_total", 2.0),
        ("gatewatch_flush_rows_sum", 25.0),
        ("gatewatch_flush_rows_bucket{le=\"40.0\"}", 1.0),
        ("gatewatch_flush_seconds_count{stage=\"insert\"}", 1.0),
        ("gatewatch_flush_seconds_count{stage=\"commit\"}", 0.0),
        (
            "gatewatch_flush_seconds_bucket{le=\"0.002\",stage=\"insert\"}",
            0.0,
        ),
        (
            "gatewatch_flush_seconds_bucket{le=\"0.004\",stage=\"insert\"}",
            1.0,
        ),
        ("gatewatch_store_retries_total", 1.0),
        ("gatewatch_published_events_total{topic=\"labels\"}", 6.0),
        ("gatewatch_token_cache_lookups_total{result=\"hit\"}", 100.0),
        ("gatewatch_token_cache_lookups_total{result=\"miss\"}", 11.0),
        ("gatewatch_token_signature_checks_total", 12.0),
        ("gatewatch_tokens_not_evaluated_total", 4.0),
        ("gatewatch_evaluator_owner", 1.0),
        ("gatewatch_evaluator_ticks_total", 12.0),
        ("gatewatch_watermark_timestamp_seconds", 1_763_625_600.5),
        ("gatewatch_rebalances_total", 1.0),
        ("gatewatch_gap_records_total", 13.0),
        ("gatewatch_http_batches_total{status=\"429\"}", 1.0),
        (
            "gatewatch_lag_records{topic=\"events\",partition=\"3\"}",
            14.0,
        ),
        (
            "gatewatch_join_open_halves{topic=\"events\",partition=\"3\"}",
            15.0,
        ),
        (
            "gatewatch_join_open_bytes{topic=\"events\",partition=\"3\"}",
            1_600.0,
        ),
    ] {
        assert_eq!(samples.get(name), Some(&expected), "{name}\n{text}");
    }

    metrics.forget(&topic, 3);
    let text = metrics.encode();
    assert!(!text.contains("partition=\"3\""), "{text}");
}

#[test]
fn ready_when_nothing_waits() {
    let health = Health::default();
    assert_eq!(health.reasons()[&Part::Pipeline], "starting");
    let same = health.clone();
    same.waits(Part::Store, "connection refused");
    same.ready(Part::Pipeline);
    assert_eq!(health.reasons()[&Part::Store], "connection refused");
    assert_eq!(health.reasons().len(), 1);
    health.ready(Part::Store);
    assert!(same.reasons().is_empty());
}
