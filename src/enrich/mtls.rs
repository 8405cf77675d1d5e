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

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::model::{ClientCertificate, Exchange, MtlsOutcome, MtlsReason, MtlsVerdict};
use crate::policy::Zone;
use crate::policy::mtls::{Authority, Certificate, Span, fingerprint, pem, turns};
use chain::Worth;

/// Longest certificate text that is looked at, bytes: twice what the vendor forwards of a chain (feature map 5.1), in
/// base64 and with escapes.
const MAX_TEXT: usize = 64 * 1024;

/// Certificates of a logged text that are looked at, the client's included (design section 12).
const MAX_CHAIN: usize = 10;

/// A verdict with the identity of the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Examined {
    /// The verdict.
    pub verdict: MtlsVerdict,
    /// SHA-256 over the certificate's DER, else as logged.
    pub fingerprint: Option<[u8; 32]>,
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
    let Some(logged) = &exchange.certificate else {
        return Examined {
            verdict: verdict(MtlsOutcome::NotCaptured, None, [None; 3]),
            fingerprint: None,
        };
    };
    let stated = || logged.fingerprint_sha256.as_deref().and_then(fingerprint);
    // Log writers put a dash where there is nothing.
    let text = logged
        .pem
        .as_deref()
        .map(str::trim_ascii)
        .filter(|text| !matches!(*text, "" | "-"));
    let Some(text) = text else {
        return Examined {
            verdict: findings(logged, false),
            fingerprint: stated(),
        };
    };
    let authority = zone.mtls.for_host(host);
    let facts = cache.look(text, authority);
    let verdict = match authority {
        Some(authority) => facts.verdict_at(exchange.at.seconds(), authority, &cache.signatures),
        None => findings(logged, true),
    };
    Examined {
        verdict,
        fingerprint: facts.fingerprint.or_else(stated),
    }
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

/// The verdict from what the gateway found. `shown` = the log holds the certificate itself.
fn findings(logged: &ClientCertificate<'_>, shown: bool) -> MtlsVerdict {
    let presented = match logged.presented {
        None if shown => Some(true),
        other => other,
    };
    match (presented, logged.revoked, logged.verified) {
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
            logged.reason,
            [presented, Some(false), revoked],
        ),
        (presented, revoked, None) => {
            verdict(MtlsOutcome::NotCaptured, None, [presented, None, revoked])
        }
    }
}

/// What is known about a certificate text regardless of the time.
#[derive(Debug)]
struct Facts {
    /// SHA-256 over the first block, certificate or not.
    fingerprint: Option<[u8; 32]>,
    /// The certificate with what depends on its authority, or why it has no worth at all.
    subject: Result<Subject, MtlsReason>,
    /// Length of the text, bytes.
    weight: u64,
}

/// A certificate and its worth over time. The worth of its paths is constant between two `turns`, so each stretch is
/// judged at most once, and only when an event falls into it.
#[derive(Debug)]
struct Subject {
    leaf: Certificate,
    /// What the client sent along.
    sent: Vec<Certificate>,
    revoked: Vec<Span>,
    /// Seconds at which the worth of a path may change; empty without an authority.
    turns: Vec<i64>,
    stretches: Box<[OnceLock<Worth>]>,
}

impl Facts {
    fn new(text: &str, authority: Option<&Authority>) -> Self {
        let weight = text.len() as u64;
        let blocks = if text.len() > MAX_TEXT {
            None
        } else {
            pem::logged(text)
        };
        let mut blocks = blocks.unwrap_or_default().into_iter();
        let Some(first) = blocks.next() else {
            return Self {
                fingerprint: None,
                subject: Err(MtlsReason::Malformed),
                weight,
            };
        };
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, &first).as_ref());
        let subject = match Certificate::parse(&first) {
            Some(leaf) if leaf.not_before <= leaf.not_after => {
                let sent = blocks
                    .take(MAX_CHAIN - 1)
                    .filter_map(|der| Certificate::parse(&der))
                    .collect();
                Ok(Subject::new(leaf, sent, authority))
            }
            _ => Err(MtlsReason::Malformed),
        };
        Self {
            fingerprint: Some(fingerprint),
            subject,
            weight,
        }
    }

    fn verdict_at(
        &self,
        second: i64,
        authority: &Authority,
        signatures: &AtomicU64,
    ) -> MtlsVerdict {
        let worth = match &self.subject {
            Ok(subject) => subject.worth_at(second, authority, signatures),
            Err(reason) => Worth::Refused(*reason),
        };
        match worth {
            Worth::Trusted => verdict(
                MtlsOutcome::Verified,
                None,
                [Some(true), Some(true), Some(false)],
            ),
            Worth::Revoked => verdict(MtlsOutcome::Revoked, None, [Some(true); 3]),
            Worth::Refused(reason) => verdict(
                MtlsOutcome::Failed,
                Some(reason),
                [Some(true), Some(false), Some(false)],
            ),
        }
    }
}

