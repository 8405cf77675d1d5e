//! Counts per minute of one operation and measure, and their sum over a window that only moves forward.

use std::collections::BTreeMap;

use super::Counts;
use crate::model::MINUTE_MILLIS;

/// Counts of one operation for one measure.
#[derive(Debug)]
pub(super) struct Sliding {
    minutes: BTreeMap<i64, Counts>,
    /// Sum over `from..to`, epoch milliseconds.
    sum: Counts,
    from: i64,
    to: i64,
}

impl Sliding {
    /// No counts; the window ends before `to`.
    pub(super) fn new(to: i64, width_minutes: i64) -> Self {
        let from = to.saturating_sub(width_minutes * MINUTE_MILLIS);
        Self {
            minutes: BTreeMap::new(),
            sum: Counts::default(),
            from,
            to,
        }
    }

    /// Adds counts of one minute, late or not.
    pub(super) fn add(&mut self, minute: i64, counts: Counts) {
        if minute < self.from {
            return;
        }
        let known = self.minutes.entry(minute).or_default();
        known.hits += counts.hits;
        known.others += counts.others;
        if minute < self.to {
            self.sum.hits += counts.hits;
            self.sum.others += counts.others;
        }
    }

    /// Forgets the counts of one minute.
    pub(super) fn forget(&mut self, minute: i64) {
        // What lies before the window was forgotten when the window moved, so whatever is found is part of the sum or
        // lies ahead of it.
        if let Some(counts) = self.minutes.remove(&minute)
            && minute < self.to
        {
            self.sum.hits -= counts.hits;
            self.sum.others -= counts.others;
        }
    }

    /// Moves the end of the window to `to` and forgets what falls out of it.
    pub(super) fn move_to(&mut self, to: i64, width_minutes: i64) {
        for counts in self
            .minutes
            .range(self.to..to.max(self.to))
            .map(|(_, counts)| counts)
        {
            self.sum.hits += counts.hits;
            self.sum.others += counts.others;
        }
        self.to = to.max(self.to);
        self.from = self.to.saturating_sub(width_minutes * MINUTE_MILLIS);
        while let Some(oldest) = self
            .minutes
            .first_entry()
            .filter(|oldest| *oldest.key() < self.from)
        {
            let counts = oldest.remove();
            self.sum.hits -= counts.hits;
            self.sum.others -= counts.others;
        }
    }

    pub(super) fn sum(&self) -> Counts {
        self.sum
    }

    /// First minute at or after `minute` that has counts.
    pub(super) fn next_minute(&self, minute: i64) -> Option<i64> {
        self.minutes
            .range(minute..)
            .next()
            .map(|(minute, _)| *minute)
    }

    /// Whether nothing is left, so that it can be dropped.
    pub(super) fn is_empty(&self) -> bool {
        self.minutes.is_empty()
    }
}
