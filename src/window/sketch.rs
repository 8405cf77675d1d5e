//! HyperLogLog registers as SQL aggregates: `registers(register, rank)` builds a map register → rank, and
//! `merge_registers(map)` merges maps by the maximum of each register, exactly as ClickHouse's `maxMap` does, so that
//! both stores hold the same value. Estimating the count from the registers is the reader's business.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, MapArray, MapBuilder, MapFieldNames, UInt8Builder, UInt16Builder,
};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, UInt8Type, UInt16Type};
use datafusion::common::{ScalarValue, exec_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Signature, TypeSignature, Volatility,
};

/// Arrow type of a sketch: `Map<UInt16, UInt8>`.
pub(super) fn sketch_type() -> DataType {
    let entries = Fields::from(vec![
        Field::new("key", DataType::UInt16, false),
        Field::new("value", DataType::UInt8, false),
    ]);
    DataType::Map(
        Arc::new(Field::new("entries", DataType::Struct(entries), false)),
        false,
    )
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
        Ok(Box::new(Registers::default()))
    }

    fn state_fields(&self, arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(
            arguments.name,
            sketch_type(),
            true,
        ))])
    }
}

/// The registers of one group. Sparse: most groups see few distinct values.
#[derive(Debug, Default)]
struct Registers {
    ranks: BTreeMap<u16, u8>,
}

impl Registers {
    fn raise(&mut self, register: u16, rank: u8) {
        let known = self.ranks.entry(register).or_default();
        *known = rank.max(*known);
    }

    fn merge(&mut self, maps: &MapArray) {
        for row in (0..maps.len()).filter(|row| maps.is_valid(*row)) {
            let entries = maps.value(row);
            let [registers, ranks] = entries.columns() else {
                continue;
            };
            let registers = registers.as_primitive::<UInt16Type>().values();
            let ranks = ranks.as_primitive::<UInt8Type>().values();
            for (register, rank) in registers.iter().zip(ranks) {
                self.raise(*register, *rank);
            }
        }
    }

    fn to_scalar(&self) -> Result<ScalarValue> {
        let names = MapFieldNames {
            entry: "entries".to_owned(),
            key: "key".to_owned(),
            value: "value".to_owned(),
        };
        let mut map = MapBuilder::new(Some(names), UInt16Builder::new(), UInt8Builder::new())
            .with_values_field(Field::new("value", DataType::UInt8, false));
        for (register, rank) in &self.ranks {
            map.keys().append_value(*register);
            map.values().append_value(*rank);
        }
        map.append(true)?;
        Ok(ScalarValue::Map(Arc::new(map.finish())))
    }
}

impl Accumulator for Registers {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match values {
            [registers, ranks] => {
                let registers = registers.as_primitive::<UInt16Type>();
                let ranks = ranks.as_primitive::<UInt8Type>();
                for (register, rank) in registers.iter().zip(ranks.iter()) {
                    if let (Some(register), Some(rank)) = (register, rank) {
                        self.raise(register, rank);
                    }
                }
                Ok(())
            }
            maps => self.merge_batch(maps),
        }
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [maps] = states else {
            return exec_err!("a sketch has one state column");
        };
        let Some(maps) = maps.as_map_opt() else {
            return exec_err!("a sketch is a map");
        };
        self.merge(maps);
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.to_scalar()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.to_scalar()?])
    }

    fn size(&self) -> usize {
        // A B-tree node keeps about as much again as its entries.
        size_of_val(self) + self.ranks.len() * 2 * size_of::<(u16, u8)>()
    }
}
