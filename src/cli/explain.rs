//! `gatewatch explain`: judge events without storing anything; one JSON verdict per exchange (design section 10).

use std::collections::BTreeMap;
use std::io::{self, BufWriter, ErrorKind, Read, Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args as ClapArgs;
use serde::Serialize;

use super::replay;
use crate::enrich::{Judge, Judged, Shared, rulebook};
use crate::model::{Direction, Exchange, Reject, SchemaOutcome, Violation};
use crate::pipeline::{Emitted, Sink};

/// Judge events without storing anything
///
/// Prints one JSON verdict per exchange, where the record that completes it stood; unanswered requests come at the
/// end. A rejected record prints its reason and position.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Pipeline file (TOML)
    pub pipeline: PathBuf,
    /// Events to judge; "-" is standard input [default: the source of the pipeline]
    pub events: Option<PathBuf>,
}

/// Bytes of verdicts on unanswered requests kept in memory; more go to a temporary file.
const HELD: usize = 8 << 20;

/// Runs the command. A reader that closes the pipe early is fine.
///
/// # Errors
/// A bad pipeline file, or events that cannot be read.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let settings = super::load(&args.pipeline)?;
    // What a service reads is not replayed here; events come on standard input.
    let path = replay::path_of(args.events.as_deref(), &settings);
    let name = replay::name_of(path.as_deref());
    let input = replay::open(path.as_deref(), &name)?;
    // Hashes are not shown, so any key does.
    let judge = Judge::new(Arc::clone(&settings.policy), Arc::new(Shared::new(b"")));
    let _keys = replay::key_sets(&settings.policy)?;
    let mut stream = replay::stream(&settings, judge);
    let mut printer = Printer {
        name: name.clone(),
        output: BufWriter::new(io::stdout().lock()),
        unanswered: tempfile::SpooledTempFile::new(HELD),
        failed: None,
    };
    replay::read(input, settings.limits.event, &name, |chunk| {
        replay::apply(&mut stream, chunk, &mut printer);
        printer.failed.is_none()
    })?;
    stream.drain(&mut printer);
    printer.finish()
}

/// Prints verdicts; keeps those of unanswered requests for the end.
struct Printer<W: Write> {
    name: String,
    output: W,
    unanswered: tempfile::SpooledTempFile,
    failed: Option<io::Error>,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, value: &impl Serialize, last: bool) {
        let Ok(mut line) = serde_json::to_vec(value) else {
            return;
        };
        line.push(b'\n');
        let written = if last {
            self.unanswered.write_all(&line)
        } else {
            self.output.write_all(&line)
        };
        if let Err(error) = written {
            self.failed.get_or_insert(error);
        }
    }

    fn finish(mut self) -> anyhow::Result<()> {
        let mut copy = || -> io::Result<()> {
            self.unanswered.rewind()?;
            let mut buffer = vec![0; 64 << 10];
            loop {
                match self.unanswered.read(&mut buffer)? {
                    0 => break,
                    read => self
                        .output
                        .write_all(buffer.get(..read).unwrap_or_default())?,
                }
            }
            self.output.flush()
        };
        let outcome = match self.failed.take() {
            Some(error) => Err(error),
            None => copy(),
        };
        match outcome {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome.context("cannot write verdicts"),
        }
    }
}

