//! Documents and the problems that are found in them.

use super::{Allowance, Description, compile};
use crate::model::Problems;
use crate::policy::objects::{FileText, SchemaObject};

/// More steps than any of these values needs.
fn plenty() -> Allowance {
    Allowance::new(1_000_000)
}

fn load(text: &str, referenced: &[(&str, &str)]) -> Result<Description, Vec<String>> {
    let object = SchemaObject {
        name: "api".into(),
        document: FileText {
            name: "api.yaml".into(),
            bytes: text.into(),
        },
        referenced: referenced
            .iter()
            .map(|(key, text)| {
                (
                    (*key).to_owned(),
                    FileText {
                        name: (*key).to_owned(),
                        bytes: (*text).into(),
                    },
                )
            })
            .collect(),
        formats: true,
        ..SchemaObject::default()
    };
    let mut problems = Problems::default();
    compile(&object, &mut problems).ok_or_else(|| {
        problems
            .0
            .into_iter()
            .map(|p| format!("{}: {}", p.place, p.message))
            .collect()
    })
}

#[test]
fn every_problem_is_found_at_once_with_its_place() {
    let text = r##"
openapi: 3.0.3
info: {title: t}
paths:
  /a/{id}/{id}:
    get: {responses: {200: {description: d}}}
  /b/{x}:
    get: {responses: {200: {description: d}}}
  /b/{y}:
    get:
      parameters: [{name: y, in: path, required: true, schema: {type: string}}]
      responses: {200: {description: d}}
  /c:
    get:
      parameters:
        - {name: z, in: path, required: true, schema: {type: string}}
        - {name: q, in: query, schema: {type: string, pattern: "["}}
        - {name: q, in: query, schema: {type: text}}
        - {name: r, in: body, schema: {}}
        - {$ref: "#/components/parameters/None"}
      security: [{none: []}]
      responses:
        2000: {description: d}
        200: {$ref: "#/components/schemas/Loop"}
        404: {description: d, content: {json: {}}}
components:
  securitySchemes: {basic: {type: http, scheme: basic}}
  schemas:
    Loop: {$ref: "#/components/schemas/Loop"}
    Bad: {type: object, properties: {a: {$ref: "#/components/schemas/Gone"}, b: {minLength: -1, exclusiveMinimum: 3, type: [string, "null"]}}}
    Far: {$ref: "https://elsewhere.example/x.json"}
    Near: {$ref: "near.yaml#/X"}
"##;
    let problems = load(text, &[]).unwrap_err();
    for expected in [
        "api.yaml#/info: an info object needs the member \"version\"",
        "api.yaml#/paths/~1a~1{id}~1{id}: parameter \"id\" stands in the path twice",
        "api.yaml#/paths/~1b~1{x}/get: path parameter \"x\" is not declared",
        "api.yaml#/paths/~1b~1{y}/get: this operation is the same as that of \"/b/{x}\"",
        "api.yaml#/paths/~1c/get: path parameter \"z\" is not in the path",
        "api.yaml#/paths/~1c/get/parameters/1/schema/pattern: this is not a regular expression that can be compiled",
        "api.yaml#/paths/~1c/get/parameters/2: query parameter \"q\" is declared twice",
        "api.yaml#/paths/~1c/get/parameters/2/schema/type: this is not a type of JSON Schema",
        "api.yaml#/paths/~1c/get/parameters/3/in: this must be one of path, query, header, cookie",
        "api.yaml#/paths/~1c/get/parameters/4/$ref: reference \"#/components/parameters/None\" cannot be resolved: nothing stands at \"/components/parameters/None\"",
        "api.yaml#/paths/~1c/get/security/0/none: security scheme \"none\" is not declared",
        "api.yaml#/paths/~1c/get/responses/2000: this is not a status",
        "api.yaml#/paths/~1c/get/responses/404/content/json: \"json\" is not a media type",
        "api.yaml#/components/schemas/Loop/$ref: reference \"#/components/schemas/Loop\" leads back to itself",
        "api.yaml#/components/schemas/Bad/properties/a/$ref: reference \"#/components/schemas/Gone\" cannot be resolved: nothing stands at \"/components/schemas/Gone\"",
        "api.yaml#/components/schemas/Bad/properties/b/minLength: this must be a whole number of at least zero",
        "api.yaml#/components/schemas/Bad/properties/b/exclusiveMinimum: this must be true or false, not a number",
        "api.yaml#/components/schemas/Bad/properties/b/type: OpenAPI 3.0 allows one type only",
        "api.yaml#/components/schemas/Far/$ref: reference \"https://elsewhere.example/x.json\" cannot be resolved: the document \"https://elsewhere.example/x.json\" is not at hand",
        "api.yaml#/components/schemas/Near/$ref: reference \"near.yaml#/X\" cannot be resolved: the document \"near.yaml\" is not at hand",
    ] {
        assert!(
            problems.iter().any(|p| p == expected),
            "{expected}\n{problems:#?}"
        );
    }
}

