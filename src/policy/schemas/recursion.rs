//! Which descriptions make judging or explaining a value expensive.
//!
//! Enters: every reference between schemas. Leaves two answers. Whether some schema contains itself through two branches of
//! one `allOf`, `anyOf` or `oneOf`: telling whether a value conforms to it is cheap, because results are remembered, but
//! listing every reason why it does not doubles with every level of the value. And whether references alone lead to one
//! schema in very many ways without a step into the value: then the smallest value takes as many looks.

use std::collections::{BTreeMap, BTreeSet};

use super::documents::Address;

/// Ways in which one value may meet schemas; large hierarchies of types have some hundreds.
const MAX_WAYS: usize = 10_000;

/// Keywords below which a schema is about the same value, and whether a name or an index follows.
const IN_PLACE: [(&str, bool); 8] = [
    ("allOf", true),
    ("anyOf", true),
    ("oneOf", true),
    ("dependentSchemas", true),
    ("not", false),
    ("if", false),
    ("then", false),
    ("else", false),
];

/// A schema that leads one value to itself and to others in more than [`MAX_WAYS`] ways.
pub(super) fn tangled(references: &[(Address, Address)]) -> Option<&Address> {
    let edges = edges(references, in_place);
    let mut starts = edges.keys().copied();
    starts.find(|start| {
        let mut left = MAX_WAYS;
        !walk(&edges, start, &mut Vec::new(), &mut left)
    })
}

/// Follows every path that does not come back to itself; false when there are too many.
fn walk<'r>(
    edges: &Edges<'r>,
    at: &'r Address,
    path: &mut Vec<&'r Address>,
    left: &mut usize,
) -> bool {
    let Some(fewer) = left.checked_sub(1) else {
        return false;
    };
    *left = fewer;
    // Validators know when they come back to a schema with the same value.
    if path.contains(&at) {
        return true;
    }
    path.push(at);
    let leaving = edges.get(at).into_iter().flatten();
    let few = leaving
        .into_iter()
        .all(|(_, target)| walk(edges, target, path, left));
    path.pop();
    few
}

/// Whether a reference that stands there, seen from its schema, is about the same value as the schema.
fn in_place(inner: &str) -> bool {
    let mut tokens = inner.split('/').skip(1);
    while let Some(token) = tokens.next() {
        match IN_PLACE.iter().find(|(name, _)| *name == token) {
            Some((_, true)) => drop(tokens.next()),
            Some((_, false)) => {}
            None => return token.starts_with('$') && tokens.next().is_none(),
        }
    }
    false
}

/// From schemas that something refers to: where a reference inside stands, and what it means.
type Edges<'r> = BTreeMap<&'r Address, Vec<(&'r Address, &'r Address)>>;

/// The references between schemas that something refers to, as far as their pointers inside a schema are wanted.
fn edges(references: &[(Address, Address)], wanted: impl Fn(&str) -> bool) -> Edges<'_> {
    let targets: BTreeSet<&Address> = references.iter().map(|(_, target)| target).collect();
    let mut edges = Edges::new();
    for (at, target) in references {
        for end in token_ends(&at.pointer) {
            let (outer, inner) = at.pointer.split_at(end);
            let outer = Address {
                document: at.document,
                pointer: outer.to_owned(),
            };
            if let Some(outer) = targets.get(&outer)
                && wanted(inner)
            {
                edges.entry(outer).or_default().push((at, target));
            }
        }
    }
    edges
}

/// Whether two branches of one combinator lead back to the schema that the combinator belongs to.
pub(super) fn branches_recurse(references: &[(Address, Address)]) -> bool {
    let edges = edges(references, |_| true);
    edges.iter().any(|(outer, leaving)| {
        // Only references inside a combinator can visit one value twice.
        let mut branches: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (at, target) in leaving {
            for (combinator, branch) in combinators(outer, at) {
                if reaches(&edges, target, outer) {
                    branches.entry(combinator).or_default().insert(branch);
                }
            }
        }
        branches.values().any(|branches| branches.len() > 1)
    })
}

/// Ends of every prefix of a pointer, the empty one included.
fn token_ends(pointer: &str) -> impl Iterator<Item = usize> + '_ {
    pointer
        .match_indices('/')
        .map(|(at, _)| at)
        .chain([pointer.len()])
}

