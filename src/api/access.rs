//! Who may read the feeds: whoever shows one of the configured keys, and then the entries of that key's zones.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

use crate::config::FeedKey;
use crate::wire::http::json;

/// Header of the key, as `CrowdSec`'s bouncers send it.
const API_KEY: &str = "x-api-key";

/// An error body in the words of `CrowdSec`'s local API.
#[derive(Serialize)]
struct Message<'a> {
    message: &'a str,
}

/// A refusal or another short answer.
pub(super) fn message(status: StatusCode, message: &str) -> Response {
    json(
        status,
        "application/json; charset=utf-8",
        &Message { message },
    )
}

/// Come again: there is no room, or nothing to say yet.
pub(super) fn busy(words: &str) -> Response {
    let mut answer = message(StatusCode::SERVICE_UNAVAILABLE, words);
    let headers = answer.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// The reader that shows its key, in `X-Api-Key` or as a bearer token (RFC 6750 section 2.1).
///
/// # Errors
/// The answer to somebody else: 403, as `CrowdSec`'s.
pub(super) fn reader<'k>(
    keys: &'k [FeedKey],
    headers: &HeaderMap,
) -> Result<&'k FeedKey, Box<Response>> {
    let shown = headers.get(API_KEY).map(HeaderValue::as_bytes).or_else(|| {
        let (scheme, token) = headers
            .get(header::AUTHORIZATION)?
            .as_bytes()
            .split_at_checked(7)?;
        scheme
            .eq_ignore_ascii_case(b"bearer ")
            .then_some(token.trim_ascii())
    });
    // Every key is compared, so the time does not tell which one comes close.
    let matching = shown.map(|shown| {
        keys.iter().fold(None, |found, key| {
            let matches = key.key.matches(shown);
            found.or(matches.then_some(key))
        })
    });
    matching
        .flatten()
        .ok_or_else(|| Box::new(message(StatusCode::FORBIDDEN, "access forbidden")))
}
