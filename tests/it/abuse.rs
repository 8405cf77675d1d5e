//! From events to the block list of an embedded pipeline: rules at once, thresholds when they are crossed, and the same list
//! however often, in whatever pieces and after how many kills the same events are read.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::block_list::shown;
use crate::command::{command, output, succeeds};

/// A symmetric key, so that a test can sign: JWK set, and a token signed with it or with another.
pub fn keys() -> Value {
    json!({"keys": [{"kty": "oct", "kid": "k1", "alg": "HS256", "k": base64(&[5; 64])}]})
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

pub fn token(claims: &Value, secret: &[u8]) -> String {
    use aws_lc_rs::hmac;
    let header = base64(br#"{"alg":"HS256","kid":"k1"}"#);
    let message = format!("{header}.{}", base64(claims.to_string().as_bytes()));
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, secret),
        message.as_bytes(),
    );
    format!("{message}.{}", base64(tag.as_ref()))
}

/// One exchange at second `second` of a day.
struct Event<'e> {
    id: String,
    second: u32,
    ip: &'e str,
    path: &'e str,
    headers: Value,
    status: u16,
}

fn lines(events: &[Event<'_>]) -> String {
    let line = |event: &Event<'_>| {
        let (hours, rest) = (event.second / 3_600, event.second % 3_600);
        let time = format!("2026-11-20T{hours:02}:{:02}:{:02}Z", rest / 60, rest % 60);
        let value = json!({
            "kind": "exchange", "id": event.id, "time": time,
            "client": {"ip": event.ip, "asn": 64_500},
            "request": {"method": "GET", "host": "api.example", "path": event.path, "headers": event.headers},
            "response": {"status": event.status}
        });
        format!("{value}\n")
    };
    events.iter().map(line).collect()
}

/// A pipeline over `events` with these tables before and these below the zone.
fn pipeline(folder: &Path, events: &str, top: &str, zone: &str) -> String {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("events.ndjson"), events).unwrap();
    fs::write(folder.join("keys.json"), keys().to_string()).unwrap();
    fs::write(folder.join("hash.key"), "0123456789abcdef0123456789abcdef").unwrap();
    let path = folder.join("pipeline.toml");
    let text = format!(
        "name = \"p\"\n[source]\npath = \"events.ndjson\"\n[privacy]\nhash_key = {{ file = \"hash.key\" }}\n{top}\n\
         [[zones]]\nid = \"z\"\nhosts = [\"api.example\"]\n\
         [[zones.session_identifiers]]\ntype = \"cookie\"\nname = \"sid\"\n\
         [[zones.token_configurations]]\ntitle = \"shop\"\n\
         token_sources = ['http.request.headers[\"authorization\"][0]']\njwks = \"keys.json\"\n{zone}\n"
    );
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Thresholds that list for so long that events of a fixed date still count whenever this runs.
const LASTING: &str = "[[blocklist.thresholds]]\nname = \"credential stuffing\"\nduration = \"10000d\"\n\
                       [[blocklist.thresholds]]\nname = \"token forging\"\nduration = \"10000d\"\n\
                       [[blocklist.thresholds]]\nname = \"session from many addresses\"\nduration = \"10000d\"\n";

/// An entry without the times of the wall clock.
fn timeless(mut entry: Value) -> Value {
    for name in [
        "created_at",
        "updated_at",
        "expires_at",
        "sequence",
        "revision",
    ] {
        entry.as_object_mut().unwrap().remove(name).unwrap();
    }
    entry
}

fn by_kind(entries: &[Value]) -> BTreeMap<String, Vec<String>> {
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in entries {
        let kind = entry["kind"].as_str().unwrap().to_owned();
        let entity = entry["entity"].as_str().unwrap().to_owned();
        kinds.entry(kind).or_default().push(entity);
    }
    kinds
}

