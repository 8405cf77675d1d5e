//! The loop through Kafka and ClickHouse, with a real nginx: its log goes line by line into a topic, one process judges, another
//! one answers the gateway.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gatewatch::clock::Stopwatch;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde_json::Value;

use super::{PATIENCE, Service};
use crate::payloads::validators;
use crate::services::gateways::client::{Client, Issuer};
use crate::services::gateways::harness::{KEY, LOG, Site, programs};
use crate::services::gateways::{address, bearing, closed_loop, nginx};
use crate::services::{Services, services};

/// Sends what is appended to a log to a topic, as a log shipper does, until it is dropped.
struct Shipper {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Shipper {
    fn start(services: &Services, log: &str, topic: &str) -> Self {
        let producer: ThreadedProducer<DefaultProducerContext> = services
            .config()
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            .create()
            .unwrap();
        let mut log = BufReader::new(File::open(log).unwrap());
        let topic = topic.to_owned();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut line = String::new();
            while !stopped.load(Ordering::Relaxed) {
                if log.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                }
                let record = BaseRecord::<(), _>::to(&topic).payload(line.trim_end());
                producer.send(record).map_err(|(error, _)| error).unwrap();
                line.clear();
            }
            producer.flush(Duration::from_secs(10)).unwrap();
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A panic there has been reported.
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// The zone of the example, with a rule and a threshold that block. A client that asks until it is refused no more is refused
/// often enough for the threshold of refusals, which is not what is looked at here.
fn body(site: &Site) -> String {
    format!(
        "[blocklist]\nenforce = true\n\
         [[blocklist.thresholds]]\nname = \"token forging\"\ncount = 3\naction = \"block\"\n\
         [[blocklist.thresholds]]\nname = \"credential stuffing\"\nenabled = false\n\
         [[zones]]\nid = \"c0ffee00c0ffee00c0ffee00c0ffee00\"\nname = \"shop.example\"\nhosts = [\"api.shop.example\"]\n\
         [[zones.session_identifiers]]\ntype = \"cookie\"\nname = \"sid\"\n\
         [[zones.token_configurations]]\ntitle = \"shop issuer\"\n\
         token_sources = ['http.request.headers[\"authorization\"][0]']\njwks = \"{jwks}\"\nissuer = \"https://id.shop.example\"\n\
         [[zones.rules]]\ntitle = \"forged tokens\"\nkind = \"token\"\naction = \"block\"\nblock = [\"ip\"]\n\
         expression = 'not is_jwt_present(\"shop issuer\") or is_jwt_valid(\"shop issuer\")'\n",
        jwks = site.path("jwks.json"),
    )
}

/// Ids of requests in the gateway's log, by the address of the client.
fn logged(site: &Site) -> BTreeMap<String, Vec<String>> {
    let mut ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in std::fs::read_to_string(site.path(LOG)).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        ids.entry(text("remote_addr"))
            .or_default()
            .push(text("request_id"));
    }
    ids
}

/// What the topic of the list holds: key → whether its newest record is an entry; and how many tombstones there are. Every
/// entry is what its schema says, under the key of its entity.
fn told(service: &Service, services: &Services) -> (BTreeMap<String, bool>, usize) {
    let validators = validators();
    let mut newest = BTreeMap::new();
    let mut tombstones = 0;
    for (key, value) in service.records(services, "blocklist") {
        if let Some(value) = &value {
            let problems: Vec<String> = validators["block_entry"]
                .iter_errors(value)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(problems.is_empty(), "{value}: {problems:?}");
            let data = &value["data"];
            let parts = ["zone", "kind", "entity"].map(|name| data[name].as_str().unwrap());
            assert_eq!(parts.join("/"), key);
        } else {
            tombstones += 1;
        }
        newest.insert(key, value.is_some());
    }
    (newest, tombstones)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_refuses_whom_another_process_listed() {
    let name = "a_gateway_refuses_whom_another_process_listed";
    let Some(services) = services(name) else {
        return;
    };
    let Some(programs) = programs(name) else {
        return;
    };
    let mut site = Site::new(programs, "nginx-json", "");
    let body = body(&site);
    let service = Service::new(&services, 1, "nginx-json", &body).await;
    // What asks about this site asks the service.
    site.write(
        "pipeline.toml",
        &service.text(&services, "nginx-json", &body),
    );
    nginx::start(&mut site, &["the inline check"]).await;
    let shipper = Shipper::start(&services, &site.path(LOG), &service.topic);
    let mut judging = service.start();
    judging.says("this node evaluates").await;
    let answering = service.start_with(
        "answering.toml",
        &format!(
            "[api]\nlisten = \"127.0.0.1:{}\"\nstate = \"{}\"\n[check]\njudge = false\n\
             [feeds]\n[[feeds.keys]]\nname = \"bouncer\"\nkey = {{ file = \"{}\" }}\n",
            site.api,
            service.path("control.db").display(),
            site.path("bouncer.key"),
        ),
    );
    let reader = Client::at(Ipv4Addr::LOCALHOST).with("X-Api-Key", KEY);
    let began = Stopwatch::start();
    while reader.get(site.api, "/v1/decisions").await != Some(200) {
        assert!(began.elapsed() < PATIENCE, "{}", answering.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    closed_loop(&site, "nginx by auth_request, its log through Kafka").await;

    // A rule and a threshold find the same client.
    let forger = bearing(address(9, 1), &Issuer::new());
    for _ in 0..3 {
        forger.get(site.port, "/orders").await;
    }
    let key = format!("ip/{}", forger.address);
    let listed = service
        .until("a rule and a threshold", |listed| {
            let evidence = &listed.get(&key).unwrap_or(&Value::Null)["evidence"];
            evidence["forged tokens"] == 3 && evidence["forged_token"] == 3
        })
        .await;
    let entry = &listed[&key];
    assert_eq!(
        (&entry["simulated"], &entry["rule"]),
        (&Value::Bool(false), &Value::from("forged tokens"))
    );
    let ids = logged(&site);
    for entry in listed.values() {
        let Some(known) = ids.get(entry["entity"].as_str().unwrap()) else {
            panic!("{entry} is nobody of {:?}", ids.keys());
        };
        let samples = entry["samples"].as_array().unwrap();
        assert!(!samples.is_empty(), "{entry}");
        for sample in samples {
            assert!(known.iter().any(|id| sample == id), "{entry} and {known:?}");
        }
    }
    let url = format!(
        "http://127.0.0.1:{}/v1/decisions?ip={}",
        site.api, forger.address
    );
    let decisions = reqwest::Client::new().get(url).header("X-Api-Key", KEY);
    let decisions = decisions.send().await.unwrap().text().await.unwrap();
    let decisions: Value = serde_json::from_str(&decisions).unwrap();
    assert_eq!(decisions[0]["value"], forger.address.to_string());

    // What was withdrawn or is over ends with a tombstone; gateways let it pass as soon as its time is over.
    let zone = "c0ffee00c0ffee00c0ffee00c0ffee00";
    let key = |wave, number| format!("{zone}/ip/{}", address(wave, number));
    let watch = Stopwatch::start();
    let (newest, tombstones) = loop {
        let (newest, tombstones) = told(&service, &services);
        if newest.get(&key(0, 9)) == Some(&false) {
            break (newest, tombstones);
        }
        assert!(watch.elapsed() < PATIENCE, "no tombstone in {newest:?}");
    };
    // The brief one may have been listed more than once.
    assert!(tombstones >= 2, "{tombstones}");
    for (wave, number, holds) in [(1, 1, false), (1, 2, true), (9, 1, true)] {
        assert_eq!(
            newest.get(&key(wave, number)),
            Some(&holds),
            "{wave} {number}"
        );
    }

    // Nobody judges any more, and the other process answers on. It takes over what the first one did.
    judging.kill();
    let other = bearing(address(9, 2), &Issuer::new());
    assert_eq!(
        Client::at(address(9, 1)).get(site.port, "/orders").await,
        Some(403)
    );
    assert_eq!(other.get(site.port, "/orders").await, Some(200));
    let took = site.until(&Client::at(address(9, 2)), 403).await;
    println!(
        "after the death of the process that judges, from a forged token to the refusal: {took:.2?}"
    );
    drop(shipper);
    answering.stop();
}
