//! Feeds and the inline check through the real servers on loopback: what bouncers, readers and gateways get.

mod check;
mod crowdsec;
mod export;
mod json;
mod judging;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use gatewatch::api::{Gate, Offers, Servers, serve};
use gatewatch::clock;
use gatewatch::config::{
    ApiSettings, CheckSettings, FeedKey, FeedSettings, Settings, Unavailable, parse,
};
use gatewatch::detect::blocklist::Edit;
use gatewatch::enrich::{Judge, Shared};
use gatewatch::model::{BlockEntry, BlockKey, BlockKind};
use gatewatch::publish::feed::Feed;
use gatewatch::telemetry::Telemetry;
use gatewatch::wire::secret::SharedKey;
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;

const ZONE: &str = "023e105f4ecef8ad9ca31a8372d0c353";
const HASH_KEY: &[u8] = b"0123456789abcdef";
const HOUR: i64 = 3_600_000;

fn settings() -> Settings {
    let text = format!(
        "name = \"shop\"\n[source]\npath = \"t\"\n[[zones]]\nid = \"{ZONE}\"\nhosts = [\"api.shop.example\"]\n\
         [[zones.session_identifiers]]\ntype = \"cookie\"\nname = \"sid\"\n\
         [[zones]]\nid = \"other\"\nhosts = [\"other.example\"]\n"
    );
    parse("p.toml", &text, std::path::Path::new(".")).unwrap()
}

fn listed(zone: &str, kind: BlockKind, entity: &str) -> BlockEntry {
    let now = clock::now_millis();
    BlockEntry {
        key: BlockKey::new(zone, kind, entity).unwrap(),
        simulated: false,
        reason: "too many".to_owned(),
        rule: Some("stuffing".to_owned()),
        evidence: BTreeMap::new(),
        samples: Vec::new(),
        created_at: now,
        updated_at: now,
        expires_at: now + HOUR + 400,
        revision: 1,
        sequence: 1,
    }
}

fn ip(address: &str) -> BlockEntry {
    listed(ZONE, BlockKind::Ip, address)
}

struct Served {
    feed: Feed,
    telemetry: Telemetry,
    servers: Servers,
    client: Client,
}

impl Served {
    async fn start(check: CheckSettings) -> Self {
        let feed = Feed::new();
        let telemetry = Telemetry::default();
        let key = |name: &str, zones: &[&str]| FeedKey {
            name: name.to_owned(),
            key: SharedKey::new(format!("key of {name}").as_bytes()),
            zones: zones.iter().map(|zone| (*zone).to_owned()).collect(),
        };
        let keys = vec![key("one", &[]), key("two", &[]), key("narrow", &["other"])];
        let judge = Judge::new(settings().policy, Arc::new(Shared::new(HASH_KEY)));
        let gate = Gate::new(feed.clone(), judge, check, telemetry.metrics.clone());
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let api = ApiSettings {
            listen: anywhere,
            ext_authz: Some(anywhere),
        };
        let offers = Offers {
            feeds: Some((
                feed.clone(),
                FeedSettings {
                    keys,
                    zones: strings(&[ZONE, "other"]),
                },
            )),
            gate: Some(gate),
        };
        let servers = serve(&api, &telemetry, offers).await.unwrap();
        let client = Client::new();
        Self {
            feed,
            telemetry,
            servers,
            client,
        }
    }

    fn asked(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}{path}", self.servers.address());
        self.client.request(method, url)
    }

    /// A question of the reader `one`.
    async fn get(&self, path: &str) -> reqwest::Response {
        let request = self.asked(Method::GET, path);
        request
            .header("x-api-key", "key of one")
            .send()
            .await
            .unwrap()
    }

    async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    /// A pull of a bouncer: the values of `new` and of `deleted`.
    async fn pull(&self, query: &str) -> (Vec<String>, Vec<String>) {
        let stream = self.json(&format!("/v1/decisions/stream?{query}")).await;
        let values = |member: &str| {
            let decisions = stream[member].as_array().unwrap().iter();
            decisions
                .map(|decision| decision["value"].as_str().unwrap().to_owned())
                .collect()
        };
        (values("new"), values("deleted"))
    }
}

