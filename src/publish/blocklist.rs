//! The block list on the wire: proposals, their outcomes, entries.
//!
//! **Proposal** (topic `proposals`, no key; anybody writes them, the evaluator applies them in the order of the log):
//!
//! ```json
//! {"v":1,"kind":"block","id":"…","pipeline":"shop","zone":"023e…","entity_kind":"ip","entity":"203.0.113.7",
//!  "reason":"too many invalid tokens","rule":"…","evidence":{"invalid_token":12},"samples":["req-7f3a"],
//!  "expires_at":"2026-11-20T09:15:30Z","answer":true}
//! {"v":1,"kind":"withdraw","id":"…","pipeline":"shop","zone":"023e…","entity_kind":"ip","entity":"203.0.113.7",
//!  "reason":"a customer's office","answer":true}
//! ```
//!
//! `rule`, `evidence`, `samples` and `answer` may be missing. The same `id` counts once.
//!
//! **Outcome** (same topic, written by the evaluator in the transaction that applies the proposal, only where `answer`
//! is true):
//!
//! ```json
//! {"v":1,"kind":"outcome","proposal":"…","pipeline":"shop","key":"023e…/ip/203.0.113.7","outcome":"added",
//!  "simulated":true,"expires_at":"2026-11-20T09:15:30Z"}
//! ```
//!
//! `outcome` is one of `added`, `extended`, `unchanged`, `withdrawn`, `not_listed`, `allowed`, `full`, `expired`; the
//! last two members are there when the entity is listed afterwards because of it. It stands in the log of proposals because
//! that is kept for a time only: a refusal has no key of its own in a compacted topic.
//!
//! **Entry** (topic `blocklist`, key `zone/kind/entity`): an event of type `gatewatch.blocklist.listed`, whose `data`
//! is `{zone, kind, entity, action, simulated, reason, rule?, evidence, samples, created_at, updated_at, expires_at,
//! revision, sequence}`; `action` is always `block`. A tombstone ends it. Header `gatewatch-outcome` says why the record
//! was written (`added`, `extended`, `withdrawn`, `expired`, `configuration`), header `gatewatch-proposal` for which
//! proposal. Pipelines may share the topic: the `source` of the event, `/gatewatch/<pipeline>`, says whose entry it is.

pub mod lines;
pub mod said;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::events::{Event, envelope, rfc3339, source_of, uuid};
use super::kafka::{Message, OUTCOME_HEADER, PROPOSAL_HEADER};
use crate::detect::blocklist::{Decision, Edit, Outcome};
use crate::model::{BlockEntry, BlockKey, BlockKind, EventTime, Proposal, Wish};

/// Version of proposals that is written and understood.
const VERSION: u32 = 1;
/// Most characters of a reason.
const MAX_REASON: usize = 500;
/// Most characters of an exchange id, a signal or a rule. With the fold's own bounds an entry stays far below the
/// 1 MiB that a broker takes by default, whatever is proposed.
const MAX_NAME: usize = 200;

/// What stands in the log of proposals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A proposal.
    Proposal(Proposal),
    /// An outcome of a proposal.
    Outcome(Answer),
    /// Of another pipeline.
    Foreign,
}

/// The outcome of a proposal, as its sender reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Id of the proposal.
    pub proposal: String,
    /// `zone/kind/entity`.
    pub key: String,
    /// What became of it: a name of [`Outcome`].
    pub outcome: String,
    /// Whether the entry only shows what would be refused.
    pub simulated: Option<bool>,
    /// Until when the entity is listed, RFC 3339.
    pub expires_at: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: u32,
    kind: String,
    pipeline: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entity_kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entity: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    evidence: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    samples: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    answer: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proposal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    simulated: Option<bool>,
}

impl Wire {
    fn new(kind: &str, pipeline: &str) -> Self {
        Self {
            v: VERSION,
            kind: kind.to_owned(),
            pipeline: pipeline.to_owned(),
            id: None,
            zone: None,
            entity_kind: None,
            entity: None,
            reason: None,
            rule: None,
            evidence: BTreeMap::new(),
            samples: Vec::new(),
            expires_at: None,
            answer: false,
            proposal: None,
            key: None,
            outcome: None,
            simulated: None,
        }
    }

