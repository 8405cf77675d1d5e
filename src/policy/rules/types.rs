//! Types and values of the language.
//!
//! A type is a scalar in a shape; nothing in the field tables is nested deeper than a map of arrays.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

/// Type of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// True or false.
    Bool,
    /// 64 bits with a sign.
    Int,
    /// Bytes, usually text.
    Bytes,
    /// An address of either family.
    Ip,
}

/// How values are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// One value.
    One,
    /// A list.
    Array,
    /// Values by name.
    Map,
    /// Lists by name.
    MapOfArrays,
}

/// Type of a field, call or literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    /// How values are put together.
    pub shape: Shape,
    /// Of what.
    pub of: Scalar,
}

impl Type {
    /// One value.
    #[must_use]
    pub const fn one(of: Scalar) -> Self {
        Self {
            shape: Shape::One,
            of,
        }
    }

    /// A list of values.
    #[must_use]
    pub const fn array(of: Scalar) -> Self {
        Self {
            shape: Shape::Array,
            of,
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "Boolean",
            Self::Int => "Integer",
            Self::Bytes => "String",
            Self::Ip => "IP address",
        })
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shape {
            Shape::One => write!(f, "{}", self.of),
            Shape::Array => write!(f, "Array<{}>", self.of),
            Shape::Map => write!(f, "Map<{}>", self.of),
            Shape::MapOfArrays => write!(f, "Map<Array<{}>>", self.of),
        }
    }
}

/// One value, borrowed from the event where possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// True or false.
    Bool(bool),
    /// 64 bits with a sign.
    Int(i64),
    /// Bytes, usually text.
    Bytes(Cow<'a, [u8]>),
    /// An address of either family.
    Ip(IpAddr),
}

impl<'a> Value<'a> {
    /// A text.
    #[must_use]
    pub fn text(text: &'a str) -> Self {
        Self::Bytes(Cow::Borrowed(text.as_bytes()))
    }

    /// The same value, borrowed from this one.
    #[must_use]
    pub fn borrowed(&self) -> Value<'_> {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Bytes(value) => Value::Bytes(Cow::Borrowed(value)),
            Self::Ip(value) => Value::Ip(*value),
        }
    }

    /// The bytes of a text.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl From<Scalar> for Type {
    fn from(of: Scalar) -> Self {
        Self::one(of)
    }
}
