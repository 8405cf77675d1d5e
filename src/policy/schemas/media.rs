//! Media types as documents declare them.
//!
//! Enters: `type/subtype; name=value`. Leaves: its parts and its rank among others. What a message states is compared in
//! `enrich::schema`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::contract::{Encoding, Media, Style};

/// Whether a media type is JSON (RFC 8259, RFC 6839 section 3.1).
#[must_use]
pub fn is_json(media: &str) -> bool {
    let essence = media.split(';').next().unwrap_or_default().trim();
    essence
        .get(essence.len().saturating_sub(5)..)
        .is_some_and(|tail| {
            tail.eq_ignore_ascii_case("+json") || tail.eq_ignore_ascii_case("/json")
        })
}

pub(super) type MediaName = (Box<str>, Box<str>, Vec<(Box<str>, Box<str>)>);

/// Takes `type/subtype; name=value` apart (RFC 9110 section 8.3.1).
pub(super) fn media_type(name: &str) -> Option<MediaName> {
    let mut parts = name.split(';');
    let (kind, subtype) = match parts.next()?.trim() {
        "*" => ("*", "*"),
        essence => essence.split_once('/')?,
    };
    if kind.is_empty() || subtype.is_empty() {
        return None;
    }
    let parameters = parts
        .filter_map(|part| part.trim().split_once('='))
        .map(|(name, value)| {
            (
                name.trim().to_ascii_lowercase().into(),
                value.trim().trim_matches('"').into(),
            )
        })
        .collect();
    Some((
        kind.to_ascii_lowercase().into(),
        subtype.to_ascii_lowercase().into(),
        parameters,
    ))
}

pub(super) fn specificity(media: &Media) -> (bool, bool, std::cmp::Reverse<usize>, &str, &str) {
    (
        &*media.kind == "*",
        media.subtype.starts_with('*'),
        std::cmp::Reverse(media.parameters.len()),
        &media.kind,
        &media.subtype,
    )
}

/// How the members of a form are written, as a media type object declares it.
pub(super) fn encodings(media: &Value) -> BTreeMap<Box<str>, Encoding> {
    let declared = media.get("encoding").and_then(Value::as_object);
    declared
        .into_iter()
        .flatten()
        .map(|(name, encoding)| {
            let text = |member: &str| encoding.get(member).and_then(Value::as_str);
            let content_types = text("contentType")
                .into_iter()
                .flat_map(|list| list.split(','))
                .filter_map(|name| media_type(name.trim()))
                .map(|(kind, subtype, _)| (kind, subtype))
                .collect();
            let style = match text("style") {
                Some("form") => Some(Style::Form),
                Some("spaceDelimited") => Some(Style::SpaceDelimited),
                Some("pipeDelimited") => Some(Style::PipeDelimited),
                Some("deepObject") => Some(Style::DeepObject),
                _ => None,
            };
            let encoding = Encoding {
                content_types,
                style,
                explode: encoding.get("explode").and_then(Value::as_bool),
            };
            (name.as_str().into(), encoding)
        })
        .collect()
}
