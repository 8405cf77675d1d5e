//! The table beside the sums: exchanges kept as evidence. Its rows never merge; stores keep them as they are.
//!
//! What a row says is made in `enrich::evidence`. Here is what stores need to know of it: its name, its columns, and how
//! rows that another version has written, or another store sends, become rows of this version.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

pub use crate::enrich::evidence::kept::{TABLE, TIME, schema};

/// The rows under these columns: what they do not have is null, what has no column here is left out.
///
/// # Errors
/// A column of a type that cannot be read as ours, or a missing one that must not be null.
pub fn fit(rows: &RecordBatch, columns: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if rows.schema_ref() == columns {
        return Ok(rows.clone());
    }
    let fitted = columns.fields().iter().map(|column| {
        let kind = column.data_type();
        match rows.column_by_name(column.name()) {
            Some(values) if values.data_type() == kind => Ok(Arc::clone(values)),
            Some(values) => cast(values, kind),
            None => Ok(new_null_array(kind, rows.num_rows())),
        }
    });
    let fitted: Vec<ArrayRef> = fitted.collect::<Result<_, ArrowError>>()?;
    let null = columns
        .fields()
        .iter()
        .zip(&fitted)
        .find(|(column, values)| !column.is_nullable() && values.null_count() > 0);
    if let Some((column, _)) = null {
        let message = format!("{} is missing", column.name());
        return Err(ArrowError::SchemaError(message));
    }
    RecordBatch::try_new(Arc::clone(columns), fitted)
}