#[test]
fn other_documents_are_refused_with_a_hint() {
    for (text, expected) in [
        (
            "swagger: '2.0'",
            "api.yaml#/swagger: Swagger 2.0 is not accepted",
        ),
        (
            "openapi: 3.2.0",
            "api.yaml#/openapi: OpenAPI version \"3.2.0\" is not accepted",
        ),
        (
            "openapi: 3.0",
            "api.yaml#/openapi: the version must be text",
        ),
        ("[]", "api.yaml#: this is not an OpenAPI document"),
        ("", "api.yaml#: this is not an OpenAPI document"),
        (
            "a: b",
            "api.yaml#: this is not an OpenAPI document: the member \"openapi\" is missing",
        ),
        (
            "openapi: 3.1.0",
            "api.yaml#: the document needs the member \"info\"",
        ),
        (
            "openapi: 3.1.0\ninfo: {title: t, version: '1'}",
            "api.yaml#: the document needs paths or components or webhooks",
        ),
    ] {
        let problems = load(text, &[]).unwrap_err();
        assert!(
            problems.iter().any(|p| p == expected),
            "{text}: {problems:#?}"
        );
    }
}

#[test]
fn documents_may_refer_to_one_another_and_to_themselves() {
    let root = r##"
openapi: 3.0.3
info: {title: t, version: "1"}
paths:
  /a:
    $ref: "paths/a.yaml"
  /tree:
    post:
      requestBody: {content: {application/json: {schema: {$ref: "#/components/schemas/Tree"}}}}
      responses: {200: {description: d}}
components:
  schemas:
    Tree: {type: object, properties: {children: {type: array, items: {$ref: "#/components/schemas/Tree"}}, all: {allOf: [{$ref: "#/components/schemas/Tree"}]}}}
"##;
    let path = r#"
get:
  parameters: [{$ref: "../shared.yaml#/parameters/Limit"}]
  responses: {200: {description: d, content: {application/json: {schema: {$ref: "../shared.yaml#/schemas/Item"}}}}}
"#;
    let shared = r##"
parameters: {Limit: {name: limit, in: query, schema: {$ref: "#/schemas/Count"}}}
schemas:
  Count: {type: integer}
  Item: {type: object, properties: {count: {$ref: "#/schemas/Count"}, other: {$ref: "shared.yaml#/schemas/Item"}}}
"##;
    let description = load(root, &[("paths/a.yaml", path), ("shared.yaml", shared)]).unwrap();
    assert_eq!(description.operations.len(), 2);
    let check = description.operations[0].contract.responses[0]
        .body
        .as_ref()
        .unwrap()
        .media[0]
        .check
        .clone()
        .unwrap();
    let mut pointers = Vec::new();
    check.explain(
        &serde_json::json!({"other": {"count": "x"}}),
        &plenty(),
        |finding| {
            pointers.push((finding.pointer, finding.target));
            true
        },
    );
    assert_eq!(
        pointers,
        [(
            "shared.yaml#/schemas/Count/type".to_owned(),
            "/other/count".to_owned()
        )]
    );
    assert_eq!(
        super::external_references("", root.as_bytes()),
        ["paths/a.yaml"]
    );
    assert_eq!(
        super::external_references("paths/a.yaml", path.as_bytes()),
        ["shared.yaml"]
    );
    assert_eq!(
        super::external_references("shared.yaml", shared.as_bytes()),
        ["shared.yaml"]
    );
}

