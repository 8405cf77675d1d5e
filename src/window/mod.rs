//! One flush's batches → partial sums, by the SQL in `sql/windows/`.
//!
//! The sums are additive: merging rows of different flushes, partitions and nodes is addition (and the maximum for
//! sketches and arrival times), so late events need no special path. DataFusion's async runs over memory only.
//! Exchanges kept as evidence are not summed: they are the table of [`events`].

pub mod events;
mod sketch;
mod tables;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use datafusion::catalog::MemTable;
use datafusion::error::Result;
use datafusion::prelude::{SessionConfig, SessionContext};

pub use sketch::{samples_type, sketch_type};
pub use tables::{Merge, Resolution, TABLES, Table, table};

use crate::enrich::batch::FlushBatches;

/// A DataFusion context that knows the sketch functions. One partition: a flush is small, and flushes of several
/// partitions run beside each other.
#[must_use]
pub fn context() -> SessionContext {
    let config = SessionConfig::new()
        .with_target_partitions(1)
        .with_batch_size(8_192)
        .set_bool("datafusion.sql_parser.enable_ident_normalization", true)
        .set_bool(
            "datafusion.execution.parquet.schema_force_view_types",
            false,
        );
    let context = SessionContext::new_with_config(config);
    context.register_udaf(sketch::registers());
    context.register_udaf(sketch::merge_registers());
    context.register_udaf(sketch::samples());
    context.register_udaf(sketch::merge_samples());
    context
}

/// The partial sums of one flush: one batch per table, in the order of [`TABLES`]; without rows for an empty table.
///
/// # Errors
/// Only when DataFusion refuses our own SQL over our own columns, which is a bug.
pub async fn sum(flush: FlushBatches) -> Result<Vec<RecordBatch>> {
    sum_into(flush, TABLES).await
}

/// The partial sums of one flush in some of the [`TABLES`], in the order asked for.
///
/// # Errors
/// As those of [`sum`].
pub async fn sum_into(
    flush: FlushBatches,
    tables: impl IntoIterator<Item = &Table>,
) -> Result<Vec<RecordBatch>> {
    let context = context();
    for table in flush.tables {
        let rows = MemTable::try_new(table.schema, vec![table.batches])?;
        context.register_table(table.name, Arc::new(rows))?;
    }
    let mut sums = Vec::with_capacity(TABLES.len());
    for table in tables {
        let frame = context.sql(table.sql).await?;
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let batches = frame.collect().await?;
        sums.push(concat_batches(&schema, &batches)?);
    }
    Ok(sums)
}
