//! What a pipeline file says → what the program needs. Defaults and ranges live here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::blocklist::read_blocklist;
use super::edges::{positive, read_api, read_publish, read_source, read_store};
use super::evidence::read_evidence;
use super::feeds::{read_check, read_exporters, read_feeds};
use super::reader::{Secret, Section};
use super::rules::read_lists;
use super::tokens::TokenDefaults;
use super::zones::read_zones;
use super::{
    ApiSettings, BlockListSettings, CheckSettings, DetectSettings, EvidenceSettings, FeedSettings,
    PublishSettings, Settings, SourceSettings,
};
use crate::model::{Method, Problem};
use crate::policy::Policy;
use crate::policy::objects::ZoneObject;
use crate::publish::exporters::ExporterSettings;
use crate::store::StoreSettings;
use crate::{correlate, decode};

/// Settings before the policy is compiled.
pub(super) struct Draft {
    pub(super) zones: Vec<ZoneObject>,
    pub(super) token_defaults: TokenDefaults,
    name: String,
    source: SourceSettings,
    api: Option<ApiSettings>,
    correlate: correlate::Limits,
    correlate_idle: Duration,
    flush_every: Duration,
    limits: decode::Limits,
    verifications: usize,
    store: StoreSettings,
    publish: PublishSettings,
    future: Duration,
    dead_letter_bytes: bool,
    detect: DetectSettings,
    evidence: EvidenceSettings,
    block_list: BlockListSettings,
    feeds: Option<FeedSettings>,
    check: Option<CheckSettings>,
    exporters: Vec<ExporterSettings>,
    hash_key: Option<Vec<u8>>,
    warnings: Vec<Problem>,
}

