//! Sums to store: of generated traffic, and of rows made up for one purpose.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray, UInt16Array, UInt64Array,
};
use gatewatch::config::{self, Settings};
use gatewatch::correlate::JoinState;
use gatewatch::enrich::evidence::kept::Keeping;
use gatewatch::enrich::{Judge, Shared};
use gatewatch::pipeline::{Partition, Stream};
use gatewatch::store::clickhouse::ClickHouse;
use gatewatch::traffic::{Scenario, Truth};
use gatewatch::window::{self, TABLES, Table};

use super::{endpoints, range};
use crate::command::pipeline;

/// Sums of one flush with the offsets that it covers.
pub struct Flush {
    pub first: u64,
    pub last: u64,
    pub sums: Vec<RecordBatch>,
    pub events: Option<RecordBatch>,
}

impl Flush {
    /// Writes all of it.
    pub async fn write(&self, store: &ClickHouse, stored_at: i64) {
        let range = range(self.first, self.last);
        store.write(&range, &self.sums, stored_at).await.unwrap();
        let events = self.events.as_ref();
        store.write_events(&range, events, stored_at).await.unwrap();
    }
}

/// A pipeline with generated traffic, cut into flushes of `records` records.
pub async fn of_traffic(
    folder: &Path,
    events: u64,
    records: usize,
) -> (Settings, Truth, Vec<Flush>) {
    let (path, truth) = pipeline(folder, &Scenario::everything(), 23, events, 40);
    let settings = config::load(&path).unwrap();
    let log = fs::read(folder.join("traffic.ndjson")).unwrap();
    let judge = Judge::new(
        Arc::clone(&settings.policy),
        Arc::new(Shared::new(b"clickhouse")),
    );
    let start = JoinState {
        from: 0,
        clock: None,
        closed: Vec::new(),
    };
    let stream = Stream::new(
        settings.source.adapter.clone(),
        settings.limits,
        settings.correlate,
        judge.clone(),
        &start,
        0,
    );
    let keeping = Keeping {
        sample: 0.3,
        most: 10_000,
    };
    let mut partition = Partition::new(stream, &judge, ("log", 0), 0, false);
    partition = partition.keeping(Some(keeping), &judge);
    let mut flushes: Vec<Flush> = Vec::new();
    let (mut offset, mut waiting) = (0, 0);
    let lines: Vec<&[u8]> = log.split_inclusive(|byte| *byte == b'\n').collect();
    for (number, line) in lines.iter().enumerate() {
        let end = offset + line.len();
        partition.apply(line, offset as u64, end as u64, None);
        (offset, waiting) = (end, waiting + 1);
        let ended = number + 1 == lines.len();
        if ended {
            partition.drain();
        }
        if ended || waiting == records {
            waiting = 0;
            let first = flushes.last().map_or(0, |flush| flush.last);
            let mut batches = partition.take().unwrap().batches;
            let events = batches.events.take();
            let sums = window::sum(batches).await.unwrap();
            flushes.push(Flush {
                first,
                last: offset as u64,
                sums,
                events,
            });
        }
    }
    (settings, truth, flushes)
}

/// Rows of `endpoint_windows`: the time in epoch milliseconds, the endpoint, the requests.
pub fn of_endpoints(rows: &[(i64, String, u64)]) -> Vec<RecordBatch> {
    let times = TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.0));
    let mut columns = vec![(
        "window_start",
        Arc::new(times.with_timezone("UTC")) as ArrayRef,
    )];
    for key in endpoints().keys {
        let column: ArrayRef = match *key {
            "status" => Arc::new(UInt16Array::from_iter_values(rows.iter().map(|_| 200))),
            "endpoint" => Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.1))),
            _ => Arc::new(StringArray::from_iter_values(rows.iter().map(|_| "x"))),
        };
        columns.push((key, column));
    }
    for (measure, _) in endpoints().measures {
        columns.push((
            measure,
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.2))),
        ));
    }
    let mut sums = vec![RecordBatch::try_from_iter(columns).unwrap()];
    sums.extend(TABLES.iter().skip(1).map(empty));
    sums
}

/// No rows of a table.
fn empty(table: &Table) -> RecordBatch {
    let times = TimestampMillisecondArray::from_iter_values([]).with_timezone("UTC");
    let mut columns = vec![("window_start", Arc::new(times) as ArrayRef)];
    let nothing = || -> ArrayRef { Arc::new(UInt64Array::from_iter_values([])) };
    for key in table.keys {
        columns.push((key, nothing()));
    }
    for (measure, _) in table.measures {
        columns.push((measure, nothing()));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}
