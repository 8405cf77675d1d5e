//! One event or one partition that is unlike the others must not touch the rest.

use std::time::Duration;

use super::super::contents::{dead_letters, holding};
use super::super::deployment::{Deployment, LATENESS_MINUTES, Options};
use super::super::{services, unique};
use super::protocol::{append, by_status, event};
use super::{options, traffic};
use crate::command::reports;

const PATIENCE: Duration = Duration::from_mins(3);

#[tokio::test]
async fn one_wild_timestamp_touches_nothing_else() {
    let Some(services) = services("services::chaos::bounds (wild timestamp)") else {
        return;
    };
    let mut lines: Vec<String> = traffic(80, 900, 1)
        .concat()
        .into_iter()
        .map(|(_, _, line)| String::from_utf8(line).unwrap())
        .collect();
    let mut deployments = Vec::new();
    for wild in [false, true] {
        if wild {
            // Clocks that were never set, and one that runs wild, while halves wait for each other.
            for (place, time) in [(600, "2099-06-01T12:00:00Z"), (300, "1970-01-01T00:05:00Z")] {
                let text = event("exchange", "wild", 0);
                let mut exchange: serde_json::Value = serde_json::from_str(&text).unwrap();
                exchange["time"] = time.into();
                lines.insert(place, exchange.to_string());
            }
        }
        let topic = unique("wild");
        services.topic(&topic, 1).await;
        append(&services, &topic, 0, &lines);
        let deployment = Deployment::new(
            &services,
            &topic,
            Options {
                idle: "4s",
                ..options()
            },
        );
        let replica = deployment.start();
        let ends = services.ends(&topic, 1);
        deployment.until_drained(&ends, PATIENCE).await;
        deployment.until_judged(&services).await;
        replica.stop();
        deployments.push(deployment);
    }
    let [usual, wild] = &deployments[..] else {
        unreachable!();
    };
    let total = "SELECT sum(requests) FROM {db}.endpoint_windows";
    let (expected, found) = (usual.number(total).await, wild.number(total).await);
    assert!(expected > 500, "{expected}");
    assert_eq!(
        found,
        expected + 1,
        "the old event counts, in its own minute"
    );
    let old = format!("{total} WHERE window_start = '1970-01-01 00:05:00'");
    assert_eq!(wild.number(&old).await, 1);
    let reasons = |deployment: &Deployment| {
        let letters = dead_letters(&services, deployment);
        letters
            .values()
            .filter(|letter| letter.contains("time_in_future"))
            .count()
    };
    assert_eq!(
        reasons(wild),
        reasons(usual) + 1,
        "the other one is refused"
    );
    assert_eq!(reports(&wild.file()), reports(&usual.file()));
    for name in ["labels", "insights"] {
        let expected = holding(&services, usual, name);
        assert!(
            !expected.is_empty(),
            "no {name} after {LATENESS_MINUTES} minutes"
        );
        assert_eq!(holding(&services, wild, name), expected, "{name}");
    }
}

#[tokio::test]
async fn an_idle_partition_lets_go_of_what_waits_while_another_is_busy() {
    let Some(services) = services("services::chaos::bounds (idle partition)") else {
        return;
    };
    let topic = unique("idle");
    services.topic(&topic, 2).await;
    let idle = Options {
        idle: "2s",
        ..Options::default()
    };
    let deployment = Deployment::new(&services, &topic, idle);
    append(
        &services,
        &topic,
        0,
        &[event("request", "a", 0), event("exchange", "x", 1)],
    );
    let first = deployment.start();
    let drained = async |busy: u64| {
        let mut busy = busy;
        while deployment
            .standing()
            .await
            .get(&0)
            .is_none_or(|at| !at.drained)
        {
            append(&services, &topic, 1, &[event("exchange", "busy", busy)]);
            busy += 1;
            assert!(busy < 600, "never drained");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        busy
    };
    let busy = drained(0).await;
    assert!(busy >= 3, "the other partition was not busy");
    first.kill();
    // The response comes after all: alone, it is dropped, and nothing is let go of a second time.
    append(&services, &topic, 0, &[event("response", "a", 2)]);
    let second = deployment.start();
    let ends = services.ends(&topic, 2);
    deployment.until_drained(&ends, PATIENCE).await;
    second.stop();
    assert_eq!(by_status(&deployment).await, [[0, 1], [200, busy + 1]]);
    deployment.assert_ledger_is_whole(&ends).await;
    // The lone response is let go of, too, but that counts nothing.
    let drains =
        "SELECT count() FROM {db}.flushes WHERE drain AND `partition` = 0 AND exchanges > 0";
    assert_eq!(deployment.number(drains).await, 1);
}
