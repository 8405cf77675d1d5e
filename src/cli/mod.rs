//! One file per subcommand, thin: parse, call, print.

mod arguments;
pub mod backtest;
pub mod blocklist;
pub mod check;
pub mod demo;
pub mod events;
pub mod explain;
pub mod generate;
pub mod migrate;
pub mod repair;
mod replay;
pub mod report;
pub mod run;
pub mod table;

use std::fmt;
use std::io::Write as _;

use crate::config::{Settings, Unusable};

/// The pipeline file cannot be used; exits with 64.
#[derive(Debug)]
pub struct BadConfiguration(pub Unusable);

impl fmt::Display for BadConfiguration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for BadConfiguration {}

/// Loads a pipeline file and says its warnings on standard error.
///
/// # Errors
/// [`BadConfiguration`] with every problem.
pub fn load(pipeline: &std::path::Path) -> Result<Settings, BadConfiguration> {
    let settings = crate::config::load(pipeline).map_err(BadConfiguration)?;
    for warning in &settings.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(settings)
}

/// Prints to standard output. A reader that has gone away has seen enough.
///
/// # Errors
/// What the system says.
pub fn print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// A number with separators: 1234567 → 1,234,567.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