impl Subject {
    fn new(leaf: Certificate, sent: Vec<Certificate>, authority: Option<&Authority>) -> Self {
        let (turns, revoked) = match authority {
            None => (Vec::new(), Vec::new()),
            Some(authority) => {
                let mut turns = if sent.is_empty() {
                    authority.turns.clone()
                } else {
                    let mut turns = turns(sent.iter(), &authority.revocations);
                    turns.extend(&authority.turns);
                    turns.sort_unstable();
                    turns.dedup();
                    turns
                };
                turns.shrink_to_fit();
                (turns, authority.revocations.of(&leaf).to_vec())
            }
        };
        let stretches = (0..=turns.len()).map(|_| OnceLock::new()).collect();
        Self {
            leaf,
            sent,
            revoked,
            turns,
            stretches,
        }
    }

    fn worth_at(&self, second: i64, authority: &Authority, signatures: &AtomicU64) -> Worth {
        // Outside its validity a certificate is judged as at the nearest second inside: dates come last.
        let inside = second.clamp(self.leaf.not_before, self.leaf.not_after);
        let stretch = self.turns.partition_point(|turn| *turn <= inside);
        let path =
            self.stretches
                .get(stretch)
                .map_or(Worth::Refused(MtlsReason::Untrusted), |stretch| {
                    *stretch.get_or_init(|| {
                        let (worth, checked) =
                            chain::worth_at(&self.leaf, &self.sent, authority, inside);
                        signatures.fetch_add(checked as u64, Ordering::Relaxed);
                        worth
                    })
                });
        match path {
            Worth::Refused(reason) => Worth::Refused(reason),
            _ if second < self.leaf.not_before => Worth::Refused(MtlsReason::NotYetValid),
            _ if second > self.leaf.not_after => Worth::Refused(MtlsReason::Expired),
            Worth::Trusted if self.revoked.iter().any(|span| span.covers(second)) => Worth::Revoked,
            worth => worth,
        }
    }
}

/// What is known about certificates, bounded by weight. Independent of event time: judging a certificate at another
/// time needs no signature check unless an issuer's validity or revocation began or ended in between.
///
/// An entry is filed under a SHA-256 over the authority's identity (which covers its CRLs) and the text as logged.
#[derive(Debug)]
pub struct CertificateCache {
    entries: Cache<[u8; 32], Arc<Facts>, Weight>,
    hits: AtomicU64,
    misses: AtomicU64,
    signatures: AtomicU64,
}

/// What the cache saved and what it cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Certificates that were known.
    pub hits: u64,
    /// Certificates that had to be read.
    pub misses: u64,
    /// Signatures that were checked.
    pub signatures: u64,
}

/// Weight that a cache of `capacity` certificates has for each: a PEM text of one certificate, and what is made of it.
const TYPICAL_WEIGHT: u64 = 4_096;

#[derive(Clone, Debug)]
struct Weight;

impl Weighter<[u8; 32], Arc<Facts>> for Weight {
    fn weight(&self, _: &[u8; 32], facts: &Arc<Facts>) -> u64 {
        let turns = facts
            .subject
            .as_ref()
            .map_or(0, |subject| subject.turns.len() as u64);
        // What is refused keeps nothing but its fingerprint.
        let kept = if facts.subject.is_ok() {
            facts.weight
        } else {
            0
        };
        512 + 2 * kept + 16 * turns
    }
}

impl CertificateCache {
    /// A cache for about `capacity` certificates of usual size.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            entries: Cache::with_weighter(capacity, capacity as u64 * TYPICAL_WEIGHT, Weight),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            signatures: AtomicU64::new(0),
        }
    }

    /// What the cache saved and what it cost since it was made.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            signatures: self.signatures.load(Ordering::Relaxed),
        }
    }

    fn look(&self, text: &str, authority: Option<&Authority>) -> Arc<Facts> {
        let mut context = digest::Context::new(&digest::SHA256);
        // Without an authority only the fingerprint counts; 32 zeros are nobody's identity.
        context.update(&authority.map_or([0; 32], |authority| authority.identity));
        context.update(text.as_bytes());
        let mut name = [0; 32];
        name.copy_from_slice(context.finish().as_ref());
        if let Some(facts) = self.entries.get(&name) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return facts;
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let facts = Arc::new(Facts::new(text, authority));
        self.entries.insert(name, facts.clone());
        facts
    }
}

#[cfg(test)]
mod pki;
#[cfg(test)]
mod tests;
