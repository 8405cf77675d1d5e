//! One term of an evaluator: from the moment it owns the proposals until it does not, or is in doubt.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMillisecondType;
use datafusion::error::DataFusionError;
use tokio::runtime::Handle;

use super::held::{Recent, entries, recent};
use super::ledger::{Ledger, Touched};
use super::mark::Mark;
use super::member::{Member, Proposed};
use super::watching::{Wanted, Watching};
use super::{Counters, EvaluatorError, Plan, REPLICA_LAG, Sums};
use crate::clock::{self, Stopwatch};
use crate::detect::blocklist::{BlockList, ENDED};
use crate::detect::{Change, Evaluator, State};
use crate::pipeline::detections;
use crate::publish::blocklist::{self as wire, Cause, Entry};
use crate::publish::events;
use crate::publish::kafka::{Message, Position, PublishError, WriteError, Writer};
use crate::store::clickhouse::{Detections, StoreError};

/// How often the ledger is asked at most.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How far the clocks of nodes may differ before a row of the ledger waits for the next sweep, milliseconds.
const CLOCKS_DIFFER: i64 = 10_000;
/// How often the ledger is asked for rows that turned up late, because their insert was repeated.
const SWEEP_EVERY: Duration = Duration::from_mins(1);
/// Ticks without a change after which the state is stored all the same, so that a restart has less to judge again.
const STORE_EVERY: i64 = 12;
/// How long ticks are judged before the group is heard again.
const SLICE: Duration = Duration::from_secs(1);
/// How long a partition may take to be seekable.
const SEEKABLE_WITHIN: Duration = Duration::from_secs(5);
/// How often the stop flag is looked at while the store is waited for.
const STOP_EVERY: Duration = Duration::from_millis(100);

/// Why a term ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Told to stop.
    Stopped,
    /// The next term finds out how far this one came.
    Interrupted(String),
    /// Nothing that a new term could change.
    Fault(EvaluatorError),
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Fault(error.into())
    }
}

impl From<DataFusionError> for Ended {
    fn from(error: DataFusionError) -> Self {
        Self::Fault(error.into())
    }
}

impl From<PublishError> for Ended {
    fn from(error: PublishError) -> Self {
        if error.retry() {
            Self::Interrupted(error.to_string())
        } else {
            Self::Fault(error.into())
        }
    }
}

/// What every term of this process works with.
pub(super) struct Desk<'a, S> {
    pub(super) plan: &'a Plan,
    pub(super) store: &'a S,
    pub(super) handle: &'a Handle,
    pub(super) counters: &'a Counters,
    pub(super) stop: &'a AtomicBool,
    pub(super) member: &'a Member,
}

impl<S> Clone for Desk<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Desk<'_, S> {}

impl<S: Sums> Desk<'_, S> {
    /// Waits for the store, but not when told to stop.
    pub(super) fn wait<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, Ended>
    where
        Ended: From<E>,
    {
        let stopped = async {
            while !self.stop.load(Ordering::Relaxed) {
                tokio::time::sleep(STOP_EVERY).await;
            }
        };
        self.handle.block_on(async {
            tokio::select! {
                biased;
                outcome = work => outcome.map_err(Ended::from),
                () = stopped => Err(Ended::Stopped),
            }
        })
    }

    /// Waits for the store for as long as `patience`; `None` = it is not done yet.
    fn wait_a_while<T, E>(
        &self,
        patience: Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<Option<T>, Ended>
    where
        Ended: From<E>,
    {
        self.wait::<Option<T>, Ended>(async {
            match tokio::time::timeout(patience, work).await {
                Ok(done) => done.map(Some).map_err(Ended::from),
                Err(_) => Ok(None),
            }
        })
    }

    /// Waits, but not when told to stop.
    fn pause(&self, pause: Duration) -> Result<(), Ended> {
        self.wait(async {
            tokio::time::sleep(pause).await;
            Ok::<_, StoreError>(())
        })
    }

    fn write_error(&self, error: WriteError) -> Ended {
        match error {
            WriteError::Refused(source) => Ended::Fault(EvaluatorError::Refused {
                group: self.plan.group.clone(),
                brokers: self.plan.cluster.brokers.clone(),
                prefix: self.plan.cluster.prefix.clone(),
                source: Box::new(source),
            }),
            other => Ended::Interrupted(other.to_string()),
        }
    }
}

/// One term.
pub(super) struct Term<'a, S> {
    desk: Desk<'a, S>,
    seat: u64,
    writer: Writer,
    mark: Mark,
    /// Position in the proposals.
    offset: u64,
    list: BlockList,
    recent: Recent,
    evaluator: Evaluator,
    ledger: Ledger,
    watching: Watching,
    /// Tick of the newest row of detections.
    stored: Option<i64>,
    /// When the ledger was asked last, wall time.
    asked_at: i64,
    asked: Stopwatch,
    swept: Stopwatch,
}

