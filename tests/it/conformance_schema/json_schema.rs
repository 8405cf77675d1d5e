//! JSON Schema: the suites of draft 2020-12 and draft 4, and openapi4j's for the dialect of OpenAPI 3.0, as bodies of a
//! request.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gatewatch::model::SchemaOutcome;
use gatewatch::policy::Policy;
use gatewatch::policy::objects::FileText;
use serde_json::{Map, Value, json};

use super::{Message, corpora, files, load, read, settle, verdict};

/// Whether a JSON body conforms to the schema of `POST /check`.
fn body_conforms(policy: &Policy, body: &Value) -> bool {
    let text = body.to_string();
    let message = Message {
        method: "POST",
        host: "suite.example",
        path: "/check",
        query: None,
        headers: vec![("content-type", "application/json")],
        body: text.as_bytes(),
    };
    verdict(policy, &message, None).request == SchemaOutcome::Conforms
}

fn body_document(version: &str, schema: &Value, components: Value) -> Vec<u8> {
    json!({
        "openapi": version,
        "info": {"title": "suite", "version": "1"},
        "paths": {"/check": {"post": {
            "requestBody": {"required": true, "content": {"application/json": {"schema": schema}}},
            "responses": {"200": {"description": "ok"}},
        }}},
        "components": components,
    })
    .to_string()
    .into_bytes()
}

fn mentions(value: &Value, found: &dyn Fn(&str, &Value) -> bool) -> bool {
    match value {
        Value::Object(map) => map
            .iter()
            .any(|(name, member)| found(name, member) || mentions(member, found)),
        Value::Array(items) => items.iter().any(|item| mentions(item, found)),
        _ => false,
    }
}

fn remotes(suite: &Path, draft: &str) -> BTreeMap<String, FileText> {
    let root = suite.join("remotes");
    files(&root, "json")
        .into_iter()
        .filter_map(|path| {
            let name = path.strip_prefix(&root).ok()?.to_str()?.replace('\\', "/");
            let other_draft = name.starts_with("draft") && !name.starts_with(&format!("{draft}/"));
            if other_draft || name.starts_with("v1/") {
                return None;
            }
            let bytes = std::fs::read(&path).ok()?;
            Some((
                format!("http://localhost:1234/{name}"),
                FileText { name, bytes },
            ))
        })
        .collect()
}

/// Runs the groups of test files; `document` says how a schema is wrapped, or that the group does not apply.
fn run_groups(
    suite: &str,
    paths: &[PathBuf],
    remotes: &BTreeMap<String, FileText>,
    formats: bool,
    document: &dyn Fn(&Value) -> Option<Vec<u8>>,
) {
    run_wrapped(suite, paths, formats, &|schema, text| {
        let remote = remotes
            .keys()
            .any(|key| text.contains(key.split("/dr").next().unwrap_or(key)));
        let none = BTreeMap::new();
        let files = if remote { remotes.clone() } else { none };
        Some((document(schema)?, files))
    });
}

type Wrapped = (Vec<u8>, BTreeMap<String, FileText>);

/// Runs the groups of test files; `wrap` makes a document and the further files it refers to of a schema and its text.
fn run_wrapped(
    suite: &str,
    paths: &[PathBuf],
    formats: bool,
    wrap: &dyn Fn(&Value, &str) -> Option<Wrapped>,
) {
    let mut total = 0;
    let mut failed = BTreeMap::new();
    for path in paths {
        let file = path.file_stem().unwrap().to_str().unwrap();
        // Some files are not groups of tests but what these refer to.
        let groups = read(path);
        for group in groups.as_array().into_iter().flatten() {
            let schema = &group["schema"];
            let Some((document, referenced)) = wrap(schema, &schema.to_string()) else {
                continue;
            };
            let policy = load(
                &document,
                "suite.json",
                "suite.example",
                &referenced,
                formats,
            );
            for test in group["tests"].as_array().unwrap() {
                total += 1;
                let id = format!(
                    "{file}/{}/{}",
                    group["description"].as_str().unwrap(),
                    test["description"].as_str().unwrap()
                );
                let expected = test["valid"].as_bool().unwrap();
                match &policy {
                    Ok(policy) if body_conforms(policy, &test["data"]) == expected => {}
                    Ok(_) => {
                        failed.insert(id, format!("expected valid = {expected}"));
                    }
                    // A schema that is refused accepts nothing.
                    Err(_) if !expected => {}
                    Err(problems) => {
                        let first = problems.0.first().map(ToString::to_string);
                        failed.insert(id, first.unwrap_or_default());
                    }
                }
            }
        }
    }
    settle(suite, total, &failed);
}

#[test]
fn json_schema_2020_12_through_openapi_3_1() {
    let Some(root) = corpora("jsonschema/suite") else {
        return;
    };
    let remotes = remotes(&root, "draft2020-12");
    let all = files(&root.join("tests/draft2020-12"), "json");
    let wrap = |schema: &Value| {
        let mut schema = schema.clone();
        // The suite's references start at the schema, so it is a resource of its own.
        if let Value::Object(map) = &mut schema
            && !map.contains_key("$id")
        {
            map.insert("$id".into(), "http://suite.example/schema".into());
        }
        Some(body_document("3.1.0", &schema, json!({})))
    };
    let required: Vec<PathBuf> = all
        .iter()
        .filter(|path| !path.components().any(|part| part.as_os_str() == "optional"))
        .cloned()
        .collect();
    run_groups("json-schema-2020-12", &required, &remotes, false, &wrap);
    let formats: Vec<PathBuf> = all
        .iter()
        .filter(|path| path.components().any(|part| part.as_os_str() == "format"))
        .cloned()
        .collect();
    run_groups(
        "json-schema-2020-12-formats",
        &formats,
        &remotes,
        true,
        &wrap,
    );
}

