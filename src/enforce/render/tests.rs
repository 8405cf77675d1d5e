//! Hostile values are read back by each format's own rules: they break nothing and refuse nobody else.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::detect::blocklist::Edit;
use crate::enforce::fixtures::{entry, in_zone};
use crate::enforce::{Journal, Selection};

/// User agents that mean something to somebody's syntax.
const HOSTILE: &[&str] = &[
    "~^.*",
    "~*",
    "~",
    "\\~x",
    "a;b",
    "a b",
    " a",
    "a ",
    "\"",
    "'",
    "\\",
    "\\\\",
    "\\\"",
    "default",
    "hostnames",
    "include",
    "include /etc/passwd;",
    "volatile",
    "${x}",
    "$host",
    "%[src]",
    "#",
    "# x",
    "}",
    "{",
    "é",
    "日本",
    "a\" 1; default 1; \"b",
    "^.*$",
    "[a-z]+",
    "(?i)curl",
    "curl",
    "CURL",
    "a\u{2028}b",
    "a|b",
    "*",
    "<<",
    "@1",
    "{{ .Value }}",
    "- x: y",
    "null",
    "0",
    "x\u{feff}",
];

fn view(entries: Vec<BlockEntry>) -> View {
    let mut journal = Journal::new(0);
    journal.replace(entries);
    journal.view().clone()
}

fn rendered(name: &str, view: &View) -> Rendering {
    format(name).unwrap().render(view, &Selection::default(), 0)
}

fn file<'r>(rendering: &'r Rendering, name: &str) -> &'r str {
    &rendering
        .files
        .iter()
        .find(|file| file.name == name)
        .unwrap()
        .text
}

/// The statements of an nginx file, each a list of words, as `ngx_conf_read_token` cuts them.
fn nginx(text: &str) -> Vec<Vec<String>> {
    let (mut statements, mut words) = (Vec::new(), Vec::new());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            ' ' | '\n' => {}
            '#' => while rest.next().is_some_and(|c| c != '\n') {},
            ';' => statements.push(std::mem::take(&mut words)),
            '"' | '\'' => {
                let mut word = String::new();
                loop {
                    match rest.next().expect("a quote that is never closed") {
                        end if end == c => break,
                        '\\' => match rest.next().expect("a backslash at the end") {
                            escaped @ ('"' | '\'' | '\\') => word.push(escaped),
                            't' => word.push('\t'),
                            'r' => word.push('\r'),
                            'n' => word.push('\n'),
                            other => word.extend(['\\', other]),
                        },
                        other => word.push(other),
                    }
                }
                assert!(matches!(rest.peek(), Some(' ' | ';' | '\n')), "{text}");
                words.push(word);
            }
            '{' | '}' => panic!("a block opens or ends: {text}"),
            plain => {
                let mut word = String::from(plain);
                while let Some(c) = rest.next_if(|c| !matches!(c, ' ' | '\n' | ';' | '{')) {
                    assert!(!matches!(c, '\\' | '$'), "{text}");
                    word.push(c);
                }
                words.push(word);
            }
        }
    }
    assert!(words.is_empty(), "a statement that does not end: {text}");
    statements
}

