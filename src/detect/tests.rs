//! Labels and insights, tick by tick.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray, UInt16Array, UInt64Array,
};

use super::*;

const MINUTE: i64 = 60_000;
const EVERY: i64 = 5 * MINUTE;
const DAY: i64 = 86_400_000;

/// (minute, method, status, session, token, mtls, schema, requests)
type Row<'a> = (i64, &'a str, u16, &'a str, &'a str, &'a str, &'a str, u64);

fn batch(rows: &[Row<'_>]) -> RecordBatch {
    let text = |column: fn(&Row<'_>) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(column)))
    };
    let times = TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.0 * MINUTE));
    RecordBatch::try_from_iter(vec![
        (
            "window_start",
            Arc::new(times.with_timezone("UTC")) as ArrayRef,
        ),
        ("zone", text(|_| "z".to_owned())),
        ("host", text(|_| "h".to_owned())),
        ("method", text(|row| row.1.to_owned())),
        ("endpoint", text(|_| "/a".to_owned())),
        (
            "status",
            Arc::new(UInt16Array::from_iter_values(rows.iter().map(|row| row.2))),
        ),
        ("session", text(|row| row.3.to_owned())),
        ("token", text(|row| row.4.to_owned())),
        ("mtls", text(|row| row.5.to_owned())),
        ("schema_request", text(|row| row.6.to_owned())),
        (
            "requests",
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.7))),
        ),
    ])
    .unwrap()
}

fn evaluator(state: State) -> Evaluator {
    let limits = Limits {
        excluded_methods: vec!["OPTIONS".to_owned()],
        min_successful: 1,
    };
    Evaluator::new(EVERY, limits, state)
}

async fn add(evaluator: &mut Evaluator, rows: &[Row<'_>]) {
    evaluator.add(vec![batch(rows)]).await.unwrap();
}

fn shown(changes: &[Change]) -> Vec<String> {
    let line = |c: &Change| {
        let sign = if c.holds { '+' } else { '-' };
        format!(
            "{sign}{} {}@{} {}/{}",
            c.detector.name,
            c.operation.method,
            c.at / MINUTE,
            c.counts.hits,
            c.counts.others
        )
    };
    changes.iter().map(line).collect()
}

const PLAIN: (&str, &str, &str) = ("not_configured", "not_captured", "not_evaluated");

fn auth(
    minute: i64,
    method: &'static str,
    status: u16,
    session: &'static str,
    requests: u64,
) -> Row<'static> {
    (
        minute, method, status, session, PLAIN.0, PLAIN.1, PLAIN.2, requests,
    )
}

#[tokio::test]
async fn a_label_is_applied_changed_and_cleared() {
    let mut evaluator = evaluator(State::default());
    evaluator.start_at(3 * MINUTE);
    add(&mut evaluator, &[auth(3, "GET", 200, "absent", 2)]).await;
    assert!(evaluator.advance(4 * MINUTE).is_empty(), "no tick yet");
    assert_eq!(
        shown(&evaluator.advance(5 * MINUTE)),
        [
            "+cf-risk-missing-auth GET@5 2/0",
            "+operation_unauthenticated GET@5 2/0"
        ]
    );
    add(&mut evaluator, &[auth(6, "GET", 204, "present", 1)]).await;
    assert_eq!(
        shown(&evaluator.advance(11 * MINUTE)),
        [
            "-cf-risk-missing-auth GET@10 2/1",
            "-operation_unauthenticated GET@10 2/1",
            "+cf-risk-mixed-auth GET@10 2/1",
            "+operation_mixed_authentication GET@10 2/1",
        ]
    );
    // Minute 3 leaves the window of 1,440 minutes at tick 1445; only the authenticated request is left.
    assert_eq!(
        shown(&evaluator.advance(DAY + 6 * MINUTE)),
        [
            "-cf-risk-mixed-auth GET@1445 0/1",
            "-operation_mixed_authentication GET@1445 0/1"
        ]
    );
    assert!(evaluator.state().findings.is_empty());
}

#[tokio::test]
async fn no_label_without_success_identifiers_or_for_excluded_methods() {
    let mut evaluator = evaluator(State::default());
    evaluator.start_at(0);
    add(
        &mut evaluator,
        &[
            auth(0, "GET", 401, "absent", 9),
            auth(0, "GET", 302, "absent", 9),
            auth(0, "PUT", 200, "not_configured", 9),
            auth(0, "POST", 200, "not_captured", 9),
            auth(0, "OPTIONS", 200, "absent", 9),
            auth(0, "PATCH", 200, "present", 9),
        ],
    )
    .await;
    assert_eq!(shown(&evaluator.advance(EVERY)), Vec::<String>::new());
}

#[tokio::test]
async fn what_should_have_been_refused_opens_an_insight() {
    let mut evaluator = evaluator(State::default());
    evaluator.start_at(0);
    add(
        &mut evaluator,
        &[
            (
                0, "GET", 200, "present", "invalid", "revoked", "violates", 1,
            ),
            (0, "GET", 200, "present", "valid", "verified", "conforms", 4),
            (
                0, "PUT", 403, "present", "invalid", "revoked", "violates", 7,
            ),
        ],
    )
    .await;
    assert_eq!(
        shown(&evaluator.advance(EVERY)),
        [
            "+invalid_token_accepted GET@5 1/4",
            "+revoked_certificate_accepted GET@5 1/4",
            "+schema_violation_accepted GET@5 1/4",
        ]
    );
}

