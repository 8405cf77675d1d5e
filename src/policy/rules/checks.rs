//! The right side of comparisons: an operator that the type allows, and the literal that it wants.
//!
//! Enters: a cursor behind an operand. Leaves: a [`Check`], with patterns compiled and sets sorted.

use std::net::IpAddr;

use memchr::memmem;
use regex::bytes::{Regex, RegexBuilder};

use super::ast::{Check, Operand, Order};
use super::calls::article;
use super::error::ExpressionError;
use super::fields::Field;
use super::lists::{Set, address_range, is_list_name};
use super::operands::nearest;
use super::parser::Parser;
use super::types::{Scalar, Shape, Type};
use super::wildcard::Wildcard;

type Result<T> = std::result::Result<T, ExpressionError>;

/// Most memory of one compiled regular expression, bytes; nothing that is written by hand comes near.
const MAX_REGEX_BYTES: usize = 2 << 20;

/// An operator as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Order(Order),
    Contains,
    Matches,
    Wildcard { strict: bool },
    In,
    Bits,
}

/// Operators in letters and in symbols; of two symbols that start alike the longer comes first.
const OPERATORS: &[(&str, &str, Operator)] = &[
    ("eq", "==", Operator::Order(Order::Equal)),
    ("ne", "!=", Operator::Order(Order::NotEqual)),
    ("le", "<=", Operator::Order(Order::LessOrEqual)),
    ("ge", ">=", Operator::Order(Order::GreaterOrEqual)),
    ("lt", "<", Operator::Order(Order::Less)),
    ("gt", ">", Operator::Order(Order::Greater)),
    ("contains", "", Operator::Contains),
    ("matches", "~", Operator::Matches),
    ("wildcard", "", Operator::Wildcard { strict: false }),
    ("in", "", Operator::In),
    ("bitwise_and", "&", Operator::Bits),
];

/// Whether this word is an operator.
pub(super) fn is_operator(word: &str) -> bool {
    OPERATORS.iter().any(|(letters, _, _)| *letters == word)
}

/// The operators of a type, for messages.
fn operators_of(of: Scalar) -> &'static str {
    match of {
        Scalar::Bool => "no operator: a Boolean stands alone, or behind `not`",
        Scalar::Int => "eq, ne, lt, le, gt, ge, in or bitwise_and",
        Scalar::Bytes => {
            "eq, ne, lt, le, gt, ge, contains, matches, wildcard, strict wildcard or in"
        }
        Scalar::Ip => "eq, ne or in",
    }
}

/// Compiles a regular expression within bounds.
///
/// # Errors
/// What is wrong with it, in one line.
pub(super) fn regex(pattern: &str) -> std::result::Result<Regex, String> {
    let built = RegexBuilder::new(pattern)
        .size_limit(MAX_REGEX_BYTES)
        .dfa_size_limit(MAX_REGEX_BYTES)
        .build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            format!("the regular expression needs more than {MAX_REGEX_BYTES} bytes")
        }
        error => {
            // The last line of the library's picture holds the fact.
            let text = error.to_string();
            let fact = text.lines().last().unwrap_or_default().trim();
            let fact = fact.strip_prefix("error: ").unwrap_or(fact);
            format!("not a regular expression: {fact}")
        }
    })
}

impl Parser<'_, '_> {
    /// The check of a comparison, or [`Check::Truth`] when a Boolean operand stands alone.
    pub(super) fn check(&mut self, operand: &Operand, start: usize) -> Result<Check> {
        let kind = operand.kind();
        let operand_end = self.cursor.at;
        self.cursor.skip_blanks();
        let at = self.cursor.at;
        let found = self.operator();
        let end = self.cursor.at;
        let boolean = kind.of == Scalar::Bool && matches!(kind.shape, Shape::One | Shape::Array);
        let Some(operator) = found else {
            return match kind.shape {
                _ if boolean => Ok(Check::Truth),
                Shape::One => Err(self.no_operator(kind.of)),
                _ => Err(self.not_a_scalar(kind, start, operand_end)),
            };
        };
        if kind.shape != Shape::One {
            return Err(self.not_a_scalar(kind, start, operand_end));
        }
        let allowed = match (operator, kind.of) {
            (_, Scalar::Bool) => false,
            (Operator::Order(Order::Equal | Order::NotEqual) | Operator::In, _)
            | (Operator::Order(_), Scalar::Int | Scalar::Bytes) => true,
            (Operator::Order(_), Scalar::Ip) => false,
            (Operator::Bits, of) => of == Scalar::Int,
            (_, of) => of == Scalar::Bytes,
        };
        if !allowed {
            let written = self.cursor.text.get(at..end).unwrap_or_default();
            let error = self.cursor.error_at(
                at,
                end,
                format!("{written} does not work on {}", article(kind)),
                operators_of(kind.of),
            );
            return Err(match kind.of {
                Scalar::Ip => error.hint("ranges and networks: ip.src in {192.0.2.0/24}"),
                Scalar::Bool if operator == Operator::Bits => error.hint("write && or and"),
                _ => error,
            });
        }
        self.cursor.skip_blanks();
        match operator {
            Operator::In => self.set(kind.of),
            Operator::Bits => Ok(Check::Bits(self.integer()?)),
            Operator::Contains => {
                let text = self.text()?;
                let finder = memmem::Finder::new(&text).into_owned();
                Ok(Check::Contains(Box::new(finder)))
            }
            Operator::Matches => self.pattern(),
            Operator::Wildcard { strict } => {
                let at = self.cursor.at;
                let text = self.text()?;
                match Wildcard::new(&text, strict) {
                    Ok(pattern) => Ok(Check::Wildcard(Box::new(pattern))),
                    Err(bad) => {
                        let end = self.cursor.at;
                        Err(self.cursor.error_at(at, end, bad.message(), bad.expected()))
                    }
                }
            }
            Operator::Order(order) => match kind.of {
                Scalar::Int => Ok(Check::Int(order, self.integer()?)),
                Scalar::Ip => Ok(Check::Ip(order, self.address()?)),
                _ => Ok(Check::Bytes(order, self.text()?.into())),
            },
        }
    }

