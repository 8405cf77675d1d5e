//! What the rules of a zone say about an exchange (feature map sections 3.2, 4.2 and 4.3).
//!
//! - Custom and mTLS rules: each that covers the exchange is evaluated, and fires when its expression is true.
//! - Token rules: only the first that covers the operation is evaluated, and fires when its expression is **false**.
//! - Schema validation: fires when the request violates, where the action of its operation is not `none`.
//!
//! What the log did not capture fires nothing: an answer that could be another one had the log shown everything is listed
//! with its value and does not fire.

use super::Judged;
use super::rules::{Facts, evaluate};
use crate::model::{Direction, Exchange, RuleAction, RuleKind, RuleVerdict, SchemaOutcome};
use crate::policy::Zone;
use crate::policy::rulebook::Rule;

/// Judges one exchange; everything else about it was judged before.
pub fn judge(zone: &Zone, exchange: &Exchange<'_>, judged: &mut Judged) {
    let mut verdicts = std::mem::take(&mut judged.rules);
    verdicts.clear();
    if !zone.rules.is_empty() {
        let facts = Facts::new(zone, exchange, judged);
        let mut token_rule_applied = false;
        for (number, rule) in (0_u16..).zip(&zone.rules.rules) {
            let is_token = rule.kind == RuleKind::Token;
            if !rule.enabled || (is_token && token_rule_applied) || !covers(rule, zone, judged) {
                continue;
            }
            token_rule_applied |= is_token;
            let answer = evaluate(&rule.expression, &facts);
            verdicts.push(RuleVerdict {
                rule: Some(number),
                kind: rule.kind,
                value: answer.value,
                fires: answer.known && answer.value != is_token,
                action: rule.action,
            });
        }
        verdicts.extend(schema_validation(zone, judged));
    }
    judged.rules = verdicts;
}

fn covers(rule: &Rule, zone: &Zone, judged: &Judged) -> bool {
    let operation = (
        judged.method,
        judged.host.as_str(),
        judged.endpoint.as_str(),
    );
    rule.selector
        .covers(operation, || judged.operation(zone).id())
}

/// The verdict of schema validation, where an action follows from it and the request was evaluated.
fn schema_validation(zone: &Zone, judged: &Judged) -> Option<RuleVerdict> {
    let violates = match judged.schema.request {
        SchemaOutcome::Violates => true,
        SchemaOutcome::Conforms => false,
        SchemaOutcome::NoOperation | SchemaOutcome::NotEvaluated => return None,
    };
    let schema = &zone.rules.schema;
    let action = schema.of(judged.method, &judged.host, &judged.endpoint)?;
    Some(RuleVerdict {
        rule: None,
        kind: RuleKind::Schema,
        value: violates,
        fires: violates,
        action,
    })
}

impl Judged {
    /// The verdicts that fire and block.
    pub fn blocking(&self) -> impl Iterator<Item = &RuleVerdict> {
        self.rules
            .iter()
            .filter(|verdict| verdict.fires && verdict.action == RuleAction::Block)
    }

    /// Whether the request violates its schema.
    #[must_use]
    pub fn request_violates(&self) -> bool {
        let mut violations = self.schema.violations.iter();
        violations.any(|violation| violation.direction == Direction::Request)
    }
}

#[cfg(test)]
mod tests;
