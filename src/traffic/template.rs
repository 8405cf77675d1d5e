//! Texts with blanks: `/orders/<int>` becomes `/orders/48213`, with a new value at every writing.
//!
//! Enters: a text from the tables in [`super::endpoints`]. Leaves: bytes. Only ASCII comes out of a blank, and nothing that
//! would need an escape in a path or a query; escaping for JSON is the business of [`super::events`].

use super::random::Random;

/// A parsed text.
#[derive(Clone, Debug, Default)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Literal(String),
    /// A positive integer.
    Integer,
    Uuid,
    /// A calendar date.
    Date,
    /// Sixteen hexadecimal digits with a digit among them.
    Hexadecimal,
    /// Crockford's base32, 26 characters.
    Ulid,
    Email,
    /// A plain word.
    Word,
    /// 24 characters of base64url with a digit and both cases.
    Opaque,
    /// One byte that no UTF-8 text contains.
    NotUtf8,
}

const WORDS: [&str; 12] = [
    "lamp", "teapot", "chair", "violin", "seeds", "atlas", "ladder", "kettle", "drum", "poster",
    "bench", "globe",
];

impl Template {
    /// Parses a text; a name in angle brackets that is no blank stays as it is.
    pub(super) fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('<') {
            let (before, from) = rest.split_at(open);
            let Some(close) = from.find('>') else { break };
            let (name, after) = from.split_at(close + 1);
            let part = match name {
                "<int>" => Part::Integer,
                "<uuid>" => Part::Uuid,
                "<date>" => Part::Date,
                "<hex>" => Part::Hexadecimal,
                "<ulid>" => Part::Ulid,
                "<email>" => Part::Email,
                "<word>" => Part::Word,
                "<opaque>" => Part::Opaque,
                "<ff>" => Part::NotUtf8,
                other => Part::Literal(other.to_owned()),
            };
            if !before.is_empty() {
                parts.push(Part::Literal(before.to_owned()));
            }
            parts.push(part);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Self { parts }
    }

    /// Appends the text with fresh values.
    pub(super) fn write(&self, random: &mut Random, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Integer => push_number(out, u64::from(random.between(1, 90_000))),
                Part::Uuid => {
                    for (index, digits) in [8, 4, 4, 4, 12].into_iter().enumerate() {
                        if index > 0 {
                            out.push(b'-');
                        }
                        push_digits(out, random, b"0123456789abcdef", digits);
                    }
                }
                Part::Date => {
                    out.extend_from_slice(b"2026-");
                    push_two(out, random.between(1, 13));
                    out.push(b'-');
                    push_two(out, random.between(1, 29));
                }
                Part::Hexadecimal => {
                    out.push(b'7');
                    push_digits(out, random, b"0123456789abcdef", 15);
                }
                Part::Ulid => {
                    out.extend_from_slice(b"01");
                    push_digits(out, random, b"0123456789ABCDEFGHJKMNPQRSTVWXYZ", 24);
                }
                Part::Email => {
                    push_digits(out, random, b"abcdefghijklmnopqrstuvwxyz", 7);
                    out.extend_from_slice(b"@mail.example");
                }
                Part::Word => {
                    out.extend_from_slice(random.pick(&WORDS).copied().unwrap_or("").as_bytes());
                }
                Part::Opaque => {
                    out.extend_from_slice(b"Zq7");
                    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
                    push_digits(out, random, letters, 21);
                }
                Part::NotUtf8 => out.push(0xff),
            }
        }
    }
}

fn push_digits(out: &mut Vec<u8>, random: &mut Random, digits: &[u8], count: usize) {
    for _ in 0..count {
        out.push(random.pick(digits).copied().unwrap_or(b'0'));
    }
}

fn push_two(out: &mut Vec<u8>, number: u32) {
    if number < 10 {
        out.push(b'0');
    }
    push_number(out, u64::from(number));
}

/// Appends a number in decimal.
pub(super) fn push_number(out: &mut Vec<u8>, number: u64) {
    if number >= 10 {
        push_number(out, number / 10);
    }
    out.push(b'0' + u8::try_from(number % 10).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::{Random, Template};

    #[test]
    fn blanks_are_filled_and_the_rest_stays() {
        let mut random = Random::new(1);
        for (text, shape) in [
            ("/plain", "/plain"),
            ("a<b", "a<b"),
            ("<x>y", "<x>y"),
            ("/d/<date>/e", "/d/2026-"),
        ] {
            let mut out = Vec::new();
            Template::parse(text).write(&mut random, &mut out);
            let out = String::from_utf8(out).unwrap();
            assert!(out.starts_with(shape), "{out}");
        }
        let mut out = Vec::new();
        Template::parse("<uuid>").write(&mut random, &mut out);
        assert_eq!(out.len(), 36);
    }
}
