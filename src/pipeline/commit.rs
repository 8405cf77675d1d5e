//! One flush: sum → decide → publish → store. The manifest comes last, so all of it counts or none of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;

use super::detections;
use super::listing::Listing;
use super::partition::Flush;
use super::proposing;
use super::run::Fault;
use crate::clock::{self, Stopwatch};
use crate::config::{DetectSettings, Settings};
use crate::detect::{self, Change, Evaluator};
use crate::enrich::batch::hits::Hit;
use crate::model::EventTime;
use crate::policy::Policy;
use crate::publish::feed::Feed;
use crate::publish::file::TopicFiles;
use crate::publish::{BLOCK_LIST, events};
use crate::source::file::Fingerprint;
use crate::store::local::{Checkpoint, Commit, LocalStore, Range, inbox};
use crate::telemetry::{Metrics, Stage};
use crate::window::{self, Resolution};

/// Flushes between two looks at whether files should be merged.
const COMPACT_EVERY: u64 = 16;

/// How long a command that sees to the block list may have the store before a run gives up.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the store is tried meanwhile.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// Stores flushes and publishes what they change.
pub struct Committer {
    pipeline: String,
    store: LocalStore,
    topics: TopicFiles,
    evaluator: Evaluator,
    listing: Listing,
    feed: Feed,
    policy: Arc<Policy>,
    folder: PathBuf,
    every: i64,
    lateness: i64,
    flushes: u64,
    /// Where stages, ticks and events are counted.
    pub metrics: Metrics,
    /// Events published by this process, by topic.
    pub published: BTreeMap<&'static str, u64>,
}

/// The input that a flush belongs to.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Fingerprint; `None` for standard input, which cannot be resumed.
    pub fingerprint: Option<Fingerprint>,
    /// Name to show, and to find a followed file by after it was rotated away.
    pub name: String,
    /// Fingerprint under which the input was known when it was shorter.
    pub outgrown: Option<String>,
}

/// The rows of a flush and where reading goes on after it.
#[derive(Default)]
struct Stored<'s> {
    sums: &'s [RecordBatch],
    events: Option<&'s RecordBatch>,
    checkpoint: Option<(String, Checkpoint)>,
    outgrown: Option<String>,
}

/// Opens store and topics for the one process that has them.
pub(super) fn open_edges(
    settings: &Settings,
    folder: &Path,
    topics: &Path,
) -> Result<(LocalStore, TopicFiles), Fault> {
    let store = LocalStore::open(folder, &settings.name)?;
    let mut store = store.keeping_events(settings.evidence.retention);
    let committed = (store.manifest().generation > 0).then(|| store.manifest().topics.clone());
    let topics = TopicFiles::open(topics, &settings.name, committed.as_ref())?;
    if committed.is_none() {
        // A new store beside topics of an earlier one: their history counts as published from here on.
        store.commit(Commit {
            sums: &[],
            events: None,
            checkpoint: None,
            outgrown: None,
            topics: topics.lengths(),
            detections: None,
            journal: None,
            stored_at: clock::now_millis(),
        })?;
    }
    Ok((store, topics))
}

async fn wait_for_edges(
    settings: &Settings,
    folder: &Path,
    topics: &Path,
) -> Result<(LocalStore, TopicFiles), Fault> {
    let watch = Stopwatch::start();
    loop {
        match open_edges(settings, folder, topics) {
            Err(fault) if fault.is_locked() && watch.elapsed() < PATIENCE => {
                tokio::time::sleep(TRY_EVERY).await;
            }
            outcome => return outcome,
        }
    }
}

