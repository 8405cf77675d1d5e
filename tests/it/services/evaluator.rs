//! The evaluator's protocol against the real broker and a store in memory, which can die at chosen moments. What needs
//! no hand-over also runs without a broker, on librdkafka's own cluster: that one forgets what a transaction commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use arrow::array::{
    ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray, UInt16Array, UInt64Array,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use serde_json::Value;

use gatewatch::clock;
use gatewatch::detect::{Limits, blocklist};
use gatewatch::model::{BlockKey, BlockKind, Network, Proposal, Wish};
use gatewatch::pipeline::evaluator::{Counters, EvaluatorError, Plan, Sums, run};
use gatewatch::publish;
use gatewatch::publish::blocklist::{Answer, Entry, parse, proposal, read_entry};
use gatewatch::publish::kafka::{
    Cluster, Log, Message, Outbox, Position, PublishError, Read, TOPICS, WriteError, Writer,
    ensure, read_compacted,
};
use gatewatch::store::clickhouse::{Detections, FlushRange, LedgerRow, StoreError};

const MINUTE: i64 = 60_000;
/// Long enough for a slow machine; nothing waits that long when it works.
const PATIENCE: Duration = Duration::from_secs(60);

/// (minute, method, session, requests); always answered with 200.
type Row = (i64, &'static str, &'static str, u64);

