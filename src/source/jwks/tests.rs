//! Feeds against an issuer on this machine, over TLS.
//!
//! Nothing here waits for a time to pass: what is due when is the schedule's business, and a fetch is asked for by a token
//! with an unknown key.

mod issuer;

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use self::issuer::{Issuer, head};
use super::*;
use crate::policy::objects::{JwksObject, TokenConfigurationObject, ZoneObject};
use crate::policy::tokens::Algorithm;

const LONG: Duration = Duration::from_hours(1);

fn secret(id: &str) -> Value {
    let secret = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, id.as_bytes());
    let k = URL_SAFE_NO_PAD.encode(secret);
    json!({"kty": "oct", "kid": id, "alg": "HS256", "k": k})
}

fn settings(issuer: &Issuer) -> JwksUrl {
    JwksUrl {
        url: issuer.url(),
        // Only the first unknown key of a test may cause a fetch, unless it says otherwise.
        cooldown: LONG,
        refresh: LONG,
        timeout: Duration::from_secs(20),
        allow_private: true,
        ca: Some(issuer.ca.clone()),
        ..JwksUrl::default()
    }
}

/// Settings under which every unknown key causes a fetch.
fn eager(issuer: &Issuer) -> JwksUrl {
    JwksUrl {
        cooldown: Duration::ZERO,
        ..settings(issuer)
    }
}

/// A policy with one configuration per settings.
fn policy(sets: &[JwksUrl]) -> Policy {
    let configurations = sets.iter().enumerate().map(|(number, settings)| {
        let source = r#"http.request.headers["authorization"][0]"#;
        TokenConfigurationObject {
            title: format!("c{number}"),
            token_sources: vec![source.to_owned()],
            jwks: JwksObject::Served(settings.clone()),
            max_token_bytes: 1_000,
            ..TokenConfigurationObject::default()
        }
    });
    let zone = ZoneObject {
        id: "z".to_owned(),
        hosts: vec!["api.example".to_owned()],
        token_configurations: configurations.collect(),
        ..ZoneObject::default()
    };
    crate::policy::compile(&[zone]).unwrap()
}

/// One key set at work.
struct Work {
    sets: KeySets,
    metrics: Metrics,
}

impl Work {
    fn start(settings: JwksUrl) -> Self {
        let metrics = Metrics::new();
        let sets = KeySets::start(&policy(&[settings]), &metrics, Disk::Keep).unwrap();
        Self { sets, metrics }
    }

    /// Starts and has the first answer.
    fn first(settings: JwksUrl) -> Self {
        let work = Self::start(settings);
        work.sets.first().unwrap();
        work
    }

    fn feed(&self) -> &Feed {
        &self.sets.feeds[0]
    }

    /// Whether a key serves an event at this time.
    fn has(&self, id: &str, at: Option<EventTime>) -> bool {
        has(&self.feed().current().unwrap(), id, at)
    }

    fn counted(&self, line: &str) -> bool {
        self.metrics.encode().lines().any(|known| known == line)
    }
}

fn has(set: &KeySet, id: &str, at: Option<EventTime>) -> bool {
    set.find(id, Algorithm::Hs256, at).is_ok()
}

fn second(seconds: i64) -> Option<EventTime> {
    EventTime::from_seconds(seconds)
}

/// After every test.
const FAR: i64 = 4_000_000_000;

#[test]
fn the_first_set_is_had_and_its_validator_sent_from_then_on() {
    let issuer = Issuer::start();
    let mut served = 0;
    issuer.answers(move |request| {
        served += 1;
        if request.contains("\r\nif-none-match: \"v1\"\r\n") {
            return head(
                "304 Not Modified",
                "etag: \"v1\"\r\ncache-control: max-age=60\r\n",
            );
        }
        assert_eq!(served, 1, "the second request has the validator: {request}");
        let mut bytes = head("200 OK", "etag: \"v1\"\r\ncache-control: max-age=60\r\n");
        bytes.extend(json!({ "keys": [secret("a")] }).to_string().into_bytes());
        bytes
    });
    let work = Work::first(settings(&issuer));
    assert!(work.has("a", None) && !work.has("b", None));
    assert!(work.counted("gatewatch_jwks_fetches_total{result=\"changed\"} 1"));
    // A token with an unknown key asks, and the issuer says that nothing changed.
    let set = work.feed().missing("b").unwrap();
    assert!(has(&set, "a", None) && !has(&set, "b", None));
    assert!(work.counted("gatewatch_jwks_fetches_total{result=\"same\"} 1"));
    // Once per cool-down, whatever the names are.
    for number in 0..1_000 {
        work.feed().missing(&format!("made up {number}"));
    }
    let heads = issuer.heads();
    assert_eq!(heads.len(), 2, "{heads:?}");
    assert!(
        heads[0].starts_with("get /jwks http/1.1\r\n"),
        "{}",
        heads[0]
    );
    assert!(
        heads[0].contains("\r\nuser-agent: gatewatch/"),
        "{}",
        heads[0]
    );
    assert!(!heads[0].contains("if-none-match"), "{}", heads[0]);
}

