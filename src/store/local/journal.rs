//! The block list's journal: lines that are appended flush by flush, of which the manifest says how many bytes count.
//!
//! A list of a hundred thousand entries changes a few at a time, so what changed is appended, and now and then the whole is
//! written anew as another file. What the lines mean is the business of who writes them.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use super::manifest::{self, JournalFile, Manifest};
use super::{LocalStore, StoreError};

/// What names of journals start with.
pub(super) const PREFIX: &str = "blocklist-";
/// How often a reader starts over because the journal was replaced between two looks.
const LOOKS: u32 = 8;

/// What becomes of the journal with a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Journal {
    /// Lines follow.
    Append(Vec<u8>),
    /// These lines are all there is.
    Replace(Vec<u8>),
}

impl Journal {
    /// Puts the lines on disk and into the manifest to be; gives the file that is not needed any more.
    pub(super) fn write(
        self,
        folder: &Path,
        next: &mut Manifest,
    ) -> Result<Option<String>, StoreError> {
        match (self, &mut next.journal) {
            (Self::Append(lines), Some(file)) => {
                let path = folder.join(&file.name);
                let append = || -> std::io::Result<()> {
                    let mut open = OpenOptions::new().append(true).open(&path)?;
                    open.write_all(&lines)?;
                    open.sync_data()
                };
                append().map_err(|error| StoreError::io(&path, error))?;
                file.length += lines.len() as u64;
                Ok(None)
            }
            (Self::Append(lines) | Self::Replace(lines), _) => {
                let name = format!("{PREFIX}{}.ndjson", next.take_number());
                let path = folder.join(&name);
                manifest::write_synced(&path, &lines)
                    .map_err(|error| StoreError::io(&path, error))?;
                let length = lines.len() as u64;
                let replaced = next.journal.replace(JournalFile { name, length });
                Ok(replaced.map(|file| file.name))
            }
        }
    }
}

impl LocalStore {
    /// The journal as last committed.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn journal(&self) -> Result<Vec<u8>, StoreError> {
        read(&self.folder, &self.manifest)
    }

    /// Cuts off what a killed process appended and did not commit.
    pub(super) fn cut_journal(&self) -> Result<(), StoreError> {
        let Some(file) = &self.manifest.journal else {
            return Ok(());
        };
        let path = self.folder.join(&file.name);
        let cut = || -> std::io::Result<()> {
            let open = OpenOptions::new().write(true).open(&path)?;
            if open.metadata()?.len() > file.length {
                open.set_len(file.length)?;
                open.sync_all()?;
            }
            Ok(())
        };
        cut().map_err(|error| StoreError::io(&path, error))
    }
}

/// The journal of the store in `folder` as last committed, whether or not somebody writes it; empty where there is none.
///
/// # Errors
/// Manifest or journal cannot be read.
pub fn committed(folder: &Path) -> Result<Vec<u8>, StoreError> {
    for _ in 0..LOOKS {
        let Some(manifest) = Manifest::load(folder)? else {
            return Ok(Vec::new());
        };
        match read(folder, &manifest) {
            // Replaced since the manifest was read; the next one names its successor.
            Err(error) if error.compacted_away() => {}
            read => return read,
        }
    }
    let error = std::io::Error::from(ErrorKind::NotFound);
    Err(StoreError::io(folder, error))
}

fn read(folder: &Path, manifest: &Manifest) -> Result<Vec<u8>, StoreError> {
    let Some(file) = &manifest.journal else {
        return Ok(Vec::new());
    };
    let path = folder.join(&file.name);
    let io = |error| StoreError::io(&path, error);
    let mut lines = Vec::new();
    let read = File::open(&path)
        .and_then(|open| open.take(file.length).read_to_end(&mut lines))
        .map_err(io)?;
    if (read as u64) < file.length {
        return Err(io(ErrorKind::UnexpectedEof.into()));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Commit;
    use super::*;

    fn commit(store: &mut LocalStore, journal: Option<Journal>) {
        let commit = Commit {
            sums: &[],
            events: None,
            checkpoint: None,
            outgrown: None,
            topics: BTreeMap::new(),
            detections: None,
            journal,
            stored_at: 0,
        };
        store.commit(commit).unwrap();
    }

    fn append(lines: &str) -> Journal {
        Journal::Append(lines.as_bytes().to_vec())
    }

    fn journals(folder: &Path) -> Vec<String> {
        let files = std::fs::read_dir(folder).unwrap().flatten();
        files
            .map(|file| file.file_name().into_string().unwrap())
            .filter(|name| name.starts_with(PREFIX))
            .collect()
    }

    #[test]
    fn what_was_committed_is_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = LocalStore::open(folder.path(), "p").unwrap();
        assert_eq!(store.journal().unwrap(), b"");
        commit(&mut store, Some(append("one\n")));
        commit(&mut store, Some(append("two\n")));
        commit(&mut store, None);
        let name = store.manifest.journal.clone().unwrap().name;
        // Appended by a process that was killed before its manifest.
        let path = folder.path().join(&name);
        let mut open = OpenOptions::new().append(true).open(&path).unwrap();
        open.write_all(b"three, never committed").unwrap();
        assert_eq!(committed(folder.path()).unwrap(), b"one\ntwo\n");
        drop(store);
        let mut store = LocalStore::open(folder.path(), "p").unwrap();
        assert_eq!(store.journal().unwrap(), b"one\ntwo\n");
        commit(&mut store, Some(append("four\n")));
        assert_eq!(store.journal().unwrap(), b"one\ntwo\nfour\n");
        commit(&mut store, Some(Journal::Replace(b"all\n".to_vec())));
        assert_eq!(store.journal().unwrap(), b"all\n");
        assert_eq!(journals(folder.path()).len(), 1, "the old one is gone");
        // A successor that no manifest names is a stray.
        std::fs::write(folder.path().join("blocklist-99.ndjson"), b"x").unwrap();
        drop(store);
        drop(LocalStore::open(folder.path(), "p").unwrap());
        assert_eq!(journals(folder.path()).len(), 1);
        assert_eq!(committed(folder.path()).unwrap(), b"all\n");
        assert_eq!(committed(&folder.path().join("none")).unwrap(), b"");
    }
}
