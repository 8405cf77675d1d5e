//! The walk within one schema: keywords, their shapes, references and anchors.
//!
//! Enters: a Schema Object. Leaves: problems, and what it refers to. Schemas of another dialect are left to the compiler
//! of validators, which knows their keywords.

use serde_json::{Map, Value};

use super::super::documents::{Address, is_known_schema, resolve_key};
use super::super::grammar::{KEYWORDS, Keyword, Shape, Version};
use super::{Resource, Walk, article};

/// Bare references in a row.
const MAX_HOPS: usize = 64;

impl Walk<'_> {
    /// Walks one schema. `base` is the URI of the embedded resource that it belongs to, if it belongs to one.
    pub(super) fn schema(&mut self, value: &Value, at: &Address, base: Option<&str>) {
        if self.full() || !self.visited.insert(("a schema", at.clone())) {
            return;
        }
        let map = match value {
            Value::Object(map) => map,
            Value::Bool(_) if self.version == Version::V31 => return,
            _ => {
                self.wants(at, "a schema", value);
                return;
            }
        };
        let mut own = None;
        if self.version == Version::V31 {
            if let Some(Value::String(id)) = map.get("$id") {
                let from =
                    base.map_or_else(|| self.documents.base_uri(at.document), ToOwned::to_owned);
                let uri = resolve_key(&from, id.trim_end_matches('#'));
                let resource = Resource {
                    address: at.clone(),
                    nested: base.is_some() || self.documents.is_schema(at.document),
                };
                self.findings.resources.insert(uri.clone(), resource);
                own = Some(uri);
            } else if base.is_none() {
                for anchor in ["$anchor", "$dynamicAnchor"] {
                    if let Some(Value::String(name)) = map.get(anchor) {
                        self.findings
                            .anchors
                            .insert((at.document, name.clone()), at.pointer.clone());
                    }
                }
            }
            if let Some(Value::String(dialect)) = map.get("$schema")
                && !dialect.contains("2020-12")
                && !dialect.contains("spec.openapis.org")
            {
                // Another dialect has other keywords; its validator judges the schema when it is compiled.
                return;
            }
        }
        let base = own.as_deref().or(base);
        if self.version == Version::V30 && map.contains_key("$ref") {
            // Siblings of a reference are ignored (OpenAPI 3.0.4 section 4.7.23.1).
            self.schema_reference(map, at, base);
            return;
        }
        for (name, member) in map {
            let keyword = KEYWORDS.iter().find(|(known, _, only_31)| {
                known == name && (!only_31 || self.version == Version::V31)
            });
            if let Some((_, keyword, _)) = keyword {
                self.keyword(map, name, member, *keyword, at, base);
            }
        }
    }

    fn keyword(
        &mut self,
        map: &Map<String, Value>,
        name: &str,
        member: &Value,
        keyword: Keyword,
        at: &Address,
        base: Option<&str>,
    ) {
        let here = at.member(name);
        let v31 = self.version == Version::V31;
        match (keyword, member) {
            (Keyword::Reference, _) => self.schema_reference(map, at, base),
            (Keyword::SchemaOrBool | Keyword::Bool, Value::Bool(_))
            | (Keyword::Number, Value::Number(_))
            | (Keyword::Text, Value::String(_))
            | (Keyword::List, Value::Array(_)) => {}
            (Keyword::Schema | Keyword::SchemaOrBool, _) => self.schema(member, &here, base),
            (Keyword::Schemas, Value::Array(items)) => {
                if items.is_empty() {
                    self.problem(&here, "this list of schemas must not be empty");
                }
                for (index, item) in items.iter().enumerate() {
                    self.schema(item, &here.item(index), base);
                }
            }
            (Keyword::SchemaMap | Keyword::PatternMap, Value::Object(members)) => {
                for (key, schema) in members {
                    let there = here.member(key);
                    if keyword == Keyword::PatternMap {
                        if !self.patterns.accepts(key) {
                            self.pattern_problem(&there);
                        } else if !self.patterns.is_linear(key) {
                            self.findings.costly_names = true;
                        }
                    }
                    self.schema(schema, &there, base);
                }
            }
            (Keyword::NamesMap, Value::Object(members)) => {
                for (key, names) in members {
                    self.names(names, &here.member(key));
                }
            }
            (Keyword::Names, _) => self.names(member, &here),
            (Keyword::Positive, Value::Number(number)) => {
                if number.as_f64().is_none_or(|value| value <= 0.0) {
                    self.problem(&here, "this must be greater than zero");
                }
            }
            (Keyword::Exclusive, Value::Bool(_)) if !v31 => {}
            (Keyword::Exclusive, Value::Number(_)) if v31 => {}
            (Keyword::Exclusive, _) if v31 => self.hint(
                &here,
                format!("this must be a number, not {}", article(member)),
                "OpenAPI 3.1 states the limit itself: `exclusiveMinimum: 0`",
            ),
            (Keyword::Exclusive, _) => self.hint(
                &here,
                format!("this must be true or false, not {}", article(member)),
                "OpenAPI 3.0 states the limit in minimum or maximum",
            ),
            (Keyword::Count, Value::Number(number)) => {
                let whole = number
                    .as_f64()
                    .is_some_and(|value| value >= 0.0 && value.fract() == 0.0);
                if !whole {
                    self.problem(&here, "this must be a whole number of at least zero");
                }
            }
            (Keyword::Pattern, Value::String(pattern)) => {
                if !self.patterns.accepts(pattern) {
                    self.pattern_problem(&here);
                } else if !self.patterns.is_linear(pattern) {
                    self.findings.backtracking.insert(pattern.clone());
                }
            }
            (Keyword::Type, _) => self.types(member, &here),
            (Keyword::Discriminator, Value::Object(members)) => {
                if !members.get("propertyName").is_some_and(Value::is_string) {
                    self.problem(&here, "a discriminator needs the member \"propertyName\"");
                }
                if let Some(mapping) = members.get("mapping") {
                    self.shape(mapping, &here.member("mapping"), Shape::Map(&Shape::Text));
                }
            }
            (Keyword::Number | Keyword::Positive | Keyword::Count, _) => {
                self.wants(&here, "a number", member);
            }
            (Keyword::Bool, _) => self.wants(&here, "true or false", member),
            (Keyword::Text | Keyword::Pattern, _) => self.wants(&here, "text", member),
            (Keyword::List | Keyword::Schemas, _) => self.wants(&here, "a list", member),
            (
                Keyword::SchemaMap
                | Keyword::PatternMap
                | Keyword::NamesMap
                | Keyword::Discriminator,
                _,
            ) => self.wants(&here, "an object", member),
        }
    }

    fn pattern_problem(&mut self, at: &Address) {
        self.hint(
            at,
            "this is not a regular expression that can be compiled",
            "patterns follow ECMA-262; check brackets, escapes and repetitions",
        );
    }

    fn names(&mut self, value: &Value, at: &Address) {
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if !item.is_string() {
                        self.wants(&at.item(index), "text", item);
                    }
                }
            }
            _ => self.wants(at, "a list of names", value),
        }
    }

    fn types(&mut self, value: &Value, at: &Address) {
        const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
        let v31 = self.version == Version::V31;
        let known = |name: &str| TYPES.contains(&name) || (v31 && name == "null");
        match value {
            Value::String(name) if known(name) => {}
            Value::String(name) if name == "null" => self.hint(
                at,
                "OpenAPI 3.0 has no type \"null\"",
                "use `nullable: true`",
            ),
            Value::Array(names) if v31 => {
                if names.is_empty() {
                    self.problem(at, "this list of types must not be empty");
                }
                for (index, name) in names.iter().enumerate() {
                    if !name.as_str().is_some_and(known) {
                        self.problem(&at.item(index), "this is not a type of JSON Schema");
                    }
                }
            }
            Value::Array(_) => self.hint(
                at,
                "OpenAPI 3.0 allows one type only",
                "use `nullable: true` or `oneOf`, or OpenAPI 3.1",
            ),
            _ => self.problem(at, "this is not a type of JSON Schema"),
        }
    }

    fn schema_reference(&mut self, map: &Map<String, Value>, at: &Address, base: Option<&str>) {
        let here = at.member("$ref");
        let reference = match map.get("$ref") {
            Some(Value::String(reference)) => reference,
            Some(other) => {
                self.wants(&here, "text", other);
                return;
            }
            None => return,
        };
        if let Some(base) = base {
            // Relative to an embedded resource: only its URI can tell what is meant.
            let (uri, _) = reference.split_once('#').unwrap_or((reference, ""));
            let key = resolve_key(base, uri);
            self.open.push((here, key));
            return;
        }
        match self.documents.resolve(at.document, reference) {
            Ok(target) => {
                if self.circular(&target) {
                    self.problem(
                        &here,
                        format!("reference {reference:?} leads back to itself"),
                    );
                } else {
                    self.findings.references.push((here, target.clone()));
                    self.queue.push((target, Shape::Schema));
                }
            }
            Err(why) => {
                // Further documents may be plain JSON Schema, whose identifiers the compiler of validators knows.
                let anchor = reference.starts_with('#') && !reference.starts_with("#/");
                if is_known_schema(reference) || (anchor && at.document > 0) {
                    return;
                }
                if self.version == Version::V31 {
                    self.open.push((here, reference.clone()));
                } else {
                    self.unresolved(&here, reference, &why);
                }
            }
        }
    }

    /// Whether only references follow one another from here, without end.
    fn circular(&self, from: &Address) -> bool {
        let mut at = from.clone();
        for _ in 0..MAX_HOPS {
            let Some(Value::Object(map)) = self.documents.get(&at) else {
                return false;
            };
            if self.version == Version::V31 && map.len() > 1 {
                return false;
            }
            let Some(Value::String(reference)) = map.get("$ref") else {
                return false;
            };
            match self.documents.resolve(at.document, reference) {
                Ok(target) => at = target,
                Err(_) => return false,
            }
        }
        true
    }

    /// Judges the references that anchors or embedded resources may satisfy, now that all of them are known.
    pub(super) fn close(&mut self) {
        for (at, reference) in std::mem::take(&mut self.open) {
            let (uri, fragment) = reference.split_once('#').unwrap_or((&reference, ""));
            let known = if uri.is_empty() {
                self.findings
                    .anchors
                    .contains_key(&(at.document, fragment.to_owned()))
            } else {
                let key = resolve_key(&self.documents.base_uri(at.document), uri);
                self.findings.resources.contains_key(&key)
                    || self.findings.resources.contains_key(uri)
                    || is_known_schema(uri)
                    || self.documents.resolve(at.document, uri).is_ok()
            };
            if !known {
                self.unresolved(&at, &reference, "nothing is called so");
            }
        }
    }
}