#[test]
fn freshness_is_what_the_issuer_says_within_bounds() {
    for (fields, due) in [
        ("cache-control: max-age=600\r\n", 600),
        ("cache-control: public, max-age=100000\r\n", 3_600),
        ("cache-control: max-age=600\r\nage: 400\r\n", 200),
        ("cache-control: no-store\r\n", 30),
        ("cache-control: no-cache\r\n", 30),
        ("expires: Thu, 01 Jan 1970 00:00:00 GMT\r\n", 30),
        ("", 3_600),
        ("last-modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n", 3_600),
    ] {
        let issuer = Issuer::start();
        issuer.serves(&[secret("a")], fields);
        let work = Work::first(JwksUrl {
            cooldown: Duration::from_secs(30),
            ..settings(&issuer)
        });
        let due_at = work.feed().state().schedule.due();
        let since_start = work.feed().since.elapsed();
        let due = Duration::from_secs(due);
        assert!(due_at >= due, "{fields}: {due_at:?}");
        assert!(due_at <= due + since_start, "{fields}: {due_at:?}");
    }
}

#[test]
fn a_rotation_serves_new_tokens_and_old_events() {
    let issuer = Issuer::start();
    issuer.serves(&[secret("a")], "");
    let before = second(clock::now_millis() / 1_000 - 10);
    let work = Work::first(eager(&issuer));
    issuer.serves(&[secret("b")], "");
    let set = work.feed().missing("b").unwrap();
    assert!(has(&set, "b", before) && has(&set, "b", second(FAR)));
    assert!(has(&set, "a", before), "an event from before the removal");
    assert!(!has(&set, "a", second(FAR)) && !has(&set, "a", None));
    assert!(work.counted("gatewatch_jwks_fetches_total{result=\"changed\"} 2"));
    // Nobody keeps retired keys.
    let none = Work::first(JwksUrl {
        keep_retired: Duration::ZERO,
        ..eager(&issuer)
    });
    issuer.serves(&[secret("c")], "");
    let set = none.feed().missing("c").unwrap();
    assert!(has(&set, "c", None) && !has(&set, "b", before));
}

#[test]
fn the_last_good_set_outlives_every_bad_answer() {
    let issuer = Issuer::start();
    issuer.serves(&[secret("a")], "etag: \"v1\"\r\n");
    let work = Work::first(settings(&issuer));
    let with = |status: &str, fields: &str, body: &[u8]| {
        let mut bytes = head(status, fields);
        bytes.extend(body);
        bytes
    };
    let weak = json!({ "keys": [{"kty": "oct", "kid": "b", "k": "AAAA"}] }).to_string();
    let good = json!({ "keys": [secret("b")] }).to_string();
    let mut large = good.clone();
    large.push_str(&" ".repeat(1 << 20));
    for (answer, why) in [
        (
            with("500 Internal Server Error", "", good.as_bytes()),
            "the answer is 500",
        ),
        (
            with("404 Not Found", "", good.as_bytes()),
            "the answer is 404",
        ),
        (with("204 No Content", "", b""), "the answer is 204"),
        (
            with("200 OK", "", b"<html>come back later</html>"),
            "not a JWK set",
        ),
        (with("200 OK", "", b"{\"keys\":[]}"), "the set has no keys"),
        (
            with("200 OK", "", weak.as_bytes()),
            "no key of the set can verify tokens",
        ),
        (
            with("200 OK", "", large.as_bytes()),
            "longer than 1048576 bytes",
        ),
        // A redirect into the network of this machine, and anywhere else.
        (
            with(
                "302 Found",
                "location: https://169.254.169.254/\r\n",
                good.as_bytes(),
            ),
            "redirects are not followed",
        ),
        (
            with("308 Permanent Redirect", "location: /elsewhere\r\n", b""),
            "redirects are not followed",
        ),
        (
            with("304 Not Modified", "etag: \"v9\"\r\n", b""),
            "not modified",
        ),
        // Nothing at all.
        (Vec::new(), ""),
    ] {
        let asked = issuer.heads().len();
        issuer.answers(move |_| answer.clone());
        endures(&work, &issuer, asked, why);
    }
    assert!(work.counted("gatewatch_jwks_failing 1"));
    issuer.serves(&[secret("b")], "");
    work.feed().state().schedule = Schedule::new(LONG, LONG);
    assert!(has(&work.feed().missing("b").unwrap(), "b", None));
    assert!(work.counted("gatewatch_jwks_failing 0"));
}

