//! `[[zones.rules]]`, `[zones.schema_validation]` and `[lists]`: what operators want done. What expressions mean is decided
//! where policy is compiled.

use std::path::Path;
use std::sync::Arc;

use toml::de::DeValue;

use super::parse_duration;
use super::reader::Section;
use crate::model::{BlockKind, RuleAction, RuleKind, SchemaAction};
use crate::policy::objects::{RuleObject, SchemaActionObject};
use crate::policy::rules::Lists;
use crate::policy::rules::types::Scalar;

/// Largest file of a list: some hundred thousand addresses.
const MAX_LIST: u64 = 16 << 20;

/// One rule.
pub(super) fn read_rule(section: &Section<'_>) -> RuleObject {
    let kind = match section.string("kind").as_deref() {
        None | Some("custom") => RuleKind::Custom,
        Some("token") => RuleKind::Token,
        Some("mtls") => RuleKind::Mtls,
        Some(other) => {
            let hint = "one of custom, token, mtls";
            section.problem("kind", format!("{other:?} is not a kind of rule"), hint);
            RuleKind::Custom
        }
    };
    let action = match section.string("action").as_deref() {
        None | Some("log") => RuleAction::Log,
        Some("block") => RuleAction::Block,
        Some(other) => {
            section.problem(
                "action",
                format!("{other:?} is not an action"),
                "log or block",
            );
            RuleAction::Log
        }
    };
    let selector = section.section("selector");
    let object = RuleObject {
        id: section.string("id"),
        title: section.required("title", "title = \"partners need a certificate\""),
        description: section.string("description").unwrap_or_default(),
        kind,
        action,
        enabled: section.boolean("enabled", true),
        include_hosts: selector.strings("include_hosts", false),
        exclude_operations: selector.strings("exclude_operations", false),
        expression: section.required(
            "expression",
            "expression = 'http.host eq \"api.shop.example\" and not cf.api_gateway.auth_id_present'",
        ),
        block: read_kinds(section, "block"),
        duration: read_duration(section, "duration"),
    };
    selector.finish();
    section.finish();
    object
}

/// What follows from requests that violate their schema.
pub(super) fn read_schema_validation(section: &Section<'_>) -> SchemaActionObject {
    let suspended = match section.string("override").as_deref() {
        None => false,
        Some("none") => true,
        Some(other) => {
            let hint = "none, or nothing: an override can only suspend";
            section.problem("override", format!("{other:?} is not an override"), hint);
            false
        }
    };
    let object = SchemaActionObject {
        default: schema_action(section, "default").unwrap_or(SchemaAction::None),
        suspended,
        operations: Vec::new(),
        block: read_kinds(section, "block"),
        duration: read_duration(section, "duration"),
    };
    section.finish();
    object
}

/// `none`, `log` or `block`; `None` = not written.
pub(super) fn schema_action(section: &Section<'_>, key: &'static str) -> Option<SchemaAction> {
    match section.string(key)?.as_str() {
        "none" => Some(SchemaAction::None),
        "log" => Some(SchemaAction::Log),
        "block" => Some(SchemaAction::Block),
        other => {
            section.problem(
                key,
                format!("{other:?} is not an action"),
                "none, log or block",
            );
            None
        }
    }
}

/// Kinds of entities.
fn read_kinds(section: &Section<'_>, key: &'static str) -> Option<Vec<BlockKind>> {
    if !section.has(key) {
        return None;
    }
    let texts = section.strings(key, true);
    let mut kinds = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        match BlockKind::parse(text) {
            Some(kind) if kinds.contains(&kind) => {}
            Some(kind) => kinds.push(kind),
            None => {
                let known = BlockKind::ALL.map(BlockKind::as_str);
                section.problem(
                    &format!("{key}[{number}]"),
                    format!("{text:?} is not a kind of entity"),
                    &format!("known kinds: {}", known.join(", ")),
                );
            }
        }
    }
    if texts.is_empty() {
        section.problem(key, "is empty", "leave it out, or name kinds of entities");
    }
    Some(kinds)
}

/// A duration above zero, milliseconds.
pub(super) fn read_duration(section: &Section<'_>, key: &'static str) -> Option<i64> {
    let text = section.string(key)?;
    let duration = parse_duration(&text).filter(|duration| !duration.is_zero());
    let millis = duration.and_then(|duration| i64::try_from(duration.as_millis()).ok());
    if millis.is_none() {
        let hint = "a number above zero and ms, s, m, h or d, e.g. \"1h\"";
        section.problem(key, format!("{text:?} is not a duration"), hint);
    }
    millis
}

/// The lists that expressions name with `$`; `None` = there are none.
pub(super) fn read_lists(section: &Section<'_>, folder: &Path) -> Option<Arc<Lists>> {
    if !section.written() {
        return None;
    }
    let mut lists = Lists::default();
    for (name, value) in section.members() {
        let (of, items) = match value {
            DeValue::Array(_) => (None, section.strings_in(&name, value, false)),
            DeValue::Table(table) => read_list(&section.below(&name, table), folder),
            _ => {
                let hint = "name = [\"192.0.2.0/24\"], or name = { file = \"addresses.txt\" }";
                section.problem(&name, "is neither a list nor a table", hint);
                continue;
            }
        };
        let of = of.unwrap_or_else(|| kind_of(&items));
        if let Err(problem) = lists.add(&name, of, &items) {
            let hint = "kind = \"ip\", \"int\" or \"string\" says what is meant";
            section.problem(&name, problem, hint);
        }
    }
    Some(Arc::new(lists))
}

/// `{ kind = "ip", items = […] }` or `{ file = "…" }`, one item a line.
fn read_list(section: &Section<'_>, folder: &Path) -> (Option<Scalar>, Vec<String>) {
    let of = section.string("kind").and_then(|kind| match kind.as_str() {
        "ip" => Some(Scalar::Ip),
        "int" => Some(Scalar::Int),
        "string" => Some(Scalar::Bytes),
        other => {
            let hint = "one of ip, int, string";
            section.problem("kind", format!("{other:?} is not a kind of list"), hint);
            None
        }
    });
    let mut items = section.strings("items", false);
    if let Some(path) = section.string("file") {
        let path = folder.join(path);
        let small = std::fs::metadata(&path).map(|facts| facts.len() <= MAX_LIST);
        let text = match small {
            Ok(true) => std::fs::read_to_string(&path),
            Ok(false) => Err(std::io::Error::other("is larger than 16 MiB")),
            Err(error) => Err(error),
        };
        match text {
            Ok(text) => {
                let lines = text
                    .lines()
                    .map(|line| line.split('#').next().unwrap_or_default());
                let lines = lines.map(str::trim).filter(|line| !line.is_empty());
                items.extend(lines.map(str::to_owned));
            }
            Err(error) => {
                let hint = "paths are relative to the pipeline file";
                section.problem("file", format!("{}: {error}", path.display()), hint);
            }
        }
    }
    section.finish();
    (of, items)
}

/// What a list holds whose kind is not written: addresses when all its items are, else numbers when all are, else text.
fn kind_of(items: &[String]) -> Scalar {
    let all = |of: Scalar| !items.is_empty() && Lists::default().add("x", of, items).is_ok();
    [Scalar::Ip, Scalar::Int]
        .into_iter()
        .find(|of| all(*of))
        .unwrap_or(Scalar::Bytes)
}
