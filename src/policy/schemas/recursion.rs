//! Which descriptions make explaining a deep value expensive.
//!
//! Enters: every reference between schemas. Leaves: whether some schema contains itself through two branches of one
//! `allOf`, `anyOf` or `oneOf`. Telling whether a value conforms to such a schema is cheap, because results are remembered;
//! listing every reason why it does not doubles with every level of the value.

use std::collections::{BTreeMap, BTreeSet};

use super::documents::Address;

/// Whether two branches of one combinator lead back to the schema that the combinator belongs to.
pub(super) fn branches_recurse(references: &[(Address, Address)]) -> bool {
    let targets: BTreeSet<&Address> = references.iter().map(|(_, target)| target).collect();
    // Edges between schemas that something refers to, with the place of the reference.
    let mut edges: BTreeMap<&Address, Vec<(&Address, &Address)>> = BTreeMap::new();
    for (at, target) in references {
        for end in token_ends(&at.pointer) {
            let outer = Address {
                document: at.document,
                pointer: at.pointer.get(..end).unwrap_or_default().to_owned(),
            };
            if let Some(outer) = targets.get(&outer) {
                edges.entry(outer).or_default().push((at, target));
            }
        }
    }
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

fn reaches(
    edges: &BTreeMap<&Address, Vec<(&Address, &Address)>>,
    from: &Address,
    goal: &Address,
) -> bool {
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
    use super::branches_recurse;
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
}
