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
/// Looks at a renamed file without anything new in it before its successor is opened: five seconds, as long as log
/// rotation usually takes to tell the writers.
const GRACE_POLLS: u32 = 25;

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
}

impl Input {
    /// Opens a file (`None` = standard input) and reads its first KiB.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else {
            return Ok(Self {
                path: None,
                file: None,
                packing: Packing::Plain,
                head: Vec::new(),
                size: 0,
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

    /// Whether the input is packed: its size says nothing about the length of its stream.
    #[must_use]
    pub fn packed(&self) -> bool {
        self.packing != Packing::Plain
    }

    /// Whether there is enough to tell this input from others: a KiB, or at least one whole line.
    #[must_use]
    pub fn recognisable(&self) -> bool {
        self.head.len() >= FINGERPRINT_BYTES || self.head.contains(&b'\n')
    }

    /// Sends the lines until the input ends, the receiver is gone, or the run is told to stop. A followed file does
    /// not end; when it is rotated, `End { last: false }` says so and the caller opens its successor.
    pub fn send(self, reading: &Reading) {
        let last_words = match self.send_lines(reading) {
            Ok(Some(last)) => Event::End { last },
            Ok(None) => return,
            Err(error) => Event::Failed(error),
        };
        // A receiver that has gone away needs no answer.
        let _ = reading.to.send(last_words);
    }

    /// `None` = nobody listens any more; else whether nothing follows.
    fn send_lines(self, reading: &Reading) -> io::Result<Option<bool>> {
        let path = self.path.clone();
        let inode = match &self.file {
            Some(file) => Some(file.metadata()?.ino()),
            None => None,
        };
        // Waiting to fill a block would hold back what a pipe or a growing file already has.
        let fills = self.file.is_some() && !reading.follow;
        let (mut reader, count) = self.reader_at(reading.from, reading.counted_to)?;
        let mut splitter = Splitter {
            offset: reading.from,
            max_line: reading.max_line,
            tail: Vec::new(),
            long: None,
        };
        let mut quiet = 0;
        loop {
            if reading.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let mut block = reading.spares.try_recv().unwrap_or_default();
            block.clear();
            block.append(&mut splitter.tail);
            if read_block(&mut reader, &mut block, fills)? > 0 {
                quiet = 0;
                let chunk = splitter.split(block, count.load());
                if !chunk.lines.is_empty() && reading.to.send(Event::Lines(chunk)).is_err() {
                    return Ok(None);
                }
                continue;
            }
            splitter.tail.append(&mut block);
            let last = !reading.follow;
            // Writers keep a renamed file open until they are told; its successor can wait a little.
            let over = match replaced(path.as_deref(), inode, splitter.position()) {
                Replaced::No => last,
                Replaced::Renamed => last || quiet >= GRACE_POLLS,
                Replaced::Cut => true,
            };
            if over {
                // A finite input may end without a line end; a rotated file is complete too.
                if let Some(chunk) = splitter.rest()
                    && reading.to.send(Event::Lines(chunk)).is_err()
                {
                    return Ok(None);
                }
                return Ok(Some(last));
            }
            quiet += 1;
            std::thread::sleep(POLL);
        }
    }

    /// The stream from `from` on; `counted_to` must be in it.
    fn reader_at(self, from: u64, counted_to: u64) -> io::Result<(Box<dyn Read + Send>, Counter)> {
        let counter = Counter::default();
        let Some(mut file) = self.file else {
            // Standard input is looked at here, where waiting for its first bytes holds up nobody.
            let mut stdin = io::stdin();
            let mut magic = Vec::new();
            stdin.by_ref().take(4).read_to_end(&mut magic)?;
            let packing = packing_of(&magic);
            return Ok((
                unpack(Box::new(io::Cursor::new(magic).chain(stdin)), packing)?,
                counter,
            ));
        };
        let short = || {
            let message = "the file is shorter than what was already counted of it";
            io::Error::new(io::ErrorKind::InvalidInput, message)
        };
        file.rewind()?;
        if self.packing == Packing::Plain {
            if file.metadata()?.len() < counted_to {
                return Err(short());
            }
            file.seek(SeekFrom::Start(from))?;
            counter.add(from);
        }
        let tallied = Counted {
            file,
            counter: counter.clone(),
        };
        let mut reader = unpack(Box::new(tallied), self.packing)?;
        if self.packing != Packing::Plain
            && io::copy(&mut reader.by_ref().take(from), &mut io::sink())? < from
        {
            return Err(short());
        }
        Ok((reader, counter))
    }
}

/// What a reading thread needs besides the input.
#[derive(Debug)]
pub struct Reading {
    /// Offset to read from.
    pub from: u64,
    /// Offset up to which an earlier run has counted the input.
    pub counted_to: u64,
    /// Longest line that is kept, bytes.
    pub max_line: usize,
    /// Whether to go on when the file ends.
    pub follow: bool,
    /// Set when the run is to end.
    pub stop: Arc<AtomicBool>,
    /// Where lines go.
    pub to: SyncSender<Event>,
    /// Where buffers come back.
    pub spares: Receiver<Spare>,
}

/// Reads up to a block behind what `block` holds; gives how much. `fills` = go on until the block is full.
fn read_block(reader: &mut impl Read, block: &mut Vec<u8>, fills: bool) -> io::Result<usize> {
    let kept = block.len();
    block.resize(kept + BLOCK, 0);
    let mut filled = kept;
    while let Some(free) = block.get_mut(filled..).filter(|free| !free.is_empty()) {
        match reader.read(free) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if !fills {
            break;
        }
    }
    block.truncate(filled);
    Ok(filled - kept)
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
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(
            BufReader::with_capacity(BLOCK, raw),
        )),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(raw)?),
    })
}

/// What has become of the path of a followed file.
enum Replaced {
    /// It is still the same file, and no shorter, or nobody can tell.
    No,
    /// Another file has taken the path.
    Renamed,
    /// The file was cut to less than what was read of it.
    Cut,
}

fn replaced(path: Option<&Path>, inode: Option<u64>, position: u64) -> Replaced {
    match path.map(std::fs::metadata) {
        Some(Ok(now)) if Some(now.ino()) != inode => Replaced::Renamed,
        Some(Ok(now)) if now.len() < position => Replaced::Cut,
        _ => Replaced::No,
    }
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

    fn reading(from: u64, max_line: usize, to: SyncSender<Event>) -> Reading {
        let (_, spares) = channel();
        let stop = Arc::default();
        Reading {
            from,
            counted_to: from,
            max_line,
            follow: false,
            stop,
            to,
            spares,
        }
    }

    /// (offset, end, text or length) of every line, reading with tiny limits.
    fn lines(path: &Path, offset: u64, max_line: usize) -> Vec<(u64, u64, String)> {
        let (sender, receiver) = sync_channel(1_000);
        Input::open(Some(path))
            .unwrap()
            .send(&reading(offset, max_line, sender));
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
        Input::open(Some(&path))
            .unwrap()
            .send(&reading(100, 100, sender));
        assert!(matches!(receiver.recv().unwrap(), Event::Failed(_)));
    }
}
