//! Polarity, coverage, and what is not captured.

use std::sync::Arc;

use serde_json::json;

use super::super::fixtures::{NOW, bare_zone, configuration, exchange, signer};
use super::super::{Judge, Shared};
use super::*;
use crate::model::{Captured, ClientCertificate, SchemaAction};
use crate::policy::compile;
use crate::policy::objects::{
    FileText, OperationObject, RuleObject, SchemaActionObject, SchemaObject, ZoneObject,
};

pub(super) fn rule(title: &str, kind: RuleKind, expression: &str) -> RuleObject {
    RuleObject {
        id: None,
        title: title.to_owned(),
        description: String::new(),
        kind,
        action: RuleAction::Log,
        enabled: true,
        include_hosts: Vec::new(),
        exclude_operations: Vec::new(),
        expression: expression.to_owned(),
        block: None,
        duration: None,
    }
}

pub(super) fn zone(rules: Vec<RuleObject>) -> ZoneObject {
    let mut object = bare_zone();
    object.token_configurations = vec![configuration(
        "shop",
        std::slice::from_ref(&signer("HS256").jwk),
    )];
    object.rules = rules;
    object
}

/// (title, value, fires) of every verdict.
fn verdicts(zone: ZoneObject, exchange: &Exchange<'_>) -> Vec<(String, bool, bool)> {
    let judge = Judge::new(
        Arc::new(compile(&[zone]).unwrap()),
        Arc::new(Shared::new(b"a key for the test")),
    );
    let mut judged = Judged::default();
    // Twice, because the lists of the first exchange are used again.
    assert!(judge.judge(exchange, &mut judged));
    assert!(judge.judge(exchange, &mut judged));
    let book = &judge.policy().zones[0].rules;
    let shown = |verdict: &RuleVerdict| {
        (
            book.title(*verdict).to_owned(),
            verdict.value,
            verdict.fires,
        )
    };
    let zone = &judge.policy().zones[0];
    super::verdicts(zone, &judged).iter().map(shown).collect()
}

#[test]
fn token_rules_fire_when_they_are_false_and_others_when_they_are_true() {
    use RuleKind::{Custom, Mtls, Token};
    let good = format!("Bearer {}", signer("HS256").token(&json!({"sub": "u"})));
    let expired = signer("HS256").token(&json!({"exp": NOW - 3_600}));
    let expired = format!("Bearer {expired}");
    let valid = "is_jwt_valid(\"shop\")";
    let present = "is_jwt_present(\"shop\")";
    let if_present = "is_jwt_valid(\"shop\") or not is_jwt_present(\"shop\")";
    for (kind, expression, header, value, fires) in [
        (Token, valid, Some(&good), true, false),
        (Token, valid, Some(&expired), false, true),
        (Token, valid, None, false, true),
        (Token, present, Some(&good), true, false),
        (Token, present, Some(&expired), true, false),
        (Token, present, None, false, true),
        (Token, if_present, Some(&good), true, false),
        (Token, if_present, Some(&expired), false, true),
        (Token, if_present, None, true, false),
        (Custom, valid, Some(&good), true, true),
        (Custom, valid, Some(&expired), false, false),
        (Custom, valid, None, false, false),
        (Mtls, valid, Some(&good), true, true),
        (Mtls, valid, None, false, false),
    ] {
        let fields: Vec<(&str, &str)> = header
            .into_iter()
            .map(|header| ("authorization", header.as_str()))
            .collect();
        let exchange = exchange(&fields, Captured::All);
        let found = verdicts(zone(vec![rule("r", kind, expression)]), &exchange);
        let expected = [("r".to_owned(), value, fires)];
        assert_eq!(found, expected, "{kind:?} {expression} {header:?}");
    }
}

