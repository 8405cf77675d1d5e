//! Answers to batches that are not stored: problem details (RFC 9457) with what the sender should do.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

use super::MAX_BATCH;
use crate::wire::http::json;

/// Seconds after which a sender should come again: a flush is stored within about one.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Why a batch is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// No token, or a wrong one.
    Token,
    /// Another method than POST.
    Method,
    /// Another path than `/events`.
    Path,
    /// The body did not come in time.
    Slow,
    /// The body ended too early, or is not packed as it says.
    Broken,
    /// More than [`MAX_BATCH`].
    TooLarge,
    /// Packed in a way that is not read.
    Coding,
    /// Too many batches wait.
    Busy,
    /// The process stops or its store has failed.
    Stopping,
}

#[derive(Serialize)]
struct Details {
    title: &'static str,
    status: u16,
    detail: String,
}

impl Problem {
    fn status(self) -> StatusCode {
        match self {
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Path => StatusCode::NOT_FOUND,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Coding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn detail(self) -> String {
        match self {
            Self::Token => "send the header authorization: Bearer <source.token>".to_owned(),
            Self::Method => "send batches with POST".to_owned(),
            Self::Path => "send batches to /events".to_owned(),
            Self::Slow => "the body did not arrive in time; send smaller batches".to_owned(),
            Self::Broken => {
                "the body is incomplete, or not packed as content-encoding says".to_owned()
            }
            Self::TooLarge => {
                format!("a batch has at most {MAX_BATCH} bytes, as sent and unpacked; split it")
            }
            Self::Coding => {
                "content-encoding is gzip, zstd (windows up to 16 MiB) or missing".to_owned()
            }
            Self::Busy => {
                "too many batches are waiting to be stored; send it again later".to_owned()
            }
            Self::Stopping => "the batch was not stored; send it again".to_owned(),
        }
    }

    /// The header that goes with the status.
    fn header(self) -> Option<(HeaderName, HeaderValue)> {
        let text = HeaderValue::from_static;
        match self {
            Self::Token => Some((header::WWW_AUTHENTICATE, text("Bearer"))),
            Self::Method => Some((header::ALLOW, text("POST"))),
            // RFC 7694 section 3: how the sender learns which codings are read.
            Self::Coding => Some((header::ACCEPT_ENCODING, text("gzip, zstd"))),
            Self::Busy | Self::Stopping => Some((header::RETRY_AFTER, RETRY_AFTER)),
            Self::Path | Self::Slow | Self::Broken | Self::TooLarge => None,
        }
    }

    pub(super) fn into_answer(self) -> Response {
        let status = self.status();
        let details = Details {
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: self.detail(),
        };
        let mut answer = json(status, "application/problem+json", &details);
        if let Some((name, value)) = self.header() {
            answer.headers_mut().insert(name, value);
        }
        answer
    }
}
