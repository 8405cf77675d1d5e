//! Writes members of events in format `gatewatch` (design section 3) as JSON text.
//!
//! Enters: what a message holds and what the log captured of it. Leaves: bytes. Written by hand because ten million events
//! are made this way; nothing here knows what a message is worth.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::random::Random;
use super::template::push_number;
use crate::model::EventTime;

/// What the log captured of the headers of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Capture {
    /// Every header; said in the event or left to the default.
    Whole { said: bool },
    /// No header; said in the event or left to the default.
    Nothing { said: bool },
    /// Only these names.
    Listed(&'static [&'static str]),
}

impl Capture {
    /// Whether this header would be in the log had it been sent; `name` in lower case.
    pub(super) fn shows(self, name: &str) -> bool {
        match self {
            Self::Whole { .. } => true,
            Self::Nothing { .. } => false,
            Self::Listed(names) => names.iter().any(|n| n.eq_ignore_ascii_case(name)),
        }
    }

    /// Whether every header is in the log.
    pub(super) fn complete(self) -> bool {
        matches!(self, Self::Whole { .. })
    }
}

/// How a body was logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyForm {
    Text,
    Base64,
    /// Only its length.
    Missing,
    /// The first half.
    Cut,
}

impl BodyForm {
    /// Draws one; `binary` bodies cannot be text.
    pub(super) fn draw(random: &mut Random, binary: bool) -> Self {
        match random.below(1000) {
            0..=19 => Self::Missing,
            20..=29 => Self::Cut,
            30..=79 => Self::Base64,
            _ if binary => Self::Base64,
            _ => Self::Text,
        }
    }
}

/// Header fields of one message, names in lower case.
pub(super) type Fields = Vec<(&'static str, Vec<u8>)>;

/// Appends a JSON string. The bytes are UTF-8.
pub(super) fn push_json(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}

/// Appends the `headers` and `headers_captured` members with a comma in front.
pub(super) fn push_headers(
    fields: &Fields,
    capture: Capture,
    random: &mut Random,
    out: &mut Vec<u8>,
) {
    if !matches!(capture, Capture::Nothing { .. }) {
        out.extend_from_slice(b",\"headers\":{");
        let mut first = true;
        for (name, value) in fields.iter().filter(|(name, _)| capture.shows(name)) {
            if !first {
                out.push(b',');
            }
            first = false;
            push_name(name, random, out);
            out.push(b':');
            push_value(name, value, random, out);
        }
        out.push(b'}');
    }
    match capture {
        Capture::Whole { said: false } | Capture::Nothing { said: false } => {}
        Capture::Whole { said: true } => out.extend_from_slice(b",\"headers_captured\":true"),
        Capture::Nothing { said: true } => out.extend_from_slice(b",\"headers_captured\":false"),
        Capture::Listed(names) => {
            out.extend_from_slice(b",\"headers_captured\":[");
            for (index, name) in names.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                push_json(name.as_bytes(), out);
            }
            out.push(b']');
        }
    }
}

/// Header names have no case: a third of them is written as HTTP/1 clients do.
fn push_name(name: &str, random: &mut Random, out: &mut Vec<u8>) {
    let capitals = random.per_mille(330);
    let mut start = true;
    out.push(b'"');
    for byte in name.bytes() {
        out.push(if capitals && start {
            byte.to_ascii_uppercase()
        } else {
            byte
        });
        start = byte == b'-';
    }
    out.push(b'"');
}

/// A value is a string or an array of strings; cookies may come as several fields (RFC 9113 section 8.2.3).
fn push_value(name: &str, value: &[u8], random: &mut Random, out: &mut Vec<u8>) {
    match random.below(10) {
        0..=5 => push_json(value, out),
        6 if name == "cookie" => {
            out.push(b'[');
            for (index, pair) in value.split(|byte| *byte == b';').enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                push_json(pair.trim_ascii(), out);
            }
            out.push(b']');
        }
        _ => {
            out.push(b'[');
            push_json(value, out);
            out.push(b']');
        }
    }
}