/// Schemas without an identifier of their own, their references written for the place where they stand.
#[test]
fn json_schema_2020_12_in_place() {
    let Some(root) = corpora("jsonschema/suite") else {
        return;
    };
    let remotes = remotes(&root, "draft2020-12");
    let mut required = files(&root.join("tests/draft2020-12"), "json");
    required.retain(|path| !path.components().any(|part| part.as_os_str() == "optional"));
    run_groups(
        "json-schema-2020-12-in-place",
        &required,
        &remotes,
        false,
        &|schema| {
            let mut schema = schema.clone();
            relocate(&mut schema);
            Some(body_document(
                "3.1.0",
                &json!({"$ref": "#/components/schemas/S"}),
                json!({"schemas": {"S": schema}}),
            ))
        },
    );
}

/// Schemas in a file of their own, their references untouched.
#[test]
fn json_schema_2020_12_in_a_file() {
    let Some(root) = corpora("jsonschema/suite") else {
        return;
    };
    let remotes = remotes(&root, "draft2020-12");
    let mut required = files(&root.join("tests/draft2020-12"), "json");
    required.retain(|path| !path.components().any(|part| part.as_os_str() == "optional"));
    run_wrapped(
        "json-schema-2020-12-in-a-file",
        &required,
        false,
        &|_, text| {
            let mut referenced = if text.contains("localhost:1234") {
                remotes.clone()
            } else {
                BTreeMap::new()
            };
            let name = "schema.json".to_owned();
            let bytes = text.as_bytes().to_vec();
            referenced.insert(name.clone(), FileText { name, bytes });
            let document = body_document("3.1.0", &json!({"$ref": "schema.json"}), json!({}));
            Some((document, referenced))
        },
    );
}

/// Moves local references to `components.schemas.S`.
fn relocate(value: &mut Value) {
    match value {
        // References inside a resource of its own start there.
        Value::Object(map) if map.contains_key("$id") => {}
        Value::Object(map) => {
            for name in ["$ref", "$dynamicRef"] {
                if let Some(Value::String(reference)) = map.get_mut(name)
                    && let Some(pointer) = reference.strip_prefix('#')
                    && (pointer.is_empty() || pointer.starts_with('/'))
                    && !pointer.starts_with("/components/")
                {
                    *reference = format!("#/components/schemas/S{pointer}");
                }
            }
            map.iter_mut()
                .filter(|(name, _)| !matches!(name.as_str(), "enum" | "const"))
                .for_each(|(_, member)| relocate(member));
        }
        Value::Array(items) => items.iter_mut().for_each(relocate),
        _ => {}
    }
}

#[test]
fn json_schema_draft_4_through_openapi_3_0() {
    let Some(root) = corpora("jsonschema/suite") else {
        return;
    };
    let remotes = remotes(&root, "draft4");
    let mut paths = files(&root.join("tests/draft4"), "json");
    paths.retain(|path| !path.components().any(|part| part.as_os_str() == "optional"));
    run_groups("json-schema-draft-4", &paths, &remotes, true, &|schema| {
        let outside = mentions(schema, &|name, member| match name {
            "$schema" | "id" | "dependencies" | "definitions" | "additionalItems"
            | "patternProperties" => true,
            "items" => member.is_array(),
            "type" => member.is_array() || member == "null",
            _ => false,
        });
        if outside {
            return None;
        }
        let mut schema = schema.clone();
        relocate(&mut schema);
        Some(body_document(
            "3.0.3",
            &json!({"$ref": "#/components/schemas/S"}),
            json!({"schemas": {"S": schema}}),
        ))
    });
}

#[test]
fn openapi4j_through_openapi_3_0() {
    let Some(root) = corpora("jsonschema/openapi4j-oas30") else {
        return;
    };
    let paths = files(&root, "json");
    let name = "subSchemas.json";
    let remotes = BTreeMap::from([(
        name.to_owned(),
        FileText {
            name: name.into(),
            bytes: std::fs::read(root.join(name)).unwrap(),
        },
    )]);
    run_groups("openapi4j", &paths, &remotes, true, &|schema| {
        let mut schema = schema.clone();
        let components = schema
            .as_object_mut()
            .and_then(|map| map.remove("components"))
            .unwrap_or_else(|| json!({}));
        relocate(&mut schema);
        let mut components = components;
        if let Value::Object(map) = &mut components {
            let schemas = map.entry("schemas").or_insert_with(|| json!({}));
            schemas["S"] = schema;
        }
        let schema = json!({"$ref": "#/components/schemas/S"});
        Some(body_document("3.0.3", &schema, components))
    });
}

/// Keeps the wrapping honest: an empty components object is what most documents have.
#[test]
fn wrapped_documents_load() {
    let document = body_document(
        "3.1.0",
        &json!({"type": "object"}),
        Value::Object(Map::new()),
    );
    let policy = load(
        &document,
        "suite.json",
        "suite.example",
        &BTreeMap::new(),
        true,
    )
    .unwrap();
    assert!(body_conforms(&policy, &json!({})));
    assert!(!body_conforms(&policy, &json!([])));
}
