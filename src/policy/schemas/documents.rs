//! The documents of one description and the references between them.
//!
//! Enters: the uploaded document and the further files that its references name, all read already. Leaves: addresses
//! (document and JSON pointer) of what a `$ref` means. Nothing is fetched.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::grammar::KEYWORDS;
use super::load;
use crate::model::Problems;
use crate::policy::objects::{FileText, SchemaObject};

/// References that lead only to further references; longer chains are refused as cycles.
const MAX_HOPS: usize = 64;
/// Scheme of the URIs that documents without a URI of their own have for the validators.
const BASE: &str = "gatewatch:/";

/// All documents of one description; the uploaded one is the first.
#[derive(Debug)]
pub(super) struct Documents {
    pub(super) all: Vec<Document>,
    by_key: BTreeMap<String, usize>,
}

/// One document.
#[derive(Debug)]
pub(super) struct Document {
    /// Name to show in problems.
    pub(super) name: String,
    /// What references call it: a path relative to the uploaded document, or a URI; empty for the uploaded one.
    pub(super) key: String,
    /// The tree.
    pub(super) value: Value,
}

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Address {
    /// Index of the document.
    pub(super) document: usize,
    /// JSON pointer into it.
    pub(super) pointer: String,
}

impl Address {
    /// The address of a member.
    pub(super) fn member(&self, name: &str) -> Self {
        let mut pointer = String::with_capacity(self.pointer.len() + name.len() + 1);
        pointer.push_str(&self.pointer);
        push_token(&mut pointer, name);
        Self {
            document: self.document,
            pointer,
        }
    }

    /// The address of an item.
    pub(super) fn item(&self, index: usize) -> Self {
        self.member(&index.to_string())
    }
}

/// Appends one token to a JSON pointer (RFC 6901 section 3).
pub fn push_token(pointer: &mut String, token: &str) {
    pointer.push('/');
    for character in token.chars() {
        match character {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}

impl Documents {
    /// Parses every document; `None` after problems were noted.
    pub(super) fn load(object: &SchemaObject, problems: &mut Problems) -> Option<Self> {
        let before = problems.0.len();
        let root = load::parse(&object.document, problems);
        let mut all = vec![Document {
            name: object.document.name.clone(),
            key: String::new(),
            value: root.unwrap_or(Value::Null),
        }];
        let mut by_key = BTreeMap::new();
        for (key, file) in &object.referenced {
            if let Some(value) = load::parse(file, problems) {
                by_key.insert(key.clone(), all.len());
                all.push(Document {
                    name: file.name.clone(),
                    key: key.clone(),
                    value,
                });
            }
        }
        (problems.0.len() == before).then_some(Self { all, by_key })
    }

    /// What stands at an address.
    pub(super) fn get(&self, address: &Address) -> Option<&Value> {
        self.all
            .get(address.document)?
            .value
            .pointer(&address.pointer)
    }

    /// The place to show for an address.
    pub(super) fn place(&self, address: &Address) -> String {
        let name = self
            .all
            .get(address.document)
            .map_or("", |document| document.name.as_str());
        format!("{name}#{}", address.pointer)
    }

    /// The pointer that verdicts show: into the uploaded document, or `<key>#<pointer>` for the others.
    pub(super) fn shown(&self, address: &Address) -> String {
        match self.all.get(address.document) {
            Some(document) if !document.key.is_empty() => {
                format!("{}#{}", document.key, address.pointer)
            }
            _ => address.pointer.clone(),
        }
    }

    /// Whether a further document is one schema from its root on, so that the validators find identifiers in it on
    /// their own.
    pub(super) fn is_schema(&self, document: usize) -> bool {
        let root = self.all.get(document).and_then(|d| d.value.as_object());
        document > 0
            && root.is_some_and(|root| {
                root.keys()
                    .any(|key| KEYWORDS.iter().any(|(keyword, _, _)| keyword == key))
            })
    }

    /// The URI under which the validators know a document.
    pub(super) fn base_uri(&self, document: usize) -> String {
        match self.all.get(document) {
            Some(found) if has_scheme(&found.key) => found.key.clone(),
            _ => format!("{BASE}{document}"),
        }
    }

    /// The URI under which the validators know an address.
    pub(super) fn uri(&self, address: &Address) -> String {
        let base = self.base_uri(address.document);
        format!("{base}#{}", encode_fragment(&address.pointer))
    }

    /// What a reference written in `from` means.
    ///
    /// # Errors
    /// Why it means nothing.
    pub(super) fn resolve(&self, from: usize, reference: &str) -> Result<Address, String> {
        let (uri, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let document = if uri.is_empty() {
            from
        } else {
            let base = self.all.get(from).map_or("", |d| d.key.as_str());
            let key = resolve_key(base, uri);
            match self.by_key.get(&key) {
                Some(document) => *document,
                None if key.is_empty() => 0,
                None => return Err(format!("the document {key:?} is not at hand")),
            }
        };
        let pointer = percent_decode_str(fragment)
            .decode_utf8()
            .map_err(|_| "the reference is not UTF-8".to_owned())?
            .into_owned();
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(format!("nothing is called {pointer:?}"));
        }
        let address = Address { document, pointer };
        match self.get(&address) {
            Some(_) => Ok(address),
            None => Err(format!("nothing stands at {:?}", address.pointer)),
        }
    }

    /// Follows `$ref` members of an OpenAPI object (not a schema) until something else stands there.
    pub(super) fn follow(&self, address: Address) -> Option<(Address, &Value)> {
        let mut at = address;
        for _ in 0..MAX_HOPS {
            let value = self.get(&at)?;
            if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
                at = self.resolve(at.document, reference).ok()?;
            } else {
                let found = self.get(&at)?;
                return Some((at, found));
            }
        }
        None
    }
}

/// Escapes what a URI fragment cannot hold (RFC 3986 section 3.5).
pub(super) fn encode_fragment(pointer: &str) -> String {
    const KEEP: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS
        .add(b' ')
        .add(b'"')
        .add(b'#')
        .add(b'<')
        .add(b'>')
        .add(b'[')
        .add(b']')
        .add(b'\\')
        .add(b'^')
        .add(b'`')
        .add(b'{')
        .add(b'|')
        .add(b'}')
        .add(b'%');
    percent_encoding::utf8_percent_encode(pointer, KEEP).to_string()
}

/// Whether a reference starts with a scheme (RFC 3986 section 3.1).
pub(super) fn has_scheme(reference: &str) -> bool {
    reference.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

/// The key of the document that `reference` (without fragment) names when it stands in the document called `base`
/// (RFC 3986 section 5.2). Climbing above the folder of the uploaded document leaves leading `..` segments.
pub(super) fn resolve_key(base: &str, reference: &str) -> String {
    if has_scheme(reference) {
        return reference.to_owned();
    }
    let (origin, base_path) = if has_scheme(base) {
        let authority = base.find("://").map_or(0, |at| at + 3);
        let path = base
            .get(authority..)
            .and_then(|rest| rest.find('/'))
            .map_or(base.len(), |at| authority + at);
        base.split_at(path)
    } else {
        ("", base)
    };
    let folder = base_path
        .rfind('/')
        .map_or("", |at| base_path.get(..at).unwrap_or(""));
    let joined = match reference.strip_prefix('/') {
        Some(rest) if !origin.is_empty() => format!("/{rest}"),
        Some(_) => reference.to_owned(),
        None if reference.is_empty() => base_path.to_owned(),
        None => format!("{folder}/{reference}"),
    };
    let absolute = joined.starts_with('/') && (!origin.is_empty() || reference.starts_with('/'));
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&"..") | None => parts.push(".."),
                Some(_) => {
                    parts.pop();
                }
            },
            other => parts.push(other),
        }
    }
    let before = if absolute { "/" } else { "" };
    let folder = matches!(joined.rsplit('/').next(), Some("" | "." | ".."));
    let behind = if folder && !parts.is_empty() { "/" } else { "" };
    format!("{origin}{before}{}{behind}", parts.join("/"))
}

