//! Session identifiers: where an authenticated client shows who it is.
//!
//! Enters: identifiers as configured and the zone's token configurations. Leaves: carriers in order, with the names
//! that reports use. Judging an exchange is in `enrich::session`.

mod claim_path;

use super::objects::{SessionIdentifierKind, SessionIdentifierObject};
use super::tokens::{Tokens, is_name};
use super::zones::host_matches;
use crate::model::Problems;

pub use claim_path::ClaimPath;

/// Longest name, characters: the vendor's limit (feature map section 2).
const MAX_NAME: usize = 128;

/// Most parts of a composite.
const MAX_PARTS: usize = 8;

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
    /// Type and name, the kind under which its values are hashed: `header:x-key`, `cookie:sid`, `jwt:<id>:$.sub`,
    /// `query:key`, `certificate:subject_dn`, `composite:<name>`.
    pub kind: String,
    /// Host patterns in lower case; empty = every host of the zone.
    pub hosts: Vec<String>,
}

impl SessionIdentifier {
    /// Whether it counts on a host (lower case, without port).
    #[must_use]
    pub fn counts_on(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|pattern| host_matches(pattern, host))
    }
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
    /// A query parameter, its name without escapes; the name has case.
    Query(String),
    /// A verified client certificate.
    Certificate(CertificateName),
    /// All of these together.
    Composite(Vec<Carrier>),
}

/// What of a client certificate identifies the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// Subject's distinguished name, RFC 2253.
    SubjectDn,
    /// The most specific common name of the subject.
    CommonName,
    /// SHA-256 over the DER.
    FingerprintSha256,
    /// First URI among the alternative names, as SPIFFE uses it.
    SanUri,
    /// First host name among the alternative names.
    SanDns,
    /// First mailbox among the alternative names.
    SanEmail,
}

