//! `gatewatch run`: the service. With a finite file source to the end, then exit 0.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::Args as ClapArgs;
use indicatif::{ProgressBar, ProgressStyle};

use super::grouped;
use crate::api::{self, Gate, Offers};
use crate::clock::Stopwatch;
use crate::config::Settings;
use crate::enrich::{Judge, Shared};
use crate::pipeline::feeding::Feeding;
use crate::pipeline::{self, Progress, Summary};
use crate::publish::feed::Feed;
use crate::telemetry::{Part, Telemetry};

/// Run a pipeline
///
/// A finite file is read to its end, then the command exits with 0. Interrupt it (Ctrl-C) or kill it at any time: the
/// next run goes on where the last stored flush ended, without losing or doubling anything.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Pipeline file (TOML)
    pub pipeline: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// A bad pipeline file, or a fault of the run.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let settings = Arc::new(super::load(&args.pipeline)?);
    let stop = stop_on_signal()?;
    let watch = Stopwatch::start();
    let summary = execute(&settings, &stop)?;
    print_summary(&summary, watch.elapsed().as_secs_f64());
    Ok(())
}

/// Runs a pipeline with a progress bar on a terminal.
///
/// # Errors
/// A fault of the run.
pub fn execute(settings: &Arc<Settings>, stop: &Arc<AtomicBool>) -> anyhow::Result<Summary> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let bar = progress_bar();
    let mut show = |progress: Progress| {
        if let Some(bar) = &bar {
            bar.set_length(progress.size);
            bar.set_position(progress.read.min(progress.size));
            bar.set_message(grouped(progress.exchanges));
        }
    };
    let telemetry = Telemetry::default();
    let outcome = runtime.block_on(async {
        let feed = Feed::new();
        let server = match &settings.api {
            Some(api) => {
                Some(api::serve(api, &telemetry, offers(settings, &feed, &telemetry)?).await?)
            }
            None => None,
        };
        let feeding = Feeding::start(settings, &feed, &telemetry);
        let outcome = pipeline::run(settings, stop, &telemetry, &feed, &mut show).await;
        telemetry.health.waits(Part::Pipeline, "stopping");
        if let Some(server) = server {
            server.stop().await;
        }
        feeding.stop().await;
        anyhow::Ok(outcome?)
    });
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    // The reading thread may be blocked on standard input; it must not hold up the exit.
    runtime.shutdown_background();
    outcome
}

/// What the server offers besides probes and metrics.
fn offers(settings: &Settings, feed: &Feed, telemetry: &Telemetry) -> anyhow::Result<Offers> {
    let gate = match &settings.check {
        Some(check) => {
            let shared = Arc::new(Shared::new(&pipeline::hash_key(settings)?));
            let judge = Judge::new(Arc::clone(&settings.policy), shared);
            let metrics = telemetry.metrics.clone();
            let mut check = check.clone();
            // Until the list is enforced nothing is refused, whichever way it would be.
            check.judge &= settings.block_list.enforce;
            check.allow.clone_from(&settings.block_list.allow);
            Some(Gate::new(feed.clone(), judge, check, metrics))
        }
        None => None,
    };
    let feeds = settings.feeds.clone();
    Ok(Offers {
        feeds: feeds.map(|settings| (feed.clone(), settings)),
        gate,
    })
}

/// A flag that Ctrl-C and SIGTERM set; the run then stores what it has and ends.
///
/// # Errors
/// The system refuses a signal handler.
pub fn stop_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            // Asked twice: the store is safe at any instant.
            std::process::exit(130);
        }
        eprintln!("stopping after the current flush; once more to stop at once");
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}

fn progress_bar() -> Option<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    let bar = ProgressBar::new(0);
    let template = "{bar:30} {bytes}/{total_bytes}  {msg} exchanges  {elapsed}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    Some(bar)
}

/// Prints what a run did on standard error, so that standard output stays free for data.
pub fn print_summary(summary: &Summary, seconds: f64) {
    let counts = &summary.counts;
    let rate = counts.exchanges as f64 / seconds.max(0.001);
    eprintln!(
        "{} exchanges from {} records in {seconds:.1} s ({rate:.0}/s)",
        grouped(counts.exchanges),
        grouped(counts.records),
    );
    if summary.resumed_at > 0 {
        eprintln!(
            "  went on at byte {} of the input; what stands before it was counted earlier",
            grouped(summary.resumed_at)
        );
    }
    if summary.stopped {
        eprintln!("  stopped before the end of the input; run it again to go on");
    }
    let refused = summary.rejected.values().sum::<u64>();
    for (count, what) in [
        (counts.unanswered, "requests without a response"),
        (counts.orphan_responses, "responses without a request"),
        (counts.unzoned, "exchanges of hosts that no zone lists"),
        (summary.lost, "records that were gone before they were read"),
        (
            summary.overflowed,
            "endpoints over a cap, counted as {overflow}",
        ),
        (
            summary.entities_overflowed,
            "entities over a cap, counted as {overflow}",
        ),
        (
            summary.events_overflowed,
            "exchanges over evidence.per_flush, counted and not kept as evidence",
        ),
        (refused, "records refused (see the deadletter topic)"),
    ] {
        if count > 0 {
            eprintln!("  {} {what}", grouped(count));
        }
    }
    for (reason, count) in &summary.rejected {
        eprintln!("    {} {reason}", grouped(*count));
    }
    for (topic, count) in &summary.published {
        if *count > 0 && *topic != "deadletter" {
            eprintln!("  {} events published to {topic}", grouped(*count));
        }
    }
}
