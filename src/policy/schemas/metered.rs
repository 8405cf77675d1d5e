//! JSON trees as validators see them, with every step counted.
//!
//! Enters: a tree and what judging it may still cost. Leaves: the same tree to the validators, until the allowance is
//! spent: from then on lists end early and texts are empty, so that every loop over the value ends soon. What was found
//! out by then means nothing, and [`Allowance::is_spent`] says so. A schema of combinations within a list can make a
//! value of a few KiB cost any time; the value comes from attackers, and nobody waits for a log line.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;

use foldhash::quality::RandomState;
use jsonschema::JsonType;
use jsonschema::json::{Array, Json, Node, NodeIdentity, Object, cmp, unique};
use serde_json::{Map, Number, Value};

/// Bytes of text whose reading counts as one step.
const BYTES_PER_STEP: usize = 32;
/// Longest list that is compared pair by pair.
const FEW: usize = 15;

/// Steps that may still be taken: a look at a value, its member or item each, and one for every `BYTES_PER_STEP` of text.
#[derive(Debug)]
pub struct Allowance {
    left: Cell<u32>,
}

impl Allowance {
    /// So many steps.
    #[must_use]
    pub fn new(steps: u32) -> Self {
        Self {
            left: Cell::new(steps),
        }
    }

    /// Steps that are left.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.left.get()
    }

    /// Whether the work was broken off.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.left.get() == 0
    }

    pub(super) fn take(&self, steps: usize) {
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.left.set(self.left.get().saturating_sub(steps));
    }
}

/// The representation, for validators.
pub struct Metered;

/// A value, or the name of a member, and what the look at it is charged to.
#[derive(Clone, Copy)]
pub struct MeteredNode<'a> {
    of: Of<'a>,
    allowance: Option<&'a Allowance>,
}

#[derive(Clone, Copy)]
enum Of<'a> {
    Value(&'a Value),
    Name(&'a str),
}

impl<'a> MeteredNode<'a> {
    /// The root of a value.
    #[must_use]
    pub fn new(value: &'a Value, allowance: &'a Allowance) -> Self {
        Self {
            of: Of::Value(value),
            allowance: Some(allowance),
        }
    }

    fn inner(&self, value: &'a Value) -> Self {
        Self {
            of: Of::Value(value),
            allowance: self.allowance,
        }
    }

    /// The value, charged as one step.
    fn value(&self) -> Option<&'a Value> {
        self.take(1);
        match self.of {
            Of::Value(value) => Some(value),
            Of::Name(_) => None,
        }
    }

    fn text(&self) -> Option<&'a str> {
        match self.of {
            Of::Name(name) => Some(name),
            Of::Value(Value::String(text)) => Some(text),
            Of::Value(_) => None,
        }
    }

    fn take(&self, steps: usize) {
        if let Some(allowance) = self.allowance {
            allowance.take(steps);
        }
    }

    /// Charges so many steps for each byte of a text.
    pub(super) fn charge_text(&self, steps: usize) {
        self.take(steps * self.text().map_or(0, str::len));
    }

    pub(super) fn is_spent(&self) -> bool {
        self.allowance.is_some_and(Allowance::is_spent)
    }
}

impl Json for Metered {
    type Node<'a> = MeteredNode<'a>;
    type PreparedKey = String;
    type StringBuffer = ();

    // As for plain trees: `Map` is ordered, so a look-up compares names.
    const KEYS_PER_LOOKUP: usize = 2;
    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>((): &mut (), string: &str, f: impl FnOnce(MeteredNode<'_>) -> T) -> T {
        f(MeteredNode {
            of: Of::Name(string),
            allowance: None,
        })
    }
}

impl<'a> Node<'a, Metered> for MeteredNode<'a> {
    type Object = MeteredObject<'a>;
    type Array = MeteredArray<'a>;
    type Number = &'a Number;

