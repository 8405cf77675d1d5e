//! Which exchanges are kept and why; that the sample is a share and the same everywhere; that no credential is in a row.

use std::borrow::Cow;

use arrow::array::AsArray;
use serde_json::json;

use super::*;
use crate::enrich::evidence::withheld::STRUCK;
use crate::enrich::fixtures::{NOW, bare_zone, configuration, exchange, signer};
use crate::enrich::{Judge, Shared};
use crate::model::{Captured, ClientCertificate, Response, RuleAction, RuleKind};
use crate::policy;
use crate::policy::objects::{
    FileText, RuleObject, SchemaObject, SessionIdentifierKind, SessionIdentifierObject, ZoneObject,
};

const SCHEMA: &str = r#"{"openapi": "3.0.3", "info": {"title": "t", "version": "1"}, "paths": {
    "/lamps/{lamp}": {"get": {
        "parameters": [{"name": "lamp", "in": "path", "required": true, "schema": {"type": "integer"}}],
        "responses": {"2XX": {"description": "ok"}, "401": {"description": "no"}, "403": {"description": "no"}}}}}}"#;

fn judge(identifiers: &[(SessionIdentifierKind, &str)]) -> Judge {
    let identifier = |(kind, name): &(SessionIdentifierKind, &str)| SessionIdentifierObject {
        kind: *kind,
        name: (*name).to_owned(),
        ..SessionIdentifierObject::default()
    };
    let object = ZoneObject {
        token_configurations: vec![configuration(
            "shop",
            std::slice::from_ref(&signer("HS256").jwk),
        )],
        session_identifiers: identifiers.iter().map(identifier).collect(),
        schemas: vec![SchemaObject {
            name: "lamps".to_owned(),
            document: FileText {
                name: "lamps.json".to_owned(),
                bytes: SCHEMA.as_bytes().to_vec(),
            },
            ..SchemaObject::default()
        }],
        rules: vec![RuleObject {
            id: Some("no-curl".to_owned()),
            title: "no curl".to_owned(),
            description: String::new(),
            kind: RuleKind::Custom,
            action: RuleAction::Block,
            enabled: true,
            include_hosts: Vec::new(),
            exclude_operations: Vec::new(),
            expression: "http.user_agent contains \"curl\"".to_owned(),
            block: None,
            duration: None,
        }],
        ..bare_zone()
    };
    let policy = policy::compile(&[object]).unwrap();
    Judge::new(policy.into(), Shared::new(b"a key for the test").into())
}

fn answered(status: u16) -> Response<'static> {
    Response {
        status,
        headers: exchange(&[], Captured::All).request.headers,
        body: None,
        body_bytes: None,
        duration_ms: None,
    }
}

