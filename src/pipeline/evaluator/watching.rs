//! Thresholds over what all nodes have stored: the evaluator reads the minutes that flushes touched, and proposes.
//!
//! Its proposals go through the log like those of everybody else. What was said is written in the same transaction, so that
//! whoever evaluates next goes on from there.

use std::collections::BTreeSet;
use std::time::Duration;

use arrow::array::RecordBatch;

use super::Plan;
use super::ledger::Touched;
use crate::clock::{self, Stopwatch};
use crate::detect::thresholds::Watch;
use crate::pipeline::proposing::{self, Decided};
use crate::publish::blocklist::{self as wire, said};
use crate::publish::kafka::{Message, PublishError, read_compacted};
use crate::publish::{self};

/// How often minutes are read again that flushes touched.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same for sessions, of which there are many more rows.
const SESSIONS_EVERY: Duration = Duration::from_secs(20);

/// The sums behind the thresholds.
pub(super) struct Watching {
    watch: Watch,
    max_age: Option<i64>,
    /// Minutes to read, of entities and of sessions.
    entities: Changed,
    sessions: Changed,
}

struct Changed {
    table: &'static str,
    every: Duration,
    minutes: BTreeSet<i64>,
    all: bool,
    looked: Stopwatch,
}

impl Changed {
    fn new(table: &'static str, every: Duration) -> Self {
        Self {
            table,
            every,
            minutes: BTreeSet::new(),
            all: true,
            looked: Stopwatch::start(),
        }
    }

    fn note(&mut self, touched: &Touched) {
        match touched {
            Touched::All => self.all = true,
            Touched::Minutes(minutes) => self.minutes.extend(minutes),
        }
    }
}

impl Watching {
    /// Takes up what was said; the sums are read with the first look.
    pub(super) fn begin(plan: &Plan) -> Result<Self, PublishError> {
        let said = if plan.thresholds.is_empty() {
            std::collections::BTreeMap::new()
        } else {
            said::read(
                &plan.pipeline,
                &read_compacted(&plan.cluster, publish::CONTROL)?,
            )
        };
        Ok(Self {
            watch: Watch::new(plan.thresholds.clone(), said),
            max_age: plan.max_age,
            entities: Changed::new("entity_windows", LOOK_EVERY),
            sessions: Changed::new("session_windows", SESSIONS_EVERY),
        })
    }

    /// Notes what flushes touched.
    pub(super) fn note(&mut self, touched: &Touched) {
        self.entities.note(touched);
        if self.watch.watches_sessions() {
            self.sessions.note(touched);
        }
    }

    /// What is to be read now, because its time has come. `newest` is the newest minute that matters, epoch milliseconds.
    pub(super) fn wanted(&mut self, newest: i64) -> Vec<Wanted> {
        if self.watch.thresholds().is_empty() {
            return Vec::new();
        }
        let from = newest.saturating_sub(self.watch.reach());
        let sessions = self.watch.watches_sessions().then_some(&mut self.sessions);
        let mut wanted = Vec::new();
        for changed in std::iter::once(&mut self.entities).chain(sessions) {
            if changed.looked.elapsed() < changed.every
                || (!changed.all && changed.minutes.is_empty())
            {
                continue;
            }
            let minutes = std::mem::take(&mut changed.minutes);
            wanted.push(if std::mem::take(&mut changed.all) {
                Wanted::From(changed.table, from)
            } else {
                Wanted::Minutes(changed.table, minutes.into_iter().collect())
            });
            changed.looked = Stopwatch::start();
        }
        wanted
    }

    /// Takes over what was read of one table; gives whether there was anything.
    pub(super) fn add(&mut self, rows: &[RecordBatch]) -> bool {
        self.watch.add_merged(rows);
        !rows.is_empty()
    }

    /// The records that follow from what was added.
    pub(super) fn look(&mut self, pipeline: &str) -> Vec<Message> {
        let (crossings, changed) = self.watch.look();
        let found = (self.watch.thresholds(), crossings.as_slice());
        let decided = Decided {
            now: clock::now_millis(),
            max_age: self.max_age,
        };
        let proposals = proposing::by_thresholds(pipeline, found, decided);
        let proposals = proposals
            .iter()
            .map(|proposal| wire::proposal(pipeline, proposal));
        let said = changed
            .iter()
            .map(|key| said::record(pipeline, key, self.watch.said(key)));
        proposals.chain(said).collect()
    }
}

/// Rows to read: of a table from a minute on, or of these minutes.
pub(super) enum Wanted {
    From(&'static str, i64),
    Minutes(&'static str, Vec<i64>),
}
