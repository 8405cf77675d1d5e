//! What expressions say about exchanges: missing values, what was not captured, and where values come from.

use std::borrow::Cow;

use serde_json::json;

use super::{Answer, Facts, evaluate, holds};
use crate::enrich::fixtures::{self, NOW, bare_zone, configuration, signer, zone};
use crate::enrich::{Judge, Judged, Shared};
use crate::model::{Captured, ClientCertificate, Exchange, Response};
use crate::policy::objects::{SessionIdentifierKind, SessionIdentifierObject, ZoneObject};
use crate::policy::rules::{Expression, Lists, Names};
use crate::policy::{self, Zone};

/// What an expression says about an exchange of a zone with a token configuration and a session identifier.
fn answer(expression: &str, exchange: &Exchange<'_>) -> Answer {
    let object = ZoneObject {
        token_configurations: vec![configuration("shop", &[signer("ES256").jwk.clone()])],
        session_identifiers: vec![SessionIdentifierObject {
            kind: SessionIdentifierKind::Header,
            name: "authorization".to_owned(),
            ..SessionIdentifierObject::default()
        }],
        ..bare_zone()
    };
    let policy = policy::compile(&[object]).unwrap();
    let judge = Judge::new(policy.into(), Shared::new(b"key").into());
    let mut judged = Judged::default();
    assert!(judge.judge(exchange, &mut judged));
    let zone: &Zone = &judge.policy().zones[0];
    let lists = Lists::default();
    let names = Names::new(&zone.tokens, &lists);
    let compiled = match Expression::compile(expression, &names) {
        Ok(compiled) => compiled,
        Err(error) => panic!("{}", error.render(expression)),
    };
    let facts = Facts::new(zone, exchange, &judged);
    let answer = evaluate(&compiled, &facts);
    assert_eq!(holds(&compiled, &facts), answer.value);
    answer
}

fn says(value: bool, known: bool) -> Answer {
    Answer { value, known }
}