#[test]
fn a_rule_that_blocks_lists_what_it_says_with_evidence() {
    let folder = tempfile::tempdir().unwrap();
    let forged = format!(
        "Bearer {}",
        token(&json!({"sub": "victim", "jti": "j1"}), b"another key")
    );
    let good = format!(
        "Bearer {}",
        token(&json!({"sub": "victim", "jti": "j1"}), &[5; 64])
    );
    let event = |number: u32, ip, header: &str| Event {
        id: format!("req-{number}"),
        second: number,
        ip,
        path: "/orders",
        headers: json!({"authorization": header, "cookie": "sid=s1", "user-agent": "curl/8"}),
        status: 401,
    };
    let events = [
        event(1, "203.0.113.7", &forged),
        event(2, "203.0.113.7", &forged),
        event(3, "198.51.100.9", &good),
        event(4, "192.0.2.9", &forged),
        Event {
            headers: json!({"cookie": "sid=guest", "user-agent": "guest/1"}),
            ..event(5, "192.0.2.10", "")
        },
    ];
    let rules = "[[zones.rules]]\ntitle = \"valid token\"\nkind = \"token\"\naction = \"block\"\nduration = \"10000d\"\n\
                 expression = 'is_jwt_valid(\"shop\")'\n\
                 [[zones.rules]]\ntitle = \"tools\"\nid = \"t-1\"\naction = \"block\"\nduration = \"10000d\"\n\
                 block = [\"session\", \"asn\", \"user_agent\", \"cidr\"]\n\
                 expression = 'http.user_agent contains \"curl\" and ip.src eq 203.0.113.7 or http.user_agent eq \"guest/1\"'\n\
                 [[zones.rules]]\ntitle = \"counted only\"\nexpression = 'http.host eq \"api.example\"'\n";
    let allow =
        "[blocklist]\nenforce = true\ndefault_thresholds = false\nallow = [\"192.0.2.0/24\"]";
    let path = pipeline(folder.path(), &lines(&events), allow, rules);
    succeeds(&["run", &path]);
    let entries = shown(&path);
    let kinds = by_kind(&entries);
    assert_eq!(
        kinds["ip"],
        ["203.0.113.7"],
        "the allow list wins, and the good one is not listed"
    );
    assert_eq!(kinds["cidr"], ["203.0.113.0/24"]);
    assert_eq!(kinds["asn"], ["64500"]);
    assert_eq!(kinds["user_agent"], ["curl/8"]);
    assert_eq!(kinds["session"].len(), 1);
    assert_eq!(
        kinds["token"].len(),
        1,
        "the forged token by its own hash, not the good one"
    );
    let ip = entries.iter().find(|entry| entry["kind"] == "ip").unwrap();
    assert_eq!(
        timeless(ip.clone()),
        json!({"zone": "z", "kind": "ip", "entity": "203.0.113.7", "action": "block", "simulated": false,
            "reason": "the rule \"valid token\" fired", "rule": "valid token",
            "evidence": {"valid token": 2}, "samples": ["req-1", "req-2"]})
    );
    let agent = entries
        .iter()
        .find(|entry| entry["kind"] == "user_agent")
        .unwrap();
    assert_eq!(
        (&agent["rule"], &agent["evidence"]),
        (&json!("t-1"), &json!({"t-1": 2}))
    );
    let explained = succeeds(&["explain", &path]);
    let first: Value = serde_json::from_str(explained.lines().next().unwrap()).unwrap();
    assert_eq!(
        first["rules"],
        json!([
            {"title": "valid token", "kind": "token", "value": false, "fires": true, "action": "block"},
            {"title": "tools", "kind": "custom", "value": true, "fires": true, "action": "block"},
            {"title": "counted only", "kind": "custom", "value": true, "fires": true, "action": "log"}
        ])
    );
    // Without `enforce` the same is listed, and nothing is meant.
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace("enforce = true", "enforce = false");
    fs::write(&path, text).unwrap();
    fs::remove_dir_all(folder.path().join("data")).unwrap();
    succeeds(&["run", &path]);
    let simulated = shown(&path);
    assert_eq!(by_kind(&simulated), kinds);
    assert!(simulated.iter().all(|entry| entry["simulated"] == true));
}

/// Attackers of every kind that a default threshold knows, among clients that do nothing wrong.
fn abuse() -> Vec<Event<'static>> {
    let mut events = Vec::new();
    let mut add = |second: u32, ip: &'static str, headers: Value, status: u16| {
        events.push(Event {
            id: format!("req-{}", events.len()),
            second,
            ip,
            path: "/login",
            headers,
            status,
        });
    };
    for number in 0..60 {
        add(30_000 + number * 4, "203.0.113.1", json!({}), 401);
        add(
            30_000 + number * 4,
            "198.51.100.1",
            json!({"cookie": "sid=good"}),
            200,
        );
    }
    // As many, but too slowly.
    for number in 0..60 {
        add(30_000 + number * 60, "198.51.100.2", json!({}), 401);
    }
    for number in 0..12 {
        let forged = token(&json!({"sub": "victim", "n": number}), b"another key");
        add(
            31_000 + number * 10,
            "203.0.113.2",
            json!({"authorization": format!("Bearer {forged}")}),
            200,
        );
    }
    let stolen = [
        "203.0.113.10",
        "203.0.113.11",
        "203.0.113.12",
        "203.0.113.13",
        "203.0.113.14",
        "203.0.113.15",
        "203.0.113.16",
        "203.0.113.17",
        "203.0.113.18",
        "203.0.113.19",
        "203.0.113.20",
    ];
    for (number, ip) in (0..).zip(stolen) {
        add(
            32_000 + number * 30,
            ip,
            json!({"cookie": "sid=stolen"}),
            200,
        );
    }
    events.sort_by_key(|event| event.second);
    events
}

