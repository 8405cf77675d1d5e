//! What the token sources of a request carry.
//!
//! Enters: a request and a configuration. Leaves: the token, or whether the log would have shown one.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::model::Request;
use crate::policy::tokens::{TokenConfiguration, TokenSource};

/// What the sources of one configuration carried.
pub(super) enum Carried<'a> {
    Token(Cow<'a, str>),
    Nothing {
        /// Whether the log would have shown a token in any of the sources.
        captured: bool,
    },
}

/// The first non-empty source decides, even when it holds another scheme.
pub(super) fn find<'a>(
    configuration: &'a TokenConfiguration,
    request: &'a Request<'_>,
) -> Carried<'a> {
    let headers = &request.headers;
    let query = request.query.as_deref().unwrap_or_default();
    let mut captured = true;
    for source in &configuration.sources {
        let credential = match source {
            TokenSource::Header { name, index } => headers.values(name).nth(*index).map(bare),
            TokenSource::Cookie { name, index } => headers.cookies(name).nth(*index).map(bare),
            TokenSource::Argument { name, index } => {
                arguments(query, name).nth(*index).map(bare_of)
            }
        };
        match credential.unwrap_or(Credential::Empty) {
            Credential::Token(token) => return Carried::Token(token),
            Credential::OtherScheme => return Carried::Nothing { captured: true },
            Credential::Empty => {
                captured &= match source {
                    TokenSource::Header { name, .. } => headers.would_show(name),
                    TokenSource::Cookie { name, .. } => headers.would_show_cookie(name),
                    // The request line is always known.
                    TokenSource::Argument { .. } => true,
                };
            }
        }
    }
    Carried::Nothing { captured }
}

/// The values of the query's arguments of this name, escapes undone (WHATWG URL section 5.1). Bytes that are no UTF-8
/// become replacement characters, which no token has.
fn arguments<'q>(query: &'q str, name: &str) -> impl Iterator<Item = Cow<'q, str>> {
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = percent_decode_str(key).decode_utf8_lossy();
        (decoded == name).then(|| percent_decode_str(value).decode_utf8_lossy())
    })
}

/// What a source's value turns out to be.
enum Credential<'a> {
    Empty,
    OtherScheme,
    Token(Cow<'a, str>),
}

/// Takes an optional `Bearer` scheme off (any case, with or without a colon, as the vendor's documents have it).
fn bare(value: &str) -> Credential<'_> {
    let value = value.trim_ascii();
    let token = without_scheme(value);
    if token.is_empty() {
        Credential::Empty
    } else if token.len() == value.len() && token.contains(' ') {
        Credential::OtherScheme
    } else {
        Credential::Token(Cow::Borrowed(token))
    }
}

/// The same of a value that may have been decoded.
fn bare_of(value: Cow<'_, str>) -> Credential<'_> {
    match value {
        Cow::Borrowed(value) => bare(value),
        Cow::Owned(value) => match bare(&value) {
            Credential::Token(token) => Credential::Token(Cow::Owned(token.into_owned())),
            Credential::OtherScheme => Credential::OtherScheme,
            Credential::Empty => Credential::Empty,
        },
    }
}

fn without_scheme(value: &str) -> &str {
    const SCHEME: &str = "bearer";
    match value.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => match rest.chars().next() {
            None => "",
            Some(':' | ' ') => rest.get(1..).unwrap_or_default().trim_ascii(),
            Some(_) => value,
        },
        _ => value,
    }
}
