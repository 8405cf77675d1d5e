//! The store against a plain list of rows: whatever is compacted, rolled up or read at whatever edges, sums agree.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, RecordBatch, StringArray, StringViewArray, TimestampMillisecondArray,
    UInt16Array, UInt64Array,
};
use arrow::compute::sum;
use arrow::datatypes::UInt64Type;

use super::*;
use crate::window::{Table, table};

const MINUTE: i64 = 60_000;

/// (minute, status, requests)
type Row = (i64, u16, u64);

fn endpoints() -> &'static Table {
    table("endpoint_windows").unwrap()
}

/// Rows of `endpoint_windows` that differ in minute and status only.
fn batch(rows: &[Row]) -> RecordBatch {
    let times = TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.0 * MINUTE));
    let mut columns = vec![(
        "window_start",
        Arc::new(times.with_timezone("UTC")) as ArrayRef,
    )];
    for key in endpoints().keys {
        let column: ArrayRef = if *key == "status" {
            Arc::new(UInt16Array::from_iter_values(rows.iter().map(|row| row.1)))
        } else {
            Arc::new(StringArray::from_iter_values(rows.iter().map(|_| "x")))
        };
        columns.push((key, column));
    }
    for (measure, _) in endpoints().measures {
        columns.push((
            measure,
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.2))),
        ));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

fn commit(store: &mut LocalStore, rows: &[Row], stored_at: i64) {
    let sums = [batch(rows)];
    let commit = Commit {
        sums: &sums,
        events: None,
        checkpoint: None,
        outgrown: None,
        topics: BTreeMap::new(),
        detections: None,
        journal: None,
        stored_at,
    };
    store.commit(commit).unwrap();
}

async fn total(reader: &Reader, range: Range, resolution: Option<Resolution>) -> u64 {
    let batches = reader.read(endpoints(), range, resolution).await.unwrap();
    let requests = |batch: &RecordBatch| {
        sum(batch
            .column_by_name("requests")
            .unwrap()
            .as_primitive::<UInt64Type>())
        .unwrap_or(0)
    };
    batches.iter().map(requests).sum()
}

fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder.join("endpoint_windows")).unwrap();
    entries.count()
}

/// A flush dies after its files and before the manifest; small files are merged before it is tried again. What the
/// dead attempt left is neither counted nor merged.
#[tokio::test]
async fn compaction_in_the_middle_of_a_retry_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = LocalStore::open(folder.path(), "p").unwrap();
    for flush in 0..20 {
        commit(&mut store, &[(flush, 200, 1)], flush);
    }
    let manifest = std::fs::read(folder.path().join(MANIFEST)).unwrap();
    let interrupted = [(7, 200, 100), (900, 500, 100)];
    commit(&mut store, &interrupted, 20);
    drop(store);
    // As if the process had been killed before the rename: the files are there, the manifest is the one before.
    std::fs::write(folder.path().join(MANIFEST), manifest).unwrap();
    let left = files(folder.path());

    let mut store = LocalStore::open(folder.path(), "p").unwrap();
    assert!(files(folder.path()) < left, "what nobody names is removed");
    assert_eq!(total(&store.reader(), Range::ALL, None).await, 20);
    store.compact(21).await.unwrap();
    assert_eq!(total(&store.reader(), Range::ALL, None).await, 20);
    commit(&mut store, &interrupted, 22);
    store.compact(23).await.unwrap();
    assert_eq!(total(&store.reader(), Range::ALL, None).await, 220);
}

#[tokio::test]
async fn every_range_agrees_with_the_rows_before_and_after_compaction() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = LocalStore::open(folder.path(), "p").unwrap();
    let mut random = 7_u64;
    let mut next = |bound: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };
    let mut rows: Vec<Row> = Vec::new();
    for flush in 0..120 {
        let flushed: Vec<Row> = (0..=next(5))
            .map(|_| {
                (
                    i64::try_from(next(600)).unwrap(),
                    200 + u16::try_from(next(3)).unwrap(),
                    1 + next(9),
                )
            })
            .collect();
        commit(&mut store, &flushed, flush);
        rows.extend(flushed);
        if flush % 7 == 0 {
            store.compact(flush).await.unwrap();
        }
        if flush % 10 == 9 {
            let from = i64::try_from(next(600)).unwrap();
            let to = from + i64::try_from(next(400)).unwrap();
            let range = Range {
                from: from * MINUTE,
                to: to * MINUTE,
            };
            let expected: u64 = rows
                .iter()
                .filter(|row| (from..to).contains(&row.0))
                .map(|row| row.2)
                .sum();
            let reader = store.reader();
            assert_eq!(total(&reader, range, None).await, expected, "{range:?}");
            assert_eq!(
                total(&reader, range, Some(Resolution::Minute)).await,
                expected,
                "{range:?}"
            );
        }
    }
    let expected: u64 = rows.iter().map(|row| row.2).sum();
    for resolution in [
        None,
        Some(Resolution::Minute),
        Some(Resolution::Hour),
        Some(Resolution::Day),
    ] {
        assert_eq!(
            total(&store.reader(), Range::ALL, resolution).await,
            expected,
            "{resolution:?}"
        );
    }
    assert!(files(folder.path()) < 60, "{} files", files(folder.path()));
    let newest = rows.iter().map(|row| row.0).max().unwrap();
    assert_eq!(store.reader().newest_minute(), Some(newest * MINUTE));
    drop(store);

    // Another process reads the same, and strays of a killed one are deleted.
    let stray = folder
        .path()
        .join("endpoint_windows/minute-999999999.parquet");
    std::fs::write(&stray, b"half a file").unwrap();
    let reader = Reader::open(folder.path()).unwrap().unwrap();
    assert_eq!(total(&reader, Range::ALL, None).await, expected);
    let _store = LocalStore::open(folder.path(), "p").unwrap();
    assert!(!stray.exists());
}

