//! The filter answers as the row evaluator does: random expressions over random exchanges, and what is not stored.

use std::borrow::Cow;
use std::collections::HashSet;

use arrow::array::{Array, AsArray, RecordBatch};
use datafusion::common::DFSchema;
use serde_json::json;

use super::super::random::{Random, Writer, exchange, tokens};
use super::super::{Facts, holds};
use super::*;
use crate::enrich::evidence::withheld::Withheld;
use crate::enrich::evidence::{self, Evidence};
use crate::enrich::fixtures::{self, bare_zone, configuration, signer};
use crate::enrich::{Judge, Judged, Shared};
use crate::model::{Captured, Exchange};
use crate::policy;
use crate::policy::objects::{SessionIdentifierKind, SessionIdentifierObject, ZoneObject};
use crate::policy::rules::types::Scalar;
use crate::policy::rules::{Lists, Names};

/// Expressions of the property test.
const EXPRESSIONS: usize = 10_000;

/// Rows of a batch, and batches.
const ROWS: usize = 24;
const BATCHES: usize = 4;

fn judge() -> Judge {
    let shop = signer("HS256");
    let object = ZoneObject {
        token_configurations: vec![
            configuration("shop", std::slice::from_ref(&shop.jwk)),
            configuration("other", std::slice::from_ref(&signer("ES256").jwk)),
        ],
        session_identifiers: vec![SessionIdentifierObject {
            kind: SessionIdentifierKind::Header,
            name: "authorization".to_owned(),
            ..SessionIdentifierObject::default()
        }],
        ..bare_zone()
    };
    let policy = policy::compile(&[object]).unwrap();
    Judge::new(policy.into(), Shared::new(b"key").into())
}

/// Exchanges with their verdicts.
fn rows(judge: &Judge, random: &mut Random) -> Vec<(Exchange<'static>, Judged)> {
    let tokens = tokens();
    let row = |_| {
        let exchange = exchange(random, &tokens);
        let mut judged = Judged::default();
        assert!(judge.judge(&exchange, &mut judged));
        (exchange, judged)
    };
    (0..ROWS).map(row).collect()
}

