//! Topics of a Kafka cluster: who writes what, and how it is kept to one writer.
//!
//! - [`ensure`] makes missing topics and refuses ones that would lose what they hold.
//! - [`Outbox`] is what every node writes with: dead letters and proposals. Idempotent, acknowledged, no transaction:
//!   a repetition has the same key or id and is harmless.
//! - [`Writer`] is the evaluator's: one transactional producer for everything that must be said once.
//! - [`read_compacted`] reads a compacted topic to its end, for the evaluator's take-over and for people who look.
//!
//! Not here: what is said (`events.rs`, `blocklist.rs`) and who is the evaluator (`pipeline/evaluator`).

mod compacted;
mod outbox;
mod topics;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use thiserror::Error;

pub use compacted::{Log, Read, Record, read_compacted};
pub use outbox::Outbox;
pub use topics::{Spec, TOPICS, ensure};
pub use writer::{Position, WriteError, Writer};

use super::events::{self, DeadLetter, Event};
use crate::wire::kafka as wire;

/// Header with the id of the proposal that a record follows from.
pub const PROPOSAL_HEADER: &str = "gatewatch-proposal";
/// Header that says why an entry changed: `added`, `extended`, `withdrawn`, `expired` or `configuration`.
pub const OUTCOME_HEADER: &str = "gatewatch-outcome";

/// The cluster that results are published to.
#[derive(Clone)]
pub struct Cluster {
    /// `bootstrap.servers`.
    pub brokers: String,
    /// librdkafka's own settings of producers; those about connections hold for consumers too. May hold secrets.
    pub options: BTreeMap<String, String>,
    /// What topic names start with.
    pub prefix: String,
    /// Replication factor of topics that are made.
    pub replication: i32,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("brokers", &self.brokers)
            .field("options", &self.options.keys())
            .field("prefix", &self.prefix)
            .field("replication", &self.replication)
            .finish()
    }
}

impl Cluster {
    /// Full name of a topic.
    #[must_use]
    pub fn topic(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// Settings of a producer. Keys choose partitions as Java's clients do, so that others can write beside us.
    fn producer(&self) -> ClientConfig {
        let mut config = wire::client(&self.brokers, &self.options);
        for (name, value) in [("partitioner", "murmur2_random"), ("linger.ms", "0")] {
            if !self.options.contains_key(name) {
                config.set(name, value);
            }
        }
        config.set("enable.idempotence", "true");
        config
    }

    /// Settings of a client that reads: how the cluster is reached, and nothing that only producers know.
    #[must_use]
    pub fn reader(&self) -> ClientConfig {
        let connection = self
            .options
            .iter()
            .filter(|(name, _)| wire::is_connection(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let mut config = wire::client(&self.brokers, &connection);
        config
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("allow.auto.create.topics", "false");
        config
    }
}

/// Kafka cannot be used.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The client says so.
    #[error("{what} at {brokers}: {source}")]
    Kafka {
        /// What was tried.
        what: String,
        /// The cluster.
        brokers: String,
        /// What the client says.
        source: Box<KafkaError>,
    },
    /// The cluster refuses, in its own words.
    #[error("{what} at {brokers}: {words}{}", hinted(.hint))]
    Refused {
        /// What was tried.
        what: String,
        /// The cluster.
        brokers: String,
        /// The cluster's words.
        words: String,
        /// What to do about it; may be empty.
        hint: String,
    },
    /// A broker refuses who the cluster accepted before: it restarts, or credentials are being changed.
    #[error("{what} at {brokers}: a broker refuses what the cluster accepted before: {source}")]
    Doubted {
        /// What was tried.
        what: String,
        /// The cluster.
        brokers: String,
        /// What the client says.
        source: Box<KafkaError>,
    },
    /// A topic is not what it must be.
    #[error("the topic {topic} {problem}{}", hinted(.hint))]
    Topic {
        /// Full name.
        topic: String,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        hint: String,
    },
}

fn hinted(hint: &str) -> String {
    if hint.is_empty() {
        String::new()
    } else {
        format!("\n  hint: {hint}")
    }
}

impl PublishError {
    /// Whether it passes by itself: the cluster is not reachable now.
    #[must_use]
    pub fn retry(&self) -> bool {
        match self {
            Self::Kafka { source, .. } => !wire::is_definite(source),
            Self::Doubted { .. } => true,
            Self::Refused { .. } | Self::Topic { .. } => false,
        }
    }

    fn kafka(cluster: &Cluster, what: impl Into<String>, source: KafkaError) -> Self {
        Self::Kafka {
            what: what.into(),
            brokers: cluster.brokers.clone(),
            source: Box::new(source),
        }
    }
}

/// One record to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Topic without prefix.
    pub topic: &'static str,
    /// Key; empty = none.
    pub key: String,
    /// Value; `None` = a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
}

impl Message {
    /// A dead letter. Its headers say where the record came from, so that it can be found without parsing the value.
    #[must_use]
    pub fn dead_letter(pipeline: &str, letter: &DeadLetter) -> Self {
        let mut message = Self::from(events::dead_letter(pipeline, letter));
        let position = &letter.position;
        message.headers.extend([
            ("gatewatch-topic", position.source.clone()),
            ("gatewatch-partition", position.partition.to_string()),
            ("gatewatch-offset", position.offset.to_string()),
            ("gatewatch-reason", letter.reason.as_str().to_owned()),
        ]);
        message
    }

