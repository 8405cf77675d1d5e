//! How many tokens may be verified: of a flush, or in a second by whoever answers at once.
//!
//! A signature check costs some 30 µs (RSA of 2048 bit) to 300 µs (P-521), and whoever sends tokens chooses how many
//! different ones there are.
//!
//! Of a **flush** the distinct tokens count that name a known key, not the checks that were left after the cache: so a flush
//! that is repeated after a crash, with an empty cache, stops at the same token.
//!
//! The **inline check** repeats nothing, and what it may spend is time: there the tokens count that the cache has no
//! verdict on, in a second of the clock, all threads together. It waits for nobody either: see [`Budget::waits`].

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::EventTime;

/// Tokens that there is room for from one flush to the next.
const KEPT_ROOM: usize = 4_096;

/// Tokens that may be verified.
#[derive(Debug, Default)]
pub struct Budget {
    kind: Kind,
    exceeded: bool,
}

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Unbounded,
    Flush {
        limit: usize,
        seen: HashSet<u128, foldhash::fast::RandomState>,
    },
    Second(Arc<Meter>),
}

/// Tokens verified in the current second, shared by everybody who answers at once.
#[derive(Debug)]
pub struct Meter {
    limit: u32,
    /// The second in the upper half, what was taken in it in the lower one.
    taken: AtomicU64,
}

impl Meter {
    /// At most `limit` tokens a second.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            taken: AtomicU64::new(0),
        }
    }

    /// Takes one of the second that `at` lies in, if there is one left. A clock that is set back begins a new second.
    fn take(&self, at: EventTime) -> bool {
        // The lower 32 bits tell neighbouring seconds apart, which is all that is asked.
        let second = at.seconds().cast_unsigned() << 32;
        let next = |taken: u64| {
            let used = match taken & !u64::from(u32::MAX) {
                same if same == second => taken & u64::from(u32::MAX),
                _ => 0,
            };
            (used < u64::from(self.limit)).then_some(second | (used + 1))
        };
        let taken = &self.taken;
        taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }
}

impl Budget {
    /// At most `limit` distinct tokens a flush.
    #[must_use]
    pub fn of(limit: usize) -> Self {
        let seen = HashSet::default();
        Self {
            kind: Kind::Flush { limit, seen },
            exceeded: false,
        }
    }

    /// What the meter has left; and nobody is waited for.
    #[must_use]
    pub fn metered(meter: Arc<Meter>) -> Self {
        Self {
            kind: Kind::Second(meter),
            exceeded: false,
        }
    }

    /// Begins the next flush. The room that a flood needed is given back: there is a budget for every partition.
    pub fn renew(&mut self) {
        self.exceeded = false;
        if let Kind::Flush { seen, .. } = &mut self.kind {
            seen.clear();
            seen.shrink_to(KEPT_ROOM);
        }
    }

    /// Whether a token was not verified because there was no room.
    #[must_use]
    pub fn exceeded(&self) -> bool {
        self.exceeded
    }

    /// Whether a token whose key is not known may wait until the issuer was asked. Where it may not, its issuer is asked
    /// all the same, for the tokens after it.
    #[must_use]
    pub fn waits(&self) -> bool {
        !matches!(self.kind, Kind::Second(_))
    }

    /// Whether the token filed under `name` may be verified: it was seen in this flush already, or there is room.
    /// `remembered` = whether every key has been tried on it before.
    pub(super) fn admits(
        &mut self,
        name: &[u8; 32],
        at: EventTime,
        remembered: impl FnOnce() -> bool,
    ) -> bool {
        let admitted = match &mut self.kind {
            Kind::Unbounded => true,
            Kind::Flush { limit, seen } => {
                // Half of a SHA-256 over content and keys that nobody outside chooses: two tokens do not meet.
                let short = name.first_chunk().copied().map_or(0, u128::from_be_bytes);
                if seen.len() < *limit {
                    seen.insert(short);
                    true
                } else {
                    seen.contains(&short)
                }
            }
            Kind::Second(meter) => remembered() || meter.take(at),
        };
        self.exceeded |= !admitted;
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Budget, Meter};
    use crate::model::EventTime;

    fn at(millis: i64) -> EventTime {
        EventTime::from_millis(millis).unwrap()
    }

    #[test]
    fn a_flush_admits_so_many_tokens_and_those_again() {
        let admits = |budget: &mut Budget, number: u8| budget.admits(&[number; 32], at(0), || true);
        let mut budget = Budget::of(2);
        for (number, admitted) in [
            (1, true),
            (1, true),
            (2, true),
            (3, false),
            (1, true),
            (3, false),
            (2, true),
        ] {
            assert_eq!(admits(&mut budget, number), admitted, "{number}");
        }
        assert!(budget.exceeded() && budget.waits());
        budget.renew();
        assert!(!budget.exceeded());
        assert!(admits(&mut budget, 3) && admits(&mut budget, 4) && !admits(&mut budget, 1));
        assert!(!admits(&mut Budget::of(0), 1));
        let mut unbounded = Budget::default();
        assert!((0..200).all(|number| admits(&mut unbounded, number)));
    }

    #[test]
    fn a_second_admits_so_many_new_tokens_whoever_asks() {
        let meter = Arc::new(Meter::new(2));
        for (millis, remembered, admitted) in [
            (5_000, false, true),
            (5_999, true, true),
            (5_999, false, true),
            (5_999, false, false),
            (5_000, true, true),
            (6_000, false, true),
            // The clock was set back.
            (5_500, false, true),
            (5_500, false, true),
            (5_500, false, false),
            (3_600_005_500, false, true),
        ] {
            let mut budget = Budget::metered(Arc::clone(&meter));
            let given = budget.admits(&[1; 32], at(millis), || remembered);
            assert_eq!(given, admitted, "{millis} {remembered}");
            assert_eq!(budget.exceeded(), !admitted);
            assert!(!budget.waits());
        }
        let mut none = Budget::metered(Arc::new(Meter::new(0)));
        assert!(!none.admits(&[1; 32], at(0), || false));
    }

    #[test]
    fn threads_share_a_second() {
        let meter = Arc::new(Meter::new(100));
        let asking = || {
            let mut budget = Budget::metered(Arc::clone(&meter));
            (0..100)
                .filter(|_| budget.admits(&[1; 32], at(1_000), || false))
                .count()
        };
        let admitted: usize = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(asking));
            threads.map(|thread| thread.join().unwrap()).iter().sum()
        });
        assert_eq!(admitted, 100);
    }
}
