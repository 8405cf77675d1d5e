//! Repeating changes nothing: whole flushes, parts of them, after lost answers and beyond one block.

use gatewatch::store::Range;
use gatewatch::store::clickhouse::{ClickHouse, Settings};
use gatewatch::window::Resolution;

use super::{all_struck, contents, endpoints, fault, flushes, now, range, settings, sql, total};

#[tokio::test]
async fn a_repeated_flush_changes_no_table_and_no_roll_up() {
    let Some(settings) = settings("repeated") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (_, _, flushes) = flushes::of_traffic(folder.path(), 600, 250).await;
    let store = ClickHouse::open(&settings, "shop").await.unwrap();
    for flush in &flushes {
        flush.write(&store, now()).await;
    }
    let once = contents(&store).await;
    // Its successor writes all of it again, later and from the end.
    let again = ClickHouse::open(&settings, "shop").await.unwrap();
    for flush in flushes.iter().rev() {
        flush.write(&again, now() + 5).await;
    }
    assert_eq!(contents(&again).await, once);
    // The control: under another name the same rows count again, or the test would be blind.
    let stranger = ClickHouse::open(&settings, "stranger").await.unwrap();
    for flush in &flushes {
        flush.write(&stranger, now()).await;
    }
    assert_ne!(contents(&stranger).await, once);
}

#[tokio::test]
async fn lost_answers_refusals_and_cut_bodies_change_nothing() {
    let (Some(settings), Some(calm)) = (settings("faults"), settings("faults_calm")) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (_, _, flushes) = flushes::of_traffic(folder.path(), 600, 200).await;
    let calm = ClickHouse::open(&calm, "shop").await.unwrap();
    let store = ClickHouse::open(&settings, "shop").await.unwrap();
    let target = format!("INTO `{}`", settings.database);
    for (number, flush) in flushes.iter().enumerate() {
        let kind = ["after", "before", "middle"][number % 3];
        let wish = format!("{{\"kind\": \"{kind}\", \"times\": 3, \"match\": \"{target}\"}}");
        fault(&settings, &wish).await;
        flush.write(&store, now()).await;
        flush.write(&calm, now()).await;
        assert!(
            all_struck(&settings, &target).await,
            "{kind} has hit nothing"
        );
    }
    assert_eq!(contents(&store).await, contents(&calm).await);
}

#[tokio::test]
async fn more_rows_than_a_block_holds_are_cut_alike_every_time() {
    let Some(settings) = settings("blocks") else {
        return;
    };
    let store = ClickHouse::open(&settings, "shop").await.unwrap();
    let minute = 1_795_000_020_000;
    // Two days of different length in one month, and one row of the next month.
    let rows: Vec<(i64, String, u64)> = (0..250_000)
        .map(|row| (minute + row / 50_000 * 60_000, format!("/{row}"), 1))
        .chain([(minute + 31 * 86_400_000, "/later".to_owned(), 1)])
        .collect();
    let sums = flushes::of_endpoints(&rows);
    let target = format!("INTO `{}`", settings.database);
    fault(
        &settings,
        &format!("{{\"kind\": \"after\", \"times\": 2, \"match\": \"{target}\"}}"),
    )
    .await;
    assert_eq!(store.write(&range(0, 9), &sums, now()).await.unwrap(), 4);
    assert!(all_struck(&settings, &target).await);
    for _ in 0..2 {
        for resolution in [None].into_iter().chain(Resolution::ALL.map(Some)) {
            let found = store
                .read(endpoints(), Range::ALL, resolution)
                .await
                .unwrap();
            assert_eq!(total(&found, "requests"), 250_001, "{resolution:?}");
        }
        for table in [
            "endpoint_windows",
            "endpoint_windows_hours",
            "endpoint_windows_days",
        ] {
            assert_eq!(stored(&settings, table).await, "250001", "{table}");
        }
        assert_eq!(
            store.write(&range(0, 9), &sums, now() + 5).await.unwrap(),
            4
        );
    }
}

