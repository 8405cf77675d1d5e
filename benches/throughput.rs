//! How fast the whole path is against a bare typed parse of the same file, and how much memory it needs; both printed
//! from one run.
//!
//! ```text
//! cargo bench --bench throughput                        1,000,000 exchanges
//! cargo bench --bench throughput -- 200000              fewer
//! cargo bench --bench throughput -- 1000000 memory      and the peak memory of 1× and 10× as many
//! ```
//!
//! The bare loops read the file in blocks, split lines and parse each with `sonic-rs` into a typed, borrowed struct, on
//! one thread: once the whole event as a pipeline needs it (header maps, bodies kept as they stand), and once only eight
//! members (kind, id, time, method, host, path, authorization, status), which is the least that could be called a parse. Ours is `gatewatch run` as users run it: reading, joining, four verdicts,
//! windows, Parquet, labels. Tokens repeat as they do in traffic, so the token cache is warm after the first thousands.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench stops where something is missing"
)]

use std::borrow::Cow;
use std::collections::HashMap;
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

/// The whole event.
#[derive(Deserialize)]
#[allow(dead_code, reason = "parsed, not used")]
struct Whole<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    id: Option<&'a str>,
    #[serde(borrow)]
    time: sonic_rs::LazyValue<'a>,
    #[serde(borrow, default)]
    zone: Option<&'a str>,
    #[serde(borrow, default)]
    client: Option<Client<'a>>,
    #[serde(borrow, default)]
    tls: Option<sonic_rs::LazyValue<'a>>,
    #[serde(borrow, default)]
    request: Option<WholeRequest<'a>>,
    #[serde(borrow, default)]
    response: Option<WholeResponse<'a>>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "parsed, not used")]
struct Client<'a> {
    #[serde(borrow, default)]
    ip: Option<&'a str>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    asn: Option<u32>,
}

type HeaderMap<'a> = HashMap<Cow<'a, str>, sonic_rs::LazyValue<'a>>;

#[derive(Deserialize)]
#[allow(dead_code, reason = "parsed, not used")]
struct WholeRequest<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    host: Cow<'a, str>,
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(borrow, default)]
    query: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    headers: Option<HeaderMap<'a>>,
    #[serde(borrow, default)]
    body: Option<sonic_rs::LazyValue<'a>>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "parsed, not used")]
struct WholeResponse<'a> {
    status: u16,
    #[serde(borrow, default)]
    headers: Option<HeaderMap<'a>>,
    #[serde(borrow, default)]
    body: Option<sonic_rs::LazyValue<'a>>,
    #[serde(default)]
    duration_ms: Option<f64>,
}

/// Eight members of it.
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

    let (mut whole, mut few, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    let log = folder.path().join("traffic.ndjson");
    for _ in 0..ROUNDS {
        whole.push(
            lines as f64
                / bare(&log, |line| {
                    drop(black_box(
                        sonic_rs::from_slice::<Whole<'_>>(line).expect("an event"),
                    ));
                }),
        );
        few.push(
            lines as f64
                / bare(&log, |line| {
                    drop(black_box(
                        sonic_rs::from_slice::<Event<'_>>(line).expect("an event"),
                    ));
                }),
        );
        ours.push(lines as f64 / run(folder.path()).0);
    }
    let (whole, few, ours) = (median(&mut whole), median(&mut few), median(&mut ours));
    println!("bare sonic-rs typed parse, whole event     {whole:>10.0} lines/s");
    println!("bare sonic-rs typed parse, eight members   {few:>10.0} lines/s");
    println!("gatewatch run, one process                 {ours:>10.0} lines/s");
    println!(
        "ratio to the whole event                   {:>10.2}  (goal: at least 0.20)",
        ours / whole
    );
    println!(
        "ratio to eight members                     {:>10.2}",
        ours / few
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

/// Seconds of a bare loop.
fn bare(path: &Path, parse: impl Fn(&[u8])) -> f64 {
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
            parse(&block[start..end]);
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