/// Appends the members of a body with a comma in front, and tells whether it counts as captured.
pub(super) fn push_body(
    body: &[u8],
    form: BodyForm,
    random: &mut Random,
    out: &mut Vec<u8>,
) -> bool {
    let (shown, form) = match form {
        // An empty body is only known to be empty when the log says so.
        _ if body.is_empty() => (Some(body), BodyForm::Text),
        BodyForm::Missing => (None, form),
        BodyForm::Cut => (body.get(..body.len() / 2), BodyForm::Base64),
        BodyForm::Text | BodyForm::Base64 => (Some(body), form),
    };
    if let Some(shown) = shown {
        out.extend_from_slice(b",\"body\":");
        if form == BodyForm::Base64 {
            out.push(b'"');
            out.extend_from_slice(STANDARD.encode(shown).as_bytes());
            out.extend_from_slice(b"\",\"body_encoding\":\"base64\"");
        } else {
            push_json(shown, out);
            if random.per_mille(300) {
                out.extend_from_slice(b",\"body_encoding\":\"utf8\"");
            }
        }
    }
    let whole = shown.is_some_and(|shown| shown.len() == body.len());
    if !whole || random.per_mille(700) {
        out.extend_from_slice(b",\"body_bytes\":");
        push_number(out, body.len() as u64);
    }
    whole
}

/// Writes times: the text of the current minute is kept, because time hardly moves between events.
#[derive(Debug, Default)]
pub(super) struct TimeWriter {
    minute: i64,
    /// `"2026-11-18T00:00:` of that minute.
    prefix: Vec<u8>,
}

impl TimeWriter {
    /// Appends a time in one of the accepted forms.
    pub(super) fn push(&mut self, millis: i64, random: &mut Random, out: &mut Vec<u8>) {
        match random.below(20) {
            0 => push_number(out, u64::try_from(millis).unwrap_or(0)),
            1 => {
                // One hour ahead of UTC.
                self.push_local(millis + 3_600_000, out);
                out.extend_from_slice(b"+01:00\"");
            }
            _ => {
                self.push_local(millis, out);
                out.extend_from_slice(b"Z\"");
            }
        }
    }

    fn push_local(&mut self, millis: i64, out: &mut Vec<u8>) {
        let minute = millis.div_euclid(60_000);
        if minute != self.minute || self.prefix.is_empty() {
            self.minute = minute;
            self.prefix.clear();
            let text =
                EventTime::from_millis(minute * 60_000).map_or_else(String::new, |t| t.to_string());
            self.prefix.push(b'"');
            // Without the seconds and the zone: `00Z`.
            self.prefix
                .extend_from_slice(text.get(..17).unwrap_or(&text).as_bytes());
        }
        out.extend_from_slice(&self.prefix);
        let rest = u64::try_from(millis.rem_euclid(60_000)).unwrap_or(0);
        for divisor in [10_000, 1_000] {
            push_number(out, rest / divisor % 10);
        }
        out.push(b'.');
        for divisor in [100, 10, 1] {
            push_number(out, rest / divisor % 10);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BodyForm, Capture, Random, TimeWriter, push_body, push_headers};
    use crate::model::EventTime;

    #[test]
    fn times_read_back() {
        let mut writer = TimeWriter::default();
        let mut random = Random::new(3);
        for step in 0..2000_i64 {
            let millis = 1_795_000_000_000 + step * 7_919;
            let mut out = Vec::new();
            writer.push(millis, &mut random, &mut out);
            let text = String::from_utf8(out).unwrap();
            let read = match text.strip_prefix('"') {
                Some(quoted) => EventTime::parse(quoted.trim_end_matches('"')).unwrap(),
                None => EventTime::from_millis(text.parse().unwrap()).unwrap(),
            };
            assert_eq!(read.millis(), millis, "{text}");
        }
    }

    #[test]
    fn members_are_json_and_captures_are_honest() {
        let mut random = Random::new(5);
        let fields = vec![
            ("authorization", b"Bearer \"x\"".to_vec()),
            ("cookie", b"a=1; b=2".to_vec()),
        ];
        for capture in [
            Capture::Whole { said: true },
            Capture::Nothing { said: false },
            Capture::Listed(&["Cookie"]),
        ] {
            let mut out = b"{\"x\":1".to_vec();
            push_headers(&fields, capture, &mut random, &mut out);
            out.push(b'}');
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let shown = value["headers"].as_object().map_or(0, serde_json::Map::len);
            let expected = match capture {
                Capture::Whole { .. } => 2,
                Capture::Nothing { .. } => 0,
                Capture::Listed(_) => 1,
            };
            assert_eq!(shown, expected);
        }
        for (form, whole) in [
            (BodyForm::Text, true),
            (BodyForm::Base64, true),
            (BodyForm::Missing, false),
            (BodyForm::Cut, false),
        ] {
            let mut out = Vec::new();
            assert_eq!(push_body(b"{\"a\":1}", form, &mut random, &mut out), whole);
        }
    }
}
