//! Which part of event time is looked at.

use std::time::Duration;

use crate::model::EventTime;

/// What the command line says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    /// Length before the end.
    pub(super) length: Option<Duration>,
    /// First event time.
    pub(super) from: Option<EventTime>,
    /// End of event time.
    pub(super) until: Option<EventTime>,
}

/// A range of event time: the beginning is in it, the end is not. `None` = open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Range {
    /// First event time.
    pub(super) from: Option<EventTime>,
    /// First event time behind it.
    pub(super) until: Option<EventTime>,
}

impl Range {
    /// Whether an exchange of this time is in the range.
    pub(super) fn contains(self, at: EventTime) -> bool {
        self.from.is_none_or(|from| at >= from) && self.until.is_none_or(|until| at < until)
    }

    /// Whether nothing can be in it.
    pub(super) fn is_empty(self) -> bool {
        matches!((self.from, self.until), (Some(from), Some(until)) if from >= until)
    }
}

impl Wanted {
    /// Whether the end of the range has to be found in the traffic itself.
    pub(super) fn needs_newest(self) -> bool {
        self.length.is_some() && self.until.is_none()
    }

    /// The range whose end is `end`, unless the command line says another; a length is counted from the end.
    pub(super) fn ending(self, end: Option<EventTime>) -> Range {
        let until = self.until.or(end);
        let begin = |length: Duration| {
            let length = i64::try_from(length.as_nanos()).unwrap_or(i64::MAX);
            // Before 1970 there is nothing.
            EventTime::from_nanos(until?.nanos().saturating_sub(length).max(0))
        };
        Range {
            from: self.from.or_else(|| self.length.and_then(begin)),
            until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> EventTime {
        EventTime::from_seconds(seconds).unwrap()
    }

    #[test]
    fn the_beginning_is_in_a_range_and_its_end_is_not() {
        for (from, until, inside) in [
            (None, None, vec![1, 2, 3, 4]),
            (Some(2), None, vec![2, 3, 4]),
            (None, Some(3), vec![1, 2]),
            (Some(2), Some(4), vec![2, 3]),
            (Some(3), Some(3), vec![]),
            (Some(4), Some(2), vec![]),
        ] {
            let range = Range {
                from: from.map(at),
                until: until.map(at),
            };
            let found: Vec<i64> = (1..5)
                .filter(|second| range.contains(at(*second)))
                .collect();
            assert_eq!(found, inside, "{from:?} {until:?}");
            assert_eq!(range.is_empty(), inside.is_empty());
        }
    }

    #[test]
    fn a_length_is_counted_from_the_end() {
        for (length, from, until, end, expected) in [
            (Some(10), None, None, Some(100), (Some(90), Some(100))),
            (Some(10), None, Some(50), Some(100), (Some(40), Some(50))),
            (Some(500), None, None, Some(100), (Some(0), Some(100))),
            (None, Some(7), None, None, (Some(7), None)),
            (None, None, None, None, (None, None)),
        ] {
            let wanted = Wanted {
                length: length.map(Duration::from_secs),
                from: from.map(at),
                until: until.map(at),
            };
            let range = wanted.ending(end.map(at));
            assert_eq!(
                (range.from, range.until),
                (expected.0.map(at), expected.1.map(at))
            );
        }
    }
}
