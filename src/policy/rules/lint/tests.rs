//! What is found, and what is not said because nobody can be sure.

use super::*;
use crate::model::Problems;
use crate::policy::objects::TokenConfigurationObject;
use crate::policy::rules::{Lists, Names};
use crate::policy::tokens::Tokens;

/// Two configurations; that their key sets are empty does not matter here.
fn compile(text: &str) -> Expression {
    let configuration = |title: &str| TokenConfigurationObject {
        title: title.to_owned(),
        ..TokenConfigurationObject::default()
    };
    let objects = [configuration("a"), configuration("b")];
    let tokens = Tokens::compile("z", &objects, "zones[0]", &mut Problems::default());
    let lists = Lists::default();
    match Expression::compile(text, &Names::new(&tokens, &lists)) {
        Ok(expression) => expression,
        Err(error) => panic!("{}", error.render(text)),
    }
}

#[test]
fn constants() {
    for (text, expected) in [
        ("true", Some(true)),
        ("ssl", None),
        ("ssl and not ssl", Some(false)),
        ("ssl or not ssl", Some(true)),
        ("ssl xor ssl", Some(false)),
        ("not not ssl", None),
        (r#"http.host eq "a" and http.host eq "b""#, Some(false)),
        (r#"http.host == "a" and http.host ne "a""#, Some(false)),
        (r#"http.host eq "a" or http.host ne "a""#, Some(true)),
        // A missing value makes both false.
        (
            r#"http.request.headers["x"][0] eq "a" or http.request.headers["x"][0] ne "a""#,
            None,
        ),
        ("http.host in {}", Some(false)),
        ("not http.host in {}", Some(true)),
        (
            r#"http.host in {"a" "b"} and http.host in {"c"}"#,
            Some(false),
        ),
        (r#"http.host in {"a" "b"} and http.host in {"b"}"#, None),
        (
            r#"http.host eq "a" and http.host contains "b""#,
            Some(false),
        ),
        (r#"http.host eq "ab" and http.host contains "b""#, None),
        (
            r#"http.host contains "a" and not http.host contains "a""#,
            Some(false),
        ),
        (
            r#"http.host contains "a" and not http.host contains "b""#,
            None,
        ),
        (r#"http.host lt "a" and http.host gt "b""#, Some(false)),
        (r#"http.host gt "a" and http.host lt "b""#, None),
        (
            "http.response.code gt 5 and http.response.code lt 5",
            Some(false),
        ),
        ("http.response.code ge 5 and http.response.code le 5", None),
        (
            "http.response.code in {1..5} and http.response.code in {6..9}",
            Some(false),
        ),
        (
            "ip.src in {10.0.0.0/8} and ip.src in {192.168.0.0/16}",
            Some(false),
        ),
        ("ip.src in {10.0.0.0/8} and ip.src eq 10.1.2.3", None),
        (
            "ip.src in {10.0.0.0/8} and not ip.src in {10.0.0.0/7 11.0.0.0/8}",
            Some(false),
        ),
        (r#"is_jwt_valid("a") or not is_jwt_valid("a")"#, Some(true)),
        (r#"is_jwt_valid("a") or not is_jwt_present("a")"#, None),
        (
            r#"is_jwt_valid("a") and not is_jwt_present("a")"#,
            Some(false),
        ),
        (r#"is_jwt_valid("a") or not is_jwt_valid("b")"#, None),
        (
            "cf.tls_client_auth.cert_revoked and not cf.tls_client_auth.cert_verified",
            Some(false),
        ),
        (
            "cf.tls_client_auth.cert_verified and cf.tls_client_auth.cert_revoked",
            None,
        ),
        (
            r#"any(http.request.headers.names[*] eq "a") and not any(http.request.headers.names[*] eq "a")"#,
            Some(false),
        ),
    ] {
        assert_eq!(constant(compile(text).root()), expected, "{text}");
    }
}

#[test]
fn too_much_is_not_tried() {
    let many: Vec<_> = (0..40)
        .map(|n| format!("http.request.headers[\"x{n}\"][0] eq \"a\""))
        .collect();
    assert_eq!(constant(compile(&many.join(" and ")).root()), None);
    let patterns: Vec<_> = (0..30)
        .map(|n| format!("http.host contains \"{n}\""))
        .collect();
    assert_eq!(constant(compile(&patterns.join(" and ")).root()), None);
}

#[test]
fn what_is_found() {
    use LintKind::{AlwaysFalse, AlwaysTrue, Inverted, NeverPresent, RevokedCounts};
    use Polarity::Ordinary;
    let host = r#"http.host eq "h" and "#;
    for (polarity, text, expected) in [
        (
            Ordinary,
            format!("{host}not cf.api_gateway.auth_id_present"),
            vec![],
        ),
        (
            Ordinary,
            format!("{host}cf.api_gateway.auth_id_present"),
            vec![Inverted],
        ),
        (
            Ordinary,
            format!("{host}not (not cf.api_gateway.auth_id_present)"),
            vec![Inverted],
        ),
        (Ordinary, format!("{host}not is_jwt_valid(\"a\")"), vec![]),
        (
            Ordinary,
            format!("{host}is_jwt_valid(\"a\")"),
            vec![Inverted],
        ),
        (Polarity::Inverted, "is_jwt_valid(\"a\")".to_owned(), vec![]),
        (
            Polarity::Inverted,
            "not is_jwt_valid(\"a\")".to_owned(),
            vec![Inverted],
        ),
        (
            Polarity::Inverted,
            "is_jwt_present(\"a\")".to_owned(),
            vec![],
        ),
        (
            Polarity::Inverted,
            "not is_jwt_present(\"a\")".to_owned(),
            vec![Inverted],
        ),
        (
            Polarity::Inverted,
            "is_jwt_valid(\"a\") or not is_jwt_present(\"a\")".to_owned(),
            vec![],
        ),
        (
            Polarity::Inverted,
            "is_jwt_valid(\"a\") or not is_jwt_valid(\"a\")".to_owned(),
            vec![AlwaysTrue],
        ),
        (
            Polarity::Inverted,
            "is_jwt_valid(\"a\") or http.request.method eq \"OPTIONS\"".to_owned(),
            vec![],
        ),
        (
            Ordinary,
            format!("{host}not cf.tls_client_auth.cert_verified"),
            vec![RevokedCounts],
        ),
        (
            Ordinary,
            format!(
                "{host}(not cf.tls_client_auth.cert_verified or cf.tls_client_auth.cert_revoked)"
            ),
            vec![],
        ),
        (
            Ordinary,
            format!("{host}cf.tls_client_auth.cert_verified"),
            vec![Inverted, RevokedCounts],
        ),
        (
            Ordinary,
            "cf.tls_client_auth.cert_verified and cf.tls_client_auth.cert_revoked".to_owned(),
            vec![],
        ),
        (Ordinary, "ssl and not ssl".to_owned(), vec![AlwaysFalse]),
        (
            Ordinary,
            "http.request.headers[\"X-A\"][0] eq \"a\"".to_owned(),
            vec![NeverPresent],
        ),
    ] {
        let lints = lint(&compile(&text), polarity);
        let kinds: Vec<_> = lints.iter().map(|lint| lint.kind).collect();
        assert_eq!(kinds, expected, "{text}");
        assert!(lints.iter().all(|lint| !lint.hint.is_empty()));
    }
}
