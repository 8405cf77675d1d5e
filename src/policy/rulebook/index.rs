//! Which rules an exchange has to be held against: the others are false, or do not cover it.
//!
//! Enters: rules. Leaves: an [`Index`] that gives the rules that may say more of an exchange than a plain no, in their order. It goes
//! by fields that the log shows: what it does not show rules nothing out, so a rule that is left out is false whatever was not
//! captured.
//!
//! For each field there is a row of bits, one a rule, for every text, start or address that rules name, and one for all others. The rows
//! that belong to an exchange, joined by `and`, are the answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::net::IpAddr;

use regex::bytes::Regex;

use super::Rule;
use crate::model::RuleKind;
use crate::policy::rules::ast::Test;
use crate::policy::rules::fields::Field;
use crate::policy::rules::required::{self, PathStart, required};

/// Bytes of a path that are looked at: rules that tell paths apart further behind share their bits.
const LONGEST_START: usize = 128;
/// Ranges of a set of addresses that are looked up; each takes two rows of bits. Larger sets are searched rule by rule.
const MOST_RANGES: usize = 1_000;

/// One bit for each rule.
type Bits = Box<[u64]>;

/// What the index asks about an exchange.
pub trait Shown {
    /// A text field; `None` = the log does not show it.
    fn text(&self, field: Field) -> Option<&[u8]>;

    /// Address of the client; `None` = the log does not show it.
    fn address(&self) -> Option<IpAddr>;
}

/// Rules by what an exchange must be for them to matter.
#[derive(Debug)]
pub(super) struct Index {
    enabled: Bits,
    /// Host, method and endpoint.
    texts: [Texts; 3],
    path: Paths,
    address: Addresses,
    /// Path and user agent.
    parts: [Parts; 2],
}

/// The rules for each text of a field.
#[derive(Debug)]
struct Texts {
    field: Field,
    named: HashMap<Box<[u8]>, Bits, foldhash::fast::RandomState>,
    others: Bits,
}

/// The rules for paths by how they start, in lower case.
#[derive(Debug, Default)]
struct Paths {
    /// In the order of their texts.
    starts: Vec<Start>,
    others: Bits,
}

#[derive(Debug)]
struct Start {
    text: Box<[u8]>,
    /// The longest other text that this one starts with.
    parent: Option<usize>,
    /// The rules for this very path.
    whole: Bits,
    /// The rules for longer paths.
    longer: Bits,
}

/// The rules for each range of addresses.
#[derive(Debug, Default)]
struct Addresses {
    /// Where a range begins, and the rules for it, ascending.
    ranges: Vec<(u128, Bits)>,
}

/// The rules for a text that has none of some parts.
#[derive(Debug)]
struct Parts {
    field: Field,
    any: Option<Regex>,
    others: Bits,
}

fn set(bits: &mut Bits, rule: usize) {
    if let Some(word) = bits.get_mut(rule / 64) {
        *word |= 1 << (rule % 64);
    }
}

fn add(bits: &mut Bits, more: &Bits) {
    for (word, more) in bits.iter_mut().zip(more) {
        *word |= more;
    }
}

/// The numbers of the bits of a word.
fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = word.trailing_zeros();
        word &= word.checked_sub(1)?;
        Some(lowest as usize)
    })
}

impl Default for Index {
    /// Of no rules.
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Index {
    pub(super) fn new(rules: &[Rule]) -> Self {
        Self {
            enabled: row(rules, |_| true),
            texts: [Field::Host, Field::Method, Field::Endpoint].map(|f| Texts::new(rules, f)),
            path: Paths::new(rules),
            address: Addresses::new(rules),
            parts: [Field::UriPath, Field::UserAgent].map(|field| Parts::new(rules, field)),
        }
    }

    /// Indexes of the rules that may cover the exchange and say more than no, ascending.
    pub(super) fn candidates<S: Shown>(
        &self,
        shown: &S,
    ) -> impl Iterator<Item = usize> + use<'_, S> {
        let [host, method, endpoint] = &self.texts;
        let [path, agent] = &self.parts;
        let rows = [
            host.rules(shown),
            method.rules(shown),
            endpoint.rules(shown),
            self.path.rules(shown),
            self.address.rules(shown),
            path.rules(shown),
            agent.rules(shown),
        ]
        .map(|row| row.unwrap_or(&self.enabled));
        let word = move |at: usize| {
            let words = rows.iter().map(|row| row.get(at).copied());
            words.fold(u64::MAX, |all, word| all & word.unwrap_or_default())
        };
        let words = (0..self.enabled.len()).map(move |at| (at * 64, word(at)));
        words.flat_map(|(first, word)| ones(word).map(move |bit| first + bit))
    }
}

