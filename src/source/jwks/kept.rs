//! The last good set and the retired keys on disk, so that a restart while the issuer is down judges as before.
//!
//! One JSON file per URL, replaced by rename. A file that cannot be read is as good as none: the issuer has the set.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::fetch::Validators;
use crate::model::EventTime;
use crate::policy::tokens::{KeyHistory, Retired, ServedKey, ServedKeys};

/// Version of the file.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct WireKept {
    v: u32,
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_modified: Option<String>,
    keys: Vec<Box<RawValue>>,
    retired: Vec<WireRetired>,
}

#[derive(Serialize, Deserialize)]
struct WireRetired {
    /// Epoch milliseconds.
    removed_at: i64,
    key: Box<RawValue>,
}

/// A key set as it was kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) history: KeyHistory,
    pub(super) validators: Validators,
}

/// The file of a URL within a folder; the name says nothing of the URL.
pub(super) fn file(folder: &Path, url: &str) -> PathBuf {
    let hash = digest::digest(&digest::SHA256, url.as_bytes());
    let name: String = hex::encode(hash).chars().take(32).collect();
    folder.join(format!("{name}.json"))
}

/// Reads what was kept; `None` = there is nothing.
///
/// # Errors
/// There is a file that cannot be used.
pub(super) fn read(path: &Path, url: &str) -> Result<Option<Kept>, String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let wire: WireKept = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if wire.v != VERSION || wire.url != url {
        return Err("of another version or URL".to_owned());
    }
    let mut retired = Vec::new();
    for old in &wire.retired {
        if let (Some(key), Some(removed_at)) = (
            keys([&old.key]).into_iter().next(),
            EventTime::from_millis(old.removed_at),
        ) {
            retired.push(Retired { key, removed_at });
        }
    }
    let current = keys(&wire.keys);
    if current.is_empty() {
        return Err("no usable key".to_owned());
    }
    Ok(Some(Kept {
        history: KeyHistory { current, retired },
        validators: Validators {
            etag: wire.etag,
            last_modified: wire.last_modified,
        },
    }))
}

fn keys<'k>(jwks: impl IntoIterator<Item = &'k Box<RawValue>>) -> Vec<ServedKey> {
    let jwks: Vec<&str> = jwks.into_iter().map(|jwk| jwk.get()).collect();
    let set = format!("{{\"keys\":[{}]}}", jwks.join(","));
    ServedKeys::read(set.as_bytes())
        .map(|served| served.keys)
        .unwrap_or_default()
}

/// Replaces what was kept.
///
/// # Errors
/// What the disk says.
pub(super) fn write(
    path: &Path,
    url: &str,
    history: &KeyHistory,
    validators: &Validators,
) -> io::Result<()> {
    let raw = |key: &ServedKey| RawValue::from_string(key.jwk.clone());
    let current: Result<Vec<_>, _> = history.current.iter().map(raw).collect();
    let retired: Result<Vec<_>, _> = history
        .retired
        .iter()
        .map(|old| {
            Ok::<_, serde_json::Error>(WireRetired {
                removed_at: old.removed_at.millis(),
                key: raw(&old.key)?,
            })
        })
        .collect();
    let wire = WireKept {
        v: VERSION,
        url: url.to_owned(),
        etag: validators.etag.clone(),
        last_modified: validators.last_modified.clone(),
        keys: current?,
        retired: retired?,
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    // Readable by us alone: a private issuer may serve secrets.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&serde_json::to_vec(&wire)?)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    fs::File::open(folder)?.sync_all()
}
