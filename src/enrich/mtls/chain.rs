//! The path from a client's certificate to a trust anchor, at one second (RFC 5280 section 6).
//!
//! Enters: a certificate, what was sent along, the host's authority. Leaves: what the best path is worth. A path grows
//! from the certificate upwards and only along signatures that verify; one that reaches an anchor is judged as a
//! whole, and one that fails does not end the search. All dimensions of the work are bounded, because what was sent
//! along is hostile.
//!
//! webpki checks the signatures, and reads every certificate strictly before it comes here. Its own paths are not used:
//! it has no constraints on directory names and mailboxes, no policies, no self-issued authorities and no path length
//! of anchors, and it cannot tell a certificate's own dates from its issuers'.

use crate::model::MtlsReason;
use crate::policy::mtls::{Authority, Certificate, MAX_INTERMEDIATES, Policies};

/// What a certificate is worth, its own dates and revocation aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// A path holds.
    Trusted,
    /// A path would hold, were it not for a revoked issuer.
    Revoked,
    /// No path holds.
    Refused(MtlsReason),
}

impl Worth {
    /// The better one is what the certificate is worth: a reason is the more telling the nearer its path came.
    fn rank(self) -> u8 {
        match self {
            Self::Trusted => 0,
            Self::Revoked => 1,
            Self::Refused(MtlsReason::Expired | MtlsReason::NotYetValid) => 2,
            Self::Refused(MtlsReason::WrongUsage | MtlsReason::Malformed) => 3,
            Self::Refused(MtlsReason::BadSignature) => 4,
            Self::Refused(MtlsReason::Untrusted) => 5,
        }
    }
}

/// Who issued a client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Issuer {
    /// Serial number in two's complement.
    pub(super) serial: Vec<u8>,
    pub(super) key_identifier: Option<Vec<u8>>,
}

impl Issuer {
    pub(super) fn of(certificate: &Certificate) -> Self {
        Self {
            serial: certificate.serial.clone(),
            key_identifier: certificate.key_identifier.clone(),
        }
    }
}

/// What a search found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) worth: Worth,
    /// The direct issuer: of the best path, else one whose key has signed the certificate.
    pub(super) issuer: Option<Issuer>,
    /// Signatures that were checked.
    pub(super) signatures: usize,
}

/// Signatures that one search may check; as in webpki and Go.
const MAX_SIGNATURES: usize = 100;

/// Certificates that one search may put on a path.
const MAX_STEPS: usize = 2_000;

/// Comparisons of names with constraints, and look-ups of policies, that one search may cost; as in webpki and Go.
const MAX_COMPARISONS: usize = 250_000;

/// Searches the paths of `leaf` at `second`, which lies in its validity.
pub(super) fn worth_at(
    leaf: &Certificate,
    sent: &[Certificate],
    authority: &Authority,
    second: i64,
) -> Found {
    if let Some(reason) = own_fault(leaf) {
        return Found {
            worth: Worth::Refused(reason),
            issuer: None,
            signatures: 0,
        };
    }
    let mut search = Search {
        authority,
        issuers: authority.intermediates.iter().chain(sent).collect(),
        second,
        best: Worth::Refused(MtlsReason::Untrusted),
        direct: None,
        signatures: MAX_SIGNATURES,
        steps: MAX_STEPS,
        comparisons: MAX_COMPARISONS,
        known: Vec::new(),
    };
    search.extend(&mut vec![leaf]);
    Found {
        worth: search.best,
        issuer: search.direct.map(Issuer::of),
        signatures: MAX_SIGNATURES - search.signatures,
    }
}

/// What keeps a certificate from being a client's, whoever issued it.
fn own_fault(leaf: &Certificate) -> Option<MtlsReason> {
    if let Some(fault) = leaf.fault {
        Some(fault.reason)
    } else if !leaf.is_version_3 {
        // Before version 3 a certificate could not say what it is for; only an anchor, which the operator vouches for,
        // may be so old.
        Some(MtlsReason::Malformed)
    } else if leaf.issuing.authority || !leaf.for_clients {
        Some(MtlsReason::WrongUsage)
    } else {
        None
    }
}

struct Search<'a> {
    authority: &'a Authority,
    issuers: Vec<&'a Certificate>,
    second: i64,
    best: Worth,
    direct: Option<&'a Certificate>,
    signatures: usize,
    steps: usize,
    comparisons: usize,
    /// Signatures already checked: of whom, by whom, with what result.
    known: Vec<(*const Certificate, *const Certificate, bool)>,
}

