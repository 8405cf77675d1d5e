//! Bad input gets a clear answer and loses nothing.

use std::fs;

use serde_json::Value;

use crate::command::{output, succeeds, topic};

const GOOD: &str = r#"{"kind":"exchange","id":"a","time":"2026-11-20T08:15:30Z","request":{"method":"GET","host":"api.shop.example","path":"/a","headers":{}},"response":{"status":200}}"#;

fn pipeline(extra: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipeline.toml");
    let text = format!(
        "name = \"p\"\n[source]\npath = \"log\"\n{extra}\n[[zones]]\nid = \"z\"\nhosts = [\"api.shop.example\"]\n"
    );
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn a_malformed_line_goes_to_the_dead_letter_and_the_run_goes_on() {
    let (folder, path) = pipeline("");
    let secret = r#"{"kind":"exchange","authorization":"Bearer secret"#;
    fs::write(
        folder.path().join("log"),
        format!("{GOOD}\r\n\n{secret}\n{{}}\n{GOOD}"),
    )
    .unwrap();
    succeeds(&["run", &path]);
    let report: Value = serde_json::from_str(&succeeds(&["report", &path, "--json"])).unwrap();
    assert_eq!(report["endpoints"][0]["requests"]["total"], 2);
    let letters = topic(std::path::Path::new(&path), "deadletter");
    let letters: Vec<Value> = letters
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let first = GOOD.len() as u64 + 3;
    assert_eq!(letters.len(), 2);
    assert_eq!(letters[0]["data"]["reason"], "malformed");
    assert_eq!(letters[0]["data"]["offset"], first);
    assert_eq!(letters[0]["data"]["length"], secret.len());
    assert!(
        letters[0]["data"]["source"]
            .as_str()
            .unwrap()
            .ends_with("log")
    );
    assert!(
        letters[0]["data"]["bytes_base64"].is_null(),
        "bytes may hold credentials"
    );
    assert_eq!(letters[1]["data"]["reason"], "unknown_kind");
    assert!(!letters[0].to_string().contains("secret"));
}

#[test]
fn every_problem_of_a_pipeline_is_named_with_its_place_and_nothing_starts() {
    let (folder, path) = pipeline("[window]\nflush = \"1s\"\n");
    let mut text = fs::read_to_string(&path).unwrap();
    text += "[[zones.token_configurations]]\ntitle = \"t\"\ntoken_sources = ['http.request.header[\"a\"]']\njwks = \"keys.json\"\n";
    text += "[[zones.schemas]]\npath = \"api.yaml\"\n";
    fs::write(&path, text).unwrap();
    fs::write(folder.path().join("log"), GOOD).unwrap();
    fs::write(
        folder.path().join("keys.json"),
        r#"{"keys":[{"kty":"RSA","kid":"a"},{"kty":"EC"}]}"#,
    )
    .unwrap();
    fs::write(
        folder.path().join("api.yaml"),
        "openapi: 3.0.3\ninfo: {title: t, version: '1'}\npaths:\n  /a/{id}:\n    get:\n      responses:\n        '200':\n          $ref: '#/components/responses/Absent'\n",
    )
    .unwrap();
    for command in ["check", "run", "report", "explain"] {
        let output = output(&[command, &path]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{command}: {errors}");
        for expected in [
            "window.flush",
            "token_sources",
            "keys[0]",
            "keys[1]",
            "api.yaml#/paths",
            "hint:",
        ] {
            assert!(
                errors.contains(expected),
                "{command}: {expected} not in\n{errors}"
            );
        }
    }
    assert!(!folder.path().join("data").exists(), "nothing was started");
}

#[test]
fn faults_of_the_input_are_said_with_a_hint() {
    let (_folder, path) = pipeline("");
    let output = output(&["run", &path]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("log: No such file") && errors.contains("hint:"),
        "{errors}"
    );
}

#[test]
fn wrong_usage_exits_with_64() {
    for arguments in [
        &["report"][..],
        &["run", "absent.toml"],
        &["report", "x", "--range", "1y"],
        &["fly"],
    ] {
        let output = output(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    assert!(succeeds(&["--help"]).contains("demo"));
}

#[test]
fn an_empty_store_reports_null() {
    let (folder, path) = pipeline("");
    fs::write(folder.path().join("log"), "").unwrap();
    let empty: Value = serde_json::from_str(&succeeds(&["report", &path, "--json"])).unwrap();
    assert_eq!(
        empty,
        serde_json::json!({"as_of": null, "range": "24h", "endpoints": []})
    );
    succeeds(&["run", &path]);
    let empty: Value = serde_json::from_str(&succeeds(&["report", &path, "--json"])).unwrap();
    assert_eq!(empty["as_of"], Value::Null);
}
