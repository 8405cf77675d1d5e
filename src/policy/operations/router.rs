//! The tree of path segments of one host and one method.
//!
//! Enters: templates with the number of their operation. Leaves: for a path, the operations that match it, most
//! specific first. A look-up allocates nothing and visits nothing twice.
//!
//! What a look-up costs at 100,000 templates is cache misses, so the tree is built to have few: a branch of at most
//! `BUCKET` templates is no tree but their spellings in a row, and a literal edge says in its half cache line what lies
//! behind it. A path then touches the few nodes with many templates below, which stay in the cache, one edge and one
//! row.

use foldhash::fast::FixedState;
use std::cmp::{Ordering, Reverse};
use std::hash::BuildHasher;

use super::template::{Pattern, Segment, Template};

const NONE: u32 = u32::MAX;
/// The table stays at most two thirds full, so probe runs are short.
const FILL: (usize, usize) = (2, 3);
/// Bytes of a label that an edge holds itself; most segments fit.
const HEAD: usize = 15;
/// In place of the length of a label that is longer than that.
const LONG: u128 = 0xFF;
/// Templates below one branch that are tried one after the other.
const BUCKET: usize = 16;

/// Marks in the rows of a bucket; literal text is in normal form and has no such bytes.
const VARIABLE: u8 = 0;
const PARTIAL: u8 = 1;
const LITERAL: u8 = 2;

/// A compiled tree.
#[derive(Debug)]
pub(super) struct Router {
    root: Branch,
    nodes: Vec<Node>,
    /// Open-addressed table of the literal edges of all nodes, a power of two long.
    slots: Vec<Edge>,
    /// Labels longer than `HEAD`, and the rows of buckets.
    text: Vec<u8>,
    /// Children behind segments of literals and variables, those of one node in a row.
    partials: Vec<(u32, Branch)>,
    patterns: Vec<Pattern>,
    hasher: FixedState,
}

/// What lies behind some segments.
#[derive(Clone, Copy, Debug)]
enum Branch {
    Nothing,
    Node(u32),
    /// One template, which ends here.
    End(u32),
    /// One template, which ends behind one more variable.
    Variable(u32),
    /// A few templates, in the order of their specificity.
    Bucket {
        start: u32,
        count: u8,
    },
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Operation that ends here.
    operation: u32,
    /// Whether any literal edge leaves the node.
    has_literals: bool,
    /// Where its part of `partials` begins and how long it is.
    partials: (u32, u32),
    /// What is behind a variable that fills the segment.
    variable: Branch,
}

/// A literal edge: half a cache line, and never in two.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct Edge {
    /// `NONE` = an empty slot.
    parent: u32,
    /// Where a long label begins in `text`.
    start: u32,
    child: Branch,
    key: [u8; HEAD + 1],
}

impl Edge {
    const EMPTY: Self = Self {
        parent: NONE,
        start: 0,
        child: Branch::Nothing,
        key: [0; HEAD + 1],
    };
}

/// The rest of a template and the operation it belongs to.
type Tail<'t> = (&'t [Segment], u32);

/// The order in which matching templates are found: per segment a literal, then mixes with more literal text first,
/// then a variable. The spelling makes it total and puts equal segments side by side.
fn by_specificity(one: &[Segment], other: &[Segment]) -> Ordering {
    fn rank(segment: &Segment) -> (u8, &str, Reverse<usize>, Option<&Pattern>) {
        match segment {
            Segment::Literal(text) => (0, text, Reverse(0), None),
            Segment::Partial(pattern) => (1, "", Reverse(pattern.weight()), Some(pattern)),
            Segment::Whole => (2, "", Reverse(0), None),
        }
    }
    one.iter().map(rank).cmp(other.iter().map(rank))
}

