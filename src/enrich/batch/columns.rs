//! The columns of each table of a flush.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeBinaryBuilder, RecordBatch, StringViewBuilder, TimestampMillisecondBuilder,
    UInt8Builder, UInt16Builder, UInt32Builder, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use super::{BATCH_ROWS, FlushTable, Judged, Observation};
use crate::model::{Exchange, Samples, TokenOutcome, Violation};

/// The type of every time column: milliseconds, UTC.
fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

fn schema(columns: &[(&str, DataType, bool)]) -> SchemaRef {
    let field =
        |(name, kind, null): &(&str, DataType, bool)| Field::new(*name, kind.clone(), *null);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

fn minutes(builder: &mut TimestampMillisecondBuilder) -> ArrayRef {
    Arc::new(builder.finish().with_timezone("UTC"))
}

/// A nullable register and rank for a distinct-count sketch.
#[derive(Debug, Default)]
struct Sketch {
    register: UInt16Builder,
    rank: UInt8Builder,
}

impl Sketch {
    fn append(&mut self, seen: Option<Observation>) {
        self.register.append_option(seen.map(|seen| seen.register));
        self.rank.append_option(seen.map(|seen| seen.rank));
    }

    fn finish(&mut self) -> [ArrayRef; 2] {
        [
            Arc::new(self.register.finish()),
            Arc::new(self.rank.finish()),
        ]
    }
}

/// One row per exchange.
#[derive(Debug)]
pub(super) struct Exchanges {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    window_start: TimestampMillisecondBuilder,
    operation: UInt32Builder,
    status: UInt16Builder,
    /// session, token, `schema_request`, `schema_response`, mtls, `mtls_reason`.
    verdicts: [StringViewBuilder; 6],
    request_bytes: UInt64Builder,
    response_bytes: UInt64Builder,
    duration_us: UInt64Builder,
    session_id: FixedSizeBinaryBuilder,
    /// Id of the exchange where it has a session; else empty, like one that is none.
    id: StringViewBuilder,
    /// Session, client, path.
    sketches: [Sketch; 3],
}

impl Default for Exchanges {
    fn default() -> Self {
        let schema = schema(&[
            ("window_start", time(), false),
            ("operation", DataType::UInt32, false),
            ("status", DataType::UInt16, false),
            ("session", DataType::Utf8View, false),
            ("token", DataType::Utf8View, false),
            ("schema_request", DataType::Utf8View, false),
            ("schema_response", DataType::Utf8View, false),
            ("mtls", DataType::Utf8View, false),
            ("mtls_reason", DataType::Utf8View, false),
            ("request_bytes", DataType::UInt64, false),
            ("response_bytes", DataType::UInt64, false),
            ("duration_us", DataType::UInt64, true),
            ("session_id", DataType::FixedSizeBinary(16), true),
            ("id", DataType::Utf8View, false),
            ("session_register", DataType::UInt16, true),
            ("session_rank", DataType::UInt8, true),
            ("client_register", DataType::UInt16, true),
            ("client_rank", DataType::UInt8, true),
            ("path_register", DataType::UInt16, true),
            ("path_rank", DataType::UInt8, true),
        ]);
        Self {
            schema,
            batches: Vec::new(),
            // Built at full size at once: growing by doubling would copy every column of every batch.
            window_start: TimestampMillisecondBuilder::with_capacity(BATCH_ROWS),
            operation: UInt32Builder::with_capacity(BATCH_ROWS),
            status: UInt16Builder::with_capacity(BATCH_ROWS),
            verdicts: std::array::from_fn(|_| StringViewBuilder::with_capacity(BATCH_ROWS)),
            request_bytes: UInt64Builder::with_capacity(BATCH_ROWS),
            response_bytes: UInt64Builder::with_capacity(BATCH_ROWS),
            duration_us: UInt64Builder::with_capacity(BATCH_ROWS),
            session_id: FixedSizeBinaryBuilder::with_capacity(BATCH_ROWS, 16),
            id: StringViewBuilder::with_capacity(BATCH_ROWS),
            sketches: std::array::from_fn(|_| Sketch {
                register: UInt16Builder::with_capacity(BATCH_ROWS),
                rank: UInt8Builder::with_capacity(BATCH_ROWS),
            }),
        }
    }
}

impl Exchanges {
    pub(super) fn append(
        &mut self,
        minute: i64,
        operation: u32,
        status: u16,
        exchange: &Exchange<'_>,
        judged: &Judged,
        seen: [Option<Observation>; 3],
    ) -> Result<(), ArrowError> {
        self.window_start.append_value(minute);
        self.operation.append_value(operation);
        self.status.append_value(status);
        let verdicts = [
            judged.session.outcome.as_str(),
            judged.token.map_or("not_configured", TokenOutcome::as_str),
            judged.schema.request.as_str(),
            judged.schema.response.as_str(),
            judged.mtls.outcome.as_str(),
            judged
                .mtls
                .reason
                .map_or("", crate::model::MtlsReason::as_str),
        ];
        for (builder, verdict) in self.verdicts.iter_mut().zip(verdicts) {
            builder.append_value(verdict);
        }
        let request = &exchange.request;
        self.request_bytes
            .append_value(size(request.body_bytes, request.body.as_deref()));
        let response = exchange.response.as_ref();
        self.response_bytes
            .append_value(response.map_or(0, |r| size(r.body_bytes, r.body.as_deref())));
        self.duration_us
            .append_option(response.and_then(|r| r.duration_ms).map(micros));
        match &judged.session.hash {
            Some(hash) => self.session_id.append_value(hash)?,
            None => self.session_id.append_null(),
        }
        let id = exchange
            .id
            .as_deref()
            .filter(|id| judged.session.hash.is_some() && Samples::place(id).is_some());
        self.id.append_value(id.unwrap_or_default());
        for (sketch, seen) in self.sketches.iter_mut().zip(seen) {
            sketch.append(seen);
        }
        Ok(())
    }

    /// Closes the current Arrow batch.
    pub(super) fn cut(&mut self) -> Result<(), ArrowError> {
        let batches = std::mem::take(&mut self.batches);
        let mut full = std::mem::replace(
            self,
            Self {
                batches,
                ..Self::default()
            },
        );
        let mut columns: Vec<ArrayRef> = vec![
            minutes(&mut full.window_start),
            Arc::new(full.operation.finish()),
            Arc::new(full.status.finish()),
        ];
        for builder in &mut full.verdicts {
            columns.push(Arc::new(builder.finish()));
        }
        columns.push(Arc::new(full.request_bytes.finish()));
        columns.push(Arc::new(full.response_bytes.finish()));
        columns.push(Arc::new(full.duration_us.finish()));
        columns.push(Arc::new(full.session_id.finish()));
        columns.push(Arc::new(full.id.finish()));
        columns.extend(full.sketches.iter_mut().flat_map(Sketch::finish));
        self.batches
            .push(RecordBatch::try_new(full.schema, columns)?);
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<FlushTable, ArrowError> {
        self.cut()?;
        let batches = std::mem::take(&mut self.batches);
        Ok(FlushTable {
            name: "exchanges",
            schema: Arc::clone(&self.schema),
            batches,
        })
    }
}

/// Size on the wire where the log says it, else of what was captured. A terabyte is more than any log means, and sums of
/// absurd sizes would wrap.
fn size(declared: Option<u64>, body: Option<&[u8]>) -> u64 {
    declared
        .unwrap_or_else(|| body.map_or(0, |body| body.len() as u64))
        .min(1 << 40)
}

/// Milliseconds → whole microseconds; negative and absurd durations are clamped to 0 … one day.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped before the cast"
)]
fn micros(millis: f64) -> u64 {
    (millis * 1_000.0).round().clamp(0.0, 86_400e6) as u64
}

