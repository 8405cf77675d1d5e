//! What a pipeline file says → what the program needs. Defaults and ranges live here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::reader::{Secret, Section};
use super::zones::read_zones;
use super::{DetectSettings, Settings, SourceSettings};
use crate::model::{Method, Problem};
use crate::policy::Policy;
use crate::policy::objects::ZoneObject;
use crate::{correlate, decode};

/// Settings before the policy is compiled.
pub(super) struct Draft {
    pub(super) zones: Vec<ZoneObject>,
    name: String,
    source: SourceSettings,
    correlate: correlate::Limits,
    correlate_idle: Duration,
    flush_every: Duration,
    limits: decode::Limits,
    store: PathBuf,
    publish: PathBuf,
    dead_letter_bytes: bool,
    detect: DetectSettings,
    hash_key: Option<Vec<u8>>,
    warnings: Vec<Problem>,
}

impl Draft {
    pub(super) fn into_settings(self, policy: Policy) -> Settings {
        Settings {
            name: self.name,
            source: self.source,
            correlate: self.correlate,
            correlate_idle: self.correlate_idle,
            flush_every: self.flush_every,
            limits: self.limits,
            store: self.store,
            publish: self.publish,
            dead_letter_bytes: self.dead_letter_bytes,
            detect: self.detect,
            hash_key: self.hash_key,
            policy: Arc::new(policy),
            warnings: self.warnings,
        }
    }
}

/// Reads the whole file; problems end up in its sheet.
pub(super) fn resolve(root: &Section<'_>, folder: &Path) -> Draft {
    let name = root.required("name", "name = \"shop\"");
    if name.contains(['/', '\n']) {
        root.problem("name", "a name has no slash and no line end", "");
    }
    root.string("account");
    let source = read_source(&root.section("source"), folder);
    let (correlate, correlate_idle) = read_correlate(&root.section("correlate"));
    let window = root.section("window");
    let flush_every = positive(&window, "flush_every", Duration::from_secs(1));
    window.finish();
    let (limits, max_token_bytes) = read_limits(&root.section("limits"));
    let store = read_store(&root.section("store"), folder);
    let (publish, dead_letter_bytes) = read_publish(&root.section("publish"), folder, &store);
    let detect = read_detect(&root.section("detect"));
    let privacy = root.section("privacy");
    let hash_key = privacy
        .secret("hash_key")
        .and_then(|secret| read_key(&privacy, &secret, folder));
    privacy.finish();
    let warnings = read_reserved(root);
    let zones = read_zones(root, folder, max_token_bytes);
    root.finish();
    Draft {
        zones,
        name,
        source,
        correlate,
        correlate_idle,
        flush_every,
        limits,
        store,
        publish,
        dead_letter_bytes,
        detect,
        hash_key,
        warnings,
    }
}

/// A duration above zero.
fn positive(section: &Section<'_>, key: &'static str, default: Duration) -> Duration {
    let value = section.duration(key, default);
    if value.is_zero() {
        section.problem(key, "must be longer than zero", "");
        return default;
    }
    value
}

fn read_source(section: &Section<'_>, folder: &Path) -> SourceSettings {
    only_kind(
        section,
        "file",
        "kafka and http sources are not part of this version",
    );
    let path = section.required(
        "path",
        "path = \"traffic.ndjson\", or \"-\" for standard input",
    );
    let format = section
        .string("format")
        .unwrap_or_else(|| "gatewatch".to_owned());
    let adapter = decode::adapter(&format).unwrap_or_else(|| {
        let known: Vec<&str> = decode::ADAPTERS.iter().map(|(name, _)| *name).collect();
        let hint = format!("known formats: {}", known.join(", "));
        section.problem("format", format!("{format:?} is not a log format"), &hint);
        decode::event_v1
    });
    let follow = section.boolean("follow", false);
    let path = (path != "-").then(|| folder.join(path));
    if follow {
        match path
            .as_ref()
            .map(|path| path.extension().and_then(|e| e.to_str()).map(str::to_owned))
        {
            None => section.problem(
                "follow",
                "standard input cannot be followed",
                "it is read to its end anyway",
            ),
            Some(Some(extension)) if extension == "gz" || extension == "zst" => {
                section.problem(
                    "follow",
                    "a compressed file does not grow line by line",
                    "follow the plain file",
                );
            }
            Some(_) => {}
        }
    }
    section.finish();
    SourceSettings {
        path,
        adapter,
        follow,
    }
}

/// `kind` must be the one that this version has; the section itself may be left out.
fn only_kind(section: &Section<'_>, known: &str, hint: &str) {
    if let Some(kind) = section.string("kind")
        && kind != known
    {
        section.problem(
            "kind",
            format!("{kind:?} is not available"),
            &format!("kind = {known:?}; {hint}"),
        );
    }
}

