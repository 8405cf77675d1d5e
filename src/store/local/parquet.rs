//! Arrow batches ↔ Parquet files.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::statistics::Statistics;
use arrow::array::{AsArray, RecordBatch, new_null_array};
use arrow::compute::{max, min};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimestampMillisecondType};
use arrow::error::ArrowError;

use super::{Range, StoreError};
use crate::window::Table;

/// Rows of a row group: what a read of few minutes out of a large file has to decode at least.
const ROW_GROUP: usize = 16_384;

/// Bytes that a row group may have in memory: rows of evidence can be as long as a log line.
const GROUP_BYTES: usize = 32 << 20;

fn wrong(path: &Path, source: ParquetError) -> StoreError {
    StoreError::Parquet {
        path: path.to_owned(),
        source,
    }
}

/// Writes one file and waits until it is on disk.
pub(super) fn write(path: &Path, rows: &RecordBatch) -> Result<(), StoreError> {
    let mut writer = Writer::create(path, &rows.schema())?;
    writer.write(rows)?;
    writer.finish()
}

/// A file that is written batch by batch.
pub(super) struct Writer<'p> {
    path: &'p Path,
    writer: ArrowWriter<File>,
}

impl<'p> Writer<'p> {
    pub(super) fn create(path: &'p Path, schema: &SchemaRef) -> Result<Self, StoreError> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(ROW_GROUP))
            .build();
        let file = File::create(path).map_err(|source| StoreError::io(path, source))?;
        let writer = ArrowWriter::try_new(file, Arc::clone(schema), Some(properties));
        let writer = writer.map_err(|source| wrong(path, source))?;
        Ok(Self { path, writer })
    }

    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<(), StoreError> {
        let path = self.path;
        let mut write = || {
            self.writer.write(rows)?;
            if self.writer.memory_size() >= GROUP_BYTES {
                self.writer.flush()?;
            }
            Ok(())
        };
        write().map_err(|source| wrong(path, source))
    }

    /// Waits until the file is on disk.
    pub(super) fn finish(self) -> Result<(), StoreError> {
        let file = self.writer.into_inner();
        let file = file.map_err(|source| wrong(self.path, source))?;
        file.sync_all()
            .map_err(|source| StoreError::io(self.path, source))
    }
}

/// The batches of a file, one after the other.
pub(super) struct Batches<'p> {
    path: &'p Path,
    reader: ParquetRecordBatchReader,
}

impl<'p> Batches<'p> {
    /// Those of the row groups that may hold rows within `range`; rows outside may come along.
    pub(super) fn open(path: &'p Path, range: Range) -> Result<Self, StoreError> {
        let wrong = |source| wrong(path, source);
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
                *least < range.to && *greatest >= range.from
            });
        let groups = groups.map(|(index, _)| index).collect();
        let reader = builder.with_row_groups(groups).build().map_err(wrong)?;
        Ok(Self { path, reader })
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<RecordBatch, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?;
        Some(batch.map_err(|error| wrong(self.path, ParquetError::from(error))))
    }
}

/// Reads the row groups that may hold rows with `from <= window_start < to`; rows outside may come along. A measure that was
/// not kept when the file was written is null.
pub(super) fn read(
    table: &Table,
    path: &Path,
    from: i64,
    to: i64,
) -> Result<Vec<RecordBatch>, StoreError> {
    let batches = Batches::open(path, Range { from, to })?;
    let completed = |rows: Result<RecordBatch, StoreError>| {
        completed(table, rows?).map_err(|error| wrong(path, error.into()))
    };
    batches.map(completed).collect()
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

/// Least and greatest time, which is the first column of every table.
pub(super) fn time_bounds(rows: &RecordBatch) -> (i64, i64) {
    let times = rows
        .columns()
        .first()
        .and_then(|c| c.as_primitive_opt::<TimestampMillisecondType>());
    let bounds = times.and_then(|times| Some((min(times)?, max(times)?)));
    bounds.unwrap_or((i64::MIN, i64::MAX))
}
