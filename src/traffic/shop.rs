//! Endpoints of the demo shop: an API with a schema, a partner feed with client certificates, an old site without a schema.
//!
//! Each flaw names what the schema document `documents/shop.openapi.yaml` (or `partners.openapi.json`) forbids. A flaw breaks exactly
//! one rule, so that its class is not a matter of opinion.

use super::endpoints::{
    BAD_REQUEST, Coverage, Endpoint, NOT_FOUND, Posture, RequestCase, ResponseCase, SERVER_ERROR,
    TOO_MANY, UNAUTHORIZED, UNAVAILABLE, empty, get, json, problem, send,
};
use crate::model::Location::{Body, Cookie, Header, Path, Query};
use crate::model::OperationSource::{Learned, Saved, Schema};
use crate::model::ViolationClass::{
    ConstraintViolation, DuplicateValue, InvalidEncoding, InvalidSyntax, InvalidType,
    MissingRequired, UnsupportedMediaType,
};

/// Index of the shop in every scenario.
const ZONE: usize = 0;

/// An operation of the API that nobody has to sign in for; the others are variations of it.
const OPEN: Endpoint = Endpoint {
    zone: ZONE,
    weight: 0,
    method: "GET",
    host: "api.shop.example",
    template: "",
    source: Schema,
    coverage: Coverage::Operation,
    posture: Posture::Open,
    reads_headers: false,
    answers_headers: false,
    requests: &[],
    admitted: &[],
    refused: UNAUTHORIZED,
    bad: BAD_REQUEST,
};

/// A path of the API that its schema does not know.
const UNKNOWN: Endpoint = Endpoint {
    source: Learned,
    coverage: Coverage::NoOperation,
    ..OPEN
};

/// A path of the old site, which has no schema.
const OLD_SITE: Endpoint = Endpoint {
    host: "www.shop.example",
    coverage: Coverage::Uncovered,
    ..UNKNOWN
};

/// An operation of the partner feed.
const FEED: Endpoint = Endpoint {
    host: "feed.partners.shop.example",
    posture: Posture::Certificate,
    refused: empty(1, 403),
    bad: empty(1, 400),
    ..OPEN
};

const PRODUCTS: &str =
    r#"[{"id":7,"name":"<word>","price_cents":<int>},{"id":8,"name":"<word>","price_cents":0}]"#;
const ORDER: &str = r#"{"id":<int>,"status":"paid","note":"caf\u00e9 – soon"}"#;

const CATALOG: &[RequestCase] = &[
    get(500, "/api/v1/catalog", ""),
    get(250, "/api/v1/catalog", "limit=20&category=garden"),
    get(150, "/api/v1/catalog", "colours=red,blue"),
    get(12, "/api/v1/catalog", "limit=500").flawed(Query, ConstraintViolation),
    get(12, "/api/v1/catalog", "limit=many").flawed(Query, InvalidType),
    get(8, "/api/v1/catalog", "category=weapons").flawed(Query, ConstraintViolation),
    get(8, "/api/v1/catalog", "colours=red,red").flawed(Query, DuplicateValue),
];

