//! Which files to merge, and what comes out: one file of the same resolution, and the same rows in the next wider one.
//!
//! Rows enter the wider resolution exactly once: when the file that brought them is merged for the first time. Until
//! then a file is not `rolled`, and readers of hours add its minutes themselves.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use super::manifest::{FileEntry, Manifest};
use super::read::{Part, merge};
use super::{Range, StoreError, parquet};
use crate::window::{Resolution, TABLES, Table, events};

/// Files of one kind that are left alone; one more and they are merged.
const MANY: usize = 16;
/// Rows above which a file is never merged again, so that a merge needs a bounded amount of memory.
const LARGE: u64 = 32_768;
/// Files are merged with those that arrived on the same day, so that retention can drop whole files.
const ARRIVAL: i64 = 86_400_000;

/// Files to merge.
pub(super) struct Plan {
    pub(super) table: &'static Table,
    resolution: Resolution,
    rolled: bool,
    pub(super) inputs: Vec<String>,
    pub(super) stored_from: i64,
    pub(super) stored_at: i64,
}

/// One file to write.
pub(super) struct Output {
    pub(super) resolution: Resolution,
    pub(super) rolled: bool,
    pub(super) rows: RecordBatch,
}

/// The next merge that is due, if any; `now` in epoch milliseconds.
///
/// Files that arrived on an earlier day are rolled up however few they are: retention only drops what a wider bucket
/// holds.
pub(super) fn plan(manifest: &Manifest, now: i64) -> Option<Plan> {
    let mut groups: BTreeMap<(&str, Resolution, bool, i64), Vec<&FileEntry>> = BTreeMap::new();
    let sums = manifest.files.iter();
    for file in sums.filter(|file| file.table != events::TABLE) {
        // A large file is merged once more at most: to roll it up.
        let top = file.resolution == Resolution::Day;
        if file.rows < LARGE || !(file.rolled || top) {
            let key = (
                file.table.as_str(),
                file.resolution,
                file.rolled,
                file.stored_from / ARRIVAL,
            );
            groups.entry(key).or_default().push(file);
        }
    }
    let today = now / ARRIVAL;
    let due = |(_, resolution, rolled, day): &(&str, Resolution, bool, i64), files: usize| {
        files > MANY || (!rolled && *resolution != Resolution::Day && *day < today)
    };
    let ((name, resolution, rolled, _), files) = groups
        .into_iter()
        .find(|(key, files)| due(key, files.len()))?;
    let table = TABLES.iter().find(|table| table.name == name)?;
    let mut rows = 0;
    let mut inputs: Vec<&FileEntry> = Vec::new();
    for file in files {
        if inputs.len() >= 2 && rows + file.rows > 2 * LARGE {
            break;
        }
        rows += file.rows;
        inputs.push(file);
    }
    Some(Plan {
        table,
        resolution,
        rolled,
        stored_from: inputs
            .iter()
            .map(|file| file.stored_from)
            .min()
            .unwrap_or_default(),
        stored_at: inputs
            .iter()
            .map(|file| file.stored_at)
            .max()
            .unwrap_or_default(),
        inputs: inputs.into_iter().map(|file| file.name.clone()).collect(),
    })
}

impl Plan {
    /// Reads the inputs and merges them.
    pub(super) async fn merge(&self, folder: &Path) -> Result<Vec<Output>, StoreError> {
        let mut batches = Vec::new();
        for name in &self.inputs {
            let path = folder.join(name);
            batches.extend(parquet::read(self.table, &path, i64::MIN, i64::MAX)?);
        }
        let mut outputs = Vec::new();
        let wider = if self.rolled {
            None
        } else {
            self.resolution.wider()
        };
        for resolution in [Some(self.resolution), wider].into_iter().flatten() {
            let part = Part {
                batches: batches.clone(),
                range: Range::ALL,
            };
            let merged = merge(self.table, vec![part], Some(resolution)).await?;
            let Some(first) = merged.first() else {
                continue;
            };
            let rows = concat_batches(&first.schema(), &merged)
                .map_err(datafusion::error::DataFusionError::from)?;
            let rolled = resolution == self.resolution && self.resolution.wider().is_some();
            outputs.push(Output {
                resolution,
                rolled,
                rows,
            });
        }
        Ok(outputs)
    }
}
