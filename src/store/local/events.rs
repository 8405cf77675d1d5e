//! Evidence in the embedded store: files as flushes brought them, put together without merging a row.
//!
//! Enters: files of the manifest. Leaves: one file in the place of many, and batches in the order of their files. Both go
//! batch by batch, so that neither needs more memory than one batch of the largest file.

use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::manifest::{FileEntry, Manifest};
use super::{Reader, StoreError, parquet};
use crate::store::Range;
use crate::window::{Resolution, events};

/// Files that are left alone; one more and they are put together.
const MANY: usize = 16;
/// Rows above which a file stays as it is.
const LARGE: u64 = 65_536;
/// Files are put together with those that arrived on the same day, so that retention can drop whole files.
const ARRIVAL: i64 = 86_400_000;

/// Files to put together.
pub(super) struct Plan {
    pub(super) inputs: Vec<String>,
    rows: u64,
    from: i64,
    to: i64,
    stored_from: i64,
    stored_at: i64,
}

/// The next files that are too many, if any.
pub(super) fn plan(manifest: &Manifest) -> Option<Plan> {
    let small = |file: &&FileEntry| file.table == events::TABLE && file.rows < LARGE;
    let small: Vec<&FileEntry> = manifest.files.iter().filter(small).collect();
    let day = |file: &FileEntry| file.stored_from / ARRIVAL;
    let crowded = small.iter().map(|file| day(file)).find(|arrived| {
        let beside = small.iter().filter(|file| day(file) == *arrived);
        beside.count() > MANY
    })?;
    let mut plan = Plan {
        inputs: Vec::new(),
        rows: 0,
        from: i64::MAX,
        to: i64::MIN,
        stored_from: i64::MAX,
        stored_at: i64::MIN,
    };
    for file in small.into_iter().filter(|file| day(file) == crowded) {
        if plan.inputs.len() >= 2 && plan.rows + file.rows > 2 * LARGE {
            break;
        }
        plan.inputs.push(file.name.clone());
        plan.rows += file.rows;
        plan.from = plan.from.min(file.from);
        plan.to = plan.to.max(file.to);
        plan.stored_from = plan.stored_from.min(file.stored_from);
        plan.stored_at = plan.stored_at.max(file.stored_at);
    }
    Some(plan)
}

impl Plan {
    /// Writes the rows of all inputs into one file.
    pub(super) fn join(&self, folder: &Path, next: &mut Manifest) -> Result<FileEntry, StoreError> {
        let resolution = Resolution::Minute;
        let number = next.take_number();
        let name = format!(
            "{}/{}-{number:09}.parquet",
            events::TABLE,
            resolution.as_str()
        );
        let schema = events::schema();
        let path = folder.join(&name);
        let mut writer = parquet::Writer::create(&path, &schema)?;
        for input in &self.inputs {
            let path = folder.join(input);
            for rows in parquet::Batches::open(&path, Range::ALL)? {
                writer.write(&fit(&path, &rows?, &schema)?)?;
            }
        }
        writer.finish()?;
        Ok(FileEntry {
            table: events::TABLE.to_owned(),
            resolution,
            name,
            rows: self.rows,
            from: self.from,
            to: self.to,
            stored_from: self.stored_from,
            stored_at: self.stored_at,
            rolled: false,
        })
    }
}

fn fit(path: &Path, rows: &RecordBatch, columns: &SchemaRef) -> Result<RecordBatch, StoreError> {
    events::fit(rows, columns).map_err(|error| StoreError::Parquet {
        path: path.to_owned(),
        source: error.into(),
    })
}

impl Reader {
    /// Time of the newest exchange that is kept, epoch milliseconds.
    #[must_use]
    pub fn newest_event(&self) -> Option<i64> {
        self.manifest.newest(events::TABLE)
    }

