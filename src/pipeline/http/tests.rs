//! Batches over the loopback into a store that a test decides about.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use reqwest::Client;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{Fault, Flush, Summary, take};
use crate::config::{self, Settings};
use crate::enrich::{Judge, Shared};
use crate::source::http::listen;
use crate::telemetry::{Part, Telemetry};

fn settings(more: &str) -> Settings {
    let text = format!(
        "name = \"p\"\n[source]\nkind = \"http\"\nlisten = \"127.0.0.1:0\"\n{more}\n[[zones]]\nid = \"z\"\nhosts = [\"h.example\"]\n"
    );
    config::parse("p.toml", &text, Path::new(".")).unwrap()
}

fn line(kind: &str, id: &str, second: u32) -> String {
    let request = r#""request":{"method":"GET","host":"h.example","path":"/a","headers":{}}"#;
    let parts = match kind {
        "exchange" => format!(r#"{request},"response":{{"status":200}}"#),
        "request" => request.to_owned(),
        _ => r#""response":{"status":200}"#.to_owned(),
    };
    let time = format!("2026-11-20T08:{:02}:{:02}Z", second / 60, second % 60);
    format!("{{\"kind\":\"{kind}\",\"id\":\"{id}\",\"time\":\"{time}\",{parts}}}\n")
}

/// A source at work, and what it has stored.
struct Bench {
    url: String,
    client: Client,
    telemetry: Telemetry,
    stop: Arc<AtomicBool>,
    /// Flushes that may be stored; a closed one refuses them.
    gate: Arc<Semaphore>,
    stored: Arc<Mutex<Vec<Flush>>>,
    /// Flushes that have come to the gate.
    came: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<Result<Summary, Fault>>,
}

/// The traffic of these tests may lie ahead of the machine's clock.
const ANY_TIME: &str = "[limits]\nevent = \"1KiB\"\nfuture = \"36500d\"";

async fn start(more: &str, permits: usize) -> Bench {
    let settings = settings(more);
    let telemetry = Telemetry::default();
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let listening = listen(anywhere, None, &telemetry.metrics).await.unwrap();
    let url = format!("http://{}/events", listening.0.address());
    let judge = Judge::new(
        Arc::clone(&settings.policy),
        Arc::new(Shared::new(b"a key for the test")),
    );
    let stop = Arc::new(AtomicBool::new(false));
    let gate = Arc::new(Semaphore::new(permits));
    let stored = Arc::new(Mutex::new(Vec::new()));
    let came = Arc::new(AtomicUsize::new(0));
    let task = {
        let (stop, gate) = (Arc::clone(&stop), Arc::clone(&gate));
        let (stored, telemetry) = (Arc::clone(&stored), telemetry.clone());
        let came = Arc::clone(&came);
        tokio::task::spawn_blocking(move || {
            let store = async |flush: Option<Flush>| {
                let Some(flush) = flush else {
                    return Ok(());
                };
                came.fetch_add(1, Ordering::Relaxed);
                let permit = gate.acquire().await.map_err(|_| Fault::Stage("test"))?;
                permit.forget();
                stored.lock().unwrap().push(flush);
                Ok(())
            };
            let mut silent = |_| {};
            let run = take(
                listening,
                &settings,
                &judge,
                store,
                &stop,
                &telemetry,
                &mut silent,
            );
            tokio::runtime::Handle::current().block_on(run)
        })
    };
    Bench {
        url,
        client: Client::new(),
        telemetry,
        stop,
        gate,
        stored,
        came,
        task,
    }
}

impl Bench {
    async fn post(&self, body: String) -> (u16, Value) {
        let answer = self.client.post(&self.url).body(body).send().await.unwrap();
        let status = answer.status().as_u16();
        (
            status,
            serde_json::from_str(&answer.text().await.unwrap()).unwrap(),
        )
    }

    async fn end(self) -> Result<Summary, Fault> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_batch_is_an_input_of_its_own() {
    let bench = start(ANY_TIME, 1_000).await;
    // A half in one batch and its other half in the next are two lone halves.
    let (status, answer) = bench.post(line("request", "split", 600)).await;
    assert_eq!((status, &answer["accepted"]), (200, &Value::from(1)));
    bench.post(line("response", "split", 600)).await;
    // An older batch joins by its own clock: five seconds apart within it, ten minutes behind the ones before.
    let pair = line("response", "pair", 5) + "\n" + &line("request", "pair", 0);
    bench.post(pair).await;
    // Within a batch the timeout of 30 s holds as in any input.
    let late =
        line("request", "late", 0) + &line("exchange", "x", 40) + &line("response", "late", 41);
    bench.post(late).await;
    let stored = Arc::clone(&bench.stored);
    let summary = bench.end().await.unwrap();
    let counts = summary.counts;
    assert_eq!((counts.records, counts.exchanges), (7, 4));
    assert_eq!((counts.unanswered, counts.orphan_responses), (2, 2));
    let clocks: Vec<i64> = stored
        .lock()
        .unwrap()
        .iter()
        .map(|f| f.clock.unwrap().seconds() % 3_600)
        .collect();
    assert!(
        clocks.iter().all(|clock| *clock == 600),
        "the watermark never goes back: {clocks:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_lines_are_listed_and_do_not_fail_the_batch() {
    let bench = start(ANY_TIME, 1_000).await;
    let long = format!("{{\"x\":\"{}\"}}\n", "y".repeat(1_100));
    let body = line("exchange", "a", 1) + "no json\n\n" + &long + &line("exchange", "b", 2) + "[]";
    let (status, answer) = bench.post(body.clone()).await;
    assert_eq!(status, 200);
    assert_eq!(answer["accepted"], 2);
    assert_eq!(answer["rejected_total"], 3);
    let rejected = serde_json::json!([
        {"line": 2, "reason": "malformed"}, {"line": 4, "reason": "too_large"}, {"line": 6, "reason": "malformed"},
    ]);
    assert_eq!(answer["rejected"], rejected);
    // Only the first hundred are listed; all are counted.
    let (_, many) = bench.post("x\n".repeat(25_000)).await;
    assert_eq!(many["rejected_total"], 25_000);
    assert_eq!(many["rejected"].as_array().unwrap().len(), 100);

    let stored = Arc::clone(&bench.stored);
    bench.end().await.unwrap();
    let stored = stored.lock().unwrap();
    let letters: Vec<_> = stored.iter().flat_map(|flush| &flush.rejected).collect();
    assert_eq!(letters.len(), 25_003);
    assert!(
        stored.iter().all(|flush| flush.rejected.len() <= 10_000),
        "garbage is cut into flushes"
    );
    let source = format!("http/{}", answer["batch"].as_str().unwrap());
    let first: Vec<_> = letters
        .iter()
        .filter(|letter| letter.position.source == source)
        .collect();
    let offsets: Vec<usize> = first
        .iter()
        .map(|letter| usize::try_from(letter.position.offset).unwrap())
        .collect();
    let starts: Vec<&str> = offsets.iter().map(|at| &body[*at..*at + 2]).collect();
    assert_eq!(starts, ["no", "{\"", "[]"]);
    assert_eq!(first[1].length, long.len() as u64 - 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_ahead_of_their_arrival_are_refused() {
    // Without a setting of its own it is ten minutes, and 2099 is ahead of every clock by more.
    let bench = start("", 1_000).await;
    let past = line("exchange", "a", 0).replace("2026-", "1999-");
    let future = line("exchange", "a", 0).replace("2026-", "2099-");
    let (_, answer) = bench.post(past + &future).await;
    assert_eq!(answer["accepted"], 1, "{answer}");
    let rejected = serde_json::json!([{"line": 2, "reason": "time_in_future"}]);
    assert_eq!(answer["rejected"], rejected);
    bench.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_come_together_share_a_flush() {
    let bench = start(ANY_TIME, 1_000).await;
    assert_eq!(bench.post(line("exchange", "first", 1)).await.0, 200);
    let mut senders = Vec::new();
    for number in 0..60 {
        let body = line("exchange", &number.to_string(), 1);
        senders.push(tokio::spawn(
            bench.client.post(&bench.url).body(body).send(),
        ));
    }
    for sender in senders {
        assert_eq!(sender.await.unwrap().unwrap().status().as_u16(), 200);
    }
    let counts: Vec<u64> = bench
        .stored
        .lock()
        .unwrap()
        .iter()
        .map(|flush| flush.counts.exchanges)
        .collect();
    assert_eq!(counts.iter().sum::<u64>(), 61);
    assert!(counts.len() < 20, "{counts:?}");
    bench.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_answers_what_was_begun_and_only_after_it_is_stored() {
    let bench = start(ANY_TIME, 0).await;
    let sender = tokio::spawn(
        bench
            .client
            .post(&bench.url)
            .body(line("exchange", "a", 1))
            .send(),
    );
    while bench.came.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    assert!(bench.telemetry.health.reasons().is_empty());
    bench.stop.store(true, Ordering::Relaxed);
    while bench.telemetry.health.reasons().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        bench.telemetry.health.reasons()[&Part::Pipeline],
        "stopping"
    );
    assert!(!sender.is_finished(), "answered before it was stored");
    assert!(
        !bench.task.is_finished(),
        "ended before everything was stored"
    );
    bench.gate.add_permits(10);
    assert_eq!(sender.await.unwrap().unwrap().status().as_u16(), 200);
    let summary = bench.task.await.unwrap().unwrap();
    assert_eq!(summary.counts.exchanges, 1);
    assert!(
        bench.client.post(&bench.url).send().await.is_err(),
        "the port is closed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_flush_fails_is_not_acknowledged() {
    let bench = start(ANY_TIME, 1).await;
    assert_eq!(bench.post(line("exchange", "a", 1)).await.0, 200);
    bench.gate.close();
    let (status, answer) = bench.post(line("exchange", "b", 1)).await;
    assert_eq!(status, 503);
    assert_eq!(answer["detail"], "the batch was not stored; send it again");
    assert_eq!(bench.stored.lock().unwrap().len(), 1);
    let fault = bench.task.await.unwrap().unwrap_err();
    assert!(matches!(fault, Fault::Stage("test")), "{fault}");
}
