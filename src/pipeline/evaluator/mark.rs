//! What the evaluator commits with its position in the proposals: how far results were published, and whose turn it is.
//!
//! Kafka keeps it, so only an owner of the proposals whose producer is not fenced can change it. That makes `term` a
//! fencing token: it grows with every take-over, and rows of `detections` carry it. After the commit that begins a term,
//! rows of earlier terms that were not published by then are void, however late their writer wakes up.

use serde::{Deserialize, Serialize};

/// Committed with the position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Term of the evaluator that committed it; 0 before the first.
    pub(super) term: u64,
    /// Tick published last, and the term that judged it.
    pub(super) published: Option<(i64, u64)>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: u32,
    term: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tick: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<u64>,
}

const VERSION: u32 = 1;

impl Mark {
    pub(super) fn encode(self) -> String {
        let Self { term, published } = self;
        let tick = published.map_or(String::new(), |(tick, by)| {
            format!(",\"tick\":{tick},\"by\":{by}")
        });
        format!("{{\"v\":{VERSION},\"term\":{term}{tick}}}")
    }

    /// Reads it back; nothing committed is the mark before the first term. `Err` = it was written by somebody else.
    pub(super) fn decode(metadata: &str) -> Result<Self, String> {
        if metadata.is_empty() {
            return Ok(Self::default());
        }
        let wire: Wire = serde_json::from_str(metadata).map_err(|error| error.to_string())?;
        if wire.v != VERSION {
            return Err(format!("version {} is not known here", wire.v));
        }
        Ok(Self {
            term: wire.term,
            published: wire.tick.zip(wire.by),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back() {
        for (mark, text) in [
            (Mark::default(), r#"{"v":1,"term":0}"#),
            (
                Mark {
                    term: 3,
                    published: Some((-300_000, 2)),
                },
                r#"{"v":1,"term":3,"tick":-300000,"by":2}"#,
            ),
        ] {
            assert_eq!(mark.encode(), text);
            assert_eq!(Mark::decode(text), Ok(mark));
        }
        assert_eq!(Mark::decode(""), Ok(Mark::default()));
        assert!(Mark::decode(r#"{"v":2,"term":1}"#).is_err());
        assert!(Mark::decode("5").is_err());
    }
}
