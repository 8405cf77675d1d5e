//! HyperLogLog registers as SQL aggregates: `registers(register, rank)` builds a map register → rank, and
//! `merge_registers(map)` merges maps by the maximum of each register, exactly as ClickHouse's `maxMap` does, so that
//! both stores hold the same value. Estimating the count from the registers is the reader's business.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, MapArray, StructArray, UInt8Array, UInt16Array,
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

/// Fields of one entry of a sketch.
fn entry_fields() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::UInt16, false),
        Field::new("value", DataType::UInt8, false),
    ])
}

/// The entries of a sketch.
fn entries_field() -> FieldRef {
    Arc::new(Field::new(
        "entries",
        DataType::Struct(entry_fields()),
        false,
    ))
}

/// Arrow type of a sketch: `Map<UInt16, UInt8>`.
fn sketch_type() -> DataType {
    DataType::Map(entries_field(), false)
}

/// `registers(register UInt16, rank UInt8) -> Map<UInt16, UInt8>`; rows without a register count for nothing.
pub(super) fn registers() -> AggregateUDF {
    let arguments = TypeSignature::Exact(vec![DataType::UInt16, DataType::UInt8]);
    AggregateUDF::from(SketchFunction {
        name: "registers",
        signature: Signature::new(arguments, Volatility::Immutable),
    })
}

/// `merge_registers(Map<UInt16, UInt8>) -> Map<UInt16, UInt8>`.
pub(super) fn merge_registers() -> AggregateUDF {
    let arguments = TypeSignature::Exact(vec![sketch_type()]);
    AggregateUDF::from(SketchFunction {
        name: "merge_registers",
        signature: Signature::new(arguments, Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SketchFunction {
    name: &'static str,
    signature: Signature,
}

impl AggregateUDFImpl for SketchFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(sketch_type())
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let mut sketches = Sketches::default();
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
        Ok(Box::new(Sketches::default()))
    }

    fn state_fields(&self, arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(
            arguments.name,
            sketch_type(),
            true,
        ))])
    }
}

/// Registers with their ranks, by register. Most groups see few distinct values, so a sorted list is small and fast.
type Sketch = Vec<(u16, u8)>;

/// The sketches of all groups.
#[derive(Debug, Default)]
struct Sketches {
    groups: Vec<Sketch>,
    entries: usize,
}

impl Sketches {
    fn raise(&mut self, group: usize, register: u16, rank: u8) {
        let Some(sketch) = self.groups.get_mut(group) else {
            return;
        };
        match sketch.binary_search_by_key(&register, |(register, _)| *register) {
            Ok(at) => {
                if let Some((_, known)) = sketch.get_mut(at) {
                    *known = rank.max(*known);
                }
            }
            Err(at) => {
                sketch.insert(at, (register, rank));
                self.entries += 1;
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
            [registers, ranks] => {
                let registers = registers.as_primitive::<UInt16Type>();
                let ranks = ranks.as_primitive::<UInt8Type>();
                for (row, (register, rank)) in registers.iter().zip(ranks.iter()).enumerate() {
                    if let (Some(register), Some(rank), Some(group)) =
                        (register, rank, group_of(row))
                    {
                        self.raise(group, register, rank);
                    }
                }
                Ok(())
            }
            [maps] => {
                let Some(maps) = maps.as_map_opt() else {
                    return exec_err!("a sketch is a map");
                };
                let keys = maps.keys().as_primitive::<UInt16Type>().values();
                let ranks = maps.values().as_primitive::<UInt8Type>().values();
                for (row, window) in maps.value_offsets().windows(2).enumerate() {
                    let (&[start, end], Some(group)) = (window, group_of(row)) else {
                        continue;
                    };
                    let entries =
                        usize::try_from(start).unwrap_or(0)..usize::try_from(end).unwrap_or(0);
                    let entries = keys.get(entries.clone()).zip(ranks.get(entries));
                    for (register, rank) in entries
                        .into_iter()
                        .flat_map(|(keys, ranks)| keys.iter().zip(ranks))
                    {
                        self.raise(group, *register, *rank);
                    }
                }
                Ok(())
            }
            _ => exec_err!("a sketch takes a register and a rank, or a map"),
        }
    }

    /// The sketches of `groups` as one array.
    fn array(groups: &[Sketch]) -> Result<ArrayRef> {
        let lengths = groups.iter().map(Vec::len);
        let entries = || groups.iter().flatten();
        let registers: UInt16Array = entries().map(|(register, _)| *register).collect();
        let ranks: UInt8Array = entries().map(|(_, rank)| *rank).collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(registers), Arc::new(ranks)];
        let entries = StructArray::try_new(entry_fields(), columns, None)?;
        let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
        Ok(Arc::new(MapArray::try_new(
            entries_field(),
            offsets,
            entries,
            None,
            false,
        )?))
    }
}

impl GroupsAccumulator for Sketches {
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
        self.entries -= emitted.iter().map(Vec::len).sum::<usize>();
        Self::array(&emitted)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![GroupsAccumulator::evaluate(self, emit_to)?])
    }

    fn size(&self) -> usize {
        // Lists grow by doubling, so up to twice the entries.
        self.groups.capacity() * size_of::<Sketch>() + self.entries * 2 * size_of::<(u16, u8)>()
    }
}

impl Accumulator for Sketches {
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

    use crate::window::context;

    use super::*;

    /// Runs a query over rows of (group, register, rank); gives one line per group.
    async fn query(rows: &[(&str, Option<u16>, u8)], sql: &str) -> Vec<String> {
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
}