#[test]
fn pointers_lead_into_the_uploaded_document() {
    let text = r##"
openapi: 3.0.3
info: {title: t, version: "1"}
paths:
  /a:
    post:
      requestBody: {content: {application/json: {schema: {$ref: "#/components/schemas/A"}}}}
      responses: {200: {description: d}}
components:
  schemas:
    A:
      type: object
      properties:
        n: {type: integer, format: int32}
        s: {type: string, nullable: true, minLength: 2}
        u: {anyOf: [{type: integer}, {type: boolean}]}
        e: {type: string, enum: [one, two]}
"##;
    let description = load(text, &[]).unwrap();
    let body = description.operations[0].contract.body.as_ref().unwrap();
    let check = body.media[0].check.clone().unwrap();
    let mut found = Vec::new();
    let value = serde_json::json!({"n": 5_000_000_000_i64, "s": "x", "u": "secret", "e": "secret"});
    check.explain(&value, &plenty(), |f| {
        found.push(format!(
            "{} {} {} {}",
            f.class.as_str(),
            f.target,
            f.pointer,
            f.detail
        ));
        true
    });
    found.sort();
    assert_eq!(
        found,
        [
            "constraint_violation /e /components/schemas/A/properties/e/enum must be one of [\"one\",\"two\"]",
            "constraint_violation /n /components/schemas/A/properties/n/format must have the declared format",
            "constraint_violation /s /components/schemas/A/properties/s/minLength must have at least 2 characters",
            "invalid_type /u /components/schemas/A/properties/u/anyOf none of the 2 alternatives fits",
        ]
    );
    assert_eq!(
        check.accepts(&serde_json::json!({"s": null}), &plenty()),
        Some(true)
    );
}

#[test]
fn hostile_documents_do_not_panic() {
    for text in [
        "openapi: 3.1.0\ninfo: 1\npaths: []\ncomponents: 5\nsecurity: {}\nservers: x",
        "openapi: 3.0.0\ninfo: {}\npaths: {/a: 5, /b: {get: [], parameters: {}}, c: {}}",
        "openapi: 3.1.0\ninfo: {title: t, version: v}\npaths: {/a: {$ref: '#/paths/~1a'}}",
        "openapi: 3.1.0\ninfo: {title: t, version: v}\ncomponents: {schemas: {A: {$ref: '#/components/schemas/B'}, B: {$ref: '#/components/schemas/A'}}}",
        "openapi: 3.1.0\ninfo: {title: t, version: v}\ncomponents: {schemas: {A: {$id: ':bad uri', $ref: '%'}, B: {$dynamicRef: 5}, C: {allOf: [], type: 7, required: x, properties: []}}}",
        "openapi: 3.1.0\ninfo: {title: t, version: v}\ncomponents: {parameters: {A: {$ref: '#/components/parameters/A'}}, schemas: {X: {$ref: '#%ff'}}}",
    ] {
        let _ = load(text, &[]);
    }
}

#[test]
fn explaining_deep_values_stays_cheap() {
    let text = r##"
openapi: 3.1.0
info: {title: t, version: "1"}
paths:
  /a:
    post:
      requestBody: {content: {application/json: {schema: {$ref: "#/components/schemas/E"}}}}
components:
  schemas:
    E:
      anyOf:
        - {type: object, properties: {c: {$ref: "#/components/schemas/E"}}}
        - {type: object, properties: {c: {$ref: "#/components/schemas/E"}, d: {}}}
"##;
    let description = load(text, &[]).unwrap();
    let body = description.operations[0].contract.body.as_ref().unwrap();
    let check = body.media[0].check.clone().unwrap();
    let mut value = serde_json::json!(5);
    for _ in 0..60 {
        value = serde_json::json!({ "c": value });
    }
    assert_eq!(check.accepts(&value, &plenty()), Some(false));
    // Sixty levels with two branches each would be 2^60 errors.
    let mut count = 0;
    check.explain(&value, &plenty(), |_| {
        count += 1;
        true
    });
    assert_eq!(count, 1);
}

