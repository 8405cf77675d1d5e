//! The local API of `CrowdSec`, as a bouncer uses it.

use gatewatch::detect::blocklist::Edit;
use gatewatch::model::BlockKind;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::{Served, ZONE, ip, listed, plain_check, strings};

#[tokio::test]
async fn a_bouncer_that_comes_early_waits_for_the_list() {
    let served = Served::start(plain_check()).await;
    let early = served.pull("startup=true");
    let read = async {
        // The question is on its way first; were it answered before the list is there, it would be refused.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        served.feed.replace(vec![ip("192.0.2.1")]);
    };
    let (told, ()) = tokio::join!(early, read);
    assert_eq!(told, (strings(&["192.0.2.1"]), Vec::new()));
    served.servers.stop().await;
}

#[tokio::test]
async fn bouncers_are_told_as_crowdsec_tells_them() {
    let served = Served::start(plain_check()).await;
    served.feed.replace(vec![
        ip("192.0.2.1"),
        listed(ZONE, BlockKind::Cidr, "198.51.100.0/24"),
        listed(ZONE, BlockKind::Asn, "64500"),
        listed("other", BlockKind::Ip, "192.0.2.1"),
    ]);
    let both = strings(&["192.0.2.1", "198.51.100.0/24"]);
    let nothing = (Vec::new(), Vec::new());
    assert_eq!(
        served.pull("startup=true").await,
        (both.clone(), Vec::new())
    );
    // The bare question mark of the Debian bouncer.
    assert_eq!(served.pull("").await, nothing);
    assert_eq!(
        served.pull("startup=true&scopes=AS,Country").await.0,
        ["64500"]
    );
    assert_eq!(
        served.pull("startup=true").await.0,
        both,
        "a second start gives all again"
    );

    let both_addresses = strings(&["192.0.2.1", "192.0.2.2"]);
    served.feed.apply(&[
        Edit::Ended(ip("192.0.2.1").key),
        Edit::Listed(ip("192.0.2.2")),
    ]);
    let head = served.asked(Method::HEAD, "/v1/decisions/stream");
    let head = head.header("x-api-key", "key of one").send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    let told = (both_addresses.clone(), Vec::new());
    assert_eq!(
        served.pull("").await,
        told,
        "the other zone still lists it: nobody may let it in"
    );
    assert_eq!(served.pull("").await, nothing);
    let zoned = listed("other", BlockKind::Ip, "192.0.2.1");
    served.feed.apply(&[Edit::Ended(zoned.key)]);
    assert_eq!(served.pull("").await, (Vec::new(), strings(&["192.0.2.1"])));

    let decision = &served.json("/v1/decisions?ip=192.0.2.2").await[0];
    assert_eq!(decision["duration"], "1h0m0s");
    assert_eq!(decision["scope"], "Ip");
    assert_eq!(decision["type"], "ban");
    assert_eq!(decision["origin"], "gatewatch");
    assert_eq!(decision["scenario"], "gatewatch/stuffing");
    assert!(decision["id"].as_u64().is_some_and(|id| id < 1 << 53));
    assert_eq!(
        served
            .get("/v1/decisions?ip=203.0.113.1")
            .await
            .text()
            .await
            .unwrap(),
        "null"
    );
    let ranged = served.json("/v1/decisions?ip=198.51.100.7").await;
    assert_eq!(ranged[0]["value"], "198.51.100.0/24");
    assert_eq!(
        served
            .get("/v1/decisions?range=198.51.0.0/16")
            .await
            .text()
            .await
            .unwrap(),
        "null"
    );
    let within = served
        .json("/v1/decisions?range=198.51.0.0/16&contains=false")
        .await;
    assert_eq!(within[0]["scope"], "Range");
    let first = served
        .json("/v1/decisions?scopes=AS&scopes=Range&limit=1")
        .await;
    assert_eq!(first[0]["value"], "64500", "the first of a name counts");
    let startup = "startup=true&value=198.51.100.0/24";
    assert_eq!(served.pull(startup).await.0, ["198.51.100.0/24"]);
    assert_eq!(
        served.pull("startup=true&type=captcha").await.0,
        [""; 0],
        "nobody has to solve a riddle"
    );
    assert_eq!(served.pull("startup=true&limit=1").await.0.len(), 1);
    for bad in [
        "/v1/decisions?ip=x",
        "/v1/decisions?ip=",
        "/v1/decisions?limit=x",
        "/v1/decisions/stream?offset=-1",
        "/v1/decisions/stream?ip=",
        "/v1/decisions/stream?startup=maybe",
        "/v1/decisions?contains=2",
    ] {
        let answer = served.get(bad).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{bad}");
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert!(body["message"].is_string(), "{body}");
    }

    let report = |body: &'static str| {
        let request = served.asked(Method::POST, "/v1/usage-metrics");
        request.header("x-api-key", "key of one").body(body).send()
    };
    let taken = report(r#"{"remediation_components":[{"name":"b"}]}"#)
        .await
        .unwrap();
    assert_eq!(
        (taken.status(), taken.text().await.unwrap().as_str()),
        (StatusCode::CREATED, "")
    );
    assert_eq!(report("{").await.unwrap().status(), StatusCode::BAD_REQUEST);
    assert_eq!(served.get("/v1/heartbeat").await.status(), StatusCode::OK);
    for (method, path, body, expected) in [
        (Method::GET, "/v1/alerts", 0, 404),
        (Method::POST, "/v1", 0, 404),
        (Method::DELETE, "/v1/decisions", 0, 405),
        (Method::GET, "/v1/usage-metrics", 0, 405),
        (Method::POST, "/v1/usage-metrics", 2 << 20, 413),
    ] {
        let request = served.asked(method, path).header("x-api-key", "key of one");
        let answer = request.body(vec![b' '; body]).send().await.unwrap();
        assert_eq!(answer.status(), expected, "{path}");
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert!(body["message"].is_string(), "{path} {body}");
    }
    served.servers.stop().await;
}

