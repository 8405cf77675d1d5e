//! What start-up refuses, and in which words; and DDL that cannot run here.

use std::time::Duration;

use gatewatch::store::clickhouse::{ClickHouse, Settings, definitions_of};

use super::{fault, now, range, settings, sql};

#[tokio::test]
async fn wrong_credentials_are_a_fault_in_the_servers_words() {
    let Some(settings) = settings("credentials") else {
        return;
    };
    let wrong = Settings {
        user: Some("gatewatch".to_owned()),
        password: Some("not the password".to_owned()),
        ..settings
    };
    let error = ClickHouse::open(&wrong, "shop").await.unwrap_err();
    let text = error.to_string();
    assert!(!error.retry(), "{text}");
    assert!(
        text.contains("Authentication failed") && text.contains("hint:"),
        "{text}"
    );
    assert!(!text.contains("not the password"), "{text}");
}

#[tokio::test]
async fn migrations_are_applied_once_and_newer_tables_are_refused() {
    let Some(settings) = settings("versions") else {
        return;
    };
    let careful = Settings {
        migrate: false,
        ..settings.clone()
    };
    let error = ClickHouse::open(&careful, "shop")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("version 0") && error.contains("gatewatch migrate"),
        "{error}"
    );
    assert!(
        ClickHouse::open_to_read(&careful, "shop")
            .await
            .unwrap()
            .is_none()
    );

    let applied = ClickHouse::migrate(&settings).await.unwrap();
    assert!(
        applied.len() > 5 && applied[0].starts_with("0001_"),
        "{applied:?}"
    );
    assert_eq!(ClickHouse::migrate(&settings).await.unwrap(), [""; 0]);
    ClickHouse::open(&careful, "shop").await.unwrap();
    assert!(
        ClickHouse::open_to_read(&careful, "shop")
            .await
            .unwrap()
            .is_some()
    );

    let newer = format!(
        "INSERT INTO {}.gatewatch_schema (version, name) SELECT 9999, 'tomorrow'",
        settings.database
    );
    sql(&settings, &newer).await.unwrap();
    for settings in [&settings, &careful] {
        let error = ClickHouse::open(settings, "shop").await.unwrap_err();
        assert!(!error.retry());
        let error = error.to_string();
        assert!(
            error.contains("version 9999") && error.contains("newer gatewatch"),
            "{error}"
        );
        assert!(ClickHouse::open_to_read(settings, "shop").await.is_err());
    }
    assert!(ClickHouse::migrate(&settings).await.is_err());
}

