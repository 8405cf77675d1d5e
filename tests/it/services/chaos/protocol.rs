//! Ways in which a simpler protocol loses or doubles, one a test: each is a kill or a stall at a chosen moment.

use std::time::Duration;

use gatewatch::clock::Stopwatch;

use super::super::contents::{differences, tables};
use super::super::deployment::{Deployment, Options};
use super::super::{Services, services, unique};
use super::{Line, produce, traffic};
use crate::services_clickhouse::{all_struck, fault, mend};

/// Event time at which the made-up events begin, epoch milliseconds.
const START: u64 = 1_794_960_000_000;
/// Everything here takes seconds; a busy machine takes more.
const PATIENCE: Duration = Duration::from_mins(3);
/// Longer than any test, seconds: what hangs does so until the test lets it go.
const STALL: u64 = 600;

/// One half, or both, `seconds` after the start.
pub fn event(kind: &str, id: &str, seconds: u64) -> String {
    let mut event = serde_json::json!({
        "kind": kind, "id": id, "time": START + seconds * 1_000,
        "request": {"method": "GET", "host": "api.shop.example", "path": "/health", "headers": {}},
        "response": {"status": 200, "headers": {}},
    });
    let members = event.as_object_mut().unwrap();
    match kind {
        "request" => drop(members.remove("response")),
        "response" => drop(members.remove("request")),
        _ => {}
    }
    event.to_string()
}

/// Produces events to one partition.
pub fn append(services: &Services, topic: &str, partition: i32, events: &[String]) {
    let records = events.iter().map(|event| (partition, "", event.as_bytes()));
    services.produce(topic, records);
}

/// Requests by status; 0 is a request without an answer.
pub async fn by_status(deployment: &Deployment) -> Vec<[u64; 2]> {
    let query =
        "SELECT status, sum(requests) FROM {db}.endpoint_windows GROUP BY status ORDER BY status";
    let rows = deployment.rows(query).await;
    rows.iter()
        .map(|row| [0, 1].map(|column: usize| row[column].parse().unwrap()))
        .collect()
}

/// A topic of its own, and a deployment that lets go of what waits after `idle`.
async fn one_partition(services: &Services, name: &str, idle: &'static str) -> Deployment {
    let topic = unique(name);
    services.topic(&topic, 1).await;
    let options = Options {
        idle,
        ..Options::default()
    };
    Deployment::new(services, &topic, options)
}

/// Counts `before`, dies, comes back and counts `after`: the requests by status.
async fn across_a_crash(
    services: &Services,
    deployment: &Deployment,
    [before, after]: [&[String]; 2],
) -> Vec<[u64; 2]> {
    append(services, &deployment.topic, 0, before);
    let first = deployment.start();
    let counted = before.len() as u64;
    deployment
        .until("the first records counted", PATIENCE, |standing| {
            standing.get(&0).is_some_and(|at| at.last == counted)
        })
        .await;
    first.kill();
    append(services, &deployment.topic, 0, after);
    let second = deployment.start();
    let ends = services.ends(&deployment.topic, 1);
    deployment.until_drained(&ends, PATIENCE).await;
    second.stop();
    deployment.assert_ledger_is_whole(&ends).await;
    by_status(deployment).await
}

#[tokio::test]
async fn a_request_waits_across_a_commit_and_a_crash() {
    let Some(services) = services("services::chaos::protocol (waiting request)") else {
        return;
    };
    let deployment = one_partition(&services, "waiting", "6s").await;
    // The pair of `b` is counted before the crash, though its second half lies where the join is rebuilt from.
    let before = [
        event("request", "b", 0),
        event("request", "a", 1),
        event("response", "b", 2),
    ];
    let after = [
        event("response", "a", 3),
        event("request", "never-answered", 4),
    ];
    let found = across_a_crash(&services, &deployment, [&before, &after]).await;
    assert_eq!(found, [[0, 1], [200, 2]]);
}

#[tokio::test]
async fn a_half_expires_when_it_would_have_without_the_crash() {
    let Some(services) = services("services::chaos::protocol (expiry)") else {
        return;
    };
    let deployment = one_partition(&services, "expiry", "6s").await;
    // The request is 20 s old when the process dies and 40 s old when its response comes: 10 s too late.
    let before = [event("request", "a", 0), event("exchange", "x", 20)];
    let after = [event("exchange", "y", 40), event("response", "a", 41)];
    let found = across_a_crash(&services, &deployment, [&before, &after]).await;
    assert_eq!(found, [[0, 1], [200, 2]]);
}

#[tokio::test]
async fn a_frozen_worker_changes_nothing_after_its_partitions_were_taken_over() {
    let Some(services) = services("services::chaos::protocol (frozen worker)") else {
        return;
    };
    taken_over(&services, true).await;
}

