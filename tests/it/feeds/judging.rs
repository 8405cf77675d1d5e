//! What the inline check verifies, how much of it, and what it answers where it did not.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gatewatch::api::Gate;
use gatewatch::clock;
use gatewatch::config::{CheckSettings, Unavailable, parse};
use gatewatch::enrich::privacy::Hasher;
use gatewatch::enrich::{Judge, Shared};
use gatewatch::model::{
    BlockKind, Captured, Client, EventTime, Exchange, Headers, Network, Request,
};
use gatewatch::policy::Policy;
use gatewatch::policy::tokens::{Keep, KeyFeed, KeyHistory, KeySet, ServedKeys};
use gatewatch::publish::feed::Feed;
use gatewatch::telemetry::Metrics;
use serde_json::json;

use super::{HASH_KEY, ZONE, listed, plain_check};

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn jwks() -> String {
    let key = base64(b"0123456789abcdef0123456789abcdef");
    json!({"keys": [{"kty": "oct", "alg": "HS256", "kid": "k", "k": key}]}).to_string()
}

/// A token of the issuer, or one that only says so.
fn token(kid: &str, subject: &str, number: u64, genuine: bool) -> String {
    let head = base64(json!({"alg": "HS256", "kid": kid}).to_string());
    let body = base64(json!({"sub": subject, "number": number}).to_string());
    let signed = format!("{head}.{body}");
    let secret: &[u8] = if genuine {
        b"0123456789abcdef0123456789abcdef"
    } else {
        b"another one, made up by a client"
    };
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, secret),
        signed.as_bytes(),
    );
    format!("{signed}.{}", base64(tag))
}

fn policy(jwks: &str, rule: bool) -> Arc<Policy> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("jwks.json"), self::jwks()).unwrap();
    let mut text = format!(
        "name = \"shop\"\n[source]\npath = \"t\"\n[[zones]]\nid = \"{ZONE}\"\nhosts = [\"api.shop.example\"]\n\
         [[zones.session_identifiers]]\ntype = \"jwt\"\nname = \"shop:$.sub\"\n\
         [[zones.token_configurations]]\ntitle = \"shop\"\njwks = {jwks}\n\
         token_sources = ['http.request.headers[\"authorization\"][0]']\n"
    );
    if rule {
        text.push_str(
            "[[zones.rules]]\ntitle = \"valid tokens\"\nkind = \"token\"\naction = \"block\"\n\
             expression = 'is_jwt_valid(\"shop\")'\n",
        );
    }
    parse("p.toml", &text, folder.path()).unwrap().policy
}

/// A gate, its list and what it counts.
struct Bench {
    gate: Gate,
    feed: Feed,
    metrics: Metrics,
    /// What the hash of a session is taken of.
    kind: String,
}

impl Bench {
    fn new(policy: Arc<Policy>, check: CheckSettings) -> Self {
        let feed = Feed::new();
        feed.replace(Vec::new());
        let metrics = Metrics::new();
        let kind = policy.zones[0].sessions.identifiers[0].kind.clone();
        let judge = Judge::new(policy, Arc::new(Shared::new(HASH_KEY)));
        Self {
            gate: Gate::new(feed.clone(), judge, check, metrics.clone()),
            feed,
            metrics,
            kind,
        }
    }

    /// What somebody with this token is told, `second` seconds from now.
    fn ask(&self, token: Option<&str>, second: i64) -> &'static str {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let fields = bearer.iter().map(|value| {
            let name = Cow::Borrowed("authorization");
            (name, Cow::Borrowed(value.as_str()))
        });
        let exchange = Exchange {
            id: None,
            at: EventTime::clamped(clock::now_millis() / 60_000 * 60_000 + second * 1_000),
            zone: None,
            client: Client {
                ip: Some("192.0.2.1".into()),
                ..Client::default()
            },
            certificate: None,
            request: Request {
                method: "GET".into(),
                scheme: None,
                host: "api.shop.example".into(),
                path: "/orders".into(),
                query: None,
                headers: Headers {
                    fields: fields.collect(),
                    captured: Captured::All,
                },
                body: None,
                body_bytes: None,
            },
            response: None,
        };
        self.gate.ask(&exchange).as_str()
    }

    fn counted(&self, name: &str) -> u64 {
        let text = self.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    fn signatures(&self) -> u64 {
        self.counted("gatewatch_check_token_signature_checks_total")
    }
}

#[test]
fn a_signature_is_verified_only_where_the_answer_needs_it() {
    let bench = Bench::new(policy("\"jwks.json\"", true), plain_check());
    let hasher = Hasher::new(HASH_KEY);
    let (genuine, forged) = (token("k", "u", 1, true), token("k", "u", 1, false));
    for token in [&genuine, &forged] {
        assert_eq!(bench.ask(Some(token), 0), "allowed");
    }
    let of_token = hex::encode(hasher.hash(ZONE, "token", forged.as_bytes()));
    bench
        .feed
        .replace(vec![listed(ZONE, BlockKind::Token, &of_token)]);
    assert_eq!(bench.ask(Some(&forged), 0), "blocked");
    assert_eq!(bench.ask(Some(&genuine), 0), "allowed");
    assert_eq!(bench.signatures(), 0, "a token is what it is");

    let of_session = |subject: &str| {
        let hash = hasher.hash(ZONE, &bench.kind, subject.as_bytes());
        listed(ZONE, BlockKind::Session, &hex::encode(hash))
    };
    bench.feed.replace(vec![of_session("u")]);
    assert_eq!(bench.ask(Some(&genuine), 0), "blocked");
    assert_eq!(bench.signatures(), 1);
    // A name in a forged token is nobody's.
    assert_eq!(bench.ask(Some(&forged), 0), "allowed");
    assert_eq!(bench.signatures(), 2);
    assert_eq!(bench.ask(Some(&genuine), 0), "blocked");
    assert_eq!(bench.ask(None, 0), "allowed");
    assert_eq!(bench.signatures(), 2, "both are remembered");
}