    fn message(&self) -> Message {
        Message {
            topic: super::PROPOSALS,
            key: String::new(),
            // Strings, numbers and maps keyed by strings always serialize.
            value: Some(serde_json::to_vec(self).unwrap_or_default()),
            headers: Vec::new(),
        }
    }
}

/// A proposal as a record.
#[must_use]
pub fn proposal(pipeline: &str, proposal: &Proposal) -> Message {
    let mut wire = Wire::new("withdraw", pipeline);
    wire.id = Some(proposal.id.clone());
    wire.zone = Some(proposal.key.zone().to_owned());
    wire.entity_kind = Some(proposal.key.kind().as_str().to_owned());
    wire.entity = Some(proposal.key.entity().to_owned());
    wire.reason = Some(proposal.reason.clone());
    wire.answer = proposal.answer;
    if let Wish::Block {
        rule,
        evidence,
        samples,
        expires_at,
    } = &proposal.wish
    {
        "block".clone_into(&mut wire.kind);
        wire.rule.clone_from(rule);
        wire.evidence.clone_from(evidence);
        wire.samples.clone_from(samples);
        wire.expires_at = Some(rfc3339(*expires_at));
    }
    wire.message()
}

/// The id of a proposal that follows from these facts: the same however often it is made.
#[must_use]
pub fn proposal_id(facts: &[&str]) -> String {
    uuid(facts)
}

/// Reads a record of the log of proposals.
///
/// # Errors
/// What is wrong with it.
pub fn parse(pipeline: &str, record: &[u8]) -> Result<Entry, String> {
    let wire: Wire = serde_json::from_slice(record).map_err(|error| error.to_string())?;
    if wire.pipeline != pipeline {
        return Ok(Entry::Foreign);
    }
    if wire.v != VERSION {
        return Err(format!("version {} is not known here", wire.v));
    }
    let missing = |name: &str| format!("{name} is missing");
    if wire.kind == "outcome" {
        return Ok(Entry::Outcome(Answer {
            proposal: wire.proposal.ok_or_else(|| missing("proposal"))?,
            key: wire.key.ok_or_else(|| missing("key"))?,
            outcome: wire.outcome.ok_or_else(|| missing("outcome"))?,
            simulated: wire.simulated,
            expires_at: wire.expires_at,
        }));
    }
    let kind = wire.entity_kind.ok_or_else(|| missing("entity_kind"))?;
    let kind =
        BlockKind::parse(&kind).ok_or_else(|| format!("{kind:?} is not a kind of entity"))?;
    let zone = wire.zone.ok_or_else(|| missing("zone"))?;
    let entity = wire.entity.ok_or_else(|| missing("entity"))?;
    let key = BlockKey::new(&zone, kind, &entity).map_err(|form| format!("expected {form}"))?;
    let wish = match wire.kind.as_str() {
        "block" => {
            let until = wire.expires_at.ok_or_else(|| missing("expires_at"))?;
            let until =
                EventTime::parse(&until).ok_or_else(|| format!("{until:?} is not a time"))?;
            let mut evidence = BTreeMap::new();
            for (signal, count) in wire.evidence {
                let known: &mut u64 = evidence.entry(cut(&signal, MAX_NAME)).or_default();
                *known = known.saturating_add(count);
            }
            Wish::Block {
                rule: wire.rule.map(|rule| cut(&rule, MAX_NAME)),
                evidence,
                samples: wire.samples.iter().map(|id| cut(id, MAX_NAME)).collect(),
                expires_at: until.millis(),
            }
        }
        "withdraw" => Wish::Withdraw,
        other => return Err(format!("{other:?} is not a kind of proposal")),
    };
    let id = wire.id.filter(|id| !id.is_empty());
    let reason = wire.reason.unwrap_or_default();
    Ok(Entry::Proposal(Proposal {
        id: id.ok_or_else(|| missing("id"))?,
        answer: wire.answer,
        key,
        reason: cut(&reason, MAX_REASON),
        wish,
    }))
}

