//! `gatewatch backtest`: what a rule, a schema, a token configuration or a block list would have done to recorded traffic.
//!
//! Enters: a pipeline file, candidate files, and the recorded traffic of the pipeline's source or of a file. Leaves: counts
//! and samples, as a table or as JSON. Every exchange is judged twice, by the policy in force and by the one with the
//! candidates, at its own time. Nothing is stored, published or committed, so the answer is the same tomorrow.

mod judging;
mod range;
mod recorded;
mod simulation;
mod table;
mod wire;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgGroup, Args as ClapArgs};

use self::judging::Trying;
use self::range::Wanted;
use self::recorded::Recording;
use super::arguments::{parse_length, parse_time};
use super::{BadConfiguration, replay};
use crate::config::{Candidates, Settings, Trial, Unusable, load_trial};
use crate::enrich::{Judge, Shared};
use crate::model::EventTime;
use crate::store::StoreSettings;

/// Try a rule, a schema, a token configuration or a block list on recorded traffic
///
/// Reads the recorded traffic of the pipeline's source (or of EVENTS), judges it by the policy in force and by the policy with
/// the candidates, each exchange at its own time, and says what would have been different: matches by endpoint and by
/// client, how many of them were successful answers to valid sessions, whom the block list would have got by rules and by
/// thresholds, and what those did later. Nothing is stored, published or committed; the consumer group of the pipeline is left alone.
#[derive(Debug, ClapArgs)]
#[command(
    group = ArgGroup::new("candidate").required(true).multiple(true).args(["rule", "schema", "token_configuration", "blocklist"]),
    after_help = "Examples:
  gatewatch backtest shop.toml --rule rule.toml --range 24h        the newest day of the pipeline's own source
  gatewatch backtest shop.toml old.ndjson.zst --rule rule.toml     a file; \"-\" is standard input
  gatewatch backtest shop.toml --schema v2.openapi.yaml --json     another schema in the place of the zone's
  gatewatch backtest shop.toml --blocklist stricter.toml           other thresholds
  gatewatch backtest shop.toml --topic archive --token-configuration new-issuer.toml --from 2026-11-20T00:00:00Z"
)]
pub struct Args {
    /// Pipeline file (TOML)
    pub pipeline: PathBuf,
    /// Events to read; "-" is standard input [default: the source of the pipeline]
    #[arg(conflicts_with_all = ["events", "topic"])]
    pub input: Option<PathBuf>,
    /// The same as an option
    #[arg(long, value_name = "FILE|-", conflicts_with = "topic")]
    pub events: Option<PathBuf>,
    /// Topic to read instead of the source's, in its cluster; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub topic: Vec<String>,
    /// TOML file with `[[rules]]` to try, written as `[[zones.rules]]`; one of the name of a rule in force takes its place
    #[arg(long, value_name = "FILE")]
    pub rule: Vec<PathBuf>,
    /// OpenAPI document to try in the place of the zone's schemas
    #[arg(long, value_name = "FILE")]
    pub schema: Vec<PathBuf>,
    /// Keep the zone's schemas beside --schema
    #[arg(long, requires = "schema")]
    pub keep_schemas: bool,
    /// TOML file with `[[token_configurations]]` to try; one of the title of a configuration in force takes its place
    #[arg(long, value_name = "FILE")]
    pub token_configuration: Vec<PathBuf>,
    /// TOML file with a `[blocklist]` to try in the place of the pipeline's: thresholds, allow list
    #[arg(long, value_name = "FILE")]
    pub blocklist: Option<PathBuf>,
    /// Zone of the candidates that do not name one [default: the only zone]
    #[arg(long, value_name = "ID")]
    pub zone: Option<String>,
    /// How much event time before the end, such as 24h [default: all of a file, 24h of a topic]
    #[arg(long, value_name = "DURATION", value_parser = parse_length, conflicts_with = "from")]
    pub range: Option<Duration>,
    /// First event time, included (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub from: Option<EventTime>,
    /// End of event time, excluded (RFC 3339) [default: behind the newest event of a file, now for a topic]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<EventTime>,
    /// How late the records of a topic may be written and still be seen
    #[arg(long, value_name = "DURATION", value_parser = parse_length, default_value = "1h")]
    pub late: Duration,
    /// Most samples of each candidate
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=1_000))]
    pub samples: u16,
    /// Most endpoints, entities and reasons that are listed
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub top: u16,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
}

/// Candidate files that cannot be used; exits with 64.
#[derive(Debug)]
pub struct BadCandidates(Vec<Unusable>);

impl fmt::Display for BadCandidates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, unusable) in self.0.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            unusable.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for BadCandidates {}

/// What the command line asks for and cannot have; exits with 64.
fn unusable(pipeline: &Path, place: &str, message: String, hint: &str) -> BadConfiguration {
    let file = pipeline.display().to_string();
    BadConfiguration(Unusable::one(file, place.to_owned(), message, hint))
}

/// Runs the command.
///
/// # Errors
/// A bad pipeline file, bad candidates, or traffic that cannot be read.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let candidates = Candidates {
        rules: &args.rule,
        schemas: &args.schema,
        token_configurations: &args.token_configuration,
        block_list: args.blocklist.as_deref(),
        zone: args.zone.as_deref(),
        keep_schemas: args.keep_schemas,
    };
    let trial = load_trial(&args.pipeline, &candidates).map_err(BadCandidates)?;
    let Trial { settings, .. } = &trial;
    for warning in settings.warnings.iter().chain(&trial.warnings) {
        eprintln!("warning: {warning}");
    }
    let recording = Recording::of(args, settings)?;
    let wanted = Wanted {
        length: args.range,
        from: args.from,
        until: args.until,
    };
    let range = recording.range(args, settings, wanted)?;
    let (key, comparable) = hash_key(settings)?;
    // Caches are apart, so that nothing of one policy can reach the other.
    let shared = || Arc::new(Shared::new(&key));
    let present = Judge::new(Arc::clone(&settings.policy), shared());
    let judge = Judge::new(Arc::clone(&trial.policy), shared());
    let _keys = (
        replay::key_sets(&settings.policy)?,
        replay::key_sets(&trial.policy)?,
    );
    let judges = (present, judge.clone());
    let mut trying = Trying::new(&trial, judges, range, usize::from(args.samples))?;
    let read = recording.replay(args, settings, range, judge, &mut trying)?;
    let report = wire::Report {
        trial: &trial,
        source: recording.name(),
        range,
        read,
        tried: trying.finish()?,
        comparable,
        top: usize::from(args.top),
    };
    if args.json {
        let text = serde_json::to_string_pretty(&report.wire())?;
        super::print(&format!("{text}\n"))?;
    } else {
        super::print(&table::text(&report))?;
    }
    Ok(())
}

/// The key of the hashes, and whether it is the pipeline's: then the hashes are those of windows, insights and the block list.
/// A key that is not there yet is not made.
fn hash_key(settings: &Settings) -> anyhow::Result<(Vec<u8>, bool)> {
    if let Some(key) = &settings.hash_key {
        return Ok((key.clone(), true));
    }
    if let StoreSettings::Local(store) = &settings.store
        && let Some(key) = crate::pipeline::known_key(store)?
    {
        return Ok((key, true));
    }
    let mut random = [0; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| anyhow::anyhow!("no randomness"))?;
    Ok((random.to_vec(), false))
}
