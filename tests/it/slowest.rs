//! What attackers would send to cost time: the work is counted and bounded, and the slowest input is printed.
//!
//! Times are not asserted; `cargo test --release --test it slowest -- --nocapture` shows them, processor time of one core.
//! The goal is 50 ms for each.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Instant;

use gatewatch::enrich::schema::{MAX_EXPLAINING_STEPS, MAX_STEPS};
use gatewatch::enrich::{Judge, Judged};
use gatewatch::model::{Exchange, SchemaOutcome};
use gatewatch::policy::objects::{SchemaObject, ZoneObject};

use crate::fuzz_targets::judging::{self, exchange, file, judged};

/// Bytes of the largest body that is looked at.
const BODY: usize = 256 << 10;

/// Schemas that describe themselves through several branches.
const RECURSIVE: &str = r##"{
    "Node": {"oneOf": [
        {"type": "object", "properties": {"a": {"$ref": "#/components/schemas/Node"}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"$ref": "#/components/schemas/Node"}}, "required": ["b"]},
        {"type": "object", "properties": {"a": {"$ref": "#/components/schemas/Node"}}}]},
    "Tree": {"anyOf": [
        {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
        {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}, "minItems": 1},
        {"type": "string"}]}
}"##;

/// A judge by one operation, `POST /x`, whose body has this schema.
fn judge(media: &str, schema: &str) -> Judge {
    let document = format!(
        r#"{{"openapi": "3.1.0", "info": {{"title": "t", "version": "1"}}, "paths": {{"/x": {{"post": {{
            "parameters": [
                {{"name": "q", "in": "query", "schema": {{"type": "array", "items": {{"type": "integer"}}}}}},
                {{"name": "d", "in": "query", "style": "deepObject", "schema": {{"type": "object"}}}}],
            "requestBody": {{"content": {{"{media}": {{"schema": {schema}}}}}}},
            "responses": {{"default": {{"description": "d"}}}}}}}}}},
        "components": {{"schemas": {RECURSIVE}}}}}"#
    );
    judging::judge(ZoneObject {
        schemas: vec![SchemaObject {
            name: "hostile".to_owned(),
            document: file("hostile.json", document.as_bytes()),
            undeclared_parameters: true,
            formats: true,
            ..SchemaObject::default()
        }],
        ..judging::zone()
    })
    .unwrap()
}

/// Processor time of this thread where the system tells it, else the time that has passed; milliseconds.
#[expect(
    clippy::disallowed_methods,
    reason = "how long an input takes is printed, not judged"
)]
fn milliseconds() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let passed = START.get_or_init(Instant::now).elapsed();
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let spent = spent.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    spent.map_or(passed.as_secs_f64() * 1e3, |nanoseconds| nanoseconds / 1e6)
}

/// Judges, checks the bound of the work, and prints what it cost.
fn bounded(name: &str, judge: &Judge, exchange: &Exchange<'_>) -> (f64, Judged) {
    let start = milliseconds();
    let verdict = judged(judge, exchange).unwrap();
    let spent = milliseconds() - start;
    assert!(
        verdict.schema_steps <= 2 * (MAX_STEPS + MAX_EXPLAINING_STEPS),
        "{name}: {} steps",
        verdict.schema_steps
    );
    println!(
        "{spent:8.1} ms {:9} steps  {name}: {:?}",
        verdict.schema_steps, verdict.schema.request
    );
    (spent, verdict)
}

/// A list of as many equal items as a body holds.
fn list(item: &str) -> String {
    let mut text = format!("[{item}");
    while text.len() + item.len() + 2 < BODY {
        text.push(',');
        text.push_str(item);
    }
    text + "]"
}

/// As many different pieces as a body holds.
fn pieces(piece: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    for number in 0.. {
        let next = piece(number);
        if text.len() + next.len() + 2 > BODY {
            break;
        }
        text.push_str(&next);
    }
    text
}

fn nested(open: &str, inner: &str, close: &str, levels: usize) -> String {
    open.repeat(levels) + inner + &close.repeat(levels)
}

/// Lists of nothing but brackets, each different: all alike to a hash that leaves brackets out.
fn brackets() -> String {
    let one = |number: usize| {
        let mut text = String::new();
        for bit in 0..14 {
            text.push_str(if number >> bit & 1 == 0 {
                "[],"
            } else {
                "[[]],"
            });
        }
        format!("[{}],", text.trim_end_matches(','))
    };
    format!("[{}]", pieces(one).trim_end_matches(','))
}

fn alternatives(count: usize, of: impl Fn(usize) -> String) -> String {
    (0..count).map(of).collect::<Vec<_>>().join(",")
}

