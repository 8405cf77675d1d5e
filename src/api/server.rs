//! The ports: one over HTTP/1.1 for `/healthz`, `/readyz`, `/metrics`, the feeds and the inline check, one over HTTP/2
//! for the inline check by gRPC.
//!
//! Enters: the telemetry that the pipeline fills, and what is offered besides. Leaves: answers. The management API is not
//! here.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use super::feeds::Readers;
use super::gate::Gate;
use super::{check, crowdsec, ext_authz, feeds};
use crate::config::{ApiSettings, FeedSettings};
use crate::publish::feed::Feed;
use crate::telemetry::{self, Telemetry};
use crate::wire::http::{BindError, Protocol, Server, bind, json};

/// Content type of the probes' answers.
const JSON: &str = "application/json";
/// Connections at a time: probes, scrapers, bouncers, a few people.
const CONNECTIONS: usize = 256;
/// Connections at a time where gateways ask about requests: each of their workers keeps some open.
const GATEWAY_CONNECTIONS: usize = 2_048;
/// Time for requests that have begun when the server stops.
const GRACE: Duration = Duration::from_secs(2);

/// What is offered besides probes and metrics.
#[derive(Clone, Default)]
pub struct Offers {
    /// The block list, and who may read it.
    pub feeds: Option<(Feed, FeedSettings)>,
    /// The inline check.
    pub gate: Option<Gate>,
}

/// The servers of `[api]`.
#[derive(Debug)]
pub struct Servers {
    http: Server,
    grpc: Option<Server>,
}

impl Servers {
    /// Where HTTP is served; tells the port when port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.http.address()
    }

    /// Where the inline check is served over gRPC.
    #[must_use]
    pub fn ext_authz(&self) -> Option<SocketAddr> {
        self.grpc.as_ref().map(Server::address)
    }

    /// Stops both, and waits for the requests that have begun.
    pub async fn stop(self) {
        if let Some(grpc) = self.grpc {
            grpc.stop().await;
        }
        self.http.stop().await;
    }
}

/// Starts the servers of `[api]`. They work until [`Servers::stop`]; call that after the pipeline has ended, so that
/// probes see it stopping.
///
/// # Errors
/// A port cannot be had.
pub async fn serve(
    settings: &ApiSettings,
    telemetry: &Telemetry,
    offers: Offers,
) -> Result<Servers, BindError> {
    let grpc = match (settings.ext_authz, &offers.gate) {
        (Some(listen), Some(gate)) => {
            let place = "api.ext_authz";
            let listener = bind(listen, place).await?;
            let router = ext_authz::router(gate.clone());
            let connections = GATEWAY_CONNECTIONS;
            let server = Server::start(listener, router, Protocol::Http2, connections, GRACE)
                .map_err(|source| BindError::new(listen, place, source))?;
            tracing::info!("answering ext_authz over gRPC on {}", server.address());
            Some(server)
        }
        _ => None,
    };
    let place = "api.listen";
    let listener = bind(settings.listen, place).await?;
    let connections = match &offers.gate {
        Some(_) => GATEWAY_CONNECTIONS,
        None => CONNECTIONS,
    };
    let router = router(telemetry.clone(), offers);
    let http = Server::start(listener, router, Protocol::Http1, connections, GRACE)
        .map_err(|source| BindError::new(settings.listen, place, source))?;
    tracing::info!(
        "serving /healthz, /readyz and /metrics on http://{}",
        http.address()
    );
    Ok(Servers { http, grpc })
}

fn router(telemetry: Telemetry, offers: Offers) -> Router {
    let mut router = Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
        .with_state(telemetry);
    if let Some((feed, settings)) = offers.feeds {
        let readers = Readers::new(feed, settings);
        router = router
            .merge(feeds::router(readers.clone()))
            .merge(crowdsec::router(readers));
    }
    if let Some(gate) = offers.gate {
        router = router.merge(check::router(gate));
    }
    router
}

#[derive(Serialize)]
struct Alive {
    status: &'static str,
}

/// Answering at all is the proof.
async fn health() -> Response {
    json(StatusCode::OK, JSON, &Alive { status: "ok" })
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<Waiting>,
}

#[derive(Serialize)]
struct Waiting {
    part: &'static str,
    reason: String,
}

async fn readiness(State(telemetry): State<Telemetry>) -> Response {
    let waiting = telemetry.health.reasons().into_iter();
    let reasons: Vec<Waiting> = waiting
        .map(|(part, reason)| Waiting {
            part: part.as_str(),
            reason,
        })
        .collect();
    let ready = reasons.is_empty();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json(status, JSON, &Readiness { ready, reasons })
}

async fn metrics(State(telemetry): State<Telemetry>) -> Response {
    let kind = [(header::CONTENT_TYPE, telemetry::CONTENT_TYPE)];
    (kind, telemetry.metrics.encode()).into_response()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{Offers, serve};
    use crate::config::ApiSettings;
    use crate::telemetry::{Part, Telemetry};

    async fn get(address: SocketAddr, path: &str) -> (u16, String, String) {
        let answer = reqwest::get(format!("http://{address}{path}"))
            .await
            .unwrap();
        let status = answer.status().as_u16();
        let kind = answer
            .headers()
            .get("content-type")
            .map(|kind| kind.to_str().unwrap());
        let kind = kind.unwrap_or_default().to_owned();
        (status, kind, answer.text().await.unwrap())
    }

    fn anywhere() -> ApiSettings {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        ApiSettings {
            listen,
            ext_authz: None,
        }
    }

    #[tokio::test]
    async fn probes_and_scrapers_are_answered() {
        let telemetry = Telemetry::default();
        let server = serve(&anywhere(), &telemetry, Offers::default())
            .await
            .unwrap();
        let at = server.address();
        let (status, kind, body) = get(at, "/healthz").await;
        assert_eq!((status, body.as_str()), (200, r#"{"status":"ok"}"#));
        assert_eq!(kind, "application/json");

        let (status, _, body) = get(at, "/readyz").await;
        let expected = r#"{"ready":false,"reasons":[{"part":"pipeline","reason":"starting"}]}"#;
        assert_eq!((status, body.as_str()), (503, expected));
        telemetry.health.ready(Part::Pipeline);
        let (status, _, body) = get(at, "/readyz").await;
        assert_eq!(
            (status, body.as_str()),
            (200, r#"{"ready":true,"reasons":[]}"#)
        );

        telemetry.metrics.gap(7);
        let (status, kind, body) = get(at, "/metrics").await;
        assert_eq!(status, 200);
        assert_eq!(
            kind,
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        );
        assert!(body.contains("\ngatewatch_gap_records_total 7\n"), "{body}");
        assert!(body.ends_with("# EOF\n"), "{body}");

        assert_eq!(get(at, "/elsewhere").await.0, 404);
        let posted = reqwest::Client::new()
            .post(format!("http://{at}/metrics"))
            .send()
            .await;
        assert_eq!(posted.unwrap().status().as_u16(), 405);

        server.stop().await;
        assert!(reqwest::get(format!("http://{at}/healthz")).await.is_err());
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let telemetry = Telemetry::default();
        let server = serve(&anywhere(), &telemetry, Offers::default())
            .await
            .unwrap();
        let listen = server.address();
        let taken = ApiSettings {
            listen,
            ext_authz: None,
        };
        let error = serve(&taken, &telemetry, Offers::default())
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&format!("cannot listen on {listen} (api.listen): ")),
            "{error}"
        );
        assert!(
            error.contains("hint: another program has this port"),
            "{error}"
        );
        server.stop().await;
    }
}
