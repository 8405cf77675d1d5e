//! Event time: the time a log line speaks of, in nanoseconds since 1970-01-01T00:00:00Z.
//!
//! The present is not here: only `clock.rs` knows it.

use std::fmt;

/// Milliseconds in the one-minute bucket that keys every window.
pub const MINUTE_MILLIS: i64 = 60_000;

/// A point in event time. Within 1970–2100 (design section 3), so nanoseconds always fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventTime {
    nanos: i64,
}

impl EventTime {
    /// First instant after the accepted range: 2101-01-01T00:00:00Z.
    const END_SECONDS: i64 = 4_133_980_800;

    /// Time from epoch milliseconds; `None` outside 1970–2100.
    #[must_use]
    pub fn from_millis(millis: i64) -> Option<Self> {
        Self::from_nanos(millis.checked_mul(1_000_000)?)
    }

    /// Time from epoch milliseconds; what lies outside 1970–2100 is its nearest end.
    #[must_use]
    pub fn clamped(millis: i64) -> Self {
        let last = Self::END_SECONDS * 1_000 - 1;
        Self {
            nanos: millis.clamp(0, last) * 1_000_000,
        }
    }

    /// Time from epoch seconds; `None` outside 1970–2100.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Option<Self> {
        Self::from_nanos(seconds.checked_mul(1_000_000_000)?)
    }

    /// Time from epoch nanoseconds; `None` outside 1970–2100.
    #[must_use]
    pub fn from_nanos(nanos: i64) -> Option<Self> {
        (0..Self::END_SECONDS * 1_000_000_000)
            .contains(&nanos)
            .then_some(Self { nanos })
    }

    /// Time from RFC 3339 text, any offset; `None` when malformed or outside 1970–2100.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let stamp: jiff::Timestamp = text.parse().ok()?;
        Self::from_nanos(i64::try_from(stamp.as_nanosecond()).ok()?)
    }

    /// Epoch nanoseconds.
    #[must_use]
    pub fn nanos(self) -> i64 {
        self.nanos
    }

    /// Epoch milliseconds, rounded down.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.nanos / 1_000_000
    }

    /// Epoch seconds, rounded down: certificates and tokens are judged by the second.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.nanos / 1_000_000_000
    }

    /// Start of the minute this time lies in, in epoch milliseconds.
    #[must_use]
    pub fn minute_millis(self) -> i64 {
        self.millis() / MINUTE_MILLIS * MINUTE_MILLIS
    }
}

impl fmt::Display for EventTime {
    /// RFC 3339 in UTC with as many digits (0, 3, 6 or 9) as the value needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(stamp) = jiff::Timestamp::from_nanosecond(i128::from(self.nanos)) else {
            return Err(fmt::Error);
        };
        match self.nanos % 1_000_000_000 {
            0 => write!(f, "{stamp:.0}"),
            part if part % 1_000_000 == 0 => write!(f, "{stamp:.3}"),
            part if part % 1_000 == 0 => write!(f, "{stamp:.6}"),
            _ => write!(f, "{stamp:.9}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::EventTime;

    #[test]
    fn prints_what_it_read() {
        for text in [
            "2026-11-20T08:15:30Z",
            "2026-11-20T08:15:30.120Z",
            "2026-11-20T08:15:30.000001Z",
        ] {
            assert_eq!(
                EventTime::parse(text).map(|t| t.to_string()).as_deref(),
                Some(text)
            );
        }
        assert_eq!(
            EventTime::parse("2026-11-20T09:15:30+01:00"),
            EventTime::parse("2026-11-20T08:15:30Z")
        );
    }

    #[test]
    fn refuses_years_outside_the_range() {
        assert_eq!(EventTime::parse("1969-12-31T23:59:59Z"), None);
        assert_eq!(EventTime::parse("2101-01-01T00:00:00Z"), None);
        assert!(EventTime::parse("2100-12-31T23:59:59Z").is_some());
        assert_eq!(EventTime::from_millis(i64::MAX), None);
    }
}
