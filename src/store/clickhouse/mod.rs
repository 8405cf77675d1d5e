//! Placeholder of the ClickHouse store: its settings and the words of the ledger.

use std::path::PathBuf;
use std::time::Duration;

/// How ClickHouse is reached and how long rows are kept.
#[derive(Clone)]
pub struct Settings {
    /// Address of the HTTP interface.
    pub url: String,
    /// Database.
    pub database: String,
    /// User.
    pub user: Option<String>,
    /// Password.
    pub password: Option<String>,
    /// Cluster for `ON CLUSTER`.
    pub cluster: Option<String>,
    /// Whether tables are replicated.
    pub replicated: bool,
    /// Whether to migrate at start.
    pub migrate: bool,
    /// Certificate authority of the server.
    pub ca: Option<PathBuf>,
    /// How long rows are kept.
    pub retention: Retention,
    /// How long one operation is retried.
    pub deadline: Duration,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// How long rows are kept, counted from arrival.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Minutes.
    pub minutes: Duration,
    /// Hours.
    pub hours: Duration,
    /// Days.
    pub days: Duration,
}

/// The range of one flush.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlushRange {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// First offset.
    pub first: u64,
    /// Offset after the last one.
    pub last: u64,
    /// Whether everything that waited was let go.
    pub drain: bool,
}

/// One flush in the ledger.
#[derive(Clone, Debug)]
pub struct LedgerRow {
    /// What it covers.
    pub range: FlushRange,
    /// Join state after it.
    pub from: u64,
    /// Stream clock before `from`, nanoseconds.
    pub clock: Option<i64>,
    /// Closed halves.
    pub closed: Vec<u64>,
    /// Minutes of `endpoint_windows` that it touched, epoch milliseconds.
    pub minutes: Vec<i64>,
    /// More minutes than are listed.
    pub all_minutes: bool,
    /// Records.
    pub records: u64,
    /// Exchanges.
    pub exchanges: u64,
    /// Refused records.
    pub rejected: u64,
    /// Blocks written to one table.
    pub blocks: u64,
    /// Wall time, epoch milliseconds.
    pub stored_at: i64,
}

/// Why ClickHouse cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(String);

impl StoreError {
    /// Whether trying again may help.
    #[must_use]
    pub fn retry(&self) -> bool {
        self.0.is_empty()
    }
}

/// The store.
#[derive(Clone, Debug)]
pub struct ClickHouse;

#[allow(
    missing_docs,
    clippy::unused_async,
    clippy::missing_errors_doc,
    clippy::unimplemented
)]
impl ClickHouse {
    pub async fn open(_: &Settings, _: &str) -> Result<Self, StoreError> {
        unimplemented!()
    }
    pub async fn write(
        &self,
        _: &FlushRange,
        _: &[arrow::array::RecordBatch],
        _: i64,
    ) -> Result<u64, StoreError> {
        unimplemented!()
    }
    pub async fn record(&self, _: &LedgerRow) -> Result<(), StoreError> {
        unimplemented!()
    }
    pub async fn ledger(&self, _: &str, _: i32) -> Result<Option<LedgerRow>, StoreError> {
        unimplemented!()
    }
    pub async fn blocks_since(&self, _: i64) -> Result<u64, StoreError> {
        unimplemented!()
    }
    pub fn deduplication_window(&self) -> u64 {
        unimplemented!()
    }
}
