//! Evaluation: a walk over the compiled tree that stops as soon as the answer is certain.
//!
//! Nothing is allocated unless a function makes a new text or truth values of several arrays are joined. The depth of
//! the tree is bounded by the parser.

use std::cell::Cell;

use super::functions;
use super::source::{Fact, Source};
use crate::policy::rules::Expression;
use crate::policy::rules::ast::{Node, Operand, Test};
use crate::policy::rules::functions::{Call, Function};
use crate::policy::rules::types::{Shape, Value};

/// What an expression says about an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The truth value, with every missing value making its comparison false.
    pub value: bool,
    /// Whether it is the same whatever the log did not capture.
    pub known: bool,
}

/// Whether the expression is true, with every missing value making its comparison false.
#[must_use]
pub fn holds(expression: &Expression, source: &impl Source) -> bool {
    node_holds(expression.root(), source)
}

/// Whether one part of an expression is true.
pub(super) fn node_holds(node: &Node, source: &impl Source) -> bool {
    Run::new(source).node(node)
}

/// Whether the expression is true, and whether that is certain.
#[must_use]
pub fn evaluate(expression: &Expression, source: &impl Source) -> Answer {
    let run = Run::new(source);
    let value = run.node(expression.root());
    // Only an answer that met something unknown has to be looked at again.
    let known = !run.blind.get() || run.certain(expression.root()).is_some();
    Answer { value, known }
}

/// One evaluation.
struct Run<'a, S> {
    source: &'a S,
    /// Whether something was asked for that the log did not capture.
    blind: Cell<bool>,
}

impl<'a, S: Source> Run<'a, S> {
    fn new(source: &'a S) -> Self {
        Self {
            source,
            blind: Cell::new(false),
        }
    }

    fn see<T>(&self, fact: Fact<T>) -> Option<T> {
        match fact {
            Fact::Known(value) => Some(value),
            Fact::Partly(value) => {
                self.blind.set(true);
                Some(value)
            }
            Fact::Missing => None,
            Fact::NotCaptured => {
                self.blind.set(true);
                None
            }
        }
    }

    fn node(&self, node: &'a Node) -> bool {
        match node {
            Node::Constant(value) => *value,
            Node::Test(test) => self.test(test),
            Node::Not(inner) => !self.node(inner),
            Node::And(parts) => parts.iter().all(|part| self.node(part)),
            Node::Or(parts) => parts.iter().any(|part| self.node(part)),
            Node::Xor(parts) => parts.iter().fold(false, |odd, part| odd ^ self.node(part)),
            Node::Any(inner) => self.quantified(inner, true),
            Node::All(inner) => !self.quantified(inner, false),
        }
    }

    /// The truth value if it does not depend on what was not captured.
    fn certain(&self, node: &'a Node) -> Option<bool> {
        match node {
            Node::Not(inner) => self.certain(inner).map(|value| !value),
            Node::And(parts) => self.certain_join(parts, false),
            Node::Or(parts) => self.certain_join(parts, true),
            Node::Xor(parts) => {
                let mut values = parts.iter().map(|part| self.certain(part));
                values.try_fold(false, |odd, value| Some(odd ^ value?))
            }
            Node::Constant(_) | Node::Test(_) | Node::Any(_) | Node::All(_) => {
                self.blind.set(false);
                let value = self.node(node);
                (!self.blind.get()).then_some(value)
            }
        }
    }

    /// One part that is `decisive` decides; else all must be certain.
    fn certain_join(&self, parts: &'a [Node], decisive: bool) -> Option<bool> {
        let mut all_certain = true;
        for part in parts {
            match self.certain(part) {
                Some(value) if value == decisive => return Some(decisive),
                Some(_) => {}
                None => all_certain = false,
            }
        }
        all_certain.then_some(!decisive)
    }

    fn test(&self, test: &'a Test) -> bool {
        self.one(&test.operand)
            .is_some_and(|value| test.check.passes(&value))
    }

