//! Texts of parameters and form fields → values, directed by the types that the schema admits.
//!
//! Enters: raw text and a shape. Leaves: decoded text and JSON values. Which text belongs to which parameter is known in
//! `parameters`.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Number, Value};

use crate::policy::schemas::{Types, ValueShape};

/// How far a text is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decoding {
    /// Percent escapes, and `+` is a space (WHATWG URL section 5.1).
    Form,
    /// Percent escapes.
    Percent,
    /// Percent escapes where they are well formed, else the text as it is.
    Lenient,
    /// Taken as it is.
    Raw,
}

/// What to try when a text could be several values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preference {
    /// Numbers, booleans and null first.
    Typed,
    /// Text wherever text is admitted.
    Text,
}

/// Bytes that are no text, or a broken escape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadEncoding;

impl Decoding {
    pub(super) fn decode(self, raw: &str) -> Result<Cow<'_, str>, BadEncoding> {
        match self {
            Self::Raw => Ok(Cow::Borrowed(raw)),
            Self::Lenient => Ok(percent(raw).unwrap_or(Cow::Borrowed(raw))),
            Self::Form if raw.contains('+') => {
                let spaced = raw.replace('+', " ");
                percent(&spaced).map(|decoded| Cow::Owned(decoded.into_owned()))
            }
            Self::Percent | Self::Form => percent(raw),
        }
    }
}

fn percent(raw: &str) -> Result<Cow<'_, str>, BadEncoding> {
    if !raw.contains('%') {
        return Ok(Cow::Borrowed(raw));
    }
    let well_formed = raw.split('%').skip(1).all(|tail| {
        let mut digits = tail.bytes();
        digits.next().is_some_and(|b| b.is_ascii_hexdigit())
            && digits.next().is_some_and(|b| b.is_ascii_hexdigit())
    });
    if !well_formed {
        return Err(BadEncoding);
    }
    percent_decode_str(raw)
        .decode_utf8()
        .map_err(|_| BadEncoding)
}

/// The value that a text stands for.
pub(super) fn scalar(text: Cow<'_, str>, shape: &ValueShape, preference: Preference) -> Value {
    let typed = preference == Preference::Typed || !shape.types.any(Types::STRING);
    if typed {
        if (shape.types.any(Types::NUMBER) || shape.types.any(Types::INTEGER))
            && let Some(number) = number(&text)
        {
            return Value::Number(number);
        }
        if shape.types.any(Types::BOOLEAN) {
            match &*text {
                "true" => return Value::Bool(true),
                "false" => return Value::Bool(false),
                _ => {}
            }
        }
        if shape.types.any(Types::NULL) && matches!(&*text, "" | "null") {
            return Value::Null;
        }
    }
    Value::String(text.into_owned())
}

/// A number in the grammar of JSON (RFC 8259 section 6).
fn number(text: &str) -> Option<Number> {
    let first = *text.as_bytes().first()?;
    if !(first == b'-' || first.is_ascii_digit()) {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// Collects decoded items and members into a value.
#[derive(Clone, Copy)]
pub(super) struct Assembly<'s> {
    pub(super) shape: &'s ValueShape,
    pub(super) decoding: Decoding,
    pub(super) preference: Preference,
}

impl Assembly<'_> {
    /// A list of raw items.
    pub(super) fn list<'r>(
        &self,
        items: impl Iterator<Item = &'r str>,
    ) -> Result<Value, BadEncoding> {
        let free = ValueShape::default();
        let shape = self.shape.item.as_deref().unwrap_or(&free);
        let mut list = Vec::new();
        for raw in items {
            let text = self.decoding.decode(raw)?;
            list.push(scalar(text, shape, self.preference));
        }
        // One empty text is the empty list, unless it can be an item.
        if let [Value::String(only)] = list.as_slice()
            && only.is_empty()
            && !shape.types.any(Types::STRING)
        {
            list.clear();
        }
        Ok(Value::Array(list))
    }

    /// Adds a member; a repeated one makes a list.
    pub(super) fn put(&self, map: &mut Map<String, Value>, name: Cow<'_, str>, text: Cow<'_, str>) {
        let free = ValueShape::default();
        let shape = self.shape.member(&name).unwrap_or(&free);
        let array = shape.is_array();
        let item = if array { shape.item.as_deref() } else { None };
        let value = scalar(text, item.unwrap_or(shape), self.preference);
        match map.get_mut(&*name) {
            // Texts never stand for lists, so a list here is one that repetition has made. It must not be put into
            // another: a form may repeat a name thousands of times, and nothing walks a tree of that depth.
            Some(Value::Array(list)) => list.push(value),
            Some(known) => {
                let first = known.take();
                *known = Value::Array(vec![first, value]);
            }
            None if array => {
                map.insert(name.into_owned(), Value::Array(vec![value]));
            }
            None => {
                map.insert(name.into_owned(), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BadEncoding, Decoding};

    #[test]
    fn decodes_as_far_as_asked() {
        for (decoding, raw, expected) in [
            (Decoding::Form, "a+b%20c%2B", Ok("a b c+")),
            (Decoding::Percent, "a+b%20c", Ok("a+b c")),
            (Decoding::Percent, "%C3%A9", Ok("é")),
            (Decoding::Percent, "%C3", Err(BadEncoding)),
            (Decoding::Percent, "100%", Err(BadEncoding)),
            (Decoding::Form, "%zz", Err(BadEncoding)),
            (Decoding::Lenient, "100%", Ok("100%")),
            (Decoding::Raw, "%20", Ok("%20")),
        ] {
            assert_eq!(decoding.decode(raw).as_deref().map_err(|e| *e), expected);
        }
    }
}
