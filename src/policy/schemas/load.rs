//! Text of a document → a JSON tree, or the line and column at which it stops being one.
//!
//! Enters: YAML or JSON. Leaves: one tree with text keys (`200:` is the key "200"). What the tree means is not asked here.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::model::Problems;
use crate::policy::objects::FileText;

/// Nesting that a description may have; the same as `serde_json` allows, so that both syntaxes accept the same trees.
const MAX_DEPTH: usize = 127;
/// Nodes of a YAML document. Published descriptions of 13 MB have about one million.
const MAX_NODES: usize = 16_000_000;

/// Parses a document; `None` after a problem was noted.
pub(super) fn parse(file: &FileText, problems: &mut Problems) -> Option<Value> {
    let bytes = file
        .bytes
        .strip_prefix(b"\xEF\xBB\xBF")
        .unwrap_or(&file.bytes);
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = memchr::memchr_iter(b'\n', valid).count() + 1;
            let column = valid.len() - memchr::memrchr(b'\n', valid).map_or(0, |at| at + 1) + 1;
            problems.hint(
                format!("{}:{line}:{column}", file.name),
                "the document is not UTF-8",
                "save the file as UTF-8",
            );
            return None;
        }
    };
    let looks_like_json = text.trim_start().starts_with(['{', '[']);
    let json_error = if looks_like_json {
        match serde_json::from_str::<Tree>(text) {
            Ok(tree) => return Some(tree.0),
            Err(error) => Some(error),
        }
    } else {
        None
    };
    // A YAML flow mapping starts with a brace as well, so JSON that fails may still be YAML.
    match serde_saphyr::from_str_with_options::<Tree>(text, options()) {
        Ok(tree) => Some(tree.0),
        Err(error) => {
            if let Some(json) = json_error {
                problems.add(
                    format!("{}:{}:{}", file.name, json.line(), json.column()),
                    format!(
                        "the document is not JSON: {}",
                        first_line(&json.to_string())
                    ),
                );
            } else {
                let place = match error.location() {
                    Some(at) => format!("{}:{}:{}", file.name, at.line(), at.column()),
                    None => format!("{}:1:1", file.name),
                };
                problems.add(
                    place,
                    format!(
                        "the document is not YAML: {}",
                        first_line(&error.without_snippet().to_string())
                    ),
                );
            }
            None
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn options() -> serde_saphyr::Options {
    let budget = serde_saphyr::budget! {
        max_depth: MAX_DEPTH,
        max_events: MAX_NODES * 2,
        max_nodes: MAX_NODES,
        max_total_scalar_bytes: usize::MAX,
        max_documents: 1,
    };
    serde_saphyr::options! {
        budget: budget,
        strict_booleans: true,
        with_snippet: false,
    }
}

/// A JSON tree whose keys are text whatever they look like, and stand once per object.
struct Tree(Value);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor).map(Tree)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON can hold")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Value, E> {
        Number::from_i128(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Value, E> {
        Number::from_u128(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Tree(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(Key(key)) = members.next_key()? {
            let Tree(value) = members.next_value()?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {key:?} stands twice")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// A key as text: YAML keys such as `200`, `true` or `1.0` keep their spelling.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_string(KeyVisitor).map(Key)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is text or a number")
    }

    fn visit_str<E>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }

    fn visit_string<E>(self, value: String) -> Result<String, E> {
        Ok(value)
    }

    fn visit_bool<E>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::parse;
    use crate::model::Problems;
    use crate::policy::objects::FileText;

    fn load(text: &str) -> Result<serde_json::Value, String> {
        let file = FileText {
            name: "api.yaml".into(),
            bytes: text.into(),
        };
        let mut problems = Problems::default();
        parse(&file, &mut problems).ok_or_else(|| {
            let problem = problems.0.pop().unwrap();
            format!("{}: {}", problem.place, problem.message)
        })
    }

    #[test]
    fn reads_yaml_and_json_alike() {
        for (text, expected) in [
            (
                "a: 1\nb: [x, true, null]",
                json!({"a": 1, "b": ["x", true, null]}),
            ),
            ("{\"a\": 1.5}", json!({"a": 1.5})),
            ("{a: 1}", json!({"a": 1})),
            (
                "200: x\n\"404\": y\ntrue: z\n1.0: w",
                json!({"200": "x", "404": "y", "true": "z", "1.0": "w"}),
            ),
            (
                "a: no\nb: off\nc: \"1\"\nd: 2026-01-01",
                json!({"a": "no", "b": "off", "c": "1", "d": "2026-01-01"}),
            ),
            ("a: &x {k: 1}\nb: *x", json!({"a": {"k": 1}, "b": {"k": 1}})),
            ("\u{feff}{\"a\": 1}", json!({"a": 1})),
        ] {
            assert_eq!(load(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn names_the_line_and_column_of_a_mistake() {
        for (text, place) in [
            ("{\n \"a\": 1,\n \"b\" 2}", "api.yaml:3:6: "),
            ("a: 1\nb: [1, 2\nc: 3\n", "api.yaml:"),
            ("a: 1\na: 2\n", "api.yaml:2:"),
            ("{\"a\": 1, \"a\": 2}", "api.yaml:1:"),
            ("a:\n\t- b", "api.yaml:2:"),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.starts_with(place), "{error}");
        }
        let deep = "[".repeat(100_000);
        assert!(load(&deep).is_err());
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g,*g]";
        assert!(load(bomb).is_err());
    }
}
