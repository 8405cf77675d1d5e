//! `gatewatch events`: what is kept is what `explain` says is wrong, and what is asked for is what is shown.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gatewatch::traffic::Scenario;
use serde_json::{Value, json};

use crate::command::{output, pipeline as generated, succeeds};

/// A rule of the last zone, which shows that rules keep what they fire on.
const RULE: &str =
    "\n[[zones.rules]]\ntitle = \"no errors\"\nexpression = 'http.response.code ge 400'\n";

/// A pipeline with generated traffic that keeps evidence.
pub fn keeping(folder: &Path, seed: u64, events: u64, evidence: &str) -> PathBuf {
    let (path, _) = generated(folder, &Scenario::everything(), seed, events, 40);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}{RULE}\n[evidence]\n{evidence}\n")).unwrap();
    path
}

/// Everything that is kept, by position and newest first.
pub fn kept(pipeline: &Path, more: &[&str]) -> Vec<Value> {
    let wide = ["--range", "400d", "--json"];
    let most: &[&str] = if more.contains(&"--limit") {
        &[]
    } else {
        &["--limit", "1000000"]
    };
    let arguments = [
        &["events", pipeline.to_str().unwrap()],
        &wide[..],
        most,
        more,
    ]
    .concat();
    let said = succeeds(&arguments);
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Why an exchange must be kept, from what `explain` says of it.
fn reasons(verdict: &Value) -> Vec<&'static str> {
    let mut reasons = Vec::new();
    let rules = verdict["rules"].as_array().unwrap();
    if rules.iter().any(|rule| rule["fires"] == true) {
        reasons.push("rule");
    }
    let sides = [
        &verdict["schema"]["request"],
        &verdict["schema"]["response"],
    ];
    if sides.iter().any(|side| side["outcome"] == "violates") {
        reasons.push("violation");
    }
    if ["failed", "revoked"]
        .map(Value::from)
        .contains(&verdict["mtls"]["outcome"])
    {
        reasons.push("certificate");
    }
    reasons
}

#[test]
fn what_is_kept_is_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = keeping(folder.path(), 31, 2_500, "sample = 0");
    let name = path.to_str().unwrap();
    succeeds(&["run", name]);
    let explained = succeeds(&["explain", name]);
    let mut expected: BTreeMap<String, Value> = BTreeMap::new();
    let mut reasons_seen = BTreeMap::new();
    for line in explained.lines() {
        let verdict: Value = serde_json::from_str(line).unwrap();
        if verdict.get("rejected").is_some() {
            continue;
        }
        for reason in reasons(&verdict) {
            *reasons_seen.entry(reason).or_insert(0) += 1;
        }
        let id = format!("{} {}", verdict["id"], verdict["time"]);
        assert!(
            expected.insert(id, verdict).is_none(),
            "ids are unique in generated traffic"
        );
    }
    assert!(reasons_seen.len() == 3, "{reasons_seen:?}");
    let events = kept(&path, &[]);
    let mut positions: Vec<String> = events
        .iter()
        .map(|event| event["position"].to_string())
        .collect();
    let times: Vec<&str> = events
        .iter()
        .map(|event| event["time"].as_str().unwrap())
        .collect();
    assert!(
        times.is_sorted_by(|newer, older| newer >= older),
        "newest first"
    );
    let (mut tokens, mut accepted) = (0, 0);
    for event in &events {
        let id = format!("{} {}", event["id"], event["time"]);
        let verdict = expected.remove(&id).unwrap();
        let mut wanted = reasons(&verdict);
        let fields = &event["fields"];
        if fields["gatewatch.token.outcome"] == "invalid" {
            tokens += 1;
            if (200..300).contains(&fields["http.response.code"].as_i64().unwrap_or(0)) {
                accepted += 1;
                wanted.push("token");
            }
        }
        let mut found: Vec<&str> = event["kept_for"]
            .as_array()
            .unwrap()
            .iter()
            .map(|reason| reason.as_str().unwrap())
            .collect();
        // A token that nobody can have issued is kept whatever the answer was.
        if found.contains(&"token") && !wanted.contains(&"token") {
            let reasons = fields["gatewatch.token.reasons"].to_string();
            let forged = [
                "unsupported_algorithm",
                "algorithm_mismatch",
                "bad_signature",
            ];
            assert!(
                forged.iter().any(|reason| reasons.contains(reason)),
                "{event}"
            );
            wanted.push("token");
        }
        found.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{event}");
        for (kept, explained) in [
            ("gatewatch.zone", "zone"),
            ("http.host", "host"),
            ("http.request.uri.path", "path"),
            ("gatewatch.endpoint.source", "source"),
        ] {
            assert_eq!(fields[kept], verdict[explained], "{event}");
        }
        assert_eq!(event["operation_id"], verdict["operation_id"]);
        assert_eq!(
            fields["gatewatch.session.outcome"],
            verdict["session"]["outcome"]
        );
        assert_eq!(
            fields["gatewatch.schema.response"],
            verdict["schema"]["response"]["outcome"]
        );
        let fired = verdict["rules"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|rule| rule["fires"] == true);
        let fired: Vec<Value> = fired
            .map(|rule| json!({"title": rule["title"], "action": rule["action"]}))
            .collect();
        assert_eq!(event["rules"], Value::from(fired));
        let sides = ["request", "response"]
            .map(|side| verdict["schema"][side]["violations"].as_array().unwrap());
        let wrong: Vec<&Value> = sides.into_iter().flatten().collect();
        let found = event["violations"].as_array().unwrap();
        assert_eq!(found.len(), wrong.len());
        for (found, wrong) in found.iter().zip(wrong) {
            for member in ["location", "class", "target", "detail"] {
                assert_eq!(found[member], wrong[member]);
            }
        }
    }
    assert!(tokens > accepted && accepted > 0, "{tokens} {accepted}");
    for (id, verdict) in &expected {
        assert_eq!(reasons(verdict), [""; 0], "{id} is missing");
    }
    positions.sort();
    let all = positions.len();
    positions.dedup();
    assert_eq!(positions.len(), all, "a position stands there twice");
}

