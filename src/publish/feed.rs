//! The block list of this process: one writer, any number of readers that never wait for it.
//!
//! Enters: the list as it was published, then its edits, from the fold in this process or from the topic. Leaves: views,
//! changes since a number, and a signal that there are new ones. Entries end by wall time here ([`Feed::keep`]), also
//! while nobody is there to publish their end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::clock;
use crate::detect::blocklist::Edit;
use crate::enforce::{Change, Journal, Selection, View};
use crate::model::{BlockEntry, BlockKind};

/// Longest sleep until the next end is looked at again: a wall clock may be set.
const MAX_SLEEP: Duration = Duration::from_secs(30);

/// A handle to the list. Clones are the same list.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The number of its first state: tells feeds of two processes apart.
    origin: u64,
    journal: Mutex<Journal>,
    view: RwLock<Arc<View>>,
    version: watch::Sender<u64>,
    loaded: watch::Sender<bool>,
    /// The first end has changed.
    earlier: Notify,
}

impl Default for Feed {
    fn default() -> Self {
        Self::new()
    }
}

impl Feed {
    /// An empty list that is not loaded yet. Its numbers start with the present in microseconds, so they grow over
    /// restarts and a reader that comes with an old number is told to take the whole list.
    #[must_use]
    pub fn new() -> Self {
        let micros = u64::try_from(clock::now_millis()).unwrap_or_default() * 1_000;
        Self::starting_at(micros)
    }

    /// As [`Self::new`], with a number of the caller's.
    #[must_use]
    pub fn starting_at(sequence: u64) -> Self {
        let journal = Journal::new(sequence);
        let view = Arc::new(journal.view().clone());
        Self(Arc::new(Inner {
            origin: sequence,
            journal: Mutex::new(journal),
            view: RwLock::new(view),
            version: watch::Sender::new(sequence),
            loaded: watch::Sender::new(false),
            earlier: Notify::new(),
        }))
    }

    /// Makes the list these entries: what was published when this process started, or when the topic is read anew.
    pub fn replace(&self, entries: Vec<BlockEntry>) {
        self.change(|journal| journal.replace(entries));
        self.0.loaded.send_replace(true);
    }

    /// Applies edits in their order.
    pub fn apply(&self, edits: &[Edit]) {
        if !edits.is_empty() {
            self.change(|journal| journal.apply(edits));
        }
    }

    /// Ends what is over at `now`, epoch milliseconds; [`Self::keep`] does so by itself.
    pub fn expire(&self, now: i64) {
        self.change(|journal| journal.expire(now));
    }

