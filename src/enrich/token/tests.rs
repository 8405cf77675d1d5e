//! Tables of tokens, good and hostile.

mod carriers;
mod claims;
mod keys;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::super::fixtures::{
    NOW, SIGNERS, bare_zone, base64, configuration, exchange, rsa_modulus, rsa_spki, signer, zone,
};
use super::cache::TYPICAL_WEIGHT;
use super::*;
use crate::model::{Captured, EventTime};
use crate::policy::objects::TokenConfigurationObject;
use TokenReason::{
    AlgorithmMismatch, BadSignature, ClaimMismatch, Expired, Malformed, NoKeyId, NotYetValid,
    UnknownKey, UnsupportedAlgorithm,
};

const VALID: TokenOutcome = TokenOutcome::Valid;

fn all_keys() -> Vec<Value> {
    SIGNERS.iter().map(|signer| signer.jwk.clone()).collect()
}

fn zone_of(configurations: Vec<TokenConfigurationObject>) -> Zone {
    let mut object = bare_zone();
    object.token_configurations = configurations;
    zone(object)
}

/// A zone with one configuration that knows every signer's key.
fn everything() -> Zone {
    zone_of(vec![configuration("all", &all_keys())])
}

fn judge_at(zone: &Zone, value: &str, at: i64) -> TokenVerdict {
    let mut exchange = exchange(&[("Authorization", value)], Captured::All);
    exchange.at = EventTime::from_nanos(at).unwrap();
    let mut out = Vec::new();
    judge(
        zone,
        &exchange,
        &TokenCache::new(16),
        &Hasher::new(b"k"),
        &mut Budget::default(),
        &mut out,
    );
    out.swap_remove(0)
}

fn outcome(zone: &Zone, token: &str) -> TokenOutcome {
    judge_at(zone, &format!("Bearer {token}"), NOW * 1_000_000_000).outcome
}

fn invalid(reason: TokenReason) -> TokenOutcome {
    TokenOutcome::Invalid(reason)
}

#[test]
fn every_algorithm_verifies_its_own_and_nothing_else() {
    let zone = everything();
    let claims = json!({"sub": "u"});
    for signer in SIGNERS.iter() {
        let token = signer.token(&claims);
        assert_eq!(outcome(&zone, &token), VALID, "{}", signer.algorithm);
        let (message, signature) = token.rsplit_once('.').unwrap();
        let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let mut flipped = raw.clone();
        flipped[3] ^= 1;
        let zeros = vec![0; raw.len()];
        for bad in [&flipped[..], &zeros, &raw[..raw.len() - 1], &[]] {
            let token = format!("{message}.{}", base64(bad));
            assert_eq!(
                outcome(&zone, &token),
                invalid(BadSignature),
                "{}: {} bytes",
                signer.algorithm,
                bad.len()
            );
        }
        // The key asked for by another algorithm's name.
        for other in SIGNERS.iter().filter(|s| s.algorithm != signer.algorithm) {
            let header = json!({"alg": other.algorithm, "kid": signer.kid});
            for by in [signer, other] {
                assert_eq!(
                    outcome(&zone, &by.token_with(&header, &claims)),
                    invalid(AlgorithmMismatch),
                    "{} for {}",
                    other.algorithm,
                    signer.algorithm
                );
            }
        }
    }
    let ed = signer("EdDSA");
    let header = json!({"alg": "Ed25519", "kid": ed.kid});
    assert_eq!(outcome(&zone, &ed.token_with(&header, &claims)), VALID);
}

#[test]
fn signatures_of_another_shape_or_key_do_not_verify() {
    let zone = everything();
    let es = signer("ES256");
    let token = es.token(&json!({}));
    let (message, signature) = token.rsplit_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    // ECDSA in DER instead of the fixed form (RFC 7518 section 3.4).
    let mut der = vec![0x30, 70, 0x02, 33, 0];
    der.extend(&raw[..32]);
    der.extend([0x02, 33, 0]);
    der.extend(&raw[32..]);
    let token = format!("{message}.{}", base64(der));
    assert_eq!(outcome(&zone, &token), invalid(BadSignature));
    // A good signature by another curve's key, of the other curve's size.
    let token = format!("{message}.{}", base64(signer("ES384").sign(message)));
    assert_eq!(outcome(&zone, &token), invalid(BadSignature));
    // The payload exchanged under a good signature.
    let token = format!(
        "{}.{}.{signature}",
        message.split_once('.').unwrap().0,
        base64(r#"{"sub":"admin"}"#)
    );
    assert_eq!(outcome(&zone, &token), invalid(BadSignature));
}

#[test]
fn public_keys_are_no_secrets() {
    let rs = signer("RS256");
    let hs = signer("HS256");
    let zone = zone_of(vec![configuration(
        "all",
        &[rs.jwk.clone(), hs.jwk.clone()],
    )]);
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::engine::general_purpose::STANDARD.encode(rsa_spki())
    );
    for secret in [
        rsa_spki(),
        pem.into_bytes(),
        rsa_modulus(),
        rs.jwk["n"].as_str().unwrap().as_bytes().to_vec(),
    ] {
        for (kid, reason) in [(&rs.kid, AlgorithmMismatch), (&hs.kid, BadSignature)] {
            let message = format!(
                "{}.{}",
                base64(json!({"alg": "HS256", "kid": kid}).to_string()),
                base64("{}")
            );
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
            let tag = aws_lc_rs::hmac::sign(&key, message.as_bytes());
            let token = format!("{message}.{}", base64(tag));
            assert_eq!(outcome(&zone, &token), invalid(reason));
        }
    }
}

