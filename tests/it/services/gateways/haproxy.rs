//! `HAProxy`: pattern files, and its run-time interface while it runs.

use super::harness::{Site, example, programs, replaced, switched_on};
use super::{Client, address, closed_loop};

/// Names of the files that the example reads.
pub const EXPORTED: &[&str] = &[
    "export/blocked_ips.acl",
    "export/blocked_certificates.acl",
    "export/blocked_user_agents.acl",
];

/// Those that hold keyed hashes.
pub const HASHED: &[&str] = &["export/blocked_sessions.acl", "export/blocked_tokens.acl"];

pub fn exporter(folder: &str) -> String {
    format!(
        "\n[[exporters]]\nkind = \"haproxy\"\nfolder = \"{folder}/export\"\nsocket = \"{folder}/admin.sock\"\n"
    )
}

/// Starts it. What its configuration names must be there, so the lists are empty unless they were exported already.
pub async fn start(site: &mut Site) {
    start_with(site, |text| text).await;
}

/// As [`start`], with a configuration that was changed before its paths and ports were filled in.
pub async fn start_with(site: &mut Site, change: impl FnOnce(String) -> String) {
    for name in EXPORTED.iter().chain(HASHED) {
        site.append(name, "");
    }
    let text = change(switched_on(
        &example("haproxy/haproxy.cfg"),
        "the block list",
    ));
    let (port, shop) = (site.port.to_string(), site.shop.to_string());
    let text = replaced(
        &text,
        &[
            ("/etc/haproxy/gatewatch", &site.path("export")),
            ("/run/haproxy/admin.sock", &site.path("admin.sock")),
            ("8080", &port),
            ("9000", &shop),
        ],
    );
    site.write("haproxy.cfg", &text);
    site.start_gateway("haproxy", &["-f", "haproxy.cfg"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runtime_interface_closes_the_loop() {
    let Some(programs) = programs("services::gateways::haproxy") else {
        return;
    };
    let mut site = Site::new(programs, "haproxy", "");
    site.append("pipeline.toml", &exporter(&site.dir()));
    start(&mut site).await;
    site.start_pipeline(EXPORTED).await;
    closed_loop(&site, "HAProxy by its run-time interface").await;

    // What it forgets in a restart it finds in the files.
    site.stop_gateway();
    start(&mut site).await;
    let refused = Client::at(address(1, 2));
    assert_eq!(refused.get(site.port, "/orders").await, Some(403));
}
