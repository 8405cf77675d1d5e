//! Lines of a file or of standard input, with their offsets in the decompressed stream.
//!
//! Enters: a path. Leaves: [`Event`]s on a bounded channel, so that reading waits for judging. A file is known by a
//! fingerprint of its first KiB, not by its name: rotated, renamed or compressed, the same input stays the same input.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256, digest};

/// Bytes that make the fingerprint.
const FINGERPRINT_BYTES: usize = 1_024;
/// Bytes read at once.
const BLOCK: usize = 1 << 20;
/// How often a followed file is looked at for growth.
const POLL: Duration = Duration::from_millis(200);

/// Identity of an input: the hash of its first `bytes` bytes, decompressed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint {
    /// How many bytes were hashed: 1,024, or all there were when the file was first seen.
    pub bytes: usize,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// Where one line stands in its chunk and in the input.
#[derive(Debug)]
pub struct Line {
    /// Where its bytes are in the chunk, without the line end.
    pub start: usize,
    /// Length without the line end.
    pub len: usize,
    /// Offset in the input.
    pub offset: u64,
    /// Offset after its line end.
    pub end: u64,
    /// Set when the line is longer than the limit; its bytes are not in the chunk.
    pub too_long: Option<TooLong>,
}

/// A line that was not kept.
#[derive(Debug)]
pub struct TooLong {
    /// Its length, bytes.
    pub len: u64,
    /// SHA-256 over it, hexadecimal.
    pub sha256: String,
}

/// Some lines.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The bytes that [`Line`]s point into.
    pub bytes: Vec<u8>,
    /// The lines, in order.
    pub lines: Vec<Line>,
    /// Bytes of the file read so far (compressed ones where it is), for progress.
    pub read: u64,
}

/// Sent back when a chunk is done with, so that a megabyte is not asked of the system for every megabyte read.
pub type Spare = Vec<u8>;

/// What a source says.
#[derive(Debug)]
pub enum Event {
    /// More lines.
    Lines(Chunk),
    /// This input has ended. `last` = nothing comes after it; else the file was rotated and the next input follows.
    End {
        /// Whether nothing follows.
        last: bool,
    },
    /// Reading failed.
    Failed(io::Error),
}

/// How the file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// An input that has been opened and identified, and not yet read.
pub struct Input {
    path: Option<PathBuf>,
    file: Option<File>,
    packing: Packing,
    /// First KiB of the decompressed stream.
    head: Vec<u8>,
    /// Size on disk, bytes; 0 for standard input.
    pub size: u64,
    stdin_rest: Option<Box<dyn Read + Send>>,
}

