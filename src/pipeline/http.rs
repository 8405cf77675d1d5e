//! Batches of the HTTP source → flushes → answers.
//!
//! A batch is a finite input of its own: its join starts empty and is drained at its end, so nothing that was answered
//! lives in memory only, and what a batch means depends neither on those before it nor on those beside it. Batches that
//! come close together share a flush. A sender is answered when every flush with a part of its batch is stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::commit::{Committer, Identity};
use super::partition::{Flush, Partition, keeping};
use super::run::{Fault, Progress, Summary, TEND_EVERY, spawn};
use super::stream::Stream;
use crate::clock::Stopwatch;
use crate::config::{HttpSource, Settings};
use crate::correlate::JoinState;
use crate::enrich::Judge;
use crate::model::EventTime;
use crate::source::file::TooLong;
use crate::source::http::{self, Batch, MAX_LISTED, Receipt, Reply};
use crate::telemetry::{Part, Telemetry};
use crate::wire::http::Server;

/// What dead letters of batches start with; the name of the batch follows.
const SOURCE: &str = "http";
/// Groups between judging and storing, besides the one being filled and the one being stored.
const GROUPS_AHEAD: usize = 1;
/// How often the wish to stop is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What the judging thread says.
enum Message {
    /// Something to store, and whom to answer afterwards.
    Group(Group),
    /// The source has ended and everything was handed on.
    Ended,
    /// The thread cannot go on.
    Failed(Fault),
}

/// Batches that are stored together.
#[derive(Default)]
struct Group {
    /// Nothing when the batches held no record at all.
    flush: Option<Box<Flush>>,
    /// Batches that end in this flush.
    answers: Vec<(Reply, Receipt)>,
}

