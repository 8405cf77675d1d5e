//! The run loop: one reading thread, one judging thread, and the committer on the caller's task.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, sync_channel};
use std::time::Duration;

use arrow::error::ArrowError;
use thiserror::Error;
use tokio::sync::mpsc;

use super::commit::{Committer, Identity};
use super::judging::{Judging, Message, Pace};
use super::partition::Partition;
use super::stream::{Counts, Stream};
use crate::config::Settings;
use crate::correlate::JoinState;
use crate::enrich::{Judge, Shared};
use crate::model::EventTime;
use crate::publish::file::TopicError;
use crate::source::file::Input;
use crate::store::local::{Checkpoint, StoreError};

/// Chunks of about 1 MiB between reading and judging.
const CHUNKS_AHEAD: usize = 4;
/// Flushes between judging and storing, besides the one being filled and the one being stored.
const FLUSHES_AHEAD: usize = 1;
/// Stack of the reading and judging threads, bytes: JSON of 64 levels in builds without optimisation needs more than
/// the usual 2 MiB.
const STACK: usize = 16 << 20;
/// How often a followed path is looked at until it appears.
const POLL: Duration = Duration::from_millis(200);

/// Why a run ended early. Everything committed before counts, and a restart goes on from there.
#[derive(Debug, Error)]
pub enum Fault {
    /// The input cannot be read.
    #[error("cannot read {name}: {source}{}", hint_of(.source))]
    Source {
        /// Its name.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The topic files.
    #[error(transparent)]
    Topics(#[from] TopicError),
    /// Arrow refused our own columns.
    #[error("building columns failed: {0}")]
    Columns(#[from] ArrowError),
    /// The state of labels and insights cannot be read or written.
    #[error("the state of labels and insights is not readable: {0}")]
    Detections(serde_json::Error),
    /// The key of the hashes cannot be read or written.
    #[error(
        "{path}: {source}\n  hint: the key keeps hashes comparable between runs; restore it, or start a new store"
    )]
    HashKey {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A thread ended without a word.
    #[error("the {0} stage stopped unexpectedly")]
    Stage(&'static str),
}

fn hint_of(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "\n  hint: source.path is relative to the pipeline file",
        io::ErrorKind::UnexpectedEof => {
            "\n  hint: put the longer file back, or give the new input another first line"
        }
        _ => "",
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Bytes of the input read.
    pub read: u64,
    /// Size of the input, bytes; 0 = unknown.
    pub size: u64,
    /// Exchanges stored by this run.
    pub exchanges: u64,
}

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Counts of this run.
    pub counts: Counts,
    /// Refused records by reason.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Exchanges in `{overflow}`, and signals of entities in `{overflow}`.
    pub overflowed: u64,
    /// Signals of entities that fell into `{overflow}`.
    pub entities_overflowed: u64,
    /// Events published by topic.
    pub published: BTreeMap<&'static str, u64>,
    /// Bytes of the input that an earlier run had counted already.
    pub resumed_at: u64,
    /// Flushes stored.
    pub flushes: u64,
    /// Token verdicts that were remembered, and that had to be worked out.
    pub token_cache: crate::enrich::token::Counts,
    /// Whether the run was told to stop before its input ended.
    pub stopped: bool,
}

/// Runs a pipeline to the end of its input, or until `stop` is set.
///
/// # Errors
/// A fault; a restart is safe.
pub async fn run(
    settings: &Settings,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, Fault> {
    let mut committer = Committer::open(settings).await?;
    let key = match &settings.hash_key {
        Some(key) => key.clone(),
        None => stored_key(&settings.store)?,
    };
    let shared = Arc::new(Shared::new(&key));
    let judge = Judge::new(Arc::clone(&settings.policy), Arc::clone(&shared));
    let mut summary = Summary::default();
    let mut predecessor = settings
        .source
        .follow
        .then(|| rotated_away(settings, &committer))
        .flatten();
    loop {
        let rotated = predecessor.is_some();
        let path = predecessor.take().or_else(|| settings.source.path.clone());
        let Some(input) = open(settings, path.as_deref(), stop)? else {
            summary.stopped = true;
            break;
        };
        let follow = settings.source.follow && !rotated;
        let ended = read_input(
            settings,
            input,
            path,
            follow,
            &judge,
            &mut committer,
            stop,
            &mut summary,
            progress,
        );
        match ended.await? {
            Some(_) if rotated => {}
            Some((true, clock)) => {
                committer.finish(clock.map(EventTime::millis)).await?;
                break;
            }
            Some((false, _)) => {}
            None => {
                summary.stopped = true;
                break;
            }
        }
    }
    summary.published.clone_from(&committer.published);
    summary.token_cache = shared.tokens.counts();
    Ok(summary)
}

/// Reads one input to its end. `None` = told to stop; else whether it was the last one, and the stream clock.
#[expect(clippy::too_many_arguments, reason = "the run loop in one piece")]
async fn read_input(
    settings: &Settings,
    input: Input,
    path: Option<PathBuf>,
    follow: bool,
    judge: &Judge,
    committer: &mut Committer,
    stop: &Arc<AtomicBool>,
    summary: &mut Summary,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<(bool, Option<EventTime>)>, Fault> {
    let name = path.map_or_else(
        || "standard input".to_owned(),
        |path| path.display().to_string(),
    );
    let known = committer.checkpoint(&input);
    let (fingerprint, checkpoint) = match known {
        Some((fingerprint, checkpoint)) => (Some(fingerprint), checkpoint),
        None => (input.fingerprint(None), Checkpoint::default()),
    };
    let fingerprint = fingerprint.filter(|_| input.resumable());
    summary.resumed_at = checkpoint.end;
    let time = |nanos: Option<i64>| nanos.and_then(EventTime::from_nanos);
    let join = JoinState {
        from: checkpoint.from,
        clock: time(checkpoint.clock),
        closed: checkpoint.closed.clone(),
    };
    let source = &settings.source;
    let stream = Stream::new(
        source.adapter,
        settings.limits,
        settings.correlate,
        judge.clone(),
        &join,
        checkpoint.end,
    );
    let partition = Partition::new(
        stream,
        judge,
        &name,
        checkpoint.end,
        settings.dead_letter_bytes,
    );
    let size = input.size;

    let (lines_to, lines) = sync_channel(CHUNKS_AHEAD);
    let (spares_to, spares) = channel();
    let (flushes_to, mut flushes) = mpsc::channel(FLUSHES_AHEAD);
    let (max_line, from) = (settings.limits.event, join.from);
    let reader_stop = Arc::clone(stop);
    spawn("read", move || {
        input.send(from, max_line, follow, &reader_stop, &lines_to, &spares)
    })?;
    let pace = Pace {
        flush_every: settings.flush_every,
        idle: settings.correlate_idle,
    };
    let judging = Judging {
        lines,
        spares_to,
        pace,
        name: name.clone(),
        to: flushes_to,
    };
    spawn("judge", move || judging.run(partition))?;

    let identity = Identity { fingerprint, name };
    while let Some(message) = flushes.recv().await {
        match message {
            Message::Flush(flush, read) => {
                summary.flushes += 1;
                summary.counts += flush.counts;
                summary.overflowed += flush.batches.overflowed;
                summary.entities_overflowed += flush.batches.entities_overflowed;
                for letter in &flush.rejected {
                    *summary.rejected.entry(letter.reason.as_str()).or_default() += 1;
                }
                committer.flush(&identity, *flush).await?;
                progress(Progress {
                    read,
                    size,
                    exchanges: summary.counts.exchanges,
                });
            }
            Message::Ended { last, clock } => return Ok(Some((last, clock))),
            Message::Stopped => return Ok(None),
            Message::Failed(fault) => return Err(fault),
        }
    }
    Err(Fault::Stage("judging"))
}

/// Starts a named thread.
fn spawn(name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
    let builder = std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK);
    builder
        .spawn(work)
        .map(|_| ())
        .map_err(|source| Fault::Source {
            name: format!("the {name} thread"),
            source,
        })
}

/// Opens the input; a followed path may appear later. `None` = told to stop meanwhile.
fn open(
    settings: &Settings,
    path: Option<&Path>,
    stop: &AtomicBool,
) -> Result<Option<Input>, Fault> {
    loop {
        match Input::open(path) {
            // An empty file cannot be told from another one yet.
            Ok(input) if settings.source.follow && input.fingerprint(None).is_none() => {}
            Ok(input) => return Ok(Some(input)),
            Err(error) if settings.source.follow && error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                let name = path.map_or_else(
                    || "standard input".to_owned(),
                    |path| path.display().to_string(),
                );
                return Err(Fault::Source { name, source });
            }
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

/// The rotated file that an earlier run was reading under the followed name, to be finished first.
fn rotated_away(settings: &Settings, committer: &Committer) -> Option<PathBuf> {
    let path = settings.source.path.as_ref()?;
    let name = path.display().to_string();
    let current = Input::open(Some(path)).ok();
    if current.is_some_and(|input| committer.checkpoint(&input).is_some()) {
        return None;
    }
    let stem = path.file_name()?.to_str()?.to_owned();
    let siblings = std::fs::read_dir(path.parent()?).ok()?;
    siblings
        .flatten()
        .map(|entry| entry.path())
        .filter(|sibling| sibling != path)
        .filter(|sibling| {
            sibling
                .file_name()
                .and_then(|n| n.to_str())
                .is_some_and(|n| n.starts_with(&stem))
        })
        .find(|sibling| {
            let known = Input::open(Some(sibling))
                .ok()
                .and_then(|input| committer.checkpoint(&input));
            known.is_some_and(|(_, checkpoint)| checkpoint.path == name)
        })
}

/// The key of the hashes in the store's folder, made on first use and readable by its owner only.
fn stored_key(store: &Path) -> Result<Vec<u8>, Fault> {
    let path = store.join("hash.key");
    let fault = |source| Fault::HashKey {
        path: path.clone(),
        source,
    };
    match std::fs::read(&path) {
        Ok(key) => return Ok(key.trim_ascii().to_vec()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(error)),
        Err(_) => {}
    }
    let mut random = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| fault(io::Error::other("no randomness")))?;
    let key = hex::encode(random);
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| {
        file.write_all(key.as_bytes())?;
        file.sync_all()
    });
    written.map_err(fault)?;
    Ok(key.into_bytes())
}
