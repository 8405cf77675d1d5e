//! What attackers do, one kind for each default threshold, once at its limit and once just below it.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::abuse::{keys, token};

/// The start of the hour in which all of it happens, seconds since 1970; whole windows of every threshold begin there.
const START: i64 = 1_763_625_600;

/// Every default threshold.
const THRESHOLDS: [&str; 6] = [
    "credential stuffing",
    "token forging",
    "forged token",
    "schema probing",
    "revoked certificate",
    "session from many addresses",
];

/// So long that what happened in that hour still lists whenever this runs.
pub const LASTING: &str = "duration = \"10000d\"\n";

/// Zone and files that all pipelines of these events have.
pub fn zone(folder: &std::path::Path, more: &str) -> String {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("keys.json", &keys().to_string());
    write("schema.json", &schema().to_string());
    let thresholds = THRESHOLDS
        .map(|name| format!("[[blocklist.thresholds]]\nname = \"{name}\"\n{LASTING}"))
        .concat();
    format!(
        "{thresholds}[[zones]]\nid = \"z\"\nhosts = [\"api.example\"]\n\
         [[zones.session_identifiers]]\ntype = \"cookie\"\nname = \"sid\"\n\
         [[zones.token_configurations]]\ntitle = \"shop\"\n\
         token_sources = ['http.request.headers[\"authorization\"][0]']\njwks = \"{keys}\"\n\
         [[zones.schemas]]\nname = \"shop\"\npath = \"{schema}\"\n{more}\n",
        keys = folder.join("keys.json").display(),
        schema = folder.join("schema.json").display(),
    )
}

/// Operations `/a` to `/f`, each with a whole number in its query.
fn schema() -> Value {
    let operation = json!({"get": {
        "parameters": [{"name": "limit", "in": "query", "schema": {"type": "integer"}}],
        "responses": {"200": {"description": "-"}, "401": {"description": "-"}}
    }});
    let paths: serde_json::Map<String, Value> = ["/a", "/b", "/c", "/d", "/e", "/f"]
        .into_iter()
        .map(|path| (path.to_owned(), operation.clone()))
        .collect();
    json!({"openapi": "3.0.3", "info": {"title": "t", "version": "1"}, "paths": paths})
}

/// Lines of exchanges in the order in which they were added.
#[derive(Default)]
pub struct Events {
    pub lines: Vec<String>,
    second: i64,
}

impl Events {
    /// Everything happens within the hour from `second` on.
    pub fn from(second: i64) -> Self {
        Self {
            lines: Vec::new(),
            second,
        }
    }

    /// One exchange, whose id begins with the name of the `case`.
    pub fn add(&mut self, case: &str, second: i64, ip: &str, with: &Value) {
        let time = jiff::Timestamp::from_second(START + self.second + second).unwrap();
        let path = with["path"].as_str().unwrap_or("/a");
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut event = json!({
            "kind": "exchange", "id": format!("{case}-{}", self.lines.len()), "time": time.to_string(),
            "client": {"ip": ip},
            "request": {"method": "GET", "host": "api.example", "path": path, "query": query, "headers": {}},
            "response": {"status": with["status"].as_u64().unwrap_or(200)}
        });
        for name in ["authorization", "cookie"] {
            if with[name].is_string() {
                event["request"]["headers"][name] = with[name].clone();
            }
        }
        if with["certificate"].is_object() {
            event["tls"] = json!({"client_certificate": with["certificate"]});
        }
        self.lines.push(event.to_string());
    }

    /// Refused again and again, the last time in the fifth minute.
    pub fn stuffing(&mut self, case: &str, ip: &str, times: i64) {
        for number in 0..times {
            let second = number * 299 / (times - 1).max(1);
            self.add(case, second, ip, &json!({"status": 401}));
        }
    }

    /// Another forged token each time, within ten minutes.
    pub fn forging(&mut self, case: &str, ip: &str, times: i64) {
        for number in 0..times {
            let bearer = forged(&format!("{case} {number}"));
            self.add(case, number * 59, ip, &json!({"authorization": bearer}));
        }
    }

    /// One forged token from a different address each time.
    pub fn same_token(&mut self, case: &str, network: &str, times: i64) {
        for number in 0..times {
            let ip = format!("{network}.{number}");
            self.add(
                case,
                number * 100,
                &ip,
                &json!({"authorization": forged(case)}),
            );
        }
    }

    /// Requests that break the schema, at so many endpoints.
    pub fn probing(&mut self, case: &str, ip: &str, (times, endpoints): (i64, usize)) {
        for (number, path) in (0..times).zip(["a", "b", "c", "d", "e"][..endpoints].iter().cycle())
        {
            let path = format!("/{path}?limit=x");
            self.add(case, number * 19, ip, &json!({"path": path}));
        }
    }

    /// A client certificate that was verified.
    pub fn certificate(&mut self, case: &str, ip: &str, (digit, revoked): (&str, bool)) {
        let certificate = json!({"presented": true, "verified": true, "revoked": revoked,
            "fingerprint_sha256": digit.repeat(64)});
        self.add(case, 30, ip, &json!({"certificate": certificate}));
    }

    /// One session at so many addresses, over several operations and twenty minutes: no operation has as many requests, and
    /// no ten minutes have as many addresses.
    pub fn session(&mut self, case: &str, network: &str, (times, addresses): (i64, i64)) {
        for (number, path) in (0..times).zip(["/a", "/b", "/c", "/d"].iter().cycle()) {
            let ip = format!("{network}.{}", number % addresses);
            let with = json!({"path": path, "cookie": format!("sid={case}")});
            self.add(case, number * 1_199 / (times - 1), &ip, &with);
        }
    }
}

fn forged(subject: &str) -> String {
    let mut bearer = String::from("Bearer ");
    let claims = json!({"sub": subject});
    write!(
        bearer,
        "{}",
        token(&claims, b"another key than the issuer's")
    )
    .unwrap();
    bearer
}

/// Every default threshold: what reaches it, and what does not.
pub fn limits() -> Events {
    let mut events = Events::default();
    events.stuffing("stuffing", "203.0.113.1", 50);
    events.stuffing("mistyping", "203.0.113.2", 49);
    for minute in 0..40 {
        events.add("slow", minute * 60, "203.0.113.3", &json!({"status": 401}));
        events.add(
            "slow",
            minute * 60 + 30,
            "203.0.113.3",
            &json!({"status": 403}),
        );
    }
    events.forging("forging", "203.0.113.4", 10);
    events.forging("unlucky", "203.0.113.5", 9);
    events.same_token("token", "203.0.114", 5);
    events.same_token("shown", "203.0.115", 4);
    events.probing("probing", "203.0.113.6", (30, 5));
    events.probing("old-client", "203.0.113.7", (30, 4));
    events.probing("clumsy", "203.0.113.8", (29, 5));
    events.certificate("revoked", "203.0.113.9", ("a", true));
    events.certificate("partner", "203.0.113.10", ("b", false));
    events.session("stolen", "203.0.116", (10, 10));
    events.session("moving", "203.0.117", (36, 9));
    // The allow list wins.
    events.stuffing("office", "192.0.2.9", 200);
    events
}
