//! `gatewatch backtest`: what it says of a candidate is what happens when the candidate is turned on, and what the generator
//! knows to be true. Nothing is stored.

mod generated;
mod listing;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::block_list::shown;
use crate::command::{command, output, succeeds};

/// The result of a back-test as JSON.
fn tried(pipeline: &str, arguments: &[&str]) -> Value {
    let text = succeeds(&[&["backtest", pipeline, "--json"], arguments].concat());
    serde_json::from_str(&text).unwrap()
}

/// The names of a list and their matches.
fn matches(list: &Value) -> BTreeMap<String, u64> {
    let rows = list["top"].as_array().unwrap().iter();
    rows.map(|row| {
        let name = row["name"].as_str().unwrap().to_owned();
        (name, row["matches"].as_u64().unwrap())
    })
    .collect()
}

/// Everything below a folder with its content.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for path in fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        if path.is_dir() {
            found.extend(contents(&path));
            found.insert(path.display().to_string(), Vec::new());
        } else {
            found.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    found
}

/// One exchange; `second` of one day.
fn event(id: &str, second: u32, ip: &str, headers: &Value, status: u16) -> Value {
    let time = format!(
        "2026-11-20T{:02}:{:02}:{:02}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    );
    json!({
        "kind": "exchange", "id": id, "time": time, "client": {"ip": ip, "asn": 64_500},
        "request": {"method": "GET", "host": "api.example", "path": "/orders", "headers": headers},
        "response": {"status": status}
    })
}

/// A pipeline over these events, and a file with a rule of this expression.
fn small(folder: &Path, events: &[Value], top: &str, expression: &str) -> (String, String) {
    let lines: Vec<String> = events.iter().map(ToString::to_string).collect();
    fs::write(folder.join("events.ndjson"), lines.join("\n")).unwrap();
    let (pipeline, rule) = (folder.join("pipeline.toml"), folder.join("rule.toml"));
    let text = format!(
        "name = \"p\"\n[source]\npath = \"events.ndjson\"\n{top}\n[[zones]]\nid = \"z\"\nhosts = [\"api.example\"]\n\
         [[zones.session_identifiers]]\ntype = \"cookie\"\nname = \"sid\"\n"
    );
    fs::write(&pipeline, text).unwrap();
    fs::write(
        &rule,
        format!("[[rules]]\ntitle = \"tried\"\naction = \"block\"\nblock = [\"ip\", \"asn\", \"session\"]\nexpression = '{expression}'\nduration = \"10000d\"\n"),
    )
    .unwrap();
    (pipeline.display().to_string(), rule.display().to_string())
}

#[test]
fn the_block_list_would_have_got_what_it_gets_when_the_rule_is_on() {
    let folder = tempfile::tempdir().unwrap();
    let tool = json!({"user-agent": "curl/8", "cookie": "sid=s1"});
    let browser = json!({"user-agent": "Mozilla", "cookie": "sid=s2"});
    let events = [
        event("e1", 50, "203.0.113.7", &tool, 200),
        event("e2", 10, "203.0.113.7", &tool, 404),
        event("e3", 20, "192.0.2.9", &tool, 200),
        event("e4", 30, "198.51.100.1", &browser, 200),
    ];
    let top = "[blocklist]\nallow = [\"192.0.2.0/24\"]\ndefault_thresholds = false\n[privacy]\nhash_key = { file = \"hash.key\" }";
    fs::write(folder.path().join("hash.key"), "0123456789abcdef").unwrap();
    let (pipeline, rule) = small(
        folder.path(),
        &events,
        top,
        "http.user_agent contains \"curl\"",
    );
    let before = contents(folder.path());
    let found = tried(&pipeline, &["--rule", &rule]);
    assert_eq!(
        contents(folder.path()),
        before,
        "a back-test stores nothing"
    );
    assert_eq!(found["hashes"], "pipeline");
    let found = &found["candidates"][0];
    assert_eq!(
        (&found["matches"], &found["likely_false_positives"]),
        (&json!(3), &json!(2))
    );
    let list = &found["block_list"];
    assert_eq!((&list["exempt"], &list["overflow"]), (&json!(1), &json!(0)));
    let would: BTreeSet<String> = matches(list).into_keys().collect();
    let first = list["top"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == "ip/203.0.113.7");
    assert_eq!(first.unwrap()["first_at"], "2026-11-20T00:00:10Z");

    let text = fs::read_to_string(&pipeline).unwrap();
    let on = fs::read_to_string(&rule)
        .unwrap()
        .replace("[[rules]]", "[[zones.rules]]");
    fs::write(&pipeline, format!("{text}{on}")).unwrap();
    succeeds(&["run", &pipeline]);
    let does: BTreeSet<String> = shown(&pipeline)
        .iter()
        .map(|entry| {
            let word = |name: &str| entry[name].as_str().unwrap();
            format!("{}/{}", word("kind"), word("entity"))
        })
        .collect();
    assert_eq!(would, does);
    // In the place of itself it is nothing new.
    let again = tried(&pipeline, &["--rule", &rule]);
    let again = &again["candidates"][0];
    assert_eq!(
        (&again["newly"], &again["already"], &again["no_longer"]),
        (&json!(0), &json!(3), &json!(0))
    );
}

#[test]
fn a_range_includes_its_beginning_and_not_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let headers = json!({});
    let seconds = [0, 3_599, 3_600, 7_199, 7_200];
    let events: Vec<_> = seconds
        .iter()
        // Late in the log, as logs are.
        .rev()
        .map(|second| event(&format!("e{second}"), *second, "192.0.2.1", &headers, 200))
        .collect();
    let (pipeline, rule) = small(folder.path(), &events, "", "http.host eq \"api.example\"");
    let hour = |hour: u32| format!("2026-11-20T0{hour}:00:00Z");
    let (one, two) = (hour(1), hour(2));
    for (arguments, expected) in [
        (vec![], vec![0, 3_599, 3_600, 7_199, 7_200]),
        (vec!["--from", &one], vec![3_600, 7_199, 7_200]),
        (vec!["--until", &one], vec![0, 3_599]),
        (vec!["--from", &one, "--until", &two], vec![3_600, 7_199]),
        (vec!["--range", "1h", "--until", &two], vec![3_600, 7_199]),
        // The newest event is in the range, and so the one an hour before it is not.
        (vec!["--range", "1h"], vec![7_199, 7_200]),
        (vec!["--range", "3601s"], vec![3_600, 7_199, 7_200]),
    ] {
        let found = tried(
            &pipeline,
            &[&["--rule", rule.as_str()][..], &arguments].concat(),
        );
        let samples = found["candidates"][0]["samples"].as_array().unwrap();
        let ids: Vec<_> = samples
            .iter()
            .map(|sample| sample["id"].as_str().unwrap().to_owned())
            .collect();
        let expected: Vec<_> = expected.iter().map(|second| format!("e{second}")).collect();
        assert_eq!(ids, expected, "{arguments:?}");
        assert_eq!(found["traffic"]["in_range"], expected.len());
        assert_eq!(found["traffic"]["exchanges"], 5);
    }
    // An empty range is said, and no fault.
    let empty = [
        "backtest",
        &pipeline,
        "--rule",
        &rule,
        "--from",
        "2027-01-01T00:00:00Z",
    ];
    let said = succeeds(&empty);
    assert!(
        said.contains("the range is empty: nothing from 2027-01-01T00:00:00Z"),
        "{said}"
    );
    assert!(
        said.contains("what was read goes from 2026-11-20T00:00:00Z to 2026-11-20T02:00:00Z"),
        "{said}"
    );
    let found = tried(
        &pipeline,
        &["--rule", &rule, "--from", "2027-01-01T00:00:00Z"],
    );
    assert_eq!(
        (
            &found["traffic"]["in_range"],
            &found["candidates"][0]["matches"]
        ),
        (&json!(0), &json!(0))
    );
    // One that ends before it begins is a mistake; so is the newest hour of what has no end yet.
    for arguments in [
        vec!["--from", &two, "--until", &one],
        vec!["-", "--range", "1h"],
    ] {
        let all = [
            &["backtest", pipeline.as_str(), "--rule", rule.as_str()][..],
            &arguments,
        ]
        .concat();
        assert_eq!(output(&all).status.code(), Some(64), "{arguments:?}");
    }
}

