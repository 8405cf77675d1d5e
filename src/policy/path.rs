//! Paths: RFC 3986 normalisation, and templates for paths without a schema.
//!
//! Enters: the path of a request target. Leaves: the one spelling that every comparison uses, and a template in which
//! typed ids are variables. Matching against declared operations is in `operations`.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Shortest run of hexadecimal digits that counts as an id (design section 4).
const MIN_HEX: usize = 8;
/// Shortest base64url text that counts as an id (design section 4).
const MIN_BASE64URL: usize = 20;

/// Normalises a path (RFC 3986 section 6.2.2): dot segments are removed, escapes of unreserved characters decoded, the
/// remaining escapes written in upper case, `//` merged, a missing leading slash added. An escaped slash stays escaped
/// and a trailing slash stays. Borrows when the path is in that form already.
#[must_use]
pub fn normalise(path: &str) -> Cow<'_, str> {
    if is_normal(path) {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len() + 1);
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let start = out.len();
        out.push('/');
        push_normal(segment, &mut out);
        let drop_to = match out.get(start + 1..) {
            Some("" | ".") => start,
            Some("..") => out
                .get(..start)
                .and_then(|before| before.rfind('/'))
                .unwrap_or(0),
            _ => continue,
        };
        out.truncate(drop_to);
        if segments.peek().is_none() {
            // What was dropped stood at the end, so the path names a folder.
            out.push('/');
        }
    }
    if out.is_empty() {
        out.push('/');
    }
    Cow::Owned(out)
}

/// Whether `normalise` would change nothing; no allocation.
fn is_normal(path: &str) -> bool {
    let bytes = path.as_bytes();
    // A slash that stands in front of a slash, or of one or two dots that fill a segment.
    let folded = |at: usize| match bytes.get(at + 1..).unwrap_or_default() {
        [b'/', ..] | [b'.'] | [b'.', b'/', ..] => true,
        [b'.', b'.', rest @ ..] => matches!(rest, [] | [b'/', ..]),
        _ => false,
    };
    // An escape of what needs none, or one written in lower case.
    let plain = |at: usize| match escape(bytes.get(at..)) {
        Some((value, upper)) => is_unreserved(value) || !upper,
        None => false,
    };
    bytes.first() == Some(&b'/')
        && !memchr::memchr2_iter(b'/', b'%', bytes).any(|at| {
            if bytes.get(at) == Some(&b'/') {
                folded(at)
            } else {
                plain(at)
            }
        })
}

/// The byte that the escape at the start of `bytes` stands for, and whether its digits are written in upper case.
fn escape(bytes: Option<&[u8]>) -> Option<(u8, bool)> {
    let [b'%', high, low, ..] = bytes? else {
        return None;
    };
    let value = hex_value(*high)? << 4 | hex_value(*low)?;
    Some((
        value,
        !high.is_ascii_lowercase() && !low.is_ascii_lowercase(),
    ))
}

fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Appends a segment with unreserved escapes decoded and the others in upper case; a stray `%` stays as it is.
fn push_normal(segment: &str, out: &mut String) {
    let mut rest = segment;
    while let Some(at) = rest.find('%') {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        rest = if let Some((value, _)) = escape(Some(tail.as_bytes())) {
            if is_unreserved(value) && !completes_escape(out, value) {
                out.push(char::from(value));
            } else {
                let _ = write!(out, "%{value:02X}");
            }
            tail.get(3..).unwrap_or_default()
        } else {
            out.push('%');
            tail.get(1..).unwrap_or_default()
        };
    }
    out.push_str(rest);
}

/// Whether a character behind a stray `%` would make an escape of it, which nobody wrote: `%2%44` is not `%2D`.
fn completes_escape(out: &str, value: u8) -> bool {
    value.is_ascii_hexdigit()
        && match out.as_bytes() {
            [.., b'%'] => true,
            [.., b'%', digit] => digit.is_ascii_hexdigit(),
            _ => false,
        }
}

