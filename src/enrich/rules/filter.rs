//! An expression as a DataFusion filter over stored evidence.
//!
//! Enters: a compiled expression and its zone. Leaves: an [`Expr`] over the columns of `enrich::evidence`, or the field
//! that is not stored. Comparisons that mean the same in DataFusion are written in its own terms, so that they are pushed
//! down and prune files; the others are a function that runs the row evaluator on the columns they need.
//!
//! A missing value is null, and a comparison with null is null, which a filter takes for false. Only below `not` and
//! `xor` null and false differ, so only there a test for truth is put in.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, binary_expr, lit,
};

use super::evaluate::node_holds;
use super::source::{Fact, See, Source};
use super::stored::Columns;
use crate::enrich::evidence::{column_name, has_column, schema};
use crate::policy::Zone;
use crate::policy::rules::Expression;
use crate::policy::rules::ast::{Check, Node, Operand, Order, Test};
use crate::policy::rules::fields::{Field, STORED_HEADERS, Stored};
use crate::policy::rules::functions::Function;
use crate::policy::rules::lists::Set;
use crate::policy::rules::types::Value;

/// Most ranges of numbers that are written out as comparisons.
const MAX_RANGES: usize = 16;

/// Why an expression cannot be asked of stored evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is not in stored evidence: {reason}")]
pub struct NotStored {
    /// The field, with its key when only some are stored.
    pub field: String,
    /// Why.
    pub reason: &'static str,
}

/// Compiles an expression to a filter. Rows for which it is true are those for which the row evaluator says so.
///
/// # Errors
/// The first field that is not stored.
pub fn filter(expression: &Expression, zone: &Zone) -> std::result::Result<Expr, NotStored> {
    let mut refused = None;
    expression.root().walk(false, &mut |test, _| {
        if refused.is_none() {
            refused = not_stored(&test.operand);
        }
    });
    if let Some(refused) = refused {
        return Err(refused);
    }
    let configurations = zone.tokens.configurations.iter();
    let translation = Translation {
        text: expression.text(),
        ids: configurations.map(|known| known.id.clone()).collect(),
    };
    Ok(translation.node(expression.root()))
}

/// Whether an operand reads something that is not stored.
fn not_stored(operand: &Operand) -> Option<NotStored> {
    let some_headers = |field: Field, key: Option<&str>| {
        let known = key.is_some_and(|key| STORED_HEADERS.contains(&key));
        (!known).then(|| NotStored {
            field: key.map_or(field.name().to_owned(), |key| {
                format!("{}[{key:?}]", field.name())
            }),
            reason: "header fields that may hold a credential are not stored",
        })
    };
    let (field, key) = match operand {
        Operand::Field(field) | Operand::Spread(field, _) => (*field, None),
        Operand::Member(field, key) => (*field, Some(key.as_ref())),
        Operand::Call(call) => {
            // `has_key` asks for one key of the map that is its argument.
            return match (&call.function, call.arguments.first()) {
                (Function::HasKey(key), Some(Operand::Field(field)))
                    if field.definition().stored == Stored::SomeHeaders =>
                {
                    some_headers(*field, Some(key))
                }
                _ => call.arguments.iter().find_map(not_stored),
            };
        }
        Operand::At(inner, _) | Operand::Each(inner) => return not_stored(inner),
        _ => return None,
    };
    let reason = match field.definition().stored {
        Stored::Column => return None,
        Stored::SomeHeaders => return some_headers(field, key),
        Stored::Secret => "it may hold a credential, a session value or a body",
        Stored::Derived => "it follows from fields that are",
    };
    Some(NotStored {
        field: field.name().to_owned(),
        reason,
    })
}

struct Translation<'e> {
    text: &'e str,
    ids: Arc<[String]>,
}

/// The column of a field.
fn column(field: Field) -> Expr {
    Expr::Column(Column::from_name(column_name(field)))
}

impl Translation<'_> {
    /// True exactly where the node is; elsewhere false or null.
    fn node(&self, node: &Node) -> Expr {
        let chain = |parts: &[Node], join: fn(Expr, Expr) -> Expr, empty: bool| {
            let parts = parts.iter().map(|part| self.node(part));
            parts.reduce(join).unwrap_or_else(|| lit(empty))
        };
        match node {
            Node::Constant(value) => lit(*value),
            Node::And(parts) => chain(parts, Expr::and, true),
            Node::Or(parts) => chain(parts, Expr::or, false),
            Node::Xor(parts) => chain(
                parts,
                |left, right| left.is_true().not_eq(right.is_true()),
                false,
            ),
            Node::Not(inner) => self.node(inner).is_not_true(),
            Node::Test(test) => native(test).unwrap_or_else(|| self.called(node)),
            Node::Any(_) | Node::All(_) => self.called(node),
        }
    }

    /// The row evaluator on the columns that a node reads.
    fn called(&self, node: &Node) -> Expr {
        let mut fields = Vec::new();
        node.walk(false, &mut |test, _| {
            test.operand.walk(&mut |operand| match operand {
                Operand::Field(field) | Operand::Member(field, _) | Operand::Spread(field, _) => {
                    fields.push(*field);
                }
                Operand::TokenValid(_) | Operand::TokenPresent(_) => {
                    fields.push(Field::TokenOutcomes);
                }
                _ => {}
            });
        });
        fields.sort_unstable();
        fields.dedup();
        if fields.is_empty() {
            return lit(node_holds(node, &Nothing));
        }
        let arguments = fields.iter().map(|field| column(*field)).collect();
        let function = RowFunction {
            name: format!("rule {:?} {:?}", self.text, std::ptr::from_ref(node)),
            signature: Signature::exact(
                fields.iter().map(|field| data_type(*field)).collect(),
                Volatility::Immutable,
            ),
            node: Arc::new(node.clone()),
            fields,
            ids: Arc::clone(&self.ids),
        };
        let function = Arc::new(ScalarUDF::new_from_impl(function));
        Expr::ScalarFunction(ScalarFunction::new_udf(function, arguments))
    }
}

