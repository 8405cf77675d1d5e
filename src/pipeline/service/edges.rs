//! What a flush is written to, and how: rows, publications, ledger. Every source of the service ends here.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMillisecondType;

use super::ServiceFault;
use crate::clock::{self, Stopwatch};
use crate::config::{KafkaPublish, Settings};
use crate::correlate::JoinState;
use crate::enrich::batch::hits::Hit;
use crate::model::EventTime;
use crate::pipeline::partition::Flush;
use crate::pipeline::proposing::{Decided, by_rules};
use crate::pipeline::run::Summary;
use crate::publish;
use crate::publish::kafka::{Cluster, Message, Outbox, PublishError, ensure};
use crate::store::clickhouse::{self, ClickHouse, FlushRange, LedgerRow, StoreError};
use crate::telemetry::{Part, Stage, Telemetry};
use crate::window;

/// Most minutes that a ledger row lists; a flush that touches more asks the evaluator for a full read.
const MOST_MINUTES: usize = 4_096;
/// How often a flush that is still being written is held against what ClickHouse remembers.
const RECHECK: Duration = Duration::from_secs(30);
/// How long a flush may be written before the process says that it cannot work now.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the stop flag is looked at while a server is waited for.
const TICK: Duration = Duration::from_millis(100);
/// Longest pause between two tries to reach a server at start.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Store, topics, and who is told.
pub(super) struct Edges {
    pub(super) settings: Arc<Settings>,
    pub(super) store: ClickHouse,
    pub(super) outbox: Outbox,
    pub(super) telemetry: Telemetry,
    pub(super) summary: Mutex<Summary>,
    /// Repeated requests to the store that the metrics know of.
    retries_told: AtomicU64,
    /// Flushes that wait for the store, and for the topics, for longer than [`PATIENCE`].
    late: [Arc<AtomicUsize>; 2],
}

impl Edges {
    /// Connects, however long it takes for the servers to become reachable; `None` = told to stop meanwhile.
    pub(super) async fn connect(
        settings: &Arc<Settings>,
        (store, publish): (&clickhouse::Settings, &KafkaPublish),
        stop: &AtomicBool,
        telemetry: &Telemetry,
    ) -> Result<Option<Self>, ServiceFault> {
        let open = async || ClickHouse::open(store, &settings.name).await;
        let retry = StoreError::retry;
        let Some(store) = reach(open, retry, (stop, telemetry), Part::Store).await? else {
            return Ok(None);
        };
        let cluster = Cluster::from(publish);
        let topics = async || ensure(&cluster).await;
        let retry = PublishError::retry;
        let Some(made) = reach(topics, retry, (stop, telemetry), Part::Publisher).await? else {
            return Ok(None);
        };
        for topic in made {
            tracing::info!("created the topic {topic}");
        }
        let zones = settings.policy.zones.iter().map(|zone| zone.id.as_str());
        Ok(Some(Self {
            settings: Arc::clone(settings),
            store: store.with_zones(zones),
            outbox: Outbox::open(&cluster)?,
            telemetry: telemetry.clone(),
            summary: Mutex::default(),
            retries_told: AtomicU64::new(0),
            late: Default::default(),
        }))
    }

