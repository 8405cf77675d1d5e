//! One pipeline as a service, with a group, a database and topics of its own, and questions to what it has written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use gatewatch::clock::Stopwatch;
use gatewatch::store::clickhouse::Settings;
use gatewatch::traffic::Scenario;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tempfile::TempDir;

use super::contents::holding;
use super::replica::Replica;
use super::{Services, unique};
use crate::command::succeeds;
use crate::services_clickhouse::{self, sql};

/// Name of every pipeline here. Ids of events are made of it, so equal pipelines publish equal ids.
pub const PIPELINE: &str = "chaos";

/// `detect.lateness` of deployments that are compared.
pub const LATENESS_MINUTES: u64 = 25;

/// What differs between deployments.
#[derive(Clone, Copy)]
pub struct Options {
    /// Silence after which a partition lets go of what waits.
    pub idle: &'static str,
    /// Time between flushes.
    pub flush_every: &'static str,
    /// More lines for the pipeline file.
    pub more: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            idle: "60s",
            flush_every: "50ms",
            more: "",
        }
    }
}

/// A pipeline and everything that it writes.
pub struct Deployment {
    pub folder: TempDir,
    pub topic: String,
    pub group: String,
    pub prefix: String,
    pub store: Settings,
}

/// Where a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Every record before is counted.
    pub last: u64,
    /// Oldest half that still waits, or `last`.
    pub from: u64,
    /// Whether what waited was let go there.
    pub drained: bool,
}

impl Deployment {
    /// Writes the pipeline file and what it names; nothing is started.
    pub fn new(services: &Services, topic: &str, options: Options) -> Self {
        let (kafka, url) = (services.kafka.as_str(), services.clickhouse.as_str());
        Self::reached_by((kafka, url), topic, options)
    }

    /// The same through other addresses: (brokers, URL of ClickHouse).
    pub fn reached_by((kafka, url): (&str, &str), topic: &str, options: Options) -> Self {
        let mut store = services_clickhouse::settings("service").unwrap();
        store.database = unique("chaos").replace('-', "_");
        let deployment = Self {
            folder: tempfile::tempdir().unwrap(),
            topic: topic.to_owned(),
            group: unique("group"),
            prefix: format!("{}.", unique("out")),
            store,
        };
        let mut files = Scenario::everything().pipeline_files("unused");
        let written = files.remove(0).1;
        let zones = &written[written.find("[[zones]]").unwrap()..];
        let (user, password) = (&deployment.store.user, &deployment.store.password);
        let (mut credentials, mut secret) = (String::new(), String::new());
        if let (Some(user), Some(password)) = (user, password) {
            credentials = format!("user = \"{user}\"\npassword = {{ file = \"password\" }}");
            secret.clone_from(password);
        }
        let Options {
            idle,
            flush_every,
            more,
        } = options;
        let text = format!(
            "name = \"{PIPELINE}\"\n\
             [source]\nkind = \"kafka\"\nbrokers = \"{kafka}\"\ntopics = [\"{topic}\"]\ngroup = \"{group}\"\n\
             options = {{ \"session.timeout.ms\" = 2000, \"heartbeat.interval.ms\" = 300 }}\n\
             [store]\nkind = \"clickhouse\"\nurl = \"{url}\"\ndatabase = \"{database}\"\n{credentials}\n\
             [publish]\nkind = \"kafka\"\nbrokers = \"{real}\"\nprefix = \"{prefix}\"\n\
             [privacy]\nhash_key = {{ file = \"hash.key\" }}\n\
             [correlate]\nidle = \"{idle}\"\n\
             [window]\nflush_every = \"{flush_every}\"\n\
             {more}\n{zones}",
            group = deployment.group,
            database = deployment.store.database,
            prefix = deployment.prefix,
            real = kafka,
        );
        files.push(("pipeline.toml".to_owned(), text));
        // The same for all: session hashes are part of what is compared.
        files.push(("hash.key".to_owned(), "0123456789abcdef".repeat(2)));
        files.push(("password".to_owned(), secret));
        for (name, text) in files {
            fs::write(deployment.folder.path().join(name), text).unwrap();
        }
        deployment
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("pipeline.toml")
    }

