//! Records of one partition → judged exchanges, in order: decode, zone, join, enrich.
//!
//! `run` and `explain` share it; what becomes of an exchange is the business of their [`Sink`]s.

use crate::correlate;
use crate::correlate::{Correlator, Emission, JoinState, Side};
use crate::decode::{self, Adapter, Kind, Record};
use crate::enrich::token::Budget;
use crate::enrich::{Judge, Judged};
use crate::model::{EventTime, Exchange, Reject};

/// How an exchange came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// Where the record stood that completed it; of an unanswered request, its own. No other exchange has this offset.
    pub offset: u64,
    /// Whether it was let go because nothing answered it.
    pub unanswered: bool,
}

/// Where judged exchanges go.
pub trait Sink {
    /// An exchange with its verdicts.
    fn judged(&mut self, judge: &Judge, exchange: &Exchange<'_>, judged: &Judged, emitted: Emitted);

    /// A record that was refused.
    fn rejected(&mut self, reason: Reject, payload: &[u8], offset: u64);
}

/// Counts of what never becomes a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records applied.
    pub records: u64,
    /// Exchanges judged.
    pub exchanges: u64,
    /// Exchanges that belong to no zone.
    pub unzoned: u64,
    /// Responses whose request never came.
    pub orphan_responses: u64,
    /// Requests whose response never came.
    pub unanswered: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.records += more.records;
        self.exchanges += more.exchanges;
        self.unzoned += more.unzoned;
        self.orphan_responses += more.orphan_responses;
        self.unanswered += more.unanswered;
    }
}

/// One partition or file, read in order.
pub struct Stream {
    adapter: Adapter,
    limits: decode::Limits,
    judge: Judge,
    join: Correlator,
    /// Records before this offset were counted by an earlier run: they rebuild the join and emit nothing.
    counted_to: u64,
    /// Of those, the ones that are done, ascending.
    closed: Vec<u64>,
    judged: Judged,
    key: String,
    /// Counts since they were last taken.
    pub counts: Counts,
    first_time: Option<EventTime>,
}

impl Stream {
    /// A stream that goes on where `state` says, with everything before `counted_to` already counted.
    #[must_use]
    pub fn new(
        adapter: Adapter,
        limits: decode::Limits,
        correlate: correlate::Limits,
        judge: Judge,
        state: &JoinState,
        counted_to: u64,
    ) -> Self {
        Self {
            adapter,
            limits,
            judge,
            join: Correlator::new(correlate, state.from, state.clock),
            counted_to,
            closed: state.closed.clone(),
            judged: Judged::default(),
            key: String::new(),
            counts: Counts::default(),
            first_time: None,
        }
    }

    /// The same stream, which has at most so many different tokens of a flush verified.
    #[must_use]
    pub fn limited(mut self, verifications: usize) -> Self {
        self.judged.budget = Budget::of(verifications);
        self
    }

    /// Says that a flush was cut.
    pub fn next_flush(&mut self) {
        self.judged.budget.renew();
    }

    /// State of the join after everything applied so far.
    #[must_use]
    pub fn join_state(&self) -> JoinState {
        self.join.state()
    }

    /// Greatest event time applied so far.
    #[must_use]
    pub fn clock(&self) -> Option<EventTime> {
        self.join.clock()
    }

    /// Event time of the first record that was counted.
    #[must_use]
    pub fn first_time(&self) -> Option<EventTime> {
        self.first_time
    }

