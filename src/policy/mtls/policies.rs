//! Certificate policies along a path (RFC 5280 sections 6.1.2 to 6.1.5).
//!
//! Enters: what each certificate of a path says about policies, from the anchor's child down. Leaves: whether the path
//! may be used when no policy in particular is asked for. That fails only where an authority insists on an explicit
//! policy and none holds all the way, so the standard's tree shrinks to the set of policies that hold so far.

use std::collections::BTreeSet;

use x509_parser::oid_registry::Oid;

/// An object identifier, DER content.
type Identifier = Vec<u8>;

/// 2.5.29.32.0: every policy.
const ANY: &[u8] = &[0x55, 0x1d, 0x20, 0x00];

/// What one certificate says about policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// Under which it was issued; `None` = it does not say.
    asserted: Option<BTreeSet<Identifier>>,
    /// Which of the issuer's policies equal which of the subject's.
    mappings: Vec<(Identifier, Identifier)>,
    /// After how many certificates a policy is required, mappings no longer count, `ANY` no longer counts.
    require_explicit: Option<u32>,
    inhibit_mapping: Option<u32>,
    inhibit_any: Option<u32>,
}

impl Policies {
    pub(super) fn assert<'o>(&mut self, policies: impl Iterator<Item = &'o Oid<'o>>) {
        self.asserted = Some(policies.map(|policy| policy.as_bytes().to_vec()).collect());
    }

    pub(super) fn map<'o>(&mut self, pairs: impl Iterator<Item = (&'o Oid<'o>, &'o Oid<'o>)>) {
        self.mappings = pairs
            .map(|(of_issuer, of_subject)| {
                (
                    of_issuer.as_bytes().to_vec(),
                    of_subject.as_bytes().to_vec(),
                )
            })
            .collect();
    }

    pub(super) fn constrain(
        &mut self,
        require_explicit: Option<u32>,
        inhibit_mapping: Option<u32>,
    ) {
        self.require_explicit = require_explicit;
        self.inhibit_mapping = inhibit_mapping;
    }

    pub(super) fn inhibit_any(&mut self, after: u32) {
        self.inhibit_any = Some(after);
    }

    /// How many look-ups of policies this certificate may cost a path that it lies on.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.asserted.as_ref().map_or(0, BTreeSet::len) + 2 * self.mappings.len()
    }

    /// Whether the path may be used. The members come from the anchor's child down to the client's certificate, each
    /// with whether it is self-issued.
    #[must_use]
    pub fn allow<'p>(members: impl ExactSizeIterator<Item = (&'p Self, bool)>) -> bool {
        let count = members.len();
        let start = u32::try_from(count + 1).unwrap_or(u32::MAX);
        let mut state = State {
            holding: BTreeSet::from([ANY.to_vec()]),
            explicit: start,
            mapping: start,
            any: start,
        };
        for (number, (policies, self_issued)) in members.enumerate() {
            let last = number + 1 == count;
            state.enter(policies, self_issued && !last);
            if state.explicit == 0 && state.holding.is_empty() {
                return false;
            }
            if last {
                let required = state.explicit <= 1 || policies.require_explicit == Some(0);
                return !required || !state.holding.is_empty();
            }
            if !state.leave(policies, self_issued) {
                return false;
            }
        }
        true
    }
}

struct State {
    /// Policies that hold so far; empty = the standard's NULL tree.
    holding: BTreeSet<Identifier>,
    explicit: u32,
    mapping: u32,
    any: u32,
}

impl State {
    /// Section 6.1.3 (d), (e).
    fn enter(&mut self, policies: &Policies, exempt: bool) {
        let Some(asserted) = &policies.asserted else {
            self.holding.clear();
            return;
        };
        let holds_any = self.holding.contains(ANY);
        let mut next: BTreeSet<_> = asserted
            .iter()
            .filter(|policy| policy.as_slice() != ANY)
            .filter(|policy| holds_any || self.holding.contains(*policy))
            .cloned()
            .collect();
        if asserted.contains(ANY) && (self.any > 0 || exempt) {
            next.append(&mut self.holding);
        }
        self.holding = next;
    }

