//! The state of labels and insights as bytes, the same in both stores.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::detect::{Counts, Finding, State};
use crate::model::{MINUTE_MILLIS, OperationKey};
use crate::publish::events::Event;
use crate::publish::{INSIGHTS, LABELS};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Detections {
    tick: Option<i64>,
    findings: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    zone: String,
    host: String,
    method: String,
    endpoint: String,
    since: i64,
    hits: u64,
    others: u64,
}

/// A state as bytes.
///
/// # Errors
/// None that a state can cause.
pub(super) fn encode(state: &State) -> Result<Vec<u8>, serde_json::Error> {
    let row = |name: &String, operation: &OperationKey, finding: &Finding| Row {
        name: name.clone(),
        zone: operation.zone.clone(),
        host: operation.host.clone(),
        method: operation.method.clone(),
        endpoint: operation.endpoint.clone(),
        since: finding.since,
        hits: finding.counts.hits,
        others: finding.counts.others,
    };
    let rows = state.findings.iter().flat_map(|(name, held)| {
        held.iter()
            .map(move |(operation, finding)| row(name, operation, finding))
    });
    let detections = Detections {
        tick: state.tick,
        findings: rows.collect(),
    };
    serde_json::to_vec(&detections)
}

/// A state from its bytes.
///
/// # Errors
/// They were not written by [`encode`].
pub(super) fn decode(bytes: &[u8]) -> Result<State, serde_json::Error> {
    let detections: Detections = serde_json::from_slice(bytes)?;
    let mut findings: BTreeMap<String, BTreeMap<OperationKey, Finding>> = BTreeMap::new();
    for row in detections.findings {
        let Row {
            zone,
            host,
            method,
            endpoint,
            ..
        } = row;
        let operation = OperationKey {
            zone,
            host,
            method,
            endpoint,
        };
        let counts = Counts {
            hits: row.hits,
            others: row.others,
        };
        let held = findings.entry(row.name).or_default();
        held.insert(
            operation,
            Finding {
                since: row.since,
                counts,
            },
        );
    }
    // Ticks are whole minutes; anything else was not written by us and would shift every later one.
    let tick = detections
        .tick
        .map(|tick| tick.div_euclid(MINUTE_MILLIS) * MINUTE_MILLIS);
    Ok(State { tick, findings })
}

/// The state as an evaluator stores it: with its term, so that the row of one that was replaced meanwhile is told from
/// the row that counts.
#[derive(Serialize, Deserialize)]
struct Judged<'a> {
    v: u32,
    term: u64,
    #[serde(borrow)]
    state: &'a serde_json::value::RawValue,
}

const VERSION: u32 = 1;

/// A state with the term of the evaluator that came to it, as text.
///
/// # Errors
/// None that a state can cause.
pub(super) fn encode_judged(term: u64, state: &State) -> Result<String, serde_json::Error> {
    let text = String::from_utf8_lossy(&encode(state)?).into_owned();
    let state = serde_json::value::RawValue::from_string(text)?;
    serde_json::to_string(&Judged {
        v: VERSION,
        term,
        state: &state,
    })
}

/// Term and state from their text.
///
/// # Errors
/// It was not written by [`encode_judged`].
pub(super) fn decode_judged(text: &str) -> Result<(u64, State), serde_json::Error> {
    use serde::de::Error as _;
    let judged: Judged<'_> = serde_json::from_str(text)?;
    if judged.v != VERSION {
        let message = format!("version {} is not known here", judged.v);
        return Err(serde_json::Error::custom(message));
    }
    Ok((judged.term, decode(judged.state.get().as_bytes())?))
}

/// An event as it is kept until it is published.
#[derive(Serialize, Deserialize)]
struct Kept {
    topic: String,
    key: String,
    value: serde_json::Value,
}

/// The events that follow from a tick, as text.
///
/// # Errors
/// None that an event can cause.
pub(super) fn encode_events(events: Vec<Event>) -> Result<String, serde_json::Error> {
    let kept = events.into_iter().map(|event| Kept {
        topic: event.topic.to_owned(),
        key: event.key,
        value: event.value,
    });
    serde_json::to_string(&kept.collect::<Vec<_>>())
}

/// Events from their text, word for word as they were kept.
///
/// # Errors
/// It was not written by [`encode_events`].
pub(super) fn decode_events(text: &str) -> Result<Vec<Event>, serde_json::Error> {
    use serde::de::Error as _;
    let kept: Vec<Kept> = serde_json::from_str(text)?;
    kept.into_iter()
        .map(|kept| {
            let topic = [LABELS, INSIGHTS]
                .into_iter()
                .find(|topic| *topic == kept.topic);
            Ok(Event {
                topic: topic.ok_or_else(|| serde_json::Error::custom("an unknown topic"))?,
                key: kept.key,
                value: kept.value,
            })
        })
        .collect()
}
