//! Evidence in ClickHouse: the same rows as in the local store, once, and the same answers to the same questions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use arrow::array::RecordBatch;
use gatewatch::store::Range;
use gatewatch::store::clickhouse::{ClickHouse, Settings};
use gatewatch::store::local::{Commit, LocalStore, StoreError};
use gatewatch::window::events;
use serde_json::Value;

use super::flushes::Flush;
use super::{flushes, kept, lines, now, place, settings, sql};
use crate::command::command;

/// Everything that the local store has.
fn local_rows(store: &LocalStore) -> Vec<RecordBatch> {
    let mut all = Vec::new();
    let see = |rows| -> Result<(), StoreError> {
        all.push(rows);
        Ok(())
    };
    let reader = store.reader();
    reader
        .events(Range::ALL, &events::schema(), |_| true, see)
        .unwrap();
    all
}

fn commit(store: &mut LocalStore, flush: &Flush) {
    let commit = Commit {
        sums: &flush.sums,
        events: flush.events.as_ref(),
        checkpoint: None,
        outgrown: None,
        topics: BTreeMap::new(),
        detections: None,
        journal: None,
        stored_at: now(),
    };
    store.commit(commit).unwrap();
}

#[tokio::test]
async fn rows_are_those_of_the_local_store_and_stand_there_once() {
    let Some(settings) = settings("evidence") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (_, _, flushes) = flushes::of_traffic(folder.path(), 1_500, 333).await;
    let store = ClickHouse::open(&settings, "shop").await.unwrap();
    assert_eq!(store.newest_event().await.unwrap(), None);
    let mut local = LocalStore::open(&folder.path().join("local"), "shop").unwrap();
    for flush in &flushes {
        flush.write(&store, now()).await;
        commit(&mut local, flush);
    }
    let expected = local_rows(&local);
    let found = kept(&store).await;
    assert!(found.iter().all(|rows| rows.schema() == events::schema()));
    let sorted = |rows: &[RecordBatch]| lines(rows).into_iter().collect::<BTreeSet<_>>();
    let rows = lines(&found).len();
    assert!(rows > 500, "{rows} rows");
    assert_eq!(sorted(&found), sorted(&expected));
    assert_eq!(rows, lines(&expected).len());
    assert_eq!(sorted(&found).len(), rows, "every row is another one");
    let places: Vec<_> = found
        .iter()
        .flat_map(|rows| (0..rows.num_rows()).map(|at| place(rows, at)))
        .collect();
    assert!(places.is_sorted_by(|newer, older| newer > older));
    let newest = local.reader().newest_event();
    assert_eq!(store.newest_event().await.unwrap(), newest);
    assert_eq!(newest, Some(places[0].time));

    // Both ends of a range, and what comes after a place.
    let range = Range {
        from: places[rows - 10].time,
        to: places[10].time,
    };
    let inside = places
        .iter()
        .filter(|place| place.time >= range.from && place.time < range.to);
    let page = store.events(range, &events::schema(), None).await.unwrap();
    assert_eq!(
        page.iter().map(RecordBatch::num_rows).sum::<usize>(),
        inside.count()
    );
    let page = store
        .events(Range::ALL, &events::schema(), Some(&places[4]))
        .await
        .unwrap();
    assert_eq!(place(&page[0], 0), places[5]);

    // The successor writes all of it again, and later.
    let again = ClickHouse::open(&settings, "shop").await.unwrap();
    for flush in flushes.iter().rev() {
        flush.write(&again, now() + 5).await;
    }
    assert_eq!(lines(&kept(&again).await), lines(&found));
    // The control: under another name the same rows stand there twice.
    let stranger = ClickHouse::open(&settings, "stranger").await.unwrap();
    flushes[0].write(&stranger, now()).await;
    assert!(lines(&kept(&stranger).await).len() > rows);

    // Each pipeline reads its own zones.
    let nobody = store.clone().with_zones(["nowhere"]);
    assert_eq!(nobody.newest_event().await.unwrap(), None);
    assert!(kept(&nobody).await.is_empty());
}

const PASSWORD: &str = "GATEWATCH_TEST_EVENTS_PASSWORD";

