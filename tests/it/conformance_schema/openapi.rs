//! OpenAPI: requests and responses against documents, and documents that must or must not load.

use std::borrow::Cow;
use std::collections::BTreeMap;

use gatewatch::model::{Location, Response, SchemaOutcome, SchemaVerdict};
use serde_json::Value;

use super::{Message, corpora, fields, files, load, settle, verdict};

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn pairs(value: &Value) -> Vec<(&str, &str)> {
    let list = value.get("headers").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|pair| Some((pair.get(0)?.as_str()?, pair.get(1)?.as_str()?)))
        .collect()
}

/// Whether the verdict is what the case expects.
fn as_expected(case: &Value, verdict: &SchemaVerdict) -> bool {
    let scope = match text(case, "scope") {
        "path" => Some(Location::Path),
        "query" => Some(Location::Query),
        "header" => Some(Location::Header),
        "cookie" => Some(Location::Cookie),
        "security" => Some(Location::Security),
        "request_body" => Some(Location::Body),
        _ => None,
    };
    let flagged = |outcome| {
        matches!(
            outcome,
            SchemaOutcome::Violates | SchemaOutcome::NoOperation
        )
    };
    if text(case, "expected") == "valid" {
        let no_operation = verdict.request == SchemaOutcome::NoOperation;
        return !no_operation
            && !verdict
                .violations
                .iter()
                .any(|violation| scope.is_none_or(|scope| scope == violation.location));
    }
    flagged(verdict.request) || flagged(verdict.response)
}

/// Host of the first server, when it is absolute.
fn server_host(document: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(document).ok()?;
    let url = document.pointer("/servers/0/url")?.as_str()?;
    let rest = url.split_once("://")?.1;
    Some(rest.split(['/', ':']).next()?.to_owned())
}

#[test]
fn request_and_response_cases() {
    let Some(root) = corpora("openapi") else {
        return;
    };
    let cases = std::fs::read_to_string(root.join("cases.jsonl")).unwrap();
    let mut total: BTreeMap<&str, usize> = BTreeMap::new();
    let mut failed: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let plain = case["policy"].as_array().is_none_or(Vec::is_empty);
        let suite = match (text(&case, "tier"), plain) {
            ("A", true) => "cases-a",
            ("A", false) => "cases-a-policy",
            ("B", _) => "cases-b",
            _ => "cases-c",
        };
        *total.entry(suite).or_default() += 1;
        let failed = failed.entry(suite).or_default();
        let request = &case["request"];
        let url = text(request, "url");
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let (host, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let target = target.split('#').next().unwrap_or_default();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let document = std::fs::read(root.join(text(&case, "spec"))).unwrap();
        // The suite's own subject ignores hosts, so the request goes to the host that the document names.
        let named = server_host(&document);
        let host = named.as_deref().unwrap_or(host);
        let host = host.split(':').next().unwrap_or_default();
        let policy = match load(&document, "spec.json", host, &BTreeMap::new(), true) {
            Ok(policy) => policy,
            Err(problems) => {
                let first = problems.0.first().map(ToString::to_string);
                failed.insert(text(&case, "id").into(), first.unwrap_or_default());
                continue;
            }
        };
        let message = Message {
            method: text(request, "method"),
            host,
            path,
            query,
            headers: pairs(request),
            body: text(request, "body").as_bytes(),
        };
        let answer = &case["response"];
        let response = answer.is_object().then(|| Response {
            status: answer["status"]
                .as_u64()
                .and_then(|status| u16::try_from(status).ok())
                .unwrap_or(200),
            headers: fields(&pairs(answer)),
            body: Some(Cow::Borrowed(text(answer, "body").as_bytes())),
            body_bytes: None,
            duration_ms: None,
        });
        let verdict = verdict(&policy, &message, response);
        if !as_expected(&case, &verdict) {
            failed.insert(
                text(&case, "id").into(),
                format!(
                    "{} expected {} in {}, got {:?} {:?} {:?}",
                    text(&case, "origin").rsplit('#').next().unwrap_or_default(),
                    text(&case, "expected"),
                    text(&case, "scope"),
                    verdict.request,
                    verdict.response,
                    verdict.violations
                ),
            );
        }
    }
    let empty = BTreeMap::new();
    for (suite, total) in total {
        let failed = failed.get(suite).unwrap_or(&empty);
        if suite == "cases-a" {
            settle(suite, total, failed);
        } else {
            // Opinions differ, the document is refused elsewhere too, or a policy decides: listed, not judged.
            println!("{suite}: {} of {total} as expected", total - failed.len());
            for (id, why) in failed {
                println!("  {id}: {why}");
            }
        }
    }
}

#[test]
fn documents_of_the_specification() {
    let Some(root) = corpora("openapi/documents") else {
        return;
    };
    let mut total = 0;
    let mut failed = BTreeMap::new();
    for folder in [
        "oai-v3.1/pass",
        "oai-v3.1/fail",
        "oai-v3.2/pass",
        "oai-v3.2/fail",
    ] {
        for path in files(&root.join(folder), "yaml") {
            let name = path.file_name().unwrap().to_str().unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let loaded = load(&bytes, name, "suite.example", &BTreeMap::new(), true);
            if folder.starts_with("oai-v3.2") {
                // Must not crash; the version is refused.
                continue;
            }
            total += 1;
            let pass = folder.ends_with("pass");
            match loaded {
                Ok(_) if pass => {}
                Ok(_) => {
                    failed.insert(format!("{folder}/{name}"), "loaded".into());
                }
                Err(problems) => {
                    let placed = problems.0.iter().all(|p| p.place.starts_with(name));
                    if pass || !placed {
                        let first = problems.0.first().map(ToString::to_string);
                        failed.insert(format!("{folder}/{name}"), first.unwrap_or_default());
                    }
                }
            }
        }
    }
    settle("documents", total, &failed);
}
