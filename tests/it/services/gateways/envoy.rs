//! Envoy: the RBAC filter from a watched file, and the inline check over HTTP and gRPC.

use super::closed_loop;
use super::harness::{LOG, Site, example, programs, replaced, switched_on};

pub const EXPORTED: &[&str] = &["export/blocklist.rbac.json"];

pub const EXPORTER: &str = "\n[[exporters]]\nkind = \"envoy\"\nfolder = \"export\"\n";

pub async fn start(site: &mut Site, title: &str) {
    let mut text = example("envoy/envoy.yaml");
    // Two places may have one title: the filter and its cluster.
    text = switched_on(&text, title);
    let (port, shop) = (site.port.to_string(), site.shop.to_string());
    let (api, grpc) = (site.api.to_string(), site.grpc.to_string());
    let text = replaced(
        &text,
        &[
            ("/var/log/envoy/gatewatch.log", &site.path(LOG)),
            ("/etc/envoy/gatewatch", &site.path("export")),
            ("8080", &port),
            ("9000", &shop),
            ("8470", &api),
            ("8471", &grpc),
        ],
    );
    site.write("envoy.yaml", &text);
    let arguments = [
        "-c",
        "envoy.yaml",
        "--log-level",
        "warning",
        "--concurrency",
        "2",
        "--disable-hot-restart",
    ];
    site.start_gateway("envoy", &arguments).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_file_closes_the_loop() {
    let Some(programs) = programs("services::gateways::envoy") else {
        return;
    };
    let mut site = Site::new(programs, "envoy-json", EXPORTER);
    site.start_pipeline(EXPORTED).await;
    start(&mut site, "the block list, from a file").await;
    closed_loop(&site, "Envoy by a watched file").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_over_http_closes_the_loop() {
    let Some(programs) = programs("services::gateways::envoy") else {
        return;
    };
    let mut site = Site::new(programs, "envoy-json", "");
    site.start_pipeline(&[]).await;
    start(&mut site, "the inline check over HTTP").await;
    closed_loop(&site, "Envoy by ext_authz over HTTP").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_over_grpc_closes_the_loop() {
    let Some(programs) = programs("services::gateways::envoy") else {
        return;
    };
    let mut site = Site::new(programs, "envoy-json", "");
    site.start_pipeline(&[]).await;
    start(&mut site, "the inline check over gRPC").await;
    closed_loop(&site, "Envoy by ext_authz over gRPC").await;
}
