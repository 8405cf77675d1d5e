//! The evaluator's protocol against the real broker and a store in memory, which can die at chosen moments. What needs
//! no hand-over also runs without a broker, on librdkafka's own cluster: that one forgets what a transaction commits.

mod block_list;
mod clickhouse;
mod feed;
mod hand_over;
mod thresholds;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use arrow::array::{
    ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray, UInt16Array, UInt64Array,
};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use serde_json::Value;

use gatewatch::clock;
use gatewatch::detect::{Limits, blocklist};
use gatewatch::model::Network;
use gatewatch::pipeline::evaluator::{Counters, EvaluatorError, Plan, Sums, run};
use gatewatch::publish;
use gatewatch::publish::kafka::{Cluster, Log, Read, TOPICS, ensure};
use gatewatch::store::clickhouse::{Detections, FlushRange, LedgerRow, StoreError};

const MINUTE: i64 = 60_000;
/// Long enough for a slow machine; nothing waits that long when it works.
const PATIENCE: Duration = Duration::from_mins(3);

/// (minute, method, session, requests); always answered with 200.
type Row = (i64, &'static str, &'static str, u64);

/// A store in memory that can stop answering at chosen moments, which ends an evaluator as a crash there would.
#[derive(Default)]
struct Memory {
    rows: Mutex<Vec<Row>>,
    ledger: Mutex<Vec<LedgerRow>>,
    detections: Mutex<Vec<(u64, Detections)>>,
    reads: Mutex<Vec<usize>>,
    /// (minute, address, refused requests) of `entity_windows`.
    refused: Mutex<Vec<(i64, &'static str, u64)>>,
    dies_after_writing: AtomicBool,
    dies_when_asked: AtomicBool,
}

fn dead(at: &AtomicBool) -> Result<(), StoreError> {
    if at.swap(false, Ordering::SeqCst) {
        return Err(StoreError::Unreachable {
            place: "memory".to_owned(),
            message: "told to".to_owned(),
        });
    }
    Ok(())
}

impl Memory {
    /// One flush of one partition: its rows, then its row in the ledger. `clock` in minutes.
    fn flush(&self, partition: i32, clock: i64, rows: &[Row]) {
        self.rows.lock().unwrap().extend(rows);
        let mut ledger = self.ledger.lock().unwrap();
        let first = ledger.len() as u64;
        let minutes: BTreeSet<i64> = rows.iter().map(|row| row.0 * MINUTE).collect();
        ledger.push(LedgerRow {
            range: FlushRange {
                topic: "events".to_owned(),
                partition,
                first,
                last: first + 1,
                drain: false,
            },
            from: first + 1,
            clock: None,
            greatest: Some(clock * MINUTE * 1_000_000),
            closed: Vec::new(),
            minutes: minutes.into_iter().collect(),
            all_minutes: false,
            records: 1,
            exchanges: 1,
            rejected: 0,
            blocks: 1,
            stored_at: clock::now_millis(),
        });
    }

    fn batch(&self, keep: impl Fn(i64) -> bool) -> Vec<RecordBatch> {
        let rows = self.rows.lock().unwrap();
        let rows: Vec<_> = rows.iter().filter(|row| keep(row.0 * MINUTE)).collect();
        self.reads.lock().unwrap().push(rows.len());
        if rows.is_empty() {
            return Vec::new();
        }
        let text = |column: &dyn Fn(&Row) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(
                rows.iter().map(|row| column(row)),
            ))
        };
        let times =
            TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.0 * MINUTE));
        let columns = [
            (
                "window_start",
                Arc::new(times.with_timezone("UTC")) as ArrayRef,
            ),
            ("zone", text(&|_| "z".to_owned())),
            ("host", text(&|_| "h".to_owned())),
            ("method", text(&|row| row.1.to_owned())),
            ("endpoint", text(&|_| "/a".to_owned())),
            (
                "status",
                Arc::new(UInt16Array::from_iter_values(rows.iter().map(|_| 200))) as ArrayRef,
            ),
            ("session", text(&|row| row.2.to_owned())),
            ("token", text(&|_| "not_configured".to_owned())),
            ("mtls", text(&|_| "not_captured".to_owned())),
            ("schema_request", text(&|_| "not_evaluated".to_owned())),
            (
                "requests",
                Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.3))) as ArrayRef,
            ),
        ];
        vec![RecordBatch::try_from_iter(columns).unwrap()]
    }
}

impl Sums for Memory {
    async fn recorded_since(&self, stored_at: i64) -> Result<Vec<LedgerRow>, StoreError> {
        dead(&self.dies_when_asked)?;
        let ledger = self.ledger.lock().unwrap();
        let rows = ledger.iter().filter(|row| row.stored_at >= stored_at);
        Ok(rows.cloned().collect())
    }

    async fn read_from(&self, from: i64) -> Result<Vec<RecordBatch>, StoreError> {
        Ok(self.batch(|minute| minute >= from))
    }

    async fn read_minutes(&self, minutes: &[i64]) -> Result<Vec<RecordBatch>, StoreError> {
        Ok(self.batch(|minute| minutes.contains(&minute)))
    }

    async fn entities_from(
        &self,
        table: &'static str,
        from: i64,
    ) -> Result<Vec<RecordBatch>, StoreError> {
        Ok(self.entities(table, |minute| minute >= from))
    }

