//! The lines of the generator → records of a Kafka topic.
//!
//! The key of a record is the id of its exchange, so that a request and its response lie in one partition, where the
//! pipeline joins them. A refused line has no id and no key. Every record is acknowledged by all in-sync replicas.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use indicatif::ProgressBar;
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use serde::Deserialize;

use super::Pace;
use crate::traffic::Generator;
use crate::wire::kafka;

/// Longest wait for the cluster before the first record.
const REACH: Duration = Duration::from_secs(10);
/// How often a wait for deliveries looks up.
const LOOK: Duration = Duration::from_millis(100);
/// Lines between two looks at the deliveries.
const POLL_EVERY: u64 = 512;

/// Where records go.
#[derive(Debug)]
pub(super) struct Target<'a> {
    /// `bootstrap.servers`.
    pub(super) brokers: &'a str,
    /// The topic.
    pub(super) topic: &'a str,
    /// Partitions of the topic when it has to be made; `None` = it must be there.
    pub(super) partitions: Option<i32>,
    /// librdkafka's own settings.
    pub(super) options: BTreeMap<String, String>,
}

/// What the cluster said about each record.
#[derive(Debug, Default)]
struct Deliveries {
    delivered: AtomicU64,
    /// The first definite failure, in the words of the cluster.
    failed: Mutex<Option<String>>,
}

impl Deliveries {
    fn failure(&self) -> Option<String> {
        self.failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn fail(&self, words: String) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert(words);
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        kafka::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "kafka", "{error}: {reason}");
        if kafka::is_definite(&error) {
            self.fail(reason.to_owned());
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.delivered.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => self.fail(error.to_string()),
        }
    }
}

/// The id of an exchange, where a line has one.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

/// Produces every line and waits until all are delivered; gives their number.
///
/// # Errors
/// The cluster cannot be reached, refuses, or does not take a record in time; the topic is missing.
pub(super) fn produce(
    generator: &mut Generator,
    target: &Target<'_>,
    pace: Pace,
    progress: &ProgressBar,
) -> anyhow::Result<u64> {
    let mut options = target.options.clone();
    for (name, value) in [("linger.ms", "20"), ("compression.type", "lz4")] {
        options
            .entry(name.to_owned())
            .or_insert_with(|| value.to_owned());
    }
    let mut config = kafka::client(target.brokers, &options);
    config.set("enable.idempotence", "true").set("acks", "all");
    let producer: BaseProducer<Deliveries> = config
        .create_with_context(Deliveries::default())
        .context("librdkafka refuses the options")?;
    let refused = || {
        producer
            .context()
            .failure()
            .map(|words| said(target, &words))
    };
    find_topic(&producer, target, &options)?;

    let mut line = Vec::new();
    let mut lines = 0_u64;
    loop {
        line.clear();
        if !generator.next_line(&mut line) {
            break;
        }
        let value = line.trim_ascii_end();
        let parsed: Option<Line<'_>> = serde_json::from_slice(value).ok();
        let mut record = BaseRecord::to(target.topic).payload(value);
        if let Some(line) = &parsed {
            record = record.key(line.id.as_bytes());
        }
        while let Err((error, back)) = producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(said(target, &error.to_string()));
            }
            producer.poll(LOOK);
            if let Some(error) = refused() {
                return Err(error);
            }
            record = back;
        }
        lines += 1;
        if lines.is_multiple_of(POLL_EVERY) {
            producer.poll(Duration::ZERO);
            progress.set_position(generator.made());
            if let Some(error) = refused() {
                return Err(error);
            }
        }
        pace.wait(lines, &mut |left| {
            progress.set_position(generator.made());
            producer.poll(left);
            refused().map_or(Ok(()), Err)
        })?;
    }
    while producer.in_flight_count() > 0 && refused().is_none() {
        producer.poll(LOOK);
    }
    if let Some(error) = refused() {
        return Err(error);
    }
    let delivered = producer.context().delivered.load(Ordering::Relaxed);
    if delivered != lines {
        bail!("{delivered} of {lines} records were acknowledged");
    }
    Ok(delivered)
}

fn said(target: &Target<'_>, words: &str) -> anyhow::Error {
    anyhow!(
        "producing to {} at {} failed: {words}",
        target.topic,
        target.brokers
    )
}