    /// Shows batches that hold every exchange kept within `range`, and maybe others, from the file with the newest one on.
    /// `see` is told the newest time that the file may hold before it is read, and says whether it wants it; files further on
    /// hold none newer.
    ///
    /// # Errors
    /// A file cannot be read. [`StoreError::compacted_away`] tells whether opening another reader and starting over helps.
    pub fn events<E: From<StoreError>>(
        &self,
        range: Range,
        columns: &SchemaRef,
        mut wanted: impl FnMut(i64) -> bool,
        mut see: impl FnMut(RecordBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        let files = self.manifest.files.iter();
        let mut files: Vec<&FileEntry> = files
            .filter(|file| file.table == events::TABLE)
            .filter(|file| file.from < range.to && file.to >= range.from)
            .collect();
        files.sort_by_key(|file| std::cmp::Reverse((file.to, &file.name)));
        for file in files {
            if !wanted(file.to) {
                break;
            }
            let path = self.folder.join(&file.name);
            for rows in parquet::Batches::open(&path, range)? {
                see(fit(&path, &rows?, columns)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use arrow::array::{ArrayRef, AsArray, Int32Array, StringArray, TimestampMillisecondArray};
    use arrow::datatypes::{Schema, TimestampMillisecondType};

    use super::super::{Commit, LocalStore};
    use super::*;

    const DAY: i64 = 86_400_000;

    /// Columns of the table that the tests are about.
    fn columns() -> SchemaRef {
        let schema = events::schema();
        let named = ["time", "source", "partition", "http_host"];
        let named = named.map(|name| schema.field_with_name(name).unwrap().clone());
        Arc::new(Schema::new(named.to_vec()))
    }

    /// One row for each time, as this version writes it.
    fn rows(times: &[i64]) -> RecordBatch {
        let stamps = TimestampMillisecondArray::from(times.to_vec()).with_timezone("UTC");
        let names = times.iter().map(|time| format!("host-{time}"));
        let few = RecordBatch::try_from_iter_with_nullable([
            ("time", Arc::new(stamps) as ArrayRef, false),
            (
                "http_host",
                Arc::new(StringArray::from_iter_values(names)),
                true,
            ),
        ])
        .unwrap();
        let columns = events::schema();
        let columns = columns.fields().iter().map(|column| {
            let known = few.column_by_name(column.name()).map(Arc::clone);
            known.unwrap_or_else(|| nothing(column.data_type(), times.len()))
        });
        RecordBatch::try_new(events::schema(), columns.collect()).unwrap()
    }

    /// A column without content: null where it may be.
    fn nothing(kind: &arrow::datatypes::DataType, rows: usize) -> ArrayRef {
        use arrow::datatypes::DataType;
        match kind {
            DataType::Int32 => Arc::new(Int32Array::from(vec![0; rows])),
            DataType::UInt64 => Arc::new(arrow::array::UInt64Array::from(vec![0; rows])),
            DataType::Utf8 => Arc::new(StringArray::from(vec!["x"; rows])),
            DataType::List(_) => {
                let texts = arrow::array::StringBuilder::new();
                let mut lists = arrow::array::ListBuilder::new(texts);
                (0..rows).for_each(|_| lists.append(true));
                Arc::new(lists.finish())
            }
            kind => arrow::array::new_null_array(kind, rows),
        }
    }

    fn commit(store: &mut LocalStore, times: &[i64], stored_at: i64) {
        let rows = rows(times);
        let commit = Commit {
            sums: &[],
            events: Some(&rows),
            checkpoint: None,
            outgrown: None,
            topics: BTreeMap::new(),
            detections: None,
            journal: None,
            stored_at,
        };
        store.commit(commit).unwrap();
    }

    /// Times and hosts of everything within a range, in order.
    fn found(reader: &Reader, range: Range) -> Vec<(i64, String)> {
        let mut found = Vec::new();
        let see = |batch: RecordBatch| -> Result<(), StoreError> {
            let times = batch.column(0).as_primitive::<TimestampMillisecondType>();
            let hosts = batch.column(3).as_string::<i32>();
            let rows = times.values().iter().zip(hosts.iter().flatten());
            let inside = rows.filter(|(time, _)| (range.from..range.to).contains(*time));
            found.extend(inside.map(|(time, host)| (*time, host.to_owned())));
            Ok(())
        };
        reader.events(range, &columns(), |_| true, see).unwrap();
        found.sort();
        found
    }

    fn files(store: &LocalStore) -> usize {
        let files = store.manifest().files.iter();
        files.filter(|file| file.table == events::TABLE).count()
    }

    #[tokio::test]
    async fn rows_stay_as_they_are_when_files_are_put_together() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = LocalStore::open(folder.path(), "p").unwrap();
        let mut expected = Vec::new();
        for flush in 0..50 {
            // Equal rows stay two, and times go back and forth.
            let times = [flush * 7 % 50, flush, flush];
            commit(&mut store, &times, flush);
            expected.extend(times.map(|time| (time, format!("host-{time}"))));
            if flush % 6 == 0 {
                store.compact(flush).await.unwrap();
            }
        }
        expected.sort();
        assert!(files(&store) < 20, "{} files", files(&store));
        let reader = Reader::open(folder.path()).unwrap().unwrap();
        assert_eq!(reader.newest_event(), Some(49));
        assert_eq!(found(&reader, Range::ALL), expected);
        let range = Range { from: 10, to: 20 };
        let inside = expected
            .iter()
            .filter(|(time, _)| (10..20).contains(time))
            .cloned();
        assert_eq!(found(&reader, range), inside.collect::<Vec<_>>());
        assert_eq!(reader.newest_minute(), None, "evidence is no traffic");
        // What nobody names is gone after a restart.
        drop(store);
        let stray = folder.path().join("events/minute-999999999.parquet");
        std::fs::write(&stray, b"half a file").unwrap();
        let _store = LocalStore::open(folder.path(), "p").unwrap();
        assert!(!stray.exists());
    }

    #[tokio::test]
    async fn files_are_read_from_the_newest_on_as_long_as_they_are_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = LocalStore::open(folder.path(), "p").unwrap();
        for time in [30, 10, 20] {
            commit(&mut store, &[time], 0);
        }
        let mut told = Vec::new();
        let wanted = |newest| {
            told.push(newest);
            newest > 10
        };
        let mut read = 0;
        let see = |batch: RecordBatch| -> Result<(), StoreError> {
            read += batch.num_rows();
            Ok(())
        };
        let reader = store.reader();
        reader.events(Range::ALL, &columns(), wanted, see).unwrap();
        assert_eq!((told, read), (vec![30, 20, 10], 2));
    }

    #[tokio::test]
    async fn rows_are_forgotten_some_time_after_they_arrived() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(folder.path(), "p").unwrap();
        let mut store = store.keeping_events(Duration::from_hours(48));
        commit(&mut store, &[5], 0);
        commit(&mut store, &[4], DAY);
        store.compact(2 * DAY).await.unwrap();
        assert_eq!(found(&store.reader(), Range::ALL).len(), 2);
        store.compact(2 * DAY + 1).await.unwrap();
        assert_eq!(
            found(&store.reader(), Range::ALL),
            [(4, "host-4".to_owned())]
        );
        // Not said otherwise, it is eight days.
        drop(store);
        let mut store = LocalStore::open(folder.path(), "p").unwrap();
        store.compact(9 * DAY).await.unwrap();
        assert_eq!(files(&store), 1);
        store.compact(9 * DAY + 1).await.unwrap();
        assert_eq!(files(&store), 0);
    }

    #[test]
    fn rows_of_another_version_are_read_under_these_columns() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = LocalStore::open(folder.path(), "p").unwrap();
        let now = rows(&[1]);
        // One column was not there yet, another one is unknown by now.
        let older = now.project(&[0, 1, 2]).unwrap();
        let mut fields: Vec<_> = older.schema().fields().iter().cloned().collect();
        let gone = arrow::datatypes::Field::new("gone", arrow::datatypes::DataType::Int32, true);
        fields.push(Arc::new(gone));
        let mut columns = older.columns().to_vec();
        columns.push(Arc::new(Int32Array::from(vec![7])));
        let older = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let commit = Commit {
            sums: &[],
            events: Some(&older),
            checkpoint: None,
            outgrown: None,
            topics: BTreeMap::new(),
            detections: None,
            journal: None,
            stored_at: 0,
        };
        store.commit(commit).unwrap();
        let mut batches = Vec::new();
        let see = |batch| -> Result<(), StoreError> {
            batches.push(batch);
            Ok(())
        };
        let reader = store.reader();
        reader
            .events(Range::ALL, &self::columns(), |_| true, see)
            .unwrap();
        assert_eq!(batches[0].schema(), self::columns());
        assert!(arrow::array::Array::is_null(batches[0].column(3), 0));
    }
}
