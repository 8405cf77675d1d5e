//! Public suites for JSON Schema and OpenAPI, driven through the verdict of an exchange, never through a library alone.
//!
//! The suites are read from the folder named by `GATEWATCH_CORPORA`, or from `../shared/corpora` next to the project;
//! without one the tests say that they were skipped. What is known to differ stands in `conformance_schema.exceptions`
//! with its reason: a case listed there that succeeds fails the test as well.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    reason = "a suite that cannot be read ends its test"
)]

mod json_schema;
mod openapi;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use gatewatch::enrich::schema::judge;
use gatewatch::model::{
    Captured, Client, EventTime, Exchange, Headers, Method, Problems, Request, Response,
    SchemaOutcome, SchemaVerdict,
};
use gatewatch::policy::objects::{FileText, SchemaObject, ZoneObject};
use gatewatch::policy::{Policy, compile, path::normalise};
use serde_json::Value;

const EXCEPTIONS: &str = include_str!("conformance_schema.exceptions");

/// The folder of the suites.
fn corpora(folder: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("GATEWATCH_CORPORA") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora"),
    };
    let found = root.join(folder);
    if found.is_dir() {
        return Some(found);
    }
    eprintln!("skipped: no corpus at {}", found.display());
    None
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Compares what failed with what is known to fail.
fn settle(suite: &str, total: usize, failed: &BTreeMap<String, String>) {
    let known: BTreeSet<&str> = EXCEPTIONS
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .filter_map(|(id, _)| id.strip_prefix(suite)?.strip_prefix(": "))
        .collect();
    let rate = (total - failed.len()) as f64 * 100.0 / total.max(1) as f64;
    println!(
        "{suite}: {} of {total} as expected ({rate:.2} %)",
        total - failed.len()
    );
    let unknown: Vec<String> = failed
        .iter()
        .filter(|(id, _)| !known.contains(id.as_str()))
        .map(|(id, why)| format!("{id}: {why}"))
        .collect();
    let surprises: Vec<&&str> = known
        .iter()
        .filter(|id| !failed.contains_key(**id))
        .collect();
    assert!(
        unknown.is_empty() && surprises.is_empty(),
        "{suite}: failed without a known reason:\n{}\nlisted as exceptions, but fine:\n{surprises:#?}",
        unknown.join("\n")
    );
}

fn load(
    document: &[u8],
    name: &str,
    host: &str,
    referenced: &BTreeMap<String, FileText>,
    formats: bool,
) -> Result<Policy, Problems> {
    compile(&[ZoneObject {
        id: "suite".into(),
        hosts: vec![host.into()],
        schemas: vec![SchemaObject {
            name: "suite".into(),
            document: FileText {
                name: name.into(),
                bytes: document.to_vec(),
            },
            referenced: referenced.clone(),
            formats,
            ..SchemaObject::default()
        }],
        ..ZoneObject::default()
    }])
}

struct Message<'m> {
    method: &'m str,
    host: &'m str,
    path: &'m str,
    query: Option<&'m str>,
    headers: Vec<(&'m str, &'m str)>,
    body: &'m [u8],
}

fn fields<'m>(pairs: &[(&'m str, &'m str)]) -> Headers<'m> {
    Headers {
        fields: pairs
            .iter()
            .map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value)))
            .collect(),
        captured: Captured::All,
    }
}

fn verdict(
    policy: &Policy,
    message: &Message<'_>,
    response: Option<Response<'_>>,
) -> SchemaVerdict {
    let path = normalise(message.path);
    let exchange = Exchange {
        id: None,
        at: EventTime::from_seconds(1).unwrap(),
        zone: None,
        client: Client::default(),
        certificate: None,
        request: Request {
            method: message.method.into(),
            scheme: None,
            host: message.host.into(),
            path: message.path.into(),
            query: message.query.map(Cow::Borrowed),
            headers: fields(&message.headers),
            body: Some(Cow::Borrowed(message.body)),
            body_bytes: None,
        },
        response,
    };
    let operations = &policy.zones[0].operations;
    let matched = operations.find(Method::parse(message.method), message.host, &path);
    let mut verdict = SchemaVerdict {
        request: SchemaOutcome::NotEvaluated,
        response: SchemaOutcome::NotEvaluated,
        violations: Vec::new(),
    };
    judge(
        operations,
        matched,
        &exchange,
        message.host,
        &path,
        &mut verdict,
    );
    verdict
}
