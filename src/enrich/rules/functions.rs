//! What the functions of the language give (feature map section 6.2).
//!
//! Enters: a function with its constants, and values. Leaves: a value, or nothing when there is none to give. Work is
//! bounded by the length of the value; nothing is copied that does not change.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose};
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::policy::rules::functions::{Function, JsonKey, Piece};
use crate::policy::rules::types::Value;

/// Most rounds of recursive decoding: without a bound, a text of nothing but nested escapes costs its length squared.
const MAX_ROUNDS: usize = 16;

/// Digits of the timestamp in a message with a MAC, and the least length of the MAC (feature map section 6.2).
const TIMESTAMP_DIGITS: usize = 10;
const MIN_MAC: usize = 43;

/// Lenient about padding and the unused bits of the last character, as logs and clients are.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

type Bytes<'a> = Cow<'a, [u8]>;

/// The result of a call with its first argument and the other ones.
pub(super) fn apply<'a>(
    function: &Function,
    first: Value<'a>,
    rest: &[Value<'a>],
) -> Option<Value<'a>> {
    let text = match (function, first) {
        (Function::ToString, value) => return Some(Value::Bytes(as_text(value))),
        (Function::Concat, value) => return Some(Value::Bytes(concat(value, rest))),
        (Function::Cidr { v4, v6 }, Value::Ip(ip)) => {
            return Some(Value::Ip(network(ip, *v4, *v6)));
        }
        (_, Value::Bytes(text)) => text,
        _ => return None,
    };
    Some(match function {
        Function::Len => Value::Int(i64::try_from(text.len()).ok()?),
        Function::StartsWith => Value::Bool(text.starts_with(rest.first()?.bytes()?)),
        Function::EndsWith => Value::Bool(text.ends_with(rest.first()?.bytes()?)),
        Function::LookupString(path) => match seek(&text, path)? {
            Found::Text(text) => Value::Bytes(Cow::Owned(text.into_bytes())),
            _ => return None,
        },
        Function::LookupInteger(path) => match seek(&text, path)? {
            Found::Int(number) => Value::Int(number),
            _ => return None,
        },
        Function::TimedHmac {
            key,
            lifetime,
            separator,
            url,
        } => {
            let Some(Value::Int(now)) = rest.first() else {
                return None;
            };
            Value::Bool(timed_hmac(&text, key, *lifetime, *now, *separator, *url))
        }
        function => Value::Bytes(bytes(function, text)?),
    })
}

/// Functions from text to text.
fn bytes<'a>(function: &Function, text: Bytes<'a>) -> Option<Bytes<'a>> {
    Some(match function {
        Function::Lower if text.iter().any(u8::is_ascii_uppercase) => {
            text.to_ascii_lowercase().into()
        }
        Function::Upper if text.iter().any(u8::is_ascii_lowercase) => {
            text.to_ascii_uppercase().into()
        }
        Function::Substring { start, end } => substring(text, *start, *end),
        Function::RemoveBytes(unwanted) => {
            if text.iter().any(|byte| unwanted.contains(byte)) {
                let mut kept = text.into_owned();
                kept.retain(|byte| !unwanted.contains(byte));
                kept.into()
            } else {
                text
            }
        }
        Function::UrlDecode { recursive, unicode } => url_decode(text, *recursive, *unicode),
        Function::Replace { pattern, template } => replace(text, pattern, template),
        Function::RemoveQueryArgs(names) => {
            let unwanted = |argument: &&[u8]| {
                let end = argument.iter().position(|byte| *byte == b'=');
                let name = argument.get(..end.unwrap_or(argument.len()));
                name.is_some_and(|name| names.iter().any(|known| **known == *name))
            };
            let arguments = text.split(|byte| *byte == b'&');
            let kept: Vec<_> = arguments.filter(|argument| !unwanted(argument)).collect();
            kept.join(&b'&').into()
        }
        Function::DecodeBase64 => STANDARD.decode(&text).ok()?.into(),
        Function::EncodeBase64 { url, padded } => {
            let engine = match (url, padded) {
                (false, false) => general_purpose::STANDARD_NO_PAD,
                (false, true) => general_purpose::STANDARD,
                (true, false) => general_purpose::URL_SAFE_NO_PAD,
                (true, true) => general_purpose::URL_SAFE,
            };
            engine.encode(&text).into_bytes().into()
        }
        Function::Sha256 => digest::digest(&digest::SHA256, &text)
            .as_ref()
            .to_vec()
            .into(),
        // Lower and upper of what is so already.
        _ => text,
    })
}

