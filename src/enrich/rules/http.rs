//! The parts of a request that expressions name: arguments, cookies, header fields, form members.
//!
//! Enters: texts as logged. Leaves: names and values, borrowed and in log order.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::source::Fact;
use crate::model::Headers;

/// Name and value.
pub(super) type Pair<'a> = (Cow<'a, str>, &'a str);

/// The arguments of a query or an urlencoded body, not decoded; without `=` the value is empty.
pub(super) fn arguments(query: &str) -> impl Iterator<Item = Pair<'_>> {
    query
        .split('&')
        .filter(|argument| !argument.is_empty())
        .map(|argument| {
            let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
            (Cow::Borrowed(name), value)
        })
}

/// The cookies over all `Cookie` fields; percent escapes in names are decoded, values are as sent.
pub(super) fn cookies<'a>(headers: &'a Headers<'_>) -> impl Iterator<Item = Pair<'a>> {
    headers
        .values("cookie")
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let name = percent_decode_str(name.trim()).decode_utf8_lossy();
            Some((name, value.trim()))
        })
}

/// The header fields; names as sent.
pub(super) fn fields<'a>(headers: &'a Headers<'_>) -> impl Iterator<Item = Pair<'a>> {
    let fields = headers.fields.iter();
    fields.map(|(name, value)| (Cow::Borrowed(name.as_ref()), value.as_ref()))
}

/// The one text of a header field that expressions see as a field of its own: empty when it was not sent, its values
/// with commas in between when it was sent several times (RFC 9110 section 5.3).
pub(super) fn header<'a>(headers: &'a Headers<'_>, name: &'static str) -> Fact<Cow<'a, str>> {
    let mut values = headers.values(name);
    match values.next() {
        None if headers.would_show(name) => Fact::Known(Cow::Borrowed("")),
        None => Fact::NotCaptured,
        Some(first) => {
            let mut whole = Cow::Borrowed(first);
            for value in values {
                let whole = whole.to_mut();
                whole.push_str(", ");
                whole.push_str(value);
            }
            Fact::Known(whole)
        }
    }
}

/// Extension of the last segment without its dot, in lower case; empty when there is none.
pub(super) fn extension(path: &str) -> Cow<'_, str> {
    let segment = path.rsplit('/').next().unwrap_or_default();
    let extension = segment
        .rsplit_once('.')
        .map_or("", |(_, extension)| extension);
    if extension.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(extension.to_ascii_lowercase())
    } else {
        Cow::Borrowed(extension)
    }
}

/// A media type without its parameters, in lower case.
pub(super) fn essence(content_type: &str) -> Cow<'_, str> {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if essence.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(essence.to_ascii_lowercase())
    } else {
        Cow::Borrowed(essence)
    }
}
