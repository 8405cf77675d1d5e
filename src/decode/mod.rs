//! Bytes → one record of a log, borrowed from the payload. Layer 1: no I/O.
//!
//! Recipe for a new log format: `decode/<name>.rs` with a function of type [`Decode`], a line in
//! [`ADAPTERS`], and a golden case `tests/golden/adapter_<name>/` with real, anonymised lines.

mod cloudflare;
mod draft;
mod envoy;
mod gatewatch;
mod haproxy;
mod line;
mod nginx;
mod wire;

use std::borrow::Cow;
use std::sync::Arc;

pub use gatewatch::decode as event_v1;

use crate::model::{Captured, Exchange, Headers, Reject, Response};

/// Turns one payload (a line without its line end, or one Kafka value) into a record.
pub type Decode = for<'a> fn(&'a [u8], Limits) -> Result<Record<'a>, Reject>;

/// Every log format by its name in the pipeline file.
pub const ADAPTERS: &[(&str, Decode)] = &[
    ("gatewatch", event_v1),
    ("nginx-json", nginx::decode),
    ("envoy-json", envoy::decode),
    ("haproxy", haproxy::decode),
    ("cloudflare-logpush", cloudflare::decode),
];

/// The format with this name.
#[must_use]
pub fn format(name: &str) -> Option<Decode> {
    ADAPTERS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, decode)| *decode)
}

/// How a source's log is read: its format, and what the operator knows about it. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Adapter {
    decode: Decode,
    shown: Option<Arc<Shown>>,
}

/// What a log would show besides what its lines say: headers that the gateway was told to log, whether or not they were
/// sent. A single cookie is named with [`crate::model::COOKIE`] in front.
#[derive(Debug)]
pub struct Shown {
    /// Of requests.
    pub request: Arc<[String]>,
    /// Of responses.
    pub response: Arc<[String]>,
}

impl Adapter {
    /// A format whose lines say themselves what they would show.
    #[must_use]
    pub fn new(decode: Decode) -> Self {
        Self {
            decode,
            shown: None,
        }
    }

    /// The same format, with more that its lines would show.
    #[must_use]
    pub fn with_shown(self, shown: Shown) -> Self {
        Self {
            shown: Some(Arc::new(shown)),
            ..self
        }
    }

    /// Decodes one payload.
    ///
    /// # Errors
    /// The reason why the record is refused.
    pub fn decode<'a>(&self, payload: &'a [u8], limits: Limits) -> Result<Record<'a>, Reject> {
        let mut record = (self.decode)(payload, limits)?;
        if let Some(shown) = &self.shown {
            let exchange = &mut record.exchange;
            state(&mut exchange.request.headers, &shown.request);
            if let Some(response) = &mut exchange.response {
                state(&mut response.headers, &shown.response);
            }
        }
        Ok(record)
    }
}

fn state(headers: &mut Headers<'_>, stated: &Arc<[String]>) {
    let names = match std::mem::take(&mut headers.captured) {
        Captured::Names(names) => names,
        Captured::Nothing => Vec::new(),
        complete => {
            headers.captured = complete;
            return;
        }
    };
    headers.captured = Captured::Stated(names, Arc::clone(stated));
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

/// Whether objects and arrays are nested more than [`MAX_DEPTH`] levels. Counting brackets first settles it for nearly
/// every event; bodies are strings, and their own depth is judged where they are parsed.
fn too_deep(payload: &[u8]) -> bool {
    let opening = payload.iter().filter(|byte| matches!(byte, b'{' | b'['));
    if opening.count() <= MAX_DEPTH {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in payload {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// Gateways that log the request target put the query into the path; a path itself has no `?` (RFC 3986 section 3.3).
fn split_query<'a>(
    path: Cow<'a, str>,
    query: Option<Cow<'a, str>>,
) -> (Cow<'a, str>, Option<Cow<'a, str>>) {
    let Some(at) = memchr::memchr(b'?', path.as_bytes()) else {
        return (path, query);
    };
    let (front, back) = match &path {
        Cow::Borrowed(path) => {
            let (front, back) = path.split_at(at);
            (
                Cow::Borrowed(front),
                Cow::Borrowed(back.trim_start_matches('?')),
            )
        }
        Cow::Owned(path) => {
            let (front, back) = path.split_at(at);
            (
                Cow::Owned(front.to_owned()),
                Cow::Owned(back.trim_start_matches('?').to_owned()),
            )
        }
    };
    (front, query.or(Some(back)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Adapter, Limits, Shown, format, host_name};

    #[test]
    fn what_the_operator_states_is_captured_too() {
        let line = br#"{"EdgeStartTimestamp":1712790005,"ClientRequestMethod":"GET","ClientRequestURI":"/","EdgeResponseStatus":200,
            "ClientRequestUserAgent":"x","RequestHeaders":{"x-a":"1"},"Cookies":{}}"#;
        let plain = Adapter::new(format("cloudflare-logpush").unwrap());
        let names = |names: &[&str]| -> Arc<[String]> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let told = plain.clone().with_shown(Shown {
            request: names(&["authorization", "cookie:sid"]),
            response: names(&["location"]),
        });
        for (adapter, expected) in [(&plain, false), (&told, true)] {
            let found = adapter.decode(line, Limits::default()).unwrap().exchange;
            let headers = &found.request.headers;
            assert!(headers.would_show("user-agent") && headers.would_show("X-A"));
            assert_eq!(headers.would_show("Authorization"), expected);
            assert_eq!(headers.would_show_cookie("sid"), expected);
            assert!(!headers.would_show_cookie("SID") && !headers.would_show("cookie"));
            assert!(!headers.complete());
            let response = found.response.unwrap();
            assert_eq!(response.headers.would_show("location"), expected);
        }
        let all = Adapter::new(format("gatewatch").unwrap()).with_shown(Shown {
            request: names(&["a"]),
            response: names(&[]),
        });
        let line = br#"{"kind":"exchange","time":1,"request":{"method":"GET","host":"h","path":"/","headers":{}}}"#;
        let found = all.decode(line, Limits::default()).unwrap().exchange;
        assert!(found.request.headers.complete());
    }

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
