//! The inline check under load on loopback: 5,000 requests a second against 100,000 entries, over HTTP as nginx and Envoy ask
//! and over gRPC as Envoy does, by the block list alone and judged by rules with a token. Next to each stands what a handler
//! takes that does nothing, on the same server and in the same run: the machine and the client are in both figures.
//!
//! `cargo bench --bench check`. The goal of the 99th percentile is a millisecond. Questions are sent when their time has
//! come, whether or not earlier ones were answered, on as many connections as a gateway's workers keep open; what is
//! measured is the time from when a question was **due** to its answer, so a stall counts for every question that fell
//! into it. The targets take turns, so that a noisy second of the machine hits them all. How late the client itself was is
//! printed too. Server and client have one thread for their tasks each; a third one sends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench stops where something is wrong"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::any;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress, address};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{
    Authorization, AuthorizationServer,
};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest, CheckResponse};
use envoy_types::pb::google::rpc;
use gatewatch::api::{Gate, Offers, serve};
use gatewatch::clock::{Stopwatch, now_millis};
use gatewatch::config::{ApiSettings, CheckSettings, Settings, Unavailable, parse};
use gatewatch::enrich::{Judge, Shared};
use gatewatch::model::{BlockEntry, BlockKey, BlockKind};
use gatewatch::publish::feed::Feed;
use gatewatch::telemetry::Telemetry;
use gatewatch::wire::http::{Protocol, Server, bind};
use tokio::io::AsyncReadExt;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

const ZONE: &str = "023e105f4ecef8ad9ca31a8372d0c353";
const ENTRIES: u32 = 100_000;
const RATE: u64 = 5_000;
const CONNECTIONS: u64 = 50;
/// Questions of one turn of a target, and turns.
const TURN: u64 = 2 * RATE;
const TURNS: u64 = 5;
/// Of every hundred questions this many are about listed addresses.
const LISTED: u64 = 10;
/// Clients with a token of their own.
const TOKENS: u64 = 1_000;
/// Rules that could refuse, besides the one about tokens.
const RULES: u32 = 20;

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

/// Who signs the clients' tokens.
struct Issuer(EcdsaKeyPair);

impl Issuer {
    fn jwks(&self) -> String {
        let point = self.0.public_key().as_ref();
        let coordinate = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        let (x, y) = (coordinate(1..33), coordinate(33..65));
        format!(
            r#"{{"keys":[{{"kty":"EC","crv":"P-256","alg":"ES256","kid":"k","x":"{x}","y":"{y}"}}]}}"#
        )
    }

    fn token(&self, number: u64) -> String {
        let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
        let head = encode(r#"{"alg":"ES256","typ":"JWT","kid":"k"}"#.to_owned());
        let expires = now_millis() / 1_000 + 3_600;
        let body = format!(
            r#"{{"iss":"https://id.shop.example","sub":"client-{number}","exp":{expires},"scope":"orders:read orders:write"}}"#
        );
        let signed = format!("{head}.{}", encode(body));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.unwrap()))
    }
}

fn settings(issuer: &Issuer) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("jwks.json"), issuer.jwks()).unwrap();
    let mut text = format!(
        "name = \"b\"\n[source]\npath = \"t\"\n[[zones]]\nid = \"{ZONE}\"\nhosts = [\"api.shop.example\"]\n\
         [[zones.session_identifiers]]\ntype = \"jwt\"\nname = \"shop:$.sub\"\n\
         [[zones.session_identifiers]]\ntype = \"cookie\"\nname = \"sid\"\n\
         [[zones.token_configurations]]\ntitle = \"shop\"\njwks = \"jwks.json\"\n\
         token_sources = ['http.request.headers[\"authorization\"][0]']\n\
         [[zones.rules]]\ntitle = \"valid tokens\"\nkind = \"token\"\naction = \"block\"\n\
         expression = 'is_jwt_valid(\"shop\")'\n"
    );
    for number in 0..RULES {
        write!(
            text,
            "[[zones.rules]]\ntitle = \"rule {number}\"\nkind = \"custom\"\naction = \"block\"\n\
             expression = 'http.request.uri.path matches \"^/admin/{number}/\" and not ip.src in {{192.0.2.0/24}} \
             and any(lower(http.request.headers[\"user-agent\"][*])[*] contains \"bot-{number}\")'\n"
        )
        .unwrap();
    }
    parse("b.toml", &text, folder.path()).unwrap()
}

