//! The evaluator's producer: what is said once, together with the position that it follows from, in one transaction.
//!
//! Three things keep a second writer out. [`Writer::open`] raises the epoch of the transactional id, which ends an open
//! transaction of whoever held it before and fences it. Every transaction carries the member and generation of the
//! consumer that owns the proposals, so a member that lost them cannot commit. And readers use `read_committed`, so what
//! an ousted writer sent is never seen.

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::Offset;
use thiserror::Error;

use super::{Cluster, Heard, Message};
use crate::wire::kafka as wire;

/// How long one call to the cluster may take; [`ATTEMPTS`] of them, and its result counts as unknown.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a transaction that was cleanly aborted is tried again.
const ATTEMPTS: usize = 5;
/// How long to wait when librdkafka's queue is full.
const FULL: Duration = Duration::from_millis(10);

/// Where the evaluator is in the proposals, with what it knows besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Full name of the topic.
    pub topic: String,
    /// Offset after the last proposal that was applied.
    pub offset: u64,
    /// Committed with it.
    pub metadata: String,
}

/// A transaction that was not committed, as far as we know.
#[derive(Debug, Error)]
pub enum WriteError {
    /// Somebody else is the evaluator now. Nothing was written.
    #[error("another evaluator took over ({0})")]
    Fenced(KafkaError),
    /// The cluster refuses for good. Nothing was written.
    #[error("publishing is refused: {0}")]
    Refused(KafkaError),
    /// Whether it was written is not known; a new [`Writer`] finds out by reading the committed position.
    #[error("publishing was interrupted: {0}")]
    Broken(KafkaError),
}

/// The one writer of labels, insights, the block list and outcomes.
pub struct Writer {
    producer: BaseProducer<Heard>,
    cluster: Cluster,
}

impl Writer {
    /// Takes the pen: fences whoever had it and ends its open transaction. `group` is the evaluators' consumer group.
    ///
    /// # Errors
    /// The cluster is not reachable in time or refuses.
    pub fn open(cluster: &Cluster, pipeline: &str, group: &str) -> Result<Self, WriteError> {
        let mut config = cluster.producer();
        config.set("transactional.id", format!("{group}.{pipeline}"));
        if !cluster.options.contains_key("transaction.timeout.ms") {
            // An evaluator that died is fenced by the next one long before; this bounds how long readers wait when
            // there is none.
            config.set("transaction.timeout.ms", "20000");
        }
        let producer: BaseProducer<Heard> = config
            .create_with_context(Heard::default())
            .map_err(WriteError::Refused)?;
        let writer = Self {
            producer,
            cluster: cluster.clone(),
        };
        match repeated(|| writer.producer.init_transactions(PATIENCE)) {
            Ok(()) => Ok(writer),
            // A broker that refuses the password shows as silence here. Whoever takes the pen has a seat in the group, so
            // the cluster knows the password, and what one broker says about it passes.
            Err(error) => Err(writer.judge(error)),
        }
    }

    /// Writes all of `messages` and the position, or nothing. Messages of one topic keep their order.
    ///
    /// # Errors
    /// See [`WriteError`]; after any of them this writer is of no more use.
    pub fn write(
        &self,
        messages: &[Message],
        position: &Position,
        member: &ConsumerGroupMetadata,
    ) -> Result<(), WriteError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let Err(error) = self.attempt(messages, position, member) else {
                return Ok(());
            };
            let aborted = self.producer.client().fatal_error().is_none()
                && repeated(|| self.producer.abort_transaction(PATIENCE)).is_ok();
            match self.judge(error) {
                WriteError::Broken(error) if aborted && attempt < ATTEMPTS => {
                    tracing::warn!(target: "kafka", "a transaction was aborted and is tried again: {error}");
                }
                error => return Err(error),
            }
        }
    }

    fn attempt(
        &self,
        messages: &[Message],
        position: &Position,
        member: &ConsumerGroupMetadata,
    ) -> KafkaResult<()> {
        self.producer.begin_transaction()?;
        for message in messages {
            self.send(message)?;
        }
        let mut offsets = TopicPartitionList::new();
        let mut place = offsets.add_partition(&position.topic, 0);
        place.set_offset(Offset::Offset(
            i64::try_from(position.offset).unwrap_or(i64::MAX),
        ))?;
        place.set_metadata(&position.metadata);
        repeated(|| {
            self.producer
                .send_offsets_to_transaction(&offsets, member, PATIENCE)
        })?;
        repeated(|| self.producer.commit_transaction(PATIENCE))
    }

    fn send(&self, message: &Message) -> KafkaResult<()> {
        let topic = self.cluster.topic(message.topic);
        let mut record: BaseRecord<'_, str, [u8]> =
            BaseRecord::to(&topic).headers(message.owned_headers());
        if !message.key.is_empty() {
            record = record.key(&message.key);
        }
        if let Some(value) = &message.value {
            record = record.payload(value);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(FULL);
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Which of the three fates an error is. A fatal error of the client hides its cause, so that is asked for.
    fn judge(&self, error: KafkaError) -> WriteError {
        let fatal = self.producer.client().fatal_error().map(|(code, _)| code);
        match fatal.or(error.rdkafka_error_code()) {
            Some(
                RDKafkaErrorCode::Fenced
                | RDKafkaErrorCode::ProducerFenced
                | RDKafkaErrorCode::InvalidProducerEpoch
                | RDKafkaErrorCode::TransactionCoordinatorFenced
                | RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::FencedInstanceId
                | RDKafkaErrorCode::RebalanceInProgress,
            ) => WriteError::Fenced(error),
            _ if fatal.is_none() && wire::is_definite(&error) => WriteError::Refused(error),
            _ => WriteError::Broken(error),
        }
    }
}

/// Calls again what may be called again with the same arguments, a few times: librdkafka goes on with the same step.
fn repeated(mut step: impl FnMut() -> KafkaResult<()>) -> KafkaResult<()> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match step() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() && attempt < ATTEMPTS => {}
            outcome => return outcome,
        }
    }
}
