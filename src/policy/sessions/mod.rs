//! Session identifiers: where an authenticated client shows who it is.
//!
//! Enters: identifiers as configured and the zone's token configurations. Leaves: carriers in order, with the names
//! that reports use. Judging an exchange is in `enrich::session`.

mod claim_path;

use super::objects::{SessionIdentifierKind, SessionIdentifierObject};
use super::tokens::{Tokens, is_name};
use crate::model::Problems;

pub use claim_path::ClaimPath;

/// Longest name, characters: the vendor's limit (feature map section 2).
const MAX_NAME: usize = 128;

/// Session identifiers of one zone, in order.
#[derive(Debug, Default)]
pub struct Sessions {
    /// Names as reported: as configured, with the type in front only when two share a name.
    pub names: Vec<String>,
    /// The identifiers behind the names, in the same order.
    pub identifiers: Vec<SessionIdentifier>,
}

/// One session identifier.
#[derive(Clone, Debug)]
pub struct SessionIdentifier {
    /// What carries it.
    pub carrier: Carrier,
    /// Type and name, the kind under which its values are hashed: `header:x-key`, `cookie:sid`, `jwt:<id>:$.sub`.
    pub kind: String,
}

/// What carries an identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A header field, name in lower case.
    Header(String),
    /// A cookie; the name has case.
    Cookie(String),
    /// A claim of a valid token.
    Claim {
        /// Index of the token configuration.
        configuration: usize,
        /// Which claim.
        path: ClaimPath,
    },
}

impl Sessions {
    pub(super) fn compile(
        objects: &[SessionIdentifierObject],
        tokens: &Tokens,
        place: &str,
        problems: &mut Problems,
    ) -> Self {
        let mut sessions = Self::default();
        for (number, object) in objects.iter().enumerate() {
            let place = format!("{place}.session_identifiers[{number}].name");
            if object.name.chars().count() > MAX_NAME {
                problems.hint(
                    &place,
                    format!("the name has more than {MAX_NAME} characters"),
                    "use a shorter name or path",
                );
            }
            if number > usize::from(u16::MAX) {
                problems.add(&place, "more identifiers than a zone may have");
                break;
            }
            let carrier = match carrier(object, tokens) {
                Ok(carrier) => carrier,
                Err((message, hint)) => {
                    problems.hint(&place, message, hint);
                    continue;
                }
            };
            if sessions
                .identifiers
                .iter()
                .any(|known| known.carrier == carrier)
            {
                problems.hint(
                    &place,
                    format!("{:?} is configured twice", object.name),
                    "list every identifier once",
                );
            }
            let kind = match &carrier {
                Carrier::Header(name) => format!("header:{name}"),
                Carrier::Cookie(name) => format!("cookie:{name}"),
                Carrier::Claim { .. } => format!("jwt:{}", object.name),
            };
            sessions
                .identifiers
                .push(SessionIdentifier { carrier, kind });
            let shared = objects
                .iter()
                .filter(|other| other.name == object.name)
                .count()
                > 1;
            sessions.names.push(if shared {
                format!("{}:{}", type_name(object.kind), object.name)
            } else {
                object.name.clone()
            });
        }
        sessions
    }
}

fn type_name(kind: SessionIdentifierKind) -> &'static str {
    match kind {
        SessionIdentifierKind::Header => "header",
        SessionIdentifierKind::Cookie => "cookie",
        SessionIdentifierKind::Jwt => "jwt",
    }
}

fn carrier(object: &SessionIdentifierObject, tokens: &Tokens) -> Result<Carrier, (String, String)> {
    match object.kind {
        SessionIdentifierKind::Header | SessionIdentifierKind::Cookie if !is_name(&object.name) => {
            Err((
                format!(
                    "{:?} is not the name of a {}",
                    object.name,
                    type_name(object.kind)
                ),
                "a name has letters, digits and !#$%&'*+-.^_`|~ (RFC 9110 section 5.6.2)"
                    .to_owned(),
            ))
        }
        SessionIdentifierKind::Header => Ok(Carrier::Header(object.name.to_ascii_lowercase())),
        SessionIdentifierKind::Cookie => Ok(Carrier::Cookie(object.name.clone())),
        SessionIdentifierKind::Jwt => claim(&object.name, tokens),
    }
}

