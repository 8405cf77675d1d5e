//! Distinguished names as they are written: RFC 2253 and the older slash form, to the letter as OpenSSL prints them,
//! because that is what gateways log and what rules compare with.
//!
//! Enters: a name of a certificate, or a name in one of the written forms. Leaves: either form. Comparing names as
//! RFC 5280 asks for is in `names`; it does not care how a name is written.

use std::borrow::Cow;
use std::fmt::Write as _;

use x509_parser::asn1_rs::ToDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Types with a short name: OpenSSL's, so that a name reads as in the logs of gateways that are built on it.
const TYPES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.16", "postalAddress"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.18", "postOfficeBox"),
    ("2.5.4.20", "telephoneNumber"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.45", "x500UniqueIdentifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.54", "dmdName"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.72", "role"),
    ("2.5.4.97", "organizationIdentifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.3", "mail"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("1.2.840.113549.1.9.2", "unstructuredName"),
    ("1.2.840.113549.1.9.8", "unstructuredAddress"),
    ("1.3.6.1.4.1.311.60.2.1.1", "jurisdictionL"),
    ("1.3.6.1.4.1.311.60.2.1.2", "jurisdictionST"),
    ("1.3.6.1.4.1.311.60.2.1.3", "jurisdictionC"),
];

/// Most attributes of a written name that are read; certificates with more are nobody's.
const MAX_ATTRIBUTES: usize = 128;

/// A name, its relative names from the most general to the most specific one, as in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenName(Vec<Vec<Attribute>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Attribute {
    /// Short name, or the identifier in digits where there is none.
    kind: Cow<'static, str>,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    /// Text whose bytes are not its UTF-8: the slash form shows them as they are.
    Encoded {
        text: String,
        content: Vec<u8>,
    },
    /// Of a type without a name, or not text: the whole element and its content.
    Element {
        der: Vec<u8>,
        content: Vec<u8>,
    },
}

impl WrittenName {
    pub(super) fn of(name: &X509Name<'_>) -> Self {
        let relative_names = name
            .iter()
            .map(|relative| relative.iter().map(Attribute::of).collect());
        Self(relative_names.collect())
    }

    /// Reads a name that a gateway logged: `CN=a,O=b` (RFC 2253, RFC 4514), `/O=b/CN=a`, or `O = b, CN = a`, which
    /// OpenSSL writes from the general to the specific. `None` when it is none of these.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let text = text.trim_ascii_start();
        if let Some(slashed) = text.strip_prefix('/') {
            return read_slashed(slashed);
        }
        let (mut relative_names, spaced) = read_commas(text)?;
        if !spaced {
            relative_names.reverse();
        }
        Some(Self(relative_names))
    }

    /// RFC 2253: the most specific name first, `CN=a,OU=b+OU=c`.
    #[must_use]
    pub fn rfc2253(&self) -> String {
        let mut out = String::new();
        for (number, relative) in self.0.iter().rev().enumerate() {
            if number > 0 {
                out.push(',');
            }
            for (number, attribute) in relative.iter().rev().enumerate() {
                if number > 0 {
                    out.push('+');
                }
                out.push_str(&attribute.kind);
                out.push('=');
                match &attribute.value {
                    Value::Text(text) | Value::Encoded { text, .. } => escape(text, &mut out),
                    Value::Element { der, .. } => {
                        out.push('#');
                        out.push_str(&hex::encode_upper(der));
                    }
                }
            }
        }
        out
    }

    /// The slash form: the most general name first, `/O=b/CN=a`.
    #[must_use]
    pub fn legacy(&self) -> String {
        let mut out = String::new();
        let attributes = self.0.iter().flat_map(|relative| {
            let separators = std::iter::once('/').chain(std::iter::repeat('+'));
            separators.zip(relative)
        });
        for (separator, attribute) in attributes {
            let bytes = match &attribute.value {
                Value::Text(text) => text.as_bytes(),
                Value::Encoded { content, .. } | Value::Element { content, .. } => content,
            };
            out.push(separator);
            out.push_str(&attribute.kind);
            out.push('=');
            for byte in bytes {
                match byte {
                    b'/' | b'+' => out.extend(['\\', char::from(*byte)]),
                    b' '..=b'~' => out.push(char::from(*byte)),
                    _ => hexadecimal("\\x", *byte, &mut out),
                }
            }
        }
        out
    }

    /// The most specific common name that is text.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.0.iter().rev().flatten().find_map(|attribute| {
            match (&*attribute.kind, &attribute.value) {
                ("CN", Value::Text(text) | Value::Encoded { text, .. }) => Some(text.as_str()),
                _ => None,
            }
        })
    }
}

