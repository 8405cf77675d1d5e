//! Whether the process can do its work now. Its parts say what they wait for; the server shows it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A part of the process that may have to wait for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The pipeline as a whole: not started yet, or stopping.
    Pipeline,
    /// The source: no broker, no partitions assigned yet.
    Source,
    /// Key sets that issuers serve: one was never had.
    Keys,
    /// The store.
    Store,
    /// Where events are published to.
    Publisher,
    /// The block list: not read yet.
    BlockList,
}

impl Part {
    /// The name in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::Source => "source",
            Self::Keys => "keys",
            Self::Store => "store",
            Self::Publisher => "publisher",
            Self::BlockList => "blocklist",
        }
    }
}

/// What the parts wait for. Cheap to clone; clones are the same.
#[derive(Clone, Debug)]
pub struct Health(Arc<Mutex<BTreeMap<Part, String>>>);

/// Something that takes too long, for as long as this lives.
#[derive(Debug)]
pub struct Delay {
    health: Health,
    part: Part,
    delays: Arc<AtomicUsize>,
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.health.with(|waiting| {
            if self.delays.fetch_sub(1, Ordering::Relaxed) == 1 {
                waiting.remove(&self.part);
            }
        });
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Of a process that is starting: not ready until the pipeline says so.
    #[must_use]
    pub fn new() -> Self {
        let starting = BTreeMap::from([(Part::Pipeline, "starting".to_owned())]);
        Self(Arc::new(Mutex::new(starting)))
    }

    /// Says that a part works.
    pub fn ready(&self, part: Part) {
        self.with(|waiting| waiting.remove(&part));
    }

    /// Says that a part cannot work now, and why.
    pub fn waits(&self, part: Part, reason: impl Into<String>) {
        self.with(|waiting| waiting.insert(part, reason.into()));
    }

    /// Says that a part takes too long, until the answer is dropped; `delays` counts those of this part, and it works
    /// again when none is left.
    #[must_use]
    pub fn delay(&self, part: Part, reason: &str, delays: &Arc<AtomicUsize>) -> Delay {
        self.with(|waiting| {
            delays.fetch_add(1, Ordering::Relaxed);
            waiting.insert(part, reason.to_owned());
        });
        Delay {
            health: self.clone(),
            part,
            delays: Arc::clone(delays),
        }
    }

    /// What is not ready, and why; empty = ready.
    #[must_use]
    pub fn reasons(&self) -> BTreeMap<Part, String> {
        self.with(|waiting| waiting.clone())
    }

    /// A panic elsewhere leaves the map whole, so it is still the truth.
    fn with<T>(&self, then: impl FnOnce(&mut BTreeMap<Part, String>) -> T) -> T {
        then(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_works_again_when_its_last_delay_has_ended() {
        let health = Health::new();
        health.ready(Part::Pipeline);
        let delays = Arc::default();
        let one = health.delay(Part::Store, "slow", &delays);
        let two = health.delay(Part::Store, "slow", &delays);
        drop(one);
        let expected = BTreeMap::from([(Part::Store, "slow".to_owned())]);
        assert_eq!(health.reasons(), expected);
        drop(two);
        assert!(health.reasons().is_empty());
    }
}
