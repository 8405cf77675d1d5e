//! What 100 rules cost, relative to judging the same exchanges without rules.
//!
//! ```text
//! cargo bench --bench rules              100,000 exchanges
//! cargo bench --bench rules -- 20000     fewer
//! ```
//!
//! The exchanges are those of `gatewatch demo`. The rules are of the kinds that operators write: most name a host and
//! some of its paths or methods, some ask every request for its address, user agent, token or certificate. The sides take
//! turns and the fastest turn of each counts. The goal is 10 %.

#![allow(
    clippy::expect_used,
    reason = "a bench stops where something is missing"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use gatewatch::clock::Stopwatch;
use gatewatch::decode::{Kind, Limits, event_v1};
use gatewatch::enrich::rules::{Facts, evaluate};
use gatewatch::enrich::{Judge, Judged, Shared};
use gatewatch::model::EventTime;
use gatewatch::policy::compile;
use gatewatch::policy::rules::{Expression, Lists, Names};
use gatewatch::traffic::{DEFAULT_SPAN_SECONDS, DEFAULT_START_SECONDS, Generator, Scenario};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rules that are judged.
const RULES: usize = 100;

/// Turns of each side; the machine is not alone.
const TURNS: usize = 7;

/// The rules, `host` and a number put in.
const SHAPES: [&str; 10] = [
    r#"http.host eq "HOST" and http.request.uri.path eq "/api/v1/admin/NUMBER""#,
    r#"http.host eq "HOST" and http.request.method in {"PUT" "DELETE"} and not cf.api_gateway.auth_id_present"#,
    r#"http.host in {"HOST" "nowhereNUMBER.example"} and not cf.tls_client_auth.cert_verified"#,
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
    let policy = Arc::new(compile(&scenario.objects()).expect("the demo's policy"));
    let start = EventTime::from_seconds(DEFAULT_START_SECONDS).expect("a time");
    let mut generator =
        Generator::new(&scenario, 7, events, start, DEFAULT_SPAN_SECONDS).expect("keys");
    let mut lines = Vec::new();
    while generator.next_line(&mut lines) {}
    let exchanges: Vec<_> = lines
        .split(|byte| *byte == b'\n')
        .filter_map(|line| event_v1(line, Limits::default()).ok())
        .filter(|record| record.kind != Kind::Response)
        .map(|record| record.exchange)
        .collect();

    let judge = Judge::new(Arc::clone(&policy), Arc::new(Shared::new(b"bench")));
    let lists = Lists::default();
    let rules: Vec<Vec<Expression>> = policy
        .zones
        .iter()
        .zip(scenario.objects())
        .map(|(zone, object)| {
            let names = Names::new(&zone.tokens, &lists);
            let rule = |number: usize| {
                let shape = SHAPES.get(number % SHAPES.len()).expect("a shape");
                let host = object
                    .hosts
                    .get(number % object.hosts.len())
                    .expect("a host");
                let text = shape
                    .replace("HOST", host)
                    .replace("NUMBER", &(number % 200).to_string());
                Expression::compile(&text, &names).expect("a rule")
            };
            (0..RULES).map(rule).collect()
        })
        .collect();

    let mut best = [Duration::MAX; 2];
    let mut fired = 0_u64;
    for _ in 0..TURNS {
        for (with_rules, best) in [false, true].into_iter().zip(&mut best) {
            let mut judged = Judged::default();
            fired = 0;
            let watch = Stopwatch::start();
            for exchange in &exchanges {
                if !judge.judge(black_box(exchange), &mut judged) || !with_rules {
                    continue;
                }
                let (Some(zone), Some(rules)) =
                    (policy.zones.get(judged.zone), rules.get(judged.zone))
                else {
                    continue;
                };
                let facts = Facts::new(zone, exchange, &judged);
                for rule in rules {
                    fired += u64::from(evaluate(rule, &facts).value);
                }
            }
            *best = watch.elapsed().min(*best);
        }
    }
    let [without, with] = best;
    let count = exchanges.len() as f64;
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / count;
    let ratio = (with.as_secs_f64() / without.as_secs_f64() - 1.0) * 100.0;
    println!(
        "{} exchanges, {RULES} rules: judging {:.2} µs an exchange, with rules {:.2} µs: {ratio:+.1} % \
         ({:.1} ns a rule, {fired} fired)",
        exchanges.len(),
        micros(without),
        micros(with),
        (micros(with) - micros(without)) * 1e3 / RULES as f64,
    );
}
