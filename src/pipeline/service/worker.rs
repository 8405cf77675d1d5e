//! Judging threads: records of many partitions in, flushes out. A partition lives on one thread, a thread has many.
//!
//! A thread never waits for a store: a partition whose flush is being written goes on collecting the next one, and when
//! that is full its records are left standing, which the polling thread notices by their budget.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use arrow::error::ArrowError;
use tokio::sync::mpsc::UnboundedSender;

use super::mark::Intent;
use crate::clock::Stopwatch;
use crate::correlate::JoinState;
use crate::model::EventTime;
use crate::pipeline::partition::{Flush, Partition};
use crate::pipeline::run::{Fault, spawn};
use crate::source::kafka::{Batch, Lease, TopicPartition};

/// How often flushes are looked at that end by time.
const TICK: Duration = Duration::from_millis(10);
/// Longest that a flush is stretched so that many partitions do not make many small blocks.
const LONGEST: Duration = Duration::from_secs(10);

/// What a judging thread is told.
pub(super) enum Work {
    /// A partition to judge from here on.
    Open(Box<Opening>),
    /// Records.
    Records(Batch),
    /// Every record before this offset was delivered.
    Reached(Lease, u64),
    /// The flush handed out last is stored.
    Stored(Lease),
    /// The partition is gone; what was collected of it is dropped.
    Close(Lease),
    /// How many partitions this process has.
    Partitions(usize),
    /// Take no more records, hand out what there is, and let go of the sender once all of it is stored.
    Finish(UnboundedSender<()>),
}

/// A partition and where it goes on.
pub(super) struct Opening {
    pub(super) lease: Lease,
    pub(super) partition: Partition,
    /// Everything before is counted.
    pub(super) first: u64,
    /// State of the join there.
    pub(super) join: JoinState,
    /// A flush that has to be repeated exactly.
    pub(super) repeat: Option<Intent>,
    /// Where its flushes go.
    pub(super) flushes: UnboundedSender<Cut>,
}

/// A flush with its range and the state of the join before it.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) drain: bool,
    /// When it was first begun, epoch milliseconds, where it is repeated.
    pub(super) begun: Option<i64>,
    pub(super) before: JoinState,
    pub(super) flush: Flush,
}

/// When flushes end by wall time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) flush_every: Duration,
    pub(super) idle: Duration,
    /// How far an event may be ahead of its record, milliseconds.
    pub(super) future: i64,
}

/// The judging threads.
pub(super) struct Workers(Vec<Sender<Work>>);

impl Workers {
    /// Starts `count` threads.
    pub(super) fn start(
        count: usize,
        pace: Pace,
        faults: &UnboundedSender<Fault>,
    ) -> Result<Self, Fault> {
        let mut senders = Vec::with_capacity(count);
        for _ in 0..count.max(1) {
            let (sender, receiver) = channel();
            let worker = Worker {
                pace,
                interval: pace.flush_every,
                partitions: 1,
                lanes: HashMap::new(),
                closed: HashMap::new(),
                finishing: false,
                done: None,
            };
            let faults = faults.clone();
            spawn("judge", move || {
                if let Err(error) = worker.run(&receiver) {
                    let _ = faults.send(error.into());
                }
            })?;
            senders.push(sender);
        }
        Ok(Self(senders))
    }

    /// Sends work to the thread that a partition lives on. A thread that has ended has said why.
    pub(super) fn send(&self, lease: &Lease, work: Work) {
        let topic = lease.at.topic.bytes().map(usize::from).sum::<usize>();
        let partition = usize::try_from(lease.at.partition).unwrap_or_default();
        let index = (topic + partition) % self.0.len().max(1);
        if let Some(sender) = self.0.get(index) {
            let _ = sender.send(work);
        }
    }

    /// Sends the same to every thread.
    pub(super) fn all(&self, work: impl Fn() -> Work) {
        for sender in &self.0 {
            let _ = sender.send(work());
        }
    }

