//! Merged windows + policy → the posture of every endpoint: the figures of `report` (design section 10). Layer 1.
//!
//! Enters: rows merged over a range, as any store reads them. Leaves: exact counts of exchanges, named as the policy
//! declares them. How they are printed is the business of the caller.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, UInt64Type};
use arrow::error::ArrowError;

use crate::detect::{self, Counts};
use crate::model::{
    Method, MtlsOutcome, OVERFLOW, OperationKey, OperationSource, SchemaOutcome, SessionOutcome,
};
use crate::policy::Policy;

/// Most endpoints of one zone that are shown; the rest, those with the fewest requests, become `{overflow}`.
const MAX_ENDPOINTS: usize = 10_000;

/// Rows that a posture is made of, each merged over the whole range.
#[derive(Debug, Default)]
pub struct Rows {
    /// `endpoint_windows`.
    pub endpoints: Vec<RecordBatch>,
    /// `identifier_windows`.
    pub identifiers: Vec<RecordBatch>,
    /// `token_windows`.
    pub tokens: Vec<RecordBatch>,
    /// `endpoint_windows` of the 24 hours that labels are about.
    pub last_day: Vec<RecordBatch>,
}

/// Outcomes of one token configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenCounts {
    /// Requests by outcome: valid, missing, invalid, `not_captured`, `not_evaluated`.
    pub outcomes: BTreeMap<String, u64>,
    /// Invalid ones by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Invalid ones that were answered with success.
    pub successful_invalid: u64,
}

/// Figures of one endpoint. Maps are by the names of the verdicts.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The operation.
    pub operation: OperationKey,
    /// The template with its declared names.
    pub declared: String,
    /// Where it is known from.
    pub source: OperationSource,
    /// All requests.
    pub total: u64,
    /// By status class: 1xx … 5xx, none.
    pub status_classes: BTreeMap<&'static str, u64>,
    /// Successful requests by session outcome.
    pub session_successful: BTreeMap<String, u64>,
    /// All requests by session outcome.
    pub session: BTreeMap<String, u64>,
    /// Successful requests by identifier.
    pub identifiers: BTreeMap<String, u64>,
    /// By configuration title.
    pub tokens: BTreeMap<String, TokenCounts>,
    /// Requests by conformance.
    pub schema_request: BTreeMap<String, u64>,
    /// Responses by conformance.
    pub schema_response: BTreeMap<String, u64>,
    /// Successful requests that violate.
    pub successful_violating: u64,
    /// By mTLS outcome.
    pub mtls: BTreeMap<String, u64>,
    /// Labels of the last 24 hours.
    pub labels: Vec<&'static str>,
    /// The counts that the labels follow from.
    pub authentication: Counts,
}

/// Status classes in the order of the report.
pub const STATUS_CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

