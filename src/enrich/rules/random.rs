//! Random expressions over everything that is stored, and random exchanges, the same in every run.

use std::borrow::Cow;

use serde_json::json;

use crate::enrich::evidence::stored_fields;
use crate::enrich::fixtures::{self, NOW, signer};
use crate::model::{Captured, ClientCertificate, EventTime, Exchange, Response};
use crate::policy::rules::fields::Field;
use crate::policy::rules::types::{Scalar, Shape};

/// Numbers that look random and are the same in every run (xorshift*, Marsaglia 2003, Vigna 2016).
pub(in crate::enrich) struct Random(pub(in crate::enrich) u64);

impl Random {
    pub(in crate::enrich) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub(in crate::enrich) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub(in crate::enrich) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub(in crate::enrich) fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// Texts that occur in events, nearly occur, or are dangerous to a translation.
pub(in crate::enrich) const TEXTS: &[&str] = &[
    "",
    "GET",
    "POST",
    "/",
    "/a/b",
    "/A/B",
    "/a%b",
    "/a_b",
    "api.example",
    "curl/8",
    "x",
    "y",
    "a",
    "b",
    "NL",
    "text/html",
    "application/json",
    "valid",
    "invalid",
    "missing",
    "present",
    "absent",
    "verified",
    "learned",
    "bad_signature",
    "shop",
    "me",
    "é",
    "%",
    "_",
    "'",
    "100%",
    "CN=a",
    "gzip",
    "z",
    "{var1}",
    "/a/{var1}",
];
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "5",
    "200",
    "404",
    "503",
    "64500",
    "-1",
    "1795161600",
    "12",
    "0x10",
];
pub(in crate::enrich) const ADDRESSES: &[&str] = &[
    "192.0.2.1",
    "192.0.2.77",
    "10.0.0.1",
    "2001:db8::1",
    "::",
    "0.0.0.0",
];
const NETWORKS: &[&str] = &[
    "192.0.2.0/24",
    "10.0.0.0/8",
    "2001:db8::/32",
    "192.0.2.1..192.0.2.9",
    "0.0.0.0/0",
    "::/0",
];
const PATTERNS: &[&str] = &["^/a", "b$", "[0-9]+", "(?i)A", "", "e.a", "x|y"];
const WILDCARDS: &[&str] = &["*", "/a/*", "*B", "a*e", "", "x", "/A/*"];
const HEADERS: &[&str] = &[
    "accept",
    "content-type",
    "origin",
    "user-agent",
    "server",
    "via",
];

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// Writes random expressions over everything that is stored.
pub(in crate::enrich) struct Writer(pub(in crate::enrich) Random);

impl Writer {
    fn some(&mut self, from: &[&str], write: fn(&str) -> String) -> String {
        let count = self.0.below(4);
        let items: Vec<_> = (0..count).map(|_| write(self.0.pick(from))).collect();
        items.join(" ")
    }

    /// A stored field of this type.
    fn field(&mut self, shape: Shape, of: Scalar) -> Option<Field> {
        let fields: Vec<_> = stored_fields()
            .filter(|field| field.kind().shape == shape && field.kind().of == of)
            .collect();
        (!fields.is_empty()).then(|| fields[self.0.below(fields.len())])
    }

    fn map(&mut self, of: Scalar) -> (String, String) {
        let field = self.field(Shape::MapOfArrays, of).unwrap();
        let key = if field.keyed_by_configuration() {
            self.0.pick(&["shop", "other"])
        } else {
            self.0.pick(HEADERS)
        };
        (
            field.name().to_owned(),
            format!("{}[{key:?}]", field.name()),
        )
    }

    /// An array, as an operand.
    fn array(&mut self) -> String {
        match self.0.below(3) {
            0 => self.map(Scalar::Bytes).1,
            _ => self
                .field(Shape::Array, Scalar::Bytes)
                .unwrap()
                .name()
                .to_owned(),
        }
    }

