//! Rules: the input is an expression, and behind a zero byte a method, a target and header fields, a line each.

use std::sync::LazyLock;

use gatewatch::enrich::Judge;
use gatewatch::enrich::rules::{Facts, evaluate, filter, holds};
use gatewatch::policy::rules::{Expression, Lists, Names, Polarity, lint};

use super::judging;

static JUDGE: LazyLock<Judge> =
    LazyLock::new(|| judging::judge(judging::zone()).expect("the zone compiles"));

/// One expression and one exchange.
pub fn run(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else {
        return;
    };
    let (text, message) = input.split_once('\0').unwrap_or((input, ""));
    let zone = JUDGE.policy().zones.first().expect("there is one zone");
    let lists = Lists::default();
    let expression = match Expression::compile(text, &Names::new(&zone.tokens, &lists)) {
        Ok(expression) => expression,
        Err(error) => {
            assert!(error.at <= text.chars().count() && error.length > 0);
            let picture = error.render(text);
            assert!(picture.contains('^') && picture.contains(&error.message));
            return;
        }
    };
    for polarity in [Polarity::Ordinary, Polarity::Inverted] {
        for found in lint(&expression, polarity) {
            assert!(!found.message.is_empty() && !found.hint.is_empty());
        }
    }
    // Refused is a field without a column, nothing else.
    let _ = filter(&expression, zone);

    let (line, fields) = message.split_once('\n').unwrap_or((message, ""));
    let (method, target) = line.split_once(' ').unwrap_or(("GET", "/products?limit=5"));
    let mut exchange = judging::exchange(method, target, fields);
    exchange.response = Some(judging::response(200, fields, b"{}"));
    let judged = judging::judged(&JUDGE, &exchange).expect("the host is in the zone");
    let facts = Facts::new(zone, &exchange, &judged);
    let answer = evaluate(&expression, &facts);
    assert_eq!(holds(&expression, &facts), answer.value);
    if let Some(constant) = expression.constant() {
        assert_eq!(answer.value, constant, "{text}");
    }
}