/// Lines of a pattern file as `HAProxy` reads them: leading blanks dropped, `#` comments.
fn haproxy(text: &str) -> Vec<&str> {
    let lines = text
        .lines()
        .map(|line| line.trim_start_matches([' ', '\t']));
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

/// What each format refuses of user agents, out of `candidates`.
fn refused<'c>(view: &View, candidates: &[&'c str]) -> Vec<(&'static str, BTreeSet<&'c str>)> {
    let nginx_text = rendered("nginx", view);
    let patterns: Vec<_> = nginx(file(&nginx_text, "blocked_user_agents.map.conf"))
        .into_iter()
        .map(|words| {
            let [key, value] = words.as_slice() else {
                panic!("{words:?}");
            };
            assert_eq!(value, "1");
            let pattern = key.strip_prefix('~').expect("a regular expression");
            regex::bytes::Regex::new(&format!("(?-u){pattern}")).unwrap()
        })
        .collect();
    let haproxy_text = rendered("haproxy", view);
    let digits = haproxy(file(&haproxy_text, "blocked_user_agents.acl"));
    let envoy: Value = serde_json::from_str(&rendered("envoy", view).concatenated()).unwrap();
    let principals =
        &envoy["resources"][0]["typed_config"]["rules"]["policies"]["user_agents"]["principals"];
    let exact: Vec<&str> = principals
        .as_array()
        .into_iter()
        .flatten()
        .map(|principal| {
            principal["header"]["string_match"]["exact"]
                .as_str()
                .unwrap()
        })
        .collect();
    let decisions: Value =
        serde_json::from_str(&rendered("crowdsec", view).concatenated()).unwrap();
    let values: Vec<&str> = decisions
        .as_array()
        .unwrap()
        .iter()
        .filter(|decision| decision["scope"] == "user_agent")
        .map(|decision| decision["value"].as_str().unwrap())
        .collect();
    let by = |holds: &dyn Fn(&str) -> bool| {
        candidates
            .iter()
            .copied()
            .filter(|agent| holds(agent))
            .collect()
    };
    vec![
        (
            "nginx",
            by(&|agent| {
                patterns
                    .iter()
                    .any(|pattern| pattern.is_match(agent.as_bytes()))
            }),
        ),
        (
            "haproxy",
            by(&|agent| digits.contains(&hex::encode_upper(agent).as_str())),
        ),
        ("envoy", by(&|agent| exact.contains(&agent))),
        ("crowdsec", by(&|agent| values.contains(&agent))),
    ]
}

#[test]
fn a_hostile_value_refuses_itself_and_nothing_else() {
    let long = "x".repeat(512);
    let candidates: Vec<&str> = HOSTILE.iter().copied().chain([long.as_str(), ""]).collect();
    for agent in candidates.iter().filter(|agent| !agent.is_empty()) {
        let view = view(vec![entry(BlockKind::UserAgent, agent, 100)]);
        for (format, refused) in refused(&view, &candidates) {
            assert_eq!(refused, BTreeSet::from([*agent]), "{format}");
        }
    }
    for unlistable in ["", " ", "a\nb", "a\r", "\0", "\u{7f}", &"x".repeat(4_096)] {
        assert!(
            BlockKind::UserAgent.canonical(unlistable).is_err(),
            "{unlistable:?}"
        );
    }
}

#[test]
fn any_list_is_read_back_whole() {
    // A fixed walk through strings over the characters that some syntax knows.
    let alphabet: Vec<char> = "ab~^$.*+?()[]{}|\\\"'`;:# ,=@%&<>!/-_é日\u{a0}"
        .chars()
        .collect();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for _ in 0..60 {
        let agents: Vec<String> = (0..20)
            .map(|_| {
                (0..=next(8))
                    .map(|_| alphabet[next(alphabet.len())])
                    .collect()
            })
            .filter(|agent: &String| BlockKind::UserAgent.canonical(agent).is_ok())
            .collect();
        let candidates: Vec<&str> = agents.iter().map(String::as_str).collect();
        let listed = &candidates[..candidates.len() / 2];
        let entries = listed
            .iter()
            .map(|agent| entry(BlockKind::UserAgent, agent, 100));
        let view = view(entries.collect());
        let expected: BTreeSet<&str> = listed.iter().copied().collect();
        for (format, refused) in refused(&view, &candidates) {
            assert_eq!(refused, expected, "{format}");
        }
    }
}

