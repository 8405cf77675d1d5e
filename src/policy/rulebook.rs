//! What the operators of a zone want done: its rules, and what follows from a request that violates its schema.
//!
//! Enters: rule objects and the zone's own operations, token configurations and lists. Leaves: a [`RuleBook`], or every
//! problem with its place; and warnings about rules that cannot mean what they say. What a rule says about an exchange is
//! judged in `enrich::rules`.

mod index;
mod lints;
mod selector;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use index::Index;
pub use index::Shown;
pub use selector::Selector;

use super::objects::{OperationObject, RuleObject, SchemaActionObject, ZoneObject};
use super::operations::{Operations, Template};
use super::rules::{Expression, Lists, Names};
use super::tokens::Tokens;
use super::zones::host_matches;
use crate::model::{
    BlockKind, Method, Problem, Problems, RuleAction, RuleKind, RuleVerdict, SchemaAction,
};

/// Longest title and id, characters (feature map section 4.2).
const MAX_TITLE: usize = 50;
/// Most rules of a zone: what each exchange is held against takes a bit for each.
const MAX_RULES: usize = 10_000;
/// Longest description, characters (feature map section 4.2).
const MAX_DESCRIPTION: usize = 500;
/// What schema validation is called among rules.
pub const SCHEMA_VALIDATION: &str = "schema validation";
/// Signals that are raised without a rule; no rule may have one of these ids.
pub const SIGNALS: [&str; 6] = [
    "invalid_token",
    "forged_token",
    "refused",
    "violation",
    "revoked_certificate",
    "request",
];

/// A rule of a zone.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Id: what its signal, its evidence and its entries are called. The title where none is configured.
    pub id: String,
    /// Title.
    pub title: String,
    /// What it is for.
    pub description: String,
    /// Kind.
    pub kind: RuleKind,
    /// What follows when it fires.
    pub action: RuleAction,
    /// Whether it is evaluated.
    pub enabled: bool,
    /// What it covers.
    pub selector: Selector,
    /// What it says.
    pub expression: Expression,
    /// What it lists.
    pub lists: Listing,
}

/// What is listed when something blocks, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Kinds of entities, each where the exchange has one.
    pub kinds: Vec<BlockKind>,
    /// How long, milliseconds of wall time.
    pub duration: i64,
}

/// Everything that operators want done in one zone.
#[derive(Debug, Default)]
pub struct RuleBook {
    /// Rules in their order, disabled ones too.
    pub rules: Vec<Rule>,
    /// What follows from requests that violate the schema.
    pub schema: SchemaActions,
    index: Box<Index>,
}

/// What follows from a request that violates the schema of its operation.
#[derive(Debug)]
pub struct SchemaActions {
    default: SchemaAction,
    /// `override = "none"`: nothing follows, whatever else says.
    suspended: bool,
    operations: Vec<(Method, String, String, SchemaAction)>,
    /// What is listed.
    pub lists: Listing,
}

impl Default for SchemaActions {
    fn default() -> Self {
        Self {
            default: SchemaAction::None,
            suspended: false,
            operations: Vec::new(),
            lists: Listing::of(RuleKind::Schema),
        }
    }
}

impl Listing {
    /// One hour: long enough that whoever is meant has to move on, short enough that a mistake mends itself.
    const DURATION: i64 = 3_600_000;

    /// What a kind of rule lists unless it says otherwise. Always the address, because that is what every gateway can refuse
    /// and what a client cannot throw away; and what the rule is about, which follows the client to other addresses.
    fn of(kind: RuleKind) -> Self {
        let kinds = match kind {
            RuleKind::Custom | RuleKind::Schema => vec![BlockKind::Ip],
            RuleKind::Token => vec![BlockKind::Ip, BlockKind::Token],
            RuleKind::Mtls => vec![BlockKind::Ip, BlockKind::Certificate],
        };
        Self {
            kinds,
            duration: Self::DURATION,
        }
    }

    fn with(mut self, kinds: Option<&Vec<BlockKind>>, duration: Option<i64>) -> Self {
        if let Some(kinds) = kinds {
            self.kinds.clone_from(kinds);
        }
        self.duration = duration.unwrap_or(self.duration);
        self
    }
}

impl SchemaActions {
    /// What follows from a violation on an operation: the override, else the operation's own, else the default (feature map
    /// section 3.2). `None` = nothing.
    #[must_use]
    pub fn of(&self, method: Method, host: &str, endpoint: &str) -> Option<RuleAction> {
        if self.suspended {
            return None;
        }
        let own = self
            .operations
            .iter()
            .find(|(known, pattern, template, _)| {
                *known == method && template == endpoint && host_matches(pattern, host)
            });
        own.map_or(self.default, |(.., action)| *action).of_rule()
    }

    /// Whether no operation has any, so that nothing needs to be looked up.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.suspended
            || (self.default == SchemaAction::None
                && self
                    .operations
                    .iter()
                    .all(|(.., own)| *own == SchemaAction::None))
    }

    /// Whether a violation of any operation blocks.
    fn blocks(&self) -> bool {
        let own = self.operations.iter().map(|(.., own)| *own);
        !self.suspended
            && own
                .chain([self.default])
                .any(|action| action == SchemaAction::Block)
    }

    fn compile(zone: &ZoneObject) -> Self {
        let SchemaActionObject {
            default,
            suspended,
            operations,
            block,
            duration,
        } = &zone.schema_validation;
        // An operation that is none is a problem of the operations themselves.
        let own = |(object, action): &(OperationObject, SchemaAction)| {
            let template = Template::parse(&object.endpoint).ok()?;
            Some((
                Method::parse(&object.method),
                object.host.to_ascii_lowercase(),
                template.canonical(),
                *action,
            ))
        };
        let mut operations: Vec<_> = operations.iter().filter_map(own).collect();
        // The first that fits is the operation's own, so a host stands before the patterns that it fits.
        operations.sort_by_key(|(_, host, ..)| (host.starts_with('*'), Reverse(host.len())));
        Self {
            default: *default,
            suspended: *suspended,
            operations,
            lists: Listing::of(RuleKind::Schema).with(block.as_ref(), *duration),
        }
    }
}

