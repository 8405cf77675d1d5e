//! `gatewatch blocklist … export`: the whole list in the words of a gateway, for people and for scripts.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args as ClapArgs;

use crate::clock;
use crate::detect::blocklist::Edit;
use crate::enforce::{Journal, Selection};
use crate::model::BlockEntry;
use crate::policy::Zone;
use crate::publish::exporters::{self, Kind};

/// What is exported, and where to.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// nginx, haproxy, envoy, crowdsec or json
    #[arg(long, value_parser = kind)]
    format: Kind,
    /// Folder for the files; standard output when left out
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Only entries of this zone; may be given more than once
    #[arg(long = "zone", value_name = "ID")]
    zones: Vec<String>,
    /// Entries that are only simulated too
    #[arg(long)]
    simulated: bool,
}

fn kind(name: &str) -> Result<Kind, String> {
    let known = || Kind::names().collect::<Vec<_>>().join(", ");
    Kind::parse(name).ok_or_else(|| format!("one of {} is expected", known()))
}

/// A zone that is asked for and that neither the pipeline nor the list knows, and those that they know: an empty list would
/// read as "nobody is refused there".
pub(super) fn unknown_zone(
    args: &Args,
    zones: &[Zone],
    entries: &[BlockEntry],
) -> Option<(String, String)> {
    let listed = entries.iter().map(|entry| entry.key.zone());
    let known: BTreeSet<&str> = zones
        .iter()
        .map(|zone| zone.id.as_str())
        .chain(listed)
        .collect();
    let mut zones = args.zones.iter();
    let unknown = zones.find(|zone| !known.contains(zone.as_str()))?;
    let known: Vec<&str> = known.into_iter().collect();
    let problem = format!("{unknown:?} is no zone of this pipeline");
    Some((problem, format!("known here: {}", known.join(", "))))
}

/// Exports these entries; says on standard error what was left out and why.
pub(super) fn run(args: &Args, entries: Vec<BlockEntry>) -> anyhow::Result<()> {
    let mut journal = Journal::new(0);
    let edits: Vec<Edit> = entries.into_iter().map(Edit::Listed).collect();
    journal.apply(&edits);
    let selection = Selection {
        zones: args.zones.clone(),
        simulated: args.simulated,
    };
    let now = clock::now_millis();
    let rendering = args.format.render(journal.view(), &selection, now);
    match &args.out {
        None => super::super::print(&rendering.concatenated())?,
        Some(folder) => {
            let failed = || format!("cannot write to {}", folder.display());
            exporters::put(folder, &rendering.files).with_context(failed)?;
        }
    }
    eprintln!("{} entries exported", rendering.written);
    for omitted in &rendering.omitted {
        let kind = omitted.kind.as_str();
        eprintln!("{} of kind {kind} left out: {}", omitted.count, omitted.why);
    }
    let simulated = Selection {
        simulated: true,
        ..selection
    };
    let listed = journal.view().select(&simulated, now);
    let skipped = listed.filter(|entry| entry.simulated).count();
    if skipped > 0 && !args.simulated {
        eprintln!("{skipped} left out: simulated, since blocklist.enforce is off");
    }
    Ok(())
}
