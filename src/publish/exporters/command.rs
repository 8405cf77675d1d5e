//! Runs a command of the operator: an argument vector, never a shell, and never for longer than allowed.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

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
    let child = start(program, rest, errors.into());
    let mut child = child.map_err(|error| failed(format!("cannot be started: {error}")))?;
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

/// Starts a command as the first of a process group of its own, so that what it starts can be ended with it.
fn start(program: &str, arguments: &[String], errors: Stdio) -> std::io::Result<Child> {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // A file: a full pipe would hold the command up while nobody reads.
        .stderr(errors)
        .process_group(0)
        .spawn()
}

/// Ends a command and whatever of its group is still there: a script that is killed alone leaves what it waits for, and
/// the next try would find it at work.
fn kill(child: &mut Child) -> std::io::Result<()> {
    let group = i32::try_from(child.id()).ok().map(Pid::from_raw);
    // It has not been waited for, so its number is still its own.
    let killed = group.map(|group| killpg(group, Signal::SIGKILL));
    if killed != Some(Ok(())) {
        child.kill()?;
    }
    child.wait()?;
    Ok(())
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
            kill(child)?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_a_command_started_ends_with_it() {
        let script = "echo started >&2; sleep 600 & wait".to_owned();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let arguments = ["-c".to_owned(), script];
        let mut child = start("sh", &arguments, writer.into()).unwrap();
        let mut word = [0; 8];
        reader.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"started\n");
        assert!(wait(&mut child, Duration::ZERO).unwrap().is_none());
        // The pipe is closed when the last one that writes to it is gone.
        let (ended, end) = mpsc::channel();
        std::thread::spawn(move || ended.send(reader.read_to_end(&mut Vec::new()).is_ok()));
        assert_eq!(end.recv_timeout(Duration::from_mins(1)), Ok(true));
    }
}
