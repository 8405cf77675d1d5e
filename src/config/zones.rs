//! The `[[zones]]` of a pipeline file → the objects that policy is compiled from, with every file read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::reader::Section;
use super::rules::{read_rule, read_schema_validation, schema_action};
use super::tokens::{TokenDefaults, read_tokens};
use crate::model::SchemaAction;
use crate::policy::mtls::MAX_INTERMEDIATES;
use crate::policy::objects::{
    FileText, MtlsObject, OperationObject, SchemaObject, SessionIdentifierKind,
    SessionIdentifierObject, ZoneObject,
};
use crate::policy::rules::Lists;
use crate::policy::schemas::external_references;

/// Largest file that a zone may name; the largest public OpenAPI document has about 13 MB.
const MAX_FILE: u64 = 64 << 20;

pub(super) fn read_zones(
    root: &Section<'_>,
    folder: &Path,
    defaults: &TokenDefaults,
    lists: Option<&Arc<Lists>>,
) -> Vec<ZoneObject> {
    let zones: Vec<ZoneObject> = root
        .sections("zones")
        .iter()
        .map(|section| read_zone(section, folder, defaults, lists))
        .collect();
    if zones.is_empty() {
        root.problem(
            "zones",
            "no zone is configured",
            "write [[zones]] with id, name and hosts",
        );
    }
    zones
}

fn read_zone(
    section: &Section<'_>,
    folder: &Path,
    defaults: &TokenDefaults,
    lists: Option<&Arc<Lists>>,
) -> ZoneObject {
    let id = section.required("id", "id = \"023e105f4ecef8ad9ca31a8372d0c353\"");
    let name = section.string("name").unwrap_or_else(|| id.clone());
    let hosts = section.strings("hosts", false);
    let identifiers = section.sections("session_identifiers");
    let tokens = section.sections("token_configurations");
    let schemas = section.sections("schemas");
    let operations = section.sections("operations");
    let mtls = section.sections("mtls");
    let rules = section.sections("rules");
    let mut schema_validation = read_schema_validation(&section.section("schema_validation"));
    section.finish();
    let operations: Vec<_> = operations.iter().map(read_operation).collect();
    let own = operations.iter();
    let own = own.filter_map(|(operation, action)| Some((operation.clone(), (*action)?)));
    schema_validation.operations = own.collect();
    ZoneObject {
        id,
        name,
        hosts,
        session_identifiers: identifiers.iter().filter_map(read_identifier).collect(),
        token_configurations: tokens
            .iter()
            .map(|s| read_tokens(s, folder, defaults))
            .collect(),
        schemas: schemas.iter().map(|s| read_schema(s, folder)).collect(),
        operations: operations
            .into_iter()
            .map(|(operation, _)| operation)
            .collect(),
        mtls: mtls.iter().map(|s| read_mtls(s, folder)).collect(),
        rules: rules.iter().map(read_rule).collect(),
        schema_validation,
        lists: lists.cloned(),
    }
}

fn read_identifier(section: &Section<'_>) -> Option<SessionIdentifierObject> {
    let kind = section.required("type", "type = \"header\", \"cookie\" or \"jwt\"");
    let name = section.required("name", "name = \"authorization\"");
    let of = section.strings("of", false);
    let hosts = section.strings("hosts", false);
    section.finish();
    if kind.is_empty() {
        return None;
    }
    let Some(kind) = SessionIdentifierKind::of_name(&kind) else {
        let known = SessionIdentifierKind::ALL.map(SessionIdentifierKind::as_str);
        section.problem(
            "type",
            format!("{kind:?} is not a carrier"),
            &format!("one of {}", known.join(", ")),
        );
        return None;
    };
    Some(SessionIdentifierObject {
        kind,
        name,
        of,
        hosts,
    })
}

fn read_schema(section: &Section<'_>, folder: &Path) -> SchemaObject {
    let path = section.required("path", "path = \"shop.openapi.yaml\"");
    let name = section.string("name").unwrap_or_else(|| path.clone());
    let document = if path.is_empty() {
        FileText::default()
    } else {
        read_file(section, "path", folder, &path)
    };
    let mut referenced = read_referenced(section, folder);
    if let Some(home) = folder.join(&path).parent() {
        follow_references(section, home, &document, &mut referenced);
    }
    let object = SchemaObject {
        name,
        document,
        referenced,
        undeclared_parameters: section.boolean("undeclared_parameters", false),
        undeclared_cookies: section.boolean("undeclared_cookies", false),
        undeclared_members: section.boolean("undeclared_members", false),
        formats: section.boolean("formats", true),
    };
    section.finish();
    object
}

