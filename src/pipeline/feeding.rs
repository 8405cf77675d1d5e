//! Keeps the feed of this process: ends entries when their time is over, reads the topic of the list, tells gateways.
//!
//! Enters: the settings and a feed. Leaves: a feed that follows the list wherever it is decided. Of a pipeline that
//! publishes to Kafka every process reads the compacted topic for itself, so every one can answer and tell gateways. Of an
//! embedded one the fold in the same process fills the feed, and there is nothing to read here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};

use super::evaluator::Plan;
use crate::clock::{self, Stopwatch};
use crate::config::Settings;
use crate::detect::blocklist::Edit;
use crate::model::{BlockEntry, BlockKey};
use crate::publish::feed::Feed;
use crate::publish::kafka::{Log, PublishError, Read, Record};
use crate::publish::{BLOCK_LIST, blocklist, exporters};
use crate::telemetry::{Metrics, Part, Telemetry};

/// How long one look for a record takes, and so a stop at most.
const LOOK: Duration = Duration::from_millis(200);
/// Silence while the list is read for the first time, after which it is read anew.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often entries are counted at most.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// Silence after which the cluster is asked whether it is still there, and how long it may take to answer.
const CONFIRM_EVERY: Duration = Duration::from_secs(5);
const CONFIRMED_WITHIN: Duration = Duration::from_secs(2);
/// Pauses between tries to read the topic, the first and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// The tasks around a feed.
pub struct Feeding {
    tasks: JoinSet<()>,
    reader: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Feeding {
    /// Starts what the settings ask for, in tasks of the caller's runtime.
    #[must_use]
    pub fn start(settings: &Settings, feed: &Feed, telemetry: &Telemetry) -> Self {
        let mut tasks = JoinSet::new();
        let stop = Arc::new(AtomicBool::new(false));
        tasks.spawn(count(feed.clone(), telemetry.metrics.clone()));
        let wanted =
            settings.feeds.is_some() || settings.check.is_some() || !settings.exporters.is_empty();
        if !wanted {
            return Self {
                tasks,
                reader: None,
                stop,
            };
        }
        tasks.spawn(feed.clone().keep());
        for exporter in &settings.exporters {
            let metrics = telemetry.metrics.clone();
            tasks.spawn(exporters::run(feed.clone(), exporter.clone(), metrics));
        }
        let reader = Plan::of(settings).map(|plan| {
            let waits = "the block list has not been read yet";
            telemetry.health.waits(Part::BlockList, waits);
            let (feed, telemetry, stop) = (feed.clone(), telemetry.clone(), Arc::clone(&stop));
            tokio::task::spawn_blocking(move || follow(plan, feed, telemetry, stop))
        });
        Self {
            tasks,
            reader,
            stop,
        }
    }

    /// Stops everything. What gateways were told stays as it is.
    pub async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.shutdown().await;
        if let Some(reader) = self.reader {
            // It looks at the flag several times a second; a panic has been reported by the runtime.
            let _ = reader.await;
        }
    }
}

/// Keeps the number of entries in the metrics, for as long as it is polled.
async fn count(feed: Feed, metrics: Metrics) {
    feed.wait_loaded().await;
    let mut told = feed.subscribe();
    loop {
        told.mark_unchanged();
        for (kind, [enforced, simulated]) in feed.counts(clock::now_millis()) {
            metrics.block_list(kind.as_str(), enforced, simulated);
        }
        // A list that changes all the time is counted now and then.
        tokio::time::sleep(COUNT_EVERY).await;
        if told.changed().await.is_err() {
            return;
        }
    }
}

/// Fills the feed from the topic of the list until the stop. Blocks; an outage is waited for.
pub fn follow(plan: Plan, feed: Feed, telemetry: Telemetry, stop: Arc<AtomicBool>) {
    let reader = Reader {
        plan,
        feed,
        telemetry,
        stop,
    };
    reader.follow();
}

/// Since when nobody has confirmed that the list is the newest one.
struct Freshness<'m> {
    metrics: &'m Metrics,
    confirmed: Stopwatch,
    asked: Stopwatch,
    warned: bool,
}

impl<'m> Freshness<'m> {
    fn new(metrics: &'m Metrics) -> Self {
        Self {
            metrics,
            confirmed: Stopwatch::start(),
            asked: Stopwatch::start(),
            warned: false,
        }
    }

