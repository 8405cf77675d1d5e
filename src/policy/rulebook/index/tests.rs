//! Which rules are left: one by one, by paths and addresses, in order, and where the log does not show everything.

use super::super::tests::{rule, zone};
use super::*;
use crate::policy::compile;

/// An exchange of which the log shows this.
#[derive(Clone, Copy)]
struct Seen<'s> {
    path: &'s str,
    agent: Option<&'s str>,
    ip: Option<&'s str>,
}

impl Shown for Seen<'_> {
    fn text(&self, field: Field) -> Option<&[u8]> {
        let text = match field {
            Field::Host => "api.example",
            Field::Method => "GET",
            Field::Endpoint => "/a/{var1}",
            Field::UriPath => self.path,
            Field::UserAgent => self.agent?,
            _ => return None,
        };
        Some(text.as_bytes())
    }

    fn address(&self) -> Option<IpAddr> {
        self.ip.map(|ip| ip.parse().unwrap())
    }
}

const SEEN: Seen<'_> = Seen {
    path: "/a/b",
    agent: Some("curl/8 (Linux)"),
    ip: Some("192.0.2.7"),
};

/// Numbers of the rules that are left of custom rules with these expressions.
fn left(expressions: &[&str], seen: Seen<'_>) -> Vec<usize> {
    let title = |number: usize| format!("rule {number}");
    let rules = expressions.iter().enumerate();
    let rules = rules.map(|(number, text)| rule(&title(number), RuleKind::Custom, text));
    let policy = compile(&[zone(rules.collect())]).unwrap();
    let index = &policy.zones.first().unwrap().rules.index;
    index.candidates(&seen).collect()
}

