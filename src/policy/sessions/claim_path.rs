//! The way to one claim: JSONPath (RFC 9535) restricted to literal names and indexes.
//!
//! Enters: the path as configured. Leaves: its steps. Wildcards, slices, filters and descendants are refused, because
//! an identifier must be exactly one value.

use serde_json::{Map, Value};

/// A path that selects at most one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    /// Negative ones count from the end (RFC 9535 section 2.3.3).
    Index(i64),
}

/// What a good path looks like.
pub(super) const HINT: &str =
    "write a path of names and indexes, such as $.sub or $['https://example.com/id'][0]";

/// Largest index: RFC 9535 section 2.1 keeps integers within I-JSON's exact range.
const MAX_INDEX: i64 = 9_007_199_254_740_991;

impl ClaimPath {
    /// Parses a path; it starts at `$`, the claims set.
    ///
    /// # Errors
    /// What is wrong, as a lower-case fact.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text
            .strip_prefix('$')
            .ok_or_else(|| format!("{text:?} does not start with $"))?;
        let mut steps = Vec::new();
        loop {
            // Blanks may stand between segments, not at the end (RFC 9535 section 2.1.1).
            let segment = rest.trim_start_matches(is_blank);
            if segment.is_empty() {
                break;
            }
            let (step, after) = if let Some(dotted) = segment.strip_prefix('.') {
                shorthand(dotted)?
            } else if let Some(bracketed) = segment.strip_prefix('[') {
                selector(bracketed)?
            } else {
                return Err(format!("unexpected {segment:?}"));
            };
            steps.push(step);
            rest = after;
        }
        if !rest.is_empty() {
            return Err("a blank at the end".to_owned());
        }
        if steps.is_empty() {
            return Err("the path selects the whole claims set".to_owned());
        }
        Ok(Self { steps })
    }

    /// The value, if the claims have it.
    #[must_use]
    pub fn select<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let (first, rest) = self.steps.split_first()?;
        let Step::Name(name) = first else {
            return None;
        };
        rest.iter()
            .try_fold(claims.get(name)?, |value, step| match step {
                Step::Name(name) => value.as_object()?.get(name),
                Step::Index(index) => {
                    let items = value.as_array()?;
                    let length = i64::try_from(items.len()).ok()?;
                    let position = if *index < 0 { index + length } else { *index };
                    items.get(usize::try_from(position).ok()?)
                }
            })
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// `.name` (RFC 9535 section 2.5.1.1).
fn shorthand(text: &str) -> Result<(Step, &str), String> {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()))
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("no name after the dot in {text:?}"));
    }
    Ok((Step::Name(name.to_owned()), rest))
}

/// The inside of a bracket: a quoted name or an index.
fn selector(text: &str) -> Result<(Step, &str), String> {
    let text = text.trim_start_matches(is_blank);
    let (step, rest) = match text.chars().next() {
        Some(quote @ ('\'' | '"')) => {
            let (name, rest) = quoted(text.get(1..).unwrap_or_default(), quote)?;
            (Step::Name(name), rest)
        }
        _ => index(text)?,
    };
    let rest = rest
        .trim_start_matches(is_blank)
        .strip_prefix(']')
        .ok_or_else(|| "a bracket holds one quoted name or one index".to_owned())?;
    Ok((step, rest))
}

fn index(text: &str) -> Result<(Step, &str), String> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '-'))
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let digits = number.strip_prefix('-').unwrap_or(number);
    let plain = digits == "0" && digits == number || !digits.starts_with('0');
    match number.parse::<i64>() {
        Ok(value) if plain && value.abs() <= MAX_INDEX => Ok((Step::Index(value), rest)),
        _ => Err("a bracket holds one quoted name or one index".to_owned()),
    }
}

