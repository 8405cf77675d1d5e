//! OpenAPI documents → validators.
//!
//! Enters: an uploaded description, its files read already. Leaves: the operations it declares, each with everything to
//! judge an exchange by, or every problem of the document with its place. Only 3.0 and 3.1 are accepted.

mod build;
pub mod contract;
mod dialect;
mod discriminator;
mod documents;
mod errors;
mod grammar;
mod load;
mod media;
mod members;
mod metered;
mod recursion;
mod servers;
mod shape;
mod strict;
mod validators;
mod walk;

pub use build::Declared;
pub use documents::{external_references, push_token};
pub use errors::Finding;
pub use media::is_json;
pub use members::{DeclaredMembers, Undeclared};
pub use metered::Allowance;
pub use servers::Site;
pub use shape::{Types, ValueShape};
pub use validators::Check;

use serde_json::Value;

use self::build::Builder;
use self::documents::Documents;
use self::grammar::Version;
use self::validators::{Compilers, Patterns, Trees};
use crate::model::Problems;
use crate::policy::objects::SchemaObject;

/// One compiled description.
#[derive(Debug)]
pub struct Description {
    /// Its operations.
    pub operations: Vec<Declared>,
    /// Hosts that the document names for operations without servers of their own.
    pub sites: Vec<Site>,
}

/// Compiles a description; `None` after problems were noted.
pub(super) fn compile(object: &SchemaObject, problems: &mut Problems) -> Option<Description> {
    let before = problems.0.len();
    let documents = Documents::load(object, problems)?;
    let version = version(&documents, &object.document.name, problems)?;
    let patterns = Patterns::default();
    let findings = walk::walk(&documents, version, &patterns, problems);
    if problems.0.len() == before && version == Version::V30 {
        strict::check(&documents, problems);
    }
    if let Some(at) = recursion::tangled(&findings.references) {
        problems.hint(
            documents.place(at),
            "this schema leads one value to itself and to other schemas in more than 10,000 ways",
            "let `allOf`, `anyOf` and `oneOf` refer to a schema once, and not back to where they stand",
        );
    }
    let trees = if problems.0.len() == before {
        Trees::new(&documents, version, &findings, problems)
    } else {
        None
    };
    let compilers = trees
        .as_ref()
        .map(|trees| Compilers::new(trees, object.formats, &patterns));
    let mut builder = Builder::new(&documents, &findings, compilers, object, problems);
    let (operations, sites) = builder.build();
    (problems.0.len() == before).then_some(Description { operations, sites })
}

fn version(documents: &Documents, name: &str, problems: &mut Problems) -> Option<Version> {
    let root = &documents.all.first()?.value;
    let Value::Object(map) = root else {
        problems.hint(
            format!("{name}#"),
            "this is not an OpenAPI document",
            "the document is an object that starts with `openapi: 3.0.3` or `openapi: 3.1.0`",
        );
        return None;
    };
    if map.contains_key("swagger") {
        problems.hint(
            format!("{name}#/swagger"),
            "Swagger 2.0 is not accepted",
            "convert the document to OpenAPI 3.0, for example with swagger2openapi",
        );
        return None;
    }
    let place = format!("{name}#/openapi");
    match map.get("openapi") {
        Some(Value::String(version)) if is_release(version, "3.0") => Some(Version::V30),
        Some(Value::String(version)) if is_release(version, "3.1") => Some(Version::V31),
        Some(Value::String(version)) => {
            problems.hint(
                place,
                format!("OpenAPI version {version:?} is not accepted"),
                "use 3.0.x or 3.1.x",
            );
            None
        }
        Some(_) => {
            problems.hint(
                place,
                "the version must be text",
                "write `openapi: \"3.0.3\"`",
            );
            None
        }
        None => {
            problems.hint(
                format!("{name}#"),
                "this is not an OpenAPI document: the member \"openapi\" is missing",
                "the document starts with `openapi: 3.0.3` or `openapi: 3.1.0`",
            );
            None
        }
    }
}

/// Whether a version is a release of a minor version, such as 3.0.4 of 3.0.
fn is_release(version: &str, minor: &str) -> bool {
    version
        .strip_prefix(minor)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with('-'))
}

#[cfg(test)]
mod tests;
