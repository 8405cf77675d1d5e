//! Which operation a request belongs to, as tables.

use std::fmt::Write as _;

use super::{Match, Operations};
use crate::model::{Method, OperationSource, Problems};
use crate::policy::objects::{FileText, OperationObject, SchemaObject};
use crate::policy::path::normalise;

fn schema(name: &str, servers: &str, paths: &[(&str, &str)]) -> SchemaObject {
    let mut text = format!("openapi: 3.1.0\ninfo: {{title: t, version: '1'}}\n{servers}\npaths:\n");
    for (path, methods) in paths {
        let _ = writeln!(text, "  {path:?}:");
        let names: Vec<&str> = path
            .split('{')
            .skip(1)
            .filter_map(|part| part.split('}').next())
            .collect();
        if !names.is_empty() {
            text.push_str("    parameters:\n");
        }
        for name in names {
            let _ = writeln!(
                text,
                "      - {{name: {name}, in: path, required: true, schema: {{}}}}"
            );
        }
        for method in methods.split(' ') {
            let _ = writeln!(
                text,
                "    {method}: {{responses: {{default: {{description: d}}}}}}"
            );
        }
    }
    SchemaObject {
        name: name.into(),
        document: FileText {
            name: format!("{name}.yaml"),
            bytes: text.into(),
        },
        ..SchemaObject::default()
    }
}

fn saved(list: &[(&str, &str, &str)]) -> Vec<OperationObject> {
    list.iter()
        .map(|(method, host, endpoint)| OperationObject {
            method: (*method).into(),
            host: (*host).into(),
            endpoint: (*endpoint).into(),
        })
        .collect()
}

fn compiled(schemas: &[SchemaObject], list: &[(&str, &str, &str)]) -> Operations {
    let mut problems = Problems::default();
    let operations = Operations::compile(schemas, &saved(list), "zones[0]", &mut problems);
    assert!(problems.is_empty(), "{:#?}", problems.0);
    operations
}

/// Declared templates of the endpoint and of the schema operation.
fn found<'o>(operations: &'o Operations, request: &str) -> (Option<&'o str>, Option<&'o str>) {
    let (method, rest) = request.split_once(' ').unwrap();
    let (host, path) = rest.split_at(rest.find('/').unwrap());
    let Match { operation, schema } =
        operations.find(Method::parse(method), host, &normalise(path));
    let name = |number: Option<u32>| Some(operations.entry(number?)?.declared.as_str());
    (name(operation), name(schema))
}

#[test]
fn the_most_specific_operation_wins() {
    let all = schema(
        "all",
        "",
        &[
            ("/", "get"),
            ("/a", "get"),
            ("/a/", "get"),
            ("/a/{x}", "get put"),
            ("/a/me", "get post"),
            ("/a/{x}/b", "get"),
            ("/a/me/c", "get"),
            ("/{p}/me/{q}/d", "get"),
            ("/f/{n}.json", "get"),
            ("/f/{n}", "get"),
            ("/f/{a}.{b}", "get"),
            ("/f/v{major}", "get"),
            ("/f/readme.json", "get"),
            ("/%7Euser/{x}/ä", "get"),
        ],
    );
    let operations = compiled(&[all], &[]);
    for (request, expected) in [
        ("GET h/", Some("/")),
        ("GET h/a", Some("/a")),
        ("GET h/a/", Some("/a/")),
        ("GET h/a//", Some("/a/")),
        ("GET h/a/me", Some("/a/me")),
        ("GET h/a/you", Some("/a/{x}")),
        // The literal path has no PUT, so the parameter takes it.
        ("PUT h/a/me", Some("/a/{x}")),
        ("POST h/a/you", None),
        // The literal is a dead end.
        ("GET h/a/me/b", Some("/a/{x}/b")),
        ("GET h/a/me/c", Some("/a/me/c")),
        ("GET h/a/me/x/d", Some("/{p}/me/{q}/d")),
        ("GET h/a/x/", None),
        ("GET h/a/x/y/z", None),
        ("GET h/f/readme.json", Some("/f/readme.json")),
        ("GET h/f/x.json", Some("/f/{n}.json")),
        ("GET h/f/x.y", Some("/f/{a}.{b}")),
        ("GET h/f/v2", Some("/f/v{major}")),
        ("GET h/f/v", Some("/f/{n}")),
        ("GET h/f/.json", Some("/f/{n}")),
        ("GET h/~user/1/%c3%a4", Some("/~user/{x}/%C3%A4")),
        ("GET h/a/x%2Fy", Some("/a/{x}")),
        ("GET h/b/../a", Some("/a")),
        ("HEAD h/a", None),
        ("FETCH h/a", None),
    ] {
        assert_eq!(found(&operations, request).0, expected, "{request}");
    }
}

