//! `gatewatch report`: the posture of every endpoint, from the store (design section 10).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::RecordBatch;
use clap::{Args as ClapArgs, ValueEnum};
use serde::Serialize;

use super::arguments::parse_time;
use super::table;
use crate::config::Settings;
use crate::detect;
use crate::model::{EventTime, MINUTE_MILLIS};
use crate::policy::Policy;
use crate::posture::{Endpoint, Rows, STATUS_CLASSES, posture};
use crate::store::clickhouse::{self, ClickHouse};
use crate::store::local::{self, Reader};
use crate::store::{Range, StoreSettings};
use crate::window::{self, Resolution, Table};

/// Show the posture of every endpoint
///
/// Reads the store of a pipeline, local or ClickHouse, also while `run` is at work on it. Counts are exact counts of exchanges.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Pipeline file (TOML)
    pub pipeline: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// How far to look back
    #[arg(long, value_enum, default_value_t = Span::Day)]
    pub range: Span,
    /// End of the range, included (RFC 3339) [default: the newest minute with an exchange]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub as_of: Option<EventTime>,
}

/// How often a report starts over because files were merged under it.
const ATTEMPTS: usize = 20;
/// How long a report waits for a ClickHouse that does not answer: somebody sits in front of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How far a report looks back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Span {
    /// 1,440 minutes
    #[value(name = "24h")]
    Day,
    /// 10,080 minutes
    #[value(name = "7d")]
    Week,
}

impl Span {
    fn minutes(self) -> i64 {
        match self {
            Self::Day => detect::WINDOW_MINUTES,
            Self::Week => 7 * detect::WINDOW_MINUTES,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Day => "24h",
            Self::Week => "7d",
        }
    }
}

/// A report as computed, before it is printed.
pub struct Report {
    as_of: Option<EventTime>,
    range: Span,
    endpoints: Vec<Endpoint>,
}

/// Runs the command.
///
/// # Errors
/// A bad pipeline file, or a store that cannot be read.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let settings = super::load(&args.pipeline)?;
    let report = compute(&settings, args.range, args.as_of)?;
    if args.json {
        let text = serde_json::to_string_pretty(&report.wire(&settings.policy))?;
        super::print(&format!("{text}\n"))?;
    } else {
        super::print(&table::posture(
            &report.endpoints,
            report.as_of,
            report.range.as_str(),
        ))?;
    }
    Ok(())
}

/// Reads the store and computes the posture.
///
/// # Errors
/// A store that cannot be read.
pub fn compute(
    settings: &Settings,
    range: Span,
    as_of: Option<EventTime>,
) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let read = match &settings.store {
        StoreSettings::Local(folder) => runtime.block_on(from_local(folder, range, as_of))?,
        StoreSettings::ClickHouse(store) => {
            runtime.block_on(from_clickhouse(store, settings, range, as_of))?
        }
    };
    let Some((rows, newest)) = read else {
        return Ok(Report {
            as_of: None,
            range,
            endpoints: Vec::new(),
        });
    };
    let limits = detect::Limits {
        excluded_methods: settings.detect.excluded_methods.clone(),
        min_successful: settings.detect.min_successful,
    };
    let endpoints = posture(&settings.policy, &limits, &rows)?;
    let as_of = EventTime::from_millis(newest / MINUTE_MILLIS * MINUTE_MILLIS);
    Ok(Report {
        as_of,
        range,
        endpoints,
    })
}

/// Rows with the newest minute of the report; `None` when nothing is stored.
type Found = Option<(Rows, i64)>;

