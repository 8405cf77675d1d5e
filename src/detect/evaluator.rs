//! Judges every tick once, in order, and says what changed.
//!
//! Enters: the sums of each flush (or the merged minutes that flushes of several nodes touched), the watermark, and
//! after a restart the stored state with the stored windows.
//! Leaves: [`Change`]s. Labels are judged from sliding sums, so a tick never costs a read of the whole window.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampMillisecondType, UInt64Type};
use datafusion::catalog::MemTable;
use datafusion::error::Result;

use super::sliding::Sliding;
use super::{Counts, DETECTORS, Detector, Limits, MEASURES, WINDOW_MINUTES};
use crate::model::{MINUTE_MILLIS, OVERFLOW, OperationKey};
use crate::window;

/// Most operations of one zone that are judged apart (design section 4, the zone-wide cap).
const MAX_OPERATIONS: usize = 10_000;

/// One label or insight that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// End of the window at which it was first found, epoch milliseconds.
    pub since: i64,
    /// Counts at the last change.
    pub counts: Counts,
}

/// What must survive a restart: the tick judged last, and what held then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Tick judged last, epoch milliseconds; `None` before the first event.
    pub tick: Option<i64>,
    /// What holds, by detector name, then by operation.
    pub findings: BTreeMap<String, BTreeMap<OperationKey, Finding>>,
}

/// A label applied or cleared, an insight opened or resolved.
#[derive(Debug)]
pub struct Change {
    /// Which.
    pub detector: &'static Detector,
    /// On what.
    pub operation: OperationKey,
    /// Whether it holds now.
    pub holds: bool,
    /// End of the window that was judged (exclusive), epoch milliseconds.
    pub at: i64,
    /// Since when it has held, epoch milliseconds.
    pub since: i64,
    /// Counts over the 24 hours before `at`.
    pub counts: Counts,
}

/// Judges ticks.
#[derive(Debug)]
pub struct Evaluator {
    every: i64,
    limits: Limits,
    state: State,
    operations: HashMap<OperationKey, [Sliding; MEASURES.len()]>,
    /// Operations known of each zone, at most [`MAX_OPERATIONS`]; what is over it counts as `{overflow}`.
    per_zone: HashMap<String, usize>,
    /// End of the window that every [`Sliding`] is at.
    window_end: i64,
}

impl Evaluator {
    /// An evaluator that goes on from `state`; `every` is the distance of ticks in milliseconds, whole minutes.
    #[must_use]
    pub fn new(every: i64, limits: Limits, state: State) -> Self {
        let window_end = state.tick.unwrap_or_default();
        Self {
            every: every.max(MINUTE_MILLIS),
            limits,
            state,
            operations: HashMap::new(),
            per_zone: HashMap::new(),
            window_end,
        }
    }

    /// What holds, to be stored.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// First minute whose rows still matter: what a restart has to read.
    #[must_use]
    pub fn needs_from(&self) -> i64 {
        self.window_end - WINDOW_MINUTES * MINUTE_MILLIS
    }

    /// Adds rows of `endpoint_windows`: a flush, or at start everything from [`Self::needs_from`] on.
    ///
    /// # Errors
    /// Only when DataFusion refuses our own SQL, which is a bug.
    pub async fn add(&mut self, rows: Vec<RecordBatch>) -> Result<()> {
        let Some(first) = rows.first() else {
            return Ok(());
        };
        let context = window::context();
        let table = MemTable::try_new(first.schema(), vec![rows])?;
        context.register_table("endpoint_windows", Arc::new(table))?;
        for (measure, definition) in MEASURES.iter().enumerate() {
            for batch in context.sql(definition.sql).await?.collect().await? {
                self.add_batch(measure, &batch)?;
            }
        }
        Ok(())
    }

