//! Tokens, session values and bodies never leave the enricher: every file that a run writes is searched for them.

use std::fs;
use std::path::Path;

use gatewatch::traffic::Scenario;
use serde_json::Value;

use crate::command::{pipeline, succeeds};

/// Everything under a folder as (path, bytes).
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            files(&entry.path(), found);
        } else {
            found.push((
                entry.path().display().to_string(),
                fs::read(entry.path()).unwrap(),
            ));
        }
    }
}

/// Values of the log that must not be stored.
fn secrets(log: &str) -> Vec<String> {
    let mut secrets = Vec::new();
    for line in log.lines() {
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        for side in ["request", "response"] {
            let headers = event[side]["headers"].as_object();
            for (name, value) in headers.into_iter().flatten() {
                let values = value
                    .as_array()
                    .cloned()
                    .unwrap_or_else(|| vec![value.clone()]);
                for value in values.iter().filter_map(Value::as_str) {
                    match name.to_ascii_lowercase().as_str() {
                        "authorization" => {
                            secrets.extend(value.split(' ').next_back().map(str::to_owned));
                        }
                        "cookie" => secrets.extend(
                            value
                                .split("; ")
                                .filter_map(|pair| Some(pair.split_once('=')?.1.to_owned())),
                        ),
                        _ => {}
                    }
                }
            }
            secrets.extend(event[side]["body"].as_str().map(str::to_owned));
        }
    }
    secrets.retain(|secret| secret.len() >= 12);
    secrets.sort();
    secrets.dedup();
    secrets
}

#[test]
fn no_secret_of_the_log_is_in_any_file_of_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = pipeline(folder.path(), &Scenario::everything(), 12, 1_500, 40);
    keep_everything(&path);
    succeeds(&["run", path.to_str().unwrap()]);
    let log = fs::read_to_string(folder.path().join("traffic.ndjson")).unwrap();
    let secrets = secrets(&log);
    assert!(
        secrets.len() > 100,
        "the log has secrets to look for: {}",
        secrets.len()
    );
    let mut written = Vec::new();
    files(&folder.path().join("data"), &mut written);
    let mut written = readable(written);
    assert!(written.len() > 8);
    // What a back-test says of every exchange is held to the same.
    let rule = folder.path().join("rule.toml");
    let text = "[[rules]]\ntitle = \"all\"\nblock = [\"ip\", \"session\", \"token\", \"user_agent\"]\n\
                expression = 'http.host contains \".\"'\n";
    fs::write(&rule, text).unwrap();
    let zone = "023e105f4ecef8ad9ca31a8372d0c353";
    for form in [&["--json"][..], &[]] {
        let (path, rule) = (path.to_str().unwrap(), rule.to_str().unwrap());
        let wide = ["backtest", path, "--zone", zone, "--rule", rule];
        let wide = [&wide[..], &["--samples", "1000", "--top", "10000"], form].concat();
        let said = succeeds(&wide);
        assert!(said.len() > 10_000);
        written.push(("a back-test".to_owned(), said.into_bytes()));
    }
    written.extend(evidence(&path));
    for (name, bytes) in &written {
        for secret in &secrets {
            assert!(
                memchr::memmem::find(bytes, secret.as_bytes()).is_none(),
                "{secret} is in {name}"
            );
        }
    }
}

#[test]
fn no_identifier_of_any_kind_is_said_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipeline.toml");
    fs::write(
        &path,
        r#"
name = "p"
[source]
kind = "file"
path = "log.ndjson"
[store]
kind = "local"
path = "data"
[publish]
kind = "file"
path = "data/topics"
[[zones]]
id = "z"
hosts = ["api.example"]
[[zones.session_identifiers]]
type = "composite"
name = "both"
of = ["query:tenant", "header:x-key"]
[[zones.session_identifiers]]
type = "query"
name = "api_key"
[[zones.session_identifiers]]
type = "certificate"
name = "subject_dn"
"#,
    )
    .unwrap();
    let mut log = String::new();
    for number in 0..40 {
        let event = serde_json::json!({
            "kind": "exchange", "id": format!("e{number}"), "time": "2026-11-20T08:15:30Z",
            "tls": {"client_certificate": {
                "presented": true, "verified": true, "subject_dn": format!("CN=subject-secret-{number}"),
            }},
            "request": {
                "method": "GET", "host": "api.example", "path": "/a",
                "query": format!("tenant=tenant-secret-{number}&api%5Fkey=query%2Dsecret-{number}"),
                "headers": {"x-key": format!("header-secret-{number}")},
            },
            "response": {"status": 200},
        });
        log.push_str(&event.to_string());
        log.push('\n');
    }
    fs::write(folder.path().join("log.ndjson"), log).unwrap();
    keep_everything(&path);
    let path = path.to_str().unwrap();
    succeeds(&["run", path]);
    let explained = succeeds(&[
        "explain",
        path,
        folder.path().join("log.ndjson").to_str().unwrap(),
    ]);
    let report = succeeds(&["report", path, "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    let identifiers = &report["endpoints"][0]["session"]["identifiers"];
    assert_eq!(
        *identifiers,
        serde_json::json!({"both": 40, "api_key": 40, "subject_dn": 40})
    );
    let mut written = vec![("explain".to_owned(), explained.into_bytes())];
    written.extend(evidence(Path::new(path)));
    files(&folder.path().join("data"), &mut written);
    let texts = readable(written);
    for (name, bytes) in &texts {
        for part in ["-secret-", "secret%2D"] {
            let found = memchr::memmem::find(bytes, part.as_bytes());
            assert!(found.is_none(), "{part} is in {name}");
        }
    }
}

/// Has every exchange kept as evidence.
fn keep_everything(pipeline: &Path) {
    let text = fs::read_to_string(pipeline).unwrap();
    fs::write(pipeline, format!("{text}\n[evidence]\nsample = 1\n")).unwrap();
}

/// Everything that is kept, in both forms.
fn evidence(pipeline: &Path) -> Vec<(String, Vec<u8>)> {
    let path = pipeline.to_str().unwrap();
    let all = ["events", path, "--range", "400d", "--limit", "1000000"];
    let table = succeeds(&all);
    let lines = succeeds(&[&all[..], &["--json"]].concat());
    assert!(
        table.lines().count() > 40 && lines.lines().count() > 30,
        "{table}"
    );
    [("events", table), ("events --json", lines)]
        .map(|(name, said)| (name.to_owned(), said.into_bytes()))
        .into()
}

/// Parquet files are compressed; their rows are searched as text.
fn readable(mut written: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    for (name, bytes) in &mut written {
        if name.ends_with(".parquet") {
            let file = fs::File::open(&*name).unwrap();
            let reader =
                parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file)
                    .unwrap();
            for batch in reader.build().unwrap() {
                bytes.extend(format!("{:?}", batch.unwrap()).into_bytes());
            }
        }
    }
    written
}
