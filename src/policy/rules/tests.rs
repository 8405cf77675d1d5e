//! What the parser takes and what it refuses, beyond the cases of the grammar suite.

use super::*;

fn refused(text: &str) -> ExpressionError {
    match Expression::compile(text, &Names::default()) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error,
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}ssl{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Expression::compile(&nested(128), &Names::default()).is_ok());
    assert_eq!(refused(&nested(129)).at, 128);
    assert_eq!(refused(&"(".repeat(4_096)).at, 128);
    assert_eq!(refused(&"!".repeat(4_096)).at, 128);
    assert!(Expression::compile(&format!("{}ssl", "!".repeat(128)), &Names::default()).is_ok());
    let calls = |depth: usize| {
        format!(
            "{}http.host{} eq \"a\"",
            "lower(".repeat(depth),
            ")".repeat(depth)
        )
    };
    assert!(Expression::compile(&calls(128), &Names::default()).is_ok());
    assert!(refused(&calls(129)).message.contains("too deep"));
    let indexes = format!("http.request.headers{}", "[*]".repeat(1_000));
    assert!(refused(&indexes).message.contains("no index"));
}

#[test]
fn length_is_bounded() {
    let long = |count: usize| format!("http.host eq \"{}\"", "é".repeat(count));
    assert!(Expression::compile(&long(4_096 - 15), &Names::default()).is_ok());
    assert_eq!(refused(&long(4_096 - 14)).at, 4_096);
}

#[test]
fn regular_expressions_are_counted() {
    let many = |count: usize| vec!["http.host ~ \"a\""; count].join(" or ");
    assert!(Expression::compile(&many(64), &Names::default()).is_ok());
    assert!(refused(&many(65)).message.contains("too many"));
    assert!(
        refused(r#"http.host ~ "(\w{900}){900}""#)
            .message
            .contains("bytes")
    );
}

#[test]
fn chains_of_one_level_are_flat() {
    let chain = vec!["ssl"; 500].join("||");
    let compiled = Expression::compile(&chain, &Names::default()).unwrap();
    let Node::Or(parts) = compiled.root() else {
        panic!("not a list");
    };
    assert_eq!(parts.len(), 500);
}

#[test]
fn nothing_that_is_typed_in_panics() {
    // Every prefix and every single change of a text that uses the whole grammar.
    let text = "(http.host in {\"a\" r#\"b\"#} and not cf.tls_client_auth.cert_verified) xor \
                any(lower(http.request.headers[\"x\"][*])[*] matches \"[^\\\"]+\\d\") || ip.src in \
                {10.0.0.0/8 ::1..::2} && len(http.user_agent) & 0x1f or http.host eq 01:2e:f3";
    assert!(Expression::compile(text, &Names::default()).is_ok());
    for (at, _) in text.char_indices() {
        let _ = Expression::compile(&text[..at], &Names::default());
        for change in ["", "\"", "(", "[", "\u{e9}", "\\", "\t", "0", "."] {
            let changed = format!("{}{change}{}", &text[..at], &text[at + 1..]);
            if let Err(error) = Expression::compile(&changed, &Names::default()) {
                assert!(error.at <= changed.chars().count());
                let _ = error.render(&changed);
            }
        }
    }
}

#[test]
fn the_readme_lists_every_function_with_its_form_and_no_other() {
    let readme = include_str!("../../../README.md");
    let line = readme
        .lines()
        .find(|line| line.starts_with("**Functions**:"));
    let (line, _) = line.unwrap().split_once("The vendor's").unwrap();
    // Between the backticks; `any`, `all` and what asks for tokens are part of the grammar.
    let listed: std::collections::BTreeSet<&str> =
        line.split('`').skip(1).step_by(2).skip(4).collect();
    let known = functions::names().map(|name| functions::form(name).unwrap());
    assert_eq!(listed, known.collect());
}
