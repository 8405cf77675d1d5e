//! Where things stand: positions in a source, rejected records, problems in a configuration.

use std::fmt;

/// Where a record stood: file (or topic), partition and offset in bytes of the decompressed stream (or Kafka offset).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// File name or topic.
    pub source: String,
    /// Partition; 0 for files.
    pub partition: i32,
    /// Byte offset of the line, or Kafka offset.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.source, self.partition, self.offset)
    }
}

/// Why a record was refused. The record goes to the dead letter, the flow goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reject {
    /// Not one JSON object of the event format.
    Malformed,
    /// Longer than `limits.event`.
    TooLarge,
    /// Nested more than 64 levels deep.
    TooDeep,
    /// More than 256 header fields in one message.
    TooManyHeaders,
    /// `kind` is none of exchange, request, response.
    UnknownKind,
    /// A request or response without `id`.
    MissingId,
    /// An exchange or request without `request`, or a response without `response`.
    MissingPart,
    /// `time` is not RFC 3339 or epoch milliseconds, or lies outside 1970–2100.
    InvalidTime,
    /// `time` is more than `limits.future` ahead of the record's own timestamp.
    TimeInFuture,
    /// `zone` names no configured zone.
    UnknownZone,
    /// `body` is not what `body_encoding` says.
    InvalidBody,
    /// The status code is outside 100–599.
    InvalidStatus,
}

impl Reject {
    /// The name in dead letters, `explain` and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::TooManyHeaders => "too_many_headers",
            Self::UnknownKind => "unknown_kind",
            Self::MissingId => "missing_id",
            Self::MissingPart => "missing_part",
            Self::InvalidTime => "invalid_time",
            Self::TimeInFuture => "time_in_future",
            Self::UnknownZone => "unknown_zone",
            Self::InvalidBody => "invalid_body",
            Self::InvalidStatus => "invalid_status",
        }
    }
}

/// One thing that is wrong in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: a path in the pipeline file (`zones[0].schemas[1].path`) or a file with a pointer or line.
    pub place: String,
    /// What is wrong: a lower-case fact without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n    hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Collects every problem instead of stopping at the first.
#[derive(Clone, Debug, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Notes a problem.
    pub fn add(&mut self, place: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem {
            place: place.into(),
            message: message.into(),
            hint: None,
        });
    }

    /// Notes a problem with a hint.
    pub fn hint(
        &mut self,
        place: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.0.push(Problem {
            place: place.into(),
            message: message.into(),
            hint: Some(hint.into()),
        });
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