/// A store in memory that can stop answering at chosen moments, which ends an evaluator as a crash there would.
#[derive(Default)]
struct Memory {
    rows: Mutex<Vec<Row>>,
    ledger: Mutex<Vec<LedgerRow>>,
    detections: Mutex<Vec<(u64, Detections)>>,
    reads: Mutex<Vec<usize>>,
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
    _mock: Option<MockCluster<'static, DefaultProducerContext>>,
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
        if let Some(world) = Self::real(test) {
            return world;
        }
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
            },
            overlap: 10 * MINUTE,
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
            _mock: mock,
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

    /// Waits for the outcome of a proposal.
    fn answer(&self, log: &mut Log, id: &str) -> Answer {
        loop {
            match log.next(PATIENCE).unwrap() {
                Read::Record(record) => {
                    let entry = parse(&self.plan.pipeline, &record.value.unwrap());
                    if let Ok(Entry::Outcome(answer)) = entry
                        && answer.proposal == id
                    {
                        return answer;
                    }
                }
                Read::End => {}
                Read::Silence => panic!("no answer to {id}"),
            }
        }
    }

    fn propose(&self, proposals: &[&Proposal]) {
        let messages: Vec<_> = proposals
            .iter()
            .map(|sent| proposal(&self.plan.pipeline, sent))
            .collect();
        self.send(&messages);
    }

    fn send(&self, messages: &[Message]) {
        let outbox = Outbox::open(&self.plan.cluster).unwrap();
        self.runtime.block_on(outbox.write(messages)).unwrap();
    }

    /// Key → (revision, requests) of the block list.
    fn listed(&self) -> BTreeMap<String, (u64, u64)> {
        let held = read_compacted(&self.plan.cluster, publish::BLOCK_LIST).unwrap();
        held.iter()
            .map(|(key, record)| {
                let entry = read_entry(key, record).unwrap();
                let requests = entry.evidence.get("requests").copied().unwrap_or_default();
                (key.clone(), (entry.revision, requests))
            })
            .collect()
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

/// Two operations over 20 minutes: GET is open at 5, mixed at 15; PUT is open at 10.
const FIRST: &[Row] = &[(3, "GET", "absent", 2)];
const SECOND: &[Row] = &[(7, "PUT", "absent", 1)];
const THIRD: &[Row] = &[(12, "GET", "present", 1)];
const EXPECTED: [&str; 4] = [
    "+cf-risk-missing-auth GET@5",
    "+cf-risk-missing-auth PUT@10",
    "-cf-risk-missing-auth GET@15",
    "+cf-risk-mixed-auth GET@15",
];

#[test]
fn labels_follow_the_watermark() {
    let world = World::any("labels_follow_the_watermark");
    world.memory.flush(0, 4, FIRST);
    // Another partition is slower: it holds the watermark back.
    world.memory.flush(1, 2, &[]);
    let running = world.evaluate();
    world.memory.flush(0, 8, SECOND);
    world.memory.flush(1, 6, &[]);
    assert_eq!(world.labels(1), EXPECTED[..1]);
    world.memory.flush(1, 11, &[]);
    world.memory.flush(0, 11, &[]);
    assert_eq!(world.labels(2), EXPECTED[..2]);
    world.memory.flush(0, 21, THIRD);
    world.memory.flush(1, 21, &[]);
    assert_eq!(world.labels(4), EXPECTED);
    let counters = running.counters.clone();
    assert_eq!(counters.owner.load(Ordering::Relaxed), 1);
    running.stop();
    assert_eq!(counters.owner.load(Ordering::Relaxed), 0);
    assert_eq!(counters.terms.load(Ordering::Relaxed), 1);
    assert!(counters.ticks.load(Ordering::Relaxed) >= 4);
    // Labels and the insights that go with them.
    assert_eq!(counters.changes.load(Ordering::Relaxed), 8);
    // After the start only what was touched is read again, never the whole window.
    let reads = world.memory.reads.lock().unwrap().clone();
    assert!(reads.iter().skip(1).all(|rows| *rows <= 1), "{reads:?}");
}

#[test]
fn nothing_is_repeated_or_forgotten_when_evaluators_die() {
    let Some(world) = World::real("nothing_is_repeated_or_forgotten_when_evaluators_die") else {
        return;
    };
    world.memory.flush(0, 6, FIRST);
    // It dies after the tick was stored and before it was published.
    world
        .memory
        .dies_after_writing
        .store(true, Ordering::SeqCst);
    world.evaluate().dies();
    // Rows that arrive now belong to a minute that was judged: what was decided stays as it was decided.
    world.memory.flush(0, 6, &[(3, "GET", "present", 1)]);
    let second = world.evaluate();
    assert_eq!(world.labels(1), EXPECTED[..1]);
    // A third one waits; the second dies after publishing, before it asks again.
    let third = world.evaluate();
    world.memory.flush(0, 11, SECOND);
    assert_eq!(world.labels(4).len(), 4);
    world.memory.dies_when_asked.store(true, Ordering::SeqCst);
    second.dies();
    world.memory.flush(0, 21, &[(12, "PUT", "present", 1)]);
    let expected = [
        "+cf-risk-missing-auth GET@5",
        "-cf-risk-missing-auth GET@10",
        "+cf-risk-mixed-auth GET@10",
        "+cf-risk-missing-auth PUT@10",
        "-cf-risk-missing-auth PUT@15",
        "+cf-risk-mixed-auth PUT@15",
    ];
    assert_eq!(world.labels(6), expected);
    third.stop();
    let terms: Vec<u64> = world
        .memory
        .detections
        .lock()
        .unwrap()
        .iter()
        .map(|row| row.0)
        .collect();
    assert_eq!(terms, [1, 2, 3], "a row of every term, in order");
}

#[test]
fn what_a_replaced_evaluator_writes_later_is_void() {
    let Some(world) = World::real("what_a_replaced_evaluator_writes_later_is_void") else {
        return;
    };
    world.memory.flush(0, 6, FIRST);
    let first = world.evaluate();
    assert_eq!(world.labels(1), EXPECTED[..1]);
    first.stop();
    let second = world.evaluate();
    world.memory.flush(0, 11, SECOND);
    assert_eq!(world.labels(2), EXPECTED[..2]);
    second.stop();
    // The first one wakes up and writes what it had judged long ago: of a tick that was judged, and of a later one.
    let stale = {
        let detections = world.memory.detections.lock().unwrap();
        let (term, row) = detections.first().unwrap();
        assert_eq!(*term, 1);
        row.clone()
    };
    for tick in [10, 15] {
        let tick = tick * MINUTE;
        let write = world
            .memory
            .write_detections(tick, 1, &stale.state, &stale.changes);
        world.runtime.block_on(write).unwrap();
    }
    world.memory.flush(0, 21, THIRD);
    let third = world.evaluate();
    assert_eq!(world.labels(4), EXPECTED);
    third.stop();
}

#[test]
fn detections_that_are_gone_are_a_fault() {
    let Some(world) = World::real("detections_that_are_gone_are_a_fault") else {
        return;
    };
    world.memory.flush(0, 6, FIRST);
    let first = world.evaluate();
    assert_eq!(world.labels(1), EXPECTED[..1]);
    first.stop();
    let tick = 5 * MINUTE;
    // Somebody else's row of that tick does not count.
    world
        .memory
        .detections
        .lock()
        .unwrap()
        .retain(|row| row.1.tick != tick);
    let second = world.evaluate();
    let error = second.thread.join().unwrap().unwrap_err();
    let missing = matches!(error, EvaluatorError::Missing { tick: at, .. } if at == tick);
    assert!(missing, "{error}");
}

fn wish(id: &str, entity: &str, lasts: i64) -> Proposal {
    Proposal {
        id: id.to_owned(),
        answer: true,
        key: BlockKey::new("z", BlockKind::Ip, entity).unwrap(),
        reason: "a test".to_owned(),
        wish: Wish::Block {
            rule: None,
            evidence: BTreeMap::from([("requests".to_owned(), 2)]),
            samples: Vec::new(),
            expires_at: clock::now_millis() + lasts,
        },
    }
}

#[test]
fn the_block_list_has_one_writer_and_one_history() {
    let Some(world) = World::real("the_block_list_has_one_writer_and_one_history") else {
        return;
    };
    let mut log = Log::tail(&world.plan.cluster, publish::PROPOSALS).unwrap();
    let hour = 60 * MINUTE;
    let (one, two) = (
        wish("1", "203.0.113.1", hour),
        wish("2", "203.0.113.2", hour),
    );
    let brief = wish("3", "203.0.113.3", 8_000);
    let allowed = wish("4", "192.0.2.9", hour);
    let garbage = Message {
        topic: publish::PROPOSALS,
        key: String::new(),
        value: Some(b"{\"v\":1".to_vec()),
        headers: Vec::new(),
    };
    world.send(&[garbage]);
    // The second one is sent twice, as after a crash of its sender.
    world.propose(&[&one, &two, &two, &brief, &allowed]);
    let first = world.evaluate();
    let answer = world.answer(&mut log, "1");
    assert_eq!(
        (answer.outcome.as_str(), answer.simulated),
        ("added", Some(false))
    );
    assert_eq!(world.answer(&mut log, "4").outcome, "allowed");
    assert_eq!(world.listed()["z/ip/203.0.113.2"], (1, 2), "counted once");
    let withdraw = Proposal {
        id: "5".to_owned(),
        wish: Wish::Withdraw,
        ..one.clone()
    };
    world.propose(&[&withdraw]);
    assert_eq!(world.answer(&mut log, "5").outcome, "withdrawn");
    let counters = first.counters.clone();
    first.stop();
    assert_eq!(counters.applied.load(Ordering::Relaxed), 4);
    assert_eq!(counters.refused.load(Ordering::Relaxed), 2);
    // A sender repeats its proposal of an entry that was withdrawn; nothing comes of it, after a take-over either.
    let again = wish("6", "203.0.113.2", 2 * hour);
    world.propose(&[&one, &two, &again]);
    let second = world.evaluate();
    assert_eq!(world.answer(&mut log, "6").outcome, "extended");
    // The brief one ends by wall time; its tombstone is the newest record then.
    let mut entries = Log::whole(&world.plan.cluster, publish::BLOCK_LIST).unwrap();
    loop {
        match entries.next(PATIENCE).unwrap() {
            Read::Record(record) if record.key == "z/ip/203.0.113.3" && record.value.is_none() => {
                break;
            }
            Read::Silence => panic!("nothing ends"),
            _ => {}
        }
    }
    let expected = [("z/ip/203.0.113.2".to_owned(), (2, 4))];
    assert_eq!(world.listed(), BTreeMap::from(expected));
    second.stop();
}

#[test]
fn a_stale_writer_cannot_revive_a_withdrawn_entry() {
    let Some(world) = World::real("a_stale_writer_cannot_revive_a_withdrawn_entry") else {
        return;
    };
    let cluster = &world.plan.cluster;
    let member: BaseConsumer = cluster
        .reader()
        .set("group.id", &world.plan.group)
        .create()
        .unwrap();
    member
        .subscribe(&[&cluster.topic(publish::PROPOSALS)])
        .unwrap();
    let mut rounds = 0;
    while member.assignment().unwrap().count() == 0 {
        rounds += 1;
        assert!(rounds < 600, "the group is never joined");
        member.poll(Duration::from_millis(100));
    }
    let position = Position {
        topic: cluster.topic(publish::PROPOSALS),
        offset: 0,
        metadata: String::new(),
    };
    let entry = |value: Option<&str>| Message {
        topic: publish::BLOCK_LIST,
        key: "z/ip/203.0.113.1".to_owned(),
        value: value.map(|text| text.as_bytes().to_vec()),
        headers: Vec::new(),
    };
    let identity = member.group_metadata().unwrap();
    let open = || Writer::open(cluster, "shop", &world.plan.group).unwrap();
    let stale = open();
    stale
        .write(&[entry(Some("listed"))], &position, &identity)
        .unwrap();
    // It wants to write on, but somebody else took the pen and withdrew the entry.
    let fresh = open();
    fresh.write(&[entry(None)], &position, &identity).unwrap();
    let error = stale
        .write(&[entry(Some("revived"))], &position, &identity)
        .unwrap_err();
    assert!(matches!(error, WriteError::Fenced(_)), "{error:?}");
    let held = || read_compacted(cluster, publish::BLOCK_LIST).unwrap();
    assert_eq!(held(), BTreeMap::new());
    // Nor can one write whose member left the group, though its producer is the newest.
    member.unsubscribe();
    drop(member);
    let error = fresh
        .write(&[entry(Some("revived"))], &position, &identity)
        .unwrap_err();
    assert!(matches!(error, WriteError::Fenced(_)), "{error:?}");
    assert_eq!(held(), BTreeMap::new());
}

#[test]
fn topics_are_made_once_and_wrong_ones_refused() {
    let Some(world) = World::real("topics_are_made_once_and_wrong_ones_refused") else {
        return;
    };
    let mut cluster = world.plan.cluster.clone();
    // The world made them.
    let made = world.runtime.block_on(ensure(&cluster)).unwrap();
    assert_eq!(made, Vec::<String>::new());
    let services = super::services("topics").unwrap();
    for (name, partitions, problem) in [
        ("proposals", 3, "has 3 partitions"),
        ("blocklist", 1, "has cleanup.policy=delete"),
    ] {
        cluster.prefix = format!("{}.", super::unique("wrong"));
        let topic = format!("{}{name}", cluster.prefix);
        world.runtime.block_on(services.topic(&topic, partitions));
        let error = world.runtime.block_on(ensure(&cluster)).unwrap_err();
        let said = error.to_string();
        assert!(
            !error.retry() && said.contains(problem) && said.contains(&topic),
            "{said}"
        );
    }
    cluster.prefix = format!("{}.", super::unique("many"));
    cluster.replication = 3;
    let said = world
        .runtime
        .block_on(ensure(&cluster))
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("must not exceed the number of brokers"),
        "{said}"
    );
    cluster.brokers = "127.0.0.1:1".to_owned();
    let error = world.runtime.block_on(ensure(&cluster)).unwrap_err();
    assert!(
        error.retry() && matches!(error, PublishError::Kafka { .. }),
        "{error}"
    );
}
