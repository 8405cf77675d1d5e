//! Batches that somebody sends: `POST /events` with one event per line, plain, gzip or zstd.
//!
//! Enters: requests. Leaves: [`Batch`]es with their whole body, each with a [`Reply`] that is answered when everything of the
//! batch is stored. A sender repeats whatever was not answered with 200, so delivery is at least once: nothing here
//! remembers what it has seen. What a batch means is decided in the pipeline.
//!
//! Memory is bounded by one budget: a batch takes its share before its body is read and gives it back with its answer.

mod body;
mod problem;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::post;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::clock;
use crate::model::{EventTime, Reject};
use crate::telemetry::Metrics;
use crate::wire::http::{BindError, Protocol, Server, bind, json};
use body::Coding;
use problem::Problem;

/// Largest batch, bytes, as sent and unpacked: some ten thousand events, judged in a fraction of a second.
pub const MAX_BATCH: usize = 16 << 20;
/// Bytes of all batches that are being received or wait for their answer. One more is told to come again.
const BUDGET: usize = 256 << 20;
/// What the smallest batch takes of it, bytes: it bounds their number, and covers what a batch costs besides its bytes.
const LEAST: usize = 1 << 20;
/// Unit of the budget, bytes.
const UNIT: usize = 1 << 10;
/// Connections at a time, twice the number of batches that may wait: the others learn quickly that they must.
const CONNECTIONS: usize = 2 * BUDGET / LEAST;
/// Time for the batches that were begun when the source stops; those that are cut off were not answered.
const GRACE: Duration = Duration::from_secs(20);
/// Refused lines that an answer lists.
pub const MAX_LISTED: usize = 100;

/// One batch, whole.
#[derive(Debug)]
pub struct Batch {
    /// Lines, unpacked.
    pub body: Vec<u8>,
    /// Wall time at which the last byte came.
    pub arrived: Option<EventTime>,
    /// Whom to answer.
    pub reply: Reply,
}

/// Whoever waits for the answer to a batch. Dropping it says that the batch may not be stored.
#[derive(Debug)]
pub struct Reply {
    to: oneshot::Sender<Receipt>,
    /// The batch's share of the budget.
    _share: OwnedSemaphorePermit,
}

impl Reply {
    /// Everything of the batch is stored. A sender that has gone away will repeat it.
    pub fn stored(self, receipt: Receipt) {
        let _ = self.to.send(receipt);
    }
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Name of the batch in dead letters.
    pub batch: String,
    /// Its size, unpacked.
    pub bytes: u64,
    /// Records applied.
    pub accepted: u64,
    /// Records refused.
    pub refused: u64,
    /// The first [`MAX_LISTED`] of them: number of the line from 1, and why.
    pub rejected: Vec<(u64, Reject)>,
}

/// Body of a 200.
#[derive(Serialize)]
struct Stored<'r> {
    batch: &'r str,
    accepted: u64,
    rejected_total: u64,
    rejected: Vec<Refused>,
}

#[derive(Serialize)]
struct Refused {
    line: u64,
    reason: &'static str,
}

