//! Topics of a Kafka cluster → records with their offsets, partition by partition.
//!
//! One thread owns the consumer: it polls, it alone commits, and everything it has to say is one closed enum
//! ([`Event`]). Rebalance callbacks run inside its poll, so a commit for a partition that was taken away a moment ago
//! cannot happen: an assignment is an *epoch*, and a request that names another epoch is refused (design section 6,
//! "Fencing"). It never blocks on whoever takes the records: every partition has a budget of bytes under way, and a
//! partition without budget is simply not polled, so librdkafka stops fetching it at `queued.max.messages.kbytes`.
//!
//! Deliberately not here: where a partition starts (that takes the ledger), and what a record means.

mod context;
pub mod history;
mod poller;
mod slot;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use rdkafka::error::KafkaError;
use thiserror::Error;

pub use context::Lag;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// One assignment of one partition to this process. The same partition assigned again is another lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// What is assigned.
    pub at: TopicPartition,
    /// Which assignment.
    pub epoch: u64,
}

/// An offset and the metadata that was committed with it.
pub type Committed = (u64, String);

/// What the group knows about a partition when it is assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The assignment.
    pub lease: Lease,
    /// Committed offset and its metadata.
    pub committed: Option<Committed>,
    /// Offset of the first record that still exists.
    pub low: u64,
    /// Offset after the last record.
    pub high: u64,
}

/// Everything the polling thread says.
#[derive(Debug)]
pub enum Event {
    /// The group has accepted us, with partitions or as a spare.
    Joined,
    /// A partition is ours; nothing is read until [`Request::Start`].
    Assigned(Assignment),
    /// A partition is no longer ours; no commit for it can happen any more.
    Revoked(Lease),
    /// Records of one partition, in order.
    Records(Batch),
    /// The end of the partition: every record before this offset has been delivered, and there is none after it now.
    Reached(Lease, u64),
    /// The thread cannot go on.
    Failed(SourceError),
    /// The thread has ended because it was told to.
    Stopped,
}

/// What the polling thread is asked for.
#[derive(Debug)]
pub enum Request {
    /// Read a partition from this offset on. Where the partition ends is asked for until it is at `reach` at least:
    /// compaction and transactions may have removed the records just before.
    Start {
        /// The assignment.
        lease: Lease,
        /// First offset to deliver.
        from: u64,
        /// Offset that must be known to be reached.
        reach: u64,
    },
    /// Commit an offset with its metadata.
    Commit(Commit),
    /// Somebody took records, or a queue has some: look again.
    Wake,
    /// Leave the group and end.
    Stop,
}

/// An offset to commit.
#[derive(Debug)]
pub struct Commit {
    /// The assignment under which the offset was reached.
    pub lease: Lease,
    /// Offset of the next record.
    pub offset: u64,
    /// Travels with it.
    pub metadata: String,
    /// Told once the broker has answered.
    pub done: tokio::sync::oneshot::Sender<Result<(), Refused>>,
}

/// A commit that did not happen and never will: the assignment has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// Why the source cannot go on.
#[derive(Debug, Error)]
pub enum SourceError {
    /// A setting is refused before anything is connected.
    #[error(
        "source.options: {0}\n  hint: option names and values are those of librdkafka's CONFIGURATION.md"
    )]
    Options(String),
    /// The cluster refuses us for good.
    #[error("Kafka refuses: {error}{}{words}\n  hint: check source.options (security.protocol, sasl.*, ssl.*) and the permissions of the user", if words.is_empty() { "" } else { ": " })]
    Definite {
        /// The error.
        error: KafkaError,
        /// The server's words.
        words: String,
    },
    /// The broker keeps less metadata than a commit needs.
    #[error(
        "the broker refuses commit metadata of {0} bytes\n  hint: offset.metadata.max.bytes of the broker must be at least 4096, its default"
    )]
    Metadata(usize),
    /// The system gives no thread.
    #[error("cannot start the polling thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Where one record of a [`Batch`] lies.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Kafka offset.
    pub offset: u64,
    /// First byte in the batch.
    pub start: usize,
    /// Bytes; 0 for a tombstone.
    pub len: usize,
    /// The record's own timestamp, epoch milliseconds.
    pub timestamp: Option<i64>,
}

/// Records of one partition. Dropping it gives its bytes back to the partition's budget.
#[derive(Debug)]
pub struct Batch {
    /// The assignment.
    pub lease: Lease,
    /// The records, ascending by offset.
    pub records: Vec<Span>,
    bytes: Vec<u8>,
    _credit: Credit,
}

impl Batch {
    /// The bytes of a record.
    #[must_use]
    pub fn payload(&self, record: &Span) -> &[u8] {
        let end = record.start + record.len;
        self.bytes.get(record.start..end).unwrap_or_default()
    }
}

/// Bytes under way between the polling thread and whoever takes the records.
#[derive(Debug)]
struct Credit {
    bytes: usize,
    under_way: Arc<AtomicUsize>,
    budget: usize,
    wake: Sender<Request>,
}

impl Credit {
    fn take(
        bytes: usize,
        under_way: &Arc<AtomicUsize>,
        budget: usize,
        wake: &Sender<Request>,
    ) -> Self {
        under_way.fetch_add(bytes, Ordering::Relaxed);
        Self {
            bytes,
            under_way: Arc::clone(under_way),
            budget,
            wake: wake.clone(),
        }
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        let before = self.under_way.fetch_sub(self.bytes, Ordering::Relaxed);
        if before >= self.budget && before - self.bytes < self.budget {
            // The polling thread may have ended; then nobody needs waking.
            let _ = self.wake.send(Request::Wake);
        }
    }
}

/// What the source needs to start.
#[derive(Clone)]
pub struct Settings {
    /// `bootstrap.servers`.
    pub brokers: String,
    /// Topics.
    pub topics: Vec<String>,
    /// Consumer group.
    pub group: String,
    /// librdkafka's own settings.
    pub options: std::collections::BTreeMap<String, String>,
}

/// Asks the polling thread. Clones ask the same thread.
#[derive(Clone, Debug)]
pub struct Requests(Sender<Request>);

impl Requests {
    /// Asks for something. A thread that has ended is told by its own last event, so nothing is said here.
    pub fn send(&self, request: Request) {
        let _ = self.0.send(request);
    }

    /// Commits an offset and waits until the broker has answered.
    ///
    /// # Errors
    /// The assignment has ended.
    pub async fn commit(
        &self,
        lease: &Lease,
        offset: u64,
        metadata: String,
    ) -> Result<(), Refused> {
        let (done, answer) = tokio::sync::oneshot::channel();
        let lease = lease.clone();
        self.send(Request::Commit(Commit {
            lease,
            offset,
            metadata,
            done,
        }));
        answer.await.unwrap_or(Err(Refused))
    }
}

/// Starts the polling thread; `deliver` is called on it with every event and must not block.
///
/// # Errors
/// librdkafka refuses the settings, or the system gives no thread.
pub fn start(
    settings: &Settings,
    lag: &Lag,
    deliver: impl FnMut(Event) + Send + 'static,
) -> Result<Requests, SourceError> {
    let (sender, receiver): (Sender<Request>, Receiver<Request>) = channel();
    let poller = poller::Poller::new(settings, lag.clone(), sender.clone(), Box::new(deliver))?;
    std::thread::Builder::new()
        .name("poll".to_owned())
        .spawn(move || poller.run(&receiver))?;
    Ok(Requests(sender))
}
