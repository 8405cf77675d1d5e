//! Back-tests of generated traffic, whose truth is known.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use gatewatch::traffic::{Range, Scenario};
use serde_json::{Value, json};

use super::{matches, tried};
use crate::command::{output, pipeline as generated, succeeds};

const SHOP: &str = "023e105f4ecef8ad9ca31a8372d0c353";

/// Rules of every kind, as they are written under `[[rules]]`.
const RULES: [&str; 5] = [
    "title = \"tried\"\naction = \"block\"\nexpression = 'http.host eq \"api.shop.example\" and http.request.method eq \"GET\"'\n",
    "title = \"tried\"\nexpression = 'http.host eq \"api.shop.example\" and not cf.api_gateway.auth_id_present'\n",
    "title = \"tried\"\nkind = \"token\"\naction = \"block\"\nexpression = 'is_jwt_valid(\"shop issuer\") or not is_jwt_present(\"shop issuer\")'\n\
     selector = { include_hosts = [\"api.shop.example\"] }\n",
    "title = \"tried\"\nkind = \"mtls\"\naction = \"block\"\nexpression = 'http.host eq \"feed.partners.shop.example\" and not cf.tls_client_auth.cert_verified'\n",
    "title = \"tried\"\nexpression = 'http.response.code in {401 403}'\n",
];

#[test]
fn a_rule_on_trial_fires_where_it_fires_when_it_is_turned_on() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = generated(folder.path(), &Scenario::everything(), 11, 2_500, 40);
    let text = fs::read_to_string(&path).unwrap();
    let rule_file = folder.path().join("rule.toml");
    let rule_file = rule_file.to_str().unwrap();
    let mut total = 0;
    for rule in RULES {
        // Turned on: below the zone whose hosts it speaks of, which is the first.
        let mut zones = text.splitn(3, "[[zones]]");
        let (top, first) = (zones.next().unwrap(), zones.next().unwrap());
        let rest = zones.next().unwrap();
        let on = folder.path().join("on.toml");
        fs::write(
            &on,
            format!("{top}[[zones]]{first}\n[[zones.rules]]\n{rule}\n[[zones]]{rest}"),
        )
        .unwrap();
        let mut fires: BTreeSet<(String, String)> = BTreeSet::new();
        let mut endpoints: BTreeMap<String, u64> = BTreeMap::new();
        let mut count = 0;
        for line in succeeds(&["explain", on.to_str().unwrap()]).lines() {
            let verdict: Value = serde_json::from_str(line).unwrap();
            let mut rules = verdict["rules"].as_array().into_iter().flatten();
            let ours = |rule: &Value| rule["title"] == "tried" && rule["fires"] == true;
            if rules.any(ours) {
                let word = |name: &str| verdict[name].as_str().unwrap_or_default().to_owned();
                let endpoint = format!("{} {}{}", word("method"), word("host"), word("endpoint"));
                *endpoints.entry(endpoint).or_default() += 1;
                fires.insert((word("id"), word("time")));
                count += 1;
            }
        }
        fs::write(
            rule_file,
            format!("[[rules]]\nzone = \"{SHOP}\"\nenabled = false\n{rule}"),
        )
        .unwrap();
        let wide = ["--rule", rule_file, "--samples", "1000", "--top", "1000"];
        let found = tried(path.to_str().unwrap(), &wide);
        let found = &found["candidates"][0];
        assert_eq!(found["matches"], count, "{rule}");
        assert_eq!(matches(&found["endpoints"]), endpoints, "{rule}");
        let samples = found["samples"].as_array().unwrap();
        let chosen: BTreeSet<_> = samples
            .iter()
            .map(|sample| {
                let word = |name: &str| sample[name].as_str().unwrap_or_default().to_owned();
                (word("id"), word("time"))
            })
            .collect();
        if count <= 1_000 {
            assert_eq!(chosen, fires, "{rule}");
        } else {
            assert!(samples.len() == 1_000 && chosen.is_subset(&fires), "{rule}");
        }
        assert!(count > 0, "nothing fires: {rule}");
        total += count;
    }
    assert!(total > 1_000, "{total}");
}

