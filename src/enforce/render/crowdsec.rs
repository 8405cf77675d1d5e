//! Decisions as `CrowdSec`'s local API gives them to bouncers (`pkg/models/localapi_swagger.yaml` of `CrowdSec` 1.6).
//!
//! Enters: a view or the changes since a bouncer's last pull, and its filters. Leaves: decisions. Entries of several zones
//! for one value are one decision, the longest, unless the bouncer asks for all. Simulated entries are left out: bouncers
//! of before that member existed would enforce them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::super::{Change, Selection, View, entry_id};
use super::{Format, Omitted, Sorted};
use crate::model::{BlockEntry, BlockKind, EventTime, Network};

/// Who decided, as bouncers show it.
const ORIGIN: &str = "gatewatch";
/// What is to be done with whom a decision names.
const REMEDIATION: &str = "ban";

pub(super) const FORMAT: Format = Format {
    name: "crowdsec",
    content_type: "application/json",
    files: &["decisions.json"],
    omits: |_| None,
    dated: true,
    render,
};

fn render(sorted: &Sorted<'_>, _: &[Omitted], now: i64) -> Vec<String> {
    let decisions: Vec<_> = longest(sorted.entries.iter().copied())
        .into_iter()
        .map(|entry| Decision {
            until: Some(EventTime::clamped(entry.expires_at).to_string()),
            ..decision(entry, now)
        })
        .collect();
    // Strings and numbers always serialize.
    let text = serde_json::to_string_pretty(&decisions).unwrap_or_default();
    vec![format!("{text}\n")]
}

/// One decision; the members in the order in which `CrowdSec` writes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    duration: String,
    id: u64,
    origin: &'static str,
    scenario: String,
    scope: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
    #[serde(rename = "type")]
    remediation: &'static str,
    /// When it ends (RFC 3339): in files, which are read later than they are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    value: String,
    uuid: String,
}

/// The scope of a kind. Bouncers know `Ip` and `Range`; the others reach those that ask for them.
fn scope(kind: BlockKind) -> &'static str {
    match kind {
        BlockKind::Ip => "Ip",
        BlockKind::Cidr => "Range",
        BlockKind::Asn => "AS",
        other => other.as_str(),
    }
}

fn scenario(entry: &BlockEntry) -> String {
    format!("gatewatch/{}", entry.rule.as_deref().unwrap_or("manual"))
}

/// An entry as a decision at `now`; of one that has ended the time is negative.
fn decision(entry: &BlockEntry, now: i64) -> Decision {
    let uuid = entry_id(entry);
    Decision {
        duration: go_duration(entry.expires_at.saturating_sub(now)),
        // JSON readers that keep numbers as floats are exact up to 2^53.
        id: (uuid.as_u64_pair().0 >> 12).max(1),
        origin: ORIGIN,
        scenario: scenario(entry),
        scope: scope(entry.key.kind()),
        simulated: entry.simulated,
        remediation: REMEDIATION,
        until: None,
        value: entry.key.entity().to_owned(),
        uuid: uuid.to_string(),
    }
}

/// Milliseconds as Go prints a duration that is rounded to seconds: `72h3m0s`, `59m59s`, `-5s`.
fn go_duration(millis: i64) -> String {
    let seconds = millis.unsigned_abs().saturating_add(500) / 1_000;
    let sign = if millis < 0 && seconds > 0 { "-" } else { "" };
    let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{rest}s"),
        (0, _) => format!("{sign}{minutes}m{rest}s"),
        _ => format!("{sign}{hours}h{minutes}m{rest}s"),
    }
}

/// Which decisions a bouncer wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Zones that its key may see, and whether it wants simulated entries.
    pub selection: Selection,
    /// Scopes, compared without case; empty = all.
    pub scopes: Vec<String>,
    /// Origins; empty = all.
    pub origins: Vec<String>,
    /// The scenario holds one of these, compared without case; empty = all.
    pub containing: Vec<String>,
    /// The scenario holds none of these, compared without case.
    pub not_containing: Vec<String>,
    /// Whether one decision, the longest, stands for all of one value.
    pub dedup: bool,
    /// What it asks about.
    pub wanted: Wanted,
}

impl Filter {
    fn takes(&self, entry: &BlockEntry) -> bool {
        let scope = scope(entry.key.kind());
        let any = |wanted: &[String], holds: &dyn Fn(&String) -> bool| {
            wanted.is_empty() || wanted.iter().any(holds)
        };
        self.selection.takes(entry)
            && any(&self.scopes, &|wanted| wanted.eq_ignore_ascii_case(scope))
            && any(&self.origins, &|wanted| wanted == ORIGIN)
            && self.takes_scenario(entry)
            && self.wanted.takes(entry)
    }

