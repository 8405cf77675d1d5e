//! `[source]`, `[store]`, `[publish]`, `[api]`: where events come from and where results go.
//!
//! Two arrangements exist. Embedded: a file, standard input or HTTP into a local store and topic files. As a service:
//! Kafka or HTTP into ClickHouse and Kafka topics. Anything between is refused here, with what to write instead.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::reader::{Secret, Section};
use super::{
    ApiSettings, FileSource, Gap, HttpSource, KafkaSource, SourceKind, SourceSettings, Start,
};
use super::{KafkaPublish, PublishSettings};
use crate::decode::{self, Adapter, Shown};
use crate::model::COOKIE;
use crate::store::{StoreSettings, clickhouse};

/// Kinds of a source, the default first.
const SOURCES: &[&str] = &["file", "kafka", "http"];
/// Kinds of a store.
const STORES: &[&str] = &["local", "clickhouse"];
/// Kinds of publishing.
const PUBLISHERS: &[&str] = &["file", "kafka"];

/// The kind that is written, or the first one.
fn kind(section: &Section<'_>, known: &[&'static str]) -> &'static str {
    let default = known.first().copied().unwrap_or_default();
    let Some(written) = section.string("kind") else {
        return default;
    };
    let found = known.iter().find(|name| **name == written);
    found.copied().unwrap_or_else(|| {
        let hint = format!("known kinds: {}", known.join(", "));
        section.problem("kind", format!("{written:?} is not a kind"), &hint);
        default
    })
}

pub(super) fn read_source(section: &Section<'_>, pipeline: &str, folder: &Path) -> SourceSettings {
    let kind = match kind(section, SOURCES) {
        "kafka" => SourceKind::Kafka(read_kafka_source(section, pipeline, folder)),
        "http" => SourceKind::Http(read_http_source(section, folder)),
        _ => SourceKind::File(read_file_source(section, folder)),
    };
    let format = section
        .string("format")
        .unwrap_or_else(|| "gatewatch".to_owned());
    let decode = decode::format(&format).unwrap_or_else(|| {
        let known: Vec<&str> = decode::ADAPTERS.iter().map(|(name, _)| *name).collect();
        let hint = format!("known formats: {}", known.join(", "));
        section.problem("format", format!("{format:?} is not a log format"), &hint);
        decode::event_v1
    });
    let adapter = read_captured(section, Adapter::new(decode));
    section.finish();
    SourceSettings { adapter, kind }
}

/// What the log would show, for formats that leave out what was not sent.
fn read_captured(section: &Section<'_>, adapter: Adapter) -> Adapter {
    if !section.has("captured") {
        return adapter;
    }
    let captured = section.section("captured");
    let mut request = captured.strings("request_headers", false);
    let response = captured.strings("response_headers", false);
    for (key, names) in [
        ("request_headers", &request),
        ("response_headers", &response),
    ] {
        for name in names.iter().filter(|name| !is_token(name)) {
            let hint = "write the name alone, e.g. \"authorization\"";
            captured.problem(key, format!("{name:?} is not a header name"), hint);
        }
    }
    for name in captured.strings("cookies", false) {
        if !is_token(&name) {
            let hint = "write the name alone, e.g. \"sid\"";
            captured.problem("cookies", format!("{name:?} is not a cookie name"), hint);
        }
        request.push(format!("{COOKIE}{name}"));
    }
    captured.finish();
    adapter.with_shown(Shown {
        request: request.into(),
        response: response.into(),
    })
}

/// RFC 9110 section 5.6.2: what names of headers and cookies are made of.
fn is_token(name: &str) -> bool {
    let mark = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || mark(byte))
}