/// Has one bad answer and looks at what became of it.
fn endures(work: &Work, issuer: &Issuer, asked: usize, why: &str) {
    let feed = work.feed();
    // No cool-down has begun and no failure counts.
    feed.state().schedule = Schedule::new(LONG, LONG);
    feed.missing("b");
    let state = feed.state();
    let failure = state.failure.clone().unwrap_or_default();
    assert!(
        failure.contains(why) && !failure.is_empty(),
        "{why}: {failure}"
    );
    drop(state);
    assert!(work.has("a", None) && !work.has("b", None), "{why}");
    assert!(issuer.heads().len() > asked, "{why}");
}

#[test]
fn nobody_is_sent_into_a_private_network() {
    let issuer = Issuer::start();
    issuer.serves(&[secret("a")], "");
    for (url, why) in [
        (
            issuer.url(),
            "127.0.0.1 is not an address of the public internet",
        ),
        // A name that resolves there, as one of somebody else's zone may from one look-up to the next.
        (
            format!("https://localhost:{}/jwks", issuer.port),
            "which is not of the public internet",
        ),
    ] {
        let closed = JwksUrl {
            allow_private: false,
            url,
            ..settings(&issuer)
        };
        let work = Work::start(closed);
        let error = work.sets.first().unwrap_err();
        assert!(error.contains(why), "{error}");
        assert!(work.feed().missing("a").is_none());
    }
    assert_eq!(issuer.heads(), [""; 0]);
    // The same name where it is allowed, and only with a certificate that is trusted.
    let named = JwksUrl {
        url: format!("https://localhost:{}/jwks", issuer.port),
        ..settings(&issuer)
    };
    assert!(Work::first(named.clone()).has("a", None));
    let stranger = JwksUrl {
        ca: Some(Issuer::start().ca),
        ..named
    };
    let error = Work::start(stranger).sets.first().unwrap_err();
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(issuer.heads().len(), 1);
}

#[test]
fn a_restart_goes_on_with_the_kept_set_and_its_retired_keys() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::start();
    let kept = JwksUrl {
        cache: Some(folder.path().join("jwks")),
        ..eager(&issuer)
    };
    let before = second(clock::now_millis() / 1_000 - 10);
    {
        issuer.serves(&[secret("a")], "etag: \"v1\"\r\n");
        let work = Work::first(kept.clone());
        issuer.serves(&[secret("b")], "etag: \"v2\"\r\n");
        work.feed().missing("b");
    }
    // The issuer is down: nothing is waited for.
    issuer.answers(|_| head("503 Service Unavailable", ""));
    let work = Work::start(kept.clone());
    assert_eq!(work.sets.waiting(), None);
    assert!(work.has("b", None) && work.has("a", before) && !work.has("a", second(FAR)));
    // And it is asked whether the kept set still holds.
    work.feed().missing("c");
    let asked = issuer.heads().pop().unwrap();
    assert!(asked.contains("\r\nif-none-match: \"v2\"\r\n"), "{asked}");
    drop(work);
    let mode = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    let file = kept::file(kept.cache.as_ref().unwrap(), &kept.url);
    assert_eq!(mode(&file), 0o600);
    // A key that was removed while nobody looked is retired from when that is noticed.
    issuer.serves(&[secret("c")], "");
    let work = Work::start(kept.clone());
    let set = work.feed().missing("c").unwrap();
    assert!(has(&set, "c", None) && has(&set, "b", before) && has(&set, "a", before));
    drop(work);
    // What cannot be read is as good as nothing.
    let written = std::fs::read(&file).unwrap();
    let broken: [&[u8]; 4] = [&written[..written.len() / 2], b"", b"{}", b"[]"];
    for bytes in broken {
        std::fs::write(&file, bytes).unwrap();
        let read_only = KeySets::start(
            &policy(std::slice::from_ref(&kept)),
            &Metrics::new(),
            Disk::Read,
        );
        read_only.unwrap().first().unwrap();
        assert_eq!(
            std::fs::read(&file).unwrap(),
            bytes,
            "explaining writes nothing"
        );
    }
}