/// Keys of the further documents that a document names by `$ref`: paths relative to the folder of the uploaded
/// document, or URIs. `name` is the document's own key, empty for the uploaded one. Sorted, each once; a document that
/// is not YAML or JSON names none.
#[must_use]
pub fn external_references(name: &str, text: &[u8]) -> Vec<String> {
    let file = FileText {
        name: name.to_owned(),
        bytes: text.to_vec(),
    };
    let Some(tree) = load::parse(&file, &mut Problems::default()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    collect_references(name, &tree, &mut found);
    found.sort();
    found.dedup();
    found
}

/// Meta-schemas and dialects, which the validators bring along.
pub(super) fn is_known_schema(uri: &str) -> bool {
    uri.split_once("://").is_some_and(|(_, rest)| {
        rest.starts_with("json-schema.org/draft") || rest.starts_with("spec.openapis.org/oas/")
    })
}

fn collect_references(base: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            // A schema with its own `$id` resolves its references against that.
            let own = match map.get("$id") {
                Some(Value::String(id)) => Some(resolve_key(base, id.trim_end_matches('#'))),
                _ => None,
            };
            let base = own.as_deref().unwrap_or(base);
            for (name, member) in map {
                match member {
                    Value::String(reference)
                        if matches!(name.as_str(), "$ref" | "$dynamicRef" | "$schema") =>
                    {
                        let uri = reference.split('#').next().unwrap_or_default();
                        if !uri.is_empty() && !is_known_schema(uri) {
                            found.push(resolve_key(base, uri));
                        }
                    }
                    // Examples and constants hold anything, also members called `$ref`.
                    _ if matches!(
                        name.as_str(),
                        "example" | "examples" | "enum" | "const" | "default"
                    ) => {}
                    other => collect_references(base, other, found),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                collect_references(base, item, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{external_references, resolve_key};

    #[test]
    fn resolves_keys_against_the_document_they_stand_in() {
        for (base, reference, expected) in [
            ("", "common.yaml", "common.yaml"),
            ("", "./schemas/pet.yaml", "schemas/pet.yaml"),
            ("schemas/pet.yaml", "tag.yaml", "schemas/tag.yaml"),
            ("schemas/pet.yaml", "../common.yaml", "common.yaml"),
            ("schemas/pet.yaml", "../../up.yaml", "../up.yaml"),
            ("", "../up.yaml", "../up.yaml"),
            (
                "a.yaml",
                "http://h.example/x.json",
                "http://h.example/x.json",
            ),
            (
                "http://h.example/d/x.json",
                "y.json",
                "http://h.example/d/y.json",
            ),
            (
                "http://h.example/d/x.json",
                "/y.json",
                "http://h.example/y.json",
            ),
            ("http://h.example", "y.json", "http://h.example/y.json"),
            ("", "/etc/x.yaml", "/etc/x.yaml"),
        ] {
            assert_eq!(
                resolve_key(base, reference),
                expected,
                "{base} + {reference}"
            );
        }
    }

    #[test]
    fn lists_what_a_document_names() {
        let text = b"a: {$ref: './b.yaml#/x'}\nc: [{$ref: '#/a'}, {$ref: 'http://h.example/d.json'}, {$schema: 'https://json-schema.org/draft/2020-12/schema'}]\nexample: {$ref: no.yaml}\n";
        assert_eq!(
            external_references("sub/root.yaml", text),
            ["http://h.example/d.json", "sub/b.yaml"]
        );
    }
}
