//! One table per sentence of the design: an exchange, and what is said about its two sides.

mod bodies;
mod hostile;
mod members;
mod messages;
mod security;
mod styles;

use std::borrow::Cow;
use std::fmt::Write as _;

use super::judge;
use crate::model::{
    Captured, Client, ClientCertificate, Direction, EventTime, Exchange, Headers, Method, Request,
    Response, SchemaOutcome, SchemaVerdict,
};
use crate::policy::objects::{FileText, SchemaObject, ZoneObject};
use crate::policy::{Policy, compile};

const HOST: &str = "api.shop.example";

/// Compiles one description for a zone with one host.
fn policy(document: &str, undeclared_parameters: bool) -> Policy {
    policy_of(
        document,
        SchemaObject {
            undeclared_parameters,
            ..SchemaObject::default()
        },
    )
}

/// Compiles one description with these options.
fn policy_of(document: &str, options: SchemaObject) -> Policy {
    let zone = ZoneObject {
        id: "z".into(),
        hosts: vec![HOST.into()],
        schemas: vec![SchemaObject {
            name: "shop".into(),
            document: FileText {
                name: "shop.yaml".into(),
                bytes: document.into(),
            },
            formats: true,
            ..options
        }],
        ..ZoneObject::default()
    };
    compile(&[zone]).unwrap_or_else(|problems| panic!("{:#?}", problems.0))
}

/// An exchange in few words.
#[derive(Clone, Copy)]
struct Case<'c> {
    request: &'c str,
    headers: &'c [(&'c str, &'c str)],
    captured: &'c [&'c str],
    body: Option<&'c str>,
    status: Option<u16>,
    response_headers: &'c [(&'c str, &'c str)],
    response_captured: &'c [&'c str],
    response_body: Option<&'c str>,
    certificate: Option<bool>,
}

const ALL: &[&str] = &["*"];

/// No verdict may ever contain this text, wherever a message carries it.
const SECRET: &str = "s3cr3t";

impl Default for Case<'_> {
    fn default() -> Self {
        Self {
            request: "GET /",
            headers: &[],
            captured: ALL,
            body: Some(""),
            status: None,
            response_headers: &[],
            response_captured: ALL,
            response_body: Some(""),
            certificate: None,
        }
    }
}

fn headers<'c>(fields: &'c [(&'c str, &'c str)], captured: &'c [&'c str]) -> Headers<'c> {
    Headers {
        fields: fields
            .iter()
            .map(|(n, v)| (Cow::Borrowed(*n), Cow::Borrowed(*v)))
            .collect(),
        captured: match captured {
            ["*"] => Captured::All,
            [] => Captured::Nothing,
            names => Captured::Names(names.iter().map(|n| Cow::Borrowed(*n)).collect()),
        },
    }
}

/// Judges a case; says `request / response` with `location class target pointer` per violation.
fn say(policy: &Policy, case: Case<'_>) -> String {
    let (method, target) = case.request.split_once(' ').unwrap();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let exchange = Exchange {
        id: None,
        at: EventTime::from_seconds(1).unwrap(),
        zone: None,
        client: Client::default(),
        certificate: case.certificate.map(|presented| ClientCertificate {
            presented: Some(presented),
            ..ClientCertificate::default()
        }),
        request: Request {
            method: method.into(),
            scheme: None,
            host: HOST.into(),
            path: path.into(),
            query: query.map(Cow::Borrowed),
            headers: headers(case.headers, case.captured),
            body: case.body.map(|body| Cow::Borrowed(body.as_bytes())),
            body_bytes: None,
        },
        response: case.status.map(|status| Response {
            status,
            headers: headers(case.response_headers, case.response_captured),
            body: case
                .response_body
                .map(|body| Cow::Borrowed(body.as_bytes())),
            body_bytes: None,
            duration_ms: None,
        }),
    };
    let operations = &policy.zones[0].operations;
    let path = crate::policy::path::normalise(path);
    let matched = operations.find(Method::parse(method), HOST, &path);
    let mut verdict = SchemaVerdict {
        request: SchemaOutcome::NotEvaluated,
        response: SchemaOutcome::NotEvaluated,
        violations: Vec::new(),
    };
    judge(operations, matched, &exchange, HOST, &path, &mut verdict);
    let mut out = String::new();
    for (direction, outcome) in [
        (Direction::Request, verdict.request),
        (Direction::Response, verdict.response),
    ] {
        if direction == Direction::Response {
            out.push_str(" / ");
        }
        out.push_str(outcome.as_str());
        for violation in verdict
            .violations
            .iter()
            .filter(|v| v.direction == direction)
        {
            let (location, class) = (violation.location.as_str(), violation.class.as_str());
            let _ = write!(out, " [{location} {class} {}]", violation.target);
            assert!(!violation.schema_pointer.is_empty(), "{violation:?}");
            assert!(!violation.detail.is_empty(), "{violation:?}");
            assert!(
                !format!("{violation:?}").contains(SECRET),
                "a value left the enricher: {violation:?}"
            );
        }
    }
    out
}

