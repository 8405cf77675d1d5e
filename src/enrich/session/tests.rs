//! Tables of carriers.

mod carriers;

use serde_json::json;

use super::super::Judged;
use super::super::fixtures::{NOW, bare_zone, configuration, exchange, signer, zone};
use super::super::token::{self, TokenCache};
use super::*;
use crate::model::{Captured, EventTime};
use crate::policy::objects::{SessionIdentifierKind, SessionIdentifierObject};
use SessionIdentifierKind::{Cookie, Header, Jwt};

fn zone_of(identifiers: &[(SessionIdentifierKind, &str)]) -> Zone {
    let mut object = bare_zone();
    object.session_identifiers = identifiers
        .iter()
        .map(|(kind, name)| SessionIdentifierObject {
            kind: *kind,
            name: (*name).to_owned(),
            ..SessionIdentifierObject::default()
        })
        .collect();
    object.token_configurations = vec![configuration(
        "shop",
        std::slice::from_ref(&signer("HS256").jwk),
    )];
    zone(object)
}

fn judged(zone: &Zone, fields: &[(&str, &str)], captured: Captured<'_>) -> SessionVerdict {
    let mut exchange = exchange(fields, Captured::All);
    exchange.request.headers.captured = captured;
    let hasher = Hasher::new(b"k");
    let mut tokens = Vec::new();
    token::judge(
        zone,
        &exchange,
        &TokenCache::new(4),
        &hasher,
        &mut token::Budget::default(),
        &mut tokens,
    );
    let mut verdict = SessionVerdict {
        outcome: SessionOutcome::Present,
        identifiers: vec![9],
        hash: Some([1; 16]),
    };
    judge_tokens(zone, &exchange, &tokens, &hasher, &mut verdict);
    verdict
}

/// Judges an exchange of which the log shows no certificate.
fn judge_tokens(
    zone: &Zone,
    exchange: &Exchange<'_>,
    tokens: &[TokenVerdict],
    hasher: &Hasher,
    verdict: &mut SessionVerdict,
) {
    let nothing = Judged::default();
    let evidence = Evidence {
        host: "api.example",
        tokens,
        mtls: MtlsOutcome::NotCaptured,
        certificate: &CertificateFacts::new(zone, exchange, &nothing),
    };
    judge(zone, exchange, &evidence, hasher, verdict);
}

