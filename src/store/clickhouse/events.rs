//! Evidence in ClickHouse: rows as they are, under the tokens of their flush; read back newest first, page by page.
//!
//! A list cannot be null in ClickHouse, and for an expression a list that is not known differs from an empty one. So the
//! names of the lists that are not known travel in a column of their own, [`UNKNOWN`].

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, ListBuilder, MapArray, RecordBatch, StringBuilder,
    StructArray, TimestampMillisecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::connection::{LONG, SHORT};
use super::{ClickHouse, FlushRange, StoreError, blocks, columns, identifier, literal};
use crate::clock::Stopwatch;
use crate::store::{Place, Range};
use crate::window::events::{TABLE, TIME, fit};

/// Names of the list columns that are not known in a row.
pub(super) const UNKNOWN: &str = "unknown_lists";

/// Rows of one page: what a reader has in memory at once.
const PAGE: usize = 4_096;

impl ClickHouse {
    /// Writes the evidence of one flush; the number of its blocks. Repeating it, whole or in part, changes nothing.
    ///
    /// # Errors
    /// Refused, or still unreachable after the deadline. Part of it may be stored then: repeat it.
    pub async fn write_events(
        &self,
        range: &FlushRange,
        rows: Option<&RecordBatch>,
        stored_at: i64,
    ) -> Result<u64, StoreError> {
        let Some(rows) = rows else {
            return Ok(0);
        };
        let watch = Stopwatch::start();
        let shape = |source| self.shape(TABLE, source);
        let cut = blocks::cut(TABLE, TIME, &self.pipeline, range, rows, stored_at);
        let blocks = cut.map_err(shape)?;
        let count = blocks.len() as u64;
        for block in blocks {
            let wired = wire(&block.rows, block.stored_at).map_err(shape)?;
            let schema = wired.schema();
            let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            let sql = self.insert_sql(TABLE, &names);
            let body = blocks::body(&wired).map_err(shape)?;
            self.deliver(TABLE, &sql, &block.token, body, watch).await?;
        }
        Ok(count)
    }

    /// Time of the newest exchange that is kept, epoch milliseconds.
    ///
    /// # Errors
    /// Refused, or still unreachable after the deadline.
    pub async fn newest_event(&self) -> Result<Option<i64>, StoreError> {
        let sql = format!(
            "WITH gatewatch_zone AS zone SELECT toUnixTimestamp64Milli(time) AS newest FROM {} WHERE {} \
             ORDER BY time DESC LIMIT 1",
            self.table(TABLE),
            self.zones.as_deref().unwrap_or("1"),
        );
        for batch in self.query("the newest event", SHORT, &sql).await? {
            let newest = columns::signed(&batch, "newest");
            let newest = newest.map_err(|source| self.shape(TABLE, source))?;
            if let Some(newest) = newest.first() {
                return Ok(Some(*newest));
            }
        }
        Ok(None)
    }

    /// The next exchanges that are kept within `range` (epoch milliseconds), newest first, after `last`; no more than a page,
    /// none when there are no more. `wanted` are columns of the table, those of [`Place`] among them.
    ///
    /// # Errors
    /// Refused, or still unreachable after the deadline.
    pub async fn events(
        &self,
        range: Range,
        wanted: &SchemaRef,
        last: Option<&Place>,
    ) -> Result<Vec<RecordBatch>, StoreError> {
        let lists = wanted.fields().iter().any(|column| is_unknowable(column));
        let names = wanted.fields().iter().map(|column| column.name().as_str());
        let names: Vec<String> = names
            .chain(lists.then_some(UNKNOWN))
            .map(identifier)
            .collect();
        let sql = format!(
            "WITH gatewatch_zone AS zone SELECT {} FROM {} WHERE {} AND {} AND {} \
             ORDER BY time DESC, source DESC, `partition` DESC, offset DESC LIMIT {PAGE}",
            names.join(", "),
            self.table(TABLE),
            within(range),
            last.map_or("1".to_owned(), before),
            self.zones.as_deref().unwrap_or("1"),
        );
        let batches = self.query(TABLE, LONG, &sql).await?;
        let filled = batches.iter().filter(|batch| batch.num_rows() > 0);
        filled
            .map(|batch| unwire(batch, wanted))
            .collect::<Result<_, _>>()
            .map_err(|source| self.shape(TABLE, source))
    }
}

