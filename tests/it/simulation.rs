//! Splitting the input into any batches gives the same sums: seeded, without threads or wall time.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gatewatch::cli::report::{Span, compute};
use gatewatch::config::{self, PublishSettings, Settings, SourceKind};
use gatewatch::correlate::JoinState;
use gatewatch::enrich::{Judge, Shared};
use gatewatch::model::EventTime;
use gatewatch::pipeline::commit::Identity;
use gatewatch::pipeline::{Committer, Partition, Stream, keeping};
use gatewatch::publish::feed::Feed;
use gatewatch::source::file::Input;
use gatewatch::store::StoreSettings;
use gatewatch::traffic::{Scenario, Truth};

use crate::command::pipeline;
use crate::events::kept;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// Reads the log of a pipeline in flushes of random sizes; after some of them the process "dies" and the next one goes
/// on from the store.
async fn simulate(settings: &Settings, random: &mut Random, most: usize, crashes: bool) {
    let (SourceKind::File(file), StoreSettings::Local(store), PublishSettings::File(topics)) =
        (&settings.source.kind, &settings.store, &settings.publish)
    else {
        panic!("the scenario is embedded");
    };
    let log = fs::read(file.path.as_ref().unwrap()).unwrap();
    let lines: Vec<(usize, usize)> = {
        let ends = log
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n')
            .map(|(at, _)| at + 1);
        let mut start = 0;
        ends.map(|end| (std::mem::replace(&mut start, end), end))
            .collect()
    };
    'process: loop {
        let mut committer = Committer::open(settings, store, topics, &Feed::new())
            .await
            .unwrap();
        let input = Input::open(file.path.as_deref()).unwrap();
        let (fingerprint, checkpoint) = match committer.checkpoint(&input) {
            Some((fingerprint, checkpoint)) => (fingerprint, checkpoint),
            None => (
                input.fingerprint(None).unwrap(),
                gatewatch::store::local::Checkpoint::default(),
            ),
        };
        let join = JoinState {
            from: checkpoint.from,
            clock: checkpoint.clock.and_then(EventTime::from_nanos),
            closed: checkpoint.closed,
        };
        let judge = Judge::new(
            Arc::clone(&settings.policy),
            Arc::new(Shared::new(b"simulation")),
        );
        let adapter = settings.source.adapter.clone();
        let stream = Stream::new(
            adapter,
            settings.limits,
            settings.correlate,
            judge.clone(),
            &join,
            checkpoint.end,
        );
        let mut partition = Partition::new(stream, &judge, ("log", 0), checkpoint.end, false)
            .keeping(keeping(&settings.evidence), &judge);
        let identity = Identity {
            fingerprint: Some(fingerprint),
            name: "log".to_owned(),
            outgrown: None,
        };
        let mut left = 1 + random.below(most);
        for (start, end) in &lines {
            if *start < usize::try_from(join.from).unwrap() {
                continue;
            }
            partition.apply(&log[*start..*end], *start as u64, *end as u64, None);
            left -= 1;
            if left == 0 {
                left = 1 + random.below(most);
                if crashes && random.below(4) == 0 {
                    // What was judged and not stored is gone with the process.
                    continue 'process;
                }
                committer
                    .flush(&identity, partition.take().unwrap())
                    .await
                    .unwrap();
                if crashes && random.below(8) == 0 {
                    continue 'process;
                }
            }
        }
        partition.drain();
        committer
            .flush(&identity, partition.take().unwrap())
            .await
            .unwrap();
        committer.finish(None).await.unwrap();
        break;
    }
}

/// A pipeline that keeps evidence, and the truth about its traffic.
fn keeping_evidence(folder: &Path, scenario: &Scenario, events: u64) -> (PathBuf, Truth) {
    let (path, truth) = pipeline(folder, scenario, 11, events, 40);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}\n[evidence]\nsample = 0.2\n")).unwrap();
    (path, truth)
}

fn settings(path: &Path) -> Settings {
    config::load(path).unwrap()
}

fn check(settings: &Settings, truth: &Truth, what: &str) {
    for (span, range) in [
        (Span::Day, gatewatch::traffic::Range::Day),
        (Span::Week, gatewatch::traffic::Range::Week),
    ] {
        let report = compute(settings, span, None)
            .unwrap()
            .to_json(&settings.policy)
            .unwrap();
        assert_eq!(report, truth.report(range), "{what}");
    }
}

#[test]
fn any_split_into_batches_gives_the_known_truth() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut random = Random(1);
    let mut evidence = None;
    for most in [1, 7, 60, 700, 5_000] {
        // One record per flush is 2,000 flushes; a shorter log shows the same.
        let folder = tempfile::tempdir().unwrap();
        let events = if most == 1 { 120 } else { 1_500 };
        let (path, truth) = keeping_evidence(folder.path(), &Scenario::everything(), events);
        let settings = settings(&path);
        runtime.block_on(simulate(&settings, &mut random, most, false));
        check(
            &settings,
            &truth,
            &format!("flushes of up to {most} records"),
        );
        let found = kept(&path, &[]);
        assert!(found.len() > usize::try_from(events / 10).unwrap());
        if events == 1_500 {
            let first = evidence.get_or_insert_with(|| found.clone());
            assert_eq!(found, *first, "evidence in flushes of up to {most} records");
        }
    }
}

#[test]
fn crashes_between_and_within_flushes_change_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut evidence = None;
    for seed in 0..4 {
        let folder = tempfile::tempdir().unwrap();
        let (path, truth) = keeping_evidence(folder.path(), &Scenario::everything(), 1_500);
        let settings = settings(&path);
        runtime.block_on(simulate(&settings, &mut Random(seed), 300, true));
        check(&settings, &truth, &format!("crashes, seed {seed}"));
        let found = kept(&path, &[]);
        assert!(found.len() > 300);
        let first = evidence.get_or_insert_with(|| found.clone());
        assert_eq!(found, *first, "evidence after crashes, seed {seed}");
    }
}