fn read_file_source(section: &Section<'_>, folder: &Path) -> FileSource {
    let path = section.required(
        "path",
        "path = \"traffic.ndjson\", or \"-\" for standard input",
    );
    let follow = section.boolean("follow", false);
    let path = (path != "-").then(|| folder.join(path));
    if follow {
        let extension = path.as_ref().map(|path| {
            path.extension()
                .and_then(|e| e.to_str())
                .unwrap_or_default()
        });
        match extension {
            None => section.problem(
                "follow",
                "standard input cannot be followed",
                "it is read to its end anyway",
            ),
            Some("gz" | "zst") => section.problem(
                "follow",
                "a compressed file does not grow line by line",
                "follow the plain file",
            ),
            Some(_) => {}
        }
    }
    FileSource { path, follow }
}

fn read_kafka_source(section: &Section<'_>, pipeline: &str, folder: &Path) -> KafkaSource {
    let brokers = section.required("brokers", "brokers = \"kafka-1:9092,kafka-2:9092\"");
    let topics = section.strings("topics", true);
    if topics.is_empty() {
        section.problem(
            "topics",
            "is missing or empty",
            "topics = [\"gateway-events\"]",
        );
    }
    let group = section
        .string("group")
        .unwrap_or_else(|| format!("gatewatch-{pipeline}"));
    let start = match section.string("start").as_deref() {
        None | Some("earliest") => Start::Earliest,
        Some("latest") => Start::Latest,
        Some(other) => {
            section.problem(
                "start",
                format!("{other:?} is not a start"),
                "earliest or latest",
            );
            Start::Earliest
        }
    };
    let on_gap = match section.string("on_gap").as_deref() {
        None | Some("fail") => Gap::Fail,
        Some("continue") => Gap::Continue,
        Some(other) => {
            section.problem(
                "on_gap",
                format!("{other:?} is not a choice"),
                "fail or continue",
            );
            Gap::Fail
        }
    };
    let options = read_options(section, folder, RESERVED_CONSUMER);
    KafkaSource {
        brokers,
        topics,
        group,
        start,
        on_gap,
        options,
    }
}

/// Options of librdkafka that the guarantee rests on, with the reason that is shown when somebody sets one.
const RESERVED_CONSUMER: &[(&str, &str)] = &[
    ("bootstrap.servers", "write source.brokers"),
    ("group.id", "write source.group"),
    (
        "enable.auto.commit",
        "offsets are committed with the flush that they belong to",
    ),
    (
        "enable.auto.offset.store",
        "offsets are committed with the flush that they belong to",
    ),
    ("auto.offset.reset", "write source.start and source.on_gap"),
    (
        "enable.partition.eof",
        "the end of a partition ends a flush that is repeated",
    ),
    (
        "partition.assignment.strategy",
        "partitions are handed over one by one (cooperative-sticky)",
    ),
    (
        "client.rack",
        "a flush that is repeated needs the end of the leader, not of a follower",
    ),
    (
        "isolation.level",
        "records of aborted transactions are never counted",
    ),
];
const RESERVED_PRODUCER: &[(&str, &str)] = &[
    ("bootstrap.servers", "write publish.brokers"),
    ("transactional.id", "it is what keeps a second writer out"),
    (
        "enable.idempotence",
        "results are published in transactions",
    ),
    ("acks", "results are published in transactions"),
];

/// librdkafka's own settings: strings, numbers, booleans, and secrets by name.
fn read_options(
    section: &Section<'_>,
    folder: &Path,
    reserved: &[(&str, &str)],
) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    for (name, value) in section.option_table("options") {
        let place = format!("options.{name}");
        if let Some((_, reason)) = reserved.iter().find(|(key, _)| *key == name) {
            section.problem(&place, "is set by the program", reason);
            continue;
        }
        let value = match value {
            Ok(text) => Some(text),
            Err(secret) => read_secret(section, &place, &secret, folder),
        };
        if let Some(value) = value {
            options.insert(name, value);
        }
    }
    options
}