#[test]
fn likely_false_positives_are_those_that_the_generator_knows() {
    let folder = tempfile::tempdir().unwrap();
    let (path, truth) = generated(folder.path(), &Scenario::demo(), 5, 4_000, 40);
    let rule = folder.path().join("rule.toml");
    fs::write(
        &rule,
        "[[rules]]\ntitle = \"all\"\nexpression = 'http.host contains \".\"'\n",
    )
    .unwrap();
    let zone = [
        "--zone",
        SHOP,
        "--top",
        "1000",
        "--rule",
        rule.to_str().unwrap(),
    ];
    let found = tried(path.to_str().unwrap(), &zone);
    let rows = found["candidates"][0]["endpoints"]["top"]
        .as_array()
        .unwrap();
    let row = |name: &str| rows.iter().find(|row| row["name"] == name);
    let report = truth.report(Range::Week);
    let (mut compared, mut sessions) = (0, 0);
    for endpoint in report["endpoints"].as_array().unwrap() {
        let word = |name: &str| endpoint[name].as_str().unwrap();
        let number = |value: &Value| value.as_u64().unwrap();
        let name = format!("{} {}{}", word("method"), word("host"), word("endpoint"));
        let row = row(&name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(row["matches"], endpoint["requests"]["total"], "{name}");
        // Where no certificate decides, the figures of the truth say who was in good standing.
        let certificates =
            number(&endpoint["mtls"]["failed"]) + number(&endpoint["mtls"]["revoked"]);
        if certificates == 0 {
            let present = number(&endpoint["session"]["successful"]["present"]);
            let invalid = number(&endpoint["tokens"]["shop issuer"]["successful_invalid"]);
            assert_eq!(row["likely_false_positives"], present - invalid, "{name}");
            sessions += present - invalid;
            compared += 1;
        }
    }
    assert!(compared >= 8 && sessions > 200, "{compared} {sessions}");
    assert_eq!(found["traffic"]["exchanges"], truth.exchanges());
    assert_eq!(found["traffic"]["unzoned"], truth.unzoned());
    assert_eq!(
        found["traffic"]["orphan_responses"],
        truth.orphan_responses()
    );
}

#[test]
fn a_schema_on_trial_is_compared_with_the_one_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let (path, truth) = generated(folder.path(), &Scenario::demo(), 3, 3_000, 40);
    let folder = folder.path();
    let truth = truth.report(Range::Week);
    let count = |host: &str, side: &str, outcome: &str| -> u64 {
        let endpoints = truth["endpoints"].as_array().unwrap().iter();
        endpoints
            .filter(|endpoint| endpoint["host"] == host)
            .map(|endpoint| endpoint["schema"][side][outcome].as_u64().unwrap())
            .sum()
    };
    let sum = |host: &str| count(host, "request", "violates");
    let expected = sum("api.shop.example");
    assert!(expected > 20);
    let schema = folder.join("shop.openapi.yaml");
    let schema = schema.to_str().unwrap();
    let zone = ["--zone", SHOP, "--top", "1000", "--schema", schema];
    // The zone has two documents; this one alone is tried in their place.
    let same = tried(path.to_str().unwrap(), &zone);
    let same = &same["candidates"][0];
    assert_eq!(
        (&same["matches"], &same["newly"]),
        (&json!(expected), &json!(0))
    );
    assert_eq!(same["replaces"], true);
    assert_eq!(same["no_longer"], sum("feed.partners.shop.example"));
    let reasons = same["reasons"]["top"].as_array().unwrap();
    assert!(reasons.len() > 5);
    // The other side is added up apart.
    let answers = count("api.shop.example", "response", "violates");
    assert!(answers > 5);
    let response = &same["response"];
    for (name, value) in [
        ("violating", answers),
        ("newly", 0),
        ("already", answers),
        (
            "no_longer",
            count("feed.partners.shop.example", "response", "violates"),
        ),
        (
            "judged",
            answers
                + count("api.shop.example", "response", "conforms")
                + count("api.shop.example", "response", "no_operation"),
        ),
    ] {
        assert_eq!(response[name], value, "{name}");
    }
    let rows = response["endpoints"]["top"].as_array().unwrap();
    for endpoint in truth["endpoints"].as_array().unwrap() {
        let word = |name: &str| endpoint[name].as_str().unwrap();
        let name = format!("{} {}{}", word("method"), word("host"), word("endpoint"));
        let violates = endpoint["schema"]["response"]["violates"].as_u64().unwrap();
        let row = rows.iter().find(|row| row["name"] == name);
        let found = row.map_or(0, |row| row["violating"].as_u64().unwrap());
        let ours = word("host") == "api.shop.example";
        assert_eq!(found, if ours { violates } else { 0 }, "{name}");
    }
    assert!(!response["reasons"]["top"].as_array().unwrap().is_empty());
    // The same pipeline without schemas: everything that violates is new.
    let text = fs::read_to_string(&path).unwrap();
    let kept = text
        .split("\n[[")
        .filter(|section| !section.starts_with("zones.schemas]]"));
    let without = folder.join("without.toml");
    fs::write(&without, kept.collect::<Vec<_>>().join("\n[[")).unwrap();
    let fresh = tried(without.to_str().unwrap(), &zone);
    let fresh = &fresh["candidates"][0];
    for (name, value) in [("matches", expected), ("newly", expected), ("already", 0)] {
        assert_eq!(fresh[name], value, "{name}");
    }
    assert_eq!(fresh["response"]["newly"], answers);
    assert_eq!(fresh["replaces"], false);
    assert_eq!(matches(&fresh["endpoints"]), matches(&same["endpoints"]));
    // Beside the zone's own schemas the same operations are declared twice.
    let refused = output(
        &[
            &["backtest", path.to_str().unwrap(), "--keep-schemas"],
            &zone[..],
        ]
        .concat(),
    );
    assert_eq!(refused.status.code(), Some(64));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("declares the same operation"), "{said}");
}

