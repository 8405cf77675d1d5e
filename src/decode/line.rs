//! A gateway's log line: one JSON object whose members an operator chose, read member by member.
//!
//! Enters: a line, perhaps with a syslog header. Leaves: its members, borrowed. What they mean is the adapters'.
//!
//! A gateway's log is made of what clients sent, so bytes that are not UTF-8 must not get the whole line refused: that
//! would be a way to stay unseen. They become U+FFFD, except in bodies, which are handed over as the bytes they are.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::wire::Text;
use super::{Limits, MAX_HEADERS, too_deep};
use crate::model::{EventTime, Reject};

/// A member's value, as far as a log line has any use for it.
#[derive(Debug)]
pub(super) enum Value<'a> {
    /// `null`, and what is nested too deep to mean anything.
    Null,
    Text(Cow<'a, str>),
    /// A string under a name in [`BODIES`].
    Bytes(Cow<'a, [u8]>),
    Bool(bool),
    Integer(i64),
    Number(f64),
    List(Vec<Value<'a>>),
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
}

/// Members whose bytes count, valid UTF-8 or not.
const BODIES: &[&str] = &["request_body", "response_body"];

/// Levels of containers that are kept: an object of lists, which is how headers are logged.
const LEVELS: u8 = 2;

/// Calls `each` with every member of the line, in the order in which they stand.
///
/// # Errors
/// The line is too long, too deep or not one JSON object.
pub(super) fn members<'a>(
    payload: &'a [u8],
    limits: Limits,
    each: &mut dyn FnMut(Cow<'a, str>, Value<'a>),
) -> Result<(), Reject> {
    if payload.len() > limits.event {
        return Err(Reject::TooLarge);
    }
    if too_deep(payload) {
        return Err(Reject::TooDeep);
    }
    // A syslog daemon, or a gateway that writes to one, puts its header in front.
    let start = memchr::memchr(b'{', payload).ok_or(Reject::Malformed)?;
    let object = payload.get(start..).unwrap_or_default();
    let mut deserializer = sonic_rs::Deserializer::from_slice(object).utf8_lossy();
    Members(each)
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
        .map_err(|_| Reject::Malformed)
}

struct Members<'f, 'a>(&'f mut dyn FnMut(Cow<'a, str>, Value<'a>));

impl<'de> DeserializeSeed<'de> for Members<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(name)) = map.next_key()? {
            let value = if BODIES.contains(&name.as_ref()) {
                map.next_value_seed(Bytes)?
            } else {
                map.next_value_seed(Level(LEVELS))?
            };
            (self.0)(name, value);
        }
        Ok(())
    }
}

