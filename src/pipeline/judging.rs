//! The judging thread: lines in, flushes out. A flush ends when it is full or when its time is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use tokio::sync::mpsc;

use super::partition::{Flush, Partition};
use super::run::Fault;
use crate::clock::Stopwatch;
use crate::model::EventTime;
use crate::source::file::{Chunk, Event, Spare};

/// When flushes end by wall time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// After this long with something to store.
    pub(super) flush_every: Duration,
    /// After this long without a line, halves that wait are let go.
    pub(super) idle: Duration,
}

/// What the judging thread says.
pub(super) enum Message {
    /// A flush, and how many bytes of the input were read by then.
    Flush(Box<Flush>, u64),
    /// The input has ended.
    Ended {
        /// Whether nothing follows it.
        last: bool,
        /// Stream clock of this run.
        clock: Option<EventTime>,
    },
    /// Told to stop before the end.
    Stopped,
    /// The thread cannot go on.
    Failed(Fault),
}

/// The judging thread.
pub(super) struct Judging {
    /// From the reading thread.
    pub(super) lines: Receiver<Event>,
    /// Buffers back to the reading thread.
    pub(super) spares_to: Sender<Spare>,
    /// When flushes end.
    pub(super) pace: Pace,
    /// Name of the input.
    pub(super) name: String,
    /// Set when the run is to end.
    pub(super) stop: Arc<AtomicBool>,
    /// To the committer.
    pub(super) to: mpsc::Sender<Message>,
}

/// The committer has gone away; it has its own reason to say.
struct Gone;

impl Judging {
    /// Judges until the input ends or the committer goes away.
    pub(super) fn run(self, mut partition: Partition) {
        if let Ok(last_words) = self.judge(&mut partition) {
            let _ = self.to.blocking_send(last_words);
        }
    }

    fn judge(&self, partition: &mut Partition) -> Result<Message, Gone> {
        let mut since_flush = Stopwatch::start();
        let mut since_event = Stopwatch::start();
        let mut read = 0;
        loop {
            let wait = self.pace.flush_every.saturating_sub(since_flush.elapsed());
            match self.lines.recv_timeout(wait.max(Duration::from_millis(1))) {
                Ok(Event::Lines(chunk)) => {
                    read = chunk.read.max(read);
                    since_event = Stopwatch::start();
                    if self.apply(partition, chunk, read)? {
                        since_flush = Stopwatch::start();
                    }
                }
                Ok(Event::End { last }) => {
                    partition.drain();
                    self.flush(partition, read)?;
                    return Ok(Message::Ended {
                        last,
                        clock: partition.clock(),
                    });
                }
                Ok(Event::Failed(source)) => {
                    return Ok(Message::Failed(Fault::Source {
                        name: self.name.clone(),
                        source,
                    }));
                }
                // Told to stop: the reading thread has ended, or is blocked on a quiet standard input for ever.
                Err(_) if self.stop.load(Ordering::Relaxed) => {
                    self.flush(partition, read)?;
                    return Ok(Message::Stopped);
                }
                Err(RecvTimeoutError::Timeout) => {
                    if since_event.elapsed() >= self.pace.idle && partition.open() > 0 {
                        partition.drain();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Message::Failed(Fault::Stage("reading")));
                }
            }
            if since_flush.elapsed() >= self.pace.flush_every {
                since_flush = Stopwatch::start();
                self.flush(partition, read)?;
            }
        }
    }

    /// Applies the lines of one chunk; gives whether a flush was full on the way.
    fn apply(&self, partition: &mut Partition, chunk: Chunk, read: u64) -> Result<bool, Gone> {
        let mut flushed = false;
        for line in &chunk.lines {
            if let Some(too_long) = &line.too_long {
                partition.refuse(too_long, line.offset, line.end);
            } else {
                let payload = chunk.bytes.get(line.start..line.start + line.len);
                partition.apply(payload.unwrap_or_default(), line.offset, line.end, None);
            }
            if partition.full(1) {
                self.flush(partition, read)?;
                flushed = true;
            }
        }
        // The reading thread may have ended; then nobody needs the buffer.
        let _ = self.spares_to.send(chunk.bytes);
        Ok(flushed)
    }

    /// Hands on what there is to store, if anything.
    fn flush(&self, partition: &mut Partition, read: u64) -> Result<(), Gone> {
        if partition.idle() {
            return Ok(());
        }
        let message = match partition.take() {
            Ok(flush) => Message::Flush(Box::new(flush), read),
            Err(error) => Message::Failed(error.into()),
        };
        self.to.blocking_send(message).map_err(|_| Gone)
    }
}
