//! `gatewatch migrate`: create or upgrade the ClickHouse tables of a pipeline.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use crate::store::StoreSettings;
use crate::store::clickhouse::{ClickHouse, definitions_of};

/// Create or upgrade the ClickHouse tables
///
/// Makes the database when it is missing, applies the migrations it has not seen, and brings the retention of the tables
/// in line with the pipeline file. Repeating it changes nothing.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Pipeline file (TOML)
    pub pipeline: PathBuf,
    /// Print every statement instead, for somebody else to review and run; nothing is sent
    #[arg(long)]
    pub print: bool,
}

/// Runs the command.
///
/// # Errors
/// A bad pipeline file, a ClickHouse that refuses or does not answer, tables of a newer version.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let settings = super::load(&args.pipeline)?;
    let StoreSettings::ClickHouse(store) = &settings.store else {
        super::print("the local store has no tables to migrate\n")?;
        return Ok(());
    };
    if args.print {
        let statements = definitions_of(store);
        super::print(&format!("{};\n", statements.join(";\n\n")))?;
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let applied = runtime.block_on(ClickHouse::migrate(store))?;
    let mut text = String::new();
    for name in &applied {
        text.push_str("applied ");
        text.push_str(name);
        text.push('\n');
    }
    if applied.is_empty() {
        text.push_str("nothing to do, the tables are up to date\n");
    }
    super::print(&text)?;
    Ok(())
}