fn plain_check() -> CheckSettings {
    CheckSettings {
        judge: false,
        unavailable: Unavailable::Allow,
        verifications: 1_000,
        allow: Vec::new(),
        trusted_hops: 0,
        key: None,
    }
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

#[tokio::test]
async fn nobody_reads_without_a_key_or_before_the_list_is_known() {
    let served = Served::start(plain_check()).await;
    let paths = [
        "/v1/decisions",
        "/v1/decisions/stream?startup=true",
        "/feeds/blocklist",
        "/feeds/blocklist/events",
        "/feeds/blocklist.nginx",
        "/feeds/blocklist/nginx/blocked_ips.geo.conf",
    ];
    for path in paths {
        for key in [None, Some("wrong"), Some("key of one "), Some("")] {
            let mut request = served.asked(Method::GET, path);
            if let Some(key) = key.filter(|key| !key.ends_with(' ')) {
                request = request.header("x-api-key", key);
            }
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path} {key:?}");
            assert_eq!(
                answer.text().await.unwrap(),
                r#"{"message":"access forbidden"}"#
            );
        }
        assert_eq!(
            served.get(path).await.status(),
            StatusCode::SERVICE_UNAVAILABLE,
            "{path}"
        );
    }
    served.feed.replace(Vec::new());
    for path in paths {
        assert_eq!(served.get(path).await.status(), StatusCode::OK, "{path}");
    }
    let bearer = served
        .asked(Method::GET, paths[0])
        .header("authorization", "bearer key of one");
    assert_eq!(bearer.send().await.unwrap().status(), StatusCode::OK);
    served.servers.stop().await;
}

#[tokio::test]
async fn files_of_gateways_have_a_validator_and_say_what_is_left_out() {
    let served = Served::start(plain_check()).await;
    let hash = "00112233445566778899aabbccddeeff";
    served.feed.replace(vec![
        ip("192.0.2.1"),
        listed(ZONE, BlockKind::Session, hash),
    ]);
    let path = "/feeds/blocklist/nginx/blocked_ips.geo.conf";
    let answer = served.get(path).await;
    assert_eq!(answer.headers()["x-gatewatch-left-out"], "session=1");
    assert_eq!(answer.headers()["x-gatewatch-entries"], "1");
    let tag = answer.headers()["etag"].clone();
    assert!(answer.text().await.unwrap().contains("192.0.2.1/32 1;\n"));
    let known = |tag: &str| {
        let request = served
            .asked(Method::GET, path)
            .header("x-api-key", "key of one");
        request.header("if-none-match", tag).send()
    };
    for same in [
        tag.to_str().unwrap(),
        &format!("\"x\", W/{}", tag.to_str().unwrap()),
        "*",
    ] {
        assert_eq!(
            known(same).await.unwrap().status(),
            StatusCode::NOT_MODIFIED,
            "{same}"
        );
    }
    served.feed.apply(&[Edit::Listed(ip("192.0.2.2"))]);
    assert_eq!(
        known(tag.to_str().unwrap()).await.unwrap().status(),
        StatusCode::OK
    );
    // Decisions say how long they last, and the same list stays the same list.
    let relative = served.get("/feeds/blocklist.crowdsec").await;
    let weak = relative.headers()["etag"].to_str().unwrap();
    assert!(weak.starts_with("W/\""), "{weak}");
    for name in ["nginx", "haproxy", "envoy", "crowdsec", "json"] {
        assert_eq!(
            served
                .get(&format!("/feeds/blocklist.{name}"))
                .await
                .status(),
            StatusCode::OK,
            "{name}"
        );
    }
    for absent in [
        "/feeds/blocklist.f5",
        "/feeds/other",
        "/feeds/blocklist/nginx/passwd",
        "/feeds/blocklist/f5/x",
    ] {
        assert_eq!(
            served.get(absent).await.status(),
            StatusCode::NOT_FOUND,
            "{absent}"
        );
    }
    served.servers.stop().await;
}
