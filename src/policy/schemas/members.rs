//! Which members a body may have: the names that its schemas declare, whether or not they forbid others.
//!
//! Enters: a value and the schemas that apply to it, as a graph. Leaves: the places of members that none of them
//! declares. As with `unevaluatedProperties`, all schemas that apply to one object count together, through `$ref`,
//! `allOf` and those alternatives that the object fits; unlike it, this asks nothing of the schema's author.
//!
//! An object for which no schema declares anything is a free-form object and may have any members. One that a schema
//! closes itself (`additionalProperties: false`) is judged by the validator. What applies through `$dynamicRef` is not
//! followed, and nothing is said about such objects.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use jsonschema::Validator;
use serde_json::{Map, Value};

use super::documents::push_token;
use super::metered::Allowance;
use super::validators::Check;

/// Steps that one body may cost: pairs of a value and a schema, names and patterns, and what finding out costs which
/// alternatives apply. A body of 256 KiB has some 100,000 values.
const MAX_STEPS: u32 = 1_000_000;

/// Index of a schema in the graph.
pub(super) type Number = usize;

/// The schemas of one description that say which members there are.
#[derive(Debug, Default)]
pub(super) struct Members(pub(super) Vec<Node>);

/// What one schema says about members.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Pointer of the schema, as verdicts show it.
    pub(super) pointer: Arc<str>,
    /// Schemas that apply to the same value: `$ref`, `allOf`, and what depends on conditions.
    pub(super) together: Vec<Number>,
    /// Alternatives, each with what tells whether it applies.
    pub(super) choices: Vec<Vec<(Number, Option<Arc<Check>>)>>,
    /// A member whose value chooses a schema.
    pub(super) discriminator: Option<Discriminator>,
    /// `properties`.
    pub(super) declared: BTreeMap<Box<str>, Number>,
    /// `patternProperties`.
    pub(super) patterns: Vec<(Validator, Number)>,
    /// `additionalProperties` and `unevaluatedProperties`.
    pub(super) other: Other,
    /// Whether the schema speaks of members at all.
    pub(super) declares: bool,
    /// Whether something applies that is not known here.
    pub(super) opaque: bool,
    /// `prefixItems`.
    pub(super) prefix: Vec<Number>,
    /// `items`.
    pub(super) items: Option<Number>,
}

/// A member whose value chooses a schema.
#[derive(Debug)]
pub(super) struct Discriminator {
    pub(super) member: Box<str>,
    /// Values and what they choose.
    pub(super) targets: Vec<(Box<str>, Number)>,
}

/// What a schema says about members that it does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Other {
    /// Nothing.
    #[default]
    Unsaid,
    /// There are none.
    Closed,
    /// There are any.
    Open,
    /// There are such.
    Like(Number),
}

/// The members that a body may have.
#[derive(Clone, Debug)]
pub struct DeclaredMembers {
    /// Filled when the whole description has been read.
    pub(super) graph: Arc<OnceLock<Members>>,
    pub(super) root: Number,
}

/// Members of one object that no schema declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undeclared {
    /// JSON pointer into the value, unknown names and indexes as `*`.
    pub target: String,
    /// Pointer of a schema that declares members of this object.
    pub pointer: String,
}

impl DeclaredMembers {
    /// Reports objects with undeclared members, one at a time until `each` answers false.
    pub fn undeclared(&self, value: &Value, each: impl FnMut(Undeclared) -> bool) {
        let Some(graph) = self.graph.get() else {
            return;
        };
        let mut walk = Walk {
            graph,
            allowance: Allowance::new(MAX_STEPS),
            target: String::new(),
            each,
        };
        let _ = walk.value(value, vec![self.root]);
    }
}

struct Walk<'g, F> {
    graph: &'g Members,
    allowance: Allowance,
    target: String,
    each: F,
}

