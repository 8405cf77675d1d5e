//! One JSON Web Key (RFC 7517 section 4): a key that verifies, one that is for something else, or a broken one.
//!
//! Enters: one member of `keys`. Leaves: the key with its `kid`. What a set of them means is one folder up.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    ParsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use super::{Key, Material};
use crate::policy::tokens::Algorithm;

/// Smallest and largest RSA modulus, bits: RFC 7518 section 3.3, and what the verifier takes.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Smallest and largest public exponent, bits.
const RSA_EXPONENT_BITS: std::ops::RangeInclusive<usize> = 2..=33;

/// What became of one member of `keys`.
pub(super) enum Read {
    Usable(String, Key),
    /// Why it is not for verifying tokens.
    SetAside(String),
}

/// A fact about a broken key and what to do about it.
pub(super) struct Broken(pub(super) String, pub(super) &'static str);

pub(super) fn read(value: &Value) -> Result<Read, Broken> {
    let Value::Object(jwk) = value else {
        return Err(Broken(
            "not a JSON object".to_owned(),
            "every key is an object with kty and kid",
        ));
    };
    let kind = text(jwk, "kty")?.ok_or_else(|| {
        Broken(
            "no kty".to_owned(),
            "kty is RSA, EC, OKP or oct (RFC 7517 section 4.1)",
        )
    })?;
    if !matches!(kind, "RSA" | "EC" | "OKP" | "oct") {
        return Ok(Read::SetAside(format!("has the unsupported type {kind:?}")));
    }
    let stated = match text(jwk, "alg")? {
        Some(name) => match Algorithm::parse(name) {
            Some(algorithm) => Some(algorithm),
            None => {
                return Ok(Read::SetAside(format!(
                    "has the unsupported algorithm {name:?}"
                )));
            }
        },
        None => None,
    };
    if let Some(why) = other_use(jwk)? {
        // A stated signature algorithm contradicts the use; without one the key simply serves something else.
        return match stated {
            None => Ok(Read::SetAside(why)),
            Some(algorithm) => Err(Broken(
                format!("the key {why} and states {}", algorithm.as_str()),
                "a key that verifies tokens has use \"sig\" or none, and key_ops with \"verify\" or none",
            )),
        };
    }
    let key = match kind {
        "RSA" => rsa(jwk, stated)?,
        "oct" => secret(jwk, stated)?,
        _ => {
            let curve = text(jwk, "crv")?.ok_or_else(|| {
                Broken("no crv".to_owned(), "crv is P-256, P-384, P-521 or Ed25519")
            })?;
            let Some(curve) = Curve::parse(kind, curve) else {
                return Ok(Read::SetAside(format!(
                    "has the unsupported curve {curve:?}"
                )));
            };
            on_curve(jwk, curve, stated)?
        }
    };
    let id = text(jwk, "kid")?
        .filter(|id| !id.is_empty())
        .ok_or_else(|| {
            Broken(
                "no kid".to_owned(),
                "tokens name their key by kid, so every key needs one",
            )
        })?;
    Ok(Read::Usable(id.to_owned(), key))
}

/// Why `use` or `key_ops` (RFC 7517 sections 4.2 and 4.3) keep the key from verifying signatures.
fn other_use(jwk: &Map<String, Value>) -> Result<Option<String>, Broken> {
    if let Some(name) = text(jwk, "use")?
        && name != "sig"
    {
        return Ok(Some(format!("has use {name:?}")));
    }
    match jwk.get("key_ops") {
        None => Ok(None),
        Some(Value::Array(operations)) if operations.iter().all(Value::is_string) => Ok(operations
            .iter()
            .all(|operation| operation != "verify")
            .then(|| "has key_ops without \"verify\"".to_owned())),
        Some(_) => Err(Broken(
            "key_ops is not an array of strings".to_owned(),
            "leave key_ops out or write [\"verify\"]",
        )),
    }
}

fn rsa(jwk: &Map<String, Value>, stated: Option<Algorithm>) -> Result<Key, Broken> {
    let algorithm = match stated {
        // The vendor's default (feature map 4.2), not RFC 7517's "any".
        None => Algorithm::Rs256,
        Some(
            algorithm @ (Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512),
        ) => algorithm,
        Some(other) => return Err(mismatch("RSA", other)),
    };
    let modulus = octets(jwk, "n")?;
    let exponent = octets(jwk, "e")?;
    let bits = bit_length(&modulus);
    if !RSA_BITS.contains(&bits) {
        return Err(Broken(
            format!("the RSA modulus has {bits} bits"),
            "RSA keys have 2048 to 8192 bits (RFC 7518 section 3.3)",
        ));
    }
    // An exponent of 1 would make every padded message its own signature; the verifier takes up to 33 bits.
    let plausible = RSA_EXPONENT_BITS.contains(&bit_length(&exponent))
        && [&modulus, &exponent].iter().all(|number| {
            number.first() != Some(&0) && number.last().is_some_and(|low| low & 1 == 1)
        });
    if !plausible {
        return Err(Broken(
            "n and e are not an RSA public key".to_owned(),
            "n and e are odd unsigned big-endian numbers without leading zeros; e is usually AQAB",
        ));
    }
    if is_roca(&modulus) {
        return Err(Broken(
            "the RSA key was made by a faulty generator and can be factored (ROCA, CVE-2017-15361)"
                .to_owned(),
            "make a new key elsewhere and revoke this one",
        ));
    }
    let key = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
    library(algorithm, key, &[&modulus, &exponent])
}

/// Whether a modulus has the shape that Infineon's library gave its keys: modulo every small prime it is a power of
/// 65537 (Nemec et al., "The Return of Coppersmith's Attack", section 2.3). A sound key passes by chance once in 2^150.
fn is_roca(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89,
        97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    PRIMES.iter().all(|prime| {
        let rest = modulus
            .iter()
            .fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let mut power = 1;
        for _ in 0..*prime {
            if power == rest {
                return true;
            }
            power = power * 65_537 % prime;
        }
        false
    })
}

/// Secrets that are shorter than the hash and taken all the same, bytes. RFC 7518 section 3.2 asks for the length of the
/// hash; issuers in the field use a generated secret of 256 bits for all three, which nobody can search, and refusing
/// those would leave their tokens unjudged. Any other length has lost bytes on its way or was never random.
const SHORT_SECRETS: [usize; 2] = [32, 48];

fn secret(jwk: &Map<String, Value>, stated: Option<Algorithm>) -> Result<Key, Broken> {
    let (algorithm, hash) = match stated {
        None | Some(Algorithm::Hs256) => (Algorithm::Hs256, 32),
        Some(Algorithm::Hs384) => (Algorithm::Hs384, 48),
        Some(Algorithm::Hs512) => (Algorithm::Hs512, 64),
        Some(other) => return Err(mismatch("oct", other)),
    };
    let secret = octets(jwk, "k")?;
    if secret.len() < hash && !SHORT_SECRETS.contains(&secret.len()) {
        return Err(Broken(
            format!(
                "the secret has {} bytes, {} needs {hash}",
                secret.len(),
                algorithm.as_str()
            ),
            "use as many random bits as the hash has (RFC 7518 section 3.2), or 256",
        ));
    }
    library(algorithm, DecodingKey::from_secret(&secret), &[&secret])
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
    Ed25519,
}

impl Curve {
    fn parse(kind: &str, name: &str) -> Option<Self> {
        match (kind, name) {
            ("EC", "P-256") => Some(Self::P256),
            ("EC", "P-384") => Some(Self::P384),
            ("EC", "P-521") => Some(Self::P521),
            ("OKP", "Ed25519") => Some(Self::Ed25519),
            _ => None,
        }
    }

    fn algorithm(self) -> Algorithm {
        match self {
            Self::P256 => Algorithm::Es256,
            Self::P384 => Algorithm::Es384,
            Self::P521 => Algorithm::Es512,
            Self::Ed25519 => Algorithm::EdDsa,
        }
    }

    /// Bytes of one coordinate (RFC 7518 section 6.2.1.2, RFC 8037 section 2).
    fn coordinate(self) -> usize {
        match self {
            Self::P256 | Self::Ed25519 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

fn on_curve(
    jwk: &Map<String, Value>,
    curve: Curve,
    stated: Option<Algorithm>,
) -> Result<Key, Broken> {
    let algorithm = curve.algorithm();
    if let Some(other) = stated.filter(|stated| *stated != algorithm) {
        return Err(mismatch("elliptic curve", other));
    }
    let sized = |name| {
        let value = octets(jwk, name)?;
        if value.len() == curve.coordinate() {
            Ok(value)
        } else {
            Err(Broken(
                format!(
                    "{name} has {} bytes, the curve needs {}",
                    value.len(),
                    curve.coordinate()
                ),
                "coordinates are padded to the full size of the curve (RFC 7518 section 6.2.1.2)",
            ))
        }
    };
    let mut point = Vec::new();
    if curve == Curve::Ed25519 {
        point.extend(sized("x")?);
    } else {
        // SEC 1 section 2.3.3: 4 announces an uncompressed point.
        point.push(4);
        point.extend(sized("x")?);
        point.extend(sized("y")?);
    }
    let parsed = match curve {
        Curve::P256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point),
        Curve::P384 => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &point),
        Curve::P521 => ParsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, &point),
        Curve::Ed25519 => ParsedPublicKey::new(&ED25519, &point),
    }
    .map_err(|_| {
        Broken(
            "the coordinates are no point of the curve".to_owned(),
            "copy x and y from the issuer's key set again",
        )
    })?;
    match curve {
        Curve::P521 => Ok(Key::new(algorithm, Material::P521(parsed), &[&point])),
        Curve::Ed25519 => library(algorithm, DecodingKey::from_ed_der(&point), &[&point]),
        Curve::P256 | Curve::P384 => {
            library(algorithm, DecodingKey::from_ec_der(&point), &[&point])
        }
    }
}

fn library(algorithm: Algorithm, key: DecodingKey, parts: &[&[u8]]) -> Result<Key, Broken> {
    match algorithm.library() {
        Some(name) => Ok(Key::new(
            algorithm,
            Material::Library(Box::new(key), name),
            parts,
        )),
        None => Err(mismatch("this", algorithm)),
    }
}

fn mismatch(kind: &str, algorithm: Algorithm) -> Broken {
    Broken(
        format!("a key of type {kind} cannot verify {}", algorithm.as_str()),
        "make kty, crv and alg agree (RFC 7518 section 6.1)",
    )
}

/// A member that is a string when it is there.
fn text<'a>(jwk: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Broken> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(value)) => Ok(Some(value)),
        Some(_) => Err(Broken(
            format!("{name} is not a string"),
            "members of a key are strings (RFC 7517 section 4)",
        )),
    }
}

/// A member that must be there as base64url.
fn octets(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, Broken> {
    let value =
        text(jwk, name)?.ok_or_else(|| Broken(format!("no {name}"), "the key is incomplete"))?;
    // Some issuers pad although RFC 7515 section 2 forbids it; a key file is not hostile, and padding changes nothing.
    URL_SAFE_NO_PAD
        .decode(value.trim_end_matches('='))
        .map_err(|_| {
            Broken(
                format!("{name} is not base64url"),
                "values of keys are base64url without padding (RFC 7515 section 2)",
            )
        })
}

fn bit_length(number: &[u8]) -> usize {
    match number.iter().position(|byte| *byte != 0) {
        None => 0,
        Some(zeros) => {
            let rest = number.get(zeros..).unwrap_or_default();
            let first = rest.first().map_or(0, |byte| byte.leading_zeros() as usize);
            rest.len() * 8 - first
        }
    }
}
