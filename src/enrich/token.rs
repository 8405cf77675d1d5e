//! Token verdicts (design section 4): was a token sent, and was it worth something at event time.
//!
//! Enters: an exchange and the zone's token configurations. Leaves: one verdict per configuration, with the claims of
//! valid tokens only. Reading key sets is in `policy::tokens`. Nothing in a token is ever followed: `jwk`, `jku`, `x5u`
//! and `x5c` headers are ignored.
//!
//! What does not depend on the time is judged once per token and [cached](TokenCache); how many tokens a flush may have
//! verified is its [`Budget`]. Where the standards leave a choice:
//!
//! - `crit` (RFC 7515 section 4.1.11) and `b64` other than true (RFC 7797) change what the signature covers, in a way
//!   that is not verified here: `unsupported_algorithm`.
//! - `exp`, `nbf` and `iat` may be fractional and are compared exactly, to the nanosecond: a token is good up to and
//!   including `exp` + skew, from `nbf` − skew on, and for the maximum age + skew after `iat`. Of another type than number
//!   they are a `claim_mismatch`, `iat` only where the configuration asks for it.
//! - `kid` of another type than string is as good as none: `no_key_id`.

mod budget;
mod cache;
mod carrier;
mod claims;

use std::borrow::Cow;
use std::sync::Arc;

use self::carrier::{Carried, find};
use self::claims::Parsed;
use super::privacy::Hasher;
use crate::model::{Exchange, Request, TokenOutcome, TokenReason};
use crate::policy::Zone;
use crate::policy::tokens::{KeySet, TokenConfiguration};

pub use budget::{Budget, Meter};
pub use cache::{Counts, TokenCache};
pub use claims::Claims;

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
    budget: &mut Budget,
    out: &mut Vec<TokenVerdict>,
) {
    out.clear();
    for configuration in &zone.tokens.configurations {
        out.push(judge_by(
            zone,
            configuration,
            exchange,
            cache,
            hasher,
            budget,
        ));
    }
}

/// Judges one exchange by one token configuration of its zone.
pub fn judge_by(
    zone: &Zone,
    configuration: &TokenConfiguration,
    exchange: &Exchange<'_>,
    cache: &TokenCache,
    hasher: &Hasher,
    budget: &mut Budget,
) -> TokenVerdict {
    match find(configuration, &exchange.request) {
        Carried::Token(token) => {
            let seen = (&*token, exchange.at);
            cache.judge(&zone.id, configuration, seen, hasher, budget)
        }
        Carried::Nothing { captured } => nothing(captured),
    }
}

/// Which tokens an exchange carries, without asking what they are worth: nothing is verified, and each is not evaluated.
pub fn recognise(
    zone: &Zone,
    exchange: &Exchange<'_>,
    hasher: &Hasher,
    out: &mut Vec<TokenVerdict>,
) {
    out.clear();
    for configuration in &zone.tokens.configurations {
        out.push(match find(configuration, &exchange.request) {
            Carried::Token(token) => TokenVerdict {
                outcome: TokenOutcome::NotEvaluated,
                hash: Some(hasher.hash(&zone.id, "token", token.as_bytes())),
                claims: None,
            },
            Carried::Nothing { captured } => nothing(captured),
        });
    }
}

/// The tokens that the sources of the zone's configurations carry, so that whoever stores something of the request can leave
/// them out.
pub(super) fn carried<'a>(
    zone: &'a Zone,
    request: &'a Request<'_>,
) -> impl Iterator<Item = Cow<'a, str>> {
    let configurations = zone.tokens.configurations.iter();
    configurations.filter_map(|configuration| match find(configuration, request) {
        Carried::Token(token) => Some(token),
        Carried::Nothing { .. } => None,
    })
}

fn nothing(captured: bool) -> TokenVerdict {
    TokenVerdict {
        outcome: if captured {
            TokenOutcome::Missing
        } else {
            TokenOutcome::NotCaptured
        },
        hash: None,
        claims: None,
    }
}

/// The best outcome over the configurations: valid, else not evaluated (it might be valid), else the first invalid one,
/// else missing, else not captured. `None` without configurations.
#[must_use]
pub fn best(verdicts: &[TokenVerdict]) -> Option<TokenOutcome> {
    let rank = |outcome: TokenOutcome| match outcome {
        TokenOutcome::Valid => 0,
        TokenOutcome::NotEvaluated => 1,
        TokenOutcome::Invalid(_) => 2,
        TokenOutcome::Missing => 3,
        TokenOutcome::NotCaptured => 4,
    };
    // `min_by_key` keeps the first of equals.
    verdicts
        .iter()
        .map(|verdict| verdict.outcome)
        .min_by_key(|outcome| rank(*outcome))
}

/// Checks a token up to its signature, by keys that are not retired, and returns the payload that the signature covers,
/// whatever that is.
///
/// # Errors
/// The first reason that applies, from `malformed` to `bad_signature`.
pub fn verify(token: &str, keys: &KeySet) -> Result<Vec<u8>, TokenReason> {
    let parsed = Parsed::read(token).ok_or(TokenReason::Malformed)?;
    let named = parsed.named()?;
    let mut candidates = keys.find(&named.id, named.algorithm, None)?;
    if candidates.any(|key| key.verifies(parsed.signed.as_bytes(), parsed.signature)) {
        Ok(parsed.payload)
    } else {
        Err(TokenReason::BadSignature)
    }
}

#[cfg(test)]
mod tests;
