//! The inline check, as nginx and Envoy ask it.

use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress, address};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use gatewatch::clock;
use gatewatch::config::{CheckSettings, Unavailable};
use gatewatch::detect::blocklist::Edit;
use gatewatch::enrich::privacy::Hasher;
use gatewatch::model::{BlockEntry, BlockKind};
use gatewatch::wire::secret::SharedKey;
use reqwest::Method;

use super::{HASH_KEY, Served, ZONE, ip, listed, plain_check};

/// A question of nginx about a request of `address`.
fn nginx(served: &Served, address: &str) -> reqwest::RequestBuilder {
    let request = served.asked(Method::GET, "/check");
    request
        .header("x-original-method", "GET")
        .header("x-original-uri", "/orders?x=1")
        .header("x-original-host", "api.shop.example:443")
        .header("x-original-address", address)
}

async fn decision(request: reqwest::RequestBuilder) -> (u16, String) {
    let answer = request.send().await.unwrap();
    let said = answer.headers().get("x-gatewatch-decision");
    let said = said.map(|value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), said.unwrap_or_default())
}

#[tokio::test]
async fn nginx_is_told_who_may_pass() {
    let served = Served::start(plain_check()).await;
    let hasher = Hasher::new(HASH_KEY);
    let session = hex::encode(hasher.hash(ZONE, "cookie:sid", b"s-1"));
    let pass = (200, "allowed".to_owned());
    let stop = (403, "blocked".to_owned());
    assert_eq!(
        decision(nginx(&served, "192.0.2.1")).await,
        pass,
        "not loaded: allow"
    );
    served.feed.replace(vec![
        ip("192.0.2.1"),
        listed(ZONE, BlockKind::Cidr, "2001:db8::/32"),
        listed(ZONE, BlockKind::Session, &session),
        listed(ZONE, BlockKind::UserAgent, "evil/1.0"),
        listed(ZONE, BlockKind::Asn, "64500"),
        BlockEntry {
            simulated: true,
            ..ip("192.0.2.9")
        },
        BlockEntry {
            expires_at: clock::now_millis() - 1,
            ..ip("192.0.2.8")
        },
    ]);
    for (address, expected) in [
        ("192.0.2.1", &stop),
        ("::ffff:192.0.2.1", &stop),
        ("2001:db8::77", &stop),
        ("192.0.2.2", &pass),
        ("192.0.2.8", &pass),
        ("192.0.2.9", &pass),
        ("not an address", &pass),
    ] {
        assert_eq!(
            decision(nginx(&served, address)).await,
            *expected,
            "{address}"
        );
    }
    let elsewhere = || nginx(&served, "203.0.113.1");
    assert_eq!(
        decision(elsewhere().header("cookie", "a=b; sid=s-1")).await,
        stop
    );
    assert_eq!(
        decision(elsewhere().header("cookie", "a=b; sid=s-2")).await,
        pass
    );
    assert_eq!(
        decision(elsewhere().header("user-agent", "evil/1.0")).await,
        stop
    );
    assert_eq!(
        decision(elsewhere().header("x-original-asn", "64500")).await,
        stop
    );
    let unknown = served
        .asked(Method::GET, "/check")
        .header("x-original-method", "GET")
        .header("x-original-uri", "/")
        .header("x-original-host", "unknown.example")
        .header("x-original-address", "192.0.2.1");
    assert_eq!(decision(unknown).await, pass, "a host of no zone");
    let incomplete = served
        .asked(Method::GET, "/check")
        .header("x-original-host", "api.shop.example");
    assert_eq!(decision(incomplete).await.0, 400);

    let refusal = nginx(&served, "192.0.2.1").send().await.unwrap();
    let id = refusal.headers()["x-gatewatch-entry"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(refusal.text().await.unwrap(), r#"{"message":"forbidden"}"#);
    let listed = served.json("/feeds/blocklist").await;
    assert!(
        listed["entries"]
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["id"] == id)
    );

    served.feed.apply(&[Edit::Ended(ip("192.0.2.1").key)]);
    assert_eq!(decision(nginx(&served, "192.0.2.1")).await, pass);
    let counted = served.telemetry.metrics.encode();
    assert!(
        counted.contains("gatewatch_checks_total{result=\"blocked\"} 7\n"),
        "{counted}"
    );
    served.servers.stop().await;
}

#[tokio::test]
async fn envoy_is_told_over_http_by_the_address_that_it_appended() {
    let served = Served::start(plain_check()).await;
    served.feed.replace(vec![ip("192.0.2.1")]);
    let asked = |path: &str, forwarded: &str| {
        let request = served.asked(Method::POST, &format!("/ext_authz{path}"));
        request
            .header("host", "api.shop.example")
            .header("x-forwarded-for", forwarded)
    };
    for (path, forwarded, expected) in [
        ("/orders/1?x=1", "192.0.2.1", 403),
        ("/", "203.0.113.9, 192.0.2.1", 403),
        ("", "192.0.2.1", 403),
        ("//odd//path", "192.0.2.1", 403),
        // What a client claims does not count.
        ("/orders/1", "192.0.2.1, 203.0.113.9", 200),
        ("/orders/1", "unknown", 200),
    ] {
        assert_eq!(
            decision(asked(path, forwarded)).await.0,
            expected,
            "{path} {forwarded}"
        );
    }
    served.servers.stop().await;
}

#[tokio::test]
async fn no_byte_of_a_client_hides_who_it_is() {
    let served = Served::start(plain_check()).await;
    served.feed.replace(vec![ip("192.0.2.1")]);
    for lines in [
        &[&b"\xc3\xa9, 192.0.2.1"[..]][..],
        &[b"\xe9,192.0.2.1"],
        &[b"203.0.113.9, \xff ,192.0.2.1"],
        &[b"203.0.113.9", b"192.0.2.1"],
        &[b"192.0.2.1:4444"],
        &[b"::ffff:192.0.2.1"],
        &[b"[::ffff:192.0.2.1]:4444"],
    ] {
        let mut request = served.asked(Method::GET, "/ext_authz/orders");
        request = request.header("host", "api.shop.example");
        for line in lines {
            request = request.header("x-forwarded-for", *line);
        }
        assert_eq!(decision(request).await.0, 403, "{lines:?}");
    }
    for address in ["192.0.2.1:4444", "[192.0.2.1]", "[::ffff:192.0.2.1]"] {
        assert_eq!(decision(nginx(&served, address)).await.0, 403, "{address}");
    }
    let odd = nginx(&served, "192.0.2.1")
        .header("user-agent", &b"caf\xe9"[..])
        .header("cookie", &b"\xff=\xff; sid=s-1"[..])
        .header("x-any", &b"\xe9"[..]);
    assert_eq!(decision(odd).await.0, 403);
    served.servers.stop().await;
}

#[tokio::test]
async fn a_session_and_an_agent_are_found_beside_bytes_that_are_no_text() {
    let served = Served::start(plain_check()).await;
    let session = hex::encode(Hasher::new(HASH_KEY).hash(ZONE, "cookie:sid", b"s-1"));
    served.feed.replace(vec![
        listed(ZONE, BlockKind::Session, &session),
        listed(ZONE, BlockKind::UserAgent, "evil/1.0"),
        listed(ZONE, BlockKind::UserAgent, "caf\u{fffd}"),
        listed(ZONE, BlockKind::Asn, "64500"),
    ]);
    let asked = || nginx(&served, "203.0.113.1");
    for (name, values, expected) in [
        ("cookie", &[&b"a=\xe9; sid=s-1"[..]][..], 403),
        ("cookie", &[b"\xff", b"sid=s-1"], 403),
        ("user-agent", &[b"\xe9", b"evil/1.0"], 403),
        ("user-agent", &[b"caf\xef\xbf\xbd"], 403),
        // Other bytes than the ones that are listed.
        ("user-agent", &[b"caf\xe9"], 200),
        ("x-original-asn", &[b"AS64500 Example \xe9"], 403),
        ("x-original-asn", &[b"64501"], 200),
    ] {
        let request = values
            .iter()
            .fold(asked(), |request, value| request.header(name, *value));
        assert_eq!(decision(request).await.0, expected, "{name} {values:?}");
    }
    served.servers.stop().await;
}

#[tokio::test]
async fn a_client_that_cannot_be_read_is_answered_as_configured() {
    for (unavailable, expected) in [
        (Unavailable::Allow, (200, "allowed".to_owned())),
        (Unavailable::Refuse, (403, "unavailable".to_owned())),
    ] {
        let check = CheckSettings {
            unavailable,
            ..plain_check()
        };
        let served = Served::start(check).await;
        served.feed.replace(vec![
            ip("192.0.2.1"),
            listed(ZONE, BlockKind::UserAgent, "evil/1.0"),
        ]);
        let envoy = |forwarded: Option<&'static [u8]>| {
            let request = served.asked(Method::GET, "/ext_authz/orders");
            let request = request.header("host", "api.shop.example");
            forwarded.into_iter().fold(request, |request, line| {
                request.header("x-forwarded-for", line)
            })
        };
        let strange = [
            envoy(None),
            envoy(Some(b"")),
            envoy(Some(b"unknown")),
            envoy(Some(b"192.0.2.2, 192.0.2.1\xe9")),
            nginx(&served, "192.0.2.1, 192.0.2.2"),
            nginx(&served, "192.0.2.2").header("x-original-asn", "many"),
        ];
        for request in strange {
            let shown = format!("{request:?}");
            assert_eq!(decision(request).await, expected, "{shown}");
        }
        // What can be read decides all the same.
        let agent = envoy(None).header("user-agent", "evil/1.0");
        assert_eq!(decision(agent).await, (403, "blocked".to_owned()));
        for fine in [
            nginx(&served, "192.0.2.2"),
            nginx(&served, "unix:"),
            nginx(&served, "192.0.2.2").header("x-original-asn", "-"),
        ] {
            assert_eq!(decision(fine).await.0, 200);
        }
        let counted = served.telemetry.metrics.encode();
        assert!(
            counted.contains("gatewatch_checks_undecided_total{reason=\"address\"} 6\n"),
            "{counted}"
        );
        let twice = nginx(&served, "192.0.2.2").header("x-original-address", "192.0.2.1");
        assert_eq!(decision(twice).await.0, 400);
        served.servers.stop().await;
    }
}

