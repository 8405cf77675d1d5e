//! Entities that are made to break or widen what gateways read: each is refused as it is, and nobody else is.

use super::harness::{Site, programs};
use super::{Client, address, envoy, haproxy, nginx};

/// User agents that mean something to nginx, `HAProxy`, JSON, YAML, a shell or a regular expression.
const HOSTILE: &[&str] = &[
    "~^.*",
    "~*curl",
    "a;b",
    "a b",
    "\"",
    "\\",
    "\\x41",
    "default",
    "hostnames",
    "volatile",
    "include /etc/passwd;",
    "${x}",
    "$http_host",
    "#",
    "# comment",
    "'; reload; '",
    "x{1,3}",
    "(a+)+$",
    "[a-z]*",
    ".*",
    "^",
    "|",
    "*",
    "} deny all; {",
    "{{ 7 }}",
    "- any: true",
    "\u{e9}t\u{e9} \u{1f512}",
];

/// Those that look like one of them, and are none.
const OTHERS: &[&str] = &[
    "curl/8.5.0",
    "a",
    "b",
    "ab",
    "A;B",
    "a;bc",
    "x",
    "xx",
    "aaaa",
    "defaults",
    "Default",
    "7",
    "A",
    "comment",
    "any",
];

async fn nobody_else(site: &Site, what: &str) {
    // As long as an entity may be, and longer in every spelling that needs escapes.
    let long = "\"".repeat(512);
    let hostile: Vec<&str> = HOSTILE.iter().copied().chain([long.as_str()]).collect();
    for entity in &hostile {
        let entity = format!("--entity={entity}");
        site.blocklist(&[
            "add",
            "--kind",
            "user_agent",
            &entity,
            "--for",
            "1h",
            "--reason",
            "a test",
        ]);
    }
    let client = |agent: &str| Client::at(address(9, 1)).with("User-Agent", agent);
    for agent in &hostile {
        site.until(&client(agent), 403).await;
    }
    for agent in OTHERS {
        assert_eq!(
            client(agent).get(site.port, "/orders").await,
            Some(200),
            "{what}: {agent:?}"
        );
    }
    let nothing = Client::at(address(9, 1));
    assert_eq!(
        nothing.get(site.port, "/orders").await,
        Some(200),
        "{what}: no user agent"
    );
    // And the way back.
    for entity in &hostile {
        let entity = format!("--entity={entity}");
        site.blocklist(&[
            "withdraw",
            "--kind",
            "user_agent",
            &entity,
            "--reason",
            "a test",
        ]);
    }
    for agent in &hostile {
        site.until(&client(agent), 200).await;
    }
}

/// Networks that overlap, that are written in the clothes of the other family, and that hold all of it.
async fn networks(site: &Site, what: &str) {
    let at = |wave, client| Client::at(address(wave, client));
    let change = |verb: &str, entity: &str, lasts: &[&str]| {
        let entity = format!("--entity={entity}");
        let words = [verb, "--kind", "cidr", &entity, "--reason", "a test"];
        site.blocklist(&[&words, lasts].concat());
    };
    let add = |entity: &str| change("add", entity, &["--for", "1h"]);
    let end = |entity: &str| change("withdraw", entity, &[]);
    // Everybody of IPv6 is nobody of IPv4.
    for entity in ["::/0", "::/1", "::fffe:0:0/95", "::/97"] {
        add(entity);
    }
    for entity in [
        "127.1.20.0/24",
        "127.1.20.128/25",
        "127.1.20.1/32",
        "::ffff:127.1.21.0/120",
    ] {
        add(entity);
    }
    for refused in [at(20, 1), at(20, 200), at(21, 9)] {
        site.until(&refused, 403).await;
    }
    for other in [at(19, 255), at(22, 0), at(22, 1)] {
        let status = other.get(site.port, "/orders").await;
        assert_eq!(status, Some(200), "{what}: {other:?}");
    }
    // The narrow ones end, and the wide one still holds. What is listed after that has come when they have ended.
    end("127.1.20.128/25");
    end("127.1.20.1/32");
    add("127.1.23.0/24");
    site.until(&at(23, 1), 403).await;
    for refused in [at(20, 1), at(20, 200)] {
        let status = refused.get(site.port, "/orders").await;
        assert_eq!(status, Some(403), "{what}: {refused:?}");
    }
    end("127.1.20.0/24");
    site.until(&at(20, 1), 200).await;
    // Everybody, and then only those who were.
    add("0.0.0.0/0");
    site.until(&at(22, 1), 403).await;
    end("0.0.0.0/0");
    site.until(&at(22, 1), 200).await;
    let status = at(21, 9).get(site.port, "/orders").await;
    assert_eq!(status, Some(403), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_takes_them_as_they_are() {
    let Some(programs) = programs("services::gateways::hostile") else {
        return;
    };
    let mut site = Site::new(programs, "nginx-json", "");
    let exporter = nginx::exporter(&site.dir(), site.programs.to_str().unwrap());
    site.append("pipeline.toml", &exporter);
    for name in nginx::EXPORTED {
        site.write(name, "");
    }
    nginx::start(&mut site, &["the block list"]).await;
    site.start_pipeline(nginx::EXPORTED).await;
    nobody_else(&site, "nginx").await;
    networks(&site, "nginx").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_takes_them_as_they_are() {
    let Some(programs) = programs("services::gateways::hostile") else {
        return;
    };
    let mut site = Site::new(programs, "haproxy", "");
    site.append("pipeline.toml", &haproxy::exporter(&site.dir()));
    haproxy::start(&mut site).await;
    site.start_pipeline(haproxy::EXPORTED).await;
    nobody_else(&site, "HAProxy").await;
    networks(&site, "HAProxy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_takes_them_as_they_are() {
    let Some(programs) = programs("services::gateways::hostile") else {
        return;
    };
    let mut site = Site::new(programs, "envoy-json", envoy::EXPORTER);
    site.start_pipeline(envoy::EXPORTED).await;
    envoy::start(&mut site, "the block list, from a file").await;
    nobody_else(&site, "Envoy").await;
    networks(&site, "Envoy").await;
}
