//! Stored evidence: the facts of exchanges as Arrow columns, one per field that may be stored.
//!
//! Enters: the facts of judged exchanges. Leaves: record batches whose columns are named after the fields
//! (`http.request.uri.path` is `http_request_uri_path`); a fact that is missing or was not captured is null. What may
//! hold a credential, a session value or a body has no column, whatever an operator asks for; of header fields only those
//! of [`STORED_HEADERS`] have values; and credentials that stand where none belongs are [struck out](withheld). Which
//! exchanges are kept, and what is said of them besides, is in [`kept`]. Writing the batches somewhere is not here.

pub mod kept;
pub mod withheld;

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Int64Builder, ListBuilder, MapBuilder, RecordBatch, StringBuilder,
};
use arrow::datatypes::{Field as Column, Schema, SchemaRef};
use arrow::error::ArrowError;

use self::withheld::Withheld;
use super::rules::{Fact, Facts, Source};
use crate::policy::rules::fields::{FIELDS, Field, STORED_HEADERS, Stored};
use crate::policy::rules::types::{Scalar, Shape, Type, Value};

/// Whether a field has a column.
#[must_use]
pub fn has_column(field: Field) -> bool {
    matches!(
        field.definition().stored,
        Stored::Column | Stored::SomeHeaders
    )
}

/// The column of a field.
#[must_use]
pub fn column_name(field: Field) -> String {
    field.name().replace('.', "_")
}

/// Fields with a column, in the order of the columns.
pub fn stored_fields() -> impl Iterator<Item = Field> {
    FIELDS
        .iter()
        .map(|(field, _)| *field)
        .filter(|field| has_column(*field))
}

/// The columns.
#[must_use]
pub fn schema() -> SchemaRef {
    let column = |field: Field| {
        let empty = Builder::new(field.kind()).finish();
        Column::new(column_name(field), empty.data_type().clone(), true)
    };
    Arc::new(Schema::new(stored_fields().map(column).collect::<Vec<_>>()))
}

type Texts = ListBuilder<StringBuilder>;
type Ints = ListBuilder<Int64Builder>;

/// Makes one column. Addresses are stored as text, in the one form that an address has (RFC 5952).
#[derive(Debug)]
enum Builder {
    Bool(BooleanBuilder),
    Int(Int64Builder),
    Text(StringBuilder),
    Texts(Texts),
    Map(MapBuilder<StringBuilder, StringBuilder>),
    MapOfTexts(MapBuilder<StringBuilder, Texts>),
    MapOfInts(MapBuilder<StringBuilder, Ints>),
}