#[test]
fn thresholds_list_abusers_by_what_they_did() {
    let folder = tempfile::tempdir().unwrap();
    let path = pipeline(folder.path(), &lines(&abuse()), LASTING, "");
    succeeds(&["run", &path]);
    let entries: Vec<Value> = shown(&path).into_iter().map(timeless).collect();
    let of = |entity: &str| {
        let entry = entries.iter().find(|entry| entry["entity"] == entity);
        entry.unwrap_or_else(|| panic!("{entity} in {entries:#?}"))
    };
    let stuffing = of("203.0.113.1");
    assert_eq!(stuffing["rule"], "credential stuffing");
    assert_eq!(stuffing["evidence"], json!({"refused": 60}));
    assert_eq!(stuffing["samples"].as_array().unwrap().len(), 10);
    assert_eq!(stuffing["simulated"], true);
    let forging = of("203.0.113.2");
    assert_eq!(forging["rule"], "token forging");
    assert_eq!(forging["evidence"], json!({"forged_token": 12}));
    let kinds = by_kind(&entries);
    assert_eq!(kinds["ip"], ["203.0.113.1", "203.0.113.2"]);
    assert_eq!(kinds["session"].len(), 1, "the stolen session");
    assert_eq!(kinds.len(), 2, "each forged token was used once: {kinds:?}");

    // The operator means it for one of them.
    let text = fs::read_to_string(&path).unwrap();
    let enforce = "[blocklist]\nenforce = true\n[[blocklist.thresholds]]";
    let text = text.replacen("[[blocklist.thresholds]]", enforce, 1);
    let name = "name = \"token forging\"\n";
    let text = text.replacen(name, &format!("{name}action = \"block\"\n"), 1);
    fs::write(&path, text).unwrap();
    succeeds(&["run", &path]);
    let enforced: Vec<Value> = shown(&path)
        .into_iter()
        .filter(|entry| entry["simulated"] == false)
        .collect();
    assert_eq!(
        by_kind(&enforced),
        BTreeMap::from([("ip".to_owned(), vec!["203.0.113.2".to_owned()])])
    );
}

#[test]
fn the_same_events_give_the_same_list_whatever_happens_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let events = lines(&abuse());
    let rule = "[[zones.rules]]\ntitle = \"valid token\"\nkind = \"token\"\naction = \"block\"\nduration = \"10000d\"\n\
                expression = 'is_jwt_valid(\"shop\") or not is_jwt_present(\"shop\")'\n";
    let list = |path: &str| -> Vec<Value> { shown(path).into_iter().map(timeless).collect() };
    let whole = pipeline(&folder.path().join("whole"), &events, LASTING, rule);
    succeeds(&["run", &whole]);
    let expected = list(&whole);
    assert!(expected.len() > 10, "{expected:#?}");
    succeeds(&["run", &whole]);
    assert_eq!(list(&whole), expected, "the same input again");

    // Grown line by line, read in flushes of a few milliseconds by processes that are killed.
    let top = format!("[window]\nflush_every = \"5ms\"\n{LASTING}");
    let pieces = pipeline(&folder.path().join("pieces"), "", &top, rule);
    let log = folder.path().join("pieces/events.ndjson");
    let text = fs::read_to_string(&pieces).unwrap();
    fs::write(
        &pieces,
        text.replacen("path = ", "follow = true\npath = ", 1),
    )
    .unwrap();
    let all: Vec<&str> = events.lines().collect();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut written = String::new();
    for piece in all.chunks(17) {
        for line in piece {
            written.push_str(line);
            written.push('\n');
        }
        fs::write(&log, &written).unwrap();
        let mut run = command(&["run", &pieces])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        std::thread::sleep(std::time::Duration::from_millis((random >> 33) % 120));
        run.kill().unwrap();
        run.wait().unwrap();
    }
    let text = fs::read_to_string(&pieces).unwrap();
    fs::write(&pieces, text.replacen("follow = true\n", "", 1)).unwrap();
    succeeds(&["run", &pieces]);
    // Of a session's requests the windows keep one id, so what was looked at in between leaves its mark.
    let without_samples = |entries: Vec<Value>| -> Vec<Value> {
        let mut entries = entries;
        for entry in &mut entries {
            let samples = entry["samples"].as_array().unwrap();
            assert!(!samples.is_empty(), "{entry}");
            if entry["kind"] == "session" {
                entry["samples"] = Value::Null;
            }
        }
        entries
    };
    assert_eq!(without_samples(list(&pieces)), without_samples(expected));
}

