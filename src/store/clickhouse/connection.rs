//! One HTTP client for all traffic: statements, Arrow out, Arrow in, and patience.
//!
//! Enters: SQL and bodies that are already serialised. Leaves: Arrow batches, or what the server says. A retried request
//! sends the very bytes and the very token of the first try.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use clickhouse::{Client, Compression};
use clickhouse_ext_arrow::ArrowQueryExt;
use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{Settings, StoreError};
use crate::clock::Stopwatch;

/// A connection that takes longer is not coming.
const CONNECT: Duration = Duration::from_secs(10);
/// ClickHouse closes idle connections after 3 s by default; ours are gone before.
const IDLE: Duration = Duration::from_secs(2);
/// One try to write a block of at most 100,000 rows, or to answer a small question.
pub(super) const SHORT: Duration = Duration::from_secs(30);
/// One try to read and merge days of windows.
pub(super) const LONG: Duration = Duration::from_mins(5);
/// First and longest pause between tries, before jitter.
const PAUSE: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(10)];

/// Since 26.x this one supersedes `insert_deduplicate`, also when an administrator's profile turns it off; older servers
/// refuse to hear of it.
const SUPERSEDING: &str = "deduplicate_insert";

/// Settings of every insert. Servers of different versions have different defaults, so each is said.
const INSERT: &[(&str, &str)] = &[
    // A token that the table has seen is a no-op, for the table and for what its views feed.
    ("insert_deduplicate", "1"),
    ("deduplicate_blocks_in_dependent_materialized_views", "1"),
    // The server must not gather blocks of several inserts, nor cut one into several.
    ("async_insert", "0"),
    ("max_insert_threads", "1"),
    ("max_insert_block_size", "1000000"),
    ("min_insert_block_size_rows", "1000000"),
    // Views hand on single rows; the engine of their target adds them up within the block.
    ("optimize_on_insert", "1"),
    ("parallel_view_processing", "0"),
    ("materialized_views_ignore_errors", "0"),
    // Across shards: the answer comes when every shard has its rows.
    ("insert_distributed_sync", "1"),
];

/// Settings of every insert into replicated tables besides: done means that most replicas have the rows, so that the loss
/// of one does not take rows along that the ledger calls done. Of two replicas both must be there; three go on without one.
const QUORUM: &[(&str, &str)] = &[
    ("insert_quorum", "auto"),
    // Inserts of several nodes wait for replicas, and not for each other.
    ("insert_quorum_parallel", "1"),
    // The server says that it waited in vain before the try is over.
    ("insert_quorum_timeout", "20000"),
];

/// The way to one ClickHouse server.
#[derive(Clone)]
pub(super) struct Connection {
    client: Client,
    place: Arc<str>,
    deadline: Duration,
    /// Requests that were repeated.
    retries: Arc<AtomicU64>,
    replicated: bool,
    /// Whether the server knows [`SUPERSEDING`].
    superseded: bool,
}

impl Connection {
    /// Prepares a client; nothing is sent yet.
    pub(super) fn new(settings: &Settings) -> Result<Self, StoreError> {
        let mut client = client(settings)?
            .with_url(settings.url.clone())
            .with_product_info("gatewatch", env!("CARGO_PKG_VERSION"))
            // The library's LZ4 comes along with its Arrow part; plain bodies are the same on every server and proxy.
            .with_compression(Compression::None)
            // An exception then comes instead of the answer, never in the middle of it.
            .with_setting("wait_end_of_query", "1");
        if let Some(user) = &settings.user {
            client = client.with_user(user);
        }
        if let Some(password) = &settings.password {
            client = client.with_password(password);
        }
        Ok(Self {
            client,
            place: settings.url.as_str().into(),
            deadline: settings.deadline,
            retries: Arc::default(),
            replicated: settings.replicated,
            superseded: false,
        })
    }

    /// One try to learn what this server's inserts need to be told.
    pub(super) async fn learn(mut self) -> Result<Self, StoreError> {
        let sql = format!("SELECT name FROM system.settings WHERE name = '{SUPERSEDING}'");
        let known = self.fetch(&sql, SHORT).await?;
        self.superseded = known.iter().any(|batch| batch.num_rows() > 0);
        Ok(self)
    }

