//! `gatewatch events`: the exchanges that were kept as evidence, asked for in the rules language.
//!
//! Enters: a pipeline file, an expression, a range of event time. Leaves: the newest exchanges for which the expression is
//! true, as a table or one JSON object a line. Rows are read newest first and let go again; no more than the answer and one
//! page are ever in memory.

mod question;
mod row;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::RecordBatch;
use clap::Args as ClapArgs;

use self::question::Question;
use self::row::Event;
use super::BadConfiguration;
use super::arguments::{parse_length, parse_time};
use crate::config::{Settings, Unusable};
use crate::model::EventTime;
use crate::store::clickhouse::{self, ClickHouse};
use crate::store::local::{self, Reader};
use crate::store::{Place, Range, StoreSettings};

/// Show exchanges that were kept as evidence
///
/// Reads the store of a pipeline, local or ClickHouse, also while `run` is at work on it. What is kept is said by the section `evidence` of
/// the pipeline file. The expression is one of the rules language; fields that may hold a credential are not stored, so they
/// cannot be asked for.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  gatewatch events shop.toml                                                   the newest of the last 24 hours
  gatewatch events shop.toml --where 'ip.src in {203.0.113.0/24}' --range 7d   what these clients did
  gatewatch events shop.toml --where 'not is_jwt_valid(\"shop issuer\") and http.response.code lt 300' --json")]
pub struct Args {
    /// Pipeline file (TOML)
    pub pipeline: PathBuf,
    /// What must be true of an exchange, in the rules language [default: everything that is kept]
    #[arg(long = "where", value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// Only this zone [default: all zones of the pipeline]
    #[arg(long, value_name = "ID")]
    pub zone: Option<String>,
    /// How much event time before the end, such as 24h or 7d
    #[arg(long, value_name = "DURATION", value_parser = parse_length, default_value = "24h", conflicts_with = "since")]
    pub range: Duration,
    /// First event time, included (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<EventTime>,
    /// End of event time, excluded (RFC 3339) [default: behind the newest exchange that is kept]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<EventTime>,
    /// Most exchanges, the newest ones
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub limit: u32,
    /// Print one JSON object a line instead of a table
    #[arg(long)]
    pub json: bool,
}

/// How often a search starts over because files were put together under it.
const ATTEMPTS: usize = 20;
/// How long a search waits for a ClickHouse that does not answer: somebody sits in front of it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of lines that are printed at once.
const PRINTED: usize = 1 << 20;

/// What a search has found so far.
struct Found {
    most: usize,
    newest: BTreeMap<Place, Event>,
    /// Rows within the range that were looked at.
    looked_at: u64,
}

