//! Merged reads: minutes at the edges of a range, hours and days between (design section 5).
//!
//! A reader works on the manifest it loaded. The writer may delete a compacted file meanwhile; then whoever reads opens
//! another reader and starts over with all its reads, so that they agree and `report` runs beside `run` without a lock.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::MemTable;

use super::manifest::{FileEntry, Manifest};
use super::{StoreError, parquet};
use crate::store::Range;
use crate::window::{self, Resolution, Table};

fn overlaps(range: Range, file: &FileEntry) -> bool {
    file.from < range.to && file.to >= range.from
}

/// The rows of a range, in DataFusion's words.
fn condition(range: Range) -> String {
    let bound =
        |millis: i64| format!("arrow_cast({millis}, 'Timestamp(Millisecond, Some(\"UTC\"))')");
    match range {
        Range::ALL => "true".to_owned(),
        Range { from, to } => {
            format!(
                "window_start >= {} AND window_start < {}",
                bound(from),
                bound(to)
            )
        }
    }
}

/// Reads a store, whether or not somebody writes it.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) folder: PathBuf,
    pub(super) manifest: Manifest,
}

impl Reader {
    pub(super) fn new(folder: PathBuf, manifest: Manifest) -> Self {
        Self { folder, manifest }
    }

    /// A reader of the store in `folder`; `None` when there is none yet.
    ///
    /// # Errors
    /// The manifest cannot be read.
    pub fn open(folder: &Path) -> Result<Option<Self>, StoreError> {
        Ok(Manifest::load(folder)?.map(|manifest| Self::new(folder.to_owned(), manifest)))
    }

    /// The newest minute with an exchange, epoch milliseconds.
    #[must_use]
    pub fn newest_minute(&self) -> Option<i64> {
        self.manifest.newest("endpoint_windows")
    }

    /// Rows of `table` within `range`, merged into buckets of `resolution`, or over all time without one.
    ///
    /// # Errors
    /// A file cannot be read, or DataFusion refuses. [`StoreError::compacted_away`] tells whether opening another
    /// reader helps.
    pub async fn read(
        &self,
        table: &Table,
        range: Range,
        resolution: Option<Resolution>,
    ) -> Result<Vec<RecordBatch>, StoreError> {
        let mut parts = Vec::new();
        // Buckets as wide as the caller can use.
        for (width, inner) in range.cover(resolution.unwrap_or(Resolution::Day)) {
            parts.extend(self.part(table, width, inner, false)?);
            // Rows that this width does not hold yet.
            for finer in Resolution::ALL.into_iter().filter(|finer| *finer < width) {
                parts.extend(self.part(table, finer, inner, true)?);
            }
        }
        merge(table, parts, resolution).await
    }

    /// The rows of one resolution in one range.
    fn part(
        &self,
        table: &Table,
        resolution: Resolution,
        range: Range,
        only_unrolled: bool,
    ) -> Result<Option<Part>, StoreError> {
        let files = self.manifest.files.iter().filter(|file| {
            file.table == table.name
                && file.resolution == resolution
                && overlaps(range, file)
                && !(only_unrolled && file.rolled)
        });
        let mut batches = Vec::new();
        for file in files {
            let path = self.folder.join(&file.name);
            batches.extend(parquet::read(table, &path, range.from, range.to)?);
        }
        Ok((!batches.is_empty()).then_some(Part { batches, range }))
    }
}

/// Rows with the range that counts of them.
pub(super) struct Part {
    pub(super) batches: Vec<RecordBatch>,
    pub(super) range: Range,
}

/// Merges parts by the table's own rules.
pub(super) async fn merge(
    table: &Table,
    parts: Vec<Part>,
    resolution: Option<Resolution>,
) -> Result<Vec<RecordBatch>, StoreError> {
    let context = window::context();
    let mut queries = Vec::new();
    for (number, part) in parts.into_iter().enumerate() {
        let Some(first) = part.batches.first() else {
            continue;
        };
        let name = format!("part_{number}");
        let rows = MemTable::try_new(first.schema(), vec![part.batches])?;
        context.register_table(name.as_str(), Arc::new(rows))?;
        queries.push(format!(
            "SELECT * FROM {name} WHERE {}",
            condition(part.range)
        ));
    }
    if queries.is_empty() {
        return Ok(Vec::new());
    }
    let union = format!("({})", queries.join(" UNION ALL "));
    let frame = context.sql(&table.merge_sql(&union, resolution)).await?;
    Ok(frame.collect().await?)
}
