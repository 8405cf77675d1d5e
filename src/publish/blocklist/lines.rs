//! The block list as lines of files, for pipelines without Kafka.
//!
//! - **Topic file** `gatewatch.blocklist.ndjson`: the same event as in the compacted topic, with what Kafka has in headers as
//!   extension attributes (`outcome`, `proposal`). A file has no tombstones, so the end of an entry is an event of its own,
//!   `gatewatch.blocklist.ended`, whose `data` is `{zone, kind, entity, sequence}`. The newest line of a `subject` is what
//!   holds.
//! - **Topic file** `gatewatch.proposals.ndjson`: outcomes, word for word as in Kafka.
//! - **Journal** of the local store, from which a list is taken up again: entries and ends without envelope of their own, how
//!   far proposals of others were applied, and what thresholds have said. The store's own; nobody else reads it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Cause, event, read_entry};
use crate::detect::blocklist::{Edit, Outcome};
use crate::detect::thresholds::Said;
use crate::model::{BlockEntry, BlockKey, Proposal};
use crate::publish::BLOCK_LIST;
use crate::publish::events::{Event, envelope, uuid};

/// Why a line was written.
#[derive(Clone, Copy, Debug)]
pub enum Why<'p> {
    /// A proposal was applied.
    Proposed(&'p Proposal, Outcome),
    /// Without one.
    Caused(Cause),
}

/// The event of a change at `now` (wall time, epoch milliseconds), which is the one numbered `sequence` of this list.
#[must_use]
pub fn change(pipeline: &str, edit: &Edit, why: Why<'_>, sequence: u64, now: i64) -> Event {
    let mut event = match edit {
        Edit::Listed(entry) => event(pipeline, entry),
        Edit::Ended(key) => {
            let subject = key.to_string();
            let data = json!({
                "zone": key.zone(),
                "kind": key.kind().as_str(),
                "entity": key.entity(),
                "sequence": sequence,
            });
            let number = sequence.to_string();
            let id = uuid(&[pipeline, "blocklist", &subject, &number, "ended"]);
            Event {
                topic: BLOCK_LIST,
                value: envelope(pipeline, "blocklist.ended", &id, &subject, now, &data),
                key: subject,
            }
        }
    };
    let (outcome, proposal) = match why {
        Why::Proposed(proposal, outcome) => (outcome.as_str(), Some(&proposal.id)),
        Why::Caused(cause) => (cause.as_str(), None),
    };
    if let Some(members) = event.value.as_object_mut() {
        members.insert("outcome".to_owned(), Value::from(outcome));
        members.extend(proposal.map(|id| ("proposal".to_owned(), Value::from(id.as_str()))));
    }
    event
}

/// What a journal holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Entries by key.
    pub entries: BTreeMap<BlockKey, BlockEntry>,
    /// Changes so far.
    pub sequence: u64,
    /// How far the proposals that others left were applied.
    pub taken: u64,
    /// What thresholds have said, by key.
    pub said: BTreeMap<BlockKey, Said>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'l> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    listed: Option<&'l RawValue>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ended: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    said: Option<Said>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    taken: Option<u64>,
}

const EMPTY: Line<'static> = Line {
    key: None,
    listed: None,
    ended: false,
    said: None,
    sequence: None,
    taken: None,
};

/// Lines of a journal in the making.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// The lines.
    pub lines: Vec<u8>,
}

impl Journal {
    fn push(&mut self, line: &Line<'_>) {
        // Strings, numbers and maps keyed by strings or numbers always serialize.
        self.lines
            .extend(serde_json::to_vec(line).unwrap_or_default());
        self.lines.push(b'\n');
    }

    /// A change of the list.
    pub fn edit(&mut self, pipeline: &str, edit: &Edit) {
        match edit {
            Edit::Listed(entry) => {
                let text = event(pipeline, entry).value.to_string();
                let listed = RawValue::from_string(text).ok();
                self.push(&Line {
                    key: Some(entry.key.to_string()),
                    listed: listed.as_deref(),
                    ..EMPTY
                });
            }
            Edit::Ended(key) => self.push(&Line {
                key: Some(key.to_string()),
                ended: true,
                ..EMPTY
            }),
        }
    }

    /// What thresholds have said about an entity, all of it; nothing = it is forgotten.
    pub fn said(&mut self, key: &BlockKey, said: &Said) {
        self.push(&Line {
            key: Some(key.to_string()),
            said: Some(said.clone()),
            ..EMPTY
        });
    }

    /// Where the list stands.
    pub fn position(&mut self, sequence: u64, taken: u64) {
        self.push(&Line {
            sequence: Some(sequence),
            taken: Some(taken),
            ..EMPTY
        });
    }
}

/// Reads a journal.
///
/// # Errors
/// What is wrong with it, and in which line.
pub fn read(pipeline: &str, journal: &[u8]) -> Result<Held, String> {
    let mut held = Held::default();
    let lines = journal.split(|byte| *byte == b'\n');
    for (number, line) in (1..).zip(lines) {
        if !line.is_empty() {
            take(pipeline, line, &mut held)
                .map_err(|problem| format!("line {number}: {problem}"))?;
        }
    }
    Ok(held)
}

