//! The tree of path segments of one host and one method.
//!
//! Enters: templates with the number of their operation. Leaves: for a path, the operations that match it, most
//! specific first. A look-up allocates nothing and costs one probe of a hash table per segment and open branch,
//! whatever the number of templates.

use foldhash::fast::FixedState;
use std::hash::BuildHasher;

use super::template::{Pattern, Segment, Template};

const NONE: u32 = u32::MAX;
/// The table stays at most two thirds full, so probe runs are short.
const FILL: (usize, usize) = (2, 3);
/// Bytes of a label kept in the table itself; most segments fit, and a look-up then touches one cache line per edge.
const HEAD: usize = 16;

/// A compiled tree.
#[derive(Debug)]
pub(super) struct Router {
    nodes: Vec<Node>,
    /// Open-addressed table of the literal edges of all nodes, a power of two long.
    slots: Vec<Edge>,
    /// Edges in the table.
    count: usize,
    /// Labels that are longer than `HEAD`.
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

/// A literal edge: half a cache line.
#[derive(Clone, Copy, Debug)]
struct Edge {
    parent: u32,
    /// `NONE` = an empty slot.
    child: u32,
    length: u32,
    /// Where a long label begins in `text`.
    start: u32,
    /// The first bytes of the label, padded with zeros.
    head: [u8; HEAD],
}

impl Edge {
    const EMPTY: Self = Self {
        parent: NONE,
        child: NONE,
        length: 0,
        start: 0,
        head: [0; HEAD],
    };
}

/// The first bytes of a label, padded with zeros.
fn head(label: &str) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    for (to, from) in head.iter_mut().zip(label.bytes()) {
        *to = from;
    }
    head
}

impl Default for Router {
    fn default() -> Self {
        Self {
            nodes: vec![Node::EMPTY],
            slots: Vec::new(),
            count: 0,
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
        // Segments are short: a plain loop beats a vectorised search.
        let (segment, tail) = match rest.bytes().position(|byte| byte == b'/') {
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
        let mask = self.slots.len().wrapping_sub(1);
        let head = head(segment);
        let mut slot = self.slot(parent, segment, &head, mask);
        loop {
            let edge = self.slots.get(slot)?;
            if edge.child == NONE {
                return None;
            }
            if edge.parent == parent
                && edge.head == head
                && edge.length as usize == segment.len()
                && (segment.len() <= HEAD || self.label(edge) == Some(segment))
            {
                return Some(edge.child);
            }
            slot = (slot + 1) & mask;
        }
    }

    /// The label of an edge that is longer than its head.
    fn label(&self, edge: &Edge) -> Option<&str> {
        let start = edge.start as usize;
        self.text.get(start..start + edge.length as usize)
    }

    /// Where the search for an edge begins. Labels come from configuration, so nobody can aim at one run of the table;
    /// short ones are mixed by one multiplication.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "halves of a product, of which the mask keeps what the table needs"
    )]
    fn slot(&self, parent: u32, label: &str, head: &[u8; HEAD], mask: usize) -> usize {
        let word = if label.len() <= HEAD {
            let all = u128::from_le_bytes(*head) ^ (u128::from(parent) << 64);
            let (low, high) = (all as u64, (all >> 64) as u64);
            let product =
                u128::from(low ^ 0x9E37_79B9_7F4A_7C15) * u128::from(high ^ 0xC2B2_AE3D_27D4_EB4F);
            (product as u64) ^ ((product >> 64) as u64)
        } else {
            self.hasher.hash_one((parent, label))
        };
        (word >> 20) as usize & mask
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
        let mut edge = Edge {
            parent,
            child,
            length: u32::try_from(segment.len()).unwrap_or(NONE),
            start: 0,
            head: head(segment),
        };
        if segment.len() > HEAD {
            edge.start = u32::try_from(self.text.len()).unwrap_or(NONE);
            self.text.push_str(segment);
        }
        if let Some(node) = self.nodes.get_mut(parent as usize) {
            node.has_literals = true;
        }
        self.count += 1;
        if self.count * FILL.1 > self.slots.len() * FILL.0 {
            self.grow();
        }
        self.place(edge, segment);
        child
    }

    fn grow(&mut self) {
        let length = (self.slots.len() * 2).max(16);
        let old = std::mem::replace(&mut self.slots, vec![Edge::EMPTY; length]);
        for edge in old.into_iter().filter(|edge| edge.child != NONE) {
            let length = edge.length as usize;
            let label = if length > HEAD {
                self.label(&edge).unwrap_or_default().to_owned()
            } else {
                let bytes = edge.head.get(..length).unwrap_or_default();
                String::from_utf8_lossy(bytes).into_owned()
            };
            self.place(edge, &label);
        }
    }

    fn place(&mut self, edge: Edge, label: &str) {
        let mask = self.slots.len().wrapping_sub(1);
        let mut slot = self.slot(edge.parent, label, &edge.head, mask);
        while let Some(taken) = self.slots.get_mut(slot) {
            if taken.child == NONE {
                *taken = edge;
                return;
            }
            slot = (slot + 1) & mask;
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
