//! Where a pipeline's block list lives, how it is read there, and how somebody proposes to it.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use super::escaped;
use crate::clock::Stopwatch;
use crate::config::{PublishSettings, Settings};
use crate::model::{BlockEntry, Proposal};
use crate::pipeline::Desk;
use crate::pipeline::evaluator::Plan;
use crate::publish::blocklist::{self as wire, Answer, Entry, lines};
use crate::publish::file;
use crate::publish::kafka::{Log, Outbox, Read, read_compacted};
use crate::publish::{BLOCK_LIST, PROPOSALS};
use crate::store::StoreSettings;
use crate::store::local::{committed_journal, inbox, topic_length};

/// How long one look for an outcome in Kafka takes.
const LOOK: Duration = Duration::from_millis(250);
/// How often a local store is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where a block list lives.
pub(super) enum Home<'s> {
    /// In topics; the evaluator writes it.
    Kafka(Box<Plan>),
    /// In a local store; whoever has it open writes it.
    Local {
        settings: &'s Settings,
        store: &'s Path,
        topics: &'s Path,
    },
}

impl<'s> Home<'s> {
    /// The home of a pipeline's list.
    pub(super) fn of(settings: &'s Settings) -> anyhow::Result<Self> {
        if let Some(plan) = Plan::of(settings) {
            return Ok(Self::Kafka(Box::new(plan)));
        }
        match (&settings.store, &settings.publish) {
            (StoreSettings::Local(store), PublishSettings::File(topics)) => Ok(Self::Local {
                settings,
                store,
                topics,
            }),
            _ => bail!("this arrangement of store and topics has no block list"),
        }
    }

    /// What is listed at `now`, epoch milliseconds, by key.
    pub(super) fn entries(&self, now: i64) -> anyhow::Result<Vec<BlockEntry>> {
        let mut entries = match self {
            Self::Kafka(plan) => published(plan)?,
            Self::Local {
                settings, store, ..
            } => {
                let journal = committed_journal(store)?;
                let held = lines::read(&settings.name, &journal);
                let held = held.map_err(anyhow::Error::msg);
                let held = held.context("the journal of the block list is not readable")?;
                held.entries.into_values().collect()
            }
        };
        // An entry is over when its time is, also while nobody is there to say so.
        entries.retain(|entry| entry.expires_at > now);
        Ok(entries)
    }

    /// Proposes, and waits for the outcome.
    pub(super) fn propose(&self, proposal: &Proposal, wait: Duration) -> anyhow::Result<Answer> {
        match self {
            Self::Kafka(plan) => {
                let Some(answer) = propose_to_evaluator(plan, proposal, wait)? else {
                    bail!(
                        "no evaluator answered within {wait:?}; the proposal stands in {} and is applied when one runs\n  hint: is `gatewatch run` running for this pipeline?",
                        plan.cluster.topic(PROPOSALS)
                    );
                };
                Ok(answer)
            }
            Self::Local {
                settings,
                store,
                topics,
            } => {
                let Some(answer) = leave(settings, (store, topics), proposal, wait)? else {
                    bail!(
                        "the process that has the store {} did not answer within {wait:?}; the proposal stands in its inbox and is applied later\n  hint: it may be busy with a large input; `gatewatch blocklist … show` tells when it was applied",
                        store.display()
                    );
                };
                Ok(answer)
            }
        }
    }
}

/// The entries in the topic of this pipeline.
fn published(plan: &Plan) -> anyhow::Result<Vec<BlockEntry>> {
    let held = read_compacted(&plan.cluster, BLOCK_LIST)?;
    let mut entries = Vec::new();
    for (key, record) in &held {
        match wire::read_entry(&plan.pipeline, key, record) {
            Ok(entry) => entries.extend(entry),
            Err(problem) => eprintln!(
                "warning: the entry {} is not readable: {problem}",
                escaped(key)
            ),
        }
    }
    Ok(entries)
}

/// Sends a proposal and waits for its outcome; `None` = there was none in time.
fn propose_to_evaluator(
    plan: &Plan,
    proposal: &Proposal,
    wait: Duration,
) -> anyhow::Result<Option<Answer>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let watch = Stopwatch::start();
    // The end of the log before the proposal is written: its outcome stands behind it.
    let mut log = Log::tail(&plan.cluster, PROPOSALS)?;
    let outbox = Outbox::open(&plan.cluster)?;
    let message = wire::proposal(&plan.pipeline, proposal);
    runtime.block_on(async {
        let left = wait.saturating_sub(watch.elapsed()).max(LOOK);
        match tokio::time::timeout(left, outbox.write(&[message])).await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => bail!(
                "Kafka at {} did not take the proposal within {wait:?}",
                plan.cluster.brokers
            ),
        }
    })?;
    while watch.elapsed() < wait {
        if let Read::Record(record) = log.next(LOOK)? {
            let value = record.value.unwrap_or_default();
            if let Some(answer) = answer(&plan.pipeline, &value, &proposal.id) {
                return Ok(Some(answer));
            }
        }
    }
    Ok(None)
}

/// Leaves a proposal for whoever has the store, which is this process when nobody else has it; `None` = there was no
/// outcome in time.
fn leave(
    settings: &Settings,
    (store, topics): (&Path, &Path),
    proposal: &Proposal,
    wait: Duration,
) -> anyhow::Result<Option<Answer>> {
    let watch = Stopwatch::start();
    // Only what is committed counts: the rest of the file may be cut off.
    let mut read_to = topic_length(store, PROPOSALS)?;
    let path = file::path(topics, PROPOSALS);
    let message = wire::proposal(&settings.name, proposal);
    inbox::leave(store, &message.value.unwrap_or_default())?;
    loop {
        if let Some(mut desk) = Desk::open(settings)? {
            desk.tend()?;
        }
        let committed = topic_length(store, PROPOSALS)?;
        let lines = between(&path, read_to, committed);
        let lines = lines.with_context(|| format!("cannot read {}", path.display()))?;
        read_to = committed;
        let mut lines = lines.split(|byte| *byte == b'\n');
        let found = lines.find_map(|line| answer(&settings.name, line, &proposal.id));
        if found.is_some() || watch.elapsed() >= wait {
            return Ok(found);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The outcome of one proposal, if the record is that.
fn answer(pipeline: &str, record: &[u8], id: &str) -> Option<Answer> {
    match wire::parse(pipeline, record) {
        Ok(Entry::Outcome(answer)) if answer.proposal == id => Some(answer),
        _ => None,
    }
}

/// The bytes of a file between two offsets; nothing of one that is not there yet.
fn between(path: &Path, from: u64, to: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if to <= from {
        return Ok(bytes);
    }
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(bytes),
        Err(error) => return Err(error),
    };
    file.seek(SeekFrom::Start(from))?;
    file.take(to - from).read_to_end(&mut bytes)?;
    Ok(bytes)
}
