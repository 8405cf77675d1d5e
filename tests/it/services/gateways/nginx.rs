//! nginx: files and a reload, and the inline check by `auth_request`.

use super::closed_loop;
use super::harness::{LOG, Site, example, programs, replaced, switched_on};

/// Names of nginx's files as the exporter writes them.
pub const EXPORTED: &[&str] = &[
    "export/blocked_ips.geo.conf",
    "export/blocked_user_agents.map.conf",
];

/// An exporter that checks and reloads the nginx of this site.
pub fn exporter(folder: &str, programs: &str) -> String {
    let command = |last: &str| {
        format!(
            "[\"{programs}/nginx\", \"-p\", \"{folder}\", \"-e\", \"{folder}/error.log\", \"-c\", \"{folder}/nginx.conf\", {last}]"
        )
    };
    format!(
        "\n[[exporters]]\nkind = \"nginx\"\nfolder = \"export\"\ntest = {}\nreload = {}\n",
        command("\"-t\""),
        command("\"-s\", \"reload\"")
    )
}

/// Writes the configuration of the example with `parts` switched on, and starts it.
pub async fn start(site: &mut Site, parts: &[&str]) {
    let log = site.path(LOG);
    let text = replaced(
        &example("nginx/gatewatch-log.conf"),
        &[("/var/log/nginx/gatewatch.log", &log)],
    );
    site.write("gatewatch-log.conf", &text);
    let text = replaced(
        &example("nginx/gatewatch-blocklist.conf"),
        &[("/etc/nginx/gatewatch", &site.path("export"))],
    );
    site.write("gatewatch-blocklist.conf", &text);
    let api = site.api.to_string();
    let text = replaced(&example("nginx/gatewatch-check.conf"), &[("8470", &api)]);
    site.write("gatewatch-check.conf", &text);
    let mut text = example("nginx/nginx.conf");
    for part in parts {
        text = switched_on(&text, part);
    }
    let (port, shop) = (site.port.to_string(), site.shop.to_string());
    let text = replaced(&text, &[("8080", &port), ("9000", &shop)]);
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path temp_{kind};\n"))
        .concat();
    // What a packaged nginx has by itself: a place for its process id and for files of its own.
    let text = replaced(&text, &[("http {\n", &format!("http {{\n{temporary}"))]);
    site.write(
        "nginx.conf",
        &format!(
            "daemon off;\npid nginx.pid;\nworker_processes 2;\n{}{text}",
            user()
        ),
    );
    let folder = site.dir();
    site.start_gateway(
        "nginx",
        &["-p", &folder, "-e", "error.log", "-c", "nginx.conf"],
    )
    .await;
}

/// A worker must be able to read the folder of the test.
fn user() -> &'static str {
    let output = std::process::Command::new("id").arg("-u").output().unwrap();
    if output.stdout.trim_ascii() == b"0" {
        "user root;\n"
    } else {
        ""
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_a_reload_close_the_loop() {
    let Some(programs) = programs("services::gateways::nginx") else {
        return;
    };
    let mut site = Site::new(programs, "nginx-json", "");
    let exporter = exporter(&site.dir(), site.programs.to_str().unwrap());
    site.append("pipeline.toml", &exporter);
    for name in EXPORTED {
        site.write(name, "");
    }
    start(&mut site, &["the block list"]).await;
    site.start_pipeline(EXPORTED).await;
    closed_loop(&site, "nginx by files").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inline_check_closes_the_loop() {
    let Some(programs) = programs("services::gateways::nginx") else {
        return;
    };
    let mut site = Site::new(programs, "nginx-json", "");
    start(&mut site, &["the inline check"]).await;
    // While nobody answers the check everybody may pass.
    let early = super::Client::at(super::address(0, 3));
    assert_eq!(early.get(site.port, "/orders").await, Some(200));
    site.start_pipeline(&[]).await;
    closed_loop(&site, "nginx by auth_request").await;
    site.stop_pipeline();
    let refused = super::Client::at(super::address(1, 2));
    assert_eq!(refused.get(site.port, "/orders").await, Some(200));
}
