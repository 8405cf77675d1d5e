//! `CrowdSec`'s local API, as far as bouncers need it, so that existing bouncers enforce the list unchanged.
//!
//! `GET /v1/decisions/stream`, `GET /v1/decisions`, `POST /v1/usage-metrics`, `GET /v1/heartbeat`; `HEAD` where there is
//! `GET`. Written after `pkg/models/localapi_swagger.yaml` and the controllers of `CrowdSec` 1.6. Machines (`watchers`) have
//! no place here: nobody sends alerts to this API.

use std::collections::HashMap;
use std::convert::Infallible;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde::Serialize;

use super::access::{message, reader};
use super::coding::Coding;
use super::feeds::Readers;
use crate::clock;
use crate::config::FeedKey;
use crate::enforce::Selection;
use crate::enforce::render::{Decision, Filter, Page, Wanted, live, startup, stream};
use crate::model::Network;

/// Longest report about itself that a bouncer may send, bytes.
const METRICS_BYTES: usize = 1 << 20;
/// Part of a reply that is written at a time, bytes.
const CHUNK: usize = 32 << 10;

/// Up to which state of the list each reader was told, by its name. A reader that comes back after a restart of this
/// process gets the whole list once more, which bouncers take as renewals.
type Pulls = Arc<Mutex<HashMap<String, u64>>>;

#[derive(Clone)]
struct Lapi {
    readers: Readers,
    pulls: Pulls,
}

pub(super) fn router(readers: Readers) -> Router {
    let pulls = Pulls::default();
    Router::new()
        .route("/v1/decisions", get(decisions))
        .route("/v1/decisions/stream", get(decision_stream))
        .route("/v1/heartbeat", get(heartbeat))
        .route("/v1/usage-metrics", post(usage_metrics))
        .route("/v1", any(missing))
        .route("/v1/", any(missing))
        .route("/v1/{*rest}", any(missing))
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(METRICS_BYTES))
        .with_state(Lapi { readers, pulls })
}

/// Query parameters as they were sent.
type Sent = Query<Vec<(String, String)>>;
/// Query parameters by name.
type Parameters = HashMap<String, String>;

/// The first of a name counts, as with the reference.
fn first(Query(sent): Sent) -> Parameters {
    let mut first = Parameters::new();
    for (name, value) in sent {
        first.entry(name).or_insert(value);
    }
    first
}

/// The members of a comma list.
fn list(parameters: &Parameters, name: &str) -> Vec<String> {
    let text = parameters.get(name).map(String::as_str).unwrap_or_default();
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    parts.map(str::to_owned).collect()
}

/// A switch as Go's `strconv.ParseBool` reads it.
fn switch(parameters: &Parameters, name: &str, default: bool) -> Result<bool, String> {
    match parameters.get(name).map(String::as_str) {
        None | Some("") => Ok(default),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(format!("{name}: {other:?} is neither true nor false")),
    }
}

/// The filter of a question by this reader; `scopes` = what holds when it names none.
fn filter(parameters: &Parameters, key: &FeedKey, scopes: &[&str]) -> Result<Filter, String> {
    let mut named = list(parameters, "scopes");
    named.extend(list(parameters, "scope"));
    if named.is_empty() {
        named = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    }
    Ok(Filter {
        selection: Selection {
            zones: key.zones.clone(),
            simulated: switch(parameters, "simulated", false)?,
        },
        scopes: named,
        origins: list(parameters, "origins"),
        containing: list(parameters, "scenarios_containing"),
        not_containing: list(parameters, "scenarios_not_containing"),
        dedup: switch(parameters, "dedup", true)?,
        wanted: wanted(parameters)?,
    })
}

fn wanted(parameters: &Parameters) -> Result<Wanted, String> {
    // One that is given without a value asks about something that is not there, not about everything.
    let network = match parameters.get("ip").or_else(|| parameters.get("range")) {
        Some(text) => {
            let network = Network::parse(text);
            Some(network.ok_or_else(|| format!("invalid ip address / range: {text:?}"))?)
        }
        None => None,
    };
    Ok(Wanted {
        network,
        contains: switch(parameters, "contains", true)?,
        value: parameters.get("value").cloned(),
        remediation: parameters.get("type").cloned(),
    })
}

fn page(parameters: &Parameters) -> Result<Page, String> {
    fn number<N: FromStr>(parameters: &Parameters, name: &str) -> Result<Option<N>, String> {
        let read = |text: &String| {
            let number = text.parse();
            number.map_err(|_| format!("{name}: {text:?} is no number"))
        };
        parameters.get(name).map(read).transpose()
    }
    Ok(Page {
        after: number(parameters, "id_gt")?,
        skip: number(parameters, "offset")?.unwrap_or_default(),
        most: number(parameters, "limit")?,
    })
}

#[derive(Serialize)]
struct Stream {
    new: Vec<Decision>,
    deleted: Vec<Decision>,
}