/// Reads the files under the schema's own folder that `$ref`s name, and those that they name in turn. What leads out of
/// the folder or is not there stays unread: compiling the schema says which `$ref` cannot be followed, with its place.
fn follow_references(
    section: &Section<'_>,
    home: &Path,
    document: &FileText,
    referenced: &mut BTreeMap<String, FileText>,
) {
    let mut open = external_references("", &document.bytes);
    while let Some(key) = open.pop() {
        let inside =
            !key.contains(':') && !key.starts_with('/') && !key.split('/').any(|part| part == "..");
        if !inside || referenced.contains_key(&key) || !home.join(&key).is_file() {
            continue;
        }
        let file = read_file(section, "path", home, &key);
        open.extend(external_references(&key, &file.bytes));
        referenced.insert(key, file);
    }
}

/// Every file under the folders that `refs` maps URI prefixes to, by the URI that a `$ref` would name.
fn read_referenced(section: &Section<'_>, folder: &Path) -> BTreeMap<String, FileText> {
    let mut referenced = BTreeMap::new();
    for (prefix, root) in section.string_table("refs") {
        let root = folder.join(&root);
        let mut open = vec![root.clone()];
        while let Some(directory) = open.pop() {
            let entries = match std::fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) => {
                    section.problem(
                        "refs",
                        format!("{}: {error}", directory.display()),
                        "name a folder",
                    );
                    continue;
                }
            };
            for path in entries.flatten().map(|entry| entry.path()) {
                if path.is_dir() {
                    open.push(path);
                } else if let (Ok(relative), Ok(bytes)) =
                    (path.strip_prefix(&root), std::fs::read(&path))
                {
                    let name = path.display().to_string();
                    let uri = format!("{prefix}{}", relative.display());
                    referenced.insert(uri, FileText { name, bytes });
                }
            }
        }
    }
    referenced
}

/// An operation, and what follows where a request violates its schema, if it says so.
fn read_operation(section: &Section<'_>) -> (OperationObject, Option<SchemaAction>) {
    let object = OperationObject {
        method: section.required("method", "method = \"GET\""),
        host: section.required("host", "host = \"api.shop.example\""),
        endpoint: section.required("endpoint", "endpoint = \"/health\""),
    };
    let action = schema_action(section, "action");
    section.finish();
    (object, action)
}

fn read_mtls(section: &Section<'_>, folder: &Path) -> MtlsObject {
    let files = |key: &'static str| -> Vec<FileText> {
        let paths = section.strings(key, true);
        paths
            .iter()
            .map(|path| read_file(section, key, folder, path))
            .collect()
    };
    let object = MtlsObject {
        hosts: section.strings("hosts", true),
        ca: files("ca"),
        intermediates: files("intermediates"),
        crl: files("crl"),
        issuers: section.strings("issuers", true),
        max_intermediates: section
            .has("max_intermediates")
            .then(|| section.integer("max_intermediates", MAX_INTERMEDIATES as u64))
            .and_then(|most| usize::try_from(most).ok()),
        header: section.string("header"),
    };
    for (key, empty) in [
        ("hosts", object.hosts.is_empty()),
        ("ca", object.ca.is_empty()),
    ] {
        if empty {
            section.problem(key, "is missing", "");
        }
    }
    section.finish();
    object
}

pub(super) fn read_file(section: &Section<'_>, key: &str, folder: &Path, path: &str) -> FileText {
    let full = folder.join(path);
    let read = std::fs::metadata(&full).and_then(|facts| {
        if facts.len() > MAX_FILE {
            Ok(None)
        } else {
            std::fs::read(&full).map(Some)
        }
    });
    let name = full.display().to_string();
    match read {
        Ok(Some(bytes)) => return FileText { name, bytes },
        Ok(None) => section.problem(key, format!("{name} is larger than 64 MiB"), ""),
        Err(error) => {
            let hint = "paths are relative to the pipeline file";
            section.problem(key, format!("{name}: {error}"), hint);
        }
    }
    FileText {
        name,
        bytes: Vec::new(),
    }
}
