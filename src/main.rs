//! The command: parse, log, run a subcommand, exit code.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gatewatch::cli::backtest::BadCandidates;
use gatewatch::cli::{self, BadConfiguration};
use tracing_subscriber::EnvFilter;

/// Allocations of the hot path are small and short-lived, which mimalloc serves fastest.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// API-security posture from gateway logs
///
/// Reads request and response events, judges each one (session identifier, token, API schema, client certificate),
/// adds the verdicts up per minute and endpoint, and says which endpoints answer without authentication and what else
/// somebody should look at. Start with `gatewatch demo`.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(cli::demo::Args),
    Run(cli::run::Args),
    Check(cli::check::Args),
    Report(cli::report::Args),
    Events(cli::events::Args),
    Explain(cli::explain::Args),
    Backtest(cli::backtest::Args),
    Generate(cli::generate::Args),
    Migrate(cli::migrate::Args),
    Repair(cli::repair::Args),
    Blocklist(cli::blocklist::Args),
}

/// Bad configuration or usage (sysexits.h, `EX_USAGE`).
const UNUSABLE: u8 = 64;

/// Environment variable with what is logged, such as `debug` or `warn,kafka=debug`.
const LOG: &str = "GATEWATCH_LOG";
/// What is logged without it: what services say about themselves, and the warnings of libraries.
const LOGGED: &str = "warn,gatewatch=info,kafka=info";

/// Sends the log to standard error; standard output is for data.
fn log() -> Result<(), String> {
    let words = std::env::var(LOG).unwrap_or_default();
    let words = if words.trim().is_empty() {
        LOGGED
    } else {
        words.trim()
    };
    let filter = EnvFilter::try_new(words)
        .map_err(|error| format!("{LOG}: {error}\n  hint: info, debug, warn,kafka=debug …"))?;
    tracing_subscriber::fmt()
        .compact()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are not errors; a terminal that has gone away needs no answer.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(UNUSABLE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    if let Err(problem) = log() {
        eprintln!("error: {problem}");
        return ExitCode::from(UNUSABLE);
    }
    let outcome = match &arguments.command {
        Command::Demo(args) => cli::demo::run(args),
        Command::Run(args) => cli::run::run(args),
        Command::Check(args) => cli::check::run(args),
        Command::Report(args) => cli::report::run(args),
        Command::Events(args) => cli::events::run(args),
        Command::Explain(args) => cli::explain::run(args),
        Command::Backtest(args) => cli::backtest::run(args),
        Command::Generate(args) => cli::generate::run(args),
        Command::Migrate(args) => cli::migrate::run(args),
        Command::Repair(args) => cli::repair::run(args),
        Command::Blocklist(args) => cli::blocklist::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<BadConfiguration>() || error.is::<BadCandidates>() => {
            eprintln!("error: {error}");
            ExitCode::from(UNUSABLE)
        }
        Err(error) => {
            eprintln!("error: {error}");
            // A cause that the message already quotes adds nothing.
            let mut shown = error.to_string();
            for cause in error.chain().skip(1).map(ToString::to_string) {
                if !shown.contains(&cause) {
                    eprintln!("  because {cause}");
                    shown = cause;
                }
            }
            ExitCode::FAILURE
        }
    }
}
