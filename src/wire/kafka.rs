//! Kafka clients of librdkafka: the settings that every client has, and its words in our log.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What librdkafka is started with. `options` win over the defaults here, except where a caller sets more afterwards.
#[must_use]
pub fn client(brokers: &str, options: &BTreeMap<String, String>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("client.id", "gatewatch")
        // A broker that comes back is found again within a second, not ten.
        .set("reconnect.backoff.max.ms", "1000")
        .set_log_level(RDKafkaLogLevel::Warning);
    for (name, value) in options {
        config.set(name, value);
    }
    config
}

/// Whether an option is about reaching and trusting the cluster, and so holds for every client of it.
#[must_use]
pub fn is_connection(option: &str) -> bool {
    [
        "security.",
        "ssl.",
        "sasl.",
        "socket.",
        "broker.address.",
        "client.dns.",
    ]
    .iter()
    .any(|prefix| option.starts_with(prefix))
        || matches!(option, "enable.sasl.oauthbearer.unsecure.jwt" | "client.id")
}

/// Whether a client cannot go on: wrong credentials, no permission, a setting that the broker refuses. Everything else
/// passes by itself once the cluster is reachable again.
#[must_use]
pub fn is_definite(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
                | RDKafkaErrorCode::UnsupportedSASLMechanism
                | RDKafkaErrorCode::FencedInstanceId
                | RDKafkaErrorCode::InconsistentGroupProtocol
                | RDKafkaErrorCode::InvalidTopic
                | RDKafkaErrorCode::Fatal
        )
    )
}

/// Says in our log what librdkafka has to say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Logged;

impl ClientContext for Logged {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(target: "kafka", "{error}: {reason}");
    }
}

/// A line of librdkafka's log in ours.
pub fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::error!(target: "kafka", "{facility}: {message}"),
        RDKafkaLogLevel::Warning => tracing::warn!(target: "kafka", "{facility}: {message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "kafka", "{facility}: {message}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "kafka", "{facility}: {message}"),
    }
}

impl rdkafka::consumer::ConsumerContext for Logged {}