    fn operator(&mut self) -> Option<Operator> {
        let word = self.cursor.word();
        if word == "strict" {
            let before = self.cursor.at;
            self.cursor.at += word.len();
            self.cursor.skip_blanks();
            if self.cursor.keyword("wildcard") {
                return Some(Operator::Wildcard { strict: true });
            }
            self.cursor.at = before;
            return None;
        }
        if self.cursor.rest().starts_with("&&") {
            return None;
        }
        let found = OPERATORS.iter().find(|(letters, symbol, _)| {
            *letters == word || (!symbol.is_empty() && self.cursor.rest().starts_with(symbol))
        });
        let (letters, symbol, operator) = found?;
        let length = if *letters == word {
            letters.len()
        } else {
            symbol.len()
        };
        self.cursor.at += length;
        Some(*operator)
    }

    fn no_operator(&self, of: Scalar) -> ExpressionError {
        let error = self.cursor.unexpected(operators_of(of));
        let word = self.cursor.word();
        let lower = word.to_ascii_lowercase();
        if word != lower && is_operator(&lower) {
            return error.hint(format!("operators are in lower case: write {lower}"));
        }
        match word {
            "starts_with" | "ends_with" => {
                error.hint(format!("it is a function: {word}(field, \"text\")"))
            }
            "strict" => error.hint("write strict wildcard"),
            "" if self.cursor.rest().starts_with('=') => error.hint("write =="),
            _ => error,
        }
    }

    fn not_a_scalar(&self, kind: Type, start: usize, end: usize) -> ExpressionError {
        let hint = match kind.shape {
            Shape::Array => "compare one element, […][0], or all of them: any(…[*] eq \"…\")",
            _ => "compare one member: …[\"name\"]",
        };
        let message = format!("{} cannot be compared", article(kind));
        self.cursor
            .error_at(start, end, message, "a single value")
            .hint(hint)
    }

    /// Refuses a field or call on the right side with a better message than "unexpected".
    fn literal(&self, expected: &str) -> Option<ExpressionError> {
        let word = self.cursor.word();
        Field::find(word)?;
        let end = self.cursor.at + word.len();
        let error =
            self.cursor
                .error_at(self.cursor.at, end, format!("{word} is a field"), expected);
        Some(error.hint("the right side is always a literal"))
    }

    fn text(&mut self) -> Result<Vec<u8>> {
        const EXPECTED: &str = "a text in double quotes";
        if let Some(error) = self.literal(EXPECTED) {
            return Err(error);
        }
        self.cursor.text_literal(EXPECTED)
    }

    fn integer(&mut self) -> Result<i64> {
        if let Some(error) = self.literal("a whole number") {
            return Err(error);
        }
        let error = self.cursor.unexpected("a whole number");
        match self.cursor.peek() {
            Some('"') => Err(error.hint("a number has no quotes")),
            Some(c) if c == '-' || c.is_ascii_digit() => self.cursor.integer(),
            _ => Err(error),
        }
    }

    fn address(&mut self) -> Result<IpAddr> {
        if self.cursor.at_quote() {
            let error = self.cursor.unexpected("an IP address without quotes");
            return Err(error.hint("an address has no quotes"));
        }
        let address = self.cursor.address()?;
        if self.cursor.peek() == Some('/') {
            let error = self.cursor.unexpected("one address");
            return Err(error.hint("networks: ip.src in {192.0.2.0/24}"));
        }
        Ok(address)
    }

