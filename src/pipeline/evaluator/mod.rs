//! One evaluator at a time: who owns the one partition of the proposals judges the ticks and writes the results.
//!
//! Every node runs [`run`] on a thread of its own; all but one wait. What the one does is safe to interrupt anywhere:
//!
//! 1. A tick is judged and written to `detections`, with the events that follow from it and the evaluator's *term*.
//! 2. The events are published from there, in one transaction with the tick and the position in the proposals.
//! 3. Whoever takes over fences the predecessor, publishes what that had written and not yet published, and begins the
//!    next term by committing it. Rows of earlier terms that turn up later are void (`mark.rs` says why that holds).
//!
//! So no label event is repeated or forgotten, and an evaluator that was away cannot say anything any more. A tick that
//! changed nothing is stored only now and then: judging it again, perhaps over more rows than the first time, is
//! harmless, because nothing was said about it.
//!
//! After any doubt (a transaction of unknown outcome, a lost partition) the term ends and the next one begins from what
//! is stored; there is no second way to recover.

mod held;
mod ledger;
mod mark;
mod member;
mod sums;
mod term;
mod watching;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use datafusion::error::DataFusionError;
use rdkafka::error::KafkaError;
use thiserror::Error;
use tokio::runtime::Handle;

pub use self::sums::Sums;

use self::member::Member;
use self::term::{Desk, Ended, Term};
use super::listing::rules;
use crate::clock::Stopwatch;
use crate::config::{KafkaPublish, PublishSettings, Settings, SourceKind};
use crate::detect::thresholds::Threshold;
use crate::detect::{Limits, blocklist};
use crate::publish::kafka::{Cluster, PublishError};
use crate::publish::{self};
use crate::store::StoreSettings;
use crate::store::clickhouse::StoreError;
use crate::telemetry::Metrics;

/// How long one look for proposals takes, and so how often the ledger is asked.
const ROUND: Duration = Duration::from_millis(150);
/// How long a replica of the store may lag behind with what another one has stored.
const REPLICA_LAG: Duration = Duration::from_secs(30);
/// Shortest and longest pause before a term is begun again after it was interrupted.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(10)];

/// What an evaluator needs to know. Times of wall and event time are milliseconds.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Where results go.
    pub cluster: Cluster,
    /// The evaluators' consumer group.
    pub group: String,
    /// Options of the source's consumer; those about membership hold for the evaluators too.
    pub options: BTreeMap<String, String>,
    /// Distance of ticks.
    pub every: i64,
    /// How far the watermark must be past a tick.
    pub lateness: i64,
    /// Wall time after which a partition that delivers nothing no longer holds the watermark back.
    pub idle: i64,
    /// What a configuration changes about labels.
    pub limits: Limits,
    /// What it says about the block list.
    pub rules: blocklist::Rules,
    /// Thresholds over what entities do.
    pub thresholds: Vec<Threshold>,
    /// How old events may be that list somebody, milliseconds; `None` = as old as they are.
    pub max_age: Option<i64>,
    /// How late a row of the ledger can turn up: as long as an insert is repeated.
    pub overlap: i64,
    /// How far event time may be ahead of wall time.
    pub future: i64,
    /// How long a replica of the store may lag behind; 0 = it is not replicated.
    pub replica_lag: i64,
}

impl Plan {
    /// The plan of a pipeline; `None` when it has no evaluator, because its store or its topics are files.
    #[must_use]
    pub fn of(settings: &Settings) -> Option<Self> {
        let PublishSettings::Kafka(publish) = &settings.publish else {
            return None;
        };
        let StoreSettings::ClickHouse(store) = &settings.store else {
            return None;
        };
        let (group, options) = match &settings.source.kind {
            SourceKind::Kafka(source) => (source.group.clone(), source.options.clone()),
            _ => (format!("gatewatch-{}", settings.name), BTreeMap::new()),
        };
        let detect = &settings.detect;
        Some(Self {
            pipeline: settings.name.clone(),
            cluster: Cluster::from(publish),
            group: format!("{group}.evaluator"),
            options,
            every: millis(detect.every),
            lateness: millis(detect.lateness),
            idle: millis(detect.idle),
            limits: Limits {
                excluded_methods: detect.excluded_methods.clone(),
                min_successful: detect.min_successful,
            },
            rules: rules(settings),
            thresholds: settings.block_list.thresholds.clone(),
            max_age: settings.block_list.max_age,
            overlap: millis(store.deadline + Duration::from_mins(1)),
            future: millis(settings.future),
            replica_lag: if store.replicated {
                millis(REPLICA_LAG)
            } else {
                0
            },
        })
    }
}