impl Draft {
    pub(super) fn into_settings(self, policy: Policy) -> Settings {
        Settings {
            name: self.name,
            source: self.source,
            api: self.api,
            correlate: self.correlate,
            correlate_idle: self.correlate_idle,
            flush_every: self.flush_every,
            limits: self.limits,
            verifications: self.verifications,
            store: self.store,
            publish: self.publish,
            future: self.future,
            dead_letter_bytes: self.dead_letter_bytes,
            detect: self.detect,
            evidence: self.evidence,
            block_list: self.block_list,
            feeds: self.feeds,
            check: self.check,
            exporters: self.exporters,
            hash_key: self.hash_key,
            warnings: self
                .warnings
                .into_iter()
                .chain(policy.warnings.clone())
                .collect(),
            policy: Arc::new(policy),
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
    let source = read_source(&root.section("source"), &name, folder);
    let (correlate, correlate_idle) = read_correlate(&root.section("correlate"));
    let window = root.section("window");
    let flush_every = positive(&window, "flush_every", Duration::from_secs(1));
    window.finish();
    let (limits, tokens, future) = read_limits(&root.section("limits"));
    let mut store = read_store(&root.section("store"), folder);
    let evidence = read_evidence(&root.section("evidence"), &mut store);
    let publishing = root.section("publish");
    let publish = read_publish(&publishing, &source.kind, &store, folder);
    let dead_letter_bytes = publishing.boolean("dead_letter_bytes", false);
    publishing.finish();
    let api = read_api(&root.section("api"));
    let detect = read_detect(&root.section("detect"));
    let privacy = root.section("privacy");
    let hash_key = privacy
        .secret("hash_key")
        .and_then(|secret| read_key(&privacy, &secret, folder));
    if hash_key.is_none()
        && !privacy.has("hash_key")
        && matches!(store, StoreSettings::ClickHouse(_))
    {
        privacy.problem(
            "hash_key",
            "is missing: nodes that share a store must hash under one key",
            "hash_key = { env = \"GATEWATCH_HASH_KEY\" } or { file = \"hash.key\" }",
        );
    }
    privacy.finish();
    let lists = read_lists(&root.section("lists"), folder);
    let token_defaults = tokens.defaults(&store);
    let zones = read_zones(root, folder, &token_defaults, lists.as_ref());
    let block_list = read_blocklist(&root.section("blocklist"), &zones);
    let ids: Vec<&str> = zones.iter().map(|zone| zone.id.as_str()).collect();
    let feeds = read_feeds(&root.section("feeds"), api.as_ref(), &ids, folder);
    let check = read_check(&root.section("check"), api.as_ref(), folder);
    let exporters = read_exporters(&root.sections("exporters"), &ids, folder);
    root.finish();
    let idle = !block_list.enforce && check.as_ref().is_some_and(|check| check.judge);
    let warnings = idle.then(|| Problem {
        place: "check.judge".to_owned(),
        message: "refuses nothing while blocklist.enforce is off".to_owned(),
        hint: Some("enforce = true in [blocklist]".to_owned()),
    });
    Draft {
        zones,
        token_defaults,
        name,
        source,
        api,
        correlate,
        correlate_idle,
        flush_every,
        limits,
        verifications: tokens.verifications,
        store,
        publish,
        future,
        dead_letter_bytes,
        detect,
        evidence,
        block_list,
        feeds,
        check,
        exporters,
        hash_key,
        warnings: warnings.into_iter().collect(),
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

/// Different tokens that a flush has verified when nothing else is said: half as many as the largest flush has exchanges, so
/// that only a flood reaches it. At some 50 µs a signature (RS256, ES256) that is about three seconds of one core.
const VERIFICATIONS: u64 = 65_536;

/// Bounds of judging tokens.
struct TokenLimits {
    bytes: usize,
    verifications: usize,
}

impl TokenLimits {
    fn defaults(&self, store: &StoreSettings) -> TokenDefaults {
        TokenDefaults {
            max_token_bytes: self.bytes,
            cache: match store {
                StoreSettings::Local(folder) => Some(folder.join("jwks")),
                StoreSettings::ClickHouse(_) => None,
            },
        }
    }
}

fn read_limits(section: &Section<'_>) -> (decode::Limits, TokenLimits, Duration) {
    let default = decode::Limits::default();
    let limits = decode::Limits {
        event: section.bytes("event", default.event),
        body: section.bytes("body", default.body),
    };
    let verifications = section.integer("verifications", VERIFICATIONS);
    if verifications == 0 {
        section.problem(
            "verifications",
            "must be at least 1",
            "leave token configurations out to verify no token",
        );
    }
    let tokens = TokenLimits {
        bytes: section.bytes("token", 16 << 10),
        verifications: usize::try_from(verifications).unwrap_or(usize::MAX),
    };
    // Only records with a timestamp of their own (Kafka, HTTP) are held to it.
    let future = section.duration("future", Duration::from_mins(10));
    section.finish();
    (limits, tokens, future)
}

fn read_detect(section: &Section<'_>) -> DetectSettings {
    let every = positive(section, "every", Duration::from_mins(5));
    if !every.as_millis().is_multiple_of(60_000) {
        section.problem("every", "must be whole minutes", "every = \"5m\"");
    }
    let lateness = section.duration("lateness", Duration::ZERO);
    let idle = positive(section, "idle", Duration::from_mins(1));
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
        idle,
        excluded_methods,
        min_successful,
    }
}

/// Shortest key of the hashes: as long as their output (RFC 2104 section 3 advises no less than the hash's length).
const MIN_HASH_KEY: usize = 16;

fn read_key(section: &Section<'_>, secret: &Secret, folder: &Path) -> Option<Vec<u8>> {
    match secret.load(folder) {
        Ok((key, _)) if key.len() >= MIN_HASH_KEY => Some(key),
        Ok((_, from)) => {
            let hint = "use at least 16 random bytes, e.g. 32 hexadecimal digits";
            section.problem("hash_key", format!("the key in {from} is too short"), hint);
            None
        }
        Err(problem) => {
            section.problem("hash_key", problem, "create it, or name another");
            None
        }
    }
}
