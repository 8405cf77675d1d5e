//! `gatewatch check`: validate a pipeline file and every file it names, without running anything.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args as ClapArgs;

/// Validate a pipeline file without running it
///
/// Reads the file and everything it names (schemas, key sets, certificates) and reports every problem at once.
/// Exit code 64 when there is one.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Pipeline file (TOML)
    pub pipeline: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// Every problem of the file.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let settings = super::load(&args.pipeline)?;
    let mut text = format!("{}: no problems\n", args.pipeline.display());
    for zone in &settings.policy.zones {
        let counted = |number: usize, what: &str| {
            format!("{number} {what}{}", if number == 1 { "" } else { "s" })
        };
        let _ = writeln!(
            text,
            "  zone {} ({}): {}, {}, {}, {}",
            zone.name,
            zone.id,
            counted(zone.operations.entries.len(), "operation"),
            counted(zone.sessions.names.len(), "session identifier"),
            counted(zone.tokens.configurations.len(), "token configuration"),
            counted(zone.rules.rules.len(), "rule"),
        );
    }
    Ok(super::print(&text)?)
}
