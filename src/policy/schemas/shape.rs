//! What a schema says about types, for texts that must become values first: parameters and form fields.
//!
//! Enters: the address of a schema. Leaves: the JSON types it admits, the shapes of its items and members. Constraints
//! are left to the validators.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::documents::{Address, Documents};

/// Nesting of lists and objects inside one parameter that is looked at.
const MAX_DEPTH: usize = 6;
/// References and compositions followed for one level.
const MAX_HOPS: usize = 32;

/// Set of JSON types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Types(u8);

impl Types {
    /// No type.
    pub const NONE: Self = Self(0);
    /// null
    pub const NULL: Self = Self(1);
    /// boolean
    pub const BOOLEAN: Self = Self(2);
    /// Numbers without a fraction.
    pub const INTEGER: Self = Self(4);
    /// Any number.
    pub const NUMBER: Self = Self(8);
    /// string
    pub const STRING: Self = Self(16);
    /// array
    pub const ARRAY: Self = Self(32);
    /// object
    pub const OBJECT: Self = Self(64);
    /// Every type.
    pub const ALL: Self = Self(127);

    /// Whether any of `other` is in the set.
    #[must_use]
    pub fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn and(self, other: Self) -> Self {
        // An integer is a number, so a number keeps integers in.
        let widen = |set: Self| {
            if set.any(Self::NUMBER) {
                set.or(Self::INTEGER)
            } else {
                set
            }
        };
        Self(widen(self).0 & widen(other).0)
    }

    fn named(name: &str) -> Self {
        match name {
            "null" => Self::NULL,
            "boolean" => Self::BOOLEAN,
            "integer" => Self::INTEGER,
            "number" => Self::NUMBER,
            "string" => Self::STRING,
            "array" => Self::ARRAY,
            "object" => Self::OBJECT,
            _ => Self::NONE,
        }
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Number(_) => Self::NUMBER,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }
}

/// Types of a value and of what is inside it.
#[derive(Clone, Debug)]
pub struct ValueShape {
    /// Types that the schema admits.
    pub types: Types,
    /// Shape of items.
    pub item: Option<Arc<ValueShape>>,
    /// Shapes of declared members.
    pub members: BTreeMap<Box<str>, Arc<ValueShape>>,
    /// Shape of other members.
    pub other: Option<Arc<ValueShape>>,
    /// Whether every text conforms, so that nothing is left to check.
    pub any_text: bool,
    /// How the value is written in XML.
    pub xml: Xml,
}

/// The XML object of a schema (OpenAPI 3.1.1 section 4.8.26), without namespaces: names are compared by local part.
#[derive(Clone, Debug, Default)]
pub struct Xml {
    /// Name of the element or attribute; `None` = that of the member.
    pub name: Option<Box<str>>,
    /// Whether the value is an attribute.
    pub attribute: bool,
    /// Whether the items of a list stand inside an element of their own.
    pub wrapped: bool,
}

impl Default for ValueShape {
    fn default() -> Self {
        Self {
            types: Types::ALL,
            item: None,
            members: BTreeMap::new(),
            other: None,
            any_text: false,
            xml: Xml::default(),
        }
    }
}

impl ValueShape {
    /// Whether the value is a list or an object and never a single text.
    #[must_use]
    pub fn compound(&self) -> bool {
        !self.types.any(
            Types::STRING
                .or(Types::NUMBER)
                .or(Types::INTEGER)
                .or(Types::BOOLEAN),
        )
    }

    /// Whether the value is a list rather than an object or a single text.
    #[must_use]
    pub fn is_array(&self) -> bool {
        self.types.any(Types::ARRAY) && (self.compound() || self.item.is_some())
    }

    /// Whether the value is an object rather than a single text.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.types.any(Types::OBJECT)
            && (self.compound() || !self.members.is_empty() || self.other.is_some())
    }

    /// Shape of a member.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&ValueShape> {
        self.members
            .get(name)
            .or(self.other.as_ref())
            .map(AsRef::as_ref)
    }
}

