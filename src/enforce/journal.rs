//! The list with its last changes, numbered: what a reader that follows the list goes on from.
//!
//! Enters: edits in the order in which they were decided, and the present. Leaves: the [`View`] after them, and the
//! changes since a number. Bounded: a reader that is too far behind takes the whole list again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::View;
use crate::detect::blocklist::Edit;
use crate::model::{BlockEntry, BlockKey};

/// Changes kept: enough to end and list anew every entry of a list of the default size.
const MAX_CHANGES: usize = 1 << 18;

/// One change of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number; the state after it has the same one.
    pub sequence: u64,
    /// What was listed before.
    pub before: Option<Arc<BlockEntry>>,
    /// What is listed now.
    pub after: Option<Arc<BlockEntry>>,
}

/// The list with its last changes.
#[derive(Debug)]
pub struct Journal {
    view: View,
    changes: VecDeque<Arc<Change>>,
    max_changes: usize,
    /// When entries end, in that order.
    ends: BTreeSet<(i64, BlockKey)>,
}

impl Journal {
    /// An empty list whose state has this number.
    #[must_use]
    pub fn new(sequence: u64) -> Self {
        Self::bounded(sequence, MAX_CHANGES)
    }

    /// As [`Self::new`], keeping at most `max_changes`.
    #[must_use]
    pub fn bounded(sequence: u64, max_changes: usize) -> Self {
        Self {
            view: View::empty(sequence),
            changes: VecDeque::new(),
            max_changes,
            ends: BTreeSet::new(),
        }
    }

    /// The list as it is.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The changes after the state with this number, oldest first. `None` = they are no longer kept, or the number is
    /// of another process: the whole list is needed.
    #[must_use]
    pub fn since(&self, sequence: u64) -> Option<Vec<Arc<Change>>> {
        let missing = self.view.sequence().checked_sub(sequence)?;
        let missing = usize::try_from(missing).unwrap_or(usize::MAX);
        let first = self.changes.len().checked_sub(missing)?;
        Some(self.changes.range(first..).cloned().collect())
    }

    /// Every change that is kept, oldest first.
    #[must_use]
    pub fn kept(&self) -> Vec<Arc<Change>> {
        self.changes.iter().cloned().collect()
    }

    /// When the next entry ends, epoch milliseconds.
    #[must_use]
    pub fn next_end(&self) -> Option<i64> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// Makes the list these entries, as if each difference had been an edit.
    pub fn replace(&mut self, entries: Vec<BlockEntry>) {
        let entries: BTreeMap<BlockKey, BlockEntry> = entries
            .into_iter()
            .map(|entry| (entry.key.clone(), entry))
            .collect();
        let everything = super::Selection {
            zones: Vec::new(),
            simulated: true,
        };
        let listed = self.view.select(&everything, i64::MIN);
        let gone: Vec<BlockKey> = listed
            .map(|entry| entry.key.clone())
            .filter(|key| !entries.contains_key(key))
            .collect();
        for key in &gone {
            self.end(key);
        }
        for entry in entries.into_values() {
            self.list(entry);
        }
    }

    /// Applies edits in their order. An edit that changes nothing has no number.
    pub fn apply(&mut self, edits: &[Edit]) {
        for edit in edits {
            match edit {
                Edit::Listed(entry) => self.list(entry.clone()),
                Edit::Ended(key) => self.end(key),
            }
        }
    }

    /// Ends what is over at `now`.
    pub fn expire(&mut self, now: i64) {
        while let Some((at, key)) = self.ends.first().cloned()
            && at <= now
        {
            self.end(&key);
        }
    }

    fn list(&mut self, entry: BlockEntry) {
        let before = self.view.get(&entry.key).cloned();
        if before.as_deref() == Some(&entry) {
            return;
        }
        if let Some(before) = &before {
            self.ends.remove(&(before.expires_at, before.key.clone()));
        }
        self.ends.insert((entry.expires_at, entry.key.clone()));
        let entry = Arc::new(entry);
        self.view.insert(&entry);
        self.record(before, Some(entry));
    }

    fn end(&mut self, key: &BlockKey) {
        let Some(before) = self.view.get(key).cloned() else {
            return;
        };
        self.ends.remove(&(before.expires_at, key.clone()));
        self.view.remove(key);
        self.record(Some(before), None);
    }

    fn record(&mut self, before: Option<Arc<BlockEntry>>, after: Option<Arc<BlockEntry>>) {
        self.changes.push_back(Arc::new(Change {
            sequence: self.view.sequence(),
            before,
            after,
        }));
        let over = self.changes.len().saturating_sub(self.max_changes);
        self.changes.drain(..over);
    }
}

#[cfg(test)]
mod tests;
