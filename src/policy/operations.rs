//! Operations of one zone and the router that finds the one a request belongs to.
//!
//! Enters: uploaded descriptions and operations saved without one. Leaves: a table of entries, and per request the most
//! specific entry by host, method and path. What a schema says about the request is judged in `enrich::schema`.

mod router;
mod template;

pub use template::{Pattern, Segment, Template};

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::FixedState;

use self::router::Router;
use super::objects::{OperationObject, SchemaObject};
use super::schemas::{self, contract::Contract};
use crate::model::{Method, OperationSource, Problems};

/// Operations of one zone.
#[derive(Debug, Default)]
pub struct Operations {
    /// Entries.
    pub entries: Vec<OperationEntry>,
    /// Literal host → number in `sites`. Hosts come from configuration, so nobody can aim at one bucket.
    literal: HashMap<Box<str>, usize, FixedState>,
    /// Suffixes with their leading dot (`.partners.shop.example`) of saved operations, longest first.
    wildcard: Vec<(Box<str>, usize)>,
    /// Operations of every host of the zone.
    any: Option<usize>,
    sites: Vec<Routes>,
    /// Canonical template → entries.
    canonical: HashMap<Box<str>, Vec<u32>>,
}

/// Routers of one host.
#[derive(Debug, Default)]
struct Routes {
    /// Whether a schema names this host.
    covered: bool,
    /// One per method, in the order of `Method::ALL`.
    methods: [Option<Box<Router>>; Method::ALL.len()],
}

/// Which templates a site has for a method, while operations are collected.
type Taken = HashSet<(usize, usize, Vec<Segment>)>;

/// The number of an entry as routers keep it: with its lowest bit set where a schema describes it, so that a look-up
/// need not touch the entry.
fn routed(number: u32, entry: &OperationEntry) -> u32 {
    number << 1 | u32::from(entry.contract.is_some())
}

/// One operation.
#[derive(Debug)]
pub struct OperationEntry {
    /// Method.
    pub method: Method,
    /// Canonical template.
    pub canonical: String,
    /// Template with declared names.
    pub declared: String,
    /// Where it is known from.
    pub source: OperationSource,
    /// The template, with the base path of its server.
    pub template: Template,
    /// What a schema says; saved operations have none.
    pub contract: Option<Arc<Contract>>,
    site: usize,
}

/// What a request matched. Indexes into `entries`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Most specific operation of schemas and saved ones: the endpoint.
    pub operation: Option<u32>,
    /// Most specific operation of a schema: what conformance is judged against.
    pub schema: Option<u32>,
}

impl Operations {
    pub(super) fn compile(
        schemas: &[SchemaObject],
        saved: &[OperationObject],
        place: &str,
        problems: &mut Problems,
    ) -> Self {
        let mut operations = Self::default();
        let mut taken = Taken::new();
        for schema in schemas {
            if let Some(description) = schemas::compile(schema, problems) {
                operations.add_description(description, &mut taken, problems);
            }
        }
        for (number, object) in saved.iter().enumerate() {
            let place = format!("{place}.operations[{number}]");
            operations.add_saved(object, &place, &mut taken, problems);
        }
        operations
            .wildcard
            .sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        operations.route();
        operations
    }

