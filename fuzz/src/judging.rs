//! What the targets share: a zone with everything configured, and exchanges to judge.

use std::borrow::Cow;
use std::sync::Arc;

use gatewatch::enrich::{Judge, Judged, Shared};
use gatewatch::model::{
    Captured, Client, ClientCertificate, EventTime, Exchange, Headers, Request, Response,
};
use gatewatch::policy::objects::{
    FileText, JwksObject, MtlsObject, OperationObject, SchemaObject, SessionIdentifierKind,
    SessionIdentifierObject, TokenConfigurationObject, ZoneObject,
};
use gatewatch::policy::{Policy, compile};

/// The host that every exchange asks.
pub const HOST: &str = "api.shop.example";
/// 2026-11-20T08:00:00Z, when the certificates and tokens of the seeds hold.
pub const AT: i64 = 1_795_161_600_000;
/// The authority that the client certificates of the seeds come from.
pub const AUTHORITY: &[u8] = include_bytes!("../../src/traffic/keys/partners-ca.pem");
/// Its revocation list.
pub const REVOCATIONS: &[u8] = include_bytes!("../../src/traffic/keys/partners.crl.pem");
const KEYS: &[u8] = include_bytes!("../../pipelines/compose/shop.jwks.json");
const SCHEMA: &[u8] = include_bytes!("../../pipelines/compose/shop.openapi.yaml");

/// Bytes as the file that a configuration names.
pub fn file(name: &str, bytes: &[u8]) -> FileText {
    FileText {
        name: name.to_owned(),
        bytes: bytes.to_vec(),
    }
}

/// A token configuration over these keys.
pub fn tokens(title: &str, keys: &[u8]) -> TokenConfigurationObject {
    TokenConfigurationObject {
        title: title.to_owned(),
        token_sources: vec![
            "http.request.headers[\"authorization\"][0]".to_owned(),
            "http.request.cookies[\"sid\"][0]".to_owned(),
        ],
        jwks: JwksObject::Written(file("keys.json", keys)),
        max_token_bytes: 16 << 10,
        ..TokenConfigurationObject::default()
    }
}

/// A zone that uses everything there is.
#[allow(
    clippy::needless_update,
    reason = "what a zone has more one day is left out here"
)]
pub fn zone() -> ZoneObject {
    let identifier = |kind, name: &str| SessionIdentifierObject {
        kind,
        name: name.to_owned(),
        ..SessionIdentifierObject::default()
    };
    ZoneObject {
        id: "zone".to_owned(),
        name: "shop.example".to_owned(),
        hosts: vec![HOST.to_owned(), "*.shop.example".to_owned()],
        session_identifiers: vec![
            identifier(SessionIdentifierKind::Header, "authorization"),
            identifier(SessionIdentifierKind::Cookie, "sid"),
            identifier(SessionIdentifierKind::Jwt, "shop:$.sub"),
        ],
        token_configurations: vec![tokens("shop", KEYS)],
        schemas: vec![SchemaObject {
            name: "shop".to_owned(),
            document: file("shop.yaml", SCHEMA),
            undeclared_parameters: true,
            formats: true,
            ..SchemaObject::default()
        }],
        operations: vec![OperationObject {
            method: "GET".to_owned(),
            host: HOST.to_owned(),
            endpoint: "/saved/{name}.json".to_owned(),
        }],
        mtls: vec![MtlsObject {
            hosts: vec![HOST.to_owned()],
            ca: vec![file("ca.pem", AUTHORITY)],
            crl: vec![file("crl.pem", REVOCATIONS)],
            ..MtlsObject::default()
        }],
        ..ZoneObject::default()
    }
}

/// A judge by this zone alone; `None` when its configuration is refused.
pub fn judge(zone: ZoneObject) -> Option<Judge> {
    compile(&[zone]).ok().map(judge_by)
}

/// A judge by a policy.
pub fn judge_by(policy: Policy) -> Judge {
    Judge::new(Arc::new(policy), Arc::new(Shared::new(b"0123456789abcdef")))
}

/// Judges and checks what every verdict promises.
pub fn judged(judge: &Judge, exchange: &Exchange<'_>) -> Option<Judged> {
    let mut judged = Judged::default();
    if !judge.judge(exchange, &mut judged) {
        return None;
    }
    assert!(judged.path.starts_with('/'), "{:?}", judged.path);
    assert!(judged.endpoint.starts_with('/') || judged.endpoint.starts_with('{'));
    assert!(judged.schema.violations.len() <= 128);
    Some(judged)
}

/// A request for a path, with header fields as lines of `name: value`.
pub fn exchange<'a>(method: &'a str, target: &'a str, fields: &'a str) -> Exchange<'a> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(Cow::Borrowed(query))),
        None => (target, None),
    };
    Exchange {
        id: None,
        at: EventTime::from_millis(AT).expect("the time is in range"),
        zone: None,
        client: Client::default(),
        certificate: None,
        request: Request {
            method: Cow::Borrowed(method),
            scheme: None,
            host: Cow::Borrowed(HOST),
            path: Cow::Borrowed(path),
            query,
            headers: headers(fields),
            body: None,
            body_bytes: None,
        },
        response: None,
    }
}

/// Header fields as lines of `name: value`, all of them captured.
pub fn headers(fields: &str) -> Headers<'_> {
    Headers {
        fields: fields
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (Cow::Borrowed(name.trim()), Cow::Borrowed(value.trim())))
            .collect(),
        captured: Captured::All,
    }
}

/// A response of this status.
pub fn response<'a>(status: u16, fields: &'a str, body: &'a [u8]) -> Response<'a> {
    Response {
        status,
        headers: headers(fields),
        body: Some(Cow::Borrowed(body)),
        body_bytes: None,
        duration_ms: None,
    }
}

/// The logged text of a client certificate.
pub fn presenting(pem: &str) -> Exchange<'_> {
    let mut asked = exchange("GET", "/feed", "");
    asked.certificate = Some(ClientCertificate {
        pem: Some(Cow::Borrowed(pem)),
        ..ClientCertificate::default()
    });
    asked
}
