//! Media types as documents declare them.
//!
//! Enters: `type/subtype; name=value`. Leaves: its parts and its rank among others. What a message states is compared in
//! `enrich::schema`.

use super::contract::Media;

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
