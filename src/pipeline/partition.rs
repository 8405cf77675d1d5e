//! One partition or file: judged exchanges → flushes, each with the checkpoint after it.

use std::sync::Arc;

use arrow::error::ArrowError;
use aws_lc_rs::digest::{SHA256, digest};

use super::stream::{Counts, Emitted, Sink, Stream};
use crate::config::EvidenceSettings;
use crate::correlate::JoinState;
use crate::enrich::batch::{FlushBatches, FlushBuilder};
use crate::enrich::evidence::kept::Keeping;
use crate::enrich::{Judge, Judged};
use crate::model::{EventTime, Exchange, Network, Position, Reject};
use crate::publish::events::DeadLetter;
use crate::source::file::TooLong;
use crate::telemetry::Flushed;

/// Offsets without a record (tombstones, blank lines) after which the position is stored though nothing else is.
const PASSED: u64 = 10_000;
/// Exchanges at which a flush ends; with two flushes in flight a bound of memory, and large enough that writing
/// files costs little against judging.
pub const FLUSH_EXCHANGES: usize = 131_072;
/// Refused records at which a flush ends: an input of garbage must not grow without bound either.
const FLUSH_REJECTS: usize = 10_000;
/// Rows of all tables at which a flush ends: one exchange may break its schema in many places.
pub const FLUSH_ROWS: usize = 1_000_000;
/// Kept bytes of refused records at which a flush ends.
const FLUSH_REJECTED_BYTES: usize = 16 << 20;
/// Bytes of kept evidence at which a flush ends: its rows are few, but a row may be as long as a log line.
const FLUSH_KEPT_BYTES: usize = 16 << 20;
/// Records at which a flush ends though nothing came out of them: halves that wait, foreign hosts.
const FLUSH_RECORDS: u64 = 1_000_000;

/// Everything decided over one contiguous range of one input.
#[derive(Debug)]
pub struct Flush {
    /// Rows.
    pub batches: FlushBatches,
    /// Refused records.
    pub rejected: Vec<DeadLetter>,
    /// Everything before this offset is counted once this flush is stored.
    pub end: u64,
    /// State of the join after this flush.
    pub join: JoinState,
    /// Stream clock after this flush.
    pub clock: Option<EventTime>,
    /// Time of the first record that this process counted.
    pub first_time: Option<EventTime>,
    /// Counts of this flush.
    pub counts: Counts,
    /// Halves that wait after this flush, and the bytes of their payloads.
    pub open: (usize, usize),
}

impl Flush {
    /// The numbers of this flush for the metrics.
    #[must_use]
    pub fn numbers(&self) -> Flushed {
        let Counts {
            records,
            exchanges,
            unzoned,
            orphan_responses,
            unanswered,
        } = self.counts;
        let rejected = self.rejected.iter();
        Flushed {
            records,
            exchanges,
            unzoned,
            orphan_responses,
            unanswered,
            operations_overflowed: self.batches.overflowed,
            entities_overflowed: self.batches.entities_overflowed,
            events_overflowed: self.batches.events_overflowed,
            rejected: rejected.map(|letter| (letter.reason.as_str(), 1)).collect(),
        }
    }
}

/// What a pipeline keeps as evidence; `None` = nothing.
#[must_use]
pub fn keeping(settings: &EvidenceSettings) -> Option<Keeping> {
    settings.enabled.then_some(Keeping {
        sample: settings.sample,
        most: settings.per_flush,
    })
}

/// Judges the records of one input and cuts flushes.
pub struct Partition {
    stream: Stream,
    rows: Rows,
    end: u64,
    /// End of the flush taken last.
    taken: u64,
}

struct Rows {
    builder: FlushBuilder,
    rejected: Vec<DeadLetter>,
    rejected_bytes: usize,
    source: Arc<str>,
    partition: i32,
    keep_bytes: bool,
    broken: Option<ArrowError>,
}

impl Sink for Rows {
    fn judged(
        &mut self,
        judge: &Judge,
        exchange: &Exchange<'_>,
        judged: &Judged,
        emitted: Emitted,
    ) {
        let Some(zone) = judge.policy().zones.get(judged.zone) else {
            return;
        };
        let position = (&*self.source, self.partition, emitted.offset);
        let appended = self.builder.append(zone, exchange, judged);
        let kept = appended.and_then(|()| self.builder.keep(zone, exchange, judged, position));
        if let Err(error) = kept {
            self.broken.get_or_insert(error);
        }
    }

    fn rejected(&mut self, reason: Reject, payload: &[u8], offset: u64) {
        if self.keep_bytes {
            self.rejected_bytes += payload.len();
        }
        self.rejected.push(DeadLetter {
            reason,
            position: Position {
                source: self.source.to_string(),
                partition: self.partition,
                offset,
            },
            length: payload.len() as u64,
            sha256: hex::encode(digest(&SHA256, payload)),
            bytes: self.keep_bytes.then(|| payload.to_vec()),
        });
    }
}

