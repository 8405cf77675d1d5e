//! What 100 rules cost, as a share of everything that the pipeline does with an event, and of judging alone.
//!
//! ```text
//! cargo bench --bench rules              100,000 exchanges
//! cargo bench --bench rules -- 20000     fewer
//! ```
//!
//! The exchanges are those of `gatewatch demo`, the rules of the kinds that operators write: most name a host and some of
//! its paths or methods, some ask every request for its address, user agent or certificate. Rules are what few requests
//! break, so few of these fire; what follows when one does (rows for every entity) is in the last line and no part of evaluating.
//!
//! The pipeline is the one of `gatewatch run`, on one thread: decode, join, judge, append to columns, the SQL of the
//! windows, Parquet files with their manifest. Judging alone starts from decoded exchanges. The four sides take turns and the fastest
//! turn of each counts. The goal is 10 % of the pipeline.

#![allow(
    clippy::expect_used,
    reason = "a bench stops where something is missing"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use gatewatch::clock::Stopwatch;
use gatewatch::correlate::{self, JoinState};
use gatewatch::decode::{Adapter, Kind, Limits, event_v1};
use gatewatch::enrich::{Judge, Judged, Shared};
use gatewatch::model::{EventTime, Exchange, RuleAction, RuleKind};
use gatewatch::pipeline::{Partition, Stream};
use gatewatch::policy::compile;
use gatewatch::policy::objects::{RuleObject, ZoneObject};
use gatewatch::store::local::{Commit, LocalStore};
use gatewatch::traffic::{DEFAULT_SPAN_SECONDS, DEFAULT_START_SECONDS, Generator, Scenario};
use gatewatch::window;
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rules of each zone.
const RULES: usize = 100;

/// Turns of each side; the machine is not alone.
const TURNS: usize = 7;

/// The rules, a host of the zone and a number put in.
const SHAPES: [&str; 10] = [
    r#"http.host eq "HOST" and http.request.uri.path eq "/api/v1/admin/NUMBER""#,
    r#"http.host eq "HOST" and http.request.method in {"PUT" "DELETE"} and not cf.api_gateway.auth_id_present"#,
    r#"http.host in {"HOST" "nowhereNUMBER.example"} and cf.tls_client_auth.cert_presented and not cf.tls_client_auth.cert_verified"#,
    r#"http.host eq "legacyNUMBER.example" and http.request.uri.path contains "/internal/""#,
    r#"http.host eq "legacyNUMBER.example" and any(http.request.headers["x-version"][*] eq "NUMBER")"#,
    r#"http.host eq "HOST" and starts_with(http.request.uri.path, "/api/vNUMBER/") and http.response.code ge 500"#,
    r#"http.host eq "partnerNUMBER.example" and lower(http.request.uri.path) matches "^/export/[0-9]+$""#,
    "ip.src in {203.0.NUMBER.0/28 198.51.100.0/30 2001:db8:NUMBER::/48}",
    r#"http.user_agent contains "scanner-NUMBER""#,
    r#"http.request.uri.path wildcard "/wp-NUMBER/*" and http.request.method eq "POST""#,
];

