//! How fast the whole path is against a bare typed parse of the same file, and how much memory it needs; both printed
//! from one run.
//!
//! ```text
//! cargo bench --bench throughput                        1,000,000 exchanges
//! cargo bench --bench throughput -- 200000              fewer
//! cargo bench --bench throughput -- 1000000 memory      and the peak memory of 1× and 10× as many
//! ```
//!
//! The bare loop reads the file in blocks, splits lines and parses each with `sonic-rs` into a typed, borrowed struct of
//! eight members (kind, id, time, method, host, path, authorization, status), on one thread. Ours is `gatewatch run` as users run it: reading, joining, four verdicts,
//! windows, Parquet, labels. Tokens repeat as they do in traffic, so the token cache is warm after the first thousands.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench stops where something is missing"
)]

use std::borrow::Cow;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use gatewatch::clock::Stopwatch;
use gatewatch::model::EventTime;
use gatewatch::traffic::{DEFAULT_SPAN_SECONDS, DEFAULT_START_SECONDS, Generator, Scenario};
use serde::Deserialize;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs of each side; they take turns, because the machine is not alone.
const ROUNDS: usize = 5;

#[derive(Deserialize)]
#[allow(dead_code, reason = "parsed, not used")]
struct Event<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    id: Option<&'a str>,
    #[serde(borrow)]
    time: sonic_rs::LazyValue<'a>,
    #[serde(borrow, default)]
    request: Option<Request<'a>>,
    #[serde(default)]
    response: Option<Response>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "parsed, not used")]
struct Request<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    host: Cow<'a, str>,
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(borrow, default)]
    headers: Option<Headers<'a>>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "parsed, not used")]
struct Headers<'a> {
    #[serde(borrow, default)]
    authorization: Option<sonic_rs::LazyValue<'a>>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "parsed, not used")]
struct Response {
    status: u16,
}

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let events: u64 = arguments
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(1_000_000);
    let memory = arguments.any(|argument| argument == "memory");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lines = generate(folder.path(), events);
    let size = fs::metadata(folder.path().join("traffic.ndjson")).map_or(0, |facts| facts.len());
    println!(
        "{events} exchanges in {lines} lines, {} bytes a line",
        size / lines.max(1)
    );

    let mut parse = Vec::new();
    let mut ours = Vec::new();
    for _ in 0..ROUNDS {
        parse.push(lines as f64 / bare(&folder.path().join("traffic.ndjson")));
        ours.push(lines as f64 / run(folder.path()).0);
    }
    let (parse, ours) = (median(&mut parse), median(&mut ours));
    println!("bare sonic-rs typed parse, one thread   {parse:>10.0} lines/s");
    println!("gatewatch run, one process              {ours:>10.0} lines/s");
    println!(
        "ratio                                   {:>10.2}  (goal: at least 0.20)",
        ours / parse
    );

    if memory {
        let (_, small) = run(folder.path());
        generate(folder.path(), events * 10);
        let (seconds, large) = run(folder.path());
        println!("peak memory, {events} exchanges: {} MB", small / 1_000);
        println!(
            "peak memory, {} exchanges: {} MB ({seconds:.0} s)",
            events * 10,
            large / 1_000
        );
        println!(
            "ratio                                   {:>10.2}  (goal: at most 1.30)",
            large as f64 / small as f64
        );
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Writes a pipeline folder with its log; gives the number of lines.
fn generate(folder: &Path, events: u64) -> u64 {
    let scenario = Scenario::demo();
    for (name, text) in scenario.pipeline_files("traffic.ndjson") {
        fs::write(folder.join(name), text).expect("a pipeline file");
    }
    let start = EventTime::from_seconds(DEFAULT_START_SECONDS).expect("a start");
    let mut generator =
        Generator::new(&scenario, 1, events, start, DEFAULT_SPAN_SECONDS).expect("a generator");
    let mut file = BufWriter::with_capacity(
        1 << 20,
        File::create(folder.join("traffic.ndjson")).expect("a log"),
    );
    let (mut line, mut lines) = (Vec::new(), 0);
    while generator.next_line(&mut line) {
        file.write_all(&line).expect("a line");
        line.clear();
        lines += 1;
    }
    file.flush().expect("the log");
    lines
}

/// Seconds of the bare loop.
fn bare(path: &Path) -> f64 {
    let watch = Stopwatch::start();
    let mut file = File::open(path).expect("the log");
    let mut block = Vec::with_capacity(2 << 20);
    loop {
        let kept = block.len();
        block.resize(kept + (1 << 20), 0);
        let read = file.read(&mut block[kept..]).expect("a block");
        block.truncate(kept + read);
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &block) {
            black_box(sonic_rs::from_slice::<Event<'_>>(&block[start..end]).expect("an event"));
            start = end + 1;
        }
        if read == 0 {
            break;
        }
        block.drain(..start);
    }
    watch.elapsed().as_secs_f64()
}

/// Seconds and peak memory (kB) of `gatewatch run` into an empty store.
fn run(folder: &Path) -> (f64, u64) {
    let _ = fs::remove_dir_all(folder.join("data"));
    let watch = Stopwatch::start();
    let mut child = Command::new(env!("CARGO_BIN_EXE_gatewatch"))
        .arg("run")
        .arg(folder.join("pipeline.toml"))
        .stderr(Stdio::null())
        .spawn()
        .expect("the command");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes =
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = kilobytes.unwrap_or(0).max(peak);
        if let Some(outcome) = child.try_wait().expect("its end") {
            assert!(outcome.success(), "gatewatch run failed");
            return (watch.elapsed().as_secs_f64(), peak);
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
