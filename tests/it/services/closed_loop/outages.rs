//! What does not answer: gateways that should be told, and the cluster that should tell.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use gatewatch::clock::Stopwatch;

use super::events::{Events, zone};
use super::{PATIENCE, Service};
use crate::command::succeeds;
use crate::services::{free_ports, services};
use crate::services_clickhouse::{fault, mend};

const RULE: &str = "[[zones.rules]]\ntitle = \"valid token\"\nkind = \"token\"\naction = \"block\"\nblock = [\"ip\"]\nduration = \"10000d\"\n\
                    expression = 'is_jwt_valid(\"shop\") or not is_jwt_present(\"shop\")'\n";

/// Looks until it is so.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let watch = Stopwatch::start();
    while !so().await {
        assert!(watch.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_are_down_stall_no_service() {
    let Some(services) = services("gateways_that_are_down_stall_no_service") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    // One is not there, one takes connections and says nothing, one refuses every file, one never ends.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let [port] = free_ports();
    let body = format!(
        "[blocklist]\nenforce = true\n[api]\nlisten = \"127.0.0.1:{port}\"\nstate = \"{state}\"\n\
         [[exporters]]\nname = \"gone\"\nkind = \"haproxy\"\nfolder = \"{gone}\"\nsocket = \"127.0.0.1:1\"\n\
         [[exporters]]\nname = \"silent\"\nkind = \"haproxy\"\nfolder = \"{quiet}\"\nsocket = \"{silent}\"\n\
         [[exporters]]\nname = \"refusing\"\nkind = \"nginx\"\nfolder = \"{refusing}\"\ntest = [\"false\"]\n\
         [[exporters]]\nname = \"hanging\"\nkind = \"nginx\"\nfolder = \"{hanging}\"\nreload = [\"sleep\", \"100000\"]\ntime_limit = \"2s\"\n\
         [[exporters]]\nname = \"good\"\nkind = \"json\"\nfolder = \"{good}\"\n{zone}",
        state = at("control.db"),
        gone = at("gone"),
        quiet = at("quiet"),
        silent = silent.local_addr().unwrap(),
        refusing = at("refusing"),
        hanging = at("hanging"),
        good = at("good"),
        zone = zone(folder.path(), RULE),
    );
    let service = Service::new(&services, 1, "gatewatch", &body).await;
    let running = service.start();
    let mut sent = 0;
    for round in 0..5 {
        let mut events = Events::from(round * 60);
        let ip = format!("203.0.113.{round}");
        events.forging(&format!("forger{round}"), &ip, 2);
        sent += events.lines.len();
        service.send(&services, 1, &events.lines);
        // Judged, stored, listed and delivered while the others are still being tried.
        service.until_counted(sent).await;
        until("the good one is told", async || {
            let files = fs::read_dir(at("good")).into_iter().flatten().flatten();
            files
                .filter_map(|file| fs::read_to_string(file.path()).ok())
                .any(|text| text.contains(&format!("\"{ip}\"")))
        })
        .await;
    }
    let failed = ["gone", "silent", "refusing", "hanging"]
        .map(|name| format!("gatewatch_exports_total{{exporter=\"{name}\",result=\"failed\"}}"));
    until("all of the others are counted", async || {
        let url = format!("http://127.0.0.1:{port}/metrics");
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        failed.iter().all(|name| text.contains(name))
    })
    .await;
    running.stop();
    drop(silent);
}

/// Who is blocked at once is blocked while the store takes nothing and gives nothing, and is pardoned as well; what the store
/// missed is counted later, and proposed by nobody again.
#[tokio::test(flavor = "multi_thread")]
async fn the_list_does_not_wait_for_the_store() {
    let Some(services) = services("the_list_does_not_wait_for_the_store") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let body = format!("[blocklist]\nenforce = true\n{}", zone(folder.path(), RULE));
    let service = Service::new(&services, 1, "gatewatch", &body).await;
    let running = service.start();
    let forged = |round: i64| {
        let mut events = Events::from(round * 60);
        events.forging("forger", &format!("203.0.113.{round}"), 2);
        events.lines
    };
    service.send(&services, 1, &forged(1));
    service.until_counted(2).await;
    service
        .until("listed", |listed| listed.contains_key("ip/203.0.113.1"))
        .await;
    let database = service.store.database.clone();
    let wish = format!("{{\"kind\": \"before\", \"match\": \"{database}\", \"times\": 1000000}}");
    fault(&service.store, &wish).await;
    let began = Stopwatch::start();
    service.send(&services, 1, &forged(2));
    service
        .until("listed without the store", |listed| {
            listed.contains_key("ip/203.0.113.2")
        })
        .await;
    println!("listed while the store is away: {:.2?}", began.elapsed());
    for entity in ["203.0.113.1", "203.0.113.2"] {
        succeeds(&[
            "blocklist",
            &service.file(),
            "withdraw",
            "--kind",
            "ip",
            "--entity",
            entity,
            "--reason",
            "a test",
        ]);
    }
    mend(&service.store, &database).await;
    service.until_counted(4).await;
    service.send(&services, 1, &forged(3));
    let listed = service
        .until("and goes on", |listed| {
            listed.contains_key("ip/203.0.113.3")
        })
        .await;
    assert_eq!(listed.len(), 1, "{listed:#?}");
    assert_eq!(
        listed["ip/203.0.113.3"]["evidence"],
        serde_json::json!({"valid token": 2})
    );
    running.stop();
}

/// A process whose cluster is not there answers as it was told to, and says that it does not know the list.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_cluster_the_check_answers_as_configured() {
    let Some(services) = services("without_a_cluster_the_check_answers_as_configured") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for (unavailable, expected) in [("allow", 200), ("refuse", 403)] {
        let [port, nobody] = free_ports();
        let key = folder.path().join("bouncer.key");
        fs::write(&key, "a-key-of-a-bouncer-here").unwrap();
        let body = format!(
            "[api]\nlisten = \"127.0.0.1:{port}\"\nstate = \"{state}\"\n[check]\nunavailable = \"{unavailable}\"\n\
             [feeds]\n[[feeds.keys]]\nname = \"bouncer\"\nkey = {{ file = \"{key}\" }}\n{zone}",
            state = folder.path().join(format!("{unavailable}.db")).display(),
            key = key.display(),
            zone = zone(folder.path(), RULE),
        );
        let service = Service::new(&services, 1, "gatewatch", &body).await;
        service.edit(&services.kafka, &format!("127.0.0.1:{nobody}"));
        let running = service.start();
        let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
        until("the server answers", async || {
            reqwest::get(url("/healthz")).await.is_ok()
        })
        .await;
        let client = reqwest::Client::new();
        let check = client
            .get(url("/check"))
            .header("x-original-method", "GET")
            .header("x-original-uri", "/a")
            .header("x-original-host", "api.example")
            .header("x-original-address", "203.0.113.1");
        let answer = check.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), expected, "{unavailable}");
        let ready = reqwest::get(url("/readyz")).await.unwrap();
        assert_eq!(ready.status().as_u16(), 503);
        let feed = client
            .get(url("/v1/decisions"))
            .header("X-Api-Key", "a-key-of-a-bouncer-here");
        assert_eq!(feed.send().await.unwrap().status().as_u16(), 503);
        running.kill();
    }
}
