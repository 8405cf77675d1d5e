//! Token verdicts (design section 4): was a token sent, and was it worth something at event time.
//!
//! Enters: an exchange and the zone's token configurations. Leaves: one verdict per configuration, with the claims of
//! valid tokens only. Reading key sets is in `policy::tokens`. Nothing in a token is ever followed: `jwk`, `jku`, `x5u`
//! and `x5c` headers are ignored.
//!
//! What does not depend on the time (the parse, the signature, the fixed claims) is judged once per token and cached;
//! `exp` and `nbf` are compared with event time on every look. Where the standards leave a choice:
//!
//! - `crit` (RFC 7515 section 4.1.11) and `b64` other than true (RFC 7797) change what the signature covers, in a way
//!   that is not verified here: `unsupported_algorithm`.
//! - `exp` and `nbf` may be fractional and are compared exactly, to the nanosecond: a token is good up to and including
//!   `exp` + skew and from `nbf` − skew on. Of another type than number they are a `claim_mismatch`.
//! - `kid` of another type than string is as good as none: `no_key_id`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde_json::{Map, Value};

use super::privacy::Hasher;
use crate::model::{EventTime, Exchange, Headers, TokenOutcome, TokenReason};
use crate::policy::Zone;
use crate::policy::tokens::{Algorithm, Key, KeySet, TokenConfiguration, TokenSource, json};

/// The claims of a token whose signature verified.
pub type Claims = Map<String, Value>;

/// Verdict of one token configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenVerdict {
    /// Outcome.
    pub outcome: TokenOutcome,
    /// Keyed hash of the token, when there is one.
    pub hash: Option<[u8; 16]>,
    /// The claims; there only when the token is valid, so that nobody reads claims that nobody vouches for.
    pub claims: Option<Arc<Claims>>,
}

/// Judges one exchange by every token configuration of its zone. `out` is cleared and gets one verdict per
/// configuration, in order.
pub fn judge(
    zone: &Zone,
    exchange: &Exchange<'_>,
    cache: &TokenCache,
    hasher: &Hasher,
    out: &mut Vec<TokenVerdict>,
) {
    out.clear();
    out.extend(zone.tokens.configurations.iter().map(|configuration| {
        match find(configuration, &exchange.request.headers) {
            Carried::Token(token) => {
                let Looked { hash, facts } = cache.look(&zone.id, configuration, token, hasher);
                let outcome = match facts.reason_at(exchange.at, configuration.clock_skew_nanos) {
                    None => TokenOutcome::Valid,
                    Some(reason) => TokenOutcome::Invalid(reason),
                };
                let claims = match (outcome, facts) {
                    (TokenOutcome::Valid, Facts::Verified(token)) => Some(token.claims.clone()),
                    _ => None,
                };
                TokenVerdict {
                    outcome,
                    hash: Some(hash),
                    claims,
                }
            }
            Carried::Nothing { captured } => TokenVerdict {
                outcome: if captured {
                    TokenOutcome::Missing
                } else {
                    TokenOutcome::NotCaptured
                },
                hash: None,
                claims: None,
            },
        }
    }));
}

/// The best outcome over the configurations: valid, else the first invalid one, else missing, else not captured.
/// `None` without configurations.
#[must_use]
pub fn best(verdicts: &[TokenVerdict]) -> Option<TokenOutcome> {
    let rank = |outcome: TokenOutcome| match outcome {
        TokenOutcome::Valid => 0,
        TokenOutcome::Invalid(_) => 1,
        TokenOutcome::Missing => 2,
        TokenOutcome::NotCaptured => 3,
    };
    // `min_by_key` keeps the first of equals.
    verdicts
        .iter()
        .map(|verdict| verdict.outcome)
        .min_by_key(|outcome| rank(*outcome))
}

/// What the sources of one configuration carried.
enum Carried<'a> {
    Token(&'a str),
    Nothing {
        /// Whether the log would have shown a token in any of the sources.
        captured: bool,
    },
}

/// The first non-empty source decides, even when it holds another scheme.
fn find<'a>(configuration: &'a TokenConfiguration, headers: &'a Headers<'_>) -> Carried<'a> {
    let mut captured = true;
    for source in &configuration.sources {
        let value = match source {
            TokenSource::Header { name, index } => headers.values(name).nth(*index),
            TokenSource::Cookie { name, index } => headers.cookies(name).nth(*index),
        };
        match value.map_or(Credential::Empty, bare) {
            Credential::Token(token) => return Carried::Token(token),
            Credential::OtherScheme => return Carried::Nothing { captured: true },
            Credential::Empty => captured &= headers.would_show(source.carrier()),
        }
    }
    Carried::Nothing { captured }
}

