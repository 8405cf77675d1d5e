//! Errors of a validator → what a violation says, without a word of the value.
//!
//! Enters: a check and a value that it refuses. Leaves: findings with class, target, pointer and detail. Every text
//! comes from the schema; names and indexes of the value that the schema does not know become `*`.

use std::fmt::Write as _;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{JsonType, ValidationError};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::dialect::FORMAT;
use super::documents::push_token;
use super::metered::{Allowance, MeteredNode, size};
use super::validators::{Check, Source, Sources};
use crate::model::ViolationClass;

/// Longest text taken over from a schema, characters.
const MAX_QUOTE: usize = 120;

/// Errors looked at per value: items that fail alike are one finding, so there may be many errors per finding.
const MAX_ERRORS: usize = 1_024;
/// Steps that finding the first error may take where all cost too much.
const FIRST_ERROR: u32 = 10_000;
/// Levels and values of a value that are explained when every level may double the work: each error holds a copy of what
/// it is about.
const MAX_EXPLAINED_DEPTH: usize = 8;
const MAX_EXPLAINED_SIZE: u32 = 2_048;

/// One reason why a value does not conform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Kind.
    pub class: ViolationClass,
    /// JSON pointer into the value, unknown names and indexes as `*`.
    pub target: String,
    /// Pointer of the keyword.
    pub pointer: String,
    /// What the schema asks for.
    pub detail: String,
}

impl Check {
    /// Reports why a value that does not conform does not, one finding at a time until `each` answers false. There is
    /// always at least one, and only one where listing all costs more than what is allowed.
    pub fn explain(
        &self,
        value: &Value,
        allowance: &Allowance,
        mut each: impl FnMut(Finding) -> bool,
    ) {
        let doubling = self.branches_recurse
            && (deeper_than(value, MAX_EXPLAINED_DEPTH)
                || size(value, MAX_EXPLAINED_SIZE) == MAX_EXPLAINED_SIZE as usize);
        if doubling {
            self.whole(&mut each);
            return;
        }
        if allowance.is_spent() {
            self.whole(&mut each);
            return;
        }
        let least = Allowance::new(FIRST_ERROR);
        let mut errors: Vec<_> = self
            .validator
            .iter_errors(MeteredNode::new(value, allowance))
            .take(MAX_ERRORS)
            .collect();
        if allowance.is_spent() {
            let first = self.validator.validate(MeteredNode::new(value, &least));
            errors.clear();
            errors.extend(first.err().filter(|_| !least.is_spent()));
        }
        let mut count = 0;
        let mut more = true;
        for error in errors {
            let pointer = self.sources.pointer(&error);
            findings(&error, &pointer, &mut |finding| {
                count += 1;
                more = more && each(finding);
            });
            if !more {
                return;
            }
        }
        if count == 0 {
            self.whole(&mut each);
        }
    }

    /// The finding that names no place in the value.
    fn whole(&self, each: &mut impl FnMut(Finding) -> bool) {
        each(Finding {
            class: ViolationClass::ConstraintViolation,
            target: String::new(),
            pointer: self.pointer.to_string(),
            detail: "the value does not fit its schema".into(),
        });
    }
}

/// Whether a value nests deeper than so many levels.
fn deeper_than(value: &Value, levels: usize) -> bool {
    match (value, levels.checked_sub(1)) {
        (Value::Array(items), Some(levels)) => items.iter().any(|item| deeper_than(item, levels)),
        (Value::Object(map), Some(levels)) => map.values().any(|item| deeper_than(item, levels)),
        (Value::Array(_) | Value::Object(_), None) => true,
        _ => false,
    }
}

impl Sources {
    /// The pointer of the keyword that an error comes from, into the document it stands in.
    fn pointer(&self, error: &ValidationError<'_>) -> String {
        let Some(uri) = error.absolute_keyword_location() else {
            return String::new();
        };
        let (source, fragment) = uri.as_str().split_once('#').unwrap_or((uri.as_str(), ""));
        let fragment = percent_decode_str(fragment).decode_utf8_lossy();
        let fragment = match fragment.strip_suffix(FORMAT) {
            Some(before) => format!("{before}format"),
            None => fragment.into_owned(),
        };
        match self.0.get(source) {
            Some(Source::Prefix(shown)) => format!("{shown}{fragment}"),
            Some(Source::Whole(shown)) => shown.clone(),
            None => format!("{source}#{fragment}"),
        }
    }
}

fn findings(error: &ValidationError<'_>, pointer: &str, each: &mut impl FnMut(Finding)) {
    let target = target(error);
    let mut finding = |class, target: String, detail: String| {
        each(Finding {
            class,
            target,
            pointer: pointer.to_owned(),
            detail,
        });
    };
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let mut member = target;
            push_token(&mut member, name);
            finding(
                ViolationClass::MissingRequired,
                member,
                format!("the member {} is required", quote(name)),
            );
        }
        ValidationErrorKind::AdditionalProperties { .. }
        | ValidationErrorKind::UnevaluatedProperties { .. } => finding(
            ViolationClass::ConstraintViolation,
            target + "/*",
            "members that are not declared are not allowed".into(),
        ),
        ValidationErrorKind::UnevaluatedItems { .. }
        | ValidationErrorKind::AdditionalItems { .. } => finding(
            ViolationClass::ConstraintViolation,
            target + "/*",
            "items that are not declared are not allowed".into(),
        ),
        ValidationErrorKind::Type { kind } => {
            finding(ViolationClass::InvalidType, target, type_detail(kind));
        }
        ValidationErrorKind::UniqueItems => finding(
            ViolationClass::DuplicateValue,
            target,
            "items must differ from one another".into(),
        ),
        kind => {
            let class = class_of_alternatives(error).unwrap_or(ViolationClass::ConstraintViolation);
            finding(class, target, detail(kind));
        }
    }
}