/// The rest of a string literal (RFC 9535 section 2.3.1.1), its opening quote already read.
fn quoted(text: &str, quote: char) -> Result<(String, &str), String> {
    let mut name = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            _ if c == quote => return Ok((name, rest.as_str())),
            '\\' => {
                let escaped = match rest.next() {
                    Some('b') => '\u{8}',
                    Some('f') => '\u{c}',
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('t') => '\t',
                    Some(c @ ('/' | '\\')) => c,
                    Some(c) if c == quote => c,
                    Some('u') => unicode(&mut rest)?,
                    _ => return Err("an unknown escape in a quoted name".to_owned()),
                };
                name.push(escaped);
            }
            c if c < ' ' => return Err("a control character in a quoted name".to_owned()),
            c => name.push(c),
        }
    }
    Err("a quoted name without its closing quote".to_owned())
}

/// The digits after `\u`, a surrogate pair included.
fn unicode(rest: &mut std::str::Chars<'_>) -> Result<char, String> {
    let wrong = || "an escape that is no character in a quoted name".to_owned();
    let first = code_unit(rest).ok_or_else(wrong)?;
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first).ok_or_else(wrong);
    }
    if rest.next() != Some('\\') || rest.next() != Some('u') {
        return Err(wrong());
    }
    match code_unit(rest) {
        Some(second @ 0xdc00..=0xdfff) => {
            char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

/// Four hexadecimal digits.
fn code_unit(rest: &mut std::str::Chars<'_>) -> Option<u32> {
    (0..4).try_fold(0, |value, _| Some(value * 16 + rest.next()?.to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::ClaimPath;

    #[test]
    fn selects_one_value() {
        let claims = json!({
            "sub": "u1", "a": {"b": [10, {"c": true}]}, "https://x/y": "z", "": 0, "é": 1, "a'b": 2, "\u{1f600}": 3
        });
        let claims = claims.as_object().unwrap();
        for (path, expected) in [
            ("$.sub", Some(json!("u1"))),
            ("$['sub']", Some(json!("u1"))),
            ("$ [ \"sub\" ]", Some(json!("u1"))),
            ("$.a.b[0]", Some(json!(10))),
            ("$.a.b[-1].c", Some(json!(true))),
            ("$['a']['b'][1]['c']", Some(json!(true))),
            ("$['https://x/y']", Some(json!("z"))),
            ("$['']", Some(json!(0))),
            ("$.é", Some(json!(1))),
            (r"$['a\'b']", Some(json!(2))),
            (r#"$["a'b"]"#, Some(json!(2))),
            (r"$['\ud83d\ude00']", Some(json!(3))),
            (r"$['\u0073ub']", Some(json!("u1"))),
            ("$.missing", None),
            ("$.sub.x", None),
            ("$.sub[0]", None),
            ("$.a.b[2]", None),
            ("$.a.b[-3]", None),
            ("$.a[0]", None),
            ("$[0]", None),
        ] {
            let parsed = ClaimPath::parse(path).unwrap();
            assert_eq!(parsed.select(claims).cloned(), expected, "{path}");
        }
    }

    #[test]
    fn refuses_what_may_select_more_or_nothing_sensible() {
        for path in [
            "",
            "$",
            "sub",
            ".sub",
            "$sub",
            "$.",
            "$..sub",
            "$.*",
            "$[*]",
            "$[]",
            "$.a[?@.b]",
            "$.a[0:1]",
            "$['a','b']",
            "$[0,1]",
            "$[01]",
            "$[-0]",
            "$[1.5]",
            "$[--1]",
            "$.1a",
            "$.a-b",
            "$.a ",
            "$['a",
            "$['a'",
            "$[a]",
            r"$['\x']",
            r"$['\ud83d']",
            r"$['\ud83dx']",
            r"$['\ude00']",
            "$['a\nb']",
            "$[9007199254740992]",
            "$[99999999999999999999]",
        ] {
            assert!(ClaimPath::parse(path).is_err(), "{path}");
        }
    }
}
