//! What must be the case for an expression to be true, as far as single comparisons say so.
//!
//! Enters: a compiled expression, and a reading of its comparisons. Leaves: values one of which is necessary, or `None`
//! where nothing follows. Only comparisons at the top and below `and` and `or` are read, so the answer is never too narrow.
//! What is done with it is in `policy::rulebook::index`.

use std::net::IpAddr;

use super::ast::{Check, Node, Operand, Order, Test};
use super::fields::Field;
use super::functions::Function;
use super::lists::Set;
use super::types::Value;

/// What the path of a request must be, in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStart {
    /// The path, or how it starts, in lower case.
    pub text: Vec<u8>,
    /// Whether this is all of it.
    pub whole: bool,
}

/// Values one of which is necessary for the node to be true, where `told` reads them from a comparison.
pub fn required<'n, T>(
    node: &'n Node,
    told: &impl Fn(&'n Test) -> Option<Vec<T>>,
) -> Option<Vec<T>> {
    match node {
        // Nothing makes it true.
        Node::Constant(false) => Some(Vec::new()),
        Node::Test(test) => told(test),
        Node::And(parts) => {
            let known = parts.iter().filter_map(|part| required(part, told));
            known.min_by_key(Vec::len)
        }
        Node::Or(parts) => {
            let each: Option<Vec<_>> = parts.iter().map(|part| required(part, told)).collect();
            each.map(|each| each.into_iter().flatten().collect())
        }
        _ => None,
    }
}

/// Texts one of which the field must equal for the comparison to be true.
#[must_use]
pub fn equal(test: &Test, field: Field) -> Option<Vec<&[u8]>> {
    match &test.operand {
        Operand::Field(own) if *own == field => texts(&test.check),
        _ => None,
    }
}

/// What the normalised path must be for the comparison to be true.
#[must_use]
pub fn path(test: &Test) -> Option<Vec<PathStart>> {
    let start = |text: &[u8], whole| PathStart {
        text: text.to_ascii_lowercase(),
        whole,
    };
    let starts = match (&test.operand, &test.check) {
        (Operand::Call(call), Check::Truth) => match (&call.function, call.arguments.as_slice()) {
            (Function::StartsWith, [operand, Operand::Literal(Value::Bytes(prefix))])
                if is_path(operand) =>
            {
                vec![start(prefix, false)]
            }
            _ => return None,
        },
        (operand, Check::Wildcard(pattern)) if is_path(operand) => {
            let (parts, _) = pattern.parts();
            vec![start(parts.first()?, parts.len() == 1)]
        }
        (operand, check) if is_path(operand) => {
            let texts = texts(check)?.into_iter();
            texts.map(|text| start(text, true)).collect()
        }
        _ => return None,
    };
    // Every path starts with nothing.
    let says_something = |start: &PathStart| start.whole || !start.text.is_empty();
    starts.iter().all(says_something).then_some(starts)
}

/// Ranges of addresses in one of which the client must be for the comparison to be true.
#[must_use]
pub fn address(test: &Test) -> Option<Vec<(IpAddr, IpAddr)>> {
    if !matches!(test.operand, Operand::Field(Field::Address)) {
        return None;
    }
    match &test.check {
        Check::Ip(Order::Equal, ip) => Some(vec![(*ip, *ip)]),
        Check::In(set, _) => match set.as_ref() {
            Set::Ips(addresses) => Some(addresses.ranges().collect()),
            Set::Ints(_) | Set::Texts(_) => None,
        },
        _ => None,
    }
}

/// Texts one of which the field must contain for the comparison to be true.
#[must_use]
pub fn part(test: &Test, field: Field) -> Option<Vec<&[u8]>> {
    match (&test.operand, &test.check) {
        (Operand::Field(own), Check::Contains(finder)) if *own == field => {
            Some(vec![finder.needle()])
        }
        _ => None,
    }
}

/// The path, or the path in lower case.
fn is_path(operand: &Operand) -> bool {
    match operand {
        Operand::Field(field) => *field == Field::UriPath,
        Operand::Call(call) => {
            matches!(call.function, Function::Lower) && call.arguments.iter().all(is_path)
        }
        _ => false,
    }
}