/// A table whose columns are the minute, the operation, some text, and at the end what `extra` adds.
macro_rules! text_table {
    ($(#[$doc:meta])* $name:ident, $table:literal, [$($column:ident),+]) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(super) struct $name {
            window_start: TimestampMillisecondBuilder,
            operation: UInt32Builder,
            $($column: StringViewBuilder,)+
        }

        impl $name {
            fn key(&mut self, minute: i64, operation: u32) {
                self.window_start.append_value(minute);
                self.operation.append_value(operation);
            }

            pub(super) fn finish(&mut self) -> Result<FlushTable, ArrowError> {
                let schema = schema(&[
                    ("window_start", time(), false),
                    ("operation", DataType::UInt32, false),
                    $((stringify!($column), DataType::Utf8View, false),)+
                ]);
                let columns: Vec<ArrayRef> = vec![
                    minutes(&mut self.window_start),
                    Arc::new(self.operation.finish()),
                    $(Arc::new(self.$column.finish()),)+
                ];
                let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
                Ok(FlushTable { name: $table, schema, batches: vec![batch] })
            }
        }
    };
}

text_table!(
    /// One row per present identifier; `none` when all are absent.
    Identifiers, "identifiers", [status_class, identifier]
);
text_table!(
    /// One row per token configuration.
    Tokens, "tokens", [status_class, configuration, outcome, reason]
);
text_table!(
    /// One row per violation.
    Violations, "violations", [status_class, direction, location, class, target]
);

