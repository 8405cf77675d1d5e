//! The block list of a back-test: what a run with the same configuration lists, and what those who were listed did later.

use std::collections::BTreeMap;
use std::fs;

use gatewatch::traffic::Scenario;
use serde_json::{Value, json};

use super::{event, small, tried};
use crate::block_list::shown;
use crate::command::{output, pipeline as generated, succeeds};

/// Entity → (signals, whether a rule or threshold may block).
type Listed = BTreeMap<String, (BTreeMap<String, u64>, bool)>;

fn signals(evidence: &Value) -> BTreeMap<String, u64> {
    let evidence = evidence.as_object().unwrap().iter();
    evidence
        .map(|(signal, count)| (signal.clone(), count.as_u64().unwrap()))
        .collect()
}

fn name(entry: &Value) -> String {
    let word = |name: &str| entry[name].as_str().unwrap();
    format!("{}/{}/{}", word("zone"), word("kind"), word("entity"))
}

/// What a run with this pipeline file has listed.
fn run(pipeline: &str) -> Listed {
    succeeds(&["run", pipeline]);
    let entries = shown(pipeline);
    let listed = entries.iter().map(|entry| {
        let blocks = entry["simulated"] == false;
        (name(entry), (signals(&entry["evidence"]), blocks))
    });
    listed.collect()
}

/// What the back-test says that it lists.
fn says(found: &Value) -> Listed {
    let rows = found["block_list"]["top"].as_array().unwrap().iter();
    rows.map(|row| {
        let blocks = row["action"] == "block";
        (name(row), (signals(&row["evidence"]), blocks))
    })
    .collect()
}

#[test]
fn rules_and_thresholds_list_what_a_run_lists() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = generated(folder.path(), &Scenario::everything(), 21, 4_000, 40);
    let text = fs::read_to_string(&path).unwrap();
    let block_list = "[blocklist]\nenforce = true\nallow = [\"203.0.113.0/28\"]\ndefault_thresholds = false\n\
        [[blocklist.thresholds]]\nname = \"refusals\"\nsignal = \"refused\"\ncount = 2\nwithin = \"30m\"\naction = \"block\"\nduration = \"10000d\"\n\
        [[blocklist.thresholds]]\nname = \"probing\"\nsignal = \"violation\"\ncount = 2\nwithin = \"60m\"\ndistinct_endpoints = 2\nduration = \"10000d\"\n\
        [[blocklist.thresholds]]\nname = \"by session\"\nsignal = \"tried\"\nkind = \"session\"\ncount = 3\nwithin = \"3h\"\nduration = \"10000d\"\n\
        [[blocklist.thresholds]]\nname = \"busy sessions\"\nsignal = \"request\"\nkind = \"session\"\ncount = 4\nwithin = \"20m\"\nduration = \"10000d\"\n";
    let rule = "title = \"tried\"\nkind = \"token\"\naction = \"block\"\nblock = [\"ip\", \"token\", \"user_agent\", \"cidr\"]\nduration = \"10000d\"\n\
        expression = 'not is_jwt_present(\"shop issuer\") or is_jwt_valid(\"shop issuer\")'\n";
    let (first, rest) = text.split_once("\n[[zones]]").unwrap();
    let (zone, rest) = rest.split_once("\n[[zones]]").unwrap();
    let on = folder.path().join("on.toml");
    fs::write(
        &on,
        format!("{first}\n{block_list}\n[[zones]]{zone}\n[[zones.rules]]\n{rule}\n[[zones]]{rest}"),
    )
    .unwrap();
    let (rules, lists) = (
        folder.path().join("rule.toml"),
        folder.path().join("list.toml"),
    );
    let id = zone.split('"').nth(1).unwrap();
    fs::write(&rules, format!("[[rules]]\nzone = \"{id}\"\n{rule}")).unwrap();
    fs::write(&lists, block_list).unwrap();
    // The key of the hashes has to be that of the run.
    let does = run(on.to_str().unwrap());
    let arguments = [
        "--rule",
        rules.to_str().unwrap(),
        "--blocklist",
        lists.to_str().unwrap(),
        "--top",
        "10000",
    ];
    let found = tried(path.to_str().unwrap(), &arguments);
    let would = says(&found);
    // Only what differs is shown.
    for (name, listed) in &does {
        assert_eq!(would.get(name), Some(listed), "{name}");
    }
    assert_eq!(would.len(), does.len());
    for kind in ["ip", "session", "token", "user_agent", "cidr"] {
        let kind = format!("/{kind}/");
        assert!(would.keys().any(|name| name.contains(&kind)), "no {kind}");
    }
    assert!(
        would.values().any(|(_, blocks)| *blocks) && would.values().any(|(_, blocks)| !*blocks)
    );
    let list = &found["block_list"];
    assert_eq!(list["distinct"], would.len());
    assert!(list["exempt"].as_u64().unwrap() > 0);
    // In the place of themselves they change nothing.
    let again = tried(on.to_str().unwrap(), &arguments);
    assert_eq!(says(&again), would);
    let again = &again["block_list"];
    assert_eq!((&again["new"], &again["no_longer"]), (&json!(0), &json!(0)));
    // Without thresholds and allow list only the rule lists, and whom it likes.
    let nothing = folder.path().join("nothing.toml");
    fs::write(&nothing, "[blocklist]\ndefault_thresholds = false\n").unwrap();
    let none = tried(
        on.to_str().unwrap(),
        &["--blocklist", nothing.to_str().unwrap(), "--top", "10000"],
    );
    assert_eq!(none["candidates"], json!([]));
    let by_rule = says(&none);
    let only = |(signals, _): &(BTreeMap<String, u64>, bool)| signals.keys().eq(["tried"]);
    assert!(!by_rule.is_empty() && by_rule.values().all(only));
    let count =
        |of: &Listed, and_not: &Listed| of.keys().filter(|n| !and_not.contains_key(*n)).count();
    let (new, gone) = (count(&by_rule, &would), count(&would, &by_rule));
    assert!(new > 0 && gone > 0, "{new} {gone}");
    let list = &none["block_list"];
    assert_eq!(
        (&list["new"], &list["no_longer"]),
        (&json!(new), &json!(gone))
    );
    assert_eq!(list["exempt"], 0);
}

