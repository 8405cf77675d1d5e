//! The HTTP source through the built command: what was answered with 200 is in the store, whatever happens afterwards.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use gatewatch::traffic::Scenario;
use reqwest::Client;
use serde_json::Value;

use crate::command::{command, output, pipeline, reports, succeeds, topic};

/// A running command with the addresses that it named.
struct Service {
    child: Child,
    events: String,
    api: String,
}

impl Drop for Service {
    /// A test that fails leaves nothing running.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    fn start(pipeline: &Path) -> Self {
        let mut command = command(&["run", pipeline.to_str().unwrap()]);
        command.stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut events, mut api, mut seen) = (None, None, String::new());
        while events.is_none() || api.is_none() {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "ended early: {seen}");
            let address = line
                .split("http://")
                .nth(1)
                .map(|rest| format!("http://{}", rest.trim()));
            if line.contains("taking events") {
                events = address;
            } else if line.contains("serving") {
                api = address;
            }
            seen.push_str(&line);
        }
        // The rest of the log must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self {
            child,
            events: events.unwrap(),
            api: api.unwrap(),
        }
    }

    async fn post(&self, client: &Client, body: &str) -> Value {
        let packed = zstd::encode_all(body.as_bytes(), 1).unwrap();
        let request = client.post(&self.events).bearer_auth("to be shown");
        let request = request.header("content-encoding", "zstd").body(packed);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }

    async fn get(&self, client: &Client, path: &str) -> (u16, String) {
        let answer = client
            .get(format!("{}{path}", self.api))
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

/// A sample of the metrics.
fn sample(text: &str, name: &str) -> u64 {
    let start = format!("{name} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
        .parse()
        .unwrap()
}

/// A pipeline with the settings of a file pipeline and an HTTP source. Its traffic may lie ahead of the machine's clock.
fn over_http(from: &Path, folder: &Path) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    for entry in fs::read_dir(from.parent().unwrap()).unwrap().flatten() {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
    let text = fs::read_to_string(from).unwrap();
    let file = "kind = \"file\"\npath = \"traffic.ndjson\"";
    assert!(
        text.contains(file) && !text.contains("[limits]") && !text.contains("[api]"),
        "{text}"
    );
    let source = "kind = \"http\"\nlisten = \"127.0.0.1:0\"\ntoken = { file = \"events.token\" }";
    let more = "[limits]\nfuture = \"36500d\"\n[window]\nflush_every = \"50ms\"\n[api]\nlisten = \"127.0.0.1:0\"\n";
    fs::write(folder.join("events.token"), "to be shown\n").unwrap();
    let pipeline = folder.join("pipeline.toml");
    fs::write(&pipeline, format!("{}\n{more}", text.replace(file, source))).unwrap();
    pipeline
}

fn in_tokio<T>(work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

#[test]
fn what_was_answered_survives_a_kill_and_gives_the_report_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, _) = pipeline(
        &folder.path().join("file"),
        &Scenario::everything(),
        11,
        3_000,
        40,
    );
    // Whole exchanges and what is refused: halves would have to travel in one batch.
    let log = fs::read(whole.with_file_name("traffic.ndjson")).unwrap();
    let lines: Vec<String> = log
        .split_inclusive(|byte| *byte == b'\n')
        .filter_map(|line| String::from_utf8(line.to_vec()).ok())
        .filter(|line| {
            !line.contains("\"kind\":\"request\"") && !line.contains("\"kind\":\"response\"")
        })
        .collect();
    assert!(lines.len() > 2_000, "{}", lines.len());
    fs::write(whole.with_file_name("traffic.ndjson"), lines.concat()).unwrap();
    succeeds(&["run", whole.to_str().unwrap()]);
    let http = over_http(&whole, &folder.path().join("http"));

    let batches: Vec<String> = lines.chunks(100).map(<[String]>::concat).collect();
    let (first, second) = batches.split_at(batches.len() / 2);
    let refused = in_tokio(async {
        let client = Client::new();
        let mut service = Service::start(&http);
        assert_eq!(service.get(&client, "/healthz").await.0, 200);
        assert_eq!(service.get(&client, "/readyz").await.0, 200);
        let denied = client
            .post(&service.events)
            .body("{}")
            .send()
            .await
            .unwrap();
        assert_eq!(denied.status().as_u16(), 401);
        let mut refused = 0;
        for batch in first {
            let answer = service.post(&client, batch).await;
            refused += answer["rejected_total"].as_u64().unwrap();
        }
        let (_, metrics) = service.get(&client, "/metrics").await;
        let sent = first.len() as u64;
        assert_eq!(
            sample(&metrics, "gatewatch_http_batches_total{status=\"200\"}"),
            sent
        );
        assert_eq!(
            sample(&metrics, "gatewatch_http_batches_total{status=\"401\"}"),
            1
        );
        let records: usize = first.iter().map(|batch| batch.lines().count()).sum();
        assert_eq!(
            sample(&metrics, "gatewatch_records_total") + refused,
            records as u64
        );
        assert_eq!(
            sample(&metrics, "gatewatch_flushes_total"),
            sample(&metrics, "gatewatch_flush_rows_count")
        );
        // SIGKILL: nothing can be saved now.
        service.child.kill().unwrap();
        service.child.wait().unwrap();

        let mut service = Service::start(&http);
        for batch in second {
            let answer = service.post(&client, batch).await;
            refused += answer["rejected_total"].as_u64().unwrap();
        }
        let stopped = std::process::Command::new("kill")
            .arg(service.child.id().to_string())
            .status();
        assert!(stopped.unwrap().success());
        assert!(
            service.child.wait().unwrap().success(),
            "a stop is no fault"
        );
        refused
    });
    assert!(reports(&http) == reports(&whole), "the reports differ");
    let letters = topic(&http, "deadletter");
    assert_eq!(letters.len() as u64, refused);
    let reasons = |lines: &[String]| {
        let mut reasons: Vec<String> = lines
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["data"]["sha256"].to_string())
            .collect();
        reasons.sort();
        reasons
    };
    assert_eq!(reasons(&letters), reasons(&topic(&whole, "deadletter")));
}

#[test]
fn a_taken_port_is_a_fault_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let path = folder.path().join("pipeline.toml");
    for (text, place) in [
        (
            format!("[source]\nkind = \"http\"\nlisten = \"{address}\""),
            "source.listen",
        ),
        (
            format!("[source]\npath = \"log\"\nfollow = true\n[api]\nlisten = \"{address}\""),
            "api.listen",
        ),
    ] {
        let zone = "[[zones]]\nid = \"z\"\nhosts = [\"h.example\"]";
        fs::write(&path, format!("name = \"p\"\n{text}\n{zone}\n")).unwrap();
        let run = output(&["run", path.to_str().unwrap()]);
        let errors = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(1), "{errors}");
        let expected = format!("cannot listen on {address} ({place})");
        assert!(
            errors.contains(&expected) && errors.contains("hint:"),
            "{errors}"
        );
    }
}
