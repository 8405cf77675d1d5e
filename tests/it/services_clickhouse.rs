//! The ClickHouse store against the real engine: what it keeps, what a retry changes (nothing), what it refuses.
//!
//! Needs `GATEWATCH_TEST_CLICKHOUSE`, the address of the engine's front (`tests/services/`); without it every test says that
//! it was skipped. The front breaks requests on purpose, see its README.

mod commands;
mod events;
pub mod flushes;
mod refusals;
mod retries;
mod round_trip;
mod views;

use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, UInt64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use gatewatch::store::clickhouse::{ClickHouse, FlushRange, Retention, Settings};
use gatewatch::window::{Resolution, Table, table};

/// Settings with a database of its own for this test; `None` = there is no server, and the test was skipped.
pub fn settings(test: &str) -> Option<Settings> {
    let Ok(url) = std::env::var("GATEWATCH_TEST_CLICKHOUSE") else {
        assert!(
            std::env::var_os("GATEWATCH_TEST_REQUIRED").is_none(),
            "{test} needs the services of tests/services/run"
        );
        eprintln!("SKIPPED {test}: no ClickHouse (tests/services/run starts it)");
        return None;
    };
    let days = |days: u64| Duration::from_secs(days * 86_400);
    Some(Settings {
        url,
        database: format!("test_{test}_{}", std::process::id()),
        user: std::env::var("GATEWATCH_TEST_CLICKHOUSE_USER").ok(),
        password: std::env::var("GATEWATCH_TEST_CLICKHOUSE_PASSWORD").ok(),
        cluster: None,
        replicated: false,
        migrate: true,
        ca: None,
        retention: Retention {
            minutes: days(8),
            hours: days(35),
            days: days(400),
            events: None,
        },
        deadline: Duration::from_mins(1),
    })
}

/// A range of offsets of partition 3.
pub fn range(first: u64, last: u64) -> FlushRange {
    FlushRange {
        topic: "edge.logs".to_owned(),
        partition: 3,
        first,
        last,
        drain: false,
    }
}

/// Wall time: rows that arrived in 1970 would be forgotten at once.
pub fn now() -> i64 {
    gatewatch::clock::now_millis()
}

/// Runs a statement beside the store, as an operator would.
pub async fn sql(settings: &Settings, statement: &str) -> Result<String, String> {
    let mut request = reqwest::Client::new()
        .post(&settings.url)
        .body(statement.to_owned());
    if let Some(user) = &settings.user {
        request = request.header("X-ClickHouse-User", user);
    }
    if let Some(password) = &settings.password {
        request = request.header("X-ClickHouse-Key", password);
    }
    let answer = request.send().await.unwrap();
    let good = answer.status().is_success();
    let text = answer.text().await.unwrap().trim_end().to_owned();
    if good { Ok(text) } else { Err(text) }
}

/// Makes the tables.
pub async fn migrated(settings: &Settings) {
    ClickHouse::open(settings, "anybody").await.unwrap();
}

/// Makes the front break requests; `wish` is one JSON object.
pub async fn fault(settings: &Settings, wish: &str) {
    let url = format!("{}/fault", settings.url.trim_end_matches('/'));
    let request = reqwest::Client::new().post(url).body(wish.to_owned());
    let answer = request.send().await.unwrap();
    assert!(
        answer.status().is_success(),
        "{}",
        answer.text().await.unwrap()
    );
}

/// Takes the faults on this text back.
pub async fn mend(settings: &Settings, text: &str) {
    let mut url = reqwest::Url::parse(&settings.url).unwrap();
    url.set_path("/fault");
    url.query_pairs_mut().clear().append_pair("match", text);
    let answer = reqwest::Client::new().delete(url).send().await.unwrap();
    assert!(answer.status().is_success());
}