fn everything() -> Vec<BlockEntry> {
    let hash = "00112233445566778899aabbccddeeff";
    vec![
        entry(BlockKind::Ip, "192.0.2.1", 100),
        in_zone("other", BlockKind::Ip, "192.0.2.1", 200),
        entry(BlockKind::Cidr, "192.0.2.1/32", 100),
        entry(BlockKind::Cidr, "::ffff:198.51.100.0/120", 100),
        entry(BlockKind::Ip, "2001:db8::1", 100),
        entry(BlockKind::Cidr, "0.0.0.0/0", 100),
        entry(BlockKind::Asn, "64500", 100),
        entry(BlockKind::Session, hash, 100),
        entry(BlockKind::Token, hash, 100),
        in_zone("other", BlockKind::Token, hash, 100),
        entry(BlockKind::Certificate, &"ab".repeat(32), 100),
        entry(BlockKind::UserAgent, "curl/8.5.0", 100),
        entry(BlockKind::Ip, "192.0.2.66", 0),
        BlockEntry {
            simulated: true,
            ..entry(BlockKind::Ip, "192.0.2.77", 100)
        },
    ]
}

#[test]
fn each_format_says_all_and_what_it_leaves_out() {
    let view = view(everything());
    let nginx_files = rendered("nginx", &view);
    assert_eq!((nginx_files.written, nginx_files.left_out()), (8, 4));
    let left: Vec<_> = nginx_files
        .omitted
        .iter()
        .map(|o| (o.kind, o.count))
        .collect();
    assert_eq!(
        left,
        [
            (BlockKind::Session, 1),
            (BlockKind::Token, 2),
            (BlockKind::Certificate, 1)
        ]
    );
    let geo = nginx(file(&nginx_files, "blocked_ips.geo.conf"));
    let networks = [
        "0.0.0.0/0",
        "192.0.2.1/32",
        "198.51.100.0/24",
        "2001:db8::1/128",
    ];
    assert_eq!(geo, networks.map(|network| [network, "1"]));
    let deny = nginx(file(&nginx_files, "blocked_ips.deny.conf"));
    assert_eq!(deny, networks.map(|network| ["deny", network]));
    assert_eq!(
        nginx(file(&nginx_files, "blocked_asns.map.conf")),
        [["64500", "1"]]
    );
    assert!(file(&nginx_files, "blocked_ips.geo.conf").contains("# left out: 2 of kind token: "));

    let haproxy_files = rendered("haproxy", &view);
    assert_eq!((haproxy_files.written, haproxy_files.left_out()), (12, 0));
    for (name, expected) in [
        ("blocked_ips.acl", networks.to_vec()),
        (
            "blocked_certificates.acl",
            vec!["ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB"],
        ),
        ("blocked_user_agents.acl", vec!["6375726C2F382E352E30"]),
        (
            "blocked_sessions.acl",
            vec!["00112233445566778899AABBCCDDEEFF"],
        ),
        (
            "blocked_tokens.acl",
            vec!["00112233445566778899AABBCCDDEEFF"],
        ),
        ("blocked_asns.acl", vec!["64500"]),
    ] {
        assert_eq!(haproxy(file(&haproxy_files, name)), expected, "{name}");
    }

    let envoy = rendered("envoy", &view);
    assert_eq!((envoy.written, envoy.left_out()), (7, 5));
    let document: Value = serde_json::from_str(&envoy.concatenated()).unwrap();
    let rules = &document["resources"][0]["typed_config"]["rules"];
    assert_eq!(rules["action"], "DENY");
    let addresses = rules["policies"]["addresses"]["principals"]
        .as_array()
        .unwrap();
    let shown: Vec<String> = addresses
        .iter()
        .map(|principal| {
            let ip = &principal["remote_ip"];
            format!(
                "{}/{}",
                ip["address_prefix"].as_str().unwrap(),
                ip["prefix_len"]
            )
        })
        .collect();
    assert_eq!(shown, networks);
}

