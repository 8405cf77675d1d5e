//! The inline check under load on loopback: 5,000 requests a second for some seconds against 100,000 entries, over HTTP as
//! nginx asks and over gRPC as Envoy does. Prints the time from sending a question to having the answer.
//!
//! `cargo bench --bench check`. The goal of the 99th percentile is a millisecond. Client and server share the machine: each
//! has a thread of its own, and what the client costs is in the figures. A question is sent when its time has come
//! whether or not earlier ones were answered, on as many connections as a gateway's workers keep open.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "a bench stops where something is wrong"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress, address};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use gatewatch::api::{Gate, Offers, serve};
use gatewatch::clock::{Stopwatch, now_millis};
use gatewatch::config::{ApiSettings, CheckSettings, Unavailable, parse};
use gatewatch::enrich::{Judge, Shared};
use gatewatch::model::{BlockEntry, BlockKey, BlockKind};
use gatewatch::publish::feed::Feed;
use gatewatch::telemetry::Telemetry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval_at};

const ZONE: &str = "023e105f4ecef8ad9ca31a8372d0c353";
const ENTRIES: u32 = 100_000;
const RATE: u64 = 5_000;
const CONNECTIONS: u64 = 50;
const SECONDS: u64 = 5;
/// Of every hundred questions this many are about listed addresses.
const LISTED: u64 = 10;

fn entry(number: u32) -> BlockEntry {
    let (kind, entity) = match number % 10 {
        0 => (
            BlockKind::Cidr,
            format!("2001:db8:{:x}::/48", number % 65_536),
        ),
        1 => (BlockKind::Session, format!("{number:032x}")),
        _ => (
            BlockKind::Ip,
            std::net::Ipv4Addr::from(0x0a00_0000 + number).to_string(),
        ),
    };
    let now = now_millis();
    BlockEntry {
        key: BlockKey::new(ZONE, kind, &entity).unwrap(),
        simulated: false,
        reason: "too many invalid tokens".to_owned(),
        rule: Some("token forging".to_owned()),
        evidence: BTreeMap::from([("invalid_token".to_owned(), 12)]),
        samples: vec![format!("req-{number}")],
        created_at: now,
        updated_at: now,
        expires_at: now + 3_600_000,
        revision: 1,
        sequence: u64::from(number),
    }
}

fn address(question: u64) -> String {
    let host = (question * 7_919 % u64::from(ENTRIES)) as u32;
    let listed = question % 100 < LISTED;
    let network = if listed { 0x0a00_0000 } else { 0xc612_0000 };
    // Every tenth number is a network or a session.
    std::net::Ipv4Addr::from(network + host / 10 * 10 + 2).to_string()
}

fn main() {
    let server = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let text = format!(
        "name = \"b\"\n[source]\npath = \"t\"\n[[zones]]\nid = \"{ZONE}\"\nhosts = [\"api.shop.example\"]\n\
         [[zones.session_identifiers]]\ntype = \"cookie\"\nname = \"sid\"\n"
    );
    let settings = parse("b.toml", &text, Path::new(".")).unwrap();
    let feed = Feed::new();
    let watch = Stopwatch::start();
    feed.replace((0..ENTRIES).map(entry).collect());
    println!("{ENTRIES} entries listed in {:.0?}", watch.elapsed());
    let judge = Judge::new(settings.policy, Arc::new(Shared::new(b"0123456789abcdef")));
    let check = CheckSettings {
        judge: false,
        unavailable: Unavailable::Allow,
        verifications: 1_000,
        allow: Vec::new(),
        trusted_hops: 0,
        key: None,
    };
    let telemetry = Telemetry::default();
    let gate = Gate::new(feed, judge, check, telemetry.metrics.clone());
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let api = ApiSettings {
        listen: anywhere,
        ext_authz: Some(anywhere),
    };
    let offers = Offers {
        feeds: None,
        gate: Some(gate),
    };
    let servers = server.block_on(serve(&api, &telemetry, offers)).unwrap();
    let client = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let http = client.block_on(load(Target::Http(servers.address())));
    print("HTTP", http);
    let grpc = client.block_on(load(Target::Grpc(servers.ext_authz().unwrap())));
    print("gRPC", grpc);
}

