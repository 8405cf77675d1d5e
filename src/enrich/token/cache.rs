//! Verdicts by token, positive and negative, bounded by weight.
//!
//! Enters: a token that a request carried. Leaves: its verdict. What does not depend on the time (the parse, the
//! signature, the fixed claims) is worked out once; event time is compared on every look, so replaying yesterday's log
//! hits what today's left.
//!
//! An entry is filed under a SHA-256 over the configuration's identity, the hash key's and the token, so nobody can make
//! two tokens meet. What a signature was worth is filed within it under the key that said so: keys that stay in a set keep
//! their verdicts, and a verdict of another key is never met.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde_json::Value;

use super::TokenVerdict;
use super::budget::Budget;
use super::claims::{Claims, Named, Parsed, Verified};
use crate::enrich::privacy::Hasher;
use crate::model::{EventTime, TokenOutcome, TokenReason};
use crate::policy::tokens::{Candidates, Key, KeySet, TokenConfiguration, json};

/// Keys that are remembered for having refused a token. More than [`crate::policy::tokens::MAX_CANDIDATES`], so that one
/// look never forgets what it has just found out.
const MAX_REFUSALS: usize = 8;

/// What is known about a token regardless of the time.
#[derive(Clone, Debug)]
enum Facts {
    /// No key changes this.
    Refused(TokenReason),
    /// What it is worth depends on the keys.
    Signed(Arc<Signed>),
}

#[derive(Clone, Debug)]
struct Signed {
    named: Named,
    /// Keys that did not verify it.
    refused_by: Vec<[u8; 32]>,
    /// The key that did, and what it vouches for.
    verified: Option<([u8; 32], Arc<Verified>)>,
}

#[derive(Clone, Debug)]
struct Looked {
    hash: [u8; 16],
    facts: Facts,
}

/// See the head of this file.
#[derive(Debug)]
pub struct TokenCache {
    entries: Cache<[u8; 32], Looked, Weight>,
    hits: AtomicU64,
    misses: AtomicU64,
    signatures: AtomicU64,
    not_evaluated: AtomicU64,
}

/// What a cache has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers from the cache.
    pub hits: u64,
    /// Tokens that had to be parsed or verified.
    pub misses: u64,
    /// Signatures that were checked.
    pub signatures: u64,
    /// Tokens that were not evaluated: too many in one flush, or no key set yet.
    pub not_evaluated: u64,
}

/// Weight of an entry without claims, about its size in bytes.
const BASE_WEIGHT: u64 = 160;

/// Weight that a cache of `capacity` tokens has for each: a verified token with half a dozen claims.
pub(super) const TYPICAL_WEIGHT: u64 = 1_024;

/// Weighs an entry by what it keeps alive, so that tokens with huge payloads cannot exhaust memory.
#[derive(Clone, Debug)]
struct Weight;

impl Weighter<[u8; 32], Looked> for Weight {
    fn weight(&self, _: &[u8; 32], value: &Looked) -> u64 {
        BASE_WEIGHT
            + match &value.facts {
                Facts::Refused(_) => 0,
                Facts::Signed(signed) => {
                    let claims = signed.verified.as_ref().map(|(_, token)| &token.claims);
                    signed.named.id.len() as u64
                        + 32 * signed.refused_by.len() as u64
                        + claims.map_or(0, |claims| object_weight(claims))
                }
            }
    }
}

fn object_weight(members: &Claims) -> u64 {
    members
        .iter()
        .map(|(name, value)| 64 + name.len() as u64 + value_weight(value))
        .sum()
}

fn value_weight(value: &Value) -> u64 {
    32 + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(value_weight).sum(),
        Value::Object(members) => object_weight(members),
    }
}

