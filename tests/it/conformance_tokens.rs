//! Tokens against Wycheproof's JWS cases and the examples of RFC 7515, RFC 7520, RFC 7797 and RFC 8037.
//!
//! The cases sign any payload, so they are judged at the level of the signature; the claims of a token are judged by
//! the tables next to `enrich::token`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot read its cases fails"
)]

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gatewatch::enrich::token::verify;
use gatewatch::model::TokenReason;
use gatewatch::policy::objects::{FileText, JwksObject, TokenConfigurationObject, ZoneObject};
use gatewatch::policy::tokens::{Algorithm, KeySet};
use gatewatch::policy::{self, Policy};
use serde_json::{Value, json};

use crate::corpora::{Exceptions, file};

/// A zone whose only configuration has this key set; `Err` = refused, with the problems.
fn compile(keys: &Value) -> Result<Policy, String> {
    policy::compile(&[ZoneObject {
        id: "z".to_owned(),
        hosts: vec!["api.example".to_owned()],
        token_configurations: vec![TokenConfigurationObject {
            title: "t".to_owned(),
            token_sources: vec![r#"http.request.headers["authorization"][0]"#.to_owned()],
            jwks: JwksObject::Written(FileText {
                name: String::new(),
                bytes: keys.to_string().into_bytes(),
            }),
            clock_skew: Duration::from_mins(1),
            max_token_bytes: 16 * 1024,
            ..TokenConfigurationObject::default()
        }],
        ..ZoneObject::default()
    }])
    .map_err(|problems| {
        let problems: Vec<_> = problems.0.iter().map(ToString::to_string).collect();
        problems.join("; ")
    })
}

fn keys(policy: &Policy) -> Arc<KeySet> {
    let configuration = &policy.zones[0].tokens.configurations[0];
    configuration.keys.current().unwrap()
}

fn lines(path: &str) -> Option<Vec<Value>> {
    let text = std::fs::read_to_string(file(path)?).unwrap();
    Some(
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

#[test]
fn wycheproof() {
    let Some(cases) = lines("jose/wycheproof-jws-cases.jsonl") else {
        return;
    };
    let mut exceptions = Exceptions::read(include_str!("conformance_tokens.exceptions"));
    let (mut accepted, mut valid, mut refused) = (0, 0, 0);
    for case in &cases {
        let id = case["id"].as_str().unwrap();
        let judged = compile(&case["jwks"]).and_then(|policy| {
            verify(case["token"].as_str().unwrap_or_default(), &keys(&policy))
                .map_err(|reason| reason.as_str().to_owned())
        });
        // An unclaimed algorithm must still not be valid.
        let claimed = case["key_algs"]
            .as_array()
            .unwrap()
            .iter()
            .any(|name| Algorithm::parse(name.as_str().unwrap_or_default()).is_some());
        let expected = case["expected"] == "valid" && claimed;
        if expected {
            valid += 1;
            accepted += usize::from(judged.is_ok());
            let payload = case["payload_hex"]
                .as_str()
                .map(|hex| hex::decode(hex).unwrap());
            if let (Ok(judged), Some(payload)) = (&judged, payload) {
                assert_eq!(*judged, payload, "{id}");
            }
        } else {
            refused += usize::from(judged.is_err());
        }
        exceptions.check(id, judged.is_ok() == expected, || {
            format!(
                "{} is {judged:?} ({}, {})",
                case["expected"], case["comment"], case["flags"]
            )
        });
    }
    println!(
        "wycheproof: {accepted} of {valid} valid accepted, {refused} of {} others refused",
        cases.len() - valid
    );
    exceptions.finish();
}

#[test]
fn rfc_examples() {
    let Some(cases) = lines("jose/rfc-examples.jsonl") else {
        return;
    };
    let mut judged_cases = 0;
    for case in &cases {
        let id = case["id"].as_str().unwrap();
        let Some(token) = case["token"].as_str() else {
            // JSON serializations: nothing that a bearer could send.
            continue;
        };
        judged_cases += 1;
        let verified = by_key(case, token);
        match (id, case["expected"].as_str().unwrap()) {
            // The payload is not base64url, so this is no JWT; what `b64` does is refused anyway.
            ("cookbook-hmac-sha2_b64_false", _) => {
                assert!(!verified, "{id}");
                let policy = compile(&json!({"keys": [ed25519()]})).unwrap();
                assert_eq!(
                    verify(token, &keys(&policy)).map_err(TokenReason::as_str),
                    Err("malformed")
                );
            }
            (_, "valid") => assert!(verified, "{id}"),
            _ => assert!(!verified, "{id}"),
        }
    }
    println!("RFC examples: {judged_cases} of {} judged", cases.len());
}

/// Any usable key, for a set that may not be empty.
fn ed25519() -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
}

/// Whether a key of the case verifies the token. Most examples name no `kid` and no `alg` in the key, which a key set
/// for tokens needs; both are added as an operator would.
fn by_key(case: &Value, token: &str) -> bool {
    let mut set = case["jwks"].clone();
    for key in set["keys"].as_array_mut().unwrap() {
        key["alg"] = case["alg"].clone();
        if key.get("kid").is_none() {
            key["kid"] = json!("k");
        }
    }
    let Ok(policy) = compile(&set) else {
        return false;
    };
    let named = verify(token, &keys(&policy));
    let (message, signature) = token.rsplit_once('.').unwrap();
    let header = message.split_once('.').unwrap().0;
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    if header.get("kid").is_some() {
        return named.is_ok();
    }
    assert!(named.is_err(), "a token without kid is never valid");
    let algorithm = header["alg"].as_str().and_then(Algorithm::parse);
    header.get("crit").is_none()
        && keys(&policy).iter().any(|(_, key)| {
            Some(key.algorithm()) == algorithm && key.verifies(message.as_bytes(), signature)
        })
}