    /// Section 6.1.4 (a), (b), (h) to (j).
    fn leave(&mut self, policies: &Policies, self_issued: bool) -> bool {
        let mut mapped = BTreeSet::new();
        for (of_issuer, of_subject) in &policies.mappings {
            if of_issuer == ANY || of_subject == ANY {
                return false;
            }
            let holds = self.holding.contains(of_issuer) || self.holding.contains(ANY);
            if self.mapping > 0 && holds {
                mapped.insert(of_subject.clone());
            }
        }
        for (of_issuer, _) in &policies.mappings {
            self.holding.remove(of_issuer);
        }
        self.holding.append(&mut mapped);
        if !self_issued {
            for counter in [&mut self.explicit, &mut self.mapping, &mut self.any] {
                *counter = counter.saturating_sub(1);
            }
        }
        let lower = |counter: &mut u32, limit: Option<u32>| {
            *counter = limit.map_or(*counter, |limit| limit.min(*counter));
        };
        lower(&mut self.explicit, policies.require_explicit);
        lower(&mut self.mapping, policies.inhibit_mapping);
        lower(&mut self.any, policies.inhibit_any);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{ANY, Policies};

    fn of(asserted: &[&[u8]]) -> Policies {
        Policies {
            asserted: Some(asserted.iter().map(|policy| policy.to_vec()).collect()),
            ..Policies::default()
        }
    }

    fn map(pairs: &[(&[u8], &[u8])], policies: Policies) -> Policies {
        let mappings = pairs
            .iter()
            .map(|(a, b)| (a.to_vec(), b.to_vec()))
            .collect();
        Policies {
            mappings,
            ..policies
        }
    }

    fn require(after: u32, policies: Policies) -> Policies {
        Policies {
            require_explicit: Some(after),
            ..policies
        }
    }

    #[test]
    fn a_path_needs_a_policy_only_where_one_is_required() {
        let (a, b): (&[u8], &[u8]) = (&[1], &[2]);
        let none = Policies::default;
        let no_any = |policies| Policies {
            inhibit_any: Some(0),
            ..policies
        };
        let no_mapping = |policies| Policies {
            inhibit_mapping: Some(0),
            ..policies
        };
        for (name, path, expected) in [
            ("nothing", vec![none(), none()], true),
            ("different, not required", vec![of(&[a]), of(&[b])], true),
            (
                "required and kept",
                vec![require(0, of(&[a])), of(&[a])],
                true,
            ),
            (
                "required and different",
                vec![require(0, of(&[a])), of(&[b])],
                false,
            ),
            (
                "required and none",
                vec![require(0, of(&[a])), none()],
                false,
            ),
            (
                "required later than the path is long",
                vec![require(2, of(&[a])), none()],
                true,
            ),
            (
                "required at its end",
                vec![require(1, of(&[a])), none()],
                false,
            ),
            (
                "required of itself",
                vec![of(&[a]), require(0, of(&[b]))],
                false,
            ),
            (
                "any keeps",
                vec![require(0, of(&[a])), of(&[ANY]), of(&[a])],
                true,
            ),
            (
                "any inhibited",
                vec![no_any(require(0, of(&[a]))), of(&[ANY])],
                false,
            ),
            (
                "mapped",
                vec![map(&[(a, b)], require(0, of(&[a]))), of(&[b])],
                true,
            ),
            (
                "mapped away",
                vec![map(&[(a, b)], require(0, of(&[a]))), of(&[a])],
                false,
            ),
            (
                "swapped",
                vec![map(&[(a, b), (b, a)], require(0, of(&[a]))), of(&[b])],
                true,
            ),
            (
                "mapped under any",
                vec![map(&[(a, b)], require(0, of(&[ANY]))), of(&[b])],
                true,
            ),
            (
                "mapping inhibited",
                vec![
                    no_mapping(of(&[a])),
                    map(&[(a, b)], require(0, of(&[a]))),
                    of(&[b]),
                ],
                false,
            ),
            (
                "mapped to any",
                vec![map(&[(a, ANY)], of(&[a])), of(&[a])],
                false,
            ),
        ] {
            let members: Vec<_> = path.iter().map(|policies| (policies, false)).collect();
            assert_eq!(Policies::allow(members.into_iter()), expected, "{name}");
        }
    }
}
