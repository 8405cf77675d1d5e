//! Schema Objects → JSON Schema, in place, so that every pointer stays a pointer into the uploaded document.
//!
//! Enters: the documents and the addresses of their schemas. Leaves: one tree per document in which `nullable`,
//! `readOnly` and `writeOnly`, numeric formats and references between documents say the same in keywords that a JSON
//! Schema validator knows. OpenAPI 3.0 becomes draft 4 (boolean `exclusiveMinimum`, siblings of `$ref` ignored), 3.1
//! stays draft 2020-12.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::discriminator::condition;
use super::documents::{Address, Documents};
use super::grammar::{KEYWORDS, Keyword, Version};
use super::walk::Findings;
use crate::model::Direction;

/// Keyword that charges for a text before a pattern with look-around sees it.
pub(super) const COSTLY: &str = "x-gatewatch-costly";
/// Keyword that carries a format of numbers or encoded text; validators know both from `validators`.
pub(super) const FORMAT: &str = "x-gatewatch-format";
/// Formats that JSON Schema does not assert (OpenAPI format registry).
const FORMATS: [&str; 8] = [
    "int8", "int16", "int32", "int64", "uint32", "uint64", "float", "byte",
];
/// Annotations that nothing refers to; without them the trees are a third smaller.
const DROPPED: [&str; 4] = ["description", "title", "example", "externalDocs"];

/// One tree per document for one direction, and whether the other direction needs other trees.
pub(super) struct Converted {
    pub(super) trees: Vec<Value>,
    /// Resources that stand for discriminators and costly patterns: URI, schema, address of what they stand for.
    pub(super) conditions: Vec<(String, Value, Address)>,
    pub(super) depends_on_direction: bool,
}

pub(super) fn convert(
    documents: &Documents,
    version: Version,
    findings: &Findings,
    direction: Direction,
) -> Converted {
    let mut trees: Vec<Value> = documents.all.iter().map(|d| d.value.clone()).collect();
    let mut conversion = Conversion {
        documents,
        version,
        findings,
        direction,
        depends_on_direction: false,
        conditions: Vec::new(),
    };
    for root in &findings.roots {
        let (Some(original), Some(copy)) = (
            documents.get(root),
            trees
                .get_mut(root.document)
                .and_then(|tree| tree.pointer_mut(&root.pointer)),
        ) else {
            continue;
        };
        conversion.schema(copy, original, root, false, &[]);
    }
    Converted {
        trees,
        conditions: conversion.conditions,
        depends_on_direction: conversion.depends_on_direction,
    }
}

struct Conversion<'d> {
    documents: &'d Documents,
    version: Version,
    findings: &'d Findings,
    direction: Direction,
    depends_on_direction: bool,
    conditions: Vec<(String, Value, Address)>,
}