    fn owned_headers(&self) -> OwnedHeaders {
        let start = OwnedHeaders::new_with_capacity(self.headers.len());
        self.headers.iter().fold(start, |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(value),
            })
        })
    }
}

impl From<Event> for Message {
    /// Structured mode says so in its content type (CloudEvents Kafka Protocol Binding 1.0.2 section 3.3).
    fn from(event: Event) -> Self {
        Self {
            topic: event.topic,
            key: event.key,
            value: Some(event.value.to_string().into_bytes()),
            headers: vec![("content-type", "application/cloudevents+json".to_owned())],
        }
    }
}

/// Says in our log what librdkafka says, and remembers what the cluster refuses: a wrong password shows in no answer of a
/// call, which only times out. Once a call succeeded the password is right, so what one broker refuses later passes.
#[derive(Debug, Default)]
pub struct Heard {
    refusal: Mutex<Option<String>>,
    accepted: AtomicBool,
}

impl Heard {
    /// A call succeeded: the cluster knows us.
    pub fn accepted(&self) {
        self.accepted.store(true, Ordering::Relaxed);
    }

    /// The words of the last refusal.
    fn refusal(&self) -> Option<String> {
        let refusal = self.refusal.lock();
        refusal.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the failure of a call means.
    #[must_use]
    pub fn judge(
        &self,
        cluster: &Cluster,
        what: impl Into<String>,
        source: KafkaError,
    ) -> PublishError {
        let (what, brokers) = (what.into(), cluster.brokers.clone());
        if self.accepted.load(Ordering::Relaxed) {
            let source = Box::new(source);
            return if is_about_credentials(&source) {
                PublishError::Doubted {
                    what,
                    brokers,
                    source,
                }
            } else {
                PublishError::Kafka {
                    what,
                    brokers,
                    source,
                }
            };
        }
        match self.refusal() {
            Some(words) => PublishError::Refused {
                what,
                brokers,
                words,
                hint: "check publish.options: security.protocol, sasl.*, ssl.*".to_owned(),
            },
            None => PublishError::kafka(cluster, what, source),
        }
    }
}

/// Whether an error is about who we are, which is decided anew with every connection to a broker.
fn is_about_credentials(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::UnsupportedSASLMechanism
        )
    )
}

impl ClientContext for Heard {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        wire::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(target: "kafka", "{error}: {reason}");
        let code = error.rdkafka_error_code();
        if wire::is_definite(&error) && code != Some(RDKafkaErrorCode::Fatal) {
            let mut refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
            *refusal = Some(reason.to_owned());
        }
    }
}

impl ProducerContext for Heard {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

impl ConsumerContext for Heard {}

#[cfg(test)]
mod tests;
