//! Key sets by URL, tokens in the query and the bound on verifications, through the command: an issuer on this machine
//! serves the keys over TLS.

#[path = "../../src/source/jwks/tests/issuer.rs"]
mod issuer;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use self::issuer::{Issuer, head};
use crate::command::{command, output, succeeds};

/// Seconds of the events: 2026-11-20T08:00:00Z.
const AT: i64 = 1_795_161_600;

fn jwk(kid: &str, secret: u8) -> Value {
    let k = URL_SAFE_NO_PAD.encode([secret; 32]);
    json!({"kty": "oct", "kid": kid, "alg": "HS256", "k": k})
}

fn token(kid: &str, secret: u8, claims: &Value) -> String {
    let header = json!({"alg": "HS256", "kid": kid}).to_string();
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, &[secret; 32]),
        message.as_bytes(),
    );
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn event(number: i64, query: &str, bearer: &str) -> String {
    let mut headers = json!({});
    if !bearer.is_empty() {
        headers["authorization"] = json!(format!("Bearer {bearer}"));
    }
    let request = json!({
        "method": "GET", "host": "api.example", "path": "/orders", "query": query, "headers": headers
    });
    let event = json!({
        "kind": "exchange", "id": format!("e{number}"), "time": (AT + number) * 1_000,
        "request": request, "response": {"status": 200}
    });
    format!("{event}\n")
}

/// A pipeline whose keys are served by the issuer.
fn pipeline(folder: &Path, issuer: &Issuer, more: &str, events: &str) -> PathBuf {
    fs::write(folder.join("ca.pem"), &issuer.ca).unwrap();
    fs::write(folder.join("log.ndjson"), events).unwrap();
    let text = format!(
        r#"
name = "p"
[source]
kind = "file"
path = "log.ndjson"
{more}
[[zones]]
id = "z"
hosts = ["api.example"]
[[zones.session_identifiers]]
type = "jwt"
name = "issuer:$.sub"
[[zones.token_configurations]]
title = "issuer"
token_sources = ['http.request.headers["authorization"][0]', 'http.request.uri.args["access_token"][0]']
jwks = {{ url = "{}", ca = "ca.pem", allow_private = true, timeout = "20s" }}
"#,
        issuer.url()
    );
    let path = folder.join("pipeline.toml");
    fs::write(&path, text).unwrap();
    path
}

/// Outcomes of `explain`, with their reasons.
fn explained(pipeline: &str) -> Vec<String> {
    let lines = succeeds(&["explain", pipeline]);
    let verdict = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let verdict = &line["tokens"]["issuer"];
        let reason = verdict.get("reason").and_then(Value::as_str);
        let outcome = verdict["outcome"].as_str().unwrap();
        reason.map_or(outcome.to_owned(), |reason| format!("{outcome} {reason}"))
    };
    lines.lines().map(verdict).collect()
}