    fn takes_scenario(&self, entry: &BlockEntry) -> bool {
        if self.containing.is_empty() && self.not_containing.is_empty() {
            return true;
        }
        let scenario = scenario(entry).to_lowercase();
        let held = |part: &String| scenario.contains(&part.to_lowercase());
        (self.containing.is_empty() || self.containing.iter().any(held))
            && !self.not_containing.iter().any(held)
    }

    fn active<'v>(&'v self, view: &'v View, now: i64) -> Vec<&'v Arc<BlockEntry>> {
        let held = view.select(&self.selection, now);
        self.told(held.filter(|entry| self.takes(entry)))
    }

    /// The active entries of one value.
    fn active_of<'v>(
        &self,
        view: &'v View,
        (kind, entity): (BlockKind, &str),
        now: i64,
    ) -> Vec<&'v Arc<BlockEntry>> {
        let held = view.listed(kind, entity).into_iter();
        self.told(held.filter(|entry| entry.expires_at > now && self.takes(entry)))
    }

    /// Of active entries those that a bouncer is told.
    fn told<'v>(
        &self,
        active: impl Iterator<Item = &'v Arc<BlockEntry>>,
    ) -> Vec<&'v Arc<BlockEntry>> {
        if self.dedup {
            longest(active)
        } else {
            active.collect()
        }
    }
}

/// What a bouncer knows an entry by.
fn value(entry: &BlockEntry) -> (BlockKind, &str) {
    (entry.key.kind(), entry.key.entity())
}

/// Of entries with one value, the one that ends last.
fn longest<'v>(entries: impl IntoIterator<Item = &'v Arc<BlockEntry>>) -> Vec<&'v Arc<BlockEntry>> {
    let mut kept: BTreeMap<(BlockKind, &str), &Arc<BlockEntry>> = BTreeMap::new();
    for entry in entries {
        let held = kept.entry(value(entry)).or_insert(entry);
        if held.expires_at < entry.expires_at {
            *held = entry;
        }
    }
    kept.into_values().collect()
}

/// (`new`, `deleted`) for a bouncer that starts: everything that is active, and what ended of late and is not active.
#[must_use]
pub fn startup(
    view: &View,
    kept: &[Arc<Change>],
    filter: &Filter,
    now: i64,
) -> (Vec<Decision>, Vec<Decision>) {
    let active = filter.active(view, now);
    let mut held: BTreeMap<(BlockKind, &str), Vec<_>> = BTreeMap::new();
    for entry in &active {
        held.entry(value(entry)).or_default().push(*entry);
    }
    let touched = Touched::read(kept, filter);
    let ended = touched.0.iter().flat_map(|(value, touch)| {
        let active = held.get(value).map(Vec::as_slice).unwrap_or_default();
        touch.over(active, filter.dedup)
    });
    let ended = ended.map(|entry| ended_decision(entry, now)).collect();
    let new = active.into_iter().map(|entry| decision(entry, now));
    (new.collect(), ended)
}

/// (`new`, `deleted`) for a bouncer that knows the list as it was before `changes`. Nothing stands in both: some bouncers
/// read `new` first, and most know a decision by its value alone, so one that still holds must not be taken back.
#[must_use]
pub fn stream(
    view: &View,
    changes: &[Arc<Change>],
    filter: &Filter,
    now: i64,
) -> (Vec<Decision>, Vec<Decision>) {
    let (mut new, mut deleted) = (Vec::new(), Vec::new());
    for (value, touch) in &Touched::read(changes, filter).0 {
        let active = filter.active_of(view, *value, now);
        let ended = touch.over(&active, filter.dedup);
        deleted.extend(ended.into_iter().map(|entry| ended_decision(entry, now)));
        new.extend(active.into_iter().map(|entry| decision(entry, now)));
    }
    (new, deleted)
}

/// What ended by being withdrawn is over now, whatever its time says.
fn ended_decision(entry: &BlockEntry, now: i64) -> Decision {
    let mut ended = decision(entry, now);
    if entry.expires_at >= now {
        ended.duration = go_duration(-1_000);
    }
    ended
}

/// What happened to a value.
#[derive(Clone, Debug, Default)]
struct Touch<'c> {
    /// Entries that ended, in that order.
    ended: Vec<&'c Arc<BlockEntry>>,
}

