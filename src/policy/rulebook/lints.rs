//! Rules that are accepted and hardly mean what they say: each of these was seen in the wild (feature map section 9, 38). What
//! is odd about an expression alone is found in `policy::rules::lint`.

use super::Rule;
use crate::model::{Problem, RuleKind};
use crate::policy::rules::{Polarity, lint};

/// Warns of rules that are never evaluated, and of expressions whose value never changes or whose polarity looks wrong.
pub(super) fn check(rules: &[Rule], place: &str, warnings: &mut Vec<Problem>) {
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
        if let Some(above) = above(rules, number) {
            warn(
                "selector",
                format!(
                    "the rule is never evaluated: {:?} above it covers the same operations",
                    above.title
                ),
                "only the first token rule that covers an operation applies; move it up, or narrow the one above",
            );
        }
        let polarity = match rule.kind {
            RuleKind::Token => Polarity::Inverted,
            RuleKind::Custom | RuleKind::Mtls | RuleKind::Schema => Polarity::Ordinary,
        };
        for finding in lint(&rule.expression, polarity) {
            warn("expression", finding.message, &finding.hint);
        }
    }
}

/// The token rule that covers everything that the token rule at `number` covers, and comes first.
fn above(rules: &[Rule], number: usize) -> Option<&Rule> {
    let rule = rules.get(number)?;
    let token = |rule: &Rule| rule.kind == RuleKind::Token && rule.enabled;
    let mut before = rules.iter().take(number);
    before.find(|first| token(first) && token(rule) && first.selector.contains(&rule.selector))
}