#[test]
fn hostile_bodies_cost_a_bounded_number_of_steps() {
    use SchemaOutcome::{Conforms, NotEvaluated, Violates};
    const JSON: &str = "application/json";
    const FORM: &str = "application/x-www-form-urlencoded";
    const LINES: &str = "application/x-ndjson";
    const XML: &str = "application/xml";
    const TREE: &str = r##"{"$ref": "#/components/schemas/Tree"}"##;
    const NODE: &str = r##"{"$ref": "#/components/schemas/Node"}"##;
    const UNIQUE: &str = r#"{"type": "array", "uniqueItems": true}"#;
    const OBJECT: &str = r#"{"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}},
        "additionalProperties": {"type": "integer"}}"#;
    let one_of = alternatives(100, |n| {
        format!(r#"{{"required": ["m{n}"], "properties": {{"m{n}": {{"type": "string"}}}}}}"#)
    });
    let one_of = format!(r#"{{"items": {{"oneOf": [{one_of}]}}}}"#);
    let words = alternatives(2_000, |n| format!("\"v{n}\""));
    let words = format!(r#"{{"items": {{"enum": [{words}]}}}}"#);
    let objects = alternatives(2_000, |n| format!("{{\"a\": {n}}}"));
    let objects = format!(r#"{{"items": {{"enum": [{objects}]}}}}"#);
    let pattern = |pattern: &str| format!(r#"{{"type": "string", "pattern": "{pattern}"}}"#);
    let quoted = |piece: &str| format!("\"{}\"", piece.repeat((BODY - 2) / piece.len()));
    let members = pieces(|n| format!("\"k{n}\":1,"));
    let members = format!("{{{}}}", members.trim_end_matches(','));
    let numbers = pieces(|n| format!("{},", n + 9_007_199_254_740_993));
    let numbers = format!("[{}]", numbers.trim_end_matches(','));
    let cases: Vec<(&str, &str, String, String, Option<SchemaOutcome>)> = vec![
        (
            "different brackets",
            JSON,
            UNIQUE.into(),
            brackets(),
            Some(Conforms),
        ),
        (
            "numbers that round alike",
            JSON,
            UNIQUE.into(),
            numbers,
            Some(Conforms),
        ),
        (
            "equal items",
            JSON,
            UNIQUE.into(),
            list("1"),
            Some(Violates),
        ),
        (
            "wide object",
            JSON,
            r#"{"type": "object"}"#.into(),
            members.clone(),
            Some(Conforms),
        ),
        (
            "wide object, bad names",
            JSON,
            r#"{"propertyNames": {"pattern": "^[a-z]+$"}}"#.into(),
            members.clone(),
            Some(Violates),
        ),
        (
            "wide object, costly names",
            JSON,
            r#"{"patternProperties": {"(?=.*x)y": {}}}"#.into(),
            members,
            Some(NotEvaluated),
        ),
        (
            "bad items",
            JSON,
            r#"{"items": {"required": ["a", "b", "c"]}}"#.into(),
            list("{}"),
            Some(Violates),
        ),
        (
            "100 alternatives",
            JSON,
            one_of.clone(),
            list("{\"m99\":\"\"}"),
            Some(NotEvaluated),
        ),
        (
            "100 alternatives, none fits",
            JSON,
            one_of,
            list("{}"),
            None,
        ),
        ("2,000 words", JSON, words, list("\"zz\""), Some(Violates)),
        ("2,000 objects", JSON, objects, list("{\"a\":9999}"), None),
        (
            "recursive alternatives, deep",
            JSON,
            NODE.into(),
            nested("{\"a\":", "1", "}", 60),
            Some(Violates),
        ),
        (
            "recursive alternatives, eight deep",
            JSON,
            NODE.into(),
            nested("{\"a\":", "1", "}", 8),
            Some(Violates),
        ),
        (
            "recursive lists, wide below",
            JSON,
            TREE.into(),
            nested("[", &list("1"), "]", 6),
            Some(Violates),
        ),
        (
            "recursive lists, many",
            JSON,
            TREE.into(),
            list(&nested("[", "1", "]", 7)),
            Some(Violates),
        ),
        (
            "65 levels",
            JSON,
            TREE.into(),
            nested("[", "", "]", 65),
            Some(Violates),
        ),
        (
            "100,000 levels",
            JSON,
            TREE.into(),
            nested("[", "", "]", 100_000),
            Some(Violates),
        ),
        (
            "(a+)+",
            JSON,
            pattern("^(a+)+$"),
            format!("\"{}!\"", "a".repeat(BODY - 3)),
            Some(Violates),
        ),
        (
            "large repetition",
            JSON,
            pattern("(a{0,500}){2}b"),
            quoted("a"),
            Some(Violates),
        ),
        (
            "look-ahead from everywhere",
            JSON,
            pattern("(?=.*x)y"),
            quoted("y"),
            Some(NotEvaluated),
        ),
        (
            "look-ahead that turns back",
            JSON,
            pattern("^(a|aa)+(?!b)c$"),
            quoted("a"),
            Some(NotEvaluated),
        ),
        (
            "look-ahead, short",
            JSON,
            pattern("^(?=.*[0-9]).{8,}$"),
            "\"passw0rd\"".into(),
            Some(Conforms),
        ),
        (
            "look-ahead, short and wrong",
            JSON,
            pattern("^(?=.*[0-9]).{8,}$"),
            "\"password\"".into(),
            Some(Violates),
        ),
        (
            "e-mail addresses",
            JSON,
            r#"{"items": {"format": "email"}}"#.into(),
            list("\"a@b\""),
            None,
        ),
        (
            "names of hosts",
            JSON,
            r#"{"format": "idn-hostname"}"#.into(),
            quoted("ü."),
            None,
        ),
        (
            "fractions",
            JSON,
            r#"{"items": {"multipleOf": 0.01}}"#.into(),
            list("1e-300"),
            Some(Violates),
        ),
        (
            "a repeated name",
            FORM,
            r#"{"type": "object", "properties": {"z": {"type": "string"}}}"#.into(),
            pieces(|_| "a=1&".into()),
            Some(Conforms),
        ),
        (
            "a repeated list",
            FORM,
            OBJECT.into(),
            pieces(|_| "a=x&".into()),
            Some(Violates),
        ),
        (
            "many names",
            FORM,
            OBJECT.into(),
            pieces(|n| format!("k{n}=x&")),
            Some(Violates),
        ),
        (
            "bad lines",
            LINES,
            r#"{"type": "object"}"#.into(),
            pieces(|_| "1\n".into()),
            Some(Violates),
        ),
        (
            "bad lines of objects",
            LINES,
            r#"{"required": ["a", "b"], "properties": {"c": {"type": "string"}}}"#.into(),
            pieces(|_| "{\"c\":1}\n".into()),
            Some(Violates),
        ),
        (
            "many elements",
            XML,
            OBJECT.into(),
            format!("<r>{}</r>", "<a/>".repeat(60_000)),
            Some(Violates),
        ),
        (
            "many attributes",
            XML,
            OBJECT.into(),
            format!("<r {}/>", "b='' ".repeat(50_000)),
            Some(Conforms),
        ),
        (
            "many entities",
            XML,
            OBJECT.into(),
            format!("<r>{}</r>", "&amp;".repeat(50_000)),
            Some(Conforms),
        ),
    ];
    let mut slowest = (0.0, "");
    for (name, media, schema, body, expected) in &cases {
        let fields = format!("content-type: {media}");
        let mut asked = exchange("POST", "/x", &fields);
        asked.request.body = Some(Cow::Borrowed(body.as_bytes()));
        let (spent, verdict) = bounded(name, &judge(media, schema), &asked);
        if let Some(expected) = expected {
            assert_eq!(verdict.schema.request, *expected, "{name}");
        }
        if spent > slowest.0 {
            slowest = (spent, name);
        }
    }
    println!(
        "the slowest body is {:?} with {:.1} ms",
        slowest.1, slowest.0
    );
}

#[test]
fn hostile_targets_and_headers_cost_a_bounded_number_of_steps() {
    // As long as an event may be; header fields are at most 256.
    let long = |piece: &str| piece.repeat((1 << 20) / piece.len());
    let many = |name: &str| {
        let mut query = String::from("/x?");
        for number in 0..60_000 {
            let _ = write!(query, "{}=1&", name.replace('#', &number.to_string()));
        }
        query
    };
    let cases: [(&str, String, String); 13] = [
        (
            "a repeated parameter",
            format!("/x?{}", "q=1&".repeat(10_000)),
            String::new(),
        ),
        ("undeclared parameters", many("k#"), String::new()),
        (
            "a repeated member",
            format!("/x?{}", long("d[a]=1&")),
            String::new(),
        ),
        ("members", many("d[a#]"), String::new()),
        ("brackets", format!("/x?d{}=1", long("[a]")), String::new()),
        ("escapes", format!("/x?q={}", long("%2C")), String::new()),
        ("slashes", long("/"), String::new()),
        ("folders and back", long("/a") + &long("/.."), String::new()),
        ("escapes in the path", long("/%41"), String::new()),
        ("ids", long("/12"), String::new()),
        (
            "cookies",
            "/x".into(),
            format!("cookie: {}", long("sid=; ")),
        ),
        (
            "fields",
            "/x".into(),
            "authorization: Basic x\n".repeat(256),
        ),
        (
            "dots of a token",
            "/x".into(),
            format!("authorization: Bearer {}", long("a.")),
        ),
    ];
    let judge = judge("application/json", "{}");
    let mut slowest = (0.0, "");
    for (name, target, fields) in &cases {
        let (spent, _) = bounded(name, &judge, &exchange("POST", target, fields));
        if spent > slowest.0 {
            slowest = (spent, name);
        }
    }
    println!(
        "the slowest of them is {:?} with {:.1} ms",
        slowest.1, slowest.0
    );
}