#[test]
fn an_empty_list_refuses_nobody_and_equal_lists_are_equal_bytes() {
    let (empty, full) = (View::empty(0), view(everything()));
    for format in FORMATS {
        let nothing = format.render(&empty, &Selection::default(), 0);
        assert_eq!((nothing.written, nothing.left_out()), (0, 0));
        let names: Vec<_> = nothing.files.iter().map(|file| file.name).collect();
        assert_eq!(
            names, format.files,
            "the files are there, so that includes find them"
        );
        let all = format.render(&full, &Selection::default(), 0);
        assert_eq!(all, format.render(&full, &Selection::default(), 0));
        assert_ne!(all.files, nothing.files);
    }
    let document: Value = serde_json::from_str(&rendered("envoy", &empty).concatenated()).unwrap();
    assert_eq!(
        document["resources"][0]["typed_config"]["rules"],
        serde_json::json!({"action": "DENY", "policies": {}})
    );
    assert!(nginx(&rendered("nginx", &empty).concatenated()).is_empty());
    assert_eq!(rendered("crowdsec", &empty).concatenated(), "[]\n");
}

#[test]
fn a_selection_narrows_zones_and_may_show_simulated_entries() {
    let view = view(everything());
    let networks = |zones: &[&str], simulated| {
        let zones = zones.iter().map(|zone| (*zone).to_owned()).collect();
        let rendering =
            format("haproxy")
                .unwrap()
                .render(&view, &Selection { zones, simulated }, 0);
        haproxy(file(&rendering, "blocked_ips.acl")).len()
    };
    assert_eq!(networks(&["other"], false), 1);
    assert_eq!(networks(&["z", "other"], false), 4);
    assert_eq!(networks(&[], true), 5);
}

#[test]
fn edits_in_any_order_render_alike() {
    let mut forward = Journal::new(0);
    let mut backward = Journal::new(0);
    let edits: Vec<Edit> = everything().into_iter().map(Edit::Listed).collect();
    forward.apply(&edits);
    backward.apply(&[Edit::Listed(entry(BlockKind::Ip, "192.0.2.200", 100))]);
    for edit in edits.iter().rev() {
        backward.apply(std::slice::from_ref(edit));
    }
    backward.apply(&[Edit::Ended(entry(BlockKind::Ip, "192.0.2.200", 0).key)]);
    for format in FORMATS {
        let render = |journal: &Journal| format.render(journal.view(), &Selection::default(), 0);
        assert_eq!(render(&forward), render(&backward), "{}", format.name);
    }
}

#[test]
fn ipv6_networks_hold_nobody_of_ipv4_in_haproxy() {
    let bits = |address: &str| address.parse::<std::net::Ipv6Addr>().unwrap().to_bits();
    let v4 = [
        "::ffff:0.0.0.0",
        "::ffff:127.0.0.1",
        "::ffff:255.255.255.255",
    ];
    let near = [
        "::",
        "::1",
        "::fffe:ffff:ffff",
        "::1:0:0:0",
        "2001:db8::1",
        "ffff::",
    ];
    for network in [
        "::/0",
        "::/1",
        "::/80",
        "::/79",
        "::fffe:0:0/95",
        "2000::/3",
        "::/97",
    ] {
        let view = view(vec![entry(BlockKind::Cidr, network, 100)]);
        let rendering = rendered("haproxy", &view);
        let lines = haproxy(file(&rendering, "blocked_ips.acl"));
        // As HAProxy compares: the bits of the prefix, whatever family they came from.
        let holding = |address: &str| {
            let holds = |line: &&&str| {
                let (first, prefix) = line.split_once('/').unwrap();
                let host = 128 - prefix.parse::<u32>().unwrap();
                let cut = |bits: u128| bits.checked_shr(host).unwrap_or_default();
                cut(bits(first)) == cut(bits(address))
            };
            lines.iter().filter(holds).count()
        };
        for address in v4 {
            assert_eq!(holding(address), 0, "{address} in {network}");
        }
        let meant = crate::model::Network::parse(network).unwrap();
        for address in near {
            let expected = usize::from(meant.contains(address.parse().unwrap()));
            assert_eq!(holding(address), expected, "{address} in {network}");
        }
    }
}
