//! The expression as a puzzle: which of its comparisons can be true together?
//!
//! What the comparisons of one operand can say together follows from a few values that stand for all: each literal, what
//! lies between them, a missing value. Patterns may say anything about a value that is no literal. Every combination is
//! tried as long as there are not too many, so what is found is never wrong.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::policy::rules::ast::{Check, Node, Operand, Order, Test};
use crate::policy::rules::fields::Field;
use crate::policy::rules::lists::Set;
use crate::policy::rules::types::{Scalar, Shape, Value};

/// Most combinations that are tried.
const MAX_COMBINATIONS: usize = 16_384;

/// Most comparisons in one expression that are combined.
const MAX_ATOMS: usize = 256;

/// What a group of comparisons is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// Everything that is asked about the token of one configuration.
    Token(usize),
    /// Presence of a session identifier.
    Session,
    /// The three flags of the client certificate.
    Certificate,
    /// One operand.
    Operand(String),
    /// `any` or `all` over something.
    Quantified(String),
}

/// An expression over numbered comparisons.
enum Formula {
    Constant(bool),
    Atom(usize),
    Not(Box<Formula>),
    And(Vec<Formula>),
    Or(Vec<Formula>),
    Xor(Vec<Formula>),
}

impl Formula {
    fn value(&self, atoms: &[bool]) -> bool {
        match self {
            Self::Constant(value) => *value,
            Self::Atom(number) => atoms.get(*number).copied().unwrap_or(false),
            Self::Not(inner) => !inner.value(atoms),
            Self::And(parts) => parts.iter().all(|part| part.value(atoms)),
            Self::Or(parts) => parts.iter().any(|part| part.value(atoms)),
            Self::Xor(parts) => parts
                .iter()
                .fold(false, |odd, part| odd ^ part.value(atoms)),
        }
    }
}

/// Comparisons about one subject, and what they can say together.
struct Group {
    subject: Subject,
    atoms: Vec<usize>,
    states: Vec<Vec<bool>>,
}

pub(super) struct Puzzle {
    formula: Formula,
    atoms: usize,
    groups: Vec<Group>,
}

/// Comparisons by subject, in the order of the text.
#[derive(Default)]
struct Builder<'n> {
    atoms: usize,
    order: Vec<Subject>,
    found: HashMap<Subject, Vec<(usize, Option<&'n Test>)>>,
}

impl<'n> Builder<'n> {
    fn formula(&mut self, node: &'n Node) -> Formula {
        let mut parts = |parts: &'n [Node]| parts.iter().map(|part| self.formula(part)).collect();
        match node {
            Node::Constant(value) => Formula::Constant(*value),
            Node::And(nodes) => Formula::And(parts(nodes)),
            Node::Or(nodes) => Formula::Or(parts(nodes)),
            Node::Xor(nodes) => Formula::Xor(parts(nodes)),
            Node::Not(inner) => Formula::Not(Box::new(self.formula(inner))),
            Node::Any(_) | Node::All(_) => {
                let subject = Subject::Quantified(quantified_key(node));
                // The same question twice is one comparison.
                let known = self.found.get(&subject).and_then(|known| known.first());
                match known {
                    Some((number, _)) => Formula::Atom(*number),
                    None => self.atom(subject, None),
                }
            }
            Node::Test(test) => self.atom(subject_of(&test.operand), Some(test)),
        }
    }

    fn atom(&mut self, subject: Subject, test: Option<&'n Test>) -> Formula {
        let number = self.atoms;
        self.atoms += 1;
        let known = self.found.entry(subject.clone()).or_default();
        if known.is_empty() {
            self.order.push(subject);
        }
        known.push((number, test));
        Formula::Atom(number)
    }
}

fn subject_of(operand: &Operand) -> Subject {
    match operand {
        Operand::TokenValid(index) | Operand::TokenPresent(index) => Subject::Token(*index),
        Operand::Field(Field::AuthIdPresent) => Subject::Session,
        Operand::Field(Field::CertPresented | Field::CertVerified | Field::CertRevoked) => {
            Subject::Certificate
        }
        operand => Subject::Operand(format!("{operand:?}")),
    }
}

