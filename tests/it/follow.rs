//! A file that grows and rotates is read on; a run that is stopped and started goes on where it was.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::command::{command, succeeds};

/// One exchange of minute `minute`.
fn line(minute: u32) -> String {
    format!(
        "{{\"kind\":\"exchange\",\"time\":\"2026-11-20T08:{minute:02}:00Z\",\"request\":{{\"method\":\"GET\",\"host\":\"h.example\",\"path\":\"/a\",\"headers\":{{}}}},\"response\":{{\"status\":200}}}}\n"
    )
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn total(pipeline: &str) -> u64 {
    let report: Value = serde_json::from_str(&succeeds(&["report", pipeline, "--json"])).unwrap();
    report
        .pointer("/endpoints/0/requests/total")
        .and_then(Value::as_u64)
        .unwrap_or(0)
}

/// Looks at the report until it shows `expected` requests. The number of looks is bounded, not the time.
fn wait_for(pipeline: &str, expected: u64) {
    for _ in 0..600 {
        if total(pipeline) >= expected {
            break;
        }
    }
    assert_eq!(total(pipeline), expected);
}

fn start(pipeline: &str) -> Child {
    command(&["run", pipeline])
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_growing_file_is_followed_through_rotation_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let path = folder.path().join("pipeline.toml");
    let text = "name = \"p\"\n[source]\npath = \"access.log\"\nfollow = true\n[window]\nflush_every = \"50ms\"\n[[zones]]\nid = \"z\"\nhosts = [\"h.example\"]\n";
    fs::write(&path, text).unwrap();
    let pipeline = path.to_str().unwrap();

    let mut child = start(pipeline);
    append(&log, &line(1));
    wait_for(pipeline, 1);
    // Half a line is not a record yet.
    let two = line(2);
    append(&log, &two[..40]);
    append(&log, &two[40..]);
    wait_for(pipeline, 2);
    // Rotation by renaming; the last lines still go to the old file.
    fs::rename(&log, folder.path().join("access.log.1")).unwrap();
    append(&folder.path().join("access.log.1"), &line(3));
    append(&log, &line(10));
    wait_for(pipeline, 4);
    child.kill().unwrap();
    child.wait().unwrap();
    // While nobody reads, lines come and the file is rotated again.
    append(&log, &line(11));
    fs::rename(&log, folder.path().join("access.log.2")).unwrap();
    append(&log, &line(20));
    let mut child = start(pipeline);
    wait_for(pipeline, 6);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(total(pipeline), 6);
}
