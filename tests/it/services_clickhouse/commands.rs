//! `migrate` and `report` as a user runs them against ClickHouse.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use gatewatch::store::clickhouse::Settings;

use super::settings;
use crate::command::command;

const PASSWORD: &str = "GATEWATCH_TEST_PIPELINE_PASSWORD";

/// A pipeline file with this store; the password is in the environment, as in production.
fn pipeline(folder: &Path, settings: &Settings) -> PathBuf {
    fs::write(folder.join("hash.key"), "0123456789abcdef0123456789abcdef").unwrap();
    let user = settings.user.as_deref().unwrap_or("default");
    let text = format!(
        r#"
name = "shop"

[source]
kind = "kafka"
brokers = "127.0.0.1:1"
topics = ["edge.logs"]
group = "gatewatch"

[store]
kind = "clickhouse"
url = "{}"
database = "{}"
user = "{user}"
password = {{ env = "{PASSWORD}" }}

[publish]
kind = "kafka"
brokers = "127.0.0.1:1"

[privacy]
hash_key = {{ file = "hash.key" }}

[[zones]]
id = "023e105f4ecef8ad9ca31a8372d0c353"
name = "shop.example"
hosts = ["api.shop.example"]
"#,
        settings.url, settings.database
    );
    let path = folder.join("pipeline.toml");
    fs::write(&path, text).unwrap();
    path
}

fn run(arguments: &[&str], password: &str) -> Output {
    command(arguments).env(PASSWORD, password).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn migrate_says_what_it_did_and_report_reads_an_empty_store() {
    let Some(settings) = settings("commands") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = pipeline(folder.path(), &settings);
    let path = path.to_str().unwrap();
    let password = settings.password.clone().unwrap_or_default();
    let report = |password: &str| run(&["report", path, "--json"], password);
    let empty = report(&password);
    assert!(empty.status.success(), "{}", text(&empty.stderr));
    // What is printed is what would run; printing runs nothing.
    let printed = run(&["migrate", path, "--print"], &password);
    assert!(
        text(&printed.stdout).contains("CREATE TABLE IF NOT EXISTS"),
        "{}",
        text(&printed.stdout)
    );
    let first = run(&["migrate", path], &password);
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert!(
        text(&first.stdout).starts_with("applied 0001_schema\n"),
        "{}",
        text(&first.stdout)
    );
    let second = run(&["migrate", path], &password);
    assert_eq!(
        text(&second.stdout),
        "nothing to do, the tables are up to date\n"
    );
    // No tables and no rows are the same to a reader.
    let report = report(&password);
    assert_eq!(text(&report.stdout), text(&empty.stdout));
    assert!(text(&report.stdout).contains("\"as_of\": null"));
}

#[test]
fn what_clickhouse_refuses_ends_with_its_words_and_exit_1() {
    let Some(settings) = settings("commands_refused") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let wrong = Settings {
        user: Some("gatewatch".to_owned()),
        ..settings.clone()
    };
    let path = pipeline(folder.path(), &wrong);
    for command in ["migrate", "report"] {
        let output = run(&[command, path.to_str().unwrap()], "wrong");
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(
            errors.contains("Authentication failed") && errors.contains("hint:"),
            "{errors}"
        );
    }
    let away = Settings {
        url: "http://127.0.0.1:1".to_owned(),
        ..settings
    };
    let path = pipeline(folder.path(), &away);
    for command in ["migrate", "report"] {
        let output = run(&[command, path.to_str().unwrap()], "any");
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("127.0.0.1:1 does not answer"), "{errors}");
    }
}
