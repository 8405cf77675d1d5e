//! Thresholds over `entity_windows`: so many signals of one entity within so many minutes of event time.
//!
//! Enters: the sums of each flush, or the merged minutes that flushes of several nodes touched. Leaves: a [`Crossing`] for
//! what is new since the last look. Pure, and driven by event time alone.
//!
//! A threshold *fires* in every window of its width that ends with a minute in which its entity raised the signal, and in
//! which there were enough signals, from enough endpoints and addresses. The evidence is what happened in the minutes of all
//! windows that fire. Counts only grow, so both are functions of the minutes and not of the order in which these arrived:
//! the same events give the same evidence, however they were cut into flushes. What was said of a minute is remembered
//! ([`Watch::said`]), so it is said once, also after a restart.

mod columns;
pub mod defaults;
pub mod history;
mod series;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use arrow::array::RecordBatch;

use self::series::Series;
use crate::model::{BlockKey, BlockKind, MINUTE_MILLIS, Samples};

/// Signal of every request of a session, whatever came of it. It has no row in `entity_windows`; `session_windows` has.
pub const REQUEST: &str = "request";
/// How much longer than the widest window minutes are kept, so that late events still count: an hour.
const KEPT_LONGER: i64 = 60 * MINUTE_MILLIS;
/// Entities that are watched; beyond it the ones that were quiet longest are forgotten.
pub const MAX_WATCHED: usize = 100_000;

/// How many signals, within how long, block what for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// Its name: what an entry calls its rule.
    pub name: String,
    /// The signal that is counted: a built-in one, or the id of a rule.
    pub signal: String,
    /// What kind of entity it is counted of, which is also what gets listed.
    pub kind: BlockKind,
    /// Signals that it takes, at least 1.
    pub count: u64,
    /// Width of the window, whole minutes in milliseconds.
    pub within: i64,
    /// Endpoints that they must have gone to, at least; estimated. 0 = any.
    pub distinct_endpoints: u64,
    /// Addresses that they must have come from, at least; estimated. 0 = any.
    pub distinct_addresses: u64,
    /// How long the entity is listed, milliseconds from the decision.
    pub duration: i64,
    /// Whether entries may be enforced; else they are always simulated.
    pub blocks: bool,
}

impl Threshold {
    /// What happened, in one sentence.
    #[must_use]
    pub fn reason(&self) -> String {
        let minutes = self.within / MINUTE_MILLIS;
        let mut reason = format!(
            "{}: {} × {} within {minutes} min",
            self.name, self.count, self.signal
        );
        for (least, what) in [
            (self.distinct_endpoints, "endpoints"),
            (self.distinct_addresses, "addresses"),
        ] {
            if least > 0 {
                let _ = write!(reason, ", at least {least} {what}");
            }
        }
        reason
    }
}

/// What thresholds have said about one entity: threshold → minute (epoch milliseconds) → signals.
pub type Said = BTreeMap<String, BTreeMap<i64, u64>>;

/// More of what a threshold counts, of an entity that is over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// Index of the threshold.
    pub threshold: usize,
    /// The entity.
    pub key: BlockKey,
    /// Signals that were not said before.
    pub signals: u64,
    /// The minutes in which they were, epoch milliseconds, with all signals that were counted there by now.
    pub minutes: BTreeMap<i64, u64>,
    /// Ids of some of the exchanges of these minutes.
    pub samples: Samples,
}

/// An entity in words that the windows use.
type Entity = (Box<str>, Box<str>, Box<str>);

/// Sums per entity, and what was said about them.
#[derive(Debug, Default)]
pub struct Watch {
    thresholds: Vec<Threshold>,
    /// How long minutes are kept, milliseconds.
    kept: i64,
    entities: HashMap<Entity, Watched, foldhash::fast::RandomState>,
    touched: BTreeSet<Entity>,
    said: BTreeMap<BlockKey, Said>,
    looks: u64,
    reads: u64,
    most: usize,
}

#[derive(Debug, Default)]
struct Watched {
    signals: BTreeMap<Box<str>, Series>,
    /// The look before which it was touched last.
    seen: u64,
}

impl Watch {
    /// Nothing counted yet; `said` is what was said before a restart.
    #[must_use]
    pub fn new(thresholds: Vec<Threshold>, said: BTreeMap<BlockKey, Said>) -> Self {
        let widest = thresholds.iter().map(|threshold| threshold.within).max();
        Self {
            thresholds,
            kept: widest.unwrap_or_default() + KEPT_LONGER,
            said,
            most: MAX_WATCHED,
            ..Self::default()
        }
    }

    /// The thresholds.
    #[must_use]
    pub fn thresholds(&self) -> &[Threshold] {
        &self.thresholds
    }

    /// How far back rows matter, milliseconds: what a restart has to read.
    #[must_use]
    pub fn reach(&self) -> i64 {
        self.kept
    }

    /// Whether anything counts requests of sessions, so that `session_windows` is worth reading.
    #[must_use]
    pub fn watches_sessions(&self) -> bool {
        self.thresholds
            .iter()
            .any(|threshold| threshold.signal == REQUEST)
    }