    fn as_object(&self) -> Option<MeteredObject<'a>> {
        let Value::Object(members) = self.value()? else {
            return None;
        };
        Some(MeteredObject {
            members,
            node: *self,
        })
    }

    fn as_array(&self) -> Option<MeteredArray<'a>> {
        let Value::Array(items) = self.value()? else {
            return None;
        };
        Some(MeteredArray { items, node: *self })
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        let text = self.text()?;
        self.take(1 + text.len() / BYTES_PER_STEP);
        Some(Cow::Borrowed(if self.is_spent() { "" } else { text }))
    }

    fn as_number(&self) -> Option<&'a Number> {
        match self.value()? {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    fn as_boolean(&self) -> Option<bool> {
        self.value()?.as_bool()
    }

    fn is_null(&self) -> bool {
        self.value().is_some_and(Value::is_null)
    }

    fn json_type(&self) -> JsonType {
        match self.value() {
            None | Some(Value::String(_)) => JsonType::String,
            Some(Value::Null) => JsonType::Null,
            Some(Value::Bool(_)) => JsonType::Boolean,
            Some(Value::Number(_)) => JsonType::Number,
            Some(Value::Array(_)) => JsonType::Array,
            Some(Value::Object(_)) => JsonType::Object,
        }
    }

    fn string_length(&self) -> Option<u64> {
        let text = self.as_string()?;
        Some(text.chars().count() as u64)
    }

    fn equals_value(&self, expected: &Value) -> bool {
        self.take(1);
        match self.of {
            _ if self.is_spent() => false,
            Of::Name(name) => expected.as_str() == Some(name),
            Of::Value(value) => {
                if matches!(value, Value::Array(_) | Value::Object(_)) {
                    self.take(size(expected, u32::MAX));
                }
                cmp::equal(value, expected)
            }
        }
    }

    fn to_value(&self) -> Cow<'a, Value> {
        match self.of {
            Of::Value(value) => Cow::Borrowed(value),
            Of::Name(name) => Cow::Owned(Value::String(name.to_owned())),
        }
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(match self.of {
            Of::Value(value) => std::ptr::from_ref(value) as usize,
            Of::Name(name) => name.as_ptr() as usize,
        }))
    }
}

/// Values in a tree, itself included, as far as `most`.
pub(super) fn size(value: &Value, most: u32) -> usize {
    fn count(value: &Value, left: &mut usize) {
        *left = left.saturating_sub(1);
        if *left == 0 {
            return;
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| count(item, left)),
            Value::Object(members) => members.values().for_each(|item| count(item, left)),
            _ => {}
        }
    }
    let most = most as usize;
    let mut left = most;
    count(value, &mut left);
    most - left
}

/// An object.
pub struct MeteredObject<'a> {
    members: &'a Map<String, Value>,
    node: MeteredNode<'a>,
}

impl<'a> Object<'a, Metered> for MeteredObject<'a> {
    type Node = MeteredNode<'a>;
    type MemberName = &'a str;
    type MembersIter = Members<'a>;

    fn len(&self) -> usize {
        self.members.len()
    }

    fn get(&self, key: &String) -> Option<MeteredNode<'a>> {
        self.node.take(1);
        self.members.get(key).map(|value| self.node.inner(value))
    }

    fn members(&self) -> Members<'a> {
        Members {
            rest: self.members.iter(),
            node: self.node,
        }
    }

    fn try_for_each_name_node<B>(
        &self,
        (): &mut (),
        mut f: impl FnMut(MeteredNode<'_>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for (name, _) in self.members() {
            f(MeteredNode {
                of: Of::Name(name),
                allowance: self.node.allowance,
            })?;
        }
        ControlFlow::Continue(())
    }
}

/// Members, as long as there are steps left.
pub struct Members<'a> {
    rest: serde_json::map::Iter<'a>,
    node: MeteredNode<'a>,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, MeteredNode<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.node.take(1);
        if self.node.is_spent() {
            return None;
        }
        let (name, value) = self.rest.next()?;
        Some((name.as_str(), self.node.inner(value)))
    }
}

/// A list.
pub struct MeteredArray<'a> {
    items: &'a [Value],
    node: MeteredNode<'a>,
}

impl<'a> Array<'a, Metered> for MeteredArray<'a> {
    type Node = MeteredNode<'a>;
    type ElementsIter = Items<'a>;

    fn len(&self) -> usize {
        self.items.len()
    }

    fn elements(&self) -> Items<'a> {
        Items {
            rest: self.items.iter(),
            node: self.node,
        }
    }

    fn is_unique(&self) -> bool {
        let left = self.node.allowance.map_or(u32::MAX, Allowance::left);
        for item in self.items {
            self.node.take(size(item, left));
        }
        if self.node.is_spent() {
            return true;
        }
        if self.items.len() <= FEW {
            return unique::is_unique(self.items);
        }
        let mut seen = HashSet::with_capacity_and_hasher(self.items.len(), RandomState::default());
        self.items.iter().all(|item| seen.insert(Distinct(item)))
    }
}

/// Items, as long as there are steps left.
pub struct Items<'a> {
    rest: std::slice::Iter<'a, Value>,
    node: MeteredNode<'a>,
}

