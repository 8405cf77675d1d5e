//! Selectors, precedence of schema actions, and what is refused or warned of.

use super::*;
use crate::policy::compile;
use crate::policy::objects::{
    OperationObject, RuleObject, SchemaActionObject, SessionIdentifierKind,
    SessionIdentifierObject, ZoneObject,
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
    ZoneObject {
        id: "z".to_owned(),
        hosts: vec!["api.example".to_owned(), "*.partners.example".to_owned()],
        rules,
        ..ZoneObject::default()
    }
}

fn problems(zone: ZoneObject) -> Vec<String> {
    let outcome = compile(&[zone]);
    let problems = outcome.err().map(|problems| problems.0).unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
}

fn warnings(zone: ZoneObject) -> Vec<String> {
    let policy = compile(&[zone]).unwrap();
    policy.warnings.iter().map(ToString::to_string).collect()
}

/// The whole table of feature map section 3.2: four settings of the operation, three defaults, two overrides.
#[test]
fn an_override_wins_over_the_operation_and_that_over_the_default() {
    use SchemaAction::{Block, Log, None as Nothing};
    let mut cases = 0;
    for suspended in [false, true] {
        for default in [Nothing, Log, Block] {
            for own in [None, Some(Nothing), Some(Log), Some(Block)] {
                let mut object = zone(Vec::new());
                let operation = OperationObject {
                    method: "GET".to_owned(),
                    host: "api.example".to_owned(),
                    endpoint: "/orders/{id}".to_owned(),
                };
                object.schema_validation = SchemaActionObject {
                    default,
                    suspended,
                    operations: own.map(|own| (operation, own)).into_iter().collect(),
                    ..SchemaActionObject::default()
                };
                let policy = compile(&[object]).unwrap();
                let actions = &policy.zones[0].rules.schema;
                let expected = match (suspended, own) {
                    (true, _) => None,
                    (false, Some(own)) => own.of_rule(),
                    (false, None) => default.of_rule(),
                };
                let case = format!("override {suspended}, operation {own:?}, default {default:?}");
                let at = |method, host, endpoint| actions.of(method, host, endpoint);
                assert_eq!(
                    at(Method::Get, "api.example", "/orders/{var1}"),
                    expected,
                    "{case}"
                );
                let elsewhere = if suspended { None } else { default.of_rule() };
                for (method, host, endpoint) in [
                    (Method::Post, "api.example", "/orders/{var1}"),
                    (Method::Get, "a.partners.example", "/orders/{var1}"),
                    (Method::Get, "api.example", "/orders"),
                ] {
                    assert_eq!(at(method, host, endpoint), elsewhere, "{case}");
                }
                let nothing =
                    suspended || (default == Nothing && own.is_none_or(|own| own == Nothing));
                assert_eq!(actions.is_empty(), nothing, "{case}");
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 24);
}

#[test]
fn the_action_of_a_host_wins_over_that_of_a_pattern_in_any_order() {
    use SchemaAction::{Block, Log, None as Nothing};
    let on = |host: &str, action| {
        let operation = OperationObject {
            method: "GET".to_owned(),
            host: host.to_owned(),
            endpoint: "/items".to_owned(),
        };
        (operation, action)
    };
    let mut operations = vec![
        on("*.example", Nothing),
        on("a.partners.example", Block),
        on("*.partners.example", Log),
    ];
    for _ in 0..3 {
        operations.rotate_left(1);
        let mut object = zone(Vec::new());
        object.schema_validation.operations.clone_from(&operations);
        let policy = compile(&[object]).unwrap();
        let at = |host| policy.zones[0].rules.schema.of(Method::Get, host, "/items");
        assert_eq!(at("a.partners.example"), Some(RuleAction::Block));
        assert_eq!(at("b.partners.example"), Some(RuleAction::Log));
        assert_eq!(at("api.example"), None);
    }
}

#[test]
fn a_selector_takes_hosts_in_and_operations_out() {
    let id = crate::model::OperationKey {
        zone: "z".to_owned(),
        host: "api.example".to_owned(),
        method: "DELETE".to_owned(),
        endpoint: "/orders/{var1}".to_owned(),
    }
    .id();
    let learned = crate::model::OperationKey {
        zone: "z".to_owned(),
        host: "api.example".to_owned(),
        method: "GET".to_owned(),
        endpoint: "/learned/{var1}".to_owned(),
    }
    .id();
    let mut object = rule("r", RuleKind::Custom, "ssl");
    object.include_hosts = vec!["API.example".to_owned(), "*.partners.example".to_owned()];
    object.exclude_operations = vec![
        "GET api.example /health".to_owned(),
        "GET a.partners.example/orders/{anything}".to_owned(),
        id.to_string(),
        learned.to_string(),
    ];
    let mut object = zone(vec![object]);
    object.operations.push(OperationObject {
        method: "DELETE".to_owned(),
        host: "api.example".to_owned(),
        endpoint: "/orders/{id}".to_owned(),
    });
    let policy = compile(&[object]).unwrap();
    assert_eq!(policy.warnings.len(), 0);
    let selector = &policy.zones[0].rules.rules[0].selector;
    for (method, host, endpoint, covered) in [
        (Method::Get, "api.example", "/orders/{var1}", true),
        (Method::Get, "api.example", "/health", false),
        (Method::Post, "api.example", "/health", true),
        (Method::Get, "a.partners.example", "/health", true),
        (Method::Get, "a.partners.example", "/orders/{var1}", false),
        (Method::Get, "b.partners.example", "/orders/{var1}", true),
        (Method::Get, "partners.example", "/orders/{var1}", false),
        (Method::Delete, "api.example", "/orders/{var1}", false),
        (Method::Get, "api.example", "/learned/{var1}", false),
    ] {
        let key = || {
            crate::model::OperationKey {
                zone: "z".to_owned(),
                host: host.to_owned(),
                method: method.as_str().to_owned(),
                endpoint: endpoint.to_owned(),
            }
            .id()
        };
        let what = format!("{} {host} {endpoint}", method.as_str());
        assert_eq!(
            selector.covers((method, host, endpoint), key),
            covered,
            "{what}"
        );
    }
}

#[test]
fn a_rule_that_cannot_be_is_refused_with_its_place() {
    let long = "x".repeat(51);
    let with = |change: &dyn Fn(&mut RuleObject)| {
        let mut object = rule("r", RuleKind::Custom, "ssl");
        change(&mut object);
        zone(vec![rule("first", RuleKind::Custom, "ssl"), object])
    };
    for (object, expected) in [
        (
            with(&|rule| rule.expression = "http.hots eq \"a\"".to_owned()),
            "zones[0].rules[1].expression: ",
        ),
        (
            with(&|rule| rule.title = "first".to_owned()),
            "zones[0].rules[1].title: another rule",
        ),
        (
            with(&|rule| rule.id = Some("first".to_owned())),
            "zones[0].rules[1].id: another rule",
        ),
        (
            with(&|rule| rule.title = long.clone()),
            "zones[0].rules[1].title: a title has 1 to 50",
        ),
        (
            with(&|rule| rule.title = " ".to_owned()),
            "zones[0].rules[1].title: a title has 1 to 50",
        ),
        (
            with(&|rule| rule.title = "refused".to_owned()),
            "zones[0].rules[1].title: \"refused\" is the name of a signal",
        ),
        (
            with(&|rule| rule.exclude_operations = vec!["health".to_owned()]),
            "zones[0].rules[1].selector.exclude_operations[0]: \"health\" is not an operation",
        ),
    ] {
        let said = problems(object);
        assert!(
            said.iter().any(|problem| problem.starts_with(expected)),
            "{expected}\n{said:?}"
        );
        assert_eq!(said.len(), 1, "{said:?}");
    }
    let shown = problems(with(&|rule| {
        rule.expression = "ssl and http.hots".to_owned();
    }))
    .concat();
    assert!(
        shown.contains("refused at character 9\n    ssl and http.hots\n            ^"),
        "{shown}"
    );
}

#[test]
fn rules_that_are_never_evaluated_are_said() {
    let token = |title: &str, hosts: &[&str], out: &[&str]| {
        let mut object = rule(title, RuleKind::Token, "http.request.method eq \"GET\"");
        object.include_hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        object.exclude_operations = out.iter().map(|text| (*text).to_owned()).collect();
        object
    };
    let never = |first: RuleObject, second: RuleObject| {
        let said = warnings(zone(vec![first, second]));
        said.iter()
            .any(|text| text.starts_with("zones[0].rules[1].selector: the rule is never evaluated"))
    };
    let health = "GET api.example /health";
    assert!(never(token("a", &[], &[]), token("b", &[], &[])));
    assert!(never(
        token("a", &[], &[]),
        token("b", &["api.example"], &[])
    ));
    assert!(never(
        token("a", &["api.example"], &[]),
        token("b", &["api.example"], &[health])
    ));
    assert!(never(
        token("a", &["*.partners.example"], &[]),
        token("b", &["x.partners.example"], &[])
    ));
    assert!(!never(
        token("a", &["api.example"], &[]),
        token("b", &[], &[])
    ));
    assert!(!never(token("a", &[], &[health]), token("b", &[], &[])));
    assert!(never(
        token("a", &[], &[health]),
        token("b", &[], &[health])
    ));
    // Hosts of the zone in words are all of it, and what is left out elsewhere is nothing here.
    assert!(never(
        token("a", &["api.example", "*.partners.example"], &[]),
        token("b", &[], &[])
    ));
    assert!(never(
        token("a", &[], &["GET x.partners.example /health"]),
        token("b", &["api.example"], &[])
    ));
    assert!(!never(
        token("a", &[], &["GET x.partners.example /health"]),
        token("b", &["*.partners.example"], &[])
    ));
    let said = warnings(zone(vec![
        token("a", &["api.example"], &[]),
        token("b", &["*.partners.example"], &[]),
        token("c", &[], &[]),
    ]));
    assert!(
        said.concat().contains("never evaluated: \"a\" and \"b\""),
        "{said:?}"
    );
    let mut off = token("a", &[], &[]);
    off.enabled = false;
    assert!(!never(off.clone(), token("b", &[], &[])));
    // Custom rules are all evaluated.
    assert!(!never(
        rule("a", RuleKind::Custom, "ssl"),
        rule("b", RuleKind::Custom, "not ssl")
    ));
    let said = warnings(zone(vec![off])).concat();
    assert!(
        said.contains("zones[0].rules[0].enabled: the rule is disabled"),
        "{said}"
    );
    let said = warnings(zone(vec![token("a", &["elsewhere.example"], &[])])).concat();
    assert!(
        said.contains("include_hosts[0]: \"elsewhere.example\" is no host of this zone"),
        "{said}"
    );
}

#[test]
fn expressions_that_cannot_mean_what_they_say_are_said() {
    use RuleKind::{Custom, Mtls, Token};
    let identified = |rules| {
        let mut zone = zone(rules);
        zone.session_identifiers.push(SessionIdentifierObject {
            kind: SessionIdentifierKind::Header,
            name: "authorization".to_owned(),
            ..SessionIdentifierObject::default()
        });
        zone
    };
    let said = |kind, expression: &str| warnings(identified(vec![rule("r", kind, expression)]));
    let nobody = rule("r", Custom, "not cf.api_gateway.auth_id_present");
    let nobody = warnings(zone(vec![nobody])).concat();
    assert!(nobody.contains("no session identifiers"), "{nobody}");
    // The guide's two rules look after each other.
    let unverified = rule("a", Mtls, "not cf.tls_client_auth.cert_verified");
    let revoked = rule("b", Mtls, "cf.tls_client_auth.cert_revoked");
    assert_eq!(warnings(zone(vec![unverified.clone()])).len(), 1);
    assert_eq!(warnings(zone(vec![unverified, revoked])), [""; 0]);
    for (kind, expression, expected) in [
        (Token, "ssl", None),
        (Token, "ssl or not ssl", Some("so this one never does")),
        (
            Token,
            "ssl and not ssl",
            Some("so this one fires for every request"),
        ),
        (
            Custom,
            "ssl or not ssl",
            Some("the rule fires for every request"),
        ),
        (Custom, "ssl and not ssl", Some("the rule never fires")),
        (Custom, "not cf.api_gateway.auth_id_present", None),
        (
            Custom,
            "cf.api_gateway.auth_id_present",
            Some("to catch those without one: not cf.api_gateway.auth_id_present"),
        ),
        (
            Mtls,
            "not cf.tls_client_auth.cert_verified or cf.tls_client_auth.cert_revoked",
            None,
        ),
        (
            Token,
            "cf.tls_client_auth.cert_verified",
            Some("(cf.tls_client_auth.cert_verified and not cf.tls_client_auth.cert_revoked)"),
        ),
        // Somebody who is known and does what they should not.
        (
            Custom,
            "cf.api_gateway.auth_id_present and http.response.code eq 403",
            None,
        ),
        (Custom, "http.host eq \"a.partners.example\"", None),
        (
            Custom,
            "http.host eq \"API.example\"",
            Some("hosts of the zone, in lower case: api.example"),
        ),
        (
            Custom,
            "ssl and http.host in {\"api.example\" \"elsewhere.example\"}",
            Some("http.host is never \"elsewhere.example\" in this zone"),
        ),
        (
            Custom,
            "has_key(http.request.headers, \"X-A\")",
            Some("names are in lower case: \"x-a\""),
        ),
    ] {
        let found = said(kind, expression);
        assert_eq!(found.len(), usize::from(expected.is_some()), "{found:?}");
        let found = found.concat();
        assert!(found.contains(expected.unwrap_or_default()), "{found}");
        assert!(found.is_empty() || found.starts_with("zones[0].rules[0].expression: "));
    }
}
