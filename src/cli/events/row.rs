//! Rows of stored evidence → events as they are printed.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{
    ArrowPrimitiveType, Int32Type, Int64Type, TimestampMillisecondType, UInt64Type,
};
use arrow::error::ArrowError;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::enrich::evidence::{column_name, stored_fields};
use crate::model::EventTime;
use crate::store::Place;
use crate::window::events::TIME;

/// The columns that the table for people is made of, and those that say where a row stands.
pub(super) const SHOWN: &[&str] = &[
    TIME,
    "source",
    "partition",
    "offset",
    "kept_for",
    "rules",
    "rule_actions",
    "violation_sides",
    "violation_locations",
    "gatewatch_schema_violations_classes",
    "gatewatch_schema_violations_targets",
    "gatewatch_zone",
    "gatewatch_token_outcome",
    "gatewatch_token_reasons",
    "gatewatch_mtls_outcome",
    "gatewatch_mtls_reason",
    "http_request_method",
    "http_host",
    "http_request_uri_path",
    "http_response_code",
];

/// An exchange that was kept.
#[derive(Debug, Serialize)]
pub(super) struct Event {
    pub(super) time: String,
    position: Position,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation_id: Option<String>,
    pub(super) kept_for: Vec<String>,
    pub(super) rules: Vec<Rule>,
    pub(super) violations: Vec<Violation>,
    /// Keyed hashes, as in windows and on the block list.
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// Fields by the names that expressions have for them; what is not known is left out.
    fields: Map<String, Value>,
}

#[derive(Debug, Serialize)]
struct Position {
    source: String,
    partition: i32,
    offset: u64,
}

/// A rule that fired.
#[derive(Debug, Serialize)]
pub(super) struct Rule {
    pub(super) title: String,
    pub(super) action: String,
}

/// A place that violates the schema.
#[derive(Debug, Serialize)]
pub(super) struct Violation {
    pub(super) direction: String,
    pub(super) location: String,
    pub(super) class: String,
    pub(super) target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Event {
    /// The text of a field; empty when it is not known.
    pub(super) fn text(&self, field: &str) -> &str {
        let value = self.fields.get(field).and_then(Value::as_str);
        value.unwrap_or_default()
    }

    /// A field, whatever it is.
    pub(super) fn field(&self, field: &str) -> Option<&Value> {
        self.fields.get(field)
    }
}

/// The rows of one batch.
pub(super) struct Rows<'b> {
    rows: &'b RecordBatch,
    fields: Vec<(&'static str, &'b ArrayRef)>,
}

impl<'b> Rows<'b> {
    /// # Errors
    /// A column is missing that says where a row stands.
    pub(super) fn new(rows: &'b RecordBatch) -> Result<Self, ArrowError> {
        for name in [TIME, "source", "partition", "offset"] {
            if rows.column_by_name(name).is_none() {
                return Err(ArrowError::SchemaError(format!("no column {name}")));
            }
        }
        let fields = stored_fields();
        let fields = fields.filter_map(|field| {
            let column = rows.column_by_name(&column_name(field))?;
            Some((field.name(), column))
        });
        Ok(Self {
            rows,
            fields: fields.collect(),
        })
    }

    fn number<T: ArrowPrimitiveType>(&self, name: &str, at: usize) -> Option<T::Native> {
        let column = self.rows.column_by_name(name)?;
        let column = column.as_primitive_opt::<T>()?;
        column.is_valid(at).then(|| column.value(at))
    }

    fn text(&self, name: &str, at: usize) -> Option<String> {
        let column = self.rows.column_by_name(name)?.as_string_opt::<i32>()?;
        column.is_valid(at).then(|| column.value(at).to_owned())
    }

    fn texts(&self, name: &str, at: usize) -> Vec<String> {
        let list = self.rows.column_by_name(name);
        let list = list.and_then(|column| column.as_list_opt::<i32>());
        let Some(list) = list.filter(|list| list.is_valid(at)) else {
            return Vec::new();
        };
        let values = list.value(at);
        let values = values.as_string_opt::<i32>();
        values
            .into_iter()
            .flat_map(StringArray::iter)
            .map(|text| text.unwrap_or_default().to_owned())
            .collect()
    }

    /// Where a row stands.
    pub(super) fn place(&self, at: usize) -> Place {
        Place {
            time: self
                .number::<TimestampMillisecondType>(TIME, at)
                .unwrap_or_default(),
            source: self.text("source", at).unwrap_or_default(),
            partition: self
                .number::<Int32Type>("partition", at)
                .unwrap_or_default(),
            offset: self.number::<UInt64Type>("offset", at).unwrap_or_default(),
        }
    }

    /// What a row says.
    pub(super) fn event(&self, at: usize) -> Event {
        let Place {
            time,
            source,
            partition,
            offset,
        } = self.place(at);
        let mut actions = self.texts("rule_actions", at).into_iter();
        let rules = self.texts("rules", at).into_iter().map(|title| Rule {
            title,
            action: actions.next().unwrap_or_default(),
        });
        let mut sides = self.texts("violation_sides", at).into_iter();
        let mut locations = self.texts("violation_locations", at).into_iter();
        let mut details = self.texts("violation_details", at).into_iter();
        let targets = self.texts("gatewatch_schema_violations_targets", at);
        let mut targets = targets.into_iter();
        let classes = self.texts("gatewatch_schema_violations_classes", at);
        let violations = classes.into_iter().map(|class| Violation {
            direction: sides.next().unwrap_or_default(),
            location: locations.next().unwrap_or_default(),
            class,
            target: targets.next().unwrap_or_default(),
            detail: details.next(),
        });
        let fields = self.fields.iter();
        let fields = fields.filter_map(|(name, column)| {
            let value = value(column.as_ref(), at)?;
            Some(((*name).to_owned(), value))
        });
        Event {
            time: EventTime::clamped(time).to_string(),
            position: Position {
                source,
                partition,
                offset,
            },
            id: self.text("request_id", at),
            operation_id: self.text("operation_id", at),
            kept_for: self.texts("kept_for", at),
            rules: rules.collect(),
            violations: violations.collect(),
            session: self.text("session_id", at),
            token: self.text("token_id", at),
            fields: fields.collect(),
        }
    }
}

/// A value as JSON; `None` when it is not known.
fn value(column: &dyn Array, at: usize) -> Option<Value> {
    if column.is_null(at) {
        return None;
    }
    if let Some(texts) = column.as_string_opt::<i32>() {
        return Some(Value::from(texts.value(at)));
    }
    if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
        return Some(Value::from(numbers.value(at)));
    }
    if let Some(flags) = column.as_boolean_opt() {
        return Some(Value::from(flags.value(at)));
    }
    if let Some(list) = column.as_list_opt::<i32>() {
        let items = list.value(at);
        let items = (0..items.len()).map(|at| value(items.as_ref(), at).unwrap_or_default());
        return Some(items.collect());
    }
    let entries = column.as_map_opt()?.value(at);
    let (keys, values) = (entries.column(0), entries.column(1));
    let keys = keys.as_string_opt::<i32>()?;
    let members = (0..entries.len()).map(|at| {
        let value = value(values.as_ref(), at).unwrap_or_default();
        (keys.value(at).to_owned(), value)
    });
    Some(Value::Object(members.collect()))
}
