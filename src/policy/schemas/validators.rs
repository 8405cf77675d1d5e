//! Compiled schemas: one validator per schema and direction, shared by every operation that uses it.
//!
//! Enters: the converted trees. Leaves: [`Check`]s. How an error becomes a violation is in `errors`.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use jsonschema::json::Node;
use jsonschema::{Draft, Keyword, PatternOptions, Registry, ValidationError, Validator};
use serde_json::{Map, Value, json};

use super::dialect::{COSTLY, Converted, FORMAT, convert};
use super::documents::{Address, Documents};
use super::grammar::Version;
use super::metered::{Allowance, Metered, MeteredNode};
use super::recursion::branches_recurse;
use super::walk::{Findings, Resource};
use crate::model::{Direction, Problems};

/// How often a pattern with look-around may turn back per text. Other patterns run in linear time and need no limit.
const BACKTRACK_LIMIT: usize = 1_000;
/// Steps that a byte of text costs such a pattern: it may be read again each time that the pattern turns back.
const COSTLY_BYTE: usize = 64;
/// Compiled size of one pattern, bytes.
const PATTERN_SIZE: usize = 1 << 20;

/// One compiled schema.
#[derive(Debug)]
pub struct Check {
    pub(super) validator: Validator<Metered>,
    /// What the URIs in errors stand for.
    pub(super) sources: Arc<Sources>,
    /// Whether names of members meet patterns with look-around.
    pub(super) costly_names: bool,
    /// Whether listing the errors of a deep value could take long.
    pub(super) branches_recurse: bool,
    /// Pointer of the schema, as verdicts show it.
    pub pointer: Arc<str>,
}

impl Check {
    /// Whether a value conforms; `None` when finding out costs more than what is allowed.
    #[must_use]
    pub fn accepts(&self, value: &Value, allowance: &Allowance) -> Option<bool> {
        if self.costly_names {
            allowance.take(COSTLY_BYTE * names(value));
        }
        let accepts = self.validator.is_valid(MeteredNode::new(value, allowance));
        (!allowance.is_spent()).then_some(accepts)
    }
}

/// Bytes in the names of all members.
fn names(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(names).sum(),
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| name.len() + names(member))
            .sum(),
        _ => 0,
    }
}

/// URIs of documents and embedded resources → what verdicts show.
#[derive(Debug, Default)]
pub(super) struct Sources(pub(super) HashMap<String, Source>);

/// What verdicts show for a place in one resource.
#[derive(Debug)]
pub(super) enum Source {
    /// This in front of the pointer.
    Prefix(String),
    /// This instead of any pointer.
    Whole(String),
}

/// Patterns compiled so far, shared by all schemas of a description.
#[derive(Debug, Default)]
pub(super) struct Patterns(jsonschema::PatternCache);

impl Patterns {
    /// Whether a pattern compiles.
    pub(super) fn accepts(&self, pattern: &str) -> bool {
        jsonschema::options()
            .with_draft(Draft::Draft4)
            .with_pattern_options(engine())
            .with_pattern_cache(self.0.clone())
            .build(&json!({ "pattern": pattern }))
            .is_ok()
    }
}

impl Patterns {
    /// Whether a pattern that compiles runs in linear time: it has neither look-around nor back-references.
    pub(super) fn is_linear(&self, pattern: &str) -> bool {
        // Both begin with one of these.
        !(pattern.contains("(?") || pattern.contains('\\'))
            || jsonschema::options()
                .with_draft(Draft::Draft4)
                .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_SIZE))
                .with_pattern_cache(self.0.clone())
                .build(&json!({ "pattern": pattern }))
                .is_ok()
    }
}

/// Linear time for everything but look-around and back-references, and those within a limit of steps: published
/// descriptions use look-ahead, so refusing it would refuse them.
fn engine() -> PatternOptions<jsonschema::FancyRegex> {
    PatternOptions::fancy_regex()
        .backtrack_limit(BACKTRACK_LIMIT)
        .size_limit(PATTERN_SIZE)
}

/// Converted documents, indexed for references; one set per direction when the directions differ.
pub(super) struct Trees {
    request: Registry<'static>,
    response: Option<Registry<'static>>,
    draft: Draft,
    sources: Arc<Sources>,
    costly_names: bool,
    branches_recurse: bool,
}