/// Requests of the minutes after the one that listed the sender, as anybody would count them.
#[test]
fn later_requests_are_counted_from_the_next_minute_to_the_end_of_the_entry() {
    let folder = tempfile::tempdir().unwrap();
    let session = json!({"cookie": "sid=s"});
    let nobody = json!({});
    let mut events = Vec::new();
    // Three refusals in minutes 1 and 2; then a request every 20 seconds for an hour and a half, every second with a session.
    for (second, minute) in [(61, 1), (119, 1), (125, 2)] {
        assert_eq!(second / 60, minute);
        events.push(event(
            &format!("r{second}"),
            second,
            "203.0.113.7",
            &nobody,
            401,
        ));
    }
    for second in (0..5_400).step_by(20) {
        let headers = if second % 40 == 0 { &session } else { &nobody };
        let status = if second % 120 == 0 { 500 } else { 200 };
        events.push(event(
            &format!("e{second}"),
            second,
            "203.0.113.7",
            headers,
            status,
        ));
        events.push(event(
            &format!("f{second}"),
            second,
            "203.0.113.8",
            headers,
            status,
        ));
    }
    let (pipeline, _) = small(folder.path(), &events, "", "true or ssl");
    let list = folder.path().join("list.toml");
    let threshold = "[blocklist]\ndefault_thresholds = false\n[[blocklist.thresholds]]\nname = \"refusals\"\n\
                     signal = \"refused\"\ncount = 3\nwithin = \"5m\"\nduration = \"20m\"\n";
    fs::write(&list, threshold).unwrap();
    let arguments = ["--blocklist", list.to_str().unwrap()];
    let found = tried(&pipeline, &arguments);
    // Listed when minute 2 ends, for twenty minutes.
    let (from, until) = (180, 180 + 20 * 60);
    let during = |second: &u32| (from..until).contains(second);
    let seconds: Vec<u32> = (0..5_400).step_by(20).filter(during).collect();
    let wanted = seconds
        .iter()
        .filter(|second| *second % 40 == 0 && *second % 120 != 0);
    let later = json!({"requests": seconds.len(), "likely_false_positives": wanted.count()});
    let expected = json!({
        "zone": "z", "kind": "ip", "entity": "203.0.113.7", "rules": ["refusals"], "action": "log", "new": true,
        "entries": 1, "evidence": {"refused": 3}, "first_at": "2026-11-20T00:03:00Z", "until": "2026-11-20T00:23:00Z",
        "later": later
    });
    let list = &found["block_list"];
    let mut top = list["top"].clone();
    // Some of the refusals; two that meet in one place are one sample.
    let samples = top[0].as_object_mut().unwrap().remove("samples").unwrap();
    let samples: Vec<&str> = samples
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap())
        .collect();
    assert!(
        !samples.is_empty()
            && samples
                .iter()
                .all(|id| ["r61", "r119", "r125"].contains(id))
    );
    assert_eq!(top, json!([expected]));
    assert_eq!((&list["distinct"], &list["later"]), (&json!(1), &later));
    let text = succeeds(&[&["backtest", pipeline.as_str()][..], &arguments].concat());
    let sentence = format!(
        "later they sent {} requests, {} of them answered with success to valid sessions",
        later["requests"], later["likely_false_positives"]
    );
    assert!(text.contains(&sentence), "{text}");
    assert!(text.contains("ip/203.0.113.7   refusals (log)"), "{text}");
}

#[test]
fn a_bad_block_list_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let events = [event("e", 1, "192.0.2.1", &json!({}), 200)];
    let (pipeline, _) = small(folder.path(), &events, "", "true or ssl");
    let list = folder.path().join("list.toml");
    for (text, said) in [
        ("", "blocklist: nothing is written to try"),
        (
            "[blocklist]\nallow = [\"x\"]\n",
            "blocklist.allow[0]: \"x\" is not a network",
        ),
        (
            "[blocklist]\n[[blocklist.thresholds]]\nname = \"n\"\nsignal = \"nothing\"\ncount = 1\nwithin = \"1m\"\n",
            "blocklist.thresholds[0].signal: \"nothing\" is neither a signal nor a rule",
        ),
        ("[blocklists]\n", "blocklists: is not a setting"),
    ] {
        fs::write(&list, text).unwrap();
        let refused = output(&["backtest", &pipeline, "--blocklist", list.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(64), "{text}");
        let errors = String::from_utf8(refused.stderr).unwrap();
        assert!(
            errors.contains("list.toml has") && errors.contains(said),
            "{said}\n{errors}"
        );
    }
}