async fn stored(settings: &Settings, table: &str) -> String {
    let statement = format!("SELECT sum(requests) FROM {}.{table}", settings.database);
    sql(settings, &statement).await.unwrap()
}

#[tokio::test]
async fn wild_timestamps_are_kept_and_repeated_without_harm() {
    let Some(settings) = settings("wild") else {
        return;
    };
    let store = ClickHouse::open(&settings, "shop").await.unwrap();
    // The first minute of 1970, the last of 2100, and one of every third year between, in no order.
    let year = 31_556_952_000_i64;
    let mut minutes: Vec<i64> = (0..43)
        .map(|third| third * 3 * year / 60_000 * 60_000)
        .collect();
    minutes.push(4_133_980_800_000 - 60_000);
    minutes.reverse();
    minutes.swap(3, 20);
    let rows: Vec<(i64, String, u64)> = minutes
        .iter()
        .map(|minute| (*minute, "/wild".to_owned(), 1))
        .collect();
    let sums = flushes::of_endpoints(&rows);
    for late in 0..2 {
        let blocks = store
            .write(&range(0, 9), &sums, now() + late)
            .await
            .unwrap();
        assert_eq!(blocks, 44, "one for every month");
        for resolution in Resolution::ALL {
            let found = store
                .read(endpoints(), Range::ALL, Some(resolution))
                .await
                .unwrap();
            assert_eq!(total(&found, "requests"), 44);
        }
    }
    let newest = minutes.iter().copied().max();
    assert_eq!(store.newest_minute().await.unwrap(), newest);
    let first = Range {
        from: 0,
        to: 60_000,
    };
    let found = store.read(endpoints(), first, None).await.unwrap();
    assert_eq!(total(&found, "requests"), 1);
}

#[tokio::test]
async fn two_writers_of_one_flush_at_once_count_it_once() {
    let Some(settings) = settings("at_once") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (_, _, flushes) = flushes::of_traffic(folder.path(), 400, 100).await;
    // Both create the tables, too.
    let (one, two) = tokio::join!(
        ClickHouse::open(&settings, "shop"),
        ClickHouse::open(&settings, "shop")
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    let mut requests = 0;
    for flush in &flushes {
        let range = range(flush.first, flush.last);
        // A worker that has lost its partition and does not know it yet, and the new owner.
        let (late, new) = tokio::join!(
            one.write(&range, &flush.sums, now()),
            two.write(&range, &flush.sums, now())
        );
        assert_eq!(late.unwrap(), new.unwrap());
        requests += total(&flush.sums[..1], "requests");
    }
    for resolution in Resolution::ALL {
        let found = one
            .read(endpoints(), Range::ALL, Some(resolution))
            .await
            .unwrap();
        assert_eq!(total(&found, "requests"), requests, "{resolution:?}");
    }
}

#[tokio::test]
async fn merging_parts_changes_no_figure() {
    let Some(settings) = settings("merges") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (_, _, flushes) = flushes::of_traffic(folder.path(), 400, 50).await;
    let store = ClickHouse::open(&settings, "shop").await.unwrap();
    for flush in &flushes {
        flush.write(&store, now()).await;
    }
    let before = contents(&store).await;
    let mut merged = 0;
    for table in gatewatch::window::TABLES {
        for suffix in ["", "_hours", "_days"] {
            let table = format!("{}.{}{suffix}", settings.database, table.name);
            let rows = format!("SELECT count() FROM {table}");
            let scattered: u64 = sql(&settings, &rows).await.unwrap().parse().unwrap();
            sql(&settings, &format!("OPTIMIZE TABLE {table} FINAL"))
                .await
                .unwrap();
            let together: u64 = sql(&settings, &rows).await.unwrap().parse().unwrap();
            assert!(together <= scattered);
            merged += scattered - together;
        }
    }
    assert!(merged > 0, "nothing was merged, so nothing was shown");
    assert_eq!(contents(&store).await, before);
}