    /// Changes the text of the pipeline file.
    pub fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.file()).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        fs::write(self.file(), text.replace(from, to)).unwrap();
    }

    /// Starts a replica.
    pub fn start(&self) -> Replica {
        let mut command = crate::command::command(&["run"]);
        command.arg(self.file());
        Replica::start(command)
    }

    /// Starts a replica with a name: a static member, which gets its partitions back without a rebalance. There may be one
    /// at a time.
    pub fn start_named(&self) -> Replica {
        let text = fs::read_to_string(self.file()).unwrap();
        let named = text.replace(
            "options = { ",
            "options = { \"group.instance.id\" = \"named\", ",
        );
        assert_ne!(named, text);
        let file = self.folder.path().join("named.toml");
        fs::write(&file, named).unwrap();
        let mut command = crate::command::command(&["run"]);
        command.arg(file);
        Replica::start(command)
    }

    /// What a query says, rows of tab-separated columns.
    pub async fn rows(&self, query: &str) -> Vec<Vec<String>> {
        let query = query.replace("{db}", &self.store.database);
        let text = sql(&self.store, &query).await.unwrap();
        let lines = text.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| line.split('\t').map(str::to_owned).collect())
            .collect()
    }

    /// The only number of a query.
    pub async fn number(&self, query: &str) -> u64 {
        self.rows(query).await[0][0].parse().unwrap()
    }

    /// Where every partition stands, by the ledger.
    pub async fn standing(&self) -> BTreeMap<i32, Standing> {
        let query = "SELECT `partition`, last, resume_from, drain FROM {db}.flushes ORDER BY `partition`, last, drain";
        let query = query.replace("{db}", &self.store.database);
        // Nothing is there before the first replica has made the tables; faults may strike questions, too.
        let text = sql(&self.store, &query).await.unwrap_or_default();
        let mut standing = BTreeMap::new();
        for line in text.lines() {
            let [partition, last, from, drain] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            let at = Standing {
                last: last.parse().unwrap(),
                from: from.parse().unwrap(),
                drained: drain == "true",
            };
            standing.insert(partition.parse().unwrap(), at);
        }
        standing
    }

    /// Waits until the ledger says so; panics with where it stands when it does not in time.
    pub async fn until(
        &self,
        what: &str,
        patience: Duration,
        done: impl Fn(&BTreeMap<i32, Standing>) -> bool,
    ) {
        let watch = Stopwatch::start();
        loop {
            let standing = self.standing().await;
            if done(&standing) {
                return;
            }
            assert!(
                watch.elapsed() < patience,
                "not in {patience:?}: {what}; the ledger says {standing:?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until every record before `ends` is counted and nothing waits for its other half.
    pub async fn until_drained(&self, ends: &BTreeMap<i32, u64>, patience: Duration) {
        self.until(
            "every partition counted and drained",
            patience,
            |standing| {
                ends.iter().all(|(partition, end)| {
                    *end == 0
                        || standing
                            .get(partition)
                            .is_some_and(|at| at.last == *end && at.from == *end)
                })
            },
        )
        .await;
    }

    /// The ledger of every partition is one unbroken run of ranges from 0 to its end, no range twice.
    pub async fn assert_ledger_is_whole(&self, ends: &BTreeMap<i32, u64>) {
        let query = "SELECT `partition`, first, last, drain FROM {db}.flushes ORDER BY `partition`, last, first, drain";
        let mut reached: BTreeMap<i32, u64> = ends.keys().map(|at| (*at, 0)).collect();
        let mut before = Vec::new();
        for row in self.rows(query).await {
            assert_ne!(row, before, "a range stands in the ledger twice");
            let partition: i32 = row[0].parse().unwrap();
            let [first, last] = [1, 2].map(|column: usize| row[column].parse::<u64>().unwrap());
            let reached = reached.get_mut(&partition).unwrap();
            assert_eq!(
                first, *reached,
                "a hole or an overlap: {row:?} after {before:?}"
            );
            assert!(last > first || row[3] == "true", "an empty range: {row:?}");
            *reached = last;
            before = row;
        }
        assert_eq!(reached, *ends);
    }

    /// Waits until the last tick that the ledger allows is judged and published: the labels are those that `report` finds
    /// there in the tables, and nothing is published any more.
    pub async fn until_judged(&self, services: &Services) {
        let watermark = "SELECT intDiv(min(clock), 60000000000) FROM (SELECT max(stream_clock) AS clock FROM {db}.flushes \
                         GROUP BY `partition`)";
        let minutes = self.number(watermark).await;
        let tick = (minutes - LATENESS_MINUTES) / 5 * 5;
        let last = jiff::Timestamp::from_second(i64::try_from(tick - 1).unwrap() * 60).unwrap();
        let file = self.file();
        let text = succeeds(&[
            "report",
            file.to_str().unwrap(),
            "--json",
            "--as-of",
            &last.to_string(),
        ]);
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut expected = BTreeSet::new();
        for endpoint in report["endpoints"].as_array().unwrap() {
            for label in endpoint["labels"].as_array().unwrap() {
                expected.insert([endpoint["operation_id"].to_string(), label.to_string()]);
            }
        }
        assert!(!expected.is_empty(), "no labels to wait for: {text}");
        let watch = Stopwatch::start();
        let (mut before, mut still) = (None, 0);
        while still < 3 {
            let labels = holding(services, self, "labels");
            let insights = holding(services, self, "insights");
            assert!(
                watch.elapsed() < Duration::from_mins(3),
                "labels at {last}: {labels:?} are not {expected:?}"
            );
            let judged = labels == expected;
            let now = Some((labels, insights));
            still = if judged && now == before {
                still + 1
            } else {
                0
            };
            before = now;
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    }

    /// The committed offset of a partition and what travels with it; (0, "") when there is none.
    pub fn committed(&self, services: &Services, partition: i32) -> (u64, String) {
        let consumer: BaseConsumer = services
            .config()
            .set("group.id", &self.group)
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        let list = consumer
            .committed_offsets(list, Duration::from_mins(1))
            .unwrap();
        let element = list.find_partition(&self.topic, partition).unwrap();
        match element.offset() {
            Offset::Offset(offset) => (offset.unsigned_abs(), element.metadata().to_owned()),
            _ => (0, String::new()),
        }
    }

    /// Waits until a flush of the partition is about to be written: the offset after it.
    pub async fn intent(&self, services: &Services, partition: i32) -> u64 {
        let watch = Stopwatch::start();
        loop {
            let (_, metadata) = self.committed(services, partition);
            let mark: serde_json::Value = serde_json::from_str(&metadata).unwrap_or_default();
            if let Some(end) = mark["end"].as_u64() {
                return end;
            }
            assert!(
                watch.elapsed() < Duration::from_mins(3),
                "no intent, only {metadata:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