impl Identifiers {
    pub(super) fn append(&mut self, minute: i64, operation: u32, class: &str, identifier: &str) {
        self.key(minute, operation);
        self.status_class.append_value(class);
        self.identifier.append_value(identifier);
    }
}

impl Tokens {
    pub(super) fn append(
        &mut self,
        minute: i64,
        operation: u32,
        class: &str,
        configuration: &str,
        outcome: TokenOutcome,
    ) {
        self.key(minute, operation);
        self.status_class.append_value(class);
        self.configuration.append_value(configuration);
        self.outcome.append_value(outcome.as_str());
        self.reason.append_value(
            outcome
                .reason()
                .map_or("", crate::model::TokenReason::as_str),
        );
    }
}

impl Violations {
    pub(super) fn append(
        &mut self,
        minute: i64,
        operation: u32,
        class: &str,
        violation: &Violation,
    ) {
        self.key(minute, operation);
        self.status_class.append_value(class);
        self.direction.append_value(violation.direction.as_str());
        self.location.append_value(violation.location.as_str());
        self.class.append_value(violation.class.as_str());
        self.target.append_value(&violation.target);
    }
}

/// One row per entity and signal.
#[derive(Debug, Default)]
pub(super) struct Entities {
    window_start: TimestampMillisecondBuilder,
    operation: UInt32Builder,
    /// kind, entity, signal.
    names: [StringViewBuilder; 3],
    endpoint: Sketch,
    address: Sketch,
    /// Where an exchange has an id: its place among samples, and the id.
    place: UInt16Builder,
    id: StringViewBuilder,
}

impl Entities {
    pub(super) fn append(
        &mut self,
        (minute, operation): (i64, u32),
        names: [&str; 3],
        endpoint: Observation,
        address: Option<Observation>,
        sample: Option<(u16, &str)>,
    ) {
        self.window_start.append_value(minute);
        self.operation.append_value(operation);
        for (builder, name) in self.names.iter_mut().zip(names) {
            builder.append_value(name);
        }
        self.endpoint.append(Some(endpoint));
        self.address.append(address);
        self.place.append_option(sample.map(|(place, _)| place));
        self.id.append_option(sample.map(|(_, id)| id));
    }

    pub(super) fn finish(&mut self) -> Result<FlushTable, ArrowError> {
        let schema = schema(&[
            ("window_start", time(), false),
            ("operation", DataType::UInt32, false),
            ("kind", DataType::Utf8View, false),
            ("entity", DataType::Utf8View, false),
            ("signal", DataType::Utf8View, false),
            ("endpoint_register", DataType::UInt16, true),
            ("endpoint_rank", DataType::UInt8, true),
            ("address_register", DataType::UInt16, true),
            ("address_rank", DataType::UInt8, true),
            ("place", DataType::UInt16, true),
            ("id", DataType::Utf8View, true),
        ]);
        let mut columns: Vec<ArrayRef> = vec![
            minutes(&mut self.window_start),
            Arc::new(self.operation.finish()),
        ];
        for builder in &mut self.names {
            columns.push(Arc::new(builder.finish()));
        }
        columns.extend(self.endpoint.finish());
        columns.extend(self.address.finish());
        columns.push(Arc::new(self.place.finish()));
        columns.push(Arc::new(self.id.finish()));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        Ok(FlushTable {
            name: "entities",
            schema,
            batches: vec![batch],
        })
    }
}
