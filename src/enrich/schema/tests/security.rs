//! Security requirements: which credentials must be there.

use super::{Case, get, table};

const SECURE: &str = r#"
openapi: 3.1.0
info: {title: secure, version: "1"}
security: [{bearer: []}, {key: [], cookie: []}]
paths:
  /a: {get: {responses: {200: {description: ok}}}}
  /open: {get: {security: [], responses: {200: {description: ok}}}}
  /maybe: {get: {security: [{bearer: []}, {}], responses: {200: {description: ok}}}}
  /basic: {get: {security: [{basic: []}], responses: {200: {description: ok}}}}
  /oauth: {get: {security: [{oauth: [read]}], responses: {200: {description: ok}}}}
  /query: {get: {security: [{query: []}], responses: {200: {description: ok}}}}
  /mtls: {get: {security: [{mtls: []}], responses: {200: {description: ok}}}}
components:
  securitySchemes:
    bearer: {type: http, scheme: bearer}
    basic: {type: http, scheme: Basic}
    key: {type: apiKey, in: header, name: X-Key}
    cookie: {type: apiKey, in: cookie, name: sid}
    query: {type: apiKey, in: query, name: key}
    oauth: {type: oauth2, flows: {clientCredentials: {tokenUrl: "https://t.example", scopes: {read: r}}}}
    mtls: {type: mutualTLS}
"#;

#[test]
fn declared_credentials_must_be_there() {
    let missing = "violates [security missing_credential bearer] / not_evaluated";
    let ok = "conforms / not_evaluated";
    table(
        SECURE,
        true,
        &[
            (get("GET /a"), missing),
            (get("GET /open"), ok),
            (get("GET /maybe"), ok),
            (
                Case {
                    headers: &[("authorization", "bEARER x")],
                    ..get("GET /a")
                },
                ok,
            ),
            (
                Case {
                    headers: &[("authorization", "Bearer ")],
                    ..get("GET /a")
                },
                missing,
            ),
            (
                Case {
                    headers: &[("authorization", "Basic x")],
                    ..get("GET /a")
                },
                missing,
            ),
            (
                Case {
                    headers: &[("x-key", "k")],
                    ..get("GET /a")
                },
                missing,
            ),
            (
                Case {
                    headers: &[("x-key", "k"), ("cookie", "sid=1")],
                    ..get("GET /a")
                },
                ok,
            ),
            (
                Case {
                    headers: &[("x-key", "k"), ("cookie", "sid=")],
                    ..get("GET /a")
                },
                missing,
            ),
            (
                Case {
                    captured: &[],
                    ..get("GET /a")
                },
                "not_evaluated / not_evaluated",
            ),
            (
                Case {
                    captured: &["authorization"],
                    ..get("GET /a")
                },
                "not_evaluated / not_evaluated",
            ),
            (
                Case {
                    captured: &["authorization", "x-key"],
                    ..get("GET /a")
                },
                missing,
            ),
            (
                Case {
                    headers: &[("authorization", "Basic x")],
                    ..get("GET /basic")
                },
                ok,
            ),
            (
                get("GET /basic"),
                "violates [security missing_credential basic] / not_evaluated",
            ),
            (
                Case {
                    headers: &[("authorization", "x")],
                    ..get("GET /oauth")
                },
                ok,
            ),
            (
                get("GET /oauth"),
                "violates [security missing_credential oauth] / not_evaluated",
            ),
            (get("GET /query?key=1"), ok),
            (
                get("GET /query"),
                "violates [security missing_credential query] / not_evaluated",
            ),
            (get("GET /mtls"), "not_evaluated / not_evaluated"),
            (
                Case {
                    certificate: Some(true),
                    ..get("GET /mtls")
                },
                ok,
            ),
            (
                Case {
                    certificate: Some(false),
                    ..get("GET /mtls")
                },
                "violates [security missing_credential mtls] / not_evaluated",
            ),
        ],
    );
}