fn read_correlate(section: &Section<'_>) -> (correlate::Limits, Duration) {
    let default = correlate::Limits::default();
    let timeout = positive(section, "timeout", default.timeout);
    let idle = positive(section, "idle", Duration::from_mins(1));
    let max_open = section.integer("max_open", default.max_open as u64);
    let max_open = usize::try_from(max_open).unwrap_or(usize::MAX);
    if max_open == 0 {
        section.problem("max_open", "must be at least 1", "");
    }
    section.finish();
    (
        correlate::Limits {
            timeout,
            max_open,
            ..default
        },
        idle,
    )
}

fn read_limits(section: &Section<'_>) -> (decode::Limits, usize) {
    let default = decode::Limits::default();
    let limits = decode::Limits {
        event: section.bytes("event", default.event),
        body: section.bytes("body", default.body),
    };
    let token = section.bytes("token", 16 << 10);
    // Only records with a timestamp of their own (Kafka, HTTP) are held to it.
    section.duration("future", Duration::from_mins(10));
    section.finish();
    (limits, token)
}

fn read_store(section: &Section<'_>, folder: &Path) -> PathBuf {
    only_kind(section, "local", "ClickHouse is not part of this version");
    let path = section.string("path").unwrap_or_else(|| "data".to_owned());
    section.finish();
    folder.join(path)
}

fn read_publish(section: &Section<'_>, folder: &Path, store: &Path) -> (PathBuf, bool) {
    only_kind(section, "file", "Kafka topics are not part of this version");
    let path = section
        .string("path")
        .map_or_else(|| store.join("topics"), |path| folder.join(path));
    let bytes = section.boolean("dead_letter_bytes", false);
    section.finish();
    (path, bytes)
}

fn read_detect(section: &Section<'_>) -> DetectSettings {
    let every = positive(section, "every", Duration::from_mins(5));
    if !every.as_millis().is_multiple_of(60_000) {
        section.problem("every", "must be whole minutes", "every = \"5m\"");
    }
    let lateness = section.duration("lateness", Duration::ZERO);
    // With one partition the watermark never waits for another one.
    section.duration("idle", Duration::from_mins(1));
    let excluded_methods = if section.raw("excluded_methods").is_some() {
        section.strings("excluded_methods", false)
    } else {
        vec!["OPTIONS".to_owned(), "HEAD".to_owned()]
    };
    for method in &excluded_methods {
        if Method::parse(method) == Method::Other && method != "OTHER" {
            section.problem(
                "excluded_methods",
                format!("{method:?} is not a method"),
                "methods are upper case",
            );
        }
    }
    let min_successful = section.integer("min_successful", 1).max(1);
    section.finish();
    DetectSettings {
        every,
        lateness,
        excluded_methods,
        min_successful,
    }
}

/// Shortest key of the hashes: as long as their output (RFC 2104 section 3 advises no less than the hash's length).
const MIN_HASH_KEY: usize = 16;

fn read_key(section: &Section<'_>, secret: &Secret, folder: &Path) -> Option<Vec<u8>> {
    let (key, from) = match secret {
        Secret::Env(name) => (
            std::env::var(name)
                .map(String::into_bytes)
                .map_err(|e| e.to_string()),
            name.clone(),
        ),
        Secret::File(path) => {
            let path = folder.join(path);
            (
                std::fs::read(&path).map_err(|error| error.to_string()),
                path.display().to_string(),
            )
        }
    };
    match key {
        Ok(key) if key.trim_ascii().len() >= MIN_HASH_KEY => Some(key.trim_ascii().to_vec()),
        Ok(_) => {
            let hint = "use at least 16 random bytes, e.g. 32 hexadecimal digits";
            section.problem("hash_key", format!("the key in {from} is too short"), hint);
            None
        }
        Err(error) => {
            section.problem(
                "hash_key",
                format!("{from}: {error}"),
                "create it, or name another",
            );
            None
        }
    }
}

/// Sections that belong to the format but have no effect in this version: checked for shape, then said aloud.
fn read_reserved(root: &Section<'_>) -> Vec<Problem> {
    let blocklist = root.section("blocklist");
    blocklist.boolean("enforce", false);
    blocklist.strings("allow", false);
    blocklist.integer("max", 100_000);
    blocklist.finish();
    let api = root.section("api");
    api.string("listen");
    api.string("state");
    api.strings("trusted_proxies", false);
    api.secret("seal_key");
    let tls = api.section("tls");
    tls.string("certificate");
    tls.string("key");
    tls.finish();
    api.finish();
    [
        (blocklist, "no block list is published"),
        (api, "no server is started"),
    ]
    .into_iter()
    .filter(|(section, _)| section.written())
    .map(|(section, message)| Problem {
        place: format!("[{}]", section.place),
        message: format!("has no effect in this version: {message}"),
        hint: None,
    })
    .collect()
}
