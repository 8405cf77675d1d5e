//! When a key set is fetched: a pure function of times and of what was found.
//!
//! Times are measured from the start of the feed, so a jump of the wall clock moves nothing.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use aws_lc_rs::digest;

/// Names of keys that are remembered for having been looked for in vain.
const MAX_LACKING: usize = 1_024;

/// Least pause before a fetch that nobody asks for, and the first one after a failure while there is no set at all.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// A name that was looked for in vain.
#[derive(Clone, Copy, Debug)]
struct Lacking {
    tries: u32,
    again_at: Duration,
}

/// When the next fetch is due, and whether an unknown key may cause one before.
#[derive(Debug)]
pub(super) struct Schedule {
    cooldown: Duration,
    refresh: Duration,
    due: Duration,
    /// Failures since the last success.
    failures: u32,
    /// When an unknown key caused a fetch last.
    asked_at: Option<Duration>,
    /// By the hash of the name, because a name is as long as a token allows.
    lacking: HashMap<[u8; 32], Lacking>,
    oldest: VecDeque<[u8; 32]>,
}

impl Schedule {
    /// The first fetch is due at once.
    pub(super) fn new(cooldown: Duration, refresh: Duration) -> Self {
        Self {
            cooldown,
            refresh: refresh.max(cooldown),
            due: Duration::ZERO,
            failures: 0,
            asked_at: None,
            lacking: HashMap::new(),
            oldest: VecDeque::new(),
        }
    }

    /// When the next fetch is due.
    pub(super) fn due(&self) -> Duration {
        self.due
    }

    /// Whether a token that names the unknown key `id` causes a fetch now; if so, it counts as caused. Once per cool-down
    /// whatever the names are, so that made-up ones cost the issuer nothing; less and less often for one name that stays
    /// unknown; and less often while the issuer is down, because tokens wait for it.
    pub(super) fn asks(&mut self, id: &str, now: Duration) -> bool {
        let pause = doubled(self.cooldown, self.failures).min(self.refresh);
        if self.asked_at.is_some_and(|at| now < at + pause) {
            return false;
        }
        let mut name = [0; 32];
        name.copy_from_slice(digest::digest(&digest::SHA256, id.as_bytes()).as_ref());
        let known = self.lacking.get(&name).copied();
        if known.is_some_and(|lacking| now < lacking.again_at) {
            return false;
        }
        let tries = known.map_or(0, |lacking| lacking.tries);
        if known.is_none() {
            if self.oldest.len() == MAX_LACKING
                && let Some(oldest) = self.oldest.pop_front()
            {
                self.lacking.remove(&oldest);
            }
            self.oldest.push_back(name);
        }
        let pause = doubled(self.cooldown, tries).min(self.refresh);
        let lacking = Lacking {
            tries: tries + 1,
            again_at: now + pause,
        };
        self.lacking.insert(name, lacking);
        self.asked_at = Some(now);
        true
    }

    /// A set was had, or confirmed; `fresh_for` is what the issuer says, if it does.
    pub(super) fn fetched(&mut self, now: Duration, fresh_for: Option<Duration>, changed: bool) {
        self.failures = 0;
        let fresh_for = fresh_for.unwrap_or(self.refresh);
        let pause = fresh_for.clamp(self.cooldown, self.refresh);
        self.due = now + pause.max(FIRST_PAUSE);
        if changed {
            self.lacking.clear();
            self.oldest.clear();
        }
    }

    /// Nothing usable was had.
    pub(super) fn failed(&mut self, now: Duration, has_set: bool) {
        let pause = if has_set {
            doubled(self.cooldown, self.failures).min(self.refresh)
        } else {
            doubled(FIRST_PAUSE, self.failures).min(self.cooldown.max(FIRST_PAUSE))
        };
        self.failures = self.failures.saturating_add(1);
        self.due = now + pause.max(FIRST_PAUSE);
    }
}

/// A pause after so many vain attempts.
fn doubled(pause: Duration, times: u32) -> Duration {
    pause.saturating_mul(1 << times.min(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_answer_decides_within_bounds_when_the_next_fetch_is_due() {
        for (fresh_for, due) in [
            (None, 3_600),
            (Some(s(0)), 30),
            (Some(s(29)), 30),
            (Some(s(300)), 300),
            (Some(s(86_400)), 3_600),
        ] {
            let mut schedule = Schedule::new(s(30), s(3_600));
            assert_eq!(schedule.due(), Duration::ZERO);
            schedule.fetched(s(10), fresh_for, true);
            assert_eq!(schedule.due(), s(10 + due), "{fresh_for:?}");
        }
    }

    #[test]
    fn unknown_keys_cause_one_fetch_in_a_cool_down() {
        let mut schedule = Schedule::new(s(30), s(3_600));
        schedule.fetched(s(0), None, true);
        // The first one right after the set was had: a rotation may be just then.
        assert!(schedule.asks("a", s(1)));
        let random = (0..5_000).filter(|n| schedule.asks(&format!("r{n}"), s(2 + n / 1_000)));
        assert_eq!(random.count(), 0);
        assert!(!schedule.asks("b", s(30)));
        assert!(schedule.asks("b", s(31)));
        // One that stays unknown waits twice as long each time; others do not.
        assert!(schedule.asks("b", s(61)));
        assert!(!schedule.asks("b", s(91)));
        assert!(schedule.asks("c", s(91)));
        assert!(schedule.asks("b", s(121)));
        assert!(!schedule.asks("b", s(121 + 119)));
        assert!(schedule.asks("b", s(121 + 120)));
        // A new set forgets what was looked for in vain, not when it was.
        schedule.fetched(s(250), None, true);
        assert!(!schedule.asks("b", s(251)));
        assert!(schedule.asks("b", s(271)));
    }

    #[test]
    fn the_memory_of_unknown_keys_is_bounded() {
        let mut schedule = Schedule::new(s(1), s(2));
        for number in 0..3 * MAX_LACKING as u64 {
            assert!(schedule.asks(&number.to_string(), s(10 * number)));
        }
        assert_eq!(schedule.lacking.len(), MAX_LACKING);
        assert_eq!(schedule.oldest.len(), MAX_LACKING);
    }

    #[test]
    fn failures_are_repeated_less_and_less_often() {
        let mut schedule = Schedule::new(s(30), s(100));
        let mut pauses = |has_set| {
            let pauses = (0..8).map(|_| {
                schedule.failed(s(0), has_set);
                schedule.due().as_secs()
            });
            let pauses: Vec<_> = pauses.collect();
            schedule.fetched(s(0), None, false);
            pauses
        };
        assert_eq!(pauses(false), [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(pauses(true), [30, 60, 100, 100, 100, 100, 100, 100]);
        // Tokens with unknown keys wait for the issuer, so they ask less often too while it is down.
        assert!(schedule.asks("a", s(0)));
        schedule.failed(s(0), true);
        assert!(!schedule.asks("b", s(59)));
        assert!(schedule.asks("b", s(60)));
    }
}
