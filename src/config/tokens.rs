//! The `[[zones.token_configurations]]` of a pipeline file → objects, key sets that are files read.
//!
//! Nothing is fetched: of a key set by URL only the URL is checked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::edges::positive;
use super::reader::Section;
use super::zones::read_file;
use crate::policy::objects::{FileText, JwksObject, JwksUrl, TokenConfigurationObject};
use crate::wire::outbound;

/// Longest time that a fetch may take: tokens with an unknown key wait for it.
const MAX_TIMEOUT: Duration = Duration::from_secs(30);

/// What every token configuration shares.
pub(super) struct TokenDefaults {
    /// Longest token that is looked at, bytes.
    pub(super) max_token_bytes: usize,
    /// Where key sets by URL survive a restart.
    pub(super) cache: Option<PathBuf>,
}

pub(super) fn read_tokens(
    section: &Section<'_>,
    folder: &Path,
    defaults: &TokenDefaults,
) -> TokenConfigurationObject {
    let optional = |key: &'static str| {
        section
            .has(key)
            .then(|| positive(section, key, Duration::from_secs(1)))
    };
    let object = TokenConfigurationObject {
        id: section.string("id"),
        title: section.required("title", "title = \"shop issuer\""),
        token_sources: section.strings("token_sources", true),
        jwks: read_jwks(section, folder, defaults),
        clock_skew: section.duration("clock_skew", Duration::from_mins(1)),
        issuer: section.string("issuer"),
        audience: section.strings("audience", true),
        types: section.strings("typ", true),
        require_exp: section.boolean("require_exp", false),
        require_iat: section.boolean("require_iat", false),
        refuse_future_iat: section
            .has("refuse_future_iat")
            .then(|| section.boolean("refuse_future_iat", false)),
        max_age: optional("max_age"),
        max_token_bytes: defaults.max_token_bytes,
    };
    // Keys that are read only where they are written are known all the same.
    section.know(&["refuse_future_iat", "max_age"]);
    section.finish();
    object
}

/// A path, a URL, JSON text, or a TOML table: the set itself, or the URL with its settings.
fn read_jwks(section: &Section<'_>, folder: &Path, defaults: &TokenDefaults) -> JwksObject {
    const HINT: &str = "jwks = \"keys.json\" (a JWK set, RFC 7517), or \"https://…\"";
    let inline = |bytes: Vec<u8>| {
        JwksObject::Written(FileText {
            name: "inline jwks".to_owned(),
            bytes,
        })
    };
    match section.raw("jwks") {
        Some(DeValue::String(text)) if text.trim_start().starts_with('{') => {
            inline(text.as_bytes().to_vec())
        }
        Some(DeValue::String(url)) if url.contains("://") => {
            let settings = JwksUrl {
                url: url.to_string(),
                cache: defaults.cache.clone(),
                ..JwksUrl::default()
            };
            check_url(section, "jwks", &settings);
            JwksObject::Served(settings)
        }
        Some(DeValue::String(path)) => {
            JwksObject::Written(read_file(section, "jwks", folder, path))
        }
        Some(DeValue::Table(table)) if table.contains_key("url") => {
            JwksObject::Served(read_url(&section.section("jwks"), folder, defaults))
        }
        Some(value @ DeValue::Table(_)) => inline(json_text(value).to_string().into_bytes()),
        Some(_) => {
            section.problem("jwks", "neither a path, a URL nor a key set", HINT);
            JwksObject::default()
        }
        None => {
            section.problem("jwks", "is missing", HINT);
            JwksObject::default()
        }
    }
}

fn read_url(section: &Section<'_>, folder: &Path, defaults: &TokenDefaults) -> JwksUrl {
    let default = JwksUrl::default();
    let ca = section.has("ca").then(|| {
        let path = section.string("ca").unwrap_or_default();
        read_file(section, "ca", folder, &path).bytes
    });
    section.know(&["ca"]);
    let settings = JwksUrl {
        url: section.required(
            "url",
            "url = \"https://issuer.example/.well-known/jwks.json\"",
        ),
        cooldown: positive(section, "cooldown", default.cooldown),
        refresh: positive(section, "refresh", default.refresh),
        timeout: positive(section, "timeout", default.timeout),
        keep_retired: section.duration("keep_retired", default.keep_retired),
        allow_private: section.boolean("allow_private", false),
        ca: ca.filter(|pem| !pem.is_empty()),
        cache: section
            .string("cache")
            .map(|path| folder.join(path))
            .or_else(|| defaults.cache.clone()),
    };
    section.finish();
    if settings.timeout > MAX_TIMEOUT {
        section.problem(
            "timeout",
            "is longer than 30 s",
            "tokens with an unknown key wait for a fetch; 5s is the default",
        );
    }
    if settings.refresh < settings.cooldown {
        section.problem(
            "refresh",
            "is shorter than the cool-down",
            "refresh is the longest time between two fetches, cooldown the shortest",
        );
    }
    check_url(section, "url", &settings);
    settings
}

fn check_url(section: &Section<'_>, key: &str, settings: &JwksUrl) {
    if let Err(refusal) = outbound::permit(&settings.url, settings.allow_private) {
        section.problem(key, refusal.what, refusal.hint);
    }
    let options = outbound::Options {
        allow_private: settings.allow_private,
        timeout: settings.timeout,
        max_body: 0,
        ca: settings.ca.clone(),
    };
    if settings.ca.is_some()
        && let Err(error) = outbound::Client::new(&options)
    {
        section.problem("ca", error.to_string(), "PEM certificates are needed");
    }
}

fn json_text(value: &DeValue<'_>) -> serde_json::Value {
    use serde_json::Value;
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(yes) => Value::Bool(*yes),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::Null, Value::from)
        }
        DeValue::Float(number) => number
            .as_str()
            .parse::<f64>()
            .map_or(Value::Null, Value::from),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(items) => items.iter().map(|item| json_text(item.get_ref())).collect(),
        DeValue::Table(table) => table
            .iter()
            .map(|(key, value)| (key.get_ref().to_string(), json_text(value.get_ref())))
            .collect(),
    }
}
