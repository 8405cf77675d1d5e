//! The run loop: one reading thread, one judging thread, and the committer on the caller's task.

use std::collections::BTreeMap;
use std::io;
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
use super::partition::{Flush, Partition, keeping};
use super::stream::{Counts, Stream};
use super::{http, inputs, service};
use crate::config::{FileSource, PublishSettings, Settings, SourceKind};
use crate::correlate::JoinState;
use crate::enrich::{Judge, Shared};
use crate::model::EventTime;
use crate::publish::feed::Feed;
use crate::publish::file::TopicError;
use crate::source::file::{Input, Reading};
use crate::source::jwks::{Disk, JwksError, KeySets};
use crate::store::StoreSettings;
use crate::store::local::StoreError;
use crate::telemetry::{Part, Telemetry};
use crate::wire::http::BindError;

/// Chunks of about 1 MiB between reading and judging.
const CHUNKS_AHEAD: usize = 4;
/// Flushes between judging and storing, besides the one being filled and the one being stored.
const FLUSHES_AHEAD: usize = 1;
/// How often a pipeline without flushes sees to its block list, and looks for an input that is not there yet.
pub(super) const TEND_EVERY: Duration = Duration::from_millis(200);
/// How often a key set is looked for that was never had.
const LOOK: Duration = Duration::from_millis(20);
/// Stack of the reading and judging threads, bytes: JSON of 64 levels in builds without optimisation needs more than
/// the usual 2 MiB.
const STACK: usize = 16 << 20;

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
    /// The journal of the block list is not ours.
    #[error(
        "the journal of the block list is not readable: {0}\n  hint: a newer gatewatch may have written it, or somebody by hand; restore the store"
    )]
    BlockList(String),
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
    /// The service.
    #[error(transparent)]
    Service(#[from] super::service::ServiceFault),
    /// The port of the HTTP source cannot be had.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// Key sets by URL.
    #[error(transparent)]
    Keys(#[from] JwksError),
    /// A thread ended without a word.
    #[error("the {0} stage stopped unexpectedly")]
    Stage(&'static str),
}

impl Fault {
    /// Whether another process has the store or the topics.
    pub(super) fn is_locked(&self) -> bool {
        matches!(
            self,
            Self::Store(StoreError::Locked(_)) | Self::Topics(TopicError::Locked(_))
        )
    }
}

fn hint_of(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "
  hint: source.path is relative to the pipeline file"
        }
        io::ErrorKind::UnexpectedEof => {
            "
  hint: the compressed file is incomplete; copy it again, then run again"
        }
        io::ErrorKind::InvalidInput => {
            "
  hint: put the longer file back, or give the new input another first line"
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
    /// Exchanges that were not kept as evidence because their flush had its share.
    pub events_overflowed: u64,
    /// Events published by topic.
    pub published: BTreeMap<&'static str, u64>,
    /// Bytes of the input that an earlier run had counted already.
    pub resumed_at: u64,
    /// Records that retention removed before they were read.
    pub lost: u64,
    /// Flushes stored.
    pub flushes: u64,
    /// What judging tokens took.
    pub token_cache: crate::enrich::token::Counts,
    /// Whether the run was told to stop before its input ended.
    pub stopped: bool,
}

impl Summary {
    /// Adds a flush that is about to be stored.
    pub(super) fn add(&mut self, flush: &Flush) {
        self.flushes += 1;
        self.counts += flush.counts;
        self.overflowed += flush.batches.overflowed;
        self.entities_overflowed += flush.batches.entities_overflowed;
        self.events_overflowed += flush.batches.events_overflowed;
        for letter in &flush.rejected {
            *self.rejected.entry(letter.reason.as_str()).or_default() += 1;
        }
    }
}

/// Runs a pipeline to the end of its input, or until `stop` is set. Says in `telemetry` what it does. Of an embedded pipeline
/// `feed` is told the block list; of a service whoever has the feed reads the topic.
///
/// # Errors
/// A fault; a restart is safe.
pub async fn run(
    settings: &Arc<Settings>,
    stop: &Arc<AtomicBool>,
    telemetry: &Telemetry,
    feed: &Feed,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, Fault> {
    let Some(_keys) = key_sets(settings, stop, telemetry).await? else {
        return Ok(Summary {
            stopped: true,
            ..Summary::default()
        });
    };
    let (store, topics) = match (&settings.source.kind, &settings.store, &settings.publish) {
        (
            SourceKind::File(_) | SourceKind::Http(_),
            StoreSettings::Local(store),
            PublishSettings::File(topics),
        ) => (store, topics),
        (
            SourceKind::Kafka(source),
            StoreSettings::ClickHouse(store),
            PublishSettings::Kafka(publish),
        ) => {
            let key = settings.hash_key.clone().unwrap_or_default();
            let edges = (source, store.as_ref(), publish);
            return service::run(Arc::clone(settings), edges, &key, stop, telemetry, progress)
                .await;
        }
        (
            SourceKind::Http(source),
            StoreSettings::ClickHouse(store),
            PublishSettings::Kafka(publish),
        ) => {
            let key = settings.hash_key.clone().unwrap_or_default();
            let edges = (source, store.as_ref(), publish);
            return service::run_http(Arc::clone(settings), edges, &key, stop, telemetry, progress)
                .await;
        }
        // `config` refuses every other arrangement.
        _ => return Err(Fault::Stage("configuration")),
    };
    let mut committer = Committer::open(settings, store, topics, feed).await?;
    committer.metrics = telemetry.metrics.clone();
    telemetry.metrics.evaluator(true);
    let key = match &settings.hash_key {
        Some(key) => key.clone(),
        None => inputs::stored_key(store)?,
    };
    let shared = Arc::new(Shared::new(&key));
    let judge = Judge::new(Arc::clone(&settings.policy), Arc::clone(&shared));
    let source = match &settings.source.kind {
        SourceKind::File(source) => source,
        SourceKind::Http(source) => {
            let mut summary = http::run_embedded(
                (settings, source),
                &judge,
                &mut committer,
                stop,
                telemetry,
                progress,
            )
            .await?;
            summary.published.clone_from(&committer.published);
            summary.token_cache = shared.tokens.counts();
            return Ok(summary);
        }
        SourceKind::Kafka(_) => return Err(Fault::Stage("service")),
    };
    telemetry.health.ready(Part::Pipeline);
    let mut run = Run {
        settings,
        file: source,
        judge,
        committer,
        stop,
        telemetry,
        summary: Summary::default(),
        progress,
    };
    run.summary.stopped = !run.read_all().await?;
    run.summary.published.clone_from(&run.committer.published);
    run.summary.token_cache = shared.tokens.counts();
    Ok(run.summary)
}

/// Starts fetching the key sets that issuers serve, and waits until each was had once: a token judged without would be a
/// wrong verdict. `None` = told to stop meanwhile.
async fn key_sets(
    settings: &Settings,
    stop: &AtomicBool,
    telemetry: &Telemetry,
) -> Result<Option<KeySets>, Fault> {
    let sets = KeySets::start(&settings.policy, &telemetry.metrics, Disk::Keep)?;
    while let Some(reason) = sets.waiting() {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        telemetry.health.waits(Part::Keys, reason);
        tokio::time::sleep(LOOK).await;
    }
    telemetry.health.ready(Part::Keys);
    Ok(Some(sets))
}

/// One run of a pipeline.
struct Run<'r> {
    settings: &'r Settings,
    file: &'r FileSource,
    judge: Judge,
    committer: Committer,
    stop: &'r Arc<AtomicBool>,
    telemetry: &'r Telemetry,
    summary: Summary,
    progress: &'r mut dyn FnMut(Progress),
}

/// How the reading of one input ended.
enum Ended {
    /// At its end, and nothing follows; with the stream clock.
    Last(Option<EventTime>),
    /// It was rotated away; its successor follows.
    Rotated,
    /// Told to stop.
    Stopped,
}

impl Run<'_> {
    /// Reads every input to its end; `false` = told to stop before.
    async fn read_all(&mut self) -> Result<bool, Fault> {
        if self.file.follow {
            for path in inputs::rotated_away(self.file, &self.committer) {
                let Some(input) = self.open(Some(&path), false).await? else {
                    return Ok(false);
                };
                if matches!(
                    self.read(input, &path.display().to_string(), false).await?,
                    Ended::Stopped
                ) {
                    return Ok(false);
                }
            }
        }
        let path = self.file.path.as_deref();
        let follow = self.file.follow;
        loop {
            let Some(input) = self.open(path, follow).await? else {
                return Ok(false);
            };
            match self.read(input, &inputs::name_of(path), follow).await? {
                Ended::Last(clock) => {
                    self.committer.finish(clock.map(EventTime::millis)).await?;
                    return Ok(true);
                }
                Ended::Rotated => {}
                Ended::Stopped => return Ok(false),
            }
        }
    }

    /// Opens an input. A followed one may appear later; `None` = told to stop meanwhile.
    async fn open(&mut self, path: Option<&Path>, follow: bool) -> Result<Option<Input>, Fault> {
        loop {
            if let Some(input) = inputs::open(path, follow)? {
                return Ok(Some(input));
            }
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            self.committer.tend().await?;
            tokio::time::sleep(TEND_EVERY).await;
        }
    }

    /// Reads one input; `name` is where it lies now.
    async fn read(&mut self, input: Input, name: &str, follow: bool) -> Result<Ended, Fault> {
        let known = self.committer.checkpoint(&input);
        let newest = input.fingerprint(None);
        let outgrown = known
            .as_ref()
            .map(|(fingerprint, _)| fingerprint)
            .filter(|f| newest.as_ref() != Some(*f));
        let identity = Identity {
            outgrown: outgrown.map(|fingerprint| fingerprint.sha256.clone()),
            fingerprint: newest,
            name: inputs::name_of(self.file.path.as_deref()),
        };
        let checkpoint = known.map(|(_, checkpoint)| checkpoint).unwrap_or_default();
        self.summary.resumed_at = checkpoint.end;
        let (counted_to, size) = (checkpoint.end, input.size);
        let join = JoinState {
            from: checkpoint.from,
            clock: checkpoint.clock.and_then(EventTime::from_nanos),
            closed: checkpoint.closed,
        };
        let Settings {
            source,
            limits,
            correlate,
            ..
        } = self.settings;
        let judge = self.judge.clone();
        let stream = Stream::new(
            source.adapter.clone(),
            *limits,
            *correlate,
            judge,
            &join,
            counted_to,
        )
        .limited(self.settings.verifications);
        let keep_bytes = self.settings.dead_letter_bytes;
        let partition = Partition::new(stream, &self.judge, (name, 0), counted_to, keep_bytes)
            .keeping(keeping(&self.settings.evidence), &self.judge)
            .sparing(&self.settings.block_list.allow);

        let (lines_to, lines) = sync_channel(CHUNKS_AHEAD);
        let (spares_to, spares) = channel();
        let (flushes_to, flushes) = mpsc::channel(FLUSHES_AHEAD);
        let reading = Reading {
            from: join.from,
            counted_to,
            max_line: limits.event,
            follow,
            stop: Arc::clone(self.stop),
            to: lines_to,
            spares,
        };
        spawn("read", move || input.send(&reading))?;
        let judging = Judging {
            lines,
            spares_to,
            pace: Pace {
                flush_every: self.settings.flush_every,
                idle: self.settings.correlate_idle,
            },
            name: name.to_owned(),
            stop: Arc::clone(self.stop),
            to: flushes_to,
        };
        spawn("judge", move || judging.run(partition))?;
        self.commit_all(&identity, flushes, size).await
    }

    /// Stores flushes until there are no more.
    async fn commit_all(
        &mut self,
        identity: &Identity,
        mut flushes: mpsc::Receiver<Message>,
        size: u64,
    ) -> Result<Ended, Fault> {
        // The label of a file's only partition; its path would be a label that grows with every rotation.
        let topic = Arc::from("file");
        loop {
            let message = tokio::select! {
                message = flushes.recv() => message,
                () = tokio::time::sleep(TEND_EVERY) => {
                    self.committer.tend().await?;
                    continue;
                }
            };
            let Some(message) = message else {
                return Err(Fault::Stage("judging"));
            };
            match message {
                Message::Flush(flush, read) => {
                    self.summary.add(&flush);
                    let exchanges = self.summary.counts.exchanges;
                    let (halves, bytes) = flush.open;
                    self.committer.flush(identity, *flush).await?;
                    self.telemetry.metrics.join(&topic, 0, halves, bytes);
                    let tokens = self.judge.token_counts();
                    let metrics = &self.telemetry.metrics;
                    metrics.token_lookups(tokens.hits, tokens.misses);
                    metrics.token_work(tokens.signatures, tokens.not_evaluated);
                    (self.progress)(Progress {
                        read,
                        size,
                        exchanges,
                    });
                }
                Message::Ended { last: true, clock } => return Ok(Ended::Last(clock)),
                Message::Ended { last: false, .. } => return Ok(Ended::Rotated),
                Message::Stopped => return Ok(Ended::Stopped),
                Message::Failed(fault) => return Err(fault),
            }
        }
    }
}

/// Starts a named thread.
pub(super) fn spawn(name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
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
