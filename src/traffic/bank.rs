//! Endpoints that only the full scenario has: a bank whose sessions are token claims, and a host without session identifiers.

use super::endpoints::{Coverage, Endpoint, Posture, RequestCase, empty, get, json, send};
use crate::model::Location::{Body, Path};
use crate::model::OperationSource::{Learned, Schema};
use crate::model::ViolationClass::{ConstraintViolation, InvalidType, MissingRequired};

const BANK: Endpoint = Endpoint {
    zone: 1,
    weight: 0,
    method: "GET",
    host: "api.bank.example",
    template: "",
    source: Schema,
    coverage: Coverage::Operation,
    posture: Posture::Bank,
    reads_headers: false,
    answers_headers: false,
    requests: &[],
    admitted: &[],
    refused: empty(1, 401),
    bad: empty(1, 400),
};

const STATUS: Endpoint = Endpoint {
    zone: 2,
    host: "status.example",
    source: Learned,
    coverage: Coverage::Uncovered,
    posture: Posture::Open,
    ..BANK
};

const BALANCE: &[RequestCase] = &[
    get(950, "/accounts/<int>", ""),
    get(20, "/accounts/0", "").flawed(Path, ConstraintViolation),
    get(20, "/accounts/mine", "").flawed(Path, InvalidType),
];

const TRANSFER: &[RequestCase] = &[
    send(
        600,
        "/transfers",
        r#"{"to":<int>,"cents":<int>,"reference":null}"#,
    ),
    send(
        300,
        "/transfers",
        r#"{"to":<int>,"cents":<int>,"reference":"rent <word>"}"#,
    ),
    send(20, "/transfers", r#"{"to":<int>,"cents":0}"#).flawed(Body, ConstraintViolation),
    send(20, "/transfers", r#"{"to":<int>,"cents":"7"}"#).flawed(Body, InvalidType),
    send(20, "/transfers", r#"{"cents":7}"#).flawed(Body, MissingRequired),
];

/// Every endpoint of the bank and of the status host.
pub(super) const BANK_AND_STATUS: &[Endpoint] = &[
    Endpoint {
        weight: 80,
        template: "/accounts/{account_id}",
        requests: BALANCE,
        admitted: &[
            json(
                900,
                200,
                r#"{"account":<int>,"cents":<int>,"comment":null}"#,
            ),
            json(20, 200, r#"{"account":<int>,"cents":<int>,"comment":5}"#)
                .flawed(Body, InvalidType),
            empty(40, 404),
        ],
        bad: empty(1, 404),
        ..BANK
    },
    Endpoint {
        weight: 40,
        method: "POST",
        template: "/transfers",
        requests: TRANSFER,
        admitted: &[empty(1, 201)],
        ..BANK
    },
    // The same operation on another host of the zone is another endpoint.
    Endpoint {
        weight: 10,
        host: "mobile.bank.example",
        template: "/accounts/{account_id}",
        posture: Posture::Open,
        requests: BALANCE,
        admitted: &[json(1, 200, r#"{"account":<int>,"cents":<int>}"#)],
        bad: empty(1, 404),
        ..BANK
    },
    Endpoint {
        weight: 15,
        template: "/branches",
        source: Learned,
        coverage: Coverage::NoOperation,
        posture: Posture::Open,
        requests: &[get(1, "/branches", "city=<word>")],
        admitted: &[json(1, 200, "[]")],
        ..BANK
    },
    Endpoint {
        weight: 15,
        template: "/",
        requests: &[get(1, "/", "")],
        admitted: &[json(9, 200, "{}"), empty(1, 503)],
        ..STATUS
    },
];