/// The posture of every endpoint with a request in the range, by zone, host, endpoint and method.
///
/// # Errors
/// Rows that lack a column of their table, which is a bug.
pub fn posture(
    policy: &Policy,
    limits: &detect::Limits,
    rows: &Rows,
) -> Result<Vec<Endpoint>, ArrowError> {
    let names = capped(policy, &rows.endpoints)?;
    let mut endpoints: HashMap<OperationKey, Endpoint> = HashMap::new();
    for batch in &rows.endpoints {
        let table = Columns::new(
            batch,
            &["session", "schema_request", "schema_response", "mtls"],
        )?;
        let status = numbers(batch, "status")?;
        for row in 0..batch.num_rows() {
            let endpoint = endpoint_of(policy, &mut endpoints, names.name(table.operation(row)));
            let requests = table.count(row);
            let class = status_class(status.value(row));
            endpoint.total += requests;
            *endpoint.status_classes.entry(class).or_default() += requests;
            let [session, request, response, mtls] = table.names(row);
            *endpoint.session.entry(session.to_owned()).or_default() += requests;
            *endpoint
                .schema_request
                .entry(request.to_owned())
                .or_default() += requests;
            *endpoint
                .schema_response
                .entry(response.to_owned())
                .or_default() += requests;
            *endpoint.mtls.entry(mtls.to_owned()).or_default() += requests;
            if class == "2xx" {
                *endpoint
                    .session_successful
                    .entry(session.to_owned())
                    .or_default() += requests;
                if request == SchemaOutcome::Violates.as_str() {
                    endpoint.successful_violating += requests;
                }
            }
        }
    }
    for batch in &rows.identifiers {
        let table = Columns::new(batch, &["status_class", "identifier"])?;
        for row in 0..batch.num_rows() {
            let [class, identifier] = table.names(row);
            if class == "2xx" && identifier != "none" {
                let endpoint =
                    endpoint_of(policy, &mut endpoints, names.name(table.operation(row)));
                *endpoint
                    .identifiers
                    .entry(identifier.to_owned())
                    .or_default() += table.count(row);
            }
        }
    }
    for batch in &rows.tokens {
        let table = Columns::new(
            batch,
            &["status_class", "configuration", "outcome", "reason"],
        )?;
        for row in 0..batch.num_rows() {
            let [class, configuration, outcome, reason] = table.names(row);
            let endpoint = endpoint_of(policy, &mut endpoints, names.name(table.operation(row)));
            let counts = endpoint.tokens.entry(configuration.to_owned()).or_default();
            let requests = table.count(row);
            *counts.outcomes.entry(outcome.to_owned()).or_default() += requests;
            if !reason.is_empty() {
                *counts.reasons.entry(reason.to_owned()).or_default() += requests;
                if class == "2xx" {
                    counts.successful_invalid += requests;
                }
            }
        }
    }
    add_labels(limits, &names, rows, &mut endpoints)?;
    let mut endpoints: Vec<Endpoint> = endpoints.into_values().collect();
    endpoints.sort_by(|a, b| {
        let key = |e: &Endpoint| {
            (
                e.operation.zone.clone(),
                e.operation.host.clone(),
                e.declared.clone(),
            )
        };
        key(a)
            .cmp(&key(b))
            .then_with(|| a.operation.method.cmp(&b.operation.method))
    });
    Ok(endpoints)
}

/// Labels hold for the 24 hours, whatever the range.
fn add_labels(
    limits: &detect::Limits,
    names: &Names,
    rows: &Rows,
    endpoints: &mut HashMap<OperationKey, Endpoint>,
) -> Result<(), ArrowError> {
    for batch in &rows.last_day {
        let table = Columns::new(batch, &["session"])?;
        let status = numbers(batch, "status")?;
        for row in 0..batch.num_rows() {
            let Some(endpoint) = endpoints.get_mut(&names.name(table.operation(row))) else {
                continue;
            };
            if status_class(status.value(row)) == "2xx" {
                let [session] = table.names(row);
                if session == SessionOutcome::Absent.as_str() {
                    endpoint.authentication.hits += table.count(row);
                } else if session == SessionOutcome::Present.as_str() {
                    endpoint.authentication.others += table.count(row);
                }
            }
        }
    }
    for endpoint in endpoints.values_mut() {
        endpoint.labels = detect::labels(&endpoint.operation, endpoint.authentication, limits);
    }
    Ok(())
}

/// Endpoints that the zone-wide cap leaves out.
struct Names {
    left_out: HashMap<OperationKey, OperationKey>,
}

impl Names {
    fn name(&self, operation: OperationKey) -> OperationKey {
        self.left_out.get(&operation).cloned().unwrap_or(operation)
    }
}

/// Applies the zone-wide cap: operations of the policy stay, learned ones by their requests.
fn capped(policy: &Policy, batches: &[RecordBatch]) -> Result<Names, ArrowError> {
    let mut totals: BTreeMap<String, HashMap<OperationKey, u64>> = BTreeMap::new();
    for batch in batches {
        let table = Columns::<0>::new(batch, &[])?;
        for row in 0..batch.num_rows() {
            let operation = table.operation(row);
            let zone = totals.entry(operation.zone.clone()).or_default();
            *zone.entry(operation).or_default() += table.count(row);
        }
    }
    let mut left_out = HashMap::new();
    for operations in totals
        .into_values()
        .filter(|operations| operations.len() > MAX_ENDPOINTS)
    {
        let mut ranked: Vec<(OperationKey, u64)> = operations.into_iter().collect();
        let rank = |(operation, requests): &(OperationKey, u64)| {
            let learned = known(policy, operation).1 == OperationSource::Learned;
            (learned, std::cmp::Reverse(*requests), operation.clone())
        };
        ranked.sort_by_cached_key(rank);
        for (operation, _) in ranked.into_iter().skip(MAX_ENDPOINTS) {
            let overflow = OperationKey {
                endpoint: OVERFLOW.to_owned(),
                ..operation.clone()
            };
            left_out.insert(operation, overflow);
        }
    }
    Ok(Names { left_out })
}

