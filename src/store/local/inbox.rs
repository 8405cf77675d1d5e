//! Lines that other processes leave for the one that has the store open: proposals from the command line.
//!
//! The file is appended to under its own lock; how far it was taken is committed with what followed from it. So a line
//! counts exactly once, whether it was left while somebody ran the pipeline, or between two runs. What was taken is cut off
//! when it has grown ([`make_room`]): a new file takes the place of the old one, and its first line says how many bytes came
//! before it. So offsets only ever grow, and a kill leaves the old file or the new one.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::StoreError;

/// Bytes that are taken at once.
const AT_ONCE: u64 = 1 << 20;

/// Bytes that were taken and are worth cutting off.
const ROOM: u64 = 1 << 20;
/// What the first line of a file starts with that was cut; the bytes before it follow, then the line's end.
const CUT: &str = "# bytes before this line: ";

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
        let mut file = lock(&path)?;
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

/// The file of this path, locked. One that was replaced while the lock was waited for is nobody's any more.
fn lock(path: &Path) -> std::io::Result<File> {
    loop {
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path)?;
        file.lock()?;
        let (held, named) = (file.metadata()?, std::fs::metadata(path));
        if named.is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino())) {
            return Ok(file);
        }
    }
}

/// How many bytes came before a file, and how many of its own say so.
fn before(file: &mut File) -> std::io::Result<(u64, u64)> {
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    // The number has 20 digits at most.
    file.take(CUT.len() as u64 + 21).read_to_end(&mut head)?;
    let head = String::from_utf8_lossy(&head);
    let bytes = head
        .split_once('\n')
        .and_then(|(line, _)| line.strip_prefix(CUT))
        .and_then(|digits| Some((digits.len(), digits.parse().ok()?)));
    Ok(bytes.map_or((0, 0), |(digits, bytes)| {
        (bytes, (CUT.len() + digits + 1) as u64)
    }))
}

/// Cuts off what was taken when there is much of it. `taken` is committed, so nobody asks for less again.
///
/// # Errors
/// The disk refuses; the file is as it was.
pub fn make_room(folder: &Path, taken: u64) -> Result<(), StoreError> {
    let path = path(folder);
    let cut = || -> std::io::Result<()> {
        if !std::fs::metadata(&path).is_ok_and(|file| file.len() > ROOM) {
            return Ok(());
        }
        let mut file = lock(&path)?;
        let (bytes, head) = before(&mut file)?;
        let own = taken.saturating_sub(bytes);
        if own <= ROOM || own > file.metadata()?.len().saturating_sub(head) {
            return Ok(());
        }
        let new = path.with_extension("ndjson.new");
        let mut kept = File::create(&new)?;
        writeln!(kept, "{CUT}{taken}")?;
        file.seek(SeekFrom::Start(head + own))?;
        std::io::copy(&mut file, &mut kept)?;
        kept.sync_all()?;
        std::fs::rename(&new, &path)?;
        File::open(folder)?.sync_all()
    };
    cut().map_err(|error| StoreError::io(&path, error))
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
        let (bytes, head) = before(&mut file)?;
        let end = bytes + file.metadata()?.len().saturating_sub(head);
        let mut at = if end < from { bytes } else { from.max(bytes) };
        if at == end {
            return Ok(Vec::new());
        }
        file.seek(SeekFrom::Start(head + (at - bytes)))?;
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

    #[test]
    fn what_was_taken_is_cut_off_and_offsets_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let size = || std::fs::metadata(path(folder)).unwrap().len();
        let long = vec![b'x'; 200_000];
        let mut taken = 0;
        let mut seen = 0;
        for round in 0..40 {
            leave(folder, &long).unwrap();
            leave(folder, format!("{round}").as_bytes()).unwrap();
            let lines = left(folder, taken).unwrap();
            assert_eq!(texts(&lines)[1], format!("{round}"));
            assert!(lines[0].1 > taken);
            // The last line is left for the next round's look but one: it is not taken yet.
            taken = lines[1].1;
            seen += lines.len();
            leave(folder, b"not taken").unwrap();
            make_room(folder, taken).unwrap();
            assert!(size() < ROOM + 300_000, "{}", size());
            let rest = left(folder, taken).unwrap();
            assert_eq!(texts(&rest), ["not taken"], "{round}");
            taken = rest[0].1;
        }
        assert_eq!(seen, 80);
        assert_eq!(taken, 40 * (200_000 + 1 + 10) + 10 * 2 + 30 * 3);
        // A kill before the new file had its name leaves the old one; what was meant to be is written over.
        std::fs::write(folder.join("proposals.ndjson.new"), b"half").unwrap();
        leave(folder, &vec![b'y'; 1_040_000]).unwrap();
        leave(folder, b"z").unwrap();
        taken = left(folder, taken).unwrap()[0].1;
        make_room(folder, taken).unwrap();
        assert_eq!(texts(&left(folder, taken).unwrap()), ["z"]);
        // Removed by hand and begun anew: from its start, as before.
        std::fs::remove_file(path(folder)).unwrap();
        make_room(folder, taken).unwrap();
        leave(folder, b"new").unwrap();
        assert_eq!(texts(&left(folder, taken).unwrap()), ["new"]);
    }

    #[test]
    fn nobody_writes_into_a_file_that_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let line = "x".repeat(40_000);
        let taken = std::sync::Mutex::new((0, 0));
        let take = || {
            let mut taken = taken.lock().unwrap();
            for (_, end) in left(folder, taken.0).unwrap() {
                *taken = (end, taken.1 + 1);
            }
            make_room(folder, taken.0).unwrap();
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..30 {
                        leave(folder, line.as_bytes()).unwrap();
                        take();
                    }
                });
            }
        });
        take();
        assert_eq!(taken.into_inner().unwrap().1, 120);
    }
}