    /// Whether an element's truth value equals `wanted`; for `all`, which asks for a false one, an array that is
    /// missing counts as one, because what is said about a missing value is false.
    fn quantified(&self, inner: &'a Node, wanted: bool) -> bool {
        if let Node::Test(test) = inner {
            let mut found = false;
            let there = self.mapped(&test.operand, &mut |value| {
                found = value.is_some_and(|value| test.check.passes(&value)) == wanted;
                !found
            });
            return found || (!there && !wanted);
        }
        match self.mask(inner) {
            Some(values) => values.contains(&wanted),
            None => !wanted,
        }
    }

    /// One truth value per element; `None` when the array is missing.
    fn mask(&self, node: &'a Node) -> Option<Vec<bool>> {
        match node {
            Node::Test(test) => {
                let mut values = Vec::new();
                let there = self.mapped(&test.operand, &mut |value| {
                    values.push(value.is_some_and(|value| test.check.passes(&value)));
                    true
                });
                there.then_some(values)
            }
            Node::Not(inner) => {
                let mut values = self.mask(inner)?;
                for value in &mut values {
                    *value = !*value;
                }
                Some(values)
            }
            Node::And(parts) => self.masks(parts, |left, right| left && right),
            Node::Or(parts) => self.masks(parts, |left, right| left || right),
            Node::Xor(parts) => self.masks(parts, |left, right| left ^ right),
            Node::Constant(_) | Node::Any(_) | Node::All(_) => None,
        }
    }

    /// Joins element by element; an element that one side lacks is false there.
    fn masks(&self, parts: &'a [Node], join: impl Fn(bool, bool) -> bool) -> Option<Vec<bool>> {
        let mut joined: Option<Vec<bool>> = None;
        let mut any = false;
        for part in parts {
            let next = self.mask(part);
            any |= next.is_some();
            let next = next.unwrap_or_default();
            joined = Some(match joined {
                None => next,
                Some(before) => {
                    let at = |values: &[bool], at: usize| values.get(at).copied().unwrap_or(false);
                    let length = before.len().max(next.len());
                    let pairs = (0..length).map(|place| join(at(&before, place), at(&next, place)));
                    pairs.collect()
                }
            });
        }
        joined.filter(|_| any)
    }

    /// The value of an operand that stands for one.
    fn one(&self, operand: &'a Operand) -> Option<Value<'a>> {
        match operand {
            Operand::Literal(value) => Some(value.borrowed()),
            Operand::Field(field) => self.see(self.source.value(*field)),
            Operand::Member(field, key) => {
                let mut found = None;
                let fact = self.source.each(*field, Some(key), &mut |value| {
                    found = Some(value);
                    false
                });
                self.see(fact)?;
                found
            }
            Operand::At(inner, place) => {
                let mut left = *place;
                let mut found = None;
                self.items(inner, &mut |value| {
                    let here = left == 0;
                    if here {
                        found = value;
                    } else {
                        left -= 1;
                    }
                    !here
                });
                found
            }
            Operand::Call(call) => self.call(call),
            Operand::TokenValid(index) => {
                self.see(self.source.token_valid(*index)).map(Value::Bool)
            }
            Operand::TokenPresent(index) => {
                self.see(self.source.token_present(*index)).map(Value::Bool)
            }
            Operand::Each(_) | Operand::Spread(..) => None,
        }
    }

    /// The elements of an operand that stands for an array; `false` = there is no array.
    fn items(&self, operand: &'a Operand, see: &mut dyn FnMut(Option<Value<'a>>) -> bool) -> bool {
        let key = match operand {
            Operand::Field(_) => None,
            Operand::Member(_, key) => Some(key.as_ref()),
            Operand::Call(call) if call.mapped() => {
                let Some((first, rest)) = call.arguments.split_first() else {
                    return false;
                };
                return self.mapped(first, &mut |value| {
                    see(value.and_then(|value| self.apply(&call.function, value, rest)))
                });
            }
            Operand::Call(call) => {
                let source = call.arguments.first().and_then(|first| self.one(first));
                let parts = source.and_then(|source| functions::split(&call.function, source));
                return match parts {
                    Some(parts) => {
                        let _stopped = parts.into_iter().all(|part| see(Some(part)));
                        true
                    }
                    None => false,
                };
            }
            _ => return false,
        };
        let (Operand::Field(field) | Operand::Member(field, _)) = operand else {
            return false;
        };
        let fact = self.source.each(*field, key, &mut |value| see(Some(value)));
        self.see(fact).is_some()
    }

