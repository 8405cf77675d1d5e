//! Session identifiers: where an authenticated client shows who it is.
//!
//! Enters: identifiers as configured and the zone's token configurations. Leaves: carriers in order, with the names
//! that reports use. Judging an exchange is in `enrich::session`.

mod carrier;
mod claim_path;

use super::objects::SessionIdentifierObject;
use super::tokens::Tokens;
use super::zones::{host_matches, host_pattern};
use crate::model::Problems;

pub use carrier::{Carrier, CertificateName};
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
            let Some(carrier) = Carrier::compile(object, tokens, &own, problems) else {
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
        let Some(lower) = host_pattern(host, &place, problems) else {
            continue;
        };
        if zone_hosts
            .iter()
            .any(|zone| meet(&zone.to_ascii_lowercase(), &lower))
        {
            hosts.push(lower);
        } else {
            problems.hint(
                place,
                format!("{host:?} is not among the zone's hosts"),
                "add it to the hosts of the zone, or leave it out here",
            );
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

#[cfg(test)]
mod tests;