/// The first `characters` of a text.
fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

/// The outcome of a proposal, for its sender.
#[must_use]
pub fn outcome(pipeline: &str, proposal: &Proposal, decision: &Decision) -> Message {
    let mut wire = Wire::new("outcome", pipeline);
    wire.proposal = Some(proposal.id.clone());
    wire.key = Some(proposal.key.to_string());
    wire.outcome = Some(decision.outcome.as_str().to_owned());
    if let Some(Edit::Listed(entry)) = &decision.edit {
        wire.simulated = Some(entry.simulated);
        wire.expires_at = Some(rfc3339(entry.expires_at));
    }
    wire.message()
}

/// Why an entry changed without a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its time was over.
    Expired,
    /// The pipeline file says otherwise now.
    Configuration,
}

impl Cause {
    /// The name in headers and attributes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Configuration => "configuration",
        }
    }
}

/// The record of a change that follows from a proposal.
#[must_use]
pub fn decided(pipeline: &str, proposal: &str, outcome: Outcome, edit: &Edit) -> Message {
    let mut message = record(pipeline, edit, outcome.as_str());
    message.headers.push((PROPOSAL_HEADER, proposal.to_owned()));
    message
}

/// The record of a change that follows from time or configuration.
#[must_use]
pub fn caused(pipeline: &str, cause: Cause, edit: &Edit) -> Message {
    record(pipeline, edit, cause.as_str())
}

fn record(pipeline: &str, edit: &Edit, outcome: &str) -> Message {
    let mut message = match edit {
        Edit::Listed(entry) => Message::from(event(pipeline, entry)),
        Edit::Ended(key) => Message {
            topic: super::BLOCK_LIST,
            key: key.to_string(),
            value: None,
            headers: Vec::new(),
        },
    };
    message.headers.push((OUTCOME_HEADER, outcome.to_owned()));
    message
}

/// An entry as people and programs read it.
#[must_use]
pub fn entry(entry: &BlockEntry) -> Value {
    let mut data = json!({
        "zone": entry.key.zone(),
        "kind": entry.key.kind().as_str(),
        "entity": entry.key.entity(),
        "action": "block",
        "simulated": entry.simulated,
        "reason": entry.reason,
        "evidence": entry.evidence,
        "samples": entry.samples,
        "created_at": rfc3339(entry.created_at),
        "updated_at": rfc3339(entry.updated_at),
        "expires_at": rfc3339(entry.expires_at),
        "revision": entry.revision,
        "sequence": entry.sequence,
    });
    if let (Some(rule), Some(members)) = (&entry.rule, data.as_object_mut()) {
        members.insert("rule".to_owned(), Value::String(rule.clone()));
    }
    data
}

fn event(pipeline: &str, listed: &BlockEntry) -> Event {
    let key = listed.key.to_string();
    let (sequence, revision) = (listed.sequence.to_string(), listed.revision.to_string());
    let id = uuid(&[pipeline, "blocklist", &key, &sequence, &revision]);
    let value = envelope(
        pipeline,
        "blocklist.listed",
        &id,
        &key,
        listed.updated_at,
        &entry(listed),
    );
    Event {
        topic: super::BLOCK_LIST,
        key,
        value,
    }
}

