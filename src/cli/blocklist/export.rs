//! `gatewatch blocklist … export`: the whole list in the words of a gateway, for people and for scripts.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args as ClapArgs;

use crate::clock;
use crate::detect::blocklist::Edit;
use crate::enforce::{Journal, Selection};
use crate::model::BlockEntry;
use crate::publish::exporters::Kind;

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
            fs::create_dir_all(folder).with_context(failed)?;
            for file in &rendering.files {
                fs::write(folder.join(file.name), &file.text).with_context(failed)?;
            }
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