    /// The same threads for another sender.
    pub(super) fn share(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Worker {
    pace: Pace,
    /// Time between two flushes of one partition.
    interval: Duration,
    /// Partitions of this process, which share its memory.
    partitions: usize,
    lanes: HashMap<Lease, Lane>,
    /// The lease of each partition that ended last.
    closed: HashMap<TopicPartition, u64>,
    /// The process is to end.
    finishing: bool,
    /// Let go of when everything is stored then.
    done: Option<UnboundedSender<()>>,
}

/// One partition.
struct Lane {
    partition: Partition,
    future: i64,
    first: u64,
    before: JoinState,
    repeat: Option<Intent>,
    flushes: UnboundedSender<Cut>,
    /// A flush is being written.
    writing: bool,
    /// Records that wait because the flush is full and another one is being written, and how many of the first batch
    /// are done.
    waiting: VecDeque<Batch>,
    done: usize,
    /// Where the partition ended when nothing has come since.
    at_end: Option<u64>,
    /// Every record before this offset was applied, or does not exist.
    read_to: u64,
    since_flush: Stopwatch,
    since_record: Stopwatch,
}

impl Worker {
    fn run(mut self, work: &Receiver<Work>) -> Result<(), ArrowError> {
        loop {
            match work.recv_timeout(TICK) {
                Ok(Work::Open(opening)) => self.open(*opening),
                Ok(Work::Records(batch)) if !self.finishing => {
                    if let Some(lane) = self.lanes.get_mut(&batch.lease) {
                        lane.since_record = Stopwatch::start();
                        lane.at_end = None;
                        lane.waiting.push_back(batch);
                        lane.apply(self.partitions)?;
                    }
                }
                Ok(Work::Reached(lease, offset)) if !self.finishing => {
                    if let Some(lane) = self.lanes.get_mut(&lease) {
                        lane.at_end = Some(offset);
                        lane.apply(self.partitions)?;
                    }
                }
                Ok(Work::Stored(lease)) => {
                    if let Some(lane) = self.lanes.get_mut(&lease) {
                        lane.writing = false;
                        lane.apply(self.partitions)?;
                    }
                }
                Ok(Work::Close(lease)) => {
                    self.lanes.remove(&lease);
                    self.closed.insert(lease.at, lease.epoch);
                }
                Ok(Work::Partitions(count)) => {
                    // About one block a second and table, whatever the number of partitions.
                    self.partitions = count;
                    let count = u32::try_from(count.max(1)).unwrap_or(u32::MAX);
                    let stretched = self.pace.flush_every.saturating_mul(count);
                    self.interval = stretched.min(LONGEST.max(self.pace.flush_every));
                }
                Ok(Work::Finish(done)) => {
                    for lane in self.lanes.values_mut() {
                        // What was not applied is read again by the next owner. A flush that is being repeated and has
                        // not all its records will not get them any more, so it must not be cut.
                        lane.waiting.clear();
                        lane.done = 0;
                        lane.at_end = None;
                    }
                    self.interval = Duration::ZERO;
                    self.finishing = true;
                    self.done = Some(done);
                }
                Ok(Work::Records(_) | Work::Reached(..)) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            for lane in self.lanes.values_mut() {
                lane.cut_by_time(self.interval, self.pace.idle)?;
            }
            if self.lanes.values().all(Lane::quiet) {
                self.done = None;
            }
        }
    }

    fn open(&mut self, opening: Opening) {
        let lease = &opening.lease;
        let closed = self.closed.get(&lease.at);
        if closed.is_some_and(|epoch| *epoch >= lease.epoch) {
            // It was taken away while its owner was still finding out where to start.
            return;
        }
        let lane = Lane {
            partition: opening.partition,
            future: self.pace.future,
            first: opening.first,
            read_to: opening.join.from,
            before: opening.join,
            repeat: opening.repeat,
            flushes: opening.flushes,
            writing: false,
            waiting: VecDeque::new(),
            done: 0,
            at_end: None,
            since_flush: Stopwatch::start(),
            since_record: Stopwatch::start(),
        };
        self.lanes.insert(opening.lease, lane);
    }
}

impl Lane {
    /// Whether there is nothing to write and nothing being written. A flush that is to be repeated and has not all its
    /// records yet is left to the next owner.
    fn quiet(&self) -> bool {
        !self.writing && (self.repeat.is_some() || self.partition.idle())
    }

    /// Applies what waits, as far as the flushes allow.
    fn apply(&mut self, partitions: usize) -> Result<(), ArrowError> {
        while let Some(batch) = self.waiting.pop_front() {
            while let Some(record) = batch.records.get(self.done) {
                if self
                    .repeat
                    .is_some_and(|intent| record.offset >= intent.end)
                {
                    self.read_to = record.offset;
                    self.finish_repeat()?;
                }
                if self.repeat.is_none() && self.partition.full(partitions) {
                    if self.writing {
                        self.waiting.push_front(batch);
                        return Ok(());
                    }
                    self.cut(None, None)?;
                }
                let end = record.offset + 1;
                let latest = record.timestamp.and_then(|arrived| {
                    EventTime::from_millis(arrived.saturating_add(self.future))
                });
                self.partition
                    .apply(batch.payload(record), record.offset, end, latest);
                self.read_to = end;
                self.done += 1;
            }
            self.done = 0;
        }
        self.read_to = self.read_to.max(self.at_end.unwrap_or_default());
        self.finish_repeat()
    }

    /// Hands the repeated flush out once all its records were applied. Nothing is being written then: a repeated flush
    /// is the first one.
    fn finish_repeat(&mut self) -> Result<(), ArrowError> {
        match self.repeat {
            Some(intent) if self.read_to >= intent.end => {
                self.repeat = None;
                self.partition.skip(intent.end);
                if intent.drain {
                    self.partition.drain();
                }
                self.cut(Some((intent.end, intent.drain)), Some(intent.at))
            }
            _ => Ok(()),
        }
    }

    /// Ends a flush because its time is up, or because the partition has been at its end for long and halves wait.
    fn cut_by_time(&mut self, interval: Duration, idle: Duration) -> Result<(), ArrowError> {
        if self.writing || self.repeat.is_some() {
            return Ok(());
        }
        let end = self.at_end.unwrap_or_default().max(self.partition.end());
        if (self.partition.open() > 0 || end > self.first)
            && self.waiting.is_empty()
            && self.at_end.is_some()
            && self.read_to >= self.first
            && self.since_record.elapsed() >= idle
        {
            // Offsets without records are passed too, or retention would make a gap of them.
            self.partition.skip(end);
            self.partition.drain();
            return self.cut(Some((end, true)), None);
        }
        if self.since_flush.elapsed() >= interval {
            self.cut_now()?;
        }
        Ok(())
    }

    fn cut_now(&mut self) -> Result<(), ArrowError> {
        if self.writing || self.repeat.is_some() || self.partition.idle() {
            return Ok(());
        }
        self.cut(None, None)
    }

    /// Takes the flush out; `exactly` = with this end, and whether it was drained. `begun` = it is a repetition.
    fn cut(&mut self, exactly: Option<(u64, bool)>, begun: Option<i64>) -> Result<(), ArrowError> {
        let flush = self.partition.take()?;
        let cut = Cut {
            first: self.first,
            last: exactly.map_or(flush.end, |(end, _)| end),
            drain: exactly.is_some_and(|(_, drain)| drain),
            begun,
            before: std::mem::replace(&mut self.before, flush.join.clone()),
            flush,
        };
        self.first = cut.last;
        self.writing = true;
        self.since_flush = Stopwatch::start();
        // Whoever writes may have lost the partition; then `Close` is on its way.
        let _ = self.flushes.send(cut);
        Ok(())
    }
}