/// Reads a value; containers only as long as the level is above zero.
#[derive(Clone, Copy)]
struct Level(u8);

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text)))
    }

    fn visit_unit<E: Error>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value<'de>, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value<'de>, E> {
        Ok(i64::try_from(value).map_or(Value::Null, Value::Integer))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value<'de>, E> {
        Ok(Value::Number(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value<'de>, A::Error> {
        let mut items = Vec::new();
        // One more than may be, so that whoever counts them can tell.
        while let Some(inner) = self.0.checked_sub(1)
            && items.len() <= MAX_HEADERS
        {
            let Some(item) = seq.next_element_seed(Level(inner))? else {
                return Ok(Value::List(items));
            };
            items.push(item);
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(if self.0 == 0 {
            Value::Null
        } else {
            Value::List(items)
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(inner) = self.0.checked_sub(1)
            && members.len() <= MAX_HEADERS
        {
            let Some(Text(name)) = map.next_key()? else {
                return Ok(Value::Object(members));
            };
            members.push((name, map.next_value_seed(Level(inner))?));
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(if self.0 == 0 {
            Value::Null
        } else {
            Value::Object(members)
        })
    }
}

/// Reads a string as bytes; anything else is nothing.
struct Bytes;

impl<'de> DeserializeSeed<'de> for Bytes {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for Bytes {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Value<'de>, E> {
        Ok(Value::Bytes(Cow::Borrowed(bytes)))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Value<'de>, E> {
        Ok(Value::Bytes(Cow::Owned(bytes.to_vec())))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Value<'de>, E> {
        Ok(Value::Bytes(Cow::Owned(bytes)))
    }

    fn visit_unit<E: Error>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }
}

impl<'a> Value<'a> {
    /// The text; numbers are written out, because an operator may leave out the quotes.
    pub(super) fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Integer(number) => Some(Cow::Owned(number.to_string())),
            Self::Number(number) => Some(Cow::Owned(number.to_string())),
            Self::Bytes(Cow::Borrowed(bytes)) => Some(String::from_utf8_lossy(bytes)),
            Self::Bytes(Cow::Owned(bytes)) => {
                Some(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()))
            }
            Self::Null | Self::Bool(_) | Self::List(_) | Self::Object(_) => None,
        }
    }

    /// The text when it is not empty: most formats write nothing, or a dash, where nothing was.
    pub(super) fn filled(self) -> Option<Cow<'a, str>> {
        self.text()
            .filter(|text| !matches!(text.as_ref(), "" | "-"))
    }

    /// A number, in quotes or not.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            #[expect(
                clippy::cast_precision_loss,
                reason = "durations, in milliseconds or seconds"
            )]
            Self::Integer(number) => Some(*number as f64),
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
            _ => None,
        }
    }

    /// A whole number, in quotes or not.
    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// A whole number that is not negative.
    pub(super) fn unsigned(&self) -> Option<u64> {
        self.integer().and_then(|number| u64::try_from(number).ok())
    }

    /// Yes or no, however gateways write it.
    pub(super) fn flag(&self) -> Option<bool> {
        match self {
            Self::Bool(flag) => Some(*flag),
            Self::Integer(0) => Some(false),
            Self::Integer(1) => Some(true),
            Self::Text(text) => match text.as_ref() {
                "1" | "true" | "on" => Some(true),
                "0" | "false" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// A time: RFC 3339, or the epoch in seconds (also with a fraction), milliseconds, microseconds or nanoseconds.
    pub(super) fn time(&self) -> Option<EventTime> {
        match self {
            Self::Integer(number) => epoch(*number, ""),
            Self::Text(text) => match text.split_once('.') {
                _ if text.contains(['-', ':']) => EventTime::parse(text),
                Some((whole, fraction)) => epoch(whole.parse().ok()?, fraction),
                None => epoch(text.parse().ok()?, ""),
            },
            // A double holds today's seconds to a quarter of a microsecond.
            Self::Number(seconds) if (0.0..1e10).contains(seconds) => {
                #[expect(clippy::cast_possible_truncation, reason = "in range, see the guard")]
                let micros = (seconds * 1e6).round() as i64;
                EventTime::from_nanos(micros.checked_mul(1_000)?)
            }
            _ => None,
        }
    }
}

/// Epoch time. Units are told apart by size: 10¹¹ seconds are the year 5138, 10¹¹ milliseconds 1973.
fn epoch(whole: i64, fraction: &str) -> Option<EventTime> {
    let digits = whole.checked_ilog10().unwrap_or_default() + 1;
    let nanos_per_unit = match digits {
        0..=11 => 1_000_000_000,
        12..=14 => 1_000_000,
        15..=17 => 1_000,
        _ => 1,
    };
    let mut nanos = whole.checked_mul(nanos_per_unit)?;
    let mut digit_nanos = nanos_per_unit / 10;
    for digit in fraction.bytes() {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        nanos = nanos.checked_add(i64::from(digit) * digit_nanos)?;
        digit_nanos /= 10;
    }
    EventTime::from_nanos(nanos)
}

#[cfg(test)]
mod tests {
    use super::{BODIES, Value, members};
    use crate::decode::Limits;
    use crate::model::Reject;

    fn read(payload: &[u8]) -> Result<Vec<String>, Reject> {
        let mut found = Vec::new();
        members(payload, Limits::default(), &mut |name, value| {
            found.push(format!("{name}={value:?}"));
        })
        .map(|()| found)
    }

    #[test]
    fn members_of_every_kind() {
        let line = br#"<190>Nov 23 04:31:37 gate nginx: {"a":"x","b":1,"c":1.5,"d":null,"e":true,
            "f":["x",["y"]],"g":{"h":["x"],"i":{"j":{}}},"k":18446744073709551615}"#;
        assert_eq!(
            read(line).unwrap(),
            [
                "a=Text(\"x\")",
                "b=Integer(1)",
                "c=Number(1.5)",
                "d=Null",
                "e=Bool(true)",
                "f=List([Text(\"x\"), List([Text(\"y\")])])",
                "g=Object([(\"h\", List([Text(\"x\")])), (\"i\", Object([(\"j\", Null)]))])",
                "k=Null",
            ]
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for line in [
            &b""[..],
            b"Proxy api started.",
            b"[]",
            b"{",
            br#"{"a":1"#,
            br#"{"a":1} trailing"#,
            br#"{"a":1}{"b":2}"#,
            br#"{"a":[1,}"#,
            br#"{"status":000}"#,
            b"{\"a\":\"line\nbreak\"}",
        ] {
            assert_eq!(read(line), Err(Reject::Malformed), "{line:?}");
        }
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(64), "]".repeat(64));
        assert_eq!(read(deep.as_bytes()), Err(Reject::TooDeep));
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(2 << 20));
        assert_eq!(read(long.as_bytes()), Err(Reject::TooLarge));
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_but_kept_in_bodies() {
        assert_eq!(
            read(b"{\"http_user_agent\":\"a\xffb\",\"x\":\"\\ud800\",\"c\":\"\xc3\xa9\"}").unwrap(),
            [
                "http_user_agent=Text(\"a\u{fffd}b\")",
                "x=Text(\"\u{fffd}\")",
                "c=Text(\"é\")"
            ]
        );
        for body in BODIES {
            let line = [b"{\"", body.as_bytes(), b"\":\"\xff\\u0000\\\"\",\"z\":1}"].concat();
            let expected = format!("{body}=Bytes([255, 0, 34])");
            assert_eq!(read(&line).unwrap(), [expected, "z=Integer(1)".to_owned()]);
        }
    }

    #[test]
    fn long_lists_are_cut_just_above_the_bound() {
        let many = vec!["1"; 5_000].join(",");
        let mut kept = 0;
        members(
            format!(r#"{{"a":[{many}]}}"#).as_bytes(),
            Limits::default(),
            &mut |_, value| {
                if let Value::List(items) = value {
                    kept = items.len();
                }
            },
        )
        .unwrap();
        assert_eq!(kept, 257);
    }

    #[test]
    fn times_in_every_unit() {
        let expected = Some("2024-04-10T23:00:00.123Z".to_owned());
        for value in [
            Value::Text("1712790000.123".into()),
            Value::Text("1712790000123".into()),
            Value::Text("2024-04-11T01:00:00.123+02:00".into()),
            Value::Integer(1_712_790_000_123),
            Value::Integer(1_712_790_000_123_000),
            Value::Integer(1_712_790_000_123_000_000),
            Value::Number(1_712_790_000.123),
        ] {
            assert_eq!(value.time().map(|at| at.to_string()), expected, "{value:?}");
        }
        let fine = Value::Text("1712790000.1234567891".into());
        assert_eq!(
            fine.time().map(|at| at.nanos() % 1_000_000_000),
            Some(123_456_789)
        );
        for value in [
            Value::Null,
            Value::Text("".into()),
            Value::Text("-".into()),
            Value::Text("-1.5".into()),
            Value::Text("1712790000.x".into()),
            Value::Text("yesterday".into()),
            Value::Integer(-1),
            Value::Integer(i64::MAX),
            Value::Number(f64::NAN),
            Value::Number(1e300),
        ] {
            assert_eq!(value.time(), None, "{value:?}");
        }
    }
}