impl<'c> Touch<'c> {
    /// What a bouncer has to be told is over, while these are active. Whoever knows values (`dedup`) is told once, and not
    /// before the last entry of a value has ended (`longestDecisionForScopeTypeValue` of the reference); whoever knows
    /// decisions is told each of them.
    fn over(&self, active: &[&Arc<BlockEntry>], dedup: bool) -> Vec<&'c Arc<BlockEntry>> {
        if dedup {
            let last = self.ended.last().filter(|_| active.is_empty());
            return last.copied().into_iter().collect();
        }
        let mut ended: BTreeMap<_, _> = self
            .ended
            .iter()
            .map(|entry| (entry_id(entry), *entry))
            .collect();
        for entry in active {
            ended.remove(&entry_id(entry));
        }
        ended.into_values().collect()
    }
}

/// The values whose decisions a bouncer has to be told.
#[derive(Debug, Default)]
struct Touched<'c>(BTreeMap<(BlockKind, &'c str), Touch<'c>>);

impl<'c> Touched<'c> {
    fn read(changes: &'c [Arc<Change>], filter: &Filter) -> Self {
        let mut touched = Self::default();
        for change in changes {
            let before = change.before.as_ref().filter(|entry| filter.takes(entry));
            let after = change.after.as_ref().filter(|entry| filter.takes(entry));
            match (before, after) {
                (None, None) => {}
                // Both are of one key.
                (Some(before), Some(after)) if before.created_at == after.created_at => {
                    // More evidence is no new decision.
                    if (before.expires_at, &before.rule) != (after.expires_at, &after.rule) {
                        touched.0.entry(value(after)).or_default();
                    }
                }
                (before, after) => {
                    if let Some(entry) = before.or(after) {
                        let touch = touched.0.entry(value(entry)).or_default();
                        touch.ended.extend(before);
                    }
                }
            }
        }
        touched
    }
}

/// What a bouncer asks about; members that are not given hold for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// An address or a network.
    pub network: Option<Network>,
    /// Whether networks that contain it are meant; else those within it.
    pub contains: bool,
    /// The value, byte by byte.
    pub value: Option<String>,
    /// The remediation.
    pub remediation: Option<String>,
}

impl Wanted {
    fn takes(&self, entry: &BlockEntry) -> bool {
        let network = self.network.is_none_or(|asked| {
            let listed = entry.key.network();
            listed.is_some_and(|listed| {
                if self.contains {
                    covers(listed, asked)
                } else {
                    covers(asked, listed)
                }
            })
        });
        let same =
            |wanted: &Option<String>, own: &str| wanted.as_ref().is_none_or(|one| one == own);
        network && same(&self.value, entry.key.entity()) && same(&self.remediation, REMEDIATION)
    }
}

/// Which part of an answer a reader wants, in the order of the decisions' ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Only decisions with a greater id.
    pub after: Option<u64>,
    /// How many of them are passed over.
    pub skip: usize,
    /// How many are given; `None` = all.
    pub most: Option<usize>,
}

impl Page {
    /// The part.
    #[must_use]
    pub fn of(self, mut decisions: Vec<Decision>) -> Vec<Decision> {
        if self == Self::default() {
            return decisions;
        }
        decisions.sort_by_key(|decision| decision.id);
        let after = decisions
            .into_iter()
            .filter(|decision| self.after.is_none_or(|id| decision.id > id));
        let most = self.most.unwrap_or(usize::MAX);
        after.skip(self.skip).take(most).collect()
    }
}

/// The decisions that a bouncer in live mode asks for.
#[must_use]
pub fn live(view: &View, filter: &Filter, now: i64) -> Vec<Decision> {
    let Wanted {
        network, contains, ..
    } = filter.wanted;
    let address = network.filter(|network| contains && single(*network));
    let taken = match address {
        // The common question has an index, of what is enforced.
        Some(network) if !filter.selection.simulated => {
            let candidates = view.covering(network.address(), now).into_iter();
            filter.told(candidates.filter(|entry| filter.takes(entry)))
        }
        _ => filter.active(view, now),
    };
    taken
        .into_iter()
        .map(|entry| decision(entry, now))
        .collect()
}

fn single(network: Network) -> bool {
    network.prefix() == if network.address().is_ipv4() { 32 } else { 128 }
}

/// Whether every address of `inner` is one of `outer`.
fn covers(outer: Network, inner: Network) -> bool {
    outer.prefix() <= inner.prefix() && outer.contains(inner.address())
}

#[cfg(test)]
mod tests;
