//! Pipeline files, good and bad.

use super::*;

const SMALL: &str = r#"
name = "shop"
[source]
kind = "file"
path = "traffic.ndjson"
[[zones]]
id = "z1"
hosts = ["api.shop.example"]
"#;

#[test]
fn a_small_file_gets_the_documented_defaults() {
    let settings = parse("p.toml", SMALL, Path::new("dir")).unwrap();
    let SourceKind::File(file) = &settings.source.kind else {
        panic!("{:?}", settings.source);
    };
    assert_eq!(file.path.as_deref(), Some(Path::new("dir/traffic.ndjson")));
    assert_eq!(settings.correlate.timeout, Duration::from_secs(30));
    assert_eq!(settings.detect.every, Duration::from_mins(5));
    assert_eq!(settings.detect.excluded_methods, ["OPTIONS", "HEAD"]);
    assert!(matches!(&settings.store, StoreSettings::Local(path) if path == Path::new("dir/data")));
    assert!(matches!(
        &settings.publish,
        PublishSettings::File(path) if path == Path::new("dir/data/topics")
    ));
}

#[test]
fn every_problem_is_reported_at_once_with_its_line() {
    let text = r#"
nam = "shop"
[source]
kind = "pulsar"
format = "apache"
[correlate]
timeout = "30"
[privacy]
hash_key = "plain"
[[zones]]
id = "z1"
hosts = ["api.shop.example", "api.shop.example"]
[[zones.schemas]]
path = "absent.yaml"
[[zones.rules]]
title = "r"
[[zones]]
id = "z1"
hosts = ["API.shop.example"]
"#;
    let unusable = parse("p.toml", text, Path::new("nowhere")).unwrap_err();
    let shown = unusable.to_string();
    for expected in [
        "line 2: nam: is not a setting",
        "name: is missing",
        "line 4: source.kind: \"pulsar\" is not a kind",
        "source.path: is missing",
        "line 5: source.format: \"apache\" is not a log format",
        "line 7: correlate.timeout: \"30\" is not a duration",
        "line 9: privacy.hash_key: a secret in plain text",
        "zones[0].hosts[1]: host \"api.shop.example\" is listed twice",
        "line 14: zones[0].schemas[0].path: nowhere/absent.yaml",
        "zones[1].id: zone \"z1\" is configured twice",
        "zones[1].hosts[0]: host \"API.shop.example\" belongs to another zone too",
    ] {
        assert!(shown.contains(expected), "{expected}\n--- in ---\n{shown}");
    }
}

#[test]
fn syntax_errors_have_a_line() {
    let shown = parse("p.toml", "name = \n[source\n", Path::new("."))
        .unwrap_err()
        .to_string();
    assert!(shown.contains("line 1: syntax"), "{shown}");
}

#[test]
fn names_that_the_log_would_show_are_names() {
    let with = |captured: &str| format!("{SMALL}\n[source.captured]\n{captured}\n");
    let text = with("request_headers = [\"authorization\"]\ncookies = [\"sid\"]");
    assert!(parse("p.toml", &text, Path::new(".")).is_ok());
    for (captured, problem) in [
        (
            "request_headers = [\"a: b\"]",
            "source.captured.request_headers: \"a: b\" is not a header name",
        ),
        (
            "cookies = [\"\"]",
            "source.captured.cookies: \"\" is not a cookie name",
        ),
        ("headers = []", "source.captured.headers"),
    ] {
        let shown = parse("p.toml", &with(captured), Path::new("."));
        let shown = shown.unwrap_err().to_string();
        assert!(shown.contains(problem), "{shown}");
    }
}

#[test]
fn a_block_list_allows_networks() {
    let text = format!("{SMALL}\n[blocklist]\nenforce = true\nallow = [\"192.0.2.7/24\"]\n");
    let settings = parse("p.toml", &text, Path::new(".")).unwrap();
    assert_eq!(settings.warnings.len(), 0);
    assert!(settings.block_list.enforce);
    assert_eq!(settings.block_list.allow[0].to_string(), "192.0.2.0/24");
    let text = format!("{SMALL}\n[blocklist]\nallow = [\"192.0.2.0/24\", \"office\"]\n");
    let shown = parse("p.toml", &text, Path::new(".")).unwrap_err();
    let shown = shown.to_string();
    assert!(
        shown.contains("blocklist.allow[1]: \"office\" is not a network"),
        "{shown}"
    );
}