impl<W: Write> Sink for Printer<W> {
    fn judged(
        &mut self,
        judge: &Judge,
        exchange: &Exchange<'_>,
        judged: &Judged,
        emitted: Emitted,
    ) {
        let Some(zone) = judge.policy().zones.get(judged.zone) else {
            return;
        };
        let entry = judged
            .matched
            .operation
            .and_then(|at| zone.operations.entries.get(at as usize));
        let names = &zone.sessions.names;
        let identifiers = judged
            .session
            .identifiers
            .iter()
            .filter_map(|at| names.get(usize::from(*at)));
        let tokens = zone.tokens.configurations.iter().zip(&judged.tokens).map(
            |(configuration, verdict)| {
                let reason = verdict
                    .outcome
                    .reason()
                    .map(crate::model::TokenReason::as_str);
                (
                    configuration.title.as_str(),
                    Outcome {
                        outcome: verdict.outcome.as_str(),
                        reason,
                    },
                )
            },
        );
        let side = |direction: Direction, outcome: SchemaOutcome| WireSide {
            outcome: outcome.as_str(),
            violations: judged
                .schema
                .violations
                .iter()
                .filter(|violation| violation.direction == direction)
                .map(WireViolation::new)
                .collect(),
        };
        let line = WireVerdict {
            id: exchange.id.as_deref(),
            time: exchange.at.to_string(),
            zone: &zone.id,
            method: judged.method.as_str(),
            host: &judged.host,
            path: &judged.path,
            endpoint: entry.map_or(judged.endpoint.as_str(), |entry| entry.declared.as_str()),
            operation_id: judged.operation(zone).id().to_string(),
            source: judged.source.as_str(),
            session: WireSession {
                outcome: judged.session.outcome.as_str(),
                identifiers: identifiers.map(String::as_str).collect(),
            },
            tokens: tokens.collect(),
            schema: WireSchema {
                request: side(Direction::Request, judged.schema.request),
                response: side(Direction::Response, judged.schema.response),
            },
            mtls: WireMtls {
                outcome: judged.mtls.outcome.as_str(),
                reason: judged.mtls.reason.map(crate::model::MtlsReason::as_str),
                presented: judged.mtls.presented,
                verified: judged.mtls.verified,
                revoked: judged.mtls.revoked,
            },
            rules: rulebook::verdicts(zone, judged)
                .into_iter()
                .map(|verdict| WireRule {
                    title: zone.rules.title(verdict),
                    kind: verdict.kind.as_str(),
                    value: verdict.value,
                    fires: verdict.fires,
                    action: verdict.action.as_str(),
                })
                .collect(),
        };
        self.print(&line, emitted.unanswered);
    }

    fn rejected(&mut self, reason: Reject, _: &[u8], offset: u64) {
        let position = WirePosition {
            source: self.name.clone(),
            partition: 0,
            offset,
        };
        self.print(
            &WireReject {
                rejected: reason.as_str(),
                position,
            },
            false,
        );
    }
}

#[derive(Serialize)]
struct WireReject {
    rejected: &'static str,
    position: WirePosition,
}

#[derive(Serialize)]
struct WirePosition {
    source: String,
    partition: i32,
    offset: u64,
}

#[derive(Serialize)]
struct WireVerdict<'v> {
    id: Option<&'v str>,
    time: String,
    zone: &'v str,
    method: &'static str,
    host: &'v str,
    path: &'v str,
    endpoint: &'v str,
    operation_id: String,
    source: &'static str,
    session: WireSession<'v>,
    tokens: BTreeMap<&'v str, Outcome>,
    schema: WireSchema<'v>,
    mtls: WireMtls,
    /// Every rule that was evaluated, in the order of the file; schema validation last.
    rules: Vec<WireRule<'v>>,
}

#[derive(Serialize)]
struct WireRule<'v> {
    title: &'v str,
    kind: &'static str,
    value: bool,
    fires: bool,
    action: &'static str,
}

#[derive(Serialize)]
struct WireSession<'v> {
    outcome: &'static str,
    identifiers: Vec<&'v str>,
}

#[derive(Serialize)]
struct Outcome {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

#[derive(Serialize)]
struct WireSchema<'v> {
    request: WireSide<'v>,
    response: WireSide<'v>,
}

#[derive(Serialize)]
struct WireSide<'v> {
    outcome: &'static str,
    violations: Vec<WireViolation<'v>>,
}

#[derive(Serialize)]
struct WireViolation<'v> {
    location: &'static str,
    class: &'static str,
    target: &'v str,
    schema_pointer: &'v str,
    detail: &'v str,
}

impl<'v> WireViolation<'v> {
    fn new(violation: &'v Violation) -> Self {
        Self {
            location: violation.location.as_str(),
            class: violation.class.as_str(),
            target: &violation.target,
            schema_pointer: &violation.schema_pointer,
            detail: &violation.detail,
        }
    }
}

#[derive(Serialize)]
struct WireMtls {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    presented: Option<bool>,
    verified: Option<bool>,
    revoked: Option<bool>,
}
