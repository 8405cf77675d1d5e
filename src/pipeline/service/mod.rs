//! The service: Kafka in, ClickHouse, Kafka out, exactly once (design section 6).
//!
//! ```text
//! polling thread ──records──▶ judging threads ──flushes──▶ one task per partition ──▶ ClickHouse, topics, ledger
//!        ▲                                                        │
//!        └───────────────── commits of an epoch ──────────────────┘
//! ```
//!
//! The task here only wires: it starts an owner for every assignment, ends it at the revocation, and ends the run at
//! the first fault. Nothing coordinates nodes but Kafka's group and the ledger.

mod edges;
mod http;
mod mark;
mod owner;
pub mod repair;
mod resume;
mod worker;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use datafusion::error::DataFusionError;
use thiserror::Error;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{AbortHandle, JoinSet};

pub(super) use self::http::run_http;

use self::edges::Edges;
use self::owner::Policy;
use self::worker::{Pace, Work, Workers};
use super::evaluator::{self, EvaluatorError, Plan};
use super::run::{Fault, Progress, Summary, spawn};
use crate::clock::Stopwatch;
use crate::config::{KafkaPublish, KafkaSource, Settings};
use crate::enrich::{Judge, Shared};
use crate::publish::kafka::PublishError;
use crate::source::kafka::{self as source, Event, Lag, Lease, Request, Requests, SourceError};
use crate::store::clickhouse::{self, StoreError};
use crate::telemetry::{Metrics, Part, Telemetry};

/// How often the stop flag is looked at.
const TICK: Duration = Duration::from_millis(100);
/// How long leaving the group may take after a fault.
const LEAVE: Duration = Duration::from_secs(3);
/// How long flushes under way may take once the service is told to stop.
const GRACE: Duration = Duration::from_secs(20);

/// Why the service ended early. Everything in the ledger counts, and a restart goes on from there.
#[derive(Debug, Error)]
pub enum ServiceFault {
    /// Kafka, as a source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// ClickHouse.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Kafka, as a publisher.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Labels, insights and the block list.
    #[error(transparent)]
    Evaluator(#[from] EvaluatorError),
    /// The rows of a flush cannot be summed, which is a bug.
    #[error("summing windows failed: {0}")]
    Sum(DataFusionError),
    /// Commit metadata cannot be written, which is a bug.
    #[error("forming commit metadata failed: {0}")]
    Mark(serde_json::Error),
    /// Records are gone before they were read.
    #[error(
        "{at}: records {from} to {to} are gone before they were read\n  hint: retention of the topic is shorter than the \
         service was away; write source.on_gap = \"continue\" to count them and go on"
    )]
    Gap {
        /// Topic and partition.
        at: String,
        /// First record that is gone.
        from: u64,
        /// First record that is left.
        to: u64,
    },
    /// The position lies behind the end of the partition.
    #[error(
        "{at}: the position {position} lies behind the end {high} of the partition\n  hint: the topic was made anew under \
         its old name; give the pipeline another name or another topic, because offsets are what nothing is counted twice by"
    )]
    Beyond {
        /// Topic and partition.
        at: String,
        /// Position.
        position: u64,
        /// End.
        high: u64,
    },
    /// The ledger lost the row that a position needs.
    #[error(
        "{at}: the ledger has no row that ends at the committed offset {offset}, and the join state was too long to travel \
         with the offset\n  hint: the table `flushes` was emptied; see `gatewatch repair`"
    )]
    NoLedger {
        /// Topic and partition.
        at: String,
        /// Committed offset.
        offset: u64,
    },
    /// A decision while the service is at work.
    #[error(
        "the group {0} has members, so nothing was changed\n  hint: stop every `gatewatch run` of this pipeline, wait for their \
         session timeout, and try again"
    )]
    Busy(String),
    /// An unfinished flush cannot be repeated safely any more.
    #[error(
        "{at}: the flush of records {first} to {end} was begun and not finished, and {blocks} blocks were written since; \
         ClickHouse remembers {window}, so nobody can tell what of it is stored\n  hint: `gatewatch repair` shows the range \
         and takes your decision to repeat or to skip it"
    )]
    Outlived {
        /// Topic and partition.
        at: String,
        /// First record.
        first: u64,
        /// Record after the last one.
        end: u64,
        /// Blocks written since.
        blocks: u64,
        /// Blocks that are remembered.
        window: u64,
    },
}

