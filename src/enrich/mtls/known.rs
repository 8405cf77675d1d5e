//! What is known about a certificate whenever it is seen: read once, judged once for each stretch of time.
//!
//! Enters: a certificate text as logged and the host's authority. Leaves: its worth at any second, who issued it, and
//! its names; and the cache of all that. Where the text comes from, and what the gateway found, is in the parent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::chain::{self, Found, Issuer, Worth};
use super::{MAX_CHAIN, MAX_TEXT, verdict};
use crate::model::{MtlsOutcome, MtlsReason, MtlsVerdict};
use crate::policy::mtls::{Authority, Certificate, Span, WrittenName, logged_certificates, turns};

/// What is known about a certificate text regardless of the time.
#[derive(Debug)]
pub struct Known {
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
    stretches: Box<[OnceLock<Stretch>]>,
    /// Issuer among what was sent along, where no authority says who it is.
    sent_issuer: OnceLock<Option<Issuer>>,
    /// Subject and issuer, for whoever asks.
    names: OnceLock<Option<(WrittenName, WrittenName)>>,
}

#[derive(Debug)]
struct Stretch {
    worth: Worth,
    issuer: Option<Box<Issuer>>,
}

impl Known {
    pub(super) fn new(text: &str, authority: Option<&Authority>) -> Self {
        let weight = text.len() as u64;
        let blocks = if text.len() > MAX_TEXT {
            None
        } else {
            logged_certificates(text)
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
            Some(leaf) => {
                let sent = blocks
                    .take(MAX_CHAIN - 1)
                    .filter_map(|der| Certificate::parse(&der))
                    .collect();
                Ok(Subject::new(leaf, sent, authority))
            }
            None => Err(MtlsReason::Malformed),
        };
        Self {
            fingerprint: Some(fingerprint),
            subject,
            weight,
        }
    }

    /// SHA-256 over the first block of the text, certificate or not.
    #[must_use]
    pub fn fingerprint(&self) -> Option<[u8; 32]> {
        self.fingerprint
    }

    /// The certificate, if the text begins with one.
    pub(super) fn certificate(&self) -> Option<&Certificate> {
        self.subject.as_ref().ok().map(|subject| &subject.leaf)
    }

    /// Subject and issuer as they are written.
    pub(super) fn names(&self) -> Option<&(WrittenName, WrittenName)> {
        let subject = self.subject.as_ref().ok()?;
        subject
            .names
            .get_or_init(|| subject.leaf.written_names())
            .as_ref()
    }

    /// The certificate's direct issuer: of the path that was judged for this second, else the one among what was sent
    /// along whose key has signed it.
    pub(super) fn issuer_at(&self, second: i64) -> Option<&Issuer> {
        let subject = self.subject.as_ref().ok()?;
        match subject.stretch_at(second).and_then(OnceLock::get) {
            Some(stretch) => stretch.issuer.as_deref(),
            None => subject
                .sent_issuer
                .get_or_init(|| {
                    let leaf = &subject.leaf;
                    subject
                        .sent
                        .iter()
                        .filter(|other| other.subject == leaf.issuer)
                        .find(|other| leaf.is_signed_by(other))
                        .map(Issuer::of)
                })
                .as_ref(),
        }
    }

    pub(super) fn verdict_at(
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
            sent_issuer: OnceLock::new(),
            names: OnceLock::new(),
        }
    }

    /// Outside its validity a certificate is judged as at the nearest second inside: dates come last.
    fn inside(&self, second: i64) -> i64 {
        second.min(self.leaf.not_after).max(self.leaf.not_before)
    }

    fn stretch_at(&self, second: i64) -> Option<&OnceLock<Stretch>> {
        let inside = self.inside(second);
        let stretch = self.turns.partition_point(|turn| *turn <= inside);
        self.stretches.get(stretch)
    }

    fn worth_at(&self, second: i64, authority: &Authority, signatures: &AtomicU64) -> Worth {
        if self.leaf.not_before > self.leaf.not_after {
            return Worth::Refused(MtlsReason::Malformed);
        }
        let path =
            self.stretch_at(second)
                .map_or(Worth::Refused(MtlsReason::Untrusted), |stretch| {
                    let judged = stretch.get_or_init(|| {
                        let Found {
                            worth,
                            issuer,
                            signatures: checked,
                        } = chain::worth_at(&self.leaf, &self.sent, authority, self.inside(second));
                        signatures.fetch_add(checked as u64, Ordering::Relaxed);
                        Stretch {
                            worth,
                            issuer: issuer.map(Box::new),
                        }
                    });
                    judged.worth
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
    entries: Cache<[u8; 32], Arc<Known>, Weight>,
    hits: AtomicU64,
    misses: AtomicU64,
    pub(super) signatures: AtomicU64,
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
pub(super) const TYPICAL_WEIGHT: u64 = 6_144;

#[derive(Clone, Debug)]
struct Weight;

impl Weighter<[u8; 32], Arc<Known>> for Weight {
    fn weight(&self, _: &[u8; 32], facts: &Arc<Known>) -> u64 {
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
        // The bytes, what is read from them, and the two names as they are written.
        512 + 3 * kept + 40 * turns
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

    /// Weight of everything that is remembered.
    #[cfg(test)]
    pub(super) fn weight(&self) -> u64 {
        self.entries.weight()
    }

    pub(super) fn look(&self, text: &str, authority: Option<&Authority>) -> Arc<Known> {
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
        let facts = Arc::new(Known::new(text, authority));
        self.entries.insert(name, facts.clone());
        facts
    }
}
