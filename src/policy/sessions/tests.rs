//! Tables of configurations: what is made of them, and what is refused.

use super::*;
use crate::policy::objects::SessionIdentifierKind;
use crate::policy::tokens::TokenConfiguration;

fn tokens() -> Tokens {
    let named = |id: &str, title: &str| TokenConfiguration {
        id: id.to_owned(),
        title: title.to_owned(),
        ..TokenConfiguration::default()
    };
    Tokens {
        configurations: vec![named("id-1", "shop: eu"), named("id-2", "odd:$x")],
    }
}

fn compile(objects: &[(SessionIdentifierKind, &str)]) -> (Sessions, Vec<String>) {
    let objects: Vec<_> = objects
        .iter()
        .map(|(kind, name)| SessionIdentifierObject {
            kind: *kind,
            name: (*name).to_owned(),
            ..SessionIdentifierObject::default()
        })
        .collect();
    compile_objects(&objects)
}

fn compile_objects(objects: &[SessionIdentifierObject]) -> (Sessions, Vec<String>) {
    let mut problems = Problems::default();
    let hosts = ["api.example".to_owned(), "*.Partners.example".to_owned()];
    let sessions = Sessions::compile(objects, &tokens(), &hosts, "zones[0]", &mut problems);
    let problems = problems.0.iter().map(ToString::to_string).collect();
    (sessions, problems)
}

#[test]
fn names_are_as_configured_unless_two_share_one() {
    use SessionIdentifierKind::{Cookie, Header, Jwt};
    let (sessions, problems) = compile(&[
        (Header, "Authorization"),
        (Cookie, "sid"),
        (Header, "sid"),
        (Cookie, "SID"),
        (Jwt, "id-1:$.sub"),
        (Jwt, "shop: eu:$['sub']"),
        (Jwt, "odd:$x:$.a.b[0]"),
    ]);
    assert_eq!(
        problems,
        [
            "zones[0].session_identifiers[5].name: \"shop: eu:$['sub']\" is configured twice\n    \
          hint: list every identifier once"
        ]
    );
    assert_eq!(
        sessions.names,
        [
            "Authorization",
            "cookie:sid",
            "header:sid",
            "SID",
            "id-1:$.sub",
            "shop: eu:$['sub']",
            "odd:$x:$.a.b[0]"
        ]
    );
    let kinds: Vec<_> = sessions
        .identifiers
        .iter()
        .map(|i| i.kind.as_str())
        .collect();
    assert_eq!(kinds.first(), Some(&"header:authorization"));
    assert_eq!(kinds.get(4), Some(&"jwt:id-1:$.sub"));
}

#[test]
fn refuses_with_a_place() {
    use SessionIdentifierKind::{Cookie, Header, Jwt};
    let long = "x".repeat(129);
    for (kind, name, expected) in [
        (Header, "", "is not the name of a header"),
        (Header, "a b", "is not the name of a header"),
        (Cookie, "a;b", "is not the name of a cookie"),
        (Header, long.as_str(), "more than 128 characters"),
        (Jwt, "id-1", "has no path after a colon"),
        (
            Jwt,
            "nobody:$.sub",
            "no token configuration is named \"nobody\"",
        ),
        (Jwt, "id-1:$.*", "not a path to one claim"),
        (Jwt, "id-1:$", "not a path to one claim"),
        (Jwt, "id-1:sub", "has no path after a colon"),
    ] {
        let (_, problems) = compile(&[(kind, name)]);
        assert_eq!(problems.len(), 1, "{name}: {problems:?}");
        assert!(problems[0].starts_with("zones[0].session_identifiers[0].name: "));
        assert!(problems[0].contains(expected), "{name}: {problems:?}");
    }
    let (_, problems) = compile(&[(Header, "X-Key"), (Header, "x-key")]);
    assert!(problems[0].contains("is configured twice"), "{problems:?}");
}

fn object(
    kind: SessionIdentifierKind,
    name: &str,
    of: &[&str],
    hosts: &[&str],
) -> SessionIdentifierObject {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    SessionIdentifierObject {
        kind,
        name: name.to_owned(),
        of: owned(of),
        hosts: owned(hosts),
    }
}