impl RuleBook {
    pub(super) fn compile(
        zone: &ZoneObject,
        (tokens, operations): (&Tokens, &Operations),
        place: &str,
        (problems, warnings): (&mut Problems, &mut Vec<Problem>),
    ) -> Self {
        let nothing = Arc::new(Lists::default());
        let lists = zone.lists.as_ref().unwrap_or(&nothing);
        let names = Names::new(tokens, lists);
        let mut rules = Vec::new();
        let mut seen = HashSet::new();
        if zone.rules.len() > MAX_RULES {
            problems.hint(
                format!("{place}.rules"),
                format!(
                    "{} rules, and a zone has at most {MAX_RULES}",
                    zone.rules.len()
                ),
                "one rule can name many values: ip.src in $list",
            );
        }
        for (number, object) in zone.rules.iter().enumerate().take(MAX_RULES) {
            let place = format!("{place}.rules[{number}]");
            let id = object.id.as_deref().unwrap_or(&object.title);
            named(object, id, &place, problems);
            if !seen.insert(id) {
                problems.hint(
                    format!(
                        "{place}.{}",
                        if object.id.is_some() { "id" } else { "title" }
                    ),
                    format!("another rule of this zone is called {id:?} too"),
                    "evidence is counted by this name: give each rule its own title or id",
                );
            }
            let selector =
                Selector::compile(object, zone, operations, &place, (problems, warnings));
            match Expression::compile(&object.expression, &names) {
                Ok(expression) => rules.push(Rule {
                    id: id.to_owned(),
                    title: object.title.clone(),
                    description: object.description.clone(),
                    kind: object.kind,
                    action: object.action,
                    enabled: object.enabled,
                    selector,
                    expression,
                    lists: Listing::of(object.kind).with(object.block.as_ref(), object.duration),
                }),
                Err(error) => {
                    let message = error.as_problem(&object.expression);
                    problems.add(format!("{place}.expression"), message);
                }
            }
        }
        if rules.len() == zone.rules.len() {
            lints::check(&rules, zone, place, warnings);
        }
        Self {
            index: Box::new(Index::new(&rules)),
            rules,
            schema: SchemaActions::compile(zone),
        }
    }

    /// Whether there is nothing to evaluate.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.schema.is_empty()
    }

    /// The rules that may cover an exchange and say more about it than a plain no, in their order, with their indexes.
    pub fn candidates<S: Shown>(
        &self,
        shown: &S,
    ) -> impl Iterator<Item = (u16, &Rule)> + use<'_, S> {
        let numbers = self.index.candidates(shown);
        numbers.filter_map(|number| Some((u16::try_from(number).ok()?, self.rules.get(number)?)))
    }

    /// Whether anything may refuse a request.
    #[must_use]
    pub fn blocks(&self) -> bool {
        let mut rules = self.rules.iter();
        rules.any(|rule| rule.enabled && rule.action == RuleAction::Block) || self.schema.blocks()
    }

    /// The title of what gave a verdict.
    #[must_use]
    pub fn title(&self, verdict: RuleVerdict) -> &str {
        self.rule(verdict)
            .map_or(SCHEMA_VALIDATION, |rule| &rule.title)
    }

    /// The id of what gave a verdict: what its signal is called.
    #[must_use]
    pub fn id(&self, verdict: RuleVerdict) -> &str {
        self.rule(verdict)
            .map_or(SCHEMA_VALIDATION, |rule| &rule.id)
    }

    /// What is listed when a verdict blocks.
    #[must_use]
    pub fn lists(&self, verdict: RuleVerdict) -> &Listing {
        self.rule(verdict)
            .map_or(&self.schema.lists, |rule| &rule.lists)
    }

    /// What is listed by the rule of this id.
    #[must_use]
    pub fn lists_of(&self, id: &str) -> Option<(&str, &Listing)> {
        if id == SCHEMA_VALIDATION {
            return Some((SCHEMA_VALIDATION, &self.schema.lists));
        }
        let rule = self.rules.iter().find(|rule| rule.id == id)?;
        Some((&rule.title, &rule.lists))
    }

    fn rule(&self, verdict: RuleVerdict) -> Option<&Rule> {
        self.rules.get(usize::from(verdict.rule?))
    }
}

/// Refuses names that cannot stand for a rule.
fn named(object: &RuleObject, id: &str, place: &str, problems: &mut Problems) {
    let bad = |text: &str, most: usize| {
        text.trim().is_empty() || text.chars().count() > most || text.chars().any(char::is_control)
    };
    for (key, text) in [("title", Some(&object.title)), ("id", object.id.as_ref())] {
        if text.is_some_and(|text| bad(text, MAX_TITLE)) {
            problems.hint(
                format!("{place}.{key}"),
                format!("a {key} has 1 to {MAX_TITLE} characters in one line"),
                "title = \"partners need a certificate\"",
            );
        }
    }
    if object.description.chars().count() > MAX_DESCRIPTION {
        problems.add(
            format!("{place}.description"),
            format!("is longer than {MAX_DESCRIPTION} characters"),
        );
    }
    if SIGNALS.contains(&id) || id == SCHEMA_VALIDATION {
        problems.hint(
            format!("{place}.title"),
            format!("{id:?} is the name of a signal that is raised without a rule"),
            "evidence is counted by this name: choose another",
        );
    }
}