    fn text(&mut self, depth: usize) -> String {
        match self.0.below(if depth == 0 { 4 } else { 9 }) {
            0..=1 => self
                .field(Shape::One, Scalar::Bytes)
                .unwrap()
                .name()
                .to_owned(),
            2 => format!("{}[{}]", self.array(), self.0.below(3)),
            3 => {
                let field = self.field(Shape::Map, Scalar::Bytes).unwrap();
                format!("{}[{:?}]", field.name(), self.0.pick(&["shop", "other"]))
            }
            4 => format!("lower({})", self.text(depth - 1)),
            5 => format!(
                "concat({}, \"x\", {})",
                self.text(depth - 1),
                self.number(0)
            ),
            6 => format!(
                "substring({}, {}, -1)",
                self.text(depth - 1),
                self.0.below(3)
            ),
            7 => format!("join({}, \",\")", self.array()),
            _ => format!("url_decode({})", self.text(depth - 1)),
        }
    }

    fn number(&mut self, depth: usize) -> String {
        match self.0.below(if depth == 0 { 1 } else { 4 }) {
            0 => self
                .field(Shape::One, Scalar::Int)
                .unwrap()
                .name()
                .to_owned(),
            1 => format!("len({})", self.array()),
            2 => format!("len({})", self.text(depth - 1)),
            _ => format!("{}[{}]", self.map(Scalar::Int).1, self.0.below(2)),
        }
    }

    fn text_check(&mut self) -> String {
        let text = quoted(self.0.pick(TEXTS));
        match self.0.below(10) {
            0..=3 => format!(
                "{} {text}",
                self.0
                    .pick(&["eq", "ne", "lt", "le", "gt", "ge", "==", "!="])
            ),
            4..=5 => format!("contains {text}"),
            6 => format!("matches {}", quoted(self.0.pick(PATTERNS))),
            7 => format!(
                "{} {}",
                self.0.pick(&["wildcard", "strict wildcard"]),
                quoted(self.0.pick(WILDCARDS))
            ),
            8 => "in $words".to_owned(),
            _ => format!("in {{{}}}", self.some(TEXTS, quoted)),
        }
    }

    fn number_check(&mut self) -> String {
        let number = self.0.pick(NUMBERS);
        match self.0.below(8) {
            0..=4 => format!(
                "{} {number}",
                self.0.pick(&["eq", "ne", "lt", "le", "gt", "ge"])
            ),
            5 => format!("& {number}"),
            6 => format!("in {{{}}}", self.some(NUMBERS, str::to_owned)),
            _ => format!("in {{{} 200..404}}", self.some(NUMBERS, str::to_owned)),
        }
    }

    fn address_test(&mut self) -> String {
        let address = self.0.pick(ADDRESSES);
        match self.0.below(4) {
            0 => format!("ip.src eq {address}"),
            1 => format!("ip.src ne {address}"),
            2 => format!("ip.src in {{{}}}", self.some(NETWORKS, str::to_owned)),
            _ => format!("cidr(ip.src, {}, 32) eq {address}", 1 + self.0.below(32)),
        }
    }

    fn quantified(&mut self) -> String {
        let quantifier = self.0.pick(&["any", "all"]);
        let array = self.array();
        match self.0.below(6) {
            0..=1 => format!("{quantifier}({array}[*] {})", self.text_check()),
            2 => format!("{quantifier}(not {array}[*] {})", self.text_check()),
            3 => {
                let (first, second) = (self.text_check(), self.text_check());
                let join = self.0.pick(&["and", "or", "xor"]);
                let other = self.array();
                format!("{quantifier}({array}[*] {first} {join} {other}[*] {second})")
            }
            4 => format!("{quantifier}(len({array}[*])[*] {})", self.number_check()),
            _ => format!(
                "{quantifier}(http.request.jwt.claims.{}[*][{}] {})",
                self.0.pick(&["aud", "iss"]),
                self.0.pick(&["*", "0", "1"]),
                self.text_check()
            ),
        }
    }

    fn test(&mut self) -> String {
        match self.0.below(12) {
            0..=3 => format!("{} {}", self.text(2), self.text_check()),
            4..=5 => format!("{} {}", self.number(2), self.number_check()),
            6 => self.address_test(),
            7 => self.quantified(),
            8 => self
                .field(Shape::One, Scalar::Bool)
                .unwrap()
                .name()
                .to_owned(),
            9 => format!(
                "{}(\"{}\")",
                self.0.pick(&["is_jwt_valid", "is_jwt_present"]),
                self.0.pick(&["shop", "other"])
            ),
            10 => format!(
                "{}({}, {})",
                self.0.pick(&["starts_with", "ends_with"]),
                self.text(1),
                quoted(self.0.pick(TEXTS))
            ),
            _ => match self.0.below(3) {
                0 => format!("has_key(http.request.headers, {:?})", self.0.pick(HEADERS)),
                1 => format!(
                    "has_value({}, {})",
                    self.array(),
                    quoted(self.0.pick(TEXTS))
                ),
                _ => self.0.pick(&["true", "false"]).to_owned(),
            },
        }
    }

