//! Files on disk and a `HAProxy` that is played: what is delivered, what a refusal leaves behind, what a dead target costs.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::detect::blocklist::Edit;
use crate::enforce::fixtures::entry;
use crate::model::{BlockEntry, BlockKind};

/// Far enough for every machine that runs the tests.
const PATIENCE: Duration = Duration::from_secs(20);
const LATER: i64 = 4_000_000_000_000;

fn ip(address: &str) -> BlockEntry {
    entry(BlockKind::Ip, address, LATER)
}

fn settings(kind: &str, folder: &std::path::Path) -> ExporterSettings {
    ExporterSettings {
        name: kind.to_owned(),
        kind: Kind::parse(kind).unwrap(),
        folder: folder.to_owned(),
        selection: Selection::default(),
        debounce: Duration::ZERO,
        test: Vec::new(),
        reload: Vec::new(),
        time_limit: Duration::from_secs(5),
        socket: None,
        folder_there: None,
    }
}

fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|word| (*word).to_owned()).collect()
}

fn rendering(kind: &str, entries: Vec<BlockEntry>) -> Rendering {
    let feed = Feed::starting_at(0);
    feed.replace(entries);
    Kind::parse(kind)
        .unwrap()
        .render(&feed.view(), &Selection::default(), 0)
}

#[test]
fn every_kind_has_a_name_and_files() {
    let names: Vec<_> = Kind::names().collect();
    assert_eq!(names, ["nginx", "haproxy", "envoy", "crowdsec", "json"]);
    for name in names {
        assert_eq!(Kind::parse(name).unwrap().name(), name);
        assert!(!rendering(name, vec![ip("192.0.2.1")]).files.is_empty());
    }
    assert!(Kind::parse("f5").is_none());
    let json = rendering("json", vec![ip("192.0.2.1")]).concatenated();
    let entries: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(entries[0]["entity"], "192.0.2.1");
    assert_eq!(entries[0]["simulated"], false);
}

#[test]
fn refused_files_are_put_back_and_nothing_is_reloaded() {
    let folder = tempfile::tempdir().unwrap();
    let reloaded = folder.path().join("reloaded");
    let mut nginx = settings("nginx", folder.path());
    nginx.reload = words(&["touch", reloaded.to_str().unwrap()]);
    let (old, new) = (
        rendering("nginx", vec![ip("192.0.2.1")]),
        rendering("nginx", vec![ip("192.0.2.2")]),
    );
    let geo = folder.path().join("blocked_ips.geo.conf");

    // Refused before there were any files: there are none afterwards.
    nginx.test = words(&["false"]);
    let refusal = files::replace(&nginx, &old.files).unwrap_err().to_string();
    assert!(
        refusal.starts_with(
            "the new files were refused, those of before are back: `false` ended with"
        ),
        "{refusal}"
    );
    assert!(!geo.exists() && !reloaded.exists());

    nginx.test = words(&["grep", "-q", "192.0.2.1/32 1;", geo.to_str().unwrap()]);
    files::replace(&nginx, &old.files).unwrap();
    assert!(reloaded.exists());
    assert_eq!(fs::read_to_string(&geo).unwrap(), old.files[0].text);
    assert_eq!(
        fs::metadata(&geo).unwrap().permissions().mode() & 0o777,
        0o644
    );

    fs::remove_file(&reloaded).unwrap();
    assert!(matches!(
        files::replace(&nginx, &new.files),
        Err(ExportError::Refused(_))
    ));
    assert_eq!(fs::read_to_string(&geo).unwrap(), old.files[0].text);
    assert!(!reloaded.exists());
    let names = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names, nginx_files(), "nothing is left aside");
}

#[tokio::test]
async fn time_that_passes_is_no_change_of_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let feed = Feed::starting_at(0);
    feed.replace(vec![ip("192.0.2.1")]);
    let kind = Kind::parse("crowdsec").unwrap();
    let mut target = Target::new(settings("crowdsec", folder.path()));
    let file = folder.path().join("decisions.json");
    let mut deliver = async |now| {
        let rendering = kind.render(&feed.view(), &Selection::default(), now);
        let changed = target.deliver(&rendering).await.unwrap();
        (changed, fs::read_to_string(&file).unwrap())
    };
    let (changed, first) = deliver(1_000).await;
    assert!(
        changed && first.contains("\"until\": \"2096-10-02T07:06:40Z\""),
        "{first}"
    );
    // Another zone's entry of the same value, which ends earlier, changes nothing either.
    assert_eq!(deliver(3_600_000).await, (false, first.clone()));
    let elsewhere = crate::enforce::fixtures::in_zone("b", BlockKind::Ip, "192.0.2.1", LATER - 1);
    feed.apply(&[Edit::Listed(elsewhere)]);
    assert_eq!(deliver(3_600_000).await, (false, first.clone()));
    feed.apply(&[Edit::Listed(ip("192.0.2.2"))]);
    let (changed, second) = deliver(3_600_000).await;
    assert!(changed && second != first);
}

fn nginx_files() -> usize {
    rendering("nginx", Vec::new()).files.len()
}

