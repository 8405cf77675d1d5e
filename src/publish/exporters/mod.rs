//! Tells gateways the list: each exporter is a task that follows the feed and keeps one gateway's files and run-time
//! tables equal to it.
//!
//! Enters: the feed. Leaves: files replaced whole, commands run, patterns set in a running `HAProxy`. A delivery is
//! idempotent, only the newest list counts, and a target that is down is tried again with growing pauses: nobody waits for
//! an exporter. Until the list has been read once nothing is written, so that a restart never empties a gateway.

mod command;
mod files;
mod haproxy;

use std::path::PathBuf;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use thiserror::Error;

pub use files::put;
pub use haproxy::Socket;

use super::blocklist;
use super::feed::Feed;
use crate::clock;
use crate::enforce::render::{FORMATS, File, Format, Rendering};
use crate::enforce::{Selection, View};
use crate::telemetry::Metrics;

/// Longest pause between tries.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// What a list is written as.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Our own JSON, which keeps every member of an entry.
    Json,
    /// A format of gateways.
    Gateway(&'static Format),
}

impl Kind {
    /// Names of every kind.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let formats = FORMATS.iter().map(|format| format.name);
        formats.chain(["json"])
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if name == "json" {
            return Some(Self::Json);
        }
        crate::enforce::render::format(name).map(Self::Gateway)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Gateway(format) => format.name,
        }
    }

    /// Content type of its files.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Gateway(format) => format.content_type,
        }
    }

    /// The whole list as it holds at `now`.
    #[must_use]
    pub fn render(self, view: &View, selection: &Selection, now: i64) -> Rendering {
        let format = match self {
            Self::Gateway(format) => return format.render(view, selection, now),
            Self::Json => "blocklist.json",
        };
        let entries: Vec<_> = view
            .select(selection, now)
            .map(|entry| blocklist::entry(entry))
            .collect();
        let written = entries.len();
        let text = format!("{:#}\n", serde_json::Value::Array(entries));
        Rendering {
            files: vec![File::steady(format, text)],
            written,
            omitted: Vec::new(),
        }
    }
}

/// One exporter.
#[derive(Clone, Debug)]
pub struct ExporterSettings {
    /// Its name in logs and metrics.
    pub name: String,
    /// What it writes.
    pub kind: Kind,
    /// Where the files go.
    pub folder: PathBuf,
    /// Which entries.
    pub selection: Selection,
    /// Least time between two deliveries: changes that come together are one.
    pub debounce: Duration,
    /// Checks new files before they are used; empty = no check.
    pub test: Vec<String>,
    /// Makes the gateway read new files; empty = it notices by itself.
    pub reload: Vec<String>,
    /// Longest time for a command or an answer of the gateway.
    pub time_limit: Duration,
    /// The run-time interface of a running `HAProxy`.
    pub socket: Option<Socket>,
    /// The folder as `HAProxy` names it, where that differs.
    pub folder_there: Option<String>,
}

/// Why a delivery failed. It is tried again.
#[derive(Debug, Error)]
pub enum ExportError {
    /// A file cannot be written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A command did not succeed.
    #[error("`{command}` {problem}")]
    Command {
        /// The command.
        command: String,
        /// What became of it.
        problem: String,
    },
    /// The check refused the files; those of before are back.
    #[error("the new files were refused, those of before are back: {0}")]
    Refused(Box<ExportError>),
    /// `HAProxy`'s run-time interface.
    #[error("HAProxy at {socket}: {problem}")]
    HaProxy {
        /// Where it listens.
        socket: String,
        /// What is wrong.
        problem: String,
    },
}

/// Follows the feed for as long as it is polled.
pub async fn run(feed: Feed, settings: ExporterSettings, metrics: Metrics) {
    feed.wait_loaded().await;
    let mut told = feed.subscribe();
    let mut target = Target::new(settings.clone());
    let pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(MAX_PAUSE)
        .with_jitter()
        .without_max_times();
    let mut pause = pauses.build();
    loop {
        told.borrow_and_update();
        let rendering = rendered(&feed, &settings).await;
        let outcome = target.deliver(&rendering).await;
        metrics.exported(&settings.name, outcome.is_ok());
        match outcome {
            Ok(changed) => {
                pause = pauses.build();
                metrics.exported_entries(&settings.name, rendering.written, rendering.left_out());
                if changed {
                    tracing::debug!(
                        exporter = settings.name,
                        "{} entries delivered, {} left out",
                        rendering.written,
                        rendering.left_out()
                    );
                }
                target.wait(&mut told).await;
                tokio::time::sleep(settings.debounce).await;
            }
            Err(error) => {
                let next = pause.next().unwrap_or(MAX_PAUSE);
                tracing::warn!(
                    exporter = settings.name,
                    "the block list was not delivered, next try in {next:.1?}: {error}"
                );
                tokio::time::sleep(next).await;
            }
        }
    }
}

/// The list as text; a long one takes longer than a task may hold its thread.
async fn rendered(feed: &Feed, settings: &ExporterSettings) -> Rendering {
    let (view, kind, selection) = (feed.view(), settings.kind, settings.selection.clone());
    let work = move || kind.render(&view, &selection, clock::now_millis());
    let text = tokio::task::spawn_blocking(work).await;
    // Rendering does not panic, and the runtime outlives its tasks.
    text.unwrap_or_else(|_| Rendering {
        files: Vec::new(),
        written: 0,
        omitted: Vec::new(),
    })
}

/// One gateway, and what it has been told.
struct Target {
    settings: ExporterSettings,
    delivered: Option<Rendering>,
    runtime: Option<haproxy::Runtime>,
}

impl Target {
    fn new(settings: ExporterSettings) -> Self {
        let runtime = settings.socket.clone().map(|socket| {
            let folder = settings
                .folder_there
                .clone()
                .unwrap_or_else(|| settings.folder.display().to_string());
            haproxy::Runtime::new(socket, folder, settings.time_limit)
        });
        Self {
            settings,
            delivered: None,
            runtime,
        }
    }

    /// Whether anything had to be done.
    async fn deliver(&mut self, rendering: &Rendering) -> Result<bool, ExportError> {
        let last = self.delivered.as_ref();
        let changed = !last.is_some_and(|last| last.says_as(rendering));
        if changed {
            // A delivery that fails half-way is done whole the next time.
            self.delivered = None;
            let (settings, files) = (self.settings.clone(), rendering.files.clone());
            let work = tokio::task::spawn_blocking(move || files::replace(&settings, &files));
            work.await.unwrap_or_else(|_| {
                Err(ExportError::Command {
                    command: "writing".to_owned(),
                    problem: "stopped early".to_owned(),
                })
            })?;
        }
        if let Some(runtime) = &mut self.runtime {
            runtime.synchronise(&rendering.files).await?;
        }
        self.delivered = Some(rendering.clone());
        Ok(changed)
    }

    /// Waits for a change of the list; for a running gateway also until it is time to look after it.
    async fn wait(&self, told: &mut tokio::sync::watch::Receiver<u64>) {
        let change = async {
            if told.changed().await.is_err() {
                // The feed is gone, and with it whatever could change.
                std::future::pending::<()>().await;
            }
        };
        match &self.runtime {
            None => change.await,
            Some(_) => {
                // The end of the wait is the reason to look.
                let _ = tokio::time::timeout(haproxy::LOOK_AFTER, change).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
