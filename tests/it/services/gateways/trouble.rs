//! A gateway that does not answer, or refuses its files, is nobody else's trouble.

use std::net::{Ipv4Addr, TcpListener};

use gatewatch::clock::Stopwatch;

use serde_json::Value;

use super::harness::{Site, programs};
use super::{Client, Issuer, address, bearing, nginx};
use crate::command::succeeds;

#[tokio::test(flavor = "multi_thread")]
async fn targets_that_are_down_stall_nothing() {
    let Some(programs) = programs("services::gateways::trouble") else {
        return;
    };
    // One is not there, one takes connections and says nothing, one refuses every file, one never ends.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let silent = format!("{}", silent.local_addr().unwrap());
    let exporters = format!(
        r#"
[[exporters]]
name = "gone"
kind = "haproxy"
folder = "gone"
socket = "127.0.0.1:1"

[[exporters]]
name = "silent"
kind = "haproxy"
folder = "silent"
socket = "{silent}"

[[exporters]]
name = "refusing"
kind = "nginx"
folder = "refusing"
test = ["false"]

[[exporters]]
name = "hanging"
kind = "nginx"
folder = "hanging"
reload = ["sleep", "100000"]
time_limit = "2s"
"#
    );
    let mut site = Site::new(programs, "nginx-json", &exporters);
    let exporter = nginx::exporter(&site.dir(), site.programs.to_str().unwrap());
    site.append("pipeline.toml", &exporter);
    for name in nginx::EXPORTED {
        site.write(name, "");
    }
    nginx::start(&mut site, &["the block list"]).await;
    site.start_pipeline(nginx::EXPORTED).await;

    let honest = Client::at(address(8, 1));
    let forger = bearing(address(8, 2), &Issuer::new());
    assert_eq!(forger.get(site.port, "/orders").await, Some(200));
    let took = site.until(&forger, 403).await;
    println!("nginx, with four exporters in trouble beside it: {took:.2?}");
    for _ in 0..200 {
        assert_eq!(honest.get(site.port, "/orders").await, Some(200));
    }
    // Every one of them is counted while the others are still being tried.
    let pipeline = site.path("pipeline.toml");
    let began = Stopwatch::start();
    loop {
        let report: Value =
            serde_json::from_str(&succeeds(&["report", &pipeline, "--json"])).unwrap();
        let endpoints = report["endpoints"].as_array().unwrap();
        let counts = endpoints
            .iter()
            .filter_map(|e| e["requests"]["2xx"].as_u64());
        if counts.sum::<u64>() > 200 {
            break;
        }
        assert!(began.elapsed() < super::harness::DEADLINE, "{report}");
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    drop(silent);
}