fn batch(zone: &Zone, rows: &[(Exchange<'static>, Judged)]) -> RecordBatch {
    let mut evidence = Evidence::default();
    for (exchange, judged) in rows {
        // A text that holds a credential is stored without it, and an expression is asked of what is stored; here every
        // text of these exchanges is as short as the credentials, and nothing is struck out.
        evidence
            .append(&Facts::new(zone, exchange, judged), &Withheld::default())
            .unwrap();
    }
    assert_eq!(evidence.len(), rows.len());
    evidence.finish().unwrap()
}

#[test]
fn ten_thousand_expressions_are_worth_the_same_to_both() {
    let judge = judge();
    let zone = &judge.policy().zones[0];
    let mut lists = Lists::default();
    lists
        .add("words", Scalar::Bytes, &["a".to_owned(), "GET".to_owned()])
        .unwrap();
    let names = Names::new(&zone.tokens, &lists);
    let mut writer = Writer(Random(42));
    let batches: Vec<_> = (0..BATCHES)
        .map(|_| {
            let rows = rows(&judge, &mut writer.0);
            let batch = batch(zone, &rows);
            (rows, batch)
        })
        .collect();
    let context = crate::window::context();
    let schema = DFSchema::try_from(evidence::schema()).unwrap();
    let (mut yes, mut no, mut seen) = (0, 0, HashSet::new());
    while seen.len() < EXPRESSIONS {
        let text = writer.expression(3);
        let number = seen.len();
        if !seen.insert(text.clone()) {
            continue;
        }
        let expression = match Expression::compile(&text, &names) {
            Ok(expression) => expression,
            Err(error) => panic!("{}", error.render(&text)),
        };
        let filter = filter(&expression, zone).unwrap();
        // Planned as a query would be: types coerced and simplified.
        let planned = context.create_physical_expr(filter, &schema).unwrap();
        let (rows, batch) = &batches[number % BATCHES];
        let found = planned
            .evaluate(batch)
            .unwrap()
            .into_array(batch.num_rows())
            .unwrap();
        let found = found.as_boolean();
        for (at, (exchange, judged)) in rows.iter().enumerate() {
            let expected = holds(&expression, &Facts::new(zone, exchange, judged));
            // A filter keeps only what is true.
            let kept = found.is_valid(at) && found.value(at);
            assert_eq!(
                kept,
                expected,
                "row {at} of batch {}: {text}",
                number % BATCHES
            );
            yes += usize::from(expected);
            no += usize::from(!expected);
        }
    }
    // The test means something only when both answers are common.
    let rows = EXPRESSIONS * ROWS;
    assert!(yes * 5 > rows && no * 5 > rows, "{yes} true, {no} false");
}

#[test]
fn what_is_not_stored_is_named() {
    let judge = judge();
    let zone = &judge.policy().zones[0];
    let lists = Lists::default();
    let names = Names::new(&zone.tokens, &lists);
    for (text, expected) in [
        (
            r#"http.request.headers["authorization"][0] eq "x""#,
            r#"http.request.headers["authorization"]"#,
        ),
        (
            r#"http.request.headers["Accept"][0] eq "x""#,
            r#"http.request.headers["Accept"]"#,
        ),
        (
            r#"any(http.request.headers[*][*] eq "x")"#,
            "http.request.headers",
        ),
        (
            r#"has_key(http.request.headers, "cookie")"#,
            r#"http.request.headers["cookie"]"#,
        ),
        (
            r#"has_value(http.request.headers, "x")"#,
            "http.request.headers",
        ),
        (
            r#"any(http.request.headers.values[*] eq "x")"#,
            "http.request.headers.values",
        ),
        (r#"http.cookie contains "x""#, "http.cookie"),
        (r#"http.request.uri contains "x""#, "http.request.uri"),
        (
            r#"lookup_json_string(http.request.body.raw, "a") eq "x""#,
            "http.request.body.raw",
        ),
        (
            r#"ssl or lower(http.request.uri.query) eq "x""#,
            "http.request.uri.query",
        ),
        (
            r#"http.request.jwt.claims.sub["shop"][0] eq "x""#,
            "http.request.jwt.claims.sub",
        ),
        (
            r#"http.request.uri.path.extension eq "x""#,
            "http.request.uri.path.extension",
        ),
    ] {
        let expression = Expression::compile(text, &names).unwrap();
        let refused = filter(&expression, zone).unwrap_err();
        assert_eq!(refused.field, expected, "{text}");
    }
    for text in [
        r#"http.request.headers["accept"][0] eq "x""#,
        r#"has_key(http.request.headers, "accept")"#,
        r#"http.host eq "x" and is_jwt_valid("shop")"#,
    ] {
        let expression = Expression::compile(text, &names).unwrap();
        assert!(filter(&expression, zone).is_ok(), "{text}");
    }
}

#[test]
fn simple_comparisons_are_datafusions_own() {
    let judge = judge();
    let zone = &judge.policy().zones[0];
    let lists = Lists::default();
    let names = Names::new(&zone.tokens, &lists);
    for (text, expected) in [
        (r#"http.host eq "a""#, r#"http_host = Utf8("a")"#),
        (
            r#"http.host in {"a" "b"} and http.response.code ge 500"#,
            r#"http_host IN ([Utf8("a"), Utf8("b")]) AND http_response_code >= Int64(500)"#,
        ),
        (
            r#"not http.host ne "a""#,
            r#"http_host != Utf8("a") IS NOT TRUE"#,
        ),
        ("ip.src eq 2001:DB8::0:1", r#"ip_src = Utf8("2001:db8::1")"#),
        (
            "http.response.code in {500..599}",
            "http_response_code BETWEEN Int64(500) AND Int64(599)",
        ),
        (
            r#"starts_with(http.request.uri.path, "/a")"#,
            r#"http_request_uri_path LIKE Utf8("/a%")"#,
        ),
        (
            r#"http.request.uri.path contains "b""#,
            r#"http_request_uri_path LIKE Utf8("%b%")"#,
        ),
    ] {
        let expression = Expression::compile(text, &names).unwrap();
        let filter = filter(&expression, zone).unwrap();
        assert_eq!(filter.to_string(), expected, "{text}");
    }
}

#[test]
fn secrets_have_no_column() {
    let judge = judge();
    let zone = &judge.policy().zones[0];
    let token =
        signer("HS256").token(&json!({"sub": "secret-subject", "jti": "secret-id", "iss": "me"}));
    let mut exchange = fixtures::exchange(
        &[
            ("Authorization", &token),
            ("Cookie", "sid=secret-cookie"),
            ("X-Api-Key", "secret-key"),
            ("Referer", "/?secret-referer"),
        ],
        Captured::All,
    );
    exchange.request.query = Some(Cow::Borrowed("key=secret-query"));
    exchange.request.body = Some(Cow::Borrowed(b"secret-body"));
    let mut judged = Judged::default();
    assert!(judge.judge(&exchange, &mut judged));
    let mut evidence = Evidence::default();
    // Without striking out anything: what has a column is what counts here.
    evidence
        .append(&Facts::new(zone, &exchange, &judged), &Withheld::default())
        .unwrap();
    let stored = format!("{:?}", evidence.finish().unwrap());
    assert!(stored.contains("X-Api-Key") && stored.contains("valid"));
    for secret in ["secret", token.as_str(), token.rsplit('.').next().unwrap()] {
        assert!(!stored.contains(secret), "{secret}");
    }
}