/// Alternatives that all fail by type alone fail by type.
fn class_of_alternatives(error: &ValidationError<'_>) -> Option<ViolationClass> {
    let (ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context }) =
        error.kind()
    else {
        return None;
    };
    let by_type = |errors: &Vec<ValidationError<'static>>| {
        !errors.is_empty()
            && errors.iter().all(|inner| {
                inner.instance_path() == error.instance_path()
                    && matches!(inner.kind(), ValidationErrorKind::Type { .. })
            })
    };
    (!context.is_empty() && context.iter().all(by_type)).then_some(ViolationClass::InvalidType)
}

fn type_detail(kind: &TypeKind) -> String {
    let mut out = String::from("expected ");
    match kind {
        TypeKind::Single(name) => out.push_str(type_name(*name)),
        TypeKind::Multiple(names) => {
            for (number, name) in names.iter().enumerate() {
                if number > 0 {
                    out.push_str(" or ");
                }
                out.push_str(type_name(name));
            }
        }
    }
    out
}

fn type_name(name: JsonType) -> &'static str {
    match name {
        JsonType::Array => "array",
        JsonType::Boolean => "boolean",
        JsonType::Integer => "integer",
        JsonType::Null => "null",
        JsonType::Number => "number",
        JsonType::Object => "object",
        JsonType::String => "string",
    }
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    out.extend(text.chars().take(MAX_QUOTE));
    if text.chars().nth(MAX_QUOTE).is_some() {
        out.push('…');
    }
    out.push('"');
    out
}

fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_QUOTE) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn detail(kind: &ValidationErrorKind) -> String {
    use ValidationErrorKind as Kind;
    match kind {
        Kind::AnyOf { context } => format!("none of the {} alternatives fits", context.len()),
        Kind::OneOfNotValid { context } => {
            format!("none of the {} alternatives fits", context.len())
        }
        Kind::OneOfMultipleValid { .. } => {
            "more than one of the alternatives fits, exactly one must".into()
        }
        Kind::Constant { expected_value } => format!("must be {}", shorten(expected_value)),
        Kind::Enum { options } => format!("must be one of {}", shorten(options)),
        Kind::Contains => "too few or too many items are of the required kind".into(),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("must be greater than {limit}"),
        Kind::Maximum { limit } => format!("must be at most {limit}"),
        Kind::Minimum { limit } => format!("must be at least {limit}"),
        Kind::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}"),
        Kind::MaxItems { limit } => format!("must have at most {limit} items"),
        Kind::MinItems { limit } => format!("must have at least {limit} items"),
        Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
        Kind::MinLength { limit } => format!("must have at least {limit} characters"),
        Kind::MaxProperties { limit } => format!("must have at most {limit} members"),
        Kind::MinProperties { limit } => format!("must have at least {limit} members"),
        Kind::Pattern { pattern } => format!("must match the pattern {}", quote(pattern)),
        Kind::BacktrackLimitExceeded { .. } | Kind::RegexEngineFailure { .. } => {
            "the pattern could not be matched within its limits".into()
        }
        Kind::Format { format } => format!("must have the format {}", quote(format)),
        Kind::Custom { .. } => "must have the declared format".into(),
        Kind::PropertyNames { .. } => "a member has a name that is not allowed".into(),
        Kind::Not { .. } => "must not fit the schema under `not`".into(),
        Kind::FalseSchema => "no value is allowed here".into(),
        Kind::ContentEncoding { content_encoding } => {
            format!("must be encoded as {}", quote(content_encoding))
        }
        Kind::ContentMediaType { content_media_type } => {
            format!("must hold {}", quote(content_media_type))
        }
        other => format!("breaks the keyword {:?}", other.keyword()),
    }
}

/// The pointer of the failing value in which only names that the schema declares stay. The way through the schema tells
/// which those are: a step by `properties` names its member, every other step into the value does not.
fn target(error: &ValidationError<'_>) -> String {
    let mut out = String::new();
    let way = error.evaluation_path();
    let mut steps = way.as_str().split('/').skip(1);
    let mut depth = error.instance_path().segments().count();
    while let Some(step) = steps.next() {
        if depth == 0 {
            break;
        }
        match step {
            "properties" => {
                // Tokens of both pointers are escaped alike.
                let _ = write!(out, "/{}", steps.next().unwrap_or("*"));
                depth -= 1;
            }
            "patternProperties" | "prefixItems" => {
                steps.next();
                out.push_str("/*");
                depth -= 1;
            }
            "items"
            | "additionalItems"
            | "unevaluatedItems"
            | "contains"
            | "additionalProperties"
            | "unevaluatedProperties" => {
                out.push_str("/*");
                depth -= 1;
            }
            "allOf" | "anyOf" | "oneOf" | "dependentSchemas" | "dependencies" => {
                steps.next();
            }
            _ => {}
        }
    }
    for _ in 0..depth {
        out.push_str("/*");
    }
    out
}