impl<'a, S: Sums> Term<'a, S> {
    /// Takes over: fences the predecessor, publishes what it left, and reads what is needed to go on.
    pub(super) fn begin(desk: Desk<'a, S>, seat: u64) -> Result<Self, Ended> {
        let Desk { plan, member, .. } = desk;
        let writer = Writer::open(&plan.cluster, &plan.pipeline, &plan.group)
            .map_err(|error| desk.write_error(error))?;
        // Only now nobody else can change what follows.
        let (offset, metadata) = member.committed()?;
        let mark = Mark::decode(&metadata).map_err(|problem| {
            Ended::Fault(EvaluatorError::Mark {
                group: plan.group.clone(),
                metadata,
                problem,
            })
        })?;
        let first_kept = member.first_kept()?;
        let offset = offset.unwrap_or(first_kept);
        let entries = entries(plan)?;
        let mut term = Self {
            desk,
            seat,
            writer,
            mark,
            offset,
            list: BlockList::new(plan.rules.clone(), entries),
            recent: recent(plan, first_kept, offset)?,
            evaluator: Evaluator::new(plan.every, plan.limits.clone(), State::default()),
            ledger: Ledger::new(plan.replica_lag),
            watching: Watching::begin(plan)?,
            stored: None,
            asked_at: clock::now_millis(),
            asked: Stopwatch::start(),
            swept: Stopwatch::start(),
        };
        let state = term.publish_what_is_left()?;
        term.mark.term += 1;
        let now = clock::now_millis();
        let mut messages = term.ended(Cause::Expired, now);
        messages.extend(term.ended(Cause::Configuration, now));
        // From here on the term is ours alone.
        term.commit(&messages)?;
        let metrics = &desk.counters.metrics;
        metrics.block_list_decided(ENDED, messages.len() as u64);
        term.stored = state.tick;
        term.evaluator = Evaluator::new(plan.every, plan.limits.clone(), state);
        // The ledger first: a flush that it lists has all its rows, and any other is seen later.
        let since = term.asked_at - plan.overlap.max(plan.idle);
        let rows = desk.wait(desk.store.recorded_since(since))?;
        term.ledger.note(rows, clock::now_millis());
        term.ledger.take(i64::MAX);
        term.rebuild()?;
        term.start()?;
        desk.counters.terms.fetch_add(1, Ordering::Relaxed);
        Ok(term)
    }

    /// Goes on in the proposals. A partition is seekable a moment after its assignment, and beginning a term again for
    /// want of that moment would cost another read of the whole window.
    fn start(&self) -> Result<(), Ended> {
        let watch = Stopwatch::start();
        while let Err(error) = self.desk.member.start(self.offset) {
            if watch.elapsed() > SEEKABLE_WITHIN || !error.retry() {
                return Err(error.into());
            }
            self.desk.pause(STOP_EVERY)?;
        }
        Ok(())
    }

    /// The seat in which this term began.
    pub(super) fn seat(&self) -> u64 {
        self.seat
    }

    /// Publishes what the predecessor stored and did not publish; gives the state to go on from.
    fn publish_what_is_left(&mut self) -> Result<State, Ended> {
        let watch = Stopwatch::start();
        loop {
            let from = self.mark.published.map(|(tick, _)| tick);
            let rows = self.desk.wait(self.desk.store.detections_from(from))?;
            let mut state = (from.is_none()).then(State::default);
            let mut left = Vec::new();
            for row in rows {
                let (by, held) = unreadable(row.tick, detections::decode_judged(&row.state))?;
                if self.mark.published == Some((row.tick, by)) {
                    state = Some(held);
                } else if by == self.mark.term && from.is_none_or(|from| row.tick > from) {
                    left.push((row, held));
                }
            }
            let Some(mut state) = state else {
                // A replica that is behind catches up.
                if watch.elapsed() > REPLICA_LAG {
                    return Err(Ended::Fault(EvaluatorError::Missing {
                        tick: from.unwrap_or_default(),
                        group: self.desk.plan.group.clone(),
                    }));
                }
                self.desk.pause(Duration::from_millis(500))?;
                continue;
            };
            for (row, held) in left {
                tracing::info!("publishing what was decided at tick {}", row.tick);
                self.publish(&row, self.mark.term)?;
                state = held;
            }
            return Ok(state);
        }
    }

    /// One look at proposals and ledger. Gives whether there is more to do at once.
    pub(super) fn round(&mut self, proposed: &[Proposed]) -> Result<bool, Ended> {
        self.apply(proposed)?;
        if self.asked.elapsed() < ASK_EVERY {
            return Ok(false);
        }
        self.ask()?;
        self.watch()?;
        self.judge()
    }

