//! What every node writes beside its flushes: dead letters and proposals.
//!
//! Done means acknowledged by all in-sync replicas; librdkafka repeats until then. A repetition after a crash has the
//! same key (dead letters) or id (proposals).

use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::{Cluster, Message, PublishError};
use crate::wire::kafka as wire;

/// How long to wait when librdkafka's queue is full.
const FULL: Duration = Duration::from_millis(10);

type Receipt = Box<oneshot::Sender<Result<(), KafkaError>>>;

/// Gives each record's outcome to whoever waits for it.
struct Receipts;

impl ClientContext for Receipts {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        wire::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(target: "kafka", "{error}: {reason}");
    }
}

impl ProducerContext for Receipts {
    type DeliveryOpaque = Receipt;

    fn delivery(&self, result: &DeliveryResult<'_>, receipt: Receipt) {
        let outcome = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.clone()),
        };
        // Nobody waits any more when the flush was given up; its records are written again with the same keys.
        drop(receipt.send(outcome));
    }
}

/// Writes records and waits until they are safe.
#[derive(Clone)]
pub struct Outbox {
    cluster: Cluster,
    producer: ThreadedProducer<Receipts>,
}

impl Outbox {
    /// A producer; the cluster is reached with the first record.
    ///
    /// # Errors
    /// A setting that librdkafka does not know.
    pub fn open(cluster: &Cluster) -> Result<Self, PublishError> {
        let mut config = cluster.producer();
        if !cluster.options.contains_key("message.timeout.ms")
            && !cluster.options.contains_key("delivery.timeout.ms")
        {
            // Whoever waits has nothing better to do than to wait: the flush is not done before its records are.
            config.set("message.timeout.ms", "0");
        }
        let producer = config
            .create_with_context(Receipts)
            .map_err(|source| PublishError::kafka(cluster, "publishing", source))?;
        Ok(Self {
            cluster: cluster.clone(),
            producer,
        })
    }

    /// Writes all of `messages`; returns when every one is acknowledged. Records of one key keep their order.
    ///
    /// # Errors
    /// The cluster refuses a record for good, or a time limit from the options ran out ([`PublishError::retry`]).
    pub async fn write(&self, messages: &[Message]) -> Result<(), PublishError> {
        let mut receipts = Vec::with_capacity(messages.len());
        for message in messages {
            receipts.push(self.enqueue(message).await?);
        }
        for (message, receipt) in messages.iter().zip(receipts) {
            let outcome = receipt.await.unwrap_or(Err(KafkaError::Canceled));
            outcome.map_err(|source| self.error(message, source))?;
        }
        Ok(())
    }

    async fn enqueue(
        &self,
        message: &Message,
    ) -> Result<oneshot::Receiver<Result<(), KafkaError>>, PublishError> {
        let topic = self.cluster.topic(message.topic);
        let (sender, receiver) = oneshot::channel();
        let mut record: BaseRecord<'_, str, [u8], Receipt> =
            BaseRecord::with_opaque_to(&topic, Box::new(sender)).headers(message.owned_headers());
        if !message.key.is_empty() {
            record = record.key(&message.key);
        }
        if let Some(value) = &message.value {
            record = record.payload(value);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(receiver),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    tokio::time::sleep(FULL).await;
                }
                Err((source, _)) => return Err(self.error(message, source)),
            }
        }
    }

    fn error(&self, message: &Message, source: KafkaError) -> PublishError {
        let what = format!("writing to {}", self.cluster.topic(message.topic));
        PublishError::kafka(&self.cluster, what, source)
    }
}
