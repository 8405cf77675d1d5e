//! `/healthz`, `/readyz`, `/metrics`: whether the process lives, whether it can work, what it has done.
//!
//! Enters: the telemetry that the pipeline fills. Leaves: answers to probes and scrapers. The management API is not here.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use crate::config::ApiSettings;
use crate::telemetry::{self, Telemetry};
use crate::wire::http::{BindError, Server, bind, json};

/// Content type of the probes' answers.
const JSON: &str = "application/json";
/// Connections at a time: probes, scrapers, a few people.
const CONNECTIONS: usize = 64;
/// Time for requests that have begun when the server stops.
const GRACE: Duration = Duration::from_secs(2);

/// Starts the server of `[api]`. It works until [`Server::stop`]; call that after the pipeline has ended, so that
/// probes see it stopping.
///
/// # Errors
/// The port cannot be had.
pub async fn serve(settings: &ApiSettings, telemetry: &Telemetry) -> Result<Server, BindError> {
    let place = "api.listen";
    let listener = bind(settings.listen, place).await?;
    let server = Server::start(listener, router(telemetry.clone()), CONNECTIONS, GRACE)
        .map_err(|source| BindError::new(settings.listen, place, source))?;
    tracing::info!(
        "serving /healthz, /readyz and /metrics on http://{}",
        server.address()
    );
    Ok(server)
}

fn router(telemetry: Telemetry) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
        .with_state(telemetry)
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

    use super::serve;
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
        ApiSettings { listen }
    }

    #[tokio::test]
    async fn probes_and_scrapers_are_answered() {
        let telemetry = Telemetry::default();
        let server = serve(&anywhere(), &telemetry).await.unwrap();
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
        let server = serve(&anywhere(), &telemetry).await.unwrap();
        let listen = server.address();
        let error = serve(&ApiSettings { listen }, &telemetry)
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
