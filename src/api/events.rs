//! The block list as server-sent events (HTML, "Server-sent events"): `snapshot` with the whole list, then one `change`
//! after the other. The id of an event is the state after it, so a reader that reconnects with `Last-Event-ID` goes on
//! where it was, or gets a snapshot when that is too long ago or was another process.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::access::busy;
use super::feeds::{Readers, change, snapshot};
use crate::enforce::Selection;
use crate::publish::feed::Feed;

/// Silence after which a comment is sent, so that neither side takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events written ahead of the reader; one that is slower gets its changes from the journal when it has caught up.
const AHEAD: usize = 16;

type Sender = mpsc::Sender<Result<Bytes, Infallible>>;

pub(super) async fn events(
    State(readers): State<Readers>,
    Query(parameters): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let admitted = readers.admit(&headers);
    let selection = match admitted.and_then(|key| readers.selection(key, &parameters)) {
        Ok(selection) => selection,
        Err(refusal) => return *refusal,
    };
    let Ok(place) = readers.waiting.clone().try_acquire_owned() else {
        return busy("too many readers are waiting");
    };
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let seen = last.and_then(|id| position(id, &readers.feed));
    let (sender, receiver) = mpsc::channel(AHEAD);
    let feed = readers.feed.clone();
    tokio::spawn(async move {
        follow(&feed, &selection, seen, &sender).await;
        drop(place);
    });
    let described = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (described, Body::from_stream(ReceiverStream::new(receiver))).into_response()
}

/// The state that an event id names, when it is one of this feed's.
fn position(id: &str, feed: &Feed) -> Option<u64> {
    let (name, sequence) = id.rsplit_once('-')?;
    (name == feed.name()).then_some(())?;
    sequence.parse().ok()
}

/// Sends until the reader is gone.
async fn follow(feed: &Feed, selection: &Selection, mut seen: Option<u64>, sender: &Sender) {
    let mut told = feed.subscribe();
    loop {
        told.borrow_and_update();
        let changes = seen.and_then(|seen| feed.since(seen).1);
        let sent = if let Some(changes) = changes {
            let mut sent = Ok(());
            for one in &changes {
                seen = Some(one.sequence);
                if let Some(value) = change(one, selection) {
                    sent = send(feed, sender, "change", one.sequence, &value).await;
                }
                if sent.is_err() {
                    break;
                }
            }
            sent
        } else {
            let value = snapshot(feed, selection);
            let sequence = value
                .get("sequence")
                .and_then(Value::as_u64)
                .unwrap_or_default();
            seen = Some(sequence);
            send(feed, sender, "snapshot", sequence, &value).await
        };
        if sent.is_err() {
            return;
        }
        // Whoever lists entries may be gone; the reader still is not told that it may forget what it knows.
        loop {
            let news = tokio::select! {
                // A reader that has left must not keep the place of another until there is something to say.
                () = sender.closed() => return,
                news = timeout(KEEP_ALIVE, told.changed()) => news,
            };
            if news.is_ok() {
                break;
            }
            let comment = Bytes::from_static(b": nothing new\n\n");
            if sender.send(Ok(comment)).await.is_err() {
                return;
            }
        }
    }
}

/// One event; JSON has no line ends, so its text is one `data` line.
async fn send(
    feed: &Feed,
    sender: &Sender,
    event: &str,
    sequence: u64,
    value: &Value,
) -> Result<(), ()> {
    let name = feed.name();
    let text = format!("id: {name}-{sequence}\nevent: {event}\ndata: {value}\n\n");
    sender.send(Ok(text.into())).await.map_err(drop)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn a_reader_that_left_gives_its_place_back_at_once() {
        let feed = Feed::starting_at(0);
        feed.replace(Vec::new());
        let (sender, mut receiver) = mpsc::channel(AHEAD);
        let selection = Selection::default();
        let mut following = pin!(follow(&feed, &selection, None, &sender));
        let mut nobody = Context::from_waker(Waker::noop());
        assert!(following.as_mut().poll(&mut nobody).is_pending());
        let snapshot = receiver.try_recv().unwrap().unwrap();
        assert!(snapshot.starts_with(b"id: 0-0\nevent: snapshot\n"));
        assert!(following.as_mut().poll(&mut nobody).is_pending());
        drop(receiver);
        assert!(following.as_mut().poll(&mut nobody).is_ready());
    }
}