    /// The list as it is now.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        let view = self.0.view.read();
        Arc::clone(&view.unwrap_or_else(PoisonError::into_inner))
    }

    /// How many entries of each kind hold at `now`, epoch milliseconds: enforced and simulated ones.
    #[must_use]
    pub fn counts(&self, now: i64) -> BTreeMap<BlockKind, [usize; 2]> {
        let mut counts: BTreeMap<_, _> = BlockKind::ALL.map(|kind| (kind, [0, 0])).into();
        let all = Selection {
            zones: Vec::new(),
            simulated: true,
        };
        for entry in self.view().select(&all, now) {
            let [enforced, simulated] = counts.entry(entry.key.kind()).or_default();
            *(if entry.simulated { simulated } else { enforced }) += 1;
        }
        counts
    }

    /// The changes after the state with this number and the list after them; `None` = the whole list is needed.
    #[must_use]
    pub fn since(&self, sequence: u64) -> (Arc<View>, Option<Vec<Arc<Change>>>) {
        let journal = self.journal();
        (self.view(), journal.since(sequence))
    }

    /// Every change that is kept, oldest first.
    #[must_use]
    pub fn kept(&self) -> Vec<Arc<Change>> {
        self.journal().kept()
    }

    /// Tells this feed from one of another process, whose numbers count other changes.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{:x}", self.0.origin)
    }

    /// Whether the list has been read once. Until then an empty view means "not known", not "nothing is refused".
    #[must_use]
    pub fn loaded(&self) -> bool {
        *self.0.loaded.borrow()
    }

    /// Waits until the list has been read once.
    pub async fn wait_loaded(&self) {
        let mut loaded = self.0.loaded.subscribe();
        // The sender lives as long as this handle.
        let _ = loaded.wait_for(|loaded| *loaded).await;
    }

    /// Tells that there is a new state, by its number.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    /// Ends entries when their time is over, for as long as it is polled.
    pub async fn keep(self) {
        loop {
            let next = self.journal().next_end();
            let now = clock::now_millis();
            let sleep = match next {
                Some(at) if at <= now => {
                    self.expire(now);
                    continue;
                }
                Some(at) => {
                    let left = u64::try_from(at.saturating_sub(now)).unwrap_or_default();
                    Duration::from_millis(left).min(MAX_SLEEP)
                }
                None => MAX_SLEEP,
            };
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                () = self.0.earlier.notified() => {}
            }
        }
    }

    fn change(&self, then: impl FnOnce(&mut Journal)) {
        let mut journal = self.journal();
        let (before, first) = (journal.view().sequence(), journal.next_end());
        then(&mut journal);
        let after = journal.view().sequence();
        if after == before {
            return;
        }
        let view = Arc::new(journal.view().clone());
        // Swapped while the journal is held, so that views and changes are seen in one order.
        *self.0.view.write().unwrap_or_else(PoisonError::into_inner) = view;
        if journal.next_end() != first {
            self.0.earlier.notify_one();
        }
        self.0.version.send_replace(after);
    }

    /// A panic elsewhere leaves the journal whole: every change is made by one call that does not panic.
    fn journal(&self) -> MutexGuard<'_, Journal> {
        let journal = self.0.journal.lock();
        journal.unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enforce::fixtures::entry;
    use crate::enforce::{Asked, Selection};
    use crate::model::BlockKind;

    fn ip(address: &str, until: i64) -> BlockEntry {
        entry(BlockKind::Ip, address, until)
    }

    #[tokio::test]
    async fn readers_see_every_state_and_are_told_once() {
        let feed = Feed::starting_at(100);
        let reader = feed.clone();
        let mut told = reader.subscribe();
        assert!(!reader.loaded());
        feed.replace(vec![ip("192.0.2.1", 50)]);
        reader.wait_loaded().await;
        assert!(told.has_changed().unwrap());
        assert_eq!(*told.borrow_and_update(), 101);
        feed.apply(&[]);
        feed.apply(&[Edit::Ended(ip("192.0.2.9", 0).key)]);
        feed.replace(vec![ip("192.0.2.1", 50)]);
        feed.expire(49);
        assert!(!told.has_changed().unwrap(), "nothing has changed");
        feed.apply(&[Edit::Listed(ip("192.0.2.2", 60))]);
        feed.expire(50);
        let (view, changes) = reader.since(101);
        assert_eq!((view.sequence(), changes.unwrap().len()), (103, 2));
        assert_eq!(reader.view().select(&Selection::default(), 0).count(), 1);
        assert!(reader.since(99).1.is_none());
    }

    #[tokio::test]
    async fn an_entry_ends_by_the_clock_although_a_later_one_came_first() {
        let feed = Feed::starting_at(0);
        let keeper = tokio::spawn(feed.clone().keep());
        let mut told = feed.subscribe();
        let now = clock::now_millis();
        feed.replace(vec![ip("192.0.2.1", now + 3_600_000)]);
        tokio::task::yield_now().await;
        feed.apply(&[Edit::Listed(ip("192.0.2.2", now + 20))]);
        let ended = told.wait_for(|version| *version == 3);
        tokio::time::timeout(Duration::from_secs(20), ended)
            .await
            .unwrap()
            .unwrap();
        let asked = |address: &str| Asked {
            zone: "z",
            address: address.parse().ok(),
            ..Asked::default()
        };
        let view = feed.view();
        assert!(view.refuses(&asked("192.0.2.1"), now).is_some());
        assert!(view.refuses(&asked("192.0.2.2"), now).is_none());
        keeper.abort();
    }
}