impl Trees {
    /// Converts and indexes the documents; `None` after a problem was noted.
    pub(super) fn new(
        documents: &Documents,
        version: Version,
        findings: &Findings,
        problems: &mut Problems,
    ) -> Option<Self> {
        let draft = match version {
            Version::V30 => Draft::Draft4,
            Version::V31 => dialect_of(documents),
        };
        let mut index = |converted: Converted| match index(documents, findings, draft, converted) {
            Ok(registry) => Some(registry),
            Err(error) => {
                let root = documents.all.first().map_or("", |d| d.name.as_str());
                problems.add(
                    format!("{root}#"),
                    format!("the schemas cannot be indexed: {error}"),
                );
                None
            }
        };
        let request = convert(documents, version, findings, Direction::Request);
        let response = if request.depends_on_direction {
            let response = convert(documents, version, findings, Direction::Response);
            Some(index(response)?)
        } else {
            None
        };
        let mut sources = Sources::default();
        for number in 0..documents.all.len() {
            let root = Address {
                document: number,
                pointer: String::new(),
            };
            sources.0.insert(
                documents.base_uri(number),
                Source::Prefix(documents.shown(&root)),
            );
        }
        for (uri, resource) in &findings.resources {
            sources.0.insert(
                uri.clone(),
                Source::Prefix(documents.shown(&resource.address)),
            );
        }
        for (uri, _, address) in &request.conditions {
            sources
                .0
                .insert(uri.clone(), Source::Whole(documents.shown(address)));
        }
        Some(Self {
            request: index(request)?,
            response,
            draft,
            sources: Arc::new(sources),
            costly_names: findings.costly_names,
            // References inside embedded resources are not followed, so they count as the worst.
            branches_recurse: !findings.resources.is_empty()
                || branches_recurse(&findings.references),
        })
    }
}

/// Dialect of an OpenAPI 3.1 document; one that is not known here counts as the default.
fn dialect_of(documents: &Documents) -> Draft {
    let root = documents.all.first().map(|document| &document.value);
    let dialect = root
        .and_then(|root| root.get("jsonSchemaDialect"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    match Draft::from_schema_uri(dialect) {
        Draft::Unknown => Draft::Draft202012,
        known => known,
    }
}

/// Meta-schemas that documents refer to when they describe schemas.
const META_SCHEMAS: [&str; 5] = [
    "http://json-schema.org/draft-04/schema",
    "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-07/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
];

fn index(
    documents: &Documents,
    findings: &Findings,
    draft: Draft,
    converted: Converted,
) -> Result<Registry<'static>, jsonschema::ReferencingError> {
    let mut builder = Registry::new()
        .draft(draft)
        .retrieve_known_draft_meta_schemas(true);
    // A resource that refers to the meta-schemas makes the registry bring them along.
    let metas = json!({"anyOf": META_SCHEMAS.map(|uri| json!({ "$ref": uri }))});
    builder = builder.add("gatewatch:/meta", Draft::Draft202012.create_resource(metas))?;
    for (uri, Resource { address, nested }) in &findings.resources {
        let resource = converted
            .trees
            .get(address.document)
            .and_then(|tree| tree.pointer(&address.pointer));
        if let Some(resource) = resource
            && !nested
        {
            let draft = draft.detect(resource);
            builder = builder.add(uri, draft.create_resource(resource.clone()))?;
        }
    }
    for (uri, schema, _) in converted.conditions {
        builder = builder.add(uri, Draft::Draft202012.create_resource(schema))?;
    }
    for (number, tree) in converted.trees.into_iter().enumerate() {
        let draft = draft.detect(&tree);
        builder = builder.add(documents.base_uri(number), draft.create_resource(tree))?;
    }
    builder.prepare()
}

/// Builds validators over converted documents.
pub(super) struct Compilers<'r> {
    trees: &'r Trees,
    formats: bool,
    patterns: jsonschema::PatternCache,
    count: usize,
}

impl<'r> Compilers<'r> {
    pub(super) fn new(trees: &'r Trees, formats: bool, patterns: &Patterns) -> Self {
        Self {
            trees,
            formats,
            patterns: patterns.0.clone(),
            count: 0,
        }
    }

    /// A validator of names by one pattern; `None` when it does not compile.
    pub(super) fn pattern(&self, pattern: &str) -> Option<Validator> {
        jsonschema::options()
            .with_draft(Draft::Draft4)
            .with_pattern_options(engine())
            .with_pattern_cache(self.patterns.clone())
            .build(&json!({ "pattern": pattern }))
            .ok()
    }

    /// The direction whose validators serve this one: both when the schemas do not tell them apart.
    pub(super) fn effective(&self, direction: Direction) -> Direction {
        match self.trees.response {
            Some(_) => direction,
            None => Direction::Request,
        }
    }