/// A server that answers and does nothing else.
struct Nothing;

#[tonic::async_trait]
impl Authorization for Nothing {
    async fn check(
        &self,
        _: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, tonic::Status> {
        Ok(tonic::Response::new(CheckResponse {
            status: Some(rpc::Status::default()),
            ..CheckResponse::default()
        }))
    }
}

fn nothing(server: &Runtime, protocol: Protocol) -> Server {
    let router = match protocol {
        Protocol::Http1 => Router::new().route("/check", any(|| async { StatusCode::OK })),
        Protocol::Http2 => Router::new().route_service(
            "/envoy.service.auth.v3.Authorization/{method}",
            AuthorizationServer::new(Nothing),
        ),
    };
    server.block_on(async {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)), "bench").await;
        let grace = Duration::from_secs(1);
        Server::start(listener.unwrap(), router, protocol, 2_048, grace).unwrap()
    })
}

/// How a question is asked.
#[derive(Clone, Copy)]
enum Way {
    /// As nginx does.
    Check,
    /// As Envoy does over HTTP.
    ExtAuthz,
    /// As Envoy does over gRPC.
    Grpc,
}

/// Which token a question carries.
#[derive(Clone, Copy)]
enum Bearer {
    None,
    /// That of a client, which was seen before.
    Known,
    /// One that nobody has seen.
    New,
}

struct Target {
    name: &'static str,
    at: SocketAddr,
    way: Way,
    bearer: Bearer,
    times: Vec<Duration>,
    /// The 99th percentile of each turn.
    turns: Vec<Duration>,
    late: Vec<Duration>,
    refused: u64,
}

