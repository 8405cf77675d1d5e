//! The block list for whoever follows it: JSON with numbered changes, and the files of gateways over HTTP.
//!
//! - `GET /feeds/blocklist` the whole list; `?since=N&feed=F` the changes after state N; `&wait=30s` waits for one
//! - `GET /feeds/blocklist/events` server-sent events (`events.rs`)
//! - `GET /feeds/blocklist.nginx` and the other formats as one text; `GET /feeds/blocklist/nginx/FILE` one file
//!
//! Simulated entries are left out unless `simulated=true` is asked for; each entry carries the flag.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::access::{busy, message, reader};
use super::coding::Coding;
use super::events;
use crate::clock;
use crate::config::{FeedKey, FeedSettings, parse_duration};
use crate::enforce::render::Rendering;
use crate::enforce::{Change, Selection, entry_id};
use crate::model::BlockEntry;
use crate::publish::blocklist;
use crate::publish::exporters::Kind;
use crate::publish::feed::Feed;

/// Longest wait for a change.
const MAX_WAIT: Duration = Duration::from_mins(1);
/// Longest that a bouncer waits for a list that is still being read.
const STARTING: Duration = Duration::from_secs(5);
/// Readers that wait or stream at a time; they hold connections that probes need too.
const WAITING: usize = 128;
/// Entries that a format could not express, by kind.
const LEFT_OUT: HeaderName = HeaderName::from_static("x-gatewatch-left-out");
/// Entries that it expresses.
const WRITTEN: HeaderName = HeaderName::from_static("x-gatewatch-entries");

/// The list and those who may read it.
#[derive(Clone)]
pub(super) struct Readers {
    pub(super) feed: Feed,
    pub(super) keys: Arc<[FeedKey]>,
    /// Zones of the pipeline.
    zones: Arc<[String]>,
    /// Room for those who wait.
    pub(super) waiting: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(feed: Feed, settings: FeedSettings) -> Self {
        Self {
            feed,
            keys: settings.keys.into(),
            zones: settings.zones.into(),
            waiting: Arc::new(Semaphore::new(WAITING)),
        }
    }

    /// The reader that asks, when there is a list to read.
    ///
    /// # Errors
    /// The answer: 403, or 503 while the list has not been read. An empty list would let everybody in.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<&FeedKey, Box<Response>> {
        let key = reader(&self.keys, headers)?;
        if self.feed.loaded() {
            return Ok(key);
        }
        Err(Box::new(busy("the block list has not been read yet")))
    }

    /// Lets a reader wait a little for a list that is still being read, as long as there is room for those who wait.
    pub(super) async fn hold(&self, headers: &HeaderMap) {
        if self.feed.loaded() || reader(&self.keys, headers).is_err() {
            return;
        }
        if let Ok(_room) = self.waiting.try_acquire() {
            // Whoever is too early after all is told so.
            let _ = tokio::time::timeout(STARTING, self.feed.wait_loaded()).await;
        }
    }
}

pub(super) fn router(readers: Readers) -> Router {
    Router::new()
        .route("/feeds/blocklist", get(list))
        .route("/feeds/blocklist/events", get(events::events))
        .route("/feeds/blocklist/{kind}/{file}", get(one_file))
        .route("/feeds/{name}", get(whole))
        .with_state(readers)
}

impl Readers {
    /// What a reader wants to see: its key's zones, narrowed by `zone`.
    ///
    /// # Errors
    /// The answer to a question about a zone that nobody knows: an empty list would read as "nobody is refused there".
    pub(super) fn selection(
        &self,
        key: &FeedKey,
        parameters: &HashMap<String, String>,
    ) -> Result<Selection, Box<Response>> {
        let refuse = |status, words: &str| Err(Box::new(message(status, words)));
        let simulated = match parameters.get("simulated").map(String::as_str) {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return refuse(StatusCode::BAD_REQUEST, "simulated is true or false"),
        };
        let zones = match parameters.get("zone") {
            None => key.zones.clone(),
            Some(zone) if key.zones.contains(zone) => vec![zone.clone()],
            Some(_) if !key.zones.is_empty() => {
                return refuse(StatusCode::FORBIDDEN, "this key does not see that zone");
            }
            Some(zone) => {
                let view = self.feed.view();
                // Another pipeline's policy may have listed entries of a zone that this one does not have.
                let listed = view.zones().map(str::to_owned);
                let known: BTreeSet<String> = self.zones.iter().cloned().chain(listed).collect();
                if !known.contains(zone) {
                    let known: Vec<String> = known.into_iter().collect();
                    let words = format!("no zone {zone:?}; known here: {}", known.join(", "));
                    return refuse(StatusCode::NOT_FOUND, &words);
                }
                vec![zone.clone()]
            }
        };
        Ok(Selection { zones, simulated })
    }
}