    fn confirmed(&mut self) {
        if std::mem::take(&mut self.warned) {
            tracing::info!("the block list is the newest one again");
        }
        self.confirmed = Stopwatch::start();
        self.asked = Stopwatch::start();
    }

    /// Whether it is time to ask; then somebody does.
    fn is_due(&mut self) -> bool {
        let due = self.asked.elapsed() >= CONFIRM_EVERY;
        if due {
            self.asked = Stopwatch::start();
        }
        due
    }

    fn tell(&mut self) {
        let since = self.confirmed.elapsed();
        // Younger than the next question is as good as new.
        let stale = since.saturating_sub(CONFIRM_EVERY + CONFIRMED_WITHIN);
        self.metrics.block_list_stale(stale.as_secs());
        if since > PATIENCE && !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                "the block list has not been confirmed for {since:.0?}; what is listed goes on to be refused"
            );
        }
    }
}

struct Reader {
    plan: Plan,
    feed: Feed,
    telemetry: Telemetry,
    stop: Arc<AtomicBool>,
}

impl Reader {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn follow(&self) {
        let mut pause = PAUSES.0;
        while !self.stopped() {
            let problem = match self.read(&mut pause) {
                Ok(()) => continue,
                Err(problem) => problem,
            };
            tracing::warn!("the block list cannot be read, next try in {pause:.1?}: {problem}");
            if !self.feed.loaded() {
                let waits = format!("the block list has not been read: {problem}");
                self.telemetry.health.waits(Part::BlockList, waits);
            }
            let mut left = pause;
            while !left.is_zero() && !self.stopped() {
                let step = left.min(LOOK);
                std::thread::sleep(step);
                left = left.saturating_sub(step);
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Reads the whole topic, then what is written to it, until the stop or a failure.
    fn read(&self, pause: &mut Duration) -> Result<(), String> {
        let told = |error: PublishError| error.to_string();
        let mut log = Log::whole(&self.plan.cluster, BLOCK_LIST).map_err(told)?;
        if log.is_unassigned() {
            return Err(format!(
                "the topic {} does not exist yet",
                self.plan.cluster.topic(BLOCK_LIST)
            ));
        }
        let mut held: BTreeMap<BlockKey, BlockEntry> = BTreeMap::new();
        let mut whole = false;
        let mut silent = Duration::ZERO;
        let mut fresh = Freshness::new(&self.telemetry.metrics);
        while !self.stopped() {
            match log.next(LOOK).map_err(told)? {
                Read::Record(record) => {
                    silent = Duration::ZERO;
                    fresh.confirmed();
                    match self.edit(record) {
                        Some(edit) if whole => self.feed.apply(&[edit]),
                        Some(Edit::Listed(entry)) => {
                            held.insert(entry.key.clone(), entry);
                        }
                        Some(Edit::Ended(key)) => {
                            held.remove(&key);
                        }
                        None => {}
                    }
                }
                Read::End if !whole => {
                    whole = true;
                    *pause = PAUSES.0;
                    let now = clock::now_millis();
                    let held = std::mem::take(&mut held).into_values();
                    // Their end is published when an evaluator runs; they are over before.
                    self.feed
                        .replace(held.filter(|entry| entry.expires_at > now).collect());
                    self.telemetry.health.ready(Part::BlockList);
                }
                Read::Silence if !whole => {
                    silent += LOOK;
                    if silent >= PATIENCE {
                        return Err(format!("nothing came for {PATIENCE:?}"));
                    }
                }
                Read::End => fresh.confirmed(),
                // What is new comes by itself as long as there is a way.
                Read::Silence => {
                    if fresh.is_due() && log.answers(CONFIRMED_WITHIN) {
                        fresh.confirmed();
                    }
                }
            }
            if whole {
                fresh.tell();
            }
        }
        Ok(())
    }

    /// What a record changes. One of another pipeline has taken the place of ours, which is over with it.
    fn edit(&self, record: Record) -> Option<Edit> {
        let key = BlockKey::parse(&record.key);
        let Some(value) = record.value else {
            return key.map(Edit::Ended);
        };
        match blocklist::read_entry(&self.plan.pipeline, &record.key, &value) {
            Ok(Some(entry)) => Some(Edit::Listed(entry)),
            Ok(None) => key.map(Edit::Ended),
            Err(problem) => {
                tracing::warn!("the entry {:?} is not readable: {problem}", record.key);
                None
            }
        }
    }
}
