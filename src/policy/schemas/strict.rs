//! A second opinion on OpenAPI 3.0 documents: the typed model of the `openapiv3` crate reads every part.
//!
//! Enters: a document that the walk found no fault with. Leaves: problems for what the typed model cannot hold.

use std::fmt::Write as _;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::documents::{Address, Documents};
use crate::model::Problems;

/// Reads each path, component and the rest apart, so that one mistake does not hide the others.
pub(super) fn check(documents: &Documents, problems: &mut Problems) {
    let root = Address {
        document: 0,
        pointer: String::new(),
    };
    let Some(document) = documents.get(&root) else {
        return;
    };
    let mut reader = Reader {
        documents,
        problems,
    };
    reader.one::<openapiv3::Info>(document.get("info"), &root.member("info"));
    reader.one::<Vec<openapiv3::Server>>(document.get("servers"), &root.member("servers"));
    reader.one::<Vec<openapiv3::Tag>>(document.get("tags"), &root.member("tags"));
    reader.each::<openapiv3::ReferenceOr<openapiv3::PathItem>>(
        document.get("paths"),
        &root.member("paths"),
    );
    let Some(components) = document.get("components") else {
        return;
    };
    let at = root.member("components");
    macro_rules! component {
        ($name:literal, $type:ty) => {
            reader.each::<openapiv3::ReferenceOr<$type>>(components.get($name), &at.member($name));
        };
    }
    component!("schemas", openapiv3::Schema);
    component!("responses", openapiv3::Response);
    component!("parameters", openapiv3::Parameter);
    component!("requestBodies", openapiv3::RequestBody);
    component!("headers", openapiv3::Header);
    component!("securitySchemes", openapiv3::SecurityScheme);
}

struct Reader<'d> {
    documents: &'d Documents,
    problems: &'d mut Problems,
}

impl Reader<'_> {
    fn one<T: DeserializeOwned>(&mut self, value: Option<&Value>, at: &Address) {
        let Some(value) = value else {
            return;
        };
        if let Err(error) = serde_path_to_error::deserialize::<_, T>(value) {
            let mut place = self.documents.place(at);
            for segment in error.path() {
                use serde_path_to_error::Segment;
                match segment {
                    Segment::Seq { index } => {
                        let _ = write!(place, "/{index}");
                    }
                    Segment::Map { key } => super::documents::push_token(&mut place, key),
                    Segment::Enum { .. } | Segment::Unknown => {}
                }
            }
            self.problems.add(
                place,
                format!("this does not follow OpenAPI 3.0: {}", error.inner()),
            );
        }
    }

    fn each<T: DeserializeOwned>(&mut self, value: Option<&Value>, at: &Address) {
        for (name, member) in value.and_then(Value::as_object).into_iter().flatten() {
            if !name.starts_with("x-") {
                self.one::<T>(Some(member), &at.member(name));
            }
        }
    }
}