/// Normalises the literal text of a declared template: as [`normalise`] does within one segment, and characters that a
/// request target cannot carry raw are escaped, since the wire never shows them otherwise (RFC 3987 section 3.1).
pub(crate) fn normalise_literal(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_graphic() && !matches!(character, '"' | '<' | '>' | '\\' | '^' | '`')
        {
            escaped.push(character);
        } else {
            let mut buffer = [0; 4];
            for byte in character.encode_utf8(&mut buffer).bytes() {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    let mut out = String::with_capacity(escaped.len());
    push_normal(&escaped, &mut out);
    out
}

/// Replaces typed ids in a normalised path by `{var1}`, `{var2}` … left to right and appends the template to `out`.
pub fn template(path: &str, out: &mut String) {
    let mut variables = 0_u32;
    for (number, segment) in path.split('/').enumerate() {
        if number > 0 {
            out.push('/');
        }
        if is_typed_id(segment) {
            variables += 1;
            let _ = write!(out, "{{var{variables}}}");
        } else {
            out.push_str(segment);
        }
    }
}

/// Whether a segment is an id by its form alone. Escapes are decoded first, so `ann%40shop.example` is an e-mail.
fn is_typed_id(segment: &str) -> bool {
    if !segment.contains('%') {
        return is_id(segment.as_bytes());
    }
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(segment).collect();
    is_id(&decoded)
}

fn is_id(text: &[u8]) -> bool {
    !text.is_empty()
        && (is_integer(text)
            || is_uuid(text)
            || is_hex(text)
            || is_ulid(text)
            || is_date(text)
            || is_email(text)
            || is_base64url(text))
}

fn is_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// RFC 9562 section 4, any version and case.
fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// A digit is asked for so that words such as `feedbeef` or `decade` stay words.
fn is_hex(text: &[u8]) -> bool {
    text.len() >= MIN_HEX
        && text.iter().all(u8::is_ascii_hexdigit)
        && text.iter().any(u8::is_ascii_digit)
}

/// Crockford base 32, 26 characters, the first at most 7 because a ULID has 128 bits.
fn is_ulid(text: &[u8]) -> bool {
    text.len() == 26
        && text
            .first()
            .is_some_and(|first| (b'0'..=b'7').contains(first))
        && text.iter().all(|byte| {
            byte.is_ascii_alphanumeric()
                && !matches!(byte.to_ascii_uppercase(), b'I' | b'L' | b'O' | b'U')
        })
}

/// `YYYY-MM-DD` with a month and a day that exist in some year.
fn is_date(text: &[u8]) -> bool {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else {
        return false;
    };
    let digits = [y1, y2, y3, y4, m1, m2, d1, d2];
    if !digits.iter().all(|digit| digit.is_ascii_digit()) {
        return false;
    }
    let number = |tens: &u8, ones: &u8| (tens - b'0') * 10 + (ones - b'0');
    let month = number(m1, m2);
    let longest = match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    (1..=12).contains(&month) && (1..=longest).contains(&number(d1, d2))
}

/// A dot-atom, `@`, and a domain of at least two labels (RFC 5321 section 4.1.2, without quoted strings and literals).
fn is_email(text: &[u8]) -> bool {
    let Some(at) = memchr::memrchr(b'@', text) else {
        return false;
    };
    let (local, domain) = text.split_at(at);
    let domain = domain.get(1..).unwrap_or_default();
    let local_ok = !local.is_empty()
        && local.split(|byte| *byte == b'.').all(|atom| {
            !atom.is_empty()
                && atom.iter().all(|byte| {
                    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(byte)
                })
        });
    let mut labels = 0;
    let domain_ok = domain.split(|byte| *byte == b'.').all(|label| {
        labels += 1;
        !label.is_empty()
            && label
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    });
    local_ok && domain_ok && labels >= 2
}

/// RFC 4648 section 5, with or without padding; a digit and both cases are asked for so that slugs stay words.
fn is_base64url(text: &[u8]) -> bool {
    let unpadded = text
        .strip_suffix(b"==")
        .or_else(|| text.strip_suffix(b"="))
        .unwrap_or(text);
    unpadded.len() >= MIN_BASE64URL
        && unpadded
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && unpadded.iter().any(u8::is_ascii_digit)
        && unpadded.iter().any(u8::is_ascii_uppercase)
        && unpadded.iter().any(u8::is_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::{normalise, normalise_literal, template};

    #[test]
    fn normalises_as_rfc_3986_says() {
        for (path, expected) in [
            ("/", "/"),
            ("", "/"),
            ("a", "/a"),
            ("a/b/", "/a/b/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/a//b", "/a/b"),
            ("//a///b//", "/a/b/"),
            ("//", "/"),
            ("/.", "/"),
            ("/..", "/"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/./b/../c", "/a/c"),
            ("/../../a", "/a"),
            ("/a/b/c/./../../g", "/a/g"),
            ("/a//../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            ("/a/...", "/a/..."),
            ("/a/..b", "/a/..b"),
            ("/%7Euser", "/~user"),
            ("/%41%2d%5f%7e%30", "/A-_~0"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%2Fb", "/a%2Fb"),
            ("/%c3%a9", "/%C3%A9"),
            ("/%C3%A9", "/%C3%A9"),
            ("/100%", "/100%"),
            ("/%zz%4", "/%zz%4"),
            ("/%2541", "/%2541"),
            ("/%2%44e", "/%2%44e"),
            ("/%%32%44", "/%%32D"),
            ("/%2%2d", "/%2-"),
            ("/é/%61", "/é/a"),
        ] {
            assert_eq!(normalise(path), expected, "{path}");
            assert_eq!(
                normalise(&normalise(path)),
                expected,
                "{path}: normal form is stable"
            );
        }
    }

    #[test]
    fn borrows_what_is_normal() {
        for path in ["/", "/a", "/a/", "/a/b.c/..d", "/a%2Fb", "/100%", "/%C3%A9"] {
            assert!(matches!(normalise(path), Cow::Borrowed(_)), "{path}");
        }
    }

    #[test]
    fn literals_of_templates_take_the_form_of_the_wire() {
        for (text, expected) in [
            ("plain", "plain"),
            ("%7euser", "~user"),
            ("a b", "a%20b"),
            ("größe", "gr%C3%B6%C3%9Fe"),
            ("%c3%b6", "%C3%B6"),
        ] {
            assert_eq!(normalise_literal(text), expected);
        }
    }

    #[test]
    fn typed_ids_become_variables_and_words_stay() {
        for (path, expected) in [
            ("/", "/"),
            ("/orders", "/orders"),
            ("/orders/42", "/orders/{var1}"),
            ("/orders/-1", "/orders/{var1}"),
            ("/orders/42/items/7/", "/orders/{var1}/items/{var2}/"),
            ("/v1/orders", "/v1/orders"),
            ("/u/6f1c2f3e-8a9b-4c1d-9e2f-001122334455", "/u/{var1}"),
            ("/u/6F1C2F3E-8A9B-4C1D-9E2F-001122334455", "/u/{var1}"),
            (
                "/u/6f1c2f3e-8a9b-4c1d-9e2f-00112233445",
                "/u/6f1c2f3e-8a9b-4c1d-9e2f-00112233445",
            ),
            ("/h/deadbee1", "/h/{var1}"),
            ("/h/DEADBEE1F", "/h/{var1}"),
            ("/h/deadbeef", "/h/deadbeef"),
            ("/h/dead1", "/h/dead1"),
            ("/l/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/l/{var1}"),
            ("/l/01arz3ndektsv4rrffq69g5fav", "/l/{var1}"),
            (
                "/l/81ARZ3NDEKTSV4RRFFQ69G5FAV",
                "/l/81ARZ3NDEKTSV4RRFFQ69G5FAV",
            ),
            (
                "/l/01ARZ3NDEKTSV4RRFFQ69G5FAU",
                "/l/01ARZ3NDEKTSV4RRFFQ69G5FAU",
            ),
            ("/d/2026-02-29", "/d/{var1}"),
            ("/d/2026-02-30", "/d/2026-02-30"),
            ("/d/2026-13-01", "/d/2026-13-01"),
            ("/d/2026-1-1", "/d/2026-1-1"),
            ("/m/ann@shop.example", "/m/{var1}"),
            ("/m/ann%40shop.example", "/m/{var1}"),
            ("/m/ann.b+c@shop.example", "/m/{var1}"),
            ("/m/@types", "/m/@types"),
            ("/m/ann@shop", "/m/ann@shop"),
            ("/m/ann@shop..example", "/m/ann@shop..example"),
            ("/b/aGVsbG8gd29ybGQ5MTIzNDU", "/b/{var1}"),
            ("/b/aGVsbG8gd29ybGQ5MTIzNA%3D%3D", "/b/{var1}"),
            (
                "/b/averylongslugwithoutdigits",
                "/b/averylongslugwithoutdigits",
            ),
            (
                "/b/a-very-long-slug-from-2026",
                "/b/a-very-long-slug-from-2026",
            ),
            (
                "/b/ACamelCaseNameWithoutDigits",
                "/b/ACamelCaseNameWithoutDigits",
            ),
            ("/b/aGVsbG8gd29ybGQ5", "/b/aGVsbG8gd29ybGQ5"),
        ] {
            let mut out = String::from(">");
            template(path, &mut out);
            assert_eq!(out.strip_prefix('>'), Some(expected), "{path}");
        }
    }
}