#[tokio::test]
async fn a_pull_that_was_cut_short_is_told_again_and_readers_do_not_share_their_place() {
    let served = Served::start(plain_check()).await;
    // More than the system's buffers take without a reader.
    let many = (0..40_000).map(|n| ip(&format!("10.{}.{}.{}", n / 65_536, n / 256 % 256, n % 256)));
    served.feed.replace(many.collect());
    {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(served.servers.address()).unwrap();
        let head = "GET /v1/decisions/stream HTTP/1.1\r\nhost: x\r\nx-api-key: key of one\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut first = [0; 1_000];
        tokio::task::spawn_blocking(move || stream.read_exact(&mut first).unwrap())
            .await
            .unwrap();
    }
    assert_eq!(served.pull("").await.0.len(), 40_000);
    assert_eq!(served.pull("").await.0.len(), 0);
    let other = served
        .asked(Method::GET, "/v1/decisions/stream")
        .header("x-api-key", "key of two");
    let other: Value =
        serde_json::from_slice(&other.send().await.unwrap().bytes().await.unwrap()).unwrap();
    assert_eq!(other["new"].as_array().unwrap().len(), 40_000);
    served.servers.stop().await;
}

#[tokio::test]
async fn lists_are_short_on_the_wire_for_bouncers_that_take_gzip() {
    use std::io::Read;

    let served = Served::start(plain_check()).await;
    let addresses: Vec<String> = (0..2_000_u32)
        .map(|number| std::net::Ipv4Addr::from(0x0a00_0000 + number).to_string())
        .collect();
    served
        .feed
        .replace(addresses.iter().map(|address| ip(address)).collect());
    let get = async |path: &str, accepted: Option<&str>| {
        let mut request = served.asked(Method::GET, path);
        request = request.header("x-api-key", "key of one");
        if let Some(accepted) = accepted {
            request = request.header("accept-encoding", accepted);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert_eq!(answer.headers()["vary"], "accept-encoding");
        let coding = answer.headers().get("content-encoding").cloned();
        (coding, answer.bytes().await.unwrap())
    };
    for path in [
        "/v1/decisions",
        "/v1/decisions/stream?startup=true",
        "/feeds/blocklist",
    ] {
        let (plain, text) = get(path, None).await;
        let (coding, short) = get(path, Some("gzip")).await;
        assert_eq!((plain, coding.unwrap().as_bytes()), (None, &b"gzip"[..]));
        assert!(
            short.len() * 3 < text.len(),
            "{} {}",
            short.len(),
            text.len()
        );
        let mut again = String::new();
        let mut decoder = flate2::read::GzDecoder::new(short.as_ref());
        decoder.read_to_string(&mut again).unwrap();
        assert_eq!(again.matches("\"10.0.7.207\"").count(), 1, "{path}");
        let text = std::str::from_utf8(&text).unwrap();
        let entities = |text: &str| text.matches("\"10.0.").count();
        assert_eq!(entities(&again), entities(text), "{path}");
    }
    // Whoever got it all over gzip is told only what is new.
    let (new, _) = served.pull("").await;
    assert_eq!(new, [""; 0]);
    served.servers.stop().await;
}