#[test]
fn reasons_come_in_order() {
    let zone = everything();
    let hs = signer("HS256");
    let good = hs.token(&json!({"sub": "u"}));
    let parts: Vec<_> = good.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    let of = |header: Value, claims: &Value| hs.token_with(&header, claims);
    let kid = &hs.kid;
    let past = json!({"exp": NOW - 3600});
    for (token, reason) in [
        // Not three base64url parts without padding.
        ("x".to_owned(), Malformed),
        (format!("{header}.{payload}"), Malformed),
        (format!("{good}."), Malformed),
        (format!("{good}.{signature}.{signature}"), Malformed),
        (format!(".{good}"), Malformed),
        (format!("{good}="), Malformed),
        (format!("{header}=.{payload}.{signature}"), Malformed),
        (format!("{header}.{payload}.{signature}\u{e9}"), Malformed),
        (format!("{header}.{payload}. {signature}"), Malformed),
        (format!("{header}.{payload}\n.{signature}"), Malformed),
        (
            format!("{header}.{payload}.+{}", &signature[1..]),
            Malformed,
        ),
        // One stray bit in the last character, which decodes to the same bytes when one is lax.
        (
            format!("{header}.{payload}.{}", with_stray_bit(signature)),
            Malformed,
        ),
        ("..".to_owned(), Malformed),
        (format!("..{signature}"), Malformed),
        // Encrypted (RFC 7516 section 7.1 has five parts) and nested (RFC 7519 section 5.2).
        (
            format!("{header}.{payload}.{signature}.{payload}.{signature}"),
            Malformed,
        ),
        (
            of(json!({"alg": "dir", "enc": "A128GCM"}), &past),
            UnsupportedAlgorithm,
        ),
        (
            hs.token_of(
                &json!({"alg": "HS256", "kid": kid, "cty": "JWT"}).to_string(),
                &good,
            ),
            Malformed,
        ),
        // JSON serialization (RFC 7515 section 7.2).
        (
            format!(r#"{{"payload":"{payload}","protected":"{header}"}}"#),
            Malformed,
        ),
        // Header or payload not an object.
        (hs.token_of("[]", "{}"), Malformed),
        (hs.token_of("\"x\"", "{}"), Malformed),
        (hs.token_of(r#"{"alg":"HS256"}"#, "foo"), Malformed),
        (hs.token_of(r#"{"alg":"HS256"}"#, ""), Malformed),
        (hs.token_of(r#"{"alg":"HS256"}"#, "[]"), Malformed),
        (
            hs.token_of(r#"{"alg":"HS256","alg":"none"}"#, "{}"),
            Malformed,
        ),
        (
            hs.token_of(
                &format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#),
                r#"{"exp":1,"exp":9}"#,
            ),
            Malformed,
        ),
        (hs.token_of(r#"{"alg":"none"}"#, "foo"), Malformed),
        // The algorithm, before anything else of the header.
        (of(json!({"alg": "none"}), &past), UnsupportedAlgorithm),
        (
            of(json!({"alg": "None", "kid": kid}), &past),
            UnsupportedAlgorithm,
        ),
        (
            of(json!({"alg": "NONE", "kid": "x"}), &past),
            UnsupportedAlgorithm,
        ),
        (of(json!({"alg": "nOnE"}), &past), UnsupportedAlgorithm),
        (
            format!("{}.{payload}.", base64(r#"{"alg":"none"}"#)),
            UnsupportedAlgorithm,
        ),
        (of(json!({"alg": ""}), &past), UnsupportedAlgorithm),
        (of(json!({"kid": kid}), &past), UnsupportedAlgorithm),
        (
            of(json!({"alg": null, "kid": kid}), &past),
            UnsupportedAlgorithm,
        ),
        (
            of(json!({"alg": ["HS256"], "kid": kid}), &past),
            UnsupportedAlgorithm,
        ),
        (
            of(json!({"alg": "hs256", "kid": kid}), &past),
            UnsupportedAlgorithm,
        ),
        (
            of(json!({"alg": "HS256 ", "kid": kid}), &past),
            UnsupportedAlgorithm,
        ),
        (
            of(json!({"alg": "ES256K", "kid": kid}), &past),
            UnsupportedAlgorithm,
        ),
        (
            of(json!({"alg": "RSA-OAEP", "kid": kid}), &past),
            UnsupportedAlgorithm,
        ),
        // Extensions that change what is signed.
        (
            of(json!({"alg": "HS256", "kid": kid, "crit": ["exp"]}), &past),
            UnsupportedAlgorithm,
        ),
        (
            of(json!({"alg": "HS256", "kid": kid, "crit": []}), &past),
            UnsupportedAlgorithm,
        ),
        (
            of(json!({"alg": "HS256", "kid": kid, "crit": null}), &past),
            UnsupportedAlgorithm,
        ),
        (
            of(
                json!({"alg": "HS256", "kid": kid, "crit": ["b64"], "b64": false}),
                &past,
            ),
            UnsupportedAlgorithm,
        ),
        (
            of(json!({"alg": "HS256", "kid": kid, "b64": false}), &past),
            UnsupportedAlgorithm,
        ),
        // The key.
        (of(json!({"alg": "HS256"}), &past), NoKeyId),
        (of(json!({"alg": "HS256", "kid": 1}), &past), NoKeyId),
        (of(json!({"alg": "HS256", "kid": null}), &past), NoKeyId),
        (of(json!({"alg": "HS256", "kid": ""}), &past), UnknownKey),
        (
            of(json!({"alg": "HS256", "kid": "K-HS256"}), &past),
            UnknownKey,
        ),
        (
            of(json!({"alg": "HS256", "kid": "../../dev/null"}), &past),
            UnknownKey,
        ),
        (
            of(json!({"alg": "HS256", "kid": "' OR 1=1 --"}), &past),
            UnknownKey,
        ),
        (
            of(json!({"alg": "RS256", "kid": kid}), &past),
            AlgorithmMismatch,
        ),
        // Keys that the token brings along are not looked at.
        (
            of(json!({"alg": "HS256", "kid": "own", "jwk": hs.jwk}), &past),
            UnknownKey,
        ),
        (
            of(
                json!({"alg": "HS256", "jku": "https://attacker.example/", "jwk": hs.jwk}),
                &past,
            ),
            NoKeyId,
        ),
        // The signature, before the claims.
        (
            format!("{header}.{}.{signature}", base64(past.to_string())),
            BadSignature,
        ),
        (hs.token(&past), Expired),
        (
            hs.token(&json!({"exp": NOW - 3600, "nbf": NOW + 3600})),
            Expired,
        ),
        (
            hs.token(&json!({"exp": NOW + 7200, "nbf": NOW + 3600})),
            NotYetValid,
        ),
        (
            hs.token(&json!({"exp": "x", "nbf": NOW + 3600})),
            NotYetValid,
        ),
        (hs.token(&json!({"exp": NOW.to_string()})), ClaimMismatch),
        (hs.token(&json!({"exp": null})), ClaimMismatch),
        (hs.token(&json!({"nbf": true})), ClaimMismatch),
    ] {
        assert_eq!(outcome(&zone, &token), invalid(reason), "{token}");
    }
    for header in [
        json!({"alg": "HS256", "kid": kid, "typ": "at+jwt", "jku": "https://attacker.example/"}),
        json!({"alg": "HS256", "kid": kid, "x5u": "file:///etc/passwd", "jwk": {"kty": "oct"}}),
        json!({"alg": "HS256", "kid": kid, "b64": true}),
    ] {
        assert_eq!(outcome(&zone, &of(header, &json!({}))), VALID);
    }
}

/// Sets a bit of the last character that carries no data. A 32-byte tag leaves two such bits.
fn with_stray_bit(part: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = part.split_at(part.len() - 1);
    let value = ALPHABET
        .iter()
        .position(|c| *c == last.as_bytes()[0])
        .unwrap();
    format!("{rest}{}", char::from(ALPHABET[value | 1]))
}

#[test]
fn a_token_over_the_limit_is_malformed() {
    let hs = signer("HS256");
    let fitting = hs.token(&json!({"a": "x".repeat(100)}));
    let mut object = configuration("all", &all_keys());
    object.max_token_bytes = fitting.len();
    let zone = zone_of(vec![object]);
    assert_eq!(outcome(&zone, &fitting), VALID);
    let longer = hs.token(&json!({"a": "x".repeat(101)}));
    assert_eq!(outcome(&zone, &longer), invalid(Malformed));
    let value = format!("Bearer {longer}");
    let verdict = judge_at(&zone, &value, 0);
    let hash = Hasher::new(b"k").hash("z", "token", longer.as_bytes());
    assert_eq!(verdict.hash, Some(hash));
}

#[test]
fn the_best_outcome_is_the_most_that_was_shown() {
    let of = |outcomes: &[TokenOutcome]| {
        let verdicts: Vec<_> = outcomes
            .iter()
            .map(|outcome| TokenVerdict {
                outcome: *outcome,
                hash: None,
                claims: None,
            })
            .collect();
        best(&verdicts)
    };
    let (missing, unknown) = (TokenOutcome::Missing, TokenOutcome::NotCaptured);
    let open = TokenOutcome::NotEvaluated;
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[unknown]), Some(unknown));
    assert_eq!(of(&[unknown, missing]), Some(missing));
    assert_eq!(
        of(&[missing, invalid(Expired), invalid(Malformed), unknown]),
        Some(invalid(Expired))
    );
    assert_eq!(of(&[invalid(Expired), VALID]), Some(VALID));
    // It may be valid there, so nobody is told that the token is a forgery.
    assert_eq!(of(&[invalid(UnknownKey), open, missing]), Some(open));
    assert_eq!(of(&[open, VALID]), Some(VALID));
}

#[test]
fn the_cache_is_independent_of_time_and_bound_to_keys() {
    let hs = signer("HS256");
    let value = format!("Bearer {}", hs.token(&json!({"exp": NOW})));
    let mut exchange = exchange(&[("authorization", &value)], Captured::All);
    let (cache, hasher) = (TokenCache::new(16), Hasher::new(b"k"));
    let mut out = Vec::new();
    let known = zone_of(vec![configuration("one", &all_keys())]);
    for (offset, expected) in [(0, VALID), (61, invalid(Expired)), (-9, VALID)] {
        exchange.at = EventTime::from_seconds(NOW + offset).unwrap();
        judge(
            &known,
            &exchange,
            &cache,
            &hasher,
            &mut Budget::default(),
            &mut out,
        );
        assert_eq!(out[0].outcome, expected);
    }
    let counts = |hits, misses, signatures| Counts {
        hits,
        misses,
        signatures,
        not_evaluated: 0,
    };
    assert_eq!(cache.counts(), counts(2, 1, 1));
    // A verdict that another key set led to is not met, and another hash key starts afresh.
    let other = zone_of(vec![configuration(
        "one",
        std::slice::from_ref(&signer("ES256").jwk),
    )]);
    judge(
        &other,
        &exchange,
        &cache,
        &hasher,
        &mut Budget::default(),
        &mut out,
    );
    assert_eq!(out[0].outcome, invalid(UnknownKey));
    judge(
        &other,
        &exchange,
        &cache,
        &hasher,
        &mut Budget::default(),
        &mut out,
    );
    assert_eq!(out[0].outcome, invalid(UnknownKey));
    let hash = out[0].hash;
    judge(
        &known,
        &exchange,
        &cache,
        &Hasher::new(b"other"),
        &mut Budget::default(),
        &mut out,
    );
    assert_ne!(out[0].hash, hash);
    assert_eq!(cache.counts(), counts(4, 2, 2));
}

#[test]
fn a_flood_of_forgeries_stays_within_the_bound() {
    let zone = everything();
    let cache = TokenCache::new(8);
    let mut out = Vec::new();
    for number in 0..2_000 {
        let value = format!("Bearer e30.e30.{number:04}");
        let exchange = exchange(&[("authorization", &value)], Captured::All);
        judge(
            &zone,
            &exchange,
            &cache,
            &Hasher::new(b"k"),
            &mut Budget::default(),
            &mut out,
        );
    }
    assert!(cache.weight() <= 8 * TYPICAL_WEIGHT);
    assert_eq!(cache.counts().misses, 2_000);
}

#[test]
fn no_character_can_be_changed() {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=";
    let zone = everything();
    for signer in [signer("HS256"), signer("ES256"), signer("EdDSA")] {
        let token = signer.token(&json!({"sub": "u"}));
        for position in 0..token.len() {
            let old = token.as_bytes()[position];
            for step in [1, 2, 17, 40] {
                let place = ALPHABET.iter().position(|c| *c == old).unwrap();
                let new = ALPHABET[(place + step) % ALPHABET.len()];
                let mut changed = token.clone().into_bytes();
                changed[position] = new;
                let changed = String::from_utf8(changed).unwrap();
                assert_ne!(outcome(&zone, &changed), VALID, "{changed}");
            }
            assert_ne!(outcome(&zone, &token[..position]), VALID);
        }
    }
}
