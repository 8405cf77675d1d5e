//! While nothing can be stored, a process holds a bounded amount, whatever waits in the topic; afterwards the lag drains.

use std::time::Duration;

use gatewatch::clock::Stopwatch;

use super::deployment::{Deployment, Options};
use super::replica::Replica;
use super::{services, unique};
use crate::services_clickhouse::{fault, mend};

/// Four partitions of refused lines, 4 KB a line: 1,280 MB. A stalled process may take two flushes of 10,000 lines of each
/// partition, of which it keeps positions and hashes, and what is under way.
const PARTITIONS: i32 = 4;
const LINES: usize = 320_000;
const LINE: usize = 4_000;

/// What a process may hold, MiB. By design it is about 200: 64 under way to the judging threads, 8 fetched ahead and one fetch of 1
/// for each partition, the flush being written and the one being collected, and the program itself. Measured were 50 to 350: the
/// allocator gives pages back when it likes, and more cores have more heaps. The bound is half of what waits in the topic.
const BOUND: u64 = 640;

#[tokio::test]
async fn a_stalled_store_holds_the_reading_up_not_the_memory() {
    let Some(services) = services("services::memory") else {
        return;
    };
    let topic = unique("memory");
    services.topic(&topic, PARTITIONS).await;
    let line = vec![b'x'; LINE];
    let partitions = (0..PARTITIONS).cycle().take(LINES);
    services.produce(&topic, partitions.map(|at| (at, "", line.as_slice())));
    let deployment = Deployment::new(
        &services,
        &topic,
        Options {
            more: "[api]\nlisten = \"127.0.0.1:0\"\n",
            ..Options::default()
        },
    );
    // Every flush has rows in the ledger, and nothing is done before they are written.
    let insert = format!("INSERT INTO `{}`.`flushes", deployment.store.database);
    let wish = serde_json::json!({"kind": "before", "match": insert, "times": 1_000_000});
    fault(&deployment.store, &wish.to_string()).await;
    let mut replica = deployment.start();
    replica.says("is tried again").await;
    // Until it takes no more: five looks in a row without growth.
    let (mut before, mut still) = (0, 0);
    let watch = Stopwatch::start();
    while still < 5 {
        let late = watch.elapsed() > Duration::from_mins(5);
        assert!(!late, "it went on reading: {before} MiB");
        tokio::time::sleep(Duration::from_millis(400)).await;
        let now = replica.memory();
        still = if now <= before + 1 { still + 1 } else { 0 };
        before = before.max(now);
        assert!(now < BOUND, "{now} MiB while nothing is stored");
    }
    let probe = probe(&replica);
    assert!(probe_says(&probe, 503, "store").await);
    mend(&deployment.store, &insert).await;
    let ends = services.ends(&topic, PARTITIONS);
    deployment
        .until("everything counted", Duration::from_mins(10), |standing| {
            ends.iter()
                .all(|(at, end)| standing.get(at).is_some_and(|at| at.last == *end))
        })
        .await;
    assert!(probe_says(&probe, 200, "ready").await);
    // What the burst left free goes back when the allocator gets to it.
    let watch = Stopwatch::start();
    let drained = replica.memory();
    while replica.memory() >= BOUND {
        assert!(
            watch.elapsed() < Duration::from_mins(1),
            "{drained} MiB, and a minute later still"
        );
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    println!(
        "memory: {before} MiB while the store stalled, {drained} when the lag was gone, bound {BOUND}"
    );
    replica.stop();
}

/// Where the process answers probes, from its log.
fn probe(replica: &Replica) -> String {
    let log = replica.log();
    let line = log.lines().find(|line| line.contains("/healthz"));
    let (_, address) = line.unwrap().rsplit_once("http://").unwrap();
    let address: String = address.chars().take_while(|c| !c.is_control()).collect();
    format!("http://{}/readyz", address.trim())
}

/// Waits until the probe answers with this status and word.
async fn probe_says(url: &str, status: u16, word: &str) -> bool {
    let watch = Stopwatch::start();
    while watch.elapsed() < Duration::from_mins(1) {
        let answer = reqwest::get(url).await.unwrap();
        if answer.status() == status && answer.text().await.unwrap().contains(word) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    false
}