    /// Builds the routers of all entries.
    fn route(&mut self) {
        let mut templates: Vec<(usize, usize, u32, &Template)> = (0..)
            .zip(&self.entries)
            .map(|(number, entry)| {
                let routed = routed(number, entry);
                (entry.site, entry.method as usize, routed, &entry.template)
            })
            .collect();
        templates.sort_by_key(|(site, method, ..)| (*site, *method));
        for group in templates.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
            let Some((site, method, ..)) = group.first() else {
                continue;
            };
            let slot = self
                .sites
                .get_mut(*site)
                .and_then(|site| site.methods.get_mut(*method));
            if let Some(slot) = slot {
                let router = Router::new(group.iter().map(|(_, _, number, t)| (*t, *number)));
                *slot = Some(Box::new(router));
            }
        }
    }

    fn add_description(
        &mut self,
        description: schemas::Description,
        taken: &mut Taken,
        problems: &mut Problems,
    ) {
        for site in &description.sites {
            let number = self.site(site.host.as_deref());
            if let Some(routes) = self.sites.get_mut(number) {
                routes.covered = true;
            }
        }
        for declared in description.operations {
            for site in &declared.sites {
                let number = self.site(site.host.as_deref());
                if let Some(routes) = self.sites.get_mut(number) {
                    routes.covered = true;
                }
                let entry = OperationEntry {
                    method: declared.method,
                    canonical: String::new(),
                    declared: String::new(),
                    source: OperationSource::Schema,
                    template: declared.template.behind(&site.base),
                    contract: Some(Arc::clone(&declared.contract)),
                    site: number,
                };
                if !self.add(entry, taken) {
                    problems.hint(
                        &declared.place,
                        "another schema of this zone declares the same operation",
                        "declare every method, host and path in one schema only",
                    );
                    break;
                }
            }
        }
    }

    fn add_saved(
        &mut self,
        object: &OperationObject,
        place: &str,
        taken: &mut Taken,
        problems: &mut Problems,
    ) {
        let method = Method::parse(&object.method);
        if method == Method::Other {
            problems.hint(
                format!("{place}.method"),
                format!("{:?} is not a method", object.method),
                "one of GET POST HEAD OPTIONS PUT DELETE CONNECT PATCH TRACE, in capitals",
            );
        }
        let host = object.host.to_ascii_lowercase();
        let name = host.strip_prefix("*.").unwrap_or(&host);
        if name.is_empty() || name.contains(['*', ':', '/', ' ', '{', '}']) {
            problems.hint(
                format!("{place}.host"),
                format!("{:?} is not a host", object.host),
                "a name without scheme or port",
            );
            return;
        }
        let template = match Template::parse(&object.endpoint) {
            Ok(template) => template,
            Err(why) => {
                problems.hint(
                    format!("{place}.endpoint"),
                    why,
                    "write `/orders/{order_id}`, each name once",
                );
                return;
            }
        };
        if method == Method::Other {
            return;
        }
        let site = self.site(Some(&host));
        // The same tuple in a schema says more, and a second saved one says the same.
        let entry = OperationEntry {
            method,
            canonical: String::new(),
            declared: String::new(),
            source: OperationSource::Saved,
            template,
            contract: None,
            site,
        };
        self.add(entry, taken);
    }

    /// Adds an entry unless its tuple is taken; tells whether it was free.
    fn add(&mut self, mut entry: OperationEntry, taken: &mut Taken) -> bool {
        // Routers keep numbers of 31 bits.
        let number = u32::try_from(self.entries.len()).ok();
        let Some(number) = number.filter(|number| *number < u32::MAX / 2) else {
            return true;
        };
        let segments = entry.template.segments.clone();
        if !taken.insert((entry.site, entry.method as usize, segments)) {
            return false;
        }
        entry.canonical = entry.template.canonical();
        entry.declared = entry.template.declared();
        self.canonical
            .entry(entry.canonical.as_str().into())
            .or_default()
            .push(number);
        self.entries.push(entry);
        true
    }

    /// The number of a host's routes, made when it is new.
    fn site(&mut self, host: Option<&str>) -> usize {
        let fresh = self.sites.len();
        let number = match host {
            None => *self.any.get_or_insert(fresh),
            Some(host) => match host.strip_prefix('*') {
                None => *self.literal.entry(host.into()).or_insert(fresh),
                Some(suffix) => {
                    let known = self.wildcard.iter().find(|(own, _)| **own == *suffix);
                    if let Some((_, number)) = known {
                        *number
                    } else {
                        self.wildcard.push((suffix.into(), fresh));
                        fresh
                    }
                }
            },
        };
        if number == fresh {
            self.sites.push(Routes::default());
        }
        number
    }

    /// Numbers of the routes that serve a host: its own, those of wildcards, longest first, those of every host.
    fn serving<'s>(&'s self, host: &'s str) -> impl Iterator<Item = usize> + 's {
        let literal = self.literal.get(host).copied();
        let wildcard = self
            .wildcard
            .iter()
            .filter(move |(suffix, _)| host.len() > suffix.len() && host.ends_with(suffix.as_ref()))
            .map(|(_, number)| *number);
        literal.into_iter().chain(wildcard).chain(self.any)
    }

    /// Finds the operation of a request; `host` lower case without port, `path` normalised.
    #[must_use]
    pub fn find(&self, method: Method, host: &str, path: &str) -> Match {
        let mut best = Match::default();
        for number in self.serving(host) {
            let router = self
                .sites
                .get(number)
                .and_then(|routes| routes.methods.get(method as usize)?.as_ref());
            let Some(router) = router else {
                continue;
            };
            let mut found = Match::default();
            router.find(path, &mut |routed| {
                let number = routed >> 1;
                found.operation = found.operation.or(Some(number));
                let is_described = routed & 1 == 1;
                if is_described {
                    found.schema = Some(number);
                }
                is_described
            });
            best.operation = self.better(best.operation, found.operation);
            best.schema = self.better(best.schema, found.schema);
        }
        best
    }

    /// The more specific of two matches of one path; the earlier, whose host is more specific, wins a tie.
    fn better(&self, first: Option<u32>, second: Option<u32>) -> Option<u32> {
        let (Some(a), Some(b)) = (first, second) else {
            return first.or(second);
        };
        let order = self
            .entry(a)?
            .template
            .specificity(&self.entry(b)?.template);
        Some(if order.is_le() { a } else { b })
    }

    /// The entry with this number.
    #[must_use]
    pub fn entry(&self, number: u32) -> Option<&OperationEntry> {
        self.entries.get(number as usize)
    }

    /// Whether some schema covers the host.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        self.serving(host)
            .any(|number| self.sites.get(number).is_some_and(|routes| routes.covered))
    }

    /// The known operation with exactly this canonical template, for reports.
    #[must_use]
    pub fn known(&self, method: Method, host: &str, canonical: &str) -> Option<&OperationEntry> {
        let entries = self.canonical.get(canonical)?;
        self.serving(host).find_map(|site| {
            entries
                .iter()
                .filter_map(|number| self.entry(*number))
                .find(|entry| entry.method == method && entry.site == site)
        })
    }
}

#[cfg(test)]
mod tests;
