//! Feeds, checks and exporters, good and bad.

use std::path::Path;

use super::super::{Settings, Unusable, parse};
use super::*;

fn read(more: &str) -> Result<Settings, Unusable> {
    let small = "name = \"shop\"\n[source]\npath = \"t.ndjson\"\n[[zones]]\nid = \"z1\"\nhosts = [\"api.shop.example\"]\n";
    parse("p.toml", &format!("{small}{more}"), Path::new("dir"))
}

/// `PATH` stands for a variable that is always there.
const GOOD: &str = r#"
[api]
ext_authz = "127.0.0.1:9001"
[[feeds.keys]]
name = "bouncer-1"
key = { env = "PATH" }
[[feeds.keys]]
name = "cdn"
key = { env = "PATH" }
zones = ["z1"]
[check]
judge = true
unavailable = "refuse"
[[exporters]]
kind = "nginx"
folder = "out/nginx"
test = ["nginx", "-t"]
reload = ["nginx", "-s", "reload"]
[[exporters]]
kind = "haproxy"
name = "edge"
folder = "/etc/haproxy/lists"
socket = "127.0.0.1:9999"
debounce = "50ms"
[[exporters]]
kind = "json"
folder = "out"
simulated = true
zones = "z1"
"#;

#[test]
fn everything_is_read() {
    let settings = read(GOOD).unwrap();
    let feeds = settings.feeds.unwrap();
    assert_eq!(feeds.zones, ["z1"]);
    let keys = feeds.keys;
    let names: Vec<_> = keys
        .iter()
        .map(|key| (key.name.as_str(), key.zones.len()))
        .collect();
    assert_eq!(names, [("bouncer-1", 0), ("cdn", 1)]);
    assert!(
        keys[0]
            .key
            .matches(std::env::var("PATH").unwrap().as_bytes())
    );
    let check = settings.check.unwrap();
    assert!(check.judge && check.key.is_none());
    let idle = settings
        .warnings
        .iter()
        .map(|warning| warning.place.as_str());
    assert_eq!(idle.collect::<Vec<_>>(), ["check.judge"]);
    assert_eq!(check.unavailable, Unavailable::Refuse);
    assert_eq!(
        settings.api.unwrap().ext_authz,
        Some(SocketAddr::from(([127, 0, 0, 1], 9001)))
    );
    let [nginx, edge, json] = settings.exporters.try_into().unwrap();
    assert_eq!((nginx.name.as_str(), nginx.kind.name()), ("nginx", "nginx"));
    assert_eq!(nginx.folder, Path::new("dir/out/nginx"));
    assert_eq!(nginx.test, ["nginx", "-t"]);
    assert_eq!((nginx.debounce, nginx.time_limit), (DEBOUNCE, TIME_LIMIT));
    assert_eq!(edge.folder, Path::new("/etc/haproxy/lists"));
    assert_eq!(
        edge.socket,
        Some(Socket::Tcp(SocketAddr::from(([127, 0, 0, 1], 9999))))
    );
    assert_eq!(edge.debounce, Duration::from_millis(50));
    assert!(json.selection.simulated);
    assert_eq!(json.selection.zones, ["z1"]);
}

#[test]
fn every_problem_has_a_place() {
    for (text, place, problem) in [
        ("[feeds]\n", "[feeds]", "needs a server"),
        (
            "[api]\n[feeds]\n",
            "feeds.keys",
            "nobody could read the feeds",
        ),
        (
            "[api]\n[[feeds.keys]]\nname = \"a\"\nkey = \"plain\"\n",
            "feeds.keys[0].key",
            "a secret in plain text",
        ),
        (
            "[api]\n[[feeds.keys]]\nname = \"a\"\n",
            "feeds.keys[0].key",
            "is missing",
        ),
        (
            "[api]\n[[feeds.keys]]\nname = \"a\"\nkey = { env = \"PATH\" }\n[[feeds.keys]]\nname = \"a\"\nkey = { env = \"PATH\" }\n",
            "feeds.keys[1].name",
            "is given twice",
        ),
        (
            "[api]\n[[feeds.keys]]\nname = \"a\"\nkey = { env = \"PATH\" }\nzones = [\"z2\"]\n",
            "feeds.keys[0].zones",
            "is no zone of this pipeline",
        ),
        ("[check]\n", "[check]", "needs a server"),
        (
            "[api]\n[check]\nunavailable = \"maybe\"\n",
            "check.unavailable",
            "is not a choice",
        ),
        (
            "[api]\nlisten = \"0.0.0.0:8470\"\n[check]\n",
            "check.key",
            "is missing",
        ),
        (
            "[api]\next_authz = \"[::]:9001\"\n[check]\n",
            "check.key",
            "is missing",
        ),
        (
            "[api]\next_authz = \"127.0.0.1:9001\"\n",
            "api.ext_authz",
            "has nothing to answer with",
        ),
        (
            "[[exporters]]\nkind = \"f5\"\nfolder = \"x\"\n",
            "exporters[0].kind",
            "is not a kind",
        ),
        (
            "[[exporters]]\nkind = \"nginx\"\n",
            "exporters[0].folder",
            "is missing",
        ),
        (
            "[[exporters]]\nkind = \"nginx\"\nfolder = \"x\"\n[[exporters]]\nkind = \"nginx\"\nname = \"b\"\nzones = \"z1\"\nfolder = \"./y/../x/\"\n",
            "exporters[1].folder",
            "is that of \"nginx\", which writes other entries there",
        ),
        (
            "[[exporters]]\nkind = \"json\"\nfolder = \"/x\"\n[[exporters]]\nkind = \"json\"\nname = \"b\"\nsimulated = true\nfolder = \"//x/.\"\n",
            "exporters[1].folder",
            "which writes other entries there",
        ),
        (
            "[[exporters]]\nkind = \"nginx\"\nfolder = \"x\"\nsocket = \"y\"\n",
            "exporters[0].socket",
            "is not a setting",
        ),
        (
            "[[exporters]]\nkind = \"haproxy\"\nfolder = \"a b\"\nsocket = \"y\"\n",
            "exporters[0].folder",
            "cannot stand in a command",
        ),
        (
            "[[exporters]]\nkind = \"json\"\nfolder = \"a\"\n[[exporters]]\nkind = \"json\"\nfolder = \"b\"\n",
            "exporters[1].name",
            "is given twice",
        ),
        (
            "[[exporters]]\nkind = \"json\"\nfolder = \"a\"\ntime_limit = \"0s\"\n",
            "exporters[0].time_limit",
            "longer than zero",
        ),
    ] {
        let unusable = read(text).unwrap_err();
        let told = unusable.to_string();
        let found = unusable.problems.iter();
        let mut found =
            found.filter(|(found, _)| found.place == place && found.message.contains(problem));
        assert!(found.next().is_some(), "{text}: {told}");
    }
}

#[test]
fn exporters_share_a_folder_where_none_takes_from_another() {
    for (one, other) in [
        ("kind = \"nginx\"", "kind = \"haproxy\""),
        ("kind = \"haproxy\"", "kind = \"haproxy\"\nname = \"b\""),
        (
            "kind = \"nginx\"\nzones = [\"z1\"]",
            "kind = \"nginx\"\nname = \"b\"\nzones = [\"z1\"]",
        ),
    ] {
        let text = format!(
            "[[exporters]]\n{one}\nfolder = \"x\"\n[[exporters]]\n{other}\nfolder = \"x\"\n"
        );
        assert_eq!(read(&text).unwrap().exporters.len(), 2, "{text}");
    }
}