#[test]
fn what_the_log_does_not_show_is_counted_apart() {
    let folder = tempfile::tempdir().unwrap();
    let tool = json!({"x-tool": "scan"});
    let mut blind = event("blind", 2, "192.0.2.1", &json!({}), 200);
    blind["request"]["headers_captured"] = json!(false);
    let events = [
        event("seen", 1, "192.0.2.1", &tool, 200),
        blind,
        event("clean", 3, "192.0.2.1", &json!({"accept": "*/*"}), 200),
    ];
    let expression = "any(http.request.headers[\"x-tool\"][*] eq \"scan\")";
    let (pipeline, rule) = small(folder.path(), &events, "", expression);
    let found = tried(&pipeline, &["--rule", &rule]);
    let found = &found["candidates"][0];
    for (name, count) in [
        ("judged", 2),
        ("matches", 1),
        ("not_captured", 1),
        ("not_covered", 0),
    ] {
        assert_eq!(found[name], count, "{name}");
    }
    let text = succeeds(&["backtest", &pipeline, "--rule", &rule]);
    assert!(
        text.contains("fires on 1 of 2 exchanges that could be judged (50.0 %)"),
        "{text}"
    );
    assert!(
        text.contains("1 could not be judged: the log does not show what it takes"),
        "{text}"
    );
}