impl Attribute {
    fn of(attribute: &AttributeTypeAndValue<'_>) -> Self {
        let kind = attribute.attr_type().to_id_string();
        let value = attribute.attr_value();
        let name = TYPES.iter().find(|(known, _)| *known == kind);
        let text = name.and_then(|_| text(value.tag().0, value.data));
        let value = match text {
            Some(text) if text.as_bytes() == value.data => Value::Text(text),
            Some(text) => Value::Encoded {
                text,
                content: value.data.to_vec(),
            },
            None => Value::Element {
                der: value.to_der_vec().unwrap_or_default(),
                content: value.data.to_vec(),
            },
        };
        Self {
            kind: name.map_or(Cow::Owned(kind), |(_, name)| Cow::Borrowed(*name)),
            value,
        }
    }

    /// From its two written halves, the value without escapes. `None` when the type is not one.
    fn read(kind: &str, value: Value) -> Option<Self> {
        let kind = kind.trim_ascii();
        let digits = kind.strip_prefix("OID.").unwrap_or(kind);
        let known = TYPES
            .iter()
            .find(|(identifier, name)| *identifier == digits || name.eq_ignore_ascii_case(kind));
        let kind = match known {
            Some((_, name)) => Cow::Borrowed(*name),
            None if is_type(digits) => Cow::Owned(digits.to_owned()),
            None => return None,
        };
        Some(Self { kind, value })
    }
}

/// A keyword or an identifier in digits (RFC 4514 section 3).
fn is_type(kind: &str) -> bool {
    !kind.is_empty()
        && kind
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

/// The characters of a string type by its tag; `None` for what is not text.
fn text(tag: u32, content: &[u8]) -> Option<String> {
    match tag {
        // UTF8String.
        12 => std::str::from_utf8(content).ok().map(str::to_owned),
        // NumericString, PrintableString, TeletexString, IA5String, VisibleString: one byte each, read as Latin 1.
        18 | 19 | 20 | 22 | 26 => Some(content.iter().copied().map(char::from).collect()),
        // UniversalString.
        28 => content
            .chunks(4)
            .map(|unit| char::from_u32(u32::from_be_bytes(unit.try_into().ok()?)))
            .collect(),
        // BMPString.
        30 => {
            let units: Option<Vec<_>> = content
                .chunks(2)
                .map(|unit| Some(u16::from_be_bytes(unit.try_into().ok()?)))
                .collect();
            String::from_utf16(&units?).ok()
        }
        _ => None,
    }
}

/// Escapes a value (RFC 2253 section 2.4); like OpenSSL, whatever is not printable ASCII byte by byte.
fn escape(text: &str, out: &mut String) {
    let last = text.len().saturating_sub(1);
    for (at, c) in text.char_indices() {
        match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => {
                out.push('\\');
                out.push(c);
            }
            ' ' | '#' if at == 0 => {
                out.push('\\');
                out.push(c);
            }
            ' ' if at == last => out.push_str("\\ "),
            ' '..='~' => out.push(c),
            _ => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    hexadecimal("\\", byte, out);
                }
            }
        }
    }
}

fn hexadecimal(mark: &str, byte: u8, out: &mut String) {
    // Writing into a string cannot fail.
    let _ = write!(out, "{mark}{byte:02X}");
}