impl Router {
    /// Compiles templates that all differ by more than the names of their variables.
    pub(super) fn new<'t>(templates: impl Iterator<Item = (&'t Template, u32)>) -> Self {
        let mut router = Self {
            root: Branch::Nothing,
            nodes: Vec::new(),
            slots: vec![Edge::EMPTY; 16],
            text: Vec::new(),
            partials: Vec::new(),
            patterns: Vec::new(),
            hasher: FixedState::with_seed(0x6761_7465),
        };
        let mut tails: Vec<Tail<'t>> = templates
            .map(|(template, operation)| (template.segments.as_slice(), operation))
            .collect();
        tails.sort_by(|(one, _), (other, _)| by_specificity(one, other));
        let mut edges = Vec::new();
        router.root = router.branch(&tails, &mut edges);
        let least = edges.len() * FILL.1 / FILL.0 + 1;
        router.slots = vec![Edge::EMPTY; least.next_power_of_two()];
        for (edge, label) in edges {
            router.place(edge, label);
        }
        router
    }

    fn branch<'t>(&mut self, tails: &[Tail<'t>], edges: &mut Vec<(Edge, &'t str)>) -> Branch {
        match tails {
            [] => Branch::Nothing,
            [([], operation)] => Branch::End(*operation),
            [([Segment::Whole], operation)] => Branch::Variable(*operation),
            few if few.len() <= BUCKET => self.bucket(few),
            many => self.node(many, edges),
        }
    }

    fn node<'t>(&mut self, tails: &[Tail<'t>], edges: &mut Vec<(Edge, &'t str)>) -> Branch {
        let number = place(self.nodes.len());
        self.nodes.push(Node {
            operation: NONE,
            has_literals: false,
            partials: (0, 0),
            variable: Branch::Nothing,
        });
        let mut node = Node {
            operation: NONE,
            has_literals: false,
            partials: (0, 0),
            variable: Branch::Nothing,
        };
        let mut partials = Vec::new();
        for group in tails.chunk_by(|(one, _), (other, _)| one.first() == other.first()) {
            let below: Vec<Tail<'t>> = group
                .iter()
                .map(|(segments, operation)| (segments.get(1..).unwrap_or_default(), *operation))
                .collect();
            let first = group.first().and_then(|(segments, _)| segments.first());
            match first {
                None => node.operation = below.first().map_or(NONE, |(_, operation)| *operation),
                Some(Segment::Whole) => node.variable = self.branch(&below, edges),
                Some(Segment::Partial(pattern)) => {
                    let pattern = self.pattern(pattern);
                    partials.push((pattern, self.branch(&below, edges)));
                }
                Some(Segment::Literal(label)) => {
                    node.has_literals = true;
                    let start = place(self.text.len());
                    if label.len() > HEAD {
                        // In front of what is behind it, which is read next.
                        self.text.extend(place(label.len()).to_le_bytes());
                        self.text.extend(label.as_bytes());
                    }
                    let (cut, _) = Cut::at(label.as_bytes(), 0);
                    let edge = Edge {
                        parent: number,
                        start,
                        child: self.branch(&below, edges),
                        key: cut.key.to_le_bytes(),
                    };
                    edges.push((edge, label));
                }
            }
        }
        node.partials = (place(self.partials.len()), place(partials.len()));
        self.partials.extend(partials);
        if let Some(own) = self.nodes.get_mut(number as usize) {
            *own = node;
        }
        Branch::Node(number)
    }

    fn pattern(&mut self, pattern: &Pattern) -> u32 {
        self.patterns.push(pattern.clone());
        place(self.patterns.len() - 1)
    }

    /// Writes templates in a row: operation, length of what follows, and per run of segments a mark and its content.
    fn bucket(&mut self, tails: &[Tail<'_>]) -> Branch {
        let mut rows = Vec::new();
        for (segments, operation) in tails {
            let mut row = Vec::new();
            let mut segments = segments.iter().peekable();
            while let Some(segment) = segments.next() {
                match segment {
                    Segment::Whole => row.push(VARIABLE),
                    Segment::Partial(pattern) => {
                        row.push(PARTIAL);
                        row.extend(self.pattern(pattern).to_le_bytes());
                    }
                    Segment::Literal(text) => {
                        let mut run = text.to_string();
                        while let Some(Segment::Literal(text)) =
                            segments.next_if(|next| matches!(next, Segment::Literal(_)))
                        {
                            run.push('/');
                            run.push_str(text);
                        }
                        row.push(LITERAL);
                        row.extend(place(run.len()).to_le_bytes());
                        row.extend(run.as_bytes());
                    }
                }
            }
            rows.extend(operation.to_le_bytes());
            rows.extend(place(row.len()).to_le_bytes());
            rows.extend(row);
        }
        let start = place(self.text.len());
        self.text.extend(rows);
        Branch::Bucket {
            start,
            count: u8::try_from(tails.len()).unwrap_or(u8::MAX),
        }
    }

    fn place(&mut self, edge: Edge, label: &str) {
        let mask = self.slots.len().wrapping_sub(1);
        let key = u128::from_le_bytes(edge.key);
        let mut slot = self.slot(edge.parent, key, label.as_bytes()) & mask;
        while let Some(taken) = self.slots.get_mut(slot) {
            if taken.parent == NONE {
                *taken = edge;
                return;
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Where the search for an edge begins. Labels come from configuration, so nobody can aim at one run of the table;
    /// short ones are mixed by one multiplication.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "halves of a product, of which the mask keeps what the table needs"
    )]
    fn slot(&self, parent: u32, key: u128, label: &[u8]) -> usize {
        let word = if key >> (8 * HEAD) == LONG {
            self.hasher.hash_one((parent, label))
        } else {
            let low = key as u64 ^ u64::from(parent).wrapping_mul(0xA24B_AED4_963E_E407);
            let high = (key >> 64) as u64;
            let product =
                u128::from(low ^ 0x9E37_79B9_7F4A_7C15) * u128::from(high ^ 0xC2B2_AE3D_27D4_EB4F);
            (product as u64) ^ ((product >> 64) as u64)
        };
        (word >> 20) as usize
    }

    /// Calls `each` with every operation whose template matches the path, most specific first, until it answers true.
    /// Returns how many nodes, edges and templates it looked at: at most twice as many as there are templates and
    /// segments in them, because it looks at none twice.
    pub(super) fn find(&self, path: &str, each: &mut impl FnMut(u32) -> bool) -> usize {
        let mut walk = Walk {
            router: self,
            path: path.strip_prefix('/').unwrap_or(path),
            each,
            steps: 0,
        };
        walk.follow(self.root, 0);
        walk.steps
    }

    fn edge(&self, parent: u32, cut: &Cut<'_>) -> Option<Branch> {
        let mask = self.slots.len().wrapping_sub(1);
        let key = cut.key.to_le_bytes();
        let mut slot = self.slot(parent, cut.key, cut.segment) & mask;
        loop {
            let edge = self.slots.get(slot)?;
            if edge.parent == NONE {
                return None;
            }
            if edge.parent == parent
                && edge.key == key
                && (cut.segment.len() <= HEAD || self.label(edge) == Some(cut.segment))
            {
                return Some(edge.child);
            }
            slot = (slot + 1) & mask;
        }
    }

    /// The label of an edge that is longer than its head.
    fn label(&self, edge: &Edge) -> Option<&[u8]> {
        counted(self.text.get(edge.start as usize..)?).map(|(label, _)| label)
    }
}

/// A place in one of the tables.
fn place(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(NONE)
}

/// A number at the start of some bytes, and what follows it.
fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*number), rest))
}