/// A text that is the same for the same question.
fn quantified_key(node: &Node) -> String {
    let all = |parts: &[Node]| {
        parts
            .iter()
            .map(quantified_key)
            .collect::<Vec<_>>()
            .join(",")
    };
    match node {
        Node::Constant(value) => value.to_string(),
        Node::Test(test) => format!("{:?}{}", test.operand, check_key(&test.check)),
        Node::Not(inner) => format!("!({})", quantified_key(inner)),
        Node::Any(inner) => format!("any({})", quantified_key(inner)),
        Node::All(inner) => format!("all({})", quantified_key(inner)),
        Node::And(parts) => format!("and({})", all(parts)),
        Node::Or(parts) => format!("or({})", all(parts)),
        Node::Xor(parts) => format!("xor({})", all(parts)),
    }
}

fn check_key(check: &Check) -> String {
    match check {
        Check::Contains(finder) => format!("contains {:?}", finder.needle()),
        Check::Matches(regex) => format!("matches {:?}", regex.as_str()),
        Check::Wildcard(pattern) => format!("wildcard {:?}", pattern.parts()),
        Check::In(set, _) => match set.as_ref() {
            Set::Ints(ranges) => format!("in {ranges:?}"),
            Set::Texts(literals) => format!("in {:?}", literals.iter().collect::<Vec<_>>()),
            Set::Ips(set) => format!("in {:?}", set.ranges().collect::<Vec<_>>()),
        },
        check => format!("{check:?}"),
    }
}

impl Puzzle {
    /// `None` when there is too much to try.
    pub(super) fn of(root: &Node) -> Option<Self> {
        let mut builder = Builder::default();
        let formula = builder.formula(root);
        if builder.atoms > MAX_ATOMS {
            return None;
        }
        let mut combinations = 1_usize;
        let mut groups = Vec::with_capacity(builder.order.len());
        for subject in builder.order {
            let tests = builder.found.remove(&subject)?;
            let states = states(&subject, &tests)?;
            combinations = combinations.checked_mul(states.len())?;
            if combinations > MAX_COMBINATIONS {
                return None;
            }
            groups.push(Group {
                subject,
                atoms: tests.into_iter().map(|(number, _)| number).collect(),
                states,
            });
        }
        Some(Self {
            formula,
            atoms: builder.atoms,
            groups,
        })
    }

    /// Calls `see` with every combination of states of all groups but the one at `fixed`, until it returns false.
    fn combinations(&self, fixed: Option<usize>, see: &mut dyn FnMut(&mut [bool]) -> bool) {
        let mut atoms = vec![false; self.atoms];
        let mut places = vec![0_usize; self.groups.len()];
        loop {
            for (group, place) in self.groups.iter().zip(&places) {
                group.set(*place, &mut atoms);
            }
            if !see(&mut atoms) {
                return;
            }
            // Counts up, one digit per group.
            let mut carried = true;
            for (number, (group, place)) in self.groups.iter().zip(&mut places).enumerate() {
                if fixed == Some(number) {
                    continue;
                }
                *place += 1;
                carried = *place >= group.states.len();
                if !carried {
                    break;
                }
                *place = 0;
            }
            if carried {
                return;
            }
        }
    }

    pub(super) fn constant(&self) -> Option<bool> {
        let mut seen = [false; 2];
        self.combinations(None, &mut |atoms| {
            let value = self.formula.value(atoms);
            if let Some(seen) = seen.get_mut(usize::from(value)) {
                *seen = true;
            }
            seen != [true; 2]
        });
        match seen {
            [false, true] => Some(true),
            [true, false] => Some(false),
            _ => None,
        }
    }