impl<'d> Conversion<'d> {
    /// Converts one schema. `embedded` = it belongs to a resource with its own `$id`; `outer` = the schemas whose
    /// `allOf` it belongs to, outermost first.
    fn schema(
        &mut self,
        copy: &mut Value,
        original: &'d Value,
        at: &Address,
        embedded: bool,
        outer: &[&'d Value],
    ) {
        let (Value::Object(map), Value::Object(source)) = (copy, original) else {
            return;
        };
        for name in DROPPED {
            map.remove(name);
        }
        let document = at.document;
        let embedded = embedded || (self.version == Version::V31 && source.contains_key("$id"));
        match self.version {
            Version::V30 => {
                if map.contains_key("$ref") {
                    // Its siblings have no meaning, except that other references may lead to them.
                    self.reference(map, document);
                    return;
                }
                // Draft 4 would read these as identifiers; in OpenAPI 3.0 they mean nothing. A further document may be
                // plain JSON Schema, where they do.
                if document == 0 {
                    for name in ["id", "$schema", "$id"] {
                        map.remove(name);
                    }
                }
                nullable(map);
                self.discriminator(map, source, at);
            }
            Version::V31 => {
                if let Some(Value::String(dialect)) = map.get("$schema")
                    && dialect.contains("spec.openapis.org")
                {
                    map.remove("$schema");
                }
            }
        }
        if !embedded {
            self.reference(map, document);
        }
        format(map);
        self.pattern(map, at);
        self.required(map, source, document, outer);
        let mut around: Vec<&'d Value> = outer.to_vec();
        around.push(original);
        for (name, member) in map.iter_mut() {
            let Some(below) = source.get(name) else {
                continue;
            };
            let keyword = KEYWORDS.iter().find(|(known, _, only_31)| {
                known == name && (!only_31 || self.version == Version::V31)
            });
            match keyword.map(|(_, keyword, _)| keyword) {
                Some(Keyword::Schema | Keyword::SchemaOrBool) => {
                    self.schema(member, below, &at.member(name), embedded, &[]);
                }
                Some(Keyword::Schemas) => {
                    let outer: &[&Value] = if name == "allOf" { &around } else { &[] };
                    if let (Value::Array(items), Value::Array(originals)) = (member, below) {
                        let here = at.member(name);
                        for (index, (item, original)) in items.iter_mut().zip(originals).enumerate()
                        {
                            self.schema(item, original, &here.item(index), embedded, outer);
                        }
                    }
                }
                Some(Keyword::SchemaMap | Keyword::PatternMap) => {
                    if let (Value::Object(members), Value::Object(originals)) = (member, below) {
                        let here = at.member(name);
                        for (key, schema) in members.iter_mut() {
                            if let Some(original) = originals.get(key) {
                                self.schema(schema, original, &here.member(key), embedded, &[]);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Replaces alternatives by what their discriminator selects, or adds what it asks for.
    fn discriminator(
        &mut self,
        map: &mut Map<String, Value>,
        source: &Map<String, Value>,
        at: &Address,
    ) {
        // A schema that was reached twice is converted already.
        if map.remove("discriminator").is_none() {
            return;
        }
        let Some(condition) = condition(self.documents, source, at) else {
            return;
        };
        if condition.replaces {
            map.remove("oneOf");
            map.remove("anyOf");
        }
        let uri = format!("gatewatch:/discriminator/{}", self.conditions.len());
        let parts = map
            .entry("allOf")
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(parts) = parts {
            parts.push(json!({ "$ref": uri }));
        }
        self.conditions
            .push((uri, condition.schema, at.member("discriminator")));
    }

    /// Puts the charge in front of a pattern that may read its text many times over.
    fn pattern(&mut self, map: &mut Map<String, Value>, at: &Address) {
        let costly = map
            .get("pattern")
            .and_then(Value::as_str)
            .is_some_and(|pattern| self.findings.backtracking.contains(pattern));
        if !costly {
            return;
        }
        let uri = format!("gatewatch:/pattern/{}", self.conditions.len());
        let pattern = map.remove("pattern");
        let parts = map
            .entry("allOf")
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(parts) = parts {
            parts.push(json!({ "$ref": uri }));
        }
        let schema = json!({"if": {COSTLY: true}, "then": {"pattern": pattern}});
        self.conditions.push((uri, schema, at.member("pattern")));
    }

    /// Writes references to other documents and to anchors as URIs that the validators know.
    fn reference(&self, map: &mut Map<String, Value>, document: usize) {
        for name in ["$ref", "$dynamicRef"] {
            let Some(Value::String(reference)) = map.get(name) else {
                continue;
            };
            let (uri, fragment) = reference.split_once('#').unwrap_or((reference, ""));
            let target = if uri.is_empty() && self.documents.is_schema(document) {
                None
            } else if uri.is_empty() && !fragment.is_empty() && !fragment.starts_with('/') {
                self.findings
                    .anchors
                    .get(&(document, fragment.to_owned()))
                    .map(|pointer| Address {
                        document,
                        pointer: pointer.clone(),
                    })
            } else if uri.is_empty() && self.findings.resources.is_empty() {
                None
            } else {
                self.documents.resolve(document, reference).ok()
            };
            if let Some(target) = target {
                // Within one resource a dynamic reference means the same as a static one.
                let uri = self.findings.uri(self.documents, &target);
                map.remove(name);
                map.insert("$ref".into(), Value::String(uri));
            }
        }
    }

    /// A property that the other side owns is not required here (OpenAPI 3.0.4 section 4.7.24.2).
    fn required(
        &mut self,
        map: &mut Map<String, Value>,
        source: &'d Map<String, Value>,
        document: usize,
        outer: &[&'d Value],
    ) {
        let Some(Value::Array(names)) = map.get_mut("required") else {
            return;
        };
        let owned = |name: &str, flag: &str| {
            let own = self.flagged(source, name, flag, document);
            own || outer.iter().any(|schema| {
                schema
                    .as_object()
                    .is_some_and(|around| self.flagged(around, name, flag, document))
            })
        };
        let (mine, other) = match self.direction {
            Direction::Request => ("readOnly", "writeOnly"),
            Direction::Response => ("writeOnly", "readOnly"),
        };
        let mut matters = false;
        names.retain(|name| {
            let name = name.as_str().unwrap_or_default();
            let drop = owned(name, mine);
            matters |= drop || owned(name, other);
            !drop
        });
        // Draft 4 asks for at least one name.
        if names.is_empty() {
            map.remove("required");
        }
        self.depends_on_direction |= matters;
    }

    /// Whether the property `name` of a schema carries a flag, looked up through `allOf` and references.
    fn flagged(
        &self,
        schema: &Map<String, Value>,
        name: &str,
        flag: &str,
        document: usize,
    ) -> bool {
        let (mut seen, mut waiting) = (HashSet::new(), vec![(document, schema)]);
        while let Some((document, schema)) = waiting.pop() {
            // Schemas may mention each other in circles, and the same one many times.
            if !seen.insert(std::ptr::from_ref(schema)) {
                continue;
            }
            let property = schema.get("properties").and_then(|p| p.get(name));
            if property.is_some_and(|property| self.has_flag(property, flag, document)) {
                return true;
            }
            let parts = schema.get("allOf").and_then(Value::as_array);
            for part in parts.into_iter().flatten() {
                let (document, part) = self.target(part, document);
                waiting.extend(part.as_object().map(|part| (document, part)));
            }
        }
        false
    }

    fn has_flag(&self, schema: &Value, flag: &str, document: usize) -> bool {
        let (mut seen, mut waiting) = (HashSet::new(), vec![(document, schema)]);
        while let Some((document, schema)) = waiting.pop() {
            if !seen.insert(std::ptr::from_ref(schema)) {
                continue;
            }
            if schema.get("$ref").is_none() || self.version == Version::V31 {
                if schema.get(flag) == Some(&Value::Bool(true)) {
                    return true;
                }
                let parts = schema.get("allOf").and_then(Value::as_array);
                waiting.extend(parts.into_iter().flatten().map(|part| (document, part)));
            }
            waiting.push(self.target(schema, document));
        }
        false
    }

    /// What a reference means; the schema itself when it is none.
    fn target<'s>(&'s self, schema: &'s Value, document: usize) -> (usize, &'s Value) {
        let Some(Value::String(reference)) = schema.get("$ref") else {
            return (document, schema);
        };
        match self.documents.resolve(document, reference) {
            Ok(address) => match self.documents.get(&address) {
                Some(target) => (address.document, target),
                None => (document, schema),
            },
            Err(_) => (document, schema),
        }
    }
}

/// `nullable: true` adds the type null; without `type` it has no effect, and `enum` decides for itself (OpenAPI 3.0.4
/// section 4.7.24.2.1).
fn nullable(map: &mut Map<String, Value>) {
    if map.remove("nullable") != Some(Value::Bool(true)) {
        return;
    }
    if let Some(Value::String(name)) = map.get("type") {
        let types = vec![Value::String(name.clone()), Value::String("null".into())];
        map.insert("type".into(), Value::Array(types));
    }
}

fn format(map: &mut Map<String, Value>) {
    if let Some(Value::String(format)) = map.get("format")
        && FORMATS.contains(&format.as_str())
    {
        let format = format.clone();
        map.insert(FORMAT.into(), Value::String(format));
    }
}
