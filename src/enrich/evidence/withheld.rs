//! What of one exchange must not be stored, wherever in it the text stands.
//!
//! Enters: an exchange that was judged. Leaves: the credentials that it carried, to be struck out of every text that is
//! stored. Columns hold no credential by themselves; but a client may write its token into the path too, or leave the
//! name of an argument out, and what is kept for days must not depend on how clients behave.

use std::borrow::Cow;

use memchr::memmem;

use crate::enrich::{Judged, session, token};
use crate::model::Exchange;
use crate::policy::Zone;
use crate::policy::rules::fields::Field;
use crate::policy::sessions::{Carrier, CertificateName};

/// Stands where a credential stood.
pub const STRUCK: &str = "{redacted}";

/// Shortest credential that is looked for, bytes. A shorter one is no secret by itself, and striking out `42` wherever it
/// stands would strike out what was to be shown.
const SHORTEST: usize = 8;

/// Shortest argument without a name that is taken for a credential, bytes; shorter ones are switches such as `debug`.
const SHORTEST_NAMELESS: usize = 16;

/// The credentials of one exchange.
#[derive(Debug, Default)]
pub struct Withheld<'a> {
    /// Longest first: what contains another one is struck out whole.
    texts: Vec<Cow<'a, str>>,
    /// Whether the name in the certificate identifies the session.
    subject: bool,
}

impl<'a> Withheld<'a> {
    /// What the exchange carried. `zone` is the one that it was judged by.
    #[must_use]
    pub fn of(zone: &'a Zone, exchange: &'a Exchange<'_>, judged: &'a Judged) -> Self {
        let mut withheld = Self::default();
        let request = &exchange.request;
        for name in ["authorization", "proxy-authorization"] {
            for value in request.headers.values(name) {
                withheld.add(Cow::Borrowed(value));
            }
        }
        for line in request.headers.values("cookie") {
            for pair in line.split(';') {
                withheld.add(Cow::Borrowed(value_of(pair)));
            }
        }
        let response = exchange.response.iter();
        for line in response.flat_map(|response| response.headers.values("set-cookie")) {
            let pair = line.split(';').next().unwrap_or_default();
            withheld.add(Cow::Borrowed(value_of(pair)));
        }
        for token in token::carried(zone, request) {
            withheld.add(token);
        }
        for value in session::carried(zone, exchange, judged) {
            withheld.add(Cow::Owned(value));
        }
        let body = request.body.as_deref();
        let body = body.and_then(|body| std::str::from_utf8(body).ok());
        for text in [request.query.as_deref(), body].into_iter().flatten() {
            let nameless = text
                .split('&')
                .filter(|argument| argument.len() >= SHORTEST_NAMELESS && !argument.contains('='));
            withheld.texts.extend(nameless.map(Cow::Borrowed));
        }
        withheld
            .texts
            .sort_unstable_by(|one, other| other.len().cmp(&one.len()).then(one.cmp(other)));
        withheld.texts.dedup();
        withheld.subject = zone
            .sessions
            .identifiers
            .iter()
            .filter(|identifier| identifier.counts_on(&judged.host))
            .any(|identifier| names_subject(&identifier.carrier));
        withheld
    }

    /// Notes a value, and what follows its scheme (`Bearer …`).
    fn add(&mut self, value: Cow<'a, str>) {
        match value {
            Cow::Borrowed(value) => {
                let credentials = credentials(value);
                self.texts.extend(credentials.map(Cow::Borrowed));
            }
            Cow::Owned(value) => {
                let credentials = credentials(&value).map(str::to_owned);
                self.texts.extend(credentials.map(Cow::Owned));
            }
        }
    }

    /// Whether a field is not stored for this exchange at all: the names in a certificate are written in several ways, of
    /// which the session's value is one.
    #[must_use]
    pub fn covers(&self, field: Field) -> bool {
        let names_it = matches!(
            field,
            Field::CertSubject | Field::CertSubjectRfc2253 | Field::CertSubjectLegacy
        );
        self.subject && names_it
    }

    /// The text without the credentials.
    #[must_use]
    pub fn strike<'t>(&self, mut text: Cow<'t, str>) -> Cow<'t, str> {
        for secret in &self.texts {
            if memmem::find(text.as_bytes(), secret.as_bytes()).is_some() {
                text = Cow::Owned(text.replace(secret.as_ref(), STRUCK));
            }
        }
        text
    }
}

/// A value and what follows its scheme, where they are long enough.
fn credentials(value: &str) -> impl Iterator<Item = &str> {
    let value = value.trim();
    let bare = value.split_once([' ', ':']);
    let bare = bare.map(|(_, credential)| credential.trim());
    let both = [Some(value), bare].into_iter().flatten();
    both.filter(|credential| credential.len() >= SHORTEST)
}

/// The value of a cookie; one without a name is all value (RFC 6265bis section 5.6).
fn value_of(pair: &str) -> &str {
    let value = pair.split_once('=').map_or(pair, |(_, value)| value);
    value.trim().trim_matches('"')
}

fn names_subject(carrier: &Carrier) -> bool {
    match carrier {
        Carrier::Certificate(name) => {
            matches!(
                name,
                CertificateName::SubjectDn | CertificateName::CommonName
            )
        }
        Carrier::Composite(parts) => parts.iter().any(names_subject),
        Carrier::Header(_) | Carrier::Cookie(_) | Carrier::Query(_) | Carrier::Claim { .. } => {
            false
        }
    }
}
