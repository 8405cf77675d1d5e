//! HyperLogLog registers as SQL aggregates: `registers(register, rank)` builds a map register → rank, and
//! `merge_registers(map)` merges maps by the maximum of each register, exactly as ClickHouse's `maxMap` does, so that
//! both stores hold the same value. Estimating the count from the registers is the reader's business.
//!
//! Ids of exchanges are sampled alike: `samples(place, id)` keeps the greatest id of each place.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, MapArray, StringArray, StructArray, UInt8Array,
    UInt16Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, UInt8Type, UInt16Type};
use datafusion::common::{ScalarValue, exec_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature,
    TypeSignature, Volatility,
};

/// What a register holds; the greater one stays.
trait Held: Clone + std::fmt::Debug + Eq + std::hash::Hash + Send + Sync + 'static {
    /// How it is seen in a column.
    type Seen<'s>: Copy;
    /// Type of a column of them.
    fn kind() -> DataType;
    /// The one in this row.
    fn at(column: &ArrayRef, row: usize) -> Option<Self::Seen<'_>>;
    fn keep(seen: Self::Seen<'_>) -> Self;
    fn is_below(&self, seen: Self::Seen<'_>) -> bool;
    fn column<'h>(held: impl Iterator<Item = &'h Self>) -> ArrayRef;
    /// Memory that it needs besides its own size, about.
    fn bytes(&self) -> usize;
}

/// The rank of a distinct-count sketch.
impl Held for u8 {
    type Seen<'s> = Self;

    fn kind() -> DataType {
        DataType::UInt8
    }

    fn at(column: &ArrayRef, row: usize) -> Option<Self> {
        let ranks = column.as_primitive_opt::<UInt8Type>()?;
        ranks.is_valid(row).then(|| ranks.value(row))
    }

    fn keep(seen: Self) -> Self {
        seen
    }

    fn is_below(&self, seen: Self) -> bool {
        *self < seen
    }

    fn column<'h>(held: impl Iterator<Item = &'h Self>) -> ArrayRef {
        Arc::new(held.copied().collect::<UInt8Array>())
    }

    fn bytes(&self) -> usize {
        0
    }
}

/// The id of an exchange, in the place that [`crate::model::Samples`] gives it.
impl Held for Box<str> {
    type Seen<'s> = &'s str;

    fn kind() -> DataType {
        DataType::Utf8
    }

    fn at(column: &ArrayRef, row: usize) -> Option<&str> {
        if column.is_null(row) {
            return None;
        }
        if let Some(ids) = column.as_string_view_opt() {
            return Some(ids.value(row));
        }
        Some(column.as_string_opt::<i32>()?.value(row))
    }

    fn keep(seen: &str) -> Self {
        seen.into()
    }

    fn is_below(&self, seen: &str) -> bool {
        **self < *seen
    }

    fn column<'h>(held: impl Iterator<Item = &'h Self>) -> ArrayRef {
        Arc::new(held.map(Some).collect::<StringArray>())
    }

    fn bytes(&self) -> usize {
        self.len()
    }
}

/// Fields of one entry of a sketch.
fn entry_fields<V: Held>() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::UInt16, false),
        Field::new("value", V::kind(), false),
    ])
}

/// The entries of a sketch.
fn entries_field<V: Held>() -> FieldRef {
    Arc::new(Field::new(
        "entries",
        DataType::Struct(entry_fields::<V>()),
        false,
    ))
}

/// Arrow type of a map from registers.
fn map_type<V: Held>() -> DataType {
    DataType::Map(entries_field::<V>(), false)
}

/// Arrow type of a distinct-count sketch: `Map<UInt16, UInt8>`.
#[must_use]
pub fn sketch_type() -> DataType {
    map_type::<u8>()
}

/// Arrow type of samples: `Map<UInt16, Utf8>`, place → id.
#[must_use]
pub fn samples_type() -> DataType {
    map_type::<Box<str>>()
}

/// `registers(register UInt16, rank UInt8) -> Map<UInt16, UInt8>`; rows without a register count for nothing.
pub(super) fn registers() -> AggregateUDF {
    function::<u8>("registers", vec![DataType::UInt16, DataType::UInt8])
}

/// `merge_registers(Map<UInt16, UInt8>) -> Map<UInt16, UInt8>`.
pub(super) fn merge_registers() -> AggregateUDF {
    function::<u8>("merge_registers", vec![sketch_type()])
}

/// `samples(place UInt16, id Utf8View) -> Map<UInt16, Utf8>`; rows without a place count for nothing.
pub(super) fn samples() -> AggregateUDF {
    function::<Box<str>>("samples", vec![DataType::UInt16, DataType::Utf8View])
}

/// `merge_samples(Map<UInt16, Utf8>) -> Map<UInt16, Utf8>`.
pub(super) fn merge_samples() -> AggregateUDF {
    function::<Box<str>>("merge_samples", vec![samples_type()])
}