impl Partition {
    /// A partition that dead letters call `source` and `partition` (0 for a file).
    #[must_use]
    pub fn new(
        stream: Stream,
        judge: &Judge,
        (source, partition): (&str, i32),
        end: u64,
        keep_bytes: bool,
    ) -> Self {
        let rows = Rows {
            builder: FlushBuilder::new(judge.hasher()),
            rejected: Vec::new(),
            rejected_bytes: 0,
            source: source.into(),
            partition,
            keep_bytes,
            broken: None,
        };
        Self {
            stream,
            rows,
            end,
            taken: end,
        }
    }

    /// The same partition, which keeps exchanges as evidence.
    #[must_use]
    pub fn keeping(mut self, keeping: Option<Keeping>, judge: &Judge) -> Self {
        if let Some(keeping) = keeping {
            let builder = self.rows.builder;
            self.rows.builder = builder.keeping(keeping, judge.hasher());
        }
        self
    }

    /// The same partition, in which requests from these networks list nobody.
    #[must_use]
    pub fn sparing(mut self, allowed: &[Network]) -> Self {
        self.rows.builder = self.rows.builder.sparing(allowed);
        self
    }

    /// Begins another finite input named `source`, within the same flush; the one before was drained.
    pub fn begin(&mut self, source: &str) {
        self.stream.restart();
        self.rows.source = source.into();
        self.end = 0;
        self.taken = 0;
    }

    /// Refused records of this flush so far.
    #[must_use]
    pub fn rejected(&self) -> &[DeadLetter] {
        &self.rows.rejected
    }

    /// Applies one record that stands at `offset..end`; `latest` as in [`Stream::apply`].
    pub fn apply(&mut self, payload: &[u8], offset: u64, end: u64, latest: Option<EventTime>) {
        self.stream
            .apply(payload, (offset, end), latest, &mut self.rows);
        self.end = end.max(self.end);
    }

    /// Refuses a record that was too long to keep.
    pub fn refuse(&mut self, too_long: &TooLong, offset: u64, end: u64) {
        let before = self.rows.rejected.len();
        self.stream
            .refuse(Reject::TooLarge, offset, end, &mut self.rows);
        if let Some(letter) = self.rows.rejected.get_mut(before) {
            letter.length = too_long.len;
            letter.sha256.clone_from(&too_long.sha256);
        }
        self.end = end.max(self.end);
    }

    /// Passes offsets that hold no record, up to `end`.
    pub fn skip(&mut self, end: u64) {
        if end > self.end {
            self.stream.skip(end);
            self.end = end;
        }
    }

    /// Emits everything that waits: the input has ended, or gone idle.
    pub fn drain(&mut self) {
        self.stream.drain(&mut self.rows);
    }

    /// Whether the flush has reached its share of one of the bounds. Up to four `partitions` of this process have whole
    /// flushes, because few large ones cost the store least; more share what four would hold, and no share is smaller than a
    /// sixteenth: tiny flushes would cost more than they save.
    #[must_use]
    pub fn full(&self, partitions: usize) -> bool {
        let share = partitions.div_ceil(4).clamp(1, 16);
        self.rows.builder.len() >= FLUSH_EXCHANGES / share
            || self.rows.builder.rows() >= FLUSH_ROWS / share
            || self.rows.rejected.len() >= FLUSH_REJECTS / share
            || self.rows.rejected_bytes >= FLUSH_REJECTED_BYTES / share
            || self.rows.builder.kept_bytes() >= FLUSH_KEPT_BYTES / share
            || self.stream.counts.records >= FLUSH_RECORDS / share as u64
    }

    /// Whether there is nothing to store since the last flush.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.rows.builder.is_empty()
            && self.rows.rejected.is_empty()
            && self.stream.counts == Counts::default()
            && self.end.saturating_sub(self.taken) < PASSED
    }

    /// Halves waiting now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.stream.open()
    }

    /// Offset after the last record applied.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Stream clock after everything applied so far.
    #[must_use]
    pub fn clock(&self) -> Option<EventTime> {
        self.stream.clock()
    }

    /// Takes the flush out and starts the next one.
    ///
    /// # Errors
    /// Only when Arrow refuses our own columns, which is a bug.
    pub fn take(&mut self) -> Result<Flush, ArrowError> {
        if let Some(error) = self.rows.broken.take() {
            return Err(error);
        }
        self.rows.rejected_bytes = 0;
        self.stream.next_flush();
        self.taken = self.end;
        Ok(Flush {
            batches: self.rows.builder.finish()?,
            rejected: std::mem::take(&mut self.rows.rejected),
            end: self.end,
            join: self.stream.join_state(),
            clock: self.stream.clock(),
            first_time: self.stream.first_time(),
            counts: std::mem::take(&mut self.stream.counts),
            open: (self.stream.open(), self.stream.open_bytes()),
        })
    }
}
