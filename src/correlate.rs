//! Request half + response half → exchange, in the order of one partition (design section 3, "Join").
//!
//! Enters: halves with their payloads, in offset order. Leaves: emissions, and the [`JoinState`] that lets another
//! reader rebuild exactly this join by reading the log again. Bounded in halves, in bytes and in the span of records
//! that a rebuild has to read. Nothing is parsed here and nothing is judged.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::model::EventTime;

/// Bounds of the join.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How far the stream clock may run ahead of a waiting half.
    pub timeout: Duration,
    /// Most halves waiting.
    pub max_open: usize,
    /// Most payload bytes of waiting halves; with the default of 2 MiB an event, 100,000 halves alone would not be a bound.
    pub max_open_bytes: usize,
    /// Most records between the oldest waiting half and the newest record. It bounds what a restart reads again, also
    /// when the stream clock stands still.
    pub max_span: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            max_open: 100_000,
            max_open_bytes: 64 << 20,
            max_span: 1_000_000,
        }
    }
}

/// Which half a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The request.
    Request,
    /// The response.
    Response,
}

/// A half that waits for the other one.
#[derive(Debug)]
pub struct Half {
    /// Where its record stood.
    pub offset: u64,
    /// Which half it is.
    pub side: Side,
    /// Its record, whole.
    pub payload: Box<[u8]>,
    key: Arc<str>,
    /// Number of the record in this partition since start.
    sequence: u64,
    /// Stream clock before and with its record.
    clock_before: Option<EventTime>,
    clock: EventTime,
}

/// What leaves the join.
#[derive(Debug)]
pub enum Emission<'a> {
    /// The record just applied completes this half.
    Joined(&'a Half),
    /// A request that will get no response any more.
    Unanswered(&'a Half),
    /// A lone response: counted, then dropped.
    Orphan,
}

/// Everything another reader needs to rebuild the join.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinState {
    /// Offset to read from: the oldest waiting half, or the end of what was applied.
    pub from: u64,
    /// Stream clock just before `from`.
    pub clock: Option<EventTime>,
    /// Records at or after `from` whose other half stood before it, ascending. They are done: without this list a rebuild would
    /// take them for halves that wait, and emit a request of a finished exchange once more.
    pub closed: Vec<u64>,
}

/// The join of one partition.
#[derive(Debug)]
pub struct Correlator {
    limits: Limits,
    clock: Option<EventTime>,
    /// Waiting halves in offset order, which is also the order of their remembered clocks.
    waiting: BTreeMap<u64, Half>,
    by_key: HashMap<Arc<str>, u64, foldhash::fast::RandomState>,
    waiting_bytes: usize,
    /// Offsets of joined pairs that a later `from` may still fall between.
    joined: VecDeque<(u64, u64)>,
    sequence: u64,
    end: u64,
}

impl Correlator {
    /// A join that has seen nothing, or is to be rebuilt from `clock` on.
    #[must_use]
    pub fn new(limits: Limits, start: u64, clock: Option<EventTime>) -> Self {
        Self {
            limits,
            clock,
            waiting: BTreeMap::new(),
            by_key: HashMap::default(),
            waiting_bytes: 0,
            joined: VecDeque::new(),
            sequence: 0,
            end: start,
        }
    }

    /// Greatest event time applied so far.
    #[must_use]
    pub fn clock(&self) -> Option<EventTime> {
        self.clock
    }

