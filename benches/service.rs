//! The service against the real Kafka broker and the real ClickHouse engine: throughput, label latency, memory while
//! the store stalls. All of it printed from one run.
//!
//! ```text
//! tests/services/run cargo bench --bench service                   1,000,000 exchanges
//! tests/services/run cargo bench --bench service -- 200000         fewer
//! ```
//!
//! *Throughput*: records a second from the assignment of four partitions to the last row in the ledger, without
//! anything to judge by (hosts only) and with all four verdicts, against a bare `rdkafka` loop that reads the same topic and
//! looks at nothing. The engine, the broker and the service share the machine, as they do not in production.
//! *Latency*: from the commit of the flush that moves the clock past a tick until a `read_committed` consumer has the
//! label event. *Memory*: peak of the process while every insert stalls and the topic is full.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench stops where something is missing"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use gatewatch::clock::{Stopwatch, now_millis};
use gatewatch::model::EventTime;
use gatewatch::traffic::Scenario;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

/// Partitions of the topic.
const PARTITIONS: i32 = 4;
/// Runs of each side; they take turns.
const ROUNDS: usize = 3;
/// Ticks that latency is measured on.
const TICKS: i64 = 60;

struct Bench {
    folder: tempfile::TempDir,
    kafka: String,
    clickhouse: String,
    runs: u32,
}

/// A running service and what it writes on standard error.
struct Service {
    child: Child,
    lines: Receiver<String>,
    metrics: String,
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn main() {
    let variable = |name: &str| std::env::var(name).ok();
    let (Some(kafka), Some(clickhouse)) = (
        variable("GATEWATCH_TEST_KAFKA"),
        variable("GATEWATCH_TEST_CLICKHOUSE"),
    ) else {
        println!("run it under tests/services/run, which starts Kafka and ClickHouse");
        return;
    };
    let events = std::env::args().find_map(|argument| argument.parse().ok());
    let events: u64 = events.unwrap_or(1_000_000);
    let mut bench = Bench {
        folder: tempfile::tempdir().expect("a temporary folder"),
        kafka,
        clickhouse,
        runs: 0,
    };
    for (name, text) in Scenario::everything().pipeline_files("traffic.ndjson") {
        fs::write(bench.folder.path().join(name), text).expect("a file of the pipeline");
    }
    let records = bench.produce(events);
    bench.throughput(records);
    bench.memory(records);
    bench.latency();
}

impl Bench {
    fn gatewatch(arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatewatch"));
        command.args(arguments);
        command
    }

    /// Fills the topic; gives the number of records.
    fn produce(&self, events: u64) -> u64 {
        let (events, partitions) = (events.to_string(), PARTITIONS.to_string());
        // Ten minutes of event time: about 2,000 exchanges a second, as a busy gateway has.
        let made = Self::gatewatch(&[
            "generate",
            "--events",
            &events,
            "--span",
            "10m",
            "--kafka",
            &self.kafka,
        ])
        .args(["--topic", "bench", "--partitions", &partitions])
        .stderr(Stdio::null())
        .status();
        assert!(
            made.expect("the command runs").success(),
            "producing failed"
        );
        let mut records = 0;
        let consumer: BaseConsumer = self.client().create().expect("a consumer");
        for partition in 0..PARTITIONS {
            let patience = Duration::from_secs(10);
            let (low, high) = consumer
                .fetch_watermarks("bench", partition, patience)
                .expect("watermarks");
            records += u64::try_from(high - low).unwrap_or_default();
        }
        records
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka);
        config
    }

    /// A pipeline file of its own group, database and topics; `judging` = with everything to judge by.
    fn pipeline(&mut self, topic: &str, judging: bool, more: &str) -> (PathBuf, String) {
        self.runs += 1;
        let run = self.runs;
        let folder = self.folder.path();
        let whole = fs::read_to_string(folder.join("pipeline.toml")).expect("the pipeline");
        let start = whole.find("[[zones]]").expect("zones");
        let mut keep = true;
        let zones = whole[start..].lines().filter(|line| {
            if line.starts_with('[') {
                keep = judging || *line == "[[zones]]";
            }
            keep
        });
        let zones: Vec<&str> = zones.collect();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let text = format!(
            "name = \"bench-{run}\"\n[source]\nkind = \"kafka\"\nbrokers = \"{}\"\ntopics = [\"{topic}\"]\n\
             [store]\nkind = \"clickhouse\"\nurl = \"{}\"\ndatabase = \"bench_{run}\"\n\
             [publish]\nkind = \"kafka\"\nprefix = \"bench-{run}.\"\n\
             [privacy]\nhash_key = {{ file = \"hash.key\" }}\n[api]\nlisten = \"127.0.0.1:{port}\"\n{more}\n{}\n",
            self.kafka,
            self.clickhouse,
            zones.join("\n"),
        );
        fs::write(folder.join("hash.key"), "0123456789abcdef0123456789abcdef").expect("a key");
        let path = folder.join(format!("{run}.toml"));
        fs::write(&path, text).expect("a pipeline file");
        (path, format!("http://127.0.0.1:{port}/metrics"))
    }

