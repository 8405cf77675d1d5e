//! Topics as NDJSON files in one folder: `gatewatch.<topic>.ndjson`, one event per line.
//!
//! The store's manifest holds the length up to which each file counts. Start cuts the files back to it, so a flush
//! that was not committed leaves no event behind.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use thiserror::Error;

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
}

impl TopicFiles {
    /// Opens the folder and cuts every known file back to its committed length; a topic without one is emptied.
    ///
    /// # Errors
    /// The folder cannot be used, or a file is shorter than what was published.
    pub fn open(folder: &Path, lengths: &BTreeMap<String, u64>) -> Result<Self, TopicError> {
        std::fs::create_dir_all(folder).map_err(|source| TopicError::Io {
            path: folder.to_owned(),
            source,
        })?;
        let mut topics = Self {
            folder: folder.to_owned(),
            files: BTreeMap::new(),
        };
        for topic in [super::LABELS, super::INSIGHTS, super::DEAD_LETTER] {
            let expected = lengths.get(topic).copied().unwrap_or_default();
            let path = topics.path(topic);
            let io = |source| TopicError::Io {
                path: path.clone(),
                source,
            };
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .map_err(io)?;
            let found = file.metadata().map_err(io)?.len();
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
                    .map_err(io)?;
            }
            topics.files.insert(topic.to_owned(), (file, expected));
        }
        Ok(topics)
    }

    /// Path of a topic's file.
    #[must_use]
    pub fn path(&self, topic: &str) -> PathBuf {
        self.folder.join(format!("gatewatch.{topic}.ndjson"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_committed_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let mut topics = TopicFiles::open(folder.path(), &BTreeMap::new()).unwrap();
        topics.append("labels", b"one\n").unwrap();
        let committed = topics.lengths();
        topics.append("labels", b"two\n").unwrap();
        topics.append("insights", b"three\n").unwrap();
        drop(topics);
        let topics = TopicFiles::open(folder.path(), &committed).unwrap();
        assert_eq!(std::fs::read(topics.path("labels")).unwrap(), b"one\n");
        assert_eq!(std::fs::read(topics.path("insights")).unwrap(), b"");
        std::fs::write(topics.path("labels"), b"").unwrap();
        let error = TopicFiles::open(folder.path(), &committed).unwrap_err();
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