/// `O=b/CN=a+UID=7`: a separator counts only where a known type and an equals sign follow it, and not after a
/// backslash.
fn read_slashed(text: &str) -> Option<WrittenName> {
    let mut names: Vec<Vec<Attribute>> = Vec::new();
    let mut rest = text;
    let mut joined = false;
    for _ in 0..MAX_ATTRIBUTES {
        let end = rest
            .char_indices()
            .filter(|(at, c)| {
                matches!(c, '/' | '+') && !rest.get(..*at).is_some_and(|t| t.ends_with('\\'))
            })
            .map(|(at, _)| at)
            .find(|at| rest.get(at + 1..).is_some_and(begins_attribute))
            .unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        let (kind, value) = part.split_once('=')?;
        let value = value.replace("\\/", "/").replace("\\+", "+");
        let text = String::from_utf8(unescape(&value, "\\x")?).ok()?;
        let attribute = Attribute::read(kind, Value::Text(text))?;
        match names.last_mut() {
            Some(last) if joined => last.push(attribute),
            _ => names.push(vec![attribute]),
        }
        let Some(separator) = after.chars().next() else {
            return Some(WrittenName(names));
        };
        joined = separator == '+';
        rest = after.get(1..)?;
    }
    None
}

fn begins_attribute(text: &str) -> bool {
    text.split_once('=').is_some_and(|(kind, _)| {
        kind.contains('.') && is_type(kind)
            || TYPES
                .iter()
                .any(|(_, name)| name.eq_ignore_ascii_case(kind))
    })
}

/// Takes `\xC3` apart; a mark without digits stands for itself.
fn unescape(text: &str, mark: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(mark) {
        bytes.extend(before.as_bytes());
        if let Some(byte) = after.get(..2).and_then(|pair| hex::decode(pair).ok()) {
            bytes.extend(byte);
            rest = after.get(2..)?;
        } else {
            bytes.extend(mark.as_bytes());
            rest = after;
        }
    }
    bytes.extend(rest.as_bytes());
    Some(bytes)
}

/// Relative names in the order in which they stand, and whether the equals signs stand between blanks.
fn read_commas(text: &str) -> Option<(Vec<Vec<Attribute>>, bool)> {
    let mut names: Vec<Vec<Attribute>> = Vec::new();
    let mut spaced = true;
    let mut rest = text;
    let mut joined = false;
    let mut count = 0;
    while !rest.is_empty() || joined || (count == 0 && !text.is_empty()) {
        count += 1;
        if count > MAX_ATTRIBUTES {
            return None;
        }
        let (kind, after) = rest.split_once('=')?;
        spaced &= kind.ends_with(' ') && after.starts_with(' ');
        let (value, after) = read_value(after.trim_ascii_start())?;
        let attribute = Attribute::read(kind, value)?;
        match names.last_mut() {
            // Written from the last to the first, as everything else.
            Some(last) if joined => last.insert(0, attribute),
            _ => names.push(vec![attribute]),
        }
        let Some(separator) = after.chars().next() else {
            break;
        };
        joined = separator == '+';
        rest = after.get(1..)?;
        if rest.trim_ascii().is_empty() {
            return None;
        }
    }
    Some((names, spaced))
}

/// One value up to its separator, which stays: `#hex`, a quoted string, or text with escapes.
fn read_value(text: &str) -> Option<(Value, &str)> {
    let is_separator = |c: char| matches!(c, ',' | ';' | '+');
    if let Some(digits) = text.strip_prefix('#') {
        let (digits, rest) = digits.split_at(digits.find(is_separator).unwrap_or(digits.len()));
        let der = hex::decode(digits.trim_ascii()).ok()?;
        // Short lengths only: two bytes come before the content.
        let content = der.get(2..)?.to_vec();
        return Some((Value::Element { der, content }, rest));
    }
    let mut bytes = Vec::new();
    let mut kept = 0;
    let (quoted, text) = match text.strip_prefix('"') {
        Some(inner) => (true, inner),
        None => (false, text),
    };
    let mut rest = text;
    let mut closed = !quoted;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..)?;
        match c {
            '\\' => {
                let pair = after.get(..2).and_then(|pair| hex::decode(pair).ok());
                if let Some(byte) = pair {
                    bytes.extend(byte);
                    rest = after.get(2..)?;
                } else {
                    let escaped = after.chars().next()?;
                    bytes.extend(escaped.encode_utf8(&mut [0; 4]).bytes());
                    rest = after.get(escaped.len_utf8()..)?;
                }
                // An escaped blank at the end stays.
                kept = bytes.len();
            }
            '"' if quoted => {
                closed = true;
                kept = bytes.len();
                rest = after.trim_ascii_start();
                break;
            }
            _ if !quoted && is_separator(c) => break,
            _ => {
                bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
                if c != ' ' {
                    kept = bytes.len();
                }
                rest = after;
            }
        }
    }
    if !closed || !(rest.is_empty() || rest.starts_with(is_separator)) {
        return None;
    }
    bytes.truncate(kept);
    Some((Value::Text(String::from_utf8(bytes).ok()?), rest))
}

