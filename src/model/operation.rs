//! Operations: method + host + path template, and their ids.

use std::fmt;

use uuid::Uuid;

/// Endpoint and host name of what exceeded a cap (design section 4).
pub const OVERFLOW: &str = "{overflow}";

/// The nine standard methods (RFC 9110 section 9.3, RFC 5789) and everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the methods")]
pub enum Method {
    Get,
    Post,
    Head,
    Options,
    Put,
    Delete,
    Connect,
    Patch,
    Trace,
    Other,
}

impl Method {
    /// Every method, `Other` last.
    pub const ALL: [Self; 10] = [
        Self::Get,
        Self::Post,
        Self::Head,
        Self::Options,
        Self::Put,
        Self::Delete,
        Self::Connect,
        Self::Patch,
        Self::Trace,
        Self::Other,
    ];

    /// Method from its name; names are case-sensitive, unknown ones are `Other`.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "POST" => Self::Post,
            "HEAD" => Self::Head,
            "OPTIONS" => Self::Options,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "CONNECT" => Self::Connect,
            "PATCH" => Self::Patch,
            "TRACE" => Self::Trace,
            _ => Self::Other,
        }
    }

    /// The name as stored and reported.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Patch => "PATCH",
            Self::Trace => "TRACE",
            Self::Other => "OTHER",
        }
    }
}

/// Where an operation is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationSource {
    /// An uploaded schema.
    Schema,
    /// Saved without a schema.
    Saved,
    /// Learned from traffic.
    Learned,
}

impl OperationSource {
    /// The name as reported.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::Saved => "saved",
            Self::Learned => "learned",
        }
    }
}

/// What makes two requests the same operation. `endpoint` is the canonical template (`{var1}`, `{var2}` … left to right).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperationKey {
    /// Zone id.
    pub zone: String,
    /// Literal host, lower case.
    pub host: String,
    /// Method name.
    pub method: String,
    /// Canonical path template.
    pub endpoint: String,
}

impl OperationKey {
    /// The id: UUIDv5 in the URL namespace over the tuple, so the same tuple always has the same id.
    #[must_use]
    pub fn id(&self) -> OperationId {
        let name = format!(
            "gatewatch:{}\n{}\n{}\n{}",
            self.zone, self.method, self.host, self.endpoint
        );
        OperationId(Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()))
    }
}

/// Deterministic id of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperationId(Uuid);

impl OperationId {
    /// The id of this text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
