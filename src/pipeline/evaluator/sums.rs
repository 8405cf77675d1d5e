//! What the evaluator needs of a store, so that its protocol can be tested without one.

use std::future::Future;

use arrow::array::RecordBatch;

use crate::store::Range;
use crate::store::clickhouse::{ClickHouse, Detections, LedgerRow, StoreError};
use crate::window::{self, Resolution};

/// Most minutes that are asked for one by one; beyond that the query would be longer than the answer.
const MOST_MINUTES: usize = 4_096;

/// Merged sums, the ledger and the detections of one pipeline.
pub trait Sums {
    /// Rows of the ledger that were stored at or after `stored_at`, epoch milliseconds.
    fn recorded_since(
        &self,
        stored_at: i64,
    ) -> impl Future<Output = Result<Vec<LedgerRow>, StoreError>>;

    /// Merged rows of `endpoint_windows` from the minute `from` on.
    fn read_from(&self, from: i64) -> impl Future<Output = Result<Vec<RecordBatch>, StoreError>>;

    /// Merged rows of `endpoint_windows` of these minutes.
    fn read_minutes(
        &self,
        minutes: &[i64],
    ) -> impl Future<Output = Result<Vec<RecordBatch>, StoreError>>;

    /// Merged rows of `entity_windows` or `session_windows` from the minute `from` on. A store without them has none.
    fn entities_from(
        &self,
        _table: &'static str,
        _from: i64,
    ) -> impl Future<Output = Result<Vec<RecordBatch>, StoreError>> {
        async { Ok(Vec::new()) }
    }

    /// The same, of these minutes.
    fn entity_minutes(
        &self,
        _table: &'static str,
        _minutes: &[i64],
    ) -> impl Future<Output = Result<Vec<RecordBatch>, StoreError>> {
        async { Ok(Vec::new()) }
    }

    /// Writes what holds after a tick and what follows from it; again is harmless.
    fn write_detections(
        &self,
        tick: i64,
        term: u64,
        state: &str,
        changes: &str,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// Detections of `tick` and later ticks, or of all that are kept, by tick.
    fn detections_from(
        &self,
        tick: Option<i64>,
    ) -> impl Future<Output = Result<Vec<Detections>, StoreError>>;
}

impl Sums for ClickHouse {
    async fn recorded_since(&self, stored_at: i64) -> Result<Vec<LedgerRow>, StoreError> {
        ClickHouse::recorded_since(self, stored_at).await
    }

    async fn read_from(&self, from: i64) -> Result<Vec<RecordBatch>, StoreError> {
        let Some(table) = window::table("endpoint_windows") else {
            return Ok(Vec::new());
        };
        let range = Range { from, to: i64::MAX };
        self.read(table, range, Some(Resolution::Minute)).await
    }

    async fn read_minutes(&self, minutes: &[i64]) -> Result<Vec<RecordBatch>, StoreError> {
        let Some(table) = window::table("endpoint_windows") else {
            return Ok(Vec::new());
        };
        let mut rows = Vec::new();
        for part in minutes.chunks(MOST_MINUTES) {
            rows.extend(ClickHouse::read_minutes(self, table, part).await?);
        }
        Ok(rows)
    }

    async fn entities_from(
        &self,
        table: &'static str,
        from: i64,
    ) -> Result<Vec<RecordBatch>, StoreError> {
        let Some(table) = window::table(table) else {
            return Ok(Vec::new());
        };
        let range = Range { from, to: i64::MAX };
        self.read(table, range, Some(Resolution::Minute)).await
    }

    async fn entity_minutes(
        &self,
        table: &'static str,
        minutes: &[i64],
    ) -> Result<Vec<RecordBatch>, StoreError> {
        let Some(table) = window::table(table) else {
            return Ok(Vec::new());
        };
        // Sessions are kept in steps of ten minutes, so a minute is found in the one that it lies in.
        let step = if table.name == "session_windows" {
            600_000
        } else {
            60_000
        };
        let mut steps: Vec<i64> = minutes
            .iter()
            .map(|minute| minute.div_euclid(step) * step)
            .collect();
        steps.dedup();
        let mut rows = Vec::new();
        for part in steps.chunks(MOST_MINUTES) {
            rows.extend(ClickHouse::read_minutes(self, table, part).await?);
        }
        Ok(rows)
    }

    async fn write_detections(
        &self,
        tick: i64,
        term: u64,
        state: &str,
        changes: &str,
    ) -> Result<(), StoreError> {
        ClickHouse::write_detections(self, tick, term, state, changes).await
    }

    async fn detections_from(&self, tick: Option<i64>) -> Result<Vec<Detections>, StoreError> {
        let mut rows = self.detections_after(tick.map(|tick| tick - 1)).await?;
        // The newest row outlives the others, for a pipeline that was away for a long time.
        if rows.is_empty() {
            let newest = self.newest_detections().await?;
            rows.extend(newest.filter(|row| tick.is_none_or(|tick| row.tick >= tick)));
        }
        Ok(rows)
    }
}