fn take(pipeline: &str, line: &[u8], held: &mut Held) -> Result<(), String> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    held.sequence = line.sequence.unwrap_or(held.sequence);
    held.taken = line.taken.unwrap_or(held.taken);
    let Some(text) = line.key else {
        return Ok(());
    };
    let key = BlockKey::parse(&text).ok_or("its key is not zone/kind/entity")?;
    if let Some(listed) = line.listed {
        let entry = read_entry(pipeline, &text, listed.get().as_bytes())?;
        let entry = entry.ok_or("it is of another pipeline")?;
        held.entries.insert(key, entry);
    } else if line.ended {
        held.entries.remove(&key);
    } else if let Some(said) = line.said {
        if said.is_empty() {
            held.said.remove(&key);
        } else {
            held.said.insert(key, said);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BlockKind, Wish};

    fn key(entity: &str) -> BlockKey {
        BlockKey::new("z", BlockKind::Ip, entity).unwrap()
    }

    fn listed(entity: &str) -> BlockEntry {
        BlockEntry {
            key: key(entity),
            simulated: false,
            reason: "a \"reason\"\n".to_owned(),
            rule: Some("r".to_owned()),
            evidence: BTreeMap::from([("r".to_owned(), 2)]),
            samples: vec!["req-1".to_owned()],
            created_at: 1_000,
            updated_at: 2_000,
            expires_at: 3_000,
            revision: 1,
            sequence: 7,
        }
    }

    #[test]
    fn a_journal_is_read_back() {
        let mut journal = Journal::default();
        for entity in ["1.1.1.1", "2.2.2.2", "3.3.3.3"] {
            journal.edit("shop", &Edit::Listed(listed(entity)));
        }
        let said = Said::from([("t".to_owned(), BTreeMap::from([(60_000, 5)]))]);
        journal.said(&key("1.1.1.1"), &said);
        journal.said(&key("2.2.2.2"), &said);
        journal.edit("shop", &Edit::Ended(key("2.2.2.2")));
        journal.said(&key("2.2.2.2"), &Said::new());
        journal.position(9, 120);
        let held = read("shop", &journal.lines).unwrap();
        let expected = Held {
            entries: ["1.1.1.1", "3.3.3.3"]
                .map(|entity| (key(entity), listed(entity)))
                .into(),
            sequence: 9,
            taken: 120,
            said: BTreeMap::from([(key("1.1.1.1"), said)]),
        };
        assert_eq!(held, expected);
        assert_eq!(read("shop", b"").unwrap(), Held::default());
        assert!(read("bank", &journal.lines).unwrap_err().contains("line 1"));
        for bad in [
            "{",
            "{\"key\":\"z\"}",
            "{\"unheard\":1}",
            "{\"key\":\"z/ip/1.1.1.1\",\"listed\":{}}",
        ] {
            let error = read("shop", format!("\n{bad}\n").as_bytes()).unwrap_err();
            assert!(error.starts_with("line 2: "), "{bad}: {error}");
        }
    }

    #[test]
    fn a_change_is_one_event_that_says_why() {
        let proposal = Proposal {
            id: "p-1".to_owned(),
            answer: false,
            key: key("1.1.1.1"),
            reason: String::new(),
            wish: Wish::Withdraw,
        };
        let end = Edit::Ended(key("1.1.1.1"));
        let why = Why::Proposed(&proposal, Outcome::Withdrawn);
        let event = change("shop", &end, why, 8, 4_000);
        assert_eq!(
            (event.topic, event.key.as_str()),
            ("blocklist", "z/ip/1.1.1.1")
        );
        let again = change("shop", &end, why, 8, 5_000);
        assert_eq!(event.value["id"], again.value["id"]);
        let later = change("shop", &end, why, 9, 5_000);
        assert_ne!(event.value["id"], later.value["id"]);
        let mut value = event.value;
        value["id"] = Value::Null;
        assert_eq!(
            value,
            json!({"specversion": "1.0", "id": null, "source": "/gatewatch/shop",
                "type": "gatewatch.blocklist.ended", "subject": "z/ip/1.1.1.1", "time": "1970-01-01T00:00:04Z",
                "datacontenttype": "application/json", "outcome": "withdrawn", "proposal": "p-1",
                "data": {"zone": "z", "kind": "ip", "entity": "1.1.1.1", "sequence": 8}})
        );
        let edit = Edit::Listed(listed("1.1.1.1"));
        let event = change("shop", &edit, Why::Caused(Cause::Configuration), 9, 4_000);
        assert_eq!(event.value["type"], "gatewatch.blocklist.listed");
        assert_eq!(event.value["outcome"], "configuration");
        assert!(event.value.get("proposal").is_none());
    }
}
