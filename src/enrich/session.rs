//! Session verdicts (design section 4): did the client show who it is, and by which identifiers.
//!
//! Enters: an exchange, the zone's identifiers, the token verdicts and the client certificate's. Leaves: which
//! identifiers were present and a keyed hash of the first one's value; the value itself stays here.
//!
//! An identifier of other hosts does not exist for an exchange. A certificate counts only when it is verified and not
//! revoked: nobody vouches for the name in another one.

use std::borrow::Cow;

use percent_encoding::percent_decode;
use serde_json::Value;

use super::Judged;
use super::mtls::facts::{CertificateFacts, Text};
use super::privacy::Hasher;
use super::token::TokenVerdict;
use crate::model::{Exchange, MtlsOutcome, Request, SessionOutcome, SessionVerdict, TokenOutcome};
use crate::policy::Zone;
use crate::policy::sessions::{Carrier, CertificateName, ClaimPath};

/// What was found out about the exchange before.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Host in lower case without port.
    pub host: &'a str,
    /// Verdicts of the zone's token configurations, in order.
    pub tokens: &'a [TokenVerdict],
    /// What the client certificate was worth.
    pub mtls: MtlsOutcome,
    /// What the client certificate says.
    pub certificate: &'a CertificateFacts<'a>,
}

/// Judges one exchange; `verdict` is overwritten and its list reused.
pub fn judge(
    zone: &Zone,
    exchange: &Exchange<'_>,
    evidence: &Evidence<'_>,
    hasher: &Hasher,
    verdict: &mut SessionVerdict,
) {
    verdict.identifiers.clear();
    verdict.hash = None;
    let mut captured = true;
    let mut configured = false;
    for (index, identifier) in (0_u16..).zip(&zone.sessions.identifiers) {
        if !identifier.counts_on(evidence.host) {
            continue;
        }
        configured = true;
        match read(&identifier.carrier, &exchange.request, evidence) {
            Found::Value(value) => {
                if verdict.identifiers.is_empty() {
                    verdict.hash = Some(hasher.hash(&zone.id, &identifier.kind, &value));
                }
                verdict.identifiers.push(index);
            }
            Found::Nothing => {}
            Found::NotCaptured => captured = false,
        }
    }
    verdict.outcome = if !configured {
        SessionOutcome::NotConfigured
    } else if !verdict.identifiers.is_empty() {
        SessionOutcome::Present
    } else if captured {
        SessionOutcome::Absent
    } else {
        SessionOutcome::NotCaptured
    };
}

/// The values that the zone's identifiers read from an exchange that was judged, so that whoever stores something of it can
/// leave them out. A composite gives its parts. Fingerprints are not among them: a certificate is named by its own openly.
pub(super) fn carried(zone: &Zone, exchange: &Exchange<'_>, judged: &Judged) -> Vec<String> {
    let evidence = Evidence {
        host: &judged.host,
        tokens: &judged.tokens,
        mtls: judged.mtls.outcome,
        certificate: &CertificateFacts::new(zone, exchange, judged),
    };
    let mut values = Vec::new();
    for identifier in &zone.sessions.identifiers {
        let parts = match &identifier.carrier {
            Carrier::Composite(parts) => parts.as_slice(),
            one => std::slice::from_ref(one),
        };
        for part in parts {
            let open = matches!(
                part,
                Carrier::Certificate(CertificateName::FingerprintSha256)
            );
            if let (false, Found::Value(value)) = (open, read(part, &exchange.request, &evidence)) {
                values.push(String::from_utf8_lossy(&value).into_owned());
            }
        }
    }
    values
}

/// The carriers that could still make another identifier the first one, given what this verdict was found from: those in
/// front of the first that is present, or all of them, the parts of composites one by one.
pub fn before_first<'z>(
    zone: &'z Zone,
    host: &str,
    verdict: &SessionVerdict,
) -> impl Iterator<Item = &'z Carrier> {
    let end = verdict.identifiers.first().copied().map(usize::from);
    let identifiers = zone.sessions.identifiers.iter();
    identifiers
        .take(end.unwrap_or(usize::MAX))
        .filter(move |identifier| identifier.counts_on(host))
        .flat_map(|identifier| match &identifier.carrier {
            Carrier::Composite(parts) => parts.as_slice(),
            one => std::slice::from_ref(one),
        })
}

/// What one identifier's carrier shows.
enum Found<'a> {
    Value(Cow<'a, [u8]>),
    Nothing,
    NotCaptured,
}

impl<'a> Found<'a> {
    fn text(text: Cow<'a, str>) -> Self {
        let text = match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim_ascii().as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.trim_ascii().as_bytes().to_vec()),
        };
        if text.is_empty() {
            Self::Nothing
        } else {
            Self::Value(text)
        }
    }
}