    /// Waits for the store and sees to the list meanwhile: who is blocked at once, or pardoned, does not wait for it.
    fn meanwhile<T, E>(&mut self, work: impl Future<Output = Result<T, E>>) -> Result<T, Ended>
    where
        Ended: From<E>,
    {
        let desk = self.desk;
        let mut work = std::pin::pin!(work);
        loop {
            if let Some(done) = desk.wait_a_while(ASK_EVERY, &mut work)? {
                return Ok(done);
            }
            let proposed = desk.member.proposed(Duration::ZERO)?;
            if desk.member.seat() != Some(self.seat) {
                return Err(Ended::Interrupted("another node evaluates now".to_owned()));
            }
            self.apply(&proposed)?;
        }
    }

    /// Proposes what crossed a threshold; it is applied when it is read back from the log.
    fn watch(&mut self) -> Result<(), Ended> {
        let Desk { plan, store, .. } = self.desk;
        self.watching.note(&self.ledger.take_fresh());
        let newest = self.evaluator.state().tick.unwrap_or_default();
        let mut read = false;
        for wanted in self.watching.wanted(newest) {
            let rows = match &wanted {
                Wanted::From(table, from) => self.meanwhile(store.entities_from(table, *from))?,
                Wanted::Minutes(table, minutes) => {
                    self.meanwhile(store.entity_minutes(table, minutes))?
                }
            };
            read |= self.watching.add(&rows);
        }
        let messages = if read {
            self.watching.look(&plan.pipeline)
        } else {
            Vec::new()
        };
        if messages.is_empty() {
            return Ok(());
        }
        self.commit(&messages)
    }

