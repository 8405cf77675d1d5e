//! The tree of path segments of one host and one method.
//!
//! Enters: templates with the number of their operation. Leaves: for a path, the operations that match it, most
//! specific first. A look-up allocates nothing and costs one probe of a hash table per segment and open branch,
//! whatever the number of templates.

use foldhash::fast::FixedState;
use std::hash::BuildHasher;

use super::template::{Pattern, Segment, Template};

const NONE: u32 = u32::MAX;
/// The edge table stays at least half empty, so probe runs are short.
const SLOTS_PER_EDGE: usize = 2;

/// A compiled tree.
#[derive(Debug)]
pub(super) struct Router {
    nodes: Vec<Node>,
    /// Open-addressed table of literal edges of all nodes, power of two long.
    slots: Vec<u32>,
    edges: Vec<Edge>,
    /// Texts of all literal edges.
    text: String,
    partials: Vec<Vec<(Pattern, u32)>>,
    hasher: FixedState,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Child behind a whole-segment variable.
    variable: u32,
    /// Index into `partials`.
    partials: u32,
    /// Operation that ends here.
    operation: u32,
    /// Whether any literal edge leaves the node, so that leaves skip the hash.
    has_literals: bool,
}

#[derive(Clone, Copy, Debug)]
struct Edge {
    hash: u64,
    parent: u32,
    child: u32,
    start: u32,
    length: u32,
}

impl Default for Router {
    fn default() -> Self {
        Self {
            nodes: vec![Node::EMPTY],
            slots: Vec::new(),
            edges: Vec::new(),
            text: String::new(),
            partials: Vec::new(),
            hasher: FixedState::with_seed(0x6761_7465),
        }
    }
}

impl Node {
    const EMPTY: Self = Self {
        variable: NONE,
        partials: NONE,
        operation: NONE,
        has_literals: false,
    };
}

impl Router {
    /// Adds a template; returns the operation that has the same canonical template already.
    pub(super) fn insert(&mut self, template: &Template, operation: u32) -> Option<u32> {
        let mut at = 0;
        for segment in &template.segments {
            at = match segment {
                Segment::Literal(text) => self.literal_child(at, text),
                Segment::Whole => self.variable_child(at),
                Segment::Partial(pattern) => self.partial_child(at, pattern),
            };
        }
        let node = self.nodes.get_mut(at as usize)?;
        if node.operation == NONE {
            node.operation = operation;
            None
        } else {
            Some(node.operation)
        }
    }

    /// Calls `each` with every operation whose template matches the path, most specific first, until it answers true.
    pub(super) fn find(&self, path: &str, each: &mut impl FnMut(u32) -> bool) -> bool {
        self.descend(0, Some(path.strip_prefix('/').unwrap_or(path)), each)
    }

    fn descend(&self, at: u32, rest: Option<&str>, each: &mut impl FnMut(u32) -> bool) -> bool {
        let Some(node) = self.nodes.get(at as usize) else {
            return false;
        };
        let Some(rest) = rest else {
            return node.operation != NONE && each(node.operation);
        };
        let (segment, tail) = match memchr::memchr(b'/', rest.as_bytes()) {
            Some(slash) => (
                rest.get(..slash).unwrap_or_default(),
                Some(rest.get(slash + 1..).unwrap_or_default()),
            ),
            None => (rest, None),
        };
        if node.has_literals
            && let Some(child) = self.literal_edge(at, segment)
            && self.descend(child, tail, each)
        {
            return true;
        }
        if segment.is_empty() {
            // Only a literal can stand for the emptiness behind a trailing slash.
            return false;
        }
        for (pattern, child) in self
            .partials
            .get(node.partials as usize)
            .into_iter()
            .flatten()
        {
            if pattern.matches(segment, |_| {}) && self.descend(*child, tail, each) {
                return true;
            }
        }
        node.variable != NONE && self.descend(node.variable, tail, each)
    }