fn main() {
    let server = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let client = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let issuer = Issuer(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
    let settings = settings(&issuer);
    let feed = Feed::new();
    let watch = Stopwatch::start();
    feed.replace((0..ENTRIES).map(entry).collect());
    println!("{ENTRIES} entries listed in {:.0?}", watch.elapsed());
    let telemetry = Telemetry::default();
    let started = |judged: bool| {
        let policy = Arc::clone(&settings.policy);
        let judge = Judge::new(policy, Arc::new(Shared::new(b"0123456789abcdef")));
        let check = CheckSettings {
            judge: judged,
            unavailable: Unavailable::Allow,
            verifications: u32::MAX,
            allow: Vec::new(),
            trusted_hops: 0,
            key: None,
        };
        let gate = Gate::new(feed.clone(), judge, check, telemetry.metrics.clone());
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let api = ApiSettings {
            listen: anywhere,
            ext_authz: Some(anywhere),
        };
        let offers = Offers {
            feeds: None,
            gate: Some(gate),
        };
        server.block_on(serve(&api, &telemetry, offers)).unwrap()
    };
    let (list, judged) = (started(false), started(true));
    let bare = (
        nothing(&server, Protocol::Http1),
        nothing(&server, Protocol::Http2),
    );
    let target = |name, at, way, bearer| Target {
        name,
        at,
        way,
        bearer,
        times: Vec::new(),
        turns: Vec::new(),
        late: Vec::new(),
        refused: 0,
    };
    let (list_grpc, judged_grpc) = (list.ext_authz().unwrap(), judged.ext_authz().unwrap());
    let mut targets = [
        target("HTTP, nothing", bare.0.address(), Way::Check, Bearer::Known),
        target(
            "HTTP /check, list",
            list.address(),
            Way::Check,
            Bearer::None,
        ),
        target(
            "HTTP /check, list and sessions by token",
            list.address(),
            Way::Check,
            Bearer::Known,
        ),
        target(
            "HTTP /check, judged",
            judged.address(),
            Way::Check,
            Bearer::Known,
        ),
        target(
            "HTTP /check, judged, every token new",
            judged.address(),
            Way::Check,
            Bearer::New,
        ),
        target(
            "HTTP /ext_authz, judged",
            judged.address(),
            Way::ExtAuthz,
            Bearer::Known,
        ),
        target("gRPC, nothing", bare.1.address(), Way::Grpc, Bearer::Known),
        target("gRPC, list", list_grpc, Way::Grpc, Bearer::None),
        target("gRPC, judged", judged_grpc, Way::Grpc, Bearer::Known),
    ];
    let known: Vec<String> = (0..TOKENS).map(|number| issuer.token(number)).collect();
    // The first turn opens everything up and is not counted.
    for turn in 0..=TURNS {
        for target in &mut targets {
            let token = |question: u64| match target.bearer {
                Bearer::None => None,
                Bearer::Known => Some(known[(question % TOKENS) as usize].clone()),
                Bearer::New => Some(issuer.token(TOKENS + turn * TURN + question)),
            };
            let mut answered = match target.way {
                Way::Grpc => over_grpc(&client, target.at, &token),
                way => over_http(&client, target.at, &|question| {
                    written(way, question, token(question))
                }),
            };
            if turn > 0 {
                target.turns.push(share(&mut answered.times, 0.99));
                target.times.extend(answered.times);
                target.late.extend(answered.late);
                target.refused += answered.refused;
            }
        }
    }
    for target in targets {
        print(target);
    }
}

/// What became of a turn's questions.
#[derive(Default)]
struct Answered {
    times: Vec<Duration>,
    late: Vec<Duration>,
    refused: u64,
}

/// When questions are due, on one watch.
struct Plan {
    watch: Stopwatch,
    first: Duration,
}

impl Plan {
    fn new() -> Self {
        let watch = Stopwatch::start();
        let first = watch.elapsed() + Duration::from_millis(50);
        Self { watch, first }
    }

    fn due(&self, question: u64) -> Duration {
        self.first + Duration::from_secs(question) / RATE as u32
    }

    /// Sends every question at its time; how late each was.
    fn send(&self, mut send: impl FnMut(u64)) -> Vec<Duration> {
        let questions = 0..TURN;
        questions
            .map(|question| {
                let due = self.due(question);
                if let Some(left) = due.checked_sub(self.watch.elapsed()) {
                    std::thread::sleep(left);
                }
                send(question);
                self.watch.elapsed().saturating_sub(due)
            })
            .collect()
    }

    /// Puts together what the connections, each with every so many-th question, were answered and when.
    fn gather(
        &self,
        client: &Runtime,
        late: Vec<Duration>,
        readers: Vec<JoinHandle<Vec<(Duration, bool)>>>,
    ) -> Answered {
        let mut answered = Answered {
            late,
            ..Answered::default()
        };
        for (connection, reader) in (0_u64..).zip(readers) {
            let answers = client.block_on(reader).unwrap();
            for (turn, (at, passed)) in (0_u64..).zip(answers) {
                let due = self.due(turn * CONNECTIONS + connection);
                answered.times.push(at.saturating_sub(due));
                answered.refused += u64::from(!passed);
            }
        }
        answered
    }
}

fn over_http(client: &Runtime, at: SocketAddr, question: &dyn Fn(u64) -> String) -> Answered {
    let questions: Vec<String> = (0..TURN).map(question).collect();
    let streams = (0..CONNECTIONS).map(|_| {
        let stream = TcpStream::connect(at).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    });
    let mut streams: Vec<TcpStream> = streams.collect();
    let plan = Plan::new();
    let watch = plan.watch;
    let readers = streams.iter().map(|stream| {
        let stream = stream.try_clone().unwrap();
        client.spawn(async move {
            let mut stream = tokio::net::TcpStream::from_std(stream).unwrap();
            let mut answers = Vec::new();
            let (mut buffer, mut filled) = (vec![0; 16 << 10], 0);
            while (answers.len() as u64) < TURN / CONNECTIONS {
                let read = stream.read(&mut buffer[filled..]).await.unwrap();
                assert!(read > 0, "the server closed a connection");
                filled += read;
                let at = watch.elapsed();
                while let Some((passed, length)) = answer(&buffer[..filled]) {
                    buffer.copy_within(length..filled, 0);
                    filled -= length;
                    answers.push((at, passed));
                }
            }
            answers
        })
    });
    let readers = readers.collect();
    let late = plan.send(|question| {
        let mut left = questions[question as usize].as_bytes();
        while !left.is_empty() {
            match streams[(question % CONNECTIONS) as usize].write(left) {
                Ok(written) => left = &left[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    });
    plan.gather(client, late, readers)
}

/// Whether the first answer in the buffer lets the request pass, and its length; `None` = it is not all there.
fn answer(buffer: &[u8]) -> Option<(bool, usize)> {
    let end = buffer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&buffer[..end]).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.parse::<usize>().unwrap())
    });
    let whole = end + length.unwrap_or_default();
    let passed = match &head[9..12] {
        "200" => true,
        "403" => false,
        other => panic!("{other}"),
    };
    (buffer.len() >= whole).then_some((passed, whole))
}

