//! The block list of a service: real Kafka, the real engine, the real program. What the embedded arrangement lists of the
//! same events is the oracle: both must list the same, whatever is killed and repeated meanwhile.

mod events;
mod gateway;
mod limits;
mod outages;
mod repeated;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatewatch::clock::Stopwatch;
use gatewatch::store::clickhouse::Settings;
use serde_json::Value;
use tempfile::TempDir;

use super::replica::Replica;
use super::{Services, unique};
use crate::block_list::shown;
use crate::command::{command, succeeds};
use crate::services_clickhouse::{self, sql};

/// Long enough for a slow machine; nothing waits that long when it works.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// What every pipeline of these tests has.
const KEY: (&str, &str) = ("hash.key", "0123456789abcdef0123456789abcdef");

/// A service with topics, a group and a database of its own; nothing of it runs before it is told to.
pub struct Service {
    pub folder: TempDir,
    pub topic: String,
    pub prefix: String,
    pub store: Settings,
}

impl Service {
    /// Makes the topic, and writes `pipeline.toml` with `body`, the tables that an embedded pipeline would have too.
    pub async fn new(services: &Services, partitions: i32, format: &str, body: &str) -> Self {
        let mut store = services_clickhouse::settings("closed loop").unwrap();
        store.database = unique("loop").replace('-', "_");
        let service = Self {
            folder: tempfile::tempdir().unwrap(),
            topic: unique("log"),
            prefix: format!("{}.", unique("out")),
            store,
        };
        services.topic(&service.topic, partitions).await;
        service.write(KEY.0, KEY.1);
        service.write("pipeline.toml", &service.text(services, format, body));
        service
    }

    /// The text of the pipeline file.
    pub fn text(&self, services: &Services, format: &str, body: &str) -> String {
        let mut credentials = String::new();
        if let (Some(user), Some(password)) = (&self.store.user, &self.store.password) {
            self.write("password", password);
            let file = self.path("password");
            credentials = format!(
                "user = \"{user}\"\npassword = {{ file = \"{}\" }}\n",
                file.display()
            );
        }
        format!(
            "name = \"loop\"\n\
             [source]\nkind = \"kafka\"\nbrokers = \"{kafka}\"\ntopics = [\"{topic}\"]\ngroup = \"{topic}\"\nformat = \"{format}\"\n\
             options = {{ \"session.timeout.ms\" = 2000, \"heartbeat.interval.ms\" = 300 }}\n\
             [store]\nkind = \"clickhouse\"\nurl = \"{url}\"\ndatabase = \"{database}\"\n{credentials}\
             [publish]\nkind = \"kafka\"\nbrokers = \"{kafka}\"\nprefix = \"{prefix}\"\n\
             [privacy]\nhash_key = {{ file = \"{key}\" }}\n\
             [window]\nflush_every = \"50ms\"\n{body}\n",
            kafka = services.kafka,
            url = services.clickhouse,
            topic = self.topic,
            database = self.store.database,
            prefix = self.prefix,
            key = self.path(KEY.0).display(),
        )
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn file(&self) -> String {
        self.path("pipeline.toml").to_str().unwrap().to_owned()
    }

    /// Changes the text of the pipeline file.
    pub fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.file()).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        self.write("pipeline.toml", &text.replace(from, to));
    }

    /// Starts a process of it.
    pub fn start(&self) -> Replica {
        Replica::start(command(&["run", &self.file()]))
    }

    /// Starts one with `more` in its pipeline file, which is called `name`.
    pub fn start_with(&self, name: &str, more: &str) -> Replica {
        let text = fs::read_to_string(self.file()).unwrap();
        self.write(name, &format!("{text}{more}"));
        Replica::start(command(&["run", self.path(name).to_str().unwrap()]))
    }

    /// Sends lines, spread over the partitions.
    pub fn send(&self, services: &Services, partitions: i32, lines: &[String]) {
        let records = lines.iter().zip((0..partitions).cycle());
        let records = records.map(|(line, partition)| (partition, "", line.as_bytes()));
        services.produce(&self.topic, records);
    }

    /// Waits until the ledger has so many records.
    pub async fn until_counted(&self, records: usize) {
        let query = format!(
            "SELECT sum(records) FROM {}.flushes FINAL",
            self.store.database
        );
        let watch = Stopwatch::start();
        loop {
            // Nothing is there before the first process has made the tables; faults may strike questions, too.
            let counted = sql(&self.store, &query).await.unwrap_or_default();
            if counted.trim() == records.to_string() {
                return;
            }
            assert!(
                watch.elapsed() < PATIENCE,
                "{counted:?} of {records} records are counted"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Looks at the list until it is as wanted, and gives it.
    pub async fn until(
        &self,
        what: &str,
        wanted: impl Fn(&BTreeMap<String, Value>) -> bool,
    ) -> BTreeMap<String, Value> {
        let watch = Stopwatch::start();
        loop {
            let listed = by_key(shown(&self.file()));
            if wanted(&listed) {
                return listed;
            }
            assert!(watch.elapsed() < PATIENCE, "{what}: {listed:#?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Every record of one of its topics: (key, value or tombstone).
    pub fn records(&self, services: &Services, name: &str) -> Vec<(String, Option<Value>)> {
        super::contents::records(services, &format!("{}{name}", self.prefix))
    }
}

/// The list of an embedded pipeline that has read all of these lines.
pub fn embedded(folder: &Path, body: &str, lines: &[String]) -> BTreeMap<String, Value> {
    fs::create_dir_all(folder).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write(KEY.0, KEY.1);
    write("events.ndjson", &(lines.join("\n") + "\n"));
    let head = "name = \"loop\"\n[source]\npath = \"events.ndjson\"\n[privacy]\nhash_key = { file = \"hash.key\" }\n";
    write("pipeline.toml", &format!("{head}{body}\n"));
    let file = folder.join("pipeline.toml").to_str().unwrap().to_owned();
    succeeds(&["run", &file]);
    by_key(shown(&file))
}

/// Entries by kind and entity.
pub fn by_key(entries: Vec<Value>) -> BTreeMap<String, Value> {
    let key = |entry: &Value| {
        let part = |name: &str| entry[name].as_str().unwrap().to_owned();
        format!("{}/{}", part("kind"), part("entity"))
    };
    entries
        .into_iter()
        .map(|entry| (key(&entry), entry))
        .collect()
}

/// Entries without what wall time and the cut of flushes decide: times, how often an entry changed, and the example of a
/// session, of whose requests the windows keep one.
pub fn timeless(mut entries: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    for entry in entries.values_mut() {
        let members = entry.as_object_mut().unwrap();
        for name in [
            "created_at",
            "updated_at",
            "expires_at",
            "sequence",
            "revision",
        ] {
            members.remove(name).unwrap();
        }
        let samples = members["samples"].as_array().unwrap();
        assert!(!samples.is_empty(), "{members:?} has no example");
        if members["kind"] == "session" {
            members.remove("samples");
        }
    }
    entries
}
