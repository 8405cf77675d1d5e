//! Calls: a name and parsed arguments become a [`Call`].
//!
//! Enters: the arguments with their places. Leaves: a call with everything constant worked out (patterns compiled,
//! options read), or what is wrong with which argument.

use std::ops::Range;

use super::ast::Operand;
use super::functions::{Call, Function, JsonKey, Piece};
use super::types::{Scalar, Shape, Type, Value};
use super::wildcard::{BadPattern, Wildcard};

/// Most elements of `split`, as documented.
const MAX_SPLIT: i64 = 128;

/// Most references in a replacement, as documented.
const MAX_REFERENCES: usize = 8;

/// An argument as parsed.
#[derive(Debug)]
pub(super) struct Argument {
    pub(super) operand: Operand,
    pub(super) span: Range<usize>,
}

/// What is wrong with an argument, and which one; none when one is missing.
#[derive(Debug)]
pub(super) struct BadArgument {
    pub(super) span: Option<Range<usize>>,
    pub(super) message: String,
    pub(super) expected: String,
}

type Result<T> = std::result::Result<T, BadArgument>;

/// The arguments that are still to be read.
struct Reader {
    rest: std::vec::IntoIter<Argument>,
    first: bool,
}

impl Argument {
    fn refuse<T>(&self, message: impl Into<String>, expected: impl Into<String>) -> Result<T> {
        Err(BadArgument {
            span: Some(self.span.clone()),
            message: message.into(),
            expected: expected.into(),
        })
    }

    fn literal(&self) -> Option<&Value<'static>> {
        match &self.operand {
            Operand::Literal(value) => Some(value),
            _ => None,
        }
    }
}

impl Reader {
    fn next(&mut self, expected: &str) -> Result<Argument> {
        let Some(argument) = self.rest.next() else {
            return Err(BadArgument {
                span: None,
                message: "an argument is missing".to_owned(),
                expected: expected.to_owned(),
            });
        };
        if !std::mem::take(&mut self.first) && argument.operand.mapped() {
            return argument.refuse("[*] works in the first argument only", "one value here");
        }
        Ok(argument)
    }

    /// A field or call of one of these types, each element of it when it is mapped.
    fn source(&mut self, types: &[Scalar]) -> Result<Operand> {
        let expected = words(types);
        let argument = self.next(&expected)?;
        if argument.literal().is_some() {
            let expected = format!("a field or call that gives {expected}");
            return argument.refuse("a literal cannot stand here", expected);
        }
        checked(argument, types)
    }

    /// A field, call or literal of one of these types.
    fn any(&mut self, types: &[Scalar]) -> Result<Operand> {
        checked(self.next(&words(types))?, types)
    }

    fn text(&mut self, expected: &str) -> Result<(Vec<u8>, Argument)> {
        let argument = self.next(expected)?;
        match argument.literal() {
            Some(Value::Bytes(text)) => Ok((text.to_vec(), argument)),
            _ => argument.refuse("this must be written out", expected),
        }
    }

    fn number(&mut self, range: std::ops::RangeInclusive<i64>) -> Result<i64> {
        let expected = if *range.start() == i64::MIN {
            "a whole number".to_owned()
        } else {
            format!("a whole number from {} to {}", range.start(), range.end())
        };
        let argument = self.next(&expected)?;
        match argument.literal() {
            Some(Value::Int(number)) if range.contains(number) => Ok(*number),
            Some(Value::Int(number)) => {
                argument.refuse(format!("{number} is out of range"), expected)
            }
            _ => argument.refuse("this must be written out", expected),
        }
    }

    /// Letters that switch options on, if there is one more argument.
    fn options(&mut self, known: &str) -> Result<String> {
        if self.rest.len() == 0 {
            return Ok(String::new());
        }
        let expected = format!("letters of {known:?}");
        let (text, argument) = self.text(&expected)?;
        match String::from_utf8(text) {
            Ok(letters) if letters.chars().all(|c| known.contains(c)) => Ok(letters),
            _ => argument.refuse("unknown option", expected),
        }
    }