/// What an expression means, said by hand.
type Test = fn(&Value) -> bool;

#[test]
fn the_answer_is_what_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = keeping(folder.path(), 32, 1_500, "sample = 1");
    succeeds(&["run", path.to_str().unwrap()]);
    let all = kept(&path, &[]);
    assert!(all.len() > 1_000);
    let cases: &[(&str, Test)] = &[
        ("http.response.code ge 500", |event| {
            event["fields"]["http.response.code"].as_i64().unwrap_or(0) >= 500
        }),
        ("not http.response.code ge 500", |event| {
            event["fields"]["http.response.code"].as_i64().unwrap_or(0) < 500
        }),
        ("cf.tls_client_auth.cert_revoked", |event| {
            event["fields"]["cf.tls_client_auth.cert_revoked"] == true
        }),
        (
            "http.request.method in {\"PUT\" \"DELETE\"} or http.host contains \"partners\"",
            |event| {
                let host = event["fields"]["http.host"].as_str().unwrap();
                ["PUT", "DELETE"]
                    .map(Value::from)
                    .contains(&event["fields"]["http.request.method"])
                    || host.contains("partners")
            },
        ),
        (
            "any(gatewatch.schema.violations.classes[*] eq \"invalid_type\")",
            |event| {
                event["violations"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|violation| violation["class"] == "invalid_type")
            },
        ),
    ];
    for (expression, test) in cases {
        let expected: Vec<&Value> = all.iter().filter(|event| test(event)).collect();
        let found = kept(&path, &["--where", expression]);
        assert!(
            !expected.is_empty() && expected.len() < all.len(),
            "{expression}"
        );
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{expression}");
    }
    // The newest of them, and those of a range.
    assert_eq!(kept(&path, &["--limit", "7"])[..], all[..7]);
    let (since, until) = (&all[900]["time"], &all[100]["time"]);
    let (since, until) = (since.as_str().unwrap(), until.as_str().unwrap());
    let inside = |event: &&Value| {
        let time = event["time"].as_str().unwrap();
        time >= since && time < until
    };
    let expected: Vec<Value> = all.iter().filter(inside).cloned().collect();
    let path = path.to_str().unwrap();
    let said = succeeds(&[
        "events", path, "--since", since, "--until", until, "--limit", "1000000", "--json",
    ]);
    let found: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(found, expected);
    let zone = all[0]["fields"]["gatewatch.zone"].as_str().unwrap();
    let of_zone = all
        .iter()
        .filter(|event| event["fields"]["gatewatch.zone"] == zone)
        .count();
    let table = succeeds(&[
        "events", path, "--zone", zone, "--range", "400d", "--limit", "1000000",
    ]);
    assert!(of_zone < all.len());
    assert!(
        table.contains(&format!(
            "{} exchanges, the newest first",
            gatewatch::cli::grouped(of_zone as u64)
        )),
        "{table}"
    );
    let none = succeeds(&[
        "events",
        path,
        "--where",
        "http.host eq \"nobody\"",
        "--range",
        "400d",
    ]);
    assert!(
        none.contains(&format!(
            "no match among {}",
            gatewatch::cli::grouped(all.len() as u64)
        )),
        "{none}"
    );
}