#[test]
fn a_bad_candidate_is_refused_with_its_place_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let events = [event("e", 1, "192.0.2.1", &json!({}), 200)];
    let (pipeline, rule) = small(folder.path(), &events, "", "http.host == and true");
    let before = contents(folder.path());
    let refused = output(&["backtest", &pipeline, "--rule", &rule]);
    assert_eq!(refused.status.code(), Some(64));
    let said = String::from_utf8(refused.stderr).unwrap();
    for words in [
        "rule.toml has 1 problem",
        "line 5: rules[0].expression:",
        "^",
    ] {
        assert!(said.contains(words), "{words:?} is not in\n{said}");
    }
    assert_eq!(contents(folder.path()), before);
    // Nothing to try, a topic where there is no cluster, a file that is not there: usage, usage, fault.
    let good = folder.path().join("good.toml");
    fs::write(&good, "[[rules]]\ntitle = \"t\"\nexpression = 'true'\n").unwrap();
    let good = good.to_str().unwrap();
    for (arguments, code) in [
        (vec![], 64),
        (vec!["--rule", good, "--topic", "t"], 64),
        (vec!["--rule", "nowhere.toml"], 64),
        (vec!["--schema", "nowhere.yaml"], 64),
        (vec!["nowhere.ndjson", "--rule", good], 1),
    ] {
        let found = output(&[&["backtest", pipeline.as_str()][..], &arguments].concat());
        assert_eq!(found.status.code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn standard_input_and_packed_files_are_read_too() {
    let folder = tempfile::tempdir().unwrap();
    let headers = json!({});
    let events = [
        event("e1", 1, "192.0.2.1", &headers, 200),
        event("e2", 2, "192.0.2.1", &headers, 200),
    ];
    let (pipeline, rule) = small(folder.path(), &events, "", "true or http.host eq \"x\"");
    let log = fs::read(folder.path().join("events.ndjson")).unwrap();
    let packed = folder.path().join("old.zst");
    fs::write(&packed, zstd::encode_all(&log[..], 1).unwrap()).unwrap();
    let from_file = tried(&pipeline, &[packed.to_str().unwrap(), "--rule", &rule]);
    let mut child = command(&[
        "backtest", &pipeline, "--events", "-", "--json", "--rule", &rule,
    ])
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    child.stdin.take().unwrap().write_all(&log).unwrap();
    let from_pipe: Value =
        serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(from_file["candidates"], from_pipe["candidates"]);
    assert_eq!(from_pipe["candidates"][0]["matches"], 2);
    assert_eq!(from_pipe["source"], "standard input");
}

#[test]
fn the_json_keeps_its_shape() {
    let folder = tempfile::tempdir().unwrap();
    let events = [event("e", 1, "192.0.2.1", &json!({"cookie": "sid=s"}), 200)];
    let (pipeline, rule) = small(folder.path(), &events, "", "http.host eq \"api.example\"");
    let found = tried(&pipeline, &["--rule", &rule]);
    let names =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let candidate = &found["candidates"][0];
    for (value, expected) in [
        (&found, "block_list candidates hashes range source traffic"),
        (
            &found["block_list"],
            "distinct exempt later later_overflow new no_longer no_room overflow top",
        ),
        (
            &found["block_list"]["later"],
            "likely_false_positives requests",
        ),
        (
            &found["block_list"]["top"][0],
            "action entity entries evidence first_at kind later new rules samples until zone",
        ),
        (&found["range"], "from until"),
        (
            &found["traffic"],
            "exchanges first_at in_range last_at orphan_responses records rejected unanswered unzoned",
        ),
        (
            candidate,
            "action already block_list endpoints entities judged kind likely_false_positives matches newly no_longer \
             not_captured not_covered outcomes reasons replaces response samples successful title zone",
        ),
        (
            &candidate["successful"],
            "no_session refused_credential total unknown valid_session",
        ),
        (&candidate["endpoints"], "distinct overflow top"),
        (&candidate["block_list"], "distinct exempt overflow top"),
        (
            &candidate["endpoints"]["top"][0],
            "first_at judged last_at likely_false_positives matches name",
        ),
        (
            &candidate["samples"][0],
            "already client endpoint host id likely_false_positive method reasons status time",
        ),
    ] {
        let mut found = names(value);
        found.sort();
        assert_eq!(found.join(" "), expected);
    }
    assert_eq!(names(&candidate["entities"]), ["ip", "session"]);
}

#[test]
fn the_example_of_the_readme_is_what_the_command_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let (_, shown) = readme
        .split_once("```console\n$ gatewatch backtest ")
        .unwrap();
    let (arguments, shown) = shown.split_once('\n').unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    // A copy: the store that the pipeline file names must not be there, whoever ran it.
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("pipelines/quickstart")).unwrap();
    for file in [
        "quickstart.toml",
        "quickstart/rule.toml",
        "quickstart/traffic.ndjson",
        "quickstart/shop.jwks.json",
        "quickstart/shop.openapi.yaml",
    ] {
        let file = Path::new("pipelines").join(file);
        fs::copy(root.join(&file), folder.path().join(&file)).unwrap();
    }
    let arguments: Vec<&str> = ["backtest"]
        .into_iter()
        .chain(arguments.split(' '))
        .collect();
    let output = command(&arguments)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: BTreeSet<&str> = said.lines().map(str::trim_end).collect();
    let expected: Vec<&str> = shown.lines().filter(|line| !line.contains('…')).collect();
    assert!(expected.len() > 10);
    for line in expected {
        assert!(
            lines.contains(line),
            "the command does not say {line:?}\n{said}"
        );
    }
    assert!(!folder.path().join("data").exists());
}