    fn start((path, metrics): (PathBuf, String)) -> Service {
        let mut child = Self::gatewatch(&["run"])
            .arg(path)
            .env("GATEWATCH_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the service starts");
        let errors = child.stderr.take().expect("its standard error");
        let (to, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                if to.send(line).is_err() {
                    return;
                }
            }
        });
        Service {
            child,
            lines,
            metrics,
        }
    }

    /// Records a second of a loop that only reads.
    fn bare(&self, records: u64) -> f64 {
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", "bare")
            .set("enable.auto.commit", "false")
            .create()
            .expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset("bench", partition, Offset::Beginning)
                .expect("a partition");
        }
        consumer.assign(&list).expect("an assignment");
        let watch = Stopwatch::start();
        let (mut seen, mut bytes) = (0_u64, 0_usize);
        while seen < records {
            if let Some(Ok(message)) = consumer.poll(Duration::from_secs(1)) {
                seen += 1;
                bytes += message.payload().map_or(0, <[u8]>::len);
            }
        }
        assert!(bytes > 0);
        records as f64 / watch.elapsed().as_secs_f64()
    }

    /// Records a second of the service, until all of them are in the ledger.
    fn service(&mut self, records: u64, judging: bool) -> f64 {
        let more = "[window]\nflush_every = \"250ms\"";
        let service = Self::start(self.pipeline("bench", judging, more));
        service.wait_for("going on at");
        let watch = Stopwatch::start();
        while service.counted() < records {
            std::thread::sleep(Duration::from_millis(20));
        }
        records as f64 / watch.elapsed().as_secs_f64()
    }

    fn throughput(&mut self, records: u64) {
        let (mut bare, mut plain, mut judged) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bare.push(self.bare(records));
            plain.push(self.service(records, false));
            judged.push(self.service(records, true));
        }
        let (bare, plain, judged) = (median(bare), median(plain), median(judged));
        println!(
            "{records} records, {PARTITIONS} partitions, medians of {ROUNDS} rounds, records a second"
        );
        println!("  bare rdkafka read loop   {bare:>10.0}");
        println!(
            "  gatewatch, hosts only    {plain:>10.0}   {:.2} of bare",
            plain / bare
        );
        println!(
            "  gatewatch, all verdicts  {judged:>10.0}   {:.2} of bare",
            judged / bare
        );
    }

    /// Peak memory while nothing can be stored, and whether everything is stored afterwards.
    fn memory(&mut self, records: u64) {
        let client = reqwest_runtime();
        let fault = format!("{}/fault", self.clickhouse);
        let stall = "{\"kind\": \"down\", \"match\": \"INSERT\"}";
        let service = Self::start(self.pipeline("bench", true, ""));
        service.wait_for("going on at");
        client.post(&fault, stall);
        std::thread::sleep(Duration::from_secs(20));
        let stalled = service.memory("VmRSS");
        std::thread::sleep(Duration::from_secs(20));
        let later = service.memory("VmRSS");
        client.delete(&fault);
        while service.counted() < records {
            std::thread::sleep(Duration::from_millis(100));
        }
        println!(
            "\nmemory while every insert fails, {PARTITIONS} partitions with more than enough to read, MiB"
        );
        println!(
            "  after 20 s {stalled}, after 40 s {later}, peak {}",
            service.memory("VmHWM")
        );
        println!("  afterwards the lag drained: all {records} records are in the ledger");
    }

    fn latency(&mut self) {
        let topic = "bench-latency";
        let producer: BaseProducer = self.client().create().expect("a producer");
        let pipeline = self.pipeline(topic, true, "[window]\nflush_every = \"100ms\"");
        let run = self.runs;
        let group = format!("gatewatch-bench-{run}");
        let send = |time: i64, path: &str| {
            let time = EventTime::from_millis(time).expect("a time");
            let event = format!(
                "{{\"kind\":\"exchange\",\"time\":\"{time}\",\"request\":{{\"method\":\"GET\",\"host\":\"api.shop.example\",\
                 \"path\":\"{path}\",\"headers\":{{}}}},\"response\":{{\"status\":200}}}}"
            );
            let record = BaseRecord::<(), str>::to(topic)
                .partition(0)
                .payload(&event);
            producer
                .send(record)
                .map_err(|(error, _)| error)
                .expect("a record");
            producer
                .flush(Duration::from_secs(5))
                .expect("the record is written");
        };
        let made = Self::gatewatch(&["generate", "--events", "1", "--kafka", &self.kafka])
            .args(["--topic", topic, "--partitions", "1"])
            .stderr(Stdio::null())
            .status();
        assert!(made.expect("the command runs").success());
        // One clock for the events: whole ticks of five minutes, all in the past.
        let every = 300_000;
        let first = (now_millis() / every - 2 * TICKS) * every;
        let service = Self::start(pipeline);
        service.wait_for("this node evaluates");
        let labels: BaseConsumer = self
            .client()
            .set("group.id", "latency")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "10")
            .create()
            .expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&format!("bench-{run}.labels"), 0, Offset::Beginning)
            .expect("a partition");
        labels.assign(&list).expect("an assignment");
        let committed: BaseConsumer = self
            .client()
            .set("group.id", &group)
            .create()
            .expect("a client");
        let mut millis = Vec::new();
        for tick in 0..TICKS {
            let path = format!(
                "/latency-{}",
                "x".repeat(usize::try_from(tick).unwrap_or_default() + 1)
            );
            send(first + tick * every - 60_000, &path);
            send(first + tick * every + 1, "/clock");
            let (_, high) = committed
                .fetch_watermarks(topic, 0, Duration::from_secs(5))
                .expect("watermarks");
            wait_for_commit(&committed, topic, high);
            let watch = Stopwatch::start();
            loop {
                if let Some(Ok(message)) = labels.poll(Duration::from_millis(500)) {
                    let text = String::from_utf8_lossy(message.payload().unwrap_or_default());
                    if text.contains(&format!("\"{path}\"")) {
                        break;
                    }
                }
            }
            if tick > 0 {
                millis.push(watch.elapsed().as_secs_f64() * 1_000.0);
            }
        }
        millis.sort_by(f64::total_cmp);
        let at = |percent: usize| millis[(millis.len() - 1) * percent / 100];
        println!(
            "\nfrom the commit past a tick to the label event, {} ticks, ms",
            millis.len()
        );
        println!(
            "  median {:.0}, p90 {:.0}, p99 {:.0}, most {:.0}",
            at(50),
            at(90),
            at(99),
            at(100)
        );
    }
}

