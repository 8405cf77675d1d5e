//! Session verdicts (design section 4): did the client show who it is, and by which identifiers.
//!
//! Enters: an exchange, the zone's identifiers and the token verdicts. Leaves: which identifiers were present and a
//! keyed hash of the first one's value; the value itself stays here.

use std::borrow::Cow;

use serde_json::Value;

use super::privacy::Hasher;
use super::token::TokenVerdict;
use crate::model::{Exchange, Headers, SessionOutcome, SessionVerdict, TokenOutcome};
use crate::policy::Zone;
use crate::policy::sessions::{Carrier, ClaimPath};

/// Judges one exchange. `tokens` are the verdicts of the zone's token configurations, in order; `verdict` is
/// overwritten and its list reused.
pub fn judge(
    zone: &Zone,
    exchange: &Exchange<'_>,
    tokens: &[TokenVerdict],
    hasher: &Hasher,
    verdict: &mut SessionVerdict,
) {
    verdict.identifiers.clear();
    verdict.hash = None;
    let headers = &exchange.request.headers;
    let mut captured = true;
    for (index, identifier) in (0_u16..).zip(&zone.sessions.identifiers) {
        match read(&identifier.carrier, headers, tokens) {
            Found::Value(value) => {
                if verdict.identifiers.is_empty() {
                    verdict.hash = Some(hasher.hash(&zone.id, &identifier.kind, value.as_bytes()));
                }
                verdict.identifiers.push(index);
            }
            Found::Nothing => {}
            Found::NotCaptured => captured = false,
        }
    }
    verdict.outcome = if zone.sessions.identifiers.is_empty() {
        SessionOutcome::NotConfigured
    } else if !verdict.identifiers.is_empty() {
        SessionOutcome::Present
    } else if captured {
        SessionOutcome::Absent
    } else {
        SessionOutcome::NotCaptured
    };
}

/// What one identifier's carrier shows.
enum Found<'a> {
    Value(Cow<'a, str>),
    Nothing,
    NotCaptured,
}

fn read<'a>(
    carrier: &'a Carrier,
    headers: &'a Headers<'_>,
    tokens: &'a [TokenVerdict],
) -> Found<'a> {
    match carrier {
        Carrier::Header(name) => first(headers.values(name), headers.would_show(name)),
        Carrier::Cookie(name) => first(headers.cookies(name), headers.would_show("cookie")),
        Carrier::Claim {
            configuration,
            path,
        } => match tokens.get(*configuration) {
            Some(verdict) => claim(verdict, path),
            None => Found::NotCaptured,
        },
    }
}

/// The first value that is not empty; blanks around it do not count.
fn first<'a>(values: impl Iterator<Item = &'a str>, captured: bool) -> Found<'a> {
    match values.map(str::trim_ascii).find(|value| !value.is_empty()) {
        Some(value) => Found::Value(Cow::Borrowed(value)),
        None if captured => Found::Nothing,
        None => Found::NotCaptured,
    }
}

/// A claim counts only when its token is valid. An invalid token is captured and shows nothing; one that was not
/// evaluated proves nothing either way.
fn claim<'a>(verdict: &'a TokenVerdict, path: &ClaimPath) -> Found<'a> {
    let value = match verdict.outcome {
        TokenOutcome::NotCaptured | TokenOutcome::NotEvaluated => return Found::NotCaptured,
        _ => verdict
            .claims
            .as_deref()
            .and_then(|claims| path.select(claims)),
    };
    let text = match value {
        Some(Value::String(text)) => Cow::Borrowed(text.trim_ascii()),
        Some(Value::Number(number)) => Cow::Owned(number.to_string()),
        Some(Value::Bool(flag)) => Cow::Borrowed(if *flag { "true" } else { "false" }),
        _ => Cow::Borrowed(""),
    };
    if text.is_empty() {
        Found::Nothing
    } else {
        Found::Value(text)
    }
}

#[cfg(test)]
mod tests;
