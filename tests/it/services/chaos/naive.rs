//! What people write first: the group commits by itself, and every try of an insert is a new one. The same judging, the
//! same store, none of the protocol. It is right as long as nothing happens.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use gatewatch::clock::{Stopwatch, now_millis};
use gatewatch::config::{self, Settings, SourceKind};
use gatewatch::correlate::JoinState;
use gatewatch::enrich::{Judge, Shared};
use gatewatch::model::EventTime;
use gatewatch::pipeline::{Partition, Stream, keeping};
use gatewatch::store::StoreSettings;
use gatewatch::store::clickhouse::{ClickHouse, FlushRange};
use gatewatch::window;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message};

use crate::services::random_number;

/// Longest try of one flush, the store's own repetitions included: what is not answered by then is tried anew.
const PATIENCE: Duration = Duration::from_secs(2);

/// Consumes until it is killed.
pub async fn work(file: &Path) {
    let settings = config::load(file).unwrap();
    let SourceKind::Kafka(source) = &settings.source.kind else {
        panic!("no Kafka");
    };
    let StoreSettings::ClickHouse(store) = &settings.store else {
        panic!("no ClickHouse");
    };
    let mut store = store.clone();
    store.deadline = PATIENCE;
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &source.brokers)
        .set("group.id", &source.group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "200");
    for (name, value) in &source.options {
        config.set(name, value);
    }
    let consumer: BaseConsumer = config.create().unwrap();
    let topics: Vec<&str> = source.topics.iter().map(String::as_str).collect();
    consumer.subscribe(&topics).unwrap();
    let judge = Judge::new(
        settings.policy.clone(),
        Shared::new(settings.hash_key.as_ref().unwrap()).into(),
    );
    let mut partitions: HashMap<i32, Partition> = HashMap::new();
    let (mut since_flush, mut since_record) = (Stopwatch::start(), Stopwatch::start());
    loop {
        if let Some(record) = consumer.poll(Duration::from_millis(20)) {
            // Whatever it is, the next poll may do better.
            let Ok(record) = record else { continue };
            since_record = Stopwatch::start();
            let offset = record.offset().unsigned_abs();
            let partition = partitions
                .entry(record.partition())
                .or_insert_with(|| open(&settings, &judge, &topics, record.partition(), offset));
            let arrived = record.timestamp().to_millis().unwrap();
            let future = i64::try_from(settings.future.as_millis()).unwrap();
            let latest = EventTime::from_millis(arrived + future);
            let payload = record.payload().unwrap_or_default();
            partition.apply(payload, offset, offset + 1, latest);
        }
        let idle = since_record.elapsed() >= settings.correlate_idle;
        if idle || since_flush.elapsed() >= settings.flush_every {
            for partition in partitions.values_mut() {
                if idle {
                    partition.drain();
                }
                if !partition.idle() {
                    insert(&store, partition).await;
                }
            }
            since_flush = Stopwatch::start();
        }
    }
}

fn open(
    settings: &Settings,
    judge: &Judge,
    topics: &[&str],
    number: i32,
    offset: u64,
) -> Partition {
    let nothing = JoinState {
        from: offset,
        clock: None,
        closed: Vec::new(),
    };
    let (adapter, limits) = (settings.source.adapter.clone(), settings.limits);
    let judge_here = judge.clone();
    let stream = Stream::new(
        adapter,
        limits,
        settings.correlate,
        judge_here,
        &nothing,
        offset,
    );
    Partition::new(stream, judge, (topics[0], number), offset, false)
        .keeping(keeping(&settings.evidence), judge)
}

/// Inserts what there is, under a new token with every try, until one is answered.
async fn insert(store: &gatewatch::store::clickhouse::Settings, partition: &mut Partition) {
    let mut batches = partition.take().unwrap().batches;
    let events = batches.events.take();
    let sums = window::sum(batches).await.unwrap();
    loop {
        let first = random_number();
        let range = FlushRange {
            topic: "naive".to_owned(),
            partition: 0,
            first,
            last: first,
            drain: false,
        };
        let Ok(store) = ClickHouse::open(store, "naive").await else {
            continue;
        };
        let sums = store.write(&range, &sums, now_millis()).await;
        let events = store.write_events(&range, events.as_ref(), now_millis());
        if sums.is_ok() && events.await.is_ok() {
            return;
        }
    }
}