fn function<V: Held>(name: &'static str, arguments: Vec<DataType>) -> AggregateUDF {
    AggregateUDF::from(SketchFunction::<V> {
        name,
        signature: Signature::new(TypeSignature::Exact(arguments), Volatility::Immutable),
        holds: PhantomData,
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SketchFunction<V> {
    name: &'static str,
    signature: Signature,
    holds: PhantomData<V>,
}

impl<V: Held> AggregateUDFImpl for SketchFunction<V> {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(map_type::<V>())
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let mut sketches = Sketches::<V>::default();
        sketches.groups.push(Sketch::new());
        Ok(Box::new(sketches))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        _: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Sketches::<V>::default()))
    }

    fn state_fields(&self, arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(
            arguments.name,
            map_type::<V>(),
            true,
        ))])
    }
}

/// Registers with what they hold, by register. Most groups see few distinct values, so a sorted list is small and fast.
type Sketch<V> = Vec<(u16, V)>;

/// The sketches of all groups.
#[derive(Debug)]
struct Sketches<V> {
    groups: Vec<Sketch<V>>,
    /// Memory that entries need, about.
    bytes: usize,
}

impl<V> Default for Sketches<V> {
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            bytes: 0,
        }
    }
}

/// Memory that one entry needs. Lists grow by doubling, so up to twice its size.
fn bytes<V: Held>(held: &V) -> usize {
    2 * size_of::<(u16, V)>() + held.bytes()
}

impl<V: Held> Sketches<V> {
    fn raise(&mut self, group: usize, register: u16, seen: V::Seen<'_>) {
        let Some(sketch) = self.groups.get_mut(group) else {
            return;
        };
        match sketch.binary_search_by_key(&register, |(register, _)| *register) {
            Ok(at) => {
                if let Some((_, known)) = sketch.get_mut(at)
                    && known.is_below(seen)
                {
                    *known = V::keep(seen);
                }
            }
            Err(at) => {
                let held = V::keep(seen);
                self.bytes += bytes(&held);
                sketch.insert(at, (register, held));
            }
        }
    }

    /// Adds the values of rows `group_of(row)`; rows that the filter leaves out have no group.
    fn add(
        &mut self,
        values: &[ArrayRef],
        group_of: impl Fn(usize) -> Option<usize>,
    ) -> Result<()> {
        match values {
            [registers, held] => {
                let registers = registers.as_primitive::<UInt16Type>();
                for (row, register) in registers.iter().enumerate() {
                    if let (Some(register), Some(seen), Some(group)) =
                        (register, V::at(held, row), group_of(row))
                    {
                        self.raise(group, register, seen);
                    }
                }
                Ok(())
            }
            [maps] => {
                let Some(maps) = maps.as_map_opt() else {
                    return exec_err!("a sketch is a map");
                };
                let keys = maps.keys().as_primitive::<UInt16Type>().values();
                for (row, window) in maps.value_offsets().windows(2).enumerate() {
                    let (&[start, end], Some(group)) = (window, group_of(row)) else {
                        continue;
                    };
                    let entries =
                        usize::try_from(start).unwrap_or(0)..usize::try_from(end).unwrap_or(0);
                    for entry in entries {
                        if let (Some(register), Some(seen)) =
                            (keys.get(entry), V::at(maps.values(), entry))
                        {
                            self.raise(group, *register, seen);
                        }
                    }
                }
                Ok(())
            }
            _ => exec_err!("a sketch takes a register and what it holds, or a map"),
        }
    }

    /// The sketches of `groups` as one array.
    fn array(groups: &[Sketch<V>]) -> Result<ArrayRef> {
        let lengths = groups.iter().map(Vec::len);
        let entries = || groups.iter().flatten();
        let registers: UInt16Array = entries().map(|(register, _)| *register).collect();
        let held = V::column(entries().map(|(_, held)| held));
        let columns: Vec<ArrayRef> = vec![Arc::new(registers), held];
        let entries = StructArray::try_new(entry_fields::<V>(), columns, None)?;
        let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
        Ok(Arc::new(MapArray::try_new(
            entries_field::<V>(),
            offsets,
            entries,
            None,
            false,
        )?))
    }
}

impl<V: Held> GroupsAccumulator for Sketches<V> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        groups: usize,
    ) -> Result<()> {
        self.groups.resize_with(groups, Sketch::new);
        let kept =
            |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        self.add(values, |row| {
            group_indices.get(row).copied().filter(|_| kept(row))
        })
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        groups: usize,
    ) -> Result<()> {
        GroupsAccumulator::update_batch(self, values, group_indices, None, groups)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        // Every row is a group of its own.
        let rows = values.first().map_or(0, Array::len);
        let alone: Vec<usize> = (0..rows).collect();
        let mut sketches = Self::default();
        GroupsAccumulator::update_batch(&mut sketches, values, &alone, filter, rows)?;
        GroupsAccumulator::state(&mut sketches, EmitTo::All)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let emitted = emit_to.take_needed(&mut self.groups);
        let entries = emitted.iter().flatten();
        let freed: usize = entries.map(|(_, held)| bytes(held)).sum();
        self.bytes = self.bytes.saturating_sub(freed);
        Self::array(&emitted)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![GroupsAccumulator::evaluate(self, emit_to)?])
    }

    fn size(&self) -> usize {
        self.groups.capacity() * size_of::<Sketch<V>>() + self.bytes
    }
}