    fn json_keys(&mut self) -> Result<Vec<JsonKey>> {
        const EXPECTED: &str = "a name in quotes or a position from 0";
        let mut keys = Vec::new();
        while keys.is_empty() || self.rest.len() > 0 {
            let argument = self.next(EXPECTED)?;
            let key = match argument.literal() {
                Some(Value::Bytes(name)) => std::str::from_utf8(name)
                    .ok()
                    .map(|name| JsonKey::Name(name.into())),
                Some(Value::Int(index)) => usize::try_from(*index).ok().map(JsonKey::Index),
                _ => None,
            };
            match key {
                Some(key) => keys.push(key),
                None => return argument.refuse("this is no step into a document", EXPECTED),
            }
        }
        Ok(keys)
    }
}

fn words(types: &[Scalar]) -> String {
    let names: Vec<_> = types.iter().map(ToString::to_string).collect();
    format!("a value of type {}", names.join(" or "))
}

fn checked(argument: Argument, types: &[Scalar]) -> Result<Operand> {
    let kind = argument.operand.kind();
    if kind.shape == Shape::One && types.contains(&kind.of) {
        return Ok(argument.operand);
    }
    let mut expected = words(types);
    if kind.shape == Shape::Array && types.contains(&kind.of) {
        expected.push_str(": add [*] or an index");
    }
    argument.refuse(format!("this is {}", article(kind)), expected)
}

/// The type with an article.
pub(super) fn article(kind: Type) -> String {
    let name = kind.to_string();
    let vowel = name.starts_with(['A', 'I']);
    format!("{} {name}", if vowel { "an" } else { "a" })
}

/// Makes the call.
///
/// # Errors
/// The first argument that is wrong.
pub(super) fn build(name: &str, arguments: Vec<Argument>) -> Result<Call> {
    use Scalar::{Bool, Bytes, Int, Ip};
    let mut reader = Reader {
        rest: arguments.into_iter(),
        first: true,
    };
    let r = &mut reader;
    let (function, arguments) = match name {
        "lower" => (Function::Lower, vec![r.source(&[Bytes])?]),
        "upper" => (Function::Upper, vec![r.source(&[Bytes])?]),
        "len" => (Function::Len, vec![measurable(r)?]),
        "starts_with" => (
            Function::StartsWith,
            vec![r.source(&[Bytes])?, r.any(&[Bytes])?],
        ),
        "ends_with" => (
            Function::EndsWith,
            vec![r.source(&[Bytes])?, r.any(&[Bytes])?],
        ),
        "concat" => {
            let mut parts = vec![r.any(&[Bytes, Int, Bool, Ip])?];
            while r.rest.len() > 0 {
                parts.push(r.any(&[Bytes, Int, Bool, Ip])?);
            }
            (Function::Concat, parts)
        }
        "join" => {
            let items = r.next("a value of type Array<String>")?;
            if items.operand.kind() != Type::array(Bytes) || items.operand.mapped() {
                let kind = article(items.operand.kind());
                return items.refuse(format!("this is {kind}"), "a value of type Array<String>");
            }
            (Function::Join, vec![items.operand, r.any(&[Bytes])?])
        }
        "split" => split(r)?,
        "substring" => {
            let source = r.source(&[Bytes])?;
            let start = r.number(i64::MIN..=i64::MAX)?;
            let end = match r.rest.len() {
                0 => None,
                _ => Some(r.number(i64::MIN..=i64::MAX)?),
            };
            (Function::Substring { start, end }, vec![source])
        }
        "to_string" => (Function::ToString, vec![r.source(&[Int, Bool, Ip])?]),
        "remove_bytes" => {
            let source = r.source(&[Bytes])?;
            let (bytes, _) = r.text("the bytes in quotes")?;
            (Function::RemoveBytes(bytes.into()), vec![source])
        }
        "url_decode" => {
            let source = r.source(&[Bytes])?;
            let options = r.options("ru")?;
            let (recursive, unicode) = (options.contains('r'), options.contains('u'));
            (Function::UrlDecode { recursive, unicode }, vec![source])
        }
        "regex_replace" | "wildcard_replace" => replace(name, r)?,
        "remove_query_args" => {
            let source = r.source(&[Bytes])?;
            let mut names = vec![r.text("a name in quotes")?.0.into()];
            while r.rest.len() > 0 {
                names.push(r.text("a name in quotes")?.0.into());
            }
            (Function::RemoveQueryArgs(names), vec![source])
        }
        "decode_base64" => (Function::DecodeBase64, vec![r.source(&[Bytes])?]),
        "encode_base64" => {
            let source = r.any(&[Bytes])?;
            let options = r.options("up")?;
            let (url, padded) = (options.contains('u'), options.contains('p'));
            (Function::EncodeBase64 { url, padded }, vec![source])
        }
        "sha256" => (Function::Sha256, vec![r.any(&[Bytes])?]),
        "lookup_json_string" => {
            let source = r.source(&[Bytes])?;
            (Function::LookupString(r.json_keys()?), vec![source])
        }
        "lookup_json_integer" => {
            let source = r.source(&[Bytes])?;
            (Function::LookupInteger(r.json_keys()?), vec![source])
        }
        "cidr" => {
            let source = r.source(&[Ip])?;
            let (v4, v6) = (bits(r.number(1..=32)?), bits(r.number(1..=128)?));
            (Function::Cidr { v4, v6 }, vec![source])
        }
        "cidr6" => {
            let source = r.source(&[Ip])?;
            let v6 = bits(r.number(1..=128)?);
            (Function::Cidr { v4: 32, v6 }, vec![source])
        }
        "has_key" => has_key(r)?,
        "has_value" => has_value(r)?,
        _ => hmac(r)?,
    };
    if let Some(extra) = reader.rest.next() {
        return extra.refuse("one argument too many", "`)`");
    }
    Ok(Call {
        function,
        arguments,
    })
}