    /// Applies proposals in the order of the log, and ends entries whose time is over.
    fn apply(&mut self, proposed: &[Proposed]) -> Result<(), Ended> {
        let Desk { plan, counters, .. } = self.desk;
        let now = clock::now_millis();
        let mut messages = self.ended(Cause::Expired, now);
        let mut decided = vec![(ENDED, messages.len())];
        let mut answered = false;
        let start = self.offset;
        for Proposed { offset, record } in proposed.iter().filter(|one| one.offset >= start) {
            self.offset = offset + 1;
            let proposal = match wire::parse(&plan.pipeline, record) {
                Ok(Entry::Proposal(proposal)) => proposal,
                Ok(Entry::Outcome(_) | Entry::Foreign) => continue,
                Err(problem) => {
                    tracing::warn!("the proposal at offset {offset} is not readable: {problem}");
                    counters.refused.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            };
            answered = true;
            if !self.recent.insert(&proposal.id) {
                continue;
            }
            let decision = self.list.apply(&proposal, *offset, now);
            let counter = if decision.outcome.refused() {
                &counters.refused
            } else {
                &counters.applied
            };
            counter.fetch_add(1, Ordering::Relaxed);
            decided.push((decision.outcome.as_str(), 1));
            if let Some(edit) = &decision.edit {
                messages.push(wire::decided(
                    &plan.pipeline,
                    &proposal.id,
                    decision.outcome,
                    edit,
                ));
            }
            if proposal.answer {
                messages.push(wire::outcome(&plan.pipeline, &proposal, &decision));
            }
        }
        let entries = self.list.len() as u64;
        counters.entries.store(entries, Ordering::Relaxed);
        if answered || !messages.is_empty() {
            self.commit(&messages)?;
        }
        for (result, count) in decided {
            counters.metrics.block_list_decided(result, count as u64);
        }
        Ok(())
    }

    /// Records for what time or configuration ends.
    fn ended(&mut self, cause: Cause, now: i64) -> Vec<Message> {
        let edits = match cause {
            Cause::Expired => self.list.expire(now),
            Cause::Configuration => self.list.reconcile(now),
        };
        let pipeline = &self.desk.plan.pipeline;
        edits
            .iter()
            .map(|edit| wire::caused(pipeline, cause, edit))
            .collect()
    }

    /// Reads on in the ledger.
    fn ask(&mut self) -> Result<(), Ended> {
        let sweep = self.swept.elapsed() >= SWEEP_EVERY;
        let overlap = if sweep {
            self.desk.plan.overlap
        } else {
            CLOCKS_DIFFER
        };
        let now = clock::now_millis();
        let since = self.asked_at.min(now) - overlap.max(CLOCKS_DIFFER);
        let store = self.desk.store;
        let rows = self.meanwhile(store.recorded_since(since))?;
        self.ledger.note(rows, now);
        self.asked_at = now;
        self.asked = Stopwatch::start();
        if sweep {
            self.swept = Stopwatch::start();
            self.ledger.forget(since);
        }
        Ok(())
    }

    /// Judges the ticks that are due. Gives whether some are left.
    fn judge(&mut self) -> Result<bool, Ended> {
        let Desk { plan, counters, .. } = self.desk;
        let now = clock::now_millis();
        self.ledger.settle(now);
        let latest = now.saturating_add(plan.future);
        let Some(clock) = self.ledger.watermark(now - plan.idle, latest) else {
            return Ok(false);
        };
        let watermark = clock.saturating_sub(plan.lateness);
        counters.watermark.store(watermark, Ordering::Relaxed);
        let Some(tick) = self.evaluator.next_tick() else {
            // The first flush that counted anything defines the first tick.
            if self.ledger.is_touched() {
                self.ledger.take(i64::MAX);
                self.rebuild()?;
            }
            return Ok(false);
        };
        if tick > watermark {
            return Ok(false);
        }
        match self.ledger.take(watermark) {
            Touched::All => self.rebuild()?,
            Touched::Minutes(minutes) if minutes.is_empty() => {}
            Touched::Minutes(minutes) => {
                let asked: Vec<i64> = minutes.iter().copied().collect();
                let store = self.desk.store;
                let rows = self.meanwhile(store.read_minutes(&asked))?;
                self.desk.wait(self.evaluator.replace(&minutes, rows))?;
            }
        }
        let watch = Stopwatch::start();
        while let Some(changes) = self.evaluator.step(watermark) {
            counters.ticks.fetch_add(1, Ordering::Relaxed);
            let Some(tick) = self.evaluator.state().tick else {
                break;
            };
            let overdue = self
                .stored
                .is_none_or(|stored| tick - stored >= STORE_EVERY * plan.every);
            if overdue || !changes.is_empty() {
                self.decide(tick, &changes)?;
            }
            if watch.elapsed() > SLICE {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Stores what was judged at a tick, then publishes it from there.
    fn decide(&mut self, tick: i64, changes: &[Change]) -> Result<(), Ended> {
        let pipeline = &self.desk.plan.pipeline;
        let term = self.mark.term;
        let events = changes
            .iter()
            .map(|change| events::change(pipeline, change))
            .collect();
        let row = Detections {
            tick,
            state: unreadable(
                tick,
                detections::encode_judged(term, self.evaluator.state()),
            )?,
            changes: unreadable(tick, detections::encode_events(events))?,
        };
        let store = self.desk.store;
        self.meanwhile(store.write_detections(tick, term, &row.state, &row.changes))?;
        self.stored = Some(tick);
        self.publish(&row, term)
    }

    fn publish(&mut self, row: &Detections, by: u64) -> Result<(), Ended> {
        let events = unreadable(row.tick, detections::decode_events(&row.changes))?;
        let messages: Vec<_> = events.into_iter().map(Message::from).collect();
        self.mark.published = Some((row.tick, by));
        self.commit(&messages)?;
        let count = messages.len() as u64;
        let counters = self.desk.counters;
        counters.changes.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    /// Writes messages with position and mark, all or nothing. Any error ends the term, so that what is in memory never
    /// runs ahead of what was written.
    fn commit(&self, messages: &[Message]) -> Result<(), Ended> {
        let member = self.desk.member;
        let Some(identity) = member.identity() else {
            return Err(Ended::Interrupted("the group is not joined".to_owned()));
        };
        let position = Position {
            topic: member.topic().to_owned(),
            offset: self.offset,
            metadata: self.mark.encode(),
        };
        self.writer
            .write(messages, &position, &identity)
            .map_err(|error| self.desk.write_error(error))
    }

    /// Reads the whole window again, and defines the first tick when there was none.
    fn rebuild(&mut self) -> Result<(), Ended> {
        let from = self.evaluator.needs_from();
        let store = self.desk.store;
        let rows = self.meanwhile(store.read_from(from))?;
        let first = first_minute(&rows);
        self.desk.wait(self.evaluator.rebuild(rows))?;
        if let Some(first) = first {
            self.evaluator.start_at(first);
        }
        Ok(())
    }
}

fn unreadable<T>(tick: i64, outcome: Result<T, serde_json::Error>) -> Result<T, Ended> {
    outcome.map_err(|source| Ended::Fault(EvaluatorError::Unreadable { tick, source }))
}

/// The oldest minute with a row.
fn first_minute(rows: &[RecordBatch]) -> Option<i64> {
    let columns = rows
        .iter()
        .filter_map(|batch| batch.column_by_name("window_start"));
    columns
        .filter_map(|column| arrow::compute::min(column.as_primitive::<TimestampMillisecondType>()))
        .min()
}
