//! The left side of comparisons: fields, calls, indexes.
//!
//! Enters: a cursor at a name. Leaves: an [`Operand`], or the place where it stops making sense.

use super::ast::Operand;
use super::calls::{self, Argument, article};
use super::checks::is_operator;
use super::error::ExpressionError;
use super::fields::{self, Field};
use super::functions::{self, Function};
use super::parser::Parser;
use super::types::{Shape, Value};

type Result<T> = std::result::Result<T, ExpressionError>;

/// What may stand at the start of a comparison.
pub(super) const START: &str = "a field, a function, `not` or `(`";

/// Largest index of an array; no event has that many values.
const MAX_INDEX: i64 = 65_535;

impl Parser<'_, '_> {
    /// A field or call with its indexes.
    pub(super) fn operand(&mut self) -> Result<Operand> {
        let start = self.cursor.at;
        let name = self.cursor.word();
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return Err(self.cursor.unexpected(START));
        }
        self.cursor.at += name.len();
        let after_name = self.cursor.at;
        self.cursor.skip_blanks();
        if self.cursor.eat("(") {
            let operand = self.call(name, start)?;
            return self.indexes(operand, start);
        }
        self.cursor.at = after_name;
        let Some(field) = Field::find(name) else {
            return Err(self.unknown_field(name, start));
        };
        self.indexes(Operand::Field(field), start)
    }

    fn unknown_field(&self, name: &str, start: usize) -> ExpressionError {
        let end = start + name.len();
        let error = |message: String| self.cursor.error_at(start, end, message, START);
        if matches!(name, "and" | "or" | "xor" | "in" | "strict") || is_operator(name) {
            return error(format!("unexpected {name}"));
        }
        if let Some(form) = functions::form(name) {
            return error(format!("{name} is a function")).hint(format!("write {form}"));
        }
        if matches!(name, "any" | "all") {
            return error(format!("{name} wants its argument in parentheses"));
        }
        let lower = name.to_ascii_lowercase();
        if name != lower && matches!(lower.as_str(), "not" | "any" | "all" | "true" | "false") {
            return error(format!("unknown field {name}"))
                .hint(format!("keywords are in lower case: write {lower}"));
        }
        if let Some(reason) = fields::unavailable(name) {
            return self.cursor.error_at(
                start,
                end,
                format!("the vendor's field {name} is not available here: {reason}"),
                "",
            );
        }
        let error = error(format!("unknown field {name}"));
        match nearest(name, fields::names()) {
            Some(near) => error.hint(format!("did you mean {near}?")),
            None => error,
        }
    }

    fn call(&mut self, name: &str, start: usize) -> Result<Operand> {
        let name_end = start + name.len();
        if matches!(name, "is_jwt_valid" | "is_jwt_present") {
            return self.token_call(name);
        }
        let Some(form) = functions::form(name) else {
            return Err(self.unknown_function(name, start));
        };
        self.deeper(start)?;
        let mut arguments = Vec::new();
        loop {
            self.cursor.skip_blanks();
            if self.cursor.eat(")") {
                break;
            }
            if !arguments.is_empty() && !self.cursor.eat(",") {
                return Err(self.cursor.unexpected("`,` or `)`"));
            }
            self.cursor.skip_blanks();
            let at = self.cursor.at;
            let operand = self.argument()?;
            arguments.push(Argument {
                operand,
                span: at..self.cursor.at,
            });
        }
        self.shallower();
        let end = self.cursor.at;
        let second = arguments
            .get(1)
            .map(|argument: &Argument| argument.span.clone());
        let mut call = calls::build(name, arguments).map_err(|bad| {
            let span = bad.span.unwrap_or(end.saturating_sub(1)..end);
            self.cursor
                .error_at(span.start, span.end, bad.message, bad.expected)
                .hint(form)
        })?;
        if let (Function::HasKey(key), Some(Operand::Field(field)), Some(span)) =
            (&mut call.function, call.arguments.first(), second)
        {
            *key = self.key(*field, key.to_string(), span.start, span.end)?;
        }
        if let Function::Replace { .. } = call.function {
            self.count_regex(start, name_end)?;
            self.replacements += 1;
            if self.replacements > 1 {
                return Err(self.cursor.error_at(
                    start,
                    name_end,
                    "only one replacement is allowed in an expression",
                    "",
                ));
            }
        }
        Ok(Operand::Call(Box::new(call)))
    }

    fn unknown_function(&self, name: &str, start: usize) -> ExpressionError {
        let end = start + name.len();
        if let Some(reason) = functions::unavailable(name) {
            let message = format!("the vendor's function {name} is not available here: {reason}");
            return self.cursor.error_at(start, end, message, "");
        }
        let known = functions::names().chain(["any", "all", "is_jwt_valid", "is_jwt_present"]);
        let error =
            self.cursor
                .error_at(start, end, format!("unknown function {name}"), "a function");
        match nearest(name, known) {
            Some(near) => error.hint(format!("did you mean {near}?")),
            None => error,
        }
    }

    /// One argument: a text, a number, or a field or call.
    fn argument(&mut self) -> Result<Operand> {
        const EXPECTED: &str = "a field, a call, a text in double quotes or a number";
        if self.cursor.at_quote() {
            let text = self.cursor.text_literal(EXPECTED)?;
            return Ok(Operand::Literal(Value::Bytes(text.into())));
        }
        match self.cursor.peek() {
            Some(c) if c == '-' || c.is_ascii_digit() => {
                Ok(Operand::Literal(Value::Int(self.cursor.integer()?)))
            }
            Some(c) if c.is_ascii_alphabetic() => self.operand(),
            _ => Err(self.cursor.unexpected(EXPECTED)),
        }
    }

    /// `is_jwt_valid("…")` and `is_jwt_present("…")` behind the parenthesis.
    fn token_call(&mut self, name: &str) -> Result<Operand> {
        const EXPECTED: &str = "the id or title of a token configuration in double quotes";
        self.cursor.skip_blanks();
        let start = self.cursor.at;
        if !self.cursor.at_quote() {
            return Err(self.cursor.unexpected(EXPECTED));
        }
        let id = self.cursor.text_literal(EXPECTED)?;
        let end = self.cursor.at;
        let index = self.configuration(&id, start, end)?;
        self.cursor.skip_blanks();
        if !self.cursor.eat(")") {
            return Err(self.cursor.unexpected("`)`"));
        }
        Ok(if name == "is_jwt_valid" {
            Operand::TokenValid(index)
        } else {
            Operand::TokenPresent(index)
        })
    }

    /// The token configuration of this id or title.
    fn configuration(&self, id: &[u8], start: usize, end: usize) -> Result<usize> {
        let shown = String::from_utf8_lossy(id);
        self.names.configuration(&shown).ok_or_else(|| {
            let error = self.cursor.error_at(
                start,
                end,
                format!("no token configuration is called {shown:?}"),
                "the id or title of a token configuration of this zone",
            );
            let known = self.names.configurations();
            match nearest(&shown, known.iter().copied()) {
                Some(near) => error.hint(format!("did you mean {near:?}?")),
                None if known.is_empty() => error.hint("the zone has no token configuration"),
                None => error.hint(format!("there is \"{}\"", known.join("\", \""))),
            }
        })
    }

    /// `[0]`, `["key"]`, `[*]` behind an operand, as many as there are.
    fn indexes(&mut self, mut operand: Operand, start: usize) -> Result<Operand> {
        // Whether the last step was `[*]` on a map of arrays, whose values still want an index.
        let mut open_spread = false;
        loop {
            let before = self.cursor.at;
            self.cursor.skip_blanks();
            let at = self.cursor.at;
            if !self.cursor.eat("[") {
                self.cursor.at = before;
                break;
            }
            let index = self.index()?;
            let end = self.cursor.at;
            let kind = operand.kind();
            operand = match (operand, index) {
                (Operand::Spread(field, None), Index::At(place)) if open_spread => {
                    open_spread = false;
                    Operand::Spread(field, Some(place))
                }
                (Operand::Spread(field, None), Index::Each) if open_spread => {
                    open_spread = false;
                    Operand::Spread(field, None)
                }
                (operand, _) if operand.mapped() => {
                    return Err(self.cursor.error_at(
                        at,
                        end,
                        "a single value has no index",
                        "an operator",
                    ));
                }
                (Operand::Field(field), Index::Key(key))
                    if matches!(kind.shape, Shape::Map | Shape::MapOfArrays) =>
                {
                    Operand::Member(field, self.key(field, key, at + 1, end - 1)?)
                }
                (Operand::Field(field), Index::Each) if kind.shape == Shape::MapOfArrays => {
                    open_spread = true;
                    Operand::Spread(field, None)
                }
                (operand, Index::Each) if matches!(kind.shape, Shape::Array | Shape::Map) => {
                    Operand::Each(Box::new(operand))
                }
                (operand, Index::At(place)) if kind.shape == Shape::Array => {
                    Operand::At(Box::new(operand), place)
                }
                _ => {
                    let expected = match kind.shape {
                        Shape::One => "an operator",
                        Shape::Array => "an index from 0, or [*]",
                        Shape::Map | Shape::MapOfArrays => "a key in double quotes, or [*]",
                    };
                    let message = format!("{} has no such index", article(kind));
                    return Err(self.cursor.error_at(at, end, message, expected));
                }
            };
        }
        if open_spread {
            let end = self.cursor.at;
            return Err(self.cursor.error_at(
                start,
                end,
                "each value of this map is an array",
                "[*] or an index after [*]",
            ));
        }
        Ok(operand)
    }

    /// The key of a map; a token configuration is known by its id from here on.
    fn key(&self, field: Field, key: String, start: usize, end: usize) -> Result<Box<str>> {
        if !field.keyed_by_configuration() {
            return Ok(key.into());
        }
        let index = self.configuration(key.as_bytes(), start, end)?;
        Ok(self.names.id(index).unwrap_or(&key).into())
    }

    /// What stands between brackets, behind the opening one.
    fn index(&mut self) -> Result<Index> {
        const EXPECTED: &str = "an index from 0, a key in double quotes, or *";
        self.cursor.skip_blanks();
        let start = self.cursor.at;
        let index = if self.cursor.eat("*") {
            Index::Each
        } else if self.cursor.at_quote() {
            let key = self.cursor.text_literal(EXPECTED)?;
            let Ok(key) = String::from_utf8(key) else {
                let end = self.cursor.at;
                return Err(self
                    .cursor
                    .error_at(start, end, "the key is not UTF-8", EXPECTED));
            };
            Index::Key(key)
        } else if matches!(self.cursor.peek(), Some(c) if c == '-' || c.is_ascii_digit()) {
            let place = self.cursor.integer()?;
            let within = (0..=MAX_INDEX).contains(&place);
            let Some(place) = usize::try_from(place).ok().filter(|_| within) else {
                let end = self.cursor.at;
                return Err(self.cursor.error_at(
                    start,
                    end,
                    format!("{place} is not an index"),
                    format!("0 to {MAX_INDEX}"),
                ));
            };
            Index::At(place)
        } else {
            return Err(self.cursor.unexpected(EXPECTED));
        };
        self.cursor.skip_blanks();
        if self.cursor.eat("]") {
            Ok(index)
        } else {
            Err(self.cursor.unexpected("`]`"))
        }
    }
}

