//! Candidate files, good and bad.

use super::*;

const PIPELINE: &str = r#"
name = "p"
[source]
path = "log"
[[zones]]
id = "a"
hosts = ["a.example"]
[[zones.rules]]
title = "old"
expression = 'http.host eq "a.example"'
[[zones]]
id = "b"
hosts = ["b.example"]
"#;

/// Candidates of a trial, or what is said of its files.
fn rules(text: &str, zone: Option<&str>) -> Result<Trial, String> {
    let folder = tempfile::tempdir().unwrap();
    let (pipeline, rule) = (folder.path().join("p.toml"), folder.path().join("r.toml"));
    std::fs::write(&pipeline, PIPELINE).unwrap();
    std::fs::write(&rule, text).unwrap();
    let files = Candidates {
        rules: std::slice::from_ref(&rule),
        zone,
        ..Candidates::default()
    };
    load_trial(&pipeline, &files).map_err(|all| {
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        all.join("\n")
            .replace(&rule.display().to_string(), "r.toml")
    })
}

#[test]
fn a_rule_of_the_same_name_takes_the_place_and_another_one_comes_last() {
    let text = "[[rules]]\ntitle = \"new\"\nzone = \"a\"\nenabled = false\nexpression = 'true'\n\
                [[rules]]\ntitle = \"old\"\nzone = \"a\"\nexpression = 'false'\n\
                [[rules]]\ntitle = \"old\"\nexpression = 'true'\n";
    let trial = rules(text, Some("b")).unwrap();
    let found: Vec<_> = trial
        .candidates
        .iter()
        .map(|candidate| (candidate.zone, candidate.subject))
        .collect();
    let rule = |number, replaces| Subject::Rule { number, replaces };
    assert_eq!(
        found,
        [(0, rule(1, false)), (0, rule(0, true)), (1, rule(0, false))]
    );
    let titles: Vec<_> = trial.policy.zones[0]
        .rules
        .rules
        .iter()
        .map(|rule| rule.title.as_str())
        .collect();
    assert_eq!(titles, ["old", "new"]);
    assert!(trial.policy.zones[0].rules.rules[1].enabled);
    // The policy in force is what it was.
    assert_eq!(trial.settings.policy.zones[0].rules.rules.len(), 1);
    assert_eq!(trial.settings.policy.zones[1].rules.rules.len(), 0);
}

#[test]
fn every_problem_stands_at_its_place_in_the_candidate_file() {
    let text = "[[rules]]\ntitle = \"x\"\nzone = \"a\"\nexpression = 'http.host eq'\n\
                [[rules]]\ntitle = \"y\"\nzone = \"c\"\nexpresion = 'true'\n";
    let said = rules(text, None).unwrap_err();
    for words in [
        "r.toml has 4 problems",
        "line 4: rules[0].expression:",
        "^",
        "line 7: rules[1].zone: \"c\" is no zone of the pipeline",
        "rules[1].expression: is missing",
        "line 8: rules[1].expresion: is not a setting",
    ] {
        assert!(said.contains(words), "{words:?} is not in\n{said}");
    }
}

#[test]
fn a_file_that_cannot_be_tried_says_why() {
    let twice = "[[rules]]\ntitle = \"x\"\nexpression = 'true'\n".repeat(2);
    for (text, zone, words) in [
        ("", Some("a"), "nothing is written to try"),
        ("[[rule]]\n", Some("a"), "rule: is not a setting"),
        ("rules = [", Some("a"), "line 1: syntax"),
        (
            "[[rules]]\ntitle = \"x\"\nexpression = 'true'",
            None,
            "none is named",
        ),
        (
            twice.as_str(),
            Some("a"),
            "line 5: rules[1].title: another rule",
        ),
    ] {
        let said = rules(text, zone).unwrap_err();
        assert!(said.contains(words), "{words:?} is not in\n{said}");
    }
}