/// What a rule needs to be true. A token rule says more when it is false, so of its expression nothing follows.
fn needed<'r, T>(rule: &'r Rule, told: &impl Fn(&'r Test) -> Option<Vec<T>>) -> Option<Vec<T>> {
    match rule.kind {
        RuleKind::Token => None,
        RuleKind::Custom | RuleKind::Mtls | RuleKind::Schema => {
            required(rule.expression.root(), told)
        }
    }
}

/// Enabled rules with their numbers.
fn enabled(rules: &[Rule]) -> impl Iterator<Item = (usize, &Rule)> {
    rules.iter().enumerate().filter(|(_, rule)| rule.enabled)
}

fn none(rules: &[Rule]) -> Bits {
    vec![0; rules.len().div_ceil(64)].into()
}

/// The bits of some of the enabled rules.
fn row<'r>(rules: &'r [Rule], wanted: impl Fn(&'r Rule) -> bool) -> Bits {
    let mut row = none(rules);
    for (number, _) in enabled(rules).filter(|(_, rule)| wanted(rule)) {
        set(&mut row, number);
    }
    row
}

impl Texts {
    fn new(rules: &[Rule], field: Field) -> Self {
        let mut texts = Self {
            field,
            named: HashMap::default(),
            others: none(rules),
        };
        for (number, rule) in enabled(rules) {
            let needed = needed(rule, &|test| required::equal(test, field));
            let selected = rule.selector.literal_hosts();
            let selected = selected.filter(|_| field == Field::Host);
            let needed = needed.into_iter().chain(selected).min_by_key(Vec::len);
            let Some(needed) = needed else {
                set(&mut texts.others, number);
                continue;
            };
            for text in needed {
                let bits = texts.named.entry(text.into());
                set(bits.or_insert_with(|| none(rules)), number);
            }
        }
        for bits in texts.named.values_mut() {
            add(bits, &texts.others);
        }
        texts
    }

    /// The row of an exchange; `None` = nothing is ruled out.
    fn rules(&self, shown: &impl Shown) -> Option<&Bits> {
        if self.named.is_empty() {
            return Some(&self.others);
        }
        let text = shown.text(self.field)?;
        Some(self.named.get(text).unwrap_or(&self.others))
    }
}

impl Paths {
    fn new(rules: &[Rule]) -> Self {
        let mut others = none(rules);
        let mut starts: BTreeMap<Vec<u8>, (Bits, Bits)> = BTreeMap::new();
        for (number, rule) in enabled(rules) {
            let Some(needed) = needed(rule, &required::path) else {
                set(&mut others, number);
                continue;
            };
            for PathStart { mut text, whole } in needed {
                let whole = whole && text.len() <= LONGEST_START;
                text.truncate(LONGEST_START);
                let bits = starts.entry(text);
                let (same, longer) = bits.or_insert_with(|| (none(rules), none(rules)));
                set(same, number);
                if !whole {
                    set(longer, number);
                }
            }
        }
        // A text stands behind those that it starts with, so their bits are complete when it takes them over.
        let mut ordered: Vec<Start> = Vec::with_capacity(starts.len());
        for (text, (mut whole, mut longer)) in starts {
            let mut parent = ordered.len().checked_sub(1);
            while let Some(before) = parent.and_then(|at| ordered.get(at)) {
                if text.starts_with(&before.text) {
                    break;
                }
                parent = before.parent;
            }
            let above = parent.and_then(|at| ordered.get(at));
            add(&mut longer, above.map_or(&others, |above| &above.longer));
            add(&mut whole, &longer);
            ordered.push(Start {
                text: text.into(),
                parent,
                whole,
                longer,
            });
        }
        Self {
            starts: ordered,
            others,
        }
    }

