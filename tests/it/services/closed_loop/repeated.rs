//! Proposals of flushes and thresholds through the log: said again and again, counted once, whoever dies meanwhile.

use std::collections::BTreeMap;

use serde_json::Value;

use super::events::{Events, LASTING, limits, zone};
use super::{PATIENCE, Service, embedded, timeless};
use crate::services::replica::Replica;
use crate::services::{Services, random_number, services};
use crate::services_clickhouse::{fault, mend};

const PARTITIONS: i32 = 2;
/// Lines that are sent at once.
const PIECE: usize = 90;

/// Attackers of every kind, and many whom only the rule knows, in the order of time.
fn events() -> (Vec<String>, Vec<String>) {
    let mut events = limits();
    for client in 0..60 {
        events.forging(
            &format!("client{client}"),
            &format!("198.51.100.{client}"),
            3 + client % 5,
        );
    }
    let mut lines = events.lines;
    let time = |line: &String| -> String {
        let event: Value = serde_json::from_str(line).unwrap();
        event["time"].as_str().unwrap().to_owned()
    };
    lines.sort_by_cached_key(time);
    // Seen in a look that saw everything before.
    let mut last = Events::from(1_800);
    last.stuffing("last", "198.51.102.1", 50);
    last.session("end", "198.51.101", (10, 10));
    (lines, last.lines)
}

fn body(folder: &std::path::Path) -> String {
    let rule = format!(
        "[[zones.rules]]\ntitle = \"valid token\"\nkind = \"token\"\naction = \"block\"\n{LASTING}\
         expression = 'is_jwt_valid(\"shop\") or not is_jwt_present(\"shop\")'\n"
    );
    format!(
        "[blocklist]\nenforce = true\nallow = [\"192.0.2.0/24\"]\n{}",
        zone(folder, &rule)
    )
}

/// What the service lists in the end.
async fn ends(
    service: &Service,
    services: &Services,
    last: &[String],
    expected: &BTreeMap<String, Value>,
) {
    service.send(services, PARTITIONS, last);
    service
        .until("the list of a run without faults", |listed| {
            listed.len() >= expected.len() && timeless(listed.clone()) == *expected
        })
        .await;
}

/// Ids of proposals that `rule` made, or any, with how often each was written.
fn proposals(
    service: &Service,
    services: &Services,
    rule: Option<&str>,
) -> BTreeMap<String, usize> {
    let mut ids = BTreeMap::new();
    for (_, record) in service.records(services, "proposals") {
        let record = record.unwrap();
        if rule.is_none_or(|rule| record["rule"] == rule) {
            *ids.entry(record["id"].as_str().unwrap().to_owned())
                .or_default() += 1;
        }
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_events_give_the_same_list_whoever_dies() {
    let Some(services) = services("the_same_events_give_the_same_list_whoever_dies") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let body = body(folder.path());
    let (lines, last) = events();
    let all: Vec<String> = lines.iter().chain(&last).cloned().collect();
    let expected = timeless(embedded(&folder.path().join("embedded"), &body, &all));
    assert!(expected.len() > 120, "{}", expected.len());

    // Without faults.
    let calm = Service::new(&services, PARTITIONS, "gatewatch", &body).await;
    let running = calm.start();
    calm.send(&services, PARTITIONS, &lines);
    calm.until_counted(lines.len()).await;
    ends(&calm, &services, &last, &expected).await;
    running.stop();
    let once = proposals(&calm, &services, None);
    assert!(
        once.values().all(|times| *times == 1),
        "nothing was repeated"
    );

    // The same events through topics of their own, while whoever evaluates is killed.
    let torn = Service::new(&services, PARTITIONS, "gatewatch", &body).await;
    let mut members = [torn.start(), torn.start()];
    let mut kills = 0;
    for (number, piece) in lines.chunks(PIECE).enumerate() {
        if number == 2 {
            // A flush that is still being written would be the one that is held.
            torn.until_counted(number * PIECE).await;
            repeats_a_flush(&torn, &services, piece, &mut members).await;
            continue;
        }
        torn.send(&services, PARTITIONS, piece);
        let pause = std::time::Duration::from_millis(random_number() % 1_500);
        tokio::time::sleep(pause).await;
        if number % 2 == 1 {
            let at = evaluator(&members).await;
            std::mem::replace(&mut members[at], torn.start()).kill();
            kills += 1;
        }
    }
    torn.until_counted(lines.len()).await;
    ends(&torn, &services, &last, &expected).await;
    for member in members {
        member.stop();
    }
    let ids = proposals(&torn, &services, None);
    let repeated = ids.values().filter(|times| **times > 1).count();
    println!(
        "{} entries of {} events; without faults {} proposals; with {kills} kills of the evaluator and two of everybody {} \
         proposals, {repeated} of them more than once",
        expected.len(),
        all.len(),
        once.len(),
        ids.len(),
    );
    assert!(kills > 3 && repeated > 0, "nothing was struck");
}

/// Index of the member that evaluates, or did last.
async fn evaluator(members: &[Replica; 2]) -> usize {
    let watch = gatewatch::clock::Stopwatch::start();
    loop {
        let evaluates = |replica: &Replica| {
            let log = replica.log();
            let begun = log.rfind("this node evaluates");
            begun.is_some_and(|at| !log[at..].contains("another node evaluates now"))
        };
        if let Some(at) = members.iter().position(evaluates) {
            return at;
        }
        assert!(watch.elapsed() < PATIENCE, "nobody evaluates");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Proposals are written, their flush does not become part of the ledger, and everybody dies: whoever comes repeats it.
async fn repeats_a_flush(
    service: &Service,
    services: &Services,
    piece: &[String],
    members: &mut [Replica; 2],
) {
    let ledger = format!("INSERT INTO `{}`.`flushes`", service.store.database);
    let wish = format!("{{\"kind\": \"before\", \"match\": \"{ledger}\", \"times\": 100000}}");
    fault(&service.store, &wish).await;
    let made = || proposals(service, services, Some("valid token")).len();
    let before = made();
    service.send(services, PARTITIONS, piece);
    let watch = gatewatch::clock::Stopwatch::start();
    while made() <= before {
        assert!(watch.elapsed() < PATIENCE, "nothing is proposed");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    for member in members.iter_mut() {
        std::mem::replace(member, service.start()).kill();
    }
    mend(&service.store, &ledger).await;
}
