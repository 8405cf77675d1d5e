//! Form bodies: `application/x-www-form-urlencoded` and `multipart/form-data`.
//!
//! Enters: the bytes of a body and the declared shape of the form. Leaves: the object that the form stands for, or why
//! there is none.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::json::{self, Refusal};
use super::text::{Assembly, Decoding, Preference};
use crate::model::ViolationClass;
use crate::policy::schemas::contract::{Encoding, Media, Style};
use crate::policy::schemas::{ValueShape, is_json};

/// Parts of one body; a form with more is not what any schema describes.
const MAX_PARTS: usize = 1_000;

const ENCODING: Refusal = (
    ViolationClass::InvalidEncoding,
    "escapes must be well formed and stand for UTF-8",
);
const SYNTAX: Refusal = (
    ViolationClass::InvalidSyntax,
    "the body must follow the syntax of multipart/form-data",
);

/// Reads a urlencoded form (WHATWG URL section 5.1).
pub(super) fn urlencoded(
    media: &Media,
    bytes: &[u8],
    preference: Preference,
) -> Result<Value, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|_| ENCODING)?;
    let assembly = Assembly {
        shape: &media.shape,
        decoding: Decoding::Form,
        preference,
    };
    let mut map = Map::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, raw) = pair.split_once('=').unwrap_or((pair, ""));
        let name = Decoding::Form.decode(name).map_err(|_| ENCODING)?;
        let value = Decoding::Form.decode(raw).map_err(|_| ENCODING)?;
        let name = own_name(&media.shape, name);
        let encoding = media.encoding.get(&*name);
        if let Some((outer, inner)) = bracketed(&media.shape, &name) {
            let shape = media.shape.member(outer).unwrap_or(assembly.shape);
            let below = Assembly { shape, ..assembly };
            let member = map
                .entry(outer.to_owned())
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(member) = member {
                below.put(member, Cow::Borrowed(inner), value);
            }
            continue;
        }
        if let Some(style) = delimiter(&media.shape, encoding, &name) {
            let shape = media.shape.member(&name).unwrap_or(assembly.shape);
            let below = Assembly { shape, ..assembly };
            let list = below.list(super::parameters::split(style, raw));
            map.insert(name.into_owned(), list.map_err(|_| ENCODING)?);
            continue;
        }
        put(&assembly, &mut map, name, value)?;
    }
    Ok(Value::Object(map))
}

/// How the items of a list share one pair, where the encoding says that they do not stand apart.
fn delimiter(shape: &ValueShape, encoding: Option<&Encoding>, name: &str) -> Option<Style> {
    let encoding = encoding?;
    let style = encoding.style.unwrap_or(Style::Form);
    let explode = encoding.explode.unwrap_or(style == Style::Form);
    (!explode && shape.member(name)?.is_array()).then_some(style)
}

/// Adds a member: objects are written as JSON, everything else as text (OpenAPI 3.1.1 section 4.8.15.1.1).
fn put(
    assembly: &Assembly<'_>,
    map: &mut Map<String, Value>,
    name: Cow<'_, str>,
    text: Cow<'_, str>,
) -> Result<(), Refusal> {
    let shape = assembly.shape.member(&name);
    let object = |shape: Option<&ValueShape>| shape.is_some_and(ValueShape::is_object);
    let item = shape.and_then(|shape| shape.item.as_deref());
    if object(shape) || (shape.is_some_and(ValueShape::is_array) && object(item)) {
        let value = json::parse_text(&text)?;
        if object(shape) || value.is_array() {
            map.insert(name.into_owned(), value);
        } else {
            append(map, &name, value);
        }
        return Ok(());
    }
    assembly.put(map, name, text);
    Ok(())
}

fn append(map: &mut Map<String, Value>, name: &str, value: Value) {
    match map.get_mut(name) {
        Some(Value::Array(list)) => list.push(value),
        _ => {
            map.insert(name.to_owned(), Value::Array(vec![value]));
        }
    }
}

/// `tags[]` is how many clients write the member `tags`.
fn own_name<'n>(shape: &ValueShape, name: Cow<'n, str>) -> Cow<'n, str> {
    match name.strip_suffix("[]") {
        Some(own) if !shape.members.contains_key(&*name) && shape.members.contains_key(own) => {
            Cow::Owned(own.to_owned())
        }
        _ => name,
    }
}

/// `address[city]` of a declared object.
fn bracketed<'n>(shape: &ValueShape, name: &'n str) -> Option<(&'n str, &'n str)> {
    let (outer, rest) = name.split_once('[')?;
    let inner = rest.strip_suffix(']')?;
    let declared = shape.member(outer).is_some_and(ValueShape::is_object);
    (declared && !inner.is_empty()).then_some((outer, inner))
}

