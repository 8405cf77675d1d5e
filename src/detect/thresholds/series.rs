//! The minutes of one signal of one entity.

use std::collections::BTreeMap;

use super::Threshold;
use crate::model::Samples;

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
    pub(super) samples: Samples,
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
    minutes: BTreeMap<i64, Minute>,
}

#[derive(Debug, Default)]
struct Minute {
    sums: Sums,
    /// The newest read of merged rows, and the requests that it had so far.
    read: (u64, u64),
}

impl Series {
    /// Adds to a minute; rows of one `read` of merged rows together take the place of what was known, unless they have not
    /// all arrived yet: sums only grow. A minute that is `kept` older than the newest one is forgotten already.
    pub(super) fn add(&mut self, minute: i64, sums: &Sums, read: Option<u64>, kept: i64) {
        let newest = self.minutes.last_key_value().map(|(minute, _)| *minute);
        let oldest = newest.unwrap_or(minute).max(minute).saturating_sub(kept);
        if minute < oldest {
            return;
        }
        let known = self.minutes.entry(minute).or_default();
        let requests = &mut known.sums.requests;
        if let Some(read) = read {
            let (newest, counted) = &mut known.read;
            let before = if *newest == read { *counted } else { 0 };
            (*newest, *counted) = (read, before.saturating_add(sums.requests));
            *requests = (*requests).max(*counted);
        } else {
            *requests = requests.saturating_add(sums.requests);
        }
        merge(&mut known.sums.endpoints, &sums.endpoints);
        merge(&mut known.sums.addresses, &sums.addresses);
        known.sums.samples.join(&sums.samples);
    }

    /// The oldest minute that is known.
    pub(super) fn oldest(&self) -> i64 {
        self.minutes
            .first_key_value()
            .map_or(i64::MIN, |(minute, _)| *minute)
    }

    /// The minutes of all windows in which the threshold fires; none = it fires in none.
    pub(super) fn covered(&self, threshold: &Threshold) -> BTreeMap<i64, &Sums> {
        self.firing(threshold)
            .flat_map(|(_, window)| window)
            .collect()
    }

    /// The minutes that end a window in which the threshold fires, ascending, each with the minutes of its window.
    pub(super) fn firing<'s>(
        &'s self,
        threshold: &Threshold,
    ) -> impl Iterator<Item = (i64, impl Iterator<Item = (i64, &'s Sums)>)> {
        self.minutes.keys().filter_map(move |end| {
            let first = end.saturating_sub(threshold.within) + 1;
            let window = || {
                let minutes = self.minutes.range(first..=*end);
                minutes.map(|(at, minute)| (*at, &minute.sums))
            };
            let count = window().fold(0_u64, |sum, (_, sums)| sum.saturating_add(sums.requests));
            let enough = count >= threshold.count
                && has_distinct(window(), threshold.distinct_endpoints, |sums| {
                    &sums.endpoints
                })
                && has_distinct(window(), threshold.distinct_addresses, |sums| {
                    &sums.addresses
                });
            enough.then(|| (*end, window()))
        })
    }

    /// Lets go of minutes that are `kept` older than the newest one.
    pub(super) fn forget(&mut self, kept: i64) {
        if let Some((newest, _)) = self.minutes.last_key_value() {
            self.minutes = self.minutes.split_off(&newest.saturating_sub(kept));
        }
    }
}

/// Whether minutes saw at least so many distinct values, about.
fn has_distinct<'s>(
    window: impl Iterator<Item = (i64, &'s Sums)>,
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