fn wait_for_commit(client: &BaseConsumer, topic: &str, offset: i64) {
    loop {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, 0);
        let list = client
            .committed_offsets(list, Duration::from_secs(5))
            .expect("committed offsets");
        if list.elements()[0].offset().to_raw() >= Some(offset) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Service {
    fn wait_for(&self, words: &str) {
        loop {
            let line = self.lines.recv_timeout(Duration::from_mins(1));
            if line.expect("the service says so").contains(words) {
                return;
            }
        }
    }

    /// Records in the ledger of this process.
    fn counted(&self) -> u64 {
        let text = reqwest_runtime().get(&self.metrics);
        let sum = |name: &str| -> u64 {
            text.lines()
                .filter(|line| line.starts_with(name))
                .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
                .sum()
        };
        sum("gatewatch_records_total") + sum("gatewatch_rejected_records_total")
    }

    /// MiB, from the process's status file.
    fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(
            Path::new("/proc")
                .join(self.child.id().to_string())
                .join("status"),
        );
        let status = status.unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with(field));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.unwrap_or_default() / 1_024
    }
}

/// A blocking HTTP client.
struct Http(tokio::runtime::Runtime, reqwest::Client);

fn reqwest_runtime() -> Http {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    Http(runtime.expect("a runtime"), reqwest::Client::new())
}

impl Http {
    fn get(&self, url: &str) -> String {
        let text = async { self.1.get(url).send().await?.text().await };
        self.0.block_on(text).unwrap_or_default()
    }

    fn post(&self, url: &str, body: &str) {
        let sent = self
            .0
            .block_on(self.1.post(url).body(body.to_owned()).send());
        assert!(sent.expect("an answer").status().is_success(), "{body}");
    }

    fn delete(&self, url: &str) {
        self.0
            .block_on(self.1.delete(url).send())
            .expect("an answer");
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
