//! What is written is read back, like from the local store: rows, the ledger, detections.

use std::collections::BTreeMap;

use gatewatch::store::Range;
use gatewatch::store::clickhouse::{ClickHouse, Detections, FlushRange, LedgerRow};
use gatewatch::store::local::{Commit, LocalStore};
use gatewatch::window::{Resolution, TABLES};

use super::{endpoints, flushes, joined, now, range, settings, total};

const MINUTE: i64 = 60_000;

#[tokio::test]
async fn every_table_reads_like_the_local_store() {
    let Some(settings) = settings("round_trip") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (_, _, flushes) = flushes::of_traffic(folder.path(), 1_500, 333).await;
    let store = ClickHouse::open(&settings, "shop").await.unwrap();
    assert_eq!(store.newest_minute().await.unwrap(), None);
    let mut local = LocalStore::open(&folder.path().join("local"), "shop").unwrap();
    for flush in &flushes {
        store
            .write(&range(flush.first, flush.last), &flush.sums, now())
            .await
            .unwrap();
        let commit = Commit {
            sums: &flush.sums,
            events: None,
            checkpoint: None,
            outgrown: None,
            topics: BTreeMap::new(),
            detections: None,
            journal: None,
            stored_at: now(),
        };
        local.commit(commit).unwrap();
    }
    let reader = local.reader();
    let newest = reader.newest_minute().unwrap();
    assert_eq!(store.newest_minute().await.unwrap(), Some(newest));
    let ranges = [
        Range::ALL,
        Range::ending_with(newest, 1_440),
        Range::ending_with(newest, 7 * 1_440),
        Range::ending_with(newest - 3 * MINUTE, 61),
        Range::ending_with(newest, 1),
        Range {
            from: newest - 100 * MINUTE,
            to: i64::MAX,
        },
        Range {
            from: 0,
            to: MINUTE,
        },
    ];
    let mut compared = 0;
    for table in TABLES {
        for range in ranges {
            for resolution in [None].into_iter().chain(Resolution::ALL.map(Some)) {
                let expected = joined(&reader.read(table, range, resolution).await.unwrap());
                let found = joined(&store.read(table, range, resolution).await.unwrap());
                let Some(expected) = expected else {
                    assert!(found.is_none(), "{} {range:?} {resolution:?}", table.name);
                    continue;
                };
                let found = found.unwrap();
                let types = |batch: &arrow::array::RecordBatch| {
                    let fields = batch.schema().fields().clone();
                    fields
                        .iter()
                        .map(|field| (field.name().clone(), field.data_type().clone()))
                        .collect::<Vec<_>>()
                };
                assert_eq!(types(&found), types(&expected), "{}", table.name);
                assert_eq!(
                    found.columns(),
                    expected.columns(),
                    "{} {range:?} {resolution:?}",
                    table.name
                );
                compared += expected.num_rows();
            }
        }
    }
    assert!(compared > 10_000, "{compared} rows");

    let minutes: Vec<i64> = [0, 7, 100].map(|back| newest - back * MINUTE).into();
    let some = store.read_minutes(endpoints(), &minutes).await.unwrap();
    let mut expected = 0;
    for minute in &minutes {
        let one = Range::ending_with(*minute, 1);
        let rows = reader
            .read(endpoints(), one, Some(Resolution::Minute))
            .await
            .unwrap();
        expected += total(&rows, "requests");
    }
    assert_eq!(total(&some, "requests"), expected);
    assert!(expected > 0);
    assert!(
        store
            .read_minutes(endpoints(), &[])
            .await
            .unwrap()
            .is_empty()
    );
}

fn row(first: u64, last: u64, drain: bool, stored_at: i64) -> LedgerRow {
    LedgerRow {
        range: FlushRange {
            drain,
            ..range(first, last)
        },
        from: first.saturating_sub(3),
        clock: (first > 0).then_some(1_795_000_000_123_456_789),
        greatest: (first > 1).then_some(1_795_000_001_123_456_789),
        closed: (0..first % 4).map(|back| first - back).collect(),
        minutes: vec![1_795_000_020_000, 1_795_000_080_000],
        all_minutes: drain,
        records: last - first,
        exchanges: (last - first) / 2,
        rejected: 1,
        blocks: u64::from(!drain) * 2,
        stored_at,
    }
}

