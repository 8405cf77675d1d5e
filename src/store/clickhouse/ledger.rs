//! The ledger and the detections: what is done, and what was judged.
//!
//! Both are written under tokens like the sums, so repeating a write changes nothing and the first writer of a tick wins.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListBuilder, RecordBatch,
    StringArray, TimestampMillisecondArray, TimestampSecondBuilder, UInt64Array, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Int64Type, TimeUnit, UInt64Type};
use arrow::error::ArrowError;

use super::columns::{column, signed, texts, unsigned};
use super::connection::{LONG, SHORT};
use super::{ClickHouse, Detections, FlushRange, LedgerRow, StoreError, blocks, literal};
use crate::clock::Stopwatch;

/// Columns of the ledger as plain numbers and texts. None of them has the name of a column that conditions are about: the
/// condition would mean the expression then, and no key finds it.
const LEDGER: &str = "toString(topic) AS topic_name, `partition`, first, last, toUInt64(drain) AS drained, resume_from, \
     resume_clock, stream_clock, closed, arrayMap(minute -> toInt64(toUnixTimestamp(minute)) * 1000, minutes) AS minutes, \
     toUInt64(all_minutes) AS every_minute, records, exchanges, rejected, blocks, \
     toUnixTimestamp64Milli(stored_at) AS stored";

impl ClickHouse {
    /// Writes one row of the ledger: from here on the flush is done.
    ///
    /// # Errors
    /// Refused, or still unreachable after the deadline.
    pub async fn record(&self, row: &LedgerRow) -> Result<(), StoreError> {
        let token = blocks::token(&self.pipeline, "flushes", &row.range);
        let rows =
            ledger_batch(&self.pipeline, row).map_err(|source| self.shape("flushes", source))?;
        self.deliver_rows("flushes", &token, &rows).await
    }

