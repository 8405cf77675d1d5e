//! Which rules an exchange has to be held against: the others are false, or do not cover it.
//!
//! Enters: rules. Leaves: an [`Index`] that gives, for the host, method, path and endpoint of an exchange, the rules that
//! may say more than a plain no, in their order. It reads only fields that every log shows, so a rule that it leaves out
//! is false whatever was not captured.
//!
//! Each field has one row of bits for every text that rules name, one bit a rule, and one row for all other texts. The rows that belong to
//! an exchange, joined by `and`, are the answer.

use std::collections::{BTreeMap, HashMap};

use super::Rule;
use crate::model::RuleKind;
use crate::policy::rules::ast::{Node, Test};
use crate::policy::rules::fields::Field;
use crate::policy::rules::required::{self, PathStart, required};

/// Bytes of a path that are looked at: rules that tell paths apart further behind share their bits.
const LONGEST_START: usize = 128;

/// One bit for each rule.
type Bits = Box<[u64]>;

/// What the index goes by. All of it is known of every exchange.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Lower-case host without port.
    pub host: &'a str,
    /// Method as sent.
    pub method: &'a str,
    /// Normalised path.
    pub path: &'a str,
    /// Canonical template of the endpoint.
    pub endpoint: &'a str,
}

/// Rules by what an exchange must be for them to matter.
#[derive(Debug, Default)]
pub(super) struct Index {
    host: Texts,
    method: Texts,
    endpoint: Texts,
    path: Paths,
}

/// The rules for each text of a field.
#[derive(Debug, Default)]
struct Texts {
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

impl Index {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let texts = |field| {
            let needs = move |rule| needed(rule, &|test| required::equal(test, field));
            Texts::new(rules, needs)
        };
        let hosts = |rule| {
            let named = needed(rule, &|test| required::equal(test, Field::Host));
            let selected = rule.selector.literal_hosts();
            let both = named.into_iter().chain(selected);
            both.min_by_key(Vec::len)
        };
        Self {
            host: Texts::new(rules, hosts),
            method: texts(Field::Method),
            endpoint: texts(Field::Endpoint),
            path: Paths::new(rules),
        }
    }

    /// Indexes of the rules that may cover the exchange and say more than no, ascending.
    pub(super) fn candidates(&self, seen: Seen<'_>) -> impl Iterator<Item = usize> {
        let host = self.host.rules(seen.host);
        let method = self.method.rules(seen.method);
        let endpoint = self.endpoint.rules(seen.endpoint);
        let path = self.path.rules(seen.path);
        let words = host.iter().zip(method).zip(endpoint).zip(path);
        words
            .enumerate()
            .flat_map(|(at, (((host, method), endpoint), path))| {
                ones(host & method & endpoint & path).map(move |bit| at * 64 + bit)
            })
    }
}

/// What a rule needs to be true. A token rule says more when it is false, so of its expression nothing follows.
fn needed<'r, T>(rule: &'r Rule, told: &impl Fn(&'r Test) -> Option<Vec<T>>) -> Option<Vec<T>> {
    let root: &Node = rule.expression.root();
    match rule.kind {
        RuleKind::Token => None,
        RuleKind::Custom | RuleKind::Mtls | RuleKind::Schema => required(root, told),
    }
}

/// Enabled rules with their numbers.
fn enabled(rules: &[Rule]) -> impl Iterator<Item = (usize, &Rule)> {
    rules.iter().enumerate().filter(|(_, rule)| rule.enabled)
}

fn none(rules: &[Rule]) -> Bits {
    vec![0; rules.len().div_ceil(64)].into()
}

impl Texts {
    fn new<'r>(rules: &'r [Rule], needs: impl Fn(&'r Rule) -> Option<Vec<&'r [u8]>>) -> Self {
        let mut texts = Self {
            named: HashMap::default(),
            others: none(rules),
        };
        for (number, rule) in enabled(rules) {
            match needs(rule) {
                None => set(&mut texts.others, number),
                Some(needed) => {
                    for text in needed {
                        let bits = texts
                            .named
                            .entry(text.into())
                            .or_insert_with(|| none(rules));
                        set(bits, number);
                    }
                }
            }
        }
        for bits in texts.named.values_mut() {
            add(bits, &texts.others);
        }
        texts
    }