#[test]
fn thresholds_that_cannot_mean_what_they_say_are_refused() {
    let refused = |rules: &str, threshold: &str| {
        let text = format!("{SMALL}{rules}\n[[blocklist.thresholds]]\n{threshold}\n");
        let unusable = parse("p.toml", &text, Path::new(".")).unwrap_err();
        unusable.to_string()
    };
    let rule = |id: &str, title: &str| {
        format!("[[zones.rules]]\nid = \"{id}\"\ntitle = \"{title}\"\nexpression = \"ssl\"\n")
    };
    let scrapes = "name = \"t\"\nsignal = \"scrape\"\ncount = 2\nwithin = \"5m\"";
    let requests = "name = \"t\"\nsignal = \"request\"\nkind = \"session\"\ncount = 2\n";
    for (rules, threshold, expected) in [
        (
            String::new(),
            scrapes.to_owned(),
            "neither a signal nor a rule",
        ),
        (
            rule("r1", "scrape") + &rule("r2", "scrape"),
            scrapes.to_owned(),
            "name one by its id: r1, r2",
        ),
        (
            rule("r1", "token forging"),
            "name = \"revoked certificate\"".to_owned(),
            "both called \"token forging\"",
        ),
        (
            rule("r1", "scrape"),
            scrapes.replace("\"t\"", "\"r1\""),
            "both called \"r1\"",
        ),
        (
            String::new(),
            format!("{requests}within = \"25m\""),
            "steps of 10 minutes",
        ),
        (
            String::new(),
            format!("{requests}within = \"20m\"\ndistinct_endpoints = 3"),
            "endpoints are not counted",
        ),
    ] {
        let shown = refused(&rules, &threshold);
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
}

#[test]
fn credentials_in_an_address_are_refused_and_not_repeated() {
    for (address, refused) in [
        ("https://user:hunter2@clickhouse:8443", true),
        ("user:hunter2@clickhouse:8123", true),
        ("http://hunter2@clickhouse:8123/a", true),
        ("http://clickhouse:8123/a@b", false),
    ] {
        let text = format!("{SMALL}[store]\nkind = \"clickhouse\"\nurl = \"{address}\"\n");
        // The arrangement with a file is refused anyway.
        let shown = parse("p.toml", &text, Path::new("."));
        let shown = shown.unwrap_err().to_string();
        let said = shown.contains("store.url: holds a user or a password");
        assert_eq!(said, refused, "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

/// A small file with one token configuration that says this.
fn with_tokens(more: &str) -> String {
    let sources = r#"token_sources = 'http.request.headers["authorization"][0]'"#;
    format!("{SMALL}[[zones.token_configurations]]\ntitle = \"t\"\n{sources}\n{more}\n")
}

#[test]
fn a_key_set_by_url_has_the_documented_defaults() {
    let url = "https://issuer.example/jwks";
    for (written, changed) in [
        (format!("jwks = \"{url}\""), false),
        (format!("jwks = {{ url = \"{url}\" }}"), false),
        (
            format!(
                "jwks = {{ url = \"{url}\", cooldown = \"1m\", refresh = \"2h\", timeout = \"9s\", \
                 keep_retired = \"0s\", cache = \"keys\", allow_private = true }}"
            ),
            true,
        ),
    ] {
        let settings = parse("p.toml", &with_tokens(&written), Path::new("dir")).unwrap();
        let configuration = &settings.policy.zones[0].tokens.configurations[0];
        let read = &configuration.keys.served().unwrap().settings;
        let mut expected = crate::policy::objects::JwksUrl {
            url: url.to_owned(),
            cache: Some("dir/data/jwks".into()),
            ..crate::policy::objects::JwksUrl::default()
        };
        if changed {
            expected.cooldown = Duration::from_mins(1);
            expected.refresh = Duration::from_hours(2);
            expected.timeout = Duration::from_secs(9);
            expected.keep_retired = Duration::ZERO;
            expected.cache = Some("dir/keys".into());
            expected.allow_private = true;
        }
        assert_eq!(*read, expected, "{written}");
        assert!(configuration.keys.current().is_none());
    }
    let settings = parse(
        "p.toml",
        &with_tokens("jwks = \"https://i.example/\""),
        Path::new("."),
    );
    assert_eq!(settings.unwrap().verifications, 65_536);
}

#[test]
fn what_a_key_set_by_url_must_not_be_is_said() {
    for (written, expected) in [
        (
            "jwks = \"http://issuer.example/jwks\"",
            "jwks: http can be read and changed on its way",
        ),
        (
            "jwks = \"https://127.0.0.1/jwks\"",
            "jwks: 127.0.0.1 is not an address of the public",
        ),
        ("jwks = \"ftp://issuer.example/\"", "jwks: ftp is not asked"),
        (
            "jwks = { url = \"https://10.1.2.3/\" }",
            "jwks.url: 10.1.2.3 is not an address",
        ),
        (
            "jwks = { url = \"https://a:b@i.example/\" }",
            "jwks.url: the URL holds a user",
        ),
        (
            "jwks = { url = \"https://i.example/\", x = 1 }",
            "jwks.x: is not a setting",
        ),
        (
            "jwks = { url = \"https://i.example/\", cooldown = \"0s\" }",
            "jwks.cooldown: must be longer",
        ),
        (
            "jwks = { url = \"https://i.example/\", timeout = \"1m\" }",
            "jwks.timeout: is longer than 30 s",
        ),
        (
            "jwks = { url = \"https://i.example/\", refresh = \"5s\" }",
            "jwks.refresh: is shorter than the",
        ),
        (
            "jwks = { url = \"https://i.example/\", ca = \"absent.pem\" }",
            "jwks.ca: nowhere/absent.pem",
        ),
        ("jwks = 7", "jwks: neither a path, a URL nor a key set"),
        ("", "jwks: is missing"),
        (
            "jwks = \"https://i.example/\"\nmax_age = \"0s\"",
            "max_age: must be longer than zero",
        ),
        (
            "jwks = \"https://i.example/\"\nrefuse_future_iat = 1",
            "refuse_future_iat: integer where true",
        ),
        (
            "jwks = \"https://i.example/\"\ntyp = 1",
            "typ: integer where a list of strings",
        ),
    ] {
        let unusable = parse("p.toml", &with_tokens(written), Path::new("nowhere")).unwrap_err();
        let shown = unusable.to_string();
        let expected = format!("zones[0].token_configurations[0].{expected}");
        assert!(shown.contains(&expected), "{written}: {shown}");
        assert!(!shown.contains("a:b@"), "{shown}");
    }
}

#[test]
fn identifiers_of_every_kind_are_read() {
    let identifiers = r#"
[[zones.session_identifiers]]
type = "query"
name = "api_key"
hosts = ["api.shop.example"]
[[zones.session_identifiers]]
type = "certificate"
name = "san_uri"
[[zones.session_identifiers]]
type = "composite"
name = "both"
of = ["header:x-tenant", "cookie:sid"]
"#;
    let settings = parse("p.toml", &format!("{SMALL}{identifiers}"), Path::new(".")).unwrap();
    let zone = &settings.policy.zones[0];
    assert_eq!(zone.sessions.names, ["api_key", "san_uri", "both"]);
    let wrong = r#"
[[zones.session_identifiers]]
type = "body"
name = "a"
[[zones.session_identifiers]]
type = "composite"
name = "b"
off = []
[[zones.mtls]]
hosts = ["api.shop.example"]
ca = "nobody.pem"
max_intermediates = 9
header = "a b"
"#;
    let shown = parse("p.toml", &format!("{SMALL}{wrong}"), Path::new("."))
        .unwrap_err()
        .to_string();
    for expected in [
        "session_identifiers[0].type: \"body\" is not a carrier",
        "one of header, cookie, jwt, query, certificate, composite",
        "session_identifiers[1].off: is not a setting",
        "mtls[0].max_intermediates: a chain has at most 8",
        "mtls[0].header: \"a b\" is not the name of a header",
    ] {
        assert!(shown.contains(expected), "{expected}\n--- in ---\n{shown}");
    }
}
