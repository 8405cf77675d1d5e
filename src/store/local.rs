//! The embedded store: Parquet files, one manifest, DataFusion to merge (design section 6, "Local store").
//!
//! Enters: the sums of a flush with the checkpoint after it. Leaves: merged rows. The manifest is the only truth: it
//! is replaced by an atomic rename after everything it names is on disk, so a kill at any instant leaves either the
//! state before the flush or the state after it. Readers need no lock.

mod compact;
mod events;
pub mod inbox;
mod journal;
mod manifest;
mod parquet;
mod read;

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::RecordBatch;
use thiserror::Error;

pub use journal::{Journal, committed as committed_journal};
pub use manifest::{Checkpoint, Manifest, topic_length};
use manifest::{FileEntry, MANIFEST};
pub use read::Reader;

pub use super::Range;

use crate::window::{Resolution, TABLES, events as evidence};

/// How long rows are kept, counted from their arrival, in milliseconds (design section 5).
const RETENTION: [(Resolution, i64); 3] = [
    (Resolution::Minute, 8 * 86_400_000),
    (Resolution::Hour, 35 * 86_400_000),
    (Resolution::Day, 400 * 86_400_000),
];
/// How long evidence is kept unless the pipeline says otherwise, likewise.
const EVENTS: i64 = 8 * 86_400_000;

/// Why the store cannot go on.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The system refuses a file.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A Parquet file cannot be written or read.
    #[error("{path}: {source}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the format's library says.
        source: ::parquet::errors::ParquetError,
    },
    /// DataFusion refuses a merge.
    #[error("merging windows failed: {0}")]
    Merge(#[from] datafusion::error::DataFusionError),
    /// The manifest is not one of ours.
    #[error("{path} is not a manifest of this version: {message}\n  hint: {hint}")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: &'static str,
    },
    /// Another process writes.
    #[error(
        "another run is using the store {0}\n  hint: stop it, or give this pipeline another store.path"
    )]
    Locked(PathBuf),
    /// The folder belongs to another pipeline.
    #[error(
        "the store {path} belongs to the pipeline {owner:?}\n  hint: give every pipeline its own store.path"
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// The pipeline in its manifest.
        owner: String,
    },
}

impl StoreError {
    /// Whether a file was compacted away between loading the manifest and reading it.
    #[must_use]
    pub fn compacted_away(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }

    fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// One flush, or the end of one, as the store takes it: all of it or nothing.
#[derive(Debug)]
pub struct Commit<'a> {
    /// Sums in the order of [`TABLES`].
    pub sums: &'a [RecordBatch],
    /// Exchanges kept as evidence.
    pub events: Option<&'a RecordBatch>,
    /// Where reading goes on after this flush, by the input's fingerprint.
    pub checkpoint: Option<(String, Checkpoint)>,
    /// A shorter fingerprint of the same input, no longer needed.
    pub outgrown: Option<String>,
    /// Length of every topic file, bytes, already on disk.
    pub topics: BTreeMap<String, u64>,
    /// State of all labels and insights, when it changed.
    pub detections: Option<Vec<u8>>,
    /// What the block list's journal becomes.
    pub journal: Option<Journal>,
    /// Wall time of arrival, milliseconds.
    pub stored_at: i64,
}

/// The store, opened for writing. One process at a time.
#[derive(Debug)]
pub struct LocalStore {
    folder: PathBuf,
    manifest: Manifest,
    /// How long evidence is kept, counted from its arrival, milliseconds.
    kept_events: i64,
    /// Held as long as the store is open; the system lets go of it when the process dies.
    _lock: File,
}

