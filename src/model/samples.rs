//! Ids of a few exchanges out of many, for whoever wants to look at some of them.
//!
//! Enters: ids in any order and in any pieces, some of them more than once. Leaves: the same few of them. Each id has a place
//! by its hash, of ids with the same place the greatest stays, and the first [`Samples::MOST`] places that are taken count. Joining is
//! commutative, associative and idempotent, so flushes, nodes and replays agree; the windows keep places as sketches do.

use siphasher::sip::SipHasher13;

/// Places. So many that two ids seldom meet, so few that a row of the windows stays small.
const PLACES: u64 = 64;
/// Longest id that is kept, bytes; ids of gateways have some 40.
const MAX_ID: usize = 200;

/// Some ids of exchanges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples(Vec<(u16, Box<str>)>);

impl Samples {
    /// Most ids that are kept: enough to look at, and no more than a feed can carry.
    pub const MOST: usize = 10;

    /// Place of an id; `None` = it is empty or no id. The hash has no key: nothing is gained by being looked at.
    #[must_use]
    pub fn place(id: &str) -> Option<u16> {
        if id.is_empty() || id.len() > MAX_ID {
            return None;
        }
        u16::try_from(SipHasher13::new().hash(id.as_bytes()) % PLACES).ok()
    }

    /// Adds an id, unless it is none.
    pub fn add(&mut self, id: &str) {
        if let Some(place) = Self::place(id) {
            self.put(place, id);
        }
    }

    /// Adds all ids of others.
    pub fn join(&mut self, others: &Self) {
        for (place, id) in &others.0 {
            self.put(*place, id);
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ids, sorted: where ids grow with time, the newest last.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.0.iter().map(|(_, id)| id.to_string()).collect();
        ids.sort_unstable();
        ids
    }

    fn put(&mut self, place: u16, id: &str) {
        match self.0.binary_search_by_key(&place, |(known, _)| *known) {
            Ok(at) => {
                if let Some((_, known)) = self.0.get_mut(at)
                    && **known < *id
                {
                    *known = id.into();
                }
            }
            Err(at) if at < Self::MOST => {
                self.0.truncate(Self::MOST - 1);
                self.0.insert(at, (place, id.into()));
            }
            Err(_) => {}
        }
    }
}

impl<'i> FromIterator<&'i str> for Samples {
    fn from_iter<T: IntoIterator<Item = &'i str>>(ids: T) -> Self {
        let mut samples = Self::default();
        for id in ids {
            samples.add(id);
        }
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_ids_in_any_order_and_pieces_leave_the_same_samples() {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |bound: usize| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(random >> 33).unwrap() % bound
        };
        for count in [0, 1, 2, 5, 9, 10, 11, 40, 500] {
            let mut ids: Vec<String> = (0..count).map(|number| format!("req-{number}")).collect();
            let expected: Samples = ids.iter().map(String::as_str).collect();
            assert_eq!(expected.is_empty(), count == 0);
            assert!(expected.ids().len() <= Samples::MOST.min(count));
            assert!(expected.ids().iter().all(|id| ids.contains(id)));
            for _ in 0..20 {
                for at in (1..ids.len()).rev() {
                    ids.swap(at, next(at + 1));
                }
                let mut joined = Samples::default();
                let mut rest = ids.as_slice();
                while !rest.is_empty() {
                    let (piece, later) = rest.split_at(1 + next(rest.len()));
                    joined.join(&piece.iter().map(String::as_str).collect());
                    rest = later;
                }
                assert_eq!(joined, expected);
                // What is known already changes nothing.
                joined.join(&expected.ids().iter().map(String::as_str).collect());
                assert_eq!(joined, expected);
            }
        }
        let many: Samples = ["b", "a", "b", "", &"x".repeat(201)].into_iter().collect();
        assert_eq!(many.ids(), ["a", "b"]);
    }
}