#[test]
fn only_the_first_token_rule_that_covers_an_operation_applies() {
    let rules = || {
        let mut first = rule("first", RuleKind::Token, "http.request.method eq \"PUT\"");
        first.exclude_operations = vec!["GET api.example /health".to_owned()];
        let mut off = rule("off", RuleKind::Token, "http.request.method eq \"PUT\"");
        off.enabled = false;
        let mut elsewhere = rule(
            "elsewhere",
            RuleKind::Token,
            "http.request.method eq \"PUT\"",
        );
        elsewhere.include_hosts = vec!["other.example".to_owned()];
        vec![
            off,
            elsewhere,
            first,
            rule("second", RuleKind::Token, "http.request.method eq \"GET\""),
            rule("third", RuleKind::Token, "http.request.method eq \"PUT\""),
            rule("custom", RuleKind::Custom, "http.request.method eq \"GET\""),
            rule(
                "custom too",
                RuleKind::Custom,
                "http.request.method eq \"GET\"",
            ),
        ]
    };
    let asked = |path: &'static str, rules: Vec<RuleObject>| -> Vec<String> {
        let mut exchange = exchange(&[], Captured::All);
        exchange.request.path = path.into();
        let mut object = zone(rules);
        object.hosts.push("other.example".to_owned());
        let found = verdicts(object, &exchange).into_iter();
        found
            .map(|(title, _, fires)| format!("{title}{}", if fires { "!" } else { "" }))
            .collect()
    };
    let customs = ["custom!", "custom too!"];
    assert_eq!(
        asked("/orders/1", rules()),
        [&["first!"][..], &customs].concat()
    );
    assert_eq!(
        asked("/health", rules()),
        [&["second"][..], &customs].concat()
    );
    let mut without = rules();
    without[2].enabled = false;
    assert_eq!(
        asked("/orders/1", without),
        [&["second"][..], &customs].concat()
    );
    let mut reversed = rules();
    reversed.reverse();
    assert_eq!(
        asked("/health", reversed),
        ["custom too!", "custom!", "third!"]
    );
}

#[test]
fn what_was_not_captured_fires_nothing() {
    let rules = || {
        vec![
            rule("token", RuleKind::Token, "is_jwt_valid(\"shop\")"),
            rule(
                "certificate",
                RuleKind::Mtls,
                "not cf.tls_client_auth.cert_verified",
            ),
            rule(
                "either",
                RuleKind::Mtls,
                "http.host eq \"api.example\" or not cf.tls_client_auth.cert_verified",
            ),
        ]
    };
    let fires = |exchange: &Exchange<'_>| -> Vec<bool> {
        let found = verdicts(zone(rules()), exchange).into_iter();
        found.map(|(_, _, fires)| fires).collect()
    };
    let blind = exchange(&[], Captured::Nothing);
    assert_eq!(fires(&blind), [false, false, true]);
    let mut seen = exchange(&[], Captured::All);
    seen.certificate = Some(ClientCertificate {
        presented: Some(false),
        ..ClientCertificate::default()
    });
    assert_eq!(fires(&seen), [true, true, true]);
}

#[test]
fn schema_validation_is_a_verdict_where_an_action_follows() {
    let document = json!({
        "openapi": "3.0.3",
        "info": {"title": "t", "version": "1"},
        "paths": {"/orders": {"get": {
            "parameters": [{"name": "limit", "in": "query", "required": true, "schema": {"type": "integer"}}],
            "responses": {"200": {"description": "ok"}}
        }}}
    });
    let with = |default: SchemaAction, own: Option<SchemaAction>| {
        let mut object = zone(Vec::new());
        object.schemas = vec![SchemaObject {
            name: "t".to_owned(),
            document: FileText {
                name: "t.json".to_owned(),
                bytes: document.to_string().into_bytes(),
            },
            formats: true,
            ..SchemaObject::default()
        }];
        let operation = OperationObject {
            method: "GET".to_owned(),
            host: "api.example".to_owned(),
            endpoint: "/orders".to_owned(),
        };
        object.schema_validation = SchemaActionObject {
            default,
            operations: own.map(|own| (operation, own)).into_iter().collect(),
            ..SchemaActionObject::default()
        };
        object
    };
    let asked = |object: ZoneObject, path: &'static str, query: Option<&'static str>| {
        let mut exchange = exchange(&[], Captured::All);
        exchange.request.path = path.into();
        exchange.request.query = query.map(Into::into);
        verdicts(object, &exchange)
    };
    let verdict = |violates: bool| vec![("schema validation".to_owned(), violates, violates)];
    let (none, log) = (SchemaAction::None, SchemaAction::Log);
    assert_eq!(asked(with(none, None), "/orders", None), []);
    assert_eq!(asked(with(log, None), "/orders", None), verdict(true));
    assert_eq!(
        asked(with(log, None), "/orders", Some("limit=3")),
        verdict(false)
    );
    assert_eq!(
        asked(with(log, None), "/orders", Some("limit=x")),
        verdict(true)
    );
    assert_eq!(asked(with(log, None), "/elsewhere", None), []);
    assert_eq!(asked(with(log, Some(none)), "/orders", None), []);
    assert_eq!(asked(with(none, Some(log)), "/orders", None), verdict(true));
}
