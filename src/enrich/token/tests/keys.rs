//! Tables of key sets that change, and of what tokens may cost.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::policy::objects::{JwksObject, JwksUrl};
use crate::policy::tokens::{Keep, KeyFeed, KeyHistory, KeySet, MAX_CANDIDATES, ServedKeys};

/// An issuer whose next set is had when a token asks for it.
#[derive(Debug, Default)]
struct Feed {
    history: Mutex<Option<KeyHistory>>,
    next: Mutex<Option<(Vec<Value>, i64)>>,
    asked: AtomicUsize,
}

impl Feed {
    fn serve(&self, keys: &[Value], at: i64) {
        let keep = Keep {
            age: Duration::from_hours(1),
            count: 8,
        };
        let served = ServedKeys::read(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
        let mut history = self.history.lock().unwrap();
        let old = history.take().unwrap_or_default();
        let now = EventTime::from_seconds(at).unwrap();
        *history = Some(old.succeed(served.keys, now, keep));
    }
}

impl KeyFeed for Feed {
    fn current(&self) -> Option<Arc<KeySet>> {
        let history = self.history.lock().unwrap();
        history.as_ref().map(|history| Arc::new(history.set()))
    }

    fn missing(&self, _: &str) -> Option<Arc<KeySet>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let next = self.next.lock().unwrap().take();
        if let Some((keys, at)) = next {
            self.serve(&keys, at);
        }
        self.current()
    }

    fn wanted(&self, _: &str) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.next.lock().unwrap().is_some()
    }
}

/// A zone whose only configuration has its keys from a feed, and the feed.
fn fed() -> (Zone, Arc<Feed>) {
    let mut object = configuration("all", &[]);
    object.jwks = JwksObject::Served(JwksUrl::default());
    let zone = zone_of(vec![object]);
    let feed = Arc::new(Feed::default());
    let served = zone.tokens.configurations[0].keys.served().unwrap();
    served.attach(Arc::clone(&feed) as Arc<dyn KeyFeed>);
    (zone, feed)
}

/// One stream of exchanges.
struct Bench {
    zone: Zone,
    cache: TokenCache,
    budget: Budget,
}

impl Bench {
    fn new(zone: Zone) -> Self {
        Self {
            zone,
            cache: TokenCache::new(64),
            budget: Budget::default(),
        }
    }

    fn judge(&mut self, token: &str, seconds: i64) -> TokenOutcome {
        let value = format!("Bearer {token}");
        let mut exchange = exchange(&[("authorization", &value)], Captured::All);
        exchange.at = EventTime::from_seconds(seconds).unwrap();
        let (hasher, mut out) = (Hasher::new(b"k"), Vec::new());
        let (cache, budget) = (&self.cache, &mut self.budget);
        judge(&self.zone, &exchange, cache, &hasher, budget, &mut out);
        out[0].outcome
    }
}

#[test]
fn a_rotation_makes_no_token_wrong() {
    let (old, new) = (signer("ES256"), signer("EdDSA"));
    let (zone, feed) = fed();
    let mut bench = Bench::new(zone);
    let (by_old, by_new) = (old.token(&json!({})), new.token(&json!({})));
    // No set was ever had: nobody is told that the key is unknown.
    assert_eq!(bench.judge(&by_old, NOW), TokenOutcome::NotEvaluated);
    feed.serve(std::slice::from_ref(&old.jwk), NOW);
    assert_eq!(bench.judge(&by_old, NOW), VALID);
    assert_eq!(bench.cache.counts().signatures, 1);
    // The first token by the new key finds it, before any verdict.
    *feed.next.lock().unwrap() = Some((vec![new.jwk.clone()], NOW + 100));
    assert_eq!(bench.judge(&by_new, NOW + 101), VALID);
    assert_eq!(feed.asked.load(Ordering::Relaxed), 1);
    // Events from before the removal stay valid, and keep their cached verdict.
    assert_eq!(bench.judge(&by_old, NOW + 99), VALID);
    assert_eq!(bench.cache.counts().signatures, 2);
    assert_eq!(bench.judge(&by_old, NOW + 100), invalid(UnknownKey));
    assert_eq!(bench.judge(&by_old, NOW + 99), VALID);
    assert_eq!(bench.cache.counts().signatures, 2);
    // Known keys never ask.
    assert_eq!(feed.asked.load(Ordering::Relaxed), 2);
    assert_eq!(bench.cache.counts().not_evaluated, 1);
}

#[test]
fn a_changed_key_never_meets_the_verdict_of_the_old_one() {
    let (hs, other) = (signer("HS256"), signer("HS384"));
    let renamed = |jwk: &Value| {
        let mut jwk = jwk.clone();
        jwk["kid"] = json!("k");
        jwk["alg"] = json!("HS256");
        jwk
    };
    let (good, bad) = (renamed(&hs.jwk), {
        let mut jwk = renamed(&other.jwk);
        jwk["k"] = json!(base64([9; 64]));
        jwk
    });
    let (zone, feed) = fed();
    let mut bench = Bench::new(zone);
    let header = json!({"alg": "HS256", "kid": "k"});
    let token = hs.token_with(&header, &json!({}));
    feed.serve(std::slice::from_ref(&bad), NOW);
    assert_eq!(bench.judge(&token, NOW), invalid(BadSignature));
    // The key is changed in place: the token is tried again, by the new key only.
    feed.serve(std::slice::from_ref(&good), NOW + 10);
    assert_eq!(bench.judge(&token, NOW + 10), VALID);
    assert_eq!(bench.cache.counts().signatures, 2);
    // And back: the good key serves older events only.
    feed.serve(std::slice::from_ref(&bad), NOW + 20);
    assert_eq!(bench.judge(&token, NOW + 20), invalid(BadSignature));
    assert_eq!(bench.judge(&token, NOW + 19), VALID);
    assert_eq!(bench.cache.counts().signatures, 2);
}

