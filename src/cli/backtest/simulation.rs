//! Judged exchanges → the block list that a pipeline would have kept, thresholds included.
//!
//! The columns, the SQL of the windows, the thresholds, the proposals and the fold are those of the pipeline. Only the clock
//! is the events': a rule that blocks lists when it fires, a threshold when the minute (of sessions, the ten minutes) ends
//! that crosses it. Everything is decided at the end, in the order of event time, so that topics may be read partition by partition.

use std::collections::BTreeSet;

use anyhow::Context as _;
use arrow::error::ArrowError;
use tokio::runtime::{Builder, Runtime};

use crate::config::BlockListSettings;
use crate::detect::blocklist::{Rules, allowed};
use crate::detect::thresholds::history::History;
use crate::detect::thresholds::{REQUEST, Threshold};
use crate::enrich::batch::FlushBuilder;
use crate::enrich::batch::hits::Hit;
use crate::enrich::{Judge, Judged, entity};
use crate::model::{BlockKey, BlockKind, Exchange, MINUTE_MILLIS, Network, RuleAction};
use crate::pipeline::partition::{FLUSH_EXCHANGES, FLUSH_ROWS};
use crate::pipeline::proposing::{self, Decided};
use crate::policy::{Policy, Zone};
use crate::posture::backtest::listing::{Firings, Followed, Ledger};
use crate::window;

/// Minutes that rows of `session_windows` stand for.
const SESSION_MINUTES: i64 = 10 * MINUTE_MILLIS;

/// The list that came of it.
pub(super) struct Simulated {
    pub(super) ledger: Ledger,
    pub(super) followed: Followed,
    /// Signals and firings that came after a cap.
    pub(super) overflow: u64,
}

/// One policy with the settings of its list.
pub(super) struct Simulation {
    judge: Judge,
    settings: BlockListSettings,
    builder: FlushBuilder,
    history: History,
    firings: Firings,
    /// Allowed clients for whom a rule that blocks fired.
    spared: BTreeSet<BlockKey>,
    /// What entities did, where that is asked for, and the kinds of those that can be listed.
    followed: Option<Followed>,
    kinds: BTreeSet<BlockKind>,
    runtime: Runtime,
    broken: Option<anyhow::Error>,
    key: String,
}