/// `<configuration id or title>:<path>`. Titles and quoted names may hold `:$` too, so every such place is tried and
/// the first one that names a configuration counts.
fn claim(name: &str, tokens: &Tokens) -> Result<Carrier, (String, String)> {
    let mut first = None;
    for (at, _) in name.match_indices(":$") {
        let (title, path) = (
            name.get(..at).unwrap_or_default(),
            name.get(at + 1..).unwrap_or_default(),
        );
        first = first.or(Some(title));
        let Some(configuration) = tokens.find(title) else {
            continue;
        };
        return match ClaimPath::parse(path) {
            Ok(path) => Ok(Carrier::Claim {
                configuration,
                path,
            }),
            Err(what) => Err((
                format!("not a path to one claim: {what}"),
                claim_path::HINT.to_owned(),
            )),
        };
    }
    match first {
        None => Err((
            format!("{name:?} has no path after a colon"),
            "write <token configuration>:$.sub".to_owned(),
        )),
        Some(title) => {
            let known: Vec<_> = tokens
                .configurations
                .iter()
                .map(|configuration| format!("{:?}", configuration.title))
                .collect();
            let hint = if known.is_empty() {
                "the zone has no token configuration yet; add one".to_owned()
            } else {
                format!("use the id or title of one of {}", known.join(", "))
            };
            Err((format!("no token configuration is named {title:?}"), hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tokens::TokenConfiguration;

    fn tokens() -> Tokens {
        let named = |id: &str, title: &str| TokenConfiguration {
            id: id.to_owned(),
            title: title.to_owned(),
            ..TokenConfiguration::default()
        };
        Tokens {
            configurations: vec![named("id-1", "shop: eu"), named("id-2", "odd:$x")],
        }
    }

    fn compile(objects: &[(SessionIdentifierKind, &str)]) -> (Sessions, Vec<String>) {
        let objects: Vec<_> = objects
            .iter()
            .map(|(kind, name)| SessionIdentifierObject {
                kind: *kind,
                name: (*name).to_owned(),
            })
            .collect();
        let mut problems = Problems::default();
        let sessions = Sessions::compile(&objects, &tokens(), "zones[0]", &mut problems);
        let problems = problems.0.iter().map(ToString::to_string).collect();
        (sessions, problems)
    }

    #[test]
    fn names_are_as_configured_unless_two_share_one() {
        use SessionIdentifierKind::{Cookie, Header, Jwt};
        let (sessions, problems) = compile(&[
            (Header, "Authorization"),
            (Cookie, "sid"),
            (Header, "sid"),
            (Cookie, "SID"),
            (Jwt, "id-1:$.sub"),
            (Jwt, "shop: eu:$['sub']"),
            (Jwt, "odd:$x:$.a.b[0]"),
        ]);
        assert_eq!(
            problems,
            [
                "zones[0].session_identifiers[5].name: \"shop: eu:$['sub']\" is configured twice\n    \
              hint: list every identifier once"
            ]
        );
        assert_eq!(
            sessions.names,
            [
                "Authorization",
                "cookie:sid",
                "header:sid",
                "SID",
                "id-1:$.sub",
                "shop: eu:$['sub']",
                "odd:$x:$.a.b[0]"
            ]
        );
        let kinds: Vec<_> = sessions
            .identifiers
            .iter()
            .map(|i| i.kind.as_str())
            .collect();
        assert_eq!(kinds.first(), Some(&"header:authorization"));
        assert_eq!(kinds.get(4), Some(&"jwt:id-1:$.sub"));
    }

    #[test]
    fn refuses_with_a_place() {
        use SessionIdentifierKind::{Cookie, Header, Jwt};
        let long = "x".repeat(129);
        for (kind, name, expected) in [
            (Header, "", "is not the name of a header"),
            (Header, "a b", "is not the name of a header"),
            (Cookie, "a;b", "is not the name of a cookie"),
            (Header, long.as_str(), "more than 128 characters"),
            (Jwt, "id-1", "has no path after a colon"),
            (
                Jwt,
                "nobody:$.sub",
                "no token configuration is named \"nobody\"",
            ),
            (Jwt, "id-1:$.*", "not a path to one claim"),
            (Jwt, "id-1:$", "not a path to one claim"),
            (Jwt, "id-1:sub", "has no path after a colon"),
        ] {
            let (_, problems) = compile(&[(kind, name)]);
            assert_eq!(problems.len(), 1, "{name}: {problems:?}");
            assert!(problems[0].starts_with("zones[0].session_identifiers[0].name: "));
            assert!(problems[0].contains(expected), "{name}: {problems:?}");
        }
        let (_, problems) = compile(&[(Header, "X-Key"), (Header, "x-key")]);
        assert!(problems[0].contains("is configured twice"), "{problems:?}");
    }
}
