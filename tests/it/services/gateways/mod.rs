//! The loop is closed with real gateways: requests through nginx, `HAProxy` and Envoy make their access logs, a pipeline reads
//! those, whoever forges tokens gets on the block list, and the same gateway refuses them while others pass.
//!
//! `tests/services/run --only gateways cargo test --test it services::gateways -- --nocapture` prints how long it takes.

mod bouncer;
pub mod client;
mod envoy;
mod haproxy;
pub mod harness;
mod hostile;
mod identities;
pub mod nginx;
mod trouble;

use std::net::Ipv4Addr;
use std::time::Duration;

use gatewatch::clock::Stopwatch;

use client::{Client, Issuer};
use harness::{Site, spread};
use tokio::task::JoinSet;

/// Clients that forge tokens at the same time, and how often that is repeated.
const FORGERS: u8 = 10;
const WAVES: u8 = 4;

/// Refusals in a row after which a gateway's every worker knows.
const STEADY: usize = 10;

/// Addresses of their own for the tests' clients.
pub fn address(wave: u8, client: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, wave, client)
}

pub fn bearing(address: Ipv4Addr, issuer: &Issuer) -> Client {
    let token = issuer.token(&address.to_string());
    Client::at(address).with("Authorization", &format!("Bearer {token}"))
}

/// How often a client is refused in a row until `lasts` is over. A gateway that loads its files anew may answer from its
/// old workers for a moment; once it refuses steadily, it must go on.
async fn refusals(site: &Site, client: &Client, lasts: Duration, began: &Stopwatch) -> usize {
    let mut refused = 0;
    while began.elapsed() < lasts {
        let answer = client.get(site.port, "/orders").await;
        // The answer may have come after the end.
        if answer == Some(403) {
            refused += 1;
        } else if began.elapsed() < lasts {
            assert!(refused < STEADY, "it ended early, after {refused} refusals");
            refused = 0;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    refused
}

/// The whole story behind a gateway that runs: forgers are refused, others are not, and it ends.
pub async fn closed_loop(site: &Site, what: &str) {
    let stranger = Issuer::new();
    let honest = bearing(address(0, 1), &site.issuer);
    let anonymous = Client::at(address(0, 2));
    for client in [&honest, &anonymous] {
        assert_eq!(client.get(site.port, "/orders").await, Some(200), "{what}");
    }
    let mut times = Vec::new();
    for wave in 1..=WAVES {
        let mut trials = JoinSet::new();
        for number in 1..=FORGERS {
            let forger = bearing(address(wave, number), &stranger);
            let probe = site.probe();
            trials.spawn(async move {
                let innocent = Client::at(forger.address);
                assert_eq!(innocent.get(probe.port, "/orders").await, Some(200));
                let began = Stopwatch::start();
                // The API behind this gateway looks at no token.
                assert_eq!(forger.get(probe.port, "/orders").await, Some(200));
                probe.until(&innocent, 403).await;
                began.elapsed()
            });
        }
        times.extend(trials.join_all().await);
        for client in [&honest, &anonymous] {
            assert_eq!(client.get(site.port, "/orders").await, Some(200), "{what}");
        }
    }
    spread(
        &format!("{what}, from a forged token to the refusal"),
        times,
    );

    // What is withdrawn may pass again, the others may not.
    let [pardoned, other] = [1, 2].map(|number| Client::at(address(1, number)));
    let entity = pardoned.address.to_string();
    site.blocklist(&[
        "withdraw", "--kind", "ip", "--entity", &entity, "--reason", "a test",
    ]);
    let took = site.until(&pardoned, 200).await;
    println!("{what}, from a withdrawal to the next answer: {took:.2?}");
    assert_eq!(other.get(site.port, "/orders").await, Some(403), "{what}");

    // An entry ends by itself, with nothing in the log that would move event time.
    let listed = Client::at(address(0, 9));
    let entity = listed.address.to_string();
    // On a slow machine it may have ended before the gateway has heard of it.
    let mut refused = 0;
    for lasts in [3, 12, 48] {
        let began = Stopwatch::start();
        let lasting = format!("{lasts}s");
        // Refused, when its time is over before the pipeline reads it.
        site.try_blocklist(&[
            "add", "--kind", "ip", "--entity", &entity, "--for", &lasting, "--reason", "a test",
        ]);
        refused = refusals(site, &listed, Duration::from_secs(lasts), &began).await;
        site.until(&listed, 200).await;
        if refused >= STEADY {
            break;
        }
    }
    assert!(refused >= STEADY, "{what}: not refused while it is listed");
    assert_eq!(honest.get(site.port, "/orders").await, Some(200), "{what}");
}