#[test]
fn a_hostile_token_costs_few_signature_checks() {
    let hs = signer("HS256");
    let keys: Vec<Value> = (0..40)
        .map(|number| {
            let secret = base64([number; 64]);
            json!({"kty": "oct", "kid": "same", "alg": "HS256", "k": secret})
        })
        .collect();
    let (zone, feed) = fed();
    feed.serve(&keys, NOW);
    let mut bench = Bench::new(zone);
    let header = json!({"alg": "HS256", "kid": "same"});
    for number in 0..50_u64 {
        // The signer's own key is the sixth of the set: an issuer with so many equivalents is not served to the end.
        let token = hs.token_with(&header, &json!({ "n": number }));
        assert_eq!(bench.judge(&token, NOW), invalid(BadSignature));
        let signatures = bench.cache.counts().signatures;
        assert_eq!(signatures, (number + 1) * MAX_CANDIDATES as u64);
        bench.judge(&token, NOW);
        assert_eq!(bench.cache.counts().signatures, signatures);
    }
    // What no key is there for costs none.
    let before = bench.cache.counts().signatures;
    for header in [
        json!({"alg": "HS256", "kid": "made up"}),
        json!({"alg": "RS256", "kid": "same"}),
        json!({"alg": "none"}),
    ] {
        bench.judge(&hs.token_with(&header, &json!({})), NOW);
    }
    assert_eq!(bench.cache.counts().signatures, before);
}

#[test]
fn a_flush_verifies_so_many_tokens_and_says_of_which_it_did_not() {
    let hs = signer("HS256");
    let forged = |number: u64| {
        let token = hs.token(&json!({ "n": number }));
        let (message, _) = token.rsplit_once('.').unwrap();
        format!("{message}.{}", base64([7; 32]))
    };
    let good = hs.token(&json!({}));
    let mut bench = Bench::new(everything());
    bench.budget = Budget::of(100);
    let outcomes = |bench: &mut Bench| {
        let mut outcomes = vec![bench.judge(&good, NOW)];
        outcomes.extend((0..1_000).map(|number| bench.judge(&forged(number), NOW)));
        outcomes.push(bench.judge(&good, NOW));
        outcomes.push(bench.judge(&hs.token(&json!({"late": true})), NOW));
        // What needs no signature check is judged all the same.
        outcomes.push(bench.judge("a.b", NOW));
        outcomes
    };
    let first = outcomes(&mut bench);
    let count = |outcome| first.iter().filter(|o| **o == outcome).count();
    assert_eq!(count(VALID), 2);
    assert_eq!(count(invalid(BadSignature)), 99);
    assert_eq!(count(TokenOutcome::NotEvaluated), 902);
    assert_eq!(first.last(), Some(&invalid(Malformed)));
    assert_eq!(bench.cache.counts().signatures, 100);
    assert_eq!(bench.cache.counts().not_evaluated, 902);
    // A repeated flush stops at the same token, whatever is in the cache by then.
    bench.budget.renew();
    assert_eq!(outcomes(&mut bench), first);
    let mut restarted = Bench::new(everything());
    restarted.budget = Budget::of(100);
    assert_eq!(outcomes(&mut restarted), first);
    assert!(bench.cache.weight() <= 64 * TYPICAL_WEIGHT);
}

#[test]
fn whoever_cannot_wait_is_told_later() {
    let (old, new) = (signer("ES256"), signer("EdDSA"));
    let (zone, feed) = fed();
    let mut bench = Bench::new(zone);
    let meter = Arc::new(Meter::new(2));
    bench.budget = Budget::metered(Arc::clone(&meter));
    let by_old = old.token(&json!({}));
    let by_new = |number: u64| new.token(&json!({ "number": number }));
    assert_eq!(bench.judge(&by_old, NOW), TokenOutcome::NotEvaluated);
    feed.serve(std::slice::from_ref(&old.jwk), NOW);
    assert_eq!(bench.judge(&by_old, NOW), VALID);
    // A newer set is on its way: nothing is said about a key that it may have. Nobody fetches here.
    *feed.next.lock().unwrap() = Some((vec![new.jwk.clone()], NOW + 1));
    assert_eq!(bench.judge(&by_new(1), NOW), TokenOutcome::NotEvaluated);
    assert!(!bench.budget.exceeded());
    assert_eq!(feed.asked.load(Ordering::Relaxed), 1);
    assert_eq!(bench.judge(&by_old, NOW), VALID, "what is known goes on");
    // It came without the key, and the issuer is not asked again yet.
    *feed.next.lock().unwrap() = None;
    assert_eq!(bench.judge(&by_new(1), NOW), invalid(UnknownKey));
    feed.serve(&[old.jwk.clone(), new.jwk.clone()], NOW);
    assert_eq!(bench.judge(&by_new(1), NOW), VALID);
    // Two a second, and those that are remembered.
    assert_eq!(bench.judge(&by_new(2), NOW), TokenOutcome::NotEvaluated);
    assert!(bench.budget.exceeded());
    assert_eq!(bench.judge(&by_new(1), NOW), VALID);
    assert_eq!(bench.judge(&by_new(2), NOW + 1), VALID);
    assert_eq!(bench.cache.counts().signatures, 3);
}
