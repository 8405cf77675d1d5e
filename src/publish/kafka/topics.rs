//! The topics that must exist, made when missing and refused when they would lose what they hold.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer};

use super::{Cluster, Heard, PublishError};
use crate::publish;

/// How long one question to the cluster may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most events of the library that are looked at for the cause of an error, each waited for briefly.
const EVENTS: usize = 32;

/// A topic that must exist.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Name without prefix.
    pub name: &'static str,
    /// Whether the newest value of each key is kept, or every value for a time.
    pub compact: bool,
    /// Whether exactly one partition is allowed: it is a log with one order and one owner.
    pub single: bool,
}

/// Every topic. Those that are made have one partition: there is one writer for all but dead letters, the volume is
/// what changes and not what passes, and one partition keeps the events of a tick in order. An operator who makes a
/// topic beforehand may give all but the proposals more.
pub const TOPICS: [Spec; 6] = [
    Spec {
        name: publish::LABELS,
        compact: false,
        single: false,
    },
    Spec {
        name: publish::INSIGHTS,
        compact: false,
        single: false,
    },
    Spec {
        name: publish::BLOCK_LIST,
        compact: true,
        single: false,
    },
    Spec {
        name: publish::CONTROL,
        compact: true,
        single: false,
    },
    Spec {
        name: publish::PROPOSALS,
        compact: false,
        single: true,
    },
    Spec {
        name: publish::DEAD_LETTER,
        compact: false,
        single: false,
    },
];

impl Spec {
    fn policy(self) -> &'static str {
        if self.compact { "compact" } else { "delete" }
    }

    /// What is wrong with a topic of this name that exists.
    fn check(
        self,
        topic: &str,
        partitions: usize,
        policy: Option<&str>,
    ) -> Result<(), PublishError> {
        let wrong = |problem: String, hint: String| {
            Err(PublishError::Topic {
                topic: topic.to_owned(),
                problem,
                hint,
            })
        };
        if self.single && partitions != 1 {
            return wrong(
                format!("has {partitions} partitions"),
                "it must have exactly one, whose owner is the evaluator; choose another publish.prefix, or delete it and start again".to_owned(),
            );
        }
        let wanted = self.policy();
        match policy {
            Some(policy) if policy != wanted => {
                let loss = if self.compact {
                    "entries would be forgotten while they still hold"
                } else {
                    "earlier events would be dropped"
                };
                wrong(
                    format!("has cleanup.policy={policy}"),
                    format!(
                        "{loss}; kafka-configs.sh --alter --topic {topic} --add-config cleanup.policy={wanted}"
                    ),
                )
            }
            _ => Ok(()),
        }
    }
}

/// Makes sure that every topic exists with the right clean-up policy; gives the names of those that were made.
///
/// # Errors
/// The cluster is not reachable ([`PublishError::retry`]), refuses, or a topic has the wrong form.
pub async fn ensure(cluster: &Cluster) -> Result<Vec<String>, PublishError> {
    let error = |what: &str, source| PublishError::kafka(cluster, what, source);
    let asked = cluster.clone();
    let known = tokio::task::spawn_blocking(move || partitions(&asked)).await;
    let known =
        known.map_err(|_| error("listing topics", rdkafka::error::KafkaError::Canceled))??;
    let admin: AdminClient<Heard> = cluster
        .reader()
        .create_with_context(Heard::default())
        .map_err(|source| error("making topics", source))?;
    let options = AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .operation_timeout(Some(PATIENCE));
    let mut made = Vec::new();
    let mut existing = Vec::new();
    for spec in TOPICS {
        let topic = cluster.topic(spec.name);
        if known.contains_key(&topic) {
            existing.push((spec, topic));
            continue;
        }
        let mut new = NewTopic::new(&topic, 1, TopicReplication::Fixed(cluster.replication))
            .set("cleanup.policy", spec.policy());
        if cluster.replication >= 3 {
            // What was acknowledged outlives the loss of one broker.
            new = new.set("min.insync.replicas", "2");
        }
        let answers = admin.create_topics([&new], &options).await;
        let answers =
            answers.map_err(|source| error(&format!("making the topic {topic}"), source))?;
        for answer in answers {
            match answer {
                Ok(name) => made.push(name),
                // Another node was faster; it made the same.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => return Err(refused(cluster, spec, &name, code)),
            }
        }
    }
    let specifiers: Vec<_> = existing
        .iter()
        .map(|(_, topic)| ResourceSpecifier::Topic(topic))
        .collect();
    if specifiers.is_empty() {
        return Ok(made);
    }
    let configurations = admin.describe_configs(&specifiers, &options).await;
    let configurations =
        configurations.map_err(|source| error("reading the configuration of topics", source))?;
    for ((spec, topic), configuration) in existing.into_iter().zip(configurations) {
        let policy = match configuration {
            Ok(found) => found
                .get("cleanup.policy")
                .and_then(|entry| entry.value.clone()),
            Err(code) => {
                tracing::warn!(target: "kafka", "the clean-up policy of {topic} cannot be read ({code}), so it is not checked");
                None
            }
        };
        let partitions = known.get(&topic).copied().unwrap_or_default();
        spec.check(&topic, partitions, policy.as_deref())?;
    }
    Ok(made)
}

