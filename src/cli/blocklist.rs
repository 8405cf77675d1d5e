//! `gatewatch blocklist`: show the block list, propose an entry, withdraw one.
//!
//! The list has one writer: the evaluator of a service, or the process that has the store of an embedded pipeline. So this
//! command reads what is published, and otherwise proposes and waits for the outcome. Where the list lives is in `home.rs`.

mod export;
mod home;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use aws_lc_rs::rand;
use clap::{Args as ClapArgs, Subcommand};
use comfy_table::Table;

use self::home::Home;
use super::BadConfiguration;
use crate::clock;
use crate::config::{Settings, Unusable, parse_duration};
use crate::model::{BlockEntry, BlockKey, BlockKind, EventTime, Problem, Proposal, Wish};
use crate::publish::blocklist::{self as wire, Answer};

/// Show the block list, add an entry, withdraw one, export it
///
/// Entries are written by the running pipeline (`gatewatch run`); adding and withdrawing propose to it and wait for its
/// answer. A pipeline with a local store may also stand still: then the command applies its proposal itself. With
/// `blocklist.enforce = false` entries are marked as simulated and nothing is refused.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Pipeline file (TOML)
    pub pipeline: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What is listed now
    Show {
        /// One JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// List an entity, or keep it listed for longer
    Add {
        #[command(flatten)]
        entity: Named,
        /// How long: 30m, 1h, 7d
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        lasts: Duration,
        #[command(flatten)]
        sent: Sent,
    },
    /// The whole list in the words of a gateway
    Export(export::Args),
    /// Take an entity off the list
    Withdraw {
        #[command(flatten)]
        entity: Named,
        #[command(flatten)]
        sent: Sent,
    },
}

#[derive(Debug, ClapArgs)]
struct Named {
    /// Zone id; may be left out when the pipeline has one zone
    #[arg(long)]
    zone: Option<String>,
    /// ip, cidr, asn, session, token, certificate or `user_agent`
    #[arg(long, value_parser = kind)]
    kind: BlockKind,
    /// The entity; sessions and tokens by the keyed hash that insights show
    #[arg(long)]
    entity: String,
}

#[derive(Debug, ClapArgs)]
struct Sent {
    /// Why, one sentence
    #[arg(long)]
    reason: String,
    /// How long to wait for the running pipeline
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    wait: Duration,
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text)
        .filter(|duration| !duration.is_zero())
        .ok_or("a duration above zero is expected, e.g. 30m, 1h, 7d")
}

fn kind(text: &str) -> Result<BlockKind, String> {
    BlockKind::parse(text).ok_or_else(|| {
        let known = BlockKind::ALL.map(BlockKind::as_str);
        format!("one of {} is expected", known.join(", "))
    })
}

/// Runs the command.
///
/// # Errors
/// A bad pipeline file, a store or Kafka that does not answer, an evaluator that refuses or is not there.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let settings = super::load(&args.pipeline)?;
    let unusable = |place: &str, message: String, hint: &str| {
        BadConfiguration(Unusable {
            file: args.pipeline.display().to_string(),
            problems: vec![(
                Problem {
                    place: place.to_owned(),
                    message,
                    hint: Some(hint.to_owned()),
                },
                None,
            )],
        })
    };
    let home = Home::of(&settings)?;
    let (named, sent, lasts) = match &args.action {
        Action::Show { json } => return show(&home, *json),
        Action::Export(args) => {
            let entries = home.entries(clock::now_millis())?;
            let zones = &settings.policy.zones;
            if let Some((problem, hint)) = export::unknown_zone(args, zones, &entries) {
                return Err(unusable("--zone", problem, &hint).into());
            }
            return export::run(args, entries);
        }
        Action::Add {
            entity,
            lasts,
            sent,
        } => (entity, sent, Some(*lasts)),
        Action::Withdraw { entity, sent } => (entity, sent, None),
    };
    let key = key(&settings, named)
        .map_err(|(place, message)| unusable(place, message, "see `gatewatch blocklist --help`"))?;
    let mut id = [0; 16];
    rand::fill(&mut id)?;
    let wish = match lasts {
        Some(lasts) => {
            let millis = i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX);
            let until = clock::now_millis().saturating_add(millis);
            let Some(until) = EventTime::from_millis(until) else {
                let message = "lies beyond the year 2100".to_owned();
                return Err(unusable("--for", message, "a shorter duration, e.g. 30d").into());
            };
            Wish::Block {
                rule: None,
                evidence: [].into(),
                samples: Vec::new(),
                expires_at: until.millis(),
            }
        }
        None => Wish::Withdraw,
    };
    let proposal = Proposal {
        id: hex::encode(id),
        answer: true,
        key,
        reason: sent.reason.clone(),
        wish,
    };
    let answer = home.propose(&proposal, sent.wait)?;
    super::print(&told(&answer)?)?;
    Ok(())
}

