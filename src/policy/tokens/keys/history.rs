//! The keys of an issuer over time: the set that it serves now, and the keys that it has taken out.
//!
//! Enters: one served set after the other, each with the time at which it was had. Leaves: a [`KeySet`] in which a retired
//! key serves the events from before its removal. When an issuer began to use a key is not known, so a key that is new
//! serves every event: its signature is proof enough of where a token came from.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::jwk::{self, Broken, Read};
use super::{Key, KeySet, members, none_usable};
use crate::model::EventTime;

/// Most keys of a served set that are read. The largest issuers serve about thirty.
const MAX_KEYS: usize = 1_000;

/// Members of a public or secret key that are needed to read it again. A private half that an issuer serves by mistake
/// is not among them.
const KEPT: [&str; 11] = [
    "kty", "kid", "alg", "use", "key_ops", "crv", "x", "y", "n", "e", "k",
];

/// One key of a served set.
#[derive(Clone, Debug)]
pub struct ServedKey {
    /// Its `kid`.
    pub id: String,
    /// The key.
    pub key: Arc<Key>,
    /// The JWK as JSON, without private members, to be kept on disk.
    pub jwk: String,
}

impl ServedKey {
    fn is(&self, other: &Self) -> bool {
        self.id == other.id && self.key.identity == other.key.identity
    }
}

/// The usable keys of a served set.
#[derive(Clone, Debug, Default)]
pub struct ServedKeys {
    /// Usable keys, in the order of the set.
    pub keys: Vec<ServedKey>,
    /// What was left out, and why.
    pub left_out: Vec<String>,
}

impl ServedKeys {
    /// Reads a set that an issuer serves. Keys that cannot be used are left out (RFC 7517 section 5), because one weak
    /// key of an issuer must not take all the others away.
    ///
    /// # Errors
    /// The bytes are no JWK set, or no key of it is usable.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut served = Self::default();
        let members = members(bytes)?;
        for (number, value) in members.iter().enumerate() {
            if number == MAX_KEYS {
                let rest = members.len() - MAX_KEYS;
                served
                    .left_out
                    .push(format!("{rest} keys beyond the first {MAX_KEYS}"));
                break;
            }
            match jwk::read(value) {
                Ok(Read::Usable(id, key)) => {
                    let new = ServedKey {
                        id,
                        key: Arc::new(key),
                        jwk: kept(value),
                    };
                    if !served.keys.iter().any(|known| known.is(&new)) {
                        served.keys.push(new);
                    }
                }
                Ok(Read::SetAside(why)) => served.left_out.push(format!("keys[{number}] {why}")),
                Err(Broken(what, _)) => served.left_out.push(format!("keys[{number}]: {what}")),
            }
        }
        if served.keys.is_empty() {
            Err(none_usable(&served.left_out))
        } else {
            Ok(served)
        }
    }
}

fn kept(jwk: &Value) -> String {
    let members = jwk.as_object().into_iter().flatten();
    let kept: Map<String, Value> = members
        .filter(|(name, _)| KEPT.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Value::Object(kept).to_string()
}

/// A key that an issuer no longer serves.
#[derive(Clone, Debug)]
pub struct Retired {
    /// The key.
    pub key: ServedKey,
    /// When its removal was noticed; it serves events before this time.
    pub removed_at: EventTime,
}

/// How many retired keys are kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Time since the removal was noticed.
    pub age: Duration,
    /// Most retired keys; the ones retired last are kept.
    pub count: usize,
}

/// The keys of an issuer over time.
#[derive(Clone, Debug, Default)]
pub struct KeyHistory {
    /// Keys that are served now.
    pub current: Vec<ServedKey>,
    /// Keys that were, the one retired last first.
    pub retired: Vec<Retired>,
}

impl KeyHistory {
    /// The history after the issuer was seen to serve `newer` at `now`. A key that it serves again is no longer retired.
    #[must_use]
    pub fn succeed(&self, newer: Vec<ServedKey>, now: EventTime, keep: Keep) -> Self {
        let served = |key: &ServedKey| newer.iter().any(|new| new.is(key));
        let gone = self.current.iter().filter(|key| !served(key));
        let gone = gone.map(|key| Retired {
            key: key.clone(),
            removed_at: now,
        });
        let before = self.retired.iter().filter(|old| !served(&old.key));
        let mut history = Self {
            retired: gone.chain(before.cloned()).collect(),
            current: newer,
        };
        history.forget(now, keep);
        history
    }

    /// Drops retired keys that are over a bound.
    pub fn forget(&mut self, now: EventTime, keep: Keep) {
        let age = i64::try_from(keep.age.as_nanos()).unwrap_or(i64::MAX);
        self.retired
            .retain(|old| now.nanos().saturating_sub(old.removed_at.nanos()) < age);
        self.retired.truncate(keep.count);
    }

    /// Whether both have the same keys for the same events.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.current.len() == other.current.len()
            && self.retired.len() == other.retired.len()
            && (self.current.iter().zip(&other.current)).all(|(one, two)| one.is(two))
            && (self.retired.iter().zip(&other.retired))
                .all(|(one, two)| one.key.is(&two.key) && one.removed_at == two.removed_at)
    }

    /// The keys as tokens look for them.
    #[must_use]
    pub fn set(&self) -> KeySet {
        let mut set = KeySet::default();
        for served in &self.current {
            set.add(&served.id, &served.key, None);
        }
        for old in &self.retired {
            set.add(&old.key.id, &old.key.key, Some(old.removed_at));
        }
        set
    }
}

#[cfg(test)]
mod tests;
