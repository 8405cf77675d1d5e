//! The inline check over gRPC: `envoy.service.auth.v3.Authorization/Check`.
//!
//! Envoy gives the address of its peer, every header, and with `include_peer_certificate` the
//! certificate. The same decisions as over HTTP: `status` 0 lets the request pass, 7 (permission denied) answers 403.

use std::borrow::Cow;

use axum::Router;
use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer};
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{
    Authorization, AuthorizationServer,
};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{
    CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::rpc;
use tonic::{Code, Request as Call, Response, Status, async_trait};

use super::check::{KEY, escaped_pem, now, target};
use super::client::described;
use super::gate::{Answer, Gate, Unread};
use crate::model::{Captured, Client, ClientCertificate, Exchange, Headers, Request};

/// Longest description of a request, bytes: 256 headers of 8 KiB at most, without a body.
const MAX_MESSAGE: usize = 2 << 20;

/// The service as a router of its own.
pub(super) fn router(gate: Gate) -> Router {
    let service = AuthorizationServer::new(Checks(gate)).max_decoding_message_size(MAX_MESSAGE);
    Router::new().route_service("/envoy.service.auth.v3.Authorization/{method}", service)
}

struct Checks(Gate);

#[async_trait]
impl Authorization for Checks {
    async fn check(&self, call: Call<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let shown = call.metadata().get(KEY);
        if !self
            .0
            .admits(shown.map(tonic::metadata::MetadataValue::as_encoded_bytes))
        {
            tracing::warn!("a gateway asked without the key of [check]");
            return Err(Status::unauthenticated(
                "x-gatewatch-key is missing or wrong",
            ));
        }
        let attributes = call.get_ref().attributes.as_ref();
        let http = attributes.and_then(|attributes| attributes.request.as_ref()?.http.as_ref());
        let Some(http) = http else {
            return Err(Status::invalid_argument(
                "attributes.request.http is missing",
            ));
        };
        let source = attributes.and_then(|attributes| attributes.source.as_ref());
        let mut exchange = exchange(http, source);
        if self.0.trusts_hops() {
            // The peer is a proxy, and whom it saw stands in the list.
            let lines = exchange.request.headers.values("x-forwarded-for");
            let lines: Vec<&[u8]> = lines.map(str::as_bytes).collect();
            let client = self.0.forwarded(lines.into_iter());
            let client = client.map(|client| Cow::Owned(described(client).into_owned()));
            exchange.client.ip = client.or(exchange.client.ip);
        }
        let unread = Unread {
            asn: false,
            agent: foreign_agent(http),
        };
        let answer = self.0.ask_about(&exchange, unread);
        Ok(Response::new(told(answer)))
    }
}

/// Whether a user agent is no text; only raw headers show that, in others Envoy has replaced what is none.
fn foreign_agent(http: &HttpRequest) -> bool {
    let raw = http.header_map.iter().flat_map(|raw| &raw.headers);
    let mut agents = raw.filter(|field| field.key.eq_ignore_ascii_case("user-agent"));
    agents.any(|agent| str::from_utf8(&agent.raw_value).is_err())
}

/// What Envoy describes, as an exchange.
fn exchange<'r>(http: &'r HttpRequest, source: Option<&'r Peer>) -> Exchange<'r> {
    let (path, query) = target(&http.path);
    let address = source.and_then(|peer| match peer.address.as_ref()?.address.as_ref()? {
        Address::SocketAddress(socket) => Some(described(socket.address.as_bytes())),
        _ => None,
    });
    let certificate = source.map(|peer| peer.certificate.as_str());
    let certificate = certificate.filter(|pem| !pem.is_empty());
    let fields = match &http.header_map {
        // `encode_raw_headers`: values as they were sent.
        Some(raw) => raw
            .headers
            .iter()
            .map(|field| {
                let value = if field.raw_value.is_empty() {
                    Cow::Borrowed(field.value.as_str())
                } else {
                    String::from_utf8_lossy(&field.raw_value)
                };
                (Cow::Borrowed(field.key.as_str()), value)
            })
            .collect(),
        None => http
            .headers
            .iter()
            .map(|(name, value)| (Cow::Borrowed(name.as_str()), Cow::Borrowed(value.as_str())))
            .collect(),
    };
    Exchange {
        id: None,
        at: now(),
        zone: None,
        client: Client {
            ip: address,
            ..Client::default()
        },
        // Without a certificate Envoy does not say whether none was sent or none is shown.
        certificate: certificate.map(|pem| ClientCertificate {
            presented: Some(true),
            pem: Some(Cow::Owned(escaped_pem(pem))),
            ..ClientCertificate::default()
        }),
        request: Request {
            method: Cow::Borrowed(&http.method),
            scheme: (!http.scheme.is_empty()).then_some(Cow::Borrowed(http.scheme.as_str())),
            host: Cow::Borrowed(&http.host),
            path,
            query,
            headers: Headers {
                fields,
                captured: Captured::All,
            },
            body: None,
            body_bytes: None,
        },
        response: None,
    }
}

fn told(answer: Answer) -> CheckResponse {
    let header = |key: &str, value: String| HeaderValueOption {
        header: Some(HeaderValue {
            key: key.to_owned(),
            value,
            ..HeaderValue::default()
        }),
        ..HeaderValueOption::default()
    };
    let (code, http) = if answer.allows() {
        (
            Code::Ok,
            HttpResponse::OkResponse(OkHttpResponse::default()),
        )
    } else {
        let mut headers = vec![
            header("content-type", "application/json; charset=utf-8".to_owned()),
            header("x-gatewatch-decision", answer.as_str().to_owned()),
        ];
        headers.extend(
            answer
                .entry()
                .map(|id| header("x-gatewatch-entry", id.to_string())),
        );
        let denied = DeniedHttpResponse {
            status: Some(HttpStatus { code: 403 }),
            headers,
            body: r#"{"message":"forbidden"}"#.to_owned(),
        };
        (Code::PermissionDenied, HttpResponse::DeniedResponse(denied))
    };
    CheckResponse {
        status: Some(rpc::Status {
            code: i32::from(code),
            ..rpc::Status::default()
        }),
        http_response: Some(http),
        ..CheckResponse::default()
    }
}
