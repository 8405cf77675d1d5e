//! The store of many nodes: ClickHouse merges the partial sums of all of them (design sections 5 and 6).
//!
//! Enters: the sums of a flush with the range of offsets that they cover, rows of the ledger, detections. Leaves: merged
//! rows, and what is done already. Every write carries a token made of that range, so a repetition, by the same process or
//! by its successor, changes nothing. Which range is written, and when it is done, is the business of `pipeline`.

mod blocks;
mod columns;
mod connection;
mod error;
mod events;
mod ledger;
mod read;
mod schema;

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use bytes::Bytes;

use self::connection::Connection;
pub use self::error::StoreError;
pub use self::schema::definitions_of;
use crate::clock::Stopwatch;
use crate::window::TABLES;

/// How ClickHouse is reached and how long rows are kept.
#[derive(Clone)]
pub struct Settings {
    /// Address of the HTTP interface.
    pub url: String,
    /// Database; made when it is missing.
    pub database: String,
    /// User; the server's default without one.
    pub user: Option<String>,
    /// Password.
    pub password: Option<String>,
    /// Cluster for `ON CLUSTER`: tables end in `_local` then, and `Distributed` ones carry the plain names.
    pub cluster: Option<String>,
    /// Whether tables are `Replicated…`; the server's macros `shard` and `replica` name their paths.
    pub replicated: bool,
    /// Whether opening the store may create and upgrade its tables.
    pub migrate: bool,
    /// PEM file of the authority that signed the server's certificate; the public ones without it.
    pub ca: Option<PathBuf>,
    /// How long rows are kept.
    pub retention: Retention,
    /// How long one operation is retried.
    pub deadline: Duration,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("url", &self.url)
            .field("database", &self.database)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("cluster", &self.cluster)
            .field("replicated", &self.replicated)
            .field("migrate", &self.migrate)
            .field("ca", &self.ca)
            .field("retention", &self.retention)
            .field("deadline", &self.deadline)
            .finish()
    }
}

/// How long rows are kept, counted from their arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Rows as flushes bring them.
    pub minutes: Duration,
    /// Hours.
    pub hours: Duration,
    /// Days.
    pub days: Duration,
    /// Exchanges kept as evidence; `None` = the table stays as it is.
    pub events: Option<Duration>,
}

/// The range of offsets of one flush.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerRow {
    /// What it covers.
    pub range: FlushRange,
    /// Join state after it: the offset to read from.
    pub from: u64,
    /// Join state after it: the stream clock just before `from`, epoch nanoseconds.
    pub clock: Option<i64>,
    /// Stream clock after it, epoch nanoseconds: what the evaluator's watermark follows.
    pub greatest: Option<i64>,
    /// Join state after it: offsets at or after `from` whose exchanges are already counted.
    pub closed: Vec<u64>,
    /// Minutes of `endpoint_windows` with rows of this flush, epoch milliseconds.
    pub minutes: Vec<i64>,
    /// Whether there are more minutes than are worth listing.
    pub all_minutes: bool,
    /// Records read.
    pub records: u64,
    /// Exchanges counted.
    pub exchanges: u64,
    /// Records refused.
    pub rejected: u64,
    /// Blocks written to the table that got most.
    pub blocks: u64,
    /// Wall time of arrival, epoch milliseconds.
    pub stored_at: i64,
}

/// What held after a tick, in the words of whoever judged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detections {
    /// The tick, epoch milliseconds.
    pub tick: i64,
    /// What holds.
    pub state: String,
    /// What changed.
    pub changes: String,
}

/// An open store; clones share its connections.
#[derive(Clone)]
pub struct ClickHouse {
    connection: Connection,
    database: Arc<str>,
    pipeline: Arc<str>,
    /// Condition on the zones whose rows are read; `None` = all.
    zones: Option<Arc<str>>,
    window: u64,
    /// Seconds that the ledger reaches back.
    kept_ledger: u64,
    replicated: bool,
}

impl fmt::Debug for ClickHouse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClickHouse")
            .field("database", &self.database)
            .field("pipeline", &self.pipeline)
            .finish_non_exhaustive()
    }
}

impl ClickHouse {
    /// One try to connect, to migrate when that is allowed, and to check that the tables are ours and remember enough.
    ///
    /// # Errors
    /// No answer ([`StoreError::retry`]), refused credentials, tables of another version, a table without a log.
    pub async fn open(settings: &Settings, pipeline: &str) -> Result<Self, StoreError> {
        let connection = Connection::new(settings)?;
        if settings.migrate {
            for name in schema::migrate(&connection, settings).await? {
                tracing::info!(%name, "migration applied");
            }
        } else {
            let found = schema::found(&connection, settings).await?;
            if found != schema::latest() {
                return Err(schema::version_error(settings, found));
            }
        }
        let window = schema::verify(&connection, settings).await?;
        let connection = connection.learn().await?;
        Ok(Self::with(connection, settings, pipeline, window))
    }

    /// One try to connect for reading: nothing is created, and `None` means that nothing was stored yet.
    ///
    /// # Errors
    /// No answer ([`StoreError::retry`]), refused credentials, tables of another version.
    pub async fn open_to_read(
        settings: &Settings,
        pipeline: &str,
    ) -> Result<Option<Self>, StoreError> {
        let connection = Connection::new(settings)?;
        let found = schema::found(&connection, settings).await?;
        if found != schema::latest() {
            return match found {
                0 => Ok(None),
                found => Err(schema::version_error(settings, found)),
            };
        }
        Ok(Some(Self::with(connection, settings, pipeline, 0)))
    }

