//! `gatewatch demo`: everything on one machine, without a file or a server: traffic with known truth → pipeline →
//! posture, with the reason for every label.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args as ClapArgs;
use serde_json::Value;

use super::report::{Report, Span, compute};
use super::{generate, grouped, run as run_command, table};
use crate::clock::Stopwatch;
use crate::config::{PublishSettings, Settings};
use crate::posture::Endpoint;
use crate::publish::INSIGHTS;
use crate::traffic::{Range, Truth};

/// Show what Gatewatch does, in a few seconds and without any set-up
///
/// Generates 40 hours of realistic traffic of a small shop (public, guarded, leaky and mixed endpoints, partners with
/// client certificates; good, expired and forged tokens; requests against their schema), runs it through the pipeline,
/// and prints the posture of every endpoint with the reason for each label. What it finds is compared, figure by
/// figure, with what the generator knows it made.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Folder for the pipeline, the log and the store [default: gatewatch-demo in the system's temporary folder]
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
    /// Exchanges to generate
    #[arg(long, value_name = "N", default_value_t = 60_000)]
    pub events: u64,
    /// Equal seeds give equal traffic
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// Runs the command.
///
/// # Errors
/// A folder that cannot be written, or a fault of the run.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let folder = args.dir.clone().unwrap_or_else(default_folder);
    eprintln!(
        "1/3 generating {} exchanges over 40 hours in {}",
        grouped(args.events),
        folder.display()
    );
    if folder.join("data").exists() && !generate::is_ours(&folder.join("pipeline.toml")) {
        anyhow::bail!(
            "{} holds a folder named data that no demo made\n  hint: choose another folder with --dir",
            folder.display()
        );
    }
    let truth = generate::write_demo(&folder, args.seed, args.events)?;
    // A demo starts from nothing; an earlier one made this folder, and so the store in it.
    match fs::remove_dir_all(folder.join("data")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("cannot remove the store of the last demo");
        }
        _ => {}
    }
    let pipeline = folder.join("pipeline.toml");
    let settings = Arc::new(super::load(&pipeline)?);
    eprintln!("2/3 judging them");
    let watch = Stopwatch::start();
    let summary = run_command::execute(&settings, &run_command::stop_on_signal()?)?;
    run_command::print_summary(&summary, watch.elapsed().as_secs_f64());
    if summary.stopped {
        return Ok(());
    }
    eprintln!("3/3 reading the posture from the store\n");
    let report = compute(&settings, Span::Day, None)?;
    let mut text = table::posture(report.endpoints(), report.as_of(), "24h");
    text += &labels(report.endpoints());
    text += &insights(&settings)?;
    text += &verdict(&settings, &truth, &report)?;
    text += &next_steps(&pipeline, &settings);
    Ok(super::print(&text)?)
}

/// One folder per user, because the temporary folder is shared.
fn default_folder() -> PathBuf {
    let user = std::env::var("USER").unwrap_or_default();
    let user: String = user.chars().filter(char::is_ascii_alphanumeric).collect();
    std::env::temp_dir().join(format!("gatewatch-demo-{user}").trim_end_matches('-'))
}

/// Why each label is there.
fn labels(endpoints: &[Endpoint]) -> String {
    let mut text = "\nWhy each label is there\n".to_owned();
    for endpoint in endpoints
        .iter()
        .filter(|endpoint| !endpoint.labels.is_empty())
    {
        let (without, with) = (endpoint.authentication.hits, endpoint.authentication.others);
        let operation = &endpoint.operation;
        let _ = writeln!(
            text,
            "  {}  {} {}{}\n      {} of {} successful requests in 24 hours carried no session identifier",
            endpoint.labels.join(", "),
            operation.method,
            operation.host,
            endpoint.declared,
            grouped(without),
            grouped(without + with),
        );
    }
    text
}

/// Folder of the topics; the demo's own pipeline publishes to files.
fn topics(settings: &Settings) -> &Path {
    match &settings.publish {
        PublishSettings::File(folder) => folder,
        PublishSettings::Kafka(_) => Path::new(""),
    }
}

/// The insights that are open at the end, from the topic that anybody may read.
fn insights(settings: &Settings) -> anyhow::Result<String> {
    let path = topics(settings).join(format!("gatewatch.{INSIGHTS}.ndjson"));
    let lines =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut open: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line)?;
        let text = |pointer: &str| {
            event
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let operations = open.entry(text("/data/finding_info/title")).or_default();
        if text("/type") == "gatewatch.insight.opened" {
            operations.insert(text("/data/resources/0/name"));
        } else {
            operations.remove(&text("/data/resources/0/name"));
        }
    }
    let mut text = "\nWhat somebody should look at\n".to_owned();
    for (title, operations) in open.iter().filter(|(_, operations)| !operations.is_empty()) {
        let _ = writeln!(text, "  {title}");
        for operation in operations {
            let _ = writeln!(text, "      {operation}");
        }
    }
    Ok(text)
}

/// Compares the reports with the truth.
fn verdict(settings: &Settings, truth: &Truth, day: &Report) -> anyhow::Result<String> {
    let week = compute(settings, Span::Week, None)?;
    let mut figures = 0;
    for (range, report) in [(Range::Day, day), (Range::Week, &week)] {
        let (expected, found) = (truth.report(range), report.to_json(&settings.policy)?);
        if let Some(difference) = difference("", &expected, &found) {
            anyhow::bail!("the report differs from what was generated at {difference}");
        }
        figures += numbers(&expected);
    }
    Ok(format!(
        "\nAll {} figures of the 24h and 7d reports equal what was generated.\n",
        grouped(figures)
    ))
}

/// The first place where two documents differ.
fn difference(at: &str, expected: &Value, found: &Value) -> Option<String> {
    match (expected, found) {
        (Value::Object(left), Value::Object(right)) => {
            left.keys().chain(right.keys()).find_map(|key| {
                let null = &Value::Null;
                let (left, right) = (
                    left.get(key).unwrap_or(null),
                    right.get(key).unwrap_or(null),
                );
                difference(&format!("{at}/{key}"), left, right)
            })
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let mut pairs = left.iter().zip(right).enumerate();
            pairs.find_map(|(index, (left, right))| {
                difference(&format!("{at}/{index}"), left, right)
            })
        }
        _ if expected == found => None,
        _ => Some(format!("{at}: {found} where {expected} was made")),
    }
}

fn numbers(value: &Value) -> u64 {
    match value {
        Value::Number(_) => 1,
        Value::Array(items) => items.iter().map(numbers).sum(),
        Value::Object(members) => members.values().map(numbers).sum(),
        _ => 0,
    }
}

fn next_steps(pipeline: &Path, settings: &Settings) -> String {
    let pipeline = pipeline.display();
    let topics = topics(settings).display();
    format!(
        "\nTry next\n  \
         gatewatch report {pipeline} --range 7d         the same over seven days; --json for machines\n  \
         gatewatch explain {pipeline} | head -1         the verdicts on single exchanges\n  \
         tail -1 {topics}/gatewatch.labels.ndjson       label events, as other systems would subscribe to them\n  \
         gatewatch run {pipeline}                       run it again: nothing is counted twice\n  \
         gatewatch run pipelines/quickstart.toml        a pipeline file to start your own from\n"
    )
}
