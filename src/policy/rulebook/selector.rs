//! What a rule covers: hosts in, operations out (feature map section 4.2).
//!
//! Every operation of an included host is covered, also one that is only learned, so that nothing slips past a rule by not
//! being described. An operation is left out by its id or in words, `GET api.shop.example /orders/{order_id}`.

use crate::model::{Method, OperationId, OperationKey, Problem, Problems};
use crate::policy::objects::{RuleObject, ZoneObject};
use crate::policy::operations::{Operations, Template};
use crate::policy::zones::host_matches;

/// What a rule covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Hosts, `*.` for one or more labels; empty = every host of the zone.
    hosts: Vec<String>,
    /// Operations that are left out: method, host, canonical template.
    operations: Vec<(Method, String, String)>,
    /// Operations that are left out and known by their id only.
    ids: Vec<OperationId>,
}

impl Selector {
    /// Whether a request is covered. `host` is lower case without a port, `id` gives the id of the operation.
    pub fn covers(
        &self,
        (method, host, endpoint): (Method, &str, &str),
        id: impl FnOnce() -> OperationId,
    ) -> bool {
        let included =
            self.hosts.is_empty() || self.hosts.iter().any(|pattern| host_matches(pattern, host));
        included
            && !self
                .operations
                .iter()
                .any(|(known, at, template)| *known == method && at == host && template == endpoint)
            && (self.ids.is_empty() || !self.ids.contains(&id()))
    }

    /// The hosts that are covered, where each is named by itself.
    pub(super) fn literal_hosts(&self) -> Option<Vec<&[u8]>> {
        let literal =
            !self.hosts.is_empty() && self.hosts.iter().all(|host| !host.starts_with('*'));
        literal.then(|| self.hosts.iter().map(String::as_bytes).collect())
    }

    /// The hosts that are covered in a zone with these hosts.
    pub(super) fn hosts<'a>(&'a self, zone: &'a [String]) -> &'a [String] {
        if self.hosts.is_empty() {
            zone
        } else {
            &self.hosts
        }
    }

    /// Whether every request to `host` that the other one covers is covered by this one.
    pub(super) fn covers_host_of(&self, other: &Self, host: &str, zone: &[String]) -> bool {
        let mut hosts = self.hosts(zone).iter();
        let mut left_out = self
            .operations
            .iter()
            .filter(|(_, at, _)| host_matches(host, at));
        hosts.any(|ours| ours == host || wider(ours, host))
            && left_out.all(|out| other.operations.contains(out))
            && self.ids.iter().all(|out| other.ids.contains(out))
    }

    pub(super) fn compile(
        object: &RuleObject,
        zone: &ZoneObject,
        operations: &Operations,
        place: &str,
        (problems, warnings): (&mut Problems, &mut Vec<Problem>),
    ) -> Self {
        let mut selector = Self::default();
        for (number, host) in object.include_hosts.iter().enumerate() {
            let host = host.to_ascii_lowercase();
            let known = zone.hosts.iter().map(|own| own.to_ascii_lowercase());
            let mut known =
                known.filter(|own| *own == host || wider(own, &host) || wider(&host, own));
            if known.next().is_none() {
                warnings.push(Problem {
                    place: format!("{place}.selector.include_hosts[{number}]"),
                    message: format!(
                        "{host:?} is no host of this zone, so nothing of it is covered"
                    ),
                    hint: Some(format!("hosts of the zone: {}", zone.hosts.join(", "))),
                });
            }
            selector.hosts.push(host);
        }
        for (number, text) in object.exclude_operations.iter().enumerate() {
            let place = format!("{place}.selector.exclude_operations[{number}]");
            if let Some(id) = OperationId::parse(text) {
                match find(id, zone, operations) {
                    Some(operation) => selector.operations.push(operation),
                    // It may be one that is only learned.
                    None => selector.ids.push(id),
                }
                continue;
            }
            match parse(text) {
                Some(operation) => selector.operations.push(operation),
                None => problems.hint(
                    place,
                    format!("{text:?} is not an operation"),
                    "an operation id, or `GET api.shop.example /orders/{order_id}`",
                ),
            }
        }
        selector
    }
}

/// Whether a wildcard covers another pattern.
fn wider(ours: &str, theirs: &str) -> bool {
    let name = theirs.strip_prefix("*.").unwrap_or(theirs);
    let Some(suffix) = ours.strip_prefix('*') else {
        return false;
    };
    host_matches(ours, name) || (theirs.starts_with('*') && theirs.ends_with(suffix))
}

/// Method, host and canonical template of an operation in words.
fn parse(text: &str) -> Option<(Method, String, String)> {
    let (method, rest) = text.trim().split_once(' ')?;
    let method = Method::parse(method);
    let at = rest.find('/')?;
    let (host, template) = rest.split_at_checked(at)?;
    let host = host.trim().to_ascii_lowercase();
    if method == Method::Other || host.is_empty() || host.contains([' ', '*']) {
        return None;
    }
    let template = Template::parse(template.trim()).ok()?;
    Some((method, host, template.canonical()))
}

/// The operation of this id among those that schemas and operators know on the zone's literal hosts.
fn find(
    id: OperationId,
    zone: &ZoneObject,
    operations: &Operations,
) -> Option<(Method, String, String)> {
    let saved = zone.operations.iter().map(|object| &object.host);
    let hosts = zone.hosts.iter().chain(saved);
    hosts
        .map(|host| host.to_ascii_lowercase())
        .filter(|host| !host.starts_with('*'))
        .find_map(|host| {
            let mut entries = operations.entries.iter();
            let entry = entries.find(|entry| {
                let key = OperationKey {
                    zone: zone.id.clone(),
                    host: host.clone(),
                    method: entry.method.as_str().to_owned(),
                    endpoint: entry.canonical.clone(),
                };
                key.id() == id
            })?;
            Some((entry.method, host, entry.canonical.clone()))
        })
}
