//! The evaluator over the real store: what it reads and writes there, and how long a label takes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use gatewatch::clock::{self, Stopwatch};
use gatewatch::pipeline::evaluator::{Counters, run};
use gatewatch::publish;
use gatewatch::publish::kafka::{Log, Read};
use gatewatch::store::clickhouse::{ClickHouse, FlushRange, LedgerRow};

use super::{MINUTE, PATIENCE, World};
use crate::services_clickhouse::flushes::of_endpoints;
use crate::services_clickhouse::settings;

/// Ticks that are measured.
const TICKS: i64 = 25;

/// One flush of one endpoint in `minute`, with the clock just before the next tick.
async fn flush(store: &ClickHouse, number: i64, minute: i64) {
    let start = minute * MINUTE;
    let mut sums = of_endpoints(&[(start, format!("/{number}"), 1)]);
    let (schema, mut columns, rows) = {
        let batch = &sums[0];
        (batch.schema(), batch.columns().to_vec(), batch.num_rows())
    };
    let session = schema.index_of("session").unwrap();
    let absent: ArrayRef = Arc::new(StringArray::from(vec!["absent"; rows]));
    columns[session] = absent;
    sums[0] = RecordBatch::try_new(schema, columns).unwrap();
    let first = u64::try_from(number).unwrap();
    let range = FlushRange {
        topic: "events".to_owned(),
        partition: 0,
        first,
        last: first + 1,
        drain: false,
    };
    let stored_at = clock::now_millis();
    let blocks = store.write(&range, &sums, stored_at).await.unwrap();
    let row = LedgerRow {
        range,
        from: first + 1,
        clock: None,
        greatest: Some((minute + 3) * MINUTE * 1_000_000),
        closed: Vec::new(),
        minutes: BTreeSet::from([start]).into_iter().collect(),
        all_minutes: false,
        records: 1,
        exchanges: 1,
        rejected: 0,
        blocks,
        stored_at,
    };
    store.record(&row).await.unwrap();
}

#[test]
fn labels_come_from_the_real_store() {
    let Some(world) = World::real("labels_come_from_the_real_store") else {
        return;
    };
    let settings = settings("evaluator").unwrap();
    let open = || {
        let opened = ClickHouse::open(&settings, "shop");
        world.runtime.block_on(opened).unwrap()
    };
    let store = open();
    let evaluate = || {
        let (plan, store) = (world.plan.clone(), open());
        let handle = world.runtime.handle().clone();
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread =
            std::thread::spawn(move || run(&plan, &store, &handle, &Counters::default(), &flag));
        move || {
            stop.store(true, Ordering::Relaxed);
            thread.join().unwrap().unwrap();
        }
    };
    let mut log = Log::whole(&world.plan.cluster, publish::LABELS).unwrap();
    let mut next = || loop {
        match log.next(PATIENCE).unwrap() {
            Read::Record(record) => {
                let event: serde_json::Value =
                    serde_json::from_slice(&record.value.unwrap()).unwrap();
                return format!(
                    "{}@{}",
                    event["data"]["endpoint"].as_str().unwrap(),
                    event["time"].as_str().unwrap()
                );
            }
            Read::End => {}
            Read::Silence => panic!("no label"),
        }
    };
    // Event time of today: what arrived counts for retention, but partitions of tables are by event time.
    let today = clock::now_millis() / (300 * MINUTE) * 300 - 1_000;
    let mut stop = evaluate();
    world.runtime.block_on(flush(&store, 0, today + 1));
    let mut times = Vec::new();
    for number in 1..=TICKS {
        // Half way, another one takes over.
        if number == TICKS / 2 {
            stop();
            stop = evaluate();
        }
        // Moves the clock past the tick before; the endpoint of that flush gets its label.
        let minute = today + 1 + 5 * number;
        world.runtime.block_on(flush(&store, number, minute));
        let watch = Stopwatch::start();
        let label = next();
        times.push(watch.elapsed());
        let tick = gatewatch::model::EventTime::from_millis((minute - 1) * MINUTE).unwrap();
        assert_eq!(label, format!("/{}@{tick}", number - 1));
    }
    stop();
    let rows = world
        .runtime
        .block_on(store.detections_after(None))
        .unwrap();
    let ticks: BTreeSet<i64> = rows.iter().map(|row| row.tick).collect();
    assert_eq!(ticks.len(), rows.len(), "no tick has two rows");
    // The first wait and the one after the hand-over include joining the group.
    times.sort();
    let median: Duration = times[times.len() / 2];
    eprintln!("from the ledger to the label, {TICKS} ticks: median {median:?}, all {times:?}");
}