impl Input {
    /// Opens a file (`None` = standard input) and reads its first KiB.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else {
            let mut stdin: Box<dyn Read + Send> = Box::new(io::stdin());
            let mut magic = Vec::new();
            stdin.by_ref().take(4).read_to_end(&mut magic)?;
            let packing = packing_of(&magic);
            let rest = unpack(Box::new(io::Cursor::new(magic).chain(stdin)), packing)?;
            return Ok(Self {
                path: None,
                file: None,
                packing,
                head: Vec::new(),
                size: 0,
                stdin_rest: Some(rest),
            });
        };
        let mut file = File::open(path)?;
        let mut magic = Vec::new();
        file.by_ref().take(4).read_to_end(&mut magic)?;
        file.rewind()?;
        let packing = packing_of(&magic);
        let mut head = Vec::new();
        unpack(Box::new(file.try_clone()?), packing)?
            .take(FINGERPRINT_BYTES as u64)
            .read_to_end(&mut head)?;
        let size = file.metadata()?.len();
        Ok(Self {
            path: Some(path.to_owned()),
            file: Some(file),
            packing,
            head,
            size,
            stdin_rest: None,
        })
    }

    /// Fingerprint over the first `bytes` bytes (at most a KiB), or over what there is; `None` when that is nothing,
    /// or less than asked for.
    #[must_use]
    pub fn fingerprint(&self, bytes: Option<usize>) -> Option<Fingerprint> {
        let bytes = bytes.unwrap_or(self.head.len());
        let head = self.head.get(..bytes).filter(|head| !head.is_empty())?;
        Some(Fingerprint {
            bytes,
            sha256: hex::encode(digest(&SHA256, head)),
        })
    }

    /// Whether reading can start anywhere; standard input cannot.
    #[must_use]
    pub fn resumable(&self) -> bool {
        self.file.is_some()
    }

    /// Sends the lines from `offset` on until the input ends, the receiver is gone, or `stop` is set. A followed file
    /// does not end; when it is rotated, `End { last: false }` says so and the caller opens its successor.
    pub fn send(
        self,
        offset: u64,
        max_line: usize,
        follow: bool,
        stop: &Arc<AtomicBool>,
        to: &SyncSender<Event>,
        spares: &Receiver<Spare>,
    ) {
        let path = self.path.clone();
        let inode = self
            .file
            .as_ref()
            .and_then(|file| file.metadata().ok())
            .map(|facts| facts.ino());
        let mut splitter = Splitter {
            offset,
            max_line,
            tail: Vec::new(),
            long: None,
        };
        let outcome = self.reader_at(offset).and_then(|(mut reader, count)| {
            loop {
                if stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let mut block = spares.try_recv().unwrap_or_default();
                block.clear();
                block.append(&mut splitter.tail);
                let kept = block.len();
                block.resize(kept + BLOCK, 0);
                let read = match reader.read(block.get_mut(kept..).unwrap_or_default()) {
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                    Err(error) => return Err(error),
                };
                block.truncate(kept + read);
                if read > 0 {
                    let chunk = splitter.split(block, count.load());
                    if !chunk.lines.is_empty() && to.send(Event::Lines(chunk)).is_err() {
                        return Ok(None);
                    }
                    continue;
                }
                splitter.tail.append(&mut block);
                if !follow {
                    return Ok(Some(true));
                }
                if replaced(path.as_deref(), inode, splitter.position()) {
                    return Ok(Some(false));
                }
                std::thread::sleep(POLL);
            }
        });
        let last_words = match outcome {
            Err(error) => Event::Failed(error),
            Ok(None) => return,
            Ok(Some(last)) => {
                // A finite input may end without a line end; a rotated file is complete too.
                if let Some(chunk) = splitter.rest()
                    && to.send(Event::Lines(chunk)).is_err()
                {
                    return;
                }
                Event::End { last }
            }
        };
        // A receiver that has gone away needs no answer.
        let _ = to.send(last_words);
    }

    fn reader_at(self, offset: u64) -> io::Result<(Box<dyn Read + Send>, Counter)> {
        let counter = Counter::default();
        let Some(mut file) = self.file else {
            let rest = self.stdin_rest.unwrap_or_else(|| Box::new(io::empty()));
            return Ok((rest, counter));
        };
        file.rewind()?;
        if self.packing == Packing::Plain {
            if file.metadata()?.len() < offset {
                let message = "the file is shorter than what was already counted of it";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
            }
            file.seek(SeekFrom::Start(offset))?;
            counter.add(offset);
        }
        let tallied = Counted {
            file,
            counter: counter.clone(),
        };
        let mut reader = unpack(Box::new(tallied), self.packing)?;
        if self.packing != Packing::Plain {
            io::copy(&mut reader.by_ref().take(offset), &mut io::sink())?;
        }
        Ok((reader, counter))
    }
}

/// Bytes read from the file, shared with the reader that moves it.
#[derive(Clone, Default)]
struct Counter(Arc<std::sync::atomic::AtomicU64>);

impl Counter {
    fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Counted {
    file: File,
    counter: Counter,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.counter.add(read as u64);
        Ok(read)
    }
}

/// Recognised by content (RFC 1952 section 2.3.1, RFC 8878 section 3.1.1), so a wrong extension does no harm.
fn packing_of(magic: &[u8]) -> Packing {
    match magic {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] => Packing::Zstd,
        _ => Packing::Plain,
    }
}

fn unpack(raw: Box<dyn Read + Send>, packing: Packing) -> io::Result<Box<dyn Read + Send>> {
    Ok(match packing {
        Packing::Plain => raw,
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(raw))),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(raw)?),
    })
}

/// Whether another file has taken the path, or the file was cut to less than what was read of it.
fn replaced(path: Option<&Path>, inode: Option<u64>, position: u64) -> bool {
    let Some(Ok(now)) = path.map(std::fs::metadata) else {
        return false;
    };
    Some(now.ino()) != inode || now.len() < position
}

/// Cuts blocks into lines; keeps what is not finished.
struct Splitter {
    /// Offset of the first byte of `tail`, or of the long line being skipped.
    offset: u64,
    max_line: usize,
    tail: Vec<u8>,
    long: Option<(u64, Context)>,
}

impl Splitter {
    /// Offset after everything seen.
    fn position(&self) -> u64 {
        self.offset + self.tail.len() as u64 + self.long.as_ref().map_or(0, |(len, _)| *len)
    }