impl<'a> Iterator for Items<'a> {
    type Item = MeteredNode<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.node.take(1);
        if self.node.is_spent() {
            return None;
        }
        self.rest.next().map(|value| self.node.inner(value))
    }
}

/// A value in a set. The library's own hash says nothing about brackets, so that `[]`, `[[]]` and `[[], []]` and
/// thousands more share one bucket; this one does, and nobody can foresee it.
struct Distinct<'v>(&'v Value);

impl PartialEq for Distinct<'_> {
    fn eq(&self, other: &Self) -> bool {
        cmp::equal(self.0, other.0)
    }
}

impl Eq for Distinct<'_> {}

impl Hash for Distinct<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.0 {
            Value::Null => state.write_u8(0),
            Value::Bool(value) => state.write_u8(1 + u8::from(*value)),
            Value::Number(number) => hash_number(number, state),
            Value::String(text) => text.hash(state),
            Value::Array(items) => {
                state.write_u8(3);
                state.write_usize(items.len());
                for item in items {
                    Distinct(item).hash(state);
                }
            }
            Value::Object(members) => {
                state.write_u8(4);
                state.write_usize(members.len());
                // The map is ordered by name, so equal objects come in one order.
                for (name, value) in members {
                    name.hash(state);
                    Distinct(value).hash(state);
                }
            }
        }
    }
}

/// Equal numbers alike, whether written `1`, `1.0` or `1e0`, and whole ones beyond 53 bits apart.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the range was looked at before"
)]
fn hash_number<H: Hasher>(number: &Number, state: &mut H) {
    const WHOLE: f64 = 1.8e19;
    state.write_u8(5);
    let float = number.as_f64().unwrap_or(f64::NAN);
    if let Some(whole) = number.as_i128() {
        state.write_i128(whole);
    } else if float.fract() == 0.0 && float.abs() < WHOLE {
        state.write_i128(float as i128);
    } else {
        state.write_u64(float.to_bits());
    }
}

#[cfg(test)]
mod tests {
    use jsonschema::json::{Array, Node};
    use serde_json::{Value, json};

    use super::{Allowance, Metered, MeteredNode};

    fn unique(value: &Value) -> bool {
        let allowance = Allowance::new(1_000_000);
        MeteredNode::new(value, &allowance)
            .as_array()
            .unwrap()
            .is_unique()
    }

    #[test]
    fn equal_values_are_found_among_many() {
        let many: Vec<Value> = (0..50).map(|n| json!([n, {"n": n}])).collect();
        assert!(unique(&Value::Array(many.clone())));
        for (one, other) in [
            (json!(1), json!(1.0)),
            (json!(0.0), json!(-0.0)),
            (json!(1e3), json!(1000)),
            (json!({"a": 1, "b": [2]}), json!({"b": [2.0], "a": 1})),
            (json!([[], []]), json!([[], []])),
        ] {
            let mut list = many.clone();
            list.insert(7, one.clone());
            assert!(unique(&Value::Array(list.clone())), "{one}");
            list.push(other.clone());
            assert!(!unique(&Value::Array(list)), "{one} {other}");
        }
        for (one, other) in [
            (
                json!(9_007_199_254_740_993_u64),
                json!(9_007_199_254_740_992_u64),
            ),
            (json!([[], []]), json!([[[]]])),
            (json!("1"), json!(1)),
            (json!(null), json!(false)),
        ] {
            let mut list = many.clone();
            list.extend([one.clone(), other.clone()]);
            assert!(unique(&Value::Array(list)), "{one} {other}");
        }
    }

    #[test]
    fn the_work_ends_with_the_allowance() {
        let value = json!([[1, 2, 3], {"a": "b"}, "text"]);
        let schema = json!({"items": {"anyOf": [
            {"type": "array", "items": {"type": "integer"}},
            {"type": "object", "additionalProperties": {"type": "string"}, "propertyNames": {"pattern": "^a$"}},
            {"enum": ["text", [1]]},
        ]}, "uniqueItems": true});
        let validator = jsonschema::options_for::<Metered>().build(&schema).unwrap();
        let enough = Allowance::new(1_000);
        assert!(validator.is_valid(MeteredNode::new(&value, &enough)));
        assert!(!enough.is_spent());
        let cost = 1_000 - enough.left();
        assert!((20..100).contains(&cost), "{cost}");
        for steps in 1..cost {
            let allowance = Allowance::new(steps);
            let _ = validator.is_valid(MeteredNode::new(&value, &allowance));
            assert!(allowance.is_spent(), "{steps}");
        }
    }
}