impl Found {
    fn new(limit: u32) -> Self {
        Self {
            most: usize::try_from(limit).unwrap_or(usize::MAX),
            newest: BTreeMap::new(),
            looked_at: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.newest.len() >= self.most
    }

    /// Whether something of this time could be among the newest.
    fn wants(&self, time: i64) -> bool {
        let oldest = self.newest.first_key_value();
        !self.is_full() || oldest.is_none_or(|(oldest, _)| time >= oldest.time)
    }

    /// Takes the rows that the question is true of.
    fn add(&mut self, question: &Question, rows: &RecordBatch) -> anyhow::Result<()> {
        let (rows, within) = question.ask(rows)?;
        self.looked_at += within;
        let row = row::Rows::new(&rows)?;
        for at in 0..rows.num_rows() {
            let place = row.place(at);
            let older = self.newest.first_key_value();
            if self.is_full() && older.is_some_and(|(oldest, _)| place <= *oldest) {
                continue;
            }
            self.newest.insert(place, row.event(at));
            if self.newest.len() > self.most {
                self.newest.pop_first();
            }
        }
        Ok(())
    }
}

/// What the command line asks for and cannot have; exits with 64.
fn unusable(place: &str, message: String, hint: &str) -> BadConfiguration {
    let problem = Unusable::one(
        "the command line".to_owned(),
        place.to_owned(),
        message,
        hint,
    );
    BadConfiguration(problem)
}

/// Runs the command.
///
/// # Errors
/// A bad pipeline file or expression, or a store that cannot be read.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let settings = super::load(&args.pipeline)?;
    let question = Question::compile(&settings.policy, args)?;
    if let (Some(since), Some(until)) = (args.since, args.until)
        && since >= until
    {
        let message = format!("{since} is not before {until}");
        return Err(unusable("--since", message, "nothing lies between them").into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let found = match &settings.store {
        StoreSettings::Local(folder) => in_local(folder, question, args)?,
        StoreSettings::ClickHouse(store) => {
            runtime.block_on(in_clickhouse(store, &settings, question, args))?
        }
    };
    let Some((found, range)) = found else {
        let nothing = format!("no evidence is stored\n{}\n", nothing_hint(&settings));
        return say_nothing(args, &nothing);
    };
    if found.newest.is_empty() {
        let nothing = table::nothing(found.looked_at, range);
        return say_nothing(args, &nothing);
    }
    if !args.json {
        let names = settings.policy.zones.iter();
        let names = names.map(|zone| (zone.id.as_str(), zone.name.as_str()));
        let events = found.newest.values().rev();
        let text = table::text(events, &names.collect(), range, found.is_full());
        return Ok(super::print(&text)?);
    }
    let mut lines = String::new();
    for event in found.newest.values().rev() {
        lines.push_str(&serde_json::to_string(event)?);
        lines.push('\n');
        if lines.len() >= PRINTED {
            super::print(&lines)?;
            lines.clear();
        }
    }
    super::print(&lines)?;
    Ok(())
}

/// Standard output is for rows when a program reads it.
fn say_nothing(args: &Args, text: &str) -> anyhow::Result<()> {
    if args.json {
        eprint!("{text}");
        return Ok(());
    }
    super::print(text)?;
    Ok(())
}

fn nothing_hint(settings: &Settings) -> &'static str {
    if settings.evidence.enabled {
        "hint: `gatewatch run PIPELINE.toml` keeps the exchanges that break a rule or a schema, and a sample of the others"
    } else {
        "hint: nothing is kept unless the pipeline file has a section [evidence]"
    }
}

/// The range of the command line, where the newest exchange that is kept is this one.
fn range(args: &Args, newest: i64) -> Range {
    let to = args
        .until
        .map_or(newest.saturating_add(1), EventTime::millis);
    let length = i64::try_from(args.range.as_millis()).unwrap_or(i64::MAX);
    Range {
        from: args
            .since
            .map_or(to.saturating_sub(length), EventTime::millis),
        to,
    }
}

/// What was found with the range that was searched; `None` when nothing at all is stored.
type Searched = Option<(Found, Range)>;

fn in_local(folder: &Path, mut question: Question, args: &Args) -> anyhow::Result<Searched> {
    let mut attempts = 0;
    loop {
        let Some(reader) = Reader::open(folder)? else {
            return Ok(None);
        };
        let Some(newest) = reader.newest_event() else {
            return Ok(None);
        };
        attempts += 1;
        let range = range(args, newest);
        question.within(range)?;
        let found = std::cell::RefCell::new(Found::new(args.limit));
        let searched = reader.events(
            range,
            question.columns(),
            |newest| found.borrow().wants(newest),
            |rows| found.borrow_mut().add(&question, &rows),
        );
        match searched {
            Ok(()) => return Ok(Some((found.into_inner(), range))),
            Err(error) => {
                let store = error.downcast_ref::<local::StoreError>();
                let compacted = store.is_some_and(local::StoreError::compacted_away);
                // A run beside us has put files together; everything is read anew.
                if !compacted || attempts >= ATTEMPTS {
                    return Err(error);
                }
            }
        }
    }
}

async fn in_clickhouse(
    store: &clickhouse::Settings,
    settings: &Settings,
    mut question: Question,
    args: &Args,
) -> anyhow::Result<Searched> {
    let patient = clickhouse::Settings {
        deadline: store.deadline.min(PATIENCE),
        ..store.clone()
    };
    let Some(store) = ClickHouse::open_to_read(&patient, &settings.name).await? else {
        return Ok(None);
    };
    let store = store.with_zones(settings.policy.zones.iter().map(|zone| zone.id.as_str()));
    let Some(newest) = store.newest_event().await? else {
        return Ok(None);
    };
    let range = range(args, newest);
    question.within(range)?;
    let mut found = Found::new(args.limit);
    let mut last: Option<Place> = None;
    loop {
        let page = store
            .events(range, question.columns(), last.as_ref())
            .await?;
        last = None;
        for rows in &page {
            let read = row::Rows::new(rows)?;
            last = rows.num_rows().checked_sub(1).map(|at| read.place(at));
            found.add(&question, rows)?;
        }
        // Pages come newest first, so nothing further on is newer than what was found.
        if last.is_none() || found.is_full() {
            return Ok(Some((found, range)));
        }
    }
}
