//! Lines that other processes leave for the one that has the store open: proposals from the command line.
//!
//! The file is only ever appended to, under its own lock; how far it was taken is committed with what followed from it. So
//! a line counts exactly once, whether it was left while somebody ran the pipeline, or between two runs.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::StoreError;

/// Bytes that are taken at once.
const AT_ONCE: u64 = 1 << 20;

/// The lines after some offset, and the offset after each.
pub type Lines = Vec<(Vec<u8>, u64)>;

fn path(folder: &Path) -> PathBuf {
    folder.join("proposals.ndjson")
}

/// Leaves one line, without its end, and returns when it is on disk.
///
/// # Errors
/// The disk refuses.
pub fn leave(folder: &Path, line: &[u8]) -> Result<(), StoreError> {
    let path = path(folder);
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&path)?;
        file.lock()?;
        let mut text = Vec::with_capacity(line.len() + 2);
        if file.metadata()?.len() > 0 {
            // Whoever wrote last may have been killed in the middle of its line.
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                text.push(b'\n');
            }
        }
        text.extend_from_slice(line);
        text.push(b'\n');
        file.write_all(&text)?;
        file.sync_all()?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| StoreError::io(&path, error))
}

/// The whole lines that follow `from`, as many as are taken at once. A file that is shorter than `from` was removed to make
/// room, and counts from its start.
///
/// # Errors
/// The file cannot be read.
pub fn left(folder: &Path, from: u64) -> Result<Lines, StoreError> {
    let path = path(folder);
    let read = || -> std::io::Result<Lines> {
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        let mut at = if length < from { 0 } else { from };
        if at == length {
            return Ok(Vec::new());
        }
        file.seek(SeekFrom::Start(at))?;
        let mut bytes = Vec::new();
        file.take(AT_ONCE).read_to_end(&mut bytes)?;
        let mut lines = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(text) = line.strip_suffix(b"\n") else {
                // Longer than any proposal: passed over, or the rest of the file would wait for ever.
                if lines.is_empty() && bytes.len() as u64 == AT_ONCE {
                    lines.push((Vec::new(), at + AT_ONCE));
                }
                break;
            };
            at += line.len() as u64;
            lines.push((text.to_vec(), at));
        }
        Ok(lines)
    };
    read().map_err(|error| StoreError::io(&path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &Lines) -> Vec<String> {
        let text = |(line, _): &(Vec<u8>, u64)| String::from_utf8(line.clone()).unwrap();
        lines.iter().map(text).collect()
    }

    #[test]
    fn lines_are_taken_once_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new");
        assert_eq!(left(&folder, 0).unwrap(), []);
        leave(&folder, b"one").unwrap();
        leave(&folder, b"two").unwrap();
        let lines = left(&folder, 0).unwrap();
        assert_eq!(texts(&lines), ["one", "two"]);
        assert_eq!(texts(&left(&folder, lines[0].1).unwrap()), ["two"]);
        let taken = lines[1].1;
        assert_eq!(left(&folder, taken).unwrap(), []);
        // A process that was killed in the middle of its line.
        let mut file = OpenOptions::new().append(true).open(path(&folder)).unwrap();
        file.write_all(b"thr").unwrap();
        assert_eq!(left(&folder, taken).unwrap(), []);
        leave(&folder, b"four").unwrap();
        assert_eq!(texts(&left(&folder, taken).unwrap()), ["thr", "four"]);
        // What is longer than all that is taken at once is passed over.
        std::fs::write(
            path(&folder),
            vec![b'x'; usize::try_from(AT_ONCE).unwrap() + 5],
        )
        .unwrap();
        leave(&folder, b"six").unwrap();
        let long = left(&folder, 0).unwrap();
        assert_eq!(texts(&long), [""]);
        assert_eq!(texts(&left(&folder, long[0].1).unwrap()), ["xxxxx", "six"]);
        // Removed and begun anew.
        std::fs::remove_file(path(&folder)).unwrap();
        leave(&folder, b"seven").unwrap();
        assert_eq!(texts(&left(&folder, taken).unwrap()), ["seven"]);
    }
}
