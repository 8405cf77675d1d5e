//! The ledger as the evaluator follows it: how far every partition is in event time, and which minutes changed.
//!
//! Rows of several nodes arrive out of order, and a node that had to repeat its insert writes one with an old time. So
//! the ledger is asked with an overlap, and a row counts once, by its range. Of a replicated store another replica may
//! have the row before it has the sums, so minutes are read once more when it had time to catch up.

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
    /// The same since [`Self::take_fresh`].
    fresh: BTreeSet<i64>,
    all_fresh: bool,
    /// How long a replica may lag behind, milliseconds; 0 = there are none.
    lag: i64,
    /// Minutes to read once more, with the wall time from which on they are complete.
    settling: BTreeMap<i64, i64>,
    /// The same for all of them.
    all_settled_at: Option<i64>,
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
    /// The ledger of a store whose replicas may lag behind for `lag` milliseconds; 0 = there are none.
    pub(super) fn new(lag: i64) -> Self {
        Self {
            lag,
            ..Self::default()
        }
    }

    /// Counts rows that were read at `now`, wall time; those counted before change nothing.
    pub(super) fn note(&mut self, rows: Vec<LedgerRow>, now: i64) {
        let settled_at = now + self.lag;
        for row in rows {
            let range = row.range;
            let at = (range.topic, range.partition);
            let flush = (at.0.clone(), at.1, range.first, range.last, range.drain);
            if self.seen.insert(flush, row.stored_at).is_some() {
                continue;
            }
            if self.lag > 0 {
                let minutes = row.minutes.iter().map(|minute| (*minute, settled_at));
                self.settling.extend(minutes);
                if row.all_minutes {
                    self.all_settled_at = Some(settled_at);
                }
            }
            self.fresh.extend(&row.minutes);
            self.touched.extend(row.minutes);
            self.all |= row.all_minutes;
            self.all_fresh |= row.all_minutes;
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

    /// Touches minutes once more that are complete at `now`, wall time.
    pub(super) fn settle(&mut self, now: i64) {
        let (touched, fresh) = (&mut self.touched, &mut self.fresh);
        self.settling.retain(|minute, settled_at| {
            let waits = *settled_at > now;
            if !waits {
                touched.insert(*minute);
                fresh.insert(*minute);
            }
            waits
        });
        let all = self.all_settled_at.take_if(|at| *at <= now).is_some();
        self.all |= all;
        self.all_fresh |= all;
    }

    /// Least clock of the partitions that delivered at or after `since`, wall time; `None` = none did. It is never later
    /// than `latest`: ticks only grow, so a record whose time nobody can believe must not move them there.
    pub(super) fn watermark(&self, since: i64, latest: i64) -> Option<i64> {
        let busy = self
            .partitions
            .values()
            .filter(|partition| partition.delivered_at >= since);
        busy.map(|partition| partition.clock.min(latest)).min()
    }

    /// Whether any minute changed since it was last taken.
    pub(super) fn is_touched(&self) -> bool {
        self.all || !self.touched.is_empty()
    }

    /// Takes the minutes that changed since it was asked last, whatever the watermark.
    pub(super) fn take_fresh(&mut self) -> Touched {
        let minutes = std::mem::take(&mut self.fresh);
        if std::mem::take(&mut self.all_fresh) {
            return Touched::All;
        }
        Touched::Minutes(minutes)
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
        assert_eq!(ledger.watermark(0, i64::MAX), None);
        ledger.note(
            vec![row(0, (0, 5), 100_000, 10), row(1, (0, 5), 70_000, 11)],
            0,
        );
        assert_eq!(ledger.watermark(0, i64::MAX), Some(70_000));
        // Partition 1 is silent.
        ledger.note(vec![row(0, (5, 9), 200_000, 80)], 0);
        assert_eq!(ledger.watermark(11, i64::MAX), Some(70_000));
        assert_eq!(ledger.watermark(12, i64::MAX), Some(200_000));
        assert_eq!(ledger.watermark(81, i64::MAX), None);
        // A drain stores what waited, but delivers nothing.
        let mut drain = row(1, (5, 5), 70_000, 90);
        drain.range.drain = true;
        drain.minutes = vec![60_000];
        ledger.note(vec![drain], 0);
        assert_eq!(ledger.watermark(12, i64::MAX), Some(200_000));
        // A clock does not go back.
        ledger.note(vec![row(0, (9, 12), 150_000, 95)], 0);
        assert_eq!(ledger.watermark(12, i64::MAX), Some(200_000));
    }

    #[test]
    fn a_clock_that_nobody_can_believe_does_not_move_ticks_there() {
        let mut ledger = Ledger::default();
        ledger.note(vec![row(0, (0, 5), 4_102_444_800_000, 10)], 0);
        assert_eq!(ledger.watermark(0, 700_000), Some(700_000));
        ledger.note(vec![row(1, (0, 5), 650_000, 11)], 0);
        assert_eq!(ledger.watermark(0, 700_000), Some(650_000));
    }

    #[test]
    fn what_a_replica_may_not_have_yet_is_read_once_more() {
        let minutes = |minutes: &[i64]| Touched::Minutes(minutes.iter().copied().collect());
        let mut ledger = Ledger::new(30);
        ledger.note(vec![row(0, (0, 5), 60_000, 10)], 100);
        ledger.note(vec![row(0, (5, 9), 120_000, 10)], 110);
        ledger.settle(120);
        assert_eq!(ledger.take(i64::MAX), minutes(&[60_000, 120_000]));
        ledger.settle(130);
        assert_eq!(ledger.take(i64::MAX), minutes(&[60_000]));
        // Touched again meanwhile, it is complete later.
        ledger.note(vec![row(0, (9, 12), 120_000, 10)], 135);
        ledger.settle(140);
        assert_eq!(ledger.take(i64::MAX), minutes(&[120_000]));
        ledger.settle(165);
        assert_eq!(ledger.take(i64::MAX), minutes(&[120_000]));
        ledger.settle(i64::MAX);
        assert_eq!(ledger.take(i64::MAX), minutes(&[]));
        let wild = LedgerRow {
            all_minutes: true,
            ..row(0, (12, 13), 60_000, 10)
        };
        ledger.note(vec![wild], 200);
        assert_eq!(ledger.take(i64::MAX), Touched::All);
        ledger.settle(229);
        assert_eq!(ledger.take(i64::MAX), minutes(&[]));
        ledger.settle(230);
        assert_eq!(ledger.take(i64::MAX), Touched::All);
        // One replica is never behind itself.
        let mut alone = Ledger::new(0);
        alone.note(vec![row(0, (0, 5), 60_000, 10)], 100);
        alone.take(i64::MAX);
        alone.settle(i64::MAX);
        assert!(!alone.is_touched());
    }

    #[test]
    fn a_flush_counts_once_however_often_it_is_read() {
        let mut ledger = Ledger::default();
        ledger.note(
            vec![row(0, (0, 5), 100_000, 10), row(1, (0, 5), 700_000, 11)],
            0,
        );
        assert_eq!(
            ledger.take(660_000),
            Touched::Minutes(BTreeSet::from([60_000]))
        );
        assert!(ledger.is_touched());
        ledger.note(
            vec![row(0, (0, 5), 100_000, 10), row(1, (0, 5), 700_000, 11)],
            0,
        );
        assert_eq!(
            ledger.take(i64::MAX),
            Touched::Minutes(BTreeSet::from([660_000]))
        );
        assert!(!ledger.is_touched());
        // A row with an old time that was not seen before counts like a new one.
        ledger.forget(10);
        ledger.note(vec![row(0, (5, 7), 101_000, 3)], 0);
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
        ledger.note(vec![wild, row(0, (5, 7), 100_000, 10)], 0);
        assert_eq!(ledger.take(0), Touched::All);
        assert!(!ledger.is_touched());
    }
}
