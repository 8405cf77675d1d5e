//! What topics hold from one moment to another, read once by a consumer that nobody notices: it joins no group, commits
//! nothing and makes no topic.
//!
//! Enters: topics and two moments of the records' own timestamps. Leaves: their records, partition by partition in order.
//! A partition ends where it ended when the reading began. What a record means is not here.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataPartition;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use thiserror::Error;

use super::context::Context;
use super::{Lag, TopicPartition};
use crate::clock::Stopwatch;
use crate::wire::kafka;

/// How long one question to the cluster may take: somebody sits in front of it.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long nothing may come of a partition that has more.
const SILENCE: Duration = Duration::from_secs(30);
/// Longest wait for one record.
const POLL: Duration = Duration::from_millis(100);

/// Where to read.
#[derive(Clone, Debug)]
pub struct Topics {
    /// `bootstrap.servers`.
    pub brokers: String,
    /// Topics.
    pub topics: Vec<String>,
    /// librdkafka's own settings; those about the connection are used.
    pub options: BTreeMap<String, String>,
}

/// Why the history cannot be read.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// A setting is refused before anything is connected.
    #[error(
        "source.options: {0}\n  hint: option names and values are those of librdkafka's CONFIGURATION.md"
    )]
    Options(KafkaError),
    /// A topic is not there.
    #[error(
        "the cluster has no topic {0}\n  hint: topics are named in source.topics, or with --topic"
    )]
    NoTopic(String),
    /// The cluster does not answer, or refuses.
    #[error("reading {what} failed: {source}{}{words}\n  hint: check source.brokers and source.options, and that this user may read and describe the topic", if words.is_empty() { "" } else { ": " })]
    Kafka {
        /// What was read.
        what: String,
        /// The error.
        source: KafkaError,
        /// The server's words.
        words: String,
    },
    /// Records that exist do not come.
    #[error("{0} went silent before its end\n  hint: a broker may be down; try again")]
    Silent(TopicPartition),
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'r> {
    /// Number of its partition among [`History::partitions`].
    pub partition: usize,
    /// Kafka offset.
    pub offset: u64,
    /// The record's own timestamp, epoch milliseconds.
    pub timestamp: Option<i64>,
    /// Its bytes; none for a tombstone.
    pub payload: &'r [u8],
}

/// A range of a partition.
struct Stretch {
    at: TopicPartition,
    next: u64,
    end: u64,
}

/// Records of some topics between two moments.
pub struct History {
    consumer: BaseConsumer<Context>,
    stretches: Vec<Stretch>,
}

impl History {
    /// Finds the offsets of a range: from the first record with a timestamp of `from` or later to the first with a timestamp
    /// of `until` or later, both epoch milliseconds.
    ///
    /// # Errors
    /// A topic is not there, or the cluster does not answer.
    pub fn open(topics: &Topics, from: i64, until: i64) -> Result<Self, HistoryError> {
        let connection: BTreeMap<String, String> = topics
            .options
            .iter()
            .filter(|(name, _)| kafka::is_connection(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let mut config = kafka::client(&topics.brokers, &connection);
        config
            // A group in name only, which librdkafka asks for: nobody joins it and nothing is committed.
            .set("group.id", "gatewatch.backtest")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // What retention removes meanwhile is passed over.
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("allow.auto.create.topics", "false");
        let consumer: BaseConsumer<Context> = config
            .create_with_context(Context::new(Lag::default()))
            .map_err(HistoryError::Options)?;
        let mut history = Self {
            consumer,
            stretches: Vec::new(),
        };
        for topic in &topics.topics {
            history.find(topic, from, until)?;
        }
        Ok(history)
    }

    /// Every partition of the topics.
    pub fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.stretches.iter().map(|stretch| &stretch.at)
    }

    /// Offsets to read.
    #[must_use]
    pub fn total(&self) -> u64 {
        let length = |stretch: &Stretch| stretch.end.saturating_sub(stretch.next);
        self.stretches.iter().map(length).sum()
    }

    fn find(&mut self, topic: &str, from: i64, until: i64) -> Result<(), HistoryError> {
        let error = |source| self.error(topic, source);
        // librdkafka answers the first question before it has reached anybody.
        let metadata = self.consumer.fetch_metadata(Some(topic), PATIENCE);
        let metadata = metadata.map_err(error)?;
        let known = metadata.topics().iter().find(|known| known.name() == topic);
        let known = known.filter(|known| known.error().is_none());
        let Some(known) = known.filter(|known| !known.partitions().is_empty()) else {
            return Err(HistoryError::NoTopic(topic.to_owned()));
        };
        let partitions: Vec<i32> = known
            .partitions()
            .iter()
            .map(MetadataPartition::id)
            .collect();
        let starts = self.offsets_at(topic, &partitions, from)?;
        let ends = self.offsets_at(topic, &partitions, until)?;
        for partition in partitions {
            let at = TopicPartition {
                topic: topic.into(),
                partition,
            };
            let marks = self.consumer.fetch_watermarks(topic, partition, PATIENCE);
            let (low, high) = marks.map_err(|source| self.error(&at.to_string(), source))?;
            // No record is that young: the range lies behind the end.
            let next = starts.get(&partition).copied().unwrap_or(high).max(low);
            let end = ends.get(&partition).copied().unwrap_or(high).min(high);
            self.stretches.push(Stretch {
                at,
                next: next.unsigned_abs(),
                end: end.unsigned_abs(),
            });
        }
        Ok(())
    }

    /// For each partition the first offset whose record has this timestamp or a later one, where there is one.
    fn offsets_at(
        &self,
        topic: &str,
        partitions: &[i32],
        timestamp: i64,
    ) -> Result<BTreeMap<i32, i64>, HistoryError> {
        let error = |source| self.error(topic, source);
        let mut asked = TopicPartitionList::new();
        for partition in partitions {
            let timestamp = Offset::Offset(timestamp.max(0));
            let added = asked.add_partition_offset(topic, *partition, timestamp);
            added.map_err(error)?;
        }
        let found = self.consumer.offsets_for_times(asked, PATIENCE);
        let mut offsets = BTreeMap::new();
        for element in found.map_err(error)?.elements() {
            element.error().map_err(error)?;
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert(element.partition(), offset);
            }
        }
        Ok(offsets)
    }

