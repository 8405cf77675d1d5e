//! Paths and the expressions about them: the last line is a path, the others are templates, token sources and claim
//! paths at once.

use gatewatch::model::Method;
use gatewatch::policy::objects::{OperationObject, ZoneObject};
use gatewatch::policy::operations::{Segment, Template};
use gatewatch::policy::sessions::ClaimPath;
use gatewatch::policy::tokens::TokenSource;
use gatewatch::policy::{compile, path};

use super::judging::HOST;

/// Some expressions and one path.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (expressions, asked) = text.rsplit_once('\n').unwrap_or(("", text));
    let normal = path::normalise(asked);
    assert_eq!(
        path::normalise(&normal),
        normal,
        "the normal form is stable"
    );
    let mut learned = String::new();
    path::template(&normal, &mut learned);

    let mut operations = Vec::new();
    for line in expressions.lines() {
        let _ = TokenSource::parse(line);
        let _ = ClaimPath::parse(line);
        if Template::parse(line).is_ok() {
            operations.push(OperationObject {
                method: "GET".to_owned(),
                host: HOST.to_owned(),
                endpoint: line.to_owned(),
            });
        }
    }
    let zone = ZoneObject {
        id: "zone".to_owned(),
        hosts: vec![HOST.to_owned()],
        operations,
        ..ZoneObject::default()
    };
    let policy = compile(&[zone]).expect("templates that parse compile");
    let operations = &policy.zones[0].operations;
    let found = operations.find(Method::Get, HOST, &normal).operation;
    // The plain reading: whatever matches, and nothing else matches more specifically.
    let matching: Vec<&Template> = operations
        .entries
        .iter()
        .map(|entry| &entry.template)
        .filter(|template| matches(template, &normal))
        .collect();
    let Some(found) = found.and_then(|number| operations.entry(number)) else {
        assert!(matching.is_empty(), "{matching:?} match {normal}");
        return;
    };
    assert!(matching.contains(&&found.template));
    for other in matching {
        assert!(
            found.template.specificity(other).is_le(),
            "{other:?} is more specific than {:?}",
            found.template
        );
    }
    found
        .template
        .capture(&normal, |_, value| assert!(!value.is_empty()));
}

/// Whether a template matches a path, segment by segment.
fn matches(template: &Template, path: &str) -> bool {
    let parts: Vec<&str> = path[1..].split('/').collect();
    parts.len() == template.segments.len()
        && parts
            .iter()
            .zip(&template.segments)
            .all(|(part, segment)| match segment {
                Segment::Literal(text) => **text == **part,
                Segment::Whole => !part.is_empty(),
                Segment::Partial(pattern) => pattern.matches(part, |_| {}),
            })
}