#[test]
fn an_issuer_that_says_nothing_holds_nobody_up_for_long() {
    let issuer = Issuer::start();
    // Nothing is sent before the end of the test.
    let (_end, until) = std::sync::mpsc::channel::<()>();
    issuer.answers(move |_| {
        let _ = until.recv();
        Vec::new()
    });
    let work = Work::start(JwksUrl {
        timeout: Duration::from_millis(200),
        ..settings(&issuer)
    });
    let error = work.sets.first().unwrap_err();
    assert!(error.contains("no answer in time"), "{error}");
}

#[test]
fn a_set_that_was_never_had_is_waited_for() {
    let issuer = Issuer::start();
    let work = Work::start(settings(&issuer));
    let error = work.sets.first().unwrap_err();
    assert!(
        error.contains("was never had: the answer is 503"),
        "{error}"
    );
    assert!(work.feed().current().is_none());
    issuer.serves(&[secret("a")], "");
    // Fetched again by itself, after a second; a token with an unknown key is not waited for by then.
    assert!(has(&work.feed().missing("a").unwrap(), "a", None));
    assert_eq!(work.sets.waiting(), None);
}

#[test]
fn configurations_with_the_same_settings_share_one_issuer() {
    let issuer = Issuer::start();
    issuer.serves(&[secret("a")], "");
    let other = JwksUrl {
        url: format!("{}?tenant=2", issuer.url()),
        ..settings(&issuer)
    };
    let policy = policy(&[settings(&issuer), other, settings(&issuer)]);
    let sets = KeySets::start(&policy, &Metrics::new(), Disk::Keep).unwrap();
    sets.first().unwrap();
    assert_eq!(issuer.heads().len(), 2);
    let configurations = &policy.zones[0].tokens.configurations;
    assert!(configurations.iter().all(|c| c.keys.current().is_some()));
    // What is at hand stays after the end; nobody waits for a fetch any more.
    drop(sets);
    assert!(configurations[0].keys.missing("b").is_some());
    assert_eq!(issuer.heads().len(), 2);
}

#[test]
fn whoever_cannot_wait_has_the_issuer_asked_all_the_same() {
    let issuer = Issuer::start();
    let (release, held) = std::sync::mpsc::channel();
    let mut served = 0;
    issuer.answers(move |_| {
        served += 1;
        let keys = if served == 1 {
            vec![secret("a")]
        } else {
            // As slow as an issuer may be.
            held.recv().unwrap();
            vec![secret("a"), secret("b")]
        };
        let mut bytes = head("200 OK", "cache-control: max-age=60\r\n");
        bytes.extend(json!({ "keys": keys }).to_string().into_bytes());
        bytes
    });
    let work = Work::first(settings(&issuer));
    let feed = work.feed();
    assert!(feed.wanted("b"), "a newer set is on its way");
    assert!(feed.wanted("made up"), "as long as it is");
    assert!(work.has("a", None) && !work.has("b", None));
    release.send(()).unwrap();
    let first = |state: &mut State| state.rounds < 2;
    let waited = feed
        .changed
        .wait_timeout_while(feed.state(), Duration::from_mins(1), first);
    drop(waited.unwrap());
    assert!(work.has("b", None));
    // Once per cool-down.
    assert!(!feed.wanted("made up"));
}