    /// The newest row of a partition: the greatest end, and of two with the same end the drain.
    ///
    /// # Errors
    /// Refused, or still unreachable after the deadline.
    pub async fn ledger(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Option<LedgerRow>, StoreError> {
        let condition = format!(
            "pipeline = {} AND topic = {} AND `partition` = {partition}",
            literal(&self.pipeline),
            literal(topic),
        );
        let order = "ORDER BY last DESC, drained DESC, stored DESC LIMIT 1";
        // The second table is fed by the first and outlives it.
        let sql = format!(
            "SELECT * FROM (SELECT {LEDGER} FROM {flushes} WHERE {condition} {order} \
             UNION ALL SELECT {LEDGER} FROM {positions} WHERE {condition} {order}) {order}",
            flushes = self.table("flushes"),
            positions = self.table("positions"),
        );
        Ok(self.ledger_rows(&sql).await?.pop())
    }

    /// The row of exactly this flush, if it is done.
    ///
    /// # Errors
    /// Refused, or still unreachable after the deadline.
    pub async fn recorded(&self, range: &FlushRange) -> Result<Option<LedgerRow>, StoreError> {
        let sql = format!(
            "SELECT {LEDGER} FROM {} WHERE pipeline = {} AND topic = {} AND `partition` = {} \
             AND first = {} AND last = {} AND drain = {} ORDER BY stored LIMIT 1",
            self.table("flushes"),
            literal(&self.pipeline),
            literal(&range.topic),
            range.partition,
            range.first,
            range.last,
            range.drain,
        );
        Ok(self.ledger_rows(&sql).await?.pop())
    }

    /// Rows of all partitions of this pipeline that were stored at or after `stored_at` (epoch milliseconds), by that
    /// time.
    ///
    /// # Errors
    /// Refused, or still unreachable after the deadline.
    pub async fn recorded_since(&self, stored_at: i64) -> Result<Vec<LedgerRow>, StoreError> {
        let sql = format!(
            "SELECT {LEDGER} FROM {} WHERE pipeline = {} AND stored_at >= {} \
             ORDER BY stored, topic_name, `partition`, last, drained",
            self.table("flushes"),
            literal(&self.pipeline),
            time(stored_at),
        );
        self.ledger_rows(&sql).await
    }

    /// The most blocks that were written to one table at or after `stored_at` (epoch milliseconds), by every pipeline
    /// that shares the tables. Further back than the ledger reaches, it is more than any table remembers.
    ///
    /// # Errors
    /// Refused, or still unreachable after the deadline.
    pub async fn blocks_since(&self, stored_at: i64) -> Result<u64, StoreError> {
        // A flush without rows is still a block of the ledger.
        let sql = format!(
            "SELECT sum(greatest(blocks, 1)) AS written, \
             toUInt64({since} < now64(3, 'UTC') - toIntervalSecond({kept})) AS forgotten \
             FROM {flushes} WHERE stored_at >= {since}",
            since = time(stored_at),
            kept = self.kept_ledger,
            flushes = self.table("flushes"),
        );
        let mut most = 0;
        for batch in self.query("the ledger", SHORT, &sql).await? {
            let shape = |source| self.shape("flushes", source);
            let written = unsigned(&batch, "written").map_err(shape)?;
            let forgotten = unsigned(&batch, "forgotten").map_err(shape)?;
            if forgotten.contains(&1) {
                return Ok(u64::MAX);
            }
            most = written.into_iter().fold(most, u64::max);
        }
        Ok(most)
    }

    /// Writes what holds after a tick and what follows from it, once per tick and `term` of an evaluator. An evaluator
    /// that was replaced may still write its own row of a tick; whose row counts, the evaluators know by their terms.
    ///
    /// # Errors
    /// Refused, or still unreachable after the deadline.
    pub async fn write_detections(
        &self,
        tick: i64,
        term: u64,
        state: &str,
        changes: &str,
    ) -> Result<(), StoreError> {
        let token = format!("{}/detections/{term}/{tick}", self.pipeline);
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
        let columns = [
            ("pipeline", text(&self.pipeline)),
            ("tick", Arc::new(Int64Array::from(vec![tick]))),
            ("term", Arc::new(UInt64Array::from(vec![term]))),
            ("state", text(state)),
            ("changes", text(changes)),
        ];
        let rows = RecordBatch::try_from_iter(columns)
            .map_err(|source| self.shape("detections", source))?;
        self.deliver_rows("detections", &token, &rows).await
    }

    /// Detections of ticks after `tick`, or of all that are kept, by tick; one tick has a row for every term that wrote it.
    ///
    /// # Errors
    /// Refused, or still unreachable after the deadline.
    pub async fn detections_after(&self, tick: Option<i64>) -> Result<Vec<Detections>, StoreError> {
        let after = tick.map_or(String::new(), |tick| format!("AND tick > {tick}"));
        let sql = format!(
            "SELECT tick, state, changes FROM {} WHERE pipeline = {} {after} ORDER BY tick, stored_at",
            self.table("detections"),
            literal(&self.pipeline),
        );
        self.detections(&sql).await
    }

    /// Detections of the newest tick, whatever its age; of several terms, those of the latest.
    ///
    /// # Errors
    /// Refused, or still unreachable after the deadline.
    pub async fn newest_detections(&self) -> Result<Option<Detections>, StoreError> {
        let condition = format!("WHERE pipeline = {}", literal(&self.pipeline));
        let order = "ORDER BY tick DESC, term DESC LIMIT 1";
        let columns = "tick, term, state, changes";
        let sql = format!(
            "SELECT tick, state, changes FROM (SELECT {columns} FROM {detections} {condition} {order} \
             UNION ALL SELECT {columns} FROM {newest} {condition} {order}) {order}",
            detections = self.table("detections"),
            newest = self.table("newest_detections"),
        );
        Ok(self.detections(&sql).await?.pop())
    }

    async fn deliver_rows(
        &self,
        table: &str,
        token: &str,
        rows: &RecordBatch,
    ) -> Result<(), StoreError> {
        let body = blocks::body(rows).map_err(|source| self.shape(table, source))?;
        let names: Vec<&str> = rows
            .schema_ref()
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        let sql = self.insert_sql(table, &names);
        self.deliver(table, &sql, token, body, Stopwatch::start())
            .await
    }

    async fn ledger_rows(&self, sql: &str) -> Result<Vec<LedgerRow>, StoreError> {
        let mut rows = Vec::new();
        for batch in self.query("the ledger", LONG, sql).await? {
            rows.extend(read_ledger(&batch).map_err(|source| self.shape("flushes", source))?);
        }
        Ok(rows)
    }

    async fn detections(&self, sql: &str) -> Result<Vec<Detections>, StoreError> {
        let mut rows = Vec::new();
        for batch in self.query("detections", LONG, sql).await? {
            rows.extend(
                read_detections(&batch).map_err(|source| self.shape("detections", source))?,
            );
        }
        Ok(rows)
    }
}

/// A time in ClickHouse's words, from epoch milliseconds.
fn time(millis: i64) -> String {
    format!(
        "fromUnixTimestamp64Milli(toInt64({}), 'UTC')",
        millis.max(0)
    )
}

fn ledger_batch(pipeline: &str, row: &LedgerRow) -> Result<RecordBatch, ArrowError> {
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    let number = |number: u64| -> ArrayRef { Arc::new(UInt64Array::from(vec![number])) };
    let clock = |nanos: Option<i64>| -> ArrayRef { Arc::new(Int64Array::from(vec![nanos])) };
    let flag = |flag: bool| -> ArrayRef { Arc::new(BooleanArray::from(vec![flag])) };
    let mut closed = ListBuilder::new(UInt64Builder::new());
    closed.append_value(row.closed.iter().copied().map(Some));
    let seconds = DataType::Timestamp(TimeUnit::Second, Some("UTC".into()));
    let mut minutes = ListBuilder::new(TimestampSecondBuilder::new().with_timezone("UTC"))
        .with_field(Field::new_list_field(seconds, true));
    minutes.append_value(row.minutes.iter().map(|minute| Some(minute / 1_000)));
    let stored_at = TimestampMillisecondArray::from(vec![row.stored_at]).with_timezone("UTC");
    RecordBatch::try_from_iter_with_nullable([
        ("pipeline", text(pipeline), false),
        ("topic", text(&row.range.topic), false),
        (
            "partition",
            Arc::new(Int32Array::from(vec![row.range.partition])) as ArrayRef,
            false,
        ),
        ("first", number(row.range.first), false),
        ("last", number(row.range.last), false),
        ("drain", flag(row.range.drain), false),
        ("resume_from", number(row.from), false),
        ("resume_clock", clock(row.clock), true),
        ("stream_clock", clock(row.greatest), true),
        ("closed", Arc::new(closed.finish()), false),
        ("minutes", Arc::new(minutes.finish()), false),
        ("all_minutes", flag(row.all_minutes), false),
        ("records", number(row.records), false),
        ("exchanges", number(row.exchanges), false),
        ("rejected", number(row.rejected), false),
        ("blocks", number(row.blocks), false),
        ("stored_at", Arc::new(stored_at), false),
    ])
}

fn read_ledger(batch: &RecordBatch) -> Result<Vec<LedgerRow>, ArrowError> {
    let nested = |name: &str| -> Result<_, ArrowError> {
        let lists = column(batch, name)?.as_list_opt::<i32>().cloned();
        lists.ok_or_else(|| ArrowError::SchemaError(format!("{name} is not a list")))
    };
    let not_ours = |name: &str| ArrowError::SchemaError(format!("{name} is not what we wrote"));
    let topics = texts(batch, "topic_name")?;
    let partitions = signed(batch, "partition")?;
    let [
        first,
        last,
        drain,
        from,
        all_minutes,
        records,
        exchanges,
        rejected,
        blocks,
    ] = [
        "first",
        "last",
        "drained",
        "resume_from",
        "every_minute",
        "records",
        "exchanges",
        "rejected",
        "blocks",
    ]
    .map(|name| unsigned(batch, name));
    let clocks = |name: &str| -> Result<_, ArrowError> {
        let clocks = column(batch, name)?
            .as_primitive_opt::<Int64Type>()
            .cloned();
        clocks.ok_or_else(|| not_ours(name))
    };
    let (resume, greatest) = (clocks("resume_clock")?, clocks("stream_clock")?);
    let (closed, minutes) = (nested("closed")?, nested("minutes")?);
    let stored_at = signed(batch, "stored")?;
    let numbers = [
        first?,
        last?,
        drain?,
        from?,
        all_minutes?,
        records?,
        exchanges?,
        rejected?,
        blocks?,
    ];
    let mut rows = Vec::with_capacity(batch.num_rows());
    for (row, ((topic, partition), stored_at)) in topics
        .into_iter()
        .zip(partitions)
        .zip(stored_at)
        .enumerate()
    {
        let [
            first,
            last,
            drain,
            from,
            all_minutes,
            records,
            exchanges,
            rejected,
            blocks,
        ] = numbers
            .each_ref()
            .map(|column| column.get(row).copied().unwrap_or_default());
        let (closed, minutes) = (closed.value(row), minutes.value(row));
        rows.push(LedgerRow {
            range: FlushRange {
                topic,
                partition: i32::try_from(partition).map_err(|_| not_ours("partition"))?,
                first,
                last,
                drain: drain == 1,
            },
            from,
            clock: (!resume.is_null(row)).then(|| resume.value(row)),
            greatest: (!greatest.is_null(row)).then(|| greatest.value(row)),
            closed: closed
                .as_primitive_opt::<UInt64Type>()
                .map(|values| values.values().to_vec())
                .ok_or_else(|| not_ours("closed"))?,
            minutes: minutes
                .as_primitive_opt::<Int64Type>()
                .map(|values| values.values().to_vec())
                .ok_or_else(|| not_ours("minutes"))?,
            all_minutes: all_minutes == 1,
            records,
            exchanges,
            rejected,
            blocks,
            stored_at,
        });
    }
    Ok(rows)
}

fn read_detections(batch: &RecordBatch) -> Result<Vec<Detections>, ArrowError> {
    let ticks = signed(batch, "tick")?;
    let rows = texts(batch, "state")?
        .into_iter()
        .zip(texts(batch, "changes")?);
    Ok(ticks
        .into_iter()
        .zip(rows)
        .map(|(tick, (state, changes))| Detections {
            tick,
            state,
            changes,
        })
        .collect())
}
