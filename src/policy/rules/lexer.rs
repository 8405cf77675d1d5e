//! The words of the language: a cursor over the text that reads symbols, names and literals.
//!
//! What a literal looks like depends on the type that is wanted, so there is no list of tokens: the parser asks for
//! what it needs. Blanks are space, carriage return and line feed; a tab is not one, as in the reference engine.

use std::net::IpAddr;

use super::error::ExpressionError;

/// Most `#` of a raw string, as documented.
const MAX_HASHES: usize = 255;

type Result<T> = std::result::Result<T, ExpressionError>;

/// A place in the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'t> {
    /// The whole expression.
    pub(super) text: &'t str,
    /// Bytes read.
    pub(super) at: usize,
}

/// Whether this can be part of a name or keyword.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// What is still to be read.
    pub(super) fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Reads one character.
    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    pub(super) fn skip_blanks(&mut self) {
        let rest = self.rest();
        let left = rest.trim_start_matches([' ', '\r', '\n']);
        self.at += rest.len() - left.len();
    }

    /// Reads `symbol` when it comes next.
    pub(super) fn eat(&mut self, symbol: &str) -> bool {
        let found = self.rest().starts_with(symbol);
        if found {
            self.at += symbol.len();
        }
        found
    }

    /// The name or keyword that comes next, without reading it: everything up to a character that cannot be part of
    /// one, so `notes` is never `not es`.
    pub(super) fn word(&self) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    }

    /// Reads the keyword when it comes next as a whole word.
    pub(super) fn keyword(&mut self, keyword: &str) -> bool {
        let found = self.word() == keyword;
        if found {
            self.at += keyword.len();
        }
        found
    }

    /// An error at the bytes `start..end`.
    pub(super) fn error_at(
        &self,
        start: usize,
        end: usize,
        message: impl Into<String>,
        expected: impl Into<String>,
    ) -> ExpressionError {
        ExpressionError::new(self.text, start, end, message, expected)
    }

    /// An error at what comes next: a word, one character, or the end.
    pub(super) fn unexpected(&self, expected: impl Into<String>) -> ExpressionError {
        let word = self.word();
        match self.peek() {
            None => self.error_at(self.at, self.at, "the expression ends too early", expected),
            Some('\t') => self
                .error_at(self.at, self.at + 1, "a tab is not a blank here", expected)
                .hint("separate words by spaces or line breaks"),
            Some(_) if !word.is_empty() => self.error_at(
                self.at,
                self.at + word.len(),
                format!("unexpected {word}"),
                expected,
            ),
            Some(c) => self.error_at(
                self.at,
                self.at + c.len_utf8(),
                format!("unexpected {:?}", c.to_string()),
                expected,
            ),
        }
    }

    /// Whether a text literal in quotes, quoted or raw, comes next.
    pub(super) fn at_quote(&self) -> bool {
        let rest = self.rest();
        rest.starts_with('"')
            || rest
                .strip_prefix('r')
                .is_some_and(|raw| raw.trim_start_matches('#').starts_with('"'))
    }

    /// A text literal: quoted, raw, or bytes in hexadecimal.
    pub(super) fn text_literal(&mut self, expected: &str) -> Result<Vec<u8>> {
        match self.peek() {
            Some('"') => self.quoted(),
            Some('r') if self.at_quote() => self.raw().map(|text| text.as_bytes().to_vec()),
            Some(c) if c.is_ascii_hexdigit() => self.hex_bytes(expected),
            _ => Err(self.unexpected(expected)),
        }
    }

    /// `"…"` with the escapes `\"`, `\\`, `\xHH` and `\OOO`.
    pub(super) fn quoted(&mut self) -> Result<Vec<u8>> {
        let start = self.at;
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let escape_at = self.at;
            match self.next() {
                None => return Err(self.unterminated(start, "\"")),
                Some('"') => return Ok(bytes),
                Some('\\') => bytes.push(self.escape(start, escape_at)?),
                Some(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    fn unterminated(&self, start: usize, end: &str) -> ExpressionError {
        let message = "the text literal does not end";
        self.error_at(start, start + 1, message, format!("a closing {end}"))
    }

    fn escape(&mut self, start: usize, escape_at: usize) -> Result<u8> {
        const EXPECTED: &str = r#"one of \" \\ \xHH \OOO"#;
        let digits = |cursor: &mut Self, count: usize, radix: u32| {
            let digits = cursor.rest().get(..count)?;
            let valid = digits.chars().all(|c| c.is_digit(radix));
            let byte = u8::from_str_radix(digits, radix).ok().filter(|_| valid)?;
            cursor.at += count;
            Some(byte)
        };
        let byte = match self.next() {
            None => return Err(self.unterminated(start, "\"")),
            Some('"') => Some(b'"'),
            Some('\\') => Some(b'\\'),
            Some('x') => digits(self, 2, 16),
            Some('0'..='7') => {
                self.at -= 1;
                digits(self, 3, 8)
            }
            Some(_) => None,
        };
        byte.ok_or_else(|| {
            let end = self.at.max(escape_at + 2);
            let shown = self.text.get(escape_at..end).unwrap_or("\\");
            self.error_at(escape_at, end, format!("unknown escape {shown}"), EXPECTED)
                .hint("write the backslash twice, or a raw string: r\"…\"")
        })
    }

    /// `r"…"`, `r#"…"#` and so on: no escapes at all.
    fn raw(&mut self) -> Result<&'t str> {
        let start = self.at;
        let after = self.rest().get(1..).unwrap_or_default();
        let hashes = after.len() - after.trim_start_matches('#').len();
        if hashes > MAX_HASHES {
            return Err(self.error_at(
                start,
                start + 1,
                format!("{hashes} # before a raw string"),
                format!("at most {MAX_HASHES}"),
            ));
        }
        let body = after.get(hashes + 1..).unwrap_or_default();
        let end = format!("\"{}", "#".repeat(hashes));
        let Some(length) = body.find(&end) else {
            return Err(self.unterminated(start, &end));
        };
        self.at = start + 1 + hashes + 1 + length + end.len();
        Ok(body.get(..length).unwrap_or_default())
    }

    /// The pattern of `matches`: raw, or quoted by the rules of regular expressions: `\"` is a quote, every other
    /// escape stays, and a quote between square brackets does not end the literal.
    pub(super) fn regex_literal(&mut self) -> Result<String> {
        if self.peek() == Some('r') && self.at_quote() {
            return self.raw().map(str::to_owned);
        }
        if self.peek() != Some('"') {
            return Err(self.unexpected("a regular expression in double quotes"));
        }
        let start = self.at;
        self.at += 1;
        let mut pattern = String::new();
        let mut in_class = false;
        loop {
            match self.next() {
                None => return Err(self.unterminated(start, "\"")),
                Some('"') if !in_class => return Ok(pattern),
                Some('\\') => match self.next() {
                    None => return Err(self.unterminated(start, "\"")),
                    Some('"') => pattern.push('"'),
                    Some(c) => {
                        pattern.push('\\');
                        pattern.push(c);
                    }
                },
                Some(c) => {
                    match c {
                        '[' => in_class = true,
                        ']' => in_class = false,
                        _ => {}
                    }
                    pattern.push(c);
                }
            }
        }
    }

    /// `01:2e:f3`, separated by `:`, `-` or `.`; at least two bytes.
    fn hex_bytes(&mut self, expected: &str) -> Result<Vec<u8>> {
        let start = self.at;
        let mut probe = *self;
        let mut bytes = Vec::new();
        loop {
            let digits = probe.rest().get(..2).unwrap_or_default();
            let valid = digits.len() == 2 && digits.chars().all(|c| c.is_ascii_hexdigit());
            let Some(byte) = u8::from_str_radix(digits, 16).ok().filter(|_| valid) else {
                break;
            };
            probe.at += 2;
            bytes.push(byte);
            if !matches!(probe.peek(), Some(':' | '-' | '.')) {
                if bytes.len() < 2 || probe.peek().is_some_and(is_word) {
                    break;
                }
                self.at = probe.at;
                return Ok(bytes);
            }
            probe.at += 1;
        }
        if probe.at > start + 2 {
            return Err(self.error_at(
                start,
                probe.at,
                "these bytes in hexadecimal do not end well",
                "two digits per byte, with `:`, `-` or `.` in between",
            ));
        }
        Err(self.unexpected(expected))
    }

    /// A whole number: decimal, `0x…` hexadecimal, or octal with a leading 0; with an optional sign.
    pub(super) fn integer(&mut self) -> Result<i64> {
        const EXPECTED: &str = "a whole number";
        let start = self.at;
        let negative = self.peek() == Some('-');
        let after_sign = start + usize::from(negative);
        let rest = self.text.get(after_sign..).unwrap_or_default();
        let (radix, skipped) = match rest.get(..2) {
            Some("0x") => (16, 2),
            Some(two) if two.starts_with('0') && two.ends_with(|c: char| c.is_ascii_digit()) => {
                (8, 1)
            }
            _ => (10, 0),
        };
        let digits_at = after_sign + skipped;
        let digits = self.text.get(digits_at..).unwrap_or_default();
        let length = digits
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(digits.len());
        let digits = digits.get(..length).unwrap_or_default();
        let end = digits_at + length;
        if digits.is_empty() && skipped == 0 {
            return Err(self.unexpected(EXPECTED));
        }
        if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
            let shown = self.text.get(start..end).unwrap_or_default();
            let error = self.error_at(start, end, format!("{shown} is not a number"), EXPECTED);
            return Err(if radix == 8 {
                error.hint("a leading 0 means octal")
            } else {
                error
            });
        }
        let magnitude = i128::from_str_radix(digits, radix).unwrap_or(i128::MAX);
        let value = if negative { -magnitude } else { magnitude };
        let Ok(value) = i64::try_from(value) else {
            let shown = self.text.get(start..end).unwrap_or_default();
            return Err(self.error_at(
                start,
                end,
                format!("{shown} does not fit in 64 bits"),
                format!("{} to {}", i64::MIN, i64::MAX),
            ));
        };
        self.at = end;
        Ok(value)
    }

    /// The text of an address that comes next, without reading it; `..` ends it.
    fn address_text(&self) -> &'t str {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !c.is_ascii_hexdigit() && c != '.' && c != ':')
            .unwrap_or(rest.len());
        let text = rest.get(..end).unwrap_or_default();
        text.split_once("..").map_or(text, |(first, _)| first)
    }

    /// An address without quotes.
    pub(super) fn address(&mut self) -> Result<IpAddr> {
        const EXPECTED: &str = "an IP address without quotes";
        let text = self.address_text();
        if text.is_empty() {
            return Err(self.unexpected(EXPECTED));
        }
        match text.parse::<IpAddr>() {
            Ok(address) => {
                self.at += text.len();
                Ok(address.to_canonical())
            }
            Err(_) => Err(self.error_at(
                self.at,
                self.at + text.len(),
                format!("{text} is not an IP address"),
                EXPECTED,
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, expected) in [
            ("0", Some((0, 1))),
            ("42 ", Some((42, 2))),
            ("-7", Some((-7, 2))),
            ("0x1F", Some((31, 4))),
            ("-0x10", Some((-16, 5))),
            ("017", Some((15, 3))),
            ("1..5", Some((1, 1))),
            ("9223372036854775807", Some((i64::MAX, 19))),
            ("-9223372036854775808", Some((i64::MIN, 20))),
            ("9223372036854775808", None),
            ("08", None),
            ("0x", None),
            ("0xg", None),
            ("1a", None),
            ("-", None),
            ("--1", None),
            ("1_000", None),
            ("", None),
            ("99999999999999999999999999999999999999999999999999", None),
        ] {
            let mut cursor = Cursor::new(text);
            let read = cursor.integer().ok().map(|value| (value, cursor.at));
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn texts() {
        for (text, expected) in [
            (r#""""#, Some(&b""[..])),
            (r#""a b""#, Some(b"a b")),
            (r#""a\"b\\c""#, Some(b"a\"b\\c")),
            (r#""\x00\xfF\101""#, Some(b"\x00\xffA")),
            (r#""\377""#, Some(b"\xff")),
            (r#""\400""#, None),
            (r#""\x1""#, None),
            (r#""\x+1""#, None),
            (r#""\12""#, None),
            (r#""\n""#, None),
            (r#""a"#, None),
            (r#""a\"#, None),
            ("r\"a\\n\"", Some(b"a\\n")),
            ("r#\"a\"b\"#", Some(b"a\"b")),
            ("r##\"a\"#b\"##", Some(b"a\"#b")),
            ("r#\"a\"", None),
            ("01:2e:f3", Some(b"\x01\x2e\xf3")),
            ("01-2E.f3", Some(b"\x01\x2e\xf3")),
            ("01", None),
            ("01:2", None),
            ("01:2e:", None),
            ("01:2ef", None),
            ("\"\u{e9}\"", Some("\u{e9}".as_bytes())),
        ] {
            let mut cursor = Cursor::new(text);
            let read = cursor.text_literal("a text");
            assert_eq!(read.ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn regular_expressions() {
        for (text, expected) in [
            (r#""a\.b""#, Some(r"a\.b")),
            (r#""a\"b""#, Some("a\"b")),
            (r#""[^"]+""#, Some("[^\"]+")),
            (r#""\[""#, Some(r"\[")),
            (r#""a\\""#, Some(r"a\\")),
            (r##"r#"a"b"#"##, Some("a\"b")),
            (r#""a"#, None),
            (r#""[a""#, None),
            ("x", None),
        ] {
            let mut cursor = Cursor::new(text);
            assert_eq!(cursor.regex_literal().ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn too_many_hashes() {
        let raw = |count: usize| {
            let hashes = "#".repeat(count);
            format!("r{hashes}\"a\"{hashes}")
        };
        assert!(Cursor::new(&raw(255)).text_literal("").is_ok());
        assert!(Cursor::new(&raw(256)).text_literal("").is_err());
    }
}
