//! Rules that are accepted and hardly mean what they say: each of these was seen in the wild (feature map section 9, 38).
//!
//! - A token rule below one that covers the same operations, a disabled rule: never evaluated.
//! - An expression whose value never changes. Its tests are tried with every combination of truth values that can be; what
//!   follows from the values of more than one test is not looked at, but for the few that are known here.
//! - An expression that asks for the opposite of what its kind of rule does with it.

use std::collections::BTreeMap;

use super::Rule;
use crate::model::{Problem, RuleKind};
use crate::policy::rules::Expression;
use crate::policy::rules::ast::{Check, Node, Operand, Order, Test};
use crate::policy::rules::fields::Field;

/// Most different tests of an expression whose combinations are tried: four thousand.
const MAX_TESTS: usize = 12;

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
        let fires_when = rule.kind != RuleKind::Token;
        if let Some(value) = constant(&rule.expression) {
            let fires = if value == fires_when {
                "always"
            } else {
                "never"
            };
            warn(
                "expression",
                format!("the expression is always {value}, so the rule {fires} fires"),
                "compare it with what you mean: `gatewatch explain` shows its value for every exchange",
            );
        } else if inverted(rule) {
            let (message, hint) = if fires_when {
                (
                    "the rule fires for clients that show who they are",
                    "a rule of this kind fires when its expression is true: write `not` in front of what is wanted",
                )
            } else {
                (
                    "the rule fires for clients with a good token",
                    "a token rule is a policy and fires when its expression is false: say what is wanted, is_jwt_valid(\"…\")",
                )
            };
            warn("expression", message.to_owned(), hint);
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

/// Whether everything that is asked about who a client is has the wrong sign.
fn inverted(rule: &Rule) -> bool {
    let wrong = rule.kind == RuleKind::Token;
    let (mut asked, mut all_wrong) = (false, true);
    rule.expression.root().walk(false, &mut |test, negated| {
        if shows_identity(test) {
            asked = true;
            all_wrong &= negated == wrong;
        }
    });
    asked && all_wrong
}

/// Whether the test is true of clients that show who they are.
fn shows_identity(test: &Test) -> bool {
    matches!(
        test.operand,
        Operand::TokenValid(_)
            | Operand::TokenPresent(_)
            | Operand::Field(Field::AuthIdPresent | Field::CertVerified)
    ) && matches!(test.check, Check::Truth)
}

/// The value of an expression that has only one.
fn constant(expression: &Expression) -> Option<bool> {
    let mut tests: Vec<(&str, &Test)> = Vec::new();
    expression.root().walk(false, &mut |test, _| {
        let text = text(expression, test);
        if !tests.iter().any(|(known, _)| *known == text) {
            tests.push((text, test));
        }
    });
    if tests.len() > MAX_TESTS {
        return None;
    }
    let mut value = None;
    for combination in 0..1_u32 << tests.len() {
        let holds = |index: usize| combination & (1 << index) != 0;
        if !possible(&tests, holds) {
            continue;
        }
        let values: BTreeMap<&str, bool> = tests
            .iter()
            .enumerate()
            .map(|(index, (text, _))| (*text, holds(index)))
            .collect();
        let result = evaluate(expression, expression.root(), &values);
        if value.is_some_and(|value| value != result) {
            return None;
        }
        value = Some(result);
    }
    value
}

fn text<'e>(expression: &'e Expression, test: &Test) -> &'e str {
    expression.text().get(test.span.clone()).unwrap_or_default()
}

fn evaluate(expression: &Expression, node: &Node, values: &BTreeMap<&str, bool>) -> bool {
    let of = |node: &Node| evaluate(expression, node, values);
    match node {
        Node::Constant(value) => *value,
        Node::Test(test) => {
            let value = values.get(text(expression, test));
            value.copied().unwrap_or_default()
        }
        Node::Not(inner) => !of(inner),
        Node::And(parts) => parts.iter().all(of),
        Node::Or(parts) => parts.iter().any(of),
        Node::Xor(parts) => parts.iter().fold(false, |odd, part| odd ^ of(part)),
        // Of no elements and of all: what is said about one element stands for what is said about them.
        Node::Any(inner) | Node::All(inner) => of(inner),
    }
}

/// Whether tests can have these values at once.
fn possible(tests: &[(&str, &Test)], holds: impl Fn(usize) -> bool) -> bool {
    let pairs = tests.iter().enumerate().flat_map(|(left, (_, one))| {
        let others = tests.iter().enumerate();
        others.map(move |(right, (_, other))| (left, *one, right, *other))
    });
    let mut pairs = pairs.filter(|(left, _, right, _)| left != right);
    pairs.all(|(left, one, right, other)| {
        let broken = holds(left)
            && ((implies(one, other) && !holds(right)) || (excludes(one, other) && holds(right)));
        !broken
    })
}

/// Whether the second is true whenever the first is.
fn implies(one: &Test, other: &Test) -> bool {
    use Field::{CertPresented, CertRevoked, CertVerified};
    match (&one.operand, &other.operand) {
        (Operand::TokenValid(valid), Operand::TokenPresent(present)) => valid == present,
        (Operand::Field(CertRevoked), Operand::Field(CertVerified | CertPresented))
        | (Operand::Field(CertVerified), Operand::Field(CertPresented)) => true,
        _ => false,
    }
}

/// Whether both cannot be true: one field equals two things.
fn excludes(one: &Test, other: &Test) -> bool {
    let (Operand::Field(left), Operand::Field(right)) = (&one.operand, &other.operand) else {
        return false;
    };
    left == right
        && match (&one.check, &other.check) {
            (Check::Bytes(Order::Equal, one), Check::Bytes(Order::Equal, other)) => one != other,
            (Check::Int(Order::Equal, one), Check::Int(Order::Equal, other)) => one != other,
            (Check::Ip(Order::Equal, one), Check::Ip(Order::Equal, other)) => one != other,
            _ => false,
        }
}