/// Replaces every value of a document in turn by values of other types; nothing may panic, whatever the outcome.
#[test]
fn mutated_documents_do_not_panic() {
    let document = serde_json::json!({
        "openapi": "3.0.3",
        "info": {"title": "t", "version": "1"},
        "servers": [{"url": "https://{a}.example/v1", "variables": {"a": {"default": "x", "enum": ["x", "y"]}}}],
        "security": [{"key": []}],
        "paths": {"/a/{id}.json": {
            "parameters": [{"name": "id", "in": "path", "required": true, "style": "label", "schema": {"type": "integer"}}],
            "post": {
                "requestBody": {"content": {"multipart/form-data": {
                    "schema": {"$ref": "#/components/schemas/A"},
                    "encoding": {"a": {"contentType": "text/plain", "style": "form", "explode": true}},
                }}},
                "responses": {"2XX": {"description": "d", "headers": {"X": {"schema": {"type": "string"}}}}},
            },
        }},
        "components": {
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "k"}},
            "schemas": {
                "A": {"type": "object", "required": ["a"], "discriminator": {"propertyName": "a", "mapping": {"b": "B"}}, "oneOf": [{"$ref": "#/components/schemas/B"}]},
                "B": {"allOf": [{"type": "object", "properties": {"a": {"type": "string", "pattern": "^b", "readOnly": true, "xml": {"name": "x"}}}}], "nullable": true},
            },
        },
    });
    let mut pointers = Vec::new();
    collect(&document, &mut String::new(), &mut pointers);
    let others = [
        serde_json::json!(null),
        serde_json::json!(-1.5),
        serde_json::json!("#/components/schemas/A"),
        serde_json::json!([]),
        serde_json::json!({"$ref": "#"}),
    ];
    for pointer in pointers {
        for other in &others {
            let mut mutated = document.clone();
            *mutated.pointer_mut(&pointer).unwrap() = other.clone();
            let _ = load(&mutated.to_string(), &[]);
        }
    }
}

fn collect(value: &serde_json::Value, at: &mut String, found: &mut Vec<String>) {
    found.push(at.clone());
    let length = at.len();
    match value {
        serde_json::Value::Object(map) => {
            for (name, member) in map {
                super::push_token(at, name);
                collect(member, at, found);
                at.truncate(length);
            }
        }
        serde_json::Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                super::push_token(at, &index.to_string());
                collect(item, at, found);
                at.truncate(length);
            }
        }
        _ => {}
    }
}

#[test]
fn schemas_that_only_contain_themselves_end() {
    let text = r##"
openapi: 3.1.0
info: {title: t, version: "1"}
paths:
  /a:
    post:
      requestBody: {content: {application/json: {schema: {$ref: "#/components/schemas/A"}}}}
components:
  schemas:
    A: {type: object, allOf: [{$ref: "#/components/schemas/B"}]}
    B: {anyOf: [{$ref: "#/components/schemas/A"}, {type: object}]}
"##;
    let description = load(text, &[]).unwrap();
    let body = description.operations[0].contract.body.as_ref().unwrap();
    let check = body.media[0].check.clone().unwrap();
    assert_eq!(check.accepts(&serde_json::json!({}), &plenty()), Some(true));
    assert_eq!(check.accepts(&serde_json::json!(5), &plenty()), Some(false));
}

#[test]
fn deeply_nested_schemas_compile() {
    let levels = 55;
    let schema = format!(
        "{}{{\"type\":\"integer\"}}{}",
        "{\"items\":".repeat(levels),
        "}".repeat(levels)
    );
    let text = format!(
        "{{\"openapi\":\"3.1.0\",\"info\":{{\"title\":\"t\",\"version\":\"1\"}},\"paths\":{{\"/a\":{{\"post\":{{\"requestBody\":{{\"content\":{{\"application/json\":{{\"schema\":{schema}}}}}}}}}}}}}}}"
    );
    let description = load(&text, &[]).unwrap();
    let body = description.operations[0].contract.body.as_ref().unwrap();
    assert!(
        body.media[0]
            .check
            .as_ref()
            .unwrap()
            .accepts(&serde_json::json!([[]]), &plenty())
            .unwrap()
    );
}