impl CertificateName {
    const ALL: [(&'static str, Self); 6] = [
        ("subject_dn", Self::SubjectDn),
        ("common_name", Self::CommonName),
        ("fingerprint_sha256", Self::FingerprintSha256),
        ("san_uri", Self::SanUri),
        ("san_dns", Self::SanDns),
        ("san_email", Self::SanEmail),
    ];
}

impl Sessions {
    pub(super) fn compile(
        objects: &[SessionIdentifierObject],
        tokens: &Tokens,
        zone_hosts: &[String],
        place: &str,
        problems: &mut Problems,
    ) -> Self {
        let mut sessions = Self::default();
        for (number, object) in objects.iter().enumerate() {
            let own = format!("{place}.session_identifiers[{number}]");
            let place = format!("{own}.name");
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
            let hosts = hosts(object, zone_hosts, &own, problems);
            let Some(carrier) = carrier(object, tokens, &own, problems) else {
                continue;
            };
            let twice = sessions.identifiers.iter().any(|known| {
                let same_name = known.kind == kind_of(&carrier, &object.name)
                    && matches!(carrier, Carrier::Composite(_));
                (known.carrier == carrier || same_name) && overlap(&known.hosts, &hosts)
            });
            if twice {
                problems.hint(
                    &place,
                    format!("{:?} is configured twice", object.name),
                    "list every identifier once",
                );
            }
            sessions.identifiers.push(SessionIdentifier {
                kind: kind_of(&carrier, &object.name),
                carrier,
                hosts,
            });
            let shared = objects
                .iter()
                .any(|other| other.name == object.name && other.kind != object.kind);
            sessions.names.push(if shared {
                format!("{}:{}", object.kind.as_str(), object.name)
            } else {
                object.name.clone()
            });
        }
        sessions
    }
}

fn kind_of(carrier: &Carrier, name: &str) -> String {
    match carrier {
        Carrier::Header(name) => format!("header:{name}"),
        Carrier::Cookie(name) => format!("cookie:{name}"),
        Carrier::Claim { .. } => format!("jwt:{name}"),
        Carrier::Query(name) => format!("query:{name}"),
        Carrier::Certificate(_) => format!("certificate:{name}"),
        Carrier::Composite(_) => format!("composite:{name}"),
    }
}

/// Host patterns in lower case. One that no host of the zone can match is a mistake: the identifier would never count.
fn hosts(
    object: &SessionIdentifierObject,
    zone_hosts: &[String],
    place: &str,
    problems: &mut Problems,
) -> Vec<String> {
    let mut hosts = Vec::with_capacity(object.hosts.len());
    for (number, host) in object.hosts.iter().enumerate() {
        let place = format!("{place}.hosts[{number}]");
        let lower = host.to_ascii_lowercase();
        let name = lower.strip_prefix("*.").unwrap_or(&lower);
        if name.is_empty() || name.contains(['*', ':', '/', ' ']) {
            problems.hint(
                place,
                format!("{host:?} is not a host"),
                "a name without scheme or port, or `*.` and a name",
            );
        } else if !zone_hosts
            .iter()
            .any(|zone| meet(&zone.to_ascii_lowercase(), &lower))
        {
            problems.hint(
                place,
                format!("{host:?} is not among the zone's hosts"),
                "add it to the hosts of the zone, or leave it out here",
            );
        } else {
            hosts.push(lower);
        }
    }
    hosts
}

/// Whether some host matches both patterns.
fn meet(one: &str, other: &str) -> bool {
    // Below a wildcard lie its longer wildcards too.
    let inner = |pattern: &str| pattern.strip_prefix('*').map(|suffix| format!("x{suffix}"));
    one == other
        || host_matches(one, other)
        || host_matches(other, one)
        || inner(other).is_some_and(|host| host_matches(one, &host))
        || inner(one).is_some_and(|host| host_matches(other, &host))
}

fn overlap(one: &[String], other: &[String]) -> bool {
    one.is_empty() || other.is_empty() || one.iter().any(|a| other.iter().any(|b| meet(a, b)))
}

type Refusal = (String, String);

fn carrier(
    object: &SessionIdentifierObject,
    tokens: &Tokens,
    place: &str,
    problems: &mut Problems,
) -> Option<Carrier> {
    if object.kind != SessionIdentifierKind::Composite {
        if !object.of.is_empty() {
            problems.hint(
                format!("{place}.of"),
                "only a composite has parts",
                "write type = \"composite\", or leave `of` out",
            );
        }
        return match simple(object.kind, &object.name, tokens) {
            Ok(carrier) => Some(carrier),
            Err((message, hint)) => {
                problems.hint(format!("{place}.name"), message, hint);
                None
            }
        };
    }
    if object.name.is_empty() {
        problems.hint(
            format!("{place}.name"),
            "is empty",
            "name = \"tenant and session\"",
        );
    }
    if !(2..=MAX_PARTS).contains(&object.of.len()) {
        problems.hint(
            format!("{place}.of"),
            format!("a composite has 2 to {MAX_PARTS} parts"),
            "of = [\"header:x-tenant\", \"cookie:sid\"]",
        );
        return None;
    }
    let mut parts = Vec::with_capacity(object.of.len());
    for (number, part) in object.of.iter().enumerate() {
        let read = part
            .split_once(':')
            .and_then(|(kind, name)| Some((SessionIdentifierKind::of_name(kind)?, name)))
            .filter(|(kind, name)| {
                *kind != SessionIdentifierKind::Composite && name.chars().count() <= MAX_NAME
            })
            .ok_or_else(|| {
                (
                    format!("{part:?} is not a type and a name"),
                    "such as header:x-tenant, cookie:sid, jwt:shop issuer:$.sub".to_owned(),
                )
            })
            .and_then(|(kind, name)| simple(kind, name, tokens));
        match read {
            Ok(part) if !parts.contains(&part) => parts.push(part),
            Ok(_) => problems.hint(
                format!("{place}.of[{number}]"),
                format!("{part:?} stands there twice"),
                "list every part once",
            ),
            Err((message, hint)) => problems.hint(format!("{place}.of[{number}]"), message, hint),
        }
    }
    (parts.len() == object.of.len()).then_some(Carrier::Composite(parts))
}

/// A carrier without parts.
fn simple(kind: SessionIdentifierKind, name: &str, tokens: &Tokens) -> Result<Carrier, Refusal> {
    use SessionIdentifierKind::{Certificate, Composite, Cookie, Header, Jwt, Query};
    match kind {
        Header | Cookie if !is_name(name) => Err((
            format!("{name:?} is not the name of a {}", kind.as_str()),
            "a name has letters, digits and !#$%&'*+-.^_`|~ (RFC 9110 section 5.6.2)".to_owned(),
        )),
        Header => Ok(Carrier::Header(name.to_ascii_lowercase())),
        Cookie => Ok(Carrier::Cookie(name.to_owned())),
        Jwt => claim(name, tokens),
        Query if name.is_empty() => Err((
            "a query parameter has a name".to_owned(),
            "name = \"api_key\", without escapes".to_owned(),
        )),
        Query => Ok(Carrier::Query(name.to_owned())),
        Certificate | Composite => CertificateName::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, of)| Carrier::Certificate(*of))
            .ok_or_else(|| {
                let known = CertificateName::ALL.map(|(name, _)| name);
                (
                    format!("{name:?} is nothing that identifies a certificate's subject"),
                    format!("one of {}", known.join(", ")),
                )
            }),
    }
}

