//! Tables of key sets.

use serde_json::{Value, json};

use super::*;

/// RFC 7515 appendix A.2's modulus.
const N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-\
SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapH\
g665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
/// RFC 7515 appendix A.3's point.
const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
/// RFC 8037 appendix A.2's point.
const ED: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

fn compile_text(text: &str) -> (Vec<String>, Vec<String>) {
    let mut problems = Problems::default();
    let file = FileText {
        name: "k.json".to_owned(),
        bytes: text.as_bytes().to_vec(),
    };
    let set = KeySet::compile(&file, "jwks", &mut problems);
    let keys = set
        .iter()
        .map(|(id, key)| format!("{id}/{}", key.algorithm().as_str()))
        .collect();
    (keys, problems.0.iter().map(ToString::to_string).collect())
}

fn compile(keys: &Value) -> (Vec<String>, Vec<String>) {
    compile_text(&json!({ "keys": keys }).to_string())
}

fn rsa() -> Value {
    json!({"kty": "RSA", "kid": "r", "n": N, "e": "AQAB"})
}

fn ec() -> Value {
    json!({"kty": "EC", "kid": "e", "crv": "P-256", "x": X, "y": Y})
}

fn oct() -> Value {
    json!({"kty": "oct", "kid": "o", "k": URL_SAFE_NO_PAD.encode([1; 64])})
}

fn with(mut key: Value, member: &str, value: Value) -> Value {
    key[member] = value;
    key
}

fn without(mut key: Value, member: &str) -> Value {
    key.as_object_mut().unwrap().remove(member);
    key
}

#[test]
fn a_key_without_algorithm_has_the_vendors_default() {
    let ed = json!({"kty": "OKP", "kid": "d", "crv": "Ed25519", "x": ED});
    let (keys, problems) = compile(&json!([rsa(), ec(), oct(), ed]));
    assert_eq!(problems, [""; 0]);
    assert_eq!(keys, ["d/EdDSA", "e/ES256", "o/HS256", "r/RS256"]);
    let (keys, _) = compile(&json!([
        with(rsa(), "alg", json!("PS512")),
        with(rsa(), "alg", json!("RS256")),
        with(oct(), "alg", json!("HS512")),
        with(
            with(oct(), "alg", json!("HS384")),
            "k",
            json!(URL_SAFE_NO_PAD.encode([1; 32])),
        ),
        with(ec(), "key_ops", json!(["sign", "verify"])),
        with(with(ec(), "kid", json!("e2")), "use", json!("sig")),
        with(with(ec(), "kid", json!("e3")), "d", json!("private")),
    ]));
    assert_eq!(
        keys,
        [
            "e/ES256", "e2/ES256", "e3/ES256", "o/HS512", "o/HS384", "r/PS512", "r/RS256"
        ]
    );
}

#[test]
fn what_is_not_for_verifying_is_set_aside_while_another_key_is() {
    for aside in [
        with(rsa(), "alg", json!("RSA-OAEP")),
        with(rsa(), "use", json!("enc")),
        with(rsa(), "key_ops", json!(["encrypt"])),
        json!({"kty": "EC", "crv": "secp256k1", "x": X, "y": Y}),
        json!({"kty": "OKP", "crv": "X25519", "x": ED}),
        json!({"kty": "OKP", "crv": "Ed448", "x": ED}),
        json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "x"}),
        json!({"kty": "rsa"}),
    ] {
        let (keys, problems) = compile(&json!([aside, ec()]));
        assert_eq!(problems, [""; 0], "{aside}");
        assert_eq!(keys, ["e/ES256"]);
        let (_, problems) = compile(&json!([aside]));
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0]
                .starts_with("jwks (k.json): no key of the set can verify tokens: keys[0] has "),
            "{problems:?}"
        );
    }
}

