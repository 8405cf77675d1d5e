//! Which files a run reads, and the key that it hashes under.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::commit::Committer;
use super::run::Fault;
use crate::config::{FileSource, Settings};
use crate::source::file::Input;
use crate::store::StoreSettings;

/// Shortest key that is believed to be whole; the keys made here have 64 characters.
const MIN_KEY: usize = 16;

/// Name of an input in checkpoints and messages.
pub(super) fn name_of(path: Option<&Path>) -> String {
    path.map_or_else(
        || "standard input".to_owned(),
        |path| path.display().to_string(),
    )
}

/// Opens an input; `None` = a followed one is not there yet, or too short to be told from others.
pub(super) fn open(path: Option<&Path>, follow: bool) -> Result<Option<Input>, Fault> {
    match Input::open(path) {
        Ok(input) if follow && !input.recognisable() => Ok(None),
        Ok(input) => Ok(Some(input)),
        Err(error) if follow && error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Fault::Source {
            name: name_of(path),
            source,
        }),
    }
}

/// Rotated files that earlier runs were reading under the followed name and did not finish, oldest first.
pub(super) fn rotated_away(source: &FileSource, committer: &Committer) -> Vec<PathBuf> {
    let Some(path) = source.path.as_deref() else {
        return Vec::new();
    };
    let (Some(stem), Some(folder)) = (
        path.file_name().and_then(|name| name.to_str()),
        path.parent(),
    ) else {
        return Vec::new();
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let name = name_of(Some(path));
    let mut unfinished: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|sibling| sibling.file_name() != path.file_name())
        .filter(|sibling| {
            sibling
                .file_name()
                .and_then(|n| n.to_str())
                .is_some_and(|n| n.starts_with(stem))
        })
        .filter_map(|sibling| {
            let input = Input::open(Some(&sibling)).ok()?;
            let (_, checkpoint) = committer.checkpoint(&input)?;
            let left = input.packed() || input.size > checkpoint.end;
            let modified = fs::metadata(&sibling)
                .and_then(|facts| facts.modified())
                .ok();
            (checkpoint.path == name && left).then_some((modified, sibling))
        })
        .collect();
    unfinished.sort();
    unfinished.into_iter().map(|(_, path)| path).collect()
}

/// The key of the hashes in the store's folder, made on first use and readable by its owner only.
/// The key of the hashes: the configured one, or the one in the folder of the local store, which is made when there is
/// none.
///
/// # Errors
/// It cannot be read or written.
pub fn hash_key(settings: &Settings) -> Result<Vec<u8>, Fault> {
    match (&settings.hash_key, &settings.store) {
        (Some(key), _) => Ok(key.clone()),
        (None, StoreSettings::Local(store)) => {
            fs::create_dir_all(store).map_err(|source| Fault::HashKey {
                path: store.clone(),
                source,
            })?;
            stored_key(store)
        }
        // `config` refuses a store that is shared without a key.
        (None, StoreSettings::ClickHouse(_)) => Err(Fault::Stage("configuration")),
    }
}

pub(super) fn stored_key(store: &Path) -> Result<Vec<u8>, Fault> {
    let path = store.join("hash.key");
    let fault = |source| Fault::HashKey {
        path: path.clone(),
        source,
    };
    match fs::read(&path) {
        Ok(key) if key.trim_ascii().len() >= MIN_KEY => return Ok(key.trim_ascii().to_vec()),
        Ok(_) => {
            return Err(fault(io::Error::new(
                io::ErrorKind::InvalidData,
                "the key is too short",
            )));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(error)),
        Err(_) => {}
    }
    let mut random = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| fault(io::Error::other("no randomness")))?;
    let key = hex::encode(random);
    // Written aside and renamed: half a key must never be taken for one.
    let aside = store.join("hash.key.new");
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)?;
        file.write_all(key.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, &path)?;
        File::open(store)?.sync_all()
    };
    write().map_err(fault)?;
    Ok(key.into_bytes())
}
