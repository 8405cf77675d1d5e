//! Look-ups per second of the router and core, for 10, 1,000 and 100,000 templates in several shapes.
//!
//! `cargo bench --bench router` prints one line per shape. Paths lie one behind the other in memory, as those of decoded
//! events do, and name the templates in an order that no cache foresees. Time is processor time of this thread where
//! the system tells it, so that neighbours count less.

use std::hint::black_box;

use gatewatch::model::Method;
use gatewatch::policy::compile;
use gatewatch::policy::objects::{OperationObject, ZoneObject};
use gatewatch::policy::operations::Operations;

const HOST: &str = "api.shop.example";
const SIZES: [usize; 3] = [10, 1_000, 100_000];
/// Paths in memory; they are asked for several times over.
const PATHS: usize = 400_000;
const ROUNDS: usize = 5;

/// The `n`th template of a shape; variables are written `{name}`, and a path has `7` in their place.
type Shape = fn(usize) -> String;

const SHAPES: [(&str, Shape); 7] = [
    ("four segments", |n| format!("/api/v1/resource{n}/{{id}}")),
    ("six segments", |n| {
        format!("/api/v1/group{}/{{id}}/resource{n}/{{item}}", n % 100)
    }),
    ("five operations a resource", |n| {
        let tail = [
            "",
            "/{id}",
            "/{id}/items",
            "/{id}/items/{item}",
            "/{id}/items/{item}/notes",
        ];
        format!(
            "/api/v1/resource{}{}",
            n / 5,
            tail.get(n % 5).unwrap_or(&"")
        )
    }),
    ("a tree of tens", |n| {
        let digit = |place: u32| n / 10_usize.pow(place) % 10;
        let (a, b, c, d, e) = (digit(0), digit(1), digit(2), digit(3), digit(4));
        format!("/a{a}/b{b}/c{c}/d{d}/e{e}/{{id}}")
    }),
    ("a chain behind each", |n| {
        format!("/resource{n}/alpha/beta/gamma/delta/{{id}}")
    }),
    ("long names", |n| {
        format!("/organizations/{{org}}/a-rather-long-resource-name-{n}/{{id}}/and-an-action/{{x}}")
    }),
    // Literals and variables in every combination: the search turns back at most levels.
    ("ambiguous", |n| {
        let segments: String = (0..6)
            .map(|place| match n >> (2 * place) & 3 {
                0 => format!("/a{}", n >> 12),
                1 => format!("/b{}", n >> 12),
                2 => format!("/c{}", n >> 12),
                _ => format!("/{{v{place}}}"),
            })
            .collect();
        format!("{segments}/{n}")
    }),
];

fn main() {
    println!("{:>28}  million look-ups a second and core", "");
    for (name, shape) in SHAPES {
        let figures: Vec<String> = SIZES
            .iter()
            .map(|size| match measured(shape, *size) {
                Some(rate) => format!("{size:>7} templates: {rate:>5.2}"),
                None => format!("{size:>7} templates: refused"),
            })
            .collect();
        println!("{name:>28}  {}", figures.join("  "));
    }
}

fn measured(shape: Shape, size: usize) -> Option<f64> {
    let templates: Vec<String> = (0..size).map(shape).collect();
    let zone = ZoneObject {
        id: "bench".into(),
        hosts: vec![HOST.into()],
        operations: templates
            .iter()
            .map(|endpoint| OperationObject {
                method: "GET".into(),
                host: HOST.into(),
                endpoint: endpoint.clone(),
            })
            .collect(),
        ..ZoneObject::default()
    };
    let policy = compile(&[zone]).ok()?;
    let operations = &policy.zones.first()?.operations;

    let mut text = String::new();
    let mut ends = Vec::with_capacity(PATHS);
    for turn in 0..PATHS {
        // A multiplier that shares no factor with the sizes visits every template in a scattered order.
        let template = templates.get(turn.wrapping_mul(7_919_357) % size)?;
        let mut rest = template.as_str();
        while let Some((literal, variable)) = rest.split_once('{') {
            text.push_str(literal);
            text.push_str("4711");
            rest = variable.split_once('}').map_or("", |(_, rest)| rest);
        }
        text.push_str(rest);
        ends.push(text.len());
    }
    // Once to warm up, and to see that every path has its operation.
    let found = look_up(operations, &text, &ends);
    assert_eq!(found, PATHS);
    let start = seconds();
    for _ in 0..ROUNDS {
        black_box(look_up(operations, &text, &ends));
    }
    Some((ROUNDS * PATHS) as f64 / (seconds() - start) / 1e6)
}

fn look_up(operations: &Operations, text: &str, ends: &[usize]) -> usize {
    let mut found = 0;
    let mut start = 0;
    for end in ends {
        let path = text.get(start..*end).unwrap_or_default();
        let matched = operations.find(Method::Get, HOST, black_box(path));
        found += usize::from(matched.operation.is_some());
        start = *end;
    }
    found
}

/// Processor time of this thread, else the time that has passed.
#[expect(
    clippy::disallowed_methods,
    reason = "a bench measures the present, it does not judge by it"
)]
fn seconds() -> f64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let passed = START.get_or_init(std::time::Instant::now).elapsed();
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let spent = spent.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    spent.map_or(passed.as_secs_f64(), |nanoseconds| nanoseconds / 1e9)
}