    /// Compiles the schema with this URI.
    ///
    /// # Errors
    /// Why it cannot be compiled, written from the schema.
    pub(super) fn compile(
        &mut self,
        uri: &str,
        pointer: Arc<str>,
        direction: Direction,
    ) -> Result<Check, String> {
        self.count += 1;
        let registry = match (direction, &self.trees.response) {
            (Direction::Response, Some(registry)) => registry,
            _ => &self.trees.request,
        };
        let mut options = jsonschema::options_for::<Metered>()
            .with_draft(self.trees.draft)
            .with_registry(registry)
            .with_base_uri(format!("gatewatch:/inline/{}", self.count))
            .with_pattern_options(engine())
            .with_pattern_cache(self.patterns.clone())
            .should_validate_formats(self.formats)
            .with_keyword(COSTLY, |_, _, _| Ok(Box::new(Costly)));
        if self.formats {
            options = options.with_keyword(FORMAT, number_format);
            if self.trees.draft == Draft::Draft4 {
                for (name, validator) in LATER.iter() {
                    let validator = Arc::clone(validator);
                    options = options.with_format(*name, move |text: &str| {
                        validator.is_valid(&Value::String(text.to_owned()))
                    });
                }
            }
        }
        let root = json!({ "$ref": uri });
        // The library asserts what it believes about references; a document that it did not foresee is a problem of the
        // document, not the end of the run.
        let built = catch_unwind(AssertUnwindSafe(|| options.build(&root)));
        let validator = built
            .map_err(|_| "its references are beyond what can be followed".to_owned())?
            .map_err(|error| error.to_string())?;
        Ok(Check {
            validator,
            sources: Arc::clone(&self.trees.sources),
            costly_names: self.trees.costly_names,
            branches_recurse: self.trees.branches_recurse,
            pointer,
        })
    }
}

/// Formats that draft 4 does not know but OpenAPI 3.0 documents use.
const LATER_FORMATS: [&str; 10] = [
    "date",
    "time",
    "duration",
    "uuid",
    "uri-reference",
    "iri",
    "iri-reference",
    "uri-template",
    "json-pointer",
    "regex",
];

/// Validators of the draft that knows these formats, made once.
static LATER: LazyLock<Vec<(&str, Arc<Validator>)>> = LazyLock::new(|| {
    LATER_FORMATS
        .iter()
        .filter_map(|name| {
            let validator = jsonschema::options()
                .with_draft(Draft::Draft202012)
                .should_validate_formats(true)
                .build(&json!({ "format": name }))
                .ok()?;
            Some((*name, Arc::new(validator)))
        })
        .collect()
});

#[expect(
    clippy::unnecessary_wraps,
    reason = "the signature of keyword factories"
)]
fn number_format<'a>(
    _: &'a Map<String, Value>,
    format: &'a Value,
    _: jsonschema::paths::Location,
) -> Result<Box<dyn for<'i> Keyword<'i, Metered>>, ValidationError<'a>> {
    Ok(Box::new(match format.as_str() {
        Some("int8") => NumberFormat::Integer(i128::from(i8::MIN), i128::from(i8::MAX)),
        Some("int16") => NumberFormat::Integer(i128::from(i16::MIN), i128::from(i16::MAX)),
        Some("int32") => NumberFormat::Integer(i128::from(i32::MIN), i128::from(i32::MAX)),
        Some("int64") => NumberFormat::Integer(i128::from(i64::MIN), i128::from(i64::MAX)),
        Some("uint32") => NumberFormat::Integer(0, i128::from(u32::MAX)),
        Some("uint64") => NumberFormat::Integer(0, i128::from(u64::MAX)),
        Some("float") => NumberFormat::Float,
        _ => NumberFormat::Base64,
    }))
}

/// Stands in front of a pattern with look-around: charges for the text, and fails where that is more than what is left.
struct Costly;

impl<'i> Keyword<'i, Metered> for Costly {
    fn validate(&self, instance: MeteredNode<'i>) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) {
            Ok(())
        } else {
            Err(ValidationError::custom("cost"))
        }
    }

    fn is_valid(&self, instance: MeteredNode<'i>) -> bool {
        instance.charge_text(COSTLY_BYTE);
        !instance.is_spent()
    }
}

/// Formats of the OpenAPI registry. A value of another type than the format speaks of conforms.
enum NumberFormat {
    Integer(i128, i128),
    /// Single precision: the magnitude must fit.
    Float,
    Base64,
}

impl<'i> Keyword<'i, Metered> for NumberFormat {
    fn validate(&self, instance: MeteredNode<'i>) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) {
            Ok(())
        } else {
            Err(ValidationError::custom("format"))
        }
    }

    fn is_valid(&self, instance: MeteredNode<'i>) -> bool {
        match (self, &*instance.to_value()) {
            (Self::Integer(least, most), Value::Number(number)) => {
                if let Some(value) = number.as_i128() {
                    (*least..=*most).contains(&value)
                } else {
                    // Beyond 64 bits or with a fraction: `type` speaks about fractions, this about size.
                    number
                        .as_f64()
                        .is_none_or(|value| value >= *least as f64 && value <= *most as f64)
                }
            }
            (Self::Float, Value::Number(number)) => number
                .as_f64()
                .is_none_or(|value| value.abs() <= f64::from(f32::MAX)),
            (Self::Base64, Value::String(text)) => is_base64(text),
            _ => true,
        }
    }
}

/// RFC 4648 section 4, with padding; line breaks are allowed as MIME writes them.
fn is_base64(text: &str) -> bool {
    let mut symbols = 0_usize;
    let mut padding = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'\r' | b'\n' => {}
            b'=' => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => symbols += 1,
            _ => return false,
        }
    }
    padding <= 2 && (symbols + padding).is_multiple_of(4)
}
