//! What the generator promises: equal bytes for equal seeds, readable lines, truth that adds up.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{DEFAULT_SPAN_SECONDS, DEFAULT_START_SECONDS, Generator, Range, Scenario};
use crate::model::{EventTime, Method};

fn generator(scenario: &Scenario, seed: u64, events: u64) -> Generator {
    let start = EventTime::from_seconds(DEFAULT_START_SECONDS).unwrap();
    Generator::new(scenario, seed, events, start, DEFAULT_SPAN_SECONDS).unwrap()
}

fn text(mut generator: Generator) -> (Vec<u8>, Generator) {
    let mut out = Vec::new();
    while generator.next_line(&mut out) {}
    (out, generator)
}

#[test]
fn the_default_start_is_the_one_in_the_words() {
    assert_eq!(
        EventTime::from_seconds(DEFAULT_START_SECONDS).map(|at| at.to_string()),
        Some("2026-11-18T00:00:00Z".to_owned())
    );
}

#[test]
fn equal_seeds_give_equal_bytes_and_equal_truth() {
    let scenario = Scenario::everything();
    let (one, first) = text(generator(&scenario, 9, 3000).bad_per_mille(20));
    let (two, second) = text(generator(&scenario, 9, 3000).bad_per_mille(20));
    let (other, _) = text(generator(&scenario, 10, 3000).bad_per_mille(20));
    assert!(one == two);
    assert_eq!(first.truth().document(), second.truth().document());
    assert!(one != other);
}

#[test]
fn lines_are_events_apart_from_the_bad_ones() {
    let (lines, generator) = text(generator(&Scenario::everything(), 4, 5000).bad_per_mille(30));
    let truth = generator.truth();
    let rejected: u64 = truth.rejects().values().sum();
    let mut readable = 0;
    let mut kinds = BTreeSet::new();
    let mut statuses = BTreeSet::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()) {
        let Ok(Value::Object(event)) = serde_json::from_slice::<Value>(line) else {
            continue;
        };
        readable += 1;
        kinds.insert(event["kind"].as_str().unwrap().to_owned());
        if let Some(status) = event.get("response").and_then(|r| r["status"].as_u64()) {
            statuses.insert(status / 100);
        }
    }
    assert!(readable + rejected >= truth.lines() && readable < truth.lines());
    let feeds = lines.split(|byte| *byte == b'\n').count() - 1;
    assert_eq!(feeds as u64, truth.lines());
    for kind in ["exchange", "request", "response"] {
        assert!(kinds.contains(kind), "{kind}");
    }
    for hundreds in 1..=5 {
        assert!(statuses.contains(&hundreds), "{hundreds}xx");
    }
    assert_eq!(truth.rejects().len(), 8);
}

#[test]
fn truth_adds_up() {
    for scenario in [Scenario::demo(), Scenario::everything()] {
        let (_, generator) = text(generator(&scenario, 1, 20_000));
        let truth = generator.truth();
        let week = truth.report(Range::Week);
        let mut total = 0;
        for endpoint in week["endpoints"].as_array().unwrap() {
            let sum = |value: &Value| -> u64 {
                value
                    .as_object()
                    .unwrap()
                    .iter()
                    .filter(|(name, _)| *name != "total")
                    .map(|(_, count)| count.as_u64().unwrap())
                    .sum()
            };
            let requests = endpoint["requests"]["total"].as_u64().unwrap();
            total += requests;
            assert_eq!(sum(&endpoint["requests"]), requests);
            assert_eq!(sum(&endpoint["session"]["all"]), requests);
            assert_eq!(sum(&endpoint["schema"]["request"]), requests);
            assert_eq!(sum(&endpoint["schema"]["response"]), requests);
            assert_eq!(sum(&endpoint["mtls"]), requests);
            for counts in endpoint["tokens"].as_object().unwrap().values() {
                let outcomes = ["valid", "missing", "not_captured", "invalid"];
                let all: u64 = outcomes.iter().map(|n| counts[n].as_u64().unwrap()).sum();
                assert_eq!(all, requests);
                assert_eq!(sum(&counts["reasons"]), counts["invalid"].as_u64().unwrap());
            }
            let method = endpoint["method"].as_str().unwrap();
            assert!(Method::ALL.iter().any(|m| m.as_str() == method));
        }
        assert_eq!(total, truth.exchanges());
        assert_eq!(week["as_of"], "2026-11-19T15:59:00Z");
        // What was repaired more than a day ago has no label any more; what slipped since has one.
        let label = |template: &str| -> Value {
            let all = week["endpoints"].as_array().unwrap();
            let found = all.iter().find(|e| e["endpoint"] == template).unwrap();
            found["labels"].clone()
        };
        assert_eq!(label("/account/export/{var1}"), Value::Array(Vec::new()));
        assert_eq!(label("/api/v1/profile")[0], "cf-risk-mixed-auth");
        assert!(truth.exchanges() + truth.unzoned() > 19_000);
        // Every kind of finding is there to be found.
        let insights: BTreeSet<&str> = truth.insights().iter().map(|(kind, _)| *kind).collect();
        assert_eq!(insights.len(), 5);
        assert!(truth.orphan_responses() > 0);
    }
}

#[test]
fn nothing_gives_an_empty_report() {
    let (lines, generator) = text(generator(&Scenario::demo(), 1, 0));
    assert!(lines.is_empty());
    assert_eq!(generator.truth().report(Range::Day)["as_of"], Value::Null);
}