/// `<configuration id or title>:<path>`. Titles and quoted names may hold `:$` too, so every such place is tried and
/// the first one that names a configuration counts.
fn claim(name: &str, tokens: &Tokens) -> Result<Carrier, Refusal> {
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
                ..SessionIdentifierObject::default()
            })
            .collect();
        compile_objects(&objects)
    }

    fn compile_objects(objects: &[SessionIdentifierObject]) -> (Sessions, Vec<String>) {
        let mut problems = Problems::default();
        let hosts = ["api.example".to_owned(), "*.Partners.example".to_owned()];
        let sessions = Sessions::compile(objects, &tokens(), &hosts, "zones[0]", &mut problems);
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

    fn object(
        kind: SessionIdentifierKind,
        name: &str,
        of: &[&str],
        hosts: &[&str],
    ) -> SessionIdentifierObject {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        SessionIdentifierObject {
            kind,
            name: name.to_owned(),
            of: owned(of),
            hosts: owned(hosts),
        }
    }

    #[test]
    fn composites_certificates_and_queries() {
        use SessionIdentifierKind::{Certificate, Composite, Header, Query};
        let (sessions, problems) = compile_objects(&[
            object(Query, "Api Key", &[], &[]),
            object(Certificate, "san_uri", &[], &[]),
            object(
                Composite,
                "tenant",
                &["header:X-Tenant", "jwt:shop: eu:$.sub", "query:a:b"],
                &[],
            ),
            object(Header, "tenant", &[], &["x.partners.example"]),
        ]);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(
            sessions.names,
            ["Api Key", "san_uri", "composite:tenant", "header:tenant"]
        );
        let kinds: Vec<_> = sessions
            .identifiers
            .iter()
            .map(|i| i.kind.as_str())
            .collect();
        assert_eq!(
            kinds,
            [
                "query:Api Key",
                "certificate:san_uri",
                "composite:tenant",
                "header:tenant"
            ]
        );
        let Carrier::Composite(parts) = &sessions.identifiers[2].carrier else {
            panic!("{:?}", sessions.identifiers[2]);
        };
        assert_eq!(parts[0], Carrier::Header("x-tenant".to_owned()));
        assert!(matches!(
            parts[1],
            Carrier::Claim {
                configuration: 0,
                ..
            }
        ));
        assert_eq!(parts[2], Carrier::Query("a:b".to_owned()));
        for (object, expected) in [
            (
                object(Query, "", &[], &[]),
                "name: a query parameter has a name",
            ),
            (
                object(Certificate, "issuer", &[], &[]),
                "name: \"issuer\" is nothing that identifies",
            ),
            (
                object(Composite, "", &["header:a", "header:b"], &[]),
                "name: is empty",
            ),
            (
                object(Composite, "c", &[], &[]),
                "of: a composite has 2 to 8 parts",
            ),
            (
                object(Composite, "c", &["header:a"], &[]),
                "of: a composite has 2 to 8 parts",
            ),
            (
                object(Composite, "c", &["header:a"; 9], &[]),
                "of: a composite has 2 to 8 parts",
            ),
            (
                object(Composite, "c", &["header:a", "header:A"], &[]),
                "of[1]: \"header:A\" stands there twice",
            ),
            (
                object(Composite, "c", &["a", "header:b"], &[]),
                "of[0]: \"a\" is not a type and a name",
            ),
            (
                object(Composite, "c", &["body:a", "header:b"], &[]),
                "of[0]: \"body:a\" is not a type",
            ),
            (
                object(Composite, "c", &["composite:a", "header:b"], &[]),
                "of[0]: \"composite:a\" is not",
            ),
            (
                object(Composite, "c", &["header:a b", "header:b"], &[]),
                "of[0]: \"a b\" is not the name of a header",
            ),
            (
                object(Composite, "c", &["jwt:nobody:$.sub", "header:b"], &[]),
                "of[0]: no token configuration",
            ),
            (
                object(Header, "h", &["header:a", "header:b"], &[]),
                "of: only a composite has parts",
            ),
            (
                object(Header, "h", &[], &["other.example"]),
                "hosts[0]: \"other.example\" is not among the zone's",
            ),
            (object(Header, "h", &[], &["*.example"]), ""),
            (object(Header, "h", &[], &["*.b.partners.example"]), ""),
            (
                object(Header, "h", &[], &["partners.example"]),
                "hosts[0]: \"partners.example\" is not among",
            ),
            (
                object(Header, "h", &[], &["api.example:80"]),
                "hosts[0]: \"api.example:80\" is not a host",
            ),
        ] {
            let (_, problems) = compile_objects(std::slice::from_ref(&object));
            if expected.is_empty() {
                assert_eq!(problems, Vec::<String>::new(), "{object:?}");
            } else {
                assert_eq!(problems.len(), 1, "{object:?}: {problems:?}");
                let place = "zones[0].session_identifiers[0].";
                assert!(
                    problems[0].starts_with(&format!("{place}{expected}")),
                    "{problems:?}"
                );
            }
        }
    }

    #[test]
    fn one_identifier_may_be_configured_for_several_hosts_once_each() {
        use SessionIdentifierKind::Header;
        for (first, second, twice) in [
            (&["api.example"][..], &["a.partners.example"][..], false),
            (&["api.example"], &["API.example"], true),
            (&["*.partners.example"], &["a.partners.example"], true),
            (&["*.a.partners.example"], &["*.partners.example"], true),
            (&[], &["api.example"], true),
        ] {
            let (sessions, problems) = compile_objects(&[
                object(Header, "X-Key", &[], first),
                object(Header, "X-Key", &[], second),
            ]);
            assert_eq!(
                !problems.is_empty(),
                twice,
                "{first:?} {second:?}: {problems:?}"
            );
            assert_eq!(sessions.names, ["X-Key", "X-Key"]);
        }
    }
}