    /// One try of a statement without rows.
    pub(super) async fn execute(&self, sql: &str) -> Result<(), StoreError> {
        let answer = self.client.query_raw(sql).execute();
        self.in_time(LONG, async {
            answer.await.map_err(|error| self.error(&error))
        })
        .await
    }

    /// One try of a query.
    pub(super) async fn fetch(
        &self,
        sql: &str,
        patience: Duration,
    ) -> Result<Vec<RecordBatch>, StoreError> {
        let query = self
            .client
            .query_raw(sql)
            .with_setting("output_format_arrow_string_as_string", "1")
            .with_setting("output_format_arrow_low_cardinality_as_dictionary", "0");
        let rows = async {
            let mut cursor = query.fetch_arrow().map_err(|error| self.error(&error))?;
            cursor.collect().await.map_err(|error| self.error(&error))
        };
        self.in_time(patience, rows).await
    }

    /// One try of an insert of one block.
    pub(super) async fn insert(
        &self,
        sql: &str,
        token: &str,
        body: Bytes,
    ) -> Result<(), StoreError> {
        let mut insert = self
            .client
            .insert_formatted_with(sql)
            .with_setting("insert_deduplication_token", token);
        let quorum = if self.replicated { QUORUM } else { &[] };
        for (name, value) in INSERT.iter().chain(quorum) {
            insert = insert.with_setting(*name, *value);
        }
        if self.superseded {
            insert = insert.with_setting(SUPERSEDING, "enable");
        }
        let sent = async {
            insert
                .send(body)
                .await
                .map_err(|error| self.error(&error))?;
            insert.end().await.map_err(|error| self.error(&error))
        };
        self.in_time(SHORT, sent).await
    }

    /// Repeats `attempt` until it succeeds, is refused for good, or the deadline of the operation that `watch` measures
    /// has passed; then the last error counts.
    pub(super) async fn persist<T, F>(
        &self,
        what: &str,
        watch: Stopwatch,
        attempt: impl Fn() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let [first, longest] = PAUSE;
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(first)
            .with_max_delay(longest)
            .with_jitter()
            .without_max_times()
            .build();
        let mut tries = 0_u64;
        loop {
            tries += 1;
            let left = self.deadline.saturating_sub(watch.elapsed());
            // A process that slept through its deadline must not send anything any more.
            let error = match self.in_time(left, async { attempt().await }).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let pause = pauses.next().unwrap_or(longest);
            if !error.retry() || watch.elapsed() + pause >= self.deadline {
                return Err(error);
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%error, tries, pause_ms = pause.as_millis(), "{what} is tried again");
            tokio::time::sleep(pause).await;
        }
    }

    /// How often a request was repeated so far.
    pub(super) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    async fn in_time<T>(
        &self,
        patience: Duration,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let late = |_| StoreError::Unreachable {
            place: self.place.to_string(),
            message: format!("no answer within {:.1} s", patience.as_secs_f64()),
        };
        tokio::time::timeout(patience, answer).await.map_err(late)?
    }

    fn error(&self, error: &clickhouse::error::Error) -> StoreError {
        StoreError::of(&self.place, error)
    }
}

/// The client library's own HTTP client with two differences: connecting has a limit, and `store.ca` replaces the public
/// authorities.
fn client(settings: &Settings) -> Result<Client, StoreError> {
    let unusable = |message: String| StoreError::Unusable {
        place: settings.url.clone(),
        message,
        hint: "store.ca is a PEM file with the certificate of the authority that signed the server's certificate",
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?;
    let tls = match &settings.ca {
        None => versions.with_webpki_roots(),
        Some(path) => {
            let text =
                |error: &dyn std::fmt::Display| unusable(format!("{}: {error}", path.display()));
            let mut roots = rustls::RootCertStore::empty();
            let certificates = CertificateDer::pem_file_iter(path).map_err(|error| text(&error))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| text(&error))?;
                roots.add(certificate).map_err(|error| text(&error))?;
            }
            if roots.is_empty() {
                return Err(text(&"no certificate in it"));
            }
            versions.with_root_certificates(roots)
        }
    };
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_nodelay(true);
    connector.set_keepalive(Some(Duration::from_mins(1)));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls.with_no_client_auth())
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .build(connector);
    Ok(Client::with_http_client(http))
}
