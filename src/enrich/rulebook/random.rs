//! The index and the short list of verdicts against plain evaluation of every rule, over random rule books and exchanges.

use std::sync::Arc;

use super::super::fixtures::{configuration, signer};
use super::super::rules::random::{ADDRESSES, Random, TEXTS, Writer, exchange, tokens};
use super::super::{Judge, Shared};
use super::tests::{rule, zone};
use super::*;
use crate::policy::compile;
use crate::policy::objects::ZoneObject;
use crate::policy::rules::{Lists, lists::Set};

/// Rule books, and exchanges that each is tried on.
const BOOKS: usize = 150;
const EXCHANGES: usize = 40;

const HOSTS: &[&str] = &["api.example", "other.example", "a.wild.example"];

/// A condition that the index reads, or nearly reads.
fn condition(writer: &mut Writer) -> String {
    let random = &mut writer.0;
    match random.below(12) {
        0 => format!("http.host eq {:?}", random.pick(HOSTS)),
        1 => format!("http.host in {{{:?} \"x\"}}", random.pick(HOSTS)),
        2 => format!(
            "http.request.method eq {:?}",
            random.pick(&["GET", "get", "é"])
        ),
        3 => "http.request.method in $words".to_owned(),
        4 => format!(
            "http.request.uri.path {} {:?}",
            random.pick(&["eq", "ne", "wildcard", "strict wildcard"]),
            random.pick(&["/a/b", "/A/*", "/*/b", "*", "/", "/A/b", "/a*b"])
        ),
        5 => format!(
            "starts_with({}, {:?})",
            random.pick(&["http.request.uri.path", "lower(http.request.uri.path)"]),
            random.pick(&["/", "/a", "/A", "/a/", ""])
        ),
        6 => format!(
            "lower(http.request.uri.path) in {{{:?} \"/A/B\"}}",
            random.pick(&["/a/b", "/"])
        ),
        7 => format!(
            "gatewatch.endpoint eq {:?}",
            random.pick(&["/a/{var1}", "/a/b"])
        ),
        8 => format!(
            "ip.src in {{{} {}}}",
            random.pick(&["192.0.2.0/24", "10.0.0.0/8", "::/0", "192.0.2.1..192.0.2.9"]),
            random.pick(&["192.0.2.77", "2001:db8::/32", "0.0.0.0/0"])
        ),
        9 => format!("ip.src eq {}", random.pick(ADDRESSES)),
        10 => format!(
            "{} contains {:?}",
            random.pick(&["http.user_agent", "http.request.uri.path"]),
            random.pick(TEXTS)
        ),
        _ => writer.expression(1),
    }
}

/// Conditions joined in ways that the index goes into, and in ways that it does not.
fn expression(writer: &mut Writer) -> String {
    let parts: Vec<String> = (0..=writer.0.below(3)).map(|_| condition(writer)).collect();
    match writer.0.below(8) {
        0 => writer.expression(3),
        1 => parts.join(" or "),
        2 => format!("not ({})", parts.join(" and ")),
        3 => format!("{} xor {}", condition(writer), condition(writer)),
        4 => format!("({}) and ({})", parts.join(" or "), condition(writer)),
        5 => format!("{} and {}", parts.join(" and "), writer.expression(2)),
        6 => format!("({}) or ({})", parts.join(" and "), condition(writer)),
        _ => parts.join(" and "),
    }
}

