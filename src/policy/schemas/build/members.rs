//! The graph of declared members: which schemas apply to one value, and which members they name.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use super::super::discriminator;
use super::super::documents::Address;
use super::super::members::{DeclaredMembers, Discriminator, Members, Node, Number, Other};
use super::{Builder, end_of_chain};
use crate::model::Direction;

/// The graph while it grows.
#[derive(Default)]
pub(super) struct Graph {
    shared: Arc<OnceLock<Members>>,
    nodes: Vec<Node>,
    known: HashMap<(Address, Direction), Number>,
    /// Schemas that have a number and were not read yet.
    open: Vec<(Number, Address)>,
}

impl Builder<'_> {
    /// The members that a body of the schema at an address may have; `None` when nobody asked.
    pub(super) fn members(
        &mut self,
        at: &Address,
        direction: Direction,
    ) -> Option<DeclaredMembers> {
        if !self.options.undeclared_members || self.compilers.is_none() {
            return None;
        }
        let root = self.number(at, direction);
        while let Some((number, at)) = self.graph.open.pop() {
            let node = self.node(&at, direction);
            if let Some(place) = self.graph.nodes.get_mut(number) {
                *place = node;
            }
        }
        Some(DeclaredMembers {
            graph: Arc::clone(&self.graph.shared),
            root,
        })
    }

    /// Hands the graph to everyone who has a part of it.
    pub(super) fn finish_members(&mut self) {
        let nodes = std::mem::take(&mut self.graph.nodes);
        // Only this sets it, once.
        let _ = self.graph.shared.set(Members(nodes));
    }

    fn number(&mut self, at: &Address, direction: Direction) -> Number {
        let at = end_of_chain(self.documents, at);
        let graph = &mut self.graph;
        *graph
            .known
            .entry((at.clone(), direction))
            .or_insert_with(|| {
                graph.nodes.push(Node::default());
                let number = graph.nodes.len() - 1;
                graph.open.push((number, at));
                number
            })
    }

    fn node(&mut self, at: &Address, direction: Direction) -> Node {
        let documents = self.documents;
        let mut node = Node {
            pointer: documents.shown(at).into(),
            ..Node::default()
        };
        let Some(Value::Object(map)) = documents.get(at) else {
            return node;
        };
        node.opaque = map.contains_key("$dynamicRef") || map.contains_key("$recursiveRef");
        if let Some(Value::String(reference)) = map.get("$ref") {
            match documents.resolve(at.document, reference) {
                Ok(target) => node.together.push(self.number(&target, direction)),
                Err(_) => node.opaque = true,
            }
        }
        for index in 0..list_length(map, "allOf") {
            let part = at.member("allOf").item(index);
            node.together.push(self.number(&part, direction));
        }
        // Whether a condition holds is not asked: what depends on it is declared all the same.
        for keyword in ["if", "then", "else"] {
            if map.contains_key(keyword) {
                node.together
                    .push(self.number(&at.member(keyword), direction));
            }
        }
        if let Some(Value::Object(dependent)) = map.get("dependentSchemas") {
            for name in dependent.keys() {
                let part = at.member("dependentSchemas").member(name);
                node.together.push(self.number(&part, direction));
            }
        }
        for keyword in ["anyOf", "oneOf"] {
            let branches: Vec<_> = (0..list_length(map, keyword))
                .map(|index| {
                    let branch = at.member(keyword).item(index);
                    (
                        self.number(&branch, direction),
                        self.check(&branch, direction),
                    )
                })
                .collect();
            if !branches.is_empty() {
                node.choices.push(branches);
            }
        }
        if let Some((property, targets)) = discriminator::targets(documents, map, at) {
            let targets = targets
                .into_iter()
                .map(|(value, target)| (value.into(), self.number(&target, direction)))
                .collect();
            node.discriminator = Some(Discriminator {
                member: property.into(),
                targets,
            });
        }
        self.own_members(map, at, direction, &mut node);
        for index in 0..list_length(map, "prefixItems") {
            let part = at.member("prefixItems").item(index);
            node.prefix.push(self.number(&part, direction));
        }
        node.items = ["items", "unevaluatedItems"]
            .into_iter()
            .find(|keyword| map.get(*keyword).is_some_and(Value::is_object))
            .map(|keyword| self.number(&at.member(keyword), direction));
        node
    }

    fn own_members(
        &mut self,
        map: &Map<String, Value>,
        at: &Address,
        direction: Direction,
        node: &mut Node,
    ) {
        if let Some(Value::Object(members)) = map.get("properties") {
            node.declares = true;
            for name in members.keys() {
                let member = at.member("properties").member(name);
                let number = self.number(&member, direction);
                node.declared.insert(name.as_str().into(), number);
            }
        }
        if let Some(Value::Object(patterns)) = map.get("patternProperties") {
            node.declares = true;
            for pattern in patterns.keys() {
                let member = at.member("patternProperties").member(pattern);
                let number = self.number(&member, direction);
                let compiled = self.compilers.as_ref().and_then(|c| c.pattern(pattern));
                match compiled {
                    Some(compiled) => node.patterns.push((compiled, number)),
                    None => node.opaque = true,
                }
            }
        }
        for keyword in ["additionalProperties", "unevaluatedProperties"] {
            match map.get(keyword) {
                Some(Value::Bool(false)) => node.other = Other::Closed,
                Some(Value::Bool(true)) => node.other = Other::Open,
                Some(Value::Object(_)) => {
                    node.other = Other::Like(self.number(&at.member(keyword), direction));
                }
                _ => {}
            }
        }
        node.declares |= node.other != Other::Unsaid;
    }
}

fn list_length(map: &Map<String, Value>, keyword: &str) -> usize {
    map.get(keyword)
        .and_then(Value::as_array)
        .map_or(0, Vec::len)
}
