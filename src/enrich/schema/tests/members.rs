//! Tables of undeclared members of bodies, and of undeclared cookies.

use std::fmt::Write as _;

use super::{Case, SHOP, get, policy_of, say};
use crate::policy::objects::SchemaObject;

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

fn options() -> SchemaObject {
    SchemaObject {
        undeclared_members: true,
        ..SchemaObject::default()
    }
}

/// A description with one operation for each schema, `POST /<name>`, whose response has the schema too.
fn document(version: &str, schemas: &[(&str, &str)], media: &str) -> String {
    let mut paths = String::new();
    let mut components = String::new();
    for (name, schema) in schemas {
        let body =
            format!("{{\"{media}\": {{schema: {{$ref: \"#/components/schemas/{name}\"}}}}}}");
        let _ = writeln!(
            paths,
            "  /{name}: {{post: {{requestBody: {{content: {body}}}, responses: {{200: {{description: ok, content: {body}}}}}}}}}"
        );
        let _ = writeln!(components, "    {name}: {schema}");
    }
    format!(
        "openapi: {version}\ninfo: {{title: t, version: \"1\"}}\npaths:\n{paths}components:\n  schemas:\n{components}"
    )
}

const SCHEMAS: &[(&str, &str)] = &[
    (
        "plain",
        "{type: object, properties: {a: {type: integer}, b: {type: object, properties: {c: {}}}}}",
    ),
    ("free", "{type: object}"),
    ("anything", "{}"),
    (
        "within",
        "{type: object, properties: {free: {type: object}, list: {type: array, items: {$ref: \"#/components/schemas/plain\"}}}}",
    ),
    (
        "open",
        "{type: object, properties: {a: {}}, additionalProperties: true}",
    ),
    (
        "map",
        "{type: object, additionalProperties: {type: object, properties: {x: {}}}}",
    ),
    (
        "closed",
        "{type: object, properties: {a: {}}, additionalProperties: false}",
    ),
    (
        "all",
        "{allOf: [{$ref: \"#/components/schemas/plain\"}, {type: object, properties: {d: {}, b: {type: object, properties: {e: {}}}}}]}",
    ),
    (
        "one",
        "{oneOf: [{type: object, required: [cat], properties: {cat: {type: string}, lives: {}}}, {type: object, required: [dog], properties: {dog: {type: string}, tricks: {}}}]}",
    ),
    (
        "any",
        "{type: object, properties: {id: {}}, anyOf: [{properties: {x: {type: integer}}, required: [x]}, {properties: {y: {type: integer}}, required: [y]}]}",
    ),
    (
        "tree",
        "{type: object, properties: {name: {}, below: {type: array, items: {$ref: \"#/components/schemas/tree\"}}}}",
    ),
    (
        "pet",
        "{type: object, required: [kind], properties: {kind: {type: string}}, discriminator: {propertyName: kind, mapping: {feline: \"#/components/schemas/cat\"}}}",
    ),
    (
        "cat",
        "{allOf: [{$ref: \"#/components/schemas/pet\"}, {type: object, properties: {lives: {}}}]}",
    ),
    (
        "dog",
        "{allOf: [{$ref: \"#/components/schemas/pet\"}, {type: object, properties: {tricks: {}}}]}",
    ),
    (
        "strange",
        "{type: object, properties: {\"a/b\": {type: object, properties: {c: {}}}}}",
    ),
];

const NEWER: &[(&str, &str)] = &[
    (
        "patterns",
        "{type: object, patternProperties: {\"^x-\": {type: object, properties: {a: {}}}}}",
    ),
    (
        "tuple",
        "{type: array, prefixItems: [{type: object, properties: {a: {}}}], items: {type: object, properties: {b: {}}}}",
    ),
    (
        "condition",
        "{type: object, properties: {a: {}}, if: {properties: {a: {const: 1}}}, then: {properties: {b: {}}}}",
    ),
    (
        "depends",
        "{type: object, properties: {a: {}}, dependentSchemas: {a: {properties: {b: {}}}}}",
    ),
    (
        "unevaluated",
        "{type: object, properties: {a: {}}, unevaluatedProperties: {type: object, properties: {z: {}}}}",
    ),
    (
        "sealed",
        "{type: object, properties: {a: {}}, unevaluatedProperties: false}",
    ),
    (
        "dynamic",
        "{type: object, properties: {a: {}}, $dynamicRef: \"#node\", $defs: {n: {$dynamicAnchor: node}}}",
    ),
];