    /// The values that a mapped operand stands for; `false` = there is no array.
    fn mapped(&self, operand: &'a Operand, see: &mut dyn FnMut(Option<Value<'a>>) -> bool) -> bool {
        match operand {
            Operand::Each(inner) => self.items(inner, see),
            Operand::Spread(field, wanted) => {
                let fact = self.source.spread(*field, &mut |place, value| {
                    wanted.is_some_and(|wanted| wanted != place) || see(Some(value))
                });
                self.see(fact).is_some()
            }
            _ => false,
        }
    }

    fn call(&self, call: &'a Call) -> Option<Value<'a>> {
        let (first, rest) = call.arguments.split_first()?;
        if matches!(call.function, Function::Len) && first.kind().shape == Shape::Array {
            let mut count = 0;
            let there = self.items(first, &mut |_| {
                count += 1;
                true
            });
            return there.then_some(Value::Int(count));
        }
        match &call.function {
            Function::Join => self.join(first, rest),
            Function::HasKey(key) => self.has_key(first, key).map(Value::Bool),
            Function::HasValue => self.has_value(first, rest).map(Value::Bool),
            function => {
                let first = self.one(first)?;
                self.apply(function, first, rest)
            }
        }
    }

    /// A call with its first argument at hand.
    fn apply(
        &self,
        function: &'a Function,
        first: Value<'a>,
        rest: &'a [Operand],
    ) -> Option<Value<'a>> {
        if rest.is_empty() {
            return functions::apply(function, first, &[]);
        }
        // A missing argument makes the result missing.
        let rest: Option<Vec<_>> = rest.iter().map(|argument| self.one(argument)).collect();
        functions::apply(function, first, &rest?)
    }

    fn join(&self, items: &'a Operand, rest: &'a [Operand]) -> Option<Value<'a>> {
        let separator = rest.first().and_then(|separator| self.one(separator))?;
        let separator = separator.bytes()?;
        let mut joined = Vec::new();
        let mut first = true;
        let there = self.items(items, &mut |value| {
            if !std::mem::take(&mut first) {
                joined.extend_from_slice(separator);
            }
            if let Some(bytes) = value.as_ref().and_then(Value::bytes) {
                joined.extend_from_slice(bytes);
            }
            true
        });
        there.then(|| Value::Bytes(joined.into()))
    }

    fn has_key(&self, map: &'a Operand, key: &str) -> Option<bool> {
        let Operand::Field(field) = map else {
            return None;
        };
        match self.source.each(*field, Some(key), &mut |_| false) {
            Fact::Known(()) | Fact::Partly(()) => Some(true),
            fact => {
                self.see(fact);
                Some(false)
            }
        }
    }

    fn has_value(&self, items: &'a Operand, rest: &'a [Operand]) -> Option<bool> {
        let wanted = rest.first().and_then(|wanted| self.one(wanted))?;
        let mut found = false;
        let mut look = |value: Option<Value<'a>>| {
            found = value.as_ref() == Some(&wanted);
            !found
        };
        let there = match items {
            Operand::Field(field) if field.kind().shape == Shape::MapOfArrays => {
                let fact = self
                    .source
                    .spread(*field, &mut |_, value| look(Some(value)));
                self.see(fact).is_some()
            }
            items => self.items(items, &mut look),
        };
        there.then_some(found)
    }
}
