//! How many tokens a flush has verified.
//!
//! A signature check costs some 30 µs (RSA of 2048 bit) to 300 µs (P-521), and whoever sends tokens chooses how many
//! different ones there are. What counts are the distinct tokens of a flush that name a known key, not the checks that
//! were left after the cache: so a flush that is repeated after a crash, with an empty cache, stops at the same token.

use std::collections::HashSet;

/// Tokens that there is room for from one flush to the next.
const KEPT_ROOM: usize = 4_096;

/// Distinct tokens that a flush may have verified.
#[derive(Debug, Default)]
pub struct Budget {
    /// `None` = as many as there are.
    limit: Option<usize>,
    seen: HashSet<u128, foldhash::fast::RandomState>,
}

impl Budget {
    /// At most `limit` distinct tokens a flush.
    #[must_use]
    pub fn of(limit: usize) -> Self {
        Self {
            limit: Some(limit),
            ..Self::default()
        }
    }

    /// Begins the next flush. The room that a flood needed is given back: there is a budget for every partition.
    pub fn renew(&mut self) {
        self.seen.clear();
        self.seen.shrink_to(KEPT_ROOM);
    }

    /// Whether the token filed under `name` may be verified: it was seen in this flush already, or there is room.
    pub(super) fn admits(&mut self, name: &[u8; 32]) -> bool {
        let Some(limit) = self.limit else {
            return true;
        };
        // Half of a SHA-256 over content and keys that nobody outside chooses: two tokens do not meet.
        let short = name.first_chunk().copied().map_or(0, u128::from_be_bytes);
        if self.seen.len() < limit {
            self.seen.insert(short);
            return true;
        }
        self.seen.contains(&short)
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn a_flush_admits_so_many_tokens_and_those_again() {
        let name = |number: u8| [number; 32];
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
            assert_eq!(budget.admits(&name(number)), admitted, "{number}");
        }
        budget.renew();
        assert!(budget.admits(&name(3)) && budget.admits(&name(4)) && !budget.admits(&name(1)));
        assert!(!Budget::of(0).admits(&name(1)));
        let mut unbounded = Budget::default();
        assert!((0..200).all(|number| unbounded.admits(&name(number))));
    }
}