/// An entry, with the id that refusals name.
fn entry(entry: &BlockEntry) -> Value {
    let mut value = blocklist::entry(entry);
    if let Some(members) = value.as_object_mut() {
        members.insert("id".to_owned(), entry_id(entry).to_string().into());
        members.insert("key".to_owned(), entry.key.to_string().into());
    }
    value
}

/// A change as this selection sees it; `None` = it does not.
pub(super) fn change(change: &Change, selection: &Selection) -> Option<Value> {
    let seen = |entry: &Option<Arc<BlockEntry>>| {
        let entry = entry.as_ref()?;
        selection.takes(entry).then(|| Arc::clone(entry))
    };
    match (seen(&change.before), seen(&change.after)) {
        (_, Some(after)) => Some(json!({
            "sequence": change.sequence, "change": "listed", "key": after.key.to_string(), "entry": entry(&after),
        })),
        (Some(before), None) => Some(json!({
            "sequence": change.sequence, "change": "ended", "key": before.key.to_string(),
        })),
        (None, None) => None,
    }
}

/// The whole list.
pub(super) fn snapshot(feed: &Feed, selection: &Selection) -> Value {
    let view = feed.view();
    let now = clock::now_millis();
    let entries = view.select(selection, now).map(|listed| entry(listed));
    json!({
        "feed": feed.name(),
        "sequence": view.sequence(),
        "reset": true,
        "entries": entries.collect::<Vec<_>>(),
    })
}

async fn list(
    State(readers): State<Readers>,
    Query(parameters): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    match answer_list(&readers, &parameters, &headers).await {
        Ok(answer) => answer,
        Err(refusal) => *refusal,
    }
}

async fn answer_list(
    readers: &Readers,
    parameters: &HashMap<String, String>,
    headers: &HeaderMap,
) -> Result<Response, Box<Response>> {
    let refuse = |words: &str| Box::new(message(StatusCode::BAD_REQUEST, words));
    let selection = readers.selection(readers.admit(headers)?, parameters)?;
    let feed = readers.feed.clone();
    let since = match parameters.get("since") {
        None => None,
        Some(text) => Some(
            text.parse::<u64>()
                .map_err(|_| refuse("since is a sequence number"))?,
        ),
    };
    let name = parameters.get("feed");
    // The numbers of another process count other changes.
    let since = since.filter(|_| name.is_none_or(|name| *name == feed.name()));
    let wait = match parameters.get("wait") {
        None => None,
        Some(text) => {
            let wait = parse_duration(text);
            Some(wait.ok_or_else(|| refuse("wait is a duration, e.g. 30s"))?)
        }
    };
    if let (Some(since), Some(wait)) = (since, wait) {
        wait_beyond(readers, since, wait.min(MAX_WAIT)).await?;
    }
    let coding = Coding::asked(headers);
    let work = move || {
        let known = since.and_then(|since| {
            let (view, changes) = feed.since(since);
            Some((view, changes?))
        });
        let value = match known {
            Some((view, changes)) => {
                let seen = changes.iter().filter_map(|one| change(one, &selection));
                json!({
                    "feed": feed.name(),
                    "sequence": view.sequence(),
                    "reset": false,
                    "changes": seen.collect::<Vec<_>>(),
                })
            }
            None => snapshot(&feed, &selection),
        };
        coding.write(value.to_string())
    };
    let written = tokio::task::spawn_blocking(work).await;
    let (bytes, coded) = written.map_err(|_| {
        let words = "the list could not be read";
        Box::new(message(StatusCode::INTERNAL_SERVER_ERROR, words))
    })?;
    let kind = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let mut response = (kind, bytes).into_response();
    response.headers_mut().extend(coded.into_iter().flatten());
    Ok(response)
}

