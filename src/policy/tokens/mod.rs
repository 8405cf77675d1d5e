//! Token configurations: where tokens are found and the keys that verify them.
//!
//! Enters: configurations with their JWK sets already read. Leaves: parsed sources and usable keys. Judging a token
//! is in `enrich::token`; fetching a key set by URL is `source::jwks`'s.

mod algorithm;
pub mod json;
mod keys;
mod remote;
mod source;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use uuid::Uuid;

use super::objects::{JwksObject, TokenConfigurationObject};
use crate::model::Problems;

pub use algorithm::Algorithm;
pub use keys::{
    Candidates, Keep, Key, KeyHistory, KeySet, MAX_CANDIDATES, Retired, ServedKey, ServedKeys,
};
pub use remote::{KeyFeed, Keys, ServedBy};
pub use source::TokenSource;
pub(super) use source::is_name;

/// Token configurations of one zone, in order.
#[derive(Debug, Default)]
pub struct Tokens {
    /// Configurations.
    pub configurations: Vec<TokenConfiguration>,
}

/// One place where tokens are expected, with what makes them valid.
#[derive(Debug, Default)]
pub struct TokenConfiguration {
    /// Id: the configured one, else a UUIDv5 over zone and title, so that it never changes.
    pub id: String,
    /// Title; its name in reports.
    pub title: String,
    /// Where the token may be, tried in order.
    pub sources: Vec<TokenSource>,
    /// The keys.
    pub keys: Keys,
    /// Tolerance for `exp`, `nbf`, `iat` and the age, nanoseconds.
    pub clock_skew_nanos: i64,
    /// Expected `iss`.
    pub issuer: Option<String>,
    /// Accepted `aud` values; empty = not checked.
    pub audience: Vec<String>,
    /// Accepted `typ` header values in their short form and lower case; empty = not checked.
    pub types: Vec<String>,
    /// Whether a token without `exp` is refused.
    pub require_exp: bool,
    /// Whether a token without `iat` is refused.
    pub require_iat: bool,
    /// Whether an `iat` after event time is refused.
    pub refuse_future_iat: bool,
    /// Longest time from `iat` to the event, nanoseconds.
    pub max_age_nanos: Option<i64>,
    /// Longest token that is looked at, bytes.
    pub max_token_bytes: usize,
    /// SHA-256 over everything but the keys that decides what a token is worth regardless of the time. A cached verdict is
    /// filed under it, and within under the key that it was reached with.
    pub identity: [u8; 32],
}

impl Tokens {
    pub(super) fn compile(
        zone: &str,
        objects: &[TokenConfigurationObject],
        place: &str,
        problems: &mut Problems,
    ) -> Self {
        let mut names = HashSet::new();
        let mut configurations = Vec::with_capacity(objects.len());
        for (number, object) in objects.iter().enumerate() {
            let place = format!("{place}.token_configurations[{number}]");
            let configuration = TokenConfiguration::compile(zone, object, &place, problems);
            // Session identifiers and rules name a configuration by id or title, so both share one name space.
            let id = (configuration.id != configuration.title).then_some(&configuration.id);
            for (member, name) in [("title", Some(&configuration.title)), ("id", id)] {
                let Some(name) = name.filter(|name| !name.is_empty()) else {
                    continue;
                };
                // An id made from the title repeats only with it.
                if !names.insert(name.clone()) && (member == "title" || object.id.is_some()) {
                    problems.hint(
                        format!("{place}.{member}"),
                        format!("{name:?} already names another token configuration of the zone"),
                        "ids and titles are unique within a zone",
                    );
                }
            }
            configurations.push(configuration);
        }
        Self { configurations }
    }

    /// Index of the configuration with this id or title.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.configurations
            .iter()
            .position(|configuration| configuration.id == name || configuration.title == name)
    }
}

