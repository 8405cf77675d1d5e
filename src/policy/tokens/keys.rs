//! JWK sets: the keys that verify tokens, found by (`kid`, `alg`).
//!
//! Enters: a JWK set (RFC 7517 section 5) as it was read. Leaves: the usable keys, or every problem. Keys that are
//! not for verifying (another type, curve, algorithm or use) are set aside without a word, as the vendor does, as
//! long as one usable key is left. Keys that are for verifying and broken are problems of a file that somebody wrote;
//! in a set that an issuer serves they are left out (RFC 7517 section 5). Nothing is fetched here.

mod history;
mod jwk;

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::signature::ParsedPublicKey;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde_json::Value;

use self::jwk::{Broken, Read};
use super::{Algorithm, json};
use crate::model::{EventTime, Problems, TokenReason};
use crate::policy::objects::FileText;

pub use history::{Keep, KeyHistory, Retired, ServedKey, ServedKeys};

/// Most keys of one (`kid`, `alg`) that are tried on a token, so that no token costs more signature checks than this.
/// RFC 7517 section 4.5 lets equivalent keys share a `kid`; an issuer that changes a key in place has the old one retired.
pub const MAX_CANDIDATES: usize = 4;

/// The usable keys of a set. A key never serves another algorithm than its own, so a public RSA key can never be taken
/// for an HMAC secret.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    by_id: BTreeMap<String, Vec<Held>>,
}

/// A key and for which events it may be used.
#[derive(Clone, Debug)]
struct Held {
    key: Arc<Key>,
    /// Events before this time; `None` = all events.
    until: Option<EventTime>,
}

impl Held {
    fn serves(&self, at: Option<EventTime>) -> bool {
        match (self.until, at) {
            (None, _) => true,
            (Some(until), Some(at)) => at < until,
            (Some(_), None) => false,
        }
    }
}

/// One key and the one algorithm that it verifies.
#[derive(Debug)]
pub struct Key {
    /// SHA-256 over the algorithm and the key itself: what a cached verdict is filed under.
    identity: [u8; 32],
    algorithm: Algorithm,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Library(Box<DecodingKey>, jsonwebtoken::Algorithm),
    /// ES512, which the library does not verify.
    P521(ParsedPublicKey),
}

impl Key {
    /// `parts` are the numbers that make the key. Each goes into the identity behind its length, so that no two keys
    /// write the same bytes.
    fn new(algorithm: Algorithm, material: Material, parts: &[&[u8]]) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(algorithm.as_str().as_bytes());
        for part in parts {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut identity = [0; 32];
        identity.copy_from_slice(hash.finish().as_ref());
        Self {
            identity,
            algorithm,
            material,
        }
    }

    /// The algorithm that it verifies.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// SHA-256 over the algorithm and the key; equal for equal keys, whatever set they are in.
    #[must_use]
    pub fn identity(&self) -> [u8; 32] {
        self.identity
    }

    /// Whether `signature` (base64url without padding) is one of `message` by this key.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &str) -> bool {
        match &self.material {
            Material::Library(key, algorithm) => {
                jsonwebtoken::crypto::verify(signature, message, key, *algorithm).unwrap_or(false)
            }
            Material::P521(key) => URL_SAFE_NO_PAD
                .decode(signature)
                .is_ok_and(|signature| key.verify_sig(message, &signature).is_ok()),
        }
    }
}

/// The keys that a token may be verified with, most recent first; at most [`MAX_CANDIDATES`].
#[derive(Clone, Debug)]
pub struct Candidates<'k> {
    held: std::slice::Iter<'k, Held>,
    algorithm: Algorithm,
    at: Option<EventTime>,
    left: usize,
}

impl<'k> Iterator for Candidates<'k> {
    type Item = &'k Arc<Key>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (algorithm, at) = (self.algorithm, self.at);
        self.held
            .find(|held| held.key.algorithm == algorithm && held.serves(at))
            .map(|held| &held.key)
    }
}

