//! One assigned partition as the polling thread sees it: its queue, what was collected, and where its end is.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::Sender;

use rdkafka::Message;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::context::Context;
use super::poller::{Deliver, PATIENCE, unsigned};
use super::{Batch, Credit, Event, Lease, Request, Span};
use crate::clock::Stopwatch;

/// One assigned partition.
pub(super) struct Slot {
    pub(super) lease: Lease,
    /// Assigned, but the group was not yet asked for its offsets.
    pub(super) unknown: bool,
    /// When the group was asked last, in vain.
    pub(super) asked: Option<Stopwatch>,
    /// Set once it is to be read.
    pub(super) queue: Option<PartitionQueue<Context>>,
    /// Start that has to be tried again: a partition is seekable a moment after its assignment.
    pub(super) start: Option<(u64, u64)>,
    /// Offset that the next record has at least.
    pub(super) next: u64,
    pub(super) reach: u64,
    /// Set at the end of the partition while nothing has come since: how often there had been statistics by then.
    pub(super) ended: Option<u64>,
    /// The end that was told last.
    pub(super) told: u64,
    pub(super) under_way: Arc<AtomicUsize>,
    pub(super) pending: Pending,
}

/// Records that are collected for one partition.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) bytes: Vec<u8>,
    pub(super) records: Vec<Span>,
}

impl Slot {
    pub(super) fn new(lease: Lease) -> Self {
        Self {
            lease,
            unknown: true,
            asked: None,
            queue: None,
            start: None,
            next: 0,
            reach: 0,
            ended: None,
            told: 0,
            under_way: Arc::new(AtomicUsize::new(0)),
            pending: Pending::default(),
        }
    }

    /// Seeks, splits the queue off, and seeks once more: whatever was fetched into the common queue before the split is
    /// outdated by the second seek, so records cannot overtake each other.
    pub(super) fn begin(
        &mut self,
        consumer: &Arc<BaseConsumer<Context>>,
        wake: &Sender<Request>,
        from: u64,
        reach: u64,
    ) -> Result<(), KafkaError> {
        let at = &self.lease.at;
        let offset = Offset::Offset(i64::try_from(from).unwrap_or(i64::MAX));
        let seek = || consumer.seek(&at.topic, at.partition, offset, PATIENCE);
        self.queue = None;
        seek()?;
        let queue = consumer.split_partition_queue(&at.topic, at.partition);
        let mut queue = queue.ok_or_else(|| KafkaError::Seek("no such partition".to_owned()))?;
        let wake = wake.clone();
        queue.set_nonempty_callback(move || {
            let _ = wake.send(Request::Wake);
        });
        seek()?;
        let mut list = TopicPartitionList::new();
        list.add_partition(&at.topic, at.partition);
        consumer.resume(&list)?;
        self.queue = Some(queue);
        self.next = from;
        self.reach = reach;
        self.ended = None;
        self.told = 0;
        Ok(())
    }

    pub(super) fn keep(&mut self, message: &BorrowedMessage<'_>) {
        let offset = unsigned(message.offset());
        if offset < self.next {
            return;
        }
        self.next = offset + 1;
        self.ended = None;
        let payload = message.payload().unwrap_or_default();
        let start = self.pending.bytes.len();
        self.pending.bytes.extend_from_slice(payload);
        self.pending.records.push(Span {
            offset,
            start,
            len: payload.len(),
            timestamp: message.timestamp().to_millis(),
        });
    }

    /// Hands the collected records on.
    pub(super) fn hand_on(&mut self, budget: usize, wake: &Sender<Request>, deliver: &mut Deliver) {
        if self.pending.records.is_empty() {
            return;
        }
        let Pending { bytes, records } = std::mem::take(&mut self.pending);
        // A record costs more than its bytes, so a stream of tiny ones is bounded too.
        let cost = bytes.len() + records.len() * size_of::<Span>();
        let credit = Credit::take(cost, &self.under_way, budget, wake);
        let lease = self.lease.clone();
        deliver(Event::Records(Batch {
            lease,
            records,
            bytes,
            _credit: credit,
        }));
    }

    /// The end of the partition was polled: everything before it is delivered. That holds for `reach` too, which was the
    /// end of something once, even where compaction and transactions have removed the records just before it.
    pub(super) fn reached(&mut self, statistics: u64, deliver: &mut Deliver) {
        self.ended = Some(statistics);
        self.told = self.next.max(self.reach);
        deliver(Event::Reached(self.lease.clone(), self.told));
    }

    /// The queue is empty. Statistics that were made after the end was polled, and read before the queue was, know where
    /// exactly the end is: offsets without records may lie before it.
    pub(super) fn emptied(&mut self, (statistics, end): (u64, u64), deliver: &mut Deliver) {
        if self.ended.is_some_and(|ended| statistics > ended) && end > self.told {
            self.told = end;
            deliver(Event::Reached(self.lease.clone(), end));
        }
    }
}