/// Tables of the version before evidence was kept: what is missing is made, what is there stays.
#[tokio::test]
async fn tables_of_an_older_version_are_upgraded_where_that_is_allowed() {
    let Some(settings) = settings("upgrade") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (_, _, flushes) = super::flushes::of_traffic(folder.path(), 300, 10_000).await;
    let store = ClickHouse::open(&settings, "shop").await.unwrap();
    let flush = &flushes[0];
    let range = range(flush.first, flush.last);
    store.write(&range, &flush.sums, now()).await.unwrap();
    let before = super::contents(&store).await;
    let database = &settings.database;
    for statement in [
        format!("DROP TABLE {database}.events"),
        format!(
            "ALTER TABLE {database}.gatewatch_schema DELETE WHERE version >= 10 SETTINGS mutations_sync = 2"
        ),
    ] {
        sql(&settings, &statement).await.unwrap();
    }
    let careful = Settings {
        migrate: false,
        ..settings.clone()
    };
    for error in [
        ClickHouse::open(&careful, "shop").await.unwrap_err(),
        ClickHouse::open_to_read(&careful, "shop")
            .await
            .unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(
            error.contains("version 9") && error.contains("gatewatch migrate"),
            "{error}"
        );
    }
    let store = ClickHouse::open(&settings, "shop").await.unwrap();
    assert_eq!(super::contents(&store).await, before);
    flush.write(&store, now()).await;
    let kept: usize = super::kept(&store)
        .await
        .iter()
        .map(arrow::array::RecordBatch::num_rows)
        .sum();
    assert_eq!(kept, flush.events.as_ref().unwrap().num_rows());
    ClickHouse::open(&careful, "shop").await.unwrap();
    assert_eq!(ClickHouse::migrate(&settings).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_table_that_would_forget_a_retry_is_refused() {
    let Some(settings) = settings("window") else {
        return;
    };
    ClickHouse::migrate(&settings).await.unwrap();
    for (table, statement) in [
        (
            "token_windows_hours",
            "MODIFY SETTING non_replicated_deduplication_window = 99999",
        ),
        (
            "flushes",
            "RESET SETTING non_replicated_deduplication_window",
        ),
    ] {
        let table = format!("{}.{table}", settings.database);
        sql(&settings, &format!("ALTER TABLE {table} {statement}"))
            .await
            .unwrap();
        let error = ClickHouse::open(&settings, "shop").await.unwrap_err();
        assert!(!error.retry());
        let text = error.to_string();
        assert!(text.contains(&table), "{text}");
        // The hint is a statement that mends it.
        let (_, mend) = text.split_once("hint: ").unwrap();
        sql(&settings, mend).await.unwrap();
        ClickHouse::open(&settings, "shop").await.unwrap();
    }
    sql(
        &settings,
        &format!("DROP TABLE {}.session_windows_days", settings.database),
    )
    .await
    .unwrap();
    let text = ClickHouse::open(&settings, "shop")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("session_windows_days") && text.contains("missing"),
        "{text}"
    );
}

#[tokio::test]
async fn a_changed_retention_holds_for_tables_that_are_there() {
    let Some(mut settings) = settings("retention") else {
        return;
    };
    ClickHouse::migrate(&settings).await.unwrap();
    settings.retention.minutes = Duration::from_hours(3 * 24);
    settings.retention.hours = Duration::from_hours(40 * 24);
    let applied = ClickHouse::migrate(&settings).await.unwrap();
    // Seven tables of minutes, seven of hours, the ledger and the detections, which are kept as long as hours.
    assert_eq!(applied.len(), 16, "{applied:?}");
    // Evidence only where something is said of it: another pipeline's word on it stays.
    settings.retention.events = Some(Duration::from_hours(30 * 24));
    let applied = ClickHouse::migrate(&settings).await.unwrap();
    assert_eq!(applied, ["retention of events"]);
    settings.retention.events = None;
    assert_eq!(ClickHouse::migrate(&settings).await.unwrap(), [""; 0]);
    let statement = format!("SHOW CREATE TABLE {}.token_windows", settings.database);
    let definition = sql(&settings, &statement).await.unwrap();
    assert!(
        definition.contains("toIntervalSecond(259200)"),
        "{definition}"
    );
}

#[tokio::test]
async fn a_definite_refusal_is_not_tried_again() {
    let Some(settings) = settings("definite") else {
        return;
    };
    let store = ClickHouse::open(&settings, "shop").await.unwrap();
    sql(
        &settings,
        &format!("DROP TABLE {}.violation_windows", settings.database),
    )
    .await
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (_, _, flushes) = super::flushes::of_traffic(folder.path(), 200, 10_000).await;
    let error = store
        .write(&range(0, 5), &flushes[0].sums, now())
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        !error.retry() && text.contains("UNKNOWN_TABLE") && text.contains("violation_windows"),
        "{text}"
    );
}

#[tokio::test]
async fn patience_ends_with_the_deadline_and_the_last_words_are_kept() {
    let Some(mut settings) = settings("deadline") else {
        return;
    };
    settings.deadline = Duration::from_millis(700);
    let store = ClickHouse::open(&settings, "shop").await.unwrap();
    let wish = format!(
        "{{\"kind\": \"before\", \"match\": \"`{}`.`detections`\", \"code\": 252, \"name\": \"TOO_MANY_PARTS\", \"message\": \"Merges are slow\"}}",
        settings.database
    );
    fault(&settings, &wish).await;
    let error = store.write_detections(1, 1, "{}", "[]").await.unwrap_err();
    assert!(
        error.retry() && error.to_string().contains("Merges are slow"),
        "{error}"
    );
}

/// `Replicated…`, `Distributed` and `ON CLUSTER` need a Keeper and several servers, which the engine here is not: their DDL
/// is parsed, not run.
#[tokio::test]
async fn the_engine_parses_every_variant_of_the_tables() {
    let Some(settings) = settings("variants") else {
        return;
    };
    for (cluster, replicated) in [
        (None, true),
        (Some("edge-1"), false),
        (Some("edge-1"), true),
    ] {
        let settings = Settings {
            cluster: cluster.map(str::to_owned),
            replicated,
            ..settings.clone()
        };
        let statements = definitions_of(&settings);
        assert!(statements.len() > 40);
        for statement in statements {
            let parsed = sql(&settings, &format!("EXPLAIN AST {statement}")).await;
            assert!(parsed.is_ok(), "{statement}\n{parsed:?}");
        }
    }
    // The control: the parser does refuse.
    assert!(
        sql(
            &settings,
            "EXPLAIN AST CREATE TABLE x (a Int8) ENGINE = Distributed("
        )
        .await
        .is_err()
    );
}