#[test]
fn composites_certificates_and_queries() {
    use SessionIdentifierKind::{Certificate, Composite, Header, Query};
    let (sessions, problems) = compile_objects(&[
        object(Query, "Api Key", &[], &[]),
        object(Certificate, "san_uri", &[], &[]),
        object(
            Composite,
            "tenant",
            &["header:X-Tenant", "jwt:shop: eu:$.sub", "query:a:b"],
            &[],
        ),
        object(Header, "tenant", &[], &["x.partners.example"]),
    ]);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(
        sessions.names,
        ["Api Key", "san_uri", "composite:tenant", "header:tenant"]
    );
    let kinds: Vec<_> = sessions
        .identifiers
        .iter()
        .map(|i| i.kind.as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "query:Api Key",
            "certificate:san_uri",
            "composite:tenant",
            "header:tenant"
        ]
    );
    let Carrier::Composite(parts) = &sessions.identifiers[2].carrier else {
        panic!("{:?}", sessions.identifiers[2]);
    };
    assert_eq!(parts[0], Carrier::Header("x-tenant".to_owned()));
    assert!(matches!(
        parts[1],
        Carrier::Claim {
            configuration: 0,
            ..
        }
    ));
    assert_eq!(parts[2], Carrier::Query("a:b".to_owned()));
    for (object, expected) in [
        (
            object(Query, "", &[], &[]),
            "name: a query parameter has a name",
        ),
        (
            object(Certificate, "issuer", &[], &[]),
            "name: \"issuer\" is nothing that identifies",
        ),
        (
            object(Composite, "", &["header:a", "header:b"], &[]),
            "name: is empty",
        ),
        (
            object(Composite, "c", &[], &[]),
            "of: a composite has 2 to 8 parts",
        ),
        (
            object(Composite, "c", &["header:a"], &[]),
            "of: a composite has 2 to 8 parts",
        ),
        (
            object(Composite, "c", &["header:a"; 9], &[]),
            "of: a composite has 2 to 8 parts",
        ),
        (
            object(Composite, "c", &["header:a", "header:A"], &[]),
            "of[1]: \"header:A\" stands there twice",
        ),
        (
            object(Composite, "c", &["a", "header:b"], &[]),
            "of[0]: \"a\" is not a type and a name",
        ),
        (
            object(Composite, "c", &["body:a", "header:b"], &[]),
            "of[0]: \"body:a\" is not a type",
        ),
        (
            object(Composite, "c", &["composite:a", "header:b"], &[]),
            "of[0]: \"composite:a\" is not",
        ),
        (
            object(Composite, "c", &["header:a b", "header:b"], &[]),
            "of[0]: \"a b\" is not the name of a header",
        ),
        (
            object(Composite, "c", &["jwt:nobody:$.sub", "header:b"], &[]),
            "of[0]: no token configuration",
        ),
        (
            object(Header, "h", &["header:a", "header:b"], &[]),
            "of: only a composite has parts",
        ),
        (
            object(Header, "h", &[], &["other.example"]),
            "hosts[0]: \"other.example\" is not among the zone's",
        ),
        (object(Header, "h", &[], &["*.example"]), ""),
        (object(Header, "h", &[], &["*.b.partners.example"]), ""),
        (
            object(Header, "h", &[], &["partners.example"]),
            "hosts[0]: \"partners.example\" is not among",
        ),
        (
            object(Header, "h", &[], &["api.example:80"]),
            "hosts[0]: \"api.example:80\" is not a host",
        ),
    ] {
        let (_, problems) = compile_objects(std::slice::from_ref(&object));
        if expected.is_empty() {
            assert_eq!(problems, Vec::<String>::new(), "{object:?}");
        } else {
            assert_eq!(problems.len(), 1, "{object:?}: {problems:?}");
            let place = "zones[0].session_identifiers[0].";
            assert!(
                problems[0].starts_with(&format!("{place}{expected}")),
                "{problems:?}"
            );
        }
    }
}

#[test]
fn one_identifier_may_be_configured_for_several_hosts_once_each() {
    use SessionIdentifierKind::Header;
    for (first, second, twice) in [
        (&["api.example"][..], &["a.partners.example"][..], false),
        (&["api.example"], &["API.example"], true),
        (&["*.partners.example"], &["a.partners.example"], true),
        (&["*.a.partners.example"], &["*.partners.example"], true),
        (&[], &["api.example"], true),
    ] {
        let (sessions, problems) = compile_objects(&[
            object(Header, "X-Key", &[], first),
            object(Header, "X-Key", &[], second),
        ]);
        assert_eq!(
            !problems.is_empty(),
            twice,
            "{first:?} {second:?}: {problems:?}"
        );
        assert_eq!(sessions.names, ["X-Key", "X-Key"]);
    }
}
