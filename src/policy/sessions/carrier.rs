//! What carries an identifier, as configured.
//!
//! Enters: one identifier and the zone's token configurations. Leaves: its carrier, or what is wrong with it.

use super::{ClaimPath, MAX_NAME, claim_path};
use crate::model::Problems;
use crate::policy::objects::{SessionIdentifierKind, SessionIdentifierObject};
use crate::policy::tokens::{Tokens, is_name};

/// Most parts of a composite.
const MAX_PARTS: usize = 8;

/// What carries an identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A header field, name in lower case.
    Header(String),
    /// A cookie; the name has case.
    Cookie(String),
    /// A claim of a valid token.
    Claim {
        /// Index of the token configuration.
        configuration: usize,
        /// Which claim.
        path: ClaimPath,
    },
    /// A query parameter, its name without escapes; the name has case.
    Query(String),
    /// A verified client certificate.
    Certificate(CertificateName),
    /// All of these together.
    Composite(Vec<Carrier>),
}

/// What of a client certificate identifies the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// Subject's distinguished name, RFC 2253.
    SubjectDn,
    /// The most specific common name of the subject.
    CommonName,
    /// SHA-256 over the DER.
    FingerprintSha256,
    /// First URI among the alternative names, as SPIFFE uses it.
    SanUri,
    /// First host name among the alternative names.
    SanDns,
    /// First mailbox among the alternative names.
    SanEmail,
}

impl CertificateName {
    const ALL: [(&'static str, Self); 6] = [
        ("subject_dn", Self::SubjectDn),
        ("common_name", Self::CommonName),
        ("fingerprint_sha256", Self::FingerprintSha256),
        ("san_uri", Self::SanUri),
        ("san_dns", Self::SanDns),
        ("san_email", Self::SanEmail),
    ];
}

type Refusal = (String, String);

impl Carrier {
    /// The carrier of an identifier; `None` after a problem was noted.
    pub(super) fn compile(
        object: &SessionIdentifierObject,
        tokens: &Tokens,
        place: &str,
        problems: &mut Problems,
    ) -> Option<Self> {
        if object.kind != SessionIdentifierKind::Composite {
            if !object.of.is_empty() {
                problems.hint(
                    format!("{place}.of"),
                    "only a composite has parts",
                    "write type = \"composite\", or leave `of` out",
                );
            }
            return match simple(object.kind, &object.name, tokens) {
                Ok(carrier) => Some(carrier),
                Err((message, hint)) => {
                    problems.hint(format!("{place}.name"), message, hint);
                    None
                }
            };
        }
        if object.name.is_empty() {
            problems.hint(
                format!("{place}.name"),
                "is empty",
                "name = \"tenant and session\"",
            );
        }
        if !(2..=MAX_PARTS).contains(&object.of.len()) {
            problems.hint(
                format!("{place}.of"),
                format!("a composite has 2 to {MAX_PARTS} parts"),
                "of = [\"header:x-tenant\", \"cookie:sid\"]",
            );
            return None;
        }
        let mut parts = Vec::with_capacity(object.of.len());
        for (number, part) in object.of.iter().enumerate() {
            let read = part
                .split_once(':')
                .and_then(|(kind, name)| Some((SessionIdentifierKind::of_name(kind)?, name)))
                .filter(|(kind, name)| {
                    *kind != SessionIdentifierKind::Composite && name.chars().count() <= MAX_NAME
                })
                .ok_or_else(|| {
                    (
                        format!("{part:?} is not a type and a name"),
                        "such as header:x-tenant, cookie:sid, jwt:shop issuer:$.sub".to_owned(),
                    )
                })
                .and_then(|(kind, name)| simple(kind, name, tokens));
            match read {
                Ok(part) if !parts.contains(&part) => parts.push(part),
                Ok(_) => problems.hint(
                    format!("{place}.of[{number}]"),
                    format!("{part:?} stands there twice"),
                    "list every part once",
                ),
                Err((message, hint)) => {
                    problems.hint(format!("{place}.of[{number}]"), message, hint);
                }
            }
        }
        (parts.len() == object.of.len()).then_some(Carrier::Composite(parts))
    }
}

/// A carrier without parts.
fn simple(kind: SessionIdentifierKind, name: &str, tokens: &Tokens) -> Result<Carrier, Refusal> {
    use SessionIdentifierKind::{Certificate, Composite, Cookie, Header, Jwt, Query};
    match kind {
        Header | Cookie if !is_name(name) => Err((
            format!("{name:?} is not the name of a {}", kind.as_str()),
            "a name has letters, digits and !#$%&'*+-.^_`|~ (RFC 9110 section 5.6.2)".to_owned(),
        )),
        Header => Ok(Carrier::Header(name.to_ascii_lowercase())),
        Cookie => Ok(Carrier::Cookie(name.to_owned())),
        Jwt => claim(name, tokens),
        Query if name.is_empty() => Err((
            "a query parameter has a name".to_owned(),
            "name = \"api_key\", without escapes".to_owned(),
        )),
        Query => Ok(Carrier::Query(name.to_owned())),
        Certificate | Composite => CertificateName::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, of)| Carrier::Certificate(*of))
            .ok_or_else(|| {
                let known = CertificateName::ALL.map(|(name, _)| name);
                (
                    format!("{name:?} is nothing that identifies a certificate's subject"),
                    format!("one of {}", known.join(", ")),
                )
            }),
    }
}

/// `<configuration id or title>:<path>`. Titles and quoted names may hold `:$` too, so every such place is tried and
/// the first one that names a configuration counts.
fn claim(name: &str, tokens: &Tokens) -> Result<Carrier, Refusal> {
    let mut first = None;
    for (at, _) in name.match_indices(":$") {
        let (title, path) = (
            name.get(..at).unwrap_or_default(),
            name.get(at + 1..).unwrap_or_default(),
        );
        first = first.or(Some(title));
        let Some(configuration) = tokens.find(title) else {
            continue;
        };
        return match ClaimPath::parse(path) {
            Ok(path) => Ok(Carrier::Claim {
                configuration,
                path,
            }),
            Err(what) => Err((
                format!("not a path to one claim: {what}"),
                claim_path::HINT.to_owned(),
            )),
        };
    }
    match first {
        None => Err((
            format!("{name:?} has no path after a colon"),
            "write <token configuration>:$.sub".to_owned(),
        )),
        Some(title) => {
            let known: Vec<_> = tokens
                .configurations
                .iter()
                .map(|configuration| format!("{:?}", configuration.title))
                .collect();
            let hint = if known.is_empty() {
                "the zone has no token configuration yet; add one".to_owned()
            } else {
                format!("use the id or title of one of {}", known.join(", "))
            };
            Err((format!("no token configuration is named {title:?}"), hint))
        }
    }
}