    fn with(connection: Connection, settings: &Settings, pipeline: &str, window: u64) -> Self {
        Self {
            connection,
            database: settings.database.as_str().into(),
            pipeline: pipeline.into(),
            zones: None,
            window,
            kept_ledger: schema::kept_ledger(settings).as_secs(),
            replicated: settings.replicated,
        }
    }

    /// The same store, of which only rows of these zones are read. Sums of pipelines that share a database lie in the same
    /// tables, and each pipeline judges its own.
    #[must_use]
    pub fn with_zones<'z>(mut self, zones: impl IntoIterator<Item = &'z str>) -> Self {
        let zones: Vec<String> = zones.into_iter().map(literal).collect();
        self.zones = Some(if zones.is_empty() {
            "0".into()
        } else {
            format!("zone IN ({})", zones.join(", ")).into()
        });
        self
    }

    /// How often a request was repeated so far, by all clones together.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.connection.retries()
    }

    /// Creates and upgrades the database and its tables; the names of what was applied, none when all was there.
    ///
    /// # Errors
    /// No answer, refused, or tables of a newer version.
    pub async fn migrate(settings: &Settings) -> Result<Vec<String>, StoreError> {
        schema::migrate(&Connection::new(settings)?, settings).await
    }

    /// Writes the sums of one flush, in the order of [`TABLES`]; the number of blocks in the table that got most. Repeating
    /// it, whole or in part, changes nothing.
    ///
    /// # Errors
    /// Refused, or still unreachable after the deadline. Part of the flush may be stored then: repeat it.
    pub async fn write(
        &self,
        range: &FlushRange,
        sums: &[RecordBatch],
        stored_at: i64,
    ) -> Result<u64, StoreError> {
        let watch = Stopwatch::start();
        let mut most = 0;
        let mut writes = Vec::new();
        for (table, sums) in TABLES.iter().zip(sums) {
            let time = columns::WINDOW_START;
            let blocks = blocks::cut(table.name, time, &self.pipeline, range, sums, stored_at)
                .map_err(|source| self.shape(table.name, source))?;
            most = most.max(blocks.len() as u64);
            let measures = table.measures.iter().map(|(measure, _)| *measure);
            let names: Vec<&str> = [columns::WINDOW_START]
                .into_iter()
                .chain(table.keys.iter().copied())
                .chain(measures)
                .chain(["stored_at"])
                .collect();
            let sql = self.insert_sql(table.name, &names);
            writes.push(async move {
                for block in blocks {
                    let body = block
                        .body(table)
                        .map_err(|source| self.shape(table.name, source))?;
                    self.deliver(table.name, &sql, &block.token, body, watch)
                        .await?;
                }
                Ok(())
            });
        }
        // Tables do not wait for each other: a flush takes as long as its slowest table.
        for written in together(writes).await {
            written?;
        }
        Ok(most)
    }

    /// Blocks that every table remembers at least.
    #[must_use]
    pub fn deduplication_window(&self) -> u64 {
        self.window
    }

    /// How long a replicated table remembers them whatever their number; plain tables only count.
    #[must_use]
    pub fn remembered_for(&self) -> Option<Duration> {
        self.replicated
            .then_some(Duration::from_secs(schema::WINDOW_SECONDS))
    }

    /// Inserts one block, again and again with the same bytes.
    async fn deliver(
        &self,
        table: &str,
        sql: &str,
        token: &str,
        body: Bytes,
        watch: Stopwatch,
    ) -> Result<(), StoreError> {
        let what = format!("the insert into {table}");
        let attempt = || self.connection.insert(sql, token, body.clone());
        self.connection.persist(&what, watch, attempt).await
    }

    async fn query(
        &self,
        what: &str,
        patience: Duration,
        sql: &str,
    ) -> Result<Vec<RecordBatch>, StoreError> {
        let what = format!("reading {what}");
        let attempt = || self.connection.fetch(sql, patience);
        self.connection
            .persist(&what, Stopwatch::start(), attempt)
            .await
    }

    fn insert_sql(&self, table: &str, columns: &[&str]) -> String {
        let columns: Vec<String> = columns.iter().map(|column| identifier(column)).collect();
        format!(
            "INSERT INTO {} ({}) FORMAT ArrowStream",
            self.table(table),
            columns.join(", ")
        )
    }

    fn table(&self, name: &str) -> String {
        format!("{}.{}", identifier(&self.database), identifier(name))
    }

    fn shape(&self, table: &str, source: ArrowError) -> StoreError {
        StoreError::Shape {
            table: format!("{}.{table}", self.database),
            source,
        }
    }
}

/// All outcomes, in order. None is given up when another one fails: what was sent counts anyway.
async fn together<T, F: Future<Output = T>>(futures: Vec<F>) -> Vec<T> {
    let mut running: Vec<(Pin<Box<F>>, Option<T>)> = futures
        .into_iter()
        .map(|future| (Box::pin(future), None))
        .collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for (future, outcome) in &mut running {
            if outcome.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(value) => *outcome = Some(value),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    running
        .into_iter()
        .filter_map(|(_, outcome)| outcome)
        .collect()
}

/// A name in SQL.
fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// A text in SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests;