/// Reads the shape of the schema at an address.
pub(super) fn shape_of(documents: &Documents, address: &Address) -> ValueShape {
    let mut reader = Reader { documents };
    let mut hops = MAX_HOPS;
    let mut shape = ValueShape::default();
    reader.merge(address, &mut shape, 0, &mut hops);
    shape.any_text = reader.plain(address);
    shape
}

struct Reader<'d> {
    documents: &'d Documents,
}

impl Reader<'_> {
    /// Narrows `shape` by the schema at an address.
    fn merge(&mut self, at: &Address, shape: &mut ValueShape, depth: usize, hops: &mut usize) {
        if depth > MAX_DEPTH || *hops == 0 {
            return;
        }
        *hops -= 1;
        let Some(Value::Object(map)) = self.documents.get(at) else {
            return;
        };
        if let Some(Value::String(reference)) = map.get("$ref")
            && let Ok(target) = self.documents.resolve(at.document, reference)
        {
            self.merge(&target, shape, depth, hops);
        }
        shape.types = shape.types.and(own_types(map));
        if let Some(xml) = map.get("xml") {
            let flag = |name: &str| xml.get(name) == Some(&Value::Bool(true));
            shape.xml = Xml {
                name: xml.get("name").and_then(Value::as_str).map(Into::into),
                attribute: flag("attribute"),
                wrapped: flag("wrapped"),
            };
        }
        if let Some(Value::Array(parts)) = map.get("allOf") {
            let here = at.member("allOf");
            for index in 0..parts.len() {
                self.merge(&here.item(index), shape, depth, hops);
            }
        }
        for keyword in ["anyOf", "oneOf"] {
            let Some(Value::Array(parts)) = map.get(keyword) else {
                continue;
            };
            let here = at.member(keyword);
            let mut union = Types::NONE;
            for index in 0..parts.len() {
                let mut branch = ValueShape::default();
                self.merge(&here.item(index), &mut branch, depth, hops);
                union = union.or(branch.types);
                shape.item = shape.item.take().or(branch.item);
                shape.other = shape.other.take().or(branch.other);
                for (name, member) in branch.members {
                    shape.members.entry(name).or_insert(member);
                }
            }
            shape.types = shape.types.and(union);
        }
        if map.get("items").is_some_and(Value::is_object) {
            let item = self.below(&at.member("items"), depth);
            shape.item = Some(Arc::new(item));
        }
        if let Some(Value::Object(members)) = map.get("properties") {
            let here = at.member("properties");
            for name in members.keys() {
                let member = self.below(&here.member(name), depth);
                shape.members.insert(name.as_str().into(), Arc::new(member));
            }
        }
        if map
            .get("additionalProperties")
            .is_some_and(Value::is_object)
        {
            let other = self.below(&at.member("additionalProperties"), depth);
            shape.other = Some(Arc::new(other));
        }
    }

    fn below(&mut self, at: &Address, depth: usize) -> ValueShape {
        let mut shape = ValueShape::default();
        let mut hops = MAX_HOPS;
        self.merge(at, &mut shape, depth + 1, &mut hops);
        shape
    }

    /// Whether the schema says no more than that the value is text.
    fn plain(&self, at: &Address) -> bool {
        let Some(Value::Object(map)) = self.documents.get(at) else {
            return false;
        };
        map.get("type").and_then(Value::as_str) == Some("string")
            && map.keys().all(|key| {
                matches!(
                    key.as_str(),
                    "type"
                        | "description"
                        | "title"
                        | "example"
                        | "examples"
                        | "default"
                        | "nullable"
                        | "deprecated"
                ) || key.starts_with("x-")
            })
    }
}

fn own_types(map: &Map<String, Value>) -> Types {
    let mut types = match map.get("type") {
        Some(Value::String(name)) => Types::named(name),
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .fold(Types::NONE, |set, name| set.or(Types::named(name))),
        _ => match (map.get("enum"), map.get("const")) {
            (_, Some(value)) => Types::of(value),
            (Some(Value::Array(values)), _) => values
                .iter()
                .fold(Types::NONE, |set, value| set.or(Types::of(value))),
            _ => Types::ALL,
        },
    };
    if map.get("nullable") == Some(&Value::Bool(true)) {
        types = types.or(Types::NULL);
    }
    types
}