impl Committer {
    /// Opens store and topics, and reads what detection needs to go on. `feed` is told every entry of the block list, and
    /// every change once it is stored.
    ///
    /// # Errors
    /// The store or the topic files cannot be used.
    pub async fn open(
        settings: &Settings,
        folder: &Path,
        topics: &Path,
        feed: &Feed,
    ) -> Result<Self, Fault> {
        let (store, topics) = wait_for_edges(settings, folder, topics).await?;
        let mut listing = Listing::open(settings, &store, clock::now_millis())?;
        if let Some(newest) = store.reader().newest_minute() {
            let from = newest.saturating_sub(listing.reach());
            let range = Range { from, to: i64::MAX };
            for table in listing
                .tables()
                .iter()
                .filter_map(|name| window::table(name))
            {
                let minutes = Some(Resolution::Minute);
                let rows = store.reader().read(table, range, minutes).await?;
                listing.add_merged(&rows);
            }
            listing.look(clock::now_millis());
        }
        let state = match store.detections()? {
            Some(bytes) => detections::decode(&bytes).map_err(Fault::Detections)?,
            None => detect::State::default(),
        };
        let DetectSettings {
            every,
            lateness,
            excluded_methods,
            min_successful,
            ..
        } = settings.detect.clone();
        let limits = detect::Limits {
            excluded_methods,
            min_successful,
        };
        let millis =
            |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let mut evaluator = Evaluator::new(millis(every), limits, state);
        if let Some(table) = window::table("endpoint_windows") {
            let range = Range {
                from: evaluator.needs_from(),
                to: i64::MAX,
            };
            let rows = store
                .reader()
                .read(table, range, Some(Resolution::Minute))
                .await?;
            evaluator
                .add(rows)
                .await
                .map_err(crate::store::local::StoreError::from)?;
        }
        let mut committer = Self {
            pipeline: settings.name.clone(),
            store,
            topics,
            evaluator,
            listing,
            feed: feed.clone(),
            policy: Arc::clone(&settings.policy),
            folder: folder.to_owned(),
            every: millis(every),
            lateness: millis(lateness),
            flushes: 0,
            metrics: Metrics::new(),
            published: BTreeMap::new(),
        };
        // What a new pipeline file or the time changes holds before anything is read.
        committer.tend().await?;
        feed.replace(committer.listing.entries());
        Ok(committer)
    }

    /// Where reading of an input goes on; the candidates are fingerprints of its first bytes.
    #[must_use]
    pub fn checkpoint(
        &self,
        input: &crate::source::file::Input,
    ) -> Option<(Fingerprint, Checkpoint)> {
        let known = self.store.manifest().checkpoints.iter();
        known
            .filter_map(|(sha256, checkpoint)| {
                let fingerprint = input.fingerprint(Some(checkpoint.fingerprint_bytes))?;
                (fingerprint.sha256 == *sha256).then(|| (fingerprint, checkpoint.clone()))
            })
            .max_by_key(|(fingerprint, _)| fingerprint.bytes)
    }

    /// Stores one flush with everything that follows from it.
    ///
    /// # Errors
    /// The disk refuses; a restart goes on before this flush.
    pub async fn flush(&mut self, identity: &Identity, mut flush: Flush) -> Result<(), Fault> {
        let numbers = flush.numbers();
        let checkpoint = identity.fingerprint.as_ref().map(|fingerprint| {
            let checkpoint = Checkpoint {
                fingerprint_bytes: fingerprint.bytes,
                path: identity.name.clone(),
                end: flush.end,
                from: flush.join.from,
                clock: flush.join.clock.map(EventTime::nanos),
                closed: flush.join.closed,
                stored_at: clock::now_millis(),
            };
            (fingerprint.sha256.clone(), checkpoint)
        });
        let hits = std::mem::take(&mut flush.batches.hits);
        let events = flush.batches.events.take();
        let watch = Stopwatch::start();
        let sums = window::sum(flush.batches)
            .await
            .map_err(crate::store::local::StoreError::from)?;
        self.metrics.took(Stage::Sum, watch.elapsed());
        let endpoints = sums
            .first()
            .into_iter()
            .filter(|rows| rows.num_rows() > 0)
            .cloned()
            .collect();
        self.evaluator
            .add(endpoints)
            .await
            .map_err(crate::store::local::StoreError::from)?;
        let mut decided = flush
            .first_time
            .is_some_and(|first| self.evaluator.start_at(first.millis()));
        let watermark = flush
            .clock
            .map(|clock| clock.millis().saturating_sub(self.lateness));
        let tick = self.evaluator.state().tick;
        let changes = watermark
            .map(|mark| self.evaluator.advance(mark))
            .unwrap_or_default();
        decided |= self.evaluator.state().tick != tick;
        self.ticked(tick);
        if let Some(mark) = watermark {
            self.metrics.watermark(mark);
        }
        let mut lines: BTreeMap<&'static str, Vec<u8>> = BTreeMap::new();
        for letter in &flush.rejected {
            let event = events::dead_letter(&self.pipeline, letter);
            lines
                .entry(event.topic)
                .or_default()
                .extend(event.to_line().into_bytes());
            self.published(event.topic);
        }
        self.list((identity, flush.end), &sums, &hits)?;
        let stored = Stored {
            sums: &sums,
            events: events.as_ref(),
            checkpoint,
            outgrown: identity.outgrown.clone(),
        };
        self.store(stored, &changes, lines, decided).await?;
        let rows = sums.iter().chain(&events);
        let rows = rows.map(|rows| rows.num_rows() as u64).sum();
        self.metrics.rows(rows);
        self.metrics.flushed(&numbers);
        Ok(())
    }