fn grpc(host: &str, address: &str, headers: &[(&str, &str)]) -> CheckRequest {
    let socket = SocketAddress {
        address: address.to_owned(),
        ..SocketAddress::default()
    };
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let http = HttpRequest {
        method: "GET".to_owned(),
        path: "/orders?x=1".to_owned(),
        host: host.to_owned(),
        headers: headers.collect(),
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

#[tokio::test]
async fn trusted_proxies_say_who_the_client_is() {
    let check = CheckSettings {
        trusted_hops: 1,
        ..plain_check()
    };
    let served = Served::start(check).await;
    served.feed.replace(vec![ip("192.0.2.1")]);
    let endpoint = format!("http://{}", served.servers.ext_authz().unwrap());
    let channel = tonic::transport::Channel::from_shared(endpoint).unwrap();
    let mut client = AuthorizationClient::new(channel.connect().await.unwrap());
    for (forwarded, refused) in [
        ("192.0.2.1, 10.0.0.1", true),
        ("192.0.2.1", true),
        ("203.0.113.9, 192.0.2.1, 10.0.0.1", true),
        ("192.0.2.1, 203.0.113.9, 10.0.0.1", false),
        ("203.0.113.9, 192.0.2.1", false),
        ("\u{e9}, 192.0.2.1, 10.0.0.1", true),
        ("192.0.2.1:5555, 10.0.0.1", true),
    ] {
        let http = served.asked(Method::GET, "/ext_authz/x");
        let http = http
            .header("host", "api.shop.example")
            .header("x-forwarded-for", forwarded);
        assert_eq!(decision(http).await.0 == 403, refused, "{forwarded}");
        let request = grpc(
            "api.shop.example",
            "10.0.0.1",
            &[("x-forwarded-for", forwarded)],
        );
        let answer = client.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status.unwrap().code == 7, refused, "{forwarded}");
    }
    served.servers.stop().await;
}

#[tokio::test]
async fn envoy_is_told_over_grpc() {
    let check = CheckSettings {
        unavailable: Unavailable::Refuse,
        key: Some(SharedKey::new(b"gateway")),
        ..plain_check()
    };
    let served = Served::start(check).await;
    let session = hex::encode(Hasher::new(HASH_KEY).hash(ZONE, "cookie:sid", b"s-1"));
    let endpoint = format!("http://{}", served.servers.ext_authz().unwrap());
    let channel = tonic::transport::Channel::from_shared(endpoint)
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = AuthorizationClient::new(channel);
    let keyed = |request: CheckRequest| {
        let mut call = tonic::Request::new(request);
        call.metadata_mut()
            .insert("x-gatewatch-key", "gateway".parse().unwrap());
        call
    };
    let shop = "api.shop.example";
    let refused = client
        .check(grpc(shop, "192.0.2.1", &[]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    let status = async |client: &mut AuthorizationClient<_>, request| {
        let answer = client.check(keyed(request)).await.unwrap().into_inner();
        (answer.status.unwrap().code, answer.http_response)
    };
    let (code, _) = status(&mut client, grpc(shop, "192.0.2.2", &[])).await;
    assert_eq!(code, 7, "the list is not known, and that refuses here");
    served.feed.replace(vec![
        ip("192.0.2.1"),
        listed(ZONE, BlockKind::Session, &session),
    ]);
    for (host, address, headers, expected) in [
        (shop, "192.0.2.1", &[][..], 7),
        (shop, "192.0.2.2", &[], 0),
        (shop, "192.0.2.2", &[("cookie", "sid=s-1")], 7),
        ("unknown.example", "192.0.2.1", &[], 0),
    ] {
        let (code, http) = status(&mut client, grpc(host, address, headers)).await;
        assert_eq!(code, expected, "{host} {address} {headers:?}");
        match http.unwrap() {
            HttpResponse::DeniedResponse(denied) => {
                assert_eq!((expected, denied.status.unwrap().code), (7, 403));
                assert!(
                    denied
                        .headers
                        .iter()
                        .any(|field| field.header.as_ref().unwrap().key == "x-gatewatch-entry")
                );
            }
            HttpResponse::OkResponse(_) => assert_eq!(expected, 0),
            other @ HttpResponse::ErrorResponse(_) => panic!("{other:?}"),
        }
    }
    let nothing = client
        .check(keyed(CheckRequest::default()))
        .await
        .unwrap_err();
    assert_eq!(nothing.code(), tonic::Code::InvalidArgument);
    assert_eq!(
        decision(nginx(&served, "192.0.2.2")).await.0,
        403,
        "HTTP needs the key too"
    );
    assert_eq!(
        decision(nginx(&served, "192.0.2.2").header("x-gatewatch-key", "gateway"))
            .await
            .0,
        200
    );
    served.servers.stop().await;
}
