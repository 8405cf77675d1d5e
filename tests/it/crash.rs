//! Killing `run` at any instant and running again gives the same store; so does running twice.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use gatewatch::clock::Stopwatch;
use gatewatch::traffic::Scenario;

use crate::command::{command, output, pipeline, reports, succeeds, topic};
use crate::events::kept;

/// Flushes every few milliseconds, so that a kill falls into every step of one.
fn many_flushes(pipeline: &Path) {
    let text = fs::read_to_string(pipeline).unwrap();
    assert!(
        !text.contains("[window]"),
        "the scenario sets no flush interval"
    );
    fs::write(
        pipeline,
        format!("{text}\n[window]\nflush_every = \"20ms\"\n"),
    )
    .unwrap();
}

/// Has evidence kept, of which some exchanges are wrong and some are a sample.
fn keep_evidence(pipeline: &Path) {
    let text = fs::read_to_string(pipeline).unwrap();
    fs::write(pipeline, format!("{text}\n[evidence]\nsample = 0.1\n")).unwrap();
}

/// Everything that is kept as evidence, without the folder of the pipeline.
fn evidence(pipeline: &Path) -> Vec<String> {
    let events = kept(pipeline, &[]);
    let folder = pipeline.parent().unwrap().display().to_string();
    let lines = events
        .iter()
        .map(|event| event.to_string().replace(&folder, ""));
    lines.collect()
}

/// Both reports, and the events of every topic in order.
fn everything(pipeline: &Path) -> (String, Vec<Vec<String>>) {
    let topics = ["labels", "insights", "deadletter"]
        .map(|name| topic(pipeline, name))
        .to_vec();
    (reports(pipeline), topics)
}

#[test]
fn running_the_same_input_twice_counts_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let (pipeline, _) = pipeline(folder.path(), &Scenario::everything(), 5, 3_000, 40);
    keep_evidence(&pipeline);
    let path = pipeline.to_str().unwrap();
    succeeds(&["run", path]);
    let (first, first_evidence) = (everything(&pipeline), evidence(&pipeline));
    assert!(first_evidence.len() > 300, "{}", first_evidence.len());
    succeeds(&["run", path]);
    assert_eq!(everything(&pipeline), first);
    assert_eq!(evidence(&pipeline), first_evidence);

    // The same bytes under another name and packed are the same input.
    let text = fs::read(folder.path().join("traffic.ndjson")).unwrap();
    fs::write(
        folder.path().join("renamed.zst"),
        zstd::encode_all(text.as_slice(), 1).unwrap(),
    )
    .unwrap();
    let changed = fs::read_to_string(&pipeline)
        .unwrap()
        .replace("traffic.ndjson", "renamed.zst");
    fs::write(&pipeline, changed).unwrap();
    succeeds(&["run", path]);
    assert_eq!(everything(&pipeline), first);
    assert_eq!(evidence(&pipeline), first_evidence);
}

