//! The path from a client's certificate to a trust anchor, at one second.
//!
//! Enters: a certificate, what was sent along, the host's authority. Leaves: what the best path is worth. webpki
//! builds the paths and checks signatures, basic constraints, extended key usage and name constraints; what it leaves
//! to others is checked on every path that it offers, and a path that fails does not end the search: the anchor's own
//! validity and path length, key usage of issuers, pins and revoked issuers.

use std::cell::Cell;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage, VerifiedPath};

use crate::model::MtlsReason;
use crate::policy::mtls::{Authority, Certificate};

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

/// Searches the paths of `leaf` at `second`, which lies in its validity.
pub(super) fn worth_at(
    leaf: &Certificate,
    sent: &[Certificate],
    authority: &Authority,
    second: i64,
) -> Worth {
    let Ok(since_epoch) = u64::try_from(second) else {
        // webpki refuses dates before 1970 as malformed; so do we.
        return Worth::Refused(MtlsReason::Malformed);
    };
    let time = UnixTime::since_unix_epoch(Duration::from_secs(since_epoch));
    let end = match EndEntityCert::try_from(&leaf.der) {
        Ok(end) => end,
        Err(error) => return Worth::Refused(reason(&error)),
    };
    let all: Vec<CertificateDer<'_>>;
    let intermediates = if sent.is_empty() {
        authority.intermediate_ders.as_slice()
    } else {
        all = authority
            .intermediates
            .iter()
            .chain(sent)
            .map(|certificate| certificate.der.clone())
            .collect();
        all.as_slice()
    };
    let revoked_path = Cell::new(false);
    let check = |path: &VerifiedPath<'_>| {
        let path = Path::new(path, sent, authority).ok_or(Error::UnknownIssuer)?;
        path.check(second, time)?;
        if path.is_revoked_at(second) {
            revoked_path.set(true);
            return Err(Error::CertRevoked);
        }
        Ok(())
    };
    let found = end.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &authority.anchors,
        intermediates,
        time,
        KeyUsage::client_auth(),
        None,
        Some(&check),
    );
    match found {
        Ok(_) => Worth::Trusted,
        Err(_) if revoked_path.get() => Worth::Revoked,
        Err(error) => Worth::Refused(reason(&error)),
    }
}

/// A path that webpki found good, with what is known of its members.
struct Path<'a> {
    authority: &'a Authority,
    root: &'a Certificate,
    /// From the client's issuer up.
    intermediates: Vec<&'a Certificate>,
}

impl<'a> Path<'a> {
    /// `None` when a member is none of ours, which cannot happen.
    fn new(
        path: &VerifiedPath<'_>,
        sent: &'a [Certificate],
        authority: &'a Authority,
    ) -> Option<Self> {
        let anchor = authority
            .anchors
            .iter()
            .position(|anchor| std::ptr::eq(anchor, path.anchor()))?;
        let intermediates = path
            .intermediate_certificates()
            .map(|member| {
                let der = member.der();
                authority
                    .intermediates
                    .iter()
                    .chain(sent)
                    .find(|certificate| certificate.der == der)
            })
            .collect::<Option<_>>()?;
        Some(Self {
            authority,
            root: authority.roots.get(anchor)?,
            intermediates,
        })
    }

    fn check(&self, second: i64, time: UnixTime) -> Result<(), Error> {
        if !self.root.is_valid_at(second) {
            let seconds = |second: i64| {
                UnixTime::since_unix_epoch(Duration::from_secs(
                    u64::try_from(second).unwrap_or_default(),
                ))
            };
            return Err(if second < self.root.not_before {
                Error::CertNotValidYet {
                    time,
                    not_before: seconds(self.root.not_before),
                }
            } else {
                Error::CertExpired {
                    time,
                    not_after: seconds(self.root.not_after),
                }
            });
        }
        if self
            .intermediates
            .iter()
            .any(|issuer| !issuer.issuing.certificates)
        {
            return Err(Error::EndEntityUsedAsCa);
        }
        // RFC 5280 section 4.2.1.9: self-issued certificates do not count.
        let below = self
            .intermediates
            .iter()
            .filter(|issuer| issuer.subject != issuer.issuer)
            .count();
        if self
            .root
            .issuing
            .path_length
            .is_some_and(|most| below > most as usize)
        {
            return Err(Error::PathLenConstraintViolated);
        }
        let issuer = self.intermediates.first().unwrap_or(&self.root);
        if !self.authority.issuers.is_empty()
            && !self.authority.issuers.contains(&issuer.fingerprint)
        {
            return Err(Error::UnknownIssuer);
        }
        Ok(())
    }

    fn is_revoked_at(&self, second: i64) -> bool {
        let revocations = &self.authority.revocations;
        self.intermediates.iter().chain([&self.root]).any(|issuer| {
            revocations
                .of(issuer)
                .iter()
                .any(|span| span.covers(second))
        })
    }
}

/// The reason that webpki's error stands for. Its budgets for signatures and paths bound hostile chains; whoever
/// exceeds them has not shown a path.
fn reason(error: &Error) -> MtlsReason {
    match error {
        Error::CertExpired { .. } => MtlsReason::Expired,
        Error::CertNotValidYet { .. } => MtlsReason::NotYetValid,
        Error::InvalidSignatureForPublicKey
        | Error::SignatureAlgorithmMismatch
        | Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => MtlsReason::BadSignature,
        Error::CaUsedAsEndEntity
        | Error::EndEntityUsedAsCa
        | Error::EmptyEkuExtension
        | Error::RequiredEkuNotFoundContext(_)
        | Error::NameConstraintViolation
        | Error::PathLenConstraintViolated => MtlsReason::WrongUsage,
        Error::UnknownIssuer
        | Error::CertDistrusted
        | Error::MaximumPathDepthExceeded
        | Error::MaximumPathBuildCallsExceeded
        | Error::MaximumSignatureChecksExceeded
        | Error::MaximumNameConstraintComparisonsExceeded => MtlsReason::Untrusted,
        // What is left: DER, dates, versions and critical extensions that cannot be processed.
        _ => MtlsReason::Malformed,
    }
}