fn table(document: &str, undeclared: bool, cases: &[(Case<'_>, &str)]) {
    let policy = policy(document, undeclared);
    for (case, expected) in cases {
        assert_eq!(
            say(&policy, *case),
            *expected,
            "{} {:?} {:?}",
            case.request,
            case.headers,
            case.body
        );
    }
}

fn get(request: &str) -> Case<'_> {
    Case {
        request,
        ..Case::default()
    }
}

const SHOP: &str = r##"
openapi: 3.0.3
info: {title: shop, version: "1"}
servers: [{url: "https://api.shop.example/v1"}]
paths:
  /lamps/{id}:
    get:
      parameters:
        - {name: id, in: path, required: true, schema: {type: integer, format: int32, minimum: 1}}
        - {name: limit, in: query, schema: {type: integer, maximum: 100}}
        - {name: q, in: query, required: true, schema: {type: string}}
        - {name: X-Trace, in: header, required: true, schema: {type: string, format: uuid}}
        - {name: lang, in: cookie, schema: {type: string, enum: [en, nl]}}
        - {name: tags, in: query, schema: {type: array, items: {type: integer}, uniqueItems: true}}
      responses:
        200:
          description: ok
          headers:
            X-Rate: {required: true, schema: {type: integer}}
          content:
            application/json: {schema: {$ref: "#/components/schemas/Lamp"}}
        4XX: {description: no}
  /lamps:
    post:
      requestBody:
        required: true
        content:
          application/json: {schema: {$ref: "#/components/schemas/Lamp"}}
      responses:
        201: {description: made}
        default: {description: any, content: {application/problem+json: {}}}
    put:
      requestBody:
        content:
          application/json: {}
          text/*: {}
      responses: {204: {description: done}}
components:
  schemas:
    Lamp:
      type: object
      required: [id, name, secret]
      additionalProperties: false
      properties:
        id: {type: integer, readOnly: true}
        secret: {type: string, writeOnly: true}
        name: {type: string, maxLength: 5, nullable: true}
        size: {type: number, minimum: 0, exclusiveMinimum: true}
        parts: {type: array, maxItems: 70, items: {$ref: "#/components/schemas/Lamp"}}
        notes: {type: object, additionalProperties: {type: string}}
"##;

#[test]
fn matching_looks_at_segments_only() {
    table(
        SHOP,
        false,
        &[
            (get("GET /nowhere"), "no_operation / not_evaluated"),
            (get("GET /v1/lamps/1/"), "no_operation / not_evaluated"),
            (get("DELETE /v1/lamps/1"), "no_operation / not_evaluated"),
            (get("GET /lamps/1"), "no_operation / not_evaluated"),
            (
                Case {
                    status: Some(200),
                    ..get("GET /nowhere")
                },
                "no_operation / no_operation",
            ),
            (
                Case {
                    headers: TRACE,
                    ..get("GET /v1/lamps/abc?q=")
                },
                "violates [path invalid_type id] / not_evaluated",
            ),
        ],
    );
}

const TRACE: &[(&str, &str)] = &[("x-trace", "6f1c2f3e-8a9b-4c1d-9e2f-001122334455")];

#[test]
fn parameters_are_judged_where_they_stand() {
    let lamp = |target: &'static str| Case {
        request: target,
        headers: TRACE,
        ..Case::default()
    };
    table(
        SHOP,
        false,
        &[
            (lamp("GET /v1/lamps/1?q=a"), "conforms / not_evaluated"),
            (
                lamp("GET /v1/lamps/1?q=a&limit=100"),
                "conforms / not_evaluated",
            ),
            (
                lamp("GET /v1/lamps/1?q=a&unknown=1"),
                "conforms / not_evaluated",
            ),
            (
                lamp("GET /v1/lamps/1"),
                "violates [query missing_required q] / not_evaluated",
            ),
            (
                lamp("GET /v1/lamps/0?q"),
                "violates [path constraint_violation id] / not_evaluated",
            ),
            (
                lamp("GET /v1/lamps/3000000000?q"),
                "violates [path constraint_violation id] / not_evaluated",
            ),
            (
                lamp("GET /v1/lamps/1.5?q"),
                "violates [path invalid_type id] / not_evaluated",
            ),
            (
                lamp("GET /v1/lamps/1?q=%ff"),
                "violates [query invalid_encoding q] / not_evaluated",
            ),
            (
                lamp("GET /v1/lamps/1?q=a&limit="),
                "violates [query invalid_type limit] / not_evaluated",
            ),
            (
                lamp("GET /v1/lamps/1?q=a&limit=5&limit=x"),
                "violates [query invalid_type limit] / not_evaluated",
            ),
            (
                lamp("GET /v1/lamps/1?q=a&tags=1&tags=2"),
                "conforms / not_evaluated",
            ),
            (
                lamp("GET /v1/lamps/1?q=a&tags=1&tags=1"),
                "violates [query duplicate_value tags] / not_evaluated",
            ),
            (
                lamp("GET /v1/lamps/1?q=a&tags=x"),
                "violates [query invalid_type tags] / not_evaluated",
            ),
            (
                Case {
                    headers: &[("X-TRACE", "no")],
                    ..get("GET /v1/lamps/1?q=a&limit=101")
                },
                "violates [query constraint_violation limit] [header constraint_violation X-Trace] / not_evaluated",
            ),
            (
                get("GET /v1/lamps/1?q=a"),
                "violates [header missing_required X-Trace] / not_evaluated",
            ),
            (
                Case {
                    headers: &[TRACE[0], ("cookie", "a=b; lang=de")],
                    ..get("GET /v1/lamps/1?q=a")
                },
                "violates [cookie constraint_violation lang] / not_evaluated",
            ),
        ],
    );
}

#[test]
fn what_was_not_captured_is_skipped() {
    table(
        SHOP,
        false,
        &[
            // Headers and cookies unknown: nothing else violates.
            (
                Case {
                    captured: &[],
                    ..get("GET /v1/lamps/1?q=a")
                },
                "not_evaluated / not_evaluated",
            ),
            // Something else violates.
            (
                Case {
                    captured: &[],
                    ..get("GET /v1/lamps/x?q=a")
                },
                "violates [path invalid_type id] / not_evaluated",
            ),
            // A list of names: inside it absence counts, outside it does not.
            (
                Case {
                    captured: &["x-trace"],
                    ..get("GET /v1/lamps/1?q=a")
                },
                "violates [header missing_required X-Trace] / not_evaluated",
            ),
            (
                Case {
                    captured: &["x-trace"],
                    headers: TRACE,
                    ..get("GET /v1/lamps/1?q=a")
                },
                "not_evaluated / not_evaluated",
            ),
            (
                Case {
                    captured: &["x-trace", "Cookie"],
                    headers: TRACE,
                    ..get("GET /v1/lamps/1?q=a")
                },
                "conforms / not_evaluated",
            ),
            // What is there is judged although the list is partial.
            (
                Case {
                    captured: &[],
                    headers: &[("x-trace", "no")],
                    ..get("GET /v1/lamps/1?q=a")
                },
                "violates [header constraint_violation X-Trace] / not_evaluated",
            ),
            // Bodies.
            (
                Case {
                    body: None,
                    ..get("POST /v1/lamps")
                },
                "not_evaluated / not_evaluated",
            ),
            (
                Case {
                    body: Some(""),
                    ..get("POST /v1/lamps")
                },
                "violates [body missing_required ] / not_evaluated",
            ),
            // A part that the operation does not declare does not matter.
            (
                Case {
                    body: None,
                    headers: TRACE,
                    ..get("GET /v1/lamps/1?q=a")
                },
                "conforms / not_evaluated",
            ),
        ],
    );
}

#[test]
fn undeclared_query_parameters_violate_when_asked() {
    table(
        SHOP,
        true,
        &[
            (
                Case {
                    headers: TRACE,
                    ..get("GET /v1/lamps/1?q=a&tags=1&more=2&less=3")
                },
                "violates [query undeclared_parameter *] / not_evaluated",
            ),
            (
                Case {
                    headers: TRACE,
                    ..get("GET /v1/lamps/1?q=a&tags=1")
                },
                "conforms / not_evaluated",
            ),
        ],
    );
}

#[test]
fn violations_are_bounded_and_point_into_the_document() {
    let policy = policy(SHOP, false);
    let names: Vec<String> = (0..200).map(|n| format!("\"k{n}\": {n}")).collect();
    let body = format!(
        "{{\"name\": \"a\", \"secret\": \"s\", \"notes\": {{{}}}}}",
        names.join(",")
    );
    let case = Case {
        request: "POST /v1/lamps",
        headers: messages::JSON,
        body: Some(&body),
        ..Case::default()
    };
    // 200 members fail alike: one finding.
    assert_eq!(
        say(&policy, case),
        "violates [body invalid_type /notes/*] / not_evaluated"
    );
}