fn reported(pipeline: &str) -> Value {
    let report: Value = serde_json::from_str(&succeeds(&["report", pipeline, "--json"])).unwrap();
    report["endpoints"][0].clone()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| {
            let path = entry.path();
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[test]
fn keys_are_had_from_their_issuer_and_survive_it() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::start();
    let (known, new) = (
        token("a", 1, &json!({"sub": "ann"})),
        token("b", 2, &json!({"sub": "bob"})),
    );
    let forged = token("a", 9, &json!({"sub": "eve"}));
    let events = [
        event(0, "", &known),
        event(1, &format!("x=1&access_token={known}"), ""),
        // By a key that the issuer begins to use between the first set and this event.
        event(2, "", &new),
        event(3, &format!("access_token={forged}"), ""),
        event(4, "", &token("made up", 1, &json!({}))),
        event(5, "", ""),
    ]
    .concat();
    let path = pipeline(folder.path(), &issuer, "", &events);
    let path = path.to_str().unwrap();
    // Checking a pipeline needs no network, and judging does.
    succeeds(&["check", path]);
    assert!(issuer.heads().is_empty());
    let refused = output(&["explain", path]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(
        words.contains("was never had: the answer is 503"),
        "{words}"
    );

    let expected = [
        "valid",
        "valid",
        "valid",
        "invalid bad_signature",
        "invalid unknown_key",
        "missing",
    ];
    let rotating = |issuer: &Issuer| {
        let mut keys = vec![jwk("a", 1)];
        issuer.answers(move |_| {
            let mut bytes = head("200 OK", "cache-control: max-age=3600\r\n");
            bytes.extend(json!({ "keys": keys }).to_string().into_bytes());
            keys.push(jwk("b", 2));
            bytes
        });
    };
    let before = issuer.heads().len();
    rotating(&issuer);
    assert_eq!(explained(path), expected);
    assert_eq!(
        issuer.heads().len() - before,
        2,
        "the first set, and one for a new key"
    );
    assert!(
        !folder.path().join("data").exists(),
        "explaining stores nothing"
    );

    rotating(&issuer);
    succeeds(&["run", path]);
    let endpoint = reported(path);
    let counts = json!({
        "valid": 3, "missing": 1, "not_captured": 0, "invalid": 2,
        "reasons": {"bad_signature": 1, "unknown_key": 1}, "successful_invalid": 2
    });
    assert_eq!(endpoint["tokens"]["issuer"], counts);
    assert_eq!(endpoint["session"]["all"]["present"], 3);
    // Without the issuer the kept set judges; only what nobody knows is not known.
    issuer.answers(|_| head("503 Service Unavailable", ""));
    assert_eq!(explained(path), expected);
    // A token in the query is as secret as one in a header.
    let written = files(&folder.path().join("data"));
    assert!(
        written
            .iter()
            .any(|path| path.parent().unwrap().ends_with("jwks"))
    );
    for path in written {
        let mut bytes = fs::read(&path).unwrap();
        if path
            .extension()
            .is_some_and(|extension| extension == "parquet")
        {
            let file = fs::File::open(&path).unwrap();
            let rows = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file);
            for batch in rows.unwrap().build().unwrap() {
                bytes.extend(format!("{:?}", batch.unwrap()).into_bytes());
            }
        }
        for secret in [&known, &new, &forged] {
            let payload = secret.split('.').nth(1).unwrap();
            let found = memchr::memmem::find(&bytes, payload.as_bytes());
            assert!(found.is_none(), "{}", path.display());
        }
    }
}

#[test]
fn a_run_waits_for_an_issuer_that_was_never_had() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::start();
    let known = token("a", 1, &json!({}));
    let path = pipeline(folder.path(), &issuer, "", &event(0, "", &known));
    let path = path.to_str().unwrap();
    let (asked_to, asked) = std::sync::mpsc::channel();
    issuer.answers(move |_| {
        let _ = asked_to.send(());
        head("503 Service Unavailable", "")
    });
    let mut run = command(&["run", path])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    asked.recv().unwrap();
    assert!(run.try_wait().unwrap().is_none());
    issuer.serves(&[jwk("a", 1)], "");
    assert!(run.wait().unwrap().success());
    assert_eq!(reported(path)["tokens"]["issuer"]["valid"], 1);
}

#[test]
fn what_a_flush_does_not_verify_is_counted_apart() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::start();
    issuer.serves(&[jwk("a", 1)], "");
    let events: String = (0..6)
        .map(|number| {
            event(
                number,
                "",
                &token("a", 1, &json!({"sub": format!("s{number}")})),
            )
        })
        .collect();
    // The first token again, at the end.
    let events = events + &event(9, "", &token("a", 1, &json!({"sub": "s0"})));
    let more = "[limits]\nverifications = 2\n";
    let path = pipeline(folder.path(), &issuer, more, &events);
    let path = path.to_str().unwrap();
    succeeds(&["run", path]);
    let endpoint = reported(path);
    let counts = json!({
        "valid": 3, "missing": 0, "not_captured": 0, "not_evaluated": 4, "invalid": 0,
        "reasons": {}, "successful_invalid": 0
    });
    assert_eq!(endpoint["tokens"]["issuer"], counts);
    assert_eq!(endpoint["session"]["all"]["present"], 3);
    assert_eq!(endpoint["session"]["all"]["not_captured"], 4);
    // Explaining has no flushes, and so no bound.
    assert_eq!(explained(path), ["valid"; 7]);
    for (limits, expected) in [
        (
            "verifications = 0",
            "limits.verifications: must be at least 1",
        ),
        (
            "verifications = \"x\"",
            "limits.verifications: string where a number",
        ),
    ] {
        let path = pipeline(
            folder.path(),
            &issuer,
            &format!("[limits]\n{limits}\n"),
            &events,
        );
        let refused = output(&["check", path.to_str().unwrap()]);
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(64), "{words}");
        assert!(words.contains(expected), "{words}");
    }
}