#[derive(Clone, Copy)]
enum Target {
    Http(SocketAddr),
    Grpc(SocketAddr),
}

/// Asks at the rate; gives the time of every question and how many were refused.
async fn load(target: Target) -> (Vec<Duration>, u64) {
    let start = tokio::time::Instant::now() + Duration::from_millis(200);
    let mut tasks = Vec::new();
    for connection in 0..CONNECTIONS {
        tasks.push(tokio::spawn(async move {
            // The connections take turns, so questions come one by one.
            let period = Duration::from_secs(CONNECTIONS) / RATE as u32;
            let first = start + period * connection as u32 / CONNECTIONS as u32;
            let mut ticks = interval_at(first, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut asker = Asker::connect(target).await;
            let mut times = Vec::new();
            let mut refused = 0;
            for turn in 0..SECONDS * RATE / CONNECTIONS {
                ticks.tick().await;
                let watch = Stopwatch::start();
                let passed = asker.ask(&address(turn * CONNECTIONS + connection)).await;
                times.push(watch.elapsed());
                refused += u64::from(!passed);
            }
            (times, refused)
        }));
    }
    let (mut times, mut refused) = (Vec::new(), 0);
    for task in tasks {
        let (some, count) = task.await.unwrap();
        times.extend(some);
        refused += count;
    }
    (times, refused)
}

/// One connection of a gateway.
enum Asker {
    Http(TcpStream, Vec<u8>),
    Grpc(AuthorizationClient<tonic::transport::Channel>),
}

impl Asker {
    async fn connect(target: Target) -> Self {
        match target {
            Target::Http(address) => {
                let stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                Self::Http(stream, vec![0; 4 << 10])
            }
            Target::Grpc(address) => {
                let channel = tonic::transport::Channel::from_shared(format!("http://{address}"));
                let channel = channel.unwrap().connect().await.unwrap();
                Self::Grpc(AuthorizationClient::new(channel))
            }
        }
    }

    /// Whether the request may pass.
    async fn ask(&mut self, address: &str) -> bool {
        match self {
            Self::Http(stream, buffer) => {
                let question = format!(
                    "GET /check HTTP/1.1\r\nhost: gatewatch\r\nx-original-method: GET\r\n\
                     x-original-uri: /orders/42?expand=items\r\nx-original-host: api.shop.example\r\n\
                     x-original-address: {address}\r\nuser-agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
                     cookie: theme=dark; sid=6f1b2c3d4e5f60718293a4b5c6d7e8f9\r\naccept: */*\r\n\r\n"
                );
                stream.write_all(question.as_bytes()).await.unwrap();
                let mut filled = 0;
                loop {
                    filled += stream.read(&mut buffer[filled..]).await.unwrap();
                    let text = std::str::from_utf8(&buffer[..filled]).unwrap();
                    if let Some((head, body)) = text.split_once("\r\n\r\n") {
                        let refused = head.starts_with("HTTP/1.1 403");
                        if !refused || body.ends_with('}') {
                            return !refused;
                        }
                    }
                }
            }
            Self::Grpc(client) => {
                let answer = client.check(question(address)).await.unwrap();
                answer.into_inner().status.unwrap().code == 0
            }
        }
    }
}

fn question(address: &str) -> CheckRequest {
    let headers = [
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)"),
        ("cookie", "theme=dark; sid=6f1b2c3d4e5f60718293a4b5c6d7e8f9"),
        ("accept", "*/*"),
    ];
    let socket = SocketAddress {
        address: address.to_owned(),
        ..SocketAddress::default()
    };
    let http = HttpRequest {
        method: "GET".to_owned(),
        path: "/orders/42?expand=items".to_owned(),
        host: "api.shop.example".to_owned(),
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..HttpRequest::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(Peer {
                address: Some(Address {
                    address: Some(address::Address::SocketAddress(socket)),
                }),
                ..Peer::default()
            }),
            request: Some(Request {
                http: Some(http),
                ..Request::default()
            }),
            ..AttributeContext::default()
        }),
    }
}

fn print(name: &str, (mut times, refused): (Vec<Duration>, u64)) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{name}: {} questions at {RATE}/s, {refused} refused, p50 {:.0?}, p99 {:.0?}, p99.9 {:.0?}, longest {:.0?}",
        times.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
    );
}
