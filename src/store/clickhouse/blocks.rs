//! The rows of one flush → blocks as they go over the wire.
//!
//! Enters: one batch per table. Leaves: blocks of one table partition each, with the deduplication token and a body that
//! is serialised once, so that every retry sends the same bytes. The cuts follow from the rows alone: a process that
//! repeats the flush cuts it the same way and meets the tokens of the first one.

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
    pub(super) rows: RecordBatch,
    pub(super) stored_at: i64,
}

impl Block {
    /// The rows as they go over the wire: an Arrow stream of one batch. Made when it is this block's turn, so that a flush
    /// is never in memory twice.
    pub(super) fn body(&self, table: &Table) -> Result<Bytes, ArrowError> {
        body(&wire(table, &self.rows, self.stored_at)?)
    }
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

/// Cuts the rows of one table by their time, the column of that name.
pub(super) fn cut(
    table: &str,
    time: &str,
    pipeline: &str,
    range: &FlushRange,
    sums: &RecordBatch,
    stored_at: i64,
) -> Result<Vec<Block>, ArrowError> {
    let whole = token(pipeline, table, range);
    cut_by(BLOCK_ROWS, &whole, time, sums, stored_at)
}

fn cut_by(
    most: usize,
    whole: &str,
    time: &str,
    sums: &RecordBatch,
    stored_at: i64,
) -> Result<Vec<Block>, ArrowError> {
    let times = sums
        .column_by_name(time)
        .and_then(|column| column.as_primitive_opt::<TimestampMillisecondType>())
        .ok_or_else(|| ArrowError::SchemaError(format!("{whole} has no {time}")))?;
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
                rows: part,
                stored_at,
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
                Merge::Sketch | Merge::Samples => Arc::clone(values),
                Merge::Sample => cast(values, &DataType::Utf8)?,
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

#[cfg(test)]
mod tests {
    use arrow::array::{StringArray, UInt64Array};

    use super::*;
    use crate::window::table;

    /// Rows of `identifier_windows` at these times.
    fn rows(times: &[i64]) -> RecordBatch {
        let stamps = TimestampMillisecondArray::from(times.to_vec()).with_timezone("UTC");
        let mut columns = vec![(WINDOW_START, Arc::new(stamps) as ArrayRef)];
        let table = table("identifier_windows").unwrap();
        for key in table.keys {
            let texts = StringArray::from_iter_values(times.iter().map(|_| "x"));
            columns.push((key, Arc::new(texts)));
        }
        let ones = UInt64Array::from_iter_values(times.iter().map(|_| 1));
        columns.push(("requests", Arc::new(ones)));
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn tokens(most: usize, times: &[i64], drain: bool, stored_at: i64) -> Vec<String> {
        let range = FlushRange {
            topic: "logs".to_owned(),
            partition: 4,
            first: 10,
            last: 25,
            drain,
        };
        let whole = token("shop", "identifier_windows", &range);
        let blocks = cut_by(most, &whole, WINDOW_START, &rows(times), stored_at).unwrap();
        blocks.into_iter().map(|block| block.token).collect()
    }

    #[test]
    fn a_token_names_the_offsets_the_month_and_the_number_of_the_block() {
        let day = 86_400_000;
        let cases: &[(&[i64], bool, &[&str])] = &[
            (&[], false, &[]),
            (
                &[0],
                true,
                &["shop/identifier_windows/logs/4/10-25/drain/197001"],
            ),
            (
                &[0, day, 30 * day, 31 * day, 40 * day],
                false,
                &[
                    "shop/identifier_windows/logs/4/10-25/197001",
                    "shop/identifier_windows/logs/4/10-25/197001/1",
                    "shop/identifier_windows/logs/4/10-25/197002",
                ],
            ),
            // Out of order: one month is still one run of numbers, never the same token twice.
            (
                &[31 * day, 0, 31 * day, day],
                false,
                &[
                    "shop/identifier_windows/logs/4/10-25/197001",
                    "shop/identifier_windows/logs/4/10-25/197002",
                ],
            ),
            (
                &[4_133_980_740_000],
                false,
                &["shop/identifier_windows/logs/4/10-25/210012"],
            ),
        ];
        for (times, drain, expected) in cases {
            assert_eq!(tokens(2, times, *drain, 1), *expected, "{times:?}");
            // The successor's time of arrival differs, its tokens do not.
            assert_eq!(tokens(2, times, *drain, 2), *expected, "{times:?}");
        }
    }

    #[test]
    fn a_body_is_the_same_every_time() {
        let range = FlushRange {
            topic: "logs".to_owned(),
            partition: 4,
            first: 10,
            last: 25,
            drain: false,
        };
        let table = table("identifier_windows").unwrap();
        let rows = rows(&[0, 60_000]);
        let cut = || cut(table.name, WINDOW_START, "shop", &range, &rows, 7).unwrap();
        let (one, other) = (cut(), cut());
        assert_eq!(one[0].body(table).unwrap(), other[0].body(table).unwrap());
    }
}
