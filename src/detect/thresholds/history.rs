//! Thresholds over a whole range at once: what each minute would have said, had the list been looked at when it ended.
//!
//! Enters: sums of recorded exchanges, in any order and cut. Leaves: every [`Crossing`] in the order of event time. The
//! minutes, the windows and what is counted only once are those of [`Watch`](super::Watch); but nothing is said before
//! everything is known, so the answer depends on the exchanges alone, also where topics are read one partition after another.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow::array::RecordBatch;

use super::columns::{Columns, Row};
use super::series::Series;
use super::{Crossing, Entity, MAX_WATCHED, Threshold};
use crate::model::{BlockKey, BlockKind, OVERFLOW, Samples};

/// Sums per entity over a range.
#[derive(Debug)]
pub struct History {
    thresholds: Vec<Threshold>,
    entities: HashMap<Entity, BTreeMap<Box<str>, Series>, foldhash::fast::RandomState>,
    most: usize,
    /// Signals of entities that came when as many were watched as can be.
    pub overflow: u64,
}

impl History {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(thresholds: Vec<Threshold>) -> Self {
        Self {
            thresholds,
            entities: HashMap::default(),
            most: MAX_WATCHED,
            overflow: 0,
        }
    }

    /// The thresholds.
    #[must_use]
    pub fn thresholds(&self) -> &[Threshold] {
        &self.thresholds
    }

    /// Adds rows of `entity_windows` or `session_windows`.
    pub fn add(&mut self, rows: &RecordBatch) {
        let Some(columns) = Columns::of(rows) else {
            return;
        };
        for row in 0..rows.num_rows() {
            let row = columns.row(row);
            if self
                .thresholds
                .iter()
                .any(|threshold| row.counts(threshold))
            {
                self.add_row(&row);
            }
        }
    }

    fn add_row(&mut self, row: &Row<'_>) {
        let entity: Entity = (row.zone.into(), row.kind.into(), row.entity.into());
        let full = self.entities.len() >= self.most && !self.entities.contains_key(&entity);
        // What fell under a cap of its flush is nobody.
        if full || row.entity == OVERFLOW {
            self.overflow += row.sums.requests;
            return;
        }
        let signals = self.entities.entry(entity).or_default();
        let series = signals.entry(row.signal.into()).or_default();
        series.add(row.minute, &row.sums, None, i64::MAX);
    }

    /// What every minute (epoch milliseconds) says that none before it has said, in the order of the minutes.
    #[must_use]
    pub fn crossings(&self) -> Vec<(i64, Crossing)> {
        let mut crossings = Vec::new();
        for ((zone, kind, entity), signals) in &self.entities {
            let Some(kind) = BlockKind::parse(kind) else {
                continue;
            };
            let Ok(key) = BlockKey::new(zone, kind, entity) else {
                continue;
            };
            for (index, threshold) in self.thresholds.iter().enumerate() {
                let series = signals.get(threshold.signal.as_str());
                let Some(series) = series.filter(|_| threshold.kind == kind) else {
                    continue;
                };
                let mut told = BTreeSet::new();
                for (end, window) in series.firing(threshold) {
                    let mut crossing = Crossing {
                        threshold: index,
                        key: key.clone(),
                        signals: 0,
                        minutes: BTreeMap::new(),
                        samples: Samples::default(),
                    };
                    for (at, sums) in window {
                        if told.insert(at) {
                            crossing.signals += sums.requests;
                            crossing.minutes.insert(at, sums.requests);
                            crossing.samples.join(&sums.samples);
                        }
                    }
                    crossings.push((end, crossing));
                }
            }
        }
        crossings.sort_by(|a, b| {
            let by = |(minute, crossing): &(i64, Crossing)| (*minute, crossing.threshold);
            by(a).cmp(&by(b)).then_with(|| a.1.key.cmp(&b.1.key))
        });
        crossings
    }
}

#[cfg(test)]
mod tests {
    use super::super::Watch;
    use super::super::tests::{batch, threshold};
    use super::*;
    use crate::model::MINUTE_MILLIS;

    /// Who, (minute, signals).
    const ROWS: [(&str, i64, u64); 9] = [
        ("192.0.2.1", 0, 2),
        ("192.0.2.1", 1, 1),
        ("192.0.2.1", 4, 3),
        ("192.0.2.1", 5, 1),
        ("192.0.2.1", 300, 3),
        ("192.0.2.2", 0, 2),
        ("192.0.2.2", 2, 2),
        ("192.0.2.3", 7, 9),
        ("192.0.2.3", 9, 1),
    ];

    fn told(crossings: &[(i64, Crossing)]) -> Vec<(String, usize, i64, u64)> {
        let told = |(minute, crossing): &(i64, Crossing)| {
            (
                crossing.key.entity().to_owned(),
                crossing.threshold,
                minute / MINUTE_MILLIS,
                crossing.signals,
            )
        };
        crossings.iter().map(told).collect()
    }

    fn history(rows: impl Iterator<Item = (&'static str, i64, u64)>) -> History {
        let mut history = History::new(vec![threshold("three", 3, 2), threshold("ten", 10, 3)]);
        for (entity, minute, count) in rows {
            history.add(&batch(&[(minute, "ip", entity, "refused", count, 1, 1)]));
        }
        history
    }

    #[test]
    fn every_minute_says_what_is_new_in_any_order_of_the_rows() {
        let expected = [
            // Windows of two minutes with three signals.
            ("192.0.2.1", 0, 1, 3),
            ("192.0.2.1", 0, 4, 3),
            ("192.0.2.1", 0, 5, 1),
            ("192.0.2.3", 0, 7, 9),
            // Of three minutes with ten.
            ("192.0.2.3", 1, 9, 10),
            ("192.0.2.1", 0, 300, 3),
        ];
        let expected = expected
            .map(|(entity, index, minute, signals)| (entity.to_owned(), index, minute, signals));
        assert_eq!(told(&history(ROWS.into_iter()).crossings()), expected);
        assert_eq!(told(&history(ROWS.into_iter().rev()).crossings()), expected);
    }

    #[test]
    fn the_sums_are_those_of_a_pipeline_that_looks_at_every_minute() {
        let found = history(ROWS.into_iter());
        let mut watch = Watch::new(found.thresholds().to_vec(), BTreeMap::new());
        let mut looked = Vec::new();
        for minute in 0..=300 {
            for (entity, _, count) in ROWS.iter().filter(|row| row.1 == minute) {
                watch.add(&batch(&[(minute, "ip", entity, "refused", *count, 1, 1)]));
            }
            let said = watch.look().0.into_iter();
            looked.extend(said.map(|crossing| (minute * MINUTE_MILLIS, crossing)));
        }
        assert_eq!(told(&found.crossings()), told(&looked));
    }

    #[test]
    fn what_comes_when_it_is_full_is_counted_apart() {
        let mut full = history(std::iter::empty());
        full.most = 1;
        for (entity, minute, count) in ROWS {
            full.add(&batch(&[(minute, "ip", entity, "refused", count, 1, 1)]));
        }
        full.add(&batch(&[(1, "ip", OVERFLOW, "refused", 5, 1, 1)]));
        assert_eq!(full.overflow, 4 + 10 + 5);
        assert!(
            full.crossings()
                .iter()
                .all(|(_, crossing)| crossing.key.entity() == "192.0.2.1")
        );
    }
}