impl TokenConfiguration {
    fn compile(
        zone: &str,
        object: &TokenConfigurationObject,
        place: &str,
        problems: &mut Problems,
    ) -> Self {
        if object.title.trim().is_empty() {
            problems.hint(
                format!("{place}.title"),
                "the title is empty",
                "reports name the configuration by its title",
            );
        }
        if object.id.as_deref().is_some_and(str::is_empty) {
            problems.hint(
                format!("{place}.id"),
                "the id is empty",
                "leave it out to have one made from zone and title",
            );
        }
        let sources_place = format!("{place}.token_sources");
        if object.token_sources.is_empty() {
            problems.hint(&sources_place, "no token source", source::HINT);
        }
        let mut sources = Vec::with_capacity(object.token_sources.len());
        for (number, text) in object.token_sources.iter().enumerate() {
            match TokenSource::parse(text) {
                Ok(source) if sources.contains(&source) => problems.hint(
                    format!("{sources_place}[{number}]"),
                    "the same source twice",
                    "list every source once",
                ),
                Ok(source) => sources.push(source),
                Err(what) => {
                    problems.hint(format!("{sources_place}[{number}]"), what, source::HINT);
                }
            }
        }
        if object.max_token_bytes == 0 {
            problems.hint(
                format!("{place}.max_token_bytes"),
                "no token fits in 0 bytes",
                "16 KiB is the default",
            );
        }
        let id = object.id.clone().unwrap_or_else(|| {
            let name = format!("gatewatch:{zone}\ntoken_configuration\n{}", object.title);
            Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string()
        });
        let keys = match &object.jwks {
            JwksObject::Written(file) => {
                let set = KeySet::compile(file, &format!("{place}.jwks"), problems);
                Keys::Written(Arc::new(set))
            }
            JwksObject::Served(settings) => Keys::Served(ServedBy::new(settings.clone())),
        };
        let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        let mut configuration = Self {
            identity: [0; 32],
            id,
            title: object.title.clone(),
            sources,
            keys,
            clock_skew_nanos: nanos(object.clock_skew),
            issuer: object.issuer.clone(),
            audience: object.audience.clone(),
            types: object.types.iter().map(|name| short_type(name)).collect(),
            require_exp: object.require_exp,
            require_iat: object.require_iat || object.max_age.is_some(),
            // Without it a token could choose its own age by an `iat` that lies ahead.
            refuse_future_iat: object.refuse_future_iat.unwrap_or(object.max_age.is_some()),
            max_age_nanos: object.max_age.map(nanos),
            max_token_bytes: object.max_token_bytes,
        };
        configuration.identity = identity(zone, &configuration);
        configuration
    }

    /// Whether `iat` decides anything, and so must be a number where it is there.
    #[must_use]
    pub fn reads_iat(&self) -> bool {
        self.require_iat || self.refuse_future_iat
    }
}

/// A `typ` in its short form: media types have no case, and `application/` is left out (RFC 7515 section 4.1.9).
#[must_use]
pub fn short_type(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    match lower.strip_prefix("application/") {
        Some(short) if !short.contains('/') => short.to_owned(),
        _ => lower,
    }
}

