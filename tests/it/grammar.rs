//! The grammar suite: what the rules language takes, what it refuses and where, and what expressions are worth.
//!
//! The cases are in `grammar/*.cases`, one a line, written from the vendor's documentation:
//!
//! - `ok | | EXPRESSION`: it compiles.
//! - `no | WORDS | EXPRESSION`: it is refused at `¦` (which is not part of it), and the picture has these words.
//! - `yes | FACTS | EXPRESSION` and `not | FACTS | EXPRESSION`: its value on one of the exchanges below.
//!
//! `⇥`, `⏎` and `␍` stand for a tab, a line feed and a carriage return.

use std::borrow::Cow;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gatewatch::enrich::rules::{Facts, holds};
use gatewatch::enrich::{Judge, Judged, Shared};
use gatewatch::model::{
    Captured, Client, ClientCertificate, EventTime, Exchange, Headers, Request, Response,
};
use gatewatch::policy::objects::{
    FileText, JwksObject, SessionIdentifierKind, SessionIdentifierObject, TokenConfigurationObject,
    ZoneObject,
};
use gatewatch::policy::rules::fields::FIELDS;
use gatewatch::policy::rules::types::Scalar;
use gatewatch::policy::rules::{Expression, Lists, Names};
use gatewatch::policy::{Policy, compile};
use serde_json::json;

/// Fewer cases than this are no suite.
const LEAST: usize = 600;

const KEY: &[u8] = &[7; 32];

/// A configuration whose key signs with HMAC; only `shop` has the key that signed the token.
fn configuration(title: &str, kid: &str) -> TokenConfigurationObject {
    let key = json!({"kty": "oct", "kid": kid, "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(KEY)});
    TokenConfigurationObject {
        title: title.to_owned(),
        token_sources: vec![r#"http.request.headers["authorization"][0]"#.to_owned()],
        jwks: JwksObject::Written(FileText {
            name: "keys.json".to_owned(),
            bytes: json!({ "keys": [key] }).to_string().into_bytes(),
        }),
        clock_skew: Duration::from_mins(1),
        max_token_bytes: 16 * 1024,
        ..TokenConfigurationObject::default()
    }
}

fn policy() -> Arc<Policy> {
    let zone = ZoneObject {
        id: "z".to_owned(),
        hosts: vec!["api.example".to_owned()],
        token_configurations: vec![configuration("shop", "k1"), configuration("other", "k2")],
        session_identifiers: vec![SessionIdentifierObject {
            kind: SessionIdentifierKind::Header,
            name: "authorization".to_owned(),
            ..SessionIdentifierObject::default()
        }],
        ..ZoneObject::default()
    };
    Arc::new(compile(&[zone]).unwrap())
}

fn lists() -> Lists {
    let mut lists = Lists::default();
    for (name, of, items) in [
        ("office", Scalar::Ip, &["192.0.2.0/24", "10.0.0.1"][..]),
        ("good_codes", Scalar::Int, &["200..299"]),
        ("hosts", Scalar::Bytes, &["api.example"]),
        ("words.of_mine", Scalar::Bytes, &["one", "three"]),
    ] {
        let items: Vec<String> = items.iter().map(|item| (*item).to_owned()).collect();
        lists.add(name, of, &items).unwrap();
    }
    lists
}

fn token() -> String {
    let claims = json!({
        "iss": "issuer", "aud": ["web", "api"], "sub": "user-1", "jti": "id-1", "plan": "gold",
        "iat": 1_795_162_000, "nbf": 1_795_162_000, "exp": 1_795_170_000,
    });
    let header = json!({"alg": "HS256", "kid": "k1"});
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), signed.as_bytes());
    format!("Bearer {signed}.{}", URL_SAFE_NO_PAD.encode(mac))
}

/// `message separator timestamp-mac` as `is_timed_hmac_valid_v0` wants it.
fn stamped(url: bool) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"mysecretkey");
    let mac = hmac::sign(&key, b"/download/cat.jpg1795162520");
    let mac = if url {
        URL_SAFE_NO_PAD.encode(mac)
    } else {
        let plain = STANDARD.encode(mac);
        plain
            .replace('+', "%2B")
            .replace('/', "%2F")
            .replace('=', "%3D")
    };
    format!("/download/cat.jpg?verify=1795162520-{mac}")
}

