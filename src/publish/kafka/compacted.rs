//! Reads topics as their committed records: a compacted topic to its end, or a log from an offset on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Offset, TopicPartitionList};

use super::{Cluster, Heard, PublishError};

/// How long one question to the cluster may take, and how long it may be silent before the end of a topic is seen.
const PATIENCE: Duration = Duration::from_secs(30);

/// One committed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Offset.
    pub offset: u64,
    /// Key; empty = none.
    pub key: String,
    /// Value; `None` = a tombstone.
    pub value: Option<Vec<u8>>,
}

/// What a look at a topic gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// A record.
    Record(Record),
    /// There is nothing more for now.
    End,
    /// Nothing came in time.
    Silence,
}

/// A topic that is being read, without a group and without leaving a trace.
pub struct Log {
    cluster: Cluster,
    topic: String,
    consumer: BaseConsumer<Heard>,
    /// Partitions whose end was not seen yet.
    unread: BTreeSet<i32>,
}

impl Log {
    /// Every partition of a topic from its first record.
    ///
    /// # Errors
    /// The cluster is not reachable, or refuses.
    pub fn whole(cluster: &Cluster, topic: &str) -> Result<Self, PublishError> {
        let mut log = Self::unassigned(cluster, topic)?;
        let name = log.topic.clone();
        let metadata = log.consumer.fetch_metadata(Some(&name), PATIENCE);
        let metadata = metadata.map_err(|source| log.error(source))?;
        log.heard().accepted();
        let partitions = metadata
            .topics()
            .first()
            .into_iter()
            .flat_map(|topic| topic.partitions().iter().map(MetadataPartition::id));
        let starts: Vec<_> = partitions
            .map(|partition| (partition, Offset::Beginning))
            .collect();
        log.assign(&starts)?;
        Ok(log)
    }

    /// The first partition of a topic from `offset` on.
    ///
    /// # Errors
    /// As [`Self::whole`].
    pub fn since(cluster: &Cluster, topic: &str, offset: u64) -> Result<Self, PublishError> {
        let mut log = Self::unassigned(cluster, topic)?;
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        log.assign(&[(0, Offset::Offset(offset))])?;
        Ok(log)
    }

    /// The first partition of a topic, from its end as it is now on. Gives that end too.
    ///
    /// # Errors
    /// As [`Self::whole`].
    pub fn tail(cluster: &Cluster, topic: &str) -> Result<Self, PublishError> {
        let mut log = Self::unassigned(cluster, topic)?;
        let watermarks = log.consumer.fetch_watermarks(&log.topic, 0, PATIENCE);
        let (_, end) = watermarks.map_err(|source| log.error(source))?;
        log.heard().accepted();
        log.assign(&[(0, Offset::Offset(end))])?;
        Ok(log)
    }

    fn unassigned(cluster: &Cluster, topic: &str) -> Result<Self, PublishError> {
        let topic = cluster.topic(topic);
        let consumer = cluster
            .reader()
            // A group of its own in name only: nothing is committed and nobody joins.
            .set("group.id", "gatewatch.reader")
            .set("enable.partition.eof", "true")
            .create_with_context(Heard::default())
            .map_err(|source| {
                PublishError::kafka(cluster, format!("reading the topic {topic}"), source)
            })?;
        Ok(Self {
            cluster: cluster.clone(),
            topic,
            consumer,
            unread: BTreeSet::new(),
        })
    }

    fn assign(&mut self, starts: &[(i32, Offset)]) -> Result<(), PublishError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in starts {
            let added = list.add_partition_offset(&self.topic, *partition, *offset);
            added.map_err(|source| self.error(source))?;
            self.unread.insert(*partition);
        }
        self.consumer
            .assign(&list)
            .map_err(|source| self.error(source))
    }

    /// Whether there is nothing to read: the topic does not exist.
    #[must_use]
    pub fn is_unassigned(&self) -> bool {
        self.consumer
            .assignment()
            .is_ok_and(|list| list.count() == 0)
    }

    /// The next record, the end of all partitions, or silence for as long as `patience`.
    ///
    /// # Errors
    /// The cluster refuses, or a record is gone.
    pub fn next(&mut self, patience: Duration) -> Result<Read, PublishError> {
        loop {
            match self.consumer.poll(patience) {
                None => return Ok(Read::Silence),
                Some(Ok(message)) => {
                    self.heard().accepted();
                    let key = message.key().unwrap_or_default();
                    return Ok(Read::Record(Record {
                        offset: u64::try_from(message.offset()).unwrap_or_default(),
                        key: String::from_utf8_lossy(key).into_owned(),
                        value: message.payload().map(<[u8]>::to_vec),
                    }));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.heard().accepted();
                    self.unread.remove(&partition);
                    if self.unread.is_empty() {
                        return Ok(Read::End);
                    }
                }
                Some(Err(source)) => {
                    let error = self.error(source);
                    if !error.retry() {
                        return Err(error);
                    }
                    // librdkafka goes on by itself; whoever asks ends an outage by its patience.
                }
            }
        }
    }

    /// Whether the cluster answers for every partition that is read.
    #[must_use]
    pub fn answers(&self, patience: Duration) -> bool {
        let Ok(list) = self.consumer.assignment() else {
            return false;
        };
        list.elements().iter().all(|element| {
            let watermarks =
                self.consumer
                    .fetch_watermarks(&self.topic, element.partition(), patience);
            watermarks.is_ok()
        })
    }

    fn heard(&self) -> &Heard {
        self.consumer.client().context()
    }

    fn error(&self, source: KafkaError) -> PublishError {
        let what = format!("reading the topic {}", self.topic);
        self.heard().judge(&self.cluster, what, source)
    }
}

/// What a compacted topic holds: the newest value of every key that has one.
///
/// # Errors
/// The cluster is not reachable ([`PublishError::retry`]), or refuses.
pub fn read_compacted(
    cluster: &Cluster,
    topic: &str,
) -> Result<BTreeMap<String, Vec<u8>>, PublishError> {
    let mut log = Log::whole(cluster, topic)?;
    let mut held = BTreeMap::new();
    if log.unread.is_empty() {
        return Ok(held);
    }
    loop {
        match log.next(PATIENCE)? {
            Read::Record(Record { key, value, .. }) => {
                match value {
                    Some(value) => held.insert(key, value),
                    None => held.remove(&key),
                };
            }
            Read::End => return Ok(held),
            Read::Silence => {
                return Err(log.error(KafkaError::NoMessageReceived));
            }
        }
    }
}