fn book(writer: &mut Writer) -> ZoneObject {
    let rules = (0..=writer.0.below(90)).map(|number| {
        let kind = match writer.0.below(10) {
            0..=1 => RuleKind::Token,
            2 => RuleKind::Mtls,
            _ => RuleKind::Custom,
        };
        let mut rule = rule(&format!("rule {number}"), kind, &expression(writer));
        rule.enabled = writer.0.chance(90);
        if writer.0.chance(30) {
            let host = writer
                .0
                .pick(&["api.example", "other.example", "*.wild.example"]);
            rule.include_hosts = vec![host.to_owned()];
        }
        if writer.0.chance(20) {
            rule.exclude_operations = vec!["GET api.example /a/b".to_owned()];
        }
        rule
    });
    let mut object = zone(rules.collect());
    let other = configuration("other", std::slice::from_ref(&signer("ES256").jwk));
    object.token_configurations.push(other);
    object.hosts = vec![
        "api.example".into(),
        "other.example".into(),
        "*.wild.example".into(),
    ];
    let mut lists = Lists::default();
    let words = ["a".to_owned(), "GET".to_owned()];
    lists
        .add("words", crate::policy::rules::types::Scalar::Bytes, &words)
        .unwrap();
    assert!(matches!(
        lists.get("words").unwrap().as_ref(),
        Set::Texts(_)
    ));
    object.lists = Some(Arc::new(lists));
    object
}

/// Every rule, one after the other.
fn plainly(zone: &Zone, exchange: &Exchange<'_>, judged: &Judged) -> Vec<RuleVerdict> {
    let facts = Facts::new(zone, exchange, judged);
    let mut token_rule_applied = false;
    let mut verdicts = Vec::new();
    for (number, rule) in (0_u16..).zip(&zone.rules.rules) {
        let token = rule.kind == RuleKind::Token;
        if !rule.enabled || !covers(rule, zone, judged) || (token && token_rule_applied) {
            continue;
        }
        token_rule_applied |= token;
        let answer = evaluate(&rule.expression, &facts);
        verdicts.push(RuleVerdict {
            rule: Some(number),
            kind: rule.kind,
            value: answer.value,
            known: answer.known,
            fires: answer.known && (answer.value != token),
            action: rule.action,
        });
    }
    verdicts
}

#[test]
fn the_index_and_the_short_list_say_what_evaluation_of_every_rule_says() {
    let mut writer = Writer(Random(7));
    let tokens = tokens();
    let shared = Arc::new(Shared::new(b"a key for the test"));
    let (mut fires, mut unknown, mut plain, mut skipped) = (0, 0, 0, 0);
    for _ in 0..BOOKS {
        let policy = Arc::new(compile(&[book(&mut writer)]).unwrap());
        let judge = Judge::new(Arc::clone(&policy), Arc::clone(&shared));
        let zone = &policy.zones[0];
        let mut judged = Judged::default();
        for _ in 0..EXCHANGES {
            let mut exchange = exchange(&mut writer.0, &tokens);
            exchange.request.host = writer.0.pick(HOSTS).into();
            assert!(judge.judge(&exchange, &mut judged));
            let expected = plainly(zone, &exchange, &judged);
            let text = |verdict: Option<&RuleVerdict>| {
                let rule =
                    verdict.and_then(|verdict| zone.rules.rules.get(usize::from(verdict.rule?)));
                rule.map(|rule| rule.expression.text().to_owned())
            };
            let found = verdicts(zone, &judged);
            let differs = found
                .iter()
                .zip(&expected)
                .find(|(found, expected)| found != expected);
            assert_eq!(
                found,
                expected,
                "{:?}",
                text(differs.map(|(_, expected)| expected))
            );
            let says_more =
                |verdict: &&RuleVerdict| verdict.value || !verdict.known || verdict.fires;
            let short: Vec<RuleVerdict> = expected.iter().filter(says_more).copied().collect();
            assert_eq!(judged.rules, short);
            let candidates = zone
                .rules
                .candidates(&Facts::new(zone, &exchange, &judged))
                .count();
            skipped += zone.rules.rules.len() - candidates;
            fires += expected.iter().filter(|verdict| verdict.fires).count();
            unknown += expected.iter().filter(|verdict| !verdict.known).count();
            plain += expected.len() - short.len();
        }
    }
    // The test means something only when everything is common.
    let rare = fires.min(unknown).min(plain).min(skipped);
    assert!(
        rare > 10_000,
        "{fires} fire, {unknown} unknown, {plain} plain, {skipped} skipped"
    );
}