fn as_text(value: Value<'_>) -> Bytes<'_> {
    match value {
        Value::Bytes(text) => text,
        Value::Bool(true) => Cow::Borrowed(b"true"),
        Value::Bool(false) => Cow::Borrowed(b"false"),
        Value::Int(number) => number.to_string().into_bytes().into(),
        Value::Ip(ip) => ip.to_string().into_bytes().into(),
    }
}

fn concat<'a>(first: Value<'a>, rest: &[Value<'a>]) -> Bytes<'a> {
    let mut whole = as_text(first);
    for part in rest {
        whole.to_mut().extend_from_slice(&as_text(part.borrowed()));
    }
    whole
}

fn network(ip: IpAddr, v4: u8, v6: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(v4)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(v6)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
        }
    }
}

/// The parts of a text between separators; the last one holds the rest.
pub(super) fn split<'a>(function: &Function, text: Value<'a>) -> Option<Vec<Value<'a>>> {
    let (Function::Split { separator, limit }, Value::Bytes(text)) = (function, text) else {
        return None;
    };
    let finder = memchr::memmem::Finder::new(separator);
    let mut ranges = Vec::new();
    let mut start = 0;
    while ranges.len() + 1 < *limit {
        let Some(at) = text.get(start..).and_then(|rest| finder.find(rest)) else {
            break;
        };
        ranges.push(start..start + at);
        start += at + separator.len();
    }
    ranges.push(start..text.len());
    let part = |range: std::ops::Range<usize>| match &text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(range).unwrap_or_default()),
        Cow::Owned(text) => Cow::Owned(text.get(range).unwrap_or_default().to_vec()),
    };
    Some(
        ranges
            .into_iter()
            .map(|range| Value::Bytes(part(range)))
            .collect(),
    )
}

fn substring(text: Bytes<'_>, start: i64, end: Option<i64>) -> Bytes<'_> {
    let length = i64::try_from(text.len()).unwrap_or(i64::MAX);
    let place = |index: i64| {
        let from_start = if index < 0 {
            length.saturating_add(index)
        } else {
            index
        };
        usize::try_from(from_start.clamp(0, length)).unwrap_or(0)
    };
    let range = place(start)..end.map_or(text.len(), place);
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(range).unwrap_or_default()),
        Cow::Owned(text) => text.get(range).unwrap_or_default().to_vec().into(),
    }
}

fn url_decode(text: Bytes<'_>, recursive: bool, unicode: bool) -> Bytes<'_> {
    let mut text = text;
    for _ in 0..if recursive { MAX_ROUNDS } else { 1 } {
        match decoded(&text, unicode) {
            Some(next) => text = next.into(),
            None => break,
        }
    }
    text
}

/// One round of decoding; `None` when nothing changes. What is no escape stays.
fn decoded(text: &[u8], unicode: bool) -> Option<Vec<u8>> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return None;
    }
    let number = |digits: Option<&[u8]>| {
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut out = Vec::with_capacity(text.len());
    let mut changed = false;
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        let (escaped, length) = match byte {
            b'+' => (Some(u32::from(b' ')), 0),
            b'%' if unicode && after.first() == Some(&b'u') => (number(after.get(1..5)), 5),
            b'%' => (number(after.get(..2)), 2),
            _ => (None, 0),
        };
        // A surrogate is no character, so its escape stays.
        let character = escaped.and_then(char::from_u32);
        match character {
            Some(c) if length == 5 => {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            Some(c) => out.push(u8::try_from(u32::from(c)).unwrap_or(b'?')),
            None => out.push(*byte),
        }
        changed |= character.is_some();
        rest = match character {
            Some(_) => after.get(length..).unwrap_or_default(),
            None => after,
        };
    }
    changed.then_some(out)
}