#[test]
fn what_is_broken_is_a_problem_with_its_place() {
    let short = |bits: usize| URL_SAFE_NO_PAD.encode(vec![0xff; bits / 8]);
    let zero_first = {
        let mut modulus = vec![0];
        modulus.extend(URL_SAFE_NO_PAD.decode(N).unwrap());
        URL_SAFE_NO_PAD.encode(modulus)
    };
    for (key, expected) in [
        (json!("x"), "not a JSON object"),
        (without(rsa(), "kty"), "no kty"),
        (with(rsa(), "kty", json!(1)), "kty is not a string"),
        (without(rsa(), "kid"), "no kid"),
        (with(rsa(), "kid", json!("")), "no kid"),
        (with(rsa(), "kid", json!(7)), "kid is not a string"),
        (without(rsa(), "n"), "no n"),
        (with(rsa(), "n", json!("a+b")), "n is not base64url"),
        (
            with(rsa(), "n", json!(short(1024))),
            "the RSA modulus has 1024 bits",
        ),
        (
            with(rsa(), "n", json!(short(16_384))),
            "the RSA modulus has 16384 bits",
        ),
        (with(rsa(), "n", json!("")), "the RSA modulus has 0 bits"),
        (
            with(rsa(), "n", json!(zero_first)),
            "n and e are not an RSA public key",
        ),
        (
            with(rsa(), "e", json!("AA")),
            "n and e are not an RSA public key",
        ),
        (
            with(rsa(), "e", json!("AQ")),
            "n and e are not an RSA public key",
        ),
        (
            with(rsa(), "alg", json!("HS256")),
            "a key of type RSA cannot verify HS256",
        ),
        (
            with(rsa(), "alg", json!("ES256")),
            "a key of type RSA cannot verify ES256",
        ),
        (
            with(oct(), "alg", json!("RS256")),
            "a key of type oct cannot verify RS256",
        ),
        (
            with(oct(), "k", json!("")),
            "the secret has 0 bytes, HS256 needs 32",
        ),
        (
            with(oct(), "k", json!(short(31 * 8))),
            "the secret has 31 bytes, HS256 needs 32",
        ),
        (
            with(
                with(oct(), "k", json!(short(47 * 8))),
                "alg",
                json!("HS384"),
            ),
            "the secret has 47 bytes, HS384 needs 48",
        ),
        (with(oct(), "k", Value::Null), "k is not a string"),
        (
            with(ec(), "alg", json!("ES384")),
            "a key of type elliptic curve cannot verify ES384",
        ),
        (without(ec(), "crv"), "no crv"),
        (without(ec(), "y"), "no y"),
        (
            with(ec(), "x", json!(short(31 * 8))),
            "x has 31 bytes, the curve needs 32",
        ),
        (
            with(ec(), "y", json!(X)),
            "the coordinates are no point of the curve",
        ),
        (
            with(with(rsa(), "use", json!("enc")), "alg", json!("RS256")),
            "the key has use \"enc\" and states RS256",
        ),
        (
            with(
                with(rsa(), "key_ops", json!(["sign"])),
                "alg",
                json!("RS256"),
            ),
            "the key has key_ops without \"verify\" and states RS256",
        ),
        (
            with(rsa(), "key_ops", json!("verify")),
            "key_ops is not an array of strings",
        ),
        (with(rsa(), "use", json!(1)), "use is not a string"),
        (
            ec(),
            "another key of this set has the same kid and verifies ES256 too",
        ),
    ] {
        let (_, problems) = compile(&json!([ec(), key]));
        assert_eq!(problems.len(), 1, "{expected}: {problems:?}");
        let place = format!("jwks (k.json) keys[1]: {expected}\n    hint: ");
        assert!(problems[0].starts_with(&place), "{expected}: {problems:?}");
    }
}

#[test]
fn what_is_no_key_set_is_one_problem() {
    for (text, expected) in [
        ("", "not a JWK set"),
        ("[]", "not a JWK set: not a JSON object"),
        ("{}", "no member \"keys\" that is an array"),
        (r#"{"keys": {}}"#, "no member \"keys\" that is an array"),
        (r#"{"keys": []}"#, "the set has no keys"),
        (r#"{"keys": [], "keys": []}"#, "duplicate member"),
    ] {
        let (_, problems) = compile_text(text);
        assert_eq!(problems.len(), 1, "{text}");
        assert!(problems[0].starts_with("jwks (k.json): "), "{problems:?}");
        assert!(problems[0].contains(expected), "{problems:?}");
    }
}
