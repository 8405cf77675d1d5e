//! Arrow batches ↔ Parquet files.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::statistics::Statistics;
use arrow::array::{AsArray, RecordBatch, new_null_array};
use arrow::compute::{max, min};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, TimestampMillisecondType};
use arrow::error::ArrowError;

use super::StoreError;
use crate::window::Table;

/// Rows of a row group: what a read of few minutes out of a large file has to decode at least.
const ROW_GROUP: usize = 16_384;

/// Writes one file and waits until it is on disk.
pub(super) fn write(path: &Path, rows: &RecordBatch) -> Result<(), StoreError> {
    let io = |source| StoreError::io(path, source);
    let wrong = |source| StoreError::Parquet {
        path: path.to_owned(),
        source,
    };
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .build();
    let file = File::create(path).map_err(io)?;
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).map_err(wrong)?;
    writer.write(rows).map_err(wrong)?;
    let file = writer.into_inner().map_err(wrong)?;
    file.sync_all().map_err(io)
}

/// Reads the row groups that may hold rows with `from <= window_start < to`; rows outside may come along. A measure that was
/// not kept when the file was written is null.
pub(super) fn read(
    table: &Table,
    path: &Path,
    from: i64,
    to: i64,
) -> Result<Vec<RecordBatch>, StoreError> {
    let wrong = |source| StoreError::Parquet {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(|source| StoreError::io(path, source))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(wrong)?;
    let groups = builder
        .metadata()
        .row_groups()
        .iter()
        .enumerate()
        .filter(|(_, group)| {
            let statistics = group
                .columns()
                .first()
                .and_then(|column| column.statistics());
            let Some(Statistics::Int64(times)) = statistics else {
                return true;
            };
            let (Some(least), Some(greatest)) = (times.min_opt(), times.max_opt()) else {
                return true;
            };
            *least < to && *greatest >= from
        });
    let groups = groups.map(|(index, _)| index).collect();
    let reader = builder.with_row_groups(groups).build().map_err(wrong)?;
    let batches = reader.map(|rows| rows.and_then(|rows| completed(table, rows)));
    let batches: Result<Vec<RecordBatch>, _> = batches.collect();
    batches.map_err(|error| wrong(ParquetError::from(error)))
}

fn completed(table: &Table, rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let missing: Vec<(&str, DataType)> = table
        .measures
        .iter()
        .filter(|(name, _)| rows.column_by_name(name).is_none())
        .filter_map(|(name, merge)| Some((*name, merge.kind()?)))
        .collect();
    if missing.is_empty() {
        return Ok(rows);
    }
    let schema = rows.schema();
    let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
    let mut columns = rows.columns().to_vec();
    for (name, kind) in missing {
        columns.push(new_null_array(&kind, rows.num_rows()));
        fields.push(Arc::new(Field::new(name, kind, true)));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Least and greatest `window_start`, which is the first column of every table.
pub(super) fn time_bounds(rows: &RecordBatch) -> (i64, i64) {
    let times = rows
        .columns()
        .first()
        .and_then(|c| c.as_primitive_opt::<TimestampMillisecondType>());
    let bounds = times.and_then(|times| Some((min(times)?, max(times)?)));
    bounds.unwrap_or((i64::MIN, i64::MAX))
}