/// Bytes that follow their count, and what follows them.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = number(bytes)?;
    rest.split_at_checked(count as usize)
}

/// A segment of a path with its key in the table.
struct Cut<'p> {
    segment: &'p [u8],
    /// Its first `HEAD` bytes, padded with zeros, and its length, or `LONG`, as the highest byte.
    key: u128,
}

impl<'p> Cut<'p> {
    /// The segment that begins at `at`, and where the next one begins: behind the end when there is none.
    fn at(path: &'p [u8], at: usize) -> (Self, usize) {
        let rest = path.get(at..).unwrap_or_default();
        let word = first_bytes(path, at);
        let length = match slash(word) {
            Some(length) => length,
            None if rest.len() <= 16 => rest.len(),
            None => {
                let behind = rest.get(16..).unwrap_or_default();
                16 + memchr::memchr(b'/', behind).unwrap_or(behind.len())
            }
        };
        let key = if length <= HEAD {
            (word & ((1 << (8 * length)) - 1)) | ((length as u128) << (8 * HEAD))
        } else {
            (word & ((1 << (8 * HEAD)) - 1)) | (LONG << (8 * HEAD))
        };
        let segment = rest.get(..length).unwrap_or(rest);
        (Self { segment, key }, at + length + 1)
    }
}

/// The sixteen bytes from `at` on, with zeros behind the end, in the order of their significance.
fn first_bytes(path: &[u8], at: usize) -> u128 {
    if let Some(bytes) = path.get(at..).and_then(<[u8]>::first_chunk) {
        return u128::from_le_bytes(*bytes);
    }
    if let Some(bytes) = path.last_chunk::<16>() {
        // Those in front of `at` leave by the low end.
        let before = at.saturating_sub(path.len() - 16);
        let shift = u32::try_from(8 * before).unwrap_or(u32::MAX);
        return u128::from_le_bytes(*bytes).checked_shr(shift).unwrap_or(0);
    }
    let rest = path.get(at..).unwrap_or_default();
    rest.iter()
        .rev()
        .fold(0, |word, byte| word << 8 | u128::from(*byte))
}

