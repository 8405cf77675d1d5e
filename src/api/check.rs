//! The inline check over HTTP: `/check` for nginx's `auth_request`, `/ext_authz/…` for Envoy's HTTP service.
//!
//! The gateway describes the request and everything else that it passes on is the request's own header. **What it says is
//! believed**, so it must set every header below itself, and nobody but gateways may reach this address.
//!
//! | `/check` | |
//! | --- | --- |
//! | `x-original-method`, `x-original-uri`, `x-original-host` | required |
//! | `x-original-address` | the client's address; brackets, a port and a zone around it are taken off |
//! | `x-original-scheme` | |
//! | `x-original-asn` | `64500`, `AS64500 Example` |
//! | `x-original-certificate` | PEM, URL-encoded (`$ssl_client_escaped_cert`) |
//! | `x-original-verify` | `$ssl_client_verify`: `SUCCESS`, `FAILED…`, `NONE` |
//! | `x-gatewatch-key` | when `check.key` is configured |
//!
//! One that is there twice is an error of the gateway, which lets the client's own pass: 400.
//!
//! Envoy asks with the original method, host and path after the prefix; the client's address is the last one in
//! `x-forwarded-for`, which Envoy appends itself (`use_remote_address`), or with `check.trusted_hops` one before it. Bodies
//! are not read.

use std::borrow::Cow;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use percent_encoding::percent_decode_str;

use super::access::message;
use super::client::{self, Asn};
use super::gate::{Gate, Unread};
use crate::clock;
use crate::model::{Captured, Client, ClientCertificate, EventTime, Exchange, Headers, Request};

/// What was decided: `allowed`, `blocked`, `rule`, `unavailable`.
const DECISION: HeaderName = HeaderName::from_static("x-gatewatch-decision");
/// Id of the entry that refuses; the JSON feed shows the same.
const ENTRY: HeaderName = HeaderName::from_static("x-gatewatch-entry");
/// The key that a gateway shows.
pub(super) const KEY: &str = "x-gatewatch-key";
/// Headers of the conversation with us, not of the request.
const OURS: &[&str] = &[
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    KEY,
];
/// What the headers that describe a request start with.
const ORIGINAL: &str = "x-original-";
/// The path in front of Envoy's.
const PREFIX: &str = "/ext_authz";

pub(super) fn router(gate: Gate) -> Router {
    Router::new()
        .route("/check", any(auth_request))
        .route(PREFIX, any(ext_authz))
        .route("/ext_authz/", any(ext_authz))
        .route("/ext_authz/{*path}", any(ext_authz))
        .with_state(gate)
}

/// A header of the description that is there twice. One of the two is not the gateway's, and nobody can tell which.
fn twice(headers: &HeaderMap) -> Option<&HeaderName> {
    let mut ours = headers
        .keys()
        .filter(|name| name.as_str().starts_with(ORIGINAL));
    ours.find(|name| headers.get_all(*name).iter().nth(1).is_some())
}

/// Whether a user agent is no text: what stands for it in an exchange is not what was sent.
fn foreign_agent(headers: &HeaderMap) -> bool {
    let mut agents = headers.get_all(header::USER_AGENT).iter();
    agents.any(|agent| str::from_utf8(agent.as_bytes()).is_err())
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<Cow<'h, str>> {
    let value = headers.get(name)?.as_bytes();
    (!value.is_empty()).then(|| String::from_utf8_lossy(value))
}

/// The request's own headers.
fn own(headers: &HeaderMap) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    let own = headers
        .iter()
        .filter(|(name, _)| !OURS.contains(&name.as_str()) && !name.as_str().starts_with(ORIGINAL));
    own.map(|(name, value)| {
        (
            Cow::Borrowed(name.as_str()),
            String::from_utf8_lossy(value.as_bytes()),
        )
    })
    .collect()
}

/// Path and query of a request target (RFC 9112 section 3.2); one in absolute form names the host once more.
pub(super) fn target(uri: &str) -> (Cow<'_, str>, Option<Cow<'_, str>>) {
    let path = match uri.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => rest
            .find('/')
            .map_or("/", |at| rest.get(at..).unwrap_or("/")),
        _ => uri,
    };
    match path.split_once('?') {
        Some((path, query)) => (Cow::Borrowed(path), Some(Cow::Borrowed(query))),
        None => (Cow::Borrowed(path), None),
    }
}

