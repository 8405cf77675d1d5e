//! Tables of served sets that follow each other.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::model::TokenReason;
use crate::policy::tokens::{Algorithm, MAX_CANDIDATES};

const KEEP: Keep = Keep {
    age: Duration::from_secs(100),
    count: 8,
};

fn secret(id: &str, byte: char) -> Value {
    let secret = URL_SAFE_NO_PAD.encode(byte.to_string().repeat(32));
    json!({"kty": "oct", "kid": id, "k": secret, "alg": "HS256"})
}

fn served(keys: &[Value]) -> Vec<ServedKey> {
    ServedKeys::read(json!({ "keys": keys }).to_string().as_bytes())
        .unwrap()
        .keys
}

fn at(seconds: i64) -> EventTime {
    EventTime::from_seconds(seconds).unwrap()
}

/// How many keys would be tried on a token of an event at this second.
fn tried(history: &KeyHistory, id: &str, seconds: i64) -> Result<usize, TokenReason> {
    let set = history.set();
    set.find(id, Algorithm::Hs256, Some(at(seconds)))
        .map(Iterator::count)
}

#[test]
fn a_removed_key_serves_the_events_from_before_its_removal() {
    let first = KeyHistory::default().succeed(served(&[secret("a", 'A')]), at(10), KEEP);
    let both = served(&[secret("a", 'A'), secret("b", 'E')]);
    let second = first.succeed(both, at(20), KEEP);
    let third = second.succeed(served(&[secret("b", 'E')]), at(30), KEEP);
    for (history, id, second, expected) in [
        (&first, "a", 1, Ok(1)),
        (&first, "b", 1, Err(TokenReason::UnknownKey)),
        // A key that is new serves every event.
        (&second, "b", 1, Ok(1)),
        (&third, "a", 29, Ok(1)),
        (&third, "a", 30, Err(TokenReason::UnknownKey)),
        (&third, "b", 1, Ok(1)),
    ] {
        assert_eq!(tried(history, id, second), expected, "{id} at {second}");
    }
    // Without an event only what is served now counts.
    let set = third.set();
    let without = set.find("a", Algorithm::Hs256, None);
    assert_eq!(without.map(Iterator::count), Err(TokenReason::UnknownKey));
    // One that comes back is no longer retired.
    let again = third.succeed(served(&[secret("a", 'A')]), at(40), KEEP);
    assert_eq!(tried(&again, "a", 99), Ok(1));
    assert_eq!(again.retired.len(), 1);
    assert!(again.is(&again.succeed(again.current.clone(), at(41), KEEP)));
    assert!(!again.is(&third));
}

#[test]
fn a_key_changed_in_place_has_both_tried_on_older_events() {
    let old = KeyHistory::default().succeed(served(&[secret("a", 'A')]), at(10), KEEP);
    let new = old.succeed(served(&[secret("a", 'E')]), at(20), KEEP);
    assert_eq!(tried(&new, "a", 19), Ok(2));
    assert_eq!(tried(&new, "a", 20), Ok(1));
    let set = new.set();
    let first = set
        .find("a", Algorithm::Hs256, Some(at(19)))
        .unwrap()
        .next();
    assert_eq!(first.unwrap().identity(), new.current[0].key.identity());
    let mismatch = set.find("a", Algorithm::Rs256, Some(at(19)));
    assert_eq!(mismatch.err(), Some(TokenReason::AlgorithmMismatch));
}

#[test]
fn retired_keys_are_bounded_in_number_and_age() {
    let mut history = KeyHistory::default();
    for (number, byte) in (0..).zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ".chars()) {
        let id = format!("k{number}");
        history = history.succeed(served(&[secret(&id, byte)]), at(10 + number), KEEP);
    }
    assert_eq!(history.retired.len(), 8);
    assert_eq!(history.retired[0].key.id, "k24");
    let later = history.succeed(history.current.clone(), at(10 + 25 + 96), KEEP);
    assert_eq!(later.retired.len(), 4);
    let none = Keep {
        age: Duration::ZERO,
        ..KEEP
    };
    assert!(
        history
            .succeed(history.current.clone(), at(40), none)
            .retired
            .is_empty()
    );
}

#[test]
fn what_a_served_set_has_that_cannot_be_used_is_left_out() {
    let weak = json!({"kty": "RSA", "kid": "w", "n": "_w", "e": "AQAB"});
    let encryption = json!({"kty": "RSA", "kid": "e", "use": "enc", "n": "_w", "e": "AQAB"});
    let mut private = secret("a", 'A');
    private["d"] = json!("private");
    private["x5u"] = json!("https://attacker.example/");
    let keys = [weak.clone(), encryption, json!(7), private];
    let set = ServedKeys::read(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
    assert_eq!(set.keys.len(), 1);
    assert_eq!(set.left_out.len(), 3, "{:?}", set.left_out);
    assert!(!set.keys[0].jwk.contains("private") && !set.keys[0].jwk.contains("attacker"));
    for nonsense in ["", "<html>", "[]", "{}", r#"{"keys":[]}"#, r#"{"keys":{}}"#] {
        assert!(ServedKeys::read(nonsense.as_bytes()).is_err(), "{nonsense}");
    }
    let only_weak = json!({ "keys": [weak] }).to_string();
    let error = ServedKeys::read(only_weak.as_bytes()).unwrap_err();
    assert!(
        error.starts_with("no key of the set can verify tokens: keys[0]: "),
        "{error}"
    );
}

#[test]
fn a_token_meets_few_keys_however_many_share_its_name() {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let keys: Vec<_> = alphabet.chars().map(|byte| secret("a", byte)).collect();
    let set = served(&keys);
    assert_eq!(set.len(), 26);
    let history = KeyHistory::default().succeed(set, at(10), KEEP);
    assert_eq!(tried(&history, "a", 1), Ok(MAX_CANDIDATES));
    let many: Vec<_> = (0..3_000)
        .map(|number| secret(&number.to_string(), 'A'))
        .collect();
    let read = ServedKeys::read(json!({ "keys": many }).to_string().as_bytes()).unwrap();
    assert_eq!((read.keys.len(), read.left_out.len()), (1_000, 1));
}
