//! Topics as NDJSON files in one folder: `gatewatch.<topic>.ndjson`, one event per line.
//!
//! The store's manifest holds the length up to which each file counts. Start cuts the files back to it, so a flush
//! that was not committed leaves no event behind.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The topics that are files.
const TOPICS: [&str; 5] = [
    super::LABELS,
    super::INSIGHTS,
    super::BLOCK_LIST,
    super::PROPOSALS,
    super::DEAD_LETTER,
];

/// A topic file that cannot be used.
#[derive(Debug, Error)]
pub enum TopicError {
    /// The system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another process publishes there.
    #[error("another run is publishing to {0}\n  hint: give every pipeline its own publish.path")]
    Locked(PathBuf),
    /// Another pipeline publishes there.
    #[error(
        "{path} holds the topics of the pipeline {owner:?}\n  hint: give every pipeline its own publish.path"
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// The pipeline that owns it.
        owner: String,
    },
    /// Events that were published are gone.
    #[error(
        "{path} has {found} bytes where {expected} were published\n  hint: put the file back, or move the store and the topics away together to start anew"
    )]
    Short {
        /// The file.
        path: PathBuf,
        /// Its length, bytes.
        found: u64,
        /// The length in the manifest, bytes.
        expected: u64,
    },
}

/// The topic files of one pipeline.
#[derive(Debug)]
pub struct TopicFiles {
    folder: PathBuf,
    files: BTreeMap<String, (File, u64)>,
    /// Held as long as the topics are open.
    _lock: File,
}

impl TopicFiles {
    /// Opens the folder and cuts every file back to its committed length. `None` = nothing was committed yet, then what
    /// is there stays: it is the history of an earlier store.
    ///
    /// # Errors
    /// The folder cannot be used, belongs to another pipeline, or a file is shorter than what was published.
    pub fn open(
        folder: &Path,
        pipeline: &str,
        lengths: Option<&BTreeMap<String, u64>>,
    ) -> Result<Self, TopicError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| TopicError::Io { path, source }
        };
        std::fs::create_dir_all(folder).map_err(io(folder))?;
        let lock = lock(folder, pipeline)?;
        let mut topics = Self {
            folder: folder.to_owned(),
            files: BTreeMap::new(),
            _lock: lock,
        };
        for topic in TOPICS {
            let path = topics.path(topic);
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .map_err(io(&path))?;
            let found = file.metadata().map_err(io(&path))?.len();
            let expected = lengths.map_or(found, |lengths| {
                lengths.get(topic).copied().unwrap_or_default()
            });
            if found < expected {
                return Err(TopicError::Short {
                    path,
                    found,
                    expected,
                });
            }
            if found > expected {
                file.set_len(expected)
                    .and_then(|()| file.sync_all())
                    .map_err(io(&path))?;
            }
            topics.files.insert(topic.to_owned(), (file, expected));
        }
        // The names of the files must be on disk before a manifest speaks of their lengths.
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(io(folder))?;
        Ok(topics)
    }

    /// Path of a topic's file.
    #[must_use]
    pub fn path(&self, topic: &str) -> PathBuf {
        path(&self.folder, topic)
    }

    /// Appends whole lines to a topic and waits until they are on disk.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn append(&mut self, topic: &str, lines: &[u8]) -> Result<(), TopicError> {
        if lines.is_empty() {
            return Ok(());
        }
        let path = self.path(topic);
        let Some((file, length)) = self.files.get_mut(topic) else {
            return Ok(());
        };
        let written = file.write_all(lines).and_then(|()| file.sync_data());
        written.map_err(|source| TopicError::Io { path, source })?;
        *length += lines.len() as u64;
        Ok(())
    }

    /// Length of every topic file, bytes, on disk.
    #[must_use]
    pub fn lengths(&self) -> BTreeMap<String, u64> {
        self.files
            .iter()
            .map(|(topic, (_, length))| (topic.clone(), *length))
            .collect()
    }
}

/// Path of a topic's file in the folder of the topics.
#[must_use]
pub fn path(folder: &Path, topic: &str) -> PathBuf {
    folder.join(format!("gatewatch.{topic}.ndjson"))
}

/// Takes the folder for one process of one pipeline: the lock file holds the pipeline's name.
fn lock(folder: &Path, pipeline: &str) -> Result<File, TopicError> {
    let path = folder.join("gatewatch.lock");
    let io = |source| TopicError::Io {
        path: path.clone(),
        source,
    };
    let mut options = OpenOptions::new();
    let mut lock = options
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(io)?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => TopicError::Locked(folder.to_owned()),
        TryLockError::Error(error) => io(error),
    })?;
    let mut owner = String::new();
    lock.read_to_string(&mut owner).map_err(io)?;
    if owner.is_empty() {
        lock.write_all(pipeline.as_bytes()).map_err(io)?;
    } else if owner != pipeline {
        return Err(TopicError::Foreign {
            path: folder.to_owned(),
            owner,
        });
    }
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_committed_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let mut topics = TopicFiles::open(folder.path(), "p", None).unwrap();
        topics.append("labels", b"one\n").unwrap();
        let committed = topics.lengths();
        topics.append("labels", b"two\n").unwrap();
        topics.append("insights", b"three\n").unwrap();
        drop(topics);
        let topics = TopicFiles::open(folder.path(), "p", Some(&committed)).unwrap();
        assert_eq!(std::fs::read(topics.path("labels")).unwrap(), b"one\n");
        assert_eq!(std::fs::read(topics.path("insights")).unwrap(), b"");
        let second = TopicFiles::open(folder.path(), "p", Some(&committed));
        assert!(matches!(second, Err(TopicError::Locked(_))));
        std::fs::write(topics.path("labels"), b"").unwrap();
        drop(topics);
        let foreign = TopicFiles::open(folder.path(), "q", None);
        assert!(matches!(foreign, Err(TopicError::Foreign { .. })));
        let error = TopicFiles::open(folder.path(), "p", Some(&committed)).unwrap_err();
        assert!(
            matches!(
                error,
                TopicError::Short {
                    found: 0,
                    expected: 4,
                    ..
                }
            ),
            "{error}"
        );
    }
}