fn headers(fields: &[(&str, &str)], captured: Captured<'static>) -> Headers<'static> {
    let own = |text: &str| Cow::Owned(text.to_owned());
    Headers {
        fields: fields
            .iter()
            .map(|(name, value)| (own(name), own(value)))
            .collect(),
        captured,
    }
}

/// A request of which nothing is known but its line; `bare` = everything was captured and nothing was there.
fn poor(captured: Captured<'static>) -> Exchange<'static> {
    Exchange {
        id: None,
        at: EventTime::from_millis(1_795_162_530_123).unwrap(),
        zone: None,
        client: Client::default(),
        certificate: None,
        request: Request {
            method: Cow::Borrowed("GET"),
            scheme: None,
            host: Cow::Borrowed("api.example"),
            path: Cow::Borrowed("/"),
            query: None,
            headers: headers(&[], captured),
            body: None,
            body_bytes: None,
        },
        response: None,
    }
}

fn rich() -> Exchange<'static> {
    let (token, mac, mac_url) = (token(), stamped(false), stamped(true));
    let mut exchange = poor(Captured::All);
    exchange.client = Client {
        ip: Some(Cow::Borrowed("192.0.2.7")),
        port: None,
        asn: Some(64_500),
        country: Some(Cow::Borrowed("NL")),
    };
    exchange.certificate = Some(ClientCertificate {
        presented: Some(true),
        verified: Some(true),
        revoked: Some(false),
        issuer_dn: Some(Cow::Borrowed("CN=ca")),
        subject_dn: Some(Cow::Borrowed("CN=client")),
        ..ClientCertificate::default()
    });
    let body = r#"{"company": "acme", "product": {"id": 356}, "list": ["x", -234], "float": 42.0,
        "items": [{"id": 123}, {"id": 456}], "nested": {"name": "deep"}}"#;
    exchange.request = Request {
        method: Cow::Borrowed("POST"),
        scheme: Some(Cow::Borrowed("https")),
        host: Cow::Borrowed("Api.Example:8443"),
        path: Cow::Borrowed("/Shop/./items/42.JSON"),
        query: Some(Cow::Borrowed(
            "q=waf&q=botm&q=cdn&empty=&flag&enc=John%20Doe&plus=a+b&deep=%2520",
        )),
        headers: headers(
            &[
                ("Accept", "application/json"),
                ("Content-Type", "application/json"),
                ("X-Multi", "one"),
                ("x-multi", "two"),
                ("X-Cat", "groceries,,electronics"),
                ("X-B64", "MTIzYWJj"),
                ("X-Quote", "say \"hi\""),
                ("X-Back", "a\\b"),
                ("X-Word", "abc"),
                ("X-Star", "a*b"),
                ("X-Utf8", "é☁"),
                ("X-Umlaut", "AÄ"),
                ("X-Keys", "asdfghjk"),
                ("X-Cloud", "%u2601"),
                ("X-Mac", &mac),
                ("X-Mac-Url", &mac_url),
                ("Authorization", &token),
                ("Cookie", "sid=s1; theme=dark"),
                ("User-Agent", "Mozilla/5.0 (X11; Linux)"),
                ("Referer", "https://shop.example/"),
                ("X-Forwarded-For", "198.51.100.9"),
                ("X-Forwarded-For", "10.0.0.1"),
            ],
            Captured::All,
        ),
        body: Some(Cow::Borrowed(body.as_bytes())),
        body_bytes: None,
    };
    exchange.response = Some(Response {
        status: 200,
        headers: headers(&[("Content-Type", "application/json")], Captured::All),
        body: None,
        body_bytes: None,
        duration_ms: Some(12.7),
    });
    exchange
}

/// The exchange of this name.
fn exchange(name: &str) -> Exchange<'static> {
    match name {
        "rich" => rich(),
        "bare" => {
            let mut exchange = poor(Captured::All);
            exchange.certificate = Some(ClientCertificate {
                presented: Some(false),
                ..ClientCertificate::default()
            });
            exchange
        }
        "v6" => {
            let mut exchange = poor(Captured::All);
            exchange.client.ip = Some(Cow::Borrowed("2001:db8::7"));
            exchange
        }
        "blind" => poor(Captured::Nothing),
        other => panic!("there are no facts called {other}"),
    }
}

/// What is wrong with a case; `None` = nothing.
fn failure(line: &str, policy: &Arc<Policy>, lists: &Lists, judge: &Judge) -> Option<String> {
    let mut parts = line.splitn(3, " | ");
    let verb = parts.next().unwrap_or_default();
    let argument = parts.next().unwrap_or_default().trim();
    let text = parts.next().unwrap_or_default();
    let (verb, argument, text) = match line.strip_prefix("ok | | ") {
        Some(text) => ("ok", "", text),
        None => (verb, argument, text),
    };
    let text = text
        .replace('⇥', "\t")
        .replace('⏎', "\n")
        .replace('␍', "\r");
    let zone = &policy.zones[0];
    let names = Names::new(&zone.tokens, lists);
    if verb == "no" {
        let at = text.chars().position(|c| c == '¦');
        let expression: String = text.chars().filter(|c| *c != '¦').collect();
        return match Expression::compile(&expression, &names) {
            Ok(_) => Some("was accepted".to_owned()),
            Err(error) => {
                let picture = error.render(&expression);
                let right = at == Some(error.at) && picture.contains(argument);
                (!right).then(|| format!("at {}, not {at:?}:\n{picture}", error.at))
            }
        };
    }
    let expression = match Expression::compile(&text, &names) {
        Ok(expression) => expression,
        Err(error) => return Some(format!("was refused:\n{}", error.render(&text))),
    };
    if verb == "ok" {
        return None;
    }
    let exchange = exchange(argument);
    let mut judged = Judged::default();
    assert!(judge.judge(&exchange, &mut judged));
    let value = holds(&expression, &Facts::new(zone, &exchange, &judged));
    match verb {
        "yes" | "not" => (value != (verb == "yes")).then(|| format!("is {value}")),
        other => Some(format!("{other:?} is no verb")),
    }
}

#[test]
fn every_case_is_as_documented() {
    let policy = policy();
    let lists = lists();
    let judge = Judge::new(Arc::clone(&policy), Arc::new(Shared::new(b"key")));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/grammar");
    let mut count = 0;
    let mut failures = Vec::new();
    for file in fs::read_dir(folder).unwrap().flatten() {
        let name = file.file_name().into_string().unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        for (number, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.is_empty() {
                continue;
            }
            count += 1;
            if let Some(what) = failure(line, &policy, &lists, &judge) {
                failures.push(format!("{name}:{}: {line}\n{what}", number + 1));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {count}:\n{}",
        failures.len(),
        failures.join("\n\n")
    );
    assert!(count >= LEAST, "only {count} cases");
    println!("{count} cases of the grammar");
}

#[test]
fn the_readme_lists_every_field_with_its_type() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    for (_, definition) in FIELDS {
        let row = format!("| `{}` | {} |", definition.name, definition.kind);
        assert!(readme.contains(&row), "{row}");
    }
}