#[test]
fn schemas_and_saved_operations_share_one_table() {
    let shop = schema(
        "shop",
        "servers: [{url: 'https://api.example/v1'}]",
        &[("/o/{order_id}", "get"), ("/o/{order_id}/lines", "get")],
    );
    let operations = compiled(
        &[shop],
        &[
            ("GET", "api.example", "/v1/o/{id}"),
            ("GET", "api.example", "/v1/o/latest"),
            ("GET", "API.example", "/health"),
            ("GET", "other.example", "/health"),
            ("GET", "*.partners.example", "/feed"),
        ],
    );
    for (request, endpoint, schema) in [
        // The same tuple: the schema wins, with its names.
        (
            "GET api.example/v1/o/7",
            Some("/v1/o/{order_id}"),
            Some("/v1/o/{order_id}"),
        ),
        // The saved one is more specific, conformance is judged against the schema's.
        (
            "GET api.example/v1/o/latest",
            Some("/v1/o/latest"),
            Some("/v1/o/{order_id}"),
        ),
        ("GET api.example/health", Some("/health"), None),
        ("GET other.example/health", Some("/health"), None),
        ("GET other.example/v1/o/7", None, None),
        ("GET a.b.partners.example/feed", Some("/feed"), None),
        ("GET partners.example/feed", None, None),
    ] {
        assert_eq!(found(&operations, request), (endpoint, schema), "{request}");
    }
    assert!(operations.covers("api.example"));
    assert!(!operations.covers("other.example"));
    assert!(!operations.covers("a.partners.example"));
    let entry = operations
        .known(Method::Get, "api.example", "/v1/o/{var1}")
        .unwrap();
    assert_eq!(entry.declared, "/v1/o/{order_id}");
    assert_eq!(entry.source, OperationSource::Schema);
    assert!(
        operations
            .known(Method::Put, "api.example", "/v1/o/{var1}")
            .is_none()
    );
    assert!(
        operations
            .known(Method::Get, "other.example", "/v1/o/{var1}")
            .is_none()
    );
}

#[test]
fn servers_say_where_operations_live() {
    let any = schema(
        "any",
        "servers: [{url: /base}]",
        &[("/x/{y}", "get"), ("/z/{y}", "get")],
    );
    let two = schema(
        "two",
        "servers: [{url: 'https://{env}.example:8443/api', variables: {env: {default: prod, enum: [prod, test]}}}]",
        &[("/x/1", "get")],
    );
    let operations = compiled(&[any, two], &[("GET", "prod.example", "/base/x/1")]);
    for (request, endpoint, schema) in [
        (
            "GET prod.example/api/x/1",
            Some("/api/x/1"),
            Some("/api/x/1"),
        ),
        (
            "GET test.example/api/x/1",
            Some("/api/x/1"),
            Some("/api/x/1"),
        ),
        ("GET other.example/api/x/1", None, None),
        (
            "GET other.example/base/x/1",
            Some("/base/x/{y}"),
            Some("/base/x/{y}"),
        ),
        (
            "GET prod.example/base/x/1",
            Some("/base/x/1"),
            Some("/base/x/{y}"),
        ),
        ("GET prod.example/x/1", None, None),
    ] {
        assert_eq!(found(&operations, request), (endpoint, schema), "{request}");
    }
    assert!(operations.covers("anything.example"));
}

#[test]
fn bad_saved_operations_are_problems_with_their_place() {
    let mut problems = Problems::default();
    let list = saved(&[
        ("get", "h", "/a"),
        ("GET", "https://h", "/a"),
        ("GET", "h", "a"),
        ("GET", "h", "/{a}/{a}"),
        ("GET", "h", "/{a"),
        ("GET", "h", "/fine"),
    ]);
    Operations::compile(&[], &list, "zones[3]", &mut problems);
    let places: Vec<&str> = problems.0.iter().map(|p| p.place.as_str()).collect();
    assert_eq!(
        places,
        [
            "zones[3].operations[0].method",
            "zones[3].operations[1].host",
            "zones[3].operations[2].endpoint",
            "zones[3].operations[3].endpoint",
            "zones[3].operations[4].endpoint",
        ]
    );
    assert!(problems.0.iter().all(|p| p.hint.is_some()));
}

#[test]
fn two_schemas_may_not_declare_one_operation() {
    let one = schema("one", "", &[("/a/{x}", "get")]);
    let two = schema("two", "", &[("/a/{y}", "get put")]);
    let mut problems = Problems::default();
    Operations::compile(&[one, two], &[], "zones[0]", &mut problems);
    assert_eq!(problems.0.len(), 1);
    assert_eq!(problems.0[0].place, "two.yaml#/paths/~1a~1{y}/get");
}

#[test]
fn finds_among_very_many() {
    let list: Vec<(String, String)> = (0..20_000)
        .map(|n| ("GET".to_owned(), format!("/r{}/{{id}}/s{n}", n % 500)))
        .collect();
    let borrowed: Vec<(&str, &str, &str)> = list
        .iter()
        .map(|(method, path)| (method.as_str(), "h", path.as_str()))
        .collect();
    let operations = compiled(&[], &borrowed);
    assert_eq!(operations.entries.len(), 20_000);
    for n in (0..20_000).step_by(997) {
        let path = format!("/r{}/42/s{n}", n % 500);
        let number = operations.find(Method::Get, "h", &path).operation.unwrap();
        assert_eq!(number, n);
        assert_eq!(
            operations
                .find(Method::Get, "h", &format!("{path}x"))
                .operation,
            None
        );
    }
}
