//! What the tests of the verdicts share: zones, exchanges, and keys that sign.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaKeyPair,
};
use aws_lc_rs::{hmac, rsa};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::model::{Captured, Client, EventTime, Exchange, Headers, Request};
use crate::policy::objects::{FileText, JwksObject, TokenConfigurationObject, ZoneObject};
use crate::policy::{self, Zone};

/// The time that the tests call now: 2026-11-20T08:00:00Z.
pub(super) const NOW: i64 = 1_795_161_600;

pub(super) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Compiles one zone; panics with its problems.
pub(super) fn zone(object: ZoneObject) -> Zone {
    policy::compile(&[object]).unwrap().zones.remove(0)
}

/// Every problem of a zone, as printed.
pub(super) fn problems(object: ZoneObject) -> Vec<String> {
    match policy::compile(&[object]) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
    }
}

/// A zone without anything.
pub(super) fn bare_zone() -> ZoneObject {
    ZoneObject {
        id: "z".to_owned(),
        hosts: vec!["api.example".to_owned()],
        ..ZoneObject::default()
    }
}

/// A token configuration with the defaults of the pipeline file.
pub(super) fn configuration(title: &str, keys: &[Value]) -> TokenConfigurationObject {
    TokenConfigurationObject {
        title: title.to_owned(),
        token_sources: vec![r#"http.request.headers["authorization"][0]"#.to_owned()],
        jwks: JwksObject::Written(FileText {
            name: "keys.json".to_owned(),
            bytes: json!({ "keys": keys }).to_string().into_bytes(),
        }),
        clock_skew: Duration::from_mins(1),
        max_token_bytes: 16 * 1024,
        ..TokenConfigurationObject::default()
    }
}

/// An exchange with these header fields at `NOW`.
pub(super) fn exchange<'a>(fields: &[(&'a str, &'a str)], captured: Captured<'a>) -> Exchange<'a> {
    Exchange {
        id: None,
        at: EventTime::from_seconds(NOW).unwrap(),
        zone: None,
        client: Client::default(),
        certificate: None,
        request: Request {
            method: Cow::Borrowed("GET"),
            scheme: None,
            host: Cow::Borrowed("api.example"),
            path: Cow::Borrowed("/"),
            query: None,
            headers: Headers {
                fields: fields
                    .iter()
                    .map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value)))
                    .collect(),
                captured,
            },
            body: None,
            body_bytes: None,
        },
        response: None,
    }
}

/// A private key with its public half as a JWK.
pub(super) struct Signer {
    pub(super) algorithm: &'static str,
    pub(super) kid: String,
    pub(super) jwk: Value,
    sign: Sign,
}

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

impl Signer {
    pub(super) fn sign(&self, message: &str) -> Vec<u8> {
        (self.sign)(message.as_bytes())
    }

    /// A token with the key's own header.
    pub(super) fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({"alg": self.algorithm, "kid": self.kid}), claims)
    }

    /// A token with any header, signed by this key.
    pub(super) fn token_with(&self, header: &Value, claims: &Value) -> String {
        self.token_of(&header.to_string(), &claims.to_string())
    }

    /// A token of any two texts, signed by this key.
    pub(super) fn token_of(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", base64(header), base64(payload));
        let signature = base64(self.sign(&message));
        format!("{message}.{signature}")
    }
}

/// One RSA key for all tests: making one takes a while.
pub(super) static RSA: LazyLock<RsaKeyPair> =
    LazyLock::new(|| RsaKeyPair::generate(rsa::KeySize::Rsa2048).unwrap());

/// Modulus of the RSA key out of its PKCS #1 DER: a fixed place at this size.
pub(super) fn rsa_modulus() -> Vec<u8> {
    RSA.public_key().as_ref()[9..265].to_vec()
}

/// DER of the RSA key's `SubjectPublicKeyInfo`.
pub(super) fn rsa_spki() -> Vec<u8> {
    RSA.public_key().as_der().unwrap().as_ref().to_vec()
}