impl Builder {
    fn new(kind: Type) -> Self {
        let names = StringBuilder::new;
        match (kind.shape, kind.of) {
            (Shape::One, Scalar::Bool) => Self::Bool(BooleanBuilder::new()),
            (Shape::One, Scalar::Int) => Self::Int(Int64Builder::new()),
            (Shape::One, _) => Self::Text(StringBuilder::new()),
            // No stored field is a list of anything but texts.
            (Shape::Array, _) => Self::Texts(Texts::new(StringBuilder::new())),
            (Shape::Map, _) => Self::Map(MapBuilder::new(None, names(), StringBuilder::new())),
            (Shape::MapOfArrays, Scalar::Int) => Self::MapOfInts(MapBuilder::new(
                None,
                names(),
                Ints::new(Int64Builder::new()),
            )),
            (Shape::MapOfArrays, _) => Self::MapOfTexts(MapBuilder::new(
                None,
                names(),
                Texts::new(StringBuilder::new()),
            )),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::Int(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Texts(builder) => Arc::new(builder.finish()),
            Self::Map(builder) => Arc::new(builder.finish()),
            Self::MapOfTexts(builder) => Arc::new(builder.finish()),
            Self::MapOfInts(builder) => Arc::new(builder.finish()),
        }
    }

    fn append_null(&mut self) -> Result<(), ArrowError> {
        match self {
            Self::Bool(builder) => builder.append_null(),
            Self::Int(builder) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Texts(builder) => builder.append(false),
            Self::Map(builder) => builder.append(false)?,
            Self::MapOfTexts(builder) => builder.append(false)?,
            Self::MapOfInts(builder) => builder.append(false)?,
        }
        Ok(())
    }

    /// Bytes of text since the last batch.
    fn bytes(&mut self) -> usize {
        match self {
            Self::Bool(_) | Self::Int(_) | Self::MapOfInts(_) => 0,
            Self::Text(builder) => builder.values_slice().len(),
            Self::Texts(builder) => builder.values().values_slice().len(),
            Self::Map(builder) => builder.entries().1.values_slice().len(),
            Self::MapOfTexts(builder) => builder.entries().1.values().values_slice().len(),
        }
    }

    fn append(
        &mut self,
        field: Field,
        facts: &Facts<'_>,
        withheld: &Withheld<'_>,
    ) -> Result<(), ArrowError> {
        let push = |builder: &mut StringBuilder, value: &Value<'_>| push(builder, value, withheld);
        match self {
            Self::Bool(builder) => builder.append_option(match facts.value(field) {
                Fact::Known(Value::Bool(value)) => Some(value),
                _ => None,
            }),
            Self::Int(builder) => builder.append_option(match facts.value(field) {
                Fact::Known(Value::Int(value)) => Some(value),
                _ => None,
            }),
            Self::Text(builder) => match facts.value(field) {
                Fact::Known(value) => push(builder, &value),
                _ => builder.append_null(),
            },
            Self::Texts(builder) => {
                let there = facts.each(field, None, &mut |value| {
                    push(builder.values(), &value);
                    true
                });
                builder.append(is_there(there));
            }
            Self::Map(builder) => {
                let mut any = false;
                for key in keys(field, facts) {
                    let (names, values) = builder.entries();
                    facts.each(field, Some(key), &mut |value| {
                        any = true;
                        names.append_value(key);
                        push(values, &value);
                        false
                    });
                }
                builder.append(any)?;
            }
            Self::MapOfTexts(builder) => {
                let any = lists(field, facts, builder, push);
                builder.append(any)?;
            }
            Self::MapOfInts(builder) => {
                let any = lists(field, facts, builder, |values, value| {
                    if let Value::Int(value) = value {
                        values.append_value(*value);
                    }
                });
                builder.append(any)?;
            }
        }
        Ok(())
    }
}

fn is_there(fact: Fact<()>) -> bool {
    matches!(fact, Fact::Known(()) | Fact::Partly(()))
}

/// Appends the lists of all keys; whether there was one.
fn lists<V: arrow::array::ArrayBuilder>(
    field: Field,
    facts: &Facts<'_>,
    builder: &mut MapBuilder<StringBuilder, ListBuilder<V>>,
    append: impl Fn(&mut V, &Value<'_>),
) -> bool {
    let mut any = false;
    for key in keys(field, facts) {
        let (names, values) = builder.entries();
        let there = facts.each(field, Some(key), &mut |value| {
            append(values.values(), &value);
            true
        });
        if is_there(there) {
            any = true;
            names.append_value(key);
            values.append(true);
        }
    }
    any
}

/// The keys that are stored of a map.
fn keys<'a>(field: Field, facts: &'a Facts<'_>) -> Vec<&'a str> {
    if field.keyed_by_configuration() {
        facts.configurations().collect()
    } else {
        STORED_HEADERS.to_vec()
    }
}

/// Appends a text without its credentials. Everything that is stored was text in the log.
fn push(builder: &mut StringBuilder, value: &Value<'_>, withheld: &Withheld<'_>) {
    match value {
        Value::Bytes(text) => {
            let text: Cow<'_, str> = String::from_utf8_lossy(text);
            builder.append_value(withheld.strike(text));
        }
        Value::Ip(ip) => builder.append_value(ip.to_string()),
        Value::Int(_) | Value::Bool(_) => builder.append_null(),
    }
}

/// Exchanges that are kept as evidence, until a batch is cut.
#[derive(Debug)]
pub struct Evidence {
    schema: SchemaRef,
    columns: Vec<(Field, Builder)>,
    rows: usize,
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            schema: schema(),
            columns: stored_fields()
                .map(|field| (field, Builder::new(field.kind())))
                .collect(),
            rows: 0,
        }
    }
}

impl Evidence {
    /// Exchanges since the last batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes of text since the last batch.
    #[must_use]
    pub fn bytes(&mut self) -> usize {
        self.columns
            .iter_mut()
            .map(|(_, builder)| builder.bytes())
            .sum()
    }

    /// Appends one exchange.
    ///
    /// # Errors
    /// Only when Arrow refuses our own columns, which is a bug.
    pub fn append(&mut self, facts: &Facts<'_>, withheld: &Withheld<'_>) -> Result<(), ArrowError> {
        for (field, builder) in &mut self.columns {
            if withheld.covers(*field) {
                builder.append_null()?;
            } else {
                builder.append(*field, facts, withheld)?;
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// Everything since the last batch.
    ///
    /// # Errors
    /// Only when Arrow refuses our own columns, which is a bug.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let columns = self.columns.iter_mut().map(|(_, builder)| builder.finish());
        self.rows = 0;
        RecordBatch::try_new(Arc::clone(&self.schema), columns.collect())
    }
}
