//! Documents → contracts of operations.
//!
//! Enters: documents of which the form is known. Leaves: one contract per declared operation, or problems of meaning: a
//! path without its parameter, two templates that are one, a security scheme that is not declared.

mod members;
mod security;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::contract::{Body, Contract, Media, Parameter, Response, Status, Style};
use super::documents::{Address, Documents};
use super::media::{encodings, is_json, media_type, specificity};
use super::servers::{Site, sites};
use super::shape::{ValueShape, shape_of};
use super::validators::{Check, Compilers};
use super::walk::Findings;
use crate::model::{Direction, Location, Method, Problems};
use crate::policy::objects::SchemaObject;
use crate::policy::operations::Template;
use members::Graph;

/// Methods that a path item declares, by member name.
const METHODS: [(&str, Method); 8] = [
    ("get", Method::Get),
    ("put", Method::Put),
    ("post", Method::Post),
    ("delete", Method::Delete),
    ("options", Method::Options),
    ("head", Method::Head),
    ("patch", Method::Patch),
    ("trace", Method::Trace),
];

/// One operation with the places it lives at.
#[derive(Debug)]
pub struct Declared {
    /// Method.
    pub method: Method,
    /// Template without base path.
    pub template: Template,
    /// Hosts and base paths.
    pub sites: Vec<Site>,
    /// What it asks for.
    pub contract: Arc<Contract>,
    /// Place of the path for problems.
    pub place: String,
}

pub(super) struct Builder<'d> {
    documents: &'d Documents,
    /// Missing when the form has problems: then only further problems are looked for.
    compilers: Option<Compilers<'d>>,
    problems: &'d mut Problems,
    findings: &'d Findings,
    options: &'d SchemaObject,
    graph: Graph,
    checks: HashMap<(Address, Direction), Option<Arc<Check>>>,
    shapes: HashMap<Address, Arc<ValueShape>>,
}

/// A path item and what it refers to; members of the item itself win.
struct Layers<'v>(Vec<(Address, &'v Value)>);

impl<'v> Layers<'v> {
    fn get(&self, name: &str) -> Option<(Address, &'v Value)> {
        self.0
            .iter()
            .find_map(|(at, value)| Some((at.member(name), value.get(name)?)))
    }
}

impl<'d> Builder<'d> {
    pub(super) fn new(
        documents: &'d Documents,
        findings: &'d Findings,
        compilers: Option<Compilers<'d>>,
        options: &'d SchemaObject,
        problems: &'d mut Problems,
    ) -> Self {
        Self {
            documents,
            findings,
            compilers,
            problems,
            options,
            graph: Graph::default(),
            checks: HashMap::new(),
            shapes: HashMap::new(),
        }
    }

    /// Builds every operation; also tells the sites that the document itself names.
    pub(super) fn build(&mut self) -> (Vec<Declared>, Vec<Site>) {
        let root = Address {
            document: 0,
            pointer: String::new(),
        };
        let Some(document) = self.documents.get(&root) else {
            return (Vec::new(), Vec::new());
        };
        let default_sites = self.sites(document.get("servers"), &root.member("servers"));
        let mut declared = Vec::new();
        let mut canonical: HashMap<(Method, String), &str> = HashMap::new();
        let paths = root.member("paths");
        let items = document.get("paths").and_then(Value::as_object);
        for (path, item) in items.into_iter().flatten() {
            if !path.starts_with('/') {
                continue;
            }
            let at = paths.member(path);
            let template = match Template::parse(path) {
                Ok(template) => template,
                Err(why) => {
                    self.problems.hint(
                        self.documents.place(&at),
                        why,
                        "write parameters as `{name}`, each name once",
                    );
                    continue;
                }
            };
            let spelling = template.canonical();
            let layers = self.layers(&at, item);
            let item_sites = layers.get("servers").map_or_else(
                || default_sites.clone(),
                |(at, servers)| self.sites(Some(servers), &at),
            );
            for (name, method) in METHODS {
                let Some((at, operation)) = layers.get(name) else {
                    continue;
                };
                // Published descriptions spread the methods of one path over two spellings; only the same method twice
                // leaves open which one is meant.
                let tuple = (method, spelling.clone());
                if let Some(first) = canonical.get(&tuple) {
                    self.problems.hint(
                        self.documents.place(&at),
                        format!("this operation is the same as that of {first:?}"),
                        "names of parameters do not tell paths apart; merge the two",
                    );
                    continue;
                }
                canonical.insert(tuple, path);
                let sites = operation.get("servers").map_or_else(
                    || item_sites.clone(),
                    |servers| self.sites(Some(servers), &at.member("servers")),
                );
                let contract = self.operation(&template, &layers, operation, &at, document);
                declared.push(Declared {
                    method,
                    template: template.clone(),
                    sites,
                    contract: Arc::new(contract),
                    place: self.documents.place(&at),
                });
            }
        }
        self.finish_members();
        (declared, default_sites)
    }

