//! `gatewatch blocklist … export`: whole files, and a word on what is left out.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::block_list::pipeline;
use crate::command::{command, output, succeeds};

const HASH: &str = "00112233445566778899aabbccddeeff";

fn add(pipeline: &str, kind: &str, entity: &str) {
    let what = [
        "--kind", kind, "--entity", entity, "--for", "1h", "--reason", "a test",
    ];
    succeeds(&[&["blocklist", pipeline, "add"], &what[..]].concat());
}

/// Standard output and standard error of an export.
fn exported(pipeline: &str, more: &[&str]) -> (String, String) {
    let output = output(&[&["blocklist", pipeline, "export"], more].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert!(output.status.success(), "{}", text(output.stderr));
    (text(output.stdout), text(output.stderr))
}

#[test]
fn a_list_is_exported_whole_and_what_is_left_out_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let enforced = pipeline(folder.path(), "[blocklist]\nenforce = true");
    add(&enforced, "ip", "203.0.113.7");
    add(&enforced, "user_agent", "a\" 1; default 1; \"b");
    add(&enforced, "session", HASH);
    let (text, said) = exported(&enforced, &["--format", "nginx"]);
    assert!(text.contains("# file: blocked_ips.geo.conf\n"), "{text}");
    assert!(text.contains("\n203.0.113.7/32 1;\n"), "{text}");
    assert!(!text.contains("default 1"), "{text}");
    assert!(
        said.starts_with("2 entries exported\n1 of kind session left out: "),
        "{said}"
    );

    let out = folder.path().join("files");
    let (text, said) = exported(
        &enforced,
        &["--format", "haproxy", "--out", out.to_str().unwrap()],
    );
    assert_eq!((text.as_str(), said.as_str()), ("", "3 entries exported\n"));
    let sessions = fs::read_to_string(out.join("blocked_sessions.acl")).unwrap();
    assert!(
        sessions.ends_with(&format!("\n{}\n", HASH.to_uppercase())),
        "{sessions}"
    );
    for (format, entries) in [("json", 3), ("crowdsec", 3)] {
        let (text, _) = exported(&enforced, &["--format", format]);
        let array: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(array.as_array().unwrap().len(), entries, "{format}");
    }
    let (text, _) = exported(&enforced, &["--format", "json", "--zone", "z"]);
    let array: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(array.as_array().unwrap().len(), 3);
    let envoy = ["--format", "envoy", "--zone"];
    let typo = output(&[&["blocklist", &enforced, "export"], &envoy[..], &["Z"]].concat());
    let said = String::from_utf8(typo.stderr).unwrap();
    assert_eq!((typo.status.code(), typo.stdout), (Some(64), Vec::new()));
    assert!(
        said.contains("\"Z\" is no zone of this pipeline") && said.contains("known here: z"),
        "{said}"
    );
    let withdraw = |kind: &str, entity: &str| {
        let what = ["--kind", kind, "--entity", entity, "--reason", "over"];
        succeeds(&[&["blocklist", &enforced, "withdraw"], &what[..]].concat());
    };
    withdraw("ip", "203.0.113.7");
    withdraw("user_agent", "a\" 1; default 1; \"b");
    let (text, _) = exported(&enforced, &[&envoy[..], &["z"]].concat());
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        document["resources"][0]["typed_config"]["rules"]["policies"],
        serde_json::json!({})
    );
    let unknown = output(&["blocklist", &enforced, "export", "--format", "f5"]);
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert_eq!(unknown.status.code(), Some(64), "{said}");
    assert!(
        said.contains("one of nginx, haproxy, envoy, crowdsec, json is expected"),
        "{said}"
    );
}

#[test]
fn exported_files_are_whole_and_everybody_may_read_them() {
    let folder = tempfile::tempdir().unwrap();
    let enforced = pipeline(folder.path(), "[blocklist]\nenforce = true");
    add(&enforced, "ip", "203.0.113.7");
    let out = folder.path().join("a/b");
    let export = || {
        let gatewatch = command(&["blocklist"]);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "umask 077; exec \"$0\" \"$@\""]);
        shell.arg(gatewatch.get_program());
        shell.args([
            "blocklist",
            &enforced,
            "export",
            "--format",
            "json",
            "--out",
        ]);
        let output = shell.arg(&out).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
    };
    export();
    let file = out.join("blocklist.json");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o644);
    assert_eq!((mode(&out), mode(out.parent().unwrap())), (0o755, 0o755));
    // Whoever reads the old file while it is replaced reads all of it.
    let reading = folder.path().join("reading");
    fs::hard_link(&file, &reading).unwrap();
    let before = fs::read_to_string(&reading).unwrap();
    add(&enforced, "ip", "203.0.113.8");
    fs::set_permissions(&out, fs::Permissions::from_mode(0o750)).unwrap();
    export();
    assert_eq!(fs::read_to_string(&reading).unwrap(), before);
    assert!(fs::read_to_string(&file).unwrap().contains("203.0.113.8"));
    assert_eq!(mode(&out), 0o750, "a folder that is there is somebody's");
    assert_eq!(
        fs::read_dir(&out).unwrap().count(),
        1,
        "nothing is left aside"
    );
}

#[test]
fn what_is_only_simulated_is_exported_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let simulated = pipeline(folder.path(), "");
    add(&simulated, "ip", "203.0.113.7");
    let (text, said) = exported(&simulated, &["--format", "json"]);
    assert_eq!(text, "[]\n");
    assert!(said.contains("1 left out: simulated"), "{said}");
    let (text, _) = exported(&simulated, &["--format", "json", "--simulated"]);
    let array: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(array[0]["simulated"], true);
}