    /// Subjects for which the rule fires for the good and spares the bad, and never the other way round.
    pub(super) fn inverted(&self, fires: bool) -> Vec<(Subject, &'static str)> {
        let mut found = Vec::new();
        for (number, group) in self.groups.iter().enumerate() {
            let what = match group.subject {
                Subject::Session => "the rule fires for requests that carry a session identifier",
                Subject::Token(_) => "the rule fires for requests whose token is valid",
                Subject::Certificate => "the rule fires for clients whose certificate is valid",
                _ => continue,
            };
            let (mut punished, mut rewarded) = (false, false);
            self.combinations(Some(number), &mut |atoms| {
                group.set(NOTHING_SHOWN, atoms);
                let bad_fires = self.formula.value(atoms) == fires;
                group.set(ALL_IN_ORDER, atoms);
                let good_fires = self.formula.value(atoms) == fires;
                punished |= good_fires && !bad_fires;
                rewarded |= bad_fires && !good_fires;
                true
            });
            if punished && !rewarded {
                found.push((group.subject.clone(), what));
            }
        }
        found
    }
}

impl Group {
    fn set(&self, state: usize, atoms: &mut [bool]) {
        let values = self.states.get(state).into_iter().flatten();
        for (number, value) in self.atoms.iter().zip(values) {
            if let Some(atom) = atoms.get_mut(*number) {
                *atom = *value;
            }
        }
    }
}

/// The state of a group about tokens, sessions or certificates in which nothing was shown.
const NOTHING_SHOWN: usize = 0;

/// The state of such a group in which everything is as it should be.
const ALL_IN_ORDER: usize = 1;

/// What the comparisons of a subject can say together; `None` when that is too much.
fn states(subject: &Subject, tests: &[(usize, Option<&Test>)]) -> Option<Vec<Vec<bool>>> {
    let table = |rows: &[&dyn Fn(&Operand) -> bool]| {
        let row = |row: &&dyn Fn(&Operand) -> bool| {
            let tests = tests.iter();
            tests
                .map(|(_, test)| test.is_some_and(|test| row(&test.operand)))
                .collect()
        };
        rows.iter().map(row).collect()
    };
    Some(match subject {
        Subject::Quantified(_) => vec![vec![false], vec![true]],
        Subject::Session => table(&[&|_| false, &|_| true]),
        Subject::Token(_) => table(&[&|_| false, &|_| true, &|operand| {
            matches!(operand, Operand::TokenPresent(_))
        }]),
        Subject::Certificate => table(&[
            &|_| false,
            &|operand| !matches!(operand, Operand::Field(Field::CertRevoked)),
            &|operand| matches!(operand, Operand::Field(Field::CertPresented)),
            &|_| true,
        ]),
        Subject::Operand(_) => {
            let tests: Vec<&Test> = tests.iter().filter_map(|(_, test)| *test).collect();
            let mut rows = Vec::new();
            let operand = tests.first().map(|test| &test.operand)?;
            if may_be_missing(operand) {
                rows.push(vec![false; tests.len()]);
            }
            for (value, exact) in samples(operand, &tests) {
                add_rows(&tests, &value, exact, &mut rows)?;
            }
            rows.sort_unstable();
            rows.dedup();
            rows
        }
    })
}

/// What the tests say about a value. About one that only stands for others, patterns may say anything.
fn add_rows(
    tests: &[&Test],
    value: &Value<'_>,
    exact: bool,
    rows: &mut Vec<Vec<bool>>,
) -> Option<()> {
    let loose = |check: &Check| {
        !exact
            && matches!(
                check,
                Check::Contains(_) | Check::Matches(_) | Check::Wildcard(_) | Check::Bits(_)
            )
    };
    // The same pattern twice says the same.
    let mut keys: Vec<String> = Vec::new();
    let mut digits = Vec::with_capacity(tests.len());
    for test in tests {
        digits.push(loose(&test.check).then(|| {
            let key = check_key(&test.check);
            keys.iter()
                .position(|known| *known == key)
                .unwrap_or_else(|| {
                    keys.push(key);
                    keys.len() - 1
                })
        }));
    }
    let combinations = 1_usize.checked_shl(u32::try_from(keys.len()).ok()?)?;
    if combinations.saturating_add(rows.len()) > MAX_COMBINATIONS {
        return None;
    }
    for combination in 0..combinations {
        let row = tests.iter().zip(&digits).map(|(test, digit)| match digit {
            Some(digit) => (combination >> digit) & 1 == 1,
            None => test.check.passes(value),
        });
        rows.push(row.collect());
    }
    Some(())
}