    /// Halves waiting now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.waiting.len()
    }

    /// Payload bytes of the halves waiting now.
    #[must_use]
    pub fn open_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Begins another input at offset 0: nothing waits, and its clock has not started.
    pub fn restart(&mut self) {
        *self = Self::new(self.limits, 0, None);
    }

    /// Applies a record that carries both halves: it only moves the clock. `end` is the offset after the record.
    pub fn pass(&mut self, at: EventTime, end: u64, emit: &mut impl FnMut(Emission<'_>)) {
        self.advance(at, end);
        self.expire(emit);
    }

    /// Moves over a record that is not part of the stream (rejected, blank).
    pub fn skip(&mut self, end: u64) {
        // It is read again with the rest, so it counts towards the span.
        self.sequence += 1;
        self.end = end;
    }

    /// Applies one half. `key` is (zone if given, id); `offset..end` is where its record stands.
    pub fn apply(
        &mut self,
        key: &str,
        side: Side,
        at: EventTime,
        payload: &[u8],
        (offset, end): (u64, u64),
        emit: &mut impl FnMut(Emission<'_>),
    ) {
        let clock_before = self.clock;
        let mut waits = true;
        if let Some(first) = self.by_key.get(key).copied() {
            let other = self
                .waiting
                .get(&first)
                .is_some_and(|half| half.side != side);
            if let Some(half) = self.take(first) {
                if other {
                    self.joined.push_back((first, offset));
                    emit(Emission::Joined(&half));
                    waits = false;
                } else {
                    emit(gone(&half));
                }
            }
        }
        let clock = self.advance(at, end);
        if waits {
            let key: Arc<str> = Arc::from(key);
            self.by_key.insert(Arc::clone(&key), offset);
            self.waiting_bytes += payload.len();
            let half = Half {
                offset,
                side,
                payload: Box::from(payload),
                key,
                sequence: self.sequence,
                clock_before,
                clock,
            };
            self.waiting.insert(offset, half);
        }
        self.expire(emit);
    }

    /// Emits everything that waits: the end of a finite input, or a partition gone idle.
    pub fn drain(&mut self, emit: &mut impl FnMut(Emission<'_>)) {
        while let Some(offset) = self.waiting.keys().next().copied() {
            if let Some(half) = self.take(offset) {
                emit(gone(&half));
            }
        }
        self.joined.clear();
    }

    /// The state to keep with everything before `end` done.
    #[must_use]
    pub fn state(&self) -> JoinState {
        let (from, clock) = match self.waiting.values().next() {
            Some(oldest) => (oldest.offset, oldest.clock_before),
            None => (self.end, self.clock),
        };
        let crosses = |(first, second): &&(u64, u64)| *first < from && from <= *second;
        let closed = self
            .joined
            .iter()
            .filter(crosses)
            .map(|(_, second)| *second)
            .collect();
        JoinState {
            from,
            clock,
            closed,
        }
    }

    fn advance(&mut self, at: EventTime, end: u64) -> EventTime {
        let clock = self.clock.map_or(at, |clock| clock.max(at));
        self.clock = Some(clock);
        self.sequence += 1;
        self.end = end;
        clock
    }

    fn take(&mut self, offset: u64) -> Option<Half> {
        let half = self.waiting.remove(&offset)?;
        self.by_key.remove(&half.key);
        self.waiting_bytes -= half.payload.len();
        Some(half)
    }

    /// Lets go of the oldest halves while one is too old or a bound is exceeded.
    fn expire(&mut self, emit: &mut impl FnMut(Emission<'_>)) {
        let timeout = i64::try_from(self.limits.timeout.as_nanos()).unwrap_or(i64::MAX);
        let now = self.clock.map_or(0, EventTime::nanos);
        while let Some(oldest) = self.waiting.values().next() {
            let over = now.saturating_sub(oldest.clock.nanos()) > timeout
                || self.waiting.len() > self.limits.max_open
                || self.waiting_bytes > self.limits.max_open_bytes
                || self.sequence - oldest.sequence > self.limits.max_span;
            if !over {
                break;
            }
            let offset = oldest.offset;
            if let Some(half) = self.take(offset) {
                emit(gone(&half));
            }
        }
        let from = self.waiting.keys().next().copied().unwrap_or(self.end);
        while self
            .joined
            .front()
            .is_some_and(|(_, second)| *second < from)
        {
            self.joined.pop_front();
        }
    }
}

/// What becomes of a half that stays alone.
fn gone(half: &Half) -> Emission<'_> {
    match half.side {
        Side::Request => Emission::Unanswered(half),
        Side::Response => Emission::Orphan,
    }
}

#[cfg(test)]
mod tests;
