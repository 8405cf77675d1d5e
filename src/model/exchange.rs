//! One HTTP request with its response, borrowed from the payload it was read from.
//!
//! "Not captured" is a state of its own everywhere: a log that did not record headers says nothing about them.

use std::borrow::Cow;
use std::sync::Arc;

use super::{EventTime, MtlsReason};

/// One HTTP request together with its response, if one was seen.
#[derive(Clone, Debug)]
pub struct Exchange<'a> {
    /// Request id; always there for exchanges joined from two halves.
    pub id: Option<Cow<'a, str>>,
    /// When the request was seen; a joined exchange has the request's time.
    pub at: EventTime,
    /// Zone id as the event states it; wins over the host.
    pub zone: Option<Cow<'a, str>>,
    /// Who sent it.
    pub client: Client<'a>,
    /// Client certificate as the gateway saw it; `None` = not captured.
    pub certificate: Option<ClientCertificate<'a>>,
    /// The request.
    pub request: Request<'a>,
    /// The response; `None` = unanswered.
    pub response: Option<Response<'a>>,
}

/// Network facts about the sender.
#[derive(Clone, Debug, Default)]
pub struct Client<'a> {
    /// Textual IP address as logged.
    pub ip: Option<Cow<'a, str>>,
    /// TCP source port.
    pub port: Option<u16>,
    /// Autonomous system number.
    pub asn: Option<u32>,
    /// ISO 3166-1 alpha-2 code as logged.
    pub country: Option<Cow<'a, str>>,
}

/// What the gateway logged about the client certificate.
#[derive(Clone, Debug, Default)]
pub struct ClientCertificate<'a> {
    /// Whether the client sent one. `Some(false)` is the fact "none was presented".
    pub presented: Option<bool>,
    /// The gateway's own chain verdict.
    pub verified: Option<bool>,
    /// The gateway's own revocation verdict.
    pub revoked: Option<bool>,
    /// Why its verification failed.
    pub reason: Option<MtlsReason>,
    /// SHA-256 over the DER, hexadecimal.
    pub fingerprint_sha256: Option<Cow<'a, str>>,
    /// Subject distinguished name as logged.
    pub subject_dn: Option<Cow<'a, str>>,
    /// Issuer distinguished name as logged.
    pub issuer_dn: Option<Cow<'a, str>>,
    /// Serial number as logged.
    pub serial: Option<Cow<'a, str>>,
    /// Start of validity as logged.
    pub not_before: Option<Cow<'a, str>>,
    /// End of validity as logged.
    pub not_after: Option<Cow<'a, str>>,
    /// The certificate itself: PEM, or base64 of the DER.
    pub pem: Option<Cow<'a, str>>,
}

/// The request half.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Method as sent (case-sensitive, RFC 9110 section 9.1).
    pub method: Cow<'a, str>,
    /// `http` or `https` when logged.
    pub scheme: Option<Cow<'a, str>>,
    /// Host as sent, possibly with a port and in any case.
    pub host: Cow<'a, str>,
    /// Path as sent, not normalised.
    pub path: Cow<'a, str>,
    /// Query without the question mark.
    pub query: Option<Cow<'a, str>>,
    /// Header fields.
    pub headers: Headers<'a>,
    /// Decoded body; `None` = not captured (missing, over the limit, or cut short). Empty = known to be empty.
    pub body: Option<Cow<'a, [u8]>>,
    /// Size of the body on the wire, bytes.
    pub body_bytes: Option<u64>,
}

/// The response half.
#[derive(Clone, Debug)]
pub struct Response<'a> {
    /// Status code the client saw, 100–599.
    pub status: u16,
    /// Header fields.
    pub headers: Headers<'a>,
    /// Decoded body; `None` = not captured. Empty = known to be empty.
    pub body: Option<Cow<'a, [u8]>>,
    /// Size of the body on the wire, bytes.
    pub body_bytes: Option<u64>,
    /// Time from request to response, milliseconds.
    pub duration_ms: Option<f64>,
}

/// Header fields in log order, one entry per value, with what is known about completeness.
#[derive(Clone, Debug, Default)]
pub struct Headers<'a> {
    /// (name as logged, value) pairs.
    pub fields: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Which names the log would have shown.
    pub captured: Captured<'a>,
}

/// Which header names the log would have shown had they been sent.
#[derive(Clone, Debug, Default)]
pub enum Captured<'a> {
    /// Every name.
    All,
    /// Nothing is known.
    #[default]
    Nothing,
    /// Only these names (compared without case). [`COOKIE`] before a name means that one cookie.
    Names(Vec<Cow<'a, str>>),
    /// These names, and those that the operator states, which are the same for every event.
    Stated(Vec<Cow<'a, str>>, Arc<[String]>),
}

/// Marks the name of a single cookie in [`Captured::Names`]; no header name holds a colon.
pub const COOKIE: &str = "cookie:";

impl Headers<'_> {
    /// Values of `name` (compared without case), in log order.
    pub fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> + 's {
        self.fields
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_ref())
    }

    /// First value of `name`.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_ref())
    }

    /// Whether the absence of `name` proves that it was not sent.
    #[must_use]
    pub fn would_show(&self, name: &str) -> bool {
        match &self.captured {
            Captured::All => true,
            Captured::Nothing => false,
            Captured::Names(names) => names.iter().any(|n| n.eq_ignore_ascii_case(name)),
            Captured::Stated(names, stated) => {
                names.iter().any(|n| n.eq_ignore_ascii_case(name))
                    || stated.iter().any(|n| n.eq_ignore_ascii_case(name))
            }
        }
    }

    /// Whether the absence of the cookie `name` (case-sensitive) proves that it was not sent.
    #[must_use]
    pub fn would_show_cookie(&self, name: &str) -> bool {
        let is_it = |shown: &str| shown.strip_prefix(COOKIE) == Some(name);
        self.would_show("cookie")
            || match &self.captured {
                Captured::All | Captured::Nothing => false,
                Captured::Names(names) => names.iter().any(|shown| is_it(shown)),
                Captured::Stated(names, stated) => {
                    names.iter().any(|shown| is_it(shown)) || stated.iter().any(|n| is_it(n))
                }
            }
    }

    /// Whether every header of the message is known.
    #[must_use]
    pub fn complete(&self) -> bool {
        matches!(self.captured, Captured::All)
    }

    /// Values of the cookie `name` (case-sensitive) over all `Cookie` fields, RFC 6265 section 4.2; surrounding double quotes stay.
    pub fn cookies<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> + 's {
        self.values("cookie")
            .flat_map(|line| line.split(';'))
            .filter_map(move |pair| {
                let (key, value) = pair.split_once('=')?;
                (key.trim() == name).then_some(value.trim())
            })
    }
}
