//! Where partial sums are kept and read back, merged. Layer 2: never judges.
//!
//! Enters: the sums of a flush. Leaves: rows merged over a range of event time, the same ones from either store. What
//! both stores agree on is here; how they keep it is in [`local`] and [`clickhouse`].

use std::path::PathBuf;

use crate::window::Resolution;

pub mod clickhouse;
pub mod local;

/// Which store a pipeline has.
#[derive(Clone, Debug)]
pub enum StoreSettings {
    /// Parquet files in this folder.
    Local(PathBuf),
    /// ClickHouse.
    ClickHouse(Box<clickhouse::Settings>),
}

/// Event time from `from` (inclusive) to `to` (exclusive), epoch milliseconds, whole minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First minute.
    pub from: i64,
    /// First minute that is not in the range.
    pub to: i64,
}

/// Where a row of evidence stands: rows are in the order of their times, and of equal times in that of their positions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Event time, epoch milliseconds.
    pub time: i64,
    /// Topic or file.
    pub source: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: u64,
}

impl Range {
    /// Everything.
    pub const ALL: Self = Self {
        from: i64::MIN,
        to: i64::MAX,
    };

    /// The `minutes` minutes that end with the minute `newest`.
    #[must_use]
    pub fn ending_with(newest: i64, minutes: i64) -> Self {
        let to = newest + Resolution::Minute.millis();
        Self {
            from: to - minutes * Resolution::Minute.millis(),
            to,
        }
    }

    /// The ranges that make up this one, each with the width of the buckets to read it in: whole days and hours inside,
    /// minutes at the edges, and nothing wider than `widest`. So long ranges are cheap and still exact to the minute.
    pub(crate) fn cover(self, widest: Resolution) -> Vec<(Resolution, Self)> {
        let mut parts = Vec::new();
        let mut edges = vec![self];
        for width in Resolution::ALL
            .into_iter()
            .rev()
            .filter(|width| *width <= widest)
        {
            for edge in std::mem::take(&mut edges) {
                let Some(inner) = edge.whole(width) else {
                    edges.push(edge);
                    continue;
                };
                parts.push((width, inner));
                edges.push(Self {
                    to: inner.from,
                    ..edge
                });
                edges.push(Self {
                    from: inner.to,
                    ..edge
                });
            }
            edges.retain(|edge| edge.from < edge.to);
        }
        parts
    }

    /// The whole buckets of `width` within the range, if there is one.
    fn whole(self, width: Resolution) -> Option<Self> {
        if self == Self::ALL {
            return Some(self);
        }
        let width = width.millis();
        let from = self.from.div_euclid(width) * width;
        let from = if from < self.from { from + width } else { from };
        let to = self.to.div_euclid(width) * width;
        (from < to).then_some(Self { from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cover_is_the_range_in_as_few_buckets_as_it_allows() {
        let hour = Resolution::Hour.millis();
        let minute = Resolution::Minute.millis();
        for (from, to) in [
            (0, 48 * hour),
            (7 * minute, 49 * hour + minute),
            (7 * minute, 9 * minute),
            (59 * minute, 61 * minute),
            (-3 * hour, 25 * hour),
            (23 * hour + 59 * minute, 24 * hour + minute),
            (5, 5),
        ] {
            let range = Range { from, to };
            for widest in Resolution::ALL {
                let mut parts = range.cover(widest);
                parts.sort_by_key(|(_, part)| part.from);
                let mut at = from;
                for (width, part) in parts {
                    assert!(width <= widest);
                    assert_eq!(part.from, at, "{range:?}: a gap or an overlap");
                    assert!(part.from.rem_euclid(width.millis()) == 0 && part.from < part.to);
                    at = part.to;
                }
                assert_eq!(at.max(from), to.max(from), "{range:?} {widest:?}");
            }
        }
        assert_eq!(
            Range::ALL.cover(Resolution::Hour),
            [(Resolution::Hour, Range::ALL)]
        );
    }
}