#[cfg(test)]
mod tests {
    use super::WrittenName;

    #[test]
    fn reads_what_gateways_log() {
        for (logged, rfc2253, legacy) in [
            ("CN=a", "CN=a", "/CN=a"),
            ("CN=a,O=b", "CN=a,O=b", "/O=b/CN=a"),
            ("CN=a, O=b;C=DE", "CN=a,O=b,C=DE", "/C=DE/O=b/CN=a"),
            ("/C=DE/O=b/CN=a", "CN=a,O=b,C=DE", "/C=DE/O=b/CN=a"),
            ("C = DE, O = b, CN = a", "CN=a,O=b,C=DE", "/C=DE/O=b/CN=a"),
            (
                "cn=a,2.5.4.10=b,OID.2.5.4.6=DE",
                "CN=a,O=b,C=DE",
                "/C=DE/O=b/CN=a",
            ),
            (r"CN=a\, b,O=c", r"CN=a\, b,O=c", "/O=c/CN=a, b"),
            (r#"CN="a, b",O=c"#, r"CN=a\, b,O=c", "/O=c/CN=a, b"),
            (r#"CN="a\"b" , O=c"#, r#"CN=a\"b,O=c"#, r#"/O=c/CN=a"b"#),
            (r"CN=\ a\ ", r"CN=\ a\ ", "/CN= a "),
            ("CN= a ", "CN=a", "/CN=a"),
            (r"CN=\#1", r"CN=\#1", "/CN=#1"),
            (r"CN=J\C3\BCrg", r"CN=J\C3\BCrg", r"/CN=J\xC3\xBCrg"),
            ("CN=Jürg", r"CN=J\C3\BCrg", r"/CN=J\xC3\xBCrg"),
            (r"/CN=J\xC3\xBCrg", r"CN=J\C3\BCrg", r"/CN=J\xC3\xBCrg"),
            (
                "/CN=a/b.example/O=c",
                "O=c,CN=a/b.example",
                r"/CN=a\/b.example/O=c",
            ),
            ("/CN=a/b=c", "CN=a/b=c", r"/CN=a\/b=c"),
            (
                r"/O=b\/CN=x\+y/CN=a",
                r"CN=a,O=b/CN=x\+y",
                r"/O=b\/CN=x\+y/CN=a",
            ),
            ("CN=a+UID=7,O=b", "CN=a+UID=7,O=b", "/O=b/UID=7+CN=a"),
            ("/O=b/UID=7+CN=a", "CN=a+UID=7,O=b", "/O=b/UID=7+CN=a"),
            (
                "1.2.3.4=#0C0161,CN=b",
                "1.2.3.4=#0C0161,CN=b",
                "/CN=b/1.2.3.4=a",
            ),
            ("CN=a=b", "CN=a=b", "/CN=a=b"),
            ("CN=", "CN=", "/CN="),
        ] {
            let name = WrittenName::read(logged).unwrap_or_else(|| panic!("{logged}"));
            assert_eq!(name.rfc2253(), rfc2253, "{logged}");
            assert_eq!(name.legacy(), legacy, "{logged}");
        }
    }

    #[test]
    fn what_is_no_name_is_not_read() {
        let long = vec!["CN=a"; 200].join(",");
        for text in [
            "a",
            "CN",
            "CN=a,",
            "CN=a,b",
            "=a",
            "CN=\"a",
            "CN=\"a\"b",
            "CN=#xyz",
            "CN=#0c",
            r"CN=\C3",
            "C N=a",
            "/a",
            "/=a",
            r"CN=a\",
            long.as_str(),
        ] {
            assert_eq!(WrittenName::read(text), None, "{text}");
        }
        assert_eq!(
            WrittenName::read("").map(|name| name.rfc2253()).as_deref(),
            Some("")
        );
    }
}
