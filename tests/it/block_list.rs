//! The block list of an embedded pipeline: the command, with and without a run at work, and what a kill leaves of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::command::{command, output, succeeds, topic};

/// A pipeline that follows a file, with room for a kill between any two steps.
pub fn pipeline(folder: &Path, more: &str) -> String {
    let path = folder.join("pipeline.toml");
    let text = format!(
        "name = \"p\"\n[source]\npath = \"access.log\"\nfollow = true\n[window]\nflush_every = \"20ms\"\n{more}\n\
         [[zones]]\nid = \"z\"\nname = \"n\"\nhosts = [\"h.example\"]\n"
    );
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn start(pipeline: &str) -> Child {
    command(&["run", pipeline])
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Exit code, standard output, standard error of `gatewatch blocklist`.
fn asks(pipeline: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = output(&[&["blocklist", pipeline], arguments].concat());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn add(pipeline: &str, entity: &str, lasts: &str) -> (Option<i32>, String, String) {
    let what = ["add", "--kind", "ip", "--entity", entity, "--for", lasts];
    asks(pipeline, &[&what[..], &["--reason", "a test"]].concat())
}

fn withdraw(pipeline: &str, entity: &str) -> (Option<i32>, String, String) {
    let what = ["withdraw", "--kind", "ip", "--entity", entity];
    asks(pipeline, &[&what[..], &["--reason", "-"]].concat())
}

/// What `show --json` says.
pub fn shown(pipeline: &str) -> Vec<Value> {
    let text = succeeds(&["blocklist", pipeline, "show", "--json"]);
    serde_json::from_str(&text).unwrap()
}

/// Entity → revision.
fn revisions(pipeline: &str) -> BTreeMap<String, u64> {
    let one = |entry: &Value| {
        let entity = entry["entity"].as_str().unwrap().to_owned();
        (entity, entry["revision"].as_u64().unwrap())
    };
    shown(pipeline).iter().map(one).collect()
}

/// What the lines of the topic file leave behind: subject → revision. The newest line of a subject is what holds.
fn told(pipeline: &Path) -> BTreeMap<String, u64> {
    let mut holds = BTreeMap::new();
    let mut ids = std::collections::BTreeSet::new();
    for line in topic(pipeline, "blocklist") {
        let event: Value = serde_json::from_str(&line).unwrap();
        assert!(ids.insert(event["id"].to_string()), "twice: {line}");
        let subject = event["subject"].as_str().unwrap().to_owned();
        let entity = subject.rsplit('/').next().unwrap().to_owned();
        match event["type"].as_str().unwrap() {
            "gatewatch.blocklist.listed" => {
                holds.insert(entity, event["data"]["revision"].as_u64().unwrap());
            }
            "gatewatch.blocklist.ended" => {
                assert!(holds.remove(&entity).is_some(), "not listed: {line}");
            }
            other => panic!("{other}"),
        }
    }
    holds
}

/// The same answers whether somebody runs the pipeline or not.
fn answers(pipeline: &str) {
    let (code, shown, errors) = asks(pipeline, &["show"]);
    assert_eq!(
        (code, shown.as_str()),
        (Some(0), "nothing is listed\n"),
        "{errors}"
    );
    let (code, said, errors) = add(pipeline, "203.0.113.1", "1h");
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        said.starts_with("z/ip/203.0.113.1 is listed until 20"),
        "{said}"
    );
    assert!(
        said.contains("simulated: blocklist.enforce is off"),
        "{said}"
    );
    let (_, said, _) = add(pipeline, "203.0.113.1", "2h");
    assert!(said.contains("was listed already, and is until"), "{said}");
    let (_, said, _) = add(pipeline, "203.0.113.1", "1h");
    assert!(said.contains("for at least as long"), "{said}");
    let (code, _, errors) = add(pipeline, "192.0.2.9", "1h");
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("blocklist.allow names it"), "{errors}");
    let (_, table, _) = asks(pipeline, &["show"]);
    assert!(
        table.contains("203.0.113.1") && table.contains("a test"),
        "{table}"
    );
    let (code, said, errors) = withdraw(pipeline, "203.0.113.1");
    assert_eq!(
        (code, said.as_str()),
        (Some(0), "z/ip/203.0.113.1 is no longer listed\n"),
        "{errors}"
    );
    let (code, said, _) = withdraw(pipeline, "203.0.113.1");
    assert_eq!(
        (code, said.as_str()),
        (Some(0), "z/ip/203.0.113.1 was not listed\n")
    );
    let (code, _, errors) = add(pipeline, "300.1.1.1", "1h");
    assert_eq!(code, Some(64), "{errors}");
    assert!(errors.contains("is not an IP address"), "{errors}");
}

#[test]
fn the_command_answers_with_and_without_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = pipeline(folder.path(), "[blocklist]\nallow = [\"192.0.2.0/24\"]");
    answers(&pipeline);
    // The input does not exist yet, and the list is seen to all the same.
    let mut run = start(&pipeline);
    answers(&pipeline);
    add(&pipeline, "203.0.113.2", "1h");
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(
        revisions(&pipeline),
        BTreeMap::from([("203.0.113.2".to_owned(), 1)])
    );
    assert_eq!(told(Path::new(&pipeline)), revisions(&pipeline));
    // Enforced from now on, and an entry that was brief is over.
    let text = fs::read_to_string(&pipeline).unwrap();
    let text = text.replace("[blocklist]", "[blocklist]\nenforce = true");
    fs::write(&pipeline, text).unwrap();
    let (_, said, _) = add(&pipeline, "203.0.113.3", "1s");
    assert!(
        said.contains("is listed until") && !said.contains("simulated"),
        "{said}"
    );
    let entries = shown(&pipeline);
    let held = entries
        .iter()
        .find(|entry| entry["entity"] == "203.0.113.2");
    assert_eq!(held.unwrap()["simulated"], false);
    // The number of looks is bounded, not the time.
    let mut run = start(&pipeline);
    let brief = || told(Path::new(&pipeline)).contains_key("203.0.113.3");
    assert!((0..100_000).any(|_| !brief()), "it never ends");
    run.kill().unwrap();
    run.wait().unwrap();
    let ends = topic(Path::new(&pipeline), "blocklist");
    let expired = ends.iter().filter(|line| line.contains("\"expired\""));
    assert_eq!(expired.count(), 1);
}