fn bits(number: i64) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

type Built = Result<(Function, Vec<Operand>)>;

fn measurable(r: &mut Reader) -> Result<Operand> {
    const EXPECTED: &str = "a field or call that gives a String or an Array";
    let argument = r.next(EXPECTED)?;
    let kind = argument.operand.kind();
    let fits = match kind.shape {
        Shape::One => kind.of == Scalar::Bytes && argument.literal().is_none(),
        Shape::Array => !argument.operand.mapped(),
        _ => false,
    };
    if fits {
        Ok(argument.operand)
    } else {
        argument.refuse(format!("this is {}", article(kind)), EXPECTED)
    }
}

fn split(r: &mut Reader) -> Built {
    let source = r.next("a value of type String")?;
    if source.operand.mapped() {
        return source.refuse("arrays of arrays cannot be made", "one String");
    }
    let source = checked(source, &[Scalar::Bytes])?;
    let (separator, argument) = r.text("a separator in quotes")?;
    if separator.is_empty() {
        return argument.refuse("the separator is empty", "at least one character");
    }
    let limit = usize::try_from(r.number(1..=MAX_SPLIT)?).unwrap_or(1);
    let separator = separator.into();
    Ok((Function::Split { separator, limit }, vec![source]))
}

fn replace(name: &str, r: &mut Reader) -> Built {
    let source = if name == "regex_replace" {
        r.any(&[Scalar::Bytes])?
    } else {
        r.source(&[Scalar::Bytes])?
    };
    let (pattern, argument) = r.text("a pattern in quotes")?;
    let replacement = r.text("a replacement in quotes")?;
    let source_pattern = if name == "regex_replace" {
        String::from_utf8(pattern).ok()
    } else {
        let strict = r.options("s")?.contains('s');
        match wildcard_pattern(&pattern, strict) {
            Ok(pattern) => Some(pattern),
            Err(bad) => return argument.refuse(bad.message(), bad.expected()),
        }
    };
    let Some(source_pattern) = source_pattern else {
        return argument.refuse("the pattern is not UTF-8", "a regular expression");
    };
    let pattern = match super::checks::regex(&source_pattern) {
        Ok(pattern) => pattern,
        Err(message) => return argument.refuse(message, "a regular expression of Rust's kind"),
    };
    let template = match template(&replacement.0, pattern.captures_len()) {
        Ok(template) => template,
        Err(message) => {
            return replacement
                .1
                .refuse(message, "text with ${1}, ${2} …, and $$ for a dollar sign");
        }
    };
    Ok((Function::Replace { pattern, template }, vec![source]))
}