#[test]
fn a_missing_value_makes_every_comparison_false() {
    let exchange = fixtures::exchange(&[("x-a", "1")], Captured::All);
    for (expression, value) in [
        (r#"http.request.headers["x-b"][0] eq "1""#, false),
        (r#"http.request.headers["x-b"][0] ne "1""#, false),
        (r#"not http.request.headers["x-b"][0] eq "1""#, true),
        (r#"http.request.headers["x-b"][0] in {}"#, false),
        (r#"http.request.headers["x-b"][0] contains """#, false),
        (r#"http.request.headers["x-b"][0] matches """#, false),
        (r#"http.request.headers["x-b"][0] wildcard "*""#, false),
        (r#"http.request.headers["x-a"][1] ne "1""#, false),
        (r#"lower(http.request.headers["x-b"][0]) ne "1""#, false),
        (r#"len(http.request.headers["x-b"]) ge 0"#, false),
        (r#"len(http.request.headers["x-a"]) eq 1"#, true),
        (r#"any(http.request.headers["x-b"][*] ne "1")"#, false),
        (r#"all(http.request.headers["x-b"][*] ne "1")"#, false),
        (r#"not all(http.request.headers["x-b"][*] ne "1")"#, true),
        (
            r#"concat(http.request.headers["x-b"][0], "1") ne """#,
            false,
        ),
        (r#"starts_with(http.request.headers["x-b"][0], "")"#, false),
        // A text that was not sent is empty, not missing.
        (r#"http.user_agent eq """#, true),
        // An array without elements is there.
        (r#"all(http.request.uri.args.names[*] eq "a")"#, true),
        (r#"any(http.request.uri.args.names[*] eq "a")"#, false),
    ] {
        assert_eq!(
            answer(expression, &exchange),
            says(value, true),
            "{expression}"
        );
    }
}

#[test]
fn what_was_not_captured_is_missing_and_said_to_be_unknown() {
    let names = Captured::Names(vec![Cow::Borrowed("x-a")]);
    let exchange = fixtures::exchange(&[("x-a", "1")], names);
    for (expression, expected) in [
        (r#"http.request.headers["x-a"][0] eq "1""#, says(true, true)),
        (
            r#"http.request.headers["x-b"][0] eq "1""#,
            says(false, false),
        ),
        (
            r#"not http.request.headers["x-b"][0] eq "1""#,
            says(true, false),
        ),
        ("cf.tls_client_auth.cert_verified", says(false, false)),
        ("not cf.tls_client_auth.cert_verified", says(true, false)),
        ("not is_jwt_valid(\"shop\")", says(true, false)),
        ("not cf.api_gateway.auth_id_present", says(true, false)),
        ("ssl", says(false, false)),
        ("http.response.code ge 500", says(false, false)),
        // What is known decides.
        (r#"http.host eq "api.example" or ssl"#, says(true, true)),
        (r#"ssl or http.host eq "api.example""#, says(true, true)),
        (r#"http.host eq "other" and ssl"#, says(false, true)),
        (r#"ssl and http.host eq "other""#, says(false, true)),
        (r#"ssl xor http.host eq "api.example""#, says(true, false)),
        (
            r#"any(http.request.headers.names[*] eq "x-a")"#,
            says(true, true),
        ),
        (
            r#"any(http.request.headers.names[*] eq "x-b")"#,
            says(false, false),
        ),
        // What was found is there, whatever else there may be.
        (
            r#"any(http.request.headers[*][*] eq "1")"#,
            says(true, true),
        ),
        (
            r#"any(http.request.headers[*][*] eq "2")"#,
            says(false, false),
        ),
        (
            r#"not all(http.request.headers[*][0] ne "1")"#,
            says(true, true),
        ),
        (r#"has_value(http.request.headers, "1")"#, says(true, true)),
        ("http.request.headers.truncated", says(true, true)),
    ] {
        assert_eq!(answer(expression, &exchange), expected, "{expression}");
    }
}

#[test]
fn both_expressions_of_the_mtls_guide_work_as_written() {
    let seed = r#"(http.host in {"api.example" "other.example"} and not cf.tls_client_auth.cert_verified)"#;
    let with_revocation = r#"(http.host in {"api.example"}) and (not cf.tls_client_auth.cert_verified or cf.tls_client_auth.cert_revoked)"#;
    for (presented, verified, revoked, first, second) in [
        (false, false, false, true, true),
        (true, false, false, true, true),
        (true, true, false, false, false),
        // The trap: a revoked certificate counts as verified.
        (true, true, true, false, true),
    ] {
        let mut exchange = fixtures::exchange(&[], Captured::All);
        exchange.certificate = Some(ClientCertificate {
            presented: Some(presented),
            verified: Some(verified),
            revoked: Some(revoked),
            ..ClientCertificate::default()
        });
        assert_eq!(answer(seed, &exchange), says(first, true));
        assert_eq!(answer(with_revocation, &exchange), says(second, true));
    }
    // What is not valid is not revoked either, whether the gateway says so or not.
    let mut exchange = fixtures::exchange(&[], Captured::All);
    exchange.certificate = Some(ClientCertificate {
        presented: Some(true),
        verified: Some(false),
        ..ClientCertificate::default()
    });
    let revoked = answer("cf.tls_client_auth.cert_revoked", &exchange);
    assert_eq!(revoked, says(false, true));
}

#[test]
fn tokens_and_their_claims() {
    let claims = json!({
        "iss": "me", "aud": ["a", "b"], "sub": "s", "jti": "j", "iat": NOW, "nbf": NOW - 1, "exp": NOW + 60,
        "nested": {"list": [1, "two"]}, "plan": "gold",
    });
    let token = format!("Bearer {}", signer("ES256").token(&claims));
    let forged = format!("{}x", &token[..token.len() - 4]);
    let valid = fixtures::exchange(&[("authorization", &token)], Captured::All);
    let invalid = fixtures::exchange(&[("authorization", &forged)], Captured::All);
    let none = fixtures::exchange(&[], Captured::All);
    for (expression, on_valid, on_invalid, on_none) in [
        (r#"is_jwt_valid("shop")"#, true, false, false),
        (r#"is_jwt_present("shop")"#, true, true, false),
        (
            r#"is_jwt_valid("shop") or not is_jwt_present("shop")"#,
            true,
            false,
            true,
        ),
        ("cf.api_gateway.auth_id_present", true, true, false),
        (
            r#"http.request.jwt.claims.iss["shop"][0] eq "me""#,
            true,
            false,
            false,
        ),
        (
            r#"any(http.request.jwt.claims.aud["shop"][*] eq "b")"#,
            true,
            false,
            false,
        ),
        (
            r#"http.request.jwt.claims.aud["shop"][1] eq "b""#,
            true,
            false,
            false,
        ),
        (
            r#"any(http.request.jwt.claims.aud[*][*] eq "b")"#,
            true,
            false,
            false,
        ),
        (
            r#"any(http.request.jwt.claims.aud[*][0] eq "b")"#,
            false,
            false,
            false,
        ),
        (
            r#"any(http.request.jwt.claims.aud.values[*] eq "b")"#,
            true,
            false,
            false,
        ),
        (
            "len(http.request.jwt.claims.aud.names) eq 1",
            true,
            false,
            false,
        ),
        (
            r#"http.request.jwt.claims.sub["shop"][0] eq "s""#,
            true,
            false,
            false,
        ),
        (
            r#"http.request.jwt.claims.jti["shop"][0] eq "j""#,
            true,
            false,
            false,
        ),
        (
            r#"http.request.jwt.claims.iat.sec["shop"][0] eq 1795161600"#,
            true,
            false,
            false,
        ),
        (
            r#"http.request.jwt.claims.nbf.sec["shop"][0] lt 1795161600"#,
            true,
            false,
            false,
        ),
        (
            r#"lookup_json_string(http.request.jwt.claims["shop"][0], "plan") eq "gold""#,
            true,
            false,
            false,
        ),
        (
            r#"lookup_json_string(http.request.jwt.claims["shop"][0], "nested", "list", 1) eq "two""#,
            true,
            false,
            false,
        ),
        (
            r#"lookup_json_integer(http.request.jwt.claims["shop"][0], "nested", "list", 0) eq 1"#,
            true,
            false,
            false,
        ),
        (r#"gatewatch.token.outcome eq "valid""#, true, false, false),
        (
            r#"gatewatch.token.reasons["shop"] in {"malformed" "bad_signature"}"#,
            false,
            true,
            false,
        ),
        (
            r#"gatewatch.token.outcomes["shop"] eq "missing""#,
            false,
            false,
            true,
        ),
        (
            r#"has_key(gatewatch.token.reasons, "shop")"#,
            false,
            true,
            false,
        ),
    ] {
        for (exchange, value) in [(&valid, on_valid), (&invalid, on_invalid), (&none, on_none)] {
            assert_eq!(
                answer(expression, exchange),
                says(value, true),
                "{expression}"
            );
        }
    }
}

#[test]
fn where_values_come_from() {
    let mut exchange = fixtures::exchange(
        &[
            ("Cookie", "sid=1; a%20b=x; sid=2"),
            ("X-Twice", "one"),
            ("x-twice", "two"),
            (
                "Content-Type",
                "Application/X-WWW-Form-Urlencoded; charset=utf-8",
            ),
            ("User-Agent", "curl/8"),
        ],
        Captured::All,
    );
    exchange.request.path = Cow::Borrowed("/a/../b/%7Euser/file.tar.GZ");
    exchange.request.query = Some(Cow::Borrowed("x=1&y=%20&x=2&z"));
    exchange.request.scheme = Some(Cow::Borrowed("https"));
    exchange.request.host = Cow::Borrowed("API.example:8443");
    exchange.request.body = Some(Cow::Borrowed(b"user=me&role=a&role=b"));
    exchange.client.ip = Some(Cow::Borrowed("::ffff:192.0.2.7"));
    exchange.client.asn = Some(64_500);
    exchange.client.country = Some(Cow::Borrowed("NL"));
    exchange.response = Some(Response {
        status: 404,
        headers: fixtures::exchange(&[("Retry-After", "5")], Captured::All)
            .request
            .headers,
        body: None,
        body_bytes: None,
        duration_ms: Some(12.9),
    });
    for expression in [
        r#"http.host eq "api.example""#,
        r#"http.request.uri.path eq "/b/~user/file.tar.GZ""#,
        r#"raw.http.request.uri.path eq "/a/../b/%7Euser/file.tar.GZ""#,
        r#"http.request.uri eq "/b/~user/file.tar.GZ?x=1&y=%20&x=2&z""#,
        r#"http.request.full_uri eq "https://api.example/b/~user/file.tar.GZ?x=1&y=%20&x=2&z""#,
        r#"http.request.uri.path.extension eq "gz""#,
        r#"http.request.uri.args["x"][1] eq "2""#,
        r#"http.request.uri.args["z"][0] eq """#,
        r#"url_decode(http.request.uri.args["y"][0]) eq " ""#,
        "len(http.request.uri.args.names) eq 4",
        r#"any(http.request.headers["x-twice"][*] eq "two")"#,
        r#"any(http.request.headers[*][1] eq "two") and not any(http.request.headers[*][1] eq "one")"#,
        r#"any(http.request.headers.names[*] eq "X-Twice")"#,
        r#"not any(http.request.headers["X-Twice"][*] eq "two")"#,
        r#"http.request.cookies["sid"][1] eq "2""#,
        r#"http.request.cookies["a b"][0] eq "x""#,
        r#"http.cookie contains "sid=1""#,
        r#"http.request.body.form["role"][1] eq "b""#,
        r#"has_key(http.request.body.form, "user")"#,
        r#"has_value(http.request.body.form, "me")"#,
        r#"http.request.body.mime eq "application/x-www-form-urlencoded""#,
        "http.request.body.size eq 21 and not http.request.body.truncated",
        "ip.src in {192.0.2.0/24} and ip.src eq 192.0.2.7",
        "cidr(ip.src, 24, 64) eq 192.0.2.0",
        r#"ip.geoip.asnum eq 64500 and ip.src.country eq "NL""#,
        r#"http.response.code eq 404 and http.response.headers["retry-after"][0] eq "5""#,
        "gatewatch.response.duration_ms eq 12",
        "http.request.timestamp.sec eq 1795161600 and http.request.timestamp.msec eq 0",
        r#"ssl and http.user_agent wildcard "CURL/*""#,
        r#"gatewatch.session.outcome eq "absent" and gatewatch.zone eq "z""#,
    ] {
        assert_eq!(
            answer(expression, &exchange),
            says(true, true),
            "{expression}"
        );
    }
}

#[test]
fn titles_and_ids_name_the_same_configuration() {
    let object = ZoneObject {
        token_configurations: vec![configuration("shop", &[signer("ES256").jwk.clone()])],
        ..bare_zone()
    };
    let zone = zone(object);
    let id = zone.tokens.configurations[0].id.clone();
    let lists = Lists::default();
    let names = Names::new(&zone.tokens, &lists);
    for text in [
        format!("is_jwt_valid(\"{id}\")"),
        format!("http.request.jwt.claims.iss[\"{id}\"][0] eq \"a\""),
    ] {
        assert!(Expression::compile(&text, &names).is_ok(), "{text}");
    }
    let error = Expression::compile(r#"is_jwt_valid("shpo")"#, &names).unwrap_err();
    assert_eq!(
        (error.at, error.hint.as_str()),
        (13, "did you mean \"shop\"?")
    );
}
