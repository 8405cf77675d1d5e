//! The compiled form of an expression: everything resolved, nothing left to look up by name.
//!
//! One tree serves the row evaluator, the DataFusion filter and the lints. A test on a mapped operand (`[*]`) gives one
//! truth value per element; such a test stands only below [`Node::Any`] or [`Node::All`].

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use memchr::memmem;
use regex::bytes::Regex;

use super::fields::Field;
use super::functions::Call;
use super::lists::Set;
use super::types::{Scalar, Type, Value};
use super::wildcard::Wildcard;

/// A truth value, or one per element.
#[derive(Clone, Debug)]
pub enum Node {
    /// Always the same.
    Constant(bool),
    /// A comparison, or a Boolean field or call by itself.
    Test(Box<Test>),
    /// The opposite.
    Not(Box<Node>),
    /// All of them.
    And(Vec<Node>),
    /// An odd number of them.
    Xor(Vec<Node>),
    /// At least one of them.
    Or(Vec<Node>),
    /// Whether one element's truth value is true.
    Any(Box<Node>),
    /// Whether every element's truth value is true.
    All(Box<Node>),
}

/// A comparison.
#[derive(Clone, Debug)]
pub struct Test {
    /// What is compared.
    pub operand: Operand,
    /// By what.
    pub check: Check,
    /// Bytes of the expression that it was written in.
    pub span: Range<usize>,
}

/// What is compared, or given to a function.
#[derive(Clone, Debug)]
pub enum Operand {
    /// A literal.
    Literal(Value<'static>),
    /// A field.
    Field(Field),
    /// A member of a map.
    Member(Field, Box<str>),
    /// An element of an array, from 0.
    At(Box<Operand>, usize),
    /// Every element of an array, or every value of a map of single values.
    Each(Box<Operand>),
    /// Every element of every array in a map; or the one at this place of each.
    Spread(Field, Option<usize>),
    /// A function call.
    Call(Box<Call>),
    /// `is_jwt_valid` of the configuration at this index.
    TokenValid(usize),
    /// `is_jwt_present` of the configuration at this index.
    TokenPresent(usize),
}

/// Order of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `eq`
    Equal,
    /// `ne`
    NotEqual,
    /// `lt`
    Less,
    /// `le`
    LessOrEqual,
    /// `gt`
    Greater,
    /// `ge`
    GreaterOrEqual,
}

/// What a value is held against. A missing value passes none of them, `ne` included (feature map section 6.1).
#[derive(Clone, Debug)]
pub enum Check {
    /// The value is true.
    Truth,
    /// Order of numbers.
    Int(Order, i64),
    /// Order of bytes.
    Bytes(Order, Box<[u8]>),
    /// Equality of addresses.
    Ip(Order, IpAddr),
    /// The value has one of these bits.
    Bits(i64),
    /// The value has this part.
    Contains(Box<memmem::Finder<'static>>),
    /// A part of the value matches.
    Matches(Regex),
    /// All of the value matches.
    Wildcard(Box<Wildcard>),
    /// The value is one of these, which may be a list with this name.
    In(Arc<Set>, Option<Box<str>>),
}

impl Order {
    /// Whether `left` and `right` are in this order.
    #[must_use]
    pub fn holds<T: Ord + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

impl Check {
    /// Whether the value passes. A value of another type, which the type checker rules out, passes nothing.
    #[must_use]
    pub fn passes(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Self::Truth, Value::Bool(value)) => *value,
            (Self::Int(order, right), Value::Int(left)) => order.holds(left, right),
            (Self::Bits(bits), Value::Int(value)) => value & bits != 0,
            (Self::Bytes(order, right), Value::Bytes(left)) => {
                order.holds::<[u8]>(left.as_ref(), right)
            }
            (Self::Ip(order, right), Value::Ip(left)) => order.holds(left, right),
            (Self::Contains(finder), Value::Bytes(value)) => finder.find(value).is_some(),
            (Self::Matches(regex), Value::Bytes(value)) => regex.is_match(value),
            (Self::Wildcard(pattern), Value::Bytes(value)) => pattern.matches(value),
            (Self::In(set, _), value) => set.contains(value),
            _ => false,
        }
    }
}

impl Operand {
    /// Type of the value; of one element when the operand is mapped.
    #[must_use]
    pub fn kind(&self) -> Type {
        match self {
            Self::Literal(Value::Bool(_)) | Self::TokenValid(_) | Self::TokenPresent(_) => {
                Type::one(Scalar::Bool)
            }
            Self::Literal(Value::Int(_)) => Type::one(Scalar::Int),
            Self::Literal(Value::Bytes(_)) => Type::one(Scalar::Bytes),
            Self::Literal(Value::Ip(_)) => Type::one(Scalar::Ip),
            Self::Field(field) => field.kind(),
            Self::Member(field, _) => match field.kind().shape {
                super::types::Shape::MapOfArrays => Type::array(field.kind().of),
                _ => Type::one(field.kind().of),
            },
            Self::At(inner, _) | Self::Each(inner) => Type::one(inner.kind().of),
            Self::Spread(field, _) => Type::one(field.kind().of),
            Self::Call(call) => call.kind(),
        }
    }

    /// Whether it stands for several values, one per element.
    #[must_use]
    pub fn mapped(&self) -> bool {
        match self {
            Self::Each(_) | Self::Spread(..) => true,
            Self::At(inner, _) => inner.mapped(),
            // A call over a mapped argument gives an array, which is one value.
            _ => false,
        }
    }

    /// Calls `see` for this operand and every operand in it.
    pub fn walk<'n>(&'n self, see: &mut dyn FnMut(&'n Self)) {
        see(self);
        match self {
            Self::At(inner, _) | Self::Each(inner) => inner.walk(see),
            Self::Call(call) => {
                for argument in &call.arguments {
                    argument.walk(see);
                }
            }
            _ => {}
        }
    }
}

impl Node {
    /// Calls `see` for every test, and whether it stands below an odd number of negations.
    pub fn walk<'n>(&'n self, negated: bool, see: &mut dyn FnMut(&'n Test, bool)) {
        match self {
            Self::Constant(_) => {}
            Self::Test(test) => see(test, negated),
            Self::Not(inner) => inner.walk(!negated, see),
            Self::Any(inner) | Self::All(inner) => inner.walk(negated, see),
            Self::And(parts) | Self::Xor(parts) | Self::Or(parts) => {
                for part in parts {
                    part.walk(negated, see);
                }
            }
        }
    }
}