impl LocalStore {
    /// Opens or creates the store and deletes what no manifest names.
    ///
    /// # Errors
    /// The folder cannot be used, or somebody else uses it.
    pub fn open(folder: &Path, pipeline: &str) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder).map_err(|error| StoreError::io(folder, error))?;
        let lock_path = folder.join("lock");
        let lock = File::create(&lock_path).map_err(|error| StoreError::io(&lock_path, error))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::Locked(folder.to_owned()),
            TryLockError::Error(error) => StoreError::io(&lock_path, error),
        })?;
        let manifest = Manifest::load(folder)?.unwrap_or_else(|| Manifest::new(pipeline));
        if manifest.pipeline != pipeline {
            return Err(StoreError::Foreign {
                path: folder.to_owned(),
                owner: manifest.pipeline,
            });
        }
        let store = Self {
            folder: folder.to_owned(),
            manifest,
            kept_events: EVENTS,
            _lock: lock,
        };
        store.delete_strays()?;
        store.cut_journal()?;
        Ok(store)
    }

    /// The same store, which keeps evidence for so long, counted from its arrival.
    #[must_use]
    pub fn keeping_events(mut self, kept: Duration) -> Self {
        self.kept_events = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        self
    }

    /// What the store holds.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The state of labels and insights as last committed.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn detections(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(name) = &self.manifest.detections else {
            return Ok(None);
        };
        let path = self.folder.join(name);
        std::fs::read(&path)
            .map(Some)
            .map_err(|error| StoreError::io(&path, error))
    }

    /// Reads merged rows of everything committed so far.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(self.folder.clone(), self.manifest.clone())
    }

    /// Writes one flush: files, then the manifest that makes them count.
    ///
    /// # Errors
    /// The disk refuses; nothing of the flush counts then.
    pub fn commit(&mut self, commit: Commit<'_>) -> Result<(), StoreError> {
        let mut next = self.manifest.clone();
        for (table, sums) in TABLES.iter().zip(commit.sums) {
            if sums.num_rows() > 0 {
                let entry = self.write(
                    &mut next,
                    table.name,
                    Resolution::Minute,
                    sums,
                    commit.stored_at,
                )?;
                next.files.push(entry);
            }
        }
        if let Some(events) = commit.events.filter(|rows| rows.num_rows() > 0) {
            let (table, stored_at) = (evidence::TABLE, commit.stored_at);
            let entry = self.write(&mut next, table, Resolution::Minute, events, stored_at)?;
            next.files.push(entry);
        }
        if let Some((fingerprint, checkpoint)) = commit.checkpoint {
            next.checkpoints.insert(fingerprint, checkpoint);
        }
        if let Some(outgrown) = commit.outgrown {
            next.checkpoints.remove(&outgrown);
        }
        next.topics = commit.topics;
        let mut replaced = Vec::new();
        if let Some(state) = commit.detections {
            let name = format!("detections-{}.json", next.take_number());
            let path = self.folder.join(&name);
            manifest::write_synced(&path, &state).map_err(|error| StoreError::io(&path, error))?;
            replaced.extend(next.detections.replace(name));
        }
        if let Some(journal) = commit.journal {
            replaced.extend(journal.write(&self.folder, &mut next)?);
        }
        self.publish(next, replaced.into_iter())
    }

    /// Merges small files and drops rows past their retention; `stored_at` is now, in milliseconds.
    ///
    /// # Errors
    /// The disk or DataFusion refuses; the store stays as it was.
    pub async fn compact(&mut self, stored_at: i64) -> Result<(), StoreError> {
        while let Some(plan) = compact::plan(&self.manifest, stored_at) {
            let mut next = self.manifest.clone();
            let outputs = plan.merge(&self.folder).await?;
            for output in outputs {
                let stored = (plan.stored_from, plan.stored_at);
                let entry = self.write(
                    &mut next,
                    plan.table.name,
                    output.resolution,
                    &output.rows,
                    stored.1,
                )?;
                next.files.push(FileEntry {
                    stored_from: stored.0,
                    rolled: output.rolled,
                    ..entry
                });
            }
            next.files.retain(|file| !plan.inputs.contains(&file.name));
            self.publish(next, plan.inputs.into_iter())?;
        }
        while let Some(plan) = events::plan(&self.manifest) {
            let mut next = self.manifest.clone();
            let entry = plan.join(&self.folder, &mut next)?;
            next.files.push(entry);
            next.files.retain(|file| !plan.inputs.contains(&file.name));
            self.publish(next, plan.inputs.into_iter())?;
        }
        self.expire(stored_at)
    }

    /// Drops files whose newest row arrived before the retention of their resolution.
    fn expire(&mut self, now: i64) -> Result<(), StoreError> {
        let kept_events = self.kept_events;
        let keeps = |file: &FileEntry| {
            if file.table == evidence::TABLE {
                return file.stored_at.saturating_add(kept_events) >= now;
            }
            let kept = RETENTION
                .iter()
                .find(|(resolution, _)| *resolution == file.resolution);
            // Rows that no wider bucket holds yet stay; compaction rolls them up first.
            let rolled = file.rolled || file.resolution == Resolution::Day;
            !rolled || kept.is_none_or(|(_, age)| file.stored_at + age >= now)
        };
        let old: Vec<String> = self
            .manifest
            .files
            .iter()
            .filter(|file| !keeps(file))
            .map(|file| file.name.clone())
            .collect();
        let remembered = RETENTION
            .iter()
            .map(|(_, age)| *age)
            .max()
            .unwrap_or(i64::MAX);
        let forgotten = |checkpoint: &Checkpoint| now - checkpoint.stored_at > remembered;
        if old.is_empty() && !self.manifest.checkpoints.values().any(forgotten) {
            return Ok(());
        }
        let mut next = self.manifest.clone();
        next.files.retain(keeps);
        next.checkpoints
            .retain(|_, checkpoint| !forgotten(checkpoint));
        self.publish(next, old.into_iter())
    }

    fn write(
        &self,
        next: &mut Manifest,
        table: &'static str,
        resolution: Resolution,
        rows: &RecordBatch,
        stored_at: i64,
    ) -> Result<FileEntry, StoreError> {
        let name = format!(
            "{table}/{}-{:09}.parquet",
            resolution.as_str(),
            next.take_number()
        );
        let folder = self.folder.join(table);
        if !folder.is_dir() {
            std::fs::create_dir_all(&folder).map_err(|error| StoreError::io(&folder, error))?;
            manifest::sync_folder(&self.folder)
                .map_err(|error| StoreError::io(&self.folder, error))?;
        }
        parquet::write(&self.folder.join(&name), rows)?;
        let (from, to) = parquet::time_bounds(rows);
        Ok(FileEntry {
            table: table.to_owned(),
            resolution,
            name,
            rows: rows.num_rows() as u64,
            from,
            to,
            stored_from: stored_at,
            stored_at,
            rolled: false,
        })
    }

    /// Makes `next` the truth, then deletes what it no longer names.
    fn publish(
        &mut self,
        mut next: Manifest,
        replaced: impl Iterator<Item = String>,
    ) -> Result<(), StoreError> {
        for folder in self.folders() {
            if folder.is_dir() {
                manifest::sync_folder(&folder).map_err(|error| StoreError::io(&folder, error))?;
            }
        }
        next.generation += 1;
        next.save(&self.folder)?;
        self.manifest = next;
        for name in replaced {
            // A file that stays behind is a stray: the next start deletes it.
            let _ = std::fs::remove_file(self.folder.join(name));
        }
        Ok(())
    }

    /// Folders of the tables.
    fn folders(&self) -> impl Iterator<Item = PathBuf> {
        let names = TABLES.iter().map(|table| table.name);
        names
            .chain([evidence::TABLE])
            .map(|name| self.folder.join(name))
    }

    fn delete_strays(&self) -> Result<(), StoreError> {
        for folder in self.folders().chain([self.folder.clone()]) {
            let Ok(entries) = std::fs::read_dir(&folder) else {
                continue;
            };
            for path in entries.flatten().map(|entry| entry.path()) {
                let Ok(name) = path.strip_prefix(&self.folder) else {
                    continue;
                };
                let name = name.display().to_string();
                let ours = name.ends_with(".parquet")
                    || name.starts_with("detections-")
                    || name.starts_with(journal::PREFIX)
                    || name == format!("{MANIFEST}.new");
                if ours && !self.manifest.names(&name) {
                    std::fs::remove_file(&path).map_err(|error| StoreError::io(&path, error))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
