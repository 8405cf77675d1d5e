//! The order in which lines reach the log, and what becomes of requests and responses that travel apart.
//!
//! Enters: lines with the time of their delivery. Leaves: lines in delivery order, and the fate of every half by the join rules of
//! design section 3, applied to what is written: the truth of late, lost and orphaned halves.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use super::truth::{Answer, Facts, Truth};
use crate::model::Reject;

/// `correlate.timeout` of the pipeline files that go with the traffic.
const TIMEOUT_MILLIS: i64 = 30_000;
/// `correlate.max_open` of the pipeline files that go with the traffic.
const MAX_OPEN: usize = 100_000;

/// What a line means.
#[derive(Clone, Copy, Debug)]
pub(super) enum Record {
    /// A whole exchange.
    Exchange(Facts, Answer),
    /// A request that waits for the response with this id.
    Request(u64, Facts),
    /// A response that waits for the request with this id.
    Response(u64, Answer),
    /// An exchange that belongs to no zone.
    Unzoned,
    /// A line that is refused.
    Bad(Reject),
}

/// A line on its way.
#[derive(Debug)]
pub(super) struct Waiting {
    /// When it arrives, epoch milliseconds.
    pub(super) delivered: i64,
    /// Breaks ties.
    pub(super) order: u64,
    /// Event time, epoch milliseconds; none for refused lines.
    pub(super) millis: Option<i64>,
    pub(super) line: Vec<u8>,
    pub(super) record: Record,
}

impl Waiting {
    fn key(&self) -> (i64, u64) {
        (self.delivered, self.order)
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    /// Reversed: the heap gives the earliest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

/// Lines on their way, and buffers of lines that have arrived.
#[derive(Debug, Default)]
pub(super) struct Road {
    waiting: BinaryHeap<Waiting>,
    spare: Vec<Vec<u8>>,
}

impl Road {
    /// An empty buffer for a line.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a line.
    pub(super) fn send(&mut self, waiting: Waiting) {
        self.waiting.push(waiting);
    }

    /// Lines on their way.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The next line that arrives up to this time.
    pub(super) fn arrived(&mut self, until: i64) -> Option<Waiting> {
        if self.waiting.peek()?.delivered > until {
            return None;
        }
        self.waiting.pop()
    }

    /// Gives a buffer back.
    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        // A few long lines must not make every buffer long.
        if self.spare.len() < 64 && buffer.capacity() < 16 * 1024 {
            self.spare.push(buffer);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Half {
    Request(Facts),
    Response(Answer),
}

/// Halves that wait for their other half.
#[derive(Debug, Default)]
pub(super) struct Join {
    clock: i64,
    /// By id, with the number under which it stands in `queue`.
    open: BTreeMap<u64, (u64, Half)>,
    /// (remembered clock, number, id), oldest first; entries of joined halves stay until their turn.
    queue: VecDeque<(i64, u64, u64)>,
    numbers: u64,
}

impl Join {
    /// Applies one line that has arrived: join, advance the clock, remember it, expire.
    pub(super) fn apply(&mut self, record: Record, millis: Option<i64>, truth: &mut Truth) {
        truth.count_line();
        let mut new = None;
        match record {
            Record::Exchange(facts, answer) => truth.count(&facts, Some(&answer)),
            Record::Unzoned => truth.count_unzoned(),
            Record::Bad(reason) => truth.count_reject(reason),
            Record::Request(id, facts) => match self.open.remove(&id) {
                Some((_, Half::Response(answer))) => truth.count(&facts, Some(&answer)),
                Some((_, Half::Request(first))) => {
                    truth.count(&first, None);
                    new = Some((id, Half::Request(facts)));
                }
                None => new = Some((id, Half::Request(facts))),
            },
            Record::Response(id, answer) => match self.open.remove(&id) {
                Some((_, Half::Request(facts))) => truth.count(&facts, Some(&answer)),
                Some((_, Half::Response(_))) => {
                    truth.count_orphan();
                    new = Some((id, Half::Response(answer)));
                }
                None => new = Some((id, Half::Response(answer))),
            },
        }
        if let Some(millis) = millis {
            self.clock = self.clock.max(millis);
        }
        if let Some((id, half)) = new {
            self.numbers += 1;
            self.open.insert(id, (self.numbers, half));
            self.queue.push_back((self.clock, self.numbers, id));
        }
        while let Some((remembered, number, id)) = self.queue.front().copied() {
            let gone = self.open.get(&id).is_none_or(|(own, _)| *own != number);
            if !gone && self.clock - remembered <= TIMEOUT_MILLIS && self.open.len() <= MAX_OPEN {
                break;
            }
            self.queue.pop_front();
            if !gone {
                self.give_up(id, truth);
            }
        }
    }

    /// The end of the log: nothing more will come for those that wait.
    pub(super) fn finish(&mut self, truth: &mut Truth) {
        let ids: Vec<u64> = self.open.keys().copied().collect();
        for id in ids {
            self.give_up(id, truth);
        }
        self.queue.clear();
    }

    fn give_up(&mut self, id: u64, truth: &mut Truth) {
        match self.open.remove(&id) {
            Some((_, Half::Request(facts))) => truth.count(&facts, None),
            Some((_, Half::Response(_))) => truth.count_orphan(),
            None => {}
        }
    }
}