/// What the owners of all partitions share.
struct Service {
    edges: Edges,
    judge: Judge,
    workers: Workers,
    requests: Requests,
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// A fault; a restart is safe.
pub(super) async fn run(
    settings: Arc<Settings>,
    (consumer, store, publish): (&KafkaSource, &clickhouse::Settings, &KafkaPublish),
    key: &[u8],
    stop: &Arc<AtomicBool>,
    telemetry: &Telemetry,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, Fault> {
    let edges = Edges::connect(&settings, (store, publish), stop, telemetry).await?;
    let Some(edges) = edges else {
        return Ok(Summary::default());
    };
    let shared = Arc::new(Shared::new(key));
    let judge = Judge::new(Arc::clone(&settings.policy), Arc::clone(&shared));
    let (faults_to, mut faults) = unbounded_channel();
    let pace = Pace {
        flush_every: settings.flush_every,
        idle: settings.correlate_idle,
        future: i64::try_from(settings.future.as_millis()).unwrap_or(i64::MAX),
    };
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let workers = Workers::start(threads, pace, &faults_to)?;
    let (events_to, mut events) = unbounded_channel();
    let records_to = workers.share();
    let lag = Lag::default();
    let source_settings = source::Settings {
        brokers: consumer.brokers.clone(),
        topics: consumer.topics.clone(),
        group: consumer.group.clone(),
        options: consumer.options.clone(),
    };
    let requests = source::start(&source_settings, &lag, move |event| match event {
        Event::Records(batch) => {
            let lease = batch.lease.clone();
            records_to.send(&lease, Work::Records(batch));
        }
        Event::Reached(lease, offset) => {
            records_to.send(&lease.clone(), Work::Reached(lease, offset));
        }
        // The run may have ended; then nobody needs to know.
        other => drop(events_to.send(other)),
    })
    .map_err(ServiceFault::from)?;
    let service = Arc::new(Service {
        edges,
        judge,
        workers,
        requests,
    });
    let policy = Policy {
        start: consumer.start,
        on_gap: consumer.on_gap,
    };
    let counters = evaluator::Counters {
        metrics: service.edges.telemetry.metrics.clone(),
        ..evaluator::Counters::default()
    };
    let (evaluating, mut evaluated) = evaluate(&service.edges, &counters)?;
    let mut wiring = Wiring {
        meter: Meter::new(counters),
        service: Arc::clone(&service),
        policy,
        lag,
        owners: JoinSet::new(),
        running: HashMap::new(),
    };
    telemetry.health.ready(Part::Pipeline);
    telemetry
        .health
        .waits(Part::Source, "not a member of the group yet");
    let outcome = wiring
        .run((&mut events, &mut evaluated), &mut faults, stop, progress)
        .await;
    evaluating.store(true, Ordering::Relaxed);
    wiring.owners.abort_all();
    service.requests.send(Request::Stop);
    if let Err(fault) = outcome {
        // The others need not wait for a timeout here either, but a fault is not held up for long.
        drop(tokio::time::timeout(LEAVE, leave(&mut events)).await);
        return Err(fault);
    }
    // Whoever takes over need not wait for a timeout: both groups are left in order.
    drop(tokio::time::timeout(GRACE, evaluated).await);
    leave(&mut events).await;
    let mut summary = service.edges.summary();
    summary.token_cache = shared.tokens.counts();
    Ok(summary)
}

/// Brings what the evaluator counts into the metrics.
struct Meter {
    counters: evaluator::Counters,
    ticks: u64,
}

impl Meter {
    fn new(counters: evaluator::Counters) -> Self {
        Self { counters, ticks: 0 }
    }

    fn measure(&mut self, metrics: &Metrics) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        metrics.evaluator(read(&self.counters.owner) > 0);
        let ticks = read(&self.counters.ticks);
        metrics.ticked(ticks - std::mem::replace(&mut self.ticks, ticks));
        let watermark = self.counters.watermark.load(Ordering::Relaxed);
        if watermark > 0 {
            metrics.watermark(watermark);
        }
    }
}

/// How the evaluator's thread ends.
type Evaluated = tokio::sync::oneshot::Receiver<Result<(), Fault>>;

/// Starts the evaluator's thread; setting the flag ends it. It goes on until the last flush of this process is stored.
fn evaluate(
    edges: &Edges,
    counters: &evaluator::Counters,
) -> Result<(Arc<AtomicBool>, Evaluated), Fault> {
    let plan = Plan::of(&edges.settings).ok_or(Fault::Stage("evaluating"))?;
    let stop = Arc::new(AtomicBool::new(false));
    let (to, ended) = tokio::sync::oneshot::channel();
    let (flag, store, counters) = (Arc::clone(&stop), edges.store.clone(), counters.clone());
    let runtime = tokio::runtime::Handle::current();
    spawn("evaluate", move || {
        let outcome = evaluator::run(&plan, &store, &runtime, &counters, &flag);
        // The run may have ended first.
        drop(to.send(outcome.map_err(|error| ServiceFault::from(error).into())));
    })?;
    Ok((stop, ended))
}

/// Waits until the polling thread has left the group, so that others take over at once.
async fn leave(events: &mut UnboundedReceiver<Event>) {
    let left = async {
        while let Some(event) = events.recv().await {
            if matches!(event, Event::Stopped | Event::Failed(_)) {
                return;
            }
        }
    };
    if tokio::time::timeout(GRACE, left).await.is_err() {
        tracing::warn!("Kafka does not answer; the group will notice by itself that we are gone");
    }
}

/// Starts and ends the owners of partitions.
struct Wiring {
    service: Arc<Service>,
    policy: Policy,
    lag: Lag,
    meter: Meter,
    owners: JoinSet<Result<(), ServiceFault>>,
    running: HashMap<Lease, AbortHandle>,
}

impl Wiring {
    /// Until a fault, or until everything is stored after the stop flag was set.
    async fn run(
        &mut self,
        (events, evaluated): (&mut UnboundedReceiver<Event>, &mut Evaluated),
        faults: &mut UnboundedReceiver<Fault>,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Fault> {
        let mut stopping: Option<Stopwatch> = None;
        // Closed once every judging thread has nothing left.
        let (mut working, mut finished) = {
            let (working, finished) = unbounded_channel::<()>();
            (Some(working), finished)
        };
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(Event::Failed(error)) => return Err(ServiceFault::from(error).into()),
                    Some(Event::Stopped) | None => return Ok(()),
                    Some(event) => self.follow(event),
                },
                Some(fault) = faults.recv() => return Err(fault),
                ended = &mut *evaluated => {
                    ended.unwrap_or(Err(Fault::Stage("evaluating")))?;
                    return Err(Fault::Stage("evaluating"));
                }
                Some(ended) = self.owners.join_next() => match ended {
                    Ok(outcome) => outcome?,
                    // Ended by us at a revocation.
                    Err(error) if error.is_cancelled() => {}
                    Err(_) => return Err(Fault::Stage("writing")),
                },
                None = finished.recv() => return Ok(()),
                () = tokio::time::sleep(TICK) => {}
            }
            let exchanges = self.service.edges.summary().counts.exchanges;
            self.measure();
            progress(Progress {
                exchanges,
                ..Progress::default()
            });
            if stop.load(Ordering::Relaxed)
                && let Some(working) = working.take()
            {
                self.service.workers.all(|| Work::Finish(working.clone()));
                stopping = Some(Stopwatch::start());
            }
            if stopping.is_some_and(|watch| watch.elapsed() > GRACE) {
                tracing::warn!("flushes under way are left to the next owner");
                return Ok(());
            }
        }
    }

    /// Says how far behind the partitions are.
    fn measure(&mut self) {
        let metrics = &self.service.edges.telemetry.metrics;
        self.meter.measure(metrics);
        for lease in self.running.keys() {
            if let Some(records) = self.lag.of(&lease.at) {
                metrics.lag(&lease.at.topic, lease.at.partition, records);
            }
        }
        let tokens = self.service.judge.token_counts();
        metrics.token_lookups(tokens.hits, tokens.misses);
        metrics.token_work(tokens.signatures, tokens.not_evaluated);
    }

    fn follow(&mut self, event: Event) {
        match event {
            Event::Assigned(assignment) => {
                self.service.edges.telemetry.metrics.rebalanced();
                let lease = assignment.lease.clone();
                let owner = owner::own(Arc::clone(&self.service), assignment, self.policy);
                self.running.insert(lease, self.owners.spawn(owner));
            }
            Event::Revoked(lease) => {
                tracing::info!("{}: no longer ours", lease.at);
                if let Some(owner) = self.running.remove(&lease) {
                    owner.abort();
                }
                let metrics = &self.service.edges.telemetry.metrics;
                metrics.forget(&lease.at.topic, lease.at.partition);
                self.service
                    .workers
                    .send(&lease, Work::Close(lease.clone()));
            }
            // Records go to the judging threads directly; the rest is answered where it is received.
            Event::Joined => self.service.edges.telemetry.health.ready(Part::Source),
            Event::Records(_) | Event::Reached(..) | Event::Failed(_) | Event::Stopped => {}
        }
        let count = self.running.len();
        self.service.workers.all(|| Work::Partitions(count));
    }
}