    fn layers(&self, at: &Address, item: &'d Value) -> Layers<'d> {
        let mut layers = vec![(at.clone(), item)];
        if let Some(Value::String(reference)) = item.get("$ref")
            && let Ok(target) = self.documents.resolve(at.document, reference)
            && let Some(found) = self.documents.follow(target)
        {
            layers.push(found);
        }
        Layers(layers)
    }

    fn sites(&mut self, servers: Option<&Value>, at: &Address) -> Vec<Site> {
        let list = servers
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        match sites(list) {
            Ok(sites) => sites,
            Err(errors) => {
                for (number, why) in errors {
                    self.problems.hint(
                        self.documents.place(&at.item(number)),
                        why,
                        "a server is `https://host/base`, `/base`, or has `{name}` declared in `variables`",
                    );
                }
                Vec::new()
            }
        }
    }

    fn shown(&self, at: &Address) -> Arc<str> {
        self.documents.shown(at).into()
    }

    fn operation(
        &mut self,
        template: &Template,
        layers: &Layers<'d>,
        operation: &'d Value,
        at: &Address,
        document: &'d Value,
    ) -> Contract {
        let mut parameters: Vec<Parameter> = Vec::new();
        if let Some((list_at, list)) = layers.get("parameters") {
            self.parameters(list, &list_at, template, &mut parameters);
        }
        let mut own: Vec<Parameter> = Vec::new();
        if let Some(list) = operation.get("parameters") {
            self.parameters(list, &at.member("parameters"), template, &mut own);
        }
        parameters.retain(|inherited| !own.iter().any(|p| same(p, inherited)));
        parameters.append(&mut own);
        self.variables(template, &mut parameters, at);
        // Content-Type, Accept and Authorization are described elsewhere (OpenAPI 3.1.1 section 4.8.12.1).
        parameters.retain(|p| {
            p.location != Location::Header
                || !["accept", "content-type", "authorization"]
                    .iter()
                    .any(|name| p.name.eq_ignore_ascii_case(name))
        });
        parameters.sort_by_key(|p| p.location);
        let body = operation
            .get("requestBody")
            .and_then(|_| self.documents.follow(at.member("requestBody")))
            .and_then(|(at, body)| self.body(body, &at, Direction::Request));
        let mut responses = Vec::new();
        let declared = operation.get("responses").and_then(Value::as_object);
        for name in declared.into_iter().flatten().map(|(name, _)| name) {
            let Some(status) = status(name) else {
                continue;
            };
            let here = at.member("responses").member(name);
            if let Some((here, response)) = self.documents.follow(here) {
                responses.push(self.response(status, response, &here));
            }
        }
        responses.sort_by_key(|response| response.status);
        let (security_at, security) = match operation.get("security") {
            Some(own) => (at.member("security"), Some(own)),
            None => (
                Address {
                    document: 0,
                    pointer: "/security".into(),
                },
                document.get("security"),
            ),
        };
        Contract {
            parameters,
            body,
            responses,
            security: self.security(security, &security_at, document),
            undeclared_parameters: self.options.undeclared_parameters,
            undeclared_cookies: self.options.undeclared_cookies,
            pointer: self.shown(at),
        }
    }

    /// Ties path parameters to the variables of the template: by name, and what is left on both sides in order, since
    /// documents that call a variable by two names are common and clear.
    fn variables(&mut self, template: &Template, parameters: &mut Vec<Parameter>, at: &Address) {
        let mut unnamed: Vec<usize> = (0..template.names.len())
            .filter(|number| !parameters.iter().any(|p| p.variable == *number))
            .rev()
            .collect();
        parameters.retain_mut(|parameter| {
            if parameter.location != Location::Path || parameter.variable != usize::MAX {
                return true;
            }
            if let Some(number) = unnamed.pop() {
                parameter.variable = number;
                return true;
            }
            self.problems.hint(
                self.documents.place(at),
                format!("path parameter {:?} is not in the path", parameter.name),
                "check its spelling against the template",
            );
            false
        });
        for number in unnamed.into_iter().rev() {
            let name = template.names.get(number).map_or("", |name| name);
            self.problems.hint(
                self.documents.place(at),
                format!("path parameter {name:?} is not declared"),
                "add a parameter of this name with `in: path`",
            );
        }
    }

    fn parameters(
        &mut self,
        list: &'d Value,
        at: &Address,
        template: &Template,
        found: &mut Vec<Parameter>,
    ) {
        for index in 0..list.as_array().map_or(0, Vec::len) {
            let Some((here, value)) = self.documents.follow(at.item(index)) else {
                continue;
            };
            let Some(parameter) = self.parameter(value, &here, template) else {
                continue;
            };
            if found.iter().any(|p| same(p, &parameter)) {
                self.problems.add(
                    self.documents.place(&at.item(index)),
                    format!(
                        "{} parameter {:?} is declared twice",
                        parameter.location.as_str(),
                        parameter.name
                    ),
                );
                continue;
            }
            found.push(parameter);
        }
    }

    fn parameter(
        &mut self,
        value: &'d Value,
        at: &Address,
        template: &Template,
    ) -> Option<Parameter> {
        let name = value.get("name")?.as_str()?;
        let location = match value.get("in")?.as_str()? {
            "path" => Location::Path,
            "query" => Location::Query,
            "header" => Location::Header,
            "cookie" => Location::Cookie,
            _ => return None,
        };
        let variable = template.names.iter().position(|own| **own == *name);
        let mut parameter = self.serialized(value, at, name, location, Direction::Request);
        parameter.variable = variable.unwrap_or(usize::MAX);
        Some(parameter)
    }

    /// What parameters and headers have in common.
    fn serialized(
        &mut self,
        value: &'d Value,
        at: &Address,
        name: &str,
        location: Location,
        direction: Direction,
    ) -> Parameter {
        let flag = |member: &str| value.get(member) == Some(&Value::Bool(true));
        let mut style = match value.get("style").and_then(Value::as_str) {
            Some("simple") => Style::Simple,
            Some("label") => Style::Label,
            Some("matrix") => Style::Matrix,
            Some("form") => Style::Form,
            Some("spaceDelimited") => Style::SpaceDelimited,
            Some("pipeDelimited") => Style::PipeDelimited,
            Some("deepObject") => Style::DeepObject,
            _ if matches!(location, Location::Query | Location::Cookie) => Style::Form,
            _ => Style::Simple,
        };
        let explode = value
            .get("explode")
            .and_then(Value::as_bool)
            .unwrap_or(style == Style::Form);
        let mut schema_at = value.get("schema").map(|_| at.member("schema"));
        let content = value.get("content").and_then(Value::as_object);
        if let Some((media, object)) = content.and_then(|content| content.iter().next()) {
            style = if is_json(media) {
                Style::Json
            } else {
                Style::Raw
            };
            schema_at = object
                .get("schema")
                .map(|_| at.member("content").member(media).member("schema"));
        }
        Parameter {
            name: name.into(),
            location,
            variable: usize::MAX,
            required: flag("required") || location == Location::Path,
            allow_empty: flag("allowEmptyValue") && location == Location::Query,
            style,
            explode,
            shape: schema_at
                .as_ref()
                .map(|at| self.shape(at))
                .unwrap_or_default(),
            check: schema_at.and_then(|at| self.check(&at, direction)),
            pointer: self.shown(at),
        }
    }

    fn shape(&mut self, at: &Address) -> Arc<ValueShape> {
        let documents = self.documents;
        let at = end_of_chain(documents, at);
        let shape = self
            .shapes
            .entry(at.clone())
            .or_insert_with(|| Arc::new(shape_of(documents, &at)));
        Arc::clone(shape)
    }

    /// The compiled schema at an address; `None` when there is nothing to check or it has a problem.
    fn check(&mut self, at: &Address, direction: Direction) -> Option<Arc<Check>> {
        let compilers = self.compilers.as_mut()?;
        let direction = compilers.effective(direction);
        let at = end_of_chain(self.documents, at);
        if let Some(known) = self.checks.get(&(at.clone(), direction)) {
            return known.clone();
        }
        let trivial = match self.documents.get(&at) {
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Bool(accepts)) => *accepts,
            _ => true,
        };
        let compiled = if trivial {
            None
        } else {
            let shown = self.documents.shown(&at);
            let uri = self.findings.uri(self.documents, &at);
            match compilers.compile(&uri, shown.into(), direction) {
                Ok(check) => Some(Arc::new(check)),
                Err(why) => {
                    self.problems.add(
                        self.documents.place(&at),
                        format!("the schema cannot be compiled: {why}"),
                    );
                    None
                }
            }
        };
        self.checks.insert((at, direction), compiled.clone());
        compiled
    }

