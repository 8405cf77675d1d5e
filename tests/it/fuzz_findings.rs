//! Every fuzz target over its seeds and over the inputs that fuzzing found something with; see `fuzz/README.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::fuzz_targets::TARGETS;

/// The kept inputs of a target: its seeds, and its findings.
fn inputs(target: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut files: Vec<PathBuf> = ["seeds", "findings"]
        .iter()
        .filter_map(|folder| fs::read_dir(root.join(folder).join(target)).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .collect();
    files.sort();
    files
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how long an input takes is printed, not judged"
)]
fn every_target_survives_its_kept_inputs() {
    for (target, run) in TARGETS {
        let files = inputs(target);
        assert!(!files.is_empty(), "{target} has no inputs");
        let mut slowest = (0, String::new());
        for file in &files {
            let input = fs::read(file).unwrap();
            let start = Instant::now();
            run(&input);
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            slowest = slowest.max((start.elapsed().as_micros(), name));
        }
        println!(
            "{target}: {} inputs, the slowest is {} with {} µs",
            files.len(),
            slowest.1,
            slowest.0
        );
    }
}
