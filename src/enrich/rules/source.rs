//! Where the values of fields come from: the facts of an exchange, or a row of stored evidence.

use crate::policy::rules::fields::Field;
use crate::policy::rules::types::Value;

/// What is known of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact<T> {
    /// It is this.
    Known(T),
    /// Of several values, more may exist than were seen.
    Partly(T),
    /// There is none.
    Missing,
    /// The log would not have shown it.
    NotCaptured,
}

impl<T> Fact<T> {
    /// The value, or [`Fact::Missing`].
    pub(super) fn or_missing(value: Option<T>) -> Self {
        value.map_or(Self::Missing, Self::Known)
    }

    /// The value, or [`Fact::NotCaptured`].
    pub(super) fn or_not_captured(value: Option<T>) -> Self {
        value.map_or(Self::NotCaptured, Self::Known)
    }

    /// The same, borrowed.
    pub(super) fn as_ref(&self) -> Fact<&T> {
        match self {
            Self::Known(value) => Fact::Known(value),
            Self::Partly(value) => Fact::Partly(value),
            Self::Missing => Fact::Missing,
            Self::NotCaptured => Fact::NotCaptured,
        }
    }

    /// The same with another value.
    pub(super) fn map<U>(self, with: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Self::Known(value) => Fact::Known(with(value)),
            Self::Partly(value) => Fact::Partly(with(value)),
            Self::Missing => Fact::Missing,
            Self::NotCaptured => Fact::NotCaptured,
        }
    }
}

/// Called for one value after another; `false` = no more are wanted.
pub type See<'c, 'a> = &'c mut dyn FnMut(Value<'a>) -> bool;

/// Gives the values of fields. A type that the field does not have is never asked for.
pub trait Source {
    /// The value of a field that holds one.
    fn value(&self, field: Field) -> Fact<Value<'_>>;

    /// The elements of an array field, the values under `key` of a map, or without a key all values of a map of single
    /// values. After an early stop the answer is [`Fact::Known`].
    fn each<'a>(&'a self, field: Field, key: Option<&str>, see: See<'_, 'a>) -> Fact<()>;

    /// Every value of a map of arrays, with its place in its array. After an early stop the answer is [`Fact::Known`].
    fn spread<'a>(
        &'a self,
        field: Field,
        see: &mut dyn FnMut(usize, Value<'a>) -> bool,
    ) -> Fact<()>;

    /// Whether the token of the configuration at `index` is valid.
    fn token_valid(&self, index: usize) -> Fact<bool>;

    /// Whether there is a token for the configuration at `index`.
    fn token_present(&self, index: usize) -> Fact<bool>;
}
