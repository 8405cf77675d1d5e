//! Bodies: is one there, of a declared media type, in its syntax, and as the schema says.
//!
//! Enters: the declared body and the captured bytes. Leaves: violations, or the note that the body was not captured.

use std::borrow::Cow;

use serde_json::Value;

use super::json::{self, Refusal};
use super::text::{Preference, scalar};
use super::{Side, coding, form, xml};
use crate::model::{Headers, Location, ViolationClass};
use crate::policy::schemas::contract::{Body, Media};
use crate::policy::schemas::{is_json, push_token};

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
    match coding::decoded(headers, bytes) {
        coding::Decoded::Plain(bytes) => content(media, &content_type, bytes, side),
        coding::Decoded::Unpacked(bytes) => content(media, &content_type, &bytes, side),
        coding::Decoded::Broken => fault(
            media,
            ViolationClass::InvalidEncoding,
            "the body must follow its content coding",
            side,
        ),
        coding::Decoded::Unknown => side.skip(),
    }
}

/// What is known about the syntax of a media type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Syntax {
    Json,
    /// One JSON value a line.
    Lines,
    Urlencoded,
    Multipart,
    Xml,
    Text,
    /// Bytes without a syntax known here.
    Opaque,
}

fn syntax(content_type: &str) -> Syntax {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let is = |name: &str| essence.eq_ignore_ascii_case(name);
    let ends = |tail: &str| {
        let at = essence.len().checked_sub(tail.len());
        at.and_then(|at| essence.get(at..))
            .is_some_and(|own| own.eq_ignore_ascii_case(tail))
    };
    let starts = |head: &str| {
        essence
            .get(..head.len())
            .is_some_and(|own| own.eq_ignore_ascii_case(head))
    };
    if is_json(essence) {
        Syntax::Json
    } else if [
        "ndjson",
        "x-ndjson",
        "jsonl",
        "x-jsonlines",
        "json-lines",
        "json-seq",
    ]
    .iter()
    .any(|name| starts("application/") && ends(&format!("/{name}")))
    {
        Syntax::Lines
    } else if is("application/x-www-form-urlencoded") {
        Syntax::Urlencoded
    } else if is("multipart/form-data") {
        Syntax::Multipart
    } else if ends("/xml") || ends("+xml") {
        Syntax::Xml
    } else if starts("text/") {
        Syntax::Text
    } else {
        Syntax::Opaque
    }
}

/// Judges the bytes behind all codings.
fn content(media: &Media, content_type: &str, bytes: &[u8], side: &mut Side<'_>) {
    let syntax = syntax(content_type);
    if syntax == Syntax::Opaque {
        return;
    }
    // JSON between systems is UTF-8 (RFC 8259 section 8.1), of which ASCII is a part; texts in other encodings cannot
    // be read here.
    let charset = parameter(content_type, "charset");
    // `utf8` without the hyphen is not registered, but every reader takes it for what it means.
    let utf8 = charset.is_none_or(|charset| {
        ["utf-8", "utf8", "us-ascii"]
            .iter()
            .any(|name| charset.eq_ignore_ascii_case(name))
    });
    if !utf8 {
        match syntax {
            Syntax::Json | Syntax::Lines => fault(
                media,
                ViolationClass::InvalidEncoding,
                "the body must be encoded in UTF-8",
                side,
            ),
            _ => {}
        }
        return;
    }
    match syntax {
        Syntax::Json => match json::parse(bytes) {
            Ok(value) => {
                judged(media, &value, side);
                undeclared(media, &value, side);
            }
            Err(refusal) => refused(media, refusal, side),
        },
        Syntax::Lines => lines(media, bytes, side),
        Syntax::Urlencoded => tried(media, true, side, |preference, _| {
            form::urlencoded(media, bytes, preference)
        }),
        Syntax::Multipart => {
            let boundary = parameter(content_type, "boundary");
            tried(media, true, side, |preference, side| {
                form::multipart(media, boundary, bytes, preference, |name| {
                    // A name that the encoding declares is known to the schema.
                    let mut target = String::new();
                    push_token(&mut target, name);
                    side.add(
                        Location::Body,
                        ViolationClass::UnsupportedMediaType,
                        Cow::Owned(target),
                        || format!("{}/encoding", media.pointer),
                        || "the part must have a declared media type".into(),
                    );
                })
            });
        }
        Syntax::Xml => tried(media, false, side, |preference, _| {
            xml::parse(bytes, &media.shape, preference)
        }),
        Syntax::Text => match std::str::from_utf8(bytes) {
            Ok(_) if media.shape.any_text || media.check.is_none() => {}
            Ok(text) => tried(media, false, side, |preference, _| {
                Ok(scalar(Cow::Borrowed(text), &media.shape, preference))
            }),
            Err(_) => fault(
                media,
                ViolationClass::InvalidEncoding,
                "the body must be encoded in UTF-8",
                side,
            ),
        },
        Syntax::Opaque => {}
    }
}

/// Judges a value made from texts; when the texts could be several values, one that conforms is enough.
fn tried(
    media: &Media,
    forms: bool,
    side: &mut Side<'_>,
    make: impl Fn(Preference, &mut Side<'_>) -> Result<Value, Refusal>,
) {
    let mut first = None;
    for preference in [Preference::Typed, Preference::Text] {
        let value = match make(preference, side) {
            Ok(value) => value,
            Err(refusal) => return refused(media, refusal, side),
        };
        if media
            .check
            .as_ref()
            .is_none_or(|check| side.accepts(check, &value))
        {
            // An object made from texts is a form; XML has attributes and namespaces that no schema declares.
            if forms {
                undeclared(media, &value, side);
            }
            return;
        }
        if first.as_ref() == Some(&value) {
            break;
        }
        first.get_or_insert(value);
    }
    if let Some(value) = first {
        if let Some(check) = &media.check {
            side.explain(Location::Body, None, check, &value);
        }
        if forms {
            undeclared(media, &value, side);
        }
    }
}

/// One JSON value a line: each is judged, or all of them as the list that the schema describes.
fn lines(media: &Media, bytes: &[u8], side: &mut Side<'_>) {
    let mut list = Vec::new();
    // A record separator starts each text of a JSON sequence (RFC 7464 section 2.2).
    for line in bytes.split(|byte| matches!(byte, b'\n' | 0x1E)) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        match json::parse(line) {
            Ok(value) => list.push(value),
            Err(refusal) => return refused(media, refusal, side),
        }
    }
    if media.shape.is_array() {
        let list = Value::Array(list);
        judged(media, &list, side);
        undeclared(media, &list, side);
        return;
    }
    for value in &list {
        judged(media, value, side);
        undeclared(media, value, side);
        if side.room() == 0 || side.judging.is_spent() {
            return;
        }
    }
}

fn refused(media: &Media, (class, detail): Refusal, side: &mut Side<'_>) {
    fault(media, class, detail, side);
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

fn judged(media: &Media, value: &Value, side: &mut Side<'_>) {
    let Some(check) = &media.check else {
        return;
    };
    if !side.accepts(check, value) {
        side.explain(Location::Body, None, check, value);
    }
}

/// Members that no schema declares, where the operator wants to know.
fn undeclared(media: &Media, value: &Value, side: &mut Side<'_>) {
    let Some(members) = &media.members else {
        return;
    };
    if side.judging.is_spent() {
        return;
    }
    members.undeclared(value, |found| {
        side.add(
            Location::Body,
            ViolationClass::UndeclaredParameter,
            Cow::Owned(found.target),
            || found.pointer,
            || "only declared members are allowed".into(),
        );
        side.room() > 0
    });
}