async fn from_local(
    folder: &Path,
    range: Span,
    as_of: Option<EventTime>,
) -> Result<Found, local::StoreError> {
    let mut attempts = 0;
    loop {
        let Some(reader) = Reader::open(folder)? else {
            return Ok(None);
        };
        let newest = as_of.map(EventTime::minute_millis);
        let Some(newest) = newest.or_else(|| reader.newest_minute()) else {
            return Ok(None);
        };
        attempts += 1;
        match read(&reader, range, newest).await {
            Ok(rows) => return Ok(Some((rows, newest))),
            // A run beside us has merged files; all tables are read anew, so that they agree.
            Err(error) if error.compacted_away() && attempts < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
}

async fn from_clickhouse(
    store: &clickhouse::Settings,
    settings: &Settings,
    range: Span,
    as_of: Option<EventTime>,
) -> Result<Found, clickhouse::StoreError> {
    let patient = clickhouse::Settings {
        deadline: store.deadline.min(PATIENCE),
        ..store.clone()
    };
    let Some(store) = ClickHouse::open_to_read(&patient, &settings.name).await? else {
        return Ok(None);
    };
    let store = store.with_zones(settings.policy.zones.iter().map(|zone| zone.id.as_str()));
    let newest = match as_of {
        Some(time) => Some(time.minute_millis()),
        None => store.newest_minute().await?,
    };
    let Some(newest) = newest else {
        return Ok(None);
    };
    let rows = read(&store, range, newest).await?;
    Ok(Some((rows, newest)))
}

/// What a report asks of a store.
trait Windows {
    type Error;

    async fn merged(
        &self,
        table: &Table,
        range: Range,
        resolution: Option<Resolution>,
    ) -> Result<Vec<RecordBatch>, Self::Error>;
}

impl Windows for Reader {
    type Error = local::StoreError;

    async fn merged(
        &self,
        table: &Table,
        range: Range,
        resolution: Option<Resolution>,
    ) -> Result<Vec<RecordBatch>, Self::Error> {
        self.read(table, range, resolution).await
    }
}

impl Windows for ClickHouse {
    type Error = clickhouse::StoreError;

    async fn merged(
        &self,
        table: &Table,
        range: Range,
        resolution: Option<Resolution>,
    ) -> Result<Vec<RecordBatch>, Self::Error> {
        self.read(table, range, resolution).await
    }
}

async fn read<W: Windows>(store: &W, range: Span, newest: i64) -> Result<Rows, W::Error> {
    let whole = Range::ending_with(newest, range.minutes());
    let day = Range::ending_with(newest, detect::WINDOW_MINUTES);
    let mut rows = Rows::default();
    for (name, range, into) in [
        ("endpoint_windows", whole, &mut rows.endpoints),
        ("identifier_windows", whole, &mut rows.identifiers),
        ("token_windows", whole, &mut rows.tokens),
        ("endpoint_windows", day, &mut rows.last_day),
    ] {
        if let Some(table) = window::table(name) {
            *into = store.merged(table, range, None).await?;
        }
    }
    Ok(rows)
}

impl Report {
    /// The endpoints.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Newest minute of the report.
    #[must_use]
    pub fn as_of(&self) -> Option<EventTime> {
        self.as_of
    }

    /// The report as `report --json` prints it.
    ///
    /// # Errors
    /// Never in practice: the shape has only string keys.
    pub fn to_json(&self, policy: &Policy) -> serde_json::Result<serde_json::Value> {
        serde_json::to_value(self.wire(policy))
    }

    fn wire<'r>(&'r self, policy: &'r Policy) -> Wire<'r> {
        Wire {
            as_of: self.as_of.map(|time| time.to_string()),
            range: self.range.as_str(),
            endpoints: self
                .endpoints
                .iter()
                .map(|endpoint| WireEndpoint::new(endpoint, policy))
                .collect(),
        }
    }
}

#[derive(Serialize)]
struct Wire<'r> {
    as_of: Option<String>,
    range: &'static str,
    endpoints: Vec<WireEndpoint<'r>>,
}

#[derive(Serialize)]
struct WireEndpoint<'r> {
    zone: &'r str,
    host: &'r str,
    method: &'r str,
    endpoint: &'r str,
    operation_id: String,
    source: &'static str,
    requests: WireRequests,
    session: WireSession<'r>,
    tokens: BTreeMap<&'r str, WireTokens<'r>>,
    schema: WireSchema<'r>,
    mtls: &'r BTreeMap<String, u64>,
    labels: &'r [&'static str],
}

#[derive(Serialize)]
struct WireRequests {
    total: u64,
    #[serde(flatten)]
    classes: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
struct WireSession<'r> {
    successful: BTreeMap<&'r str, u64>,
    all: &'r BTreeMap<String, u64>,
    identifiers: &'r BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct WireTokens<'r> {
    valid: u64,
    missing: u64,
    not_captured: u64,
    /// Only a flood of tokens, or an issuer that was never reached, makes this member appear.
    #[serde(skip_serializing_if = "is_zero")]
    not_evaluated: u64,
    invalid: u64,
    reasons: BTreeMap<&'r str, u64>,
    successful_invalid: u64,
}

#[derive(Serialize)]
struct WireSchema<'r> {
    request: &'r BTreeMap<String, u64>,
    response: &'r BTreeMap<String, u64>,
    successful_violating: u64,
}

impl<'r> WireEndpoint<'r> {
    fn new(endpoint: &'r Endpoint, policy: &'r Policy) -> Self {
        let operation = &endpoint.operation;
        let zone = policy
            .zone_by_id(&operation.zone)
            .and_then(|index| policy.zones.get(index));
        // Configurations of the policy are always shown, and those of an earlier policy where they have counts.
        let configured = zone
            .into_iter()
            .flat_map(|zone| &zone.tokens.configurations);
        let mut tokens: BTreeMap<&str, WireTokens<'_>> = configured
            .map(|c| (c.title.as_str(), WireTokens::new(None)))
            .collect();
        for (title, counts) in &endpoint.tokens {
            tokens.insert(title, WireTokens::new(Some(counts)));
        }
        let mut classes = endpoint.status_classes.clone();
        for class in STATUS_CLASSES {
            classes.entry(class).or_default();
        }
        let successful = ["present", "absent", "not_captured"];
        let count = |name| {
            endpoint
                .session_successful
                .get(name)
                .copied()
                .unwrap_or_default()
        };
        WireEndpoint {
            zone: &operation.zone,
            host: &operation.host,
            method: &operation.method,
            endpoint: &endpoint.declared,
            operation_id: operation.id().to_string(),
            source: endpoint.source.as_str(),
            requests: WireRequests {
                total: endpoint.total,
                classes,
            },
            session: WireSession {
                successful: successful
                    .into_iter()
                    .map(|name| (name, count(name)))
                    .collect(),
                all: &endpoint.session,
                identifiers: &endpoint.identifiers,
            },
            tokens,
            schema: WireSchema {
                request: &endpoint.schema_request,
                response: &endpoint.schema_response,
                successful_violating: endpoint.successful_violating,
            },
            mtls: &endpoint.mtls,
            labels: &endpoint.labels,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl<'r> WireTokens<'r> {
    fn new(counts: Option<&'r crate::posture::TokenCounts>) -> Self {
        let outcome = |name| {
            counts
                .and_then(|c| c.outcomes.get(name))
                .copied()
                .unwrap_or_default()
        };
        WireTokens {
            valid: outcome("valid"),
            missing: outcome("missing"),
            not_captured: outcome("not_captured"),
            not_evaluated: outcome("not_evaluated"),
            invalid: outcome("invalid"),
            reasons: counts
                .into_iter()
                .flat_map(|c| {
                    c.reasons
                        .iter()
                        .map(|(reason, count)| (reason.as_str(), *count))
                })
                .collect(),
            successful_invalid: counts.map_or(0, |c| c.successful_invalid),
        }
    }
}
