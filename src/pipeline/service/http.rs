//! HTTP in, ClickHouse and Kafka topics out: at least once, because a sender repeats what was not answered.
//!
//! There are no offsets to resume from, so there is no intent either: a flush is kept under a name that nobody else has,
//! retried under it until it is stored, and only then answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::edges::Edges;
use super::{GRACE, Meter, evaluate};
use crate::clock;
use crate::config::{HttpSource, KafkaPublish, Settings};
use crate::enrich::{Judge, Shared};
use crate::pipeline::evaluator::Counters;
use crate::pipeline::http;
use crate::pipeline::run::{Fault, Progress, Summary};
use crate::store::clickhouse::{self, FlushRange};
use crate::telemetry::Telemetry;

/// Runs an HTTP source into the service's store until `stop` is set.
///
/// # Errors
/// A fault; what was not answered is repeated by its senders.
pub(in crate::pipeline) async fn run_http(
    settings: Arc<Settings>,
    (source, store, publish): (&HttpSource, &clickhouse::Settings, &KafkaPublish),
    key: &[u8],
    stop: &Arc<AtomicBool>,
    telemetry: &Telemetry,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, Fault> {
    let edges = Edges::connect(&settings, (store, publish), stop, telemetry).await?;
    let Some(edges) = edges else {
        return Ok(Summary::default());
    };
    let shared = Arc::new(Shared::new(key));
    let judge = Judge::new(Arc::clone(&settings.policy), Arc::clone(&shared));
    let counters = Counters {
        metrics: telemetry.metrics.clone(),
        ..Counters::default()
    };
    let (evaluating, mut evaluated) = evaluate(&edges, &counters)?;
    let mut meter = Meter::new(counters);
    let topic = name()?;
    let mut first = 0;
    let keep = async |flush| {
        let Some(flush) = flush else {
            return Ok(());
        };
        let range = FlushRange {
            topic: topic.clone(),
            partition: 0,
            first,
            last: first + 1,
            drain: true,
        };
        first += 1;
        edges.keep(range, clock::now_millis(), flush).await?;
        meter.measure(&telemetry.metrics);
        Ok(())
    };
    let taking = http::run((&settings, source), &judge, keep, stop, telemetry, progress);
    let outcome = tokio::select! {
        outcome = taking => outcome,
        ended = &mut evaluated => Err(match ended {
            Ok(Err(fault)) => fault,
            _ => Fault::Stage("evaluating"),
        }),
    };
    evaluating.store(true, Ordering::Relaxed);
    let mut summary = outcome?;
    drop(tokio::time::timeout(GRACE, evaluated).await);
    summary.token_cache = shared.tokens.counts();
    Ok(summary)
}

/// What this process is called in tokens and in the ledger: a name that no other process has or had.
fn name() -> Result<String, Fault> {
    let mut random = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Fault::Stage("randomness"))?;
    Ok(format!("http/{}", hex::encode(random)))
}