    /// Takes the tail with the next block behind it; gives whole lines and keeps the rest.
    fn split(&mut self, bytes: Vec<u8>, read: u64) -> Chunk {
        let mut chunk = Chunk {
            bytes,
            lines: Vec::new(),
            read,
        };
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &chunk.bytes) {
            let line = chunk.bytes.get(start..end).unwrap_or_default();
            let found = self.line(line, start, 1);
            chunk.lines.push(found);
            start = end + 1;
        }
        let tail = chunk.bytes.get(start..).unwrap_or_default();
        if tail.len() > self.max_line || self.long.is_some() {
            let (len, hash) = self.long.get_or_insert_with(|| (0, Context::new(&SHA256)));
            *len += tail.len() as u64;
            hash.update(tail);
        } else {
            self.tail.extend_from_slice(tail);
        }
        chunk
    }

    /// The last line of an input that does not end with a line end.
    fn rest(&mut self) -> Option<Chunk> {
        let bytes = std::mem::take(&mut self.tail);
        if bytes.is_empty() && self.long.is_none() {
            return None;
        }
        let line = self.line(&bytes, 0, 0);
        Some(Chunk {
            lines: vec![line],
            bytes,
            read: 0,
        })
    }

    fn line(&mut self, line: &[u8], start: usize, line_end: u64) -> Line {
        let offset = self.offset;
        let (len, too_long) = match self.long.take() {
            Some((len, mut hash)) => {
                hash.update(line);
                let len = len + line.len() as u64;
                (
                    len,
                    Some(TooLong {
                        len,
                        sha256: hex::encode(hash.finish()),
                    }),
                )
            }
            None => (line.len() as u64, None),
        };
        self.offset = offset + len + line_end;
        let kept = if too_long.is_some() { 0 } else { line.len() };
        Line {
            start,
            len: kept,
            offset,
            end: self.offset,
            too_long,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{channel, sync_channel};

    use super::*;

    /// (offset, end, text or length) of every line, reading with tiny limits.
    fn lines(path: &Path, offset: u64, max_line: usize) -> Vec<(u64, u64, String)> {
        let (sender, receiver) = sync_channel(1_000);
        let input = Input::open(Some(path)).unwrap();
        let (_spares_to, spares) = channel();
        input.send(offset, max_line, false, &Arc::default(), &sender, &spares);
        drop(sender);
        let mut lines = Vec::new();
        for event in receiver {
            let Event::Lines(chunk) = event else { continue };
            for line in &chunk.lines {
                let text = match &line.too_long {
                    Some(long) => format!("({})", long.len),
                    None => {
                        String::from_utf8(chunk.bytes[line.start..line.start + line.len].to_vec())
                            .unwrap()
                    }
                };
                lines.push((line.offset, line.end, text));
            }
        }
        lines
    }

    #[test]
    fn offsets_are_those_of_the_decompressed_stream() {
        let folder = tempfile::tempdir().unwrap();
        let text = "one\ntwo\r\n\nfour";
        let plain = folder.path().join("a");
        std::fs::write(&plain, text).unwrap();
        let gz = folder.path().join("a.gz");
        let mut encoder =
            flate2::write::GzEncoder::new(File::create(&gz).unwrap(), flate2::Compression::fast());
        io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
        encoder.finish().unwrap();
        let zst = folder.path().join("wrongly-named.gz");
        std::fs::write(&zst, zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
        let expected = [
            (0, 4, "one"),
            (4, 9, "two\r"),
            (9, 10, ""),
            (10, 14, "four"),
        ];
        let expected = expected.map(|(a, b, text)| (a, b, text.to_owned()));
        let identity = Input::open(Some(&plain)).unwrap().fingerprint(None);
        for path in [&plain, &gz, &zst] {
            assert_eq!(lines(path, 0, 100), expected, "{}", path.display());
            assert_eq!(lines(path, 4, 100), expected[1..], "{}", path.display());
            assert_eq!(Input::open(Some(path)).unwrap().fingerprint(None), identity);
        }
    }

    #[test]
    fn a_line_over_the_limit_is_measured_and_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long");
        let long = "x".repeat(3 * BLOCK);
        std::fs::write(&path, format!("a\n{long}\nb\n")).unwrap();
        let end = 3 * BLOCK as u64 + 3;
        let seen = lines(&path, 0, 100);
        assert_eq!(seen[0], (0, 2, "a".to_owned()));
        assert_eq!(seen[1], (2, end, format!("({})", 3 * BLOCK)));
        assert_eq!(seen[2], (end, end + 2, "b".to_owned()));
    }

    #[test]
    fn a_file_cut_short_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("short");
        std::fs::write(&path, "a\n").unwrap();
        let (sender, receiver) = sync_channel(10);
        Input::open(Some(&path)).unwrap().send(
            100,
            100,
            false,
            &Arc::default(),
            &sender,
            &channel().1,
        );
        assert!(matches!(receiver.recv().unwrap(), Event::Failed(_)));
    }
}
