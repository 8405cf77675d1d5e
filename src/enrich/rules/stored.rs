//! A row of stored evidence as the source of field values.
//!
//! Enters: columns of the fields that an expression reads. Leaves: the same values that the exchange's facts had, with
//! null as missing.

use std::net::IpAddr;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, MapArray, StringArray,
};
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;

use super::source::{Fact, See, Source};
use crate::enrich::evidence;
use crate::policy::rules::fields::Field;
use crate::policy::rules::types::{Scalar, Shape, Value};

/// Columns of one batch, ready to be read.
#[derive(Debug)]
pub(super) struct Columns<'a> {
    columns: Vec<(Field, Column<'a>)>,
    /// Ids of the token configurations by index.
    ids: &'a [String],
}

/// A column by its type.
#[derive(Debug)]
enum Column<'a> {
    Bool(&'a BooleanArray),
    Int(&'a Int64Array),
    Text(&'a StringArray),
    Ip(&'a StringArray),
    List(&'a ListArray),
    Map(&'a MapArray),
}

impl<'a> Columns<'a> {
    /// The columns of these fields.
    ///
    /// # Errors
    /// A column of another type than [`evidence::schema`] has.
    pub(super) fn new(
        fields: &[Field],
        arrays: &'a [ArrayRef],
        ids: &'a [String],
    ) -> Result<Self, ArrowError> {
        let column = |(field, array): (&Field, &'a ArrayRef)| {
            let kind = field.kind();
            let column = match (kind.shape, kind.of) {
                (Shape::One, Scalar::Bool) => array.as_boolean_opt().map(Column::Bool),
                (Shape::One, Scalar::Int) => array.as_primitive_opt::<Int64Type>().map(Column::Int),
                (Shape::One, Scalar::Bytes) => array.as_string_opt().map(Column::Text),
                (Shape::One, Scalar::Ip) => array.as_string_opt().map(Column::Ip),
                (Shape::Array, _) => array.as_list_opt().map(Column::List),
                (Shape::Map | Shape::MapOfArrays, _) => array.as_map_opt().map(Column::Map),
            };
            let column = column.ok_or_else(|| {
                let name = evidence::column_name(*field);
                ArrowError::SchemaError(format!("column {name} is of type {}", array.data_type()))
            })?;
            Ok((*field, column))
        };
        Ok(Self {
            columns: fields
                .iter()
                .zip(arrays)
                .map(column)
                .collect::<Result<_, ArrowError>>()?,
            ids,
        })
    }

    /// One row.
    pub(super) fn row(&self, at: usize) -> Row<'_> {
        Row { columns: self, at }
    }
}

/// One row of evidence.
#[derive(Debug)]
pub(super) struct Row<'a> {
    columns: &'a Columns<'a>,
    at: usize,
}

/// A value of an array that is text or a number.
fn element(array: &dyn Array, at: usize) -> Option<Value<'_>> {
    if array.is_null(at) {
        return None;
    }
    if let Some(texts) = array.as_string_opt::<i32>() {
        return Some(Value::text(texts.value(at)));
    }
    let numbers = array.as_primitive_opt::<Int64Type>()?;
    Some(Value::Int(numbers.value(at)))
}

/// Rows of the values that belong to one row of a list or map.
fn range(offsets: &[i32], at: usize) -> std::ops::Range<usize> {
    let place = |at: usize| {
        offsets
            .get(at)
            .and_then(|place| usize::try_from(*place).ok())
    };
    place(at).unwrap_or(0)..place(at + 1).unwrap_or(0)
}

impl<'a> Row<'a> {
    fn column(&self, field: Field) -> Option<&'a Column<'a>> {
        let mut columns = self.columns.columns.iter();
        columns
            .find(|(known, _)| *known == field)
            .map(|(_, column)| column)
    }

    fn outcome(&self, index: usize) -> Option<String> {
        let id = self.columns.ids.get(index)?;
        let mut outcome = None;
        self.each(Field::TokenOutcomes, Some(id), &mut |value| {
            outcome = value
                .bytes()
                .map(|text| String::from_utf8_lossy(text).into_owned());
            false
        });
        outcome
    }

    /// The entries of a map; `None` when it is missing.
    fn entries(
        &self,
        field: Field,
    ) -> Option<(&'a StringArray, &'a ArrayRef, std::ops::Range<usize>)> {
        let Some(Column::Map(map)) = self.column(field) else {
            return None;
        };
        if map.is_null(self.at) {
            return None;
        }
        Some((
            map.keys().as_string_opt::<i32>()?,
            map.values(),
            range(map.value_offsets(), self.at),
        ))
    }
}

/// Shows a map's value: all elements when it is a list. `false` = no more are wanted.
fn show<'a>(
    values: &'a ArrayRef,
    at: usize,
    see: &mut dyn FnMut(usize, Value<'a>) -> bool,
) -> bool {
    let Some(lists) = values.as_list_opt::<i32>() else {
        return element(values, at).is_none_or(|value| see(0, value));
    };
    let items = range(lists.value_offsets(), at).filter_map(|at| element(lists.values(), at));
    items.enumerate().all(|(place, value)| see(place, value))
}

impl Source for Row<'_> {
    fn value(&self, field: Field) -> Fact<Value<'_>> {
        let at = self.at;
        let value = self.column(field).and_then(|column| match column {
            Column::Bool(array) => array.is_valid(at).then(|| Value::Bool(array.value(at))),
            Column::Int(array) => array.is_valid(at).then(|| Value::Int(array.value(at))),
            Column::Text(array) => array.is_valid(at).then(|| Value::text(array.value(at))),
            Column::Ip(array) if array.is_valid(at) => {
                array.value(at).parse::<IpAddr>().ok().map(Value::Ip)
            }
            _ => None,
        });
        Fact::or_missing(value)
    }

    fn each<'s>(&'s self, field: Field, key: Option<&str>, see: See<'_, 's>) -> Fact<()> {
        if let Some(Column::List(list)) = self.column(field) {
            if list.is_null(self.at) {
                return Fact::Missing;
            }
            let items = range(list.value_offsets(), self.at);
            let _stopped = items
                .filter_map(|at| element(list.values(), at))
                .all(&mut *see);
            return Fact::Known(());
        }
        let Some((keys, values, range)) = self.entries(field) else {
            return Fact::Missing;
        };
        let mut found = false;
        for at in range {
            if key.is_none_or(|key| key == keys.value(at)) {
                found = true;
                if !show(values, at, &mut |_, value| see(value)) {
                    break;
                }
            }
        }
        Fact::or_missing(found.then_some(()))
    }

    fn spread<'s>(
        &'s self,
        field: Field,
        see: &mut dyn FnMut(usize, Value<'s>) -> bool,
    ) -> Fact<()> {
        let Some((_, values, mut range)) = self.entries(field) else {
            return Fact::Missing;
        };
        let _stopped = range.all(|at| show(values, at, see));
        Fact::Known(())
    }

    fn token_valid(&self, index: usize) -> Fact<bool> {
        let outcome = self.outcome(index);
        Fact::or_missing(outcome.map(|outcome| outcome == "valid"))
    }

    fn token_present(&self, index: usize) -> Fact<bool> {
        let outcome = self.outcome(index);
        let present = |outcome: String| !matches!(outcome.as_str(), "missing" | "not_captured");
        Fact::or_missing(outcome.map(present))
    }
}