#[test]
fn what_cannot_be_asked_is_refused_with_its_place_and_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = keeping(folder.path(), 33, 50, "");
    let path = path.to_str().unwrap();
    let shop = "023e105f4ecef8ad9ca31a8372d0c353";
    for (arguments, words) in [
        (
            &["--where", "http.hots eq \"a\""][..],
            &["http.hots eq \"a\"\n^^^^^^^^^ ", "http.host"][..],
        ),
        (
            &["--where", "http.cookie contains \"sid\""],
            &[
                "http.cookie is not in stored evidence",
                "credential",
                "hint:",
            ],
        ),
        (
            &["--where", "http.request.uri.query contains \"x\""],
            &["http.request.uri.query is not in stored evidence"],
        ),
        (
            &[
                "--where",
                "http.request.headers[\"authorization\"][0] eq \"x\"",
            ],
            &["authorization", "may hold a credential"],
        ),
        (
            &["--zone", shop, "--where", "is_jwt_valid(\"nobody\")"],
            &["nobody", "shop issuer"],
        ),
        // Another zone does not have this configuration.
        (
            &["--where", "is_jwt_valid(\"shop issuer\")"],
            &["in zone", "--zone ID"],
        ),
        (&["--zone", "nowhere"], &["no zone \"nowhere\"", shop]),
        (
            &[
                "--since",
                "2026-11-20T08:00:00Z",
                "--until",
                "2026-11-20T08:00:00Z",
            ],
            &["is not before"],
        ),
        (&["--range", "0s"], &["--range"]),
        (&["--limit", "0"], &["--limit"]),
    ] {
        let refused = output(&[&["events", path], arguments].concat());
        let errors = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(64), "{arguments:?}: {errors}");
        assert!(refused.stdout.is_empty());
        for word in words {
            assert!(errors.contains(word), "{arguments:?}: {errors}");
        }
    }
    let valid = [
        "events",
        path,
        "--zone",
        shop,
        "--where",
        "is_jwt_valid(\"shop issuer\")",
    ];
    assert!(succeeds(&valid).contains("no evidence is stored"));
}

/// A store that was filled before evidence was asked for goes on, and keeps evidence from then on.
#[test]
fn a_store_without_the_table_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = generated(folder.path(), &Scenario::everything(), 34, 400, 4);
    let name = path.to_str().unwrap();
    let nothing = succeeds(&["events", name]);
    assert!(
        nothing.contains("no evidence is stored") && nothing.contains("[evidence]"),
        "{nothing}"
    );
    succeeds(&["run", name]);
    assert_eq!(succeeds(&["events", name]), nothing);
    let quiet = output(&["events", name, "--json"]);
    assert!(quiet.stdout.is_empty() && String::from_utf8_lossy(&quiet.stderr) == nothing);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}\n[evidence]\nsample = 1\n")).unwrap();
    let asked = succeeds(&["events", name]);
    assert!(
        asked.contains("no evidence is stored") && asked.contains("gatewatch run"),
        "{asked}"
    );
    // The log grows by what it had, an hour later.
    let log = folder.path().join("traffic.ndjson");
    let before = fs::read_to_string(&log).unwrap();
    let event = json!({
        "kind": "exchange", "id": "late", "time": "2026-12-24T00:00:00Z",
        "request": {"method": "GET", "host": "api.shop.example", "path": "/health"}, "response": {"status": 200},
    });
    fs::write(&log, format!("{before}{event}\n")).unwrap();
    let report = succeeds(&[
        "report",
        name,
        "--json",
        "--range",
        "7d",
        "--as-of",
        "2026-11-20T23:59:00Z",
    ]);
    succeeds(&["run", name]);
    let events = kept(&path, &[]);
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["id"], "late");
    assert_eq!(events[0]["kept_for"], json!(["sample"]));
    assert_eq!(events[0]["position"]["offset"], before.len());
    let after = succeeds(&[
        "report",
        name,
        "--json",
        "--range",
        "7d",
        "--as-of",
        "2026-11-20T23:59:00Z",
    ]);
    assert_eq!(after, report);
}