    fn rules(&self, text: &str) -> &Bits {
        if self.named.is_empty() {
            return &self.others;
        }
        self.named.get(text.as_bytes()).unwrap_or(&self.others)
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
        // A text stands right behind those that it starts with, so their bits are complete when it takes them over.
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

    fn rules(&self, path: &str) -> &Bits {
        if self.starts.is_empty() {
            return &self.others;
        }
        let mut folded = [0; LONGEST_START];
        let length = path.len().min(LONGEST_START);
        for (lower, byte) in folded.iter_mut().zip(path.bytes()) {
            *lower = byte.to_ascii_lowercase();
        }
        let head = folded.get(..length).unwrap_or_default();
        // Every text that the path starts with is this one, or one that this one starts with.
        let behind = self.starts.partition_point(|start| *start.text <= *head);
        let mut nearest = behind.checked_sub(1);
        while let Some(start) = nearest.and_then(|at| self.starts.get(at)) {
            if head.starts_with(&start.text) {
                let whole = path.len() == start.text.len();
                return if whole { &start.whole } else { &start.longer };
            }
            nearest = start.parent;
        }
        &self.others
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{rule, zone};
    use super::*;
    use crate::policy::compile;

    const SEEN: Seen<'_> = Seen {
        host: "api.example",
        method: "GET",
        path: "/a/b",
        endpoint: "/a/{var1}",
    };

    /// Numbers of the rules that are left of custom rules with these expressions.
    fn left(expressions: &[&str], seen: Seen<'_>) -> Vec<usize> {
        let title = |number: usize| format!("rule {number}");
        let rules = expressions.iter().enumerate();
        let rules = rules.map(|(number, text)| rule(&title(number), RuleKind::Custom, text));
        let policy = compile(&[zone(rules.collect())]).unwrap();
        let index = &policy.zones.first().unwrap().rules.index;
        index.candidates(seen).collect()
    }

    #[test]
    fn only_rules_that_may_be_true_are_left() {
        for (expression, expected) in [
            ("ssl", true),
            ("false", false),
            (r#"http.host eq "api.example""#, true),
            (r#"http.host eq "other""#, false),
            (r#"http.host in {"other" "api.example"}"#, true),
            (
                r#"http.host eq "api.example" and http.request.method eq "PUT""#,
                false,
            ),
            (r#"http.request.method in {"PUT" "GET"}"#, true),
            (r#"gatewatch.endpoint eq "/a/{var1}""#, true),
            (r#"gatewatch.endpoint eq "/a/b""#, false),
            (r#"http.request.uri.path eq "/a/b""#, true),
            (r#"http.request.uri.path eq "/a""#, false),
            (r#"http.request.uri.path eq "/a/b/c""#, false),
            (r#"starts_with(http.request.uri.path, "/a")"#, true),
            (r#"starts_with(http.request.uri.path, "/a/b")"#, true),
            (r#"starts_with(http.request.uri.path, "/b")"#, false),
            (r#"http.request.uri.path wildcard "/A/*""#, true),
            (r#"http.request.uri.path wildcard "/B/*""#, false),
        ] {
            let found = left(&[expression], SEEN);
            assert_eq!(
                found,
                if expected { vec![0] } else { vec![] },
                "{expression}"
            );
        }
    }

    #[test]
    fn a_path_finds_every_text_that_it_starts_with() {
        let deep = format!("/{}", "x".repeat(LONGEST_START));
        let deep_rule = format!(r#"http.request.uri.path eq "{deep}""#);
        let expressions = [
            r#"starts_with(http.request.uri.path, "/a")"#,
            r#"http.request.uri.path eq "/a""#,
            r#"starts_with(http.request.uri.path, "/a/b")"#,
            r#"starts_with(http.request.uri.path, "/a/c")"#,
            r#"http.request.uri.path eq "/a/b/d""#,
            r#"http.request.uri.path contains "e""#,
            &deep_rule,
        ];
        for (path, expected) in [
            ("/", &[5][..]),
            ("/a", &[0, 1, 5]),
            ("/A", &[0, 1, 5]),
            ("/aa", &[0, 5]),
            ("/a/b", &[0, 2, 5]),
            ("/a/b/d", &[0, 2, 4, 5]),
            ("/a/b/de", &[0, 2, 5]),
            ("/a/bz", &[0, 2, 5]),
            ("/a/c/d", &[0, 3, 5]),
            ("/a/d", &[0, 5]),
            ("/b", &[5]),
            (&deep, &[5, 6]),
            (&deep[..deep.len() - 1], &[5, 6]),
            (&deep[..deep.len() - 2], &[5]),
        ] {
            assert_eq!(
                left(&expressions, Seen { path, ..SEEN }),
                expected,
                "{path}"
            );
        }
    }

    #[test]
    fn many_rules_keep_their_order() {
        let text = |number: usize| match number % 3 {
            0 => format!(r#"http.host eq "h{number}""#),
            1 => r#"http.host eq "api.example""#.to_owned(),
            _ => "ssl".to_owned(),
        };
        let texts: Vec<String> = (0..200).map(text).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let expected: Vec<usize> = (0..200).filter(|number| number % 3 != 0).collect();
        assert_eq!(left(&texts, SEEN), expected);
    }

    #[test]
    fn selectors_count_and_token_rules_are_left_out_by_them_only() {
        let never = r#"http.host eq "nowhere""#;
        let with = |kind, hosts: &[&str], enabled| {
            let mut rule = rule("r", kind, never);
            rule.include_hosts = hosts.iter().map(ToString::to_string).collect();
            rule.enabled = enabled;
            let policy = compile(&[zone(vec![rule])]).unwrap();
            let index = &policy.zones.first().unwrap().rules.index;
            index.candidates(SEEN).count() == 1
        };
        assert!(with(RuleKind::Token, &[], true));
        assert!(with(RuleKind::Token, &["api.example"], true));
        assert!(with(RuleKind::Token, &["*.partners.example"], true));
        assert!(!with(RuleKind::Token, &["x.partners.example"], true));
        assert!(!with(RuleKind::Token, &[], false));
        assert!(!with(RuleKind::Custom, &["api.example"], true));
    }
}