/// Runs an HTTP source into the embedded store until `stop` is set.
///
/// # Errors
/// The port cannot be had, or the disk refuses. Batches without an answer are repeated by their senders.
pub(super) async fn run_embedded(
    source: (&Settings, &HttpSource),
    judge: &Judge,
    committer: &mut Committer,
    stop: &Arc<AtomicBool>,
    telemetry: &Telemetry,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, Fault> {
    let identity = Identity {
        fingerprint: None,
        name: SOURCE.to_owned(),
        outgrown: None,
    };
    let store = async |flush| match flush {
        Some(flush) => committer.flush(&identity, flush).await,
        None => committer.tend().await,
    };
    run(source, judge, store, stop, telemetry, progress).await
}

/// Runs an HTTP source until `stop` is set, then stores what was begun. `store` returns when a flush is durable; it
/// repeats by itself what may be repeated, and while it does, senders wait and then are told to come again. Without a flush it
/// is called to say that time has passed.
///
/// # Errors
/// The port cannot be had, or a fault of `store`: nothing of its flush is answered.
pub async fn run(
    (settings, source): (&Settings, &HttpSource),
    judge: &Judge,
    store: impl AsyncFnMut(Option<Flush>) -> Result<(), Fault>,
    stop: &Arc<AtomicBool>,
    telemetry: &Telemetry,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, Fault> {
    let token = source.token.as_deref();
    let listening = http::listen(source.listen, token, &telemetry.metrics).await?;
    take(listening, settings, judge, store, stop, telemetry, progress).await
}

async fn take(
    (server, batches): (Server, Receiver<Batch>),
    settings: &Settings,
    judge: &Judge,
    mut store: impl AsyncFnMut(Option<Flush>) -> Result<(), Fault>,
    stop: &Arc<AtomicBool>,
    telemetry: &Telemetry,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, Fault> {
    let stream = Stream::new(
        settings.source.adapter.clone(),
        settings.limits,
        settings.correlate,
        judge.clone(),
        &JoinState::default(),
        0,
    )
    .limited(settings.verifications);
    let (to, mut messages) = mpsc::channel(GROUPS_AHEAD);
    let grouping = Grouping {
        batches,
        partition: Partition::new(stream, judge, (SOURCE, 0), 0, settings.dead_letter_bytes)
            .keeping(keeping(&settings.evidence), judge)
            .sparing(&settings.block_list.allow),
        group: Group::default(),
        clock: None,
        flush_every: settings.flush_every,
        future: i64::try_from(settings.future.as_millis()).unwrap_or(i64::MAX),
        max_event: settings.limits.event,
        stop: Arc::clone(stop),
        to,
    };
    spawn("judge", move || grouping.run())?;
    telemetry.health.ready(Part::Pipeline);
    tracing::info!("taking events at http://{}/events", server.address());

    let stopper = server.stopper();
    let (asked, health) = (Arc::clone(stop), telemetry.health.clone());
    let watcher = tokio::spawn(async move {
        while !asked.load(Ordering::Relaxed) {
            sleep(LOOK).await;
        }
        health.waits(Part::Pipeline, "stopping");
        stopper.stop();
    });
    let mut summary = Summary::default();
    let mut read = 0;
    let outcome = async {
        loop {
            let message = tokio::select! {
                message = messages.recv() => message,
                () = sleep(TEND_EVERY) => {
                    store(None).await?;
                    continue;
                }
            };
            let Some(message) = message else {
                return Err(Fault::Stage("judging"));
            };
            match message {
                Message::Group(group) => {
                    if let Some(flush) = group.flush {
                        summary.add(&flush);
                        store(Some(*flush)).await?;
                    }
                    for (reply, receipt) in group.answers {
                        read += receipt.bytes;
                        reply.stored(receipt);
                    }
                    let tokens = judge.token_counts();
                    telemetry.metrics.token_lookups(tokens.hits, tokens.misses);
                    telemetry
                        .metrics
                        .token_work(tokens.signatures, tokens.not_evaluated);
                    progress(Progress {
                        read,
                        size: 0,
                        exchanges: summary.counts.exchanges,
                    });
                }
                Message::Ended => return Ok(()),
                Message::Failed(fault) => return Err(fault),
            }
        }
    }
    .await;
    // After a fault nobody judges any more: whoever still waits hears that its batch was not stored.
    drop(messages);
    watcher.abort();
    server.stop().await;
    outcome.map(|()| summary)
}

/// The judging thread: batches in, groups out.
struct Grouping {
    batches: Receiver<Batch>,
    partition: Partition,
    group: Group,
    /// Greatest event time of all batches; each one's own clock starts anew.
    clock: Option<EventTime>,
    flush_every: Duration,
    future: i64,
    max_event: usize,
    stop: Arc<AtomicBool>,
    to: mpsc::Sender<Message>,
}

/// The storing side has gone away; it has its own reason to say.
struct Gone;

impl Grouping {
    /// Judges until the source ends or the storing side goes away.
    fn run(mut self) {
        if let Ok(last_words) = self.judge() {
            let _ = self.to.blocking_send(last_words);
        }
    }

    /// A batch that comes alone is stored at once. Those that come sooner than `flush_every` after the last flush wait for each
    /// other, so that the store gets about one block in that time however many senders there are.
    fn judge(&mut self) -> Result<Message, Gone> {
        let mut since_flush: Option<Stopwatch> = None;
        loop {
            let left = since_flush.map_or(Duration::ZERO, |since| {
                self.flush_every.saturating_sub(since.elapsed())
            });
            let waiting = !self.group.answers.is_empty();
            let stopping = self.stop.load(Ordering::Relaxed);
            let wait = match (waiting, stopping) {
                (true, true) => Duration::ZERO,
                (true, false) => left.min(LOOK),
                (false, _) => LOOK,
            };
            match self.batches.recv_timeout(wait) {
                Ok(batch) => {
                    if let Some(fault) = self.apply(batch)? {
                        return Ok(Message::Failed(fault));
                    }
                }
                Err(RecvTimeoutError::Timeout) if !waiting || !(left.is_zero() || stopping) => {}
                Err(error) => {
                    since_flush = Some(Stopwatch::start());
                    if let Some(fault) = self.cut()? {
                        return Ok(Message::Failed(fault));
                    }
                    if error == RecvTimeoutError::Disconnected {
                        return Ok(Message::Ended);
                    }
                }
            }
        }
    }

    /// Judges one batch from its first line to its last.
    fn apply(&mut self, batch: Batch) -> Result<Option<Fault>, Gone> {
        let Some(name) = batch_name() else {
            return Ok(Some(Fault::Stage("random numbers")));
        };
        let latest = batch
            .arrived
            .and_then(|at| EventTime::from_millis(at.millis().saturating_add(self.future)));
        let mut receipt = Receipt {
            bytes: batch.body.len() as u64,
            ..Receipt::default()
        };
        self.partition.begin(&format!("{SOURCE}/{name}"));
        receipt.batch = name;
        let mut offset = 0;
        for (number, line) in (1..).zip(batch.body.split_inclusive(|byte| *byte == b'\n')) {
            let end = offset + line.len();
            let refused = self.partition.rejected().len();
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let (from, to) = (offset as u64, end as u64);
            if line.len() > self.max_event {
                let too_long = TooLong {
                    len: line.len() as u64,
                    sha256: hex::encode(digest(&SHA256, line)),
                };
                self.partition.refuse(&too_long, from, to);
            } else {
                self.partition.apply(line, from, to, latest);
            }
            if let Some(letter) = self.partition.rejected().get(refused) {
                receipt.refused += 1;
                if receipt.rejected.len() < MAX_LISTED {
                    receipt.rejected.push((number, letter.reason));
                }
            } else if !line.trim_ascii().is_empty() {
                receipt.accepted += 1;
            }
            offset = end;
            if self.partition.full(1)
                && let Some(fault) = self.cut()?
            {
                return Ok(Some(fault));
            }
        }
        self.partition.drain();
        self.clock = self.clock.max(self.partition.clock());
        self.group.answers.push((batch.reply, receipt));
        Ok(None)
    }

    /// Hands on what there is. A batch that is not at its end is answered with a later group.
    fn cut(&mut self) -> Result<Option<Fault>, Gone> {
        let mut group = std::mem::take(&mut self.group);
        if !self.partition.idle() {
            self.clock = self.clock.max(self.partition.clock());
            match self.partition.take() {
                Ok(mut flush) => {
                    flush.clock = self.clock;
                    group.flush = Some(Box::new(flush));
                }
                Err(error) => return Ok(Some(error.into())),
            }
        }
        if group.flush.is_some() || !group.answers.is_empty() {
            let sent = self.to.blocking_send(Message::Group(group));
            sent.map_err(|_| Gone)?;
        }
        Ok(None)
    }
}

/// A name that no other batch of any node has.
fn batch_name() -> Option<String> {
    let mut random = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut random).ok()?;
    Some(hex::encode(random))
}

#[cfg(test)]
mod tests;