enum Index {
    At(usize),
    Key(String),
    Each,
}

/// The known name that differs least, when it differs by no more than a third of its length.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // A name that long is no typing error, and distance costs the product of the lengths.
    if name.len() > 100 {
        return None;
    }
    let distances = known.map(|candidate| (distance(name, candidate), candidate));
    let (distance, candidate) = distances.min()?;
    (distance * 3 <= candidate.len().max(3)).then_some(candidate)
}

/// Fewest insertions, removals, exchanges of a character, and swaps of neighbours that lead from one to the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    let mut last = None;
    for (i, l) in left.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for (j, r) in right.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
            let mut best = (cell(&row, j) + usize::from(l != *r))
                .min(cell(&row, j + 1) + 1)
                .min(cell(&next, j) + 1);
            if j > 0 && last == Some(*r) && right.get(j - 1) == Some(&l) {
                best = best.min(cell(&before, j - 1) + 1);
            }
            next.push(best);
        }
        last = Some(l);
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names() {
        for (name, expected) in [
            ("http.hots", Some("http.host")),
            ("http.request.method.", Some("http.request.method")),
            ("ip.scr", Some("ip.src")),
            ("completely.different.thing", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, fields::names()), expected, "{name}");
        }
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("abc", "acb"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abcd", "ab"), 2);
    }
}