/// Type of the column of a field.
fn data_type(field: Field) -> DataType {
    let name = column_name(field);
    schema()
        .field_with_name(&name)
        .map_or(DataType::Null, |column| column.data_type().clone())
}

/// A comparison in DataFusion's own terms, where they mean the same.
fn native(comparison: &Test) -> Option<Expr> {
    let field = match &comparison.operand {
        Operand::Field(field) if has_column(*field) => *field,
        Operand::Call(call) if matches!(comparison.check, Check::Truth) => {
            let [Operand::Field(field), Operand::Literal(Value::Bytes(text))] =
                call.arguments.as_slice()
            else {
                return None;
            };
            let text = plain(text)?;
            let pattern = match call.function {
                Function::StartsWith => format!("{text}%"),
                Function::EndsWith => format!("%{text}"),
                _ => return None,
            };
            return Some(column(*field).like(lit(pattern)));
        }
        _ => return None,
    };
    let value = column(field);
    Some(match &comparison.check {
        Check::Truth => value,
        Check::Int(order, number) => binary_expr(value, operator(*order), lit(*number)),
        Check::Bits(bits) => {
            binary_expr(value, Operator::BitwiseAnd, lit(*bits)).not_eq(lit(0_i64))
        }
        Check::Bytes(order, text) => {
            let text = std::str::from_utf8(text).ok()?;
            binary_expr(value, operator(*order), lit(text))
        }
        Check::Ip(order, ip) => binary_expr(value, operator(*order), lit(ip.to_string())),
        Check::Contains(finder) => {
            let text = plain(finder.needle())?;
            value.like(lit(format!("%{text}%")))
        }
        Check::In(set, _) => match set.as_ref() {
            Set::Ints(ranges) if ranges.len() <= MAX_RANGES => {
                let within =
                    |(first, last): &(i64, i64)| value.clone().between(lit(*first), lit(*last));
                ranges
                    .iter()
                    .map(within)
                    .reduce(Expr::or)
                    .unwrap_or_else(|| lit(false))
            }
            Set::Texts(texts) => {
                let texts = texts
                    .iter()
                    .map(|text| std::str::from_utf8(text).ok().map(lit));
                value.in_list(texts.collect::<Option<Vec<_>>>()?, false)
            }
            _ => return None,
        },
        Check::Matches(_) | Check::Wildcard(_) => return None,
    })
}

/// A text that means itself in a pattern of `LIKE`.
fn plain(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    (!text.contains(['%', '_', '\\'])).then_some(text)
}

fn operator(order: Order) -> Operator {
    match order {
        Order::Equal => Operator::Eq,
        Order::NotEqual => Operator::NotEq,
        Order::Less => Operator::Lt,
        Order::LessOrEqual => Operator::LtEq,
        Order::Greater => Operator::Gt,
        Order::GreaterOrEqual => Operator::GtEq,
    }
}

/// A node of an expression as a function over columns.
#[derive(Debug)]
struct RowFunction {
    name: String,
    signature: Signature,
    node: Arc<Node>,
    fields: Vec<Field>,
    ids: Arc<[String]>,
}

/// Two functions are the same only when they are one: nodes cannot be compared.
impl PartialEq for RowFunction {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.node, &other.node)
    }
}

impl Eq for RowFunction {}

impl Hash for RowFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.node).hash(state);
    }
}

impl ScalarUDFImpl for RowFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let columns = Columns::new(&self.fields, &arrays, &self.ids)?;
        let rows = arrays.first().map_or(args.number_rows, |array| array.len());
        let values: BooleanArray = (0..rows)
            .map(|at| Some(node_holds(&self.node, &columns.row(at))))
            .collect();
        Ok(ColumnarValue::Array(Arc::new(values)))
    }
}

/// The source for what reads no field.
struct Nothing;

impl Source for Nothing {
    fn value(&self, _: Field) -> Fact<Value<'_>> {
        Fact::Missing
    }

    fn each<'a>(&'a self, _: Field, _: Option<&str>, _: See<'_, 'a>) -> Fact<()> {
        Fact::Missing
    }

    fn spread<'a>(&'a self, _: Field, _: &mut dyn FnMut(usize, Value<'a>) -> bool) -> Fact<()> {
        Fact::Missing
    }

    fn token_valid(&self, _: usize) -> Fact<bool> {
        Fact::Missing
    }

    fn token_present(&self, _: usize) -> Fact<bool> {
        Fact::Missing
    }
}

#[cfg(test)]
mod tests;
