//! `pipelines/quickstart.toml` works as it is, and its report is the one that stands beside it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::command::succeeds;

#[test]
fn the_quickstart_gives_the_report_that_stands_beside_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let folder = tempfile::tempdir().unwrap();
    let pipelines = folder.path().join("pipelines");
    fs::create_dir_all(pipelines.join("quickstart")).unwrap();
    fs::copy(
        source.join("quickstart.toml"),
        pipelines.join("quickstart.toml"),
    )
    .unwrap();
    for entry in fs::read_dir(source.join("quickstart")).unwrap().flatten() {
        fs::copy(
            entry.path(),
            pipelines.join("quickstart").join(entry.file_name()),
        )
        .unwrap();
    }
    let path = pipelines.join("quickstart.toml");
    let path = path.to_str().unwrap();
    succeeds(&["check", path]);
    succeeds(&["run", path]);
    let report: Value = serde_json::from_str(&succeeds(&["report", path, "--json"])).unwrap();
    let expected = fs::read_to_string(pipelines.join("quickstart/report.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    assert_eq!(report, expected);
    let verdicts = succeeds(&["explain", path]);
    assert!(
        verdicts
            .lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok())
    );
}