fn rsa_signer(algorithm: &'static str) -> Signer {
    let encoding: &'static dyn aws_lc_rs::signature::RsaEncoding = match algorithm {
        "RS256" => &RSA_PKCS1_SHA256,
        "RS384" => &RSA_PKCS1_SHA384,
        "RS512" => &RSA_PKCS1_SHA512,
        "PS256" => &RSA_PSS_SHA256,
        "PS384" => &RSA_PSS_SHA384,
        _ => &RSA_PSS_SHA512,
    };
    let kid = format!("k-{algorithm}");
    Signer {
        algorithm,
        jwk: json!({
            "kty": "RSA", "kid": kid, "alg": algorithm, "n": base64(rsa_modulus()), "e": "AQAB", "use": "sig"
        }),
        kid,
        sign: Box::new(move |message| {
            let mut signature = vec![0; RSA.public_modulus_len()];
            RSA.sign(encoding, &SystemRandom::new(), message, &mut signature)
                .unwrap();
            signature
        }),
    }
}

fn curve_signer(
    algorithm: &'static str,
    curve: &str,
    signing: &'static EcdsaSigningAlgorithm,
) -> Signer {
    let pair = EcdsaKeyPair::generate(signing).unwrap();
    let point = pair.public_key().as_ref();
    let (x, y) = point[1..].split_at(point.len() / 2);
    let kid = format!("k-{algorithm}");
    Signer {
        algorithm,
        jwk: json!({
            "kty": "EC", "crv": curve, "kid": kid, "alg": algorithm, "x": base64(x), "y": base64(y)
        }),
        kid,
        sign: Box::new(move |message| {
            pair.sign(&SystemRandom::new(), message)
                .unwrap()
                .as_ref()
                .to_vec()
        }),
    }
}

fn edwards_signer() -> Signer {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let kid = "k-EdDSA".to_owned();
    Signer {
        algorithm: "EdDSA",
        jwk: json!({
            "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64(pair.public_key().as_ref())
        }),
        kid,
        sign: Box::new(move |message| pair.sign(message).as_ref().to_vec()),
    }
}

fn secret_signer(algorithm: &'static str) -> Signer {
    let hash = match algorithm {
        "HS256" => hmac::HMAC_SHA256,
        "HS384" => hmac::HMAC_SHA384,
        _ => hmac::HMAC_SHA512,
    };
    let kid = format!("k-{algorithm}");
    Signer {
        algorithm,
        jwk: json!({"kty": "oct", "kid": kid, "alg": algorithm, "k": base64([5; 64])}),
        kid,
        sign: Box::new(move |message| {
            hmac::sign(&hmac::Key::new(hash, &[5; 64]), message)
                .as_ref()
                .to_vec()
        }),
    }
}

/// A signer for every algorithm that is verified.
pub(super) static SIGNERS: LazyLock<Vec<Signer>> = LazyLock::new(|| {
    let mut signers: Vec<_> = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
        .map(rsa_signer)
        .into();
    signers.extend(["HS256", "HS384", "HS512"].map(secret_signer));
    signers.push(curve_signer(
        "ES256",
        "P-256",
        &ECDSA_P256_SHA256_FIXED_SIGNING,
    ));
    signers.push(curve_signer(
        "ES384",
        "P-384",
        &ECDSA_P384_SHA384_FIXED_SIGNING,
    ));
    signers.push(curve_signer(
        "ES512",
        "P-521",
        &ECDSA_P521_SHA512_FIXED_SIGNING,
    ));
    signers.push(edwards_signer());
    signers
});

/// The signer for this algorithm.
pub(super) fn signer(algorithm: &str) -> &'static Signer {
    SIGNERS
        .iter()
        .find(|signer| signer.algorithm == algorithm)
        .unwrap()
}
