//! One partition from its assignment to its revocation: where it goes on, and the five steps of every flush (design
//! section 6): intent, rows, publications, ledger, commit.
//!
//! Dropping the task at any point is safe: whoever owns the partition next finds the intent and repeats exactly that
//! range under the same tokens.

use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::mark::{Intent, Mark};
use super::resume::{Resume, Stuck, resume};
use super::worker::{Cut, Opening, Work};
use super::{Service, ServiceFault};
use crate::clock::{self, Stopwatch};
use crate::config::{Gap, Start};
use crate::pipeline::partition::{Partition, keeping};
use crate::pipeline::stream::Stream;
use crate::source::kafka::{Assignment, Lease, Refused, Request};
use crate::store::clickhouse::FlushRange;
use crate::telemetry::{Part, Stage};

/// How partitions of a topic start and what happens to gaps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub(super) start: Start,
    pub(super) on_gap: Gap,
}

/// Owns a partition until the assignment ends.
pub(super) async fn own(
    service: Arc<Service>,
    assignment: Assignment,
    policy: Policy,
) -> Result<(), ServiceFault> {
    let lease = assignment.lease.clone();
    let at = &lease.at;
    let ledger = service.edges.store.ledger(&at.topic, at.partition);
    let ledger = service.edges.told(Part::Store, ledger).await?;
    let found = resume(&assignment, ledger.as_ref(), policy.start, policy.on_gap)
        .map_err(|stuck| stuck_fault(&lease, &stuck))?;
    if let Some(note) = found.note {
        tracing::warn!("{at}: {note}");
    }
    if let Some(lost) = found.lost {
        let records = lost.records;
        service.edges.count(|summary| summary.lost += records);
        service.edges.telemetry.metrics.gap(records);
        tracing::warn!(
            "{at}: records {} to {} are gone before they were read; going on (on_gap = \"continue\")",
            lost.from,
            lost.to
        );
    }
    if let Some(intent) = found.repeat {
        let range = range(&lease, (found.first, intent.end), intent.drain);
        service
            .edges
            .within_deduplication(&range, intent.at)
            .await?;
    }
    tracing::info!(
        "{at}: going on at {}{}",
        found.first,
        if found.repeat.is_some() {
            ", repeating an unfinished flush"
        } else {
            ""
        }
    );
    if assignment.committed.is_none() && ledger.is_none() {
        // Decided once: whoever takes over before the first flush must not decide again, at another end of the topic.
        let metadata = Mark::done(&found.join)
            .encode()
            .map_err(ServiceFault::Mark)?;
        if service.requests.commit(&lease, found.first, metadata).await == Err(Refused) {
            return Ok(());
        }
    }
    let cuts = open(&service, &lease, found);
    write_all(&service, &lease, cuts).await
}

/// Hands the partition to its judging thread and starts reading it.
fn open(service: &Arc<Service>, lease: &Lease, found: Resume) -> UnboundedReceiver<Cut> {
    let settings = &service.edges.settings;
    let stream = Stream::new(
        settings.source.adapter.clone(),
        settings.limits,
        settings.correlate,
        service.judge.clone(),
        &found.join,
        found.first,
    )
    .limited(settings.verifications);
    let partition = Partition::new(
        stream,
        &service.judge,
        (&lease.at.topic, lease.at.partition),
        found.first,
        settings.dead_letter_bytes,
    )
    .keeping(keeping(&settings.evidence), &service.judge)
    .sparing(&settings.block_list.allow);
    let (flushes, cuts) = unbounded_channel();
    let end = found.repeat.map_or(found.first, |intent| intent.end);
    let request = Request::Start {
        lease: lease.clone(),
        from: found.join.from,
        reach: end.max(found.first),
    };
    let opening = Opening {
        lease: lease.clone(),
        partition,
        first: found.first,
        join: found.join,
        repeat: found.repeat,
        flushes,
    };
    service.workers.send(lease, Work::Open(Box::new(opening)));
    service.requests.send(request);
    cuts
}

/// Writes flushes, one after the other, until the assignment ends.
async fn write_all(
    service: &Arc<Service>,
    lease: &Lease,
    mut cuts: UnboundedReceiver<Cut>,
) -> Result<(), ServiceFault> {
    while let Some(cut) = cuts.recv().await {
        match write(service, lease, cut).await {
            Ok(()) => service.workers.send(lease, Work::Stored(lease.clone())),
            Err(Ended::Refused) => return Ok(()),
            Err(Ended::Fault(fault)) => return Err(fault),
        }
    }
    Ok(())
}

/// Why the writing of a flush ended early.
enum Ended {
    /// The partition is somebody else's now.
    Refused,
    Fault(ServiceFault),
}

impl<E: Into<ServiceFault>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

impl From<Refused> for Ended {
    fn from(_: Refused) -> Self {
        Self::Refused
    }
}

/// The five steps.
async fn write(service: &Arc<Service>, lease: &Lease, cut: Cut) -> Result<(), Ended> {
    let Cut {
        first,
        last,
        drain,
        begun,
        before,
        flush,
    } = cut;
    let at = &lease.at;
    let range = range(lease, (first, last), drain);
    // A repeated flush stays as old as it was first begun: that is what deduplication is measured against.
    let begun_at = begun.unwrap_or_else(clock::now_millis);
    // 1. Intent: from here on, this range and no other.
    let intent = Mark {
        join: before,
        closed_elsewhere: false,
        intent: Some(Intent {
            end: last,
            drain,
            at: begun_at,
        }),
    };
    let metadata = intent.encode().map_err(ServiceFault::Mark)?;
    service.requests.commit(lease, first, metadata).await?;
    // 2 to 4. Rows, publications, ledger.
    let metrics = &service.edges.telemetry.metrics;
    let (halves, bytes) = flush.open;
    let after = service.edges.keep(range, begun_at, flush).await?;
    metrics.join(&at.topic, at.partition, halves, bytes);
    let watch = Stopwatch::start();
    // 5. Commit.
    let metadata = Mark::done(&after).encode().map_err(ServiceFault::Mark)?;
    service.requests.commit(lease, last, metadata).await?;
    metrics.took(Stage::Commit, watch.elapsed());
    Ok(())
}

fn range(lease: &Lease, (first, last): (u64, u64), drain: bool) -> FlushRange {
    FlushRange {
        topic: lease.at.topic.to_string(),
        partition: lease.at.partition,
        first,
        last,
        drain,
    }
}

fn stuck_fault(lease: &Lease, stuck: &Stuck) -> ServiceFault {
    let at = lease.at.to_string();
    match *stuck {
        Stuck::Gap(lost) => ServiceFault::Gap {
            at,
            from: lost.from,
            to: lost.to,
        },
        Stuck::Beyond { position, high } => ServiceFault::Beyond { at, position, high },
        Stuck::NoLedger(offset) => ServiceFault::NoLedger { at, offset },
    }
}