/// The rows that are kept of exchanges at the offsets 0, 1, 2 …
fn keep(judge: &Judge, keeping: Keeping, exchanges: &[Exchange<'_>]) -> (RecordBatch, u64) {
    let mut kept = Kept::new(keeping, judge.hasher());
    let mut judged = Judged::default();
    for (offset, exchange) in (0..).zip(exchanges) {
        assert!(judge.judge(exchange, &mut judged));
        let zone = &judge.policy().zones[0];
        kept.append(zone, exchange, &judged, ("logs", 3, offset))
            .unwrap();
    }
    kept.finish().unwrap()
}

fn texts(rows: &RecordBatch, column: &str, row: usize) -> Vec<String> {
    let list = rows.column_by_name(column).unwrap().as_list::<i32>();
    let values = list.value(row);
    let values = values.as_string::<i32>();
    values.iter().flatten().map(str::to_owned).collect()
}

const NOTHING_ELSE: Keeping = Keeping {
    sample: 0.0,
    most: 1_000,
};

#[test]
fn what_is_wrong_with_an_exchange_is_why_it_is_kept() {
    let judge = judge(&[]);
    let claims = json!({"sub": "somebody"});
    let good = signer("HS256").token(&claims);
    let expired = signer("HS256").token(&json!({"exp": NOW - 3_600}));
    let header = json!({"alg": "HS256", "kid": signer("HS256").kid});
    let forged = signer("HS512").token_with(&header, &claims);
    let certificate = |verified, revoked| ClientCertificate {
        presented: Some(true),
        verified: Some(verified),
        revoked: Some(revoked),
        ..ClientCertificate::default()
    };
    // Path, token, user agent, status, certificate; why it is kept.
    let (path, agent) = ("/lamps/1", "browser");
    for (path, token, agent, status, certificate, expected) in [
        (path, None, agent, 200, None, &[][..]),
        (path, Some(&good), agent, 200, None, &[]),
        (path, Some(&expired), agent, 401, None, &[]),
        (path, Some(&expired), agent, 204, None, &["token"]),
        (path, Some(&forged), agent, 403, None, &["token"]),
        (path, None, "curl/8", 200, None, &["rule"]),
        ("/lamps/x", None, agent, 200, None, &["violation"]),
        (path, None, agent, 418, None, &["violation"]),
        (path, None, agent, 200, Some(certificate(true, false)), &[]),
        (
            path,
            None,
            agent,
            200,
            Some(certificate(false, false)),
            &["certificate"],
        ),
        (
            path,
            None,
            agent,
            403,
            Some(certificate(true, true)),
            &["certificate"],
        ),
        (
            "/lamps/x",
            Some(&forged),
            "curl/8",
            200,
            Some(certificate(true, true)),
            &["rule", "violation", "token", "certificate"],
        ),
    ] {
        let mut fields = vec![("user-agent", agent)];
        if let Some(token) = token {
            fields.push(("authorization", token));
        }
        let mut exchange = exchange(&fields, Captured::All);
        exchange.request.path = Cow::Borrowed(path);
        exchange.response = Some(answered(status));
        exchange.certificate = certificate;
        let (rows, overflowed) = keep(&judge, NOTHING_ELSE, &[exchange]);
        let what = format!("{path} {token:?} {agent} {status}");
        assert_eq!(overflowed, 0);
        assert_eq!(rows.num_rows(), usize::from(!expected.is_empty()), "{what}");
        if !expected.is_empty() {
            let mut found = texts(&rows, "kept_for", 0);
            let mut expected = expected.to_vec();
            found.sort();
            expected.sort_unstable();
            assert_eq!(found, expected, "{what}");
        }
    }
}

#[test]
fn a_row_says_when_where_and_what_was_wrong() {
    let judge = judge(&[(SessionIdentifierKind::Cookie, "sid")]);
    let token = signer("HS256").token(&json!({"exp": NOW - 3_600}));
    let fields = [
        ("User-Agent", "curl/8"),
        ("Authorization", token.as_str()),
        ("Cookie", "sid=a-long-session-value"),
    ];
    let mut exchange = exchange(&fields, Captured::All);
    exchange.id = Some(Cow::Borrowed("req-1"));
    exchange.request.path = Cow::Borrowed("/lamps/x");
    exchange.response = Some(answered(200));
    let (rows, _) = keep(&judge, NOTHING_ELSE, &[exchange.clone(), exchange]);
    assert_eq!(rows.schema(), schema());
    assert_eq!(rows.num_rows(), 2);
    let text = |column: &str| {
        let column = rows.column_by_name(column).unwrap().as_string::<i32>();
        column.value(1).to_owned()
    };
    let time = rows
        .column(0)
        .as_primitive::<arrow::datatypes::TimestampMillisecondType>();
    assert_eq!(time.value(1), NOW * 1_000);
    assert_eq!(text("source"), "logs");
    let offsets = rows.column_by_name("offset").unwrap();
    let offsets = offsets.as_primitive::<arrow::datatypes::UInt64Type>();
    assert_eq!(offsets.values().to_vec(), [0, 1]);
    assert_eq!(text("request_id"), "req-1");
    for (column, expected) in [
        ("rules", "no curl"),
        ("rule_actions", "block"),
        ("violation_sides", "request"),
        ("violation_locations", "path"),
        ("gatewatch_schema_violations_classes", "invalid_type"),
        ("gatewatch_schema_violations_targets", "lamp"),
    ] {
        assert_eq!(texts(&rows, column, 1), [expected], "{column}");
    }
    assert_eq!(texts(&rows, "violation_details", 1).len(), 1);
    // The hashes are those of windows and of the block list.
    let hash = |kind: &str, value: &str| {
        let hash = judge.hasher().hash("z", kind, value.as_bytes());
        hex::encode(hash)
    };
    assert_eq!(
        text("session_id"),
        hash("cookie:sid", "a-long-session-value")
    );
    let mut judged = Judged::default();
    let fields = [("Authorization", token.as_str())];
    let plain = crate::enrich::fixtures::exchange(&fields, Captured::All);
    assert!(judge.judge(&plain, &mut judged));
    assert_eq!(
        text("token_id"),
        hex::encode(judged.tokens[0].hash.unwrap())
    );
    assert_eq!(text("gatewatch_endpoint"), "/lamps/{var1}");
    assert_eq!(text("gatewatch_token_outcome"), "invalid");
}

#[test]
fn columns_have_names_of_their_own() {
    let schema = schema();
    let mut names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names[0], TIME);
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn a_sample_is_a_share_and_the_same_for_everybody_with_the_key() {
    let (one, other) = (Hasher::new(b"one key"), Hasher::new(b"another key"));
    let taken = |share: f64, hasher: &Hasher, partition: i32, second: i64| -> Vec<u64> {
        let sample = Sample::new(share, hasher);
        let at = EventTime::from_seconds(second).unwrap();
        let all = 0..20_000;
        all.filter(|offset| sample.takes(partition, *offset, at))
            .collect()
    };
    assert_eq!(taken(0.0, &one, 0, NOW).len(), 0);
    assert_eq!(taken(1.0, &one, 0, NOW).len(), 20_000);
    let tenth = taken(0.1, &one, 0, NOW);
    // Five standard deviations of a binomial distribution: 5 · √(20,000 · 0.1 · 0.9).
    assert!(tenth.len().abs_diff(2_000) < 212, "{}", tenth.len());
    assert_eq!(taken(0.1, &one, 0, NOW), tenth);
    for different in [
        taken(0.1, &other, 0, NOW),
        taken(0.1, &one, 1, NOW),
        taken(0.1, &one, 0, NOW + 1),
    ] {
        assert_ne!(different, tenth);
    }
    // What a smaller sample has, a larger one has too.
    let hundredth = taken(0.01, &one, 0, NOW);
    assert!(!hundredth.is_empty() && hundredth.iter().all(|offset| tenth.contains(offset)));
}

#[test]
fn more_than_the_bound_is_counted() {
    let judge = judge(&[]);
    let all = Keeping {
        sample: 1.0,
        most: 3,
    };
    let exchanges = vec![exchange(&[("user-agent", "x")], Captured::All); 5];
    let (rows, overflowed) = keep(&judge, all, &exchanges);
    assert_eq!((rows.num_rows(), overflowed), (3, 2));
    assert_eq!(texts(&rows, "kept_for", 2), ["sample"]);
    let mut kept = Kept::new(all, judge.hasher());
    let mut judged = Judged::default();
    let long = "x".repeat(10_000);
    let exchange = exchange(&[("user-agent", &long)], Captured::All);
    assert!(judge.judge(&exchange, &mut judged));
    for offset in 0..3 {
        let zone = &judge.policy().zones[0];
        kept.append(zone, &exchange, &judged, ("logs", 0, offset))
            .unwrap();
    }
    assert!(kept.bytes() > 30_000, "{}", kept.bytes());
    kept.finish().unwrap();
    assert_eq!(kept.bytes(), 0);
}

/// Every text of the rows.
fn everything(rows: &RecordBatch) -> String {
    let options = arrow::util::display::FormatOptions::default();
    let mut text = String::new();
    for column in rows.columns() {
        let shown = arrow::util::display::ArrayFormatter::try_new(column, &options).unwrap();
        for row in 0..rows.num_rows() {
            text.push_str(&shown.value(row).to_string());
            text.push('\n');
        }
    }
    text
}

#[test]
fn a_credential_is_struck_out_wherever_it_stands() {
    use SessionIdentifierKind::{Certificate, Cookie, Header, Jwt, Query};
    let identifiers = [
        (Cookie, "sid"),
        (Header, "x-key"),
        (Query, "api_key"),
        (Certificate, "subject_dn"),
        (Jwt, "shop:$.tenant"),
    ];
    let judge = judge(&identifiers);
    let token = signer("HS256").token(&json!({"tenant": "tenant-secret"}));
    let path = format!("/t/{token}/cookie-secret/tenant-secret");
    let agent = format!("agent {token} header-secret basic-secret");
    let bearer = format!("Bearer {token}");
    let fields = [
        ("Authorization", bearer.as_str()),
        ("Proxy-Authorization", "Basic basic-secret"),
        ("Cookie", "sid=cookie-secret; nameless-cookie-secret"),
        ("x-key", "header-secret"),
        ("User-Agent", &agent),
        ("X-Forwarded-For", "nameless-cookie-secret"),
        ("Accept", "query-secret"),
    ];
    let mut exchange = exchange(&fields, Captured::All);
    exchange.id = Some(Cow::Borrowed("id-of-cookie-secret"));
    exchange.request.path = Cow::Owned(path);
    exchange.request.query = Some(Cow::Borrowed(
        "api_key=query-secret&argument-secret-alone&debug",
    ));
    exchange.request.body = Some(Cow::Borrowed(b"body-secret-without-name&x=1"));
    exchange.certificate = Some(ClientCertificate {
        presented: Some(true),
        verified: Some(true),
        revoked: Some(false),
        subject_dn: Some(Cow::Borrowed("CN=subject-secret,O=org-secret")),
        fingerprint_sha256: Some(Cow::Owned("ab".repeat(32))),
        ..ClientCertificate::default()
    });
    let mut response = answered(200);
    let fresh = [
        ("Set-Cookie", "sid=fresh-secret; Path=/"),
        ("Server", "fresh-secret"),
    ];
    let fresh = fresh.map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value)));
    response.headers.fields.extend(fresh);
    exchange.response = Some(response);
    let all = Keeping {
        sample: 1.0,
        most: 10,
    };
    let (rows, _) = keep(&judge, all, &[exchange]);
    let stored = everything(&rows);
    assert!(!stored.contains("secret"), "{stored}");
    for part in token.split('.') {
        assert!(!stored.contains(part), "{part}: {stored}");
    }
    // What is no credential is still there.
    for kept in [
        format!("/t/{STRUCK}/{STRUCK}/{STRUCK}"),
        format!("agent {STRUCK} {STRUCK} {STRUCK}"),
        format!("id-of-{STRUCK}"),
        "ab".repeat(32),
        "debug".to_owned(),
        "api_key".to_owned(),
    ] {
        assert!(stored.contains(&kept), "{kept}: {stored}");
    }
}
