//! Answers in the content coding that the reader takes (RFC 9110 sections 8.4 and 12.5.3): gzip where it is asked for and
//! worth it. A list of 100,000 decisions is 19 MB of text, and 5 MB then: most of that is their random ids.

use std::io::Write as _;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use flate2::Compression;
use flate2::write::GzEncoder;

/// Shortest text that is worth it, bytes: one packet takes as long as half of one.
const WORTH: usize = 1_400;

/// How an answer is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
}

impl Coding {
    /// What the reader prefers of the two. `*` stands for gzip unless that is named.
    pub(super) fn asked(headers: &HeaderMap) -> Self {
        let (mut gzip, mut any) = (None, None);
        let values = headers.get_all(header::ACCEPT_ENCODING).iter();
        let values = values.filter_map(|value| value.to_str().ok());
        for member in values.flat_map(|list| list.split(',')) {
            let mut parts = member.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality =
                parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
            // A quality that is no number is none.
            let taken = quality.is_none_or(|text| text.parse().is_ok_and(|q: f32| q > 0.0));
            match name.as_str() {
                "gzip" | "x-gzip" => gzip = Some(taken),
                "*" => any = Some(taken),
                _ => {}
            }
        }
        if gzip.or(any).unwrap_or_default() {
            Self::Gzip
        } else {
            Self::Identity
        }
    }

    /// The text in this coding, and what to say about it. Costs some 10 ms a megabyte.
    pub(super) fn write(self, text: String) -> (Bytes, [Option<(HeaderName, HeaderValue)>; 2]) {
        let varies = Some((header::VARY, HeaderValue::from_static("accept-encoding")));
        if self == Self::Gzip && text.len() >= WORTH {
            let mut encoder =
                GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
            // Writing into memory does not fail; if it did, the text would go out as it is.
            let written = encoder.write_all(text.as_bytes());
            if let Ok(bytes) = written.and_then(|()| encoder.finish()) {
                let coding = (header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                return (bytes.into(), [varies, Some(coding)]);
            }
        }
        (text.into(), [varies, None])
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn gzip_is_written_for_those_who_take_it() {
        for (accepted, expected) in [
            (&[][..], Coding::Identity),
            (&["gzip"], Coding::Gzip),
            (&["deflate, GZIP;q=0.5"], Coding::Gzip),
            (&["br", "x-gzip"], Coding::Gzip),
            (&["*"], Coding::Gzip),
            (&["gzip;q=0, *"], Coding::Identity),
            (&["*;q=0"], Coding::Identity),
            (&["gzip; q=0.000"], Coding::Identity),
            (&["gzip;q=x"], Coding::Identity),
            (&["identity"], Coding::Identity),
            (&["gzipped"], Coding::Identity),
            (&[""], Coding::Identity),
        ] {
            let mut headers = HeaderMap::new();
            for value in accepted {
                headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(Coding::asked(&headers), expected, "{accepted:?}");
        }
        let long = "{\"scope\":\"Ip\"}".repeat(1_000);
        let (bytes, [_, coding]) = Coding::Gzip.write(long.clone());
        assert_eq!(coding.unwrap().1, "gzip");
        assert!(bytes.len() < long.len() / 20, "{}", bytes.len());
        let mut text = String::new();
        let mut decoder = flate2::read::GzDecoder::new(bytes.as_ref());
        decoder.read_to_string(&mut text).unwrap();
        assert_eq!(text, long);
        let (bytes, [varies, coding]) = Coding::Gzip.write("null".to_owned());
        assert_eq!((bytes.as_ref(), coding), (&b"null"[..], None));
        assert!(varies.is_some());
        assert_eq!(Coding::Identity.write(long.clone()).0, long.as_bytes());
    }
}