impl KeySet {
    /// Reads a set that somebody wrote; `place` names the member of the pipeline file that it comes from.
    pub(super) fn compile(file: &FileText, place: &str, problems: &mut Problems) -> Self {
        let place = if file.name.is_empty() {
            place.to_owned()
        } else {
            format!("{place} ({})", file.name)
        };
        let mut set = Self::default();
        let keys = match members(&file.bytes) {
            Ok(keys) => keys,
            Err(what) => {
                let hint = "a JWK set looks like {\"keys\": [ … ]} (RFC 7517 section 5)";
                problems.hint(place, what, hint);
                return set;
            }
        };
        let before = problems.0.len();
        let mut aside = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            let key_place = format!("{place} keys[{number}]");
            match jwk::read(key) {
                Ok(Read::Usable(id, key)) => {
                    let same = set.by_id.entry(id).or_default();
                    if same
                        .iter()
                        .any(|known| known.key.algorithm == key.algorithm)
                    {
                        problems.hint(
                            key_place,
                            format!(
                                "another key of this set has the same kid and verifies {} too",
                                key.algorithm.as_str()
                            ),
                            "give every key of an algorithm its own kid",
                        );
                    } else {
                        same.push(Held {
                            key: Arc::new(key),
                            until: None,
                        });
                    }
                }
                Ok(Read::SetAside(why)) => aside.push(format!("keys[{number}] {why}")),
                Err(Broken(what, hint)) => problems.hint(key_place, what, hint),
            }
        }
        if set.by_id.is_empty() && problems.0.len() == before {
            problems.hint(
                place,
                none_usable(&aside),
                "keys for RS, PS, ES and HS 256 to 512 and for EdDSA (Ed25519) are usable",
            );
        }
        set
    }

    /// The keys that may verify a token with this `kid` and algorithm, seen at event time; `at` = `None` takes only keys
    /// that are not retired.
    ///
    /// # Errors
    /// [`TokenReason::UnknownKey`] or [`TokenReason::AlgorithmMismatch`].
    pub fn find(
        &self,
        id: &str,
        algorithm: Algorithm,
        at: Option<EventTime>,
    ) -> Result<Candidates<'_>, TokenReason> {
        let held = self.by_id.get(id).ok_or(TokenReason::UnknownKey)?;
        if !held.iter().any(|held| held.serves(at)) {
            return Err(TokenReason::UnknownKey);
        }
        let candidates = Candidates {
            held: held.iter(),
            algorithm,
            at,
            left: MAX_CANDIDATES,
        };
        match candidates.clone().next() {
            Some(_) => Ok(candidates),
            None => Err(TokenReason::AlgorithmMismatch),
        }
    }

    /// Every key with its `kid`, retired ones too.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Key>)> {
        self.by_id
            .iter()
            .flat_map(|(id, keys)| keys.iter().map(move |held| (id.as_str(), &held.key)))
    }

    fn add(&mut self, id: &str, key: &Arc<Key>, until: Option<EventTime>) {
        let held = Held {
            key: Arc::clone(key),
            until,
        };
        match self.by_id.get_mut(id) {
            Some(same) => same.push(held),
            None => drop(self.by_id.insert(id.to_owned(), vec![held])),
        }
    }
}

/// The member `keys` of a set.
fn members(bytes: &[u8]) -> Result<Vec<Value>, String> {
    match json::object(bytes).map(|mut members| members.remove("keys")) {
        Ok(Some(Value::Array(keys))) => Ok(keys),
        Ok(_) => Err("no member \"keys\" that is an array".to_owned()),
        Err(error) => Err(format!("not a JWK set: {error}")),
    }
}

fn none_usable(aside: &[String]) -> String {
    if aside.is_empty() {
        "the set has no keys".to_owned()
    } else {
        format!("no key of the set can verify tokens: {}", aside.join(", "))
    }
}

#[cfg(test)]
mod tests;