/// The text of a secret, without surrounding white space.
pub(super) fn read_secret(
    section: &Section<'_>,
    place: &str,
    secret: &Secret,
    folder: &Path,
) -> Option<String> {
    match secret.load(folder) {
        Ok((bytes, from)) => match String::from_utf8(bytes) {
            Ok(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
            _ => {
                section.problem(place, format!("{from} holds no text"), "");
                None
            }
        },
        Err(problem) => {
            section.problem(place, problem, "create it, or name another");
            None
        }
    }
}

fn read_http_source(section: &Section<'_>, folder: &Path) -> HttpSource {
    let listen = section.required("listen", "listen = \"127.0.0.1:8480\"");
    let listen = parse_listen(section, "listen", &listen);
    let secret = section.secret("token");
    let token = secret.and_then(|secret| read_secret(section, "token", &secret, folder));
    if token.is_none() && !section.has("token") && !listen.ip().is_loopback() {
        section.problem(
            "token",
            "is missing: anybody who reaches the address could send events",
            "token = { env = \"GATEWATCH_EVENTS_TOKEN\" }, or listen on a loopback address",
        );
    }
    HttpSource { listen, token }
}

fn parse_listen(section: &Section<'_>, key: &'static str, text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| {
        if !text.is_empty() {
            let hint = "an IP address and a port, e.g. \"127.0.0.1:8470\" or \"[::]:8470\"";
            section.problem(
                key,
                format!("{text:?} is not an address to listen on"),
                hint,
            );
        }
        SocketAddr::from(([127, 0, 0, 1], 0))
    })
}

pub(super) fn read_store(section: &Section<'_>, folder: &Path) -> StoreSettings {
    let settings = if kind(section, STORES) == "clickhouse" {
        StoreSettings::ClickHouse(Box::new(read_clickhouse(section, folder)))
    } else {
        let path = section.string("path").unwrap_or_else(|| "data".to_owned());
        StoreSettings::Local(folder.join(path))
    };
    section.finish();
    settings
}

fn read_clickhouse(section: &Section<'_>, folder: &Path) -> clickhouse::Settings {
    let url = section.required("url", "url = \"http://clickhouse:8123\"");
    let authority = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        // Errors and logs name the address, and this problem does not.
        section.problem(
            "url",
            "holds a user or a password, which would be printed with the address",
            "store.user = \"…\" and store.password = { env = \"…\" }",
        );
    } else if !url.is_empty() && !url.starts_with("http://") && !url.starts_with("https://") {
        section.problem(
            "url",
            format!("{url:?} is not the address of ClickHouse's HTTP interface"),
            "url = \"http://clickhouse:8123\"",
        );
    }
    let database = section
        .string("database")
        .unwrap_or_else(|| "gatewatch".to_owned());
    for (key, name) in [
        ("database", Some(&database)),
        ("cluster", section.string("cluster").as_ref()),
    ] {
        if let Some(name) = name
            && !name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        {
            section.problem(
                key,
                format!("{name:?} is not a plain name"),
                "letters, digits, _ and -",
            );
        }
    }
    let user = section.string("user");
    let secret = section.secret("password");
    let password = secret.and_then(|secret| read_secret(section, "password", &secret, folder));
    let cluster = section.string("cluster").filter(|name| !name.is_empty());
    let replicated = section.boolean("replicated", false);
    let migrate = match section.string("migrate").as_deref() {
        None | Some("auto") => true,
        Some("never") => false,
        Some(other) => {
            let hint = "auto, or never (then run `gatewatch migrate` first)";
            section.problem("migrate", format!("{other:?} is not a choice"), hint);
            true
        }
    };
    let ca = section.string("ca").map(|path| folder.join(path));
    let kept = section.section("retention");
    let days = |count: u64| Duration::from_secs(count * 86_400);
    let retention = clickhouse::Retention {
        minutes: positive(&kept, "minutes", days(8)),
        hours: positive(&kept, "hours", days(35)),
        days: positive(&kept, "days", days(400)),
        events: None,
    };
    kept.finish();
    let deadline = positive(section, "deadline", Duration::from_mins(30));
    clickhouse::Settings {
        url,
        database,
        user,
        password,
        cluster,
        replicated,
        migrate,
        ca,
        retention,
        deadline,
    }
}