fn bodies(version: &str, schemas: &[(&str, &str)], cases: &[(&str, &str, &[&str])]) {
    let policy = policy_of(&document(version, schemas, "application/json"), options());
    for (name, body, targets) in cases {
        let targets: String = targets
            .iter()
            .map(|target| match target.split_once(' ') {
                Some(_) => format!(" [body {target}]"),
                None => format!(" [body undeclared_parameter {target}]"),
            })
            .collect();
        let outcome = if targets.is_empty() {
            "conforms"
        } else {
            "violates"
        };
        let request = format!("POST /{name}");
        let case = Case {
            request: &request,
            headers: JSON,
            body: Some(body),
            status: Some(200),
            response_headers: JSON,
            response_body: Some(body),
            ..Case::default()
        };
        let side = format!("{outcome}{targets}");
        assert_eq!(
            say(&policy, case),
            format!("{side} / {side}"),
            "{version} {name} {body}"
        );
    }
}

#[test]
fn members_count_where_any_schema_of_the_object_declares_them() {
    for version in ["3.0.3", "3.1.0"] {
        bodies(
            version,
            SCHEMAS,
            &[
                ("plain", r#"{"a": 1, "b": {"c": 1}}"#, &[]),
                ("plain", r#"{"a": 1, "x": 1, "y": 2}"#, &["/*"]),
                ("plain", r#"{"b": {"c": 1, "d": 1}}"#, &["/b/*"]),
                (
                    "plain",
                    r#"{"x": {"c": 1}, "b": {"d": 1}}"#,
                    &["/b/*", "/*"],
                ),
                // What is wrong otherwise is said besides.
                ("plain", r#"{"a": "1", "x": 1}"#, &["invalid_type /a", "/*"]),
                ("free", r#"{"x": {"y": 1}}"#, &[]),
                ("anything", r#"{"x": {"y": 1}}"#, &[]),
                (
                    "within",
                    r#"{"free": {"x": 1}, "list": [{"a": 1}, {"a": 1, "z": 1}, {"y": 1}]}"#,
                    &["/list/*/*"],
                ),
                ("open", r#"{"a": 1, "x": 1}"#, &[]),
                (
                    "map",
                    r#"{"k": {"x": 1}, "l": {"x": 1, "y": 1}}"#,
                    &["/*/*"],
                ),
                // The validator has said so.
                (
                    "closed",
                    r#"{"a": 1, "x": 1}"#,
                    &["constraint_violation /*"],
                ),
                ("all", r#"{"a": 1, "d": 1, "b": {"c": 1, "e": 1}}"#, &[]),
                (
                    "all",
                    r#"{"a": 1, "f": 1, "b": {"c": 1, "g": 1}}"#,
                    &["/b/*", "/*"],
                ),
                ("one", r#"{"cat": "a", "lives": 9}"#, &[]),
                ("one", r#"{"cat": "a", "tricks": 9}"#, &["/*"]),
                ("one", r#"{"dog": "a", "tricks": 9}"#, &[]),
                ("any", r#"{"id": 1, "x": 1}"#, &[]),
                ("any", r#"{"id": 1, "x": 1, "y": 1}"#, &[]),
                ("any", r#"{"id": 1, "x": 1, "y": "no"}"#, &["/*"]),
                ("any", r#"{"id": 1, "x": 1, "z": 1}"#, &["/*"]),
                ("tree", r#"{"below": [{"below": [{"name": 1}]}]}"#, &[]),
                (
                    "tree",
                    r#"{"below": [{"below": [{"nome": 1}]}]}"#,
                    &["/below/*/below/*/*"],
                ),
                ("pet", r#"{"kind": "cat", "lives": 9}"#, &[]),
                ("pet", r#"{"kind": "feline", "lives": 9}"#, &[]),
                ("pet", r#"{"kind": "dog", "lives": 9}"#, &["/*"]),
                ("strange", r#"{"a/b": {"c": 1, "d": 1}}"#, &["/a~1b/*"]),
            ],
        );
    }
    bodies(
        "3.1.0",
        NEWER,
        &[
            ("patterns", r#"{"x-a": {"a": 1}}"#, &[]),
            ("patterns", r#"{"x-a": {"b": 1}, "y": 1}"#, &["/*/*", "/*"]),
            ("tuple", r#"[{"a": 1}, {"b": 1}]"#, &[]),
            ("tuple", r#"[{"b": 1}]"#, &["/*/*"]),
            ("condition", r#"{"a": 1, "b": 1}"#, &[]),
            ("condition", r#"{"a": 1, "c": 1}"#, &["/*"]),
            ("depends", r#"{"a": 1, "b": 1}"#, &[]),
            ("unevaluated", r#"{"a": 1, "b": {"z": 1}}"#, &[]),
            ("unevaluated", r#"{"a": 1, "b": {"y": 1}}"#, &["/*/*"]),
            (
                "sealed",
                r#"{"a": 1, "b": 1}"#,
                &["constraint_violation /*"],
            ),
            ("dynamic", r#"{"a": 1, "b": 1}"#, &[]),
        ],
    );
}

#[test]
fn forms_have_members_too() {
    let form = [(
        "f",
        "{type: object, properties: {a: {type: integer}, o: {type: object, properties: {c: {type: string}}}, l: {type: array, items: {type: string}}}}",
    )];
    let multipart = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n1\r\n--b--\r\n";
    let lines = "{\"a\": 1}\n{\"x\": 1}\n";
    for (media, content_type, body, expected) in [
        (
            "application/x-www-form-urlencoded",
            "application/x-www-form-urlencoded",
            "a=1&l[]=x",
            "",
        ),
        (
            "application/x-www-form-urlencoded",
            "application/x-www-form-urlencoded",
            "a=1&x=1",
            "/*",
        ),
        (
            "application/x-www-form-urlencoded",
            "application/x-www-form-urlencoded",
            "o[c]=1&o[d]=1",
            "/o/*",
        ),
        (
            "multipart/form-data",
            "multipart/form-data; boundary=b",
            multipart,
            "/*",
        ),
        ("application/x-ndjson", "application/x-ndjson", lines, "/*"),
        (
            "application/xml",
            "application/xml",
            "<f xmlns=\"urn:x\"><a>1</a><x>1</x></f>",
            "",
        ),
    ] {
        let policy = policy_of(&document("3.0.3", &form, media), options());
        let headers = [("content-type", content_type)];
        let case = Case {
            request: "POST /f",
            headers: &headers,
            body: Some(body),
            ..Case::default()
        };
        let side = match expected {
            "" => "conforms".to_owned(),
            target => format!("violates [body undeclared_parameter {target}]"),
        };
        assert_eq!(
            say(&policy, case),
            format!("{side} / not_evaluated"),
            "{media} {body}"
        );
    }
}

#[test]
fn nothing_is_undeclared_unless_asked() {
    let document = document("3.0.3", SCHEMAS, "application/json");
    let policy = policy_of(&document, SchemaObject::default());
    let case = Case {
        request: "POST /plain",
        headers: JSON,
        body: Some(r#"{"x": 1}"#),
        ..Case::default()
    };
    assert_eq!(say(&policy, case), "conforms / not_evaluated");
}

#[test]
fn work_on_hostile_bodies_is_bounded() {
    let policy = policy_of(&document("3.0.3", SCHEMAS, "application/json"), options());
    let deep = format!(
        "{}{{\"nome\": 1}}{}",
        "{\"below\": [".repeat(31),
        "]}".repeat(31)
    );
    let wide: Vec<String> = (0..20_000).map(|n| format!("\"k{n}\": 1")).collect();
    let wide = format!("{{{}}}", wide.join(","));
    for (name, body, target) in [
        ("tree", &deep, format!("{}/*", "/below/*".repeat(31))),
        ("tree", &wide, "/*".to_owned()),
    ] {
        let request = format!("POST /{name}");
        let case = Case {
            request: &request,
            headers: JSON,
            body: Some(body),
            ..Case::default()
        };
        let expected = format!("violates [body undeclared_parameter {target}] / not_evaluated");
        assert_eq!(say(&policy, case), expected);
    }
}

#[test]
fn undeclared_cookies_violate_when_asked() {
    let options = SchemaObject {
        undeclared_cookies: true,
        ..SchemaObject::default()
    };
    let policy = policy_of(SHOP, options);
    let trace = ("x-trace", "6f2c1b3e-0000-4000-8000-000000000001");
    for (cookie, expected) in [
        ("lang=en", "conforms / not_evaluated"),
        (
            "lang=en; other=1; third=2",
            "violates [cookie undeclared_parameter *] / not_evaluated",
        ),
    ] {
        let headers = [trace, ("cookie", cookie)];
        let case = Case {
            headers: &headers,
            ..get("GET /v1/lamps/1?q=a&tags=1&more=2")
        };
        assert_eq!(say(&policy, case), expected, "{cookie}");
    }
}
