//! `[blocklist]` and `[[blocklist.thresholds]]`: what is listed, when, and whether it is meant.

use std::collections::BTreeSet;

use super::BlockListSettings;
use super::reader::Section;
use super::rules::read_duration;
use crate::detect::thresholds::{REQUEST, Threshold, defaults};
use crate::model::{BlockKind, MINUTE_MILLIS, Network};
use crate::policy::objects::{RuleObject, ZoneObject};
use crate::policy::rulebook::SIGNALS;

/// Kinds of entities that windows count signals of.
const KINDS: [BlockKind; 4] = [
    BlockKind::Ip,
    BlockKind::Session,
    BlockKind::Token,
    BlockKind::Certificate,
];
/// Widest window: every restart reads as many minutes back.
const MAX_WITHIN: i64 = 24 * 60 * MINUTE_MILLIS;

/// Width in which requests of sessions are counted.
const REQUEST_WIDTH: i64 = 10 * MINUTE_MILLIS;

/// `[blocklist]`; `zones` say which rules there are.
pub(super) fn read_blocklist(section: &Section<'_>, zones: &[ZoneObject]) -> BlockListSettings {
    let enforce = section.boolean("enforce", false);
    let allow = section.strings("allow", false).into_iter().enumerate();
    let allow = allow
        .filter_map(|(index, text)| {
            let network = Network::parse(&text);
            if network.is_none() {
                section.problem(
                    &format!("allow[{index}]"),
                    format!("{text:?} is not a network"),
                    "an address or a network, e.g. \"192.0.2.0/24\"",
                );
            }
            network
        })
        .collect();
    let max = usize::try_from(section.integer("max", 100_000)).unwrap_or(usize::MAX);
    let max_age = read_duration(section, "max_age");
    let mut thresholds = if section.boolean("default_thresholds", true) {
        defaults::thresholds()
    } else {
        Vec::new()
    };
    let mut named: Vec<String> = Vec::new();
    for written in section.sections("thresholds") {
        let name = written.required("name", "name = \"credential stuffing\"");
        if named.contains(&name) {
            let hint = "give each threshold its own name";
            written.problem("name", format!("there is another threshold {name:?}"), hint);
        }
        let known = thresholds
            .iter()
            .position(|threshold| threshold.name == name);
        // A default that is named is changed in what is written.
        let base = known.and_then(|at| thresholds.get(at)).cloned();
        let threshold = read_threshold(&written, &name, base, zones);
        named.push(name);
        match (known, threshold) {
            (Some(at), Some(threshold)) => {
                if let Some(slot) = thresholds.get_mut(at) {
                    *slot = threshold;
                }
            }
            (None, Some(threshold)) => thresholds.push(threshold),
            (Some(at), None) => {
                thresholds.remove(at);
            }
            (None, None) => {}
        }
    }
    for threshold in &thresholds {
        let called =
            |rule: &RuleObject| rule_id(rule) == threshold.name || rule.title == threshold.name;
        if rules(zones).any(called) {
            section.problem(
                "thresholds",
                format!(
                    "a rule and a threshold are both called {:?}",
                    threshold.name
                ),
                "entries stand for one of them: rename the rule, or your threshold",
            );
        }
    }
    section.finish();
    BlockListSettings {
        enforce,
        allow,
        max,
        max_age,
        thresholds,
    }
}

