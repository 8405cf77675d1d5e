//! A bounded HTTP server: what serves the management port, what the HTTP source listens with, and, over HTTP/2 without
//! TLS, what gRPC is spoken on.
//!
//! Enters: a listener and a router. Leaves: answers. Bounded here: connections, the size of a head and the time it may
//! take. Bodies are bounded by whoever reads them. TLS is not here: a gateway or a sidecar in front has the certificates.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// Longest time for a head, and for the pause before the next request of a connection: that of hyper.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Longest head, bytes: the inline check is passed what a client sent, of which nginx takes up to 32 KiB by default.
const HEAD_BYTES: usize = 48 << 10;
/// Most headers of a request (design section 12).
const HEADERS: usize = 256;
/// Requests of one HTTP/2 connection that may be under way.
const STREAMS: u32 = 1_024;
/// Longest silence on an HTTP/2 connection before it is asked whether it lives, and longest time for the answer.
const PING: Duration = Duration::from_secs(30);
/// Buffer of a connection, bytes; hyper's default is six times as much.
const BUFFER: usize = 64 << 10;
/// Pause after the system refused a connection, usually because there are no file descriptors left.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);

/// A port that cannot be had.
#[derive(Debug, Error)]
#[error("cannot listen on {address} ({place}): {source}{}", hint(.source, .place))]
pub struct BindError {
    address: SocketAddr,
    place: &'static str,
    source: io::Error,
}

fn hint(error: &io::Error, place: &str) -> String {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "another program has this port; stop it, or change",
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege; change",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address; change",
        _ => return String::new(),
    };
    format!("\n  hint: {advice} {place}")
}

impl BindError {
    /// A refusal by the system; `place` = where the pipeline file names the address.
    #[must_use]
    pub fn new(address: SocketAddr, place: &'static str, source: io::Error) -> Self {
        Self {
            address,
            place,
            source,
        }
    }
}

/// Takes a port. `place` = where the pipeline file names it.
///
/// # Errors
/// The system refuses it.
pub async fn bind(address: SocketAddr, place: &'static str) -> Result<TcpListener, BindError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| BindError::new(address, place, source))
}

/// Tells a server to stop.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<watch::Sender<bool>>);

impl Stopper {
    /// Takes no more connections and ends each one after the request that it has begun.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113 section 3.3), as gRPC is without TLS.
    Http2,
}

/// A server at work.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stopper: Stopper,
    task: JoinHandle<()>,
}

impl Server {
    /// Starts serving `router` to at most `connections` at a time; those beyond wait in the system's queue. After a stop,
    /// requests that have begun get `grace` to end. Runs in tasks of the caller's runtime.
    ///
    /// # Errors
    /// The system does not know the listener's address.
    pub fn start(
        listener: TcpListener,
        router: Router,
        protocol: Protocol,
        connections: usize,
        grace: Duration,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(accept(
            listener,
            (router, protocol),
            connections,
            grace,
            stopped,
        ));
        Ok(Self {
            address,
            stopper: Stopper(Arc::new(stop)),
            task,
        })
    }

    /// Where it listens; tells the port when port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A way to stop it from elsewhere.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Stops, and waits for the requests that have begun.
    pub async fn stop(self) {
        self.stopper.stop();
        // The task ends by itself; a panic in it was a connection's and has been reported by the runtime.
        let _ = self.task.await;
    }
}

async fn accept(
    listener: TcpListener,
    (router, protocol): (Router, Protocol),
    connections: usize,
    grace: Duration,
    mut stopped: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(connections));
    let mut at_work = JoinSet::new();
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = asked(&mut stopped) => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = converse(stream, router.clone(), protocol, stopped.clone());
                at_work.spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!("a connection was not accepted: {error}");
                sleep(REFUSED_PAUSE).await;
            }
        }
        while at_work.try_join_next().is_some() {}
    }
    drop(listener);
    let ends = async { while at_work.join_next().await.is_some() {} };
    if timeout(grace, ends).await.is_err() {
        at_work.shutdown().await;
    }
}

/// Waits until the server is to stop, or nobody is left who could say so.
async fn asked(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// An answer with a JSON body of this content type.
#[must_use]
pub fn json(status: StatusCode, content_type: &'static str, body: &impl Serialize) -> Response {
    // Our own plain structs always become JSON.
    let text = serde_json::to_string(body).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// Serves one connection to its end.
async fn converse(
    stream: TcpStream,
    router: Router,
    protocol: Protocol,
    stopped: watch::Receiver<bool>,
) {
    // Answers are small; waiting for more of them only delays the sender.
    let _ = stream.set_nodelay(true);
    let (stream, service) = (TokioIo::new(stream), TowerToHyperService::new(router));
    let ended = match protocol {
        Protocol::Http1 => {
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .max_header_size(HEAD_BYTES)
                .max_headers(HEADERS)
                .max_buf_size(BUFFER);
            let connection = builder.serve_connection(stream, service);
            until(connection, http1::Connection::graceful_shutdown, stopped).await
        }
        Protocol::Http2 => {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS)
                .keep_alive_interval(PING)
                .keep_alive_timeout(PING);
            let connection = builder.serve_connection(stream, service);
            until(connection, http2::Connection::graceful_shutdown, stopped).await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection broke: {error}");
    }
}

/// Drives a connection to its end; after a stop it ends with the request that it has begun.
async fn until<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    shut_down: fn(Pin<&mut C>),
    mut stopped: watch::Receiver<bool>,
) -> hyper::Result<()> {
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = asked(&mut stopped) => {
            shut_down(connection.as_mut());
            connection.await
        }
    }
}
