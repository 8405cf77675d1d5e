//! Bytes → one record of a log, borrowed from the payload. Layer 1: no I/O.
//!
//! Recipe for a new log format: `decode/<name>.rs` with a function of type [`Adapter`], a line in
//! [`ADAPTERS`], and a golden case `tests/golden/adapter_<name>/` with real, anonymised lines.

mod gatewatch;
mod wire;

use std::borrow::Cow;

pub use gatewatch::decode as event_v1;

use crate::model::{Exchange, Reject, Response};

/// Turns one payload (a line without its line end, or one Kafka value) into a record.
pub type Adapter = for<'a> fn(&'a [u8], Limits) -> Result<Record<'a>, Reject>;

/// Every log format by its name in the pipeline file.
pub const ADAPTERS: &[(&str, Adapter)] = &[("gatewatch", event_v1)];

/// The adapter with this name.
#[must_use]
pub fn adapter(name: &str) -> Option<Adapter> {
    ADAPTERS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, adapter)| *adapter)
}

/// Most header fields in one message; as many as a gateway lets through is far fewer.
pub const MAX_HEADERS: usize = 256;

/// Most levels of objects and arrays in one event (design section 12).
pub const MAX_DEPTH: usize = 64;

/// Bounds that decoding applies (design section 12).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest payload, bytes.
    pub event: usize,
    /// Longest decoded body that is kept, bytes; a longer one counts as not captured.
    pub body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            event: 2 << 20,
            body: 256 << 10,
        }
    }
}

/// What one payload holds.
#[derive(Debug)]
pub struct Record<'a> {
    /// Which halves it carries.
    pub kind: Kind,
    /// The exchange; on [`Kind::Response`] only `id`, `at`, `zone` and `response` mean anything.
    pub exchange: Exchange<'a>,
}

/// Which halves a record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Both.
    Exchange,
    /// The request; the response comes, or came, in a record of its own.
    Request,
    /// The response.
    Response,
}

/// Puts a response half into the exchange of its request half: time, zone and client are the request's.
#[must_use]
pub fn join<'a>(request: Exchange<'a>, response: Option<Response<'a>>) -> Exchange<'a> {
    Exchange {
        response,
        ..request
    }
}

/// Host name for comparison: lower case, without port and without the dot of an absolute name.
#[must_use]
pub fn host_name(host: &str) -> Cow<'_, str> {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(host, |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, port)| {
            if port.bytes().all(|b| b.is_ascii_digit()) {
                name
            } else {
                host
            }
        }),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::host_name;

    #[test]
    fn host_names_lose_case_port_and_final_dot() {
        for (host, expected) in [
            ("api.shop.example", "api.shop.example"),
            ("API.Shop.Example:8443", "api.shop.example"),
            ("api.shop.example.", "api.shop.example"),
            ("[2001:DB8::1]:443", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("", ""),
        ] {
            assert_eq!(host_name(host), expected, "{host}");
        }
    }
}