impl<V: Held> Accumulator for Sketches<V> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(values, |_| Some(0))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.add(states, |_| Some(0))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let Some(map) = Self::array(&self.groups)?.as_map_opt().cloned() else {
            return exec_err!("a sketch is a map");
        };
        Ok(ScalarValue::Map(Arc::new(map)))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![Accumulator::evaluate(self)?])
    }

    fn size(&self) -> usize {
        GroupsAccumulator::size(self)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;
    use datafusion::catalog::MemTable;
    use datafusion::prelude::SessionContext;

    use crate::window::context;

    use super::*;

    /// A context with rows of (group, register, rank) in `t`.
    fn filled(rows: &[(&str, Option<u16>, u8)]) -> SessionContext {
        let groups: arrow::array::StringArray = rows.iter().map(|row| Some(row.0)).collect();
        let registers: UInt16Array = rows.iter().map(|row| row.1).collect();
        let ranks: UInt8Array = rows.iter().map(|row| Some(row.2)).collect();
        let batch = RecordBatch::try_from_iter([
            ("g", Arc::new(groups) as ArrayRef),
            ("register", Arc::new(registers) as ArrayRef),
            ("rank", Arc::new(ranks) as ArrayRef),
        ])
        .unwrap();
        let context = context();
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
        context.register_table("t", Arc::new(table)).unwrap();
        context
    }

    /// Runs a query over such rows; gives one line per group.
    async fn query(rows: &[(&str, Option<u16>, u8)], sql: &str) -> Vec<String> {
        let context = filled(rows);
        let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
        let mut lines = Vec::new();
        for batch in batches {
            let maps = batch.columns().last().unwrap().as_map().clone();
            for row in 0..maps.len() {
                let entries = maps.value(row);
                let registers = entries
                    .column(0)
                    .as_primitive::<UInt16Type>()
                    .values()
                    .to_vec();
                let ranks = entries
                    .column(1)
                    .as_primitive::<UInt8Type>()
                    .values()
                    .to_vec();
                lines.push(format!(
                    "{:?}",
                    registers.into_iter().zip(ranks).collect::<Vec<_>>()
                ));
            }
        }
        lines
    }

    const ROWS: &[(&str, Option<u16>, u8)] = &[
        ("a", Some(7), 1),
        ("b", Some(2), 2),
        ("a", Some(3), 5),
        ("a", Some(7), 4),
        ("a", None, 9),
        ("a", Some(7), 2),
        ("c", None, 1),
    ];

    #[tokio::test]
    async fn the_greatest_rank_of_each_register_is_kept() {
        let sql = "SELECT g, registers(register, rank) FROM t GROUP BY g ORDER BY g";
        assert_eq!(
            query(ROWS, sql).await,
            ["[(3, 5), (7, 4)]", "[(2, 2)]", "[]"]
        );
        let whole = "SELECT registers(register, rank) FROM t";
        assert_eq!(query(ROWS, whole).await, ["[(2, 2), (3, 5), (7, 4)]"]);
    }

    #[tokio::test]
    async fn merging_partial_sketches_is_sketching_everything() {
        let sql = "SELECT merge_registers(s) FROM (SELECT g, registers(register, rank) AS s FROM t GROUP BY g)";
        assert_eq!(query(ROWS, sql).await, ["[(2, 2), (3, 5), (7, 4)]"]);
        let grouped = "SELECT 1, merge_registers(s) FROM (SELECT g, registers(register, rank) AS s FROM t GROUP BY g) GROUP BY 1";
        assert_eq!(query(ROWS, grouped).await, ["[(2, 2), (3, 5), (7, 4)]"]);
    }

    #[tokio::test]
    async fn samples_keep_the_greatest_id_of_each_place_and_merge_alike() {
        let sql =
            "SELECT g, samples(register, arrow_cast(g || rank, 'Utf8View')) AS s FROM t GROUP BY g";
        let context = filled(ROWS);
        for (sql, expected) in [
            (
                format!("SELECT s FROM ({sql}) ORDER BY g"),
                vec!["{3: a5, 7: a4}", "{2: b2}", "{}"],
            ),
            (
                format!("SELECT merge_samples(s) FROM ({sql})"),
                vec!["{2: b2, 3: a5, 7: a4}"],
            ),
        ] {
            let batches = context.sql(&sql).await.unwrap().collect().await.unwrap();
            let shown = arrow::util::pretty::pretty_format_batches(&batches).unwrap();
            let shown = shown.to_string();
            let rows: Vec<&str> = shown
                .lines()
                .map(|line| line.trim_matches(['|', ' ']))
                .filter(|cell| cell.starts_with('{'))
                .collect();
            assert_eq!(rows, expected, "{sql}");
        }
    }
}
