//! Runs the built command, and writes pipeline folders with generated traffic for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gatewatch::model::EventTime;
use gatewatch::traffic::{DEFAULT_START_SECONDS, Generator, Scenario, Truth};

/// The command with these arguments, not started.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatewatch"));
    command.args(arguments);
    command
}

/// Runs the command to its end.
pub fn output(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// Runs the command, which must succeed, and gives its standard output.
pub fn succeeds(arguments: &[&str]) -> String {
    let output = output(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "gatewatch {arguments:?}: {}\n{errors}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A pipeline folder with generated traffic. Returns its pipeline file and the truth.
pub fn pipeline(
    folder: &Path,
    scenario: &Scenario,
    seed: u64,
    events: u64,
    hours: u32,
) -> (PathBuf, Truth) {
    fs::create_dir_all(folder).unwrap();
    let start = EventTime::from_seconds(DEFAULT_START_SECONDS).unwrap();
    let mut generator = Generator::new(scenario, seed, events, start, hours * 3_600).unwrap();
    let mut log = Vec::new();
    while generator.next_line(&mut log) {}
    fs::write(folder.join("traffic.ndjson"), log).unwrap();
    for (name, text) in scenario.pipeline_files("traffic.ndjson") {
        fs::write(folder.join(name), text).unwrap();
    }
    (folder.join("pipeline.toml"), generator.truth().clone())
}

/// Both reports of a pipeline as text.
pub fn reports(pipeline: &Path) -> String {
    let pipeline = pipeline.to_str().unwrap();
    ["24h", "7d"]
        .map(|range| succeeds(&["report", pipeline, "--json", "--range", range]))
        .concat()
}

/// A topic file's lines.
pub fn topic(pipeline: &Path, name: &str) -> Vec<String> {
    let path = pipeline
        .with_file_name("data")
        .join(format!("topics/gatewatch.{name}.ndjson"));
    fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}