/// Reads an entry back from its record; `None` = another pipeline that shares the topic wrote it, and whatever it says is
/// for that one to keep, to change and to end.
///
/// # Errors
/// What is wrong with it.
pub fn read_entry(pipeline: &str, key: &str, record: &[u8]) -> Result<Option<BlockEntry>, String> {
    #[derive(Deserialize)]
    struct Envelope {
        source: String,
        data: Value,
    }
    #[derive(Deserialize)]
    struct Data {
        simulated: bool,
        reason: String,
        #[serde(default)]
        rule: Option<String>,
        #[serde(default)]
        evidence: BTreeMap<String, u64>,
        #[serde(default)]
        samples: Vec<String>,
        created_at: String,
        updated_at: String,
        expires_at: String,
        revision: u64,
        sequence: u64,
    }
    let unreadable = |error: serde_json::Error| error.to_string();
    let envelope: Envelope = serde_json::from_slice(record).map_err(unreadable)?;
    // Only now: another pipeline may be of a newer version, whose keys and members are not known here.
    if envelope.source != source_of(pipeline) {
        return Ok(None);
    }
    let key = BlockKey::parse(key).ok_or("its key is not zone/kind/entity")?;
    let data: Data = serde_json::from_value(envelope.data).map_err(unreadable)?;
    let time = |text: &str| {
        let time = EventTime::parse(text).map(EventTime::millis);
        time.ok_or_else(|| format!("{text:?} is not a time"))
    };
    Ok(Some(BlockEntry {
        key,
        simulated: data.simulated,
        reason: data.reason,
        rule: data.rule,
        evidence: data.evidence,
        samples: data.samples,
        created_at: time(&data.created_at)?,
        updated_at: time(&data.updated_at)?,
        expires_at: time(&data.expires_at)?,
        revision: data.revision,
        sequence: data.sequence,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Proposal {
        Proposal {
            id: "p-1".to_owned(),
            answer: true,
            key: BlockKey::new("z", BlockKind::Ip, "203.0.113.7").unwrap(),
            reason: "a \"reason\"".to_owned(),
            wish: Wish::Block {
                rule: Some("r".to_owned()),
                evidence: BTreeMap::from([("invalid_token".to_owned(), 12)]),
                samples: vec!["req-1".to_owned()],
                expires_at: 1_763_629_530_500,
            },
        }
    }

    fn listed() -> BlockEntry {
        BlockEntry {
            key: block().key,
            simulated: true,
            reason: "a \"reason\"".to_owned(),
            rule: None,
            evidence: BTreeMap::from([("invalid_token".to_owned(), 12)]),
            samples: vec!["req-1".to_owned()],
            created_at: 1_000,
            updated_at: 2_000,
            expires_at: 1_763_629_530_500,
            revision: 3,
            sequence: 41,
        }
    }

    #[test]
    fn proposals_are_read_back() {
        let withdraw = Proposal {
            wish: Wish::Withdraw,
            answer: false,
            ..block()
        };
        for sent in [block(), withdraw] {
            let message = proposal("shop", &sent);
            assert_eq!((message.topic, message.key.as_str()), ("proposals", ""));
            let value = message.value.unwrap();
            assert_eq!(parse("shop", &value), Ok(Entry::Proposal(sent)));
            assert_eq!(parse("other", &value), Ok(Entry::Foreign));
        }
        let value: Value =
            serde_json::from_slice(&proposal("shop", &block()).value.unwrap()).unwrap();
        assert_eq!(
            value,
            json!({"v": 1, "kind": "block", "pipeline": "shop", "id": "p-1", "zone": "z", "entity_kind": "ip",
                "entity": "203.0.113.7", "reason": "a \"reason\"", "rule": "r", "evidence": {"invalid_token": 12},
                "samples": ["req-1"], "expires_at": "2025-11-20T09:05:30.500Z", "answer": true})
        );
    }

    #[test]
    fn a_bad_proposal_says_what_is_wrong() {
        let good: Value =
            serde_json::from_slice(&proposal("shop", &block()).value.unwrap()).unwrap();
        for (member, value, problem) in [
            ("v", json!(2), "version 2"),
            ("kind", json!("ban"), "not a kind of proposal"),
            ("entity_kind", json!("planet"), "not a kind of entity"),
            ("entity", json!("300.1.1.1"), "an IP address"),
            ("zone", json!("a/b"), "a zone id"),
            ("expires_at", json!("tomorrow"), "not a time"),
            ("id", json!(""), "id is missing"),
            ("evidence", json!({"x": -1}), "invalid value"),
        ] {
            let mut bad = good.clone();
            bad[member] = value;
            let error = parse("shop", bad.to_string().as_bytes()).unwrap_err();
            assert!(error.contains(problem), "{member}: {error}");
        }
        assert!(parse("shop", b"{").is_err());
        let mut long = good.clone();
        long["samples"] = json!(["é".repeat(5_000)]);
        long["rule"] = json!("r".repeat(5_000));
        long["evidence"] = json!({"s".repeat(300): 1, "s".repeat(400): 2});
        let Ok(Entry::Proposal(Proposal { wish, .. })) = parse("shop", long.to_string().as_bytes())
        else {
            panic!("too long is no error");
        };
        let Wish::Block {
            rule,
            evidence,
            samples,
            ..
        } = wish
        else {
            panic!("{wish:?}");
        };
        assert_eq!(samples, ["é".repeat(200)]);
        assert_eq!(rule.as_deref(), Some(&*"r".repeat(200)));
        assert_eq!(evidence, BTreeMap::from([("s".repeat(200), 3)]));
    }

    #[test]
    fn entries_are_read_back_and_end_with_a_tombstone() {
        let edit = Edit::Listed(listed());
        let message = decided("shop", "p-1", Outcome::Extended, &edit);
        assert_eq!(
            (message.topic, message.key.as_str()),
            ("blocklist", "z/ip/203.0.113.7")
        );
        let value = message.value.unwrap();
        assert_eq!(read_entry("shop", &message.key, &value), Ok(Some(listed())));
        assert!(read_entry("shop", "z/ip", &value).is_err());
        let value: Value = serde_json::from_slice(&value).unwrap();
        assert_eq!(value["type"], "gatewatch.blocklist.listed");
        assert_eq!(value["subject"], "z/ip/203.0.113.7");
        assert_eq!(value["time"], "1970-01-01T00:00:02Z");
        assert!(value["data"].get("rule").is_none());
        assert_eq!(
            message.headers,
            [
                ("content-type", "application/cloudevents+json".to_owned()),
                ("gatewatch-outcome", "extended".to_owned()),
                ("gatewatch-proposal", "p-1".to_owned()),
            ]
        );
        let again = caused("shop", Cause::Configuration, &edit);
        assert_eq!(
            again.value.unwrap(),
            value.to_string().into_bytes(),
            "the id is deterministic"
        );
        let end = caused("shop", Cause::Expired, &Edit::Ended(listed().key));
        assert_eq!(end.value, None);
        assert_eq!(end.headers, [("gatewatch-outcome", "expired".to_owned())]);
    }

    #[test]
    fn an_entry_of_another_pipeline_is_not_ours_whatever_it_holds() {
        let edit = Edit::Listed(listed());
        let message = decided("bank", "p-1", Outcome::Added, &edit);
        let value = message.value.unwrap();
        assert_eq!(read_entry("shop", &message.key, &value), Ok(None));
        let newer = br#"{"source":"/gatewatch/bank","data":["?"]}"#;
        assert_eq!(read_entry("shop", "of/another/form/too", newer), Ok(None));
        for unreadable in [
            "{",
            "{\"data\":{}}",
            "{\"source\":\"/gatewatch/shop\",\"data\":{}}",
        ] {
            let read = read_entry("shop", &message.key, unreadable.as_bytes());
            assert!(read.is_err(), "{unreadable}");
        }
    }

    #[test]
    fn an_outcome_reaches_its_sender() {
        let decision = Decision {
            outcome: Outcome::Added,
            edit: Some(Edit::Listed(listed())),
        };
        let message = outcome("shop", &block(), &decision);
        let answer = Answer {
            proposal: "p-1".to_owned(),
            key: "z/ip/203.0.113.7".to_owned(),
            outcome: "added".to_owned(),
            simulated: Some(true),
            expires_at: Some("2025-11-20T09:05:30.500Z".to_owned()),
        };
        assert_eq!(
            parse("shop", &message.value.unwrap()),
            Ok(Entry::Outcome(answer))
        );
        let refused = Decision {
            outcome: Outcome::Full,
            edit: None,
        };
        let value = outcome("shop", &block(), &refused).value.unwrap();
        let value: Value = serde_json::from_slice(&value).unwrap();
        assert_eq!(
            value,
            json!({"v": 1, "kind": "outcome", "pipeline": "shop", "proposal": "p-1", "key": "z/ip/203.0.113.7", "outcome": "full"})
        );
    }
}
