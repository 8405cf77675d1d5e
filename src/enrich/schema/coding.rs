//! Content codings: the bytes that a body was packed into.
//!
//! Enters: the captured bytes and `Content-Encoding`. Leaves: the bytes of the media type, or what is wrong. Gateways log
//! bodies packed or unpacked, so the bytes themselves tell whether there is anything to unpack.

use std::io::Read;

use crate::model::Headers;

/// Largest body after unpacking, bytes. Four times the largest captured body: a bomb ends here.
const MAX_UNPACKED: u64 = 1 << 20;

/// A body behind its content coding.
pub(super) enum Decoded<'b> {
    /// As captured.
    Plain(&'b [u8]),
    /// Unpacked.
    Unpacked(Vec<u8>),
    /// Not what the coding says.
    Broken,
    /// Too large, or of a coding that cannot be undone here: nothing is known about the content.
    Unknown,
}

/// Undoes the content coding of a body.
pub(super) fn decoded<'b>(headers: &Headers<'_>, bytes: &'b [u8]) -> Decoded<'b> {
    let mut codings = headers
        .values("content-encoding")
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"));
    let Some(coding) = codings.next() else {
        return Decoded::Plain(bytes);
    };
    if codings.next().is_some() {
        return Decoded::Unknown;
    }
    let is = |name: &str| coding.eq_ignore_ascii_case(name);
    if is("gzip") || is("x-gzip") {
        if bytes.starts_with(&[0x1F, 0x8B]) {
            return unpack(flate2::read::MultiGzDecoder::new(bytes));
        }
    } else if is("deflate") {
        // RFC 9110 section 8.4.1.2: the zlib format, whose first byte says so.
        if bytes.first().is_some_and(|first| first & 0x0F == 8) {
            return unpack(flate2::read::ZlibDecoder::new(bytes));
        }
    } else if is("zstd") {
        if bytes.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
            return match zstd::stream::read::Decoder::new(bytes) {
                Ok(decoder) => unpack(decoder),
                Err(_) => Decoded::Broken,
            };
        }
    } else if std::str::from_utf8(bytes).is_err() {
        return Decoded::Unknown;
    }
    // Text is what is left when the gateway unpacked the body before it wrote the log.
    Decoded::Plain(bytes)
}

fn unpack<'b>(decoder: impl Read) -> Decoded<'b> {
    let mut out = Vec::new();
    match decoder.take(MAX_UNPACKED + 1).read_to_end(&mut out) {
        Ok(_) if out.len() as u64 > MAX_UNPACKED => Decoded::Unknown,
        Ok(_) => Decoded::Unpacked(out),
        Err(_) => Decoded::Broken,
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::io::Write as _;

    use super::{Decoded, decoded};
    use crate::model::{Captured, Headers};

    fn said(coding: &'static str, bytes: &[u8]) -> String {
        let headers = Headers {
            fields: vec![(Cow::Borrowed("Content-Encoding"), Cow::Borrowed(coding))],
            captured: Captured::All,
        };
        match decoded(&headers, bytes) {
            Decoded::Plain(bytes) => format!("plain {}", bytes.len()),
            Decoded::Unpacked(bytes) => format!("unpacked {}", bytes.len()),
            Decoded::Broken => "broken".into(),
            Decoded::Unknown => "unknown".into(),
        }
    }

    #[test]
    fn unpacks_what_is_packed_within_bounds() {
        let gzip = |text: &[u8]| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        let packed = gzip(b"hello");
        let bomb = gzip(&vec![b'x'; 4 << 20]);
        for (coding, bytes, expected) in [
            ("gzip", &packed[..], "unpacked 5"),
            ("GZIP", b"{}", "plain 2"),
            ("identity", b"{}", "plain 2"),
            ("gzip", &packed[..12], "broken"),
            ("gzip", &bomb[..], "unknown"),
            ("br", &[0xFF, 0xFE], "unknown"),
            ("br", b"{}", "plain 2"),
            ("gzip, br", b"{}", "unknown"),
            ("zstd", &[0x28, 0xB5, 0x2F, 0xFD, 9], "broken"),
        ] {
            assert_eq!(said(coding, bytes), expected, "{coding}");
        }
    }
}
