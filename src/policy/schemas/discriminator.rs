//! Discriminators of OpenAPI 3.0 → conditions that a JSON Schema validator knows.
//!
//! Enters: a schema with a `discriminator`. Leaves: a resource of its own that selects the alternative by the value of the
//! property. In 3.0 the property decides and inline alternatives are not considered (3.0.3 section 4.7.25); from 3.1 on a
//! discriminator is a hint that changes no outcome, so nothing is made of it.

use serde_json::{Map, Value, json};

use super::documents::{Address, Documents};

/// Depth of `allOf` through which a schema may extend another.
const MAX_DEPTH: usize = 16;

/// The condition that a discriminator stands for, and whether it takes the place of `oneOf` and `anyOf`.
pub(super) struct Condition {
    pub(super) schema: Value,
    pub(super) replaces: bool,
}

/// Reads the discriminator of the schema at an address; `None` when it decides nothing.
pub(super) fn condition(
    documents: &Documents,
    schema: &Map<String, Value>,
    at: &Address,
) -> Option<Condition> {
    let discriminator = schema.get("discriminator")?;
    let property = discriminator.get("propertyName")?.as_str()?;
    let mapping = discriminator.get("mapping").and_then(Value::as_object);
    let mapped: Vec<(&str, Address)> = mapping
        .into_iter()
        .flatten()
        .filter_map(|(value, target)| {
            Some((
                value.as_str(),
                mapped(documents, at.document, target.as_str()?)?,
            ))
        })
        .collect();
    let listed = ["oneOf", "anyOf"]
        .iter()
        .filter_map(|keyword| schema.get(*keyword)?.as_array())
        .flatten();
    let mut alternatives: Vec<(Address, Vec<&str>)> = Vec::new();
    let mut any = false;
    for alternative in listed {
        any = true;
        let Some(reference) = alternative.get("$ref").and_then(Value::as_str) else {
            continue;
        };
        let Ok(target) = documents.resolve(at.document, reference) else {
            continue;
        };
        let mut values: Vec<&str> = reference.rsplit('/').next().into_iter().collect();
        for (value, address) in &mapped {
            if *address == target {
                values.push(value);
            }
        }
        alternatives.push((target, values));
    }
    if any {
        return (!alternatives.is_empty())
            .then(|| select(documents, schema, property, &alternatives));
    }
    extended(documents, property, &mapped, at)
}

/// The property that chooses between schemas, and which schema each of its values chooses: the alternatives of `oneOf`
/// and `anyOf`, else those that extend the schema at the address.
pub(super) fn targets(
    documents: &Documents,
    schema: &Map<String, Value>,
    at: &Address,
) -> Option<(String, Vec<(String, Address)>)> {
    let discriminator = schema.get("discriminator")?;
    let property = discriminator.get("propertyName")?.as_str()?;
    let mapping = discriminator.get("mapping").and_then(Value::as_object);
    let mut targets: Vec<(String, Address)> = mapping
        .into_iter()
        .flatten()
        .filter_map(|(value, target)| {
            Some((
                value.clone(),
                mapped(documents, at.document, target.as_str()?)?,
            ))
        })
        .collect();
    let listed: Vec<&str> = ["oneOf", "anyOf"]
        .iter()
        .filter_map(|keyword| schema.get(*keyword)?.as_array())
        .flatten()
        .filter_map(|alternative| alternative.get("$ref")?.as_str())
        .collect();
    for reference in &listed {
        if let (Some(name), Ok(target)) = (
            reference.rsplit('/').next(),
            documents.resolve(at.document, reference),
        ) {
            targets.push((name.to_owned(), target));
        }
    }
    if listed.is_empty() {
        let components = Address {
            document: at.document,
            pointer: "/components/schemas".into(),
        };
        let names = documents.get(&components).and_then(Value::as_object);
        for name in names.into_iter().flatten().map(|(name, _)| name) {
            let component = components.member(name);
            if extends(documents, &component, at, 0) {
                targets.push((name.clone(), component));
            }
        }
    }
    Some((property.to_owned(), targets))
}

/// One of the alternatives, chosen by the property.
fn select(
    documents: &Documents,
    schema: &Map<String, Value>,
    property: &str,
    alternatives: &[(Address, Vec<&str>)],
) -> Condition {
    let values: Vec<&str> = alternatives
        .iter()
        .flat_map(|(_, values)| values.iter().copied())
        .collect();
    let nullable = |value: Option<&Value>| {
        value.and_then(|schema| schema.get("nullable")) == Some(&Value::Bool(true))
    };
    let null = schema.get("nullable") == Some(&Value::Bool(true))
        || alternatives
            .iter()
            .any(|(at, _)| nullable(documents.get(at)));
    let types = if null {
        json!(["object", "null"])
    } else {
        json!("object")
    };
    let conditions: Vec<Value> = alternatives
        .iter()
        .map(|(target, values)| {
            json!({
                "if": {"properties": {property: {"enum": values}}, "required": [property]},
                "then": {"$ref": documents.uri(target)},
            })
        })
        .collect();
    Condition {
        schema: json!({
            "type": types,
            "required": [property],
            "properties": {property: {"enum": values}},
            "allOf": conditions,
        }),
        replaces: true,
    }
}

/// A schema that others extend by `allOf`: the property names one of them.
fn extended(
    documents: &Documents,
    property: &str,
    mapped: &[(&str, Address)],
    at: &Address,
) -> Option<Condition> {
    let components = Address {
        document: at.document,
        pointer: "/components/schemas".into(),
    };
    let schemas = documents.get(&components)?.as_object()?;
    let mut values: Vec<&str> = mapped.iter().map(|(value, _)| *value).collect();
    for name in schemas.keys() {
        if extends(documents, &components.member(name), at, 0) {
            values.push(name);
        }
    }
    // Nothing but the schema itself: nobody extends it here.
    if values.len() < 2 {
        return None;
    }
    Some(Condition {
        schema: json!({"properties": {property: {"enum": values}}}),
        replaces: false,
    })
}

fn extends(documents: &Documents, from: &Address, base: &Address, depth: usize) -> bool {
    if from == base {
        return true;
    }
    if depth > MAX_DEPTH {
        return false;
    }
    let Some(schema) = documents.get(from) else {
        return false;
    };
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return documents
            .resolve(from.document, reference)
            .is_ok_and(|target| extends(documents, &target, base, depth + 1));
    }
    let parts = schema.get("allOf").and_then(Value::as_array);
    let here = from.member("allOf");
    (0..parts.map_or(0, Vec::len))
        .any(|index| extends(documents, &here.item(index), base, depth + 1))
}

/// What a mapping names: a schema component, or a reference.
fn mapped(documents: &Documents, document: usize, target: &str) -> Option<Address> {
    let component = Address {
        document,
        pointer: "/components/schemas".into(),
    }
    .member(target);
    if documents.get(&component).is_some() {
        return Some(component);
    }
    documents.resolve(document, target).ok()
}
