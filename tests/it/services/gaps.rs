//! Offsets without records: what retention removed before it was read, and what never was one (transaction markers,
//! tombstones). The first is a fault or is counted, the second is nothing.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use super::chaos::protocol::{append, by_status, event};
use super::deployment::{Deployment, Options};
use super::{Services, services, unique};

const PATIENCE: Duration = Duration::from_mins(3);

/// Removes every record of partition 0 before `offset`, as retention does.
async fn forget(services: &Services, topic: &str, offset: i64) {
    let admin: AdminClient<DefaultClientContext> = services.config().create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset))
        .unwrap();
    admin
        .delete_records(&list, &AdminOptions::new())
        .await
        .unwrap();
}

fn events(range: std::ops::Range<usize>) -> Vec<String> {
    range
        .map(|number| event("exchange", &format!("x{number}"), 0))
        .collect()
}

async fn counted(deployment: &Deployment, end: u64) {
    let done = |at: Option<&super::deployment::Standing>| at.is_some_and(|at| at.last == end);
    deployment
        .until("everything counted", PATIENCE, |standing| {
            done(standing.get(&0))
        })
        .await;
}

#[tokio::test]
async fn records_that_retention_removed_are_a_fault_or_are_counted() {
    let Some(services) = services("services::gaps (retention)") else {
        return;
    };
    let topic = unique("gaps");
    services.topic(&topic, 1).await;
    let deployment = Deployment::new(&services, &topic, Options::default());
    append(&services, &topic, 0, &events(0..10));
    let replica = deployment.start();
    counted(&deployment, 10).await;
    replica.stop();

    append(&services, &topic, 0, &events(10..30));
    forget(&services, &topic, 20).await;
    let mut replica = deployment.start();
    let status = replica.ended();
    let log = replica.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains("records 10 to 20 are gone") && log.contains("on_gap = \"continue\""),
        "{log}"
    );

    deployment.edit("[store]", "on_gap = \"continue\"\n[store]");
    let mut replica = deployment.start();
    replica.says("records 10 to 20 are gone").await;
    counted(&deployment, 30).await;
    assert_eq!(by_status(&deployment).await, [[200, 20]]);
    replica.stop();
}

#[tokio::test]
async fn records_that_vanish_under_a_running_service_are_found_out() {
    let Some(services) = services("services::gaps (running)") else {
        return;
    };
    let topic = unique("gaps");
    services.topic(&topic, 1).await;
    let deployment = Deployment::new(&services, &topic, Options::default());
    deployment.edit("[store]", "on_gap = \"continue\"\n[store]");
    append(&services, &topic, 0, &events(0..10));
    let mut replica = deployment.start();
    counted(&deployment, 10).await;
    // While it sleeps, more arrives and is gone before it wakes up.
    replica.signal("STOP");
    append(&services, &topic, 0, &events(10..30));
    forget(&services, &topic, 20).await;
    replica.signal("CONT");
    counted(&deployment, 30).await;
    let rows = by_status(&deployment).await;
    // What its client had fetched before it was stopped is not lost.
    assert!(
        rows.len() == 1 && (20..=30).contains(&rows[0][1]),
        "{rows:?}"
    );
    assert!(replica.runs());
    replica.stop();
}

#[tokio::test]
async fn markers_and_tombstones_are_passed() {
    let Some(services) = services("services::gaps (markers)") else {
        return;
    };
    let topic = unique("gaps");
    services.topic(&topic, 1).await;
    let idle = Options {
        idle: "1s",
        ..Options::default()
    };
    let deployment = Deployment::new(&services, &topic, idle);
    let producer: ThreadedProducer<DefaultProducerContext> = services
        .config()
        .set("transactional.id", unique("markers"))
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    let texts = events(0..5);
    for commit in [true, false, true] {
        producer.begin_transaction().unwrap();
        for text in &texts {
            let record = BaseRecord::<(), str>::to(&topic).partition(0).payload(text);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        let tombstone = BaseRecord::<str, str>::to(&topic).partition(0).key("gone");
        producer
            .send(tombstone)
            .map_err(|(error, _)| error)
            .unwrap();
        producer.flush(PATIENCE).unwrap();
        if commit {
            producer.commit_transaction(PATIENCE).unwrap();
        } else {
            producer.abort_transaction(PATIENCE).unwrap();
        }
    }
    let end = services.ends(&topic, 1)[&0];
    assert_eq!(end, 21, "three times five events, a tombstone and a marker");
    let replica = deployment.start();
    // The last offset is a marker; it is passed once the partition is idle, so that retention makes no gap of it.
    counted(&deployment, end).await;
    replica.stop();
    assert_eq!(by_status(&deployment).await, [[200, 10]]);
    forget(&services, &topic, i64::try_from(end).unwrap()).await;
    append(&services, &topic, 0, &events(5..6));
    let replica = deployment.start();
    counted(&deployment, end + 1).await;
    assert_eq!(by_status(&deployment).await, [[200, 11]]);
    replica.stop();
}
