//! JSON text → tree, strictly: one value, names once per object, at most 64 levels.
//!
//! Enters: the bytes of a body. Leaves: the tree that is validated, or why there is none. Duplicate names are refused
//! because parsers disagree about which one counts, which is what an attacker wants.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::model::ViolationClass;

/// Deepest nesting that is looked at (design section 12).
pub(super) const MAX_DEPTH: usize = 64;

/// Why a text is no tree.
pub(super) type Refusal = (ViolationClass, &'static str);

/// Parses one JSON value.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|_| {
        (
            ViolationClass::InvalidEncoding,
            "the body must be encoded in UTF-8",
        )
    })?;
    parse_text(text)
}

/// Parses one JSON value from text.
pub(super) fn parse_text(text: &str) -> Result<Value, Refusal> {
    let fault = Cell::new("the text must be valid JSON");
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let seed = Node {
        depth: MAX_DEPTH,
        fault: &fault,
    };
    seed.deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|_| (ViolationClass::InvalidSyntax, fault.get()))
}

#[derive(Clone, Copy)]
struct Node<'f> {
    /// Levels that may still open.
    depth: usize,
    fault: &'f Cell<&'static str>,
}

impl<'f> Node<'f> {
    fn deeper<E: serde::de::Error>(self) -> Result<Node<'f>, E> {
        if let Some(depth) = self.depth.checked_sub(1) {
            Ok(Node {
                depth,
                fault: self.fault,
            })
        } else {
            self.fault
                .set("the JSON must not nest deeper than 64 levels");
            Err(E::custom("depth"))
        }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
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

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let below = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(below)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let below = self.deeper()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(below)?;
            if map.insert(name, value).is_some() {
                self.fault.set("the names in a JSON object must be unique");
                return Err(A::Error::custom("duplicate"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::parse;
    use crate::model::ViolationClass::{InvalidEncoding, InvalidSyntax};

    #[test]
    fn reads_json_strictly() {
        assert_eq!(
            parse(b" {\"a\": [1, -2, 2.5, \"x\", null, true]} "),
            Ok(json!({"a": [1, -2, 2.5, "x", null, true]}))
        );
        for (body, class) in [
            (&b""[..], InvalidSyntax),
            (b"{", InvalidSyntax),
            (b"{} {}", InvalidSyntax),
            (b"{\"a\": 1, \"a\": 1}", InvalidSyntax),
            (b"[NaN]", InvalidSyntax),
            (b"[1e999]", InvalidSyntax),
            (b"\"\xff\"", InvalidEncoding),
            (b"\"\\ud800\"", InvalidSyntax),
        ] {
            assert_eq!(parse(body).map_err(|(class, _)| class), Err(class));
        }
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(parse(nested(64).as_bytes()).is_ok());
        assert!(parse(nested(65).as_bytes()).is_err());
        assert!(parse(nested(100_000).as_bytes()).is_err());
    }
}
