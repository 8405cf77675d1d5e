//! The minutes of one signal of one entity.

use std::collections::BTreeMap;

use super::Threshold;

/// Registers of a distinct-count sketch (Flajolet et al., HyperLogLog, 2007), as `enrich` makes them.
const REGISTERS: f64 = 2_048.0;

/// Register → rank, by register.
pub(super) type Sketch = BTreeMap<u16, u8>;

/// What is known of one minute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) requests: u64,
    pub(super) endpoints: Sketch,
    pub(super) addresses: Sketch,
}

fn merge(into: &mut Sketch, from: &Sketch) {
    for (register, rank) in from {
        let known = into.entry(*register).or_default();
        *known = (*known).max(*rank);
    }
}

/// How many distinct values a sketch has seen, about. Linear counting while some registers are empty, which is exact to a
/// few in a hundred for as many as anybody sets a threshold at; beyond it the estimate of the paper.
pub(super) fn distinct(sketch: &Sketch) -> u64 {
    let used = sketch.len() as f64;
    let empty = REGISTERS - used;
    let estimate = if empty > 0.0 {
        REGISTERS * (REGISTERS / empty).ln()
    } else {
        let sum: f64 = sketch.values().map(|rank| (-f64::from(*rank)).exp2()).sum();
        0.7213 / (1.0 + 1.079 / REGISTERS) * REGISTERS * REGISTERS / sum
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate is positive and far below the greatest integer"
    )]
    let rounded = estimate.round() as u64;
    rounded
}

/// The minutes, epoch milliseconds.
#[derive(Debug, Default)]
pub(super) struct Series {
    minutes: BTreeMap<i64, Sums>,
}

impl Series {
    /// Adds to a minute, or replaces what is known of it; forgets minutes that are `kept` older than the newest one.
    pub(super) fn add(&mut self, minute: i64, sums: &Sums, merged: bool, kept: i64) {
        let newest = self.minutes.last_key_value().map(|(minute, _)| *minute);
        let oldest = newest.unwrap_or(minute).max(minute).saturating_sub(kept);
        if minute < oldest {
            return;
        }
        let known = self.minutes.entry(minute).or_default();
        if merged {
            known.requests = sums.requests.max(known.requests);
        } else {
            known.requests = known.requests.saturating_add(sums.requests);
        }
        merge(&mut known.endpoints, &sums.endpoints);
        merge(&mut known.addresses, &sums.addresses);
        self.minutes = self.minutes.split_off(&oldest);
    }

    /// The oldest minute that is known.
    pub(super) fn oldest(&self) -> i64 {
        self.minutes
            .first_key_value()
            .map_or(i64::MIN, |(minute, _)| *minute)
    }

    /// The minutes of all windows in which the threshold fires, with their counts, and the newest minute that ends one;
    /// `None` = it fires in none.
    pub(super) fn covered(&self, threshold: &Threshold) -> Option<(BTreeMap<i64, u64>, i64)> {
        let mut covered = BTreeMap::new();
        let mut newest = None;
        for end in self.minutes.keys() {
            let first = end.saturating_sub(threshold.within) + 1;
            let window = || self.minutes.range(first..=*end);
            let count = window().fold(0_u64, |sum, (_, sums)| sum.saturating_add(sums.requests));
            let enough = count >= threshold.count
                && has_distinct(window(), threshold.distinct_endpoints, |sums| {
                    &sums.endpoints
                })
                && has_distinct(window(), threshold.distinct_addresses, |sums| {
                    &sums.addresses
                });
            if enough {
                covered.extend(window().map(|(minute, sums)| (*minute, sums.requests)));
                newest = Some(*end);
            }
        }
        newest.map(|newest| (covered, newest))
    }
}

/// Whether minutes saw at least so many distinct values, about.
fn has_distinct<'s>(
    window: impl Iterator<Item = (&'s i64, &'s Sums)>,
    least: u64,
    of: impl Fn(&Sums) -> &Sketch,
) -> bool {
    if least == 0 {
        return true;
    }
    let mut all = Sketch::new();
    for (_, sums) in window {
        merge(&mut all, of(sums));
    }
    distinct(&all) >= least
}
