//! What the program says about itself: metrics in the text format of `OpenMetrics` 1.0, and whether it is ready.
//!
//! Enters: plain numbers. Leaves: text. Every metric name is a constant here, and no label takes a value that input
//! chooses: topics and partitions are configured, reasons and stages are closed lists. Layer 0: nothing of ours is
//! imported; layer 1 returns counts and [`crate::pipeline`] brings them here.

mod health;
pub mod names;
mod protection;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

pub use health::{Health, Part};

/// Content type of [`Metrics::encode`] (`OpenMetrics` 1.0, "Overall Structure").
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPartition {
    topic: Arc<str>,
    partition: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTopic {
    topic: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Because {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStage {
    stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WithResult {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WithStatus {
    status: u16,
}

/// A part of storing a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Adding up by SQL.
    Sum,
    /// Writing rows.
    Insert,
    /// Publishing events.
    Publish,
    /// Making it count: manifest, or ledger and offsets.
    Commit,
}

impl Stage {
    /// Every stage.
    pub const ALL: [Self; 4] = [Self::Sum, Self::Insert, Self::Publish, Self::Commit];

    fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Insert => "insert",
            Self::Publish => "publish",
            Self::Commit => "commit",
        }
    }
}

/// What a fetch of a key set found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFetch {
    /// Other keys than before.
    Changed,
    /// The same keys.
    Same,
    /// Nothing usable.
    Failed,
}

impl KeyFetch {
    /// Every result.
    pub const ALL: [Self; 3] = [Self::Changed, Self::Same, Self::Failed];

    fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Same => "same",
            Self::Failed => "failed",
        }
    }
}

/// Numbers of one stored flush.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Records applied.
    pub records: u64,
    /// Exchanges judged.
    pub exchanges: u64,
    /// Exchanges that belong to no zone.
    pub unzoned: u64,
    /// Responses whose request never came.
    pub orphan_responses: u64,
    /// Requests whose response never came.
    pub unanswered: u64,
    /// Exchanges whose operation fell into `{overflow}`.
    pub operations_overflowed: u64,
    /// Signals whose entity fell into `{overflow}`.
    pub entities_overflowed: u64,
    /// Exchanges that were not kept as evidence because the flush had its share.
    pub events_overflowed: u64,
    /// Refused records: reason and count, a reason may come more than once.
    pub rejected: Vec<(&'static str, u64)>,
}

/// Every metric. Cheap to clone; clones are the same metrics.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    lag: Family<OfPartition, Gauge>,
    records: Counter,
    exchanges: Counter,
    rejected: Family<Because, Counter>,
    unzoned: Counter,
    orphans: Counter,
    unanswered: Counter,
    overflow: Family<OfKind, Counter>,
    flushes: Counter,
    flush_rows: Histogram,
    flush_seconds: Family<OfStage, Histogram>,
    store_retries: Counter,
    join_open: Family<OfPartition, Gauge>,
    join_bytes: Family<OfPartition, Gauge>,
    token_lookups: Family<WithResult, Counter>,
    token_signatures: Counter,
    tokens_not_evaluated: Counter,
    key_fetches: Family<WithResult, Counter>,
    keys_failing: Gauge,
    published: Family<OfTopic, Counter>,
    evaluator: Gauge,
    ticks: Counter,
    watermark: Gauge<f64, AtomicU64>,
    rebalances: Counter,
    gaps: Counter,
    http_batches: Family<WithStatus, Counter>,
    protection: protection::Protection,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// From a millisecond to half a minute: a flush takes tens of milliseconds, a stalled store as long as it likes.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

/// Adds a metric to the registry and gives it back; a clone is the same metric.
fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