/// Waits for a state after `since`, at most as long as allowed.
async fn wait_beyond(readers: &Readers, since: u64, wait: Duration) -> Result<(), Box<Response>> {
    let Ok(_place) = readers.waiting.try_acquire() else {
        return Err(Box::new(busy("too many readers are waiting")));
    };
    let mut told = readers.feed.subscribe();
    // Nothing new in time is an answer too.
    let _ = timeout(wait, told.wait_for(|version| *version != since)).await;
    Ok(())
}

/// `/feeds/blocklist.nginx`.
async fn whole(
    State(readers): State<Readers>,
    Path(name): Path<String>,
    Query(parameters): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let kind = name.strip_prefix("blocklist.").and_then(Kind::parse);
    let Some(kind) = kind else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let text = |rendering: &Rendering| {
        let mut said = Vec::new();
        for file in &rendering.files {
            said.extend(file.digest());
        }
        Some((rendering.concatenated(), said))
    };
    rendered(&readers, kind, &parameters, &headers, text).await
}

/// `/feeds/blocklist/nginx/blocked_ips.geo.conf`.
async fn one_file(
    State(readers): State<Readers>,
    Path((kind, file)): Path<(String, String)>,
    Query(parameters): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let Some(kind) = Kind::parse(&kind) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let text = move |rendering: &Rendering| {
        let found = rendering.files.iter().find(|held| held.name == file);
        found.map(|file| (file.text.clone(), file.digest().to_vec()))
    };
    rendered(&readers, kind, &parameters, &headers, text).await
}

/// A rendering with a validator (RFC 9110 sections 8.8.3 and 13.1.2): a weak one where the time of writing stands in the
/// text, since the same list does not give the same bytes then. `text` gives the text and what it says, as a digest.
async fn rendered(
    readers: &Readers,
    kind: Kind,
    parameters: &HashMap<String, String>,
    headers: &HeaderMap,
    text: impl FnOnce(&Rendering) -> Option<(String, Vec<u8>)> + Send + 'static,
) -> Response {
    let key = readers.admit(headers);
    let selection = match key.and_then(|key| readers.selection(key, parameters)) {
        Ok(selection) => selection,
        Err(refusal) => return *refusal,
    };
    let view = readers.feed.view();
    let work = move || {
        let rendering = kind.render(&view, &selection, clock::now_millis());
        let (text, said) = text(&rendering)?;
        let tag = digest(&SHA256, &said);
        let tag = hex::encode(tag.as_ref().get(..16).unwrap_or_default());
        let weak = if rendering.dated() { "W/" } else { "" };
        Some((
            rendering.written,
            left_out(&rendering),
            text,
            (weak, format!("\"{tag}\"")),
        ))
    };
    let Ok(Some((written, left_out, text, (weak, tag)))) = tokio::task::spawn_blocking(work).await
    else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let described = [
        (header::CONTENT_TYPE, kind.content_type().to_owned()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (WRITTEN, written.to_string()),
        (LEFT_OUT, left_out),
        (header::ETAG, format!("{weak}{tag}")),
    ];
    let known = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut known = known
        .filter_map(|value| value.to_str().ok())
        .flat_map(|tags| tags.split(','));
    if known.any(|known| {
        let known = known.trim();
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
    }) {
        return (StatusCode::NOT_MODIFIED, described).into_response();
    }
    (described, text).into_response()
}

/// `session=3, token=1`, or `none`.
fn left_out(rendering: &Rendering) -> String {
    let kinds = rendering.omitted.iter();
    let kinds: Vec<_> = kinds
        .map(|omitted| format!("{}={}", omitted.kind.as_str(), omitted.count))
        .collect();
    if kinds.is_empty() {
        "none".to_owned()
    } else {
        kinds.join(", ")
    }
}