/// The texts that pass.
fn texts(check: &Check) -> Option<Vec<&[u8]>> {
    match check {
        Check::Bytes(Order::Equal, text) => Some(vec![text]),
        Check::In(set, _) => match set.as_ref() {
            Set::Texts(texts) => Some(texts.iter().collect()),
            Set::Ints(_) | Set::Ips(_) => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::super::{Expression, Lists, Names};
    use super::*;

    /// What an expression wants of a field, `None` = nothing.
    fn wants(text: &str, of: impl Fn(&Node) -> Option<Vec<String>>) -> Option<Vec<String>> {
        let tokens = crate::policy::tokens::Tokens::default();
        let lists = Lists::default();
        let expression = Expression::compile(text, &Names::new(&tokens, &lists)).unwrap();
        of(expression.root())
    }

    #[test]
    fn equal_to_one_of_some_texts() {
        let hosts = |node: &Node| {
            let found = required(node, &|test| equal(test, Field::Host))?;
            let texts = found.into_iter().map(String::from_utf8_lossy);
            Some(texts.map(Cow::into_owned).collect())
        };
        for (text, expected) in [
            (r#"http.host eq "a""#, Some(&["a"][..])),
            (r#"http.host in {"a" "b"}"#, Some(&["a", "b"])),
            ("http.host in {}", Some(&[])),
            ("false", Some(&[])),
            (r#"http.host ne "a""#, None),
            (r#"http.host contains "a""#, None),
            (r#"lower(http.host) eq "a""#, None),
            (r#"http.request.method eq "a""#, None),
            (r#"not http.host eq "a""#, None),
            (r#"ssl and http.host eq "a""#, Some(&["a"])),
            (r#"ssl or http.host eq "a""#, None),
            (r#"ssl xor http.host eq "a""#, None),
            (
                r#"(http.host eq "a" and ssl) or (not ssl and http.host in {"b"})"#,
                Some(&["a", "b"]),
            ),
            (
                r#"http.host in {"a" "b"} and http.host eq "b""#,
                Some(&["b"]),
            ),
            (r#"http.host eq "a" or false"#, Some(&["a"])),
            (r#"any(http.request.headers.names[*] eq "a")"#, None),
        ] {
            let expected = expected.map(|texts| texts.iter().map(ToString::to_string).collect());
            assert_eq!(wants(text, hosts), expected, "{text}");
        }
    }

    #[test]
    fn paths_and_how_they_start() {
        let paths = |node: &Node| {
            let found = required(node, &path)?.into_iter();
            let shown = found.map(|PathStart { text, whole }| {
                let text = String::from_utf8(text).unwrap();
                format!("{text}{}", if whole { "" } else { "…" })
            });
            Some(shown.collect())
        };
        for (text, expected) in [
            (r#"http.request.uri.path eq "/A""#, Some(&["/a"][..])),
            (
                r#"http.request.uri.path in {"/a" "/b"}"#,
                Some(&["/a", "/b"]),
            ),
            (r#"lower(http.request.uri.path) eq "/a""#, Some(&["/a"])),
            (
                r#"starts_with(http.request.uri.path, "/A/")"#,
                Some(&["/a/…"]),
            ),
            (
                r#"starts_with(lower(http.request.uri.path), "/a/")"#,
                Some(&["/a/…"]),
            ),
            (r#"starts_with(http.request.uri.path, "")"#, None),
            (r#"starts_with(http.host, "/a/")"#, None),
            (r#"http.request.uri.path wildcard "/A/*""#, Some(&["/a/…"])),
            (
                r#"http.request.uri.path strict wildcard "/A/*/b""#,
                Some(&["/a/…"]),
            ),
            (r#"http.request.uri.path wildcard "/a""#, Some(&["/a"])),
            (r#"http.request.uri.path wildcard "*/a""#, None),
            (r#"http.request.uri.path contains "/a""#, None),
            (r#"ends_with(http.request.uri.path, "/a")"#, None),
            (r#"not starts_with(http.request.uri.path, "/a")"#, None),
            (r#"upper(http.request.uri.path) eq "/A""#, None),
            (r#"raw.http.request.uri.path eq "/a""#, None),
            (
                r#"http.request.uri.path eq "/a" or starts_with(http.request.uri.path, "/b/")"#,
                Some(&["/a", "/b/…"]),
            ),
        ] {
            let expected = expected.map(|texts| texts.iter().map(ToString::to_string).collect());
            assert_eq!(wants(text, paths), expected, "{text}");
        }
    }
}
