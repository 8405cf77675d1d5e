//! Keeps the ACL tables of a running `HAProxy` equal to the files, through its run-time interface ("stats socket").
//!
//! Enters: the files. Leaves: `add acl` and `del acl` for the differences, or a new version of the table that is committed
//! at once where most of it changes. `HAProxy` loads the files when it starts; a restart is seen by its process id, and
//! then the tables are read and compared again. Patterns have no blank, `;` or quote: see the format's own module. Which tables
//! are ours is said by [`tables`].

mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use self::tables::{escaped, named};
use super::ExportError;
use crate::clock::Stopwatch;
use crate::enforce::render::File;

/// How often a running `HAProxy` is looked after although the list has not changed.
pub(super) const LOOK_AFTER: Duration = Duration::from_secs(5);
/// How often tables are read back although every change was acknowledged.
const COMPARE_EVERY: Duration = Duration::from_mins(1);
/// Longest line of commands, bytes: half of `HAProxy`'s default buffer (`tune.bufsize`).
const LINE: usize = 8 << 10;
/// Most changes that are made one by one; above, the table gets a new version.
const ONE_BY_ONE: usize = 2_000;
/// Longest answer that is read, bytes: a table of a million patterns.
const ANSWER: u64 = 64 << 20;

/// Where the run-time interface listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Socket {
    /// A Unix socket.
    Unix(PathBuf),
    /// An address.
    Tcp(SocketAddr),
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// A running `HAProxy`, and what its tables hold as far as is known.
pub(super) struct Runtime {
    socket: Socket,
    folder: String,
    time_limit: Duration,
    /// Process id and start of the one that was compared last.
    process: Option<String>,
    /// What each table holds: the file that it is to follow, and its patterns, by its name in `HAProxy`.
    tables: BTreeMap<String, (&'static str, BTreeSet<String>)>,
    compared: Stopwatch,
}

impl Runtime {
    pub(super) fn new(socket: Socket, folder: String, time_limit: Duration) -> Self {
        Self {
            socket,
            folder,
            time_limit,
            process: None,
            tables: BTreeMap::new(),
            compared: Stopwatch::start(),
        }
    }

    /// Makes the tables hold what the files hold.
    pub(super) async fn synchronise(&mut self, files: &[File]) -> Result<(), ExportError> {
        let outcome = self.try_to_synchronise(files).await;
        if outcome.is_err() {
            // What was done is not known: look again before the next change.
            self.process = None;
        }
        outcome
    }

    async fn try_to_synchronise(&mut self, files: &[File]) -> Result<(), ExportError> {
        let process = self.identify().await?;
        let stale =
            self.process.as_ref() != Some(&process) || self.compared.elapsed() > COMPARE_EVERY;
        if stale {
            self.read_tables(files).await?;
        }
        let mut changed = false;
        let mut tables = std::mem::take(&mut self.tables);
        for (name, (follows, held)) in &mut tables {
            let wanted = wanted(files, follows);
            if *held != wanted {
                self.change(name, held, &wanted).await?;
                *held = wanted;
                changed = true;
            }
        }
        self.tables = tables;
        if changed && stale {
            // The first comparison with a process is checked by a second one.
            self.read_tables(files).await?;
            for (name, (follows, held)) in &self.tables {
                if *held != wanted(files, follows) {
                    let problem = format!("{name} does not hold what was set");
                    return Err(self.error(problem));
                }
            }
        }
        self.process = Some(process);
        Ok(())
    }