/// What every request meets.
struct Door {
    /// SHA-256 of the token: digests have one length, so comparing them tells nothing about the token's.
    token: Option<[u8; 32]>,
    budget: Arc<Semaphore>,
    batches: SyncSender<Batch>,
    metrics: Metrics,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

/// Listens for batches. They come out of the receiver in the order of their last bytes; dropping it ends the source.
///
/// # Errors
/// The port cannot be had.
pub async fn listen(
    address: SocketAddr,
    token: Option<&str>,
    metrics: &Metrics,
) -> Result<(Server, Receiver<Batch>), BindError> {
    let place = "source.listen";
    let listener = bind(address, place).await?;
    let (batches, received) = sync_channel(BUDGET / LEAST);
    let door = Door {
        token: token.map(digest_of),
        budget: Arc::new(Semaphore::new(BUDGET / UNIT)),
        batches,
        metrics: metrics.clone(),
    };
    let server = Server::start(listener, router(door), Protocol::Http1, CONNECTIONS, GRACE)
        .map_err(|source| BindError::new(address, place, source))?;
    Ok((server, received))
}

fn router(door: Door) -> Router {
    Router::new()
        .route("/events", post(answer))
        .method_not_allowed_fallback(async || Problem::Method.into_answer())
        .fallback(async || Problem::Path.into_answer())
        .with_state(Arc::new(door))
}

fn digest_of(token: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (to, from) in bytes
        .iter_mut()
        .zip(digest(&SHA256, token.as_bytes()).as_ref())
    {
        *to = *from;
    }
    bytes
}

async fn answer(State(door): State<Arc<Door>>, request: Request) -> Response {
    let answer = match door.receive(request).await {
        Ok(receipt) => stored(&receipt),
        Err(problem) => problem.into_answer(),
    };
    door.metrics.http_batch(answer.status().as_u16());
    answer
}

fn stored(receipt: &Receipt) -> Response {
    let rejected = receipt.rejected.iter();
    let body = Stored {
        batch: &receipt.batch,
        accepted: receipt.accepted,
        rejected_total: receipt.refused,
        rejected: rejected
            .map(|(line, reason)| Refused {
                line: *line,
                reason: reason.as_str(),
            })
            .collect(),
    };
    json(StatusCode::OK, "application/json", &body)
}

impl Door {
    async fn receive(&self, request: Request) -> Result<Receipt, Problem> {
        let (head, mut body) = request.into_parts();
        let admitted = self.admit(&head.headers);
        let (coding, mut share) = match admitted {
            Ok(admitted) => admitted,
            Err(problem) => {
                // A sender that is still writing would see a broken connection instead of the reason.
                body::discard(&mut body).await;
                return Err(problem);
            }
        };
        let received = body::read(&mut body).await;
        if received == Err(Problem::TooLarge) {
            body::discard(&mut body).await;
        }
        let lines = body::unpack(received?, coding).await?;
        // What was reserved for unpacking is given back.
        let surplus = share.num_permits().saturating_sub(weight(lines.len()));
        drop(share.split(surplus));
        let arrived = EventTime::from_millis(clock::now_millis());
        let (to, stored) = oneshot::channel();
        let batch = Batch {
            body: lines,
            arrived,
            reply: Reply { to, _share: share },
        };
        self.batches.try_send(batch).map_err(|error| match error {
            TrySendError::Full(_) => Problem::Busy,
            TrySendError::Disconnected(_) => Problem::Stopping,
        })?;
        stored.await.map_err(|_| Problem::Stopping)
    }

    /// What can be said before the body is read: who sends, how it is packed, whether there is room for it.
    fn admit(&self, headers: &HeaderMap) -> Result<(Coding, OwnedSemaphorePermit), Problem> {
        if !self.knows(headers) {
            return Err(Problem::Token);
        }
        let coding = body::coding(headers)?;
        let length = body::length(headers)?;
        // Packed or chunked: how much it becomes is not known before it is there.
        let most = match (coding, length) {
            (Coding::Plain, Some(length)) => length,
            (Coding::Plain, None) => MAX_BATCH,
            (_, length) => length.unwrap_or(MAX_BATCH) + MAX_BATCH,
        };
        let units = u32::try_from(weight(most)).unwrap_or(u32::MAX);
        let share = Arc::clone(&self.budget).try_acquire_many_owned(units);
        share
            .map(|share| (coding, share))
            .map_err(|_| Problem::Busy)
    }

    /// Whether the request shows the token. The scheme is read in any case (RFC 9110 section 11.1).
    fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(expected) = &self.token else {
            return true;
        };
        let shown = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let Some((scheme, token)) = shown.and_then(|shown| shown.split_once(' ')) else {
            return false;
        };
        scheme.eq_ignore_ascii_case("bearer")
            && verify_slices_are_equal(&digest_of(token.trim()), expected).is_ok()
    }
}

/// Units of the budget for so many bytes.
fn weight(bytes: usize) -> usize {
    bytes.max(LEAST).div_ceil(UNIT)
}

#[cfg(test)]
mod tests;