    /// What a flush asks of the block list, and what others have left meanwhile.
    fn list(
        &mut self,
        (identity, end): (&Identity, u64),
        sums: &[RecordBatch],
        hits: &[Hit],
    ) -> Result<(), Fault> {
        let now = clock::now_millis();
        self.listing.tend(&self.folder, now)?;
        let input = identity.fingerprint.as_ref();
        let input = input.map_or(identity.name.as_str(), |fingerprint| &fingerprint.sha256);
        let flush = format!("{input}/{end}");
        let name = (self.pipeline.as_str(), flush.as_str());
        for proposal in proposing::by_rules(name, hits, &self.policy, self.listing.decided(now)) {
            self.listing.apply(&proposal, now);
        }
        for name in self.listing.tables() {
            let table = window::TABLES.iter().position(|table| table.name == *name);
            if let Some(rows) = table.and_then(|at| sums.get(at)) {
                self.listing.add(rows);
            }
        }
        self.listing.look(now);
        Ok(())
    }

    fn published(&mut self, topic: &'static str) {
        *self.published.entry(topic).or_default() += 1;
        self.metrics.published(topic, 1);
    }

    /// Counts the ticks judged since `before`; the first one has none before it.
    fn ticked(&self, before: Option<i64>) {
        let now = self.evaluator.state().tick;
        if let (Some(before), Some(now)) = (before, now) {
            let ticks = (now - before).checked_div(self.every).unwrap_or_default();
            self.metrics.ticked(ticks.unsigned_abs());
        }
    }

    /// Applies what others want of the block list, and ends what is over. To be called a few times a second.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn tend(&mut self) -> Result<(), Fault> {
        if self.listing.tend(&self.folder, clock::now_millis())? {
            self.store(Stored::default(), &[], BTreeMap::new(), false)
                .await?;
        }
        Ok(())
    }

    /// Judges the ticks that a finite input still owes, then its newest minute.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn finish(&mut self, clock: Option<i64>) -> Result<(), Fault> {
        self.tend().await?;
        let tick = self.evaluator.state().tick;
        let mut changes = clock
            .map(|clock| self.evaluator.advance(clock))
            .unwrap_or_default();
        if let Some(newest) = self.store.reader().newest_minute() {
            changes.extend(self.evaluator.finish(newest));
        }
        self.ticked(tick);
        if !changes.is_empty() || self.evaluator.state().tick != tick {
            self.store(Stored::default(), &changes, BTreeMap::new(), true)
                .await?;
        }
        self.store.compact(clock::now_millis()).await?;
        Ok(())
    }

    async fn store(
        &mut self,
        stored: Stored<'_>,
        changes: &[Change],
        mut lines: BTreeMap<&'static str, Vec<u8>>,
        decided: bool,
    ) -> Result<(), Fault> {
        for change in changes {
            let event = events::change(&self.pipeline, change);
            lines
                .entry(event.topic)
                .or_default()
                .extend(event.to_line().into_bytes());
            self.published(event.topic);
        }
        let watch = Stopwatch::start();
        for (topic, lines) in &lines {
            self.topics.append(topic, lines)?;
        }
        let journal = self.listing.write(&mut self.topics)?;
        self.metrics.took(Stage::Publish, watch.elapsed());
        let detections = if decided {
            Some(detections::encode(self.evaluator.state()).map_err(Fault::Detections)?)
        } else {
            None
        };
        // The rows are written and made to count in one call, so "commit" is both here.
        let watch = Stopwatch::start();
        self.store.commit(Commit {
            sums: stored.sums,
            events: stored.events,
            checkpoint: stored.checkpoint,
            outgrown: stored.outgrown,
            topics: self.topics.lengths(),
            detections,
            journal,
            stored_at: clock::now_millis(),
        })?;
        self.metrics.took(Stage::Commit, watch.elapsed());
        let published = self.listing.committed(&self.feed);
        for (result, count) in published.decided {
            self.metrics.block_list_decided(result, count);
        }
        inbox::make_room(&self.folder, published.taken)?;
        let listed = published.changes;
        if listed > 0 {
            *self.published.entry(BLOCK_LIST).or_default() += listed;
            self.metrics.published(BLOCK_LIST, listed);
        }
        self.flushes += 1;
        if self.flushes.is_multiple_of(COMPACT_EVERY) {
            self.store.compact(clock::now_millis()).await?;
        }
        Ok(())
    }
}
