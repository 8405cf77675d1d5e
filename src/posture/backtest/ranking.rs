//! Exact counts by name, up to a cap.
//!
//! The first names to come are counted exactly for ever; names that come when the table is full are added to `overflow`.
//! So every count that is shown is true, and the caller says when there is more. (A sketch that evicts would show names
//! that come late, at the price of counts that nobody can check against the log.)

use std::collections::HashMap;

use super::Case;
use crate::model::EventTime;

/// What is known of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Exchanges that were judged.
    pub judged: u64,
    /// Of those, the ones that match.
    pub matches: u64,
    /// Of those, successful answers to valid sessions.
    pub probably_wanted: u64,
    /// Time of the first match; of the first exchange where nothing matches.
    pub first_at: EventTime,
    /// Time of the last one.
    pub last_at: EventTime,
}

/// Names and their counts.
#[derive(Debug)]
pub struct Ranking {
    rows: HashMap<Box<str>, Row, foldhash::fast::RandomState>,
    cap: usize,
    /// Exchanges whose name came after the table was full.
    pub overflow: u64,
}

impl Ranking {
    pub(super) fn new(cap: usize) -> Self {
        Self {
            rows: HashMap::default(),
            cap,
            overflow: 0,
        }
    }

    pub(super) fn add(&mut self, name: &str, case: &Case<'_>, matches: bool) {
        let wanted = u64::from(matches && case.probably_wanted());
        let Some(row) = self.rows.get_mut(name) else {
            if self.rows.len() >= self.cap {
                self.overflow += 1;
                return;
            }
            let row = Row {
                judged: 1,
                matches: u64::from(matches),
                probably_wanted: wanted,
                first_at: case.at,
                last_at: case.at,
            };
            self.rows.insert(name.into(), row);
            return;
        };
        row.judged += 1;
        if matches && row.matches == 0 {
            (row.first_at, row.last_at) = (case.at, case.at);
        } else if matches || row.matches == 0 {
            row.first_at = row.first_at.min(case.at);
            row.last_at = row.last_at.max(case.at);
        }
        row.matches += u64::from(matches);
        row.probably_wanted += wanted;
    }

    /// Names with a match.
    #[must_use]
    pub fn matching(&self) -> usize {
        self.rows.values().filter(|row| row.matches > 0).count()
    }

    /// The names with the most matches, by name where they are equal; names without a match are not among them.
    #[must_use]
    pub fn top(&self, most: usize) -> Vec<(&str, Row)> {
        let rows = self.rows.iter().filter(|(_, row)| row.matches > 0);
        let mut rows: Vec<_> = rows.map(|(name, row)| (name.as_ref(), *row)).collect();
        rows.sort_unstable_by(|(one, a), (two, b)| b.matches.cmp(&a.matches).then(one.cmp(two)));
        rows.truncate(most);
        rows
    }
}
