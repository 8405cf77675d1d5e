//! XML bodies: well-formed text → the value that the schema describes.
//!
//! Enters: text and a shape with the XML names of its members. Leaves: a tree to validate. Document types are refused,
//! because entities are how XML attacks its readers; namespaces are reduced to local names.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::json::{MAX_DEPTH, Refusal};
use super::text::{Preference, scalar};
use crate::model::ViolationClass;
use crate::policy::schemas::ValueShape;

const SYNTAX: Refusal = (
    ViolationClass::InvalidSyntax,
    "the body must be well-formed XML without a document type",
);
const DEPTH: Refusal = (
    ViolationClass::InvalidSyntax,
    "the XML must not nest deeper than 64 levels",
);

/// One element.
#[derive(Debug, Default)]
struct Element<'t> {
    name: &'t str,
    attributes: Vec<(&'t str, Cow<'t, str>)>,
    children: Vec<Element<'t>>,
    text: String,
}

/// Reads a body as the value of a shape.
pub(super) fn parse(
    bytes: &[u8],
    shape: &ValueShape,
    preference: Preference,
) -> Result<Value, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|_| {
        (
            ViolationClass::InvalidEncoding,
            "the body must be encoded in UTF-8",
        )
    })?;
    let mut reader = Reader {
        rest: text.strip_prefix('\u{feff}').unwrap_or(text),
    };
    reader.between()?;
    let root = reader.element(MAX_DEPTH)?;
    reader.between()?;
    if !reader.rest.is_empty() {
        return Err(SYNTAX);
    }
    Ok(value(&root, shape, preference))
}

struct Reader<'t> {
    rest: &'t str,
}

impl<'t> Reader<'t> {
    fn take(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// The text in front of `end`; the reader goes on behind it.
    fn until(&mut self, end: &str) -> Result<&'t str, Refusal> {
        let (before, after) = self.rest.split_once(end).ok_or(SYNTAX)?;
        self.rest = after;
        Ok(before)
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    /// What may stand around the root: space, comments, processing instructions.
    fn between(&mut self) -> Result<(), Refusal> {
        loop {
            self.space();
            if self.take("<!--") {
                self.until("-->")?;
            } else if self.take("<?") {
                self.until("?>")?;
            } else {
                return Ok(());
            }
        }
    }

    fn name(&mut self) -> Result<&'t str, Refusal> {
        let end = self
            .rest
            .find(|c: char| {
                c.is_whitespace() || matches!(c, '/' | '>' | '=' | '<' | '"' | '\'' | '&')
            })
            .ok_or(SYNTAX)?;
        let (name, rest) = self.rest.split_at(end);
        let first = name.chars().next().ok_or(SYNTAX)?;
        if !(first.is_alphabetic() || matches!(first, '_' | ':')) {
            return Err(SYNTAX);
        }
        self.rest = rest;
        Ok(name)
    }

    fn element(&mut self, depth: usize) -> Result<Element<'t>, Refusal> {
        let depth = depth.checked_sub(1).ok_or(DEPTH)?;
        if !self.take("<") {
            return Err(SYNTAX);
        }
        let full = self.name()?;
        let mut element = Element {
            name: local(full),
            ..Element::default()
        };
        loop {
            let before = self.rest.len();
            self.space();
            if self.take("/>") {
                return Ok(element);
            }
            if self.take(">") {
                break;
            }
            if self.rest.len() == before {
                return Err(SYNTAX);
            }
            let name = self.name()?;
            self.space();
            if !self.take("=") {
                return Err(SYNTAX);
            }
            self.space();
            let raw = if self.take("\"") {
                self.until("\"")?
            } else if self.take("'") {
                self.until("'")?
            } else {
                return Err(SYNTAX);
            };
            if raw.contains('<') {
                return Err(SYNTAX);
            }
            if name != "xmlns" && !name.starts_with("xmlns:") {
                element.attributes.push((local(name), unescape(raw)?));
            }
        }
        loop {
            let at = self.rest.find('<').ok_or(SYNTAX)?;
            let (raw, rest) = self.rest.split_at(at);
            element.text.push_str(&unescape(raw)?);
            self.rest = rest;
            if self.take("</") {
                let end = self.name()?;
                self.space();
                if end != full || !self.take(">") {
                    return Err(SYNTAX);
                }
                return Ok(element);
            }
            if self.take("<!--") {
                self.until("-->")?;
            } else if self.take("<![CDATA[") {
                let raw = self.until("]]>")?;
                element.text.push_str(raw);
            } else if self.take("<?") {
                self.until("?>")?;
            } else {
                element.children.push(self.element(depth)?);
            }
        }
    }
}