/// Every part is preceded by its length, so that no two configurations write the same bytes.
fn identity(zone: &str, configuration: &TokenConfiguration) -> [u8; 32] {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(zone.as_bytes());
    part(configuration.id.as_bytes());
    part(&(configuration.max_token_bytes as u64).to_be_bytes());
    part(&[
        u8::from(configuration.require_exp),
        u8::from(configuration.require_iat),
        u8::from(configuration.reads_iat()),
        u8::from(configuration.issuer.is_some()),
    ]);
    part(
        configuration
            .issuer
            .as_deref()
            .unwrap_or_default()
            .as_bytes(),
    );
    for names in [&configuration.types, &configuration.audience] {
        part(&(names.len() as u64).to_be_bytes());
        for name in names {
            part(name.as_bytes());
        }
    }
    let mut identity = [0; 32];
    identity.copy_from_slice(hash.finish().as_ref());
    identity
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::objects::FileText;

    fn object(id: Option<&str>, title: &str, sources: &[&str]) -> TokenConfigurationObject {
        let key = json!({"kty": "oct", "kid": "k", "k": "A".repeat(43)});
        TokenConfigurationObject {
            id: id.map(str::to_owned),
            title: title.to_owned(),
            token_sources: sources.iter().map(|source| (*source).to_owned()).collect(),
            jwks: JwksObject::Written(FileText {
                name: "k.json".to_owned(),
                bytes: json!({ "keys": [key] }).to_string().into_bytes(),
            }),
            clock_skew: Duration::from_mins(1),
            max_token_bytes: 100,
            ..TokenConfigurationObject::default()
        }
    }

    fn compile(objects: &[TokenConfigurationObject]) -> (Tokens, Vec<String>) {
        let mut problems = Problems::default();
        let tokens = Tokens::compile("z", objects, "zones[0]", &mut problems);
        let problems = problems
            .0
            .iter()
            .map(|problem| format!("{}: {}", problem.place, problem.message))
            .collect();
        (tokens, problems)
    }

    const SOURCE: &str = r#"http.request.headers["authorization"][0]"#;

    #[test]
    fn ids_are_made_once_and_for_all() {
        let (tokens, problems) = compile(&[
            object(None, "shop", &[SOURCE]),
            object(Some("own"), "other", &[SOURCE]),
            object(Some("same"), "same", &[SOURCE]),
        ]);
        assert_eq!(problems, [""; 0]);
        let expected = Uuid::new_v5(
            &Uuid::NAMESPACE_URL,
            b"gatewatch:z\ntoken_configuration\nshop",
        );
        assert_eq!(tokens.configurations[0].id, expected.to_string());
        assert_eq!(tokens.find("shop"), Some(0));
        assert_eq!(tokens.find("own"), Some(1));
        assert_eq!(tokens.find("same"), Some(2));
        assert_eq!(tokens.find("none"), None);
        assert_eq!(tokens.configurations[0].clock_skew_nanos, 60_000_000_000);
    }

    #[test]
    fn every_problem_has_its_place() {
        let place = |rest: &str| format!("zones[0].token_configurations[1].{rest}");
        for (object, expected) in [
            (
                object(None, " ", &[SOURCE]),
                vec!["title: the title is empty"],
            ),
            (
                object(Some(""), "b", &[SOURCE]),
                vec!["id: the id is empty"],
            ),
            (
                object(None, "a", &[SOURCE]),
                vec!["title: \"a\" already names another token configuration of the zone"],
            ),
            (
                object(Some("a"), "b", &[SOURCE]),
                vec!["id: \"a\" already names another token configuration of the zone"],
            ),
            (
                object(None, "b", &[]),
                vec!["token_sources: no token source"],
            ),
            (
                object(None, "b", &[SOURCE, "x", SOURCE]),
                vec![
                    "token_sources[1]: \"x\" reads no header, cookie or query argument",
                    "token_sources[2]: the same source twice",
                ],
            ),
            (
                TokenConfigurationObject {
                    jwks: JwksObject::default(),
                    ..object(None, "b", &[SOURCE])
                },
                vec!["jwks: not a JWK set: EOF while parsing a value at line 1 column 0"],
            ),
            (
                TokenConfigurationObject {
                    max_token_bytes: 0,
                    ..object(None, "b", &[SOURCE])
                },
                vec!["max_token_bytes: no token fits in 0 bytes"],
            ),
        ] {
            let (_, problems) = compile(&[super::tests::object(None, "a", &[SOURCE]), object]);
            let expected: Vec<_> = expected.into_iter().map(place).collect();
            assert_eq!(problems, expected);
        }
    }

    #[test]
    fn a_maximum_age_needs_an_iat_that_is_not_ahead() {
        let compiled = |max_age, refuse_future_iat| {
            let object = TokenConfigurationObject {
                refuse_future_iat,
                max_age,
                ..object(None, "t", &[SOURCE])
            };
            let configuration = compile(&[object]).0.configurations.remove(0);
            let (require, refuse) = (configuration.require_iat, configuration.refuse_future_iat);
            (require, refuse, configuration.reads_iat())
        };
        let hour = Some(Duration::from_hours(1));
        assert_eq!(compiled(None, None), (false, false, false));
        assert_eq!(compiled(None, Some(true)), (false, true, true));
        assert_eq!(compiled(hour, None), (true, true, true));
        assert_eq!(compiled(hour, Some(false)), (true, false, true));
    }

    #[test]
    fn types_have_a_short_form() {
        for (name, short) in [
            ("at+jwt", "at+jwt"),
            ("application/at+JWT", "at+jwt"),
            ("APPLICATION/JWT", "jwt"),
            ("application/a/b", "application/a/b"),
            ("text/plain", "text/plain"),
        ] {
            assert_eq!(short_type(name), short);
        }
    }

    #[test]
    fn the_identity_changes_with_what_decides() {
        let base = || object(Some("i"), "t", &[SOURCE]);
        let same = compile(&[TokenConfigurationObject {
            clock_skew: Duration::ZERO,
            title: "other".to_owned(),
            ..base()
        }]);
        let identity = |object| compile(&[object]).0.configurations.remove(0).identity;
        let mut seen = std::collections::HashSet::new();
        assert_eq!(same.0.configurations[0].identity, identity(base()));
        for object in [
            base(),
            TokenConfigurationObject {
                require_exp: true,
                ..base()
            },
            TokenConfigurationObject {
                require_iat: true,
                ..base()
            },
            TokenConfigurationObject {
                refuse_future_iat: Some(true),
                ..base()
            },
            TokenConfigurationObject {
                types: vec!["a".to_owned()],
                ..base()
            },
            TokenConfigurationObject {
                issuer: Some(String::new()),
                ..base()
            },
            TokenConfigurationObject {
                issuer: Some("a".to_owned()),
                ..base()
            },
            TokenConfigurationObject {
                audience: vec!["a".to_owned()],
                ..base()
            },
            TokenConfigurationObject {
                audience: vec!["a".to_owned(), String::new()],
                ..base()
            },
            TokenConfigurationObject {
                max_token_bytes: 99,
                ..base()
            },
            object(Some("j"), "t", &[SOURCE]),
        ] {
            assert!(seen.insert(identity(object)));
        }
    }
}