impl TokenCache {
    /// A cache for about `capacity` typical verified tokens (1 KiB each), or six times as many refused ones.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            entries: Cache::with_weighter(capacity, capacity as u64 * TYPICAL_WEIGHT, Weight),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            signatures: AtomicU64::new(0),
            not_evaluated: AtomicU64::new(0),
        }
    }

    /// What was done since the cache was made.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            hits: read(&self.hits),
            misses: read(&self.misses),
            signatures: read(&self.signatures),
            not_evaluated: read(&self.not_evaluated),
        }
    }

    /// Weight of what is remembered now.
    #[cfg(test)]
    pub(super) fn weight(&self) -> u64 {
        self.entries.weight()
    }

    /// What a token is worth to one configuration at event time.
    pub(super) fn judge(
        &self,
        zone: &str,
        configuration: &TokenConfiguration,
        (token, at): (&str, EventTime),
        hasher: &Hasher,
        budget: &mut Budget,
    ) -> TokenVerdict {
        let refused = |hash, reason| TokenVerdict {
            outcome: TokenOutcome::Invalid(reason),
            hash: Some(hash),
            claims: None,
        };
        if token.len() > configuration.max_token_bytes {
            // Not worth a place: the length alone decides.
            let hash = hasher.hash(zone, "token", token.as_bytes());
            return refused(hash, TokenReason::Malformed);
        }
        let name = name(configuration, hasher, token);
        let known = self.entries.get(&name);
        let mut parsed = None;
        let mut worked = known.is_none();
        let looked = known.unwrap_or_else(|| {
            let facts = match read(token) {
                Ok((named, parts)) => {
                    parsed = Some(parts);
                    Facts::Signed(Arc::new(Signed {
                        named,
                        refused_by: Vec::new(),
                        verified: None,
                    }))
                }
                Err(reason) => Facts::Refused(reason),
            };
            let hash = hasher.hash(zone, "token", token.as_bytes());
            Looked { hash, facts }
        });
        let hash = looked.hash;
        let verdict = match &looked.facts {
            Facts::Refused(reason) => {
                let verdict = refused(hash, *reason);
                if worked {
                    self.entries.insert(name, looked);
                }
                verdict
            }
            Facts::Signed(signed) => {
                let mut signed = Arc::clone(signed);
                let keys = keys(configuration, &signed.named, at, budget.waits());
                let found = keys
                    .as_ref()
                    .map(|keys| keys.find(&signed.named.id, signed.named.algorithm, Some(at)));
                match found {
                    None => self.not_evaluated(hash),
                    Some(Err(reason)) => {
                        if worked {
                            self.entries.insert(name, looked);
                        }
                        refused(hash, reason)
                    }
                    Some(Ok(candidates))
                        if !budget.admits(&name, at, || signed.is_decided(candidates.clone())) =>
                    {
                        self.not_evaluated(hash)
                    }
                    Some(Ok(candidates)) => {
                        if !signed.is_decided(candidates.clone()) {
                            worked = true;
                            let parts = parsed.or_else(|| Some(read(token).ok()?.1));
                            let mut tried = Signed::clone(&signed);
                            if let Some((parts, claims)) = parts {
                                let checks =
                                    tried.check(&parts, claims, candidates.clone(), configuration);
                                self.signatures.fetch_add(checks, Ordering::Relaxed);
                            }
                            signed = Arc::new(tried);
                        }
                        if worked {
                            let facts = Facts::Signed(Arc::clone(&signed));
                            self.entries.insert(name, Looked { hash, facts });
                        }
                        match signed.vouched(candidates) {
                            None => refused(hash, TokenReason::BadSignature),
                            Some(token) => match token.reason_at(at, configuration) {
                                Some(reason) => refused(hash, reason),
                                None => TokenVerdict {
                                    outcome: TokenOutcome::Valid,
                                    hash: Some(hash),
                                    claims: Some(Arc::clone(&token.claims)),
                                },
                            },
                        }
                    }
                }
            }
        };
        let counter = if worked { &self.misses } else { &self.hits };
        counter.fetch_add(1, Ordering::Relaxed);
        verdict
    }

    fn not_evaluated(&self, hash: [u8; 16]) -> TokenVerdict {
        self.not_evaluated.fetch_add(1, Ordering::Relaxed);
        TokenVerdict {
            outcome: TokenOutcome::NotEvaluated,
            hash: Some(hash),
            claims: None,
        }
    }
}

/// What an entry is filed under.
fn name(configuration: &TokenConfiguration, hasher: &Hasher, token: &str) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&configuration.identity);
    context.update(&hasher.identity());
    context.update(token.as_bytes());
    let mut name = [0; 32];
    name.copy_from_slice(context.finish().as_ref());
    name
}

/// The key that a token names, its parts, and its claims though nobody vouches for them yet.
fn read(token: &str) -> Result<(Named, (Parsed<'_>, Claims)), TokenReason> {
    let parsed = Parsed::read(token).ok_or(TokenReason::Malformed)?;
    let claims = json::object(&parsed.payload).map_err(|_| TokenReason::Malformed)?;
    Ok((parsed.named()?, (parsed, claims)))
}

/// The keys to judge by. Where they lack the one that is named, a newer set is asked for first, so that a rotation makes
/// no token wrong; whoever does not wait for it has nothing to judge by until it is there.
fn keys(
    configuration: &TokenConfiguration,
    named: &Named,
    at: EventTime,
    waits: bool,
) -> Option<Arc<KeySet>> {
    let keys = configuration.keys.current()?;
    if keys.find(&named.id, named.algorithm, Some(at)).is_ok() {
        return Some(keys);
    }
    if waits {
        return configuration.keys.missing(&named.id);
    }
    (!configuration.keys.wanted(&named.id)).then_some(keys)
}

impl Signed {
    /// Whether nothing is left to check: a key vouches for the token, or all have refused it.
    fn is_decided(&self, mut candidates: Candidates<'_>) -> bool {
        self.vouched(candidates.clone()).is_some()
            || candidates.all(|key| self.refused_by.contains(&key.identity()))
    }

    /// What one of the keys vouches for.
    fn vouched(&self, mut candidates: Candidates<'_>) -> Option<&Arc<Verified>> {
        let (by, token) = self.verified.as_ref()?;
        candidates.any(|key| key.identity() == *by).then_some(token)
    }

    /// Tries the keys that have not been tried yet until one fits; gives how many signatures that took.
    fn check(
        &mut self,
        parts: &Parsed<'_>,
        claims: Claims,
        candidates: Candidates<'_>,
        configuration: &TokenConfiguration,
    ) -> u64 {
        let mut checks = 0;
        for key in candidates {
            let identity = Key::identity(key);
            if self.refused_by.contains(&identity) {
                continue;
            }
            checks += 1;
            if key.verifies(parts.signed.as_bytes(), parts.signature) {
                let token = Arc::new(Verified::new(parts, claims, configuration));
                self.verified = Some((identity, token));
                return checks;
            }
            if self.refused_by.len() == MAX_REFUSALS {
                self.refused_by.remove(0);
            }
            self.refused_by.push(identity);
        }
        checks
    }
}