/// What a source's value turns out to be.
enum Credential<'a> {
    Empty,
    OtherScheme,
    Token(&'a str),
}

/// Takes an optional `Bearer` scheme off (any case, with or without a colon, as the vendor's documents have it).
fn bare(value: &str) -> Credential<'_> {
    const SCHEME: &str = "bearer";
    let value = value.trim_ascii();
    let token = match value.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => match rest.chars().next() {
            None => "",
            Some(':' | ' ') => rest.get(1..).unwrap_or_default().trim_ascii(),
            Some(_) => value,
        },
        _ => value,
    };
    if token.is_empty() {
        Credential::Empty
    } else if token.len() == value.len() && token.contains(' ') {
        Credential::OtherScheme
    } else {
        Credential::Token(token)
    }
}

/// What is known about a token regardless of the time.
#[derive(Clone, Debug)]
enum Facts {
    Refused(TokenReason),
    Verified(Arc<Verified>),
}

/// A token whose signature holds.
#[derive(Debug)]
struct Verified {
    /// Nanoseconds since the epoch, saturated.
    expires_at: Option<i64>,
    not_before: Option<i64>,
    /// Whether a claim other than the times differs from the configuration.
    mismatch: bool,
    claims: Arc<Claims>,
}

impl Facts {
    /// The first reason that applies at event time; `None` = valid.
    fn reason_at(&self, at: EventTime, skew: i64) -> Option<TokenReason> {
        let token = match self {
            Self::Refused(reason) => return Some(*reason),
            Self::Verified(token) => token,
        };
        if token
            .expires_at
            .is_some_and(|end| at.nanos() > end.saturating_add(skew))
        {
            Some(TokenReason::Expired)
        } else if token
            .not_before
            .is_some_and(|start| at.nanos() < start.saturating_sub(skew))
        {
            Some(TokenReason::NotYetValid)
        } else if token.mismatch {
            Some(TokenReason::ClaimMismatch)
        } else {
            None
        }
    }
}

/// The parts of a token in compact serialization.
struct Parsed<'a> {
    header: Map<String, Value>,
    payload: Vec<u8>,
    /// Header and payload as sent, with the dot between them.
    signed: &'a str,
    /// The signature as sent.
    signature: &'a str,
}

/// RFC 7515 section 7.1: exactly three parts in base64url without padding; stray bits at the end of a part are refused.
fn parse(token: &str) -> Option<Parsed<'_>> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    if payload.contains('.') {
        return None;
    }
    URL_SAFE_NO_PAD.decode(signature).ok()?;
    let header = json::object(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    Some(Parsed {
        header,
        payload,
        signed,
        signature,
    })
}

/// The key that the header asks for. The algorithm is the header's, and only a key made for exactly that one is used.
fn key<'k>(header: &Map<String, Value>, keys: &'k KeySet) -> Result<&'k Key, TokenReason> {
    let algorithm = header
        .get("alg")
        .and_then(Value::as_str)
        .and_then(Algorithm::parse)
        .ok_or(TokenReason::UnsupportedAlgorithm)?;
    let extended = header.contains_key("crit")
        || header
            .get("b64")
            .is_some_and(|b64| *b64 != Value::Bool(true));
    if extended {
        return Err(TokenReason::UnsupportedAlgorithm);
    }
    let id = header
        .get("kid")
        .and_then(Value::as_str)
        .ok_or(TokenReason::NoKeyId)?;
    keys.get(id)
        .ok_or(TokenReason::UnknownKey)?
        .iter()
        .find(|key| key.algorithm() == algorithm)
        .ok_or(TokenReason::AlgorithmMismatch)
}

/// Checks a token up to its signature and returns the payload that the signature covers, whatever that is.
///
/// # Errors
/// The first reason that applies, from `malformed` to `bad_signature`.
pub fn verify(token: &str, keys: &KeySet) -> Result<Vec<u8>, TokenReason> {
    let parsed = parse(token).ok_or(TokenReason::Malformed)?;
    let key = key(&parsed.header, keys)?;
    if key.verifies(parsed.signed.as_bytes(), parsed.signature) {
        Ok(parsed.payload)
    } else {
        Err(TokenReason::BadSignature)
    }
}