impl Metrics {
    /// Metrics that have counted nothing. What has a closed list of labels shows all of them from the start, so that
    /// the first increase is seen as one.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let r = &mut registry;
        let lag = add(r, names::LAG, "Records not read yet", Family::default());
        let records = add(r, names::RECORDS, "Records applied", Counter::default());
        let exchanges = add(r, names::EXCHANGES, "Exchanges stored", Counter::default());
        let rejected = add(r, names::REJECTED, "Records refused", Family::default());
        let unzoned = add(
            r,
            names::UNZONED,
            "Exchanges of hosts that no zone lists",
            Counter::default(),
        );
        let orphans = add(
            r,
            names::ORPHANS,
            "Responses whose request never came",
            Counter::default(),
        );
        let unanswered = add(
            r,
            names::UNANSWERED,
            "Requests whose response never came",
            Counter::default(),
        );
        let overflow = add(
            r,
            names::OVERFLOW,
            "What fell into {overflow} because of a cap",
            Family::default(),
        );
        let flushes = add(r, names::FLUSHES, "Flushes stored", Counter::default());
        let flush_rows = add(
            r,
            names::FLUSH_ROWS,
            "Rows of a flush in all tables",
            Histogram::new(exponential_buckets(10.0, 4.0, 10)),
        );
        let flush_seconds = add(
            r,
            names::FLUSH_SECONDS,
            "Time that a stage of a flush took",
            Family::new_with_constructor(seconds as fn() -> Histogram),
        );
        let store_retries = add(
            r,
            names::STORE_RETRIES,
            "Requests to the store that were repeated",
            Counter::default(),
        );
        let join_open = add(
            r,
            names::JOIN_OPEN,
            "Halves that wait for the other one",
            Family::default(),
        );
        let join_bytes = add(
            r,
            names::JOIN_BYTES,
            "Payload bytes of halves that wait",
            Family::default(),
        );
        let token_lookups = add(
            r,
            names::TOKEN_LOOKUPS,
            "Token verdicts asked for, and whether they were remembered",
            Family::default(),
        );
        let token_signatures = add(
            r,
            names::TOKEN_SIGNATURES,
            "Signatures of tokens that were checked",
            Counter::default(),
        );
        let tokens_not_evaluated = add(
            r,
            names::TOKENS_NOT_EVALUATED,
            "Tokens that were not evaluated: too many in one flush, or no key set yet",
            Counter::default(),
        );
        let key_fetches = add(
            r,
            names::KEY_FETCHES,
            "Fetches of key sets by URL, and what they found",
            Family::default(),
        );
        let keys_failing = add(
            r,
            names::KEYS_FAILING,
            "Key sets by URL whose last fetch failed; the last good set goes on",
            Gauge::default(),
        );
        let published = add(r, names::PUBLISHED, "Events published", Family::default());
        let evaluator = add(
            r,
            names::EVALUATOR,
            "1 while this process decides labels and insights",
            Gauge::default(),
        );
        let ticks = add(r, names::TICKS, "Ticks judged", Counter::default());
        let watermark = add(
            r,
            names::WATERMARK,
            "Event time that every active partition has reached",
            Gauge::default(),
        );
        let rebalances = add(
            r,
            names::REBALANCES,
            "Changes of the partitions read here",
            Counter::default(),
        );
        let gaps = add(
            r,
            names::GAPS,
            "Records that were gone before they were read",
            Counter::default(),
        );
        let http_batches = add(
            r,
            names::HTTP_BATCHES,
            "Batches answered by the HTTP source",
            Family::default(),
        );
        let protection = protection::Protection::register(r);
        let metrics = Self {
            registry: Arc::new(registry),
            lag,
            records,
            exchanges,
            rejected,
            unzoned,
            orphans,
            unanswered,
            overflow,
            flushes,
            flush_rows,
            flush_seconds,
            store_retries,
            join_open,
            join_bytes,
            token_lookups,
            token_signatures,
            tokens_not_evaluated,
            key_fetches,
            keys_failing,
            published,
            evaluator,
            ticks,
            watermark,
            rebalances,
            gaps,
            http_batches,
            protection,
        };
        for kind in ["operations", "entities"] {
            drop(metrics.overflow.get_or_create(&OfKind { kind }));
        }
        for result in ["hit", "miss"] {
            drop(metrics.token_lookups.get_or_create(&WithResult { result }));
        }
        for result in KeyFetch::ALL.map(KeyFetch::as_str) {
            drop(metrics.key_fetches.get_or_create(&WithResult { result }));
        }
        for stage in Stage::ALL {
            let stage = stage.as_str();
            drop(metrics.flush_seconds.get_or_create(&OfStage { stage }));
        }
        metrics
    }

    /// Counts a stored flush.
    pub fn flushed(&self, flushed: &Flushed) {
        self.flushes.inc();
        self.records.inc_by(flushed.records);
        self.exchanges.inc_by(flushed.exchanges);
        self.unzoned.inc_by(flushed.unzoned);
        self.orphans.inc_by(flushed.orphan_responses);
        self.unanswered.inc_by(flushed.unanswered);
        for (kind, count) in [
            ("operations", flushed.operations_overflowed),
            ("entities", flushed.entities_overflowed),
            ("evidence", flushed.events_overflowed),
        ] {
            self.overflow.get_or_create(&OfKind { kind }).inc_by(count);
        }
        for &(reason, count) in &flushed.rejected {
            let refused = self.rejected.get_or_create(&Because { reason });
            refused.inc_by(count);
        }
    }

    /// Counts the rows that a flush wrote.
    pub fn rows(&self, rows: u64) {
        self.flush_rows.observe(rows as f64);
    }

    /// Counts the time of one stage.
    pub fn took(&self, stage: Stage, time: Duration) {
        let stage = stage.as_str();
        let histogram = self.flush_seconds.get_or_create(&OfStage { stage });
        histogram.observe(time.as_secs_f64());
    }

    /// Counts repeated requests to the store.
    pub fn store_retried(&self, count: u64) {
        self.store_retries.inc_by(count);
    }

    /// Counts published events; `topic` without prefix.
    pub fn published(&self, topic: &'static str, count: u64) {
        let events = self.published.get_or_create(&OfTopic { topic });
        events.inc_by(count);
    }

    /// Sets how far a partition is behind, in records.
    pub fn lag(&self, topic: &Arc<str>, partition: i32, records: i64) {
        self.lag
            .get_or_create(&of_partition(topic, partition))
            .set(records);
    }

    /// Sets what waits in the join of a partition.
    pub fn join(&self, topic: &Arc<str>, partition: i32, halves: usize, bytes: usize) {
        let labels = of_partition(topic, partition);
        let whole = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.join_open.get_or_create(&labels).set(whole(halves));
        self.join_bytes.get_or_create(&labels).set(whole(bytes));
    }

    /// Forgets a partition that somebody else reads from now on.
    pub fn forget(&self, topic: &Arc<str>, partition: i32) {
        let labels = of_partition(topic, partition);
        self.lag.remove(&labels);
        self.join_open.remove(&labels);
        self.join_bytes.remove(&labels);
    }

    /// Sets how many token verdicts were remembered and worked out since the start; both only grow.
    pub fn token_lookups(&self, hits: u64, misses: u64) {
        for (result, count) in [("hit", hits), ("miss", misses)] {
            let counter = self.token_lookups.get_or_create(&WithResult { result });
            counter.inner().fetch_max(count, Ordering::Relaxed);
        }
    }

    /// Sets how many signatures of tokens were checked and how many tokens not evaluated since the start; both only grow.
    pub fn token_work(&self, signatures: u64, not_evaluated: u64) {
        for (counter, count) in [
            (&self.token_signatures, signatures),
            (&self.tokens_not_evaluated, not_evaluated),
        ] {
            counter.inner().fetch_max(count, Ordering::Relaxed);
        }
    }

    /// Counts a fetch of a key set.
    pub fn keys_fetched(&self, found: KeyFetch) {
        let result = found.as_str();
        self.key_fetches.get_or_create(&WithResult { result }).inc();
    }

    /// A key set began to fail, or works again.
    pub fn keys_failing(&self, failing: bool) {
        if failing {
            self.keys_failing.inc();
        } else {
            self.keys_failing.dec();
        }
    }

    /// Sets whether this process decides labels and insights.
    pub fn evaluator(&self, owner: bool) {
        self.evaluator.set(i64::from(owner));
    }

    /// Counts judged ticks.
    pub fn ticked(&self, ticks: u64) {
        self.ticks.inc_by(ticks);
    }

    /// Sets the watermark, epoch milliseconds of event time.
    pub fn watermark(&self, millis: i64) {
        self.watermark.set(millis as f64 / 1_000.0);
    }

    /// Counts a change of the partitions read here.
    pub fn rebalanced(&self) {
        self.rebalances.inc();
    }

    /// Counts records that were gone before they were read.
    pub fn gap(&self, records: u64) {
        self.gaps.inc_by(records);
    }

    /// Counts an answer of the HTTP source; `status` is one of those that it gives.
    pub fn http_batch(&self, status: u16) {
        let answered = self.http_batches.get_or_create(&WithStatus { status });
        answered.inc();
    }

    /// Everything as text of type [`CONTENT_TYPE`].
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // A string takes everything that is written to it.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

fn of_partition(topic: &Arc<str>, partition: i32) -> OfPartition {
    OfPartition {
        topic: Arc::clone(topic),
        partition,
    }
}

/// Metrics and health of one process, handed to whoever has something to say.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// Metrics.
    pub metrics: Metrics,
    /// Whether the process is ready.
    pub health: Health,
}

#[cfg(test)]
mod tests;