/// Reads a multipart form (RFC 7578); calls `mismatch` with the name of every part of an undeclared media type.
pub(super) fn multipart(
    media: &Media,
    boundary: Option<&str>,
    bytes: &[u8],
    preference: Preference,
    mut mismatch: impl FnMut(&str),
) -> Result<Value, Refusal> {
    let boundary = boundary.filter(|b| !b.is_empty() && b.len() <= 70).ok_or((
        ViolationClass::InvalidSyntax,
        "the content type must state a boundary",
    ))?;
    let assembly = Assembly {
        shape: &media.shape,
        decoding: Decoding::Raw,
        preference,
    };
    let mut map = Map::new();
    for part in parts(bytes, boundary)? {
        let name = own_name(&media.shape, Cow::Borrowed(part.name));
        let declared = media.encoding.get(&*name);
        if let (Some(encoding), Some(stated)) = (declared, part.content_type)
            && !encoding.content_types.is_empty()
            && !accepts(encoding, stated)
        {
            mismatch(&name);
        }
        if part.content_type.is_some_and(is_json) {
            let value = json::parse(part.content)?;
            let array = media.shape.member(&name).is_some_and(ValueShape::is_array);
            if array && !value.is_array() {
                append(&mut map, &name, value);
            } else {
                map.insert(name.into_owned(), value);
            }
            continue;
        }
        // Files are any bytes: what is not text is judged as text with replacement characters.
        let text = String::from_utf8_lossy(part.content);
        if part.content_type.is_some() {
            assembly.put(&mut map, name, text);
        } else {
            put(&assembly, &mut map, name, text)?;
        }
    }
    Ok(Value::Object(map))
}

fn accepts(encoding: &Encoding, stated: &str) -> bool {
    let essence = stated.split(';').next().unwrap_or_default().trim();
    let Some((kind, subtype)) = essence.split_once('/') else {
        return false;
    };
    encoding.content_types.iter().any(|(own, sub)| {
        (&**own == "*" || own.eq_ignore_ascii_case(kind))
            && (&**sub == "*" || sub.eq_ignore_ascii_case(subtype))
    })
}

struct Part<'b> {
    name: &'b str,
    content_type: Option<&'b str>,
    content: &'b [u8],
}

/// Cuts a body at its boundary (RFC 2046 section 5.1.1).
fn parts<'b>(bytes: &'b [u8], boundary: &str) -> Result<Vec<Part<'b>>, Refusal> {
    let delimiter = format!("--{boundary}");
    let finder = memchr::memmem::Finder::new(delimiter.as_bytes());
    let mut found = Vec::new();
    let first = finder.find(bytes).ok_or(SYNTAX)?;
    let mut rest = bytes.get(first + delimiter.len()..).ok_or(SYNTAX)?;
    loop {
        if rest.starts_with(b"--") {
            return Ok(found);
        }
        let line = memchr::memchr(b'\n', rest).ok_or(SYNTAX)?;
        rest = rest.get(line + 1..).ok_or(SYNTAX)?;
        let end = finder.find(rest).ok_or(SYNTAX)?;
        let content = rest.get(..end).ok_or(SYNTAX)?;
        found.push(part(content).ok_or(SYNTAX)?);
        if found.len() > MAX_PARTS {
            return Err(SYNTAX);
        }
        rest = rest.get(end + delimiter.len()..).ok_or(SYNTAX)?;
    }
}

fn part(bytes: &[u8]) -> Option<Part<'_>> {
    let (head, content) = [&b"\r\n\r\n"[..], b"\n\n"].iter().find_map(|blank| {
        let at = memchr::memmem::find(bytes, blank)?;
        Some((bytes.get(..at)?, bytes.get(at + blank.len()..)?))
    })?;
    // The line break in front of a delimiter belongs to the delimiter.
    let content = content
        .strip_suffix(b"\r\n")
        .or_else(|| content.strip_suffix(b"\n"))
        .unwrap_or(content);
    let head = std::str::from_utf8(head).ok()?;
    let mut name = None;
    let mut content_type = None;
    for line in head.lines() {
        let (field, value) = line.split_once(':')?;
        if field.trim().eq_ignore_ascii_case("content-disposition") {
            name = value.split(';').skip(1).find_map(|parameter| {
                let (own, value) = parameter.split_once('=')?;
                own.trim()
                    .eq_ignore_ascii_case("name")
                    .then(|| value.trim().trim_matches('"'))
            });
        } else if field.trim().eq_ignore_ascii_case("content-type") {
            content_type = Some(value.trim());
        }
    }
    Some(Part {
        name: name?,
        content_type,
        content,
    })
}