const CATALOG_ANSWERS: &[ResponseCase] = &[
    json(940, 200, PRODUCTS),
    json(
        10,
        200,
        r#"[{"id":"<word>","name":"<word>","price_cents":5}]"#,
    )
    .flawed(Body, InvalidType),
    json(10, 200, r#"[{"id":5,"name":"<word>"}]"#).flawed(Body, MissingRequired),
    json(10, 200, r#"[{"id":5,"name":"#).flawed(Body, InvalidSyntax),
    TOO_MANY,
    SERVER_ERROR,
    UNAVAILABLE,
    empty(4, 304).undeclared(),
];

const PRODUCT_ANSWERS: &[ResponseCase] = &[
    json(
        900,
        200,
        r#"{"id":<int>,"name":"<word>","price_cents":<int>}"#,
    ),
    json(20, 200, r#"{"id":<int>,"name":"<word>","price_cents":-1}"#)
        .flawed(Body, ConstraintViolation),
    NOT_FOUND,
    SERVER_ERROR,
];

const LOGIN: &[RequestCase] = &[
    send(
        800,
        "/api/v1/login",
        r#"{"email":"<email>","password":"correct horse <int>"}"#,
    ),
    send(
        150,
        "/api/v1/login",
        r#"{"email":"<email>","password":"pass \"quoted\" \\ <word>","remember":true}"#,
    ),
    send(10, "/api/v1/login", r#"{"email":"<email>"}"#).flawed(Body, MissingRequired),
    send(
        10,
        "/api/v1/login",
        r#"{"email":"<email>","password":"short"}"#,
    )
    .flawed(Body, ConstraintViolation),
    send(6, "/api/v1/login", r#"{"email":"<email>","password":"#).flawed(Body, InvalidSyntax),
    send(6, "/api/v1/login", "").flawed(Body, MissingRequired),
    send(
        6,
        "/api/v1/login",
        "email=<word>@mail.example&password=<word>",
    )
    .flawed(Body, UnsupportedMediaType)
    .typed("application/x-www-form-urlencoded"),
    send(
        4,
        "/api/v1/login",
        r#"{"email":"<email>","password":"no type given"}"#,
    )
    .flawed(Body, UnsupportedMediaType)
    .typed(""),
    send(
        4,
        "/api/v1/login",
        r#"{"email":"<email>","password":"password <ff>"}"#,
    )
    .flawed(Body, InvalidEncoding)
    .in_base64(),
];

const LOGIN_ANSWERS: &[ResponseCase] = &[
    json(700, 200, r#"{"expires_in":3600}"#),
    problem(250, 401, r#"{"title":"wrong password","status":401}"#),
    TOO_MANY,
    SERVER_ERROR,
];

const ORDERS: &[RequestCase] = &[
    get(600, "/api/v1/orders", ""),
    get(200, "/api/v1/orders", "since=<date>").with_header("x-page-size", "50"),
    get(10, "/api/v1/orders", "since=yesterday").flawed(Query, ConstraintViolation),
    get(10, "/api/v1/orders", "")
        .with_header("X-Page-Size", "0")
        .flawed(Header, ConstraintViolation),
    get(10, "/api/v1/orders", "")
        .with_header("X-Page-Size", "all")
        .flawed(Header, InvalidType),
];

const ORDERS_ANSWERS: &[ResponseCase] = &[
    json(900, 200, r#"[{"id":1,"status":"open"}]"#).with_header("x-total-count", "1"),
    json(10, 200, "[]").flawed(Header, MissingRequired),
    json(10, 200, "[]")
        .with_header("X-Total-Count", "none")
        .flawed(Header, InvalidType),
    SERVER_ERROR,
    UNAVAILABLE,
];

const NEW_ORDER: &[RequestCase] = &[
    send(
        700,
        "/api/v1/orders",
        r#"{"items":[{"product_id":<int>,"quantity":2}],"coupons":["SPRING","<word>"]}"#,
    ),
    send(
        200,
        "/api/v1/orders",
        r#"{"items":[{"product_id":7,"quantity":1},{"product_id":9,"quantity":99}],"gift":true}"#,
    ),
    send(
        10,
        "/api/v1/orders",
        r#"{"items":[{"product_id":7,"quantity":100}]}"#,
    )
    .flawed(Body, ConstraintViolation),
    send(
        10,
        "/api/v1/orders",
        r#"{"items":[{"product_id":"seven","quantity":1}]}"#,
    )
    .flawed(Body, InvalidType),
    send(10, "/api/v1/orders", r#"{"items":[{"product_id":7}]}"#).flawed(Body, MissingRequired),
    send(10, "/api/v1/orders", r#"{"items":[]}"#).flawed(Body, ConstraintViolation),
    send(
        8,
        "/api/v1/orders",
        r#"{"items":[{"product_id":7,"quantity":1}],"coupons":["A","A"]}"#,
    )
    .flawed(Body, DuplicateValue),
    send(8, "/api/v1/orders", "<order/>")
        .flawed(Body, UnsupportedMediaType)
        .typed("application/xml"),
];

const ONE_ORDER: &[RequestCase] = &[
    get(950, "/api/v1/orders/<int>", ""),
    get(20, "/api/v1/orders/latest", "").flawed(Path, InvalidType),
    get(10, "/api/v1/orders/0", "").flawed(Path, ConstraintViolation),
];

const ONE_ORDER_ANSWERS: &[ResponseCase] = &[
    json(900, 200, ORDER),
    json(10, 200, r#"{"id":<int>,"status":"lost"}"#).flawed(Body, ConstraintViolation),
    NOT_FOUND,
    SERVER_ERROR,
    empty(5, 418).undeclared(),
];

const PROFILE: &[RequestCase] = &[
    send(900, "/api/v1/profile", r#"{"name":"<word>","age":41}"#),
    send(
        40,
        "/api/v1/profile",
        r#"{"name":"<word>","newsletter":true}"#,
    )
    .typed("application/json; charset=utf-8"),
    send(20, "/api/v1/profile", r#"{"name":"<word>","age":900}"#).flawed(Body, ConstraintViolation),
    send(20, "/api/v1/profile", r#"{"name":17}"#).flawed(Body, InvalidType),
];

const SEARCH: &[RequestCase] = &[
    get(900, "/api/v1/search", "q=<word>%20<word>"),
    get(30, "/api/v1/search", "").flawed(Query, MissingRequired),
    get(30, "/api/v1/search", "q=x").flawed(Query, ConstraintViolation),
];

const INVOICE: &[RequestCase] = &[
    get(950, "/api/v1/users/<int>/invoices/inv-100<int>", ""),
    get(15, "/api/v1/users/me/invoices/inv-20260001", "").flawed(Path, InvalidType),
    get(15, "/api/v1/users/12/invoices/2026", "").flawed(Path, ConstraintViolation),
];

/// Every endpoint of the shop.
pub(super) const SHOP: &[Endpoint] = &[
    Endpoint {
        weight: 160,
        template: "/api/v1/catalog",
        requests: CATALOG,
        admitted: CATALOG_ANSWERS,
        ..OPEN
    },
    Endpoint {
        weight: 40,
        template: "/api/v1/catalog/featured",
        requests: &[get(1, "/api/v1/catalog/featured", "")],
        admitted: &[json(980, 200, PRODUCTS), TOO_MANY, SERVER_ERROR],
        ..OPEN
    },
    Endpoint {
        weight: 120,
        template: "/api/v1/catalog/{product_id}",
        requests: &[
            get(960, "/api/v1/catalog/<int>", ""),
            get(20, "/api/v1/catalog/violins", "").flawed(Path, InvalidType),
            get(20, "/api/v1/catalog/-3", "").flawed(Path, ConstraintViolation),
        ],
        admitted: PRODUCT_ANSWERS,
        ..OPEN
    },
    Endpoint {
        weight: 50,
        method: "POST",
        template: "/api/v1/login",
        requests: LOGIN,
        admitted: LOGIN_ANSWERS,
        ..OPEN
    },
    Endpoint {
        weight: 110,
        template: "/api/v1/orders",
        posture: Posture::Guarded,
        reads_headers: true,
        answers_headers: true,
        requests: ORDERS,
        admitted: ORDERS_ANSWERS,
        ..OPEN
    },
    Endpoint {
        weight: 70,
        method: "POST",
        template: "/api/v1/orders",
        posture: Posture::Guarded,
        requests: NEW_ORDER,
        admitted: &[json(980, 201, ORDER), SERVER_ERROR],
        ..OPEN
    },
    Endpoint {
        weight: 110,
        template: "/api/v1/orders/{order_id}",
        posture: Posture::Careless,
        requests: ONE_ORDER,
        admitted: ONE_ORDER_ANSWERS,
        ..OPEN
    },
    Endpoint {
        weight: 20,
        method: "DELETE",
        template: "/api/v1/orders/{order_id}",
        posture: Posture::Guarded,
        requests: &[get(1, "/api/v1/orders/<int>", "")],
        admitted: &[
            empty(960, 204),
            // A status that the operation does not declare, and a success at that.
            empty(10, 202).undeclared(),
            SERVER_ERROR,
        ],
        ..OPEN
    },
    Endpoint {
        weight: 50,
        template: "/api/v1/account",
        posture: Posture::BearerOnly,
        reads_headers: true,
        requests: &[get(1, "/api/v1/account", "")],
        admitted: &[
            json(980, 200, r#"{"id":"<uuid>","email":"<email>"}"#),
            SERVER_ERROR,
        ],
        ..OPEN
    },
    Endpoint {
        weight: 30,
        method: "PUT",
        template: "/api/v1/profile",
        posture: Posture::Slipping,
        requests: PROFILE,
        admitted: &[empty(970, 204), SERVER_ERROR],
        ..OPEN
    },
    Endpoint {
        weight: 80,
        template: "/api/v1/search",
        posture: Posture::Mixed,
        requests: SEARCH,
        admitted: &[json(970, 200, PRODUCTS), UNAVAILABLE],
        ..OPEN
    },
    Endpoint {
        weight: 40,
        template: "/api/v1/users/{user_id}/invoices/{invoice_id}",
        requests: INVOICE,
        admitted: &[
            json(960, 200, r#"{"invoice":"inv-<int>","total_cents":<int>}"#),
            NOT_FOUND,
        ],
        bad: NOT_FOUND,
        ..OPEN
    },
    Endpoint {
        weight: 30,
        template: "/health",
        source: Saved,
        requests: &[get(1, "/health", "")],
        admitted: &[
            json(990, 200, r#"{"up":true}"#),
            json(10, 503, r#"{"up":false}"#),
        ],
        ..UNKNOWN
    },
    Endpoint {
        weight: 25,
        template: "/api/v0/users/{var1}",
        requests: &[get(1, "/api/v0/users/<int>", "verbose=1")],
        admitted: &[json(980, 200, r#"{"name":"<word>"}"#), SERVER_ERROR],
        ..UNKNOWN
    },
    Endpoint {
        weight: 12,
        method: "PATCH",
        template: "/api/v1/orders/{var1}",
        posture: Posture::Guarded,
        requests: &[send(1, "/api/v1/orders/<int>", r#"{"status":"paid"}"#)],
        admitted: &[empty(1, 405)],
        ..UNKNOWN
    },
    Endpoint {
        weight: 15,
        method: "OPTIONS",
        template: "/api/v1/orders",
        requests: &[get(1, "/api/v1/orders", "")],
        admitted: &[empty(1, 204)],
        ..UNKNOWN
    },
    Endpoint {
        weight: 10,
        method: "HEAD",
        template: "/api/v1/catalog",
        requests: &[get(1, "/api/v1/catalog", "")],
        admitted: &[empty(1, 200)],
        ..UNKNOWN
    },
    Endpoint {
        weight: 40,
        method: "POST",
        template: "/feed/v2/batches",
        requests: &[
            send(
                940,
                "/feed/v2/batches",
                r#"{"batch":"nl-<int>","rows":<int>}"#,
            ),
            send(30, "/feed/v2/batches", r#"{"batch":"NL 7","rows":1}"#)
                .flawed(Body, ConstraintViolation),
            send(30, "/feed/v2/batches", r#"{"batch":"nl-7","rows":0}"#)
                .flawed(Body, ConstraintViolation),
        ],
        admitted: &[empty(1, 202)],
        ..FEED
    },
    Endpoint {
        weight: 30,
        template: "/feed/v2/batches/{batch_id}",
        reads_headers: true,
        requests: &[
            get(700, "/feed/v2/batches/nl-<int>", ""),
            get(200, "/feed/v2/batches/nl-<int>", "").with_cookie("tenant=north"),
            get(30, "/feed/v2/batches/nl-<int>", "")
                .with_cookie("tenant=west")
                .flawed(Cookie, ConstraintViolation),
            get(30, "/feed/v2/batches/<int>", "").flawed(Path, ConstraintViolation),
        ],
        admitted: &[
            json(900, 200, r#"{"batch":"nl-7","accepted":<int>}"#),
            json(20, 200, r#"{"batch":"nl-7"}"#).flawed(Body, MissingRequired),
            empty(40, 404),
        ],
        bad: empty(1, 404),
        ..FEED
    },
    Endpoint {
        weight: 20,
        template: "/blog/{var1}/{var2}",
        requests: &[get(1, "/blog/<date>/<int>", "")],
        admitted: &[json(950, 200, "[]"), empty(30, 301), empty(20, 404)],
        ..OLD_SITE
    },
    Endpoint {
        weight: 20,
        template: "/account/orders/{var1}",
        posture: Posture::Guarded,
        requests: &[get(1, "/account/orders/<uuid>", "")],
        admitted: &[json(1, 200, "{}")],
        ..OLD_SITE
    },
    Endpoint {
        weight: 20,
        template: "/account/export/{var1}",
        posture: Posture::Repaired,
        requests: &[get(1, "/account/export/<date>", "")],
        admitted: &[json(1, 200, "[]")],
        ..OLD_SITE
    },
    Endpoint {
        weight: 10,
        template: "/files/{var1}/preview",
        requests: &[
            get(1, "/files/<hex>/preview", ""),
            get(1, "/files/<ulid>/preview", ""),
            get(1, "/files/<opaque>/preview", ""),
            get(1, "/files/<email>/preview", ""),
        ],
        admitted: &[json(1, 200, "{}"), empty(1, 206)],
        ..OLD_SITE
    },
    Endpoint {
        weight: 4,
        method: "PURGE",
        template: "/cache",
        requests: &[get(1, "/cache", "")],
        admitted: &[empty(1, 200), empty(1, 502)],
        ..OLD_SITE
    },
    Endpoint {
        weight: 4,
        template: "/live",
        requests: &[get(1, "/live", "")],
        admitted: &[empty(1, 101)],
        ..OLD_SITE
    },
];