#[test]
fn a_token_configuration_on_trial_gives_the_reasons_that_the_generator_knows() {
    let folder = tempfile::tempdir().unwrap();
    let (path, truth) = generated(folder.path(), &Scenario::demo(), 9, 3_000, 40);
    let folder = folder.path();
    let text = fs::read_to_string(&path).unwrap();
    let sections: Vec<&str> = text.split("\n[[").collect();
    let is_issuer = |section: &&&str| {
        section.starts_with("zones.token_configurations]]") && section.contains("\"shop issuer\"")
    };
    let issuer = sections.iter().find(is_issuer).unwrap();
    let candidate = folder.join("issuer.toml");
    let candidate_text = format!("[[{issuer}\n").replace("[[zones.", "[[");
    fs::write(&candidate, candidate_text).unwrap();
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    for endpoint in truth.report(Range::Week)["endpoints"].as_array().unwrap() {
        let counts = &endpoint["tokens"]["shop issuer"];
        let add = |from: &Value, into: &mut BTreeMap<String, u64>| {
            for (name, count) in from.as_object().into_iter().flatten() {
                if let Some(count) = count.as_u64().filter(|count| *count > 0) {
                    *into.entry(name.clone()).or_default() += count;
                }
            }
        };
        add(&counts["reasons"], &mut reasons);
        add(counts, &mut outcomes);
    }
    outcomes.remove("successful_invalid");
    assert!(reasons.len() > 4, "{reasons:?}");
    let arguments = [
        "--zone",
        SHOP,
        "--token-configuration",
        candidate.to_str().unwrap(),
    ];
    // In the place of itself nothing changes.
    let found = tried(path.to_str().unwrap(), &arguments);
    let same = &found["candidates"][0];
    assert_eq!(matches(&same["reasons"]), reasons);
    assert_eq!(same["outcomes"], json!(outcomes));
    assert_eq!((&same["newly"], &same["no_longer"]), (&json!(0), &json!(0)));
    assert_eq!(same["already"], same["matches"]);
    // Added to a zone without it, the forged and expired tokens are new, and every one has its own hash.
    let without = folder.join("without.toml");
    let kept = sections
        .iter()
        .filter(|section| !is_issuer(section))
        .copied();
    fs::write(&without, kept.collect::<Vec<_>>().join("\n[[")).unwrap();
    let found = tried(without.to_str().unwrap(), &arguments);
    let fresh = &found["candidates"][0];
    assert_eq!(matches(&fresh["reasons"]), reasons);
    assert_eq!(
        fresh["already"].as_u64().unwrap() + fresh["newly"].as_u64().unwrap(),
        fresh["matches"]
    );
    assert!(fresh["newly"].as_u64().unwrap() > 50);
    assert_eq!(fresh["no_longer"], Value::Null);
    let tokens = fresh["entities"]["token"]["top"].as_array().unwrap();
    assert!(
        tokens
            .iter()
            .all(|row| row["name"].as_str().unwrap().len() == 32)
    );
    assert_eq!(found["hashes"], "this_run");
}
