//! The ledger as the evaluator follows it: how far every partition is in event time, and which minutes changed.
//!
//! Rows of several nodes arrive out of order, and a node that had to repeat its insert writes one with an old time. So
//! the ledger is asked with an overlap, and a row counts once, by its range.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::store::clickhouse::LedgerRow;

/// Nanoseconds in a millisecond.
const NANOS: i64 = 1_000_000;

/// A flush: topic, partition, first, last, drain.
type Flush = (String, i32, u64, u64, bool);

/// What was read of the ledger.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Flushes that were counted, with when they were stored.
    seen: HashMap<Flush, i64>,
    partitions: BTreeMap<(String, i32), Partition>,
    touched: BTreeSet<i64>,
    /// A flush touched more minutes than it lists.
    all: bool,
}

#[derive(Debug)]
struct Partition {
    /// Greatest event time, epoch milliseconds.
    clock: i64,
    /// When records were stored last, wall time. A drain brings none: nothing was delivered.
    delivered_at: i64,
}

/// Minutes to read again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Touched {
    /// These.
    Minutes(BTreeSet<i64>),
    /// All.
    All,
}

impl Ledger {
    /// Counts rows; those counted before change nothing.
    pub(super) fn note(&mut self, rows: Vec<LedgerRow>) {
        for row in rows {
            let range = row.range;
            let at = (range.topic, range.partition);
            let flush = (at.0.clone(), at.1, range.first, range.last, range.drain);
            if self.seen.insert(flush, row.stored_at).is_some() {
                continue;
            }
            self.touched.extend(row.minutes);
            self.all |= row.all_minutes;
            if row.records == 0 {
                continue;
            }
            let Some(clock) = row.greatest.map(|nanos| nanos.div_euclid(NANOS)) else {
                continue;
            };
            let known = self.partitions.entry(at).or_insert(Partition {
                clock,
                delivered_at: row.stored_at,
            });
            known.clock = known.clock.max(clock);
            known.delivered_at = known.delivered_at.max(row.stored_at);
        }
    }

    /// Forgets which flushes were stored before `stored_at`; they are not asked for any more.
    pub(super) fn forget(&mut self, stored_at: i64) {
        self.seen.retain(|_, stored| *stored >= stored_at);
    }

    /// Least clock of the partitions that delivered at or after `since`, wall time; `None` = none did.
    pub(super) fn watermark(&self, since: i64) -> Option<i64> {
        let busy = self
            .partitions
            .values()
            .filter(|partition| partition.delivered_at >= since);
        busy.map(|partition| partition.clock).min()
    }

    /// Whether any minute changed since it was last taken.
    pub(super) fn is_touched(&self) -> bool {
        self.all || !self.touched.is_empty()
    }

    /// Takes the changed minutes before `end`; the others change again before they matter.
    pub(super) fn take(&mut self, end: i64) -> Touched {
        if std::mem::take(&mut self.all) {
            self.touched.clear();
            return Touched::All;
        }
        let later = self.touched.split_off(&end);
        Touched::Minutes(std::mem::replace(&mut self.touched, later))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::clickhouse::FlushRange;

    fn row(partition: i32, (first, last): (u64, u64), clock: i64, stored_at: i64) -> LedgerRow {
        LedgerRow {
            range: FlushRange {
                topic: "t".to_owned(),
                partition,
                first,
                last,
                drain: false,
            },
            from: last,
            clock: None,
            greatest: Some(clock * NANOS),
            closed: Vec::new(),
            minutes: vec![clock / 60_000 * 60_000],
            all_minutes: false,
            records: last - first,
            exchanges: 0,
            rejected: 0,
            blocks: 1,
            stored_at,
        }
    }

    #[test]
    fn the_slowest_partition_that_delivers_holds_the_watermark() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.watermark(0), None);
        ledger.note(vec![
            row(0, (0, 5), 100_000, 10),
            row(1, (0, 5), 70_000, 11),
        ]);
        assert_eq!(ledger.watermark(0), Some(70_000));
        // Partition 1 is silent.
        ledger.note(vec![row(0, (5, 9), 200_000, 80)]);
        assert_eq!(ledger.watermark(11), Some(70_000));
        assert_eq!(ledger.watermark(12), Some(200_000));
        assert_eq!(ledger.watermark(81), None);
        // A drain stores what waited, but delivers nothing.
        let mut drain = row(1, (5, 5), 70_000, 90);
        drain.range.drain = true;
        drain.minutes = vec![60_000];
        ledger.note(vec![drain]);
        assert_eq!(ledger.watermark(12), Some(200_000));
        // A clock does not go back.
        ledger.note(vec![row(0, (9, 12), 150_000, 95)]);
        assert_eq!(ledger.watermark(12), Some(200_000));
    }

    #[test]
    fn a_flush_counts_once_however_often_it_is_read() {
        let mut ledger = Ledger::default();
        ledger.note(vec![
            row(0, (0, 5), 100_000, 10),
            row(1, (0, 5), 700_000, 11),
        ]);
        assert_eq!(
            ledger.take(660_000),
            Touched::Minutes(BTreeSet::from([60_000]))
        );
        assert!(ledger.is_touched());
        ledger.note(vec![
            row(0, (0, 5), 100_000, 10),
            row(1, (0, 5), 700_000, 11),
        ]);
        assert_eq!(
            ledger.take(i64::MAX),
            Touched::Minutes(BTreeSet::from([660_000]))
        );
        assert!(!ledger.is_touched());
        // A row with an old time that was not seen before counts like a new one.
        ledger.forget(10);
        ledger.note(vec![row(0, (5, 7), 101_000, 3)]);
        assert_eq!(
            ledger.take(i64::MAX),
            Touched::Minutes(BTreeSet::from([60_000]))
        );
    }

    #[test]
    fn too_many_minutes_are_all_of_them() {
        let mut ledger = Ledger::default();
        let wild = LedgerRow {
            all_minutes: true,
            minutes: Vec::new(),
            ..row(0, (0, 5), 100_000, 10)
        };
        ledger.note(vec![wild, row(0, (5, 7), 100_000, 10)]);
        assert_eq!(ledger.take(0), Touched::All);
        assert!(!ledger.is_touched());
    }
}
