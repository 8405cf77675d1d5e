//! Synthetic traffic through the built command: every figure of both reports, the label and insight topics, the dead letters and the
//! verdicts of `explain` must be what the generator knows to be true.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, helpers of tests too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use gatewatch::model::EventTime;
use gatewatch::traffic::{
    DEFAULT_SPAN_SECONDS, DEFAULT_START_SECONDS, Generator, Range, Scenario, Truth,
};
use serde_json::Value;

/// Differences that are printed before the rest is only counted.
const SHOWN: usize = 60;

fn gatewatch(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_gatewatch"))
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "gatewatch {arguments:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Writes a pipeline folder with its log, and returns the truth of the log.
fn write(folder: &Path, scenario: &Scenario, seed: u64, events: u64, bad_per_mille: u32) -> Truth {
    let start = EventTime::from_seconds(DEFAULT_START_SECONDS).unwrap();
    let mut generator = Generator::new(scenario, seed, events, start, DEFAULT_SPAN_SECONDS)
        .unwrap()
        .bad_per_mille(bad_per_mille);
    let mut log = Vec::new();
    while generator.next_line(&mut log) {}
    fs::write(folder.join("traffic.ndjson"), log).unwrap();
    for (name, text) in scenario.pipeline_files("traffic.ndjson") {
        fs::write(folder.join(name), text).unwrap();
    }
    generator.truth().clone()
}

/// Every leaf of a JSON value by its path; endpoints go by their names instead of their places.
fn leaves(value: &Value, path: &str, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(members) => {
            // An empty object is a leaf, so that its absence shows.
            if members.is_empty() {
                into.insert(path.to_owned(), value.clone());
            }
            for (name, member) in members {
                leaves(member, &format!("{path} {name}"), into);
            }
        }
        Value::Array(items)
            if items
                .first()
                .is_some_and(|item| item.get("endpoint").is_some()) =>
        {
            for item in items {
                let name = |key: &str| item[key].as_str().unwrap_or("?").to_owned();
                let place = format!(
                    "{path} [{} {}{}]",
                    name("method"),
                    name("host"),
                    name("endpoint")
                );
                leaves(item, &place, into);
            }
        }
        _ => {
            into.insert(path.to_owned(), value.clone());
        }
    }
}

/// Fails with one line per figure that differs.
fn assert_same(what: &str, found: &Value, truth: &Value) {
    let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
    leaves(found, "", &mut left);
    leaves(truth, "", &mut right);
    let mut names: Vec<&String> = left.keys().chain(right.keys()).collect();
    names.sort();
    names.dedup();
    let mut text = String::new();
    let mut count = 0;
    for name in names {
        let (found, truth) = (left.get(name), right.get(name));
        if found != truth {
            count += 1;
            if count <= SHOWN {
                let show =
                    |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
                writeln!(
                    text,
                    " {name}: found {}, true is {}",
                    show(found),
                    show(truth)
                )
                .unwrap();
            }
        }
    }
    assert!(right.len() > 100, "{what}: nothing to compare");
    assert_eq!(
        count,
        0,
        "{what}: {count} figures of {} differ\n{text}",
        right.len()
    );
}

/// The lines of a topic file.
fn topic(folder: &Path, name: &str) -> Vec<Value> {
    let path = folder
        .join("data/topics")
        .join(format!("gatewatch.{name}.ndjson"));
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What holds after the last event of a topic: (name, operation id), sorted.
fn standing(events: &[Value], name: impl Fn(&Value) -> &Value) -> Vec<(String, String)> {
    let mut holds = BTreeSet::new();
    for event in events {
        let key = (
            name(&event["data"]).as_str().unwrap().to_owned(),
            event["subject"].as_str().unwrap().to_owned(),
        );
        let kind = event["type"].as_str().unwrap();
        let begins = kind.ends_with(".applied") || kind.ends_with(".opened");
        let ends = kind.ends_with(".cleared") || kind.ends_with(".resolved");
        assert!(begins != ends || kind.ends_with(".updated"), "{kind}");
        if begins {
            assert!(holds.insert(key), "begins twice: {event}");
        } else if ends {
            assert!(holds.remove(&key), "ends before it begins: {event}");
        }
    }
    holds.into_iter().collect()
}

fn check(scenario: &Scenario, seed: u64, events: u64, bad_per_mille: u32) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let truth = write(folder, scenario, seed, events, bad_per_mille);
    let pipeline = folder.join("pipeline.toml");
    let pipeline = pipeline.to_str().unwrap();

    gatewatch(&["check", pipeline]);
    gatewatch(&["run", pipeline]);
    for range in Range::ALL {
        let output = gatewatch(&["report", pipeline, "--json", "--range", range.as_str()]);
        let report = serde_json::from_slice(&output.stdout).unwrap();
        assert_same(
            &format!("report {}", range.as_str()),
            &report,
            &truth.report(range),
        );
    }

    let mut labels: Vec<_> = truth
        .labels()
        .into_iter()
        .map(|(id, label)| (label.to_owned(), id))
        .collect();
    labels.sort();
    assert_eq!(
        standing(&topic(folder, "labels"), |event| &event["label"]),
        labels
    );
    // One endpoint is repaired after ten of the forty hours: labelled first, cleared a day later.
    let cleared = topic(folder, "labels")
        .iter()
        .filter(|e| e["data"]["action"] == "cleared")
        .count();
    assert!(cleared > 0);
    let insights: Vec<_> = truth
        .insights()
        .into_iter()
        .map(|(kind, id)| (kind.to_owned(), id))
        .collect();
    let found = standing(&topic(folder, "insights"), |event| {
        &event["finding_info"]["types"][0]
    });
    assert_eq!(found, insights);

    let mut rejects = BTreeMap::new();
    for letter in topic(folder, "deadletter") {
        *rejects
            .entry(letter["data"]["reason"].as_str().unwrap().to_owned())
            .or_insert(0) += 1;
    }
    let expected: BTreeMap<String, u64> = truth
        .rejects()
        .into_iter()
        .map(|(reason, count)| (reason.to_owned(), count))
        .collect();
    assert_eq!(rejects, expected);

    // The same input again adds nothing.
    gatewatch(&["run", pipeline]);
    let output = gatewatch(&["report", pipeline, "--json", "--range", "7d"]);
    let report = serde_json::from_slice(&output.stdout).unwrap();
    assert_same(
        "report 7d of a second run",
        &report,
        &truth.report(Range::Week),
    );

    let output = gatewatch(&["explain", pipeline]);
    let mut exchanges = 0;
    let mut violations: BTreeMap<String, u64> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let verdict: Value = serde_json::from_str(line).unwrap();
        if verdict.get("rejected").is_some() {
            continue;
        }
        if !verdict["zone"].is_null() {
            exchanges += 1;
        }
        for direction in ["request", "response"] {
            let found = verdict["schema"][direction]["violations"].as_array();
            for violation in found.into_iter().flatten() {
                let class = violation["class"].as_str().unwrap();
                *violations
                    .entry(format!("{direction}/{class}"))
                    .or_default() += 1;
            }
        }
    }
    assert_eq!(exchanges, truth.exchanges());
    assert_eq!(violations, truth.violations());
}

#[test]
fn everything_is_as_the_generator_knows() {
    check(&Scenario::everything(), 42, 20_000, 5);
}

/// So thin that halves expire although they are minutes apart in the log, and ranges begin between events.
#[test]
fn thin_traffic_is_as_the_generator_knows() {
    check(&Scenario::demo(), 7, 1_500, 0);
}