#[test]
fn a_second_has_so_many_verifications_and_then_the_configured_answer() {
    for (unavailable, answer) in [
        (Unavailable::Allow, "allowed"),
        (Unavailable::Refuse, "unavailable"),
    ] {
        let check = CheckSettings {
            judge: true,
            unavailable,
            verifications: 2,
            ..plain_check()
        };
        let bench = Bench::new(policy("\"jwks.json\"", true), check);
        let forged = |number: u64| token("k", "u", number, false);
        assert_eq!(bench.ask(Some(&forged(1)), 5), "rule");
        assert_eq!(bench.ask(Some(&forged(2)), 5), "rule");
        assert_eq!(bench.ask(Some(&forged(3)), 5), answer);
        assert_eq!(bench.ask(Some(&token("k", "u", 4, true)), 5), answer);
        // What needs no signature is decided all the same.
        assert_eq!(bench.ask(Some(&forged(2)), 5), "rule");
        assert_eq!(bench.ask(Some("no token"), 5), "rule");
        assert_eq!(bench.ask(Some(&token("k2", "u", 1, true)), 5), "rule");
        assert_eq!(bench.ask(None, 5), "rule");
        // The next second has as many.
        assert_eq!(bench.ask(Some(&forged(3)), 6), "rule");
        assert_eq!(bench.ask(Some(&token("k", "u", 4, true)), 6), "allowed");
        assert_eq!(bench.ask(Some(&forged(5)), 6), answer);
        assert_eq!(bench.signatures(), 4);
        let undecided = bench.counted("gatewatch_checks_undecided_total{reason=\"verifications\"}");
        assert_eq!(undecided, 3);
    }
}

/// An issuer that must never be waited for.
#[derive(Debug)]
struct Slow {
    set: Arc<KeySet>,
    comes: AtomicBool,
}

impl KeyFeed for Slow {
    fn current(&self) -> Option<Arc<KeySet>> {
        Some(Arc::clone(&self.set))
    }

    fn missing(&self, id: &str) -> Option<Arc<KeySet>> {
        panic!("waited for {id}")
    }

    fn wanted(&self, _: &str) -> bool {
        self.comes.load(Ordering::Relaxed)
    }
}

#[test]
fn nobody_waits_for_the_keys_of_an_issuer() {
    for (unavailable, answer) in [
        (Unavailable::Allow, "allowed"),
        (Unavailable::Refuse, "unavailable"),
    ] {
        let check = CheckSettings {
            judge: true,
            unavailable,
            ..plain_check()
        };
        let policy = policy("{ url = \"https://id.shop.example/jwks\" }", true);
        let served = policy.zones[0].tokens.configurations[0].keys.served();
        let keep = Keep {
            age: std::time::Duration::from_hours(1),
            count: 1,
        };
        let keys = ServedKeys::read(jwks().as_bytes()).unwrap().keys;
        let now = EventTime::clamped(clock::now_millis());
        let set = KeyHistory::default().succeed(keys, now, keep).set();
        let slow = Arc::new(Slow {
            set: Arc::new(set),
            comes: AtomicBool::new(true),
        });
        served.unwrap().attach(Arc::clone(&slow) as _);
        let bench = Bench::new(policy, check);
        assert_eq!(bench.ask(Some(&token("k", "u", 1, true)), 0), "allowed");
        let rotated = token("k2", "u", 1, true);
        assert_eq!(bench.ask(Some(&rotated), 0), answer, "a newer set comes");
        slow.comes.store(false, Ordering::Relaxed);
        assert_eq!(bench.ask(Some(&rotated), 0), "rule", "it has no such key");
        let undecided = bench.counted("gatewatch_checks_undecided_total{reason=\"keys\"}");
        assert_eq!(undecided, 1);
    }
}

#[test]
fn an_address_of_the_allow_list_is_never_refused() {
    let check = |allow: &str| CheckSettings {
        judge: true,
        allow: vec![Network::parse(allow).unwrap()],
        ..plain_check()
    };
    for (allow, answer) in [
        ("192.0.2.0/24", "allowed"),
        ("::ffff:192.0.2.0/120", "allowed"),
        ("192.0.3.0/24", "rule"),
    ] {
        let bench = Bench::new(policy("\"jwks.json\"", true), check(allow));
        assert_eq!(bench.ask(Some(&token("k", "u", 1, false)), 0), answer);
    }
    let bench = Bench::new(policy("\"jwks.json\"", false), check("192.0.3.0/24"));
    assert_eq!(bench.ask(None, 0), "allowed", "nothing blocks");
}