/// Whether a list that is not known has to be told from an empty one.
fn is_unknowable(column: &Field) -> bool {
    column.is_nullable() && matches!(column.data_type(), DataType::List(_))
}

/// Greatest time that the column holds: 2299. Times outside 1970 to then are no event's.
const LAST: i64 = 10_413_791_999_999;

fn stamp(millis: i64) -> String {
    let millis = millis.clamp(0, LAST);
    format!("fromUnixTimestamp64Milli(toInt64({millis}), 'UTC')")
}

fn within(range: Range) -> String {
    if range == Range::ALL {
        return "1".to_owned();
    }
    format!(
        "time >= {} AND time < {}",
        stamp(range.from),
        stamp(range.to)
    )
}

fn before(place: &Place) -> String {
    let Place {
        time,
        source,
        partition,
        offset,
    } = place;
    format!(
        // The first half lets the primary key skip what is newer.
        "time <= {} AND (time, source, `partition`, offset) < ({}, {}, {partition}, {offset})",
        stamp(*time),
        stamp(*time),
        literal(source),
    )
}

/// The rows as ClickHouse takes them, with the time of arrival.
fn wire(rows: &RecordBatch, stored_at: i64) -> Result<RecordBatch, ArrowError> {
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    let mut add = |name: &str, column: ArrayRef, null: bool| {
        fields.push(Field::new(name, column.data_type().clone(), null));
        columns.push(column);
    };
    let mut lists: Vec<(&str, &ArrayRef)> = Vec::new();
    let schema = rows.schema_ref();
    for (field, column) in schema.fields().iter().zip(rows.columns()) {
        match field.data_type() {
            DataType::List(_) => {
                if is_unknowable(field) {
                    lists.push((field.name(), column));
                }
                add(field.name(), filled_list(column)?, false);
            }
            DataType::Map(_, _) => add(field.name(), filled_map(column)?, false),
            _ => add(field.name(), Arc::clone(column), field.is_nullable()),
        }
    }
    let mut unknown = ListBuilder::new(StringBuilder::new());
    for row in 0..rows.num_rows() {
        for (name, _) in lists.iter().filter(|(_, column)| column.is_null(row)) {
            unknown.values().append_value(name);
        }
        unknown.append(true);
    }
    let unknown: ArrayRef = Arc::new(unknown.finish());
    add(UNKNOWN, filled_list(&unknown)?, false);
    let arrival = TimestampMillisecondArray::from_value(stored_at, rows.num_rows());
    add("stored_at", Arc::new(arrival.with_timezone("UTC")), false);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// A list without nulls: what was null is empty.
fn filled_list(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let list = column
        .as_list_opt::<i32>()
        .ok_or_else(|| ArrowError::SchemaError("a list is none".to_owned()))?;
    let item = Arc::new(Field::new_list_field(list.value_type(), false));
    let values = Arc::clone(list.values());
    let filled = ListArray::try_new(item, list.offsets().clone(), values, None)?;
    Ok(Arc::new(filled))
}

/// A map without nulls, neither in itself nor in what it holds.
fn filled_map(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let map = column
        .as_map_opt()
        .ok_or_else(|| ArrowError::SchemaError("a map is none".to_owned()))?;
    let values = match map.value_type() {
        DataType::List(_) => filled_list(map.values())?,
        _ => Arc::clone(map.values()),
    };
    let entries = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", values.data_type().clone(), false),
    ]);
    let keys = Arc::clone(map.keys());
    let entries = StructArray::try_new(entries, vec![keys, values], None)?;
    let field = Field::new("entries", entries.data_type().clone(), false);
    let offsets = map.offsets().clone();
    let filled = MapArray::try_new(Arc::new(field), offsets, entries, None, false)?;
    Ok(Arc::new(filled))
}

