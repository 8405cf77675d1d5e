//! The evaluator's seat: a member of a consumer group on the one partition of the proposals. Who owns it evaluates.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use crate::publish::kafka::{Cluster, Heard, PublishError};

/// Most proposals applied in one transaction.
const BATCH: usize = 500;
/// How long one question to the cluster may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Options of the source's consumer that say how fast a dead member is noticed; they hold for this group too.
const SHARED_OPTIONS: [&str; 3] = [
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
];

/// Knows whether the partition is ours. Every assignment is another seat: odd numbers are ours, even ones are not.
#[derive(Default)]
struct Seat {
    number: AtomicU64,
    heard: Heard,
}

impl Seat {
    /// Moves on to the next number of the wanted parity.
    fn take(&self, ours: bool) {
        let number = self.number.load(Ordering::Acquire);
        if ours || number % 2 == 1 {
            let step = if ours && number % 2 == 1 { 2 } else { 1 };
            self.number.store(number + step, Ordering::Release);
        }
    }
}

impl ClientContext for Seat {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.heard.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.heard.error(error, reason);
    }
}

impl ConsumerContext for Seat {
    /// The partition comes paused, because where to start is known only after the predecessor is fenced; and with a
    /// logical offset, which makes it seekable at once.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let ours = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        // Who waits for the seat is a member too, and is assigned nothing.
        if ours {
            self.heard.accepted();
        }
        let outcome = if ours {
            partitions
                .set_all_offsets(Offset::Beginning)
                .and_then(|()| consumer.incremental_assign(partitions))
                .and_then(|()| consumer.pause(partitions))
        } else {
            consumer.incremental_unassign(partitions)
        };
        if let Err(error) = outcome {
            tracing::warn!("a rebalance of the evaluators was not applied: {error}");
        }
        // A rebalance that changes nothing here comes with an empty list.
        if partitions.count() > 0 {
            self.take(ours);
        }
    }
}

/// A record of the log of proposals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proposed {
    pub(super) offset: u64,
    pub(super) record: Vec<u8>,
}

/// A member of the evaluators' group.
pub(super) struct Member {
    cluster: Cluster,
    topic: String,
    consumer: BaseConsumer<Seat>,
}

impl Member {
    /// Joins the group; `options` are those of the source's consumer.
    pub(super) fn join(
        cluster: &Cluster,
        group: &str,
        topic: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<Self, PublishError> {
        let mut config = cluster.reader();
        config
            .set("group.id", group)
            // Sticky: a node that joins does not take the seat from the one that has it.
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "2000");
        for name in SHARED_OPTIONS {
            if let Some(value) = options.get(name) {
                config.set(name, value);
            }
        }
        let topic = cluster.topic(topic);
        let error = |source| PublishError::Kafka {
            what: format!("joining the evaluators' group {group}"),
            brokers: cluster.brokers.clone(),
            source: Box::new(source),
        };
        let consumer: BaseConsumer<Seat> =
            config.create_with_context(Seat::default()).map_err(error)?;
        consumer.subscribe(&[&topic]).map_err(error)?;
        Ok(Self {
            cluster: cluster.clone(),
            topic,
            consumer,
        })
    }

    /// Full name of the topic.
    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// Waits for records as [`Self::poll`] does, and takes what else is there.
    pub(super) fn proposed(&self, patience: Duration) -> Result<Vec<Proposed>, PublishError> {
        let mut proposed = Vec::new();
        let mut patience = patience;
        while proposed.len() < BATCH
            && let Some(record) = self.poll(patience)?
        {
            proposed.push(record);
            patience = Duration::ZERO;
        }
        Ok(proposed)
    }

    /// Waits for the next record and takes part in the group; must be called often.
    fn poll(&self, patience: Duration) -> Result<Option<Proposed>, PublishError> {
        match self.consumer.poll(patience) {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(Proposed {
                offset: u64::try_from(message.offset()).unwrap_or_default(),
                record: message.payload().unwrap_or_default().to_vec(),
            })),
            Some(Err(source)) => {
                let error = self.error("following proposals", source);
                if error.retry() {
                    // librdkafka goes on by itself.
                    tracing::warn!("{error}");
                    return Ok(None);
                }
                Err(error)
            }
        }
    }

    /// The seat that is ours, if it is; another number is another assignment.
    pub(super) fn seat(&self) -> Option<u64> {
        let number = self.consumer.context().number.load(Ordering::Acquire);
        (number % 2 == 1 && !self.consumer.assignment_lost()).then_some(number)
    }

    /// The committed position and what was committed with it. Waits for a transaction that is being committed.
    pub(super) fn committed(&self) -> Result<(Option<u64>, String), PublishError> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&self.topic, 0);
        let committed = self.consumer.committed_offsets(asked, PATIENCE);
        let committed =
            committed.map_err(|source| self.error("reading the committed position", source))?;
        let Some(place) = committed.find_partition(&self.topic, 0) else {
            return Ok((None, String::new()));
        };
        let offset = match place.offset() {
            Offset::Offset(offset) => u64::try_from(offset).ok(),
            _ => None,
        };
        let metadata = if offset.is_some() {
            place.metadata().to_owned()
        } else {
            String::new()
        };
        Ok((offset, metadata))
    }

    /// Offset of the first record that is kept.
    pub(super) fn first_kept(&self) -> Result<u64, PublishError> {
        let watermarks = self.consumer.fetch_watermarks(&self.topic, 0, PATIENCE);
        let (low, _) =
            watermarks.map_err(|source| self.error("looking at the proposals", source))?;
        Ok(u64::try_from(low).unwrap_or_default())
    }

    /// Goes on at `offset`.
    pub(super) fn start(&self, offset: u64) -> Result<(), PublishError> {
        let offset = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
        let start = || -> KafkaResult<()> {
            self.consumer.seek(&self.topic, 0, offset, PATIENCE)?;
            let mut place = TopicPartitionList::new();
            place.add_partition(&self.topic, 0);
            self.consumer.resume(&place)
        };
        start().map_err(|source| self.error("following proposals", source))
    }

    /// Who we are in the group, for transactions.
    pub(super) fn identity(&self) -> Option<ConsumerGroupMetadata> {
        self.consumer.group_metadata()
    }

    fn error(&self, what: &str, source: KafkaError) -> PublishError {
        let heard = &self.consumer.context().heard;
        heard.judge(&self.cluster, what, source)
    }
}