    fn literal_edge(&self, parent: u32, segment: &str) -> Option<u32> {
        let hash = self.hash(parent, segment);
        let mask = self.slots.len().wrapping_sub(1);
        let mut slot = hash_slot(hash, mask);
        loop {
            let number = *self.slots.get(slot)?;
            let edge = self.edges.get(number as usize)?;
            if edge.hash == hash && edge.parent == parent {
                let start = edge.start as usize;
                if self.text.get(start..start + edge.length as usize) == Some(segment) {
                    return Some(edge.child);
                }
            }
            slot = (slot + 1) & mask;
        }
    }

    fn hash(&self, parent: u32, segment: &str) -> u64 {
        self.hasher.hash_one((parent, segment))
    }

    fn new_node(&mut self) -> u32 {
        let number = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        self.nodes.push(Node::EMPTY);
        number
    }

    fn literal_child(&mut self, parent: u32, segment: &str) -> u32 {
        if let Some(child) = self.literal_edge(parent, segment) {
            return child;
        }
        let child = self.new_node();
        let edge = Edge {
            hash: self.hash(parent, segment),
            parent,
            child,
            start: u32::try_from(self.text.len()).unwrap_or(NONE),
            length: u32::try_from(segment.len()).unwrap_or(NONE),
        };
        self.text.push_str(segment);
        self.edges.push(edge);
        if let Some(node) = self.nodes.get_mut(parent as usize) {
            node.has_literals = true;
        }
        if self.edges.len() * SLOTS_PER_EDGE > self.slots.len() {
            self.grow();
        } else {
            let number = u32::try_from(self.edges.len() - 1).unwrap_or(NONE);
            place(&mut self.slots, edge.hash, number);
        }
        child
    }

    fn grow(&mut self) {
        let length = (self.edges.len() * SLOTS_PER_EDGE * 2).next_power_of_two();
        self.slots = vec![NONE; length.max(16)];
        for (number, edge) in self.edges.iter().enumerate() {
            place(
                &mut self.slots,
                edge.hash,
                u32::try_from(number).unwrap_or(NONE),
            );
        }
    }

    fn variable_child(&mut self, parent: u32) -> u32 {
        match self.nodes.get(parent as usize) {
            Some(node) if node.variable != NONE => node.variable,
            _ => {
                let child = self.new_node();
                if let Some(node) = self.nodes.get_mut(parent as usize) {
                    node.variable = child;
                }
                child
            }
        }
    }

    fn partial_child(&mut self, parent: u32, pattern: &Pattern) -> u32 {
        let known = self
            .nodes
            .get(parent as usize)
            .map_or(NONE, |node| node.partials);
        let list = if known == NONE {
            let fresh = u32::try_from(self.partials.len()).unwrap_or(NONE);
            self.partials.push(Vec::new());
            if let Some(node) = self.nodes.get_mut(parent as usize) {
                node.partials = fresh;
            }
            fresh
        } else {
            known
        };
        let same = self
            .partials
            .get(list as usize)
            .into_iter()
            .flatten()
            .find(|(other, _)| other == pattern);
        if let Some((_, child)) = same {
            return *child;
        }
        let child = self.new_node();
        if let Some(list) = self.partials.get_mut(list as usize) {
            list.push((pattern.clone(), child));
            // More literal text first; the spelling makes the order total.
            list.sort_by(|(a, _), (b, _)| b.weight().cmp(&a.weight()).then_with(|| a.cmp(b)));
        }
        child
    }
}

fn hash_slot(hash: u64, mask: usize) -> usize {
    usize::try_from(hash >> 20).unwrap_or_default() & mask
}

fn place(slots: &mut [u32], hash: u64, number: u32) {
    let mask = slots.len().wrapping_sub(1);
    let mut slot = hash_slot(hash, mask);
    while let Some(taken) = slots.get_mut(slot) {
        if *taken == NONE {
            *taken = number;
            return;
        }
        slot = (slot + 1) & mask;
    }
}