impl<'a> Search<'a> {
    /// Tries everything that may stand above the last certificate of the path. `None` = the search is over, because
    /// nothing better can come or the work has been spent.
    fn extend(&mut self, path: &mut Vec<&'a Certificate>) -> Option<()> {
        let head = *path.last()?;
        let authority = self.authority;
        for root in &authority.roots {
            if root.subject != head.issuer {
                continue;
            }
            if self.is_signed_by(head, root)? {
                let worth = self.judge(path, root)?;
                let direct = path.get(1).copied().unwrap_or(root);
                if self.direct.is_none() || worth.rank() < self.best.rank() {
                    self.direct = Some(direct);
                }
                self.note(worth)?;
            } else {
                self.note(Worth::Refused(MtlsReason::BadSignature))?;
            }
        }
        if path.len() > MAX_INTERMEDIATES {
            return Some(());
        }
        for number in 0..self.issuers.len() {
            let issuer = *self.issuers.get(number)?;
            let repeated = path.iter().any(|member| {
                member.public_key == issuer.public_key && member.subject == issuer.subject
            });
            if issuer.subject != head.issuer || repeated {
                continue;
            }
            if !self.is_signed_by(head, issuer)? {
                self.note(Worth::Refused(MtlsReason::BadSignature))?;
                continue;
            }
            if path.len() == 1 {
                self.direct.get_or_insert(issuer);
            }
            self.steps = self.steps.checked_sub(1)?;
            path.push(issuer);
            self.extend(path)?;
            path.pop();
        }
        Some(())
    }

    fn note(&mut self, worth: Worth) -> Option<()> {
        if worth.rank() < self.best.rank() {
            self.best = worth;
        }
        (self.best != Worth::Trusted).then_some(())
    }

    fn is_signed_by(&mut self, child: &'a Certificate, issuer: &'a Certificate) -> Option<bool> {
        let pair = (std::ptr::from_ref(child), std::ptr::from_ref(issuer));
        let known = self.known.iter().find(|(a, b, _)| (*a, *b) == pair);
        if let Some((_, _, verified)) = known {
            return Some(*verified);
        }
        self.signatures = self.signatures.checked_sub(1)?;
        let verified = child.is_signed_by(issuer);
        self.known.push((pair.0, pair.1, verified));
        Some(verified)
    }

    /// Judges a path whose signatures hold, from the anchor down.
    fn judge(&mut self, path: &[&Certificate], root: &Certificate) -> Option<Worth> {
        let issuers = || std::iter::once(root).chain(path.iter().skip(1).rev().copied());
        let refused = |reason| Some(Worth::Refused(reason));
        // The anchor's extended key usage does not count: the operator has said what it is for.
        let able = issuers().all(|issuer| {
            issuer.fault.is_none() && issuer.issuing.authority && issuer.issuing.certificates
        }) && issuers()
            .skip(1)
            .all(|issuer| issuer.is_version_3 && issuer.for_clients);
        let members: Vec<_> = path
            .iter()
            .rev()
            .map(|member| (&member.policies, member.is_self_issued()))
            .collect();
        let policies = path.iter().map(|member| member.policies.cost()).sum();
        self.comparisons = self.comparisons.checked_sub(policies)?;
        if !able
            || !has_room(issuers())
            || !self.names_are_allowed(path, root)?
            || !Policies::allow(members.into_iter())
        {
            return refused(MtlsReason::WrongUsage);
        }
        let between = path
            .iter()
            .skip(1)
            .filter(|issuer| !issuer.is_self_issued());
        if between.count() > self.authority.max_intermediates {
            return refused(MtlsReason::Untrusted);
        }
        let direct = path.get(1).copied().unwrap_or(root);
        let pins = &self.authority.issuers;
        if !pins.is_empty() && !pins.contains(&direct.fingerprint) {
            return refused(MtlsReason::Untrusted);
        }
        if let Some(issuer) = issuers().find(|issuer| !issuer.is_valid_at(self.second)) {
            return refused(if self.second < issuer.not_before {
                MtlsReason::NotYetValid
            } else {
                MtlsReason::Expired
            });
        }
        let revoked = issuers().any(|issuer| {
            let spans = self.authority.revocations.of(issuer);
            spans.iter().any(|span| span.covers(self.second))
        });
        Some(if revoked {
            Worth::Revoked
        } else {
            Worth::Trusted
        })
    }

    /// RFC 5280 sections 4.2.1.10 and 6.1.3 (b), (c): every issuer's constraints hold for everything below it, except
    /// for authorities that issued to themselves.
    fn names_are_allowed(&mut self, path: &[&Certificate], root: &Certificate) -> Option<bool> {
        let members = path.iter().copied().chain([root]);
        for (height, issuer) in members.enumerate().skip(1) {
            let Some(constraints) = &issuer.constraints else {
                continue;
            };
            for (position, below) in path.iter().take(height).enumerate() {
                if position > 0 && below.is_self_issued() {
                    continue;
                }
                let cost = constraints.cost(&below.names);
                self.comparisons = self.comparisons.checked_sub(cost)?;
                if !constraints.allow(&below.names) {
                    return Some(false);
                }
            }
        }
        Some(true)
    }
}

/// RFC 5280 section 6.1.4 (l), (m): path lengths, from the anchor down; authorities that issued to themselves do not
/// count. The anchor's own limit counts too.
fn has_room<'c>(mut issuers: impl Iterator<Item = &'c Certificate>) -> bool {
    let Some(root) = issuers.next() else {
        return false;
    };
    let mut left = root.issuing.path_length.unwrap_or(u32::MAX);
    for issuer in issuers {
        if !issuer.is_self_issued() {
            match left.checked_sub(1) {
                Some(less) => left = less,
                None => return false,
            }
        }
        left = left.min(issuer.issuing.path_length.unwrap_or(u32::MAX));
    }
    true
}