#[tokio::test]
async fn the_ledger_knows_what_is_done_and_where_to_go_on() {
    let Some(settings) = settings("ledger") else {
        return;
    };
    let store = ClickHouse::open(&settings, "shop").await.unwrap();
    let now = gatewatch::clock::now_millis();
    assert_eq!(store.ledger("edge.logs", 3).await.unwrap(), None);
    let rows = [
        row(0, 10, false, now - 3_000),
        row(10, 25, false, now - 2_000),
        row(25, 25, true, now - 1_000),
    ];
    // The middle one twice: its second writer is late, and changes nothing.
    for row in [&rows[0], &rows[1], &rows[2]] {
        store.record(row).await.unwrap();
    }
    store
        .record(&LedgerRow {
            records: 99,
            ..rows[1].clone()
        })
        .await
        .unwrap();
    assert_eq!(
        store.recorded(&rows[1].range).await.unwrap(),
        Some(rows[1].clone())
    );
    assert_eq!(store.recorded(&range(10, 26)).await.unwrap(), None);
    assert_eq!(
        store.ledger("edge.logs", 3).await.unwrap(),
        Some(rows[2].clone()),
        "a drain after the flush with the same end"
    );
    assert_eq!(store.recorded_since(now - 2_000).await.unwrap(), rows[1..]);
    // Another pipeline has a ledger of its own, and counts for the deduplication window.
    let other = ClickHouse::open(&settings, "other").await.unwrap();
    assert_eq!(other.ledger("edge.logs", 3).await.unwrap(), None);
    other
        .record(&LedgerRow {
            blocks: 40,
            ..row(0, 7, false, now)
        })
        .await
        .unwrap();
    assert_eq!(store.blocks_since(now - 2_000).await.unwrap(), 2 + 1 + 40);
    assert_eq!(store.blocks_since(now + 1).await.unwrap(), 0);
    assert_eq!(
        store.blocks_since(now - 40 * 86_400_000).await.unwrap(),
        u64::MAX,
        "longer ago than the ledger reaches"
    );
    assert_eq!(store.deduplication_window(), 100_000);
    // What the ledger forgets, the positions keep.
    super::sql(
        &settings,
        &format!("TRUNCATE TABLE {}.flushes", settings.database),
    )
    .await
    .unwrap();
    assert_eq!(
        store.ledger("edge.logs", 3).await.unwrap(),
        Some(rows[2].clone())
    );
}

#[tokio::test]
async fn a_tick_has_one_row_of_every_term_that_judged_it() {
    let Some(settings) = settings("detections") else {
        return;
    };
    let store = ClickHouse::open(&settings, "shop").await.unwrap();
    assert_eq!(store.newest_detections().await.unwrap(), None);
    let written = |tick: i64| Detections {
        tick,
        state: format!("{{\"held\": \"it's {tick} \\ é\"}}"),
        changes: "[]".to_owned(),
    };
    for tick in [300_000, 600_000, 900_000] {
        let Detections { state, changes, .. } = written(tick);
        store
            .write_detections(tick, 4, &state, &changes)
            .await
            .unwrap();
        // Repeated by the same evaluator, it changes nothing, whatever it says.
        store
            .write_detections(tick, 4, "late", "late")
            .await
            .unwrap();
    }
    let expected: Vec<Detections> = [300_000, 600_000, 900_000].map(written).into();
    assert_eq!(store.detections_after(None).await.unwrap(), expected);
    assert_eq!(
        store.detections_after(Some(300_000)).await.unwrap(),
        expected[1..]
    );
    assert_eq!(
        store.newest_detections().await.unwrap().as_ref(),
        expected.last()
    );
    // The evaluator that took over has a row of its own; the terms in the states say whose counts.
    store
        .write_detections(600_000, 5, "theirs", "[]")
        .await
        .unwrap();
    let twice = store.detections_after(Some(300_000)).await.unwrap();
    let states: Vec<&str> = twice.iter().map(|row| row.state.as_str()).collect();
    assert_eq!(states.len(), 3);
    assert!(
        states[0] == expected[1].state && states[1] == "theirs",
        "{states:?}"
    );
    // Of two rows of the newest tick the later term's is kept, whichever came last.
    for (term, state) in [(6, "latest"), (5, "stale")] {
        store
            .write_detections(900_000, term, state, "[]")
            .await
            .unwrap();
    }
    let newest = Some(Detections {
        tick: 900_000,
        state: "latest".to_owned(),
        changes: "[]".to_owned(),
    });
    assert_eq!(store.newest_detections().await.unwrap(), newest);
    let other = ClickHouse::open(&settings, "other").await.unwrap();
    assert_eq!(other.detections_after(None).await.unwrap(), []);
    super::sql(
        &settings,
        &format!("TRUNCATE TABLE {}.detections", settings.database),
    )
    .await
    .unwrap();
    let merge = format!(
        "OPTIMIZE TABLE {}.newest_detections FINAL",
        settings.database
    );
    super::sql(&settings, &merge).await.unwrap();
    assert_eq!(store.newest_detections().await.unwrap(), newest);
}

#[tokio::test]
async fn pipelines_that_share_a_database_read_their_own_zones() {
    let Some(settings) = settings("zones") else {
        return;
    };
    let store = ClickHouse::open(&settings, "shop").await.unwrap();
    // Everything of these rows is called x, the zone too.
    let minute = now() / MINUTE * MINUTE;
    let sums = flushes::of_endpoints(&[(minute, "/a".to_owned(), 3)]);
    store.write(&range(0, 1), &sums, now()).await.unwrap();
    for (zones, requests) in [
        (&["x"][..], 3),
        (&["it's", "x"], 3),
        (&["y", "xx"], 0),
        (&[], 0),
    ] {
        let store = store.clone().with_zones(zones.iter().copied());
        let table = endpoints();
        for rows in [
            store.read(table, Range::ALL, None).await.unwrap(),
            store
                .read(
                    table,
                    Range::ending_with(minute, 90),
                    Some(Resolution::Hour),
                )
                .await
                .unwrap(),
            store.read_minutes(table, &[minute]).await.unwrap(),
        ] {
            assert_eq!(total(&rows, "requests"), requests, "{zones:?}");
        }
        let newest = store.newest_minute().await.unwrap();
        assert_eq!(newest, (requests > 0).then_some(minute), "{zones:?}");
    }
}
