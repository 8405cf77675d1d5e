//! How values of options are read, alike in every command.

use std::time::Duration;

use crate::config::parse_duration;
use crate::model::EventTime;

/// A moment of event time.
pub(super) fn parse_time(text: &str) -> Result<EventTime, String> {
    EventTime::parse(text).ok_or_else(|| "not a time such as 2026-11-20T08:15:00Z".to_owned())
}

/// A length of time above zero.
pub(super) fn parse_length(text: &str) -> Result<Duration, String> {
    let length = parse_duration(text).filter(|length| !length.is_zero());
    length.ok_or_else(|| "a number above zero and ms, s, m, h or d, such as 24h".to_owned())
}