impl From<&KafkaPublish> for Cluster {
    fn from(publish: &KafkaPublish) -> Self {
        Self {
            brokers: publish.brokers.clone(),
            options: publish.options.clone(),
            prefix: publish.prefix.clone(),
            replication: publish.replication,
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What the evaluator of this process did, for metrics.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// 1 while this process is the evaluator, else 0.
    pub owner: Arc<AtomicU64>,
    /// Terms begun.
    pub terms: Arc<AtomicU64>,
    /// Ticks judged.
    pub ticks: Arc<AtomicU64>,
    /// Label and insight events published.
    pub changes: Arc<AtomicU64>,
    /// Proposals that changed something, or had nothing to change.
    pub applied: Arc<AtomicU64>,
    /// Proposals refused, unreadable ones included.
    pub refused: Arc<AtomicU64>,
    /// Entries of the block list.
    pub entries: Arc<AtomicU64>,
    /// The watermark, epoch milliseconds; 0 before the first.
    pub watermark: Arc<AtomicI64>,
    /// Where what became of proposals is counted.
    pub metrics: Metrics,
}

/// Why the evaluator ended early. A restart is safe.
#[derive(Debug, Error)]
pub enum EvaluatorError {
    /// Kafka.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A transaction was refused for good.
    #[error(
        "publishing as {group} at {brokers} is refused: {source}\n  hint: the user needs rights on transactional ids and groups that start so, and on the topics {prefix}*"
    )]
    Refused {
        /// The evaluators' group, which also names the transactional id.
        group: String,
        /// The cluster.
        brokers: String,
        /// What topic names start with.
        prefix: String,
        /// What the cluster says.
        source: Box<KafkaError>,
    },
    /// ClickHouse.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Sums cannot be added up, which is a bug.
    #[error("adding up windows failed: {0}")]
    Sum(#[from] DataFusionError),
    /// Detections are not ours.
    #[error(
        "the detections of tick {tick} are not readable: {source}\n  hint: a newer gatewatch may have written them"
    )]
    Unreadable {
        /// The tick, epoch milliseconds.
        tick: i64,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// What was committed is not ours.
    #[error(
        "the group {group} has committed {metadata:?}, which is not the evaluator's: {problem}\n  hint: give source.group a name that nobody else uses"
    )]
    Mark {
        /// The evaluators' group.
        group: String,
        /// What was committed.
        metadata: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The detections that were published last are gone.
    #[error(
        "results up to tick {tick} were published, but the store has no detections of that tick\n  hint: restore the table `detections`; after starting anew with an empty database, delete the group {group} too"
    )]
    Missing {
        /// The tick, epoch milliseconds.
        tick: i64,
        /// The evaluators' group.
        group: String,
    },
}

/// Waits for the seat of the evaluator, and evaluates while it has it; until `stop` is set. Blocks; `handle` is the
/// runtime that drives the store's connections.
///
/// # Errors
/// A fault; a restart is safe. Clusters that are not reachable are waited for.
pub fn run(
    plan: &Plan,
    store: &impl Sums,
    handle: &Handle,
    counters: &Counters,
    stop: &AtomicBool,
) -> Result<(), EvaluatorError> {
    let outcome = follow(plan, store, handle, counters, stop);
    counters.owner.store(0, Ordering::Relaxed);
    outcome
}

fn follow(
    plan: &Plan,
    store: &impl Sums,
    handle: &Handle,
    counters: &Counters,
    stop: &AtomicBool,
) -> Result<(), EvaluatorError> {
    let member = Member::join(
        &plan.cluster,
        &plan.group,
        publish::PROPOSALS,
        &plan.options,
    )?;
    let desk = Desk {
        plan,
        store,
        handle,
        counters,
        stop,
        member: &member,
    };
    let mut term: Option<Term<'_, _>> = None;
    let mut pause = Pause::default();
    let mut busy = false;
    while !stop.load(Ordering::Relaxed) {
        let proposed = member.proposed(if busy { Duration::ZERO } else { ROUND })?;
        let seat = member.seat();
        if term.as_ref().is_some_and(|term| Some(term.seat()) != seat) {
            tracing::info!("another node evaluates now");
            term = None;
        }
        counters
            .owner
            .store(u64::from(term.is_some()), Ordering::Relaxed);
        busy = false;
        let outcome = match (&mut term, seat) {
            (Some(term), _) => term.round(&proposed).map(|more| busy = more),
            (None, Some(seat)) if pause.is_over() => Term::begin(desk, seat).map(|begun| {
                tracing::info!("this node evaluates");
                term = Some(begun);
            }),
            _ => Ok(()),
        };
        match outcome {
            Ok(()) if term.is_some() => pause = Pause::default(),
            Ok(()) => {}
            Err(Ended::Stopped) => break,
            Err(Ended::Fault(fault)) => return Err(fault),
            Err(Ended::Interrupted(reason)) => {
                tracing::warn!("evaluation is interrupted and starts over: {reason}");
                term = None;
                pause.next();
            }
        }
    }
    Ok(())
}

/// The time before a term is begun again.
#[derive(Default)]
struct Pause(Option<(Stopwatch, Duration)>);

impl Pause {
    fn is_over(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|(since, pause)| since.elapsed() >= *pause)
    }

    fn next(&mut self) {
        let [shortest, longest] = PAUSES;
        let pause = self
            .0
            .as_ref()
            .map_or(shortest, |(_, pause)| (*pause * 2).min(longest));
        self.0 = Some((Stopwatch::start(), pause));
    }
}