#[test]
fn present_absent_or_unknown() {
    let zone = zone_of(&[(Header, "X-Key"), (Cookie, "sid"), (Jwt, "shop:$.sub")]);
    let hs = signer("HS256");
    let bearer = |claims| format!("Bearer {}", hs.token(&claims));
    let good = bearer(json!({"sub": "u"}));
    let expired = bearer(json!({"sub": "u", "exp": NOW - 3600}));
    let empty = bearer(json!({"sub": ""}));
    let names =
        |names: &[&'static str]| Captured::Names(names.iter().map(|name| (*name).into()).collect());
    let (present, absent, unknown) = (
        SessionOutcome::Present,
        SessionOutcome::Absent,
        SessionOutcome::NotCaptured,
    );
    for (fields, captured, outcome, identifiers) in [
        (vec![("x-KEY", "1")], Captured::All, present, vec![0]),
        (
            vec![("x-key", "1"), ("cookie", "sid=2")],
            Captured::All,
            present,
            vec![0, 1],
        ),
        (
            vec![("cookie", "a=1;  sid = 2 ")],
            Captured::All,
            present,
            vec![1],
        ),
        (vec![("cookie", "SID=2")], Captured::All, absent, vec![]),
        (vec![("cookie", "sid=")], Captured::All, absent, vec![]),
        (
            vec![("cookie", "sid=; sid=3")],
            Captured::All,
            present,
            vec![1],
        ),
        (vec![("x-key", " \t")], Captured::All, absent, vec![]),
        (
            vec![("x-key", ""), ("x-key", "2")],
            Captured::All,
            present,
            vec![0],
        ),
        (
            vec![("authorization", good.as_str())],
            Captured::All,
            present,
            vec![2],
        ),
        (
            vec![("authorization", expired.as_str())],
            Captured::All,
            absent,
            vec![],
        ),
        (
            vec![("authorization", empty.as_str())],
            Captured::All,
            absent,
            vec![],
        ),
        (
            vec![("authorization", "Basic YTpi")],
            Captured::All,
            absent,
            vec![],
        ),
        (vec![], Captured::All, absent, vec![]),
        (vec![], Captured::Nothing, unknown, vec![]),
        (
            vec![("cookie", "sid=2")],
            Captured::Nothing,
            present,
            vec![1],
        ),
        (
            vec![],
            names(&["x-key", "cookie", "authorization"]),
            absent,
            vec![],
        ),
        (vec![], names(&["x-key", "cookie"]), unknown, vec![]),
        (vec![], names(&["x-key", "authorization"]), unknown, vec![]),
        // An invalid token was seen, so its carrier is no longer in doubt.
        (
            vec![("authorization", expired.as_str())],
            names(&["x-key", "cookie"]),
            absent,
            vec![],
        ),
    ] {
        let verdict = judged(&zone, &fields, captured);
        assert_eq!(verdict.outcome, outcome, "{fields:?}");
        assert_eq!(verdict.identifiers, identifiers, "{fields:?}");
        assert_eq!(verdict.hash.is_some(), outcome == present, "{fields:?}");
    }
    let nobody = zone_of(&[]);
    let verdict = judged(&nobody, &[("x-key", "1")], Captured::All);
    assert_eq!(verdict.outcome, SessionOutcome::NotConfigured);
    assert_eq!(verdict.hash, None);
}

#[test]
fn the_hash_is_of_the_first_present_value() {
    let zone = zone_of(&[(Header, "X-Key"), (Cookie, "sid")]);
    let hasher = Hasher::new(b"k");
    for (fields, kind, value) in [
        (
            vec![("x-key", " v "), ("cookie", "sid=w")],
            "header:x-key",
            "v",
        ),
        (vec![("x-key", ""), ("cookie", "sid=w")], "cookie:sid", "w"),
    ] {
        let verdict = judged(&zone, &fields, Captured::All);
        assert_eq!(verdict.hash, Some(hasher.hash("z", kind, value.as_bytes())));
    }
}

#[test]
fn claims_are_read_as_text() {
    let zone = zone_of(&[(Jwt, "shop:$.user['id'][0]")]);
    let hasher = Hasher::new(b"k");
    for (id, text) in [
        (json!(["u"]), Some("u")),
        (json!([" u "]), Some("u")),
        (json!([42]), Some("42")),
        (
            json!([18_446_744_073_709_551_615_u64]),
            Some("18446744073709551615"),
        ),
        (json!([-1]), Some("-1")),
        (json!([1.5]), Some("1.5")),
        (json!([true]), Some("true")),
        (json!([""]), None),
        (json!([null]), None),
        (json!([["u"]]), None),
        (json!([{"u": 1}]), None),
        (json!([]), None),
        (json!("u"), None),
    ] {
        let token = format!(
            "Bearer {}",
            signer("HS256").token(&json!({"user": {"id": id}}))
        );
        let verdict = judged(&zone, &[("authorization", &token)], Captured::All);
        let hash = text.map(|t| hasher.hash("z", "jwt:shop:$.user['id'][0]", t.as_bytes()));
        assert_eq!(verdict.hash, hash, "{id}");
    }
}

#[test]
fn a_token_counts_at_event_time() {
    let zone = zone_of(&[(Jwt, "shop:$.sub")]);
    let value = format!(
        "Bearer {}",
        signer("HS256").token(&json!({"sub": "u", "exp": NOW}))
    );
    let hasher = Hasher::new(b"k");
    let cache = TokenCache::new(4);
    for (offset, outcome) in [(0, SessionOutcome::Present), (61, SessionOutcome::Absent)] {
        let mut exchange = exchange(&[("authorization", &value)], Captured::All);
        exchange.at = EventTime::from_seconds(NOW + offset).unwrap();
        let mut tokens = Vec::new();
        token::judge(
            &zone,
            &exchange,
            &cache,
            &hasher,
            &mut token::Budget::default(),
            &mut tokens,
        );
        let mut verdict = SessionVerdict {
            outcome: SessionOutcome::NotConfigured,
            identifiers: Vec::new(),
            hash: None,
        };
        judge_tokens(&zone, &exchange, &tokens, &hasher, &mut verdict);
        assert_eq!(verdict.outcome, outcome);
    }
}
