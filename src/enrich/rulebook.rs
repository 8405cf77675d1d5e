//! What the rules of a zone say about an exchange (feature map sections 3.2, 4.2 and 4.3).
//!
//! - Custom and mTLS rules: each that covers the exchange is evaluated, and fires when its expression is true.
//! - Token rules: only the first that covers the operation is evaluated, and fires when its expression is **false**.
//! - Schema validation: fires when the request violates, where the action of its operation is not `none`.
//!
//! What the log did not capture fires nothing: an answer that could be another one had the log shown everything is listed
//! with its value and does not fire.

use std::borrow::Cow;
use std::net::IpAddr;

use super::Judged;
use super::rules::{Fact, Facts, Source as _, evaluate};
use crate::model::{Direction, Exchange, RuleAction, RuleKind, RuleVerdict, SchemaOutcome};
use crate::policy::Zone;
use crate::policy::rulebook::{Rule, Shown};
use crate::policy::rules::fields::Field;
use crate::policy::rules::types::Value;

/// Judges one exchange; everything else about it was judged before.
///
/// Only rules that the index cannot rule out are evaluated, and only what says more than a plain no is kept: see
/// [`Judged::rules`]. [`verdicts`] has the rest.
pub fn judge(zone: &Zone, exchange: &Exchange<'_>, judged: &mut Judged) {
    let mut kept = std::mem::take(&mut judged.rules);
    kept.clear();
    if !zone.rules.is_empty() {
        let facts = Facts::new(zone, exchange, judged);
        let mut token_rule_applied = false;
        for (number, rule) in zone.rules.candidates(&facts) {
            let is_token = rule.kind == RuleKind::Token;
            if (is_token && token_rule_applied) || !covers(rule, zone, judged) {
                continue;
            }
            token_rule_applied |= is_token;
            let answer = evaluate(&rule.expression, &facts);
            if answer.value || !answer.known || is_token {
                kept.push(RuleVerdict {
                    rule: Some(number),
                    kind: rule.kind,
                    value: answer.value,
                    known: answer.known,
                    fires: answer.known && answer.value != is_token,
                    action: rule.action,
                });
            }
        }
        if judged.schema.request == SchemaOutcome::Violates {
            kept.extend(schema_validation(zone, judged));
        }
    }
    judged.rules = kept;
}

/// Every verdict of a rule that was evaluated, in the order of the rules, schema validation last.
#[must_use]
pub fn verdicts(zone: &Zone, judged: &Judged) -> Vec<RuleVerdict> {
    let numbers = (0_u16..).take(zone.rules.rules.len());
    let rules = numbers.filter_map(|number| verdict(zone, judged, number));
    rules.chain(schema_validation(zone, judged)).collect()
}

/// The verdict of the rule at this index, where it was evaluated.
#[must_use]
pub fn verdict(zone: &Zone, judged: &Judged, number: u16) -> Option<RuleVerdict> {
    let mut kept = judged.rules.iter();
    if let Some(kept) = kept.find(|verdict| verdict.rule == Some(number)) {
        return Some(*kept);
    }
    let rule = zone.rules.rules.get(usize::from(number))?;
    // Of the token rules only one is evaluated, and its verdict is kept.
    let evaluated = rule.enabled && rule.kind != RuleKind::Token && covers(rule, zone, judged);
    evaluated.then_some(RuleVerdict {
        rule: Some(number),
        kind: rule.kind,
        value: false,
        known: true,
        fires: false,
        action: rule.action,
    })
}

impl Shown for Facts<'_> {
    fn text(&self, field: Field) -> Option<&[u8]> {
        match self.value(field) {
            Fact::Known(Value::Bytes(Cow::Borrowed(text))) => Some(text),
            _ => None,
        }
    }

    fn address(&self) -> Option<IpAddr> {
        match self.value(Field::Address) {
            Fact::Known(Value::Ip(address)) => Some(address),
            _ => None,
        }
    }
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
        known: true,
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
mod random;
#[cfg(test)]
mod tests;