/// Everything about a token that does not depend on the time.
fn inspect(token: &str, configuration: &TokenConfiguration) -> Result<Verified, TokenReason> {
    let parsed = parse(token).ok_or(TokenReason::Malformed)?;
    let claims = json::object(&parsed.payload).map_err(|_| TokenReason::Malformed)?;
    let key = key(&parsed.header, &configuration.keys)?;
    if !key.verifies(parsed.signed.as_bytes(), parsed.signature) {
        return Err(TokenReason::BadSignature);
    }
    let (expires_at, exp_fits) = numeric_date(claims.get("exp"));
    let (not_before, nbf_fits) = numeric_date(claims.get("nbf"));
    let fits = exp_fits
        && nbf_fits
        && (claims.contains_key("exp") || !configuration.require_exp)
        && issuer_fits(&claims, configuration)
        && audience_fits(&claims, configuration);
    Ok(Verified {
        expires_at,
        not_before,
        mismatch: !fits,
        claims: Arc::new(claims),
    })
}

/// A `NumericDate` (RFC 7519 section 2) in nanoseconds, and whether the claim has the right type.
fn numeric_date(claim: Option<&Value>) -> (Option<i64>, bool) {
    const NANOS: i64 = 1_000_000_000;
    match claim {
        None => (None, true),
        Some(Value::Number(number)) => {
            let nanos = match (number.as_i64(), number.as_f64()) {
                (Some(seconds), _) => seconds.saturating_mul(NANOS),
                // `as` saturates, which is what a date beyond all events asks for.
                #[expect(clippy::cast_possible_truncation, reason = "saturates")]
                (None, Some(seconds)) => (seconds * NANOS as f64) as i64,
                (None, None) => return (None, false),
            };
            (Some(nanos), true)
        }
        Some(_) => (None, false),
    }
}

fn issuer_fits(claims: &Claims, configuration: &TokenConfiguration) -> bool {
    configuration
        .issuer
        .as_deref()
        .is_none_or(|issuer| claims.get("iss").and_then(Value::as_str) == Some(issuer))
}

/// RFC 7519 section 4.1.3: one string or an array of them; one match is enough.
fn audience_fits(claims: &Claims, configuration: &TokenConfiguration) -> bool {
    let accepted = |value: &Value| {
        value
            .as_str()
            .is_some_and(|value| configuration.audience.iter().any(|name| name == value))
    };
    configuration.audience.is_empty()
        || match claims.get("aud") {
            Some(Value::Array(values)) => values.iter().any(accepted),
            Some(value) => accepted(value),
            None => false,
        }
}

/// Verdicts by token, positive and negative, bounded by weight. Independent of event time, so replaying yesterday's
/// log hits what today's left.
///
/// An entry is filed under a SHA-256 over the configuration's identity (which covers its key set), the hash key's and
/// the token, so nobody can make two tokens meet, and a new key set or hash key never meets an old verdict.
#[derive(Debug)]
pub struct TokenCache {
    entries: Cache<[u8; 32], Looked, Weight>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// How often the cache had an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers from the cache.
    pub hits: u64,
    /// Tokens that had to be verified.
    pub misses: u64,
}

#[derive(Clone, Debug)]
struct Looked {
    hash: [u8; 16],
    facts: Facts,
}

/// Weight of an entry without claims, about its size in bytes.
const BASE_WEIGHT: u64 = 160;

/// Weight that a cache of `capacity` tokens has for each: a verified token with half a dozen claims.
const TYPICAL_WEIGHT: u64 = 1_024;

/// Weighs an entry by what it keeps alive, so that tokens with huge payloads cannot exhaust memory.
#[derive(Clone, Debug)]
struct Weight;

impl Weighter<[u8; 32], Looked> for Weight {
    fn weight(&self, _: &[u8; 32], value: &Looked) -> u64 {
        match &value.facts {
            Facts::Refused(_) => BASE_WEIGHT,
            Facts::Verified(token) => BASE_WEIGHT + object_weight(&token.claims),
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
        }
    }

    /// How often the cache had an answer since it was made.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }

    fn look(
        &self,
        zone: &str,
        configuration: &TokenConfiguration,
        token: &str,
        hasher: &Hasher,
    ) -> Looked {
        if token.len() > configuration.max_token_bytes {
            // Not worth a place: the length alone decides.
            return Looked {
                hash: hasher.hash(zone, "token", token.as_bytes()),
                facts: Facts::Refused(TokenReason::Malformed),
            };
        }
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&configuration.identity);
        context.update(&hasher.identity());
        context.update(token.as_bytes());
        let mut name = [0; 32];
        name.copy_from_slice(context.finish().as_ref());
        if let Some(looked) = self.entries.get(&name) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return looked;
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let looked = Looked {
            hash: hasher.hash(zone, "token", token.as_bytes()),
            facts: match inspect(token, configuration) {
                Ok(verified) => Facts::Verified(Arc::new(verified)),
                Err(reason) => Facts::Refused(reason),
            },
        };
        self.entries.insert(name, looked.clone());
        looked
    }
}

#[cfg(test)]
mod tests;