#[test]
fn a_run_killed_twenty_times_gives_the_same_store() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = Scenario::everything();
    let (whole, _) = pipeline(&folder.path().join("whole"), &scenario, 6, 8_000, 40);
    let (killed, _) = pipeline(&folder.path().join("killed"), &scenario, 6, 8_000, 40);
    for pipeline in [&whole, &killed] {
        many_flushes(pipeline);
        keep_evidence(pipeline);
        // Which exchanges are sampled depends on the key, which each store would make for itself.
        let text = fs::read_to_string(pipeline).unwrap();
        fs::write(
            pipeline,
            format!("{text}\n[privacy]\nhash_key = {{ file = \"hash.key\" }}\n"),
        )
        .unwrap();
        fs::write(
            pipeline.with_file_name("hash.key"),
            "0123456789abcdef0123456789abcdef",
        )
        .unwrap();
    }
    let watch = Stopwatch::start();
    succeeds(&["run", whole.to_str().unwrap()]);
    let one_run = watch.elapsed();

    // Twenty kills, each at a random share of the time that a whole run takes. A run that was faster than its kill has
    // finished the input, so the store starts over: every kill hits a run at work, on a fast machine and a slow one.
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut kills = 0;
    while kills < 20 {
        let mut child = command(&["run", killed.to_str().unwrap()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        std::thread::sleep(one_run.mul_f64((random >> 33) as f64 / f64::from(1_u32 << 31)));
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            fs::remove_dir_all(killed.parent().unwrap().join("data")).unwrap();
        } else {
            kills += 1;
        }
    }
    succeeds(&["run", killed.to_str().unwrap()]);

    let folder_of = |pipeline: &Path| pipeline.parent().unwrap().display().to_string();
    let (reports, topics) = everything(&whole);
    let (killed_reports, killed_topics) = everything(&killed);
    assert_eq!(killed_reports, reports);
    let kept_by_whole = evidence(&whole);
    assert!(kept_by_whole.len() > 800, "{}", kept_by_whole.len());
    assert_eq!(evidence(&killed), kept_by_whole);
    // Which tick a late event still reaches depends on where flushes end, so the events of a replay are compared as
    // what they leave behind; none may appear twice.
    for (name, lines) in ["labels", "insights", "deadletter"]
        .iter()
        .zip(&killed_topics)
    {
        let mut unique = lines.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), lines.len(), "{name} has an event twice");
    }
    let letters = |lines: &[Vec<String>], folder: &str| -> Vec<String> {
        lines[2]
            .iter()
            .map(|line| line.replace(folder, ""))
            .map(|line| data(&line))
            .collect()
    };
    assert_eq!(
        letters(&killed_topics, &folder_of(&killed)),
        letters(&topics, &folder_of(&whole)),
        "dead letters"
    );
    assert_eq!(
        state(&killed_topics[0]),
        state(&topics[0]),
        "labels at the end"
    );
    assert_eq!(
        state(&killed_topics[1]),
        state(&topics[1]),
        "insights at the end"
    );
}

/// The `data` of an event as text.
fn data(line: &str) -> String {
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    event["data"].to_string()
}

/// What holds after the last event of a topic: (subject, name) pairs.
fn state(lines: &[String]) -> Vec<(String, String)> {
    let mut holds = std::collections::BTreeSet::new();
    for line in lines {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = event
            .pointer("/data/label")
            .or(event.pointer("/data/finding_info/types/0"));
        let key = (event["subject"].to_string(), name.unwrap().to_string());
        let kind = event["type"].as_str().unwrap();
        if kind.ends_with(".applied") || kind.ends_with(".opened") {
            assert!(holds.insert(key), "applied twice: {line}");
        } else {
            assert!(holds.remove(&key), "cleared though it did not hold: {line}");
        }
    }
    holds.into_iter().collect()
}

#[test]
fn a_full_disk_ends_the_run_and_a_restart_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, _) = pipeline(
        &folder.path().join("whole"),
        &Scenario::everything(),
        7,
        2_000,
        40,
    );
    succeeds(&["run", whole.to_str().unwrap()]);
    let (full, _) = pipeline(
        &folder.path().join("full"),
        &Scenario::everything(),
        7,
        2_000,
        40,
    );
    many_flushes(&full);
    // A limit on the size of files is how a test makes the disk refuse: writes fail with EFBIG in the middle of a flush.
    let limited = std::process::Command::new("bash")
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" run \"$1\""])
        .arg(env!("CARGO_BIN_EXE_gatewatch"))
        .arg(&full)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&limited.stderr);
    assert_eq!(limited.status.code(), Some(1), "{errors}");
    assert!(errors.contains("File too large"), "{errors}");
    succeeds(&["run", full.to_str().unwrap()]);
    assert_eq!(reports(&full), reports(&whole));
}

#[test]
fn two_runs_cannot_share_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let (pipeline, _) = pipeline(folder.path(), &Scenario::demo(), 8, 100, 1);
    let store = gatewatch::store::local::LocalStore::open(&folder.path().join("data"), "demo");
    // The name of the pipeline does not matter: the lock is taken before anything is read.
    let held = store.unwrap();
    let second = output(&["run", pipeline.to_str().unwrap()]);
    drop(held);
    let errors = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("another run is using the store") && errors.contains("hint:"),
        "{errors}"
    );
}
