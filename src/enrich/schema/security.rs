//! Security requirements: is a declared credential there at all.
//!
//! Enters: the alternatives of an operation. Leaves: one violation when none of them is met. What the credential is
//! worth is judged by the token, session and mTLS verdicts.

use std::borrow::Cow;

use super::Side;
use super::text::Decoding;
use crate::model::{Exchange, Location, ViolationClass};
use crate::policy::schemas::contract::{Carrier, Credential, Security};

/// What is known about one credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    There,
    Absent,
    /// The carrier was not captured.
    Unknown,
}

/// Judges the requirements of an operation.
pub(super) fn judge(security: &Security, exchange: &Exchange<'_>, side: &mut Side<'_>) {
    if security.alternatives.is_empty() {
        return;
    }
    let mut unknown = false;
    for alternative in &security.alternatives {
        let mut worst = Presence::There;
        for credential in alternative {
            match presence(&credential.carrier, exchange) {
                Presence::Absent => worst = Presence::Absent,
                Presence::Unknown if worst == Presence::There => worst = Presence::Unknown,
                Presence::There | Presence::Unknown => {}
            }
        }
        match worst {
            Presence::There => return,
            Presence::Unknown => unknown = true,
            Presence::Absent => {}
        }
    }
    if unknown {
        side.skip();
        return;
    }
    // The first alternative is the one that the author thought of first; its first absent credential is named.
    let absent = security
        .alternatives
        .iter()
        .flatten()
        .find(|credential| presence(&credential.carrier, exchange) == Presence::Absent);
    let Some(absent) = absent else {
        return;
    };
    side.add(
        Location::Security,
        ViolationClass::MissingCredential,
        Cow::Owned(absent.name.to_string()),
        || security.pointer.to_string(),
        || format!("requires {}", alternatives(&security.alternatives)),
    );
}

fn alternatives(alternatives: &[Vec<Credential>]) -> String {
    let each: Vec<String> = alternatives
        .iter()
        .map(|alternative| {
            let names: Vec<&str> = alternative.iter().map(|c| &*c.name).collect();
            names.join(" and ")
        })
        .collect();
    each.join(", or ")
}

fn presence(carrier: &Carrier, exchange: &Exchange<'_>) -> Presence {
    let headers = &exchange.request.headers;
    let found = |there: bool, shown: bool| match (there, shown) {
        (true, _) => Presence::There,
        (false, true) => Presence::Absent,
        (false, false) => Presence::Unknown,
    };
    match carrier {
        Carrier::Header(name) => found(
            headers.values(name).any(|v| !v.trim().is_empty()),
            headers.would_show(name),
        ),
        Carrier::Cookie(name) => found(
            headers.cookies(name).any(|v| !v.is_empty()),
            headers.would_show_cookie(name),
        ),
        Carrier::Query(name) => {
            let query = exchange.request.query.as_deref().unwrap_or_default();
            let there = query.split('&').any(|pair| {
                pair.split_once('=').is_some_and(|(own, value)| {
                    let own = Decoding::Form.decode(own);
                    own.is_ok_and(|own| *own == **name) && !value.is_empty()
                })
            });
            if there {
                Presence::There
            } else {
                Presence::Absent
            }
        }
        Carrier::Authorization(scheme) => found(
            headers.values("authorization").any(|value| {
                value.trim().split_once(' ').is_some_and(|(own, rest)| {
                    own.eq_ignore_ascii_case(scheme) && !rest.trim().is_empty()
                })
            }),
            headers.would_show("authorization"),
        ),
        Carrier::AnyAuthorization => found(
            headers
                .values("authorization")
                .any(|value| !value.trim().is_empty()),
            headers.would_show("authorization"),
        ),
        Carrier::Certificate => match &exchange.certificate {
            None => Presence::Unknown,
            Some(certificate) => match certificate.presented {
                Some(true) => Presence::There,
                Some(false) => Presence::Absent,
                None if certificate.pem.is_some() || certificate.fingerprint_sha256.is_some() => {
                    Presence::There
                }
                None => Presence::Unknown,
            },
        },
    }
}
