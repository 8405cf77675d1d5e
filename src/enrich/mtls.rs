//! mTLS verdicts (design section 4): what the client certificate was worth at event time.
//!
//! Enters: what the gateway logged and the host's authority. Leaves: a verdict, by our own verification when there is
//! a certificate and an authority, else by the gateway's findings. Reading authorities is in `policy::mtls`.
//!
//! When several reasons apply, the first of these is reported: `malformed`; `wrong_usage` of the certificate itself;
//! then what is wrong with the path that comes nearest to a trust anchor, its own dates aside (an issuer that is out of
//! its validity and otherwise good, `wrong_usage` of an issuer, `bad_signature`, else `untrusted`); then `expired` and
//! `not_yet_valid` of the certificate. So the dates of a certificate that nobody vouches for are never believed, and
//! only one that would otherwise be verified can be `revoked`.

mod chain;
pub mod facts;
mod known;
mod source;

use std::sync::Arc;

use crate::model::{ClientCertificate, Exchange, MtlsOutcome, MtlsReason, MtlsVerdict};
use crate::policy::Zone;
use crate::policy::mtls::fingerprint;

pub use known::{CertificateCache, Counts, Known};
use source::Source;

/// Longest certificate text that is looked at, bytes: twice what the vendor forwards of a chain (feature map 5.1), in
/// base64 and with escapes.
const MAX_TEXT: usize = 64 * 1024;

/// Certificates of a logged text that are looked at, the client's included (design section 12).
const MAX_CHAIN: usize = 10;

/// A verdict with the identity of the certificate.
#[derive(Clone, Debug)]
pub struct Examined {
    /// The verdict.
    pub verdict: MtlsVerdict,
    /// SHA-256 over the certificate's DER, else as logged.
    pub fingerprint: Option<[u8; 32]>,
    /// The certificate itself, where it was logged.
    pub certificate: Option<Arc<Known>>,
}

/// Judges the client certificate of one exchange. `host` is in lower case without port.
#[must_use]
pub fn judge(
    zone: &Zone,
    exchange: &Exchange<'_>,
    host: &str,
    cache: &CertificateCache,
) -> MtlsVerdict {
    examine(zone, exchange, host, cache).verdict
}

/// Judges the client certificate of one exchange and says which it was.
#[must_use]
pub fn examine(
    zone: &Zone,
    exchange: &Exchange<'_>,
    host: &str,
    cache: &CertificateCache,
) -> Examined {
    let authority = zone.mtls.for_host(host);
    let source = Source::of(exchange, authority);
    let stated = source.fingerprint.as_deref().and_then(fingerprint);
    let Some(text) = source.text.as_deref() else {
        return Examined {
            verdict: if source.ambiguous {
                verdict(
                    MtlsOutcome::Failed,
                    Some(MtlsReason::Malformed),
                    [Some(true), Some(false), Some(false)],
                )
            } else {
                findings(&source)
            },
            fingerprint: stated,
            certificate: None,
        };
    };
    let known = cache.look(text, authority);
    let verdict = match authority {
        Some(authority) => known.verdict_at(exchange.at.seconds(), authority, &cache.signatures),
        None => findings(&source),
    };
    Examined {
        verdict,
        fingerprint: known.fingerprint().or(stated),
        certificate: Some(known),
    }
}

/// Which client certificate an exchange shows, without asking what it is worth: no signature is verified.
#[must_use]
pub fn recognise(
    zone: &Zone,
    exchange: &Exchange<'_>,
    host: &str,
    cache: &CertificateCache,
) -> Option<[u8; 32]> {
    let authority = zone.mtls.for_host(host);
    let source = Source::of(exchange, authority);
    let shown = source.text.as_deref();
    shown
        .and_then(|text| cache.look(text, authority).fingerprint())
        .or_else(|| source.fingerprint.as_deref().and_then(fingerprint))
}

fn verdict(
    outcome: MtlsOutcome,
    reason: Option<MtlsReason>,
    [presented, verified, revoked]: [Option<bool>; 3],
) -> MtlsVerdict {
    MtlsVerdict {
        outcome,
        reason,
        presented,
        verified,
        revoked,
    }
}

/// The verdict from what the gateway found.
fn findings(source: &Source<'_>) -> MtlsVerdict {
    let presented = match source.presented {
        None if source.text.is_some() => Some(true),
        other => other,
    };
    let found = |of: fn(&ClientCertificate<'_>) -> Option<bool>| source.logged.and_then(of);
    let (revoked, verified) = (
        found(|logged| logged.revoked),
        found(|logged| logged.verified),
    );
    match (presented, revoked, verified) {
        // Nothing that was not presented is verified or revoked.
        (Some(false), _, _) => verdict(MtlsOutcome::Absent, None, [Some(false); 3]),
        (_, Some(true), _) => verdict(MtlsOutcome::Revoked, None, [Some(true); 3]),
        (_, revoked, Some(true)) => verdict(
            MtlsOutcome::Verified,
            None,
            [Some(true), Some(true), revoked],
        ),
        (presented, revoked, Some(false)) => verdict(
            MtlsOutcome::Failed,
            source.logged.and_then(|logged| logged.reason),
            [presented, Some(false), revoked],
        ),
        (presented, revoked, None) => {
            verdict(MtlsOutcome::NotCaptured, None, [presented, None, revoked])
        }
    }
}

#[cfg(test)]
pub(super) mod pki;
#[cfg(test)]
mod tests;
