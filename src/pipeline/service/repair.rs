//! What an operator decides when a flush was begun so long ago that nobody can tell what of it is stored.
//!
//! The group's offsets and the ledger are read as a new owner would read them. Nothing is written but what was asked
//! for, and the broker refuses it while the group has members: a decision and a running service cannot cross.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::mark::{Intent, Mark};
use super::{ServiceFault, SourceError};
use crate::clock;
use crate::config::KafkaSource;
use crate::model::EventTime;
use crate::store::clickhouse::{ClickHouse, FlushRange, LedgerRow};
use crate::wire::kafka;

/// How long one question to the cluster may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where one partition stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Committed offset.
    pub committed: Option<u64>,
    /// End of the newest flush in the ledger.
    pub ledger: Option<u64>,
    /// The flush that was begun and is not in the ledger.
    pub unfinished: Option<Unfinished>,
    mark: Option<Mark>,
}

/// A flush that was begun and not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// First record.
    pub first: u64,
    /// Record after the last one.
    pub end: u64,
    /// When it was begun, epoch milliseconds.
    pub begun_at: i64,
    /// Blocks written to one table since then.
    pub blocks: u64,
    /// Whether a restart repeats it by itself: ClickHouse still remembers what was written of it.
    pub repeatable: bool,
}

/// What is to become of an unfinished flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Write all of it again: what was written before may count twice.
    Repeat,
    /// Write nothing more of it: what was not written is missing.
    Skip,
}

/// The group of a pipeline, as somebody who is not a member sees it.
pub struct Repair<'r> {
    source: &'r KafkaSource,
    store: &'r ClickHouse,
    group: BaseConsumer<kafka::Logged>,
}

impl<'r> Repair<'r> {
    /// A client of the group.
    ///
    /// # Errors
    /// librdkafka refuses the settings.
    pub fn new(source: &'r KafkaSource, store: &'r ClickHouse) -> Result<Self, ServiceFault> {
        let connection: BTreeMap<String, String> = source
            .options
            .iter()
            .filter(|(name, _)| kafka::is_connection(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let group = kafka::client(&source.brokers, &connection)
            .set("group.id", &source.group)
            .set("enable.auto.commit", "false")
            .create_with_context(kafka::Logged)
            .map_err(|error| SourceError::Options(error.to_string()))?;
        Ok(Self {
            source,
            store,
            group,
        })
    }

    /// Where every partition stands.
    ///
    /// # Errors
    /// Kafka or ClickHouse cannot be asked.
    pub async fn standings(&self) -> Result<Vec<Standing>, ServiceFault> {
        let mut list = TopicPartitionList::new();
        for topic in &self.source.topics {
            let metadata = self
                .group
                .fetch_metadata(Some(topic), PATIENCE)
                .map_err(definite)?;
            for found in metadata.topics() {
                for partition in found.partitions() {
                    list.add_partition(found.name(), partition.id());
                }
            }
        }
        let list = self
            .group
            .committed_offsets(list, PATIENCE)
            .map_err(definite)?;
        let mut standings = Vec::new();
        for element in list.elements() {
            element.error().map_err(definite)?;
            let (topic, partition) = (element.topic().to_owned(), element.partition());
            let committed = match element.offset() {
                Offset::Offset(offset) => u64::try_from(offset).ok(),
                _ => None,
            };
            let row = self.store.ledger(&topic, partition).await?;
            let mark = Mark::decode(element.metadata());
            let intent = mark.as_ref().and_then(|mark| mark.intent);
            let unfinished = match committed.zip(intent) {
                Some((first, intent)) if !is_done(row.as_ref(), first, intent) => {
                    let blocks = self.store.blocks_since(intent.at).await?;
                    let age = clock::now_millis().saturating_sub(intent.at);
                    let age = Duration::from_millis(u64::try_from(age).unwrap_or_default());
                    let forgotten = self
                        .store
                        .remembered_for()
                        .is_some_and(|time| age > time / 2);
                    Some(Unfinished {
                        first,
                        end: intent.end,
                        begun_at: intent.at,
                        blocks,
                        repeatable: blocks <= self.store.deduplication_window() / 2 && !forgotten,
                    })
                }
                _ => None,
            };
            standings.push(Standing {
                topic,
                partition,
                committed,
                ledger: row.map(|row| row.range.last),
                unfinished,
                mark,
            });
        }
        Ok(standings)
    }

    /// Carries out a decision.
    ///
    /// # Errors
    /// The group has members, or Kafka or ClickHouse refuse.
    pub async fn decide(
        &self,
        standing: &Standing,
        decision: Decision,
    ) -> Result<(), ServiceFault> {
        let (Some(mark), Some(unfinished)) = (&standing.mark, standing.unfinished) else {
            return Ok(());
        };
        let now = clock::now_millis();
        let mut mark = mark.clone();
        if let Some(intent) = &mut mark.intent {
            intent.at = now;
        }
        // Committing first also makes sure that no service is at work on the partition.
        self.commit(standing, unfinished.first, &mark)?;
        if decision == Decision::Skip {
            // The row that ends where the flush begins has the list of closed halves even where it was too long to travel.
            let before = self
                .store
                .ledger(&standing.topic, standing.partition)
                .await?;
            let before = before.filter(|row| row.range.last == unfinished.first);
            let row = LedgerRow {
                range: FlushRange {
                    topic: standing.topic.clone(),
                    partition: standing.partition,
                    first: unfinished.first,
                    last: unfinished.end,
                    drain: mark.intent.is_some_and(|intent| intent.drain),
                },
                from: before.as_ref().map_or(mark.join.from, |row| row.from),
                clock: match &before {
                    Some(row) => row.clock,
                    None => mark.join.clock.map(EventTime::nanos),
                },
                greatest: before.as_ref().and_then(|row| row.greatest),
                closed: before.map_or(mark.join.closed, |row| row.closed),
                minutes: Vec::new(),
                // What was written of it, and where, is not known.
                all_minutes: true,
                records: 0,
                exchanges: 0,
                rejected: 0,
                blocks: 0,
                stored_at: now,
            };
            self.store.record(&row).await?;
        }
        Ok(())
    }

    fn commit(&self, standing: &Standing, offset: u64, mark: &Mark) -> Result<(), ServiceFault> {
        let metadata = mark.encode().map_err(ServiceFault::Mark)?;
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(&standing.topic, standing.partition);
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        element
            .set_offset(Offset::Offset(offset))
            .map_err(definite)?;
        element.set_metadata(metadata);
        match self.group.commit(&list, CommitMode::Sync) {
            Ok(()) => Ok(()),
            Err(error)
                if matches!(
                    error.rdkafka_error_code(),
                    Some(
                        RDKafkaErrorCode::UnknownMemberId
                            | RDKafkaErrorCode::IllegalGeneration
                            | RDKafkaErrorCode::RebalanceInProgress
                    )
                ) =>
            {
                Err(ServiceFault::Busy(self.source.group.clone()))
            }
            Err(error) => Err(definite(error)),
        }
    }
}

/// Whether the ledger has an intended flush.
fn is_done(row: Option<&LedgerRow>, first: u64, intent: Intent) -> bool {
    row.is_some_and(|row| {
        row.range.last > first
            || (row.range.last == first && intent.end == first && row.range.drain)
    })
}

fn definite(error: KafkaError) -> ServiceFault {
    SourceError::Definite {
        error,
        words: String::new(),
    }
    .into()
}