impl<'g, F: FnMut(Undeclared) -> bool> Walk<'g, F> {
    /// `None` = enough has been said or done.
    fn value(&mut self, value: &Value, schemas: Vec<Number>) -> Option<()> {
        match value {
            Value::Object(map) => {
                let applicable = self.applicable(value, schemas)?;
                self.object(map, &applicable)
            }
            Value::Array(items) => {
                let applicable = self.applicable(value, schemas)?;
                self.array(items, &applicable)
            }
            _ => Some(()),
        }
    }

    /// Every schema that applies to a value together with these.
    fn applicable(&mut self, value: &Value, mut open: Vec<Number>) -> Option<Vec<&'g Node>> {
        let graph = self.graph;
        let mut seen: Vec<Number> = Vec::new();
        let mut nodes = Vec::new();
        while let Some(number) = open.pop() {
            if seen.contains(&number) {
                continue;
            }
            self.allowance.take(1);
            (!self.allowance.is_spent()).then_some(())?;
            seen.push(number);
            let Some(node) = graph.0.get(number) else {
                continue;
            };
            nodes.push(node);
            open.extend(&node.together);
            let chosen = node.discriminator.as_ref().and_then(|discriminator| {
                let stated = value.get(&*discriminator.member)?.as_str()?;
                let mut targets = discriminator.targets.iter();
                let (_, target) = targets.find(|(own, _)| **own == *stated)?;
                Some(*target)
            });
            if let Some(target) = chosen {
                open.push(target);
                continue;
            }
            for branches in &node.choices {
                let before = open.len();
                for (number, check) in branches {
                    let fits = match check {
                        Some(check) => check.accepts(value, &self.allowance)?,
                        None => true,
                    };
                    if fits {
                        open.push(*number);
                    }
                }
                // Where none fits the body violates anyway: what any of them declares is not undeclared on top.
                if open.len() == before {
                    open.extend(branches.iter().map(|(number, _)| *number));
                }
            }
        }
        Some(nodes)
    }

    fn object(&mut self, map: &Map<String, Value>, applicable: &[&'g Node]) -> Option<()> {
        if applicable.iter().any(|node| node.opaque) {
            return Some(());
        }
        let closed = applicable.iter().any(|node| node.other == Other::Closed);
        let judge = applicable.iter().find(|node| node.declares && !closed);
        let mut reported = false;
        for (name, member) in map {
            let mut below = Vec::new();
            let (mut named, mut declared) = (false, false);
            for node in applicable {
                let known = below.len();
                if let Some(number) = node.declared.get(name.as_str()) {
                    named = true;
                    below.push(*number);
                }
                for (pattern, number) in &node.patterns {
                    self.allowance.take(1 + name.len() / 32);
                    (!self.allowance.is_spent()).then_some(())?;
                    if pattern.is_valid(&Value::String(name.clone())) {
                        below.push(*number);
                    }
                }
                let own = below.len() > known;
                declared |= own;
                match node.other {
                    Other::Open => declared = true,
                    Other::Like(number) if !own => {
                        declared = true;
                        below.push(number);
                    }
                    _ => {}
                }
            }
            if !declared {
                if let Some(judge) = judge
                    && !reported
                {
                    reported = true;
                    let undeclared = Undeclared {
                        target: format!("{}/*", self.target),
                        pointer: judge.pointer.to_string(),
                    };
                    (self.each)(undeclared).then_some(())?;
                }
                continue;
            }
            let length = self.target.len();
            push_token(&mut self.target, if named { name } else { "*" });
            self.value(member, below)?;
            self.target.truncate(length);
        }
        Some(())
    }

    fn array(&mut self, items: &[Value], applicable: &[&'g Node]) -> Option<()> {
        let length = self.target.len();
        self.target.push_str("/*");
        for (index, item) in items.iter().enumerate() {
            let below: Vec<_> = applicable
                .iter()
                .filter_map(|node| node.prefix.get(index).copied().or(node.items))
                .collect();
            if !below.is_empty() {
                self.value(item, below)?;
            }
        }
        self.target.truncate(length);
        Some(())
    }
}
