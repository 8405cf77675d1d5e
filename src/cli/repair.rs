//! `gatewatch repair`: what a service could not decide by itself.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args as ClapArgs;

use super::grouped;
use crate::config::SourceKind;
use crate::model::EventTime;
use crate::pipeline::service::repair::{Decision, Repair, Standing};
use crate::store::StoreSettings;
use crate::store::clickhouse::ClickHouse;

/// Show where a service stands, and decide about flushes that were begun and not finished
///
/// A restart repeats an unfinished flush by itself as long as ClickHouse remembers what was written of it. After a long
/// outage it may not; then `run` stops and names the range, and somebody has to say what to do. Without options this
/// only shows. Stop the service first: Kafka refuses a decision while the group has members.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Pipeline file (TOML)
    pub pipeline: PathBuf,
    /// Write the unfinished flush of this partition again; what was written of it before may count twice
    #[arg(long, value_name = "TOPIC/PARTITION", conflicts_with = "skip")]
    pub repeat: Option<String>,
    /// Leave the unfinished flush of this partition as it is; what was not written of it is missing
    #[arg(long, value_name = "TOPIC/PARTITION")]
    pub skip: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// A bad pipeline file, servers that cannot be reached, or a decision that is not possible.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let settings = super::load(&args.pipeline)?;
    let (SourceKind::Kafka(source), StoreSettings::ClickHouse(store)) =
        (&settings.source.kind, &settings.store)
    else {
        super::print("a pipeline that does not read from Kafka has nothing to decide about\n")?;
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let store = ClickHouse::open(store, &settings.name).await?;
        let repair = Repair::new(source, &store)?;
        let standings = repair.standings().await?;
        let decision = match (&args.repeat, &args.skip) {
            (Some(at), _) => Some((at, Decision::Repeat)),
            (_, Some(at)) => Some((at, Decision::Skip)),
            _ => None,
        };
        let Some((at, decision)) = decision else {
            return Ok(super::print(&shown(&standings))?);
        };
        let standing = standings
            .iter()
            .find(|standing| format!("{}/{}", standing.topic, standing.partition) == *at)
            .with_context(|| format!("{at} is not a partition of this pipeline"))?;
        let Some(unfinished) = standing.unfinished else {
            bail!("{at} has no unfinished flush; a restart goes on by itself");
        };
        repair.decide(standing, decision).await?;
        let range = format!("{} to {}", unfinished.first, unfinished.end);
        Ok(super::print(&match decision {
            Decision::Repeat => format!("{at}: the next start writes records {range} again\n"),
            Decision::Skip => format!("{at}: the next start goes on at {}\n", unfinished.end),
        })?)
    })
}

fn shown(standings: &[Standing]) -> String {
    let mut text = String::new();
    let offset = |offset: Option<u64>| offset.map_or_else(|| "none".to_owned(), |o| o.to_string());
    for standing in standings {
        let _ = write!(
            text,
            "{}/{}: committed {}, ledger {}",
            standing.topic,
            standing.partition,
            offset(standing.committed),
            offset(standing.ledger),
        );
        if let Some(unfinished) = standing.unfinished {
            let begun = EventTime::from_millis(unfinished.begun_at)
                .map_or_else(|| "an unknown time".to_owned(), |time| time.to_string());
            let _ = write!(
                text,
                "\n  unfinished: records {} to {}, begun {begun}, {} blocks written since; {}",
                unfinished.first,
                unfinished.end,
                grouped(unfinished.blocks),
                if unfinished.repeatable {
                    "a restart repeats it safely"
                } else {
                    "decide with --repeat or --skip"
                },
            );
        }
        text.push('\n');
    }
    if standings.is_empty() {
        text.push_str("the topics have no partitions\n");
    }
    text
}
