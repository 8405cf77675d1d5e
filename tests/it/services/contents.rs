//! Everything that a deployment has written, in a shape that two of them can be compared by.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gatewatch::clock::Stopwatch;
use gatewatch::store::Range;
use gatewatch::store::clickhouse::ClickHouse;
use gatewatch::window::{Resolution, TABLES};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::Services;
use super::deployment::{Deployment, PIPELINE};
use crate::services_clickhouse::{kept, lines};

/// Rows of every table in every width, merged, by "table width".
pub type Tables = BTreeMap<String, Vec<String>>;

/// Reads every table.
pub async fn tables(deployment: &Deployment) -> Tables {
    let store = ClickHouse::open(&deployment.store, PIPELINE).await.unwrap();
    let mut tables = Tables::new();
    for table in TABLES {
        for resolution in [None].into_iter().chain(Resolution::ALL.map(Some)) {
            let batches = store.read(table, Range::ALL, resolution).await.unwrap();
            let width = resolution.map_or("all", Resolution::as_str);
            tables.insert(format!("{} {width}", table.name), lines(&batches));
        }
    }
    tables.insert("events".to_owned(), lines(&kept(&store).await));
    tables
}

/// What differs, at most a few rows of every table; nothing when all is equal.
pub fn differences(expected: &Tables, found: &Tables) -> Vec<String> {
    assert!(expected.keys().eq(found.keys()));
    let mut differences = Vec::new();
    for (name, rows) in expected {
        let (expected, found): (BTreeSet<&String>, BTreeSet<&String>) =
            (rows.iter().collect(), found[name].iter().collect());
        assert_eq!(
            expected.len(),
            rows.len(),
            "{name}: merged rows are distinct"
        );
        let missing = expected
            .difference(&found)
            .map(|row| format!("{name}: - {row}"));
        let added = found
            .difference(&expected)
            .map(|row| format!("{name}: + {row}"));
        differences.extend(missing.take(3).chain(added.take(3)));
        if rows.len() != found.len() {
            differences.push(format!("{name}: {} rows, not {}", found.len(), rows.len()));
        }
    }
    differences
}

/// Every record of a topic that is committed: (key, value). There must be no tombstones.
pub fn topic(services: &Services, name: &str) -> Vec<(String, serde_json::Value)> {
    let records = records(services, name).into_iter();
    records.map(|(key, value)| (key, value.unwrap())).collect()
}

/// Every record of a topic that is committed: (key, value or tombstone).
pub fn records(services: &Services, name: &str) -> Vec<(String, Option<serde_json::Value>)> {
    let consumer: BaseConsumer = services
        .config()
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()
        .unwrap();
    let patience = Duration::from_mins(1);
    let known = consumer.fetch_metadata(Some(name), patience).unwrap();
    let partitions = known.topics()[0].partitions();
    let mut all = TopicPartitionList::new();
    for partition in partitions {
        let place = all.add_partition_offset(name, partition.id(), Offset::Beginning);
        place.unwrap();
    }
    consumer.assign(&all).unwrap();
    let (mut records, mut ended) = (Vec::new(), BTreeSet::new());
    let watch = Stopwatch::start();
    while ended.len() < partitions.len() {
        assert!(
            watch.elapsed() < patience,
            "{name} cannot be read to its end"
        );
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                let key = String::from_utf8(record.key().unwrap_or_default().to_vec());
                let value = record.payload();
                let value = value.map(|value| serde_json::from_slice(value).unwrap());
                records.push((key.unwrap(), value));
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            Some(Err(error)) => panic!("{name}: {error}"),
            None => {}
        }
    }
    records
}

/// What holds after the last event of `labels` or `insights`: (subject, name). No event may stand there twice, and none
/// may end what does not hold.
pub fn holding(services: &Services, deployment: &Deployment, name: &str) -> BTreeSet<[String; 2]> {
    let (mut holds, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for (_, event) in topic(services, &format!("{}{name}", deployment.prefix)) {
        assert!(ids.insert(event["id"].to_string()), "twice: {event}");
        let what = event.pointer("/data/label");
        let what = what
            .or(event.pointer("/data/finding_info/types/0"))
            .unwrap();
        let subject = [event["subject"].to_string(), what.to_string()];
        let kind = event["type"].as_str().unwrap();
        let changed = if kind.ends_with(".applied") || kind.ends_with(".opened") {
            holds.insert(subject)
        } else {
            holds.remove(&subject)
        };
        assert!(changed, "nothing changed by {event}");
    }
    holds
}

/// Keys of the dead letters with their reasons; a letter may be there more than once, but always the same.
pub fn dead_letters(services: &Services, deployment: &Deployment) -> BTreeMap<String, String> {
    let mut letters = BTreeMap::new();
    for (key, event) in topic(services, &format!("{}deadletter", deployment.prefix)) {
        let text = event.to_string();
        if let Some(other) = letters.insert(key, text.clone()) {
            assert_eq!(other, text);
        }
    }
    letters
}
