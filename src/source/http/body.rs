//! The body of a batch: received and unpacked within its bounds.

use std::io::{self, Read};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::MAX_BATCH;
use super::problem::Problem;

/// Longest time for a body.
const BODY_TIME: Duration = Duration::from_mins(1);
/// What is read and thrown away of a refused body at most, so that its sender sees the answer.
const DISCARD: usize = 2 * MAX_BATCH;
/// Longest time for that.
const DISCARD_TIME: Duration = Duration::from_secs(2);
/// Binary logarithm of the largest window of zstd, which is memory that the sender chooses: 16 MiB, enough for level 19.
const ZSTD_WINDOW: u32 = 24;

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Plain,
    Gzip,
    Zstd,
}

/// How the body is packed. Several codings over each other are not read.
pub(super) fn coding(headers: &HeaderMap) -> Result<Coding, Problem> {
    let mut named = headers.get_all(header::CONTENT_ENCODING).iter();
    let coding = match (named.next(), named.next()) {
        (None, _) => return Ok(Coding::Plain),
        // A name with other bytes in it is no name that is known.
        (Some(one), None) => one.to_str().map_err(|_| Problem::Coding)?.trim(),
        (Some(_), Some(_)) => return Err(Problem::Coding),
    };
    match coding.to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Coding::Plain),
        // RFC 9110 section 8.4.1.3: the old name means the same.
        "gzip" | "x-gzip" => Ok(Coding::Gzip),
        "zstd" => Ok(Coding::Zstd),
        _ => Err(Problem::Coding),
    }
}

/// The length that the head states, which must not be over the bound.
pub(super) fn length(headers: &HeaderMap) -> Result<Option<usize>, Problem> {
    let stated = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    let stated = stated.and_then(|text| text.parse::<usize>().ok());
    match stated {
        Some(length) if length > MAX_BATCH => Err(Problem::TooLarge),
        length => Ok(length),
    }
}

/// Reads a body as it was sent.
pub(super) async fn read(body: &mut Body) -> Result<Vec<u8>, Problem> {
    let receive = async {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(part) = frame.map_err(|_| Problem::Broken)?.into_data() else {
                continue;
            };
            if bytes.len() + part.len() > MAX_BATCH {
                return Err(Problem::TooLarge);
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    };
    timeout(BODY_TIME, receive)
        .await
        .unwrap_or(Err(Problem::Slow))
}

/// Reads on without keeping anything, for a while.
pub(super) async fn discard(body: &mut Body) {
    let receive = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > DISCARD {
                return;
            }
        }
    };
    let _ = timeout(DISCARD_TIME, receive).await;
}

/// Unpacks a body, on a thread where that may take its time.
pub(super) async fn unpack(packed: Vec<u8>, coding: Coding) -> Result<Vec<u8>, Problem> {
    if coding == Coding::Plain {
        return Ok(packed);
    }
    let unpacked = tokio::task::spawn_blocking(move || unpack_now(&packed, coding)).await;
    unpacked.unwrap_or(Err(Problem::Stopping))
}

fn unpack_now(packed: &[u8], coding: Coding) -> Result<Vec<u8>, Problem> {
    let reader: io::Result<Box<dyn Read + '_>> = match coding {
        Coding::Plain => Ok(Box::new(packed)),
        Coding::Gzip => Ok(Box::new(MultiGzDecoder::new(packed))),
        Coding::Zstd => zstd::stream::read::Decoder::with_buffer(packed).and_then(|mut decoder| {
            decoder.window_log_max(ZSTD_WINDOW)?;
            Ok(Box::new(decoder) as Box<dyn Read>)
        }),
    };
    let reader = reader.map_err(|_| Problem::Broken)?;
    let mut lines = Vec::new();
    // One byte more than allowed tells "just fits" from "goes on".
    let read = reader.take(MAX_BATCH as u64 + 1).read_to_end(&mut lines);
    if lines.len() > MAX_BATCH {
        return Err(Problem::TooLarge);
    }
    read.map_err(|_| Problem::Broken)?;
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    use super::{Coding, coding, length, unpack_now};
    use crate::source::http::MAX_BATCH;
    use crate::source::http::problem::Problem;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter();
        fields
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn codings_and_lengths() {
        for (value, expected) in [
            ("identity", Ok(Coding::Plain)),
            ("GZIP", Ok(Coding::Gzip)),
            ("x-gzip", Ok(Coding::Gzip)),
            (" zstd ", Ok(Coding::Zstd)),
            ("br", Err(Problem::Coding)),
            ("gzip, zstd", Err(Problem::Coding)),
        ] {
            assert_eq!(
                coding(&headers(&[("content-encoding", value)])),
                expected,
                "{value}"
            );
        }
        assert_eq!(coding(&HeaderMap::new()), Ok(Coding::Plain));
        let mut odd = HeaderMap::new();
        let value = HeaderValue::from_bytes(b"gzip\xe9").unwrap();
        odd.insert("content-encoding", value);
        assert_eq!(coding(&odd), Err(Problem::Coding));
        assert_eq!(
            length(&headers(&[("content-length", "16777216")])),
            Ok(Some(MAX_BATCH))
        );
        let over = headers(&[("content-length", "16777217")]);
        assert_eq!(length(&over), Err(Problem::TooLarge));
        assert_eq!(length(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn bodies_are_unpacked_up_to_the_bound() {
        let lines = b"{\"a\":1}\n{\"b\":2}\n".repeat(1_000);
        let fits = vec![b'\n'; MAX_BATCH];
        let bomb = vec![b'\n'; MAX_BATCH + 1];
        for (coding, pack) in [
            (Coding::Gzip, gzip as fn(&[u8]) -> Vec<u8>),
            (Coding::Zstd, |bytes| zstd::encode_all(bytes, 1).unwrap()),
        ] {
            let packed = pack(&lines);
            assert_eq!(unpack_now(&packed, coding).as_ref(), Ok(&lines));
            // Members after each other are one body, as `cat` of two files makes them.
            let twice = [packed.clone(), packed.clone()].concat();
            assert_eq!(unpack_now(&twice, coding).unwrap().len(), 2 * lines.len());
            let cut = &packed[..packed.len() - 5];
            assert_eq!(unpack_now(cut, coding), Err(Problem::Broken), "{coding:?}");
            assert_eq!(
                unpack_now(b"{}", coding),
                Err(Problem::Broken),
                "{coding:?}"
            );
            assert_eq!(
                unpack_now(&pack(&fits), coding).map(|b| b.len()),
                Ok(MAX_BATCH)
            );
            assert_eq!(unpack_now(&pack(&bomb), coding), Err(Problem::TooLarge));
        }
        // A window that the sender chose too large is refused before memory is taken for it.
        let mut wide = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        wide.window_log(27).unwrap();
        wide.include_contentsize(false).unwrap();
        wide.write_all(&lines).unwrap();
        assert_eq!(
            unpack_now(&wide.finish().unwrap(), Coding::Zstd),
            Err(Problem::Broken)
        );
    }
}