/// Whether every fault on this text has struck as often as it was asked for.
pub async fn all_struck(settings: &Settings, text: &str) -> bool {
    let url = format!("{}/fault", settings.url.trim_end_matches('/'));
    let shown = reqwest::get(url).await.unwrap().text().await.unwrap();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let active = shown["active"].as_array().unwrap();
    !active.iter().any(|fault| fault["match"] == text)
}

/// One batch of the rows, whatever batches they came in; `None` = no rows.
pub fn joined(batches: &[RecordBatch]) -> Option<RecordBatch> {
    let schema = batches.iter().find(|batch| batch.num_rows() > 0)?.schema();
    let filled: Vec<_> = batches
        .iter()
        .filter(|batch| batch.num_rows() > 0)
        .collect();
    Some(concat_batches(&schema, filled).unwrap())
}

/// Every row in words, `column=value …`. (`Debug` of a batch shows its first and last ten rows only.)
pub fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        let options = FormatOptions::default();
        let columns: Vec<_> = batch
            .schema_ref()
            .fields()
            .iter()
            .zip(batch.columns())
            .map(|(field, column)| {
                let shown = ArrayFormatter::try_new(column, &options).unwrap();
                (field.name().clone(), shown)
            })
            .collect();
        lines.extend((0..batch.num_rows()).map(|row| {
            let cells = columns
                .iter()
                .map(|(name, shown)| format!("{name}={}", shown.value(row)));
            cells.collect::<Vec<_>>().join(" ")
        }));
    }
    lines
}

/// Sum of a measure.
pub fn total(batches: &[RecordBatch], measure: &str) -> u64 {
    let column = |batch: &RecordBatch| {
        let values = cast(batch.column_by_name(measure).unwrap(), &DataType::UInt64).unwrap();
        values
            .as_primitive::<UInt64Type>()
            .iter()
            .flatten()
            .sum::<u64>()
    };
    batches.iter().map(column).sum()
}

/// Everything that is stored: each table in each width, in words that can be compared.
pub async fn contents(store: &ClickHouse) -> Vec<String> {
    let mut contents = Vec::new();
    for table in gatewatch::window::TABLES {
        for resolution in [None].into_iter().chain(Resolution::ALL.map(Some)) {
            contents.push(printed(store, table, resolution).await);
        }
    }
    contents.push(format!("events:\n{}", lines(&kept(store).await).join("\n")));
    contents
}

/// Everything that is kept as evidence, page by page.
pub async fn kept(store: &ClickHouse) -> Vec<RecordBatch> {
    let schema = gatewatch::window::events::schema();
    let (mut all, mut last) = (Vec::new(), None);
    loop {
        let page = store.events(gatewatch::store::Range::ALL, &schema, last.as_ref());
        let page = page.await.unwrap();
        let Some(rows) = page.last() else {
            return all;
        };
        last = Some(place(rows, rows.num_rows() - 1));
        all.extend(page);
    }
}

/// Where a row of evidence stands.
pub fn place(rows: &RecordBatch, at: usize) -> gatewatch::store::Place {
    use arrow::datatypes::{Int32Type, TimestampMillisecondType};

    let column = |name: &str| rows.column_by_name(name).unwrap();
    gatewatch::store::Place {
        time: column("time")
            .as_primitive::<TimestampMillisecondType>()
            .value(at),
        source: column("source").as_string::<i32>().value(at).to_owned(),
        partition: column("partition").as_primitive::<Int32Type>().value(at),
        offset: column("offset").as_primitive::<UInt64Type>().value(at),
    }
}

async fn printed(store: &ClickHouse, table: &Table, resolution: Option<Resolution>) -> String {
    let rows = store
        .read(table, gatewatch::store::Range::ALL, resolution)
        .await
        .unwrap();
    let rows = lines(&rows).join("\n");
    format!("{} {resolution:?}:\n{rows}", table.name)
}

/// The table of endpoints.
pub fn endpoints() -> &'static Table {
    table("endpoint_windows").unwrap()
}
