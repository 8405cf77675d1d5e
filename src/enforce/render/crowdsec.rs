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
use crate::model::{BlockEntry, BlockKind, Network};

/// Who decided, as bouncers show it.
const ORIGIN: &str = "gatewatch";

pub(super) const FORMAT: Format = Format {
    name: "crowdsec",
    content_type: "application/json",
    files: &["decisions.json"],
    omits: |_| None,
    render,
};

fn render(sorted: &Sorted<'_>, _: &[Omitted], now: i64) -> Vec<String> {
    let decisions: Vec<_> = longest(sorted.entries.iter().copied())
        .into_iter()
        .map(|entry| decision(entry, now))
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
        remediation: "ban",
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
        let taken = held.filter(|entry| self.takes(entry));
        if self.dedup {
            longest(taken)
        } else {
            taken.collect()
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
    let mut ended = Touched::default();
    ended.read(kept, filter);
    for entry in &active {
        ended.0.remove(&value(entry));
    }
    let ended = ended.0.values().filter_map(|touch| touch.ended);
    (
        active
            .into_iter()
            .map(|entry| decision(entry, now))
            .collect(),
        ended.map(|entry| ended_decision(entry, now)).collect(),
    )
}

/// (`new`, `deleted`) for a bouncer that knows the list as it was before `changes`. A value that was ended and listed anew
/// stands in both; bouncers read `deleted` first.
#[must_use]
pub fn stream(
    view: &View,
    changes: &[Arc<Change>],
    filter: &Filter,
    now: i64,
) -> (Vec<Decision>, Vec<Decision>) {
    let mut touched = Touched::default();
    touched.read(changes, filter);
    let (mut new, mut deleted) = (Vec::new(), Vec::new());
    for ((kind, entity), touch) in &touched.0 {
        deleted.extend(touch.ended.map(|entry| ended_decision(entry, now)));
        let active = view.listed(*kind, entity);
        let active = active
            .into_iter()
            .filter(|entry| entry.expires_at > now && filter.takes(entry));
        let active: Vec<_> = if filter.dedup {
            longest(active)
        } else {
            active.collect()
        };
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
#[derive(Clone, Copy, Debug, Default)]
struct Touch<'c> {
    ended: Option<&'c Arc<BlockEntry>>,
}

/// The values whose decisions a bouncer has to be told.
#[derive(Debug, Default)]
struct Touched<'c>(BTreeMap<(BlockKind, &'c str), Touch<'c>>);

impl<'c> Touched<'c> {
    fn read(&mut self, changes: &'c [Arc<Change>], filter: &Filter) {
        for change in changes {
            let before = change.before.as_ref().filter(|entry| filter.takes(entry));
            let after = change.after.as_ref().filter(|entry| filter.takes(entry));
            match (before, after) {
                (None, None) => {}
                // More evidence is no new decision.
                (Some(before), Some(after))
                    if (before.expires_at, &before.rule) == (after.expires_at, &after.rule) => {}
                (before, Some(after)) => {
                    let touch = self.0.entry(value(after)).or_default();
                    let shorter = before.filter(|before| before.expires_at > after.expires_at);
                    touch.ended = shorter.or(touch.ended);
                }
                (Some(before), None) => {
                    self.0.entry(value(before)).or_default().ended = Some(before);
                }
            }
        }
    }
}

/// What a bouncer in live mode asks about; members that are not given hold for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// An address or a network.
    pub network: Option<Network>,
    /// Whether networks that contain it are meant; else those within it.
    pub contains: bool,
    /// The value, verbatim.
    pub value: Option<String>,
    /// The remediation.
    pub remediation: Option<String>,
}

/// The decisions that a bouncer in live mode asks for.
#[must_use]
pub fn live(view: &View, filter: &Filter, wanted: &Wanted, now: i64) -> Vec<Decision> {
    if wanted
        .remediation
        .as_deref()
        .is_some_and(|kind| kind != "ban")
    {
        return Vec::new();
    }
    let address = wanted
        .network
        .filter(|network| wanted.contains && single(*network));
    let candidates: Vec<&Arc<BlockEntry>> = match address {
        // The common question has an index.
        Some(network) => view
            .covering(network.address(), now)
            .into_iter()
            .filter(|entry| filter.takes(entry))
            .collect(),
        None => filter.active(view, now),
    };
    let taken = candidates.into_iter().filter(|entry| {
        let network = wanted.network.is_none_or(|asked| {
            let listed = entry.key.network();
            listed.is_some_and(|listed| {
                if wanted.contains {
                    covers(listed, asked)
                } else {
                    covers(asked, listed)
                }
            })
        });
        let value = wanted.value.as_deref();
        network && value.is_none_or(|value| entry.key.entity().eq_ignore_ascii_case(value))
    });
    let taken = if filter.dedup {
        longest(taken)
    } else {
        taken.collect()
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
