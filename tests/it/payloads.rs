//! Everything that is published is valid under its schema in `src/publish/schemas`, under no other, and stops being so as
//! soon as anything about it is wrong: a schema that refuses nothing would be of no use to whoever subscribes.
//!
//! Labels, insights and dead letters come from runs of the command, the block list from the functions that form its
//! records. `tests/services/schemas` does the same with another validator, and with what the service writes to Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use gatewatch::detect::blocklist::{BlockList, Edit, Rules};
use gatewatch::model::{BlockKey, BlockKind, Network, Proposal, Wish};
use gatewatch::publish::blocklist::lines::{Why, change};
use gatewatch::publish::blocklist::{self, Cause};
use gatewatch::publish::kafka::Message;
use gatewatch::traffic::Scenario;
use jsonschema::{Draft, Registry, Validator};
use serde_json::{Value, json};

use crate::command::{pipeline, succeeds, topic};

/// What references between the schemas are relative to.
const BASE: &str = "gatewatch:/schemas";

/// Every file of the folder.
const SCHEMAS: [(&str, &str); 7] = [
    (
        "block_end",
        include_str!("../../src/publish/schemas/block_end.json"),
    ),
    (
        "block_entry",
        include_str!("../../src/publish/schemas/block_entry.json"),
    ),
    (
        "dead_letter",
        include_str!("../../src/publish/schemas/dead_letter.json"),
    ),
    (
        "envelope",
        include_str!("../../src/publish/schemas/envelope.json"),
    ),
    (
        "insight",
        include_str!("../../src/publish/schemas/insight.json"),
    ),
    (
        "label",
        include_str!("../../src/publish/schemas/label.json"),
    ),
    (
        "proposal",
        include_str!("../../src/publish/schemas/proposal.json"),
    ),
];

/// Members that may be missing.
const OPTIONAL: [(&str, &str); 9] = [
    ("block_end", "proposal"),
    ("block_entry", "rule"),
    ("block_entry", "outcome"),
    ("block_entry", "proposal"),
    ("dead_letter", "bytes_base64"),
    ("proposal", "rule"),
    ("proposal", "evidence"),
    ("proposal", "samples"),
    ("proposal", "answer"),
];

/// Maps and lists of any length, in entries and proposals.
const OPEN: [&str; 2] = ["evidence", "samples"];

fn schema(name: &str) -> Value {
    let (_, text) = SCHEMAS.iter().find(|(known, _)| *known == name).unwrap();
    serde_json::from_str(text).unwrap()
}

pub fn validators() -> BTreeMap<&'static str, Validator> {
    let mut builder = Registry::new()
        .draft(Draft::Draft202012)
        .retrieve_known_draft_meta_schemas(false);
    for (name, _) in SCHEMAS {
        let resource = Draft::Draft202012.create_resource(schema(name));
        builder = builder
            .add(format!("{BASE}/{name}.json"), resource)
            .unwrap();
    }
    let registry = builder.prepare().unwrap();
    let mut validators = BTreeMap::new();
    for (name, _) in SCHEMAS {
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_registry(&registry)
            .with_base_uri(format!("gatewatch:/test/{name}"))
            .should_validate_formats(true)
            .build(&json!({"$ref": format!("{BASE}/{name}.json")}))
            .unwrap();
        validators.insert(name, validator);
    }
    validators
}

/// Every member and element below a value, as JSON pointers.
fn places(value: &Value, at: &str, into: &mut Vec<String>) {
    let mut below = |key: String, child: &Value| {
        let place = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        places(child, &place, into);
        into.push(place);
    };
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                below(name.clone(), member);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                below(index.to_string(), item);
            }
        }
        _ => {}
    }
}

/// Takes out what a pointer names.
fn remove(value: &mut Value, place: &str) {
    let (holder, key) = place.rsplit_once('/').unwrap();
    match value.pointer_mut(holder).unwrap() {
        Value::Object(members) => {
            let name = key.replace("~1", "/").replace("~0", "~");
            members.remove(&name).unwrap();
        }
        Value::Array(items) => {
            items.remove(key.parse().unwrap());
        }
        _ => unreachable!("{place} is in neither an object nor an array"),
    }
}

