//! A small seeded random number generator: the same seed gives the same traffic on every machine and in every version.
//!
//! `SplitMix64` (Steele, Lea, Flood 2014): one addition and two multiplications per number, any seed is good. Not for
//! secrets. It is written out here because a dependency may change its stream between versions, and the known truth of
//! a seed must not.

/// A stream of numbers that depends on the seed alone.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    /// A stream from a seed.
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..end`; 0 when `end` is 0. The bias of the multiplication is below 2⁻³² and of no matter here.
    pub(super) fn below(&mut self, end: u32) -> u32 {
        let wide = (self.next() >> 32) * u64::from(end);
        u32::try_from(wide >> 32).unwrap_or(0)
    }

    /// A number in `start..end`.
    pub(super) fn between(&mut self, start: u32, end: u32) -> u32 {
        start + self.below(end.saturating_sub(start))
    }

    /// True in `share` of 1,000 cases.
    pub(super) fn per_mille(&mut self, share: u32) -> bool {
        self.below(1000) < share
    }

    /// One of the items, all equally likely.
    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let end = u32::try_from(items.len()).unwrap_or(u32::MAX);
        items.get(self.below(end) as usize)
    }

    /// One of the items, each as likely as its weight says.
    pub(super) fn weighted<'a, T>(
        &mut self,
        items: &'a [T],
        weight: impl Fn(&T) -> u32,
    ) -> Option<&'a T> {
        let mut left = self.below(items.iter().map(&weight).sum());
        for item in items {
            let own = weight(item);
            if left < own {
                return Some(item);
            }
            left -= own;
        }
        items.last()
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn the_stream_is_the_published_one() {
        // First outputs of `SplitMix64` for seed 1234567, as in the reference implementation's test vector.
        let mut random = Random::new(1_234_567);
        let drawn: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(
            drawn,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn weights_are_kept() {
        let mut random = Random::new(7);
        let items = [(1, 'a'), (0, 'b'), (3, 'c')];
        let mut seen = [0_u32; 3];
        for _ in 0..4000 {
            match random.weighted(&items, |(weight, _)| *weight) {
                Some((_, 'a')) => seen[0] += 1,
                Some((_, 'b')) => seen[1] += 1,
                _ => seen[2] += 1,
            }
        }
        assert_eq!(seen[1], 0);
        assert!((800..1200).contains(&seen[0]), "{seen:?}");
    }
}
