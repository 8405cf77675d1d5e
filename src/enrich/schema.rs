//! Schema verdicts: does each side of an exchange do what the operation declares.
//!
//! Enters: the operation that the router found and the exchange. Leaves: an outcome per side and the violations, request
//! first, in the order path, query, header, cookie, body, security, status. Violations quote the schema only: nothing of
//! a value leaves this module.

mod body;
mod coding;
mod form;
mod json;
mod parameters;
mod security;
mod text;
mod xml;

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use crate::model::{
    Direction, Exchange, Location, SchemaOutcome, SchemaVerdict, Violation, ViolationClass,
};
use crate::policy::operations::{Match, OperationEntry, Operations};
use crate::policy::schemas::contract::Contract;
use crate::policy::schemas::{Allowance, Check};

/// Violations reported per side; what goes beyond says nothing new about an exchange.
pub const MAX_VIOLATIONS: usize = 64;

/// Steps that judging one side by its schemas may take (see [`Allowance`]); beyond it the side is `not_evaluated`. A body
/// of 256 KiB has some 60,000 values at the most, and schemas in use look at each about ten times.
pub const MAX_STEPS: u32 = 1 << 20;

/// Steps that listing what is wrong with one side may take; beyond it one reason stands for all.
pub const MAX_EXPLAINING_STEPS: u32 = 1 << 13;

/// Judges both sides of an exchange. `host` lower case without port, `path` normalised. Returns the steps that were
/// taken: at most `MAX_STEPS` and `MAX_EXPLAINING_STEPS` a side.
pub fn judge(
    operations: &Operations,
    matched: Match,
    exchange: &Exchange<'_>,
    host: &str,
    path: &str,
    verdict: &mut SchemaVerdict,
) -> u32 {
    verdict.violations.clear();
    verdict.request = SchemaOutcome::NotEvaluated;
    verdict.response = SchemaOutcome::NotEvaluated;
    let operation = matched
        .schema
        .and_then(|number| operations.entry(number))
        .and_then(|entry| Some((entry, entry.contract.as_deref()?)));
    let Some((entry, contract)) = operation else {
        if operations.covers(host) {
            verdict.request = SchemaOutcome::NoOperation;
            if exchange.response.is_some() {
                verdict.response = SchemaOutcome::NoOperation;
            }
        }
        return 0;
    };
    let mut side = Side::new(Direction::Request, &mut verdict.violations);
    verdict.request = request(entry, contract, exchange, path, &mut side);
    let steps = side.steps();
    let mut side = Side::new(Direction::Response, &mut verdict.violations);
    verdict.response = response(contract, exchange, &mut side);
    steps + side.steps()
}

fn request(
    entry: &OperationEntry,
    contract: &Contract,
    exchange: &Exchange<'_>,
    path: &str,
    side: &mut Side<'_>,
) -> SchemaOutcome {
    let request = &exchange.request;
    parameters::request(entry, contract, request, path, side);
    if let Some(declared) = &contract.body {
        body::judge(declared, &request.headers, request.body.as_deref(), side);
    }
    security::judge(&contract.security, exchange, side);
    side.outcome()
}

fn response(contract: &Contract, exchange: &Exchange<'_>, side: &mut Side<'_>) -> SchemaOutcome {
    let Some(response) = &exchange.response else {
        return SchemaOutcome::NotEvaluated;
    };
    let declared = contract
        .responses
        .iter()
        .find(|declared| declared.status.covers(response.status));
    let Some(declared) = declared else {
        // Without `responses` (allowed since 3.1) nothing is promised.
        if !contract.responses.is_empty() {
            side.add(
                Location::Status,
                ViolationClass::UndeclaredStatus,
                Cow::Owned(response.status.to_string()),
                || format!("{}/responses", contract.pointer),
                || "the status is not declared".into(),
            );
        }
        return side.outcome();
    };
    for header in &declared.headers {
        parameters::header(header, &response.headers, side);
    }
    let has_body = !exchange.request.method.eq("HEAD")
        && !matches!(response.status, 100..=199 | 204 | 205 | 304);
    if has_body && let Some(declared) = &declared.body {
        body::judge(declared, &response.headers, response.body.as_deref(), side);
    }
    side.outcome()
}

/// What was found about one side so far.
struct Side<'v> {
    direction: Direction,
    violations: &'v mut Vec<Violation>,
    /// Count of violations of the other side.
    start: usize,
    /// Whether a declared part was not captured, or could not be judged within the allowance.
    skipped: bool,
    /// What judging values may still cost, and listing what is wrong with them.
    judging: Allowance,
    explaining: Allowance,
}

impl<'v> Side<'v> {
    fn new(direction: Direction, violations: &'v mut Vec<Violation>) -> Self {
        let start = violations.len();
        Self {
            direction,
            violations,
            start,
            skipped: false,
            judging: Allowance::new(MAX_STEPS),
            explaining: Allowance::new(MAX_EXPLAINING_STEPS),
        }
    }

    /// Notes that a declared part was not captured.
    fn skip(&mut self) {
        self.skipped = true;
    }

    /// Room left for violations.
    fn room(&self) -> usize {
        (self.start + MAX_VIOLATIONS).saturating_sub(self.violations.len())
    }

    /// Whether a value conforms; where that costs too much, the part counts as not evaluated and nothing is said.
    fn accepts(&mut self, check: &Check, value: &Value) -> bool {
        check.accepts(value, &self.judging).unwrap_or_else(|| {
            self.skip();
            true
        })
    }

    /// Notes why a value does not conform. `name` = the parameter that holds it, else findings name their own place.
    fn explain(&mut self, location: Location, name: Option<&str>, check: &Check, value: &Value) {
        let allowance = std::mem::replace(&mut self.explaining, Allowance::new(0));
        check.explain(value, &allowance, |finding| {
            let target = name.map_or(finding.target, str::to_owned);
            self.add(
                location,
                finding.class,
                Cow::Owned(target),
                || finding.pointer,
                || finding.detail,
            );
            self.room() > 0
        });
        self.explaining = allowance;
    }

    /// Notes a violation, once: items of a list that fail alike are one finding.
    fn add(
        &mut self,
        location: Location,
        class: ViolationClass,
        target: Cow<'static, str>,
        pointer: impl FnOnce() -> String,
        detail: impl FnOnce() -> String,
    ) {
        if self.room() == 0 {
            return;
        }
        let violation = Violation {
            direction: self.direction,
            location,
            class,
            target,
            schema_pointer: Arc::from(pointer()),
            detail: detail(),
        };
        let known = self.violations.get(self.start..).unwrap_or_default();
        if !known.contains(&violation) {
            self.violations.push(violation);
        }
    }

    /// Steps that were taken.
    fn steps(&self) -> u32 {
        MAX_STEPS + MAX_EXPLAINING_STEPS - self.judging.left() - self.explaining.left()
    }

    fn outcome(&self) -> SchemaOutcome {
        if self.violations.len() > self.start {
            SchemaOutcome::Violates
        } else if self.skipped {
            SchemaOutcome::NotEvaluated
        } else {
            SchemaOutcome::Conforms
        }
    }
}

#[cfg(test)]
mod tests;
