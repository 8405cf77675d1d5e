//! While nothing can be stored, a process holds a bounded amount, whatever waits in the topic; afterwards the lag drains.

use std::time::Duration;

use super::deployment::{Deployment, Options};
use super::{services, unique};
use crate::services_clickhouse::fault;

/// Four partitions of refused lines, 4 KB a line: 960 MB. A stalled process may take two flushes of 10,000 lines of each
/// partition, of which it keeps positions and hashes, and what is under way.
const PARTITIONS: i32 = 4;
const LINES: usize = 240_000;
const LINE: usize = 4_000;

/// What a process may hold, MiB: 64 under way to the judging threads, 8 fetched ahead and one fetch of 1 for each partition, the
/// flush being written and the one being collected, and the program itself (about 100 in a build without optimisation). These are
/// 200; the allocator gives pages back when it likes, and more cores have more heaps, so that twice as much is allowed. It is still less
/// than half of what waits in the topic.
const BOUND: u64 = 400;

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
    let deployment = Deployment::new(&services, &topic, Options::default());
    // Every flush has rows in the ledger, and nothing is done before they are written.
    let table = format!("{}`.`flushes", deployment.store.database);
    let wish = serde_json::json!({"kind": "before", "match": table, "times": 24});
    fault(&deployment.store, &wish.to_string()).await;
    let mut replica = deployment.start();
    replica.says("is tried again").await;
    // Until it takes no more: five looks in a row without growth.
    let (mut before, mut still) = (0, 0);
    while still < 5 && replica.log().matches("is tried again").count() < 24 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let now = replica.memory();
        still = if now <= before + 1 { still + 1 } else { 0 };
        before = before.max(now);
        assert!(now < BOUND, "{now} MiB while nothing is stored");
    }
    assert!(still == 5, "it went on reading");
    let ends = services.ends(&topic, PARTITIONS);
    deployment
        .until("everything counted", Duration::from_mins(2), |standing| {
            ends.iter()
                .all(|(at, end)| standing.get(at).is_some_and(|at| at.last == *end))
        })
        .await;
    assert!(
        replica.memory() < BOUND,
        "{} MiB at the end",
        replica.memory()
    );
    println!("memory: {before} MiB while the store stalled, bound {BOUND}");
    replica.stop();
}
