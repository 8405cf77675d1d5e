//! What travels with a committed offset (design section 6): the state of the join at that offset and, before a flush is
//! written, where it ends.
//!
//! Brokers keep 4,096 bytes of metadata by default. The list of closed halves is the only part that grows; where it does
//! not fit it is left out, and the ledger row that ends at the same offset has it.

use serde::{Deserialize, Serialize};

use crate::correlate::JoinState;
use crate::model::EventTime;

/// Bytes of metadata that every broker takes by default (`offset.metadata.max.bytes`).
const MOST: usize = 4_096;

/// The metadata of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// State of the join at the committed offset.
    pub join: JoinState,
    /// Whether `join.closed` was too long to travel.
    pub closed_elsewhere: bool,
    /// The flush that is about to be written.
    pub intent: Option<Intent>,
}

/// A flush that starts at the committed offset and whose writing may have begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Offset after the flush.
    pub end: u64,
    /// Whether everything that waits is let go at its end.
    pub drain: bool,
    /// Wall time at which it was frozen, epoch milliseconds.
    pub at: i64,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: u32,
    from: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clock: Option<i64>,
    /// First closed offset, then distances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    closed: Option<Vec<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    drain: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<i64>,
}

impl Mark {
    /// The metadata of a commit without a flush under way.
    #[must_use]
    pub fn done(join: &JoinState) -> Self {
        Self {
            join: join.clone(),
            closed_elsewhere: false,
            intent: None,
        }
    }

    /// The text that travels.
    ///
    /// # Errors
    /// Never in practice: the shape has only numbers.
    pub fn encode(&self) -> serde_json::Result<String> {
        let mut before = 0;
        let closed = self.join.closed.iter().map(|offset| {
            let distance = offset.saturating_sub(before);
            before = *offset;
            distance
        });
        let mut wire = Wire {
            v: 1,
            from: self.join.from,
            clock: self.join.clock.map(EventTime::nanos),
            closed: Some(closed.collect()),
            end: self.intent.map(|intent| intent.end),
            drain: self.intent.is_some_and(|intent| intent.drain),
            at: self.intent.map(|intent| intent.at),
        };
        let whole = serde_json::to_string(&wire)?;
        if whole.len() <= MOST {
            return Ok(whole);
        }
        wire.closed = None;
        serde_json::to_string(&wire)
    }

    /// Reads metadata; `None` when it is not ours, e.g. after somebody reset the group's offsets.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let wire: Wire = serde_json::from_str(text).ok()?;
        if wire.v != 1 {
            return None;
        }
        let closed_elsewhere = wire.closed.is_none();
        let mut before = 0_u64;
        let closed = wire.closed.unwrap_or_default().into_iter();
        let closed = closed.map(|distance| {
            before = before.saturating_add(distance);
            before
        });
        let join = JoinState {
            from: wire.from,
            clock: wire.clock.and_then(EventTime::from_nanos),
            closed: closed.collect(),
        };
        let intent = wire.end.map(|end| Intent {
            end,
            drain: wire.drain,
            at: wire.at.unwrap_or_default(),
        });
        Some(Self {
            join,
            closed_elsewhere,
            intent,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(closed: Vec<u64>) -> Mark {
        Mark {
            join: JoinState {
                from: 7,
                clock: EventTime::from_millis(1_763_000_000_000),
                closed,
            },
            closed_elsewhere: false,
            intent: Some(Intent {
                end: 90,
                drain: true,
                at: 5,
            }),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for mark in [
            mark(vec![]),
            mark(vec![8, 20, 89]),
            Mark::done(&JoinState::default()),
        ] {
            assert_eq!(Mark::decode(&mark.encode().unwrap()), Some(mark));
        }
    }

    #[test]
    fn a_long_list_is_left_out_and_said_to_be() {
        let long = mark((0..5_000).map(|n| 1_000_000_000 + n * 1_000).collect());
        let text = long.encode().unwrap();
        assert!(text.len() <= MOST, "{}", text.len());
        let read = Mark::decode(&text).unwrap();
        assert!(read.closed_elsewhere && read.join.closed.is_empty());
        assert_eq!(read.intent, long.intent);
    }

    #[test]
    fn other_peoples_metadata_is_not_ours() {
        for text in ["", "x", "{}", r#"{"v":2,"from":1}"#, "[1]"] {
            assert_eq!(Mark::decode(text), None, "{text}");
        }
    }
}
