//! Labels over several evaluators, one after the other: nothing is said twice, nothing is left out.

use std::sync::atomic::Ordering;

use gatewatch::pipeline::evaluator::{EvaluatorError, Sums};

use super::{MINUTE, Row, World};

/// Two operations over 20 minutes: GET is open at 5, mixed at 15; PUT is open at 10.
const FIRST: &[Row] = &[(3, "GET", "absent", 2)];
const SECOND: &[Row] = &[(7, "PUT", "absent", 1)];
const THIRD: &[Row] = &[(12, "GET", "present", 1)];
const EXPECTED: [&str; 4] = [
    "+cf-risk-missing-auth GET@5",
    "+cf-risk-missing-auth PUT@10",
    "-cf-risk-missing-auth GET@15",
    "+cf-risk-mixed-auth GET@15",
];

#[test]
fn labels_follow_the_watermark() {
    let world = World::any("labels_follow_the_watermark");
    world.memory.flush(0, 4, FIRST);
    // Another partition is slower: it holds the watermark back.
    world.memory.flush(1, 2, &[]);
    let running = world.evaluate();
    world.memory.flush(0, 8, SECOND);
    world.memory.flush(1, 6, &[]);
    assert_eq!(world.labels(1), EXPECTED[..1]);
    world.memory.flush(1, 11, &[]);
    world.memory.flush(0, 11, &[]);
    assert_eq!(world.labels(2), EXPECTED[..2]);
    world.memory.flush(0, 21, THIRD);
    world.memory.flush(1, 21, &[]);
    assert_eq!(world.labels(4), EXPECTED);
    let counters = running.counters.clone();
    assert_eq!(counters.owner.load(Ordering::Relaxed), 1);
    running.stop();
    assert_eq!(counters.owner.load(Ordering::Relaxed), 0);
    assert_eq!(counters.terms.load(Ordering::Relaxed), 1);
    assert!(counters.ticks.load(Ordering::Relaxed) >= 4);
    // Labels and the insights that go with them.
    assert_eq!(counters.changes.load(Ordering::Relaxed), 8);
    // After the start only what was touched is read again, never the whole window.
    let reads = world.memory.reads.lock().unwrap().clone();
    assert!(reads.iter().skip(1).all(|rows| *rows <= 1), "{reads:?}");
}

#[test]
fn nothing_is_repeated_or_forgotten_when_evaluators_die() {
    let Some(world) = World::real("nothing_is_repeated_or_forgotten_when_evaluators_die") else {
        return;
    };
    world.memory.flush(0, 6, FIRST);
    // It dies after the tick was stored and before it was published.
    world
        .memory
        .dies_after_writing
        .store(true, Ordering::SeqCst);
    world.evaluate().dies();
    // Rows that arrive now belong to a minute that was judged: what was decided stays as it was decided.
    world.memory.flush(0, 6, &[(3, "GET", "present", 1)]);
    let second = world.evaluate();
    assert_eq!(world.labels(1), EXPECTED[..1]);
    // A third one waits; the second dies after publishing, before it asks again.
    let third = world.evaluate();
    world.memory.flush(0, 11, SECOND);
    assert_eq!(world.labels(4).len(), 4);
    world.memory.dies_when_asked.store(true, Ordering::SeqCst);
    second.dies();
    world.memory.flush(0, 21, &[(12, "PUT", "present", 1)]);
    let expected = [
        "+cf-risk-missing-auth GET@5",
        "-cf-risk-missing-auth GET@10",
        "+cf-risk-mixed-auth GET@10",
        "+cf-risk-missing-auth PUT@10",
        "-cf-risk-missing-auth PUT@15",
        "+cf-risk-mixed-auth PUT@15",
    ];
    assert_eq!(world.labels(6), expected);
    third.stop();
    let terms: Vec<u64> = world
        .memory
        .detections
        .lock()
        .unwrap()
        .iter()
        .map(|row| row.0)
        .collect();
    // A term may be begun anew where the cluster is slow; what counts is that none writes after a later one.
    assert!(
        terms.is_sorted() && terms[..2] == [1, 2] && terms.last() > Some(&2),
        "{terms:?}"
    );
}

#[test]
fn what_a_replaced_evaluator_writes_later_is_void() {
    let Some(world) = World::real("what_a_replaced_evaluator_writes_later_is_void") else {
        return;
    };
    world.memory.flush(0, 6, FIRST);
    let first = world.evaluate();
    assert_eq!(world.labels(1), EXPECTED[..1]);
    first.stop();
    let second = world.evaluate();
    world.memory.flush(0, 11, SECOND);
    assert_eq!(world.labels(2), EXPECTED[..2]);
    second.stop();
    // The first one wakes up and writes what it had judged long ago: of a tick that was judged, and of a later one.
    let stale = {
        let detections = world.memory.detections.lock().unwrap();
        let (term, row) = detections.first().unwrap();
        assert_eq!(*term, 1);
        row.clone()
    };
    for tick in [10, 15] {
        let tick = tick * MINUTE;
        let write = world
            .memory
            .write_detections(tick, 1, &stale.state, &stale.changes);
        world.runtime.block_on(write).unwrap();
    }
    world.memory.flush(0, 21, THIRD);
    let third = world.evaluate();
    assert_eq!(world.labels(4), EXPECTED);
    third.stop();
}

#[test]
fn detections_that_are_gone_are_a_fault() {
    let Some(world) = World::real("detections_that_are_gone_are_a_fault") else {
        return;
    };
    world.memory.flush(0, 6, FIRST);
    let first = world.evaluate();
    assert_eq!(world.labels(1), EXPECTED[..1]);
    first.stop();
    let tick = 5 * MINUTE;
    // Somebody else's row of that tick does not count.
    world
        .memory
        .detections
        .lock()
        .unwrap()
        .retain(|row| row.1.tick != tick);
    let second = world.evaluate();
    let error = second.thread.join().unwrap().unwrap_err();
    let missing = matches!(error, EvaluatorError::Missing { tick: at, .. } if at == tick);
    assert!(missing, "{error}");
}