impl Simulation {
    /// Nothing yet. `follow` = what listed entities did later is asked for.
    pub(super) fn new(
        judge: Judge,
        settings: &BlockListSettings,
        follow: bool,
    ) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread()
            .build()
            .context("no runtime for the sums of the windows")?;
        Ok(Self {
            kinds: listed_kinds(judge.policy(), &settings.thresholds),
            builder: FlushBuilder::new(judge.hasher()),
            history: History::new(settings.thresholds.clone()),
            firings: Firings::default(),
            spared: BTreeSet::new(),
            followed: follow.then(Followed::default),
            settings: settings.clone(),
            judge,
            runtime,
            broken: None,
            key: String::new(),
        })
    }

    /// Adds an exchange; `wanted` = a successful answer to a valid session.
    pub(super) fn add(
        &mut self,
        zone: &Zone,
        exchange: &Exchange<'_>,
        judged: &Judged,
        wanted: bool,
    ) {
        if self.broken.is_some() || self.kinds.is_empty() {
            return;
        }
        self.follow(zone, exchange, judged, wanted);
        let spared = spared(zone, exchange, judged, &self.settings.allow);
        for verdict in judged.blocking() {
            if let Some(client) = &spared {
                self.spared.insert(client.clone());
                break;
            }
            for kind in &zone.rules.lists(*verdict).kinds {
                let entity = entity::of(*kind, exchange, judged);
                let key = entity.and_then(|entity| BlockKey::new(&zone.id, *kind, &entity).ok());
                if let Some(key) = key {
                    let rule = zone.rules.id(*verdict);
                    let id = exchange.id.as_deref();
                    self.firings.add(key, rule, exchange.at.millis(), id);
                }
            }
        }
        if self.settings.thresholds.is_empty() {
            return;
        }
        if let Err(error) = self.builder.append(zone, exchange, judged) {
            self.fail(error);
        } else if self.builder.len() >= FLUSH_EXCHANGES || self.builder.rows() >= FLUSH_ROWS {
            self.flush();
        }
    }

    fn follow(&mut self, zone: &Zone, exchange: &Exchange<'_>, judged: &Judged, wanted: bool) {
        let Some(followed) = &mut self.followed else {
            return;
        };
        for kind in &self.kinds {
            if let Some(entity) = entity::of(*kind, exchange, judged) {
                self.key.clear();
                for part in [&zone.id, "/", kind.as_str(), "/", &entity] {
                    self.key.push_str(part);
                }
                followed.add(&self.key, exchange.at.minute_millis(), wanted);
            }
        }
    }

    fn fail(&mut self, error: impl Into<anyhow::Error>) {
        let error = error.into().context("the sums of the windows failed");
        self.broken.get_or_insert(error);
    }

    /// Sums what was appended, as a flush does.
    fn flush(&mut self) {
        let flush: Result<_, ArrowError> = self.builder.finish();
        let flush = match flush {
            Ok(flush) => flush,
            Err(error) => return self.fail(error),
        };
        let sessions = self.settings.thresholds.iter();
        let sessions = sessions.filter(|threshold| threshold.signal == REQUEST);
        let sessions = sessions.map(|_| "session_windows").take(1);
        let tables = ["entity_windows"].into_iter().chain(sessions);
        let sums = window::sum_into(flush, tables.filter_map(window::table));
        match self.runtime.block_on(sums) {
            Ok(sums) => sums.iter().for_each(|rows| self.history.add(rows)),
            Err(error) => self.fail(error),
        }
    }

    /// Decides who would have been listed.
    ///
    /// # Errors
    /// The sums failed, which is a bug.
    pub(super) fn finish(mut self) -> anyhow::Result<Simulated> {
        if !self.builder.is_empty() {
            self.flush();
        }
        if let Some(error) = self.broken {
            return Err(error);
        }
        let mut ledger = Ledger::new(Rules {
            // What it would have done had entries been meant.
            enforce: true,
            allow: self.settings.allow.clone(),
            max: self.settings.max,
            log_only: self.settings.log_only(),
        });
        ledger.exempt = self.spared;
        let mut proposals = Vec::new();
        for firing in self.firings.iter() {
            let hit = Hit {
                zone: firing.key.zone().to_owned(),
                kind: firing.key.kind(),
                entity: firing.key.entity().to_owned(),
                signal: firing.rule.to_owned(),
                count: firing.count,
                samples: firing.samples.clone(),
                newest: firing.last_at,
            };
            let now = firing.first_at;
            let minute = now.div_euclid(MINUTE_MILLIS) * MINUTE_MILLIS;
            let found =
                proposing::by_rules(("", ""), &[hit], self.judge.policy(), at(firing.last_at));
            proposals.extend(found.into_iter().map(|proposal| (now, minute, proposal)));
        }
        for (minute, crossing) in self.history.crossings() {
            let thresholds = self.history.thresholds();
            let width = match thresholds.get(crossing.threshold) {
                Some(threshold) if threshold.signal == REQUEST => SESSION_MINUTES,
                _ => MINUTE_MILLIS,
            };
            let now = minute + width;
            let found = (thresholds, std::slice::from_ref(&crossing));
            let found = proposing::by_thresholds("", found, at(now));
            let minute = now - MINUTE_MILLIS;
            proposals.extend(found.into_iter().map(|proposal| (now, minute, proposal)));
        }
        // Where several fall on one moment their own order counts, which is the same in every run.
        proposals.sort_by_key(|(now, ..)| *now);
        for (now, minute, proposal) in &proposals {
            ledger.apply(proposal, *minute, *now);
        }
        Ok(Simulated {
            overflow: self.history.overflow + self.firings.overflow,
            followed: self.followed.unwrap_or_default(),
            ledger,
        })
    }
}

/// The client, if the allow list names it: then the exchange lists nobody, not its session or user agent either.
pub(super) fn spared(
    zone: &Zone,
    exchange: &Exchange<'_>,
    judged: &Judged,
    allow: &[Network],
) -> Option<BlockKey> {
    let client = entity::of(BlockKind::Ip, exchange, judged).filter(|_| !allow.is_empty())?;
    let key = BlockKey::new(&zone.id, BlockKind::Ip, &client).ok()?;
    allowed(allow, &key).then_some(key)
}

/// The kinds of entities that a rule or a threshold may list.
fn listed_kinds(policy: &Policy, thresholds: &[Threshold]) -> BTreeSet<BlockKind> {
    let mut kinds: BTreeSet<_> = thresholds.iter().map(|threshold| threshold.kind).collect();
    for zone in &policy.zones {
        for rule in &zone.rules.rules {
            if rule.enabled && rule.action == RuleAction::Block {
                kinds.extend(&rule.lists.kinds);
            }
        }
        if !zone.rules.schema.is_empty() {
            kinds.extend(&zone.rules.schema.lists.kinds);
        }
    }
    kinds
}

/// A decision at this moment of event time.
fn at(now: i64) -> Decided {
    Decided { now, max_age: None }
}