/// Who reads an old log lists its offenders from now on, unless old events are to be left alone.
#[test]
fn yesterdays_log_lists_nobody_where_that_is_too_old() {
    let folder = tempfile::tempdir().unwrap();
    let rule = "[[zones.rules]]\ntitle = \"everybody\"\naction = \"block\"\n\
                expression = 'http.host eq \"api.example\"'\n";
    let now = gatewatch::clock::now_millis();
    let event = |at: i64, ip: &str| {
        let value = json!({
            "kind": "exchange", "time": at, "client": {"ip": ip},
            "request": {"method": "GET", "host": "api.example", "path": "/", "headers": {}},
            "response": {"status": 200}
        });
        format!("{value}\n")
    };
    let (before, after) = (now - 26 * 3_600_000, now - 2 * 3_600_000);
    let events = event(before, "203.0.113.1") + &event(after, "203.0.113.2");
    for (settings, expected) in [
        ("[blocklist]", &["203.0.113.1", "203.0.113.2"][..]),
        ("[blocklist]\nmax_age = \"1d\"", &["203.0.113.2"]),
    ] {
        let folder = folder.path().join(expected.len().to_string());
        let path = pipeline(&folder, &events, settings, rule);
        succeeds(&["run", &path]);
        let entries = shown(&path);
        assert_eq!(by_kind(&entries)["ip"], expected);
        for entry in &entries {
            // An hour from the decision, whenever that was within the run.
            let until: jiff::Timestamp = entry["expires_at"].as_str().unwrap().parse().unwrap();
            let decided = until.as_millisecond() - 3_600_000;
            assert!(
                (now..=gatewatch::clock::now_millis()).contains(&decided),
                "{entry}"
            );
        }
    }
}

#[test]
fn check_shows_where_a_rule_is_wrong_and_warns_of_what_is_odd() {
    let folder = tempfile::tempdir().unwrap();
    let rules = "[[zones.rules]]\ntitle = \"a\"\nexpression = 'ssl'\n\
                 [[zones.rules]]\ntitle = \"b\"\nexpression = 'ssl and http.hots eq \"x\"'\n";
    let path = pipeline(folder.path(), "", "", rules);
    let bad = output(&["check", &path]);
    let errors = String::from_utf8_lossy(&bad.stderr);
    assert_eq!(bad.status.code(), Some(64), "{errors}");
    assert!(
        errors.contains("zones[0].rules[1].expression: "),
        "{errors}"
    );
    assert!(errors.contains("ssl and http.hots eq \"x\"\n"), "{errors}");
    assert!(errors.contains("^^^^^^^^^"), "{errors}");
    let run = output(&["run", &path]);
    assert_eq!(run.status.code(), Some(64));
    assert!(!folder.path().join("data").exists(), "nothing was begun");

    let rules = "[[zones.rules]]\ntitle = \"a\"\nkind = \"token\"\nexpression = 'is_jwt_valid(\"shop\")'\n\
                 [[zones.rules]]\ntitle = \"b\"\nkind = \"token\"\nexpression = 'is_jwt_present(\"shop\")'\n\
                 [[zones.rules]]\ntitle = \"c\"\nenabled = false\nexpression = 'ip.src in $office'\n";
    let lists = "[lists]\noffice = [\"192.0.2.0/24\", \"2001:db8::1\"]";
    let path = pipeline(folder.path(), "", lists, rules);
    let odd = output(&["check", &path]);
    let errors = String::from_utf8_lossy(&odd.stderr);
    assert_eq!(odd.status.code(), Some(0), "{errors}");
    assert!(
        errors.contains("zones[0].rules[1].selector: the rule is never evaluated: \"a\" above it"),
        "{errors}"
    );
    assert!(
        errors.contains("zones[0].rules[2].enabled: the rule is disabled"),
        "{errors}"
    );
}
