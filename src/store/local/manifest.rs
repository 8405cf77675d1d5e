//! The manifest: which files count, where reading goes on, how long the topic files are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::window::Resolution;

/// Name of the manifest in the store's folder.
pub(super) const MANIFEST: &str = "manifest.json";
/// Layout of the store that this program writes and reads.
const VERSION: u32 = 1;

/// The whole truth about a store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    version: u32,
    /// The pipeline that owns the store.
    pub pipeline: String,
    /// Counts replacements.
    pub generation: u64,
    next_number: u64,
    pub(super) files: Vec<FileEntry>,
    /// Where reading goes on, by fingerprint.
    pub checkpoints: BTreeMap<String, Checkpoint>,
    /// Length of each topic file, bytes.
    pub topics: BTreeMap<String, u64>,
    pub(super) detections: Option<String>,
    /// The journal of the block list; stores of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) journal: Option<JournalFile>,
}

/// A file of lines of which the first `length` bytes count.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JournalFile {
    pub(super) name: String,
    pub(super) length: u64,
}

/// One Parquet file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileEntry {
    pub(super) table: String,
    #[serde(with = "resolution_name")]
    pub(super) resolution: Resolution,
    pub(super) name: String,
    pub(super) rows: u64,
    /// Least and greatest `window_start`, epoch milliseconds.
    pub(super) from: i64,
    pub(super) to: i64,
    /// Arrival of the oldest and the newest row, epoch milliseconds.
    pub(super) stored_from: i64,
    pub(super) stored_at: i64,
    /// Whether the next wider resolution holds these rows too.
    pub(super) rolled: bool,
}

/// Where reading of one input goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// How many bytes the fingerprint covers.
    pub fingerprint_bytes: usize,
    /// Name under which the input was last read, to be shown.
    pub path: String,
    /// Everything before this offset is counted.
    pub end: u64,
    /// Join state: where to read from, stream clock just before (epoch nanoseconds), finished records since.
    pub from: u64,
    /// Stream clock just before `from`, epoch nanoseconds.
    pub clock: Option<i64>,
    /// Offsets at or after `from` whose other half stood before it.
    pub closed: Vec<u64>,
    /// Wall time of the last flush, epoch milliseconds.
    pub stored_at: i64,
}

impl Manifest {
    pub(super) fn new(pipeline: &str) -> Self {
        Self {
            version: VERSION,
            pipeline: pipeline.to_owned(),
            generation: 0,
            next_number: 0,
            files: Vec::new(),
            checkpoints: BTreeMap::new(),
            topics: BTreeMap::new(),
            detections: None,
            journal: None,
        }
    }

    /// The manifest in `folder`; `None` when there is no store yet.
    pub(super) fn load(folder: &Path) -> Result<Option<Self>, StoreError> {
        let path = folder.join(MANIFEST);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io(&path, error)),
        };
        let hint = "it was written by another version or by hand; name another store.path, or remove the folder";
        let wrong = |message: String| StoreError::Manifest {
            path: path.clone(),
            message,
            hint,
        };
        let manifest: Self =
            serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if manifest.version != VERSION {
            return Err(wrong(format!(
                "version {} where {VERSION} belongs",
                manifest.version
            )));
        }
        Ok(Some(manifest))
    }

    /// Replaces the manifest in `folder`: written aside, synced, renamed, folder synced.
    pub(super) fn save(&self, folder: &Path) -> Result<(), StoreError> {
        let path = folder.join(MANIFEST);
        let aside = folder.join(format!("{MANIFEST}.new"));
        let replace = || {
            write_synced(
                &aside,
                &serde_json::to_vec(self).map_err(std::io::Error::other)?,
            )?;
            std::fs::rename(&aside, &path)?;
            sync_folder(folder)
        };
        replace().map_err(|error| StoreError::io(&path, error))
    }

    /// A number that no file of this store has had.
    pub(super) fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub(super) fn names(&self, name: &str) -> bool {
        self.detections.as_deref() == Some(name)
            || self.journal.as_ref().is_some_and(|file| file.name == name)
            || self.files.iter().any(|file| file.name == name)
    }

    /// Greatest minute with a row in `table`, epoch milliseconds; once the minutes are past their retention, the
    /// start of the newest wider bucket.
    pub(super) fn newest(&self, table: &str) -> Option<i64> {
        Resolution::ALL.iter().find_map(|resolution| {
            let files = self
                .files
                .iter()
                .filter(|f| f.table == table && f.resolution == *resolution);
            files.map(|file| file.to).max()
        })
    }
}

/// Committed length of a topic file, bytes, as the store in `folder` has it; 0 where there is none.
///
/// # Errors
/// The manifest cannot be read.
pub fn topic_length(folder: &Path, topic: &str) -> Result<u64, StoreError> {
    let manifest = Manifest::load(folder)?;
    let length = manifest.and_then(|manifest| manifest.topics.get(topic).copied());
    Ok(length.unwrap_or_default())
}

/// Writes a file and waits until it is on disk.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Waits until the names in a folder are on disk.
pub(super) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

mod resolution_name {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::window::Resolution;

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde asks for"
    )]
    pub(super) fn serialize<S: Serializer>(
        resolution: &Resolution,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(resolution.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Resolution, D::Error> {
        let name = String::deserialize(from)?;
        let known = Resolution::ALL
            .into_iter()
            .find(|resolution| resolution.as_str() == name);
        known.ok_or_else(|| D::Error::custom(format!("{name:?} is not a resolution")))
    }
}