/// How many bytes stand in front of the first slash (Mycroft's test for a zero byte).
fn slash(word: u128) -> Option<usize> {
    const ONES: u128 = u128::MAX / 0xFF;
    let zero_at_slash = word ^ (ONES * u128::from(b'/'));
    let found = zero_at_slash.wrapping_sub(ONES) & !zero_at_slash & (ONES << 7);
    (found != 0).then_some(found.trailing_zeros() as usize / 8)
}

/// One look-up.
struct Walk<'w, F> {
    router: &'w Router,
    /// Without its leading slash.
    path: &'w str,
    each: &'w mut F,
    steps: usize,
}

impl<F: FnMut(u32) -> bool> Walk<'_, F> {
    /// Goes on behind a branch with the segment that begins at `at`; tells whether `each` has answered true.
    fn follow(&mut self, mut branch: Branch, mut at: usize) -> bool {
        let path = self.path.as_bytes();
        loop {
            self.steps += 1;
            let ended = at > path.len();
            let number = match branch {
                Branch::Nothing => return false,
                Branch::End(operation) => return ended && (self.each)(operation),
                Branch::Variable(operation) => {
                    // One segment that is not empty is left.
                    let rest = path.get(at..).unwrap_or_default();
                    return !rest.is_empty()
                        && memchr::memchr(b'/', rest).is_none()
                        && (self.each)(operation);
                }
                Branch::Bucket { start, count } => return self.rows(start, count, at),
                Branch::Node(number) => number,
            };
            let Some(node) = self.router.nodes.get(number as usize) else {
                return false;
            };
            if ended {
                return node.operation != NONE && (self.each)(node.operation);
            }
            let (cut, next) = Cut::at(path, at);
            let literal = if node.has_literals {
                self.router.edge(number, &cut)
            } else {
                None
            };
            // Only a literal can stand for the emptiness behind a trailing slash.
            let only_literal = cut.segment.is_empty()
                || (node.partials.1 == 0 && matches!(node.variable, Branch::Nothing));
            match literal {
                Some(child) if only_literal => {
                    (branch, at) = (child, next);
                    continue;
                }
                Some(child) if self.follow(child, next) => return true,
                None if only_literal => return false,
                _ => {}
            }
            if node.partials.1 > 0 && self.partials(node.partials, at, next) {
                return true;
            }
            (branch, at) = (node.variable, next);
        }
    }

    fn partials(&mut self, (start, count): (u32, u32), at: usize, next: usize) -> bool {
        let router = self.router;
        let all = router.partials.get(start as usize..).unwrap_or_default();
        for (pattern, child) in all.iter().take(count as usize) {
            self.steps += 1;
            if self.matches(*pattern, at, next) && self.follow(*child, next) {
                return true;
            }
        }
        false
    }

    fn matches(&self, pattern: u32, at: usize, next: usize) -> bool {
        let pattern = self.router.patterns.get(pattern as usize);
        let segment = self.path.get(at..next.saturating_sub(1));
        pattern
            .zip(segment)
            .is_some_and(|(pattern, segment)| pattern.matches(segment, |_| {}))
    }

    /// Tries the templates of a bucket.
    fn rows(&mut self, start: u32, count: u8, at: usize) -> bool {
        let mut rows = self.router.text.get(start as usize..).unwrap_or_default();
        for _ in 0..count {
            self.steps += 1;
            let row = number(rows).and_then(|(operation, rest)| Some((operation, counted(rest)?)));
            let Some((operation, (row, behind))) = row else {
                return false;
            };
            if self.fits(row, at) == Some(()) && (self.each)(operation) {
                return true;
            }
            rows = behind;
        }
        false
    }

    /// Whether the path from `at` on is what a row spells.
    fn fits(&self, mut row: &[u8], mut at: usize) -> Option<()> {
        let path = self.path.as_bytes();
        while let Some((mark, content)) = row.split_first() {
            let rest = path.get(at..)?;
            if *mark == LITERAL {
                let (run, behind) = counted(content)?;
                match rest.strip_prefix(run)?.first() {
                    None | Some(b'/') => at += run.len() + 1,
                    Some(_) => return None,
                }
                row = behind;
                continue;
            }
            let length = match slash(first_bytes(path, at)) {
                Some(length) => length,
                None => memchr::memchr(b'/', rest).unwrap_or(rest.len()),
            };
            if length == 0 {
                return None;
            }
            let next = at + length + 1;
            if *mark == PARTIAL {
                let (pattern, behind) = number(content)?;
                if !self.matches(pattern, at, next) {
                    return None;
                }
                row = behind;
            } else {
                row = content;
            }
            at = next;
        }
        (at > path.len()).then_some(())
    }
}

#[cfg(test)]
mod tests;
