//! Recorded lines → judged exchanges, for the commands that store nothing.
//!
//! Enters: a file or standard input. Leaves: its lines in chunks, or applied to a stream whose sink takes the verdicts.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{channel, sync_channel};

use anyhow::{Context as _, bail};

use crate::config::{Settings, SourceKind};
use crate::correlate::JoinState;
use crate::enrich::Judge;
use crate::model::Reject;
use crate::pipeline::{Sink, Stream};
use crate::policy::Policy;
use crate::source::file::{Chunk, Event, Input, Reading};
use crate::source::jwks::{Disk, KeySets};
use crate::telemetry::Metrics;

/// Chunks of about 1 MiB read ahead.
const CHUNKS_AHEAD: usize = 4;

/// The file to read: what the user names, else the source of the pipeline. `None` = standard input, also where a service
/// reads something else.
pub(super) fn path_of(events: Option<&Path>, settings: &Settings) -> Option<PathBuf> {
    match (events, &settings.source.kind) {
        (Some(path), _) if path.as_os_str() == "-" => None,
        (Some(path), _) => Some(path.to_owned()),
        (None, SourceKind::File(file)) => file.path.clone(),
        (None, SourceKind::Kafka(_) | SourceKind::Http(_)) => None,
    }
}

/// Its name in messages.
pub(super) fn name_of(path: Option<&Path>) -> String {
    path.map_or_else(
        || "standard input".to_owned(),
        |path| path.display().to_string(),
    )
}

/// A stream that starts at the beginning.
pub(super) fn stream(settings: &Settings, judge: Judge) -> Stream {
    Stream::new(
        settings.source.adapter.clone(),
        settings.limits,
        settings.correlate,
        judge,
        &JoinState::default(),
        0,
    )
}

/// Fetches the key sets that issuers serve, once; nothing is kept on disk.
///
/// # Errors
/// An issuer does not answer: without its keys no token can be judged.
pub(super) fn key_sets(policy: &Policy) -> anyhow::Result<KeySets> {
    let keys = KeySets::start(policy, &Metrics::new(), Disk::Read)?;
    if let Err(reason) = keys.first() {
        bail!(
            "{reason}\n  hint: without its keys no token can be judged; the issuer has to answer"
        );
    }
    Ok(keys)
}

/// Reads an input to its end, or until `each` says that it has enough.
///
/// # Errors
/// What the system says.
pub(super) fn read(
    input: Input,
    max_line: usize,
    name: &str,
    mut each: impl FnMut(&Chunk) -> bool,
) -> anyhow::Result<()> {
    let (sender, receiver) = sync_channel(CHUNKS_AHEAD);
    let (spares_to, spares) = channel();
    let reading = Reading {
        from: 0,
        counted_to: 0,
        max_line,
        follow: false,
        stop: std::sync::Arc::default(),
        to: sender,
        spares,
    };
    std::thread::spawn(move || input.send(&reading));
    for event in receiver {
        match event {
            Event::Lines(chunk) => {
                if !each(&chunk) {
                    break;
                }
                // The reading thread may have ended; then nobody needs the buffer.
                let _ = spares_to.send(chunk.bytes);
            }
            Event::Failed(error) => return Err(failed(error, name)),
            Event::End { .. } => break,
        }
    }
    Ok(())
}

fn failed(error: io::Error, name: &str) -> anyhow::Error {
    anyhow::Error::new(error).context(format!("cannot read {name}"))
}

/// Opens what the user names, or the source of the pipeline.
///
/// # Errors
/// What the system says.
pub(super) fn open(path: Option<&Path>, name: &str) -> anyhow::Result<Input> {
    Input::open(path).with_context(|| format!("cannot read {name}"))
}

/// Applies the lines of a chunk.
pub(super) fn apply(stream: &mut Stream, chunk: &Chunk, sink: &mut impl Sink) {
    for line in &chunk.lines {
        if line.too_long.is_some() {
            stream.refuse(Reject::TooLarge, line.offset, line.end, sink);
        } else {
            let payload = chunk.bytes.get(line.start..line.start + line.len);
            let at = (line.offset, line.end);
            stream.apply(payload.unwrap_or_default(), at, None, sink);
        }
    }
}