/// Combinators between a schema and a reference inside it: the pointer up to the keyword, and the branch.
fn combinators<'p>(outer: &Address, at: &'p Address) -> Vec<(&'p str, &'p str)> {
    let mut found = Vec::new();
    for keyword in ["/allOf/", "/anyOf/", "/oneOf/"] {
        for (start, _) in at.pointer.match_indices(keyword) {
            let end = start + keyword.len();
            if start < outer.pointer.len() {
                continue;
            }
            if let (Some(combinator), Some(rest)) = (at.pointer.get(..end), at.pointer.get(end..)) {
                found.push((combinator, rest.split('/').next().unwrap_or_default()));
            }
        }
    }
    found
}

fn reaches(edges: &Edges<'_>, from: &Address, goal: &Address) -> bool {
    let mut seen: BTreeSet<&Address> = BTreeSet::new();
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        if at == goal {
            return true;
        }
        for (_, target) in edges.get(at).into_iter().flatten() {
            if seen.insert(target) {
                open.push(target);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{branches_recurse, tangled};
    use crate::policy::schemas::documents::Address;

    #[test]
    fn only_branches_of_one_combinator_count() {
        for (references, expected) in [
            (vec![("/S/A/items/$ref", "/S/A")], false),
            (
                vec![
                    ("/S/A/properties/l/$ref", "/S/A"),
                    ("/S/A/properties/r/$ref", "/S/A"),
                ],
                false,
            ),
            (
                vec![
                    ("/S/A/anyOf/0/properties/c/$ref", "/S/A"),
                    ("/S/A/anyOf/1/properties/c/$ref", "/S/A"),
                ],
                true,
            ),
            (
                vec![
                    ("/S/A/anyOf/0/properties/c/$ref", "/S/A"),
                    ("/S/A/anyOf/1/$ref", "/S/B"),
                ],
                false,
            ),
            (
                vec![
                    ("/S/A/oneOf/0/$ref", "/S/B"),
                    ("/S/A/oneOf/1/$ref", "/S/C"),
                    ("/S/B/properties/c/$ref", "/S/A"),
                    ("/S/C/properties/c/$ref", "/S/A"),
                ],
                true,
            ),
            (
                vec![
                    ("/S/A/allOf/0/$ref", "/S/B"),
                    ("/S/A/allOf/1/properties/c/$ref", "/S/A"),
                    ("/S/B/properties/x/$ref", "/S/D"),
                ],
                false,
            ),
        ] {
            let address = |pointer: &str| Address {
                document: 0,
                pointer: pointer.into(),
            };
            let references: Vec<_> = references
                .iter()
                .map(|(at, target)| (address(at), address(target)))
                .collect();
            assert_eq!(branches_recurse(&references), expected, "{references:?}");
        }
    }

    #[test]
    fn ways_through_one_value_are_counted() {
        let address = |pointer: String| Address {
            document: 0,
            pointer,
        };
        // Schema n refers to n + 1, modulo `ring`, this often below this keyword.
        let chain = |schemas: usize, ring: usize, often: usize, keyword: &str| {
            let mut references = Vec::new();
            for (number, branch) in (0..schemas).flat_map(|n| (0..often).map(move |b| (n, b))) {
                let at = address(format!("/S/{number}/{keyword}/{branch}/$ref"));
                references.push((at, address(format!("/S/{}", (number + 1) % ring))));
            }
            // Something must mean the first one.
            references.push((address("/P/$ref".into()), address("/S/0".into())));
            tangled(&references).is_some()
        };
        for keyword in [
            "allOf",
            "anyOf",
            "oneOf",
            "not/oneOf",
            "then/dependentSchemas",
        ] {
            assert!(chain(20, 30, 2, keyword), "{keyword}");
            assert!(chain(8, 8, 16, keyword), "{keyword}");
        }
        assert!(!chain(20, 30, 2, "properties"));
        assert!(!chain(20, 30, 2, "allOf/0/items"));
        assert!(!chain(1_000, 2_000, 1, "allOf"));
        assert!(!chain(1, 1, 1_000, "oneOf"));
        assert!(!chain(2, 2, 50, "oneOf"));
    }
}
