//! The walk over a description along the tables of `grammar`: every problem of form, every reference, every schema.
//!
//! Enters: the documents. Leaves: problems with a place, and the addresses of schemas. What operations mean is built in
//! `build`, so a path without its parameter is found there; keywords of schemas are walked in `walk::schema`.

mod schema;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value};

use super::documents::{Address, Documents, has_scheme};
use super::grammar::{
    EXAMPLE, HEADER, Kind, OPENAPI, PARAMETER, PATH_ITEM, Rest, SECURITY_SCHEME, Shape, Version,
};
use super::validators::Patterns;
use crate::model::Problems;

/// Problems after which a document is not looked at further; a file that is something else entirely would fill screens.
const MAX_PROBLEMS: usize = 500;

/// What the walk found besides problems.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Schemas that do not stand inside another schema.
    pub(super) roots: BTreeSet<Address>,
    /// Anchors outside of embedded resources: (document, name) → pointer.
    pub(super) anchors: HashMap<(usize, String), String>,
    /// Patterns with look-around or back-references, whose cost is no multiple of the text's length.
    pub(super) backtracking: HashSet<String>,
    /// Whether names of members meet such a pattern.
    pub(super) costly_names: bool,
    /// References between schemas: where they stand and what they mean.
    pub(super) references: Vec<(Address, Address)>,
    /// Schemas that are resources of their own, by URI.
    pub(super) resources: BTreeMap<String, Resource>,
}

/// A schema with its own `$id`.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) address: Address,
    /// Whether it stands inside another one, whose index finds it.
    pub(super) nested: bool,
}

impl Findings {
    /// The URI under which the validators know a schema: its own where it has one.
    pub(super) fn uri(&self, documents: &Documents, address: &Address) -> String {
        self.resources
            .iter()
            .find(|(_, resource)| resource.address == *address)
            .map_or_else(|| documents.uri(address), |(uri, _)| uri.clone())
    }
}

pub(super) struct Walk<'d> {
    documents: &'d Documents,
    version: Version,
    problems: &'d mut Problems,
    patterns: &'d Patterns,
    findings: Findings,
    /// What was visited as which kind, so that references end.
    visited: HashSet<(&'static str, Address)>,
    queue: Vec<(Address, Shape)>,
    /// References that only an anchor or an embedded resource can satisfy.
    open: Vec<(Address, String)>,
    /// Count of problems when the walk began.
    before: usize,
}

/// Walks the uploaded document and everything it refers to.
pub(super) fn walk(
    documents: &Documents,
    version: Version,
    patterns: &Patterns,
    problems: &mut Problems,
) -> Findings {
    let before = problems.0.len();
    let mut walk = Walk {
        documents,
        version,
        problems,
        patterns,
        findings: Findings::default(),
        visited: HashSet::new(),
        queue: Vec::new(),
        open: Vec::new(),
        before,
    };
    let root = Address {
        document: 0,
        pointer: String::new(),
    };
    if let Some(value) = documents.get(&root) {
        walk.object(value, &root, &OPENAPI);
    }
    while let Some((address, shape)) = walk.queue.pop() {
        if let Some(value) = documents.get(&address) {
            if matches!(shape, Shape::Schema)
                && !walk.visited.contains(&("a schema", address.clone()))
            {
                walk.findings.roots.insert(address.clone());
            }
            walk.shape(value, &address, shape);
        }
    }
    walk.close();
    walk.findings
}

