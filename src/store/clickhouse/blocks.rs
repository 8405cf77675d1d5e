//! The sums of one flush → blocks as they go over the wire.
//!
//! Enters: one batch per table. Leaves: blocks of one table partition each, with the deduplication token and the
//! serialised body, so that every retry sends the same bytes. The cuts follow from the rows alone: a process that repeats
//! the flush cuts it the same way and meets the tokens of the first one.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMillisecondArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampMillisecondType};
use arrow::error::ArrowError;
use arrow_ipc::writer::StreamWriter;
use bytes::Bytes;

use super::FlushRange;
use super::columns::WINDOW_START;
use crate::window::{Merge, Table};

/// Rows of one block (design section 6); ClickHouse advises 10,000 to 100,000.
pub(super) const BLOCK_ROWS: usize = 100_000;

/// One insert.
pub(super) struct Block {
    /// The deduplication token.
    pub(super) token: String,
    /// An Arrow stream of one batch.
    pub(super) body: Bytes,
}

/// The token of everything that this flush writes into `table`.
pub(super) fn token(pipeline: &str, table: &str, range: &FlushRange) -> String {
    let FlushRange {
        topic,
        partition,
        first,
        last,
        ..
    } = range;
    let drain = if range.drain { "/drain" } else { "" };
    format!("{pipeline}/{table}/{topic}/{partition}/{first}-{last}{drain}")
}

/// Cuts the rows of one table.
pub(super) fn cut(
    table: &Table,
    pipeline: &str,
    range: &FlushRange,
    sums: &RecordBatch,
    stored_at: i64,
) -> Result<Vec<Block>, ArrowError> {
    cut_by(BLOCK_ROWS, table, pipeline, range, sums, stored_at)
}

fn cut_by(
    most: usize,
    table: &Table,
    pipeline: &str,
    range: &FlushRange,
    sums: &RecordBatch,
    stored_at: i64,
) -> Result<Vec<Block>, ArrowError> {
    let whole = token(pipeline, table.name, range);
    let times = sums
        .column_by_name(WINDOW_START)
        .ok_or_else(|| ArrowError::SchemaError(format!("{} has no {WINDOW_START}", table.name)))?;
    let millis = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let times = cast(times, &millis)?;
    let times = times.as_primitive::<TimestampMillisecondType>();
    // Rows come ordered by time, so a month is one run; if one ever had two, joining them keeps its tokens apart.
    let mut months: BTreeMap<i32, Vec<RecordBatch>> = BTreeMap::new();
    let mut start = 0;
    while start < times.len() {
        let month = month(times.value(start));
        let end = (start..times.len())
            .find(|row| self::month(times.value(*row)) != month)
            .unwrap_or(times.len());
        months
            .entry(month)
            .or_default()
            .push(sums.slice(start, end - start));
        start = end;
    }
    let mut blocks = Vec::new();
    for (month, runs) in months {
        let rows = match runs.as_slice() {
            [run] => run.clone(),
            runs => concat_batches(&sums.schema(), runs)?,
        };
        for (number, start) in (0..rows.num_rows()).step_by(most).enumerate() {
            let part = rows.slice(start, most.min(rows.num_rows() - start));
            let number = if number == 0 {
                String::new()
            } else {
                format!("/{number}")
            };
            blocks.push(Block {
                token: format!("{whole}/{month}{number}"),
                body: body(&wire(table, &part, stored_at)?)?,
            });
        }
    }
    Ok(blocks)
}

/// The table partition of a time in epoch milliseconds: `toYYYYMM` in UTC.
fn month(millis: i64) -> i32 {
    let Ok(stamp) = jiff::Timestamp::from_millisecond(millis) else {
        return 0;
    };
    let date = jiff::tz::Offset::UTC.to_datetime(stamp).date();
    i32::from(date.year()) * 100 + i32::from(date.month())
}

/// The columns as ClickHouse takes them, with the time of arrival.
fn wire(table: &Table, rows: &RecordBatch, stored_at: i64) -> Result<RecordBatch, ArrowError> {
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    let mut add = |name: &str, column: ArrayRef| {
        fields.push(Field::new(name, column.data_type().clone(), false));
        columns.push(column);
    };
    let column = |name: &str| {
        rows.column_by_name(name)
            .ok_or_else(|| ArrowError::SchemaError(format!("{} has no {name}", table.name)))
    };
    let seconds = DataType::Timestamp(TimeUnit::Second, Some("UTC".into()));
    add(WINDOW_START, cast(column(WINDOW_START)?, &seconds)?);
    for key in table.keys {
        let values = column(key)?;
        let kind = match values.data_type() {
            number if number.is_integer() => number.clone(),
            _ => DataType::Utf8,
        };
        add(key, cast(values, &kind)?);
    }
    for (measure, merge) in table.measures {
        let values = column(measure)?;
        add(
            measure,
            match merge {
                Merge::Sum => cast(values, &DataType::UInt64)?,
                Merge::Sketch => Arc::clone(values),
            },
        );
    }
    let arrival = TimestampMillisecondArray::from_value(stored_at, rows.num_rows());
    add("stored_at", Arc::new(arrival.with_timezone("UTC")));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// An Arrow stream of one batch.
pub(super) fn body(rows: &RecordBatch) -> Result<Bytes, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
    writer.write(rows)?;
    Ok(writer.into_inner()?.into())
}