/// Whether the value can be missing, which makes every comparison false.
fn may_be_missing(operand: &Operand) -> bool {
    !matches!(
        operand,
        Operand::Field(
            Field::Host
                | Field::Method
                | Field::Uri
                | Field::UriPath
                | Field::UriQuery
                | Field::UriExtension
                | Field::RawUri
                | Field::RawUriPath
                | Field::Second
                | Field::Millisecond
                | Field::Zone
                | Field::Endpoint
                | Field::EndpointSource
                | Field::SessionOutcome
                | Field::SchemaRequest
                | Field::SchemaResponse
                | Field::MtlsOutcome
        )
    )
}

/// Values that stand for all: each literal exactly, and what lies next to one for everything up to the next.
fn samples(operand: &Operand, tests: &[&Test]) -> Vec<(Value<'static>, bool)> {
    let kind = operand.kind();
    let mut samples = Vec::new();
    if kind.shape != Shape::One {
        return samples;
    }
    match kind.of {
        Scalar::Bool => {
            samples.push((Value::Bool(false), true));
            samples.push((Value::Bool(true), true));
        }
        Scalar::Int => {
            let mut ends = vec![i64::MIN, i64::MAX];
            for test in tests {
                match &test.check {
                    Check::Int(_, number) => ends.push(*number),
                    Check::In(set, _) => {
                        if let Set::Ints(ranges) = set.as_ref() {
                            ends.extend(ranges.iter().flat_map(|(first, last)| [*first, *last]));
                        }
                    }
                    _ => {}
                }
            }
            for end in ends {
                samples.push((Value::Int(end), true));
                samples.push((Value::Int(end.saturating_sub(1)), false));
                samples.push((Value::Int(end.saturating_add(1)), false));
            }
        }
        Scalar::Ip => {
            let mut ends: Vec<IpAddr> = vec![IpAddr::from([0; 4]), IpAddr::from([0_u8; 16])];
            for test in tests {
                match &test.check {
                    Check::Ip(Order::Equal | Order::NotEqual, ip) => ends.push(*ip),
                    Check::In(set, _) => {
                        if let Set::Ips(set) = set.as_ref() {
                            ends.extend(set.ranges().flat_map(|(first, last)| [first, last]));
                        }
                    }
                    _ => {}
                }
            }
            for end in ends {
                samples.push((Value::Ip(end), true));
                samples.extend(neighbours(end).map(|ip| (Value::Ip(ip), false)));
            }
        }
        Scalar::Bytes => {
            let mut literals: Vec<&[u8]> = vec![b""];
            for test in tests {
                match &test.check {
                    Check::Bytes(_, text) => literals.push(text),
                    Check::In(set, _) => {
                        if let Set::Texts(set) = set.as_ref() {
                            literals.extend(set.iter());
                        }
                    }
                    _ => {}
                }
            }
            for text in literals {
                samples.push((Value::Bytes(text.to_vec().into()), true));
                let next = [text, b"\0"].concat();
                samples.push((Value::Bytes(next.into()), false));
            }
        }
    }
    samples
}

/// The addresses before and after.
fn neighbours(ip: IpAddr) -> [IpAddr; 2] {
    match ip {
        IpAddr::V4(ip) => {
            let bits = ip.to_bits();
            [bits.wrapping_sub(1), bits.wrapping_add(1)].map(|bits| IpAddr::V4(bits.into()))
        }
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            [bits.wrapping_sub(1), bits.wrapping_add(1)].map(|bits| IpAddr::V6(bits.into()))
        }
    }
}