#[test]
fn commands_have_a_limit_and_their_last_words_are_told() {
    let run = |command: &[&str], limit| {
        command::run(&words(command), limit).map_err(|error| error.to_string())
    };
    assert_eq!(run(&[], PATIENCE), Ok(()));
    assert_eq!(run(&["true"], PATIENCE), Ok(()));
    let missing = run(&["/nonexistent/program"], PATIENCE).unwrap_err();
    assert!(
        missing.starts_with("`/nonexistent/program` cannot be started: "),
        "{missing}"
    );
    let failed = run(&["ls", "/nonexistent/\u{1b}[31m"], PATIENCE).unwrap_err();
    assert!(
        failed.contains("ended with exit status: ") && failed.contains("No such file"),
        "{failed}"
    );
    let endless = run(&["sleep", "60"], Duration::from_millis(50)).unwrap_err();
    assert!(endless.contains("did not end within 50ms"), "{endless}");
    // An argument is an argument, whatever a shell would make of it.
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("a b; touch c");
    run(&["touch", odd.to_str().unwrap()], PATIENCE).unwrap();
    assert!(odd.exists());
}

/// The run-time interface of `HAProxy`, played: tables by name, and what it was told.
#[derive(Clone, Default)]
struct Played {
    pid: Arc<Mutex<u32>>,
    tables: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
    versions: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Played {
    async fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let played = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                for command in line.trim().split(';') {
                    let answer = played.answer(command);
                    stream
                        .write_all(format!("{answer}\n").as_bytes())
                        .await
                        .unwrap();
                }
                stream.shutdown().await.unwrap();
            }
        });
        address
    }

    fn answer(&self, command: &str) -> String {
        let mut tables = self.tables.lock().unwrap();
        let mut versions = self.versions.lock().unwrap();
        let words: Vec<&str> = command.split(' ').collect();
        if !command.starts_with("show") {
            self.told.lock().unwrap().push(command.to_owned());
        }
        match words.as_slice() {
            ["show", "info"] => format!(
                "Name: HAProxy\nPid: {}\nStart_time_sec: 1\n",
                self.pid.lock().unwrap()
            ),
            ["show", "acl"] => {
                let lines = tables
                    .keys()
                    .enumerate()
                    .map(|(id, name)| format!("{id} ({name}) pattern loaded from file '{name}'\n"));
                format!(
                    "# id (file) description\n{}",
                    lines.collect::<Vec<_>>().concat()
                )
            }
            ["show", "acl", name] => {
                let lines = tables[*name].iter();
                let lines = lines.map(|pattern| format!("0x55d1c9a1e0f0 {pattern}\n"));
                lines.collect::<Vec<_>>().concat()
            }
            ["add", "acl", version, _, pattern] if version.starts_with('@') => {
                versions
                    .get_mut(*version)
                    .unwrap()
                    .push((*pattern).to_owned());
                String::new()
            }
            ["add", "acl", name, pattern] => {
                tables.get_mut(*name).unwrap().push((*pattern).to_owned());
                String::new()
            }
            ["del", "acl", name, pattern] => {
                tables
                    .get_mut(*name)
                    .unwrap()
                    .retain(|held| held != pattern);
                String::new()
            }
            ["prepare", "acl", _] => {
                let version = versions.len() + 1;
                versions.insert(format!("@{version}"), Vec::new());
                format!("New version created: {version}\n")
            }
            ["commit", "acl", version, name] => {
                let patterns = versions[*version].clone();
                tables.insert((*name).to_owned(), patterns);
                String::new()
            }
            _ => "Unknown command.\n".to_owned(),
        }
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }

    fn held(&self) -> Vec<String> {
        let mut held = self.tables.lock().unwrap()["/l/blocked_ips.acl"].clone();
        held.sort();
        held
    }
}

