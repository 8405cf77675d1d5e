//! `pipelines/quickstart.toml` works as it is, and its report is the one that stands beside it. The other pipeline files
//! that we show are valid.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::command::{command, succeeds};

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

#[test]
fn every_pipeline_file_that_we_show_is_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let blocks = readme.split("```toml\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap());
    let whole: Vec<&str> = blocks.filter(|block| block.starts_with("name =")).collect();
    assert_eq!(whole.len(), 1, "complete pipeline files in README.md");
    let folder = tempfile::tempdir().unwrap();
    let shown = folder.path().join("readme.toml");
    fs::write(&shown, whole[0]).unwrap();
    for file in [
        shown,
        root.join("pipelines/service.toml"),
        root.join("pipelines/compose/pipeline.toml"),
    ] {
        let mut check = command(&["check", file.to_str().unwrap()]);
        let secrets = [
            "CLICKHOUSE_PASSWORD",
            "GATEWATCH_HASH_KEY",
            "GATEWATCH_INSTANCE",
            "HOSTNAME",
            "KAFKA_PASSWORD",
        ];
        check.envs(secrets.map(|name| (name, "0123456789abcdef0123456789abcdef")));
        let output = check.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", file.display());
        assert!(errors.is_empty(), "{}: {errors}", file.display());
    }
}
