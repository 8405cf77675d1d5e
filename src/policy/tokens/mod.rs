//! Token configurations: where tokens are found and the keys that verify them.
//!
//! Enters: configurations with their JWK sets already read. Leaves: parsed sources and usable keys. Judging a token
//! is in `enrich::token`; fetching a key set by URL is not here.

mod algorithm;
pub mod json;
mod keys;
mod source;

use std::collections::HashSet;

use aws_lc_rs::digest;
use uuid::Uuid;

use super::objects::TokenConfigurationObject;
use crate::model::Problems;

pub use algorithm::Algorithm;
pub use keys::{Key, KeySet};
pub use source::TokenSource;
pub(super) use source::is_name;

/// Token configurations of one zone, in order.
#[derive(Debug, Default)]
pub struct Tokens {
    /// Configurations.
    pub configurations: Vec<TokenConfiguration>,
}

/// One place where tokens are expected, with what makes them valid.
#[derive(Debug)]
pub struct TokenConfiguration {
    /// Id: the configured one, else a UUIDv5 over zone and title, so that it never changes.
    pub id: String,
    /// Title; its name in reports.
    pub title: String,
    /// Where the token may be, tried in order.
    pub sources: Vec<TokenSource>,
    /// The keys.
    pub keys: KeySet,
    /// Tolerance for `exp` and `nbf`, nanoseconds.
    pub clock_skew_nanos: i64,
    /// Expected `iss`.
    pub issuer: Option<String>,
    /// Accepted `aud` values; empty = not checked.
    pub audience: Vec<String>,
    /// Whether a token without `exp` is refused.
    pub require_exp: bool,
    /// Longest token that is looked at, bytes.
    pub max_token_bytes: usize,
    /// SHA-256 over everything that decides what a token is worth regardless of the time, key set included. A cached
    /// verdict is filed under it, so a changed key set never meets a verdict of the old one.
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
        Self {
            identity: identity(zone, &id, object),
            id,
            title: object.title.clone(),
            sources,
            keys: KeySet::compile(&object.jwks, &format!("{place}.jwks"), problems),
            clock_skew_nanos: i64::try_from(object.clock_skew.as_nanos()).unwrap_or(i64::MAX),
            issuer: object.issuer.clone(),
            audience: object.audience.clone(),
            require_exp: object.require_exp,
            max_token_bytes: object.max_token_bytes,
        }
    }
}

/// Every part is preceded by its length, so that no two configurations write the same bytes.
fn identity(zone: &str, id: &str, object: &TokenConfigurationObject) -> [u8; 32] {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(zone.as_bytes());
    part(id.as_bytes());
    part(&object.jwks.bytes);
    part(&(object.max_token_bytes as u64).to_be_bytes());
    part(&[u8::from(object.require_exp)]);
    part(&[u8::from(object.issuer.is_some())]);
    part(object.issuer.as_deref().unwrap_or_default().as_bytes());
    for audience in &object.audience {
        part(audience.as_bytes());
    }
    let mut identity = [0; 32];
    identity.copy_from_slice(hash.finish().as_ref());
    identity
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::policy::objects::FileText;

    fn object(id: Option<&str>, title: &str, sources: &[&str]) -> TokenConfigurationObject {
        let key = json!({"kty": "oct", "kid": "k", "k": "A".repeat(43)});
        TokenConfigurationObject {
            id: id.map(str::to_owned),
            title: title.to_owned(),
            token_sources: sources.iter().map(|source| (*source).to_owned()).collect(),
            jwks: FileText {
                name: "k.json".to_owned(),
                bytes: json!({ "keys": [key] }).to_string().into_bytes(),
            },
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
                    "token_sources[1]: \"x\" reads neither a header nor a cookie",
                    "token_sources[2]: the same source twice",
                ],
            ),
            (
                TokenConfigurationObject {
                    jwks: FileText::default(),
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
        let mut keys = base();
        keys.jwks.bytes.push(b' ');
        for object in [
            base(),
            keys,
            TokenConfigurationObject {
                require_exp: true,
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
