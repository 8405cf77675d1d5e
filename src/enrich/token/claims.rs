//! What a token says once it is taken apart, and what its claims are worth at a time.
//!
//! Enters: the text of a token, a configuration, an event time. Leaves: the parts, or the first reason that no key could
//! change; then, of a token whose signature holds, the reason that applies at the time. No key is used here.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::model::{EventTime, TokenReason};
use crate::policy::tokens::{Algorithm, TokenConfiguration, json, short_type};

/// The claims of a token whose signature verified.
pub type Claims = Map<String, Value>;

/// The parts of a token in compact serialization.
pub(super) struct Parsed<'a> {
    header: Map<String, Value>,
    pub(super) payload: Vec<u8>,
    /// Header and payload as sent, with the dot between them.
    pub(super) signed: &'a str,
    /// The signature as sent.
    pub(super) signature: &'a str,
}

/// The key that a header asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) id: String,
    pub(super) algorithm: Algorithm,
}

impl<'a> Parsed<'a> {
    /// RFC 7515 section 7.1: exactly three parts in base64url without padding; stray bits at the end of a part are
    /// refused.
    pub(super) fn read(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        if payload.contains('.') {
            return None;
        }
        URL_SAFE_NO_PAD.decode(signature).ok()?;
        let header = json::object(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        Some(Self {
            header,
            payload,
            signed,
            signature,
        })
    }

    /// The key that the header asks for. The algorithm is the header's, and only a key made for exactly that one is used.
    ///
    /// # Errors
    /// `unsupported_algorithm` or `no_key_id`.
    pub(super) fn named(&self) -> Result<Named, TokenReason> {
        let header = &self.header;
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
        Ok(Named {
            id: id.to_owned(),
            algorithm,
        })
    }

    fn has_type(&self, configuration: &TokenConfiguration) -> bool {
        configuration.types.is_empty()
            || self
                .header
                .get("typ")
                .and_then(Value::as_str)
                .map(short_type)
                .is_some_and(|name| configuration.types.contains(&name))
    }
}

/// A token whose signature holds.
#[derive(Debug)]
pub(super) struct Verified {
    /// Nanoseconds since the epoch, saturated.
    expires_at: Option<i64>,
    not_before: Option<i64>,
    issued_at: Option<i64>,
    /// Whether a claim other than the times, or the type, differs from the configuration.
    mismatch: bool,
    pub(super) claims: Arc<Claims>,
}

impl Verified {
    pub(super) fn new(
        parsed: &Parsed<'_>,
        claims: Claims,
        configuration: &TokenConfiguration,
    ) -> Self {
        let (expires_at, exp_fits) = numeric_date(claims.get("exp"));
        let (not_before, nbf_fits) = numeric_date(claims.get("nbf"));
        let (issued_at, iat_fits) = numeric_date(claims.get("iat"));
        let fits = exp_fits
            && nbf_fits
            && (iat_fits || !configuration.reads_iat())
            && (claims.contains_key("exp") || !configuration.require_exp)
            && (claims.contains_key("iat") || !configuration.require_iat)
            && parsed.has_type(configuration)
            && issuer_fits(&claims, configuration)
            && audience_fits(&claims, configuration);
        Self {
            expires_at,
            not_before,
            issued_at,
            mismatch: !fits,
            claims: Arc::new(claims),
        }
    }

    /// The first reason that applies at event time; `None` = valid.
    pub(super) fn reason_at(
        &self,
        at: EventTime,
        configuration: &TokenConfiguration,
    ) -> Option<TokenReason> {
        let (at, skew) = (at.nanos(), configuration.clock_skew_nanos);
        let too_old = |age: i64| {
            self.issued_at
                .is_some_and(|issued| at > issued.saturating_add(age).saturating_add(skew))
        };
        let ahead = |start: Option<i64>| start.is_some_and(|start| at < start.saturating_sub(skew));
        if self
            .expires_at
            .is_some_and(|end| at > end.saturating_add(skew))
            || configuration.max_age_nanos.is_some_and(too_old)
        {
            Some(TokenReason::Expired)
        } else if ahead(self.not_before)
            || (configuration.refuse_future_iat && ahead(self.issued_at))
        {
            Some(TokenReason::NotYetValid)
        } else if self.mismatch {
            Some(TokenReason::ClaimMismatch)
        } else {
            None
        }
    }
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