    /// Halves waiting now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.join.open()
    }

    /// Payload bytes of the halves waiting now.
    #[must_use]
    pub fn open_bytes(&self) -> usize {
        self.join.open_bytes()
    }

    /// Begins another finite input at offset 0; the one before was drained. Counts go on.
    pub fn restart(&mut self) {
        self.join.restart();
        self.counted_to = 0;
        self.closed.clear();
    }

    /// Passes offsets that hold no record.
    pub fn skip(&mut self, end: u64) {
        self.join.skip(end);
    }

    /// Refuses a record that the source could not deliver whole.
    pub fn refuse(&mut self, reason: Reject, offset: u64, end: u64, sink: &mut impl Sink) {
        self.join.skip(end);
        if offset >= self.counted_to {
            sink.rejected(reason, &[], offset);
        }
    }

    /// Applies one record. A blank line is nothing. `latest` is the greatest event time that is believed, the record's
    /// arrival and `limits.future` after it; a file does not say when its lines arrived.
    pub fn apply(
        &mut self,
        payload: &[u8],
        (offset, end): (u64, u64),
        latest: Option<EventTime>,
        sink: &mut impl Sink,
    ) {
        let counted = offset < self.counted_to;
        let payload = payload.trim_ascii();
        if payload.is_empty() {
            self.join.skip(end);
            return;
        }
        let record = match self.decode(payload, latest) {
            Ok(record) => record,
            Err(reason) => {
                self.join.skip(end);
                if !counted {
                    sink.rejected(reason, payload, offset);
                }
                return;
            }
        };
        let Record { kind, exchange } = record;
        let at = exchange.at;
        if !counted {
            self.counts.records += 1;
            self.first_time.get_or_insert(at);
        }
        let Self {
            adapter,
            limits,
            judge,
            join,
            judged,
            counts,
            key,
            closed,
            ..
        } = self;
        let mut emitter = Emitter {
            adapter,
            limits: *limits,
            judge,
            judged,
            counts,
            sink,
            counted,
            offset,
        };
        if kind == Kind::Exchange {
            let unanswered = false;
            emitter.emit(&exchange, Emitted { offset, unanswered });
            join.pass(at, end, &mut |emission| emitter.lone(&emission));
            return;
        }
        if counted && closed.binary_search(&offset).is_ok() {
            join.pass(at, end, &mut |emission| emitter.lone(&emission));
            return;
        }
        key.clear();
        key.push_str(exchange.zone.as_deref().unwrap_or_default());
        key.push('\n');
        key.push_str(exchange.id.as_deref().unwrap_or_default());
        let side = if kind == Kind::Request {
            Side::Request
        } else {
            Side::Response
        };
        let mut exchange = Some(exchange);
        join.apply(
            key,
            side,
            at,
            payload,
            (offset, end),
            &mut |emission| match emission {
                Emission::Joined(half) => {
                    if let Some(second) = exchange.take() {
                        emitter.joined(half, second);
                    }
                }
                alone => emitter.lone(&alone),
            },
        );
    }

    /// Emits everything that waits.
    pub fn drain(&mut self, sink: &mut impl Sink) {
        let Self {
            adapter,
            limits,
            judge,
            join,
            judged,
            counts,
            ..
        } = self;
        let mut emitter = Emitter {
            adapter,
            limits: *limits,
            judge,
            judged,
            counts,
            sink,
            counted: false,
            // Nothing is joined by a drain.
            offset: 0,
        };
        join.drain(&mut |emission| emitter.lone(&emission));
    }

    fn decode<'a>(
        &self,
        payload: &'a [u8],
        latest: Option<EventTime>,
    ) -> Result<Record<'a>, Reject> {
        let record = self.adapter.decode(payload, self.limits)?;
        if latest.is_some_and(|latest| record.exchange.at > latest) {
            return Err(Reject::TimeInFuture);
        }
        let zone = record.exchange.zone.as_deref();
        if zone.is_none_or(|id| self.judge.policy().zone_by_id(id).is_some()) {
            Ok(record)
        } else {
            Err(Reject::UnknownZone)
        }
    }
}

/// Judges what leaves the join and hands it on; silent while records that are already counted rebuild the join.
struct Emitter<'s, S> {
    adapter: &'s Adapter,
    limits: decode::Limits,
    judge: &'s Judge,
    judged: &'s mut Judged,
    counts: &'s mut Counts,
    sink: &'s mut S,
    counted: bool,
    /// Where the record stands that is applied.
    offset: u64,
}

impl<S: Sink> Emitter<'_, S> {
    fn emit(&mut self, exchange: &Exchange<'_>, emitted: Emitted) {
        if self.counted {
            return;
        }
        if emitted.unanswered {
            self.counts.unanswered += 1;
        }
        if self.judge.judge(exchange, self.judged) {
            self.counts.exchanges += 1;
            self.sink.judged(self.judge, exchange, self.judged, emitted);
        } else {
            self.counts.unzoned += 1;
        }
    }

    /// A half that stays alone.
    fn lone(&mut self, emission: &Emission<'_>) {
        match emission {
            Emission::Unanswered(half) => {
                if let Ok(record) = self.adapter.decode(&half.payload, self.limits) {
                    let emitted = Emitted {
                        offset: half.offset,
                        unanswered: true,
                    };
                    self.emit(&record.exchange, emitted);
                }
            }
            Emission::Orphan if !self.counted => self.counts.orphan_responses += 1,
            Emission::Orphan | Emission::Joined(_) => {}
        }
    }

    /// The waiting half was decoded once already, so decoding it again cannot fail.
    fn joined<'a>(&mut self, half: &'a correlate::Half, second: Exchange<'a>) {
        if self.counted {
            return;
        }
        let Ok(first) = self.adapter.decode(&half.payload, self.limits) else {
            return;
        };
        let exchange = match half.side {
            Side::Request => decode::join(first.exchange, second.response),
            Side::Response => decode::join(second, first.exchange.response),
        };
        let emitted = Emitted {
            offset: self.offset,
            unanswered: false,
        };
        self.emit(&exchange, emitted);
    }
}
