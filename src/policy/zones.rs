//! Zones: which zone an exchange belongs to, and everything compiled for it.

use std::collections::HashMap;
use std::sync::Arc;

use super::objects::ZoneObject;
use super::rulebook::RuleBook;
use super::rules::Lists;
use super::{mtls::Mtls, operations::Operations, sessions::Sessions, tokens::Tokens};
use crate::model::{Problem, Problems};

/// Everything to judge against.
#[derive(Debug, Default)]
pub struct Policy {
    /// Zones in configured order.
    pub zones: Vec<Zone>,
    /// What is accepted and hardly means what it says.
    pub warnings: Vec<Problem>,
    by_id: HashMap<String, usize, foldhash::fast::RandomState>,
    literal: HashMap<String, usize, foldhash::fast::RandomState>,
    /// Suffixes with their leading dot (`.partners.shop.example`), longest first.
    wildcard: Vec<(String, usize)>,
}

/// One zone, compiled.
#[derive(Debug)]
pub struct Zone {
    /// Id of up to 32 characters.
    pub id: String,
    /// Display name.
    pub name: String,
    /// Session identifiers.
    pub sessions: Sessions,
    /// Token configurations.
    pub tokens: Tokens,
    /// Operations of schemas and saved ones.
    pub operations: Operations,
    /// Client certificate authorities.
    pub mtls: Mtls,
    /// Rules, and what follows from violations.
    pub rules: RuleBook,
    /// The lists that expressions may name.
    pub lists: Arc<Lists>,
    /// Hosts that are listed literally.
    literal_hosts: Vec<String>,
}

/// Longest zone id, as the vendor's.
const MAX_ZONE_ID: usize = 32;

impl Policy {
    pub(super) fn compile(objects: &[ZoneObject], problems: &mut Problems) -> Self {
        let mut policy = Self::default();
        for (index, object) in objects.iter().enumerate() {
            let place = format!("zones[{index}]");
            if object.id.is_empty() || object.id.chars().count() > MAX_ZONE_ID {
                problems.hint(
                    format!("{place}.id"),
                    "a zone id has 1 to 32 characters",
                    "use 32 hexadecimal digits",
                );
            }
            if policy.by_id.insert(object.id.clone(), index).is_some() {
                problems.add(
                    format!("{place}.id"),
                    format!("zone {:?} is configured twice", object.id),
                );
            }
            if object.hosts.is_empty() {
                problems.hint(
                    format!("{place}.hosts"),
                    "a zone needs at least one host",
                    "hosts = [\"api.example.com\"]",
                );
            }
            let mut literal_hosts = Vec::new();
            for (number, host) in object.hosts.iter().enumerate() {
                let host_place = format!("{place}.hosts[{number}]");
                policy.add_host(host, index, &host_place, problems);
                if !host.starts_with("*.") {
                    literal_hosts.push(host.to_ascii_lowercase());
                }
            }
            let tokens =
                Tokens::compile(&object.id, &object.token_configurations, &place, problems);
            let sessions = Sessions::compile(
                &object.session_identifiers,
                &tokens,
                &object.hosts,
                &place,
                problems,
            );
            let operations =
                Operations::compile(&object.schemas, &object.operations, &place, problems);
            let mtls = Mtls::compile(&object.mtls, &place, problems);
            let known = (&tokens, &operations);
            let rules = RuleBook::compile(object, known, &place, (problems, &mut policy.warnings));
            policy.zones.push(Zone {
                id: object.id.clone(),
                name: object.name.clone(),
                sessions,
                tokens,
                operations,
                mtls,
                rules,
                lists: object.lists.clone().unwrap_or_default(),
                literal_hosts,
            });
        }
        policy
            .wildcard
            .sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        policy
    }

    fn add_host(&mut self, host: &str, zone: usize, place: &str, problems: &mut Problems) {
        let Some(lower) = host_pattern(host, place, problems) else {
            return;
        };
        let taken = if let Some(name) = lower.strip_prefix("*.") {
            let suffix = format!(".{name}");
            let taken = self
                .wildcard
                .iter()
                .find(|(known, _)| *known == suffix)
                .map(|(_, z)| *z);
            self.wildcard.push((suffix, zone));
            taken
        } else {
            self.literal.insert(lower.clone(), zone)
        };
        if let Some(other) = taken {
            let what = if other == zone {
                "is listed twice"
            } else {
                "belongs to another zone too"
            };
            problems.hint(
                place,
                format!("host {host:?} {what}"),
                "list every host in exactly one zone",
            );
        }
    }

    /// Index of the zone with this id.
    #[must_use]
    pub fn zone_by_id(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// Index of the zone that a host belongs to. The host is lower case without a port; a literal host wins over a
    /// wildcard, a longer wildcard over a shorter one.
    #[must_use]
    pub fn zone_by_host(&self, host: &str) -> Option<usize> {
        if let Some(zone) = self.literal.get(host) {
            return Some(*zone);
        }
        self.wildcard
            .iter()
            .find(|(suffix, _)| covers(suffix, host))
            .map(|(_, zone)| *zone)
    }
}

impl Zone {
    /// Whether the host is listed by its own name, so that it never falls under the cap on hosts.
    #[must_use]
    pub fn lists(&self, host: &str) -> bool {
        self.literal_hosts.iter().any(|h| h == host)
    }
}

/// Whether the wildcard suffix (with its leading dot) covers the host: at least one label in front of it.
fn covers(suffix: &str, host: &str) -> bool {
    host.len() > suffix.len() && host.ends_with(suffix)
}

/// A host pattern as it is compared, in lower case; `None` = it is none, and `problems` says so.
pub(super) fn host_pattern(host: &str, place: &str, problems: &mut Problems) -> Option<String> {
    let lower = host.to_ascii_lowercase();
    let name = lower.strip_prefix("*.").unwrap_or(&lower);
    if name.is_empty() || name.contains(['*', ':', '/', ' ']) {
        problems.hint(
            place,
            format!("{host:?} is not a host"),
            "a name without scheme or port, or `*.` and a name",
        );
        return None;
    }
    Some(lower)
}

/// Whether a host pattern (`api.example`, `*.example`) covers a lower-case host without a port.
#[must_use]
pub fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => covers(suffix, host),
        None => pattern == host,
    }
}