/// Declared template and source of an operation.
fn known(policy: &Policy, operation: &OperationKey) -> (String, OperationSource) {
    let zone = policy
        .zone_by_id(&operation.zone)
        .and_then(|index| policy.zones.get(index));
    let method = Method::parse(&operation.method);
    let entry = zone.and_then(|zone| {
        zone.operations
            .known(method, &operation.host, &operation.endpoint)
    });
    match entry {
        Some(entry) => (entry.declared.clone(), entry.source),
        None => (operation.endpoint.clone(), OperationSource::Learned),
    }
}

fn endpoint_of<'e>(
    policy: &Policy,
    endpoints: &'e mut HashMap<OperationKey, Endpoint>,
    operation: OperationKey,
) -> &'e mut Endpoint {
    endpoints.entry(operation).or_insert_with_key(|operation| {
        let (declared, source) = known(policy, operation);
        let zeros = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 0)).collect();
        let schema: Vec<&str> = SchemaOutcome::ALL
            .iter()
            .map(|outcome| outcome.as_str())
            .collect();
        let session: Vec<&str> = SessionOutcome::ALL
            .iter()
            .map(|outcome| outcome.as_str())
            .collect();
        let mtls: Vec<&str> = MtlsOutcome::ALL
            .iter()
            .map(|outcome| outcome.as_str())
            .collect();
        Endpoint {
            operation: operation.clone(),
            declared,
            source,
            total: 0,
            status_classes: STATUS_CLASSES.iter().map(|class| (*class, 0)).collect(),
            session_successful: zeros(&["present", "absent", "not_captured"]),
            session: zeros(&session),
            identifiers: BTreeMap::new(),
            tokens: BTreeMap::new(),
            schema_request: zeros(&schema),
            schema_response: zeros(&schema),
            successful_violating: 0,
            mtls: zeros(&mtls),
            labels: Vec::new(),
            authentication: Counts::default(),
        }
    })
}

fn status_class(status: u64) -> &'static str {
    let class = usize::try_from(status / 100)
        .ok()
        .and_then(|class| class.checked_sub(1));
    class
        .and_then(|class| STATUS_CLASSES.get(class))
        .copied()
        .unwrap_or("none")
}

/// The operation, some named columns and the count of one batch, as plain strings and numbers.
struct Columns<const N: usize> {
    operation: [ArrayRef; 4],
    names: [ArrayRef; N],
    requests: ArrayRef,
}

impl<const N: usize> Columns<N> {
    fn new(batch: &RecordBatch, names: &[&str; N]) -> Result<Self, ArrowError> {
        let text = |name: &str| cast(column(batch, name)?, &DataType::Utf8);
        let [zone, host, method, endpoint] = ["zone", "host", "method", "endpoint"].map(text);
        let mut columns = Vec::with_capacity(N);
        for name in names {
            columns.push(text(name)?);
        }
        let names = columns
            .try_into()
            .map_err(|_| ArrowError::SchemaError("a column is missing".to_owned()))?;
        let requests = cast(column(batch, "requests")?, &DataType::UInt64)?;
        Ok(Self {
            operation: [zone?, host?, method?, endpoint?],
            names,
            requests,
        })
    }

    fn operation(&self, row: usize) -> OperationKey {
        let [zone, host, method, endpoint] = self
            .operation
            .each_ref()
            .map(|column| column.as_string::<i32>().value(row).to_owned());
        OperationKey {
            zone,
            host,
            method,
            endpoint,
        }
    }

    fn names(&self, row: usize) -> [&str; N] {
        self.names
            .each_ref()
            .map(|column| column.as_string::<i32>().value(row))
    }

    fn count(&self, row: usize) -> u64 {
        self.requests.as_primitive::<UInt64Type>().value(row)
    }
}

fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b ArrayRef, ArrowError> {
    batch
        .column_by_name(name)
        .ok_or_else(|| ArrowError::SchemaError(format!("no column {name}")))
}

fn numbers(batch: &RecordBatch, name: &str) -> Result<arrow::array::UInt64Array, ArrowError> {
    Ok(cast(column(batch, name)?, &DataType::UInt64)?
        .as_primitive::<UInt64Type>()
        .clone())
}