    fn pattern(&mut self) -> Result<Check> {
        let at = self.cursor.at;
        let pattern = self.cursor.regex_literal()?;
        let end = self.cursor.at;
        self.count_regex(at, end)?;
        match regex(&pattern) {
            Ok(regex) => Ok(Check::Matches(regex)),
            Err(message) => {
                let expected =
                    "a regular expression of Rust's kind, without look-around and back-references";
                Err(self.cursor.error_at(at, end, message, expected))
            }
        }
    }

    /// `{…}` or `$name`.
    fn set(&mut self, of: Scalar) -> Result<Check> {
        if self.cursor.peek() == Some('$') {
            return self.list(of);
        }
        if !self.cursor.eat("{") {
            let error = self.cursor.unexpected("`{` or `$`");
            return Err(error.hint("write in {…} with blanks between the values, or in $list"));
        }
        let mut ints = Vec::new();
        let mut texts = Vec::new();
        let mut ips = Vec::new();
        loop {
            let before = self.cursor.at;
            self.cursor.skip_blanks();
            if self.cursor.eat("}") {
                break;
            }
            match self.cursor.peek() {
                None => return Err(self.cursor.unexpected("`}`")),
                Some(',') => {
                    let error = self.cursor.unexpected("a value or `}`");
                    return Err(error.hint("values are separated by blanks"));
                }
                _ => {}
            }
            let first = ints.is_empty() && texts.is_empty() && ips.is_empty();
            if !first && before == self.cursor.at {
                return Err(self.cursor.unexpected("a blank between values"));
            }
            match of {
                Scalar::Int => ints.push(self.int_item()?),
                Scalar::Ip => ips.push(self.address_item()?),
                _ => texts.push(self.text()?),
            }
        }
        let set = match of {
            Scalar::Int => Set::ints(ints),
            Scalar::Ip => Set::ips(ips),
            _ => Set::texts(texts),
        };
        Ok(Check::In(set.into(), None))
    }

    fn int_item(&mut self) -> Result<(i64, i64)> {
        let at = self.cursor.at;
        let first = self.integer()?;
        let last = if self.cursor.eat("..") {
            self.integer()?
        } else {
            first
        };
        if first > last {
            let end = self.cursor.at;
            let message = format!("{first}..{last} ends before it starts");
            return Err(self
                .cursor
                .error_at(at, end, message, "the smaller number first"));
        }
        Ok((first, last))
    }

    fn address_item(&mut self) -> Result<(IpAddr, IpAddr)> {
        const EXPECTED: &str = "an address, a network or a range without quotes";
        if self.cursor.at_quote() {
            let error = self.cursor.unexpected(EXPECTED);
            return Err(error.hint("an address has no quotes"));
        }
        let rest = self.cursor.rest();
        let end = rest
            .find(|c: char| !c.is_ascii_hexdigit() && !matches!(c, '.' | ':' | '/'))
            .unwrap_or(rest.len());
        let text = rest.get(..end).unwrap_or_default();
        if text.is_empty() {
            return Err(self.cursor.unexpected(EXPECTED));
        }
        let at = self.cursor.at;
        match address_range(text) {
            Ok(range) => {
                self.cursor.at += text.len();
                Ok(range)
            }
            Err(message) => {
                let error = self.cursor.error_at(at, at + text.len(), message, EXPECTED);
                let network = text.parse::<ipnet::IpNet>().map(|network| network.trunc());
                Err(match network {
                    Ok(network) => error.hint(format!("did you mean {network}?")),
                    Err(_) => error,
                })
            }
        }
    }

    fn list(&mut self, of: Scalar) -> Result<Check> {
        let at = self.cursor.at;
        self.cursor.at += 1;
        let name = self.cursor.word();
        let end = self.cursor.at + name.len();
        if !is_list_name(name) {
            return Err(self.cursor.error_at(
                at,
                end,
                format!("${name} is not the name of a list"),
                "`$` and lower-case letters, digits, `_` or `.` inside",
            ));
        }
        let Some(set) = self.names.list(name) else {
            let error = self.cursor.error_at(
                at,
                end,
                format!("no list is called {name}"),
                "the name of a list",
            );
            let known = self.names.lists();
            return Err(match nearest(name, known.iter().copied()) {
                Some(near) => error.hint(format!("did you mean ${near}?")),
                None if known.is_empty() => error.hint("there are no lists"),
                None => error.hint(format!("there is ${}", known.join(", $"))),
            });
        };
        if set.of() != of {
            return Err(self.cursor.error_at(
                at,
                end,
                format!("${name} holds values of type {}", set.of()),
                format!("a list of type {of}"),
            ));
        }
        self.cursor.at = end;
        Ok(Check::In(set.clone(), Some(name.into())))
    }
}
