//! Golden files of the log formats: lines that real gateways wrote with the configurations of `pipelines/gateways`, and
//! what is decoded from them. `UPDATE_GOLDEN=1` writes the expectations anew; `tests/services/gateways/record` the lines.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gatewatch::decode::{ADAPTERS, Limits, Record};
use gatewatch::model::{Captured, ClientCertificate, Headers};
use serde_json::{Map, Value, json};

use crate::command::succeeds;

fn folder(format: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/adapter_{format}"))
}

fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

fn headers(headers: &Headers<'_>) -> Value {
    let captured = match &headers.captured {
        Captured::All => json!("all"),
        Captured::Nothing => json!("nothing"),
        Captured::Names(names) => json!(names),
        Captured::Stated(names, stated) => json!([names, stated.as_ref()]),
    };
    json!({ "captured": captured, "fields": headers.fields })
}

fn certificate(certificate: &ClientCertificate<'_>) -> Value {
    json!({
        "presented": certificate.presented,
        "verified": certificate.verified,
        "revoked": certificate.revoked,
        "reason": certificate.reason.map(gatewatch::model::MtlsReason::as_str),
        "fingerprint_sha256": certificate.fingerprint_sha256,
        "subject_dn": certificate.subject_dn,
        "issuer_dn": certificate.issuer_dn,
        "serial": certificate.serial,
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
        "pem": certificate.pem,
    })
}

/// Everything that is known, and nothing that is not.
fn known(value: Value) -> Value {
    let Value::Object(members) = value else {
        return value;
    };
    let members = members.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(
        members
            .map(|(name, value)| (name, known(value)))
            .collect::<Map<_, _>>(),
    )
}

fn exchange(record: &Record<'_>) -> Value {
    let exchange = &record.exchange;
    let request = &exchange.request;
    known(json!({
        "kind": format!("{:?}", record.kind).to_lowercase(),
        "id": exchange.id,
        "time": exchange.at.to_string(),
        "zone": exchange.zone,
        "client": {
            "ip": exchange.client.ip,
            "port": exchange.client.port,
            "asn": exchange.client.asn,
            "country": exchange.client.country,
        },
        "certificate": exchange.certificate.as_ref().map(certificate),
        "request": {
            "method": request.method,
            "scheme": request.scheme,
            "host": request.host,
            "path": request.path,
            "query": request.query,
            "headers": headers(&request.headers),
            "body": request.body.as_deref().map(text),
            "body_bytes": request.body_bytes,
        },
        "response": exchange.response.as_ref().map(|response| json!({
            "status": response.status,
            "headers": headers(&response.headers),
            "body": response.body.as_deref().map(text),
            "body_bytes": response.body_bytes,
            "duration_ms": response.duration_ms,
        })),
    }))
}

#[test]
fn every_format_decodes_its_golden_lines() {
    for (format, decode) in ADAPTERS {
        let folder = folder(format);
        let input = fs::read(folder.join("input.log"))
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut found = String::new();
        let lines = input
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        for line in lines {
            let decoded = match decode(line, Limits::default()) {
                Ok(record) => exchange(&record),
                Err(reason) => json!({ "rejected": reason.as_str() }),
            };
            let pretty = serde_json::to_string_pretty(&decoded).unwrap();
            writeln!(found, "{pretty}").unwrap();
        }
        let expected = folder.join("expected.json");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&expected, &found).unwrap();
        }
        let expected = fs::read_to_string(expected).unwrap_or_default();
        for (index, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
            assert_eq!(found, expected, "{format}: expected.json:{}", index + 1);
        }
        assert_eq!(found.len(), expected.len(), "{format}: expected.json");
    }
}

#[test]
fn every_example_of_a_gateway_is_a_valid_pipeline() {
    for gateway in ["nginx", "haproxy", "envoy", "cloudflare"] {
        let path = format!(
            "{}/pipelines/gateways/{gateway}/pipeline.toml",
            env!("CARGO_MANIFEST_DIR")
        );
        succeeds(&["check", &path]);
    }
}