/// The event with one thing wrong, in every way, and what was done to it.
fn broken(name: &str, event: &Value) -> Vec<(String, Value)> {
    let open = |place: &str| {
        let last = place.rsplit('/').next().unwrap_or_default();
        ["block_entry", "proposal"].contains(&name) && OPEN.contains(&last)
    };
    let mut all = vec![String::new()];
    places(event, "", &mut all);
    let mut variants = Vec::new();
    for place in &all {
        let mut longer = event.clone();
        if let Some(Value::Object(members)) = longer.pointer_mut(place)
            && !open(place)
        {
            members.insert("unheard_of".to_owned(), json!(1));
            variants.push((format!("a member more in {place}/"), longer));
        }
        let Some((holder, key)) = place.rsplit_once('/') else {
            continue;
        };
        for (what, value) in [("null", Value::Null), ("of another type", json!([true]))] {
            let mut changed = event.clone();
            *changed.pointer_mut(place).unwrap() = value;
            variants.push((format!("{place} {what}"), changed));
        }
        if !OPTIONAL.contains(&(name, key)) && !open(holder) {
            let mut shorter = event.clone();
            remove(&mut shorter, place);
            variants.push((format!("{place} left out"), shorter));
        }
    }
    variants
}

/// What kind of event this is: events of a kind have the same shape.
fn kind(event: &Value) -> String {
    let word = |name: &str| event[name].as_str().unwrap_or_default();
    if event["type"].is_string() {
        let kept = event["data"]["bytes_base64"].is_string();
        let bytes = if kept { " with bytes" } else { "" };
        let why = match (&event["outcome"], &event["proposal"]) {
            (Value::Null, _) => "",
            (_, Value::Null) => " with outcome",
            _ => " with outcome and proposal",
        };
        return format!("{}{bytes}{why}", word("type"));
    }
    format!("{} {}", word("kind"), word("outcome"))
        .trim_end()
        .to_owned()
}