    /// Reads every record in the range, until `each` says that it has enough.
    ///
    /// # Errors
    /// The cluster refuses, or goes silent.
    pub fn read(mut self, each: &mut dyn FnMut(Recorded<'_>) -> bool) -> Result<(), HistoryError> {
        // One topic after the other: the end of a partition is told by its number alone.
        let mut start = 0;
        while let Some(topic) = self.stretches.get(start).map(|open| open.at.topic.clone()) {
            let same = |stretch: &&Stretch| stretch.at.topic == topic;
            let count = self.stretches.iter().skip(start).take_while(same).count();
            if !self.read_topic(start, start + count, each)? {
                return Ok(());
            }
            start += count;
        }
        Ok(())
    }

    /// Reads the stretches `[first, last)`, all of one topic; `false` = enough.
    fn read_topic(
        &mut self,
        first: usize,
        last: usize,
        each: &mut dyn FnMut(Recorded<'_>) -> bool,
    ) -> Result<bool, HistoryError> {
        let mut assignment = TopicPartitionList::new();
        let mut open: BTreeMap<i32, usize> = BTreeMap::new();
        for number in first..last {
            let Some(stretch) = self.stretches.get(number) else {
                continue;
            };
            if stretch.next < stretch.end {
                let offset = Offset::Offset(i64::try_from(stretch.next).unwrap_or(i64::MAX));
                let (topic, partition) = (&stretch.at.topic, stretch.at.partition);
                let added = assignment.add_partition_offset(topic, partition, offset);
                added.map_err(|source| self.error(topic, source))?;
                open.insert(partition, number);
            }
        }
        let assigned = self.consumer.assign(&assignment);
        assigned.map_err(|source| self.error("an assignment", source))?;
        let mut since = Stopwatch::start();
        while let Some(waiting) = open.values().next().copied() {
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    since = Stopwatch::start();
                    let Some(number) = open.get(&message.partition()).copied() else {
                        continue;
                    };
                    let Some(stretch) = self.stretches.get_mut(number) else {
                        continue;
                    };
                    let offset = message.offset().unsigned_abs();
                    let inside = (stretch.next..stretch.end).contains(&offset);
                    stretch.next = stretch.next.max(offset + 1);
                    let done = stretch.next >= stretch.end;
                    let record = Recorded {
                        partition: number,
                        offset,
                        timestamp: message.timestamp().to_millis(),
                        payload: message.payload().unwrap_or_default(),
                    };
                    let more = !inside || each(record);
                    if done {
                        self.close(&mut open, message.partition());
                    }
                    if !more {
                        return Ok(false);
                    }
                }
                // Offsets without records may stand before the end: of transactions, or compacted away.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    since = Stopwatch::start();
                    self.close(&mut open, partition);
                }
                Some(Err(source)) => {
                    let gone = matches!(
                        source.rdkafka_error_code(),
                        Some(
                            RDKafkaErrorCode::UnknownTopicOrPartition
                                | RDKafkaErrorCode::UnknownTopic
                                | RDKafkaErrorCode::UnknownPartition
                        )
                    );
                    if gone || kafka::is_definite(&source) {
                        return Err(self.error("records", source));
                    }
                    tracing::warn!("Kafka: {source}; trying again");
                }
                None => {}
            }
            if since.elapsed() > SILENCE {
                let at = self
                    .stretches
                    .get(waiting)
                    .map(|stretch| stretch.at.clone());
                return at.map_or(Ok(true), |at| Err(HistoryError::Silent(at)));
            }
        }
        Ok(true)
    }

    /// Reads no more of a partition.
    fn close(&self, open: &mut BTreeMap<i32, usize>, partition: i32) {
        let number = open.remove(&partition);
        if let Some(stretch) = number.and_then(|number| self.stretches.get(number)) {
            let mut list = TopicPartitionList::new();
            list.add_partition(&stretch.at.topic, partition);
            // Only saves fetching what nobody takes.
            if let Err(error) = self.consumer.pause(&list) {
                tracing::debug!(target: "kafka", "{} is not paused: {error}", stretch.at);
            }
        }
    }

    fn error(&self, what: &str, source: KafkaError) -> HistoryError {
        HistoryError::Kafka {
            what: what.to_owned(),
            source,
            words: self.consumer.context().words(),
        }
    }
}
