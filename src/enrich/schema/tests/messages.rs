//! JSON bodies, media types and responses.

use super::{Case, SHOP, TRACE, table};

pub(super) const JSON: &[(&str, &str)] = &[("Content-Type", "application/json; charset=UTF-8")];

#[test]
fn request_bodies_are_judged() {
    let post = |body: &'static str| Case {
        request: "POST /v1/lamps",
        headers: JSON,
        body: Some(body),
        ..Case::default()
    };
    table(
        SHOP,
        false,
        &[
            (
                post(r#"{"name": "a", "secret": "s"}"#),
                "conforms / not_evaluated",
            ),
            (
                post(r#"{"name": null, "secret": "s"}"#),
                "conforms / not_evaluated",
            ),
            (
                post(r#"{"name": "a"}"#),
                "violates [body missing_required /secret] / not_evaluated",
            ),
            (
                post(r#"{"name": 1, "secret": "s"}"#),
                "violates [body invalid_type /name] / not_evaluated",
            ),
            (
                post(r#"{"name": "toolong", "secret": "s"}"#),
                "violates [body constraint_violation /name] / not_evaluated",
            ),
            (
                post(r#"{"name": "a", "secret": "s", "size": 0}"#),
                "violates [body constraint_violation /size] / not_evaluated",
            ),
            (
                post(r#"{"name": "a", "secret": "s", "other": 0}"#),
                "violates [body constraint_violation /*] / not_evaluated",
            ),
            (
                post(
                    r#"{"name": "a", "secret": "s", "parts": [{"name": "a", "secret": "s"}, {"name": 1, "secret": "s"}, {"name": 2, "secret": "s"}]}"#,
                ),
                "violates [body invalid_type /parts/*/name] / not_evaluated",
            ),
            (
                post(r#"{"name": "a", "secret": "s", "notes": {"mine": 1}}"#),
                "violates [body invalid_type /notes/*] / not_evaluated",
            ),
            (post("[]"), "violates [body invalid_type ] / not_evaluated"),
            (post("{"), "violates [body invalid_syntax ] / not_evaluated"),
            (
                post("\u{1}"),
                "violates [body invalid_syntax ] / not_evaluated",
            ),
            (
                post(r#"{"name": "a", "name": "b", "secret": "s"}"#),
                "violates [body invalid_syntax ] / not_evaluated",
            ),
        ],
    );
}

#[test]
fn media_types_are_judged() {
    let lamp = r#"{"name": "a", "secret": "s"}"#;
    let post = |headers: &'static [(&'static str, &'static str)]| Case {
        request: "POST /v1/lamps",
        headers,
        body: Some(lamp),
        ..Case::default()
    };
    let put = |headers: &'static [(&'static str, &'static str)]| Case {
        request: "PUT /v1/lamps",
        headers,
        body: Some("{"),
        ..Case::default()
    };
    let unsupported = "violates [body unsupported_media_type ] / not_evaluated";
    table(
        SHOP,
        false,
        &[
            (post(&[]), unsupported),
            (post(&[("content-type", "text/plain")]), unsupported),
            (post(&[("content-type", "nonsense")]), unsupported),
            (
                post(&[("content-type", "APPLICATION/JSON")]),
                "conforms / not_evaluated",
            ),
            (
                post(&[("content-type", "application/json; charset=latin1")]),
                "violates [body invalid_encoding ] / not_evaluated",
            ),
            // Headers not captured: the sole declared type is assumed; of several none is.
            (
                Case {
                    captured: &[],
                    ..post(&[])
                },
                "conforms / not_evaluated",
            ),
            (
                Case {
                    captured: &[],
                    body: Some("{"),
                    ..post(&[])
                },
                "violates [body invalid_syntax ] / not_evaluated",
            ),
            (
                Case {
                    captured: &[],
                    ..put(&[])
                },
                "not_evaluated / not_evaluated",
            ),
            (
                Case {
                    captured: &["content-type"],
                    ..post(&[])
                },
                unsupported,
            ),
            // Present although the rest was not captured.
            (
                Case {
                    captured: &[],
                    ..post(&[("content-type", "text/plain")])
                },
                unsupported,
            ),
            // Ranges, and a declared type without a schema.
            (
                put(&[("content-type", "text/csv")]),
                "conforms / not_evaluated",
            ),
            (
                put(&[("content-type", "application/json")]),
                "violates [body invalid_syntax ] / not_evaluated",
            ),
            (put(&[("content-type", "image/png")]), unsupported),
            (
                Case {
                    body: Some(""),
                    ..put(&[])
                },
                "conforms / not_evaluated",
            ),
        ],
    );
}

const OK: &[(&str, &str)] = &[("content-type", "application/json"), ("x-rate", "5")];

#[test]
fn responses_are_judged() {
    let answer = |status: u16,
                  headers: &'static [(&'static str, &'static str)],
                  body: Option<&'static str>| Case {
        request: "GET /v1/lamps/1?q=a",
        headers: TRACE,
        status: Some(status),
        response_headers: headers,
        response_body: body,
        ..Case::default()
    };
    table(
        SHOP,
        false,
        &[
            (
                answer(200, OK, Some(r#"{"id": 1, "name": "a"}"#)),
                "conforms / conforms",
            ),
            (
                answer(200, OK, Some(r#"{"name": "a"}"#)),
                "conforms / violates [body missing_required /id]",
            ),
            (answer(200, OK, None), "conforms / not_evaluated"),
            (
                answer(
                    200,
                    &[("content-type", "application/json")],
                    Some(r#"{"id": 1, "name": "a"}"#),
                ),
                "conforms / violates [header missing_required X-Rate]",
            ),
            (
                answer(
                    200,
                    &[("content-type", "application/json"), ("x-rate", "x")],
                    None,
                ),
                "conforms / violates [header invalid_type X-Rate]",
            ),
            (
                Case {
                    response_captured: &[],
                    ..answer(200, &[], Some(r#"{"id": 1, "name": "a"}"#))
                },
                "conforms / not_evaluated",
            ),
            (
                Case {
                    response_captured: &[],
                    ..answer(200, &[], Some("{}"))
                },
                "conforms / violates [body missing_required /id] [body missing_required /name]",
            ),
            (
                answer(200, &[("x-rate", "5")], Some("{}")),
                "conforms / violates [body unsupported_media_type ]",
            ),
            // Nothing is declared for the body of a 4XX, so it does not matter.
            (answer(404, &[], None), "conforms / conforms"),
            (
                answer(302, &[], None),
                "conforms / violates [status undeclared_status 302]",
            ),
            (
                Case {
                    request: "POST /v1/lamps",
                    headers: JSON,
                    body: Some(r#"{"name": "a", "secret": "s"}"#),
                    ..answer(
                        500,
                        &[("content-type", "application/problem+json")],
                        Some("{}"),
                    )
                },
                "conforms / conforms",
            ),
            (
                Case {
                    request: "POST /v1/lamps",
                    headers: JSON,
                    body: Some(r#"{"name": "a", "secret": "s"}"#),
                    ..answer(500, &[("content-type", "text/html")], Some("<p>"))
                },
                "conforms / violates [body unsupported_media_type ]",
            ),
        ],
    );
}