#[tokio::test]
async fn a_running_haproxy_gets_differences_and_a_restarted_one_is_looked_at_again() {
    let haproxy = Played::default();
    let loaded = vec!["192.0.2.1/32".to_owned(), "192.0.2.9/32".to_owned()];
    haproxy
        .tables
        .lock()
        .unwrap()
        .insert("/l/blocked_ips.acl".to_owned(), loaded);
    let socket = Socket::Tcp(haproxy.listen().await);
    let mut runtime = haproxy::Runtime::new(socket, "/l/".to_owned(), PATIENCE);
    let mut set = async |addresses: &[&str]| {
        let entries = addresses.iter().map(|address| ip(address));
        runtime
            .synchronise(&rendering("haproxy", entries.collect()).files)
            .await
            .unwrap();
    };
    set(&["192.0.2.1", "192.0.2.2"]).await;
    assert_eq!(
        haproxy.told(),
        [
            "add acl /l/blocked_ips.acl 192.0.2.2/32",
            "del acl /l/blocked_ips.acl 192.0.2.9/32"
        ]
    );
    set(&["192.0.2.1", "192.0.2.2"]).await;
    assert_eq!(haproxy.told(), [""; 0]);
    set(&["192.0.2.2"]).await;
    assert_eq!(haproxy.told(), ["del acl /l/blocked_ips.acl 192.0.2.1/32"]);

    // Another process has loaded an older file.
    *haproxy.pid.lock().unwrap() = 2;
    haproxy.tables.lock().unwrap().insert(
        "/l/blocked_ips.acl".to_owned(),
        vec!["192.0.2.1/32".to_owned()],
    );
    set(&["192.0.2.2"]).await;
    assert_eq!(haproxy.held(), ["192.0.2.2/32"]);

    // So many that the table is replaced at once.
    haproxy.told();
    let many: Vec<String> = (0..2_500)
        .map(|n| format!("10.0.{}.{}", n / 250, n % 250))
        .collect();
    set(&many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let told = haproxy.told();
    assert_eq!(
        (told.len(), told[0].as_str()),
        (2_502, "prepare acl /l/blocked_ips.acl")
    );
    assert_eq!(told[2_501], "commit acl @1 /l/blocked_ips.acl");
    assert_eq!(haproxy.held().len(), 2_500);
}

#[tokio::test]
async fn a_haproxy_that_uses_other_files_is_told_so() {
    let haproxy = Played::default();
    haproxy
        .tables
        .lock()
        .unwrap()
        .insert("/other/blocked_ips.acl".to_owned(), Vec::new());
    let socket = Socket::Tcp(haproxy.listen().await);
    let mut runtime = haproxy::Runtime::new(socket, "/l".to_owned(), PATIENCE);
    let files = rendering("haproxy", vec![ip("192.0.2.1")]).files;
    let problem = runtime.synchronise(&files).await.unwrap_err().to_string();
    assert!(
        problem.contains("its configuration uses no file of /l"),
        "{problem}"
    );
}

#[tokio::test]
async fn every_spelling_of_a_file_is_a_table_of_its_own_and_follows_it() {
    let haproxy = Played::default();
    let names = [
        "/l//blocked_ips.acl",
        "/l/./blocked_ips.acl",
        "opt@/l/blocked_ips.acl",
    ];
    let others = ["/other/blocked_ips.acl", "/l/sub/blocked_ips.acl"];
    let old = vec!["192.0.2.9/32".to_owned()];
    for name in names.iter().chain(&others) {
        let mut tables = haproxy.tables.lock().unwrap();
        tables.insert((*name).to_owned(), old.clone());
    }
    let socket = Socket::Tcp(haproxy.listen().await);
    let mut runtime = haproxy::Runtime::new(socket, "/l".to_owned(), PATIENCE);
    for address in ["192.0.2.1", "192.0.2.2"] {
        let files = rendering("haproxy", vec![ip(address)]).files;
        runtime.synchronise(&files).await.unwrap();
        let tables = haproxy.tables.lock().unwrap();
        for name in names {
            assert_eq!(tables[name], [format!("{address}/32")], "{name}");
        }
        for name in others {
            assert_eq!(tables[name], old, "{name}");
        }
    }
}

/// Waits until a file holds what is expected.
async fn holds(
    path: &std::path::Path,
    expected: &str,
    told: &mut tokio::sync::watch::Receiver<u64>,
) {
    let found = async {
        loop {
            if fs::read_to_string(path).is_ok_and(|text| text.contains(expected)) {
                return;
            }
            // The exporter works beside; there is nothing else to wait for.
            let _ = timeout(Duration::from_millis(5), told.changed()).await;
        }
    };
    timeout(PATIENCE, found).await.expect(expected);
}

#[tokio::test]
async fn an_exporter_waits_for_the_list_and_a_dead_target_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let feed = Feed::starting_at(0);
    let mut told = feed.subscribe();
    let metrics = Metrics::new();
    let blocked = folder.path().join("a-file");
    fs::write(&blocked, "in the way").unwrap();
    let dead = settings("haproxy", &blocked.join("not-a-folder"));
    let json = settings("json", &folder.path().join("json"));
    let tasks = [
        tokio::spawn(run(feed.clone(), dead, metrics.clone())),
        tokio::spawn(run(feed.clone(), json, metrics.clone())),
    ];
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(
        !folder.path().join("json").exists(),
        "an empty list is not known to be empty"
    );
    feed.replace(vec![ip("192.0.2.1")]);
    let file = folder.path().join("json/blocklist.json");
    holds(&file, "192.0.2.1", &mut told).await;
    feed.apply(&[
        Edit::Listed(ip("192.0.2.2")),
        Edit::Ended(ip("192.0.2.1").key),
    ]);
    holds(&file, "192.0.2.2", &mut told).await;
    assert!(!fs::read_to_string(&file).unwrap().contains("192.0.2.1\""));
    let text = metrics.encode();
    assert!(
        text.contains("gatewatch_exports_total{exporter=\"json\",result=\"delivered\"}"),
        "{text}"
    );
    assert!(
        text.contains("gatewatch_exports_total{exporter=\"haproxy\",result=\"failed\"}"),
        "{text}"
    );
    assert!(
        !text.contains("exporter=\"json\",result=\"failed\""),
        "{text}"
    );
    for task in tasks {
        task.abort();
    }
}
