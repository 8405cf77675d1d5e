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

use crate::model::{
    Direction, Exchange, Location, SchemaOutcome, SchemaVerdict, Violation, ViolationClass,
};
use crate::policy::operations::{Match, OperationEntry, Operations};
use crate::policy::schemas::contract::Contract;

/// Violations reported per side; what goes beyond says nothing new about an exchange.
pub const MAX_VIOLATIONS: usize = 64;

/// Judges both sides of an exchange. `host` lower case without port, `path` normalised.
pub fn judge(
    operations: &Operations,
    matched: Match,
    exchange: &Exchange<'_>,
    host: &str,
    path: &str,
    verdict: &mut SchemaVerdict,
) {
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
        return;
    };
    verdict.request = request(entry, contract, exchange, path, &mut verdict.violations);
    verdict.response = response(contract, exchange, &mut verdict.violations);
}

fn request(
    entry: &OperationEntry,
    contract: &Contract,
    exchange: &Exchange<'_>,
    path: &str,
    violations: &mut Vec<Violation>,
) -> SchemaOutcome {
    let request = &exchange.request;
    let mut side = Side::new(Direction::Request, violations);
    parameters::request(entry, contract, request, path, &mut side);
    if let Some(declared) = &contract.body {
        body::judge(
            declared,
            &request.headers,
            request.body.as_deref(),
            &mut side,
        );
    }
    security::judge(&contract.security, exchange, &mut side);
    side.outcome()
}

fn response(
    contract: &Contract,
    exchange: &Exchange<'_>,
    violations: &mut Vec<Violation>,
) -> SchemaOutcome {
    let Some(response) = &exchange.response else {
        return SchemaOutcome::NotEvaluated;
    };
    let mut side = Side::new(Direction::Response, violations);
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
        parameters::header(header, &response.headers, &mut side);
    }
    let has_body = !exchange.request.method.eq("HEAD")
        && !matches!(response.status, 100..=199 | 204 | 205 | 304);
    if has_body && let Some(declared) = &declared.body {
        body::judge(
            declared,
            &response.headers,
            response.body.as_deref(),
            &mut side,
        );
    }
    side.outcome()
}

/// What was found about one side so far.
struct Side<'v> {
    direction: Direction,
    violations: &'v mut Vec<Violation>,
    /// Count of violations of the other side.
    start: usize,
    /// Whether a declared part was not captured.
    skipped: bool,
}

impl<'v> Side<'v> {
    fn new(direction: Direction, violations: &'v mut Vec<Violation>) -> Self {
        let start = violations.len();
        Self {
            direction,
            violations,
            start,
            skipped: false,
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
