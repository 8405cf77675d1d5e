//! Bodies: is one there, of a declared media type, in its syntax, and as the schema says.
//!
//! Enters: the declared body and the captured bytes. Leaves: violations, or the note that the body was not captured.

use std::borrow::Cow;

use super::{Side, json};
use crate::model::{Headers, Location, ViolationClass};
use crate::policy::schemas::contract::{Body, Media};
use crate::policy::schemas::is_json;

/// Judges the body of one side.
pub(super) fn judge(body: &Body, headers: &Headers<'_>, bytes: Option<&[u8]>, side: &mut Side<'_>) {
    if body.media.is_empty() {
        return;
    }
    let Some(bytes) = bytes else {
        side.skip();
        return;
    };
    if bytes.is_empty() {
        if body.required {
            side.add(
                Location::Body,
                ViolationClass::MissingRequired,
                Cow::Borrowed(""),
                || format!("{}/required", body.pointer),
                || "the body is required".into(),
            );
        }
        return;
    }
    let stated = headers.first("content-type").map(str::trim);
    let (media, content_type) = match stated {
        Some(text) => match select(&body.media, text) {
            Some(media) => (media, Cow::Borrowed(text)),
            None => return unsupported(body, side),
        },
        None if headers.would_show("content-type") => return unsupported(body, side),
        None => {
            if let [only] = body.media.as_slice() {
                (only, Cow::Owned(format!("{}/{}", only.kind, only.subtype)))
            } else {
                side.skip();
                return;
            }
        }
    };
    if is_json(&content_type) {
        json_body(media, &content_type, bytes, side);
    }
}

fn unsupported(body: &Body, side: &mut Side<'_>) {
    side.add(
        Location::Body,
        ViolationClass::UnsupportedMediaType,
        Cow::Borrowed(""),
        || format!("{}/content", body.pointer),
        || {
            let names: Vec<String> = body
                .media
                .iter()
                .map(|media| format!("{}/{}", media.kind, media.subtype))
                .collect();
            format!("the media type must be {}", names.join(" or "))
        },
    );
}

/// The most specific declared media type that a content type matches; declared parameters decide between equals.
fn select<'m>(declared: &'m [Media], content_type: &str) -> Option<&'m Media> {
    let mut parts = content_type.split(';');
    let (kind, subtype) = parts.next()?.trim().split_once('/')?;
    let (kind, subtype) = (kind.trim(), subtype.trim());
    if kind.is_empty() || subtype.is_empty() {
        return None;
    }
    let matches = |media: &&Media| {
        let kind_fits = &*media.kind == "*" || media.kind.eq_ignore_ascii_case(kind);
        let subtype_fits = match media.subtype.strip_prefix('*') {
            Some(suffix) => {
                let tail = subtype.len().checked_sub(suffix.len());
                tail.and_then(|at| subtype.get(at..))
                    .is_some_and(|tail| tail.eq_ignore_ascii_case(suffix))
            }
            None => media.subtype.eq_ignore_ascii_case(subtype),
        };
        kind_fits && subtype_fits
    };
    let with_parameters = |media: &&Media| {
        media.parameters.iter().all(|(name, value)| {
            parameter(content_type, name).is_some_and(|own| own.eq_ignore_ascii_case(value))
        })
    };
    declared
        .iter()
        .filter(matches)
        .find(with_parameters)
        .or_else(|| declared.iter().find(matches))
}

/// The value of a parameter of a media type, without quotes.
fn parameter<'t>(content_type: &'t str, name: &str) -> Option<&'t str> {
    content_type.split(';').skip(1).find_map(|part| {
        let (own, value) = part.split_once('=')?;
        own.trim()
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().trim_matches('"'))
    })
}

fn fault(media: &Media, class: ViolationClass, detail: &'static str, side: &mut Side<'_>) {
    side.add(
        Location::Body,
        class,
        Cow::Borrowed(""),
        || media.pointer.to_string(),
        || detail.into(),
    );
}

fn json_body(media: &Media, content_type: &str, bytes: &[u8], side: &mut Side<'_>) {
    // JSON between systems is UTF-8 (RFC 8259 section 8.1); ASCII is a part of it.
    let charset = parameter(content_type, "charset");
    if charset
        .is_some_and(|c| !c.eq_ignore_ascii_case("utf-8") && !c.eq_ignore_ascii_case("us-ascii"))
    {
        return fault(
            media,
            ViolationClass::InvalidEncoding,
            "the body must be encoded in UTF-8",
            side,
        );
    }
    match json::parse(bytes) {
        Ok(value) => value_of_body(media, &value, side),
        Err((class, detail)) => fault(media, class, detail, side),
    }
}

fn value_of_body(media: &Media, value: &serde_json::Value, side: &mut Side<'_>) {
    let Some(check) = &media.check else {
        return;
    };
    if check.accepts(value) {
        return;
    }
    check.explain(value, side.room(), |finding| {
        side.add(
            Location::Body,
            finding.class,
            Cow::Owned(finding.target),
            || finding.pointer,
            || finding.detail,
        );
    });
}
