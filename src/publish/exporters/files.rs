//! Replaces a gateway's files: each by a rename, so that a reader sees the old or the new one; all of them or, when the
//! check refuses them, none.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::command;
use super::{ExportError, ExporterSettings};
use crate::enforce::render::File;

/// Gateways run as users of their own, and the files hold no secrets.
const MODE: u32 = 0o644;
/// The same of folders that are made for them.
const FOLDER_MODE: u32 = 0o755;

/// Writes files into a folder, each replaced as a whole, and makes the folder where there is none. Blocks.
///
/// # Errors
/// What the system refuses. Files before that one are written.
pub fn put(folder: &Path, files: &[File]) -> Result<(), ExportError> {
    make(folder)?;
    for file in files {
        let path = folder.join(file.name);
        write(&path, file.text.as_bytes()).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

fn failed(path: &Path, source: io::Error) -> ExportError {
    ExportError::File {
        path: path.display().to_string(),
        source,
    }
}

/// Makes a folder that everybody may look into, whatever the umask; one that is there stays as it is.
fn make(folder: &Path) -> Result<(), ExportError> {
    let made: Vec<&Path> = folder
        .ancestors()
        .take_while(|above| !above.as_os_str().is_empty() && !above.exists())
        .collect();
    let open = || {
        fs::create_dir_all(folder)?;
        let mut made = made.iter();
        made.try_for_each(|above| fs::set_permissions(above, Permissions::from_mode(FOLDER_MODE)))
    };
    open().map_err(|error| failed(folder, error))
}

/// Writes the files, has them checked, and has them read. Blocks.
pub(super) fn replace(settings: &ExporterSettings, files: &[File]) -> Result<(), ExportError> {
    make(&settings.folder)?;
    let mut before = Vec::new();
    for file in files {
        let path = settings.folder.join(file.name);
        let held = match fs::read(&path) {
            Ok(held) => Some(held),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(&path, error)),
        };
        // Equal bytes are not written again: who watches the file has nothing to read.
        if held.as_deref() != Some(file.text.as_bytes()) {
            write(&path, file.text.as_bytes()).map_err(|error| failed(&path, error))?;
            before.push((path, held));
        }
    }
    if let Err(refusal) = command::run(&settings.test, settings.time_limit) {
        for (path, held) in &before {
            let restored = match held {
                Some(held) => write(path, held),
                None => fs::remove_file(path),
            };
            restored.map_err(|error| failed(path, error))?;
        }
        return Err(ExportError::Refused(Box::new(refusal)));
    }
    command::run(&settings.reload, settings.time_limit)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut aside = tempfile::Builder::new()
        .prefix(".gatewatch-")
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(folder)?;
    aside.write_all(bytes)?;
    // The builder's mode is cut by the umask.
    aside
        .as_file()
        .set_permissions(Permissions::from_mode(MODE))?;
    aside.as_file().sync_all()?;
    aside.persist(path)?;
    Ok(())
}