/// A duration above zero.
pub(super) fn positive(section: &Section<'_>, key: &'static str, default: Duration) -> Duration {
    let value = section.duration(key, default);
    if value.is_zero() {
        section.problem(key, "must be longer than zero", "");
        return default;
    }
    value
}

pub(super) fn read_publish(
    section: &Section<'_>,
    source: &SourceKind,
    store: &StoreSettings,
    folder: &Path,
) -> PublishSettings {
    let settings = if kind(section, PUBLISHERS) == "kafka" {
        let brokers = section.string("brokers").unwrap_or_else(|| match source {
            SourceKind::Kafka(kafka) => kafka.brokers.clone(),
            _ => section.required("brokers", "brokers = \"kafka-1:9092,kafka-2:9092\""),
        });
        let mut options = read_options(section, folder, RESERVED_PRODUCER);
        if let SourceKind::Kafka(kafka) = source
            && kafka.brokers == brokers
        {
            // The same cluster: how to reach it is said once.
            let shared = kafka
                .options
                .iter()
                .filter(|(name, _)| crate::wire::kafka::is_connection(name));
            for (name, value) in shared {
                options.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        PublishSettings::Kafka(KafkaPublish {
            brokers,
            options,
            prefix: section
                .string("prefix")
                .unwrap_or_else(|| "gatewatch.".to_owned()),
            replication: i32::try_from(section.integer("replication", 1)).unwrap_or(1),
        })
    } else {
        let inside = match store {
            StoreSettings::Local(path) => path.join("topics"),
            StoreSettings::ClickHouse(_) => folder.join("data/topics"),
        };
        let path = section
            .string("path")
            .map_or(inside, |path| folder.join(path));
        PublishSettings::File(path)
    };
    arrange(section, source, store, &settings);
    settings
}

/// Refuses arrangements that would give up the guarantee.
fn arrange(
    section: &Section<'_>,
    source: &SourceKind,
    store: &StoreSettings,
    publish: &PublishSettings,
) {
    let embedded = matches!(store, StoreSettings::Local(_));
    match (source, embedded, publish) {
        (SourceKind::Kafka(_), true, _) => section.problem_at(
            "store.kind",
            "a Kafka source needs a store that several nodes share",
            "kind = \"clickhouse\", or read a file",
        ),
        (SourceKind::File(_), false, _) => section.problem_at(
            "store.kind",
            "a file has no place in ClickHouse to keep its position",
            "produce it to Kafka (`gatewatch generate --kafka` shows how), or kind = \"local\"",
        ),
        (_, true, PublishSettings::Kafka(_)) => section.problem_at(
            "publish.kind",
            "Kafka topics are written by the evaluator of a ClickHouse store",
            "kind = \"file\", or a store of kind \"clickhouse\"",
        ),
        (_, false, PublishSettings::File(_)) => section.problem_at(
            "publish.kind",
            "the nodes that share a ClickHouse store also share their topics",
            "kind = \"kafka\"",
        ),
        _ => {}
    }
}

pub(super) fn read_api(section: &Section<'_>) -> Option<ApiSettings> {
    if !section.written() {
        return None;
    }
    let listen = section
        .string("listen")
        .unwrap_or_else(|| "127.0.0.1:8470".to_owned());
    let listen = parse_listen(section, "listen", &listen);
    let ext_authz = section.string("ext_authz");
    let ext_authz = ext_authz.map(|text| parse_listen(section, "ext_authz", &text));
    section.string("state");
    section.strings("trusted_proxies", false);
    section.secret("seal_key");
    let tls = section.section("tls");
    tls.string("certificate");
    tls.string("key");
    tls.finish();
    section.finish();
    Some(ApiSettings { listen, ext_authz })
}