#[tokio::test]
async fn a_restart_goes_on_without_repeating() {
    let rows = [
        auth(3, "GET", 200, "absent", 2),
        auth(700, "GET", 200, "present", 1),
    ];
    let mut whole = evaluator(State::default());
    whole.start_at(3 * MINUTE);
    add(&mut whole, &rows).await;
    let mut expected = shown(&whole.advance(600 * MINUTE));
    expected.extend(shown(&whole.advance(3_000 * MINUTE)));

    let mut first = evaluator(State::default());
    first.start_at(3 * MINUTE);
    add(&mut first, &rows[..1]).await;
    let mut seen = shown(&first.advance(600 * MINUTE));
    let mut second = evaluator(first.state().clone());
    second.start_at(99_999 * MINUTE);
    add(&mut second, &rows[..1]).await;
    add(&mut second, &rows[1..]).await;
    seen.extend(shown(&second.advance(3_000 * MINUTE)));
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_leap_in_time_is_judged_without_counting_every_tick() {
    let mut evaluator = evaluator(State::default());
    evaluator.start_at(0);
    add(&mut evaluator, &[auth(0, "GET", 200, "absent", 1)]).await;
    let century = 100 * 365 * DAY;
    add(
        &mut evaluator,
        &[auth(century / MINUTE, "GET", 200, "absent", 1)],
    )
    .await;
    let changes = shown(&evaluator.advance(century + EVERY));
    assert_eq!(changes.len(), 6, "{changes:?}");
    assert_eq!(evaluator.state().tick, Some(century + EVERY));
}

/// Numbers that look random and are the same in every run (Knuth's MMIX constants).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[tokio::test]
async fn replacing_minutes_equals_counting_everything_again() {
    const METHODS: [&str; 3] = ["GET", "PUT", "POST"];
    for seed in 0..3 {
        let mut numbers = Numbers(seed);
        let mut minutes: std::collections::BTreeMap<i64, Vec<Row<'static>>> = [].into();
        let mut replaced = evaluator(State::default());
        let mut rebuilt = evaluator(State::default());
        replaced.start_at(0);
        rebuilt.start_at(0);
        let (mut changes, mut watermark) = (0, 0);
        for _ in 0..40 {
            // Some minutes get more rows: near the watermark, ahead of it, hours late, and some before the window.
            let mut touched = std::collections::BTreeSet::new();
            for _ in 0..=numbers.below(2) {
                let back = i64::try_from(numbers.below(1_600)).unwrap();
                let minute = (watermark + 20 - back).max(0);
                let session = ["absent", "present"][usize::try_from(numbers.below(2)).unwrap()];
                let method = METHODS[usize::try_from(numbers.below(3)).unwrap()];
                let status = [200, 403][usize::try_from(numbers.below(2)).unwrap()];
                let row = auth(minute, method, status, session, 1 + numbers.below(9));
                minutes.entry(minute).or_default().push(row);
                touched.insert(minute * MINUTE);
            }
            let rows: Vec<_> = touched
                .iter()
                .flat_map(|minute| minutes[&(minute / MINUTE)].clone())
                .collect();
            replaced
                .replace(&touched, vec![batch(&rows)])
                .await
                .unwrap();
            let all: Vec<_> = minutes.values().flatten().copied().collect();
            rebuilt.rebuild(vec![batch(&all)]).await.unwrap();
            watermark += i64::try_from(numbers.below(500)).unwrap();
            let (one, two) = (
                replaced.advance(watermark * MINUTE),
                rebuilt.advance(watermark * MINUTE),
            );
            assert_eq!(shown(&one), shown(&two), "seed {seed}");
            assert_eq!(replaced.state(), rebuilt.state(), "seed {seed}");
            changes += one.len();
        }
        assert!(changes > 10, "seed {seed} changes nothing worth comparing");
    }
}

#[tokio::test]
async fn ticks_are_judged_one_by_one() {
    let rows = [
        auth(3, "GET", 200, "absent", 2),
        auth(11, "GET", 200, "present", 1),
    ];
    let mut whole = evaluator(State::default());
    whole.start_at(0);
    add(&mut whole, &rows).await;
    let expected = shown(&whole.advance(40 * MINUTE));
    let mut steps = evaluator(State::default());
    steps.start_at(0);
    add(&mut steps, &rows).await;
    let (mut seen, mut ticks) = (Vec::new(), Vec::new());
    while let Some(changes) = steps.step(43 * MINUTE) {
        ticks.push(steps.state().tick.unwrap() / MINUTE);
        assert!(
            changes
                .iter()
                .all(|change| Some(change.at) == steps.state().tick)
        );
        seen.extend(shown(&changes));
    }
    assert_eq!(seen, expected);
    assert_eq!(ticks, [5, 10, 15, 20, 25, 30, 35, 40]);
}