/// One threshold; `None` = it is switched off, or not usable.
fn read_threshold(
    section: &Section<'_>,
    name: &str,
    base: Option<Threshold>,
    zones: &[ZoneObject],
) -> Option<Threshold> {
    let known = base.is_some();
    let enabled = section.boolean("enabled", true);
    let base = base.unwrap_or_else(|| Threshold {
        name: name.to_owned(),
        signal: String::new(),
        kind: BlockKind::Ip,
        count: 0,
        within: 0,
        distinct_endpoints: 0,
        distinct_addresses: 0,
        duration: defaults::DURATION,
        blocks: false,
    });
    if name.is_empty() || name.chars().any(char::is_control) || name.chars().count() > 50 {
        section.problem("name", "a name has 1 to 50 characters in one line", "");
    }
    let required = |key: &'static str, hint: &str| {
        if !known && !section.has(key) {
            section.problem(key, "is missing", hint);
        }
    };
    required(
        "signal",
        "signal = \"refused\", or the title or id of a rule",
    );
    required("count", "count = 20");
    required("within", "within = \"5m\"");
    let signal = match section.string("signal") {
        Some(signal) => signal_of(section, signal, zones),
        None => base.signal,
    };
    let kind = match section.string("kind") {
        None => base.kind,
        Some(text) => BlockKind::parse(&text)
            .filter(|kind| KINDS.contains(kind))
            .unwrap_or_else(|| {
                let names = KINDS.map(BlockKind::as_str).join(", ");
                let message = format!("signals are not counted of {text:?}");
                section.problem("kind", message, &format!("one of {names}"));
                base.kind
            }),
    };
    let within = read_duration(section, "within").unwrap_or(base.within);
    if section.has("within") && (within % MINUTE_MILLIS != 0 || within > MAX_WITHIN) {
        section.problem(
            "within",
            "must be whole minutes, at most 24h",
            "within = \"5m\"",
        );
    }
    let distinct_endpoints = section.integer("distinct_endpoints", base.distinct_endpoints);
    if signal == REQUEST {
        if kind != BlockKind::Session {
            let hint = "kind = \"session\"; of other entities, count what a rule says of them";
            section.problem("kind", "every request is counted of sessions only", hint);
        }
        if within % REQUEST_WIDTH != 0 {
            let message = "requests are counted in steps of 10 minutes";
            section.problem("within", message, "within = \"20m\"");
        }
        if distinct_endpoints > 0 {
            let message = "endpoints are not counted of every request";
            let hint = "distinct_addresses, or the signal of a rule";
            section.problem("distinct_endpoints", message, hint);
        }
    }
    let count = section.integer("count", base.count);
    if section.has("count") && count == 0 {
        section.problem("count", "must be at least 1", "");
    }
    let threshold = Threshold {
        signal,
        kind,
        count,
        within,
        distinct_endpoints,
        distinct_addresses: section.integer("distinct_addresses", base.distinct_addresses),
        duration: read_duration(section, "duration").unwrap_or(base.duration),
        blocks: match section.string("action").as_deref() {
            None => base.blocks,
            Some("log") => false,
            Some("block") => true,
            Some(other) => {
                section.problem(
                    "action",
                    format!("{other:?} is not an action"),
                    "log or block",
                );
                false
            }
        },
        name: base.name,
    };
    section.finish();
    enabled.then_some(threshold)
}

/// A built-in signal, or the id of the rule that is meant.
fn signal_of(section: &Section<'_>, signal: String, zones: &[ZoneObject]) -> String {
    if SIGNALS.contains(&signal.as_str()) {
        return signal;
    }
    let meant = rules(zones).filter(|rule| rule_id(rule) == signal || rule.title == signal);
    let ids: BTreeSet<&str> = meant.map(rule_id).collect();
    match ids.iter().collect::<Vec<_>>()[..] {
        [id] => return (*id).to_owned(),
        [] => {
            let titles: Vec<&str> = rules(zones).map(|rule| rule.title.as_str()).collect();
            section.problem(
                "signal",
                format!("{signal:?} is neither a signal nor a rule"),
                &format!(
                    "signals: {}; rules: {}",
                    SIGNALS.join(", "),
                    titles.join(", ")
                ),
            );
        }
        _ => section.problem(
            "signal",
            format!("several rules are called {signal:?}"),
            &format!(
                "name one by its id: {}",
                ids.into_iter().collect::<Vec<_>>().join(", ")
            ),
        ),
    }
    signal
}

fn rules(zones: &[ZoneObject]) -> impl Iterator<Item = &RuleObject> {
    zones.iter().flat_map(|zone| &zone.rules)
}

/// What windows and entries call a rule.
fn rule_id(rule: &RuleObject) -> &str {
    rule.id.as_deref().unwrap_or(&rule.title)
}