/// Holds (schema, event) to all that the first sentence of this file says; gives the kinds that were seen.
fn hold(events: &[(&'static str, Value)]) -> BTreeSet<String> {
    let validators = validators();
    let mut kinds = BTreeSet::new();
    let mut problems = Vec::new();
    for (name, event) in events {
        let kind = kind(event);
        for error in validators[name].iter_errors(event) {
            problems.push(format!("{kind}: {}: {error}", error.instance_path()));
        }
        for (other, validator) in &validators {
            let expected = other == name || (*other == "envelope" && *name != "proposal");
            if validator.is_valid(event) != expected {
                problems.push(format!("{kind}: valid as {other}: {}", !expected));
            }
        }
        if !kinds.insert(kind.clone()) {
            continue;
        }
        for (what, changed) in broken(name, event) {
            if validators[name].is_valid(&changed) {
                problems.push(format!("{kind}: still valid with {what}"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    kinds
}

fn lines(name: &'static str, path: &Path, of: &str) -> Vec<(&'static str, Value)> {
    let parse = |line: String| (name, serde_json::from_str(&line).unwrap());
    topic(path, of).into_iter().map(parse).collect()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// The names that a list in a schema has.
fn listed(schema: &Value, pointer: &str) -> BTreeSet<String> {
    let names = schema.pointer(pointer).and_then(Value::as_array).unwrap();
    let names = names.iter().map(|name| name.as_str().unwrap().to_owned());
    names.collect()
}

#[test]
fn every_schema_is_one_and_is_tried() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/publish/schemas");
    let files = fs::read_dir(folder).unwrap().flatten();
    let names = files.map(|file| file.file_name().into_string().unwrap());
    let names: BTreeSet<String> = names.collect();
    let tried = SCHEMAS.map(|(name, _)| format!("{name}.json"));
    assert_eq!(names, BTreeSet::from(tried));
    for (name, _) in SCHEMAS {
        assert!(jsonschema::meta::is_valid(&schema(name)), "{name}");
    }
}

#[test]
fn labels_and_insights_are_what_their_schemas_say() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = pipeline(folder.path(), &Scenario::demo(), 7, 1_500, 40);
    succeeds(&["run", path.to_str().unwrap()]);
    let mut events = lines("label", &path, "labels");
    events.extend(lines("insight", &path, "insights"));
    let expected = set([
        "gatewatch.insight.opened",
        "gatewatch.insight.resolved",
        "gatewatch.label.applied",
        "gatewatch.label.cleared",
    ]);
    assert_eq!(hold(&events), expected);
}

/// One line for every reason for which a record is refused, but `time_in_future`: lines of a file have no time of arrival.
fn refused_lines() -> BTreeMap<&'static str, String> {
    let line = |time: &str, more: &str, request: &str, status: u32| {
        format!(
            r#"{{"kind":"exchange","id":"1","time":{time},{more}"request":{{"method":"GET","host":"api.shop.example","path":"/"{request}}},"response":{{"status":{status}}}}}"#
        )
    };
    let headers: Vec<String> = (0..300).map(|n| format!(r#""h{n}":"v""#)).collect();
    let headers = format!(r#","headers":{{{}}}"#, headers.join(","));
    let deep = format!(r#""x":{}{},"#, "[".repeat(80), "]".repeat(80));
    let long = format!(r#""x":"{}","#, "x".repeat(70_000));
    BTreeMap::from([
        ("malformed", "{".to_owned()),
        ("too_large", line("0", &long, "", 200)),
        ("too_deep", line("0", &deep, "", 200)),
        ("too_many_headers", line("0", "", &headers, 200)),
        ("unknown_kind", r#"{"kind":"rumour","id":"1","time":0}"#.to_owned()),
        (
            "missing_id",
            r#"{"kind":"request","time":0,"request":{"method":"GET","host":"api.shop.example","path":"/"}}"#.to_owned(),
        ),
        ("missing_part", r#"{"kind":"exchange","id":"1","time":0}"#.to_owned()),
        ("invalid_time", line("\"noon\"", "", "", 200)),
        ("unknown_zone", line("0", r#""zone":"nowhere","#, "", 200)),
        (
            "invalid_body",
            line("0", "", r#","body":"%%%","body_encoding":"base64""#, 200),
        ),
        ("invalid_status", line("0", "", "", 99)),
    ])
}

#[test]
fn dead_letters_are_what_their_schema_says_for_every_reason() {
    let lines_by_reason = refused_lines();
    let mut events = Vec::new();
    for keep in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipeline.toml");
        let text = format!(
            "name = \"p\"\n[source]\npath = \"log\"\n[publish]\ndead_letter_bytes = {keep}\n[limits]\nevent = \"64KiB\"\n\
             [[zones]]\nid = \"z\"\nhosts = [\"api.shop.example\"]\n"
        );
        fs::write(&path, text).unwrap();
        let log: Vec<&str> = lines_by_reason.values().map(String::as_str).collect();
        fs::write(folder.path().join("log"), log.join("\n")).unwrap();
        succeeds(&["run", path.to_str().unwrap()]);
        events.extend(lines("dead_letter", &path, "deadletter"));
    }
    let reasons = events
        .iter()
        .map(|(_, letter)| letter["data"]["reason"].as_str().unwrap().to_owned());
    let mut reasons: BTreeSet<String> = reasons.collect();
    assert_eq!(events.len(), 2 * lines_by_reason.len());
    reasons.insert("time_in_future".to_owned());
    let known = "/properties/data/properties/reason/enum";
    assert_eq!(reasons, listed(&schema("dead_letter"), known));
    let expected = set([
        "gatewatch.record.rejected",
        "gatewatch.record.rejected with bytes",
    ]);
    assert_eq!(hold(&events), expected);
}

/// An entity of every kind that can be listed.
fn entity(kind: BlockKind) -> String {
    match kind {
        BlockKind::Ip => "203.0.113.7".to_owned(),
        BlockKind::Cidr => "2001:db8::/33".to_owned(),
        BlockKind::Asn => "64500".to_owned(),
        BlockKind::Session | BlockKind::Token => "0123456789abcdef".repeat(2),
        BlockKind::Certificate => "0123456789abcdef".repeat(4),
        BlockKind::UserAgent => "curl/8.5.0 (a/b)".to_owned(),
    }
}

/// A proposal to list an entity until `expires_at`, epoch milliseconds.
fn block(kind: BlockKind, entity: &str, expires_at: i64, evidence: u64) -> Proposal {
    let by_rule = evidence > 0;
    Proposal {
        id: format!("{}-{entity}-{expires_at}-{evidence}", kind.as_str()),
        answer: true,
        key: BlockKey::new("z", kind, entity).unwrap(),
        reason: "too many invalid tokens".to_owned(),
        wish: Wish::Block {
            rule: by_rule.then(|| "invalid tokens".to_owned()),
            evidence: by_rule
                .then(|| ("invalid_token".to_owned(), evidence))
                .into_iter()
                .collect(),
            samples: by_rule.then(|| "req-7f3a".to_owned()).into_iter().collect(),
            expires_at,
        },
    }
}

fn value(message: &Message) -> Value {
    serde_json::from_slice(message.value.as_ref().unwrap()).unwrap()
}

#[test]
fn the_block_list_is_what_its_schemas_say_for_every_outcome() {
    let now = 1_763_000_000_000;
    let later = now + 3_600_000;
    let allow = vec![Network::parse("192.0.2.0/24").unwrap()];
    let rules = Rules {
        enforce: false,
        allow,
        max: BlockKind::ALL.len(),
        log_only: BTreeSet::new(),
    };
    let mut list = BlockList::new(rules, []);
    let withdraw = |entity: &str| Proposal {
        wish: Wish::Withdraw,
        ..block(BlockKind::Ip, entity, 0, 0)
    };
    let mut proposals: Vec<Proposal> = BlockKind::ALL
        .into_iter()
        .zip([12, 0].into_iter().cycle())
        .map(|(kind, evidence)| block(kind, &entity(kind), later, evidence))
        .collect();
    proposals.extend([
        block(BlockKind::Cidr, &entity(BlockKind::Cidr), later, 0), // unchanged
        block(BlockKind::Ip, &entity(BlockKind::Ip), later, 3),     // extended
        block(BlockKind::Ip, "192.0.2.1", later, 0),                // allowed
        block(BlockKind::Ip, "203.0.113.8", later, 0),              // full
        block(BlockKind::Ip, "203.0.113.8", now, 0),                // expired
        withdraw("203.0.113.8"),                                    // not_listed
        withdraw("203.0.113.7"),                                    // withdrawn
    ]);

    let mut events = Vec::new();
    let mut outcomes = BTreeSet::new();
    for (sequence, proposal) in (0..).zip(&proposals) {
        let decision = list.apply(proposal, sequence, now);
        outcomes.insert(decision.outcome.as_str().to_owned());
        events.push(("proposal", value(&blocklist::proposal("shop", proposal))));
        let answer = blocklist::outcome("shop", proposal, &decision);
        events.push(("proposal", value(&answer)));
        match &decision.edit {
            Some(edit @ Edit::Listed(_)) => {
                let entry = blocklist::decided("shop", &proposal.id, decision.outcome, edit);
                events.push(("block_entry", value(&entry)));
                let why = Why::Proposed(proposal, decision.outcome);
                let line = change("shop", edit, why, sequence, now);
                events.push(("block_entry", line.value));
            }
            Some(edit @ Edit::Ended(_)) => {
                let end = blocklist::decided("shop", &proposal.id, decision.outcome, edit);
                assert_eq!(end.value, None, "an entry ends by a record without value");
                let why = Why::Proposed(proposal, decision.outcome);
                let line = change("shop", edit, why, sequence, now);
                events.push(("block_end", line.value));
            }
            None => {}
        }
    }
    let known = "/$defs/outcome/properties/outcome/enum";
    assert_eq!(outcomes, listed(&schema("proposal"), known));
    for edit in list.expire(later) {
        let line = change("shop", &edit, Why::Caused(Cause::Expired), 99, later);
        events.push(("block_end", line.value));
    }
    let kinds = events
        .iter()
        .filter(|(name, _)| *name == "block_entry")
        .map(|(_, entry)| entry["data"]["kind"].as_str().unwrap().to_owned());
    let kinds: BTreeSet<String> = kinds.collect();
    assert_eq!(kinds.len(), BlockKind::ALL.len());
    let kinds = hold(&events);
    // Outcomes, block and withdraw, an entry with and without what only files have, an end with and without a proposal.
    assert_eq!(kinds.len(), outcomes.len() + 6, "{kinds:?}");
}