    /// Replaces everything counted in `minutes` (epoch milliseconds) by `rows`, the merged rows of exactly these minutes.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub async fn replace(&mut self, minutes: &BTreeSet<i64>, rows: Vec<RecordBatch>) -> Result<()> {
        for sliding in self.operations.values_mut().flatten() {
            for minute in minutes {
                sliding.forget(*minute);
            }
        }
        self.add(rows).await
    }

    /// Replaces everything counted by `rows`: all rows from [`Self::needs_from`] on.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub async fn rebuild(&mut self, rows: Vec<RecordBatch>) -> Result<()> {
        self.operations.clear();
        self.per_zone.clear();
        self.add(rows).await
    }

    fn add_batch(&mut self, measure: usize, batch: &RecordBatch) -> Result<()> {
        let text =
            |name: &str| -> Result<ArrayRef> { Ok(cast(column(batch, name)?, &DataType::Utf8)?) };
        let number =
            |name: &str| -> Result<ArrayRef> { Ok(cast(column(batch, name)?, &DataType::UInt64)?) };
        let times = column(batch, "window_start")?.as_primitive::<TimestampMillisecondType>();
        let (zones, hosts, methods, endpoints) = (
            text("zone")?,
            text("host")?,
            text("method")?,
            text("endpoint")?,
        );
        let (hits, others) = (number("hits")?, number("others")?);
        let (hits, others) = (
            hits.as_primitive::<UInt64Type>(),
            others.as_primitive::<UInt64Type>(),
        );
        for row in 0..batch.num_rows() {
            let value = |array: &ArrayRef| array.as_string::<i32>().value(row).to_owned();
            let operation = OperationKey {
                zone: value(&zones),
                host: value(&hosts),
                method: value(&methods),
                endpoint: value(&endpoints),
            };
            if let Some(sliding) = self.slidings(operation).get_mut(measure) {
                let counts = Counts {
                    hits: hits.value(row),
                    others: others.value(row),
                };
                sliding.add(times.value(row), counts);
            }
        }
        Ok(())
    }

    /// The counts of an operation, or those of its zone's `{overflow}` once the zone has enough operations.
    fn slidings(&mut self, mut operation: OperationKey) -> &mut [Sliding; MEASURES.len()] {
        let end = self.window_end;
        if !self.operations.contains_key(&operation) {
            let known = self.per_zone.entry(operation.zone.clone()).or_default();
            if *known >= MAX_OPERATIONS {
                OVERFLOW.clone_into(&mut operation.endpoint);
            } else {
                *known += 1;
            }
        }
        let empty = || std::array::from_fn(|_| Sliding::new(end, WINDOW_MINUTES));
        self.operations.entry(operation).or_insert_with(empty)
    }

    /// The tick before the first event, so that ticks do not depend on how the input is cut into flushes. Gives whether
    /// it was set now.
    pub fn start_at(&mut self, first_event: i64) -> bool {
        if self.state.tick.is_some() {
            return false;
        }
        let tick = first_event.div_euclid(self.every) * self.every;
        self.state.tick = Some(tick);
        self.window_end = tick;
        true
    }

    /// Judges every tick up to and including `watermark` (epoch milliseconds, lateness already taken off).
    pub fn advance(&mut self, watermark: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some(more) = self.step(watermark) {
            changes.extend(more);
        }
        changes
    }

    /// Judges one tick, the next at or before `watermark` at which something can change; [`State::tick`] says which.
    /// `None` = no tick is due.
    pub fn step(&mut self, watermark: i64) -> Option<Vec<Change>> {
        let tick = self.next_tick()?;
        if tick > watermark {
            return None;
        }
        let last = watermark.div_euclid(self.every) * self.every;
        // With nothing counted and nothing held, ticks until the next counted minute change nothing.
        let next = if self.state.findings.is_empty() {
            self.next_busy_tick(tick).min(last)
        } else {
            tick
        };
        self.state.tick = Some(next);
        let mut changes = Vec::new();
        self.judge(next, &mut changes);
        Some(changes)
    }

    /// The tick after the one judged last; `None` before the first event.
    #[must_use]
    pub fn next_tick(&self) -> Option<i64> {
        let judged = self.state.tick?;
        Some((judged.div_euclid(self.every) + 1) * self.every)
    }

    /// Judges the 24 hours that end with the minute `newest`: the end of a finite input.
    pub fn finish(&mut self, newest: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        self.judge(newest + MINUTE_MILLIS, &mut changes);
        changes
    }

    /// First tick at or after `tick` whose window has counts.
    fn next_busy_tick(&self, tick: i64) -> i64 {
        let start = tick - WINDOW_MINUTES * MINUTE_MILLIS;
        let minutes = self
            .operations
            .values()
            .flatten()
            .filter_map(|s| s.next_minute(start));
        let Some(first) = minutes.min() else {
            return i64::MAX;
        };
        let busy = (first + MINUTE_MILLIS + self.every - 1).div_euclid(self.every) * self.every;
        busy.max(tick)
    }

    fn judge(&mut self, at: i64, changes: &mut Vec<Change>) {
        self.window_end = self.window_end.max(at);
        let end = self.window_end;
        self.operations.retain(|_, slidings| {
            for sliding in slidings.iter_mut() {
                sliding.move_to(end, WINDOW_MINUTES);
            }
            !slidings.iter().all(Sliding::is_empty)
        });
        let before = changes.len();
        self.per_zone.clear();
        for operation in self.operations.keys() {
            match self.per_zone.get_mut(&operation.zone) {
                Some(known) => *known += 1,
                None => drop(self.per_zone.insert(operation.zone.clone(), 1)),
            }
        }
        let none = BTreeMap::new();
        for detector in DETECTORS {
            let held = self.state.findings.get(detector.name).unwrap_or(&none);
            for (operation, slidings) in &self.operations {
                let counts = slidings
                    .get(detector.measure)
                    .map(Sliding::sum)
                    .unwrap_or_default();
                let holds = (detector.holds)(operation, counts, &self.limits);
                let since = held.get(operation).map(|finding| finding.since);
                if holds != since.is_some() {
                    let since = since.unwrap_or(at);
                    let operation = operation.clone();
                    changes.push(Change {
                        detector,
                        operation,
                        holds,
                        at,
                        since,
                        counts,
                    });
                }
            }
            // An operation without a count in 24 hours has no posture any more.
            for (operation, finding) in held {
                if !self.operations.contains_key(operation) {
                    let (since, counts) = (finding.since, Counts::default());
                    let operation = operation.clone();
                    changes.push(Change {
                        detector,
                        operation,
                        holds: false,
                        at,
                        since,
                        counts,
                    });
                }
            }
        }
        let new = changes.get_mut(before..).unwrap_or_default();
        new.sort_by(|a, b| {
            (&a.operation, a.holds, a.detector.name).cmp(&(&b.operation, b.holds, b.detector.name))
        });
        for change in new {
            let held = self
                .state
                .findings
                .entry(change.detector.name.to_owned())
                .or_default();
            if change.holds {
                let finding = Finding {
                    since: change.since,
                    counts: change.counts,
                };
                held.insert(change.operation.clone(), finding);
            } else {
                held.remove(&change.operation);
            }
        }
        self.state.findings.retain(|_, held| !held.is_empty());
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    let found = batch.column_by_name(name);
    found.ok_or_else(|| datafusion::error::DataFusionError::Internal(format!("no column {name}")))
}