fn main() {
    let events = std::env::args().find_map(|argument| argument.parse::<u64>().ok());
    let events = events.unwrap_or(100_000);
    let scenario = Scenario::demo();
    let start = EventTime::from_seconds(DEFAULT_START_SECONDS).expect("a time");
    let mut generator =
        Generator::new(&scenario, 7, events, start, DEFAULT_SPAN_SECONDS).expect("keys");
    let mut log = Vec::new();
    while generator.next_line(&mut log) {}
    let lines: Vec<&[u8]> = log.split(|byte| *byte == b'\n').collect();
    let exchanges: Vec<Exchange<'_>> = lines
        .iter()
        .filter_map(|line| event_v1(line, Limits::default()).ok())
        .filter(|record| record.kind != Kind::Response)
        .map(|record| record.exchange)
        .collect();

    let shared = Arc::new(Shared::new(b"bench"));
    let judge = |objects: &[ZoneObject]| {
        let policy = compile(objects).expect("a policy");
        Judge::new(Arc::new(policy), Arc::clone(&shared))
    };
    let mut objects = scenario.objects();
    let without = judge(&objects);
    for object in &mut objects {
        object.rules = (0..RULES)
            .map(|number| rule(number, &object.hosts))
            .collect();
    }
    let with = judge(&objects);
    let runtime = Builder::new_current_thread().build().expect("a runtime");

    let mut best = [Duration::MAX; 4];
    for _ in 0..TURNS {
        let turns = [
            judging(&without, &exchanges),
            judging(&with, &exchanges),
            pipeline(&without, &lines, &runtime),
            pipeline(&with, &lines, &runtime),
        ];
        for (best, turn) in best.iter_mut().zip(turns) {
            *best = turn.min(*best);
        }
    }
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / exchanges.len() as f64;
    let [judged, judged_with, whole, whole_with] = best.map(micros);
    let rules = judged_with - judged;
    println!(
        "{} exchanges in {} lines, {RULES} rules a zone, of which {:.2} fire per exchange",
        exchanges.len(),
        lines.len(),
        fired(&with, &exchanges) as f64 / exchanges.len() as f64,
    );
    println!("the pipeline without rules      {whole:>6.2} µs an exchange, one core");
    println!("judging alone, without rules    {judged:>6.2} µs");
    println!(
        "evaluating the rules            {rules:>6.2} µs, {:.1} ns a rule: {:.1} % of the pipeline (goal: at most 10 %), \
         {:.1} % of judging alone",
        rules * 1e3 / RULES as f64,
        rules / whole * 100.0,
        rules / judged * 100.0,
    );
    println!(
        "the pipeline with rules         {whole_with:>6.2} µs: {:+.1} %, with what follows from those that fire",
        (whole_with / whole - 1.0) * 100.0
    );
}

fn rule(number: usize, hosts: &[String]) -> RuleObject {
    let shape = SHAPES.get(number % SHAPES.len()).expect("a shape");
    // Tens and ones both vary, so that every shape meets every host.
    let host = hosts.get((number / SHAPES.len()) % hosts.len());
    let host = host.expect("a host").replace('*', "feed");
    RuleObject {
        id: None,
        title: format!("rule {number}"),
        description: String::new(),
        kind: RuleKind::Custom,
        action: RuleAction::Log,
        enabled: true,
        include_hosts: Vec::new(),
        exclude_operations: Vec::new(),
        expression: shape
            .replace("HOST", &host)
            .replace("NUMBER", &number.to_string()),
        block: None,
        duration: None,
    }
}

/// Judges every exchange.
fn judging(judge: &Judge, exchanges: &[Exchange<'_>]) -> Duration {
    let mut judged = Judged::default();
    let watch = Stopwatch::start();
    for exchange in exchanges {
        black_box(judge.judge(black_box(exchange), &mut judged));
    }
    watch.elapsed()
}

/// Rules that fire.
fn fired(judge: &Judge, exchanges: &[Exchange<'_>]) -> usize {
    let mut judged = Judged::default();
    let fired = exchanges.iter().map(|exchange| {
        let in_zone = judge.judge(exchange, &mut judged);
        let fired = judged.rules.iter().filter(|verdict| verdict.fires).count();
        if in_zone { fired } else { 0 }
    });
    fired.sum()
}

/// Takes every line to the store.
fn pipeline(judge: &Judge, lines: &[&[u8]], runtime: &Runtime) -> Duration {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = LocalStore::open(folder.path(), "bench").expect("a store");
    let watch = Stopwatch::start();
    let stream = Stream::new(
        Adapter::new(event_v1),
        Limits::default(),
        correlate::Limits::default(),
        judge.clone(),
        &JoinState::default(),
        0,
    );
    let mut partition = Partition::new(stream, judge, ("bench", 0), 0, false);
    let mut offset = 0;
    for line in lines {
        let end = offset + line.len() as u64 + 1;
        if !line.is_empty() {
            partition.apply(line, offset, end, None);
        }
        offset = end;
        if partition.full(1) {
            store_flush(&mut partition, &mut store, runtime);
        }
    }
    partition.drain();
    store_flush(&mut partition, &mut store, runtime);
    watch.elapsed()
}

fn store_flush(partition: &mut Partition, store: &mut LocalStore, runtime: &Runtime) {
    let flush = partition.take().expect("columns");
    let sums = runtime
        .block_on(window::sum(flush.batches))
        .expect("the sums");
    let commit = Commit {
        sums: &sums,
        events: None,
        checkpoint: None,
        outgrown: None,
        topics: BTreeMap::new(),
        detections: None,
        journal: None,
        stored_at: DEFAULT_START_SECONDS * 1_000,
    };
    store.commit(commit).expect("a flush on disk");
}
