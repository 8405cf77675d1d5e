//! Tests against the real Kafka broker and the real ClickHouse engine, which `tests/services/run` starts. Without them a
//! test says that it is skipped; with `GATEWATCH_TEST_REQUIRED` set, being without them is a failure.

mod backtest;
mod chaos;
mod closed_loop;
mod contents;
mod deployment;
mod evaluator;
mod gaps;
mod gateways;
mod memory;
mod replica;
mod source;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::DefaultProducerContext;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

/// Where the services listen.
pub struct Services {
    pub kafka: String,
    pub clickhouse: String,
}

/// The services, or `None` after saying that `test` is skipped.
pub fn services(test: &str) -> Option<Services> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let found = variable("GATEWATCH_TEST_KAFKA").zip(variable("GATEWATCH_TEST_CLICKHOUSE"));
    if let Some((kafka, clickhouse)) = found {
        return Some(Services { kafka, clickhouse });
    }
    assert!(
        std::env::var_os("GATEWATCH_TEST_REQUIRED").is_none(),
        "{test} needs the services of tests/services/run"
    );
    eprintln!("SKIPPED {test}: no Kafka and ClickHouse (tests/services/run starts them)");
    None
}

/// A name that no other test and no other run has.
pub fn unique(name: &str) -> String {
    let random: [u8; 6] = rand_bytes();
    format!(
        "{name}-{}",
        random.map(|byte| format!("{byte:02x}")).concat()
    )
}

fn rand_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes
}

/// Ports that nobody listens on now, below those that the system gives to whoever connects: none is taken between this
/// look and the start of the program that is told to use it.
pub fn free_ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    [(); N].map(|()| {
        loop {
            let number = std::process::id() * 61 + NEXT.fetch_add(1, Ordering::Relaxed);
            let port = 20_000 + u16::try_from(number % 10_000).unwrap();
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return port;
            }
        }
    })
}

/// Any number.
pub fn random_number() -> u64 {
    u64::from_le_bytes(rand_bytes())
}

impl Services {
    /// A client's settings.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka);
        config
    }

    /// Creates a topic.
    pub async fn topic(&self, name: &str, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().unwrap();
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let results = admin
            .create_topics([&topic], &AdminOptions::new())
            .await
            .unwrap();
        results[0].as_ref().unwrap();
    }

    /// Produces (partition, key, payload), in order, and waits until all of it is acknowledged.
    pub fn produce<'p>(
        &self,
        topic: &str,
        records: impl Iterator<Item = (i32, &'p str, &'p [u8])>,
    ) {
        let producer: ThreadedProducer<DefaultProducerContext> = self
            .config()
            .set("enable.idempotence", "true")
            .set("linger.ms", "20")
            .set("queue.buffering.max.messages", "1000000")
            .create()
            .unwrap();
        for (partition, key, payload) in records {
            let mut record = BaseRecord::to(topic)
                .partition(partition)
                .key(key)
                .payload(payload);
            while let Err((_, again)) = producer.send(record) {
                record = again;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        producer.flush(Duration::from_mins(1)).unwrap();
    }

    /// Offset after the last record of every partition.
    pub fn ends(&self, topic: &str, partitions: i32) -> BTreeMap<i32, u64> {
        let consumer: BaseConsumer = self.config().create().unwrap();
        let end = |partition| {
            let marks = consumer.fetch_watermarks(topic, partition, Duration::from_mins(1));
            (partition, marks.unwrap().1.unsigned_abs())
        };
        (0..partitions).map(end).collect()
    }
}
