//! Where the log shows the client's certificate: in the event's own member, or in a header of the request that the
//! operator has named.
//!
//! Enters: an exchange and the host's authority. Leaves: what there is, not yet read. A header is looked at only where
//! `header` is configured: a client can send any header, so the operator vouches that the gateway sets or removes it.

use std::borrow::Cow;

use crate::model::{ClientCertificate, Exchange, Headers};
use crate::policy::mtls::{Authority, Forwarded};

/// What the log shows of a certificate.
#[derive(Clone, Debug, Default)]
pub(super) struct Source<'a> {
    /// The event's own member.
    pub(super) logged: Option<&'a ClientCertificate<'a>>,
    /// Whether one was presented, as the event or the header has it.
    pub(super) presented: Option<bool>,
    /// The certificate and what was sent along, in any form that is read.
    pub(super) text: Option<Cow<'a, str>>,
    /// Fingerprint as written.
    pub(super) fingerprint: Option<Cow<'a, str>>,
    /// Subject's name as written.
    pub(super) subject: Option<Cow<'a, str>>,
    /// The header stands there several times, so nobody knows which one the gateway wrote.
    pub(super) ambiguous: bool,
}

impl<'a> Source<'a> {
    pub(super) fn of(exchange: &'a Exchange<'_>, authority: Option<&Authority>) -> Self {
        let logged = exchange.certificate.as_ref();
        let mut source = Self {
            logged,
            presented: logged.and_then(|logged| logged.presented),
            ..Self::default()
        };
        if let Some(logged) = logged {
            source.text = logged.pem.as_deref().and_then(filled).map(Cow::Borrowed);
            source.fingerprint = logged.fingerprint_sha256.as_deref().map(Cow::Borrowed);
            source.subject = logged.subject_dn.as_deref().map(Cow::Borrowed);
        }
        // What the gateway says outright counts before a header.
        if source.text.is_none()
            && source.presented != Some(false)
            && let Some(name) = authority.and_then(|authority| authority.header.as_deref())
        {
            source.look_into(&exchange.request.headers, name);
        }
        source.take_apart();
        source
    }

    fn look_into(&mut self, headers: &'a Headers<'_>, name: &str) {
        let lines: Vec<&str> = headers
            .fields
            .iter()
            .filter(|(own, _)| own.eq_ignore_ascii_case(name))
            .filter_map(|(_, value)| filled(value))
            .collect();
        match lines.as_slice() {
            [] => {
                // Where the gateway has found something out, the missing header says nothing against it.
                let unknown = self
                    .logged
                    .is_none_or(|logged| logged.presented.is_none() && logged.verified.is_none());
                if unknown && headers.would_show(name) {
                    self.presented = Some(false);
                }
            }
            [text] => self.text = Some(with_chain(text, headers, name)),
            // Lines of a list are one list (RFC 9110 section 5.3).
            [first, ..] if Forwarded::read(first).is_some() => {
                self.text = Some(Cow::Owned(lines.join(",")));
            }
            _ => {
                self.ambiguous = true;
                self.presented = Some(true);
            }
        }
    }

    /// An element without a certificate still says whose it was.
    fn take_apart(&mut self) {
        let Some(forwarded) = self.text.as_deref().and_then(Forwarded::read) else {
            return;
        };
        if forwarded.certificate.or(forwarded.chain).is_some() {
            return;
        }
        let owned = |text: Option<&str>| text.map(|text| Cow::Owned(text.to_owned()));
        let (hash, subject) = (owned(forwarded.hash), owned(forwarded.subject));
        self.presented = self.presented.or(Some(hash.is_some() || subject.is_some()));
        self.fingerprint = self.fingerprint.take().or(hash);
        self.subject = self.subject.take().or(subject);
        self.text = None;
    }
}

/// Log writers put a dash where there is nothing.
fn filled(text: &str) -> Option<&str> {
    let text = text.trim_ascii();
    (!matches!(text, "" | "-")).then_some(text)
}

/// RFC 9440 puts the rest of the chain into a header of its own, `Client-Cert-Chain` next to `Client-Cert`.
fn with_chain<'a>(text: &'a str, headers: &Headers<'_>, name: &str) -> Cow<'a, str> {
    if !text.starts_with(':') {
        return Cow::Borrowed(text);
    }
    let name = format!("{name}-chain");
    let mut joined = Cow::Borrowed(text);
    for line in headers.values(&name).filter_map(filled) {
        let joined = joined.to_mut();
        joined.push_str(", ");
        joined.push_str(line);
    }
    joined
}