    pub(super) fn count(&self, add: impl FnOnce(&mut Summary)) {
        add(&mut self.summary.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What was done so far.
    pub(super) fn summary(&self) -> Summary {
        let summary = self.summary.lock();
        summary.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Brings the metrics up to date with how often requests to the store were repeated; from any task, at any time.
    pub(super) fn tell_retries(&self) {
        let retries = self.store.retries();
        let told = self.retries_told.fetch_max(retries, Ordering::Relaxed);
        self.telemetry
            .metrics
            .store_retried(retries.saturating_sub(told));
    }

    /// Steps 2 to 4 of a flush (design section 6): proposals, rows, dead letters, ledger. When this returns, the flush counts, and
    /// repeating it changes nothing. `begun_at` is when the range was frozen first, epoch milliseconds. Gives the state of the
    /// join after it.
    pub(super) async fn keep(
        &self,
        range: FlushRange,
        begun_at: i64,
        mut flush: Flush,
    ) -> Result<JoinState, ServiceFault> {
        let metrics = &self.telemetry.metrics;
        let hits = std::mem::take(&mut flush.batches.hits);
        let events = flush.batches.events.take();
        let (counts, numbers) = (flush.counts, flush.numbers());
        let watch = Stopwatch::start();
        let sums = window::sum(flush.batches)
            .await
            .map_err(ServiceFault::Sum)?;
        metrics.took(Stage::Sum, watch.elapsed());

        // Whoever is blocked at once does not wait for the store. The range is frozen, so a repetition proposes the same.
        let watch = Stopwatch::start();
        self.propose(&range, &hits).await?;
        let proposing = watch.elapsed();

        let watch = Stopwatch::start();
        let stored_at = clock::now_millis();
        let written = async {
            // Neither waits for the other: a flush takes as long as its slowest table.
            let sums = self.store.write(&range, &sums, stored_at);
            let events = Box::pin(self.store.write_events(&range, events.as_ref(), stored_at));
            let (sums, events) = tokio::join!(sums, events);
            Ok::<u64, StoreError>(sums?.max(events?))
        };
        let blocks = tokio::select! {
            written = self.told(Part::Store, written) => written?,
            outlived = self.outlives(&range, begun_at) => return Err(outlived),
        };
        metrics.took(Stage::Insert, watch.elapsed());

        // Their keys make a repetition harmless.
        let watch = Stopwatch::start();
        let letters = flush.rejected.iter();
        let letters: Vec<Message> = letters
            .map(|letter| Message::dead_letter(&self.settings.name, letter))
            .collect();
        self.told(Part::Publisher, self.outbox.write(&letters))
            .await?;
        metrics.published(publish::DEAD_LETTER, letters.len() as u64);
        metrics.took(Stage::Publish, proposing + watch.elapsed());

        let (minutes, all_minutes) = minutes(sums.first());
        let row = LedgerRow {
            range,
            from: flush.join.from,
            clock: flush.join.clock.map(EventTime::nanos),
            greatest: flush.clock.map(EventTime::nanos),
            closed: flush.join.closed.clone(),
            minutes,
            all_minutes,
            records: counts.records,
            exchanges: counts.exchanges,
            rejected: numbers.rejected.len() as u64,
            blocks,
            // Right before the row is written, however long the rest took: the evaluator looks for what arrived lately.
            stored_at: clock::now_millis(),
        };
        self.told(Part::Store, self.store.record(&row)).await?;
        self.tell_retries();
        metrics.flushed(&numbers);
        let rows = sums.iter().chain(&events);
        metrics.rows(rows.map(|rows| rows.num_rows() as u64).sum());
        self.count(|summary| {
            summary.flushes += 1;
            summary.counts += counts;
            summary.overflowed += numbers.operations_overflowed;
            summary.entities_overflowed += numbers.entities_overflowed;
            summary.events_overflowed += numbers.events_overflowed;
            for (reason, count) in &numbers.rejected {
                *summary.rejected.entry(*reason).or_default() += count;
            }
        });
        Ok(flush.join)
    }
}

impl Edges {
    /// Writes what the rules of a flush propose; the ids are the same however often it is written.
    async fn propose(&self, range: &FlushRange, hits: &[Hit]) -> Result<(), ServiceFault> {
        let FlushRange {
            topic,
            partition,
            first,
            last,
            drain,
        } = range;
        let pipeline = self.settings.name.as_str();
        let flush = format!("{topic}/{partition}/{first}-{last}/{drain}");
        let decided = Decided {
            now: clock::now_millis(),
            max_age: self.settings.block_list.max_age,
        };
        let proposals = by_rules((pipeline, &flush), hits, &self.settings.policy, decided);
        let proposals: Vec<Message> = proposals
            .iter()
            .map(|proposal| publish::blocklist::proposal(pipeline, proposal))
            .collect();
        self.told(Part::Publisher, self.outbox.write(&proposals))
            .await?;
        let metrics = &self.telemetry.metrics;
        metrics.published(publish::PROPOSALS, proposals.len() as u64);
        Ok(())
    }

    /// Waits for a server, and tells probes while it keeps us waiting.
    pub(super) async fn told<T>(&self, part: Part, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        if let Ok(done) = tokio::time::timeout(PATIENCE, &mut work).await {
            return done;
        }
        let [store, publisher] = &self.late;
        let late = if part == Part::Store {
            store
        } else {
            publisher
        };
        let reason = "does not take what is ready; trying again";
        let _delay = self.telemetry.health.delay(part, reason, late);
        work.await
    }

    /// Whether a flush that was begun at some time can still be repeated: a repeated insert is recognised only while its
    /// token is remembered, and beyond half of that nobody can tell what was written, so nobody guesses.
    pub(super) async fn within_deduplication(
        &self,
        range: &FlushRange,
        begun_at: i64,
    ) -> Result<(), ServiceFault> {
        let window = self.store.deduplication_window();
        let blocks = self.store.blocks_since(begun_at).await?;
        let age = clock::now_millis().saturating_sub(begun_at);
        let age = Duration::from_millis(u64::try_from(age).unwrap_or_default());
        let forgotten = self
            .store
            .remembered_for()
            .is_some_and(|time| age > time / 2);
        if blocks > window / 2 || forgotten {
            return Err(ServiceFault::Outlived {
                at: format!("{}/{}", range.topic, range.partition),
                first: range.first,
                end: range.last,
                blocks,
                window,
            });
        }
        Ok(())
    }

    /// Ends once an insert has been retried for so long that repeating it is not safe any more.
    async fn outlives(&self, range: &FlushRange, begun_at: i64) -> ServiceFault {
        loop {
            tokio::time::sleep(RECHECK).await;
            self.tell_retries();
            if let Err(fault) = self.within_deduplication(range, begun_at).await {
                return fault;
            }
        }
    }
}

/// Minutes that a flush touched, and whether there are more than a row lists.
fn minutes(endpoints: Option<&RecordBatch>) -> (Vec<i64>, bool) {
    let times = endpoints.and_then(|rows| rows.column_by_name("window_start"));
    let times = times.and_then(|column| column.as_primitive_opt::<TimestampMillisecondType>());
    let mut minutes: Vec<i64> = times
        .map(|times| times.values().to_vec())
        .unwrap_or_default();
    minutes.sort_unstable();
    minutes.dedup();
    if minutes.len() > MOST_MINUTES {
        return (Vec::new(), true);
    }
    (minutes, false)
}

/// Does what needs a server, however long it takes to become reachable; `None` = told to stop meanwhile.
async fn reach<T, E>(
    attempt: impl AsyncFn() -> Result<T, E>,
    retry: fn(&E) -> bool,
    (stop, telemetry): (&AtomicBool, &Telemetry),
    part: Part,
) -> Result<Option<T>, ServiceFault>
where
    E: std::error::Error + Into<ServiceFault>,
{
    let mut pause = Duration::from_millis(250);
    while !stop.load(Ordering::Relaxed) {
        match attempt().await {
            Ok(reached) => {
                telemetry.health.ready(part);
                return Ok(Some(reached));
            }
            Err(error) if retry(&error) => {
                telemetry.health.waits(part, error.to_string());
                tracing::warn!(
                    "the {} is not reachable: {error}; trying again in {pause:?}",
                    part.as_str()
                );
                let watch = Stopwatch::start();
                while watch.elapsed() < pause && !stop.load(Ordering::Relaxed) {
                    tokio::time::sleep(TICK).await;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}