fn written(way: Way, question: u64, token: Option<String>) -> String {
    let address = address(question);
    let mut text = match way {
        Way::ExtAuthz => format!(
            "GET /ext_authz/orders/42?expand=items HTTP/1.1\r\nhost: api.shop.example\r\nx-forwarded-for: {address}\r\n\
             x-forwarded-proto: https\r\n"
        ),
        _ => format!(
            "GET /check HTTP/1.1\r\nhost: gatewatch\r\nx-original-method: GET\r\nx-original-uri: /orders/42?expand=items\r\n\
             x-original-host: api.shop.example\r\nx-original-address: {address}\r\naccept: */*\r\n"
        ),
    };
    text.push_str(
        "user-agent: Mozilla/5.0 (X11; Linux x86_64)\r\ncookie: theme=dark; sid=6f1b2c3d4e5f60718293a4b5c6d7e8f9\r\n",
    );
    if let Some(token) = token {
        write!(text, "authorization: Bearer {token}\r\n").unwrap();
    }
    text + "\r\n"
}

fn over_grpc(client: &Runtime, at: SocketAddr, token: &dyn Fn(u64) -> Option<String>) -> Answered {
    let questions: Vec<CheckRequest> = (0..TURN)
        .map(|question| described(question, token(question)))
        .collect();
    let connect = || async {
        let channel = Channel::from_shared(format!("http://{at}"));
        AuthorizationClient::new(channel.unwrap().connect().await.unwrap())
    };
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| client.block_on(connect()))
        .collect();
    let plan = Plan::new();
    let watch = plan.watch;
    let (mut senders, mut readers) = (Vec::new(), Vec::new());
    for mut asker in clients {
        let (sender, mut asked) = mpsc::unbounded_channel::<CheckRequest>();
        senders.push(sender);
        readers.push(client.spawn(async move {
            let mut answers = Vec::new();
            while let Some(question) = asked.recv().await {
                let answer = asker.check(question).await.unwrap().into_inner();
                answers.push((watch.elapsed(), answer.status.unwrap().code == 0));
            }
            answers
        }));
    }
    let mut questions = questions.into_iter();
    let late = plan.send(|question| {
        let sender = &senders[(question % CONNECTIONS) as usize];
        sender.send(questions.next().unwrap()).unwrap();
    });
    drop(senders);
    plan.gather(client, late, readers)
}

fn described(question: u64, token: Option<String>) -> CheckRequest {
    let mut headers: std::collections::HashMap<String, String> = [
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)"),
        ("cookie", "theme=dark; sid=6f1b2c3d4e5f60718293a4b5c6d7e8f9"),
        ("accept", "*/*"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    headers.extend(token.map(|token| ("authorization".to_owned(), format!("Bearer {token}"))));
    let socket = SocketAddress {
        address: address(question),
        ..SocketAddress::default()
    };
    let http = HttpRequest {
        method: "GET".to_owned(),
        path: "/orders/42?expand=items".to_owned(),
        host: "api.shop.example".to_owned(),
        headers,
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

/// The time within which this share of the questions was answered.
fn share(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * share) as usize]
}

fn print(mut target: Target) {
    let times = &mut target.times;
    println!(
        "{:<40} p50 {:>6.0?}  p99 {:>7.1?} (middle turn {:>7.1?})  p99.9 {:>6.1?}  longest {:>6.1?}  (sent late: p99 {:.0?}; {} of {} refused)",
        target.name,
        share(times, 0.5),
        share(times, 0.99),
        share(&mut target.turns, 0.5),
        share(times, 0.999),
        share(times, 1.0),
        share(&mut target.late, 0.99),
        target.refused,
        times.len(),
    );
}
