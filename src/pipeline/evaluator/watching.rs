//! Thresholds over what all nodes have stored: the evaluator reads the minutes that flushes touched, and proposes.
//!
//! Its proposals go through the log like those of everybody else. What was said is written in the same transaction, so that
//! whoever evaluates next goes on from there.

use std::collections::BTreeSet;
use std::time::Duration;

use super::ledger::Touched;
use super::term::{Desk, Ended};
use super::{Plan, Sums};
use crate::clock::{self, Stopwatch};
use crate::detect::thresholds::Watch;
use crate::pipeline::proposing;
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

    /// Reads what changed, when its time has come; gives the records that follow. `newest` is the newest minute that
    /// matters, epoch milliseconds.
    pub(super) fn look<S: Sums>(
        &mut self,
        desk: &Desk<'_, S>,
        newest: i64,
    ) -> Result<Vec<Message>, Ended> {
        let plan = desk.plan;
        if plan.thresholds.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = false;
        let from = newest.saturating_sub(self.watch.reach());
        let sessions = self.watch.watches_sessions().then_some(&mut self.sessions);
        for changed in std::iter::once(&mut self.entities).chain(sessions) {
            if changed.looked.elapsed() < changed.every
                || (!changed.all && changed.minutes.is_empty())
            {
                continue;
            }
            let rows = if changed.all {
                desk.wait(desk.store.entities_from(changed.table, from))?
            } else {
                let minutes: Vec<i64> = changed.minutes.iter().copied().collect();
                desk.wait(desk.store.entity_minutes(changed.table, &minutes))?
            };
            changed.all = false;
            changed.minutes.clear();
            changed.looked = Stopwatch::start();
            read |= !rows.is_empty();
            self.watch.add_merged(&rows);
        }
        if !read {
            return Ok(Vec::new());
        }
        let (crossings, changed) = self.watch.look();
        let found = (self.watch.thresholds(), crossings.as_slice());
        let pipeline = &plan.pipeline;
        let proposals = proposing::by_thresholds(pipeline, found, clock::now_millis());
        let proposals = proposals
            .iter()
            .map(|proposal| wire::proposal(pipeline, proposal));
        let said = changed
            .iter()
            .map(|key| said::record(pipeline, key, self.watch.said(key)));
        Ok(proposals.chain(said).collect())
    }
}
