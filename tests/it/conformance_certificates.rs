//! Client certificates against the chains of x509-limbo, and revocation lists that must be read or refused.
//!
//! A case is judged as the product would: its trusted certificates and lists as configuration, the intermediates sent
//! along with the certificate. A configuration that is refused accepts nobody.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot read its cases fails"
)]

use std::borrow::Cow;
use std::io::Read;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use gatewatch::enrich::mtls::{CertificateCache, judge};
use gatewatch::model::{
    Client, ClientCertificate, EventTime, Exchange, Headers, MtlsOutcome, Request,
};
use gatewatch::policy::objects::{FileText, MtlsObject, ZoneObject};
use gatewatch::policy::{self, Policy};
use serde_json::Value;

use crate::corpora::{Exceptions, file};

/// The time of a case that names none: 2026-11-20T08:00:00Z.
const NOW: i64 = 1_795_161_600_000;

const HOST: &str = "api.example";

fn texts(case: &Value, member: &str) -> Vec<FileText> {
    case[member]
        .as_array()
        .into_iter()
        .flatten()
        .map(|text| FileText {
            name: member.to_owned(),
            bytes: text.as_str().unwrap().as_bytes().to_vec(),
        })
        .collect()
}

fn compile(mtls: MtlsObject) -> Result<Policy, String> {
    policy::compile(&[ZoneObject {
        id: "z".to_owned(),
        hosts: vec![HOST.to_owned()],
        mtls: vec![MtlsObject {
            hosts: vec![HOST.to_owned()],
            ..mtls
        }],
        ..ZoneObject::default()
    }])
    .map_err(|problems| {
        let problems: Vec<_> = problems.0.iter().map(|p| p.message.clone()).collect();
        problems.join("; ")
    })
}

fn exchange(pem: &str, at: EventTime) -> Exchange<'_> {
    Exchange {
        id: None,
        at,
        zone: None,
        client: Client::default(),
        certificate: Some(ClientCertificate {
            pem: Some(Cow::Borrowed(pem)),
            ..ClientCertificate::default()
        }),
        request: Request {
            method: Cow::Borrowed("GET"),
            scheme: None,
            host: Cow::Borrowed(HOST),
            path: Cow::Borrowed("/"),
            query: None,
            headers: Headers::default(),
            body: None,
            body_bytes: None,
        },
        response: None,
    }
}

/// What the product says: the outcome with its reason, or why the configuration was refused.
fn judged(case: &Value, sent: bool) -> Result<(MtlsOutcome, String), String> {
    let intermediates = texts(case, "untrusted_intermediates");
    let mut pem = case["peer_certificate"].as_str().unwrap().to_owned();
    let mut mtls = MtlsObject {
        ca: texts(case, "trusted_certs"),
        crl: texts(case, "crls"),
        max_intermediates: case["max_chain_depth"]
            .as_u64()
            .map(|depth| usize::try_from(depth).unwrap()),
        ..MtlsObject::default()
    };
    if sent {
        for intermediate in &intermediates {
            pem.push_str(std::str::from_utf8(&intermediate.bytes).unwrap());
        }
    } else {
        mtls.intermediates = intermediates;
    }
    let policy = compile(mtls)?;
    let at = case["validation_time"]
        .as_str()
        .map_or(EventTime::from_millis(NOW), EventTime::parse)
        .unwrap();
    let verdict = judge(
        &policy.zones[0],
        &exchange(&pem, at),
        HOST,
        &CertificateCache::new(4),
    );
    let reason = verdict.reason.map_or("", |reason| reason.as_str());
    Ok((verdict.outcome, reason.to_owned()))
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how long hostile chains take is measured"
)]
fn chains() {
    let Some(path) = file("x509/client-chain-cases.jsonl.gz") else {
        return;
    };
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    let mut exceptions = Exceptions::read(include_str!("conformance_certificates.exceptions"));
    let (mut agreed, mut right, mut slowest) = (0, 0, (Duration::ZERO, String::new()));
    for line in text.lines().filter(|line| !line.is_empty()) {
        let case: Value = serde_json::from_str(line).unwrap();
        let id = case["id"].as_str().unwrap();
        let expected = case["expected"] == "valid";
        let start = Instant::now();
        let sent = judged(&case, true);
        let configured = judged(&case, false);
        slowest = slowest.max((start.elapsed(), id.to_owned()));
        let accepted = matches!(sent, Ok((MtlsOutcome::Verified, _)));
        if case["confidence"] != "agreed" {
            if !case["expected"].is_null() && accepted != expected {
                println!("{id}: {} by one reference, here {sent:?}", case["expected"]);
            }
            continue;
        }
        agreed += 1;
        right += usize::from(accepted == expected);
        // Configured intermediates build the same paths; a bad one is a problem and accepts nobody.
        assert_eq!(
            accepted,
            matches!(configured, Ok((MtlsOutcome::Verified, _))),
            "{id}: sent {sent:?}, configured {configured:?}"
        );
        exceptions.check(id, accepted == expected, || {
            format!("{} is {sent:?}; {}", case["expected"], case["description"])
        });
    }
    println!(
        "x509: {right} of {agreed} agreed cases; slowest {:?} {}",
        slowest.0, slowest.1
    );
    exceptions.finish();
}

#[test]
fn revocation_lists_are_read_or_refused() {
    let Some(folder) = file("x509/crl-parse") else {
        return;
    };
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let expected: Vec<_> = include_str!("conformance_crl.expected").lines().collect();
    let found: Vec<_> = files
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let list = FileText {
                name: name.clone(),
                bytes: std::fs::read(path).unwrap(),
            };
            let refused = compile(MtlsObject {
                crl: vec![list],
                ..MtlsObject::default()
            })
            .unwrap_err();
            // The other problem is that there is no authority.
            let (_, what) = refused.split_once("; ").unwrap_or(("", &refused));
            format!("{name}: {what}")
        })
        .collect();
    assert_eq!(found, expected, "{}", found.join("\n"));
}