#[test]
fn a_list_survives_kills_with_every_proposal_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = pipeline(folder.path(), "");
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..12_u64 {
        let mut run = (round % 4 != 3).then(|| start(&pipeline));
        let mut asked = Vec::new();
        for _ in 0..3 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let entity = format!("203.0.113.{}", (random >> 33) % 5);
            // Each lasts longer than the one before, so every one of them changes its entry.
            let lasts = format!("{}h", 1 + round * 3 + asked.len() as u64);
            let leaves = (random >> 40).is_multiple_of(4);
            let child = command(&[
                "blocklist",
                &pipeline,
                if leaves { "withdraw" } else { "add" },
            ])
            .args(["--kind", "ip", "--entity", &entity, "--reason", "-"])
            .args(if leaves {
                vec![]
            } else {
                vec!["--for", &lasts]
            })
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
            // One after the other, so that their order is known; the run dies under the last of them.
            let mut child = child.unwrap();
            if asked.len() == 2
                && let Some(run) = &mut run
            {
                run.kill().unwrap();
                run.wait().unwrap();
            }
            assert!(child.wait().unwrap().success());
            if leaves {
                expected.remove(&entity);
            } else {
                *expected.entry(entity.clone()).or_default() += 1;
            }
            asked.push(entity);
        }
        assert_eq!(revisions(&pipeline), expected, "round {round}");
        assert_eq!(told(Path::new(&pipeline)), expected, "round {round}");
    }
}