    pub(in crate::enrich) fn expression(&mut self, depth: usize) -> String {
        if depth == 0 || self.0.chance(25) {
            return self.test();
        }
        match self.0.below(6) {
            0 => format!("not {}", self.test()),
            1 => format!("not ({})", self.expression(depth - 1)),
            2 => format!("({})", self.expression(depth - 1)),
            number => {
                let join = ["and", "or", "xor"][number - 3];
                let (left, right) = (self.expression(depth - 1), self.expression(depth - 1));
                format!("{left} {join} {right}")
            }
        }
    }
}

/// Bearer tokens of the key "shop", good and bad.
pub(in crate::enrich) fn tokens() -> Vec<String> {
    let shop = signer("HS256");
    let good = shop
        .token(&json!({"iss": "me", "aud": ["a", "b", 3], "sub": "s", "iat": NOW, "nbf": NOW - 5}));
    let odd = shop.token(&json!({"aud": [], "iat": 12.7, "iss": 5}));
    vec![
        good.clone(),
        odd,
        format!("{good}x"),
        "Basic x".to_owned(),
        String::new(),
    ]
}

/// An exchange of which much is missing and much was not captured.
pub(in crate::enrich) fn exchange(random: &mut Random, tokens: &[String]) -> Exchange<'static> {
    let own = |text: &str| Cow::<'static, str>::Owned(text.to_owned());
    let captured = match random.below(4) {
        0 => Captured::Nothing,
        1 => Captured::Names(vec![own("accept"), own("user-agent"), own("authorization")]),
        _ => Captured::All,
    };
    let mut exchange = fixtures::exchange(&[], captured);
    let mut field = |name: &str, value: &str| {
        let field = (own(name), own(value));
        exchange.request.headers.fields.push(field);
    };
    for name in [
        "Accept",
        "content-type",
        "Origin",
        "User-Agent",
        "Cookie",
        "X-Forwarded-For",
        "via",
    ] {
        for _ in 0..random.below(3) {
            field(name, random.pick(TEXTS));
        }
    }
    if random.chance(70) {
        field("Authorization", &tokens[random.below(tokens.len())]);
    }
    exchange.at =
        EventTime::from_millis(NOW * 1_000 + i64::try_from(random.below(2_000)).unwrap()).unwrap();
    let request = &mut exchange.request;
    request.method = own(random.pick(&["GET", "POST", "é"]));
    request.path = own(random.pick(&["/", "/a/b", "/A/B", "/a%b", "/a_b", "/a/7", "//x/../y"]));
    request.query = random
        .chance(50)
        .then(|| own(random.pick(&["x=1&y=2", "a", "", "x=1&x=2"])));
    request.scheme = random
        .chance(60)
        .then(|| own(random.pick(&["http", "https"])));
    request.body = random.chance(40).then(|| Cow::Borrowed(&b"a=1&b"[..]));
    request.body_bytes = random.chance(50).then(|| random.next() % 6);
    let client = &mut exchange.client;
    client.ip = random.chance(80).then(|| own(random.pick(ADDRESSES)));
    client.asn = random.chance(50).then_some(64_500);
    client.country = random.chance(50).then(|| own(random.pick(&["NL", "x"])));
    exchange.certificate = random.chance(60).then(|| ClientCertificate {
        presented: random.chance(70).then(|| random.chance(60)),
        verified: random.chance(70).then(|| random.chance(60)),
        revoked: random.chance(50).then(|| random.chance(30)),
        subject_dn: random
            .chance(50)
            .then(|| own(random.pick(&["CN=a", "CN=b"]))),
        ..ClientCertificate::default()
    });
    exchange.response = random.chance(70).then(|| {
        let mut headers = fixtures::exchange(&[], Captured::All).request.headers;
        headers
            .fields
            .push((own("Server"), own(random.pick(TEXTS))));
        Response {
            status: [200, 404, 503][random.below(3)],
            headers,
            body: None,
            body_bytes: None,
            duration_ms: random.chance(50).then_some(12.5),
        }
    });
    exchange
}
