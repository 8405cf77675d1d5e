//! Debian's `CrowdSec` custom bouncer, unchanged, takes the list from our LAPI and tells nginx.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use gatewatch::clock::Stopwatch;

use super::harness::{DEADLINE, KEY, Process, Site, programs, replaced};
use super::{Client, address, closed_loop, nginx};

const CONFIGURATION: &str = "\
bin_path: @FOLDER@/ban.sh
feed_via_stdin: false
total_retries: 0
scenarios_containing: []
scenarios_not_containing: []
origins: []
piddir: @FOLDER@/
update_frequency: 1s
cache_retention_duration: 10s
daemonize: false
log_mode: stdout
log_dir: @FOLDER@/
log_level: info
api_url: http://127.0.0.1:@API@/
api_key: @KEY@
prometheus:
  enabled: false
  listen_addr: 127.0.0.1
  listen_port: 0
";

fn configure(site: &Site) {
    let api = site.api.to_string();
    let folder = site.folder.path().to_str().unwrap();
    let pairs = [("@FOLDER@", folder), ("@API@", &api), ("@KEY@", KEY)];
    site.write("bouncer.yaml", &replaced(CONFIGURATION, &pairs));
    let nginx = site.programs.join("nginx");
    let script = replaced(
        include_str!("ban.sh"),
        &[("@FOLDER@", folder), ("@NGINX@", nginx.to_str().unwrap())],
    );
    site.write("ban.sh", &script);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(site.path("ban.sh"), mode).unwrap();
    for name in ["deny.conf", "ban.log"] {
        site.write(name, "");
    }
}

fn start(site: &Site) -> Process {
    let program = site.programs.join("crowdsec-custom-bouncer");
    Process::start(
        &program,
        &["-c", "bouncer.yaml"],
        site.folder.path(),
        "bouncer.out",
    )
}

/// Lines of the log so far: what, whom, seconds.
fn said(site: &Site) -> Vec<(String, String, i64)> {
    let log = fs::read_to_string(site.path("ban.log")).unwrap();
    let lines = log.lines().map(|line| {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        (word(), word(), word().parse().unwrap_or_default())
    });
    lines.collect()
}

async fn until_said(site: &Site, expected: &[&str]) {
    let began = Stopwatch::start();
    loop {
        let said: Vec<String> = said(site)
            .into_iter()
            .map(|(what, whom, _)| format!("{what} {whom}"))
            .collect();
        let missing: Vec<_> = expected
            .iter()
            .filter(|line| !said.iter().any(|s| s == *line))
            .collect();
        if missing.is_empty() {
            return;
        }
        let log = fs::read_to_string(site.path("bouncer.out")).unwrap_or_default();
        assert!(
            began.elapsed() < DEADLINE,
            "not said: {missing:?}; said: {said:?}\n{log}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bouncer_is_told_once_and_all_over_again_when_it_starts() {
    let Some(programs) = programs("services::gateways::bouncer") else {
        return;
    };
    let mut site = Site::new(programs, "nginx-json", "");
    configure(&site);
    site.write("nginx.conf", "events {}\n");
    site.start_pipeline(&[]).await;
    let add = |kind: &str, entity: &str| {
        site.blocklist(&[
            "add", "--kind", kind, "--entity", entity, "--for", "4h", "--reason", "a test",
        ]);
    };
    let began = Stopwatch::start();
    add("ip", "192.0.2.1");
    let bouncer = start(&site);
    add("ip", "2001:db8::1");
    add("cidr", "198.51.100.0/24");
    until_said(
        &site,
        &["add 192.0.2.1", "add 2001:db8::1", "add 198.51.100.0/24"],
    )
    .await;
    site.blocklist(&[
        "withdraw",
        "--kind",
        "ip",
        "--entity",
        "192.0.2.1",
        "--reason",
        "a test",
    ]);
    until_said(&site, &["del 192.0.2.1"]).await;
    // Three more questions change nothing.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let lines = said(&site);
    let distinct: BTreeSet<_> = lines.iter().map(|(what, whom, _)| (what, whom)).collect();
    assert_eq!(
        distinct.len(),
        lines.len(),
        "nothing is said twice: {lines:?}"
    );
    assert_eq!(lines.len(), 4, "{lines:?}");
    let passed = i64::try_from(began.elapsed().as_secs()).unwrap();
    for (_, whom, seconds) in lines.iter().filter(|(what, ..)| what == "add") {
        let left = 14_400 - passed - 5..=14_400;
        assert!(left.contains(seconds), "{whom} for {seconds} s of {left:?}");
    }
    drop(bouncer);

    site.write("ban.log", "");
    let again = start(&site);
    until_said(&site, &["add 2001:db8::1", "add 198.51.100.0/24"]).await;
    // A start may be told of ends once more, never of an entry that has ended.
    let lines = said(&site);
    let added: BTreeSet<_> = lines.iter().filter(|(what, ..)| what == "add").collect();
    assert_eq!(added.len(), 2, "{lines:?}");
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bouncer_closes_the_loop() {
    let Some(programs) = programs("services::gateways::bouncer") else {
        return;
    };
    let mut site = Site::new(programs, "nginx-json", "");
    configure(&site);
    nginx::start(&mut site, &[]).await;
    let text = fs::read_to_string(site.path("nginx.conf")).unwrap();
    let deny = format!("http {{\ninclude {};\n", site.path("deny.conf"));
    site.write("nginx.conf", &replaced(&text, &[("http {\n", &deny)]));
    site.start_pipeline(&[]).await;
    let _bouncer = start(&site);
    closed_loop(&site, "nginx by CrowdSec's custom bouncer").await;
    let refused = Client::at(address(1, 2));
    assert_eq!(refused.get(site.port, "/orders").await, Some(403));
}