    /// Adds rows of `entity_windows` or `session_windows` to what is known.
    pub fn add(&mut self, rows: &RecordBatch) {
        self.count(rows, None);
    }

    /// Takes over merged rows of one of these tables: they are all there is of their minutes, and take the place of what was
    /// known. They come in one call, because a session has a row for each operation, which are one count together.
    pub fn add_merged(&mut self, rows: &[RecordBatch]) {
        self.reads += 1;
        for rows in rows {
            self.count(rows, Some(self.reads));
        }
    }

    fn count(&mut self, rows: &RecordBatch, read: Option<u64>) {
        let Some(columns) = columns::Columns::of(rows) else {
            return;
        };
        for row in 0..rows.num_rows() {
            let row = columns.row(row);
            // What fell under a cap is nobody.
            if row.entity == crate::model::OVERFLOW
                || !self
                    .thresholds
                    .iter()
                    .any(|threshold| row.counts(threshold))
            {
                continue;
            }
            let entity = (row.zone.into(), row.kind.into(), row.entity.into());
            let watched = self.entities.entry(entity.clone()).or_default();
            watched.seen = self.looks;
            let series = match watched.signals.get_mut(row.signal) {
                Some(known) => known,
                None => watched.signals.entry(row.signal.into()).or_default(),
            };
            series.add(row.minute, &row.sums, read, self.kept);
            self.touched.insert(entity);
        }
    }

    /// What the rows added since the last look say that was not said before. The entities whose memory changed with it
    /// come too: what was said about them is to be kept with the crossings.
    pub fn look(&mut self) -> (Vec<Crossing>, Vec<BlockKey>) {
        self.looks += 1;
        let mut crossings = Vec::new();
        let mut changed = Vec::new();
        for entity in std::mem::take(&mut self.touched) {
            let Some(kind) = BlockKind::parse(&entity.1) else {
                continue;
            };
            // The windows hold canonical texts only.
            let Ok(key) = BlockKey::new(&entity.0, kind, &entity.2) else {
                continue;
            };
            let Some(watched) = self.entities.get_mut(&entity) else {
                continue;
            };
            let before = crossings.len();
            for (index, threshold) in self.thresholds.iter().enumerate() {
                if threshold.kind != kind {
                    continue;
                }
                let Some(series) = watched.signals.get(threshold.signal.as_str()) else {
                    continue;
                };
                let covered = series.covered(threshold);
                if covered.is_empty() {
                    continue;
                }
                let said = self.said.entry(key.clone()).or_default();
                let said = said.entry(threshold.name.clone()).or_default();
                let mut crossing = Crossing {
                    threshold: index,
                    key: key.clone(),
                    signals: 0,
                    minutes: BTreeMap::new(),
                    samples: Samples::default(),
                };
                for (at, sums) in covered {
                    let known = said.entry(at).or_default();
                    if sums.requests > *known {
                        crossing.signals += sums.requests - *known;
                        crossing.minutes.insert(at, sums.requests);
                        crossing.samples.join(&sums.samples);
                        *known = sums.requests;
                    }
                }
                if crossing.signals > 0 {
                    crossings.push(crossing);
                }
            }
            // Not before: of a log that is read at once a flush holds many hours, and each of them counts.
            for series in watched.signals.values_mut() {
                series.forget(self.kept);
            }
            // What is too old to be counted again need not be remembered.
            for threshold in &self.thresholds {
                let said = self.said.get_mut(&key);
                let said = said.and_then(|said| said.get_mut(&threshold.name));
                let series = watched.signals.get(threshold.signal.as_str());
                if let (Some(said), Some(series)) = (said, series) {
                    said.retain(|at, _| *at >= series.oldest());
                }
            }
            if crossings.len() > before {
                changed.push(key);
            }
        }
        changed.extend(self.forget());
        (crossings, changed)
    }

    /// What was said about an entity; nothing = it is forgotten.
    #[must_use]
    pub fn said(&self, key: &BlockKey) -> Option<&Said> {
        self.said.get(key)
    }

    /// Everything that was said, by entity.
    pub fn all_said(&self) -> impl Iterator<Item = (&BlockKey, &Said)> {
        self.said.iter()
    }

    /// Lets go of entities that were quiet longest when there are too many, and of what was said about minutes that are
    /// too old to be counted again. Gives the entities about which less is remembered now.
    fn forget(&mut self) -> Vec<BlockKey> {
        let mut changed = Vec::new();
        if self.entities.len() <= self.most {
            return changed;
        }
        let mut seen: Vec<u64> = self.entities.values().map(|watched| watched.seen).collect();
        // A tenth at once, so that this is not done at every look.
        let (_, oldest, _) = seen.select_nth_unstable(self.entities.len() / 10);
        let oldest = *oldest;
        let keys: Vec<BlockKey> = self
            .entities
            .extract_if(|_, watched| watched.seen <= oldest)
            .filter_map(|((zone, kind, entity), _)| {
                BlockKey::new(&zone, BlockKind::parse(&kind)?, &entity).ok()
            })
            .collect();
        for key in keys {
            if self.said.remove(&key).is_some() {
                changed.push(key);
            }
        }
        changed
    }
}