fn read<'a>(
    carrier: &'a Carrier,
    request: &'a Request<'_>,
    evidence: &'a Evidence<'_>,
) -> Found<'a> {
    let headers = &request.headers;
    match carrier {
        Carrier::Header(name) => first(headers.values(name), headers.would_show(name)),
        Carrier::Cookie(name) => first(headers.cookies(name), headers.would_show_cookie(name)),
        Carrier::Claim {
            configuration,
            path,
        } => match evidence.tokens.get(*configuration) {
            Some(verdict) => claim(verdict, path),
            None => Found::NotCaptured,
        },
        Carrier::Query(name) => query(request.query.as_deref().unwrap_or_default(), name),
        Carrier::Certificate(name) => certificate(evidence, *name),
        Carrier::Composite(parts) => composite(parts, request, evidence),
    }
}

/// The first value that is not empty; blanks around it do not count.
fn first<'a>(values: impl Iterator<Item = &'a str>, captured: bool) -> Found<'a> {
    match values.map(str::trim_ascii).find(|value| !value.is_empty()) {
        Some(value) => Found::Value(Cow::Borrowed(value.as_bytes())),
        None if captured => Found::Nothing,
        None => Found::NotCaptured,
    }
}

/// A query parameter as a form writes it (WHATWG URL section 5.1): `+` is a blank, escapes are bytes. The query is part
/// of the request line, so an event that has none had none.
fn query<'a>(query: &'a str, name: &str) -> Found<'a> {
    for pair in query.split('&') {
        let (own, value) = pair.split_once('=').unwrap_or((pair, ""));
        if *unescaped(own) != *name.as_bytes() {
            continue;
        }
        let value = match unescaped(value) {
            Cow::Borrowed(value) => Cow::Borrowed(value.trim_ascii()),
            Cow::Owned(value) => Cow::Owned(value.trim_ascii().to_vec()),
        };
        if !value.is_empty() {
            return Found::Value(value);
        }
    }
    Found::Nothing
}

fn unescaped(text: &str) -> Cow<'_, [u8]> {
    if text.contains('+') {
        let blanks = text.replace('+', " ");
        return Cow::Owned(percent_decode(blanks.as_bytes()).collect());
    }
    percent_decode(text.as_bytes()).into()
}

/// What a verified certificate says. The gateway's word that one was verified, without what it says, leaves the
/// identifier unknown.
fn certificate<'a>(evidence: &'a Evidence<'_>, name: CertificateName) -> Found<'a> {
    match evidence.mtls {
        MtlsOutcome::NotCaptured => return Found::NotCaptured,
        MtlsOutcome::Absent | MtlsOutcome::Failed | MtlsOutcome::Revoked => return Found::Nothing,
        MtlsOutcome::Verified => {}
    }
    let facts = evidence.certificate;
    let value = match name {
        CertificateName::SubjectDn => Some(facts.text(Text::SubjectDn)),
        CertificateName::FingerprintSha256 => Some(facts.text(Text::FingerprintSha256)),
        CertificateName::CommonName => facts.common_name(),
        CertificateName::SanUri => facts.alternatives().and_then(|names| names.uri),
        CertificateName::SanDns => facts.alternatives().and_then(|names| names.dns),
        CertificateName::SanEmail => facts.alternatives().and_then(|names| names.email),
    };
    match Found::text(Cow::Owned(value.unwrap_or_default())) {
        Found::Nothing if !facts.is_whole() => Found::NotCaptured,
        found => found,
    }
}

/// Present when every part is. One part that is known to be missing settles it; else one that was not captured leaves it
/// open. Each value stands behind its length in bytes, so that no two lists of values are written alike.
fn composite<'a>(
    parts: &'a [Carrier],
    request: &'a Request<'_>,
    evidence: &'a Evidence<'_>,
) -> Found<'a> {
    let mut joined = Vec::new();
    let mut captured = true;
    for part in parts {
        match read(part, request, evidence) {
            Found::Value(value) => {
                joined.extend(format!("{}:", value.len()).into_bytes());
                joined.extend_from_slice(&value);
                joined.push(b',');
            }
            Found::Nothing => return Found::Nothing,
            Found::NotCaptured => captured = false,
        }
    }
    if captured {
        Found::Value(Cow::Owned(joined))
    } else {
        Found::NotCaptured
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
    Found::text(match value {
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(Value::Number(number)) => Cow::Owned(number.to_string()),
        Some(Value::Bool(flag)) => Cow::Borrowed(if *flag { "true" } else { "false" }),
        _ => Cow::Borrowed(""),
    })
}

#[cfg(test)]
mod tests;