/// Every topic of the cluster with its number of partitions. Asking for all of them, unlike asking for one, never
/// makes a topic with the broker's own defaults.
fn partitions(cluster: &Cluster) -> Result<BTreeMap<String, usize>, PublishError> {
    let what = "listing topics";
    let client: BaseProducer<Heard> = cluster
        .producer()
        .create_with_context(Heard::default())
        .map_err(|source| PublishError::kafka(cluster, what, source))?;
    match client.client().fetch_metadata(None, PATIENCE) {
        Ok(metadata) => Ok(metadata
            .topics()
            .iter()
            .map(|topic| (topic.name().to_owned(), topic.partitions().len()))
            .collect()),
        Err(source) => {
            // One poll serves one event, and the refusal stands behind what the library logs about it.
            for _ in 0..EVENTS {
                if client.context().refusal().is_some() {
                    break;
                }
                client.poll(Duration::from_millis(10));
            }
            Err(client.context().judge(cluster, what, source))
        }
    }
}

/// A topic that the cluster does not make.
fn refused(cluster: &Cluster, spec: Spec, topic: &str, code: RDKafkaErrorCode) -> PublishError {
    let by_hand = format!(
        "kafka-topics.sh --create --topic {topic} --partitions 1 --replication-factor {} --config cleanup.policy={}",
        cluster.replication,
        spec.policy()
    );
    let hint = match code {
        RDKafkaErrorCode::TopicAuthorizationFailed
        | RDKafkaErrorCode::ClusterAuthorizationFailed => {
            format!("allow this user to create topics, or have it made: {by_hand}")
        }
        RDKafkaErrorCode::InvalidReplicationFactor => {
            "publish.replication must not exceed the number of brokers".to_owned()
        }
        _ => format!("have it made: {by_hand}"),
    };
    PublishError::Refused {
        what: format!("making the topic {topic}"),
        brokers: cluster.brokers.clone(),
        words: code.to_string(),
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_would_lose_what_it_holds_is_refused() {
        let spec = |name| TOPICS.into_iter().find(|spec| spec.name == name).unwrap();
        for (name, partitions, policy, problem) in [
            ("labels", 1, Some("delete"), None),
            ("labels", 12, Some("delete"), None),
            ("labels", 1, None, None),
            (
                "labels",
                1,
                Some("compact"),
                Some("has cleanup.policy=compact"),
            ),
            ("blocklist", 1, Some("compact"), None),
            ("blocklist", 3, Some("compact"), None),
            (
                "blocklist",
                1,
                Some("delete"),
                Some("has cleanup.policy=delete"),
            ),
            (
                "blocklist",
                1,
                Some("compact,delete"),
                Some("has cleanup.policy=compact,delete"),
            ),
            ("proposals", 1, Some("delete"), None),
            ("proposals", 2, Some("delete"), Some("has 2 partitions")),
            (
                "control",
                1,
                Some("delete"),
                Some("has cleanup.policy=delete"),
            ),
        ] {
            let found = spec(name).check("t", partitions, policy);
            let said = found.as_ref().err().map(ToString::to_string);
            match problem {
                None => assert!(found.is_ok(), "{name}: {said:?}"),
                Some(problem) => {
                    let said = said.unwrap_or_default();
                    assert!(
                        said.contains(problem) && said.contains("hint: "),
                        "{name}: {said}"
                    );
                    assert!(!found.unwrap_err().retry());
                }
            }
        }
    }
}
