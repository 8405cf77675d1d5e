//! CloudEvents 1.0 in structured JSON mode (CloudEvents JSON Event Format 1.0.2 section 3).
//!
//! Ids are deterministic: the same change of the same operation at the same tick is the same event, however often it
//! is published. `time` is event time. Insights carry an OCSF 1.3 Detection Finding (class 2004).

use serde_json::{Value, json};
use uuid::Uuid;

use crate::detect::{Change, Kind, Severity, WINDOW_MINUTES};
use crate::model::{EventTime, MINUTE_MILLIS, Position, Reject};

/// Longest refused record that its dead letter holds: with base64 it stays under what every broker takes by default
/// (`max.message.bytes`, 1 MiB). Of a longer one there are the position, the length and the hash.
const MOST_LETTER_BYTES: usize = 512 << 10;

/// One event and the topic it belongs to.
#[derive(Debug)]
pub struct Event {
    /// Topic without prefix.
    pub topic: &'static str,
    /// Message key: operation id, insight id, or position.
    pub key: String,
    /// The event.
    pub value: Value,
}

impl Event {
    /// The event as one line.
    #[must_use]
    pub fn to_line(&self) -> String {
        format!("{}\n", self.value)
    }
}

pub(super) fn rfc3339(millis: i64) -> String {
    EventTime::from_millis(millis).map_or_else(|| millis.to_string(), |time| time.to_string())
}

pub(super) fn uuid(parts: &[&str]) -> String {
    Uuid::new_v5(
        &Uuid::NAMESPACE_URL,
        format!("gatewatch:{}", parts.join("\n")).as_bytes(),
    )
    .to_string()
}

/// A label applied or cleared, an insight opened or resolved.
#[must_use]
pub fn change(pipeline: &str, change: &Change) -> Event {
    match change.detector.kind {
        Kind::Label => label(pipeline, change),
        Kind::Insight(severity) => insight(pipeline, change, severity),
    }
}

/// The `source` of every event of a pipeline.
pub(super) fn source_of(pipeline: &str) -> String {
    format!("/gatewatch/{pipeline}")
}

pub(super) fn envelope(
    pipeline: &str,
    kind: &str,
    id: &str,
    subject: &str,
    at: i64,
    data: &Value,
) -> Value {
    json!({
        "specversion": "1.0",
        "id": id,
        "source": source_of(pipeline),
        "type": format!("gatewatch.{kind}"),
        "subject": subject,
        "time": rfc3339(at),
        "datacontenttype": "application/json",
        "data": data,
    })
}

fn window(change: &Change) -> Value {
    let from = change.at - WINDOW_MINUTES * MINUTE_MILLIS;
    json!({"from": rfc3339(from.max(0)), "to": rfc3339(change.at)})
}

fn label(pipeline: &str, change: &Change) -> Event {
    let operation = &change.operation;
    let operation_id = operation.id().to_string();
    let action = if change.holds { "applied" } else { "cleared" };
    let at = change.at.to_string();
    let id = uuid(&[
        pipeline,
        "label",
        change.detector.name,
        &operation_id,
        action,
        &at,
    ]);
    let data = json!({
        "label": change.detector.name,
        "action": action,
        "operation_id": operation_id,
        "zone": operation.zone,
        "host": operation.host,
        "method": operation.method,
        "endpoint": operation.endpoint,
        "window": window(change),
        "successful": {"absent": change.counts.hits, "present": change.counts.others},
        "since": rfc3339(change.since),
        "reason": if change.holds { change.detector.title } else { "the condition no longer holds over 24 hours" },
    });
    let value = envelope(
        pipeline,
        &format!("label.{action}"),
        &id,
        &operation_id,
        change.at,
        &data,
    );
    Event {
        topic: super::LABELS,
        key: operation_id,
        value,
    }
}

fn insight(pipeline: &str, change: &Change, severity: Severity) -> Event {
    let operation = &change.operation;
    let operation_id = operation.id().to_string();
    let insight_id = uuid(&[pipeline, "insight", change.detector.name, &operation_id]);
    // OCSF 1.3, class Detection Finding: activity 1 create, 3 close; status 1 new, 4 resolved.
    let (action, activity, activity_name, status, status_name) = if change.holds {
        ("opened", 1, "Create", 1, "New")
    } else {
        ("resolved", 3, "Close", 4, "Resolved")
    };
    let at = change.at.to_string();
    let id = uuid(&[&insight_id, action, &at]);
    let (severity_id, severity_name) = match severity {
        Severity::Low => (2, "Low"),
        Severity::Medium => (3, "Medium"),
        Severity::High => (4, "High"),
        Severity::Critical => (5, "Critical"),
    };
    let name = format!(
        "{} {}{}",
        operation.method, operation.host, operation.endpoint
    );
    let data = json!({
        "class_uid": 2004,
        "class_name": "Detection Finding",
        "category_uid": 2,
        "category_name": "Findings",
        "activity_id": activity,
        "activity_name": activity_name,
        "type_uid": 200_400 + activity,
        "severity_id": severity_id,
        "severity": severity_name,
        "status_id": status,
        "status": status_name,
        "time": change.at,
        "metadata": {
            "version": "1.3.0",
            "product": {"name": "Gatewatch", "version": env!("CARGO_PKG_VERSION")},
        },
        "finding_info": {
            "uid": insight_id,
            "title": change.detector.title,
            "types": [change.detector.name],
            "created_time": change.since,
            "desc": format!("{} on {name}", change.detector.title),
        },
        "resources": [{"uid": operation_id, "name": name, "type": "API operation", "namespace": operation.zone}],
        "evidences": [{"data": {
            "window": window(change),
            "matching_requests": change.counts.hits,
            "other_requests": change.counts.others,
        }}],
    });
    let value = envelope(
        pipeline,
        &format!("insight.{action}"),
        &id,
        &operation_id,
        change.at,
        &data,
    );
    Event {
        topic: super::INSIGHTS,
        key: insight_id,
        value,
    }
}

/// A record that was refused.
#[derive(Debug)]
pub struct DeadLetter {
    /// Why.
    pub reason: Reject,
    /// Where it stood.
    pub position: Position,
    /// Length, bytes.
    pub length: u64,
    /// SHA-256 over its bytes, hexadecimal.
    pub sha256: String,
    /// The bytes, only where the configuration asks for them: they may hold credentials.
    pub bytes: Option<Vec<u8>>,
}

/// A refused record as an event. It has no event time of its own: what could not be read has none.
#[must_use]
pub fn dead_letter(pipeline: &str, letter: &DeadLetter) -> Event {
    let Position {
        source,
        partition,
        offset,
    } = &letter.position;
    let key = letter.position.to_string();
    let mut data = json!({
        "reason": letter.reason.as_str(),
        "source": source,
        "partition": partition,
        "offset": offset,
        "length": letter.length,
        "sha256": letter.sha256,
    });
    let bytes = letter.bytes.as_ref();
    let bytes = bytes.filter(|bytes| bytes.len() <= MOST_LETTER_BYTES);
    if let (Some(bytes), Some(members)) = (bytes, data.as_object_mut()) {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        members.insert("bytes_base64".to_owned(), Value::String(text));
    }
    let value = json!({
        "specversion": "1.0",
        "id": uuid(&[pipeline, "deadletter", &key, &letter.sha256]),
        "source": source_of(pipeline),
        "type": "gatewatch.record.rejected",
        "subject": key,
        "datacontenttype": "application/json",
        "data": data,
    });
    Event {
        topic: super::DEAD_LETTER,
        key,
        value,
    }
}
