//! What librdkafka calls back: rebalances, statistics and its log. All but the log on the polling thread.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use super::TopicPartition;
use crate::wire::kafka;

/// How far each partition is read, as librdkafka last reported it.
#[derive(Clone, Debug, Default)]
pub struct Lag(Arc<Mutex<Report>>);

#[derive(Debug, Default)]
struct Report {
    /// How many reports there were.
    version: u64,
    topics: HashMap<String, HashMap<i32, Behind>>,
}

#[derive(Clone, Copy, Debug)]
struct Behind {
    records: i64,
    /// Offset at which the end was reached last.
    end: u64,
}

impl Lag {
    fn read<T>(&self, then: impl FnOnce(&Report) -> T) -> T {
        then(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Records of a partition that are still to be delivered, where librdkafka knows.
    #[must_use]
    pub fn of(&self, at: &TopicPartition) -> Option<i64> {
        self.read(|report| Some(report.topics.get(&*at.topic)?.get(&at.partition)?.records))
    }

    /// How many reports there were.
    pub(super) fn version(&self) -> u64 {
        self.read(|report| report.version)
    }

    /// Number of the report, and the offset at which the end of the partition was reached last.
    pub(super) fn end_of(&self, at: &TopicPartition) -> (u64, u64) {
        self.read(|report| {
            let known = report.topics.get(&*at.topic);
            let known = known.and_then(|topic| topic.get(&at.partition));
            (report.version, known.map_or(0, |behind| behind.end))
        })
    }
}

/// Partitions that came or went, as (topic, partition).
#[derive(Debug)]
pub(super) enum Change {
    Assigned(Vec<(String, i32)>),
    Revoked(Vec<(String, i32)>),
}

/// The context of the consumer.
pub(super) struct Context {
    changes: Mutex<Vec<Change>>,
    /// What a broker said last when a connection failed: the error code alone does not tell why.
    words: Mutex<String>,
    lag: Lag,
}

impl Context {
    pub(super) fn new(lag: Lag) -> Self {
        Self {
            changes: Mutex::default(),
            words: Mutex::default(),
            lag,
        }
    }

    /// What changed since it was last asked.
    pub(super) fn changes(&self) -> Vec<Change> {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut changes)
    }

    pub(super) fn words(&self) -> String {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        words.clone()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL" {
            let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
            message.clone_into(&mut words);
        }
        kafka::log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        let mut report = self.lag.0.lock().unwrap_or_else(PoisonError::into_inner);
        report.version += 1;
        report.topics.clear();
        for (topic, facts) in statistics.topics {
            let known = facts.partitions.into_iter();
            let known = known.filter(|(_, facts)| facts.consumer_lag >= 0);
            let partitions = known.map(|(partition, facts)| {
                let behind = Behind {
                    records: facts.consumer_lag,
                    end: u64::try_from(facts.eof_offset).unwrap_or_default(),
                };
                (partition, behind)
            });
            report.topics.insert(topic, partitions.collect());
        }
    }
}

impl ConsumerContext for Context {
    /// Partitions come with a logical offset, which makes them seekable at once, and paused, because where to start is
    /// decided with the ledger.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let names = partitions
            .elements()
            .iter()
            .map(|element| (element.topic().to_owned(), element.partition()))
            .collect();
        let (change, outcome) = if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let outcome = partitions
                .set_all_offsets(Offset::Beginning)
                .and_then(|()| consumer.incremental_assign(partitions))
                .and_then(|()| consumer.pause(partitions));
            (Change::Assigned(names), outcome)
        } else {
            let outcome = consumer.incremental_unassign(partitions);
            (Change::Revoked(names), outcome)
        };
        if let Err(error) = outcome {
            tracing::warn!("a rebalance was not applied: {error}");
        }
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.push(change);
    }
}