/// Rows as ClickHouse sends them → rows as they were written.
fn unwire(rows: &RecordBatch, wanted: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let fitted = fit(rows, wanted)?;
    let unknown = match rows.column_by_name(UNKNOWN) {
        Some(column) => names_in(column)?,
        None => return Ok(fitted),
    };
    let column = |(field, column): (&Arc<Field>, &ArrayRef)| -> Result<ArrayRef, ArrowError> {
        let known = || {
            let names = unknown.iter();
            names.map(|names| !names.contains(field.name().as_str()))
        };
        match field.data_type() {
            DataType::List(item) if is_unknowable(field) && known().any(|known| !known) => {
                let list = column.as_list::<i32>();
                let nulls: NullBuffer = known().collect();
                let (offsets, values) = (list.offsets().clone(), Arc::clone(list.values()));
                let list = ListArray::try_new(Arc::clone(item), offsets, values, Some(nulls))?;
                Ok(Arc::new(list))
            }
            // No map is stored that is known and empty.
            DataType::Map(entries, ordered) if field.is_nullable() => {
                let map = column.as_map();
                let filled = map
                    .offsets()
                    .windows(2)
                    .map(|ends| ends.first() != ends.last());
                let nulls: NullBuffer = filled.collect();
                let map = MapArray::try_new(
                    Arc::clone(entries),
                    map.offsets().clone(),
                    map.entries().clone(),
                    Some(nulls),
                    *ordered,
                )?;
                Ok(Arc::new(map))
            }
            _ => Ok(Arc::clone(column)),
        }
    };
    let columns = wanted.fields().iter().zip(fitted.columns());
    let columns = columns.map(column).collect::<Result<_, ArrowError>>()?;
    RecordBatch::try_new(Arc::clone(wanted), columns)
}

/// The names in each row of a list.
fn names_in(column: &ArrayRef) -> Result<Vec<HashSet<String>>, ArrowError> {
    let kind = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    let lists = arrow::compute::cast(column, &kind)?;
    let lists = lists.as_list::<i32>();
    let names = (0..lists.len()).map(|row| {
        let names = lists.value(row);
        let names = names.as_string::<i32>();
        names.iter().flatten().map(str::to_owned).collect()
    });
    Ok(names.collect())
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Builder, MapBuilder, StringArray};

    use super::*;
    use crate::window::events::schema;

    /// Two rows: lists and maps with something in them, and such that are not known.
    fn rows() -> RecordBatch {
        let times = TimestampMillisecondArray::from(vec![5, 6]).with_timezone("UTC");
        let mut names = ListBuilder::new(StringBuilder::new());
        names.values().append_value("a");
        names.append(true);
        names.append(false);
        let mut empty = ListBuilder::new(StringBuilder::new());
        empty.append(true);
        empty.append(false);
        let mut starts = MapBuilder::new(
            None,
            StringBuilder::new(),
            ListBuilder::new(Int64Builder::new()),
        );
        starts.append(false).unwrap();
        starts.entries().0.append_value("shop");
        starts.entries().1.values().append_value(7);
        starts.entries().1.append(true);
        starts.append(true).unwrap();
        RecordBatch::try_from_iter_with_nullable([
            (TIME, Arc::new(times) as ArrayRef, false),
            (
                "http_host",
                Arc::new(StringArray::from(vec![Some("h"), None])),
                true,
            ),
            (
                "http_request_headers_names",
                Arc::new(names.finish()) as ArrayRef,
                true,
            ),
            (
                "http_request_cookies_names",
                Arc::new(empty.finish()) as ArrayRef,
                true,
            ),
            (
                "http_request_jwt_claims_nbf_sec",
                Arc::new(starts.finish()),
                true,
            ),
        ])
        .unwrap()
    }

    #[test]
    fn what_is_not_known_comes_back_as_such() {
        let rows = rows();
        let sent = wire(&rows, 9).unwrap();
        let nullable = sent.schema();
        let nullable = nullable.fields().iter().filter(|field| field.is_nullable());
        let nullable: Vec<_> = nullable.map(|field| field.name().as_str()).collect();
        assert_eq!(nullable, ["http_host"]);
        let all = schema();
        let columns = rows.schema();
        let columns = columns.fields().iter();
        let columns: Vec<Field> = columns
            .map(|column| all.field_with_name(column.name()).unwrap().clone())
            .collect();
        let back = unwire(&sent, &Arc::new(Schema::new(columns))).unwrap();
        assert_eq!(back, rows);
    }

    #[test]
    fn ranges_and_places_are_conditions() {
        assert_eq!(within(Range::ALL), "1");
        let range = Range {
            from: -1,
            to: i64::MAX,
        };
        assert_eq!(
            within(range),
            "time >= fromUnixTimestamp64Milli(toInt64(0), 'UTC') AND \
             time < fromUnixTimestamp64Milli(toInt64(10413791999999), 'UTC')"
        );
        let place = Place {
            time: 7,
            source: "it's".to_owned(),
            partition: 3,
            offset: 9,
        };
        assert!(before(&place).ends_with(", 'it\\'s', 3, 9)"));
    }
}
