//! Rows of `entity_windows` and `session_windows`, whichever store or flush they come from.

use arrow::array::{Array, ArrayRef, AsArray, MapArray, RecordBatch, StringArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampMillisecondType, UInt8Type, UInt16Type, UInt64Type};

use super::series::{Sketch, Sums};
use super::{REQUEST, Threshold};
use crate::model::Samples;

/// The columns of a batch.
pub(super) struct Columns {
    minutes: Vec<i64>,
    zone: StringArray,
    kind: Option<StringArray>,
    entity: StringArray,
    signal: Option<StringArray>,
    requests: UInt64Array,
    endpoints: Option<MapArray>,
    addresses: Option<MapArray>,
    /// Ids of exchanges: several in a map, or one.
    samples: Option<MapArray>,
    sample: Option<StringArray>,
}

/// One row.
pub(super) struct Row<'c> {
    pub(super) minute: i64,
    pub(super) zone: &'c str,
    pub(super) kind: &'c str,
    pub(super) entity: &'c str,
    pub(super) signal: &'c str,
    pub(super) sums: Sums,
}

impl Row<'_> {
    /// Whether the threshold counts it.
    pub(super) fn counts(&self, threshold: &Threshold) -> bool {
        threshold.signal == self.signal && threshold.kind.as_str() == self.kind
    }
}

impl Columns {
    /// The columns of either table; `None` = it is another one.
    pub(super) fn of(rows: &RecordBatch) -> Option<Self> {
        let column = |name: &str| rows.column_by_name(name);
        let text = |name: &str| -> Option<StringArray> {
            let plain = cast(column(name)?, &DataType::Utf8).ok()?;
            plain.as_string_opt::<i32>().cloned()
        };
        let map = |name: &str| -> Option<MapArray> { column(name)?.as_map_opt().cloned() };
        let requests: ArrayRef = cast(column("requests")?, &DataType::UInt64).ok()?;
        let minutes = column("window_start")?.as_primitive_opt::<TimestampMillisecondType>()?;
        Some(Self {
            minutes: minutes.values().to_vec(),
            zone: text("zone")?,
            kind: text("kind"),
            entity: text("entity").or_else(|| text("session_id"))?,
            signal: text("signal"),
            requests: requests.as_primitive_opt::<UInt64Type>()?.clone(),
            endpoints: map("endpoints"),
            addresses: map("addresses"),
            samples: map("samples"),
            sample: text("sample"),
        })
    }

    /// A row, which must be one of the batch.
    pub(super) fn row(&self, row: usize) -> Row<'_> {
        Row {
            minute: self.minutes.get(row).copied().unwrap_or_default(),
            zone: self.zone.value(row),
            kind: self
                .kind
                .as_ref()
                .map_or("session", |column| column.value(row)),
            entity: self.entity.value(row),
            signal: self
                .signal
                .as_ref()
                .map_or(REQUEST, |column| column.value(row)),
            sums: Sums {
                requests: self.requests.value(row),
                endpoints: sketch(self.endpoints.as_ref(), row),
                addresses: sketch(self.addresses.as_ref(), row),
                samples: self.samples(row),
            },
        }
    }

    fn samples(&self, row: usize) -> Samples {
        if let Some(sample) = self.sample.as_ref().filter(|column| column.is_valid(row)) {
            return Samples::from_iter([sample.value(row)]);
        }
        let Some(maps) = self.samples.as_ref().filter(|column| column.is_valid(row)) else {
            return Samples::default();
        };
        let entries = maps.value(row);
        let ids = entries
            .columns()
            .get(1)
            .and_then(|ids| ids.as_string_opt::<i32>());
        ids.into_iter().flatten().flatten().collect()
    }
}

fn sketch(column: Option<&MapArray>, row: usize) -> Sketch {
    let Some(column) = column.filter(|column| !column.is_null(row)) else {
        return Sketch::new();
    };
    let entries = column.value(row);
    let registers = entries.columns().first();
    let ranks = entries.columns().get(1);
    let registers = registers.and_then(|column| column.as_primitive_opt::<UInt16Type>());
    let ranks = ranks.and_then(|column| column.as_primitive_opt::<UInt8Type>());
    match (registers, ranks) {
        (Some(registers), Some(ranks)) => {
            let pairs = registers.values().iter().zip(ranks.values());
            pairs.map(|(register, rank)| (*register, *rank)).collect()
        }
        _ => Sketch::new(),
    }
}