async fn decision_stream(State(lapi): State<Lapi>, sent: Sent, headers: HeaderMap) -> Response {
    // Debian's custom bouncer (0.0.15) never asks again when its first question is refused.
    lapi.readers.hold(&headers).await;
    let key = match lapi.readers.admit(&headers) {
        Ok(key) => key,
        Err(refusal) => return *refusal,
    };
    let parameters = first(sent);
    let asked = switch(&parameters, "startup", false).and_then(|starts| {
        let filter = filter(&parameters, key, &["ip", "range"])?;
        Ok((starts, filter, page(&parameters)?))
    });
    let (starts, filter, page) = match asked {
        Ok(asked) => asked,
        Err(problem) => return message(StatusCode::BAD_REQUEST, &problem),
    };
    let last = lapi.pulls().get(&key.name).copied().filter(|_| !starts);
    let feed = lapi.readers.feed.clone();
    let coding = Coding::asked(&headers);
    let work = move || {
        let now = clock::now_millis();
        let (view, changes) = match last {
            Some(last) => feed.since(last),
            None => (feed.view(), None),
        };
        let (new, deleted) = if let Some(changes) = changes {
            stream(&view, &changes, &filter, now)
        } else {
            // Only the whole list has pages: what a pull leaves out is never told again.
            let (new, deleted) = startup(&view, &feed.kept(), &filter, now);
            (page.of(new), deleted)
        };
        // Strings and numbers always serialize.
        let text = serde_json::to_string(&Stream { new, deleted }).unwrap_or_default();
        (coding.write(text), view.sequence())
    };
    let Ok(((bytes, coded), sequence)) = tokio::task::spawn_blocking(work).await else {
        return message(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the list could not be read",
        );
    };
    let (pulls, name) = (Arc::clone(&lapi.pulls), key.name.clone());
    let written = move || {
        pulls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, sequence);
    };
    let body = Body::from_stream(tokio_stream::iter(Written::new(bytes, written)));
    answer(coded, body)
}

/// A list, with what is said about its coding.
fn answer(coded: [Option<(HeaderName, HeaderValue)>; 2], body: Body) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.extend(coded.into_iter().flatten());
    response
}

impl Lapi {
    /// A panic elsewhere leaves the map whole.
    fn pulls(&self) -> std::sync::MutexGuard<'_, HashMap<String, u64>> {
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes in chunks. `then` runs when somebody asks for what follows the last one: whoever hangs up before is told the
/// same again the next time.
struct Written<F> {
    left: Bytes,
    then: Option<F>,
}

impl<F: FnOnce()> Written<F> {
    fn new(bytes: Bytes, then: F) -> Self {
        Self {
            left: bytes,
            then: Some(then),
        }
    }
}

impl<F: FnOnce()> Iterator for Written<F> {
    type Item = Result<Bytes, Infallible>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() {
            if let Some(then) = self.then.take() {
                then();
            }
            return None;
        }
        Some(Ok(self.left.split_to(self.left.len().min(CHUNK))))
    }
}

async fn decisions(State(lapi): State<Lapi>, sent: Sent, headers: HeaderMap) -> Response {
    let key = match lapi.readers.admit(&headers) {
        Ok(key) => key,
        Err(refusal) => return *refusal,
    };
    let parameters = first(sent);
    let asked = filter(&parameters, key, &[]).and_then(|filter| Ok((filter, page(&parameters)?)));
    let (filter, page) = match asked {
        Ok(asked) => asked,
        Err(problem) => return message(StatusCode::BAD_REQUEST, &problem),
    };
    let view = lapi.readers.feed.view();
    let coding = Coding::asked(&headers);
    let work = move || {
        let found = page.of(live(&view, &filter, clock::now_millis()));
        // As the reference: `null` when there is none.
        let found = (!found.is_empty()).then_some(found);
        coding.write(serde_json::to_string(&found).unwrap_or_default())
    };
    match tokio::task::spawn_blocking(work).await {
        Ok((bytes, coded)) => answer(coded, bytes.into()),
        Err(_) => message(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the list could not be read",
        ),
    }
}

async fn heartbeat(State(lapi): State<Lapi>, headers: HeaderMap) -> Response {
    match reader(&lapi.readers.keys, &headers) {
        Ok(_) => StatusCode::OK.into_response(),
        Err(refusal) => *refusal,
    }
}

/// Every error has a body that bouncers can read: they print its `message`.
async fn missing() -> Response {
    message(StatusCode::NOT_FOUND, "Page or Method not found")
}

async fn not_allowed() -> Response {
    message(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
}

/// What a bouncer reports about itself is read and dropped: 201 as the reference answers.
async fn usage_metrics(
    State(lapi): State<Lapi>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    if let Err(refusal) = reader(&lapi.readers.keys, &headers) {
        return *refusal;
    }
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return message(rejection.status(), &rejection.body_text()),
    };
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&body) {
        Ok(_) => StatusCode::CREATED.into_response(),
        Err(error) => message(StatusCode::BAD_REQUEST, &format!("not a report: {error}")),
    }
}