impl BadPattern {
    /// The fact.
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::TwoStars => "two * in a row",
            Self::Escape => "a backslash before something else than * or \\",
        }
    }

    /// What is right.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::TwoStars => "one * for any number of characters",
            Self::Escape => r"\* for a star, \\ for a backslash; best in a raw string",
        }
    }
}

/// The pattern as a regular expression that catches what each star stands for, as little as possible.
fn wildcard_pattern(pattern: &[u8], strict: bool) -> std::result::Result<String, BadPattern> {
    let compiled = Wildcard::new(pattern, strict)?;
    let (parts, _) = compiled.parts();
    let escaped = parts.iter().map(|part| {
        part.iter().fold(String::new(), |mut text, byte| {
            use std::fmt::Write;
            // Writing to a String does not fail.
            let _ = write!(text, "\\x{byte:02x}");
            text
        })
    });
    let flags = if strict { "(?s-u)" } else { "(?si-u)" };
    let body = escaped.collect::<Vec<_>>().join("(.*?)");
    Ok(format!("{flags}^{body}$"))
}

fn template(text: &[u8], groups: usize) -> std::result::Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut open = Vec::new();
    let mut references = 0;
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'$' {
            open.push(*byte);
            continue;
        }
        if let Some(after) = rest.strip_prefix(b"$") {
            open.push(b'$');
            rest = after;
            continue;
        }
        let reference = rest.strip_prefix(b"{").and_then(|inner| {
            let end = inner.iter().position(|byte| *byte == b'}')?;
            let number = std::str::from_utf8(inner.get(..end)?).ok()?;
            Some((number.parse::<usize>().ok()?, inner.get(end + 1..)?))
        });
        let Some((group, after)) = reference else {
            return Err("a dollar sign that refers to nothing".to_owned());
        };
        if group >= groups {
            return Err(format!("the pattern has no group {group}"));
        }
        references += 1;
        if !open.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut open).into()));
        }
        pieces.push(Piece::Group(group));
        rest = after;
    }
    if references > MAX_REFERENCES {
        return Err(format!("more than {MAX_REFERENCES} references"));
    }
    if !open.is_empty() {
        pieces.push(Piece::Text(open.into()));
    }
    Ok(pieces)
}

fn has_key(r: &mut Reader) -> Built {
    let map = r.next("a field of type Map")?;
    let is_map = matches!(map.operand.kind().shape, Shape::Map | Shape::MapOfArrays);
    if !is_map || map.operand.mapped() {
        let kind = article(map.operand.kind());
        return map.refuse(format!("this is {kind}"), "a field of type Map");
    }
    let (key, argument) = r.text("a key in quotes")?;
    match String::from_utf8(key) {
        Ok(key) => Ok((Function::HasKey(key.into()), vec![map.operand])),
        Err(_) => argument.refuse("the key is not UTF-8", "a key in quotes"),
    }
}

fn has_value(r: &mut Reader) -> Built {
    let items = r.next("a field of type Map or Array")?;
    let kind = items.operand.kind();
    if kind.shape == Shape::One || items.operand.mapped() {
        return items.refuse(
            format!("this is {}", article(kind)),
            "a field of type Map or Array",
        );
    }
    let value = r.any(&[kind.of])?;
    Ok((Function::HasValue, vec![items.operand, value]))
}

fn hmac(r: &mut Reader) -> Built {
    let (key, argument) = r.text("the key in quotes")?;
    if key.is_empty() {
        return argument.refuse("the key is empty", "the key in quotes");
    }
    let message = checked(r.next("a value of type String")?, &[Scalar::Bytes])?;
    if message.mapped() {
        return Err(BadArgument {
            span: None,
            message: "[*] does not work here".to_owned(),
            expected: "one String".to_owned(),
        });
    }
    let lifetime = r.number(0..=i64::from(u32::MAX))?;
    let now = r.any(&[Scalar::Int])?;
    let mut separator = 0;
    let mut url = false;
    while let Some(next) = r.rest.as_slice().first() {
        if matches!(next.literal(), Some(Value::Bytes(_))) {
            url = r.options("s")?.contains('s');
            break;
        }
        separator = usize::try_from(r.number(0..=255)?).unwrap_or(0);
    }
    let function = Function::TimedHmac {
        key: key.into(),
        lifetime,
        separator,
        url,
    };
    Ok((function, vec![message, now]))
}