    fn body(&mut self, value: &'d Value, at: &Address, direction: Direction) -> Option<Body> {
        let content = value.get("content")?.as_object()?;
        let content_at = at.member("content");
        let mut media = Vec::new();
        for (name, object) in content {
            let here = content_at.member(name);
            let Some((kind, subtype, parameters)) = media_type(name) else {
                self.problems.hint(
                    self.documents.place(&here),
                    format!("{name:?} is not a media type"),
                    "a media type is `type/subtype`, with `*` for any",
                );
                continue;
            };
            let schema_at = object.get("schema").map(|_| here.member("schema"));
            media.push(Media {
                kind,
                subtype,
                parameters,
                shape: schema_at
                    .as_ref()
                    .map(|at| self.shape(at))
                    .unwrap_or_default(),
                members: schema_at
                    .as_ref()
                    .and_then(|at| self.members(at, direction)),
                check: schema_at.and_then(|at| self.check(&at, direction)),
                encoding: encodings(object),
                pointer: self.shown(&here),
            });
        }
        // The most specific first (OpenAPI 3.1.1 section 4.8.14.1); the names make the order total.
        media.sort_by(|a, b| specificity(a).cmp(&specificity(b)));
        Some(Body {
            required: value.get("required") == Some(&Value::Bool(true)),
            media,
            pointer: self.shown(at),
        })
    }