#[test]
fn only_rules_that_may_be_true_are_left() {
    for (expression, expected) in [
        ("ssl", true),
        ("false", false),
        (r#"http.host eq "api.example""#, true),
        (r#"http.host eq "other""#, false),
        (r#"http.host in {"other" "api.example"}"#, true),
        (
            r#"http.host eq "api.example" and http.request.method eq "PUT""#,
            false,
        ),
        (r#"http.request.method in {"PUT" "GET"}"#, true),
        (r#"gatewatch.endpoint eq "/a/{var1}""#, true),
        (r#"gatewatch.endpoint eq "/a/b""#, false),
        (r#"http.request.uri.path eq "/a/b""#, true),
        (r#"http.request.uri.path eq "/a""#, false),
        (r#"http.request.uri.path eq "/a/b/c""#, false),
        (r#"starts_with(http.request.uri.path, "/a")"#, true),
        (r#"starts_with(http.request.uri.path, "/a/b")"#, true),
        (r#"starts_with(http.request.uri.path, "/b")"#, false),
        (r#"http.request.uri.path wildcard "/A/*""#, true),
        (r#"http.request.uri.path wildcard "/B/*""#, false),
        (r#"http.request.uri.path contains "/b""#, true),
        (r#"http.request.uri.path contains "/c""#, false),
        (r#"http.user_agent contains "8 (L""#, true),
        (r#"http.user_agent contains "LINUX""#, false),
        (r#"http.user_agent contains """#, true),
        (
            r#"http.user_agent contains "wget" or http.user_agent contains "curl""#,
            true,
        ),
        ("ip.src eq 192.0.2.7", true),
        ("ip.src eq 192.0.2.8", false),
        ("ip.src in {192.0.2.0/29 2001:db8::/32}", true),
        ("ip.src in {192.0.2.8/29 2001:db8::/32}", false),
        ("ip.src in {192.0.2.7..192.0.2.7 0.0.0.0..1.1.1.1}", true),
        ("ip.src in {}", false),
        ("not ip.src in {192.0.2.0/24}", true),
    ] {
        let found = left(&[expression], SEEN);
        assert_eq!(
            found,
            if expected { vec![0] } else { vec![] },
            "{expression}"
        );
    }
}

#[test]
fn what_the_log_does_not_show_rules_nothing_out() {
    let blind = Seen {
        agent: None,
        ip: None,
        ..SEEN
    };
    let expressions = [
        r#"http.user_agent contains "wget""#,
        "ip.src eq 10.0.0.1",
        r#"http.request.uri.path contains "/c""#,
    ];
    assert!(left(&expressions, SEEN).is_empty());
    assert_eq!(left(&expressions, blind), [0, 1]);
}

#[test]
fn an_address_finds_every_range_that_it_lies_in() {
    let expressions = [
        "ip.src in {10.0.0.0/8 10.1.0.0/16}",
        "ip.src in {10.1.0.0/16}",
        "ip.src in {255.255.255.255 ::/0}",
        "ip.src in {ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff}",
        "ssl",
    ];
    for (ip, expected) in [
        ("9.255.255.255", &[2, 4][..]),
        ("10.0.0.0", &[0, 2, 4]),
        ("10.1.0.0", &[0, 1, 2, 4]),
        ("10.1.255.255", &[0, 1, 2, 4]),
        ("10.2.0.0", &[0, 2, 4]),
        ("11.0.0.0", &[2, 4]),
        ("255.255.255.255", &[2, 4]),
        ("::", &[2, 4]),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", &[2, 4]),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &[2, 3, 4]),
    ] {
        let seen = Seen {
            ip: Some(ip),
            ..SEEN
        };
        assert_eq!(left(&expressions, seen), expected, "{ip}");
    }
}

#[test]
fn a_path_finds_every_text_that_it_starts_with() {
    let deep = format!("/{}", "x".repeat(LONGEST_START));
    let deep_rule = format!(r#"http.request.uri.path eq "{deep}""#);
    let expressions = [
        r#"starts_with(http.request.uri.path, "/a")"#,
        r#"http.request.uri.path eq "/a""#,
        r#"starts_with(http.request.uri.path, "/a/b")"#,
        r#"starts_with(http.request.uri.path, "/a/c")"#,
        r#"http.request.uri.path eq "/a/b/d""#,
        "ssl",
        &deep_rule,
    ];
    for (path, expected) in [
        ("/", &[5][..]),
        ("/a", &[0, 1, 5]),
        ("/A", &[0, 1, 5]),
        ("/aa", &[0, 5]),
        ("/a/b", &[0, 2, 5]),
        ("/a/b/d", &[0, 2, 4, 5]),
        ("/a/b/de", &[0, 2, 5]),
        ("/a/bz", &[0, 2, 5]),
        ("/a/c/d", &[0, 3, 5]),
        ("/a/d", &[0, 5]),
        ("/b", &[5]),
        (&deep, &[5, 6]),
        (&deep[..deep.len() - 1], &[5, 6]),
        (&deep[..deep.len() - 2], &[5]),
    ] {
        assert_eq!(
            left(&expressions, Seen { path, ..SEEN }),
            expected,
            "{path}"
        );
    }
}

#[test]
fn many_rules_keep_their_order() {
    let text = |number: usize| match number % 3 {
        0 => format!(r#"http.host eq "h{number}""#),
        1 => r#"http.host eq "api.example""#.to_owned(),
        _ => "ssl".to_owned(),
    };
    let texts: Vec<String> = (0..200).map(text).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let expected: Vec<usize> = (0..200).filter(|number| number % 3 != 0).collect();
    assert_eq!(left(&texts, SEEN), expected);
}

#[test]
fn selectors_count_and_token_rules_are_left_out_by_them_only() {
    let never = r#"http.host eq "nowhere""#;
    let with = |kind, hosts: &[&str], enabled| {
        let mut rule = rule("r", kind, never);
        rule.include_hosts = hosts.iter().map(ToString::to_string).collect();
        rule.enabled = enabled;
        let policy = compile(&[zone(vec![rule])]).unwrap();
        let index = &policy.zones.first().unwrap().rules.index;
        index.candidates(&SEEN).count() == 1
    };
    assert!(with(RuleKind::Token, &[], true));
    assert!(with(RuleKind::Token, &["api.example"], true));
    assert!(with(RuleKind::Token, &["*.partners.example"], true));
    assert!(!with(RuleKind::Token, &["x.partners.example"], true));
    assert!(!with(RuleKind::Token, &[], false));
    assert!(!with(RuleKind::Custom, &["api.example"], true));
}