fn replace<'a>(text: Bytes<'a>, pattern: &regex::bytes::Regex, template: &[Piece]) -> Bytes<'a> {
    let Some(captures) = pattern.captures(&text) else {
        return text;
    };
    let Some(whole) = captures.get(0) else {
        return text.clone();
    };
    let mut out = text.get(..whole.start()).unwrap_or_default().to_vec();
    for piece in template {
        match piece {
            Piece::Text(literal) => out.extend_from_slice(literal),
            Piece::Group(group) => {
                out.extend_from_slice(captures.get(*group).map_or(&[], |found| found.as_bytes()));
            }
        }
    }
    out.extend_from_slice(text.get(whole.end()..).unwrap_or_default());
    out.into()
}

/// A message with a MAC: `message separator timestamp-mac`, the MAC over message and timestamp.
fn timed_hmac(
    text: &[u8],
    key: &[u8],
    lifetime: i64,
    now: i64,
    separator: usize,
    url: bool,
) -> bool {
    let stamped = |dash: &usize| {
        let digits = dash
            .checked_sub(TIMESTAMP_DIGITS)
            .and_then(|start| text.get(start..*dash));
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
    };
    // The last place that fits, as a greedy pattern finds it.
    let Some(last) = text.len().checked_sub(MIN_MAC + 1) else {
        return false;
    };
    let candidates = (TIMESTAMP_DIGITS..=last).rev();
    let Some(dash) = candidates
        .filter(|at| text.get(*at) == Some(&b'-'))
        .find(stamped)
    else {
        return false;
    };
    let stamp_at = dash - TIMESTAMP_DIGITS;
    let (Some(message), Some(stamp), Some(mac)) = (
        stamp_at
            .checked_sub(separator)
            .and_then(|end| text.get(..end)),
        text.get(stamp_at..dash),
        text.get(dash + 1..),
    ) else {
        return false;
    };
    let issued = std::str::from_utf8(stamp)
        .ok()
        .and_then(|stamp| stamp.parse::<i64>().ok());
    let mac = if url {
        URL_SAFE.decode(mac).ok()
    } else {
        let plain: Vec<u8> = percent_encoding::percent_decode(mac).collect();
        STANDARD.decode(plain).ok()
    };
    let (Some(issued), Some(mac)) = (issued, mac) else {
        return false;
    };
    let signed = [message, stamp].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    !message.is_empty()
        && now < issued.saturating_add(lifetime)
        && hmac::verify(&key, &signed, &mac).is_ok()
}

/// What stands at a place of a JSON document.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Text(String),
    Int(i64),
    /// Something else, or nothing.
    Other,
}

/// Walks into a JSON document without building it. Of several members of one name the last counts.
fn seek(document: &[u8], path: &[JsonKey]) -> Option<Found> {
    let mut reader = serde_json::Deserializer::from_slice(document);
    let found = Seek(path).deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(found)
}

struct Seek<'p>(&'p [JsonKey]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Found;

    fn deserialize<D: de::Deserializer<'de>>(self, reader: D) -> Result<Found, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Found, A::Error> {
        let mut found = Found::Other;
        while let Some(name) = members.next_key::<Cow<'de, str>>()? {
            match self.0.split_first() {
                Some((JsonKey::Name(wanted), rest)) if **wanted == *name => {
                    found = members.next_value_seed(Seek(rest))?;
                }
                _ => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Found, A::Error> {
        let mut found = Found::Other;
        let mut left = match self.0.split_first() {
            Some((JsonKey::Index(wanted), rest)) => Some((*wanted, rest)),
            _ => None,
        };
        loop {
            if let Some((0, rest)) = left {
                let Some(element) = elements.next_element_seed(Seek(rest))? else {
                    return Ok(found);
                };
                found = element;
                left = None;
            } else {
                if elements.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(found);
                }
                left = left.map(|(wanted, rest)| (wanted - 1, rest));
            }
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Found, E> {
        Ok(if self.0.is_empty() {
            Found::Text(text.to_owned())
        } else {
            Found::Other
        })
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Found, E> {
        Ok(if self.0.is_empty() {
            Found::Int(number)
        } else {
            Found::Other
        })
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Found, E> {
        match i64::try_from(number) {
            Ok(number) => self.visit_i64(number),
            Err(_) => Ok(Found::Other),
        }
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Found, E> {
        Ok(Found::Other)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Found, E> {
        Ok(Found::Other)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Found, E> {
        Ok(Found::Other)
    }
}