    async fn entity_minutes(
        &self,
        table: &'static str,
        minutes: &[i64],
    ) -> Result<Vec<RecordBatch>, StoreError> {
        Ok(self.entities(table, |minute| minutes.contains(&minute)))
    }

    async fn write_detections(
        &self,
        tick: i64,
        term: u64,
        state: &str,
        changes: &str,
    ) -> Result<(), StoreError> {
        let mut detections = self.detections.lock().unwrap();
        if detections
            .iter()
            .all(|(by, row)| (*by, row.tick) != (term, tick))
        {
            let (state, changes) = (state.to_owned(), changes.to_owned());
            detections.push((
                term,
                Detections {
                    tick,
                    state,
                    changes,
                },
            ));
        }
        dead(&self.dies_after_writing)
    }

    async fn detections_from(&self, tick: Option<i64>) -> Result<Vec<Detections>, StoreError> {
        let detections = self.detections.lock().unwrap();
        let mut rows: Vec<_> = detections
            .iter()
            .map(|(_, row)| row.clone())
            .filter(|row| tick.is_none_or(|tick| row.tick >= tick))
            .collect();
        rows.sort_by_key(|row| row.tick);
        Ok(rows)
    }
}

/// A cluster, a store and a plan.
struct World {
    plan: Plan,
    memory: Arc<Memory>,
    runtime: tokio::runtime::Runtime,
    mock: Option<MockCluster<'static, DefaultProducerContext>>,
}

/// An evaluator on its thread.
struct Running {
    stop: Arc<AtomicBool>,
    counters: Counters,
    thread: JoinHandle<Result<(), EvaluatorError>>,
}

impl Running {
    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap();
    }

    /// Waits until it dies of what the store was told to do.
    fn dies(self) {
        let error = self.thread.join().unwrap().unwrap_err();
        assert!(matches!(error, EvaluatorError::Store(_)), "{error}");
    }
}

impl World {
    /// A world on the real broker, or nothing after saying that `test` is skipped.
    fn real(test: &str) -> Option<Self> {
        let services = super::services(test)?;
        let world = Self::on(services.kafka, None, &super::unique("evaluator"));
        world.runtime.block_on(ensure(&world.plan.cluster)).unwrap();
        Some(world)
    }

    /// A world on the real broker if there is one, else on librdkafka's own.
    fn any(test: &str) -> Self {
        Self::real(test).unwrap_or_else(Self::mocked)
    }

    /// A world on librdkafka's own cluster.
    fn mocked() -> Self {
        let mock = MockCluster::new(1).unwrap();
        for spec in TOPICS {
            mock.create_topic(&format!("mock.{}", spec.name), 1, 1)
                .unwrap();
        }
        Self::on(mock.bootstrap_servers(), Some(mock), "mock")
    }

    fn on(
        brokers: String,
        mock: Option<MockCluster<'static, DefaultProducerContext>>,
        name: &str,
    ) -> Self {
        let plan = Plan {
            pipeline: "shop".to_owned(),
            cluster: Cluster {
                brokers,
                options: BTreeMap::new(),
                prefix: format!("{name}."),
                replication: 1,
            },
            group: format!("{name}.evaluator"),
            options: BTreeMap::new(),
            every: 5 * MINUTE,
            lateness: 0,
            idle: MINUTE,
            limits: Limits {
                excluded_methods: Vec::new(),
                min_successful: 1,
            },
            rules: blocklist::Rules {
                enforce: true,
                allow: vec![Network::parse("192.0.2.0/24").unwrap()],
                max: 100,
                log_only: BTreeSet::new(),
            },
            thresholds: Vec::new(),
            max_age: None,
            overlap: 10 * MINUTE,
            future: 10 * MINUTE,
            replica_lag: 0,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        Self {
            plan,
            memory: Arc::default(),
            runtime,
            mock,
        }
    }

    fn evaluate(&self) -> Running {
        let (plan, memory) = (self.plan.clone(), Arc::clone(&self.memory));
        let handle = self.runtime.handle().clone();
        let stop = Arc::new(AtomicBool::new(false));
        let counters = Counters::default();
        let thread = {
            let (stop, counters) = (Arc::clone(&stop), counters.clone());
            std::thread::spawn(move || run(&plan, memory.as_ref(), &handle, &counters, &stop))
        };
        Running {
            stop,
            counters,
            thread,
        }
    }

    /// `+cf-risk-missing-auth GET@5` for the first `count` label events; there must be no more than `count`.
    fn labels(&self, count: usize) -> Vec<String> {
        let mut log = Log::whole(&self.plan.cluster, publish::LABELS).unwrap();
        let mut labels = Vec::new();
        loop {
            match log.next(PATIENCE).unwrap() {
                Read::Record(record) => labels.push(label(&record.value.unwrap())),
                Read::End if labels.len() >= count => return labels,
                Read::End => {}
                Read::Silence => panic!("{labels:?} are fewer than {count}"),
            }
        }
    }
}

fn label(record: &[u8]) -> String {
    let event: Value = serde_json::from_slice(record).unwrap();
    let data = &event["data"];
    let sign = if data["action"] == "applied" {
        '+'
    } else {
        '-'
    };
    let time: jiff::Timestamp = event["time"].as_str().unwrap().parse().unwrap();
    format!(
        "{sign}{} {}@{}",
        data["label"].as_str().unwrap(),
        data["method"].as_str().unwrap(),
        time.as_millisecond() / MINUTE
    )
}