/// The key of an entity of a zone of this pipeline, or what is wrong with it and where.
fn key(settings: &Settings, named: &Named) -> Result<BlockKey, (&'static str, String)> {
    let zones: Vec<&str> = settings.policy.zones.iter().map(|zone| &*zone.id).collect();
    let zone = match (&named.zone, zones.as_slice()) {
        (Some(zone), known) if known.contains(&zone.as_str()) => zone,
        (Some(zone), _) => {
            let message = format!("{zone:?} is no zone of this pipeline: {}", zones.join(", "));
            return Err(("--zone", message));
        }
        (None, [only]) => *only,
        (None, _) => {
            return Err((
                "--zone",
                format!("is missing, and there are several: {}", zones.join(", ")),
            ));
        }
    };
    BlockKey::new(zone, named.kind, &named.entity).map_err(|form| {
        let message = format!("{:?} is not {form}", named.entity);
        ("--entity", message)
    })
}

/// An outcome in words; refusals are errors.
fn told(answer: &Answer) -> anyhow::Result<String> {
    let key = escaped(&answer.key);
    let until = answer.expires_at.as_deref().unwrap_or("its end");
    let listed = |how: &str| {
        let simulated = if answer.simulated == Some(true) {
            " (simulated: blocklist.enforce is off, so nothing is refused)"
        } else {
            ""
        };
        format!("{key} {how} until {until}{simulated}\n")
    };
    Ok(match answer.outcome.as_str() {
        "added" => listed("is listed"),
        "extended" => listed("was listed already, and is"),
        "unchanged" => format!("{key} was listed already, for at least as long\n"),
        "withdrawn" => format!("{key} is no longer listed\n"),
        "not_listed" => format!("{key} was not listed\n"),
        "allowed" => bail!(
            "{key} is not listed: blocklist.allow names it\n  hint: the allow list of the running pipeline wins over every entry"
        ),
        "full" => bail!(
            "{key} is not listed: the list is full\n  hint: withdraw entries, or raise blocklist.max of the running pipeline"
        ),
        "expired" => bail!(
            "{key} is not listed: the time was over when the evaluator read it\n  hint: do the clocks of this machine and of the evaluator agree?"
        ),
        other => bail!("{key}: the evaluator answers {other:?}, which this version does not know"),
    })
}

fn show(home: &Home<'_>, json: bool) -> anyhow::Result<()> {
    let entries = home.entries(clock::now_millis())?;
    if json {
        let array: Vec<_> = entries.iter().map(wire::entry).collect();
        super::print(&format!("{:#}\n", serde_json::Value::Array(array)))?;
    } else {
        super::print(&table(&entries))?;
    }
    Ok(())
}

fn table(entries: &[BlockEntry]) -> String {
    if entries.is_empty() {
        return "nothing is listed\n".to_owned();
    }
    let mut table = Table::new();
    table.load_style(super::table::STYLE);
    table.set_header(["zone", "kind", "entity", "until", "enforced", "reason"]);
    for entry in entries {
        let until = EventTime::from_millis(entry.expires_at);
        table.add_row([
            escaped(entry.key.zone()),
            entry.key.kind().as_str().to_owned(),
            escaped(entry.key.entity()),
            until.map_or_else(String::new, |until| until.to_string()),
            if entry.simulated { "no" } else { "yes" }.to_owned(),
            escaped(&entry.reason),
        ]);
    }
    format!("{table}\n")
}

/// Text of others without what would steer a terminal.
pub(super) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(outcome: &str, simulated: Option<bool>) -> Answer {
        Answer {
            proposal: "p".to_owned(),
            key: "z/user_agent/\u{1b}[31mcurl".to_owned(),
            outcome: outcome.to_owned(),
            simulated,
            expires_at: simulated.map(|_| "2026-11-20T09:15:30Z".to_owned()),
        }
    }

    #[test]
    fn every_outcome_has_words() {
        use crate::detect::blocklist::Outcome::{
            Added, Allowed, Expired, Extended, Full, NotListed, Unchanged, Withdrawn,
        };
        for (outcome, simulated, refused, words) in [
            (
                Added,
                Some(false),
                false,
                "is listed until 2026-11-20T09:15:30Z\n",
            ),
            (Added, Some(true), false, "blocklist.enforce is off"),
            (
                Extended,
                Some(false),
                false,
                "was listed already, and is until",
            ),
            (Unchanged, None, false, "for at least as long"),
            (Withdrawn, None, false, "is no longer listed"),
            (NotListed, None, false, "was not listed"),
            (Allowed, None, true, "blocklist.allow names it"),
            (Full, None, true, "the list is full"),
            (Expired, None, true, "the time was over"),
        ] {
            assert_eq!(outcome.refused(), refused);
            let said = told(&answer(outcome.as_str(), simulated));
            assert_eq!(said.is_err(), refused, "{outcome:?}");
            let said = said.unwrap_or_else(|error| error.to_string());
            assert!(said.contains(words), "{said}");
            assert!(
                !said.contains('\u{1b}') && said.contains("\\u{1b}"),
                "{said}"
            );
        }
    }
}