    fn rules(&self, shown: &impl Shown) -> Option<&Bits> {
        if self.starts.is_empty() {
            return Some(&self.others);
        }
        let path = shown.text(Field::UriPath)?;
        let mut folded = [0; LONGEST_START];
        for (lower, byte) in folded.iter_mut().zip(path) {
            *lower = byte.to_ascii_lowercase();
        }
        let head = folded.get(..path.len()).unwrap_or(&folded);
        // Every text that the path starts with is this one, or one that this one starts with.
        let behind = self.starts.partition_point(|start| *start.text <= *head);
        let mut nearest = behind.checked_sub(1);
        while let Some(start) = nearest.and_then(|at| self.starts.get(at)) {
            if head.starts_with(&start.text) {
                let whole = path.len() == start.text.len();
                return Some(if whole { &start.whole } else { &start.longer });
            }
            nearest = start.parent;
        }
        Some(&self.others)
    }
}

/// Addresses of both families in one order: those of version 4 as they are mapped into version 6.
fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Addresses {
    fn new(rules: &[Rule]) -> Self {
        let mut others = none(rules);
        // Where a range begins or has ended, with the rules for which it does.
        let mut edges: BTreeMap<u128, Vec<(usize, bool)>> = BTreeMap::new();
        for (number, rule) in enabled(rules) {
            let needed = needed(rule, &required::address);
            let Some(needed) = needed.filter(|needed| needed.len() <= MOST_RANGES) else {
                set(&mut others, number);
                continue;
            };
            for (first, last) in needed {
                edges
                    .entry(bits_of(first))
                    .or_default()
                    .push((number, true));
                if let Some(end) = bits_of(last).checked_add(1) {
                    edges.entry(end).or_default().push((number, false));
                }
            }
        }
        if edges.is_empty() {
            return Self {
                ranges: vec![(0, others)],
            };
        }
        // Ranges of one rule may overlap, so they are counted.
        let mut open: BTreeMap<usize, usize> = BTreeMap::new();
        let mut ranges = vec![(0, others.clone())];
        for (at, edges) in edges {
            for (number, begins) in edges {
                let count = open.entry(number).or_default();
                *count = if begins {
                    *count + 1
                } else {
                    count.saturating_sub(1)
                };
            }
            let mut bits = others.clone();
            for (number, _) in open.iter().filter(|(_, count)| **count > 0) {
                set(&mut bits, *number);
            }
            ranges.push((at, bits));
        }
        Self { ranges }
    }

    fn rules(&self, shown: &impl Shown) -> Option<&Bits> {
        if let [(_, only)] = self.ranges.as_slice() {
            return Some(only);
        }
        let address = bits_of(shown.address()?);
        let behind = self.ranges.partition_point(|(first, _)| *first <= address);
        let (_, bits) = self.ranges.get(behind.checked_sub(1)?)?;
        Some(bits)
    }
}

impl Parts {
    fn new(rules: &[Rule], field: Field) -> Self {
        let parts = |rule| needed(rule, &|test| required::part(test, field));
        let all = enabled(rules).filter_map(|(_, rule)| parts(rule)).flatten();
        let all: BTreeSet<&[u8]> = all.collect();
        let any = any_of(&all);
        Self {
            field,
            others: row(rules, |rule| any.is_none() || parts(rule).is_none()),
            any,
        }
    }

    fn rules(&self, shown: &impl Shown) -> Option<&Bits> {
        let Some(any) = &self.any else {
            return Some(&self.others);
        };
        let text = shown.text(self.field)?;
        (!any.is_match(text)).then_some(&self.others)
    }
}

/// What finds any of these parts; `None` = there is none, or they are too many.
fn any_of(parts: &BTreeSet<&[u8]>) -> Option<Regex> {
    let mut pattern = String::new();
    for part in parts {
        pattern.push_str(if pattern.is_empty() { "(?-u)" } else { "|" });
        for byte in *part {
            let _ = write!(pattern, r"\x{byte:02x}");
        }
    }
    let pattern = Some(pattern).filter(|pattern| !pattern.is_empty());
    pattern.and_then(|pattern| Regex::new(&pattern).ok())
}

#[cfg(test)]
mod tests;
