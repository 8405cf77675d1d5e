//! Sessions and tokens on the block list: the same gateway refuses them wherever they come from, and nobody else at their
//! address.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::harness::{Site, programs, replaced, switched_on};
use super::{Client, address, envoy, haproxy, nginx};

/// Rules that list who asks for a trap: the session, or the token.
const TRAPS: &str = r#"
[[zones.rules]]
title = "trap for sessions"
kind = "custom"
action = "block"
block = ["session"]
expression = 'http.request.uri.path eq "/trap/session"'

[[zones.rules]]
title = "trap for tokens"
kind = "custom"
action = "block"
block = ["token"]
expression = 'http.request.uri.path eq "/trap/token"'
"#;

/// A token's subject is a session where there is no cookie. The table goes in front of the rules of its zone.
const SUBJECTS: (&str, &str) = (
    "[[zones.token_configurations]]",
    "[[zones.session_identifiers]]\ntype = \"jwt\"\nname = \"shop issuer:$.sub\"\n\n[[zones.token_configurations]]",
);

const HASH_KEY: &str = "a key that the tests of gateways share";

fn at(client: u8) -> Client {
    Client::at(address(0, client))
}

fn session(client: u8, value: &str) -> Client {
    at(client).with("Cookie", &format!("theme=dark; sid={value}"))
}

fn bearer(client: u8, token: &str) -> Client {
    at(client).with("Authorization", &format!("Bearer {token}"))
}

/// A site whose pipeline has the traps.
fn site(programs: std::path::PathBuf, format: &str, exporters: &str) -> Site {
    let site = Site::new(programs, format, TRAPS);
    let text = std::fs::read_to_string(site.path("pipeline.toml")).unwrap();
    let privacy = "\n[privacy]\nhash_key = { file = \"hash.key\" }\n";
    site.write("hash.key", HASH_KEY);
    site.write(
        "pipeline.toml",
        &(replaced(&text, &[SUBJECTS]) + privacy + exporters),
    );
    site
}

/// Falls into the trap, and waits until it is refused on the way to what it could have before.
async fn trapped(site: &Site, trap: &str, client: &Client) {
    assert_eq!(client.get(site.port, "/orders").await, Some(200));
    // The request that falls into it passes: the log tells of it.
    assert_eq!(client.get(site.port, trap).await, Some(200));
    site.until(client, 403).await;
}

async fn pass(site: &Site, what: &str, clients: &[Client]) {
    for client in clients {
        let status = client.get(site.port, "/orders").await;
        assert_eq!(status, Some(200), "{what}: {client:?}");
    }
}

/// Sessions by cookie and tokens, which every gateway here can refuse.
async fn follows_the_client(site: &Site, what: &str) {
    let others = [session(1, "s-2"), session(1, "S-1"), at(1)];
    trapped(site, "/trap/session", &session(1, "s-1")).await;
    pass(site, what, &others).await;
    site.until(&session(2, "s-1"), 403).await;
    pass(site, what, &[at(2)]).await;

    // Two tokens of one subject are two tokens.
    let [token, other] = [(); 2].map(|()| site.issuer.token("u-1"));
    assert_ne!(token, other);
    let others = [bearer(3, &other), at(3), session(3, "s-3")];
    trapped(site, "/trap/token", &bearer(3, &token)).await;
    pass(site, what, &others).await;
    site.until(&bearer(4, &token), 403).await;
    pass(site, what, &[bearer(4, &other)]).await;
}

/// Sessions by a claim: every token of the subject is refused, and no other subject, nor one that only claims to be it.
async fn follows_the_subject(site: &Site, what: &str) {
    let token = |subject: &str| site.issuer.token(subject);
    trapped(site, "/trap/session", &bearer(5, &token("u-5"))).await;
    site.until(&bearer(6, &token("u-5")), 403).await;
    let forged = super::Issuer::new().token("u-5");
    // The configured rule lists whoever forges, by address: another one than those that follow.
    pass(site, what, &[bearer(7, &forged)]).await;
    let others = [bearer(5, &token("u-6")), at(5), bearer(6, &token("u-6"))];
    pass(site, what, &others).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_asks_about_sessions_and_tokens() {
    let Some(programs) = programs("services::gateways::identities") else {
        return;
    };
    let mut site = site(programs, "nginx-json", "");
    site.start_pipeline(&[]).await;
    nginx::start(&mut site, &["the inline check"]).await;
    follows_the_client(&site, "nginx by auth_request").await;
    follows_the_subject(&site, "nginx by auth_request").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_asks_about_sessions_and_tokens() {
    let Some(programs) = programs("services::gateways::identities") else {
        return;
    };
    for way in ["the inline check over HTTP", "the inline check over gRPC"] {
        let mut site = site(programs.clone(), "envoy-json", "");
        site.start_pipeline(&[]).await;
        envoy::start(&mut site, way).await;
        follows_the_client(&site, way).await;
        follows_the_subject(&site, way).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_computes_the_hashes_itself() {
    let Some(programs) = programs("services::gateways::identities") else {
        return;
    };
    let mut site = site(programs, "haproxy", "");
    site.append("pipeline.toml", &haproxy::exporter(&site.dir()));
    let key = STANDARD.encode(HASH_KEY);
    let with_key = |text: String| {
        let text = switched_on(&text, "sessions and tokens of the block list");
        replaced(&text, &[("S0VZ", &key)])
    };
    haproxy::start_with(&mut site, with_key).await;
    site.start_pipeline(haproxy::EXPORTED).await;
    follows_the_client(&site, "HAProxy by keyed hashes").await;
}