#[tokio::test]
async fn a_late_worker_changes_nothing_after_a_cooperative_revoke() {
    let Some(services) = services("services::chaos::protocol (late worker)") else {
        return;
    };
    taken_over(&services, false).await;
}

/// A worker's inserts into two partitions hang. Another one takes over both, because the first is frozen, or one of them
/// in good order; it repeats what hangs, and goes on. Then what hung runs, and the first worker goes on where it was.
async fn taken_over(services: &Services, frozen: bool) {
    const PARTITIONS: i32 = 2;
    let topic = unique("late");
    services.topic(&topic, PARTITIONS).await;
    let options = Options {
        idle: "4s",
        ..Options::default()
    };
    let deployment = Deployment::new(services, &topic, options);
    let portions = traffic(79, 1_500, 3);
    let append = |lines: &[Line]| {
        let lines = lines.iter();
        let lines = lines.map(|(at, key, line)| (at % PARTITIONS, key.clone(), line.clone()));
        produce(services, &topic, &lines.collect::<Vec<_>>());
    };
    append(&portions[0]);
    let target = format!("INTO `{}`.`endpoint_windows`", deployment.store.database);
    let hang = serde_json::json!({
        "kind": "stall", "seconds": STALL, "times": PARTITIONS,
        "match": target,
    });
    fault(&deployment.store, &hang.to_string()).await;

    let mut late = deployment.start();
    let watch = Stopwatch::start();
    while !all_struck(&deployment.store, &target).await {
        assert!(watch.elapsed() < PATIENCE, "no insert:\n{}", late.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if frozen {
        late.signal("STOP");
    }
    append(&portions[1]);
    let mut new = deployment.start();
    new.says("repeating an unfinished flush").await;
    let ends = services.ends(&topic, PARTITIONS);
    // One of them at its end shows that the new owner got past the flush that hangs, before that flush has run.
    deployment
        .until("the new owner at an end", PATIENCE, |standing| {
            standing
                .iter()
                .any(|(partition, at)| at.last == ends[partition])
        })
        .await;
    mend(&deployment.store, &target).await;
    if frozen {
        late.signal("CONT");
    }
    late.says("no longer ours").await;
    append(&portions[2]);
    let ends = services.ends(&topic, PARTITIONS);
    deployment.until_drained(&ends, PATIENCE).await;
    late.stop();
    new.stop();
    for (partition, end) in &ends {
        assert_eq!(deployment.committed(services, *partition).0, *end);
    }

    let calm = Deployment::new(services, &topic, options);
    let replica = calm.start();
    calm.until_drained(&ends, PATIENCE).await;
    replica.stop();
    deployment.assert_ledger_is_whole(&ends).await;
    assert_eq!(
        differences(&tables(&calm).await, &tables(&deployment).await),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn a_flush_that_outlived_the_memory_of_clickhouse_stops_the_service_and_is_named() {
    let Some(services) = services("services::chaos::protocol (outlived)") else {
        return;
    };
    let deployment = one_partition(&services, "outlived", "60s").await;
    append(
        &services,
        &deployment.topic,
        0,
        &[event("exchange", "x", 0)],
    );
    let target = format!("INTO `{}`.`endpoint_windows`", deployment.store.database);
    let hang = serde_json::json!({"kind": "stall", "seconds": STALL, "times": 2, "match": target});
    fault(&deployment.store, &hang.to_string()).await;
    let first = deployment.start();
    assert_eq!(deployment.intent(&services, 0).await, 1);
    first.kill();
    let others = async |blocks: u64| {
        let statement = format!(
            "INSERT INTO {{db}}.flushes (pipeline, topic, `partition`, first, last, blocks, stored_at) \
             SELECT 'others', 't', 0, {blocks}, {blocks}, {blocks}, now64(3, 'UTC')"
        );
        deployment.rows(&statement).await;
    };
    // Half of the 100,000 blocks that are remembered is not yet too many …
    others(49_900).await;
    let mut second = deployment.start();
    second.says("repeating an unfinished flush").await;
    second.kill();
    // … and a little more is.
    others(200).await;
    mend(&deployment.store, &target).await;
    let mut third = deployment.start();
    let status = third.ended();
    let log = third.log();
    assert_eq!(status.code(), Some(1), "{log}");
    let named = format!("{}/0: the flush of records 0 to 1", deployment.topic);
    for words in [&named, "50100 blocks", "hint:"] {
        assert!(log.contains(words), "no {words:?} in {log}");
    }
    // Nothing was guessed.
    let done = "SELECT count() FROM {db}.flushes WHERE pipeline = 'chaos'";
    assert_eq!(deployment.number(done).await, 0);
}
