//! Runs a command of the operator: an argument vector, never a shell, and never for longer than allowed.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::ExportError;
use crate::clock::Stopwatch;

/// How often a running command is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Most that is read of what a command says, bytes.
const SAID: u64 = 4 << 10;

/// Runs it to its end. Blocks.
pub(super) fn run(arguments: &[String], time_limit: Duration) -> Result<(), ExportError> {
    let Some((program, rest)) = arguments.split_first() else {
        return Ok(());
    };
    let failed = |problem: String| ExportError::Command {
        command: arguments.join(" "),
        problem,
    };
    let mut said = tempfile::tempfile().map_err(|error| failed(error.to_string()))?;
    let errors = said
        .try_clone()
        .map_err(|error| failed(error.to_string()))?;
    let mut child = Command::new(program)
        .args(rest)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // A file: a full pipe would hold the command up while nobody reads.
        .stderr(errors)
        .spawn()
        .map_err(|error| failed(format!("cannot be started: {error}")))?;
    let status = wait(&mut child, time_limit).map_err(|error| failed(error.to_string()))?;
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => {
            let mut words = Vec::new();
            // Without its words the status is still the reason.
            let _ = std::io::Seek::rewind(&mut said);
            let _ = said.take(SAID).read_to_end(&mut words);
            let words = String::from_utf8_lossy(&words);
            let line = words.lines().rfind(|line| !line.trim().is_empty());
            let line = line.map(|line| format!(": {}", line.escape_debug()));
            Err(failed(format!(
                "ended with {status}{}",
                line.unwrap_or_default()
            )))
        }
        None => Err(failed(format!("did not end within {time_limit:?}"))),
    }
}

/// `None` = it was over the limit and has been killed.
fn wait(
    child: &mut Child,
    time_limit: Duration,
) -> std::io::Result<Option<std::process::ExitStatus>> {
    let watch = Stopwatch::start();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if watch.elapsed() >= time_limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}