#[tokio::test]
async fn a_reader_with_an_old_manifest_is_told_to_start_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = LocalStore::open(folder.path(), "p").unwrap();
    for minute in 0..40 {
        commit(&mut store, &[(minute, 200, 1)], 0);
    }
    let reader = Reader::open(folder.path()).unwrap().unwrap();
    store.compact(0).await.unwrap();
    let error = reader
        .read(endpoints(), Range::ALL, None)
        .await
        .unwrap_err();
    assert!(error.compacted_away(), "{error}");
    let reader = Reader::open(folder.path()).unwrap().unwrap();
    assert_eq!(total(&reader, Range::ALL, None).await, 40);
}

#[tokio::test]
async fn retention_counts_from_arrival_and_leaves_the_wider_buckets() {
    let day = 86_400_000;
    let folder = tempfile::tempdir().unwrap();
    let mut store = LocalStore::open(folder.path(), "p").unwrap();
    // Few enough that nothing but their age makes them due.
    for minute in 0..5 {
        commit(&mut store, &[(minute, 200, 8)], 0);
    }
    store.compact(day).await.unwrap();
    let minutes = |store: &LocalStore| {
        store
            .manifest()
            .files
            .iter()
            .filter(|f| f.resolution == Resolution::Minute && f.rolled)
            .count()
    };
    assert!(minutes(&store) > 0);
    store.compact(9 * day).await.unwrap();
    assert_eq!(
        minutes(&store),
        0,
        "rolled minutes are gone after eight days"
    );
    // The minutes of 1970 in this test arrived today: event time does not age them.
    commit(&mut store, &[(41, 200, 5)], 9 * day);
    let hours = Range {
        from: 0,
        to: 60 * MINUTE,
    };
    assert_eq!(total(&store.reader(), hours, None).await, 45);
}

#[test]
fn a_store_belongs_to_one_pipeline_and_one_version() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = LocalStore::open(folder.path(), "mine").unwrap();
    commit(&mut store, &[(0, 200, 1)], 0);
    assert!(matches!(
        LocalStore::open(folder.path(), "mine"),
        Err(StoreError::Locked(_))
    ));
    drop(store);
    assert!(matches!(
        LocalStore::open(folder.path(), "yours"),
        Err(StoreError::Foreign { .. })
    ));
    let path = folder.path().join("manifest.json");
    let newer = std::fs::read_to_string(&path)
        .unwrap()
        .replace("\"version\":1", "\"version\":2");
    std::fs::write(&path, newer).unwrap();
    let error = LocalStore::open(folder.path(), "mine")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("version 2") && error.contains("hint:"),
        "{error}"
    );
}

/// Files of a version that kept no samples are read, merged and compacted with those that have them.
#[tokio::test]
async fn a_measure_that_older_files_do_not_have_is_empty_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = LocalStore::open(folder.path(), "p").unwrap();
    let sessions = table("session_windows").unwrap();
    let at = crate::window::TABLES
        .iter()
        .position(|table| table.name == sessions.name)
        .unwrap();
    for (number, sample) in [None, Some("b"), None, Some("a")].into_iter().enumerate() {
        let times = TimestampMillisecondArray::from_iter_values([MINUTE]);
        let mut columns: Vec<(&str, ArrayRef)> =
            vec![("window_start", Arc::new(times.with_timezone("UTC")))];
        for key in sessions.keys {
            columns.push((key, Arc::new(StringArray::from(vec!["x"]))));
        }
        columns.push(("requests", Arc::new(UInt64Array::from(vec![1]))));
        for name in ["addresses", "paths"] {
            let nothing = arrow::array::new_null_array(&crate::window::sketch_type(), 1);
            columns.push((name, nothing));
        }
        if let Some(sample) = sample {
            columns.push(("sample", Arc::new(StringViewArray::from(vec![sample]))));
        }
        let mut sums =
            vec![RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty())); at];
        sums.push(RecordBatch::try_from_iter(columns).unwrap());
        let commit = Commit {
            sums: &sums,
            events: None,
            checkpoint: None,
            outgrown: None,
            topics: BTreeMap::new(),
            detections: None,
            journal: None,
            stored_at: i64::try_from(number).unwrap(),
        };
        store.commit(commit).unwrap();
    }
    for _ in 0..2 {
        let read = store.reader().read(sessions, Range::ALL, None).await;
        let rows = read.unwrap().remove(0);
        let column = |name: &str| rows.column_by_name(name).unwrap();
        assert_eq!(column("requests").as_primitive::<UInt64Type>().value(0), 4);
        assert_eq!(column("sample").as_string_view().value(0), "b");
        // On a later day everything is rolled up.
        store.compact(3 * 86_400_000).await.unwrap();
    }
}