/// The certificate as nginx describes it; `None` = it says nothing.
fn certificate(headers: &HeaderMap) -> Option<ClientCertificate<'static>> {
    let verify = text(headers, "x-original-verify");
    let pem = text(headers, "x-original-certificate").map(|pem| escaped_pem(&pem));
    if verify.is_none() && pem.is_none() {
        return None;
    }
    let none = verify.as_deref() == Some("NONE");
    let found = verify.filter(|_| !none).map(|verify| verify == "SUCCESS");
    Some(ClientCertificate {
        presented: Some(!none),
        verified: found,
        pem: pem.filter(|_| !none).map(Cow::Owned),
        ..ClientCertificate::default()
    })
}

/// URL-encoded PEM, as nginx and Envoy write it.
pub(super) fn escaped_pem(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

async fn auth_request(State(gate): State<Gate>, headers: HeaderMap) -> Response {
    let (Some(method), Some(uri), Some(host)) = (
        text(&headers, "x-original-method"),
        text(&headers, "x-original-uri"),
        text(&headers, "x-original-host"),
    ) else {
        let words = "x-original-method, x-original-uri and x-original-host are needed";
        return message(StatusCode::BAD_REQUEST, words);
    };
    if let Some(name) = twice(&headers) {
        return message(StatusCode::BAD_REQUEST, &format!("{name} is given twice"));
    }
    let (path, query) = target(&uri);
    let bytes = |name| headers.get(name).map(HeaderValue::as_bytes);
    let asn = client::asn(bytes("x-original-asn"));
    let unread = Unread {
        asn: asn == Asn::Unread,
        agent: foreign_agent(&headers),
    };
    let exchange = Exchange {
        id: None,
        at: now(),
        zone: None,
        client: Client {
            // On a Unix socket nobody has an address, and nginx says so.
            ip: bytes("x-original-address")
                .filter(|sent| *sent != b"unix:")
                .map(client::described),
            asn: match asn {
                Asn::Known(number) => Some(number),
                Asn::Unknown | Asn::Unread => None,
            },
            ..Client::default()
        },
        certificate: certificate(&headers),
        request: Request {
            method,
            scheme: text(&headers, "x-original-scheme"),
            host,
            path,
            query,
            headers: Headers {
                fields: own(&headers),
                // nginx passes every header of the request on.
                captured: Captured::All,
            },
            body: None,
            body_bytes: None,
        },
        response: None,
    };
    answer(&gate, &headers, &exchange, unread)
}

async fn ext_authz(
    State(gate): State<Gate>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Some(host) = text(&headers, "host") else {
        return message(StatusCode::BAD_REQUEST, "host is needed");
    };
    let asked = uri.path_and_query().map_or("", |target| target.as_str());
    let (path, query) = target(asked.strip_prefix(PREFIX).unwrap_or(asked));
    let path = if path.is_empty() {
        Cow::Borrowed("/")
    } else {
        path
    };
    let fields = own(&headers);
    // Envoy passes Authorization and what its configuration lists; of others nothing is known.
    let mut names: Vec<Cow<'_, str>> = fields.iter().map(|(name, _)| name.clone()).collect();
    names.push(Cow::Borrowed("authorization"));
    let lines = headers.get_all("x-forwarded-for").iter();
    let address = gate.forwarded(lines.map(HeaderValue::as_bytes));
    let unread = Unread {
        asn: false,
        agent: foreign_agent(&headers),
    };
    let exchange = Exchange {
        id: None,
        at: now(),
        zone: None,
        client: Client {
            // Envoy always appends one: without it nobody knows who asks.
            ip: Some(client::described(address.unwrap_or_default())),
            ..Client::default()
        },
        certificate: None,
        request: Request {
            method: Cow::Borrowed(method.as_str()),
            scheme: text(&headers, "x-forwarded-proto"),
            host,
            path,
            query,
            headers: Headers {
                fields,
                captured: Captured::Names(names),
            },
            body: None,
            body_bytes: None,
        },
        response: None,
    };
    answer(&gate, &headers, &exchange, unread)
}

/// The present as an event's time.
pub(super) fn now() -> EventTime {
    EventTime::clamped(clock::now_millis())
}

fn answer(gate: &Gate, headers: &HeaderMap, exchange: &Exchange<'_>, unread: Unread) -> Response {
    if !gate.admits(headers.get(KEY).map(HeaderValue::as_bytes)) {
        tracing::warn!("a gateway asked without the key of [check]");
        return message(StatusCode::FORBIDDEN, "x-gatewatch-key is missing or wrong");
    }
    let answer = gate.ask_about(exchange, unread);
    let mut response = if answer.allows() {
        StatusCode::OK.into_response()
    } else {
        message(StatusCode::FORBIDDEN, "forbidden")
    };
    let described = response.headers_mut();
    described.insert(DECISION, HeaderValue::from_static(answer.as_str()));
    described.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(id) = answer.entry()
        && let Ok(id) = HeaderValue::from_str(&id.to_string())
    {
        described.insert(ENTRY, id);
    }
    response
}
