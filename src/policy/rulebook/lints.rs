//! Rules that are accepted and hardly mean what they say: each of these was seen in the wild (feature map section 9, 38). What
//! is odd about an expression alone is found in `policy::rules::lint`.

use super::Rule;
use crate::model::{Problem, RuleKind};
use crate::policy::objects::ZoneObject;
use crate::policy::rules::ast::{Check, Operand, Order};
use crate::policy::rules::fields::Field;
use crate::policy::rules::lists::Set;
use crate::policy::rules::{LintKind, Polarity, lint};
use crate::policy::zones::host_matches;

/// Warns of rules that are never evaluated, and of expressions whose value never changes or whose polarity looks wrong.
pub(super) fn check(rules: &[Rule], zone: &ZoneObject, place: &str, warnings: &mut Vec<Problem>) {
    let hosts: Vec<String> = zone
        .hosts
        .iter()
        .map(|host| host.to_ascii_lowercase())
        .collect();
    for (number, rule) in rules.iter().enumerate() {
        let place = format!("{place}.rules[{number}]");
        let mut warn = |key: &str, message: String, hint: &str| {
            warnings.push(Problem {
                place: format!("{place}.{key}"),
                message,
                hint: Some(hint.to_owned()),
            });
        };
        if !rule.enabled {
            let hint = "it stays in the file and does nothing";
            warn("enabled", "the rule is disabled".to_owned(), hint);
            continue;
        }
        let above = above(rules, number, &hosts);
        if !above.is_empty() {
            let titles: Vec<_> = above
                .iter()
                .map(|rule| format!("{:?}", rule.title))
                .collect();
            let titles = titles.join(" and ");
            warn(
                "selector",
                format!(
                    "the rule is never evaluated: {titles} above it take all of its operations"
                ),
                "only the first token rule that covers an operation applies; move it up, or narrow the one above",
            );
        }
        let fields = rule.expression.fields();
        let session = [Field::AuthIdPresent, Field::SessionOutcome];
        if zone.session_identifiers.is_empty() && session.iter().any(|field| fields.contains(field))
        {
            warn(
                "expression",
                "the zone has no session identifiers, so nobody knows whether a request carries one".to_owned(),
                "add [[zones.session_identifiers]]; until then the rule never fires",
            );
        }
        for host in strange_hosts(rule, &hosts) {
            warn(
                "expression",
                format!("http.host is never {host:?} in this zone"),
                &format!("hosts of the zone, in lower case: {}", hosts.join(", ")),
            );
        }
        let elsewhere = rules
            .iter()
            .any(|other| other.enabled && other.expression.fields().contains(&Field::CertRevoked));
        let polarity = match rule.kind {
            RuleKind::Token => Polarity::Inverted,
            RuleKind::Custom | RuleKind::Mtls | RuleKind::Schema => Polarity::Ordinary,
        };
        for finding in lint(&rule.expression, polarity) {
            // Another rule may look after those.
            if finding.kind != LintKind::RevokedCounts || !elsewhere {
                warn("expression", finding.message, &finding.hint);
            }
        }
    }
}

/// The token rules that come first and together cover everything that the token rule at `number` covers; none = something
/// is left to it.
fn above<'r>(rules: &'r [Rule], number: usize, hosts: &[String]) -> Vec<&'r Rule> {
    let token = |rule: &&Rule| rule.kind == RuleKind::Token && rule.enabled;
    let Some(rule) = rules.get(number).filter(token) else {
        return Vec::new();
    };
    let covering = |host: &String| {
        let mut before = rules.iter().take(number).filter(token);
        before.find(|first| first.selector.covers_host_of(&rule.selector, host, hosts))
    };
    let found: Option<Vec<&Rule>> = rule.selector.hosts(hosts).iter().map(covering).collect();
    let mut found = found.unwrap_or_default();
    found.dedup_by_key(|rule| &rule.id);
    found
}

/// Hosts that a rule compares with and that no request to the zone has.
fn strange_hosts(rule: &Rule, hosts: &[String]) -> Vec<String> {
    let mut strange = Vec::new();
    let mut look = |text: &[u8]| {
        let text = String::from_utf8_lossy(text);
        if !hosts.iter().any(|pattern| host_matches(pattern, &text)) {
            strange.push(text.into_owned());
        }
    };
    rule.expression.root().walk(false, &mut |test, _| {
        match (&test.operand, &test.check) {
            (Operand::Field(Field::Host), Check::Bytes(Order::Equal, text)) => look(text),
            // A list may be shared by zones.
            (Operand::Field(Field::Host), Check::In(set, None)) => {
                if let Set::Texts(texts) = set.as_ref() {
                    texts.iter().for_each(&mut look);
                }
            }
            _ => {}
        }
    });
    strange
}