/// Makes sure that the topic is there. All topics are listed, because asking for one may make it with the broker's defaults.
fn find_topic(
    producer: &BaseProducer<Deliveries>,
    target: &Target<'_>,
    options: &BTreeMap<String, String>,
) -> anyhow::Result<()> {
    let known = producer.client().fetch_metadata(None, REACH).map_err(|error| {
        // What the cluster said about it, such as wrong credentials, waits in the queue of events.
        producer.poll(LOOK);
        let cause = producer.context().failure().unwrap_or_else(|| error.to_string());
        anyhow!(
            "cannot reach Kafka at {}: {cause}\n  hint: check --kafka, and --option security.protocol=… where the cluster asks for it",
            target.brokers
        )
    })?;
    if known
        .topics()
        .iter()
        .any(|topic| topic.name() == target.topic)
    {
        return Ok(());
    }
    let Some(partitions) = target.partitions else {
        bail!(
            "there is no topic {} at {}\n  hint: --partitions N creates it",
            target.topic,
            target.brokers
        );
    };
    let connection = options
        .iter()
        .filter(|(name, _)| kafka::is_connection(name));
    let connection = connection
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let admin: AdminClient<kafka::Logged> = kafka::client(target.brokers, &connection)
        .create_with_context(kafka::Logged)
        .context("librdkafka refuses the options")?;
    // A replication factor of -1 is the broker's default (KIP-464).
    let topic = NewTopic::new(target.topic, partitions, TopicReplication::Fixed(-1));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let limits = AdminOptions::new()
        .operation_timeout(Some(REACH))
        .request_timeout(Some(REACH));
    let created = runtime.block_on(admin.create_topics([&topic], &limits));
    for outcome in created.with_context(|| format!("cannot create the topic {}", target.topic))? {
        match outcome {
            // Somebody else was faster.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, error)) => bail!("cannot create the topic {topic}: {error}"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use indicatif::ProgressBar;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::message::Message;
    use rdkafka::mocking::MockCluster;
    use rdkafka::{Offset, TopicPartitionList};

    use super::{Target, produce};
    use crate::cli::generate::Pace;
    use crate::model::EventTime;
    use crate::traffic::{DEFAULT_START_SECONDS, Generator, Scenario};

    fn generator(scenario: &Scenario) -> Generator {
        let start = EventTime::from_seconds(DEFAULT_START_SECONDS).unwrap();
        Generator::new(scenario, 3, 800, start, 3_600)
            .unwrap()
            .bad_per_mille(20)
    }

    fn target<'a>(brokers: &'a str, topic: &'a str) -> Target<'a> {
        Target {
            brokers,
            topic,
            partitions: None,
            options: BTreeMap::new(),
        }
    }

    /// Everything in a topic: (partition, key, value).
    fn read(
        brokers: &str,
        topic: &str,
        partitions: i32,
        count: usize,
    ) -> Vec<(i32, Option<Vec<u8>>, Vec<u8>)> {
        let mut config = crate::wire::kafka::client(brokers, &BTreeMap::new());
        let consumer: BaseConsumer = config.set("group.id", "test").create().unwrap();
        let mut all = TopicPartitionList::new();
        for partition in 0..partitions {
            all.add_partition_offset(topic, partition, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&all).unwrap();
        let mut records = Vec::new();
        while records.len() < count {
            let message = consumer
                .poll(Duration::from_secs(20))
                .expect("a record")
                .unwrap();
            let value = message.payload().unwrap().to_vec();
            let key = message.key().map(<[u8]>::to_vec);
            records.push((message.partition(), key, value));
        }
        records
    }

    #[test]
    fn every_line_arrives_and_halves_share_a_partition() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("events", 4, 1).unwrap();
        let brokers = cluster.bootstrap_servers();
        let scenario = Scenario::everything();
        let mut lines = Vec::new();
        let mut expected = Vec::new();
        let mut same = generator(&scenario);
        while same.next_line(&mut lines) {
            expected.push(lines.trim_ascii_end().to_vec());
            lines.clear();
        }
        let pace = Pace::start(None);
        let bar = ProgressBar::hidden();
        let sent = produce(
            &mut generator(&scenario),
            &target(&brokers, "events"),
            pace,
            &bar,
        )
        .unwrap();
        assert_eq!(sent, expected.len() as u64);

        let records = read(&brokers, "events", 4, expected.len());
        let mut values: Vec<Vec<u8>> = records.iter().map(|(_, _, value)| value.clone()).collect();
        values.sort();
        expected.sort();
        assert!(values == expected);
        let mut partitions_of: BTreeMap<&[u8], BTreeSet<i32>> = BTreeMap::new();
        let mut halves = 0;
        for (partition, key, value) in &records {
            let id = serde_json::from_slice::<serde_json::Value>(value)
                .ok()
                .and_then(|event| event["id"].as_str().map(|id| id.as_bytes().to_vec()));
            assert_eq!(*key, id, "{}", String::from_utf8_lossy(value));
            if let Some(key) = key {
                halves += usize::from(!partitions_of.entry(key).or_default().insert(*partition));
            }
        }
        assert!(
            partitions_of
                .values()
                .all(|partitions| partitions.len() == 1)
        );
        assert!(halves > 10, "pairs that travel apart: {halves}");
        let used: BTreeSet<i32> = records.iter().map(|(partition, ..)| *partition).collect();
        assert_eq!(used.len(), 4);
    }

    #[test]
    fn a_missing_topic_and_a_missing_cluster_are_named() {
        let cluster = MockCluster::new(1).unwrap();
        let brokers = cluster.bootstrap_servers();
        let scenario = Scenario::demo();
        let bar = ProgressBar::hidden();
        let fail = |target: &Target<'_>| {
            let pace = Pace::start(None);
            produce(&mut generator(&scenario), target, pace, &bar)
                .unwrap_err()
                .to_string()
        };
        let error = fail(&target(&brokers, "nowhere"));
        assert!(
            error.contains("no topic nowhere") && error.contains("--partitions N"),
            "{error}"
        );
        let mut wrong = target(&brokers, "nowhere");
        wrong
            .options
            .insert("no.such.option".to_owned(), "1".to_owned());
        let error = fail(&wrong);
        assert!(error.contains("refuses the options"), "{error}");
    }
}