/// A name without its namespace prefix.
fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

/// Replaces the five predefined entities and character references (XML 1.0 section 4.6).
fn unescape(raw: &str) -> Result<Cow<'_, str>, Refusal> {
    if !raw.contains('&') {
        return Ok(Cow::Borrowed(raw));
    }
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, tail)) = rest.split_once('&') {
        out.push_str(before);
        let (entity, after) = tail.split_once(';').ok_or(SYNTAX)?;
        let character = match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            other => {
                let digits = other.strip_prefix('#').ok_or(SYNTAX)?;
                let code = match digits.strip_prefix('x') {
                    Some(hex) => u32::from_str_radix(hex, 16),
                    None => digits.parse(),
                };
                code.ok().and_then(char::from_u32).ok_or(SYNTAX)?
            }
        };
        out.push(character);
        rest = after;
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

/// The value that an element stands for.
fn value(element: &Element<'_>, shape: &ValueShape, preference: Preference) -> Value {
    if shape.is_array() {
        // A list at the root, or behind `wrapped`: its items are the children.
        return items(element.children.iter(), shape, preference);
    }
    let compound = !element.children.is_empty() || !element.attributes.is_empty();
    if !(shape.is_object() || compound) {
        return scalar(Cow::Borrowed(element.text.trim()), shape, preference);
    }
    object(element, shape, preference)
}

fn items<'e, 't: 'e>(
    elements: impl Iterator<Item = &'e Element<'t>>,
    shape: &ValueShape,
    preference: Preference,
) -> Value {
    let free = ValueShape::default();
    let item = shape.item.as_deref().unwrap_or(&free);
    Value::Array(
        elements
            .map(|child| value(child, item, preference))
            .collect(),
    )
}

fn object(element: &Element<'_>, shape: &ValueShape, preference: Preference) -> Value {
    let mut map = Map::new();
    let mut known: Vec<&str> = Vec::new();
    for (name, member) in &shape.members {
        let written = member.xml.name.as_deref().unwrap_or(name);
        if member.xml.attribute {
            let found = element.attributes.iter().find(|(own, _)| *own == written);
            if let Some((_, text)) = found {
                map.insert(name.to_string(), scalar(text.clone(), member, preference));
            }
            continue;
        }
        let written = match &member.item {
            // Items that are not wrapped carry their own name where they have one.
            Some(item) if member.is_array() && !member.xml.wrapped => {
                item.xml.name.as_deref().unwrap_or(written)
            }
            _ => written,
        };
        known.push(written);
        let mut children = element
            .children
            .iter()
            .filter(|child| child.name == written);
        if member.is_array() && !member.xml.wrapped {
            let list: Vec<&Element<'_>> = children.collect();
            if !list.is_empty() {
                map.insert(
                    name.to_string(),
                    items(list.into_iter(), member, preference),
                );
            }
        } else if let Some(child) = children.next() {
            map.insert(name.to_string(), value(child, member, preference));
        }
    }
    let free = ValueShape::default();
    let other = shape.other.as_deref().unwrap_or(&free);
    for child in &element.children {
        if !known.contains(&child.name) {
            map.insert(child.name.to_owned(), value(child, other, preference));
        }
    }
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Preference, parse};
    use crate::policy::schemas::ValueShape;

    fn read(text: &str) -> Result<serde_json::Value, &'static str> {
        parse(text.as_bytes(), &ValueShape::default(), Preference::Text).map_err(|(_, why)| why)
    }

    #[test]
    fn reads_well_formed_xml() {
        for (text, expected) in [
            ("<a>x</a>", json!("x")),
            ("<?xml version=\"1.0\"?><!-- c --><a/>", json!("")),
            (
                "<n:a xmlns:n='u'><n:b>1</n:b><c>&lt;&#65;&#x42;</c></n:a>",
                json!({"b": "1", "c": "<AB"}),
            ),
            ("<a><b><![CDATA[<x>]]></b></a>\n", json!({"b": "<x>"})),
        ] {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        let deep = "<a>".repeat(100_000);
        for text in [
            "",
            "x",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a b>",
            "<a b=c/>",
            "<a b='<'/>",
            "<a>&b;</a>",
            "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
            "<1/>",
            "<a>&#xffffffff;</a>",
            deep.as_str(),
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