    fn response(&mut self, status: Status, value: &'d Value, at: &Address) -> Response {
        let mut headers = Vec::new();
        let declared = value.get("headers").and_then(Value::as_object);
        for (name, _) in declared.into_iter().flatten() {
            // Described by the content (OpenAPI 3.1.1 section 4.8.17.1).
            if name.eq_ignore_ascii_case("content-type") {
                continue;
            }
            if let Some((here, header)) = self.documents.follow(at.member("headers").member(name)) {
                headers.push(self.serialized(
                    header,
                    &here,
                    name,
                    Location::Header,
                    Direction::Response,
                ));
            }
        }
        Response {
            status,
            headers,
            body: self.body(value, at, Direction::Response),
        }
    }
}

/// Where a chain of bare references ends, so that equal schemas are compiled once.
fn end_of_chain(documents: &Documents, at: &Address) -> Address {
    let mut here = at.clone();
    for _ in 0..64 {
        let Some(Value::Object(map)) = documents.get(&here) else {
            return here;
        };
        let Some(Value::String(reference)) = map.get("$ref") else {
            return here;
        };
        if map.len() > 1 {
            return here;
        }
        match documents.resolve(here.document, reference) {
            Ok(target) => here = target,
            Err(_) => return here,
        }
    }
    at.clone()
}

fn same(a: &Parameter, b: &Parameter) -> bool {
    a.location == b.location
        && (a.name == b.name
            || (a.location == Location::Header && a.name.eq_ignore_ascii_case(&b.name)))
}

fn status(name: &str) -> Option<Status> {
    if name == "default" {
        return Some(Status::Default);
    }
    if let Some(hundreds) = name.strip_suffix("XX") {
        return hundreds.parse().ok().map(Status::Range);
    }
    name.parse().ok().map(Status::Code)
}