fn article(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl Walk<'_> {
    fn full(&self) -> bool {
        self.problems.0.len() >= self.before + MAX_PROBLEMS
    }

    fn problem(&mut self, at: &Address, message: impl Into<String>) {
        if !self.full() {
            self.problems.add(self.documents.place(at), message);
        }
    }

    fn hint(&mut self, at: &Address, message: impl Into<String>, hint: impl Into<String>) {
        if !self.full() {
            self.problems.hint(self.documents.place(at), message, hint);
        }
    }

    fn wants(&mut self, at: &Address, what: &str, value: &Value) {
        self.problem(at, format!("this must be {what}, not {}", article(value)));
    }

    fn shape(&mut self, value: &Value, at: &Address, shape: Shape) {
        match (shape, value) {
            (Shape::Any, _) | (Shape::Text, Value::String(_)) | (Shape::Bool, Value::Bool(_)) => {}
            (Shape::Text, Value::Number(_)) => self.hint(
                at,
                "this must be text, not a number",
                "put the value in quotes",
            ),
            (Shape::Bool, _) => self.wants(at, "true or false", value),
            (Shape::Word(words), Value::String(word)) => {
                if !words.contains(&word.as_str()) {
                    self.problem(at, format!("this must be one of {}", words.join(", ")));
                }
            }
            (Shape::Text | Shape::Word(_), _) => self.wants(at, "text", value),
            (Shape::RefOr(kind), Value::Object(map)) if map.contains_key("$ref") => {
                self.reference(map, at, Shape::RefOr(kind));
            }
            (Shape::Object(kind) | Shape::RefOr(kind), _) => self.object(value, at, kind),
            (Shape::List(each) | Shape::NonEmptyList(each), Value::Array(items)) => {
                if items.is_empty() && matches!(shape, Shape::NonEmptyList(_)) {
                    self.problem(at, "this list must not be empty");
                }
                for (index, item) in items.iter().enumerate() {
                    self.shape(item, &at.item(index), *each);
                }
            }
            (Shape::List(_) | Shape::NonEmptyList(_), _) => self.wants(at, "a list", value),
            (Shape::Map(shape), Value::Object(map)) => {
                for (name, member) in map {
                    self.shape(member, &at.member(name), *shape);
                }
            }
            (Shape::Components(shape), Value::Object(map)) => {
                for (name, member) in map {
                    if name.is_empty()
                        || !name
                            .bytes()
                            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
                    {
                        self.hint(
                            &at.member(name),
                            "a component name has letters, digits, `.`, `-` and `_` only",
                            "rename the component",
                        );
                    }
                    self.shape(member, &at.member(name), *shape);
                }
            }
            (Shape::Map(_) | Shape::Components(_), _) => self.wants(at, "an object", value),
            (Shape::Schema, _) => {
                if !self.visited.contains(&("a schema", at.clone())) {
                    self.findings.roots.insert(at.clone());
                    self.schema(value, at, None);
                }
            }
        }
    }

    fn object(&mut self, value: &Value, at: &Address, kind: &'static Kind) {
        let Value::Object(map) = value else {
            self.wants(at, "an object", value);
            return;
        };
        if self.full() || !self.visited.insert((kind.name, at.clone())) {
            return;
        }
        for (name, member) in map {
            let here = at.member(name);
            let field = kind.fields.iter().find(|field| field.name == name);
            match (field, kind.rest) {
                (Some(field), _) if field.only.is_none_or(|only| only == self.version) => {
                    self.shape(member, &here, field.shape);
                }
                _ if name.starts_with("x-") => {}
                (_, Rest::Paths(shape)) if name.starts_with('/') => {
                    self.shape(member, &here, shape);
                }
                (_, Rest::Paths(_)) => self.problem(&here, "a path template starts with a slash"),
                (_, Rest::Statuses(shape)) if is_status(name) => self.shape(member, &here, shape),
                (_, Rest::Statuses(_)) => self.hint(
                    &here,
                    "this is not a status",
                    "use a code such as 200, a range such as 2XX, or default",
                ),
                (_, Rest::Keys(shape)) => self.shape(member, &here, shape),
                (Some(_), _) => self.hint(
                    &here,
                    format!(
                        "{} has no member {name:?} in this version of OpenAPI",
                        kind.name
                    ),
                    "remove it, or change the version in `openapi`",
                ),
                (None, Rest::Extensions) => self.hint(
                    &here,
                    format!("{} has no member {name:?}", kind.name),
                    "check the spelling; extensions start with `x-`",
                ),
            }
        }
        for field in kind.fields {
            if field.required && !map.contains_key(field.name) {
                self.problem(
                    at,
                    format!("{} needs the member {:?}", kind.name, field.name),
                );
            }
        }
        self.rules(map, at, kind);
    }

    /// Rules that tie members of one object together.
    fn rules(&mut self, map: &Map<String, Value>, at: &Address, kind: &'static Kind) {
        let name = kind.name;
        if name == OPENAPI.name {
            let containers: &[&str] = match self.version {
                Version::V30 => &["paths"],
                Version::V31 => &["paths", "components", "webhooks"],
            };
            if !containers.iter().any(|member| map.contains_key(*member)) {
                self.problem(
                    at,
                    format!("the document needs {}", containers.join(" or ")),
                );
            }
        } else if name == PATH_ITEM.name {
            if let Some(reference) = map.get("$ref") {
                self.follow(reference, &at.member("$ref"), Shape::Object(&PATH_ITEM));
            }
        } else if name == PARAMETER.name {
            self.parameter(map, at);
        } else if name == HEADER.name {
            self.one_of_schema_and_content(map, at, "a header");
        } else if name == EXAMPLE.name {
            if map.contains_key("value") && map.contains_key("externalValue") {
                self.problem(at, "an example has either value or externalValue");
            }
        } else if name == SECURITY_SCHEME.name {
            let needs: &[&str] = match map.get("type").and_then(Value::as_str) {
                Some("apiKey") => &["name", "in"],
                Some("http") => &["scheme"],
                Some("oauth2") => &["flows"],
                Some("openIdConnect") => &["openIdConnectUrl"],
                Some("mutualTLS") if self.version == Version::V30 => {
                    self.problem(
                        at,
                        "security schemes of type mutualTLS came with OpenAPI 3.1",
                    );
                    &[]
                }
                _ => &[],
            };
            for member in needs {
                if !map.contains_key(*member) {
                    self.problem(
                        at,
                        format!("a security scheme of this type needs {member:?}"),
                    );
                }
            }
        }
    }

    fn parameter(&mut self, map: &Map<String, Value>, at: &Address) {
        self.one_of_schema_and_content(map, at, "a parameter");
        let location = map.get("in").and_then(Value::as_str).unwrap_or_default();
        // Path parameters are required by nature; documents that leave it unsaid are common and clear.
        if location == "path" && map.get("required") == Some(&Value::Bool(false)) {
            self.hint(
                at,
                "a path parameter is always required",
                "add `required: true`",
            );
        }
        let styles: &[&str] = match location {
            "path" => &["simple", "label", "matrix"],
            "query" => &["form", "spaceDelimited", "pipeDelimited", "deepObject"],
            "header" => &["simple"],
            _ => &["form"],
        };
        if let Some(style) = map.get("style").and_then(Value::as_str)
            && !location.is_empty()
            && !styles.contains(&style)
        {
            self.problem(
                &at.member("style"),
                format!(
                    "a {location} parameter has one of the styles {}",
                    styles.join(", ")
                ),
            );
        }
        if self.version == Version::V31
            && matches!(location, "path" | "header")
            && map.contains_key("allowReserved")
        {
            self.problem(
                &at.member("allowReserved"),
                "only query parameters have allowReserved",
            );
        }
    }

    fn one_of_schema_and_content(&mut self, map: &Map<String, Value>, at: &Address, what: &str) {
        match (map.contains_key("schema"), map.get("content")) {
            (true, Some(_)) => self.problem(at, format!("{what} has either schema or content")),
            (false, None) => self.problem(at, format!("{what} needs schema or content")),
            (false, Some(Value::Object(content))) if content.len() != 1 => {
                self.problem(
                    &at.member("content"),
                    format!("the content of {what} has exactly one media type"),
                );
            }
            _ => {}
        }
        if self.version == Version::V31
            && map.contains_key("example")
            && map.contains_key("examples")
        {
            self.problem(at, format!("{what} has either example or examples"));
        }
    }

    fn reference(&mut self, map: &Map<String, Value>, at: &Address, shape: Shape) {
        if let Some(reference) = map.get("$ref") {
            self.follow(reference, &at.member("$ref"), shape);
        }
    }

    fn follow(&mut self, reference: &Value, at: &Address, shape: Shape) {
        let Value::String(text) = reference else {
            self.wants(at, "text", reference);
            return;
        };
        match self.documents.resolve(at.document, text) {
            Ok(target) => {
                if self.documents.follow(target.clone()).is_none() {
                    self.problem(at, format!("reference {text:?} leads to no object"));
                } else {
                    self.queue.push((target, shape));
                }
            }
            // What no operation uses is not fetched either; `build` complains where one does.
            Err(_) if has_scheme(text) && at.pointer.starts_with("/components/") => {}
            Err(why) => self.unresolved(at, text, &why),
        }
    }

    fn unresolved(&mut self, at: &Address, reference: &str, why: &str) {
        let message = format!("reference {reference:?} cannot be resolved: {why}");
        if reference.starts_with('#') {
            self.hint(at, message, "check the pointer against the document");
        } else {
            self.hint(
                at,
                message,
                "references may name files in the folder of the schema, or URIs mapped by `refs`",
            );
        }
    }
}

fn is_status(name: &str) -> bool {
    match name.as_bytes() {
        b"default" | [b'1'..=b'5', b'X', b'X'] => true,
        [b'1'..=b'5', second, third] => second.is_ascii_digit() && third.is_ascii_digit(),
        _ => false,
    }
}