    /// Process id and start time.
    async fn identify(&self) -> Result<String, ExportError> {
        let said = self.ask("show info").await?;
        let line = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_owned())
        };
        match (line("Pid:"), line("Start_time_sec:")) {
            (Some(pid), start) => Ok(format!("{pid} {}", start.unwrap_or_default())),
            (None, _) => Err(self.error(format!("`show info` has no Pid: {}", brief(&said)))),
        }
    }

    /// Reads the tables of ours that it uses.
    async fn read_tables(&mut self, files: &[File]) -> Result<(), ExportError> {
        let listed = self.ask("show acl").await?;
        self.tables.clear();
        for name in listed.lines().filter_map(named) {
            let Some(file) = files
                .iter()
                .find(|file| tables::follows(name, &self.folder, file.name))
            else {
                continue;
            };
            let said = self.ask(&format!("show acl {}", escaped(name))).await?;
            let held = said
                .lines()
                .filter(|line| !line.trim().is_empty())
                .map(|line| {
                    // `0x55d1c9a1e0f0 192.0.2.1/32`
                    let pattern = line
                        .strip_prefix("0x")
                        .and_then(|line| line.split_once(' '));
                    pattern.map(|(_, pattern)| pattern.to_owned())
                });
            let held: Option<BTreeSet<String>> = held.collect();
            let held = held.ok_or_else(|| self.error(brief(&said)))?;
            self.tables.insert(name.to_owned(), (file.name, held));
        }
        if self.tables.is_empty() {
            let problem = format!(
                "its configuration uses no file of {}\n  hint: name them in its ACLs with -f, by this path",
                self.folder
            );
            return Err(self.error(problem));
        }
        self.compared = Stopwatch::start();
        Ok(())
    }

    async fn change(
        &self,
        name: &str,
        held: &BTreeSet<String>,
        wanted: &BTreeSet<String>,
    ) -> Result<(), ExportError> {
        let name = escaped(name);
        let (added, gone) = (wanted.difference(held), held.difference(wanted));
        let differences = added.clone().count() + gone.clone().count();
        if differences <= ONE_BY_ONE {
            let added = added.map(|pattern| format!("add acl {name} {pattern}"));
            let gone = gone.map(|pattern| format!("del acl {name} {pattern}"));
            return self.tell(added.chain(gone)).await;
        }
        // `New version created: 3`
        let said = self.ask(&format!("prepare acl {name}")).await?;
        let version = said
            .trim()
            .rsplit(' ')
            .next()
            .and_then(|word| word.parse::<u32>().ok());
        let version = version.ok_or_else(|| self.error(brief(&said)))?;
        let added = wanted
            .iter()
            .map(|pattern| format!("add acl @{version} {name} {pattern}"));
        self.tell(added).await?;
        self.tell(std::iter::once(format!("commit acl @{version} {name}")))
            .await
    }

    /// Gives commands that have nothing to say unless they fail.
    async fn tell(&self, commands: impl Iterator<Item = String>) -> Result<(), ExportError> {
        let mut line = String::new();
        for command in commands {
            if line.len() + command.len() + 1 > LINE {
                self.tell_line(&std::mem::take(&mut line)).await?;
            }
            if !line.is_empty() {
                line.push(';');
            }
            line.push_str(&command);
        }
        if line.is_empty() {
            return Ok(());
        }
        self.tell_line(&line).await
    }

    async fn tell_line(&self, line: &str) -> Result<(), ExportError> {
        let said = self.ask(line).await?;
        if said.trim().is_empty() {
            Ok(())
        } else {
            Err(self.error(brief(&said)))
        }
    }

    /// One line of commands on a connection of its own; `HAProxy` closes it after the answer.
    async fn ask(&self, line: &str) -> Result<String, ExportError> {
        let conversation = async {
            match &self.socket {
                Socket::Unix(path) => converse(UnixStream::connect(path).await?, line).await,
                Socket::Tcp(address) => converse(TcpStream::connect(address).await?, line).await,
            }
        };
        match timeout(self.time_limit, conversation).await {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(error)) => Err(self.error(error.to_string())),
            Err(_) => Err(self.error(format!("no answer within {:?}", self.time_limit))),
        }
    }

    fn error(&self, problem: impl Into<String>) -> ExportError {
        ExportError::HaProxy {
            socket: self.socket.to_string(),
            problem: problem.into(),
        }
    }
}

async fn converse(
    mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin,
    line: &str,
) -> std::io::Result<String> {
    stream.write_all(line.as_bytes()).await?;
    stream.write_all(b"\n").await?;
    stream.flush().await?;
    let mut said = String::new();
    stream.take(ANSWER).read_to_string(&mut said).await?;
    Ok(said)
}

/// The patterns that a table is to hold.
fn wanted(files: &[File], follows: &str) -> BTreeSet<String> {
    let file = files.iter().find(|file| file.name == follows);
    file.map(|file| patterns(&file.text)).unwrap_or_default()
}

/// The patterns of a file.
fn patterns(text: &str) -> BTreeSet<String> {
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

/// The first line of an answer, for a message.
fn brief(said: &str) -> String {
    let line = said
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("an empty answer");
    line.chars()
        .take(200)
        .collect::<String>()
        .escape_debug()
        .to_string()
}
