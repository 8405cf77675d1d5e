//! The list as JSON: whole, from a number on, and as events.

use std::time::Duration;

use gatewatch::detect::blocklist::Edit;
use gatewatch::model::{BlockEntry, BlockKind};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Served, ZONE, ip, listed, plain_check};

#[tokio::test]
async fn the_json_feed_goes_on_from_a_number() {
    let served = Served::start(plain_check()).await;
    let simulated = BlockEntry {
        simulated: true,
        ..ip("192.0.2.9")
    };
    served.feed.replace(vec![
        ip("192.0.2.1"),
        simulated.clone(),
        listed("other", BlockKind::Asn, "64500"),
    ]);
    let whole = served.json("/feeds/blocklist").await;
    let keys = |value: &Value| -> Vec<String> {
        let list = value
            .get("entries")
            .or(value.get("changes"))
            .unwrap()
            .as_array()
            .unwrap();
        list.iter()
            .map(|entry| entry["key"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(whole["reset"], true);
    assert_eq!(
        keys(&whole),
        [format!("{ZONE}/ip/192.0.2.1"), "other/asn/64500".to_owned()]
    );
    assert_eq!(
        keys(&served.json("/feeds/blocklist?simulated=true").await).len(),
        3
    );
    assert_eq!(
        keys(&served.json("/feeds/blocklist?zone=other").await),
        ["other/asn/64500"]
    );
    let (feed, sequence) = (
        whole["feed"].as_str().unwrap(),
        whole["sequence"].as_u64().unwrap(),
    );
    let since = |sequence: u64| format!("/feeds/blocklist?since={sequence}&feed={feed}");
    let meant = BlockEntry {
        simulated: false,
        ..simulated
    };
    served
        .feed
        .apply(&[Edit::Listed(meant), Edit::Ended(ip("192.0.2.1").key)]);
    let delta = served.json(&since(sequence)).await;
    assert_eq!(
        (&delta["reset"], delta["sequence"].as_u64().unwrap()),
        (&json!(false), sequence + 2)
    );
    assert_eq!(
        keys(&delta),
        [
            format!("{ZONE}/ip/192.0.2.9"),
            format!("{ZONE}/ip/192.0.2.1")
        ]
    );
    assert_eq!(delta["changes"][0]["change"], "listed");
    assert_eq!(delta["changes"][0]["entry"]["reason"], "too many");
    assert_eq!(
        delta["changes"][1],
        json!({"sequence": sequence + 2, "change": "ended", "key": format!("{ZONE}/ip/192.0.2.1")})
    );
    assert!(keys(&served.json(&since(sequence + 2)).await).is_empty());
    for lost in [
        format!("/feeds/blocklist?since={}", sequence + 9),
        "/feeds/blocklist?since=1".to_owned(),
        format!("/feeds/blocklist?since={sequence}&feed=0"),
    ] {
        assert_eq!(served.json(&lost).await["reset"], true, "{lost}");
    }

    // Somebody who waits is answered when there is something.
    let path = format!("{}&wait=60s", since(sequence + 2));
    let waiting = served.get(&path);
    let feed = served.feed.clone();
    let (answer, ()) = tokio::join!(waiting, async move {
        tokio::task::yield_now().await;
        feed.apply(&[Edit::Listed(ip("192.0.2.3"))]);
    });
    let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(keys(&answer), [format!("{ZONE}/ip/192.0.2.3")]);

    let narrow = |path: &str| {
        served
            .asked(Method::GET, path)
            .header("x-api-key", "key of narrow")
            .send()
    };
    let seen: Value = serde_json::from_slice(
        &narrow("/feeds/blocklist")
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap(),
    )
    .unwrap();
    assert_eq!(keys(&seen), ["other/asn/64500"]);
    let other = narrow(&format!("/feeds/blocklist?zone={ZONE}"))
        .await
        .unwrap();
    assert_eq!(other.status(), StatusCode::FORBIDDEN);
    served.servers.stop().await;
}

/// The next event: id, name, data.
async fn event(stream: &mut reqwest::Response, left: &mut String) -> (String, String, Value) {
    loop {
        if let Some(end) = left.find("\n\n") {
            let text: String = left.drain(..end + 2).collect();
            let field = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap_or_default().to_owned()
            };
            let data = serde_json::from_str(&field("data: ")).unwrap_or_default();
            return (field("id: "), field("event: "), data);
        }
        let chunk = tokio::time::timeout(Duration::from_secs(20), stream.chunk()).await;
        left.push_str(std::str::from_utf8(&chunk.unwrap().unwrap().unwrap()).unwrap());
    }
}

#[tokio::test]
async fn events_are_sent_as_they_happen_and_go_on_after_a_reconnect() {
    let served = Served::start(plain_check()).await;
    served.feed.replace(vec![ip("192.0.2.1")]);
    let mut stream = served.get("/feeds/blocklist/events").await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut left = String::new();
    let (_, name, data) = event(&mut stream, &mut left).await;
    assert_eq!(
        (name.as_str(), data["entries"].as_array().unwrap().len()),
        ("snapshot", 1)
    );
    served.feed.apply(&[
        Edit::Listed(ip("192.0.2.2")),
        Edit::Ended(ip("192.0.2.2").key),
    ]);
    let (first, name, data) = event(&mut stream, &mut left).await;
    assert_eq!(
        (name.as_str(), &data["change"]),
        ("change", &json!("listed"))
    );
    let (_, _, data) = event(&mut stream, &mut left).await;
    assert_eq!(data["change"], "ended");
    drop(stream);

    let again = |id: String| {
        let request = served.asked(Method::GET, "/feeds/blocklist/events");
        request
            .header("x-api-key", "key of one")
            .header("last-event-id", id)
            .send()
    };
    let mut left = String::new();
    let (_, name, data) = event(&mut again(first.clone()).await.unwrap(), &mut left).await;
    assert_eq!(
        (name.as_str(), &data["change"]),
        ("change", &json!("ended"))
    );
    for lost in [
        "0-1".to_owned(),
        "nonsense".to_owned(),
        format!("{first}999999"),
    ] {
        let mut left = String::new();
        let (_, name, _) = event(&mut again(lost.clone()).await.unwrap(), &mut left).await;
        assert_eq!(name, "snapshot", "{lost}");
    }
    served.servers.stop().await;
}

#[tokio::test]
async fn a_zone_that_nobody_knows_is_not_one_in_which_nobody_is_refused() {
    let served = Served::start(plain_check()).await;
    served
        .feed
        .replace(vec![ip("192.0.2.1"), listed("third", BlockKind::Asn, "1")]);
    let feeds = [
        "/feeds/blocklist",
        "/feeds/blocklist/events",
        "/feeds/blocklist.nginx",
        "/feeds/blocklist/nginx/blocked_ips.geo.conf",
    ];
    for path in feeds {
        let status = async |zone: &str| served.get(&format!("{path}?zone={zone}")).await.status();
        assert_eq!(status(ZONE).await, StatusCode::OK, "{path}");
        // Configured and empty; listed and not configured.
        assert_eq!(status("other").await, StatusCode::OK, "{path}");
        assert_eq!(status("third").await, StatusCode::OK, "{path}");
        let refused = served.get(&format!("{path}?zone=typo")).await;
        assert_eq!(refused.status(), StatusCode::NOT_FOUND, "{path}");
        let body: Value = serde_json::from_str(&refused.text().await.unwrap()).unwrap();
        let expected = format!("no zone \"typo\"; known here: {ZONE}, other, third");
        assert_eq!(body["message"], expected);
        let narrow = served.asked(Method::GET, &format!("{path}?zone=typo"));
        let narrow = narrow.header("x-api-key", "key of narrow").send().await;
        assert_eq!(narrow.unwrap().status(), StatusCode::FORBIDDEN, "{path}");
    }
    let bad = served.get("/feeds/blocklist?wait=bad").await;
    assert_eq!(bad.status(), StatusCode::BAD_REQUEST);
    served.servers.stop().await;
}

#[tokio::test]
async fn a_reader_for_whom_there_is_no_room_is_told_to_come_again() {
    let served = Served::start(plain_check()).await;
    served.feed.replace(vec![ip("192.0.2.1")]);
    let mut streams = Vec::new();
    let refused = loop {
        let stream = served.get("/feeds/blocklist/events").await;
        if stream.status() != StatusCode::OK {
            break stream;
        }
        streams.push(stream);
        assert!(streams.len() <= 1_000, "there is no bound");
    };
    let sequence = served.feed.view().sequence();
    let polled = served
        .get(&format!("/feeds/blocklist?since={sequence}&wait=1s"))
        .await;
    for refused in [refused, polled] {
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()["retry-after"], "1");
    }
    drop(streams);
    let room = async {
        while served.get("/feeds/blocklist/events").await.status() != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    let room = tokio::time::timeout(Duration::from_mins(1), room).await;
    room.expect("those who left have given their places back");
    served.servers.stop().await;
}
