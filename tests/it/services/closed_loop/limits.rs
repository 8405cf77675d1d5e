//! Every default threshold at its limit and just below, over what ClickHouse adds up.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::events::{Events, limits, zone};
use super::{Service, embedded, timeless};
use crate::services::{free_ports, services};

const PARTITIONS: i32 = 2;

/// Rule → (kind, evidence, which events it is about).
fn expected() -> BTreeMap<&'static str, (&'static str, Value, &'static str)> {
    BTreeMap::from([
        (
            "credential stuffing",
            ("ip", json!({"refused": 50}), "stuffing"),
        ),
        (
            "token forging",
            ("ip", json!({"forged_token": 10}), "forging"),
        ),
        (
            "forged token",
            ("token", json!({"forged_token": 5}), "token"),
        ),
        (
            "schema probing",
            ("ip", json!({"violation": 30}), "probing"),
        ),
        (
            "revoked certificate",
            ("certificate", json!({"revoked_certificate": 1}), "revoked"),
        ),
        (
            "session from many addresses",
            ("session", json!({"request": 10}), "stolen"),
        ),
    ])
}

fn holds(entries: &BTreeMap<String, Value>) {
    let mut found = BTreeMap::new();
    for entry in entries.values() {
        assert_eq!(entry["simulated"], true, "log-only by default: {entry}");
        let samples = entry["samples"].as_array().unwrap();
        let first = samples[0].as_str().unwrap();
        let (case, _) = first.rsplit_once('-').unwrap();
        let prefix = format!("{case}-");
        let same = |sample: &Value| sample.as_str().unwrap().starts_with(&prefix);
        assert!(samples.iter().all(same), "{entry}");
        let what = (
            entry["kind"].as_str().unwrap().to_owned(),
            entry["evidence"].clone(),
            case.to_owned(),
        );
        found.insert(entry["rule"].as_str().unwrap().to_owned(), what);
    }
    let expected = expected()
        .into_iter()
        .map(|(rule, (kind, evidence, case))| {
            (
                rule.to_owned(),
                (kind.to_owned(), evidence, case.to_owned()),
            )
        });
    assert_eq!(found, expected.collect());
    assert_eq!(entries.len(), found.len(), "{entries:#?}");
}

/// The value of a metric, 0 when it is not there.
async fn metric(port: u16, name: &str) -> u64 {
    let url = format!("http://127.0.0.1:{port}/metrics");
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn thresholds_list_at_their_limits_over_what_is_stored() {
    let Some(services) = services("thresholds_list_at_their_limits_over_what_is_stored") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let zone = zone(folder.path(), "");
    let body = format!("[blocklist]\nallow = [\"192.0.2.0/24\"]\n{zone}");
    let events = limits();
    let oracle = embedded(&folder.path().join("embedded"), &body, &events.lines);
    holds(&oracle);

    let service = Service::new(&services, PARTITIONS, "gatewatch", &body).await;
    let running = service.start();
    service.send(&services, PARTITIONS, &events.lines);
    service.until_counted(events.lines.len()).await;
    // Whoever is listed for these has been seen in a look that saw everything before.
    let mut last = Events::from(1_800);
    last.stuffing("last", "198.51.100.1", 50);
    last.session("end", "198.51.101", (10, 10));
    service.send(&services, PARTITIONS, &last.lines);
    let all: Vec<String> = events.lines.iter().chain(&last.lines).cloned().collect();
    let whole = timeless(embedded(&folder.path().join("whole"), &body, &all));
    assert_eq!(whole.len(), oracle.len() + 2);
    let listed = service
        .until("everything is listed", |listed| listed.len() >= whole.len())
        .await;
    service.until_counted(all.len()).await;
    let listed = if timeless(listed.clone()) == whole {
        listed
    } else {
        // The last ones were found a request too early.
        service
            .until("all evidence is there", |listed| {
                timeless(listed.clone()) == whole
            })
            .await
    };
    let mut listed_before = listed.clone();
    listed_before.retain(|key, _| oracle.contains_key(key));
    holds(&listed_before);

    // More of the same lasts longer, and is the same entry: with the minute after its last one the window fires again.
    let mut more = Events::from(300);
    for _ in 0..11 {
        more.add("stuffing", 0, "203.0.113.1", &json!({"status": 403}));
    }
    service.send(&services, PARTITIONS, &more.lines);
    let key = "ip/203.0.113.1";
    let extended = service
        .until("extended", |listed| {
            listed[key]["evidence"]["refused"] == 61
        })
        .await;
    let (before, after) = (&listed[key], &extended[key]);
    assert_eq!(after["created_at"], before["created_at"]);
    assert!(
        after["expires_at"].as_str() > before["expires_at"].as_str(),
        "{after}"
    );
    assert!(
        after["revision"].as_u64() > before["revision"].as_u64(),
        "{after}"
    );
    running.stop();

    // The operator means one of them, and the list is full.
    let [port] = free_ports();
    let full = format!(
        "enforce = true\nmax = {}\n[check]\n[api]\nlisten = \"127.0.0.1:{port}\"\nstate = \"{}\"",
        whole.len(),
        service.path("control.db").display()
    );
    service.edit(
        "allow = [\"192.0.2.0/24\"]",
        &format!("allow = [\"192.0.2.0/24\"]\n{full}"),
    );
    let name = "name = \"token forging\"\n";
    service.edit(name, &format!("{name}action = \"block\"\n"));
    let running = service.start();
    let enforced = |listed: &BTreeMap<String, Value>| -> Vec<String> {
        let meant = listed
            .iter()
            .filter(|(_, entry)| entry["simulated"] == false);
        meant.map(|(key, _)| key.clone()).collect()
    };
    service
        .until("one is enforced", |listed| {
            enforced(listed) == ["ip/203.0.113.4"]
        })
        .await;
    let mut late = Events::from(1_800);
    late.stuffing("late", "198.51.100.2", 50);
    service.send(&services, PARTITIONS, &late.lines);
    let watch = gatewatch::clock::Stopwatch::start();
    let name = "gatewatch_blocklist_decisions_total{result=\"full\"}";
    while metric(port, name).await == 0 {
        assert!(watch.elapsed() < super::PATIENCE, "nothing is refused");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let entries = "gatewatch_blocklist_entries{kind=\"ip\",mode=\"enforced\"}";
    while metric(port, entries).await != 1 {
        assert!(watch.elapsed() < super::PATIENCE, "one is enforced");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let listed = super::by_key(crate::block_list::shown(&service.file()));
    assert!(listed.keys().eq(whole.keys()), "{listed:#?}");
    running.stop();
}
