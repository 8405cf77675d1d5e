//! Rows as ClickHouse sends them → rows of the types that the SQL of a flush produces, so that nobody behind the stores
//! can tell them apart.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, MapArray, RecordBatch, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, TimeUnit, UInt64Type};
use arrow::error::ArrowError;

use crate::window::{Resolution, Table};

/// The time column of every table of windows.
pub(super) const WINDOW_START: &str = "window_start";

/// Keys that the SQL of a flush joins or encodes; the others are views into what was judged.
const OWNED: &[&str] = &["zone", "host", "method", "endpoint", "session_id"];

/// The type of one key.
fn key_type(key: &str) -> DataType {
    match key {
        "status" => DataType::UInt16,
        owned if OWNED.contains(&owned) => DataType::Utf8,
        _ => DataType::Utf8View,
    }
}

/// The type of a sum: sizes are what the log says, durations are summed as decimals, and the rest counts exchanges, which
/// SQL does in signed numbers.
fn sum_type(measure: &str) -> DataType {
    match measure {
        "request_bytes" | "response_bytes" => DataType::UInt64,
        "duration_us" => DataType::Decimal128(38, 0),
        _ => DataType::Int64,
    }
}

/// The batches of one read in the types of [`Table::merge_sql`]'s result.
pub(super) fn rows(
    table: &Table,
    resolution: Option<Resolution>,
    batches: &[RecordBatch],
) -> Result<Vec<RecordBatch>, ArrowError> {
    let mut fields = Vec::new();
    if resolution.is_some() {
        let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        fields.push(Field::new(WINDOW_START, time, false));
    }
    for key in table.keys {
        fields.push(Field::new(*key, key_type(key), false));
    }
    for (measure, merge) in table.measures {
        let kind = merge.kind().unwrap_or_else(|| sum_type(measure));
        fields.push(Field::new(*measure, kind, true));
    }
    let schema = Arc::new(Schema::new(fields));
    let filled = batches.iter().filter(|batch| batch.num_rows() > 0);
    filled
        .map(|batch| {
            let columns: Result<Vec<ArrayRef>, ArrowError> = schema
                .fields()
                .iter()
                .map(|field| {
                    let values = column(batch, field.name())?;
                    match field.data_type() {
                        DataType::Map(entries, _) => map(values, entries),
                        kind => cast(values, kind),
                    }
                })
                .collect();
            RecordBatch::try_new(Arc::clone(&schema), columns?)
        })
        .collect()
}

/// A map under the names that DataFusion knows; what it holds is the same.
fn map(values: &ArrayRef, entries: &FieldRef) -> Result<ArrayRef, ArrowError> {
    let wrong = |what: &str| ArrowError::SchemaError(what.to_owned());
    let maps = values
        .as_map_opt()
        .ok_or_else(|| wrong("a sketch is not a map"))?;
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(wrong("a map has entries"));
    };
    let columns: Result<Vec<ArrayRef>, ArrowError> = fields
        .iter()
        .zip([maps.keys(), maps.values()])
        .map(|(field, values)| cast(values, field.data_type()))
        .collect();
    let columns = StructArray::try_new(fields.clone(), columns?, None)?;
    let offsets = maps.offsets().clone();
    let maps = MapArray::try_new(Arc::clone(entries), offsets, columns, None, false)?;
    Ok(Arc::new(maps))
}

/// A column by name.
pub(super) fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b ArrayRef, ArrowError> {
    batch
        .column_by_name(name)
        .ok_or_else(|| ArrowError::SchemaError(format!("no column {name}")))
}

/// Whole numbers of a column.
pub(super) fn signed(batch: &RecordBatch, name: &str) -> Result<Vec<i64>, ArrowError> {
    let values = cast(column(batch, name)?, &DataType::Int64)?;
    Ok(values.as_primitive::<Int64Type>().values().to_vec())
}

/// Whole numbers of a column, none of them negative.
pub(super) fn unsigned(batch: &RecordBatch, name: &str) -> Result<Vec<u64>, ArrowError> {
    let values = cast(column(batch, name)?, &DataType::UInt64)?;
    Ok(values.as_primitive::<UInt64Type>().values().to_vec())
}

/// Texts of a column.
pub(super) fn texts(batch: &RecordBatch, name: &str) -> Result<Vec<String>, ArrowError> {
    let values = cast(column(batch, name)?, &DataType::Utf8)?;
    let values = values.as_string::<i32>();
    Ok((0..values.len())
        .map(|row| values.value(row).to_owned())
        .collect())
}