/// The generated pipeline with ClickHouse in the place of the local store.
fn pipeline(folder: &Path, settings: &Settings) -> PathBuf {
    let text = fs::read_to_string(folder.join("pipeline.toml")).unwrap();
    let zones = &text[text.find("[[zones]]").unwrap()..];
    fs::write(folder.join("hash.key"), "0123456789abcdef".repeat(2)).unwrap();
    let user = settings.user.as_deref().unwrap_or("default");
    let text = format!(
        "name = \"shop\"\n[source]\nkind = \"kafka\"\nbrokers = \"127.0.0.1:1\"\ntopics = [\"edge.logs\"]\n\
         [store]\nkind = \"clickhouse\"\nurl = \"{}\"\ndatabase = \"{}\"\nuser = \"{user}\"\n\
         password = {{ env = \"{PASSWORD}\" }}\n[publish]\nkind = \"kafka\"\nbrokers = \"127.0.0.1:1\"\n\
         [privacy]\nhash_key = {{ file = \"hash.key\" }}\n[evidence]\n{zones}",
        settings.url, settings.database
    );
    let path = folder.join("clickhouse.toml");
    fs::write(&path, text).unwrap();
    path
}

fn asked(mut command: Command, settings: &Settings) -> String {
    let password = settings.password.clone().unwrap_or_default();
    let output = command.env(PASSWORD, password).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_same_questions_have_the_same_answers_in_both_stores() {
    let Some(settings) = settings("questions") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (read, _, flushes) = flushes::of_traffic(folder.path(), 1_200, 400).await;
    let path = pipeline(folder.path(), &settings);
    let path = path.to_str().unwrap();
    let nothing = asked(command(&["events", path]), &settings);
    assert!(nothing.contains("no evidence is stored"), "{nothing}");
    let store = ClickHouse::open(&settings, "shop").await.unwrap();
    let mut local = LocalStore::open(&folder.path().join("data"), &read.name).unwrap();
    for flush in &flushes {
        flush.write(&store, now()).await;
        commit(&mut local, flush);
    }
    drop(local);
    let beside = folder.path().join("pipeline.toml");
    let shop = read.policy.zones[0].id.as_str();
    let wide = ["--range", "400d", "--limit", "100000"];
    let mut answers = BTreeSet::new();
    for question in [
        &[][..],
        &["--where", "http.response.code ge 400"],
        &[
            "--where",
            "not http.response.code ge 400 and any(http.request.headers.names[*] eq \"accept\")",
        ],
        &[
            "--where",
            "http.request.headers[\"user-agent\"][0] contains \"a\"",
        ],
        &[
            "--where",
            "all(http.request.uri.args.names[*] eq \"limit\")",
        ],
        &[
            "--where",
            "not all(http.request.cookies.names[*] eq \"sid\")",
        ],
        &[
            "--zone",
            shop,
            "--where",
            "is_jwt_present(\"shop issuer\") and not is_jwt_valid(\"shop issuer\")",
        ],
        &[
            "--zone",
            shop,
            "--where",
            "http.request.jwt.claims.iss[\"shop issuer\"][0] contains \"id.shop\"",
        ],
        &[
            "--where",
            "cf.tls_client_auth.cert_revoked or gatewatch.mtls.reason eq \"untrusted\"",
        ],
        &[
            "--where",
            "ip.src in {10.0.0.0/8 198.51.100.0/24 203.0.113.0/25}",
        ],
        &["--zone", shop],
    ] {
        let ask = |path: &str| {
            let arguments = [&["events", path], &wide[..], question].concat();
            let table = asked(command(&arguments), &settings);
            let arguments = [&arguments[..], &["--json"]].concat();
            (asked(command(&arguments), &settings), table)
        };
        let (found, table) = ask(path);
        let (expected, expected_table) = ask(beside.to_str().unwrap());
        let parsed = |lines: &str| -> Vec<Value> {
            lines
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        };
        assert_eq!(parsed(&found), parsed(&expected), "{question:?}");
        assert_eq!(table, expected_table, "{question:?}");
        answers.insert(found.lines().count());
    }
    // The questions are different ones.
    assert!(answers.len() > 7, "{answers:?}");
    // A page that is full is followed by another one.
    let many = "INSERT INTO {db}.events SELECT * REPLACE (offset + 1000000 * (arrayJoin(range(25)) + 1) AS offset) \
                FROM {db}.events";
    sql(&settings, &many.replace("{db}", &settings.database))
        .await
        .unwrap();
    let count = format!("SELECT count() FROM {}.events", settings.database);
    let count: usize = sql(&settings, &count).await.unwrap().parse().unwrap();
    assert!(count > 2 * 4_096, "{count}");
    let arguments = [&["events", path], &wide[..], &["--json"]].concat();
    let all = asked(command(&arguments), &settings);
    assert_eq!(all.lines().collect::<BTreeSet<_>>().len(), count);
}
