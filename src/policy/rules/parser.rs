//! How comparisons are put together: `not` before `and` before `xor` before `or`, parentheses, `any` and `all`.
//!
//! Enters: text. Leaves: a [`Node`] in which every type fits, or the first place where it does not. Nesting is counted,
//! so no text can exhaust the stack; a chain of operators of one level is a list, not a tree.

use super::MAX_DEPTH;
use super::MAX_REGEXES;
use super::Names;
use super::ast::{Check, Node, Operand, Test};
use super::error::ExpressionError;
use super::lexer::Cursor;
use super::operands::START;
use super::types::Shape;

type Result<T> = std::result::Result<T, ExpressionError>;

/// What stands where a comparison has ended.
const NEXT: &str = "`and`, `xor`, `or` or the end";

/// Reads one expression.
pub(super) struct Parser<'t, 'n> {
    pub(super) cursor: Cursor<'t>,
    pub(super) names: &'n Names<'n>,
    depth: usize,
    regexes: usize,
    pub(super) replacements: usize,
}

/// A truth value, or one per element, with its place.
struct Part {
    node: Node,
    many: bool,
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Join {
    And,
    Xor,
    Or,
}

impl<'t, 'n> Parser<'t, 'n> {
    /// Parses the whole text.
    pub(super) fn parse(text: &'t str, names: &'n Names<'n>) -> Result<Node> {
        let mut parser = Self {
            cursor: Cursor::new(text),
            names,
            depth: 0,
            regexes: 0,
            replacements: 0,
        };
        let part = parser.expression()?;
        parser.cursor.skip_blanks();
        if parser.cursor.peek().is_some() {
            return Err(parser.trailing());
        }
        if part.many {
            let error = parser.cursor.error_at(
                part.start,
                part.end,
                "this gives one truth value per element",
                "one truth value",
            );
            return Err(error.hint("put it into any(…) or all(…)"));
        }
        Ok(part.node)
    }

    fn trailing(&self) -> ExpressionError {
        let error = self.cursor.unexpected(NEXT);
        let word = self.cursor.word();
        let lower = word.to_ascii_lowercase();
        let rest = self.cursor.rest();
        if word != lower && matches!(lower.as_str(), "and" | "or" | "xor") {
            return error.hint(format!("keywords are in lower case: write {lower}"));
        }
        match rest.chars().next() {
            Some('&') => error.hint("write && or and"),
            Some('|') => error.hint("write || or or"),
            Some('^') => error.hint("write ^^ or xor"),
            Some(')') => error.hint("there is no opening parenthesis for it"),
            Some('#') => error.hint("the language has no comments"),
            _ if matches!(word, "eq" | "ne") || rest.starts_with("==") => {
                error.hint("a Boolean is not compared: write the field, or not and the field")
            }
            _ => error,
        }
    }

    /// Goes one level deeper.
    pub(super) fn deeper(&mut self, at: usize) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.cursor.error_at(
                at,
                at + 1,
                "the expression is nested too deep",
                format!("at most {MAX_DEPTH} levels"),
            ));
        }
        Ok(())
    }

    pub(super) fn shallower(&mut self) {
        self.depth -= 1;
    }

    /// Counts a regular expression.
    pub(super) fn count_regex(&mut self, start: usize, end: usize) -> Result<()> {
        self.regexes += 1;
        if self.regexes > MAX_REGEXES {
            return Err(self.cursor.error_at(
                start,
                end,
                "too many regular expressions",
                format!("at most {MAX_REGEXES} in one expression"),
            ));
        }
        Ok(())
    }

    fn expression(&mut self) -> Result<Part> {
        let mut ors = Vec::new();
        let mut xors = Vec::new();
        let mut ands = vec![self.unary()?];
        loop {
            let before = self.cursor.at;
            self.cursor.skip_blanks();
            let Some(join) = self.join() else {
                self.cursor.at = before;
                break;
            };
            let next = self.unary()?;
            if join != Join::And {
                xors.push(self.joined(Join::And, std::mem::take(&mut ands))?);
            }
            if join == Join::Or {
                ors.push(self.joined(Join::Xor, std::mem::take(&mut xors))?);
            }
            ands.push(next);
        }
        xors.push(self.joined(Join::And, ands)?);
        ors.push(self.joined(Join::Xor, xors)?);
        self.joined(Join::Or, ors)
    }

    fn join(&mut self) -> Option<Join> {
        const JOINS: [(&str, &str, Join); 3] = [
            ("and", "&&", Join::And),
            ("xor", "^^", Join::Xor),
            ("or", "||", Join::Or),
        ];
        JOINS.into_iter().find_map(|(letters, symbol, join)| {
            (self.cursor.keyword(letters) || self.cursor.eat(symbol)).then_some(join)
        })
    }

    /// Joins parts of one level; both truth values or both one per element.
    fn joined(&self, join: Join, parts: Vec<Part>) -> Result<Part> {
        let mut nodes = Vec::with_capacity(parts.len());
        let mut whole: Option<(bool, usize, usize)> = None;
        for part in parts {
            if let Some((many, _, _)) = whole.filter(|(many, _, _)| *many != part.many) {
                let message = if many {
                    "this is one truth value, the part before it is one per element"
                } else {
                    "this is one truth value per element, the part before it is one"
                };
                let error =
                    self.cursor
                        .error_at(part.start, part.end, message, "the same on both sides");
                return Err(error.hint("put what has [*] into any(…) or all(…)"));
            }
            let start = whole.map_or(part.start, |(_, start, _)| start);
            whole = Some((part.many, start, part.end));
            nodes.push(part.node);
        }
        let (many, start, end) = whole.unwrap_or_default();
        let node = if nodes.len() == 1 {
            nodes.pop().unwrap_or(Node::Constant(false))
        } else {
            match join {
                Join::And => Node::And(nodes),
                Join::Xor => Node::Xor(nodes),
                Join::Or => Node::Or(nodes),
            }
        };
        Ok(Part {
            node,
            many,
            start,
            end,
        })
    }

    /// Any number of `not`, then a comparison.
    fn unary(&mut self) -> Result<Part> {
        self.cursor.skip_blanks();
        let start = self.cursor.at;
        let mut negations = 0_usize;
        loop {
            let at = self.cursor.at;
            let negation = self.cursor.keyword("not")
                || (!self.cursor.rest().starts_with("!=") && self.cursor.eat("!"));
            if !negation {
                break;
            }
            self.deeper(at)?;
            negations += 1;
            self.cursor.skip_blanks();
        }
        let mut part = self.primary()?;
        self.depth -= negations;
        part.start = start;
        if negations % 2 == 1 {
            part.node = Node::Not(Box::new(part.node));
        }
        Ok(part)
    }

    fn primary(&mut self) -> Result<Part> {
        let start = self.cursor.at;
        if self.cursor.eat("(") {
            self.deeper(start)?;
            let inner = self.expression()?;
            self.close(start)?;
            self.shallower();
            let end = self.cursor.at;
            return Ok(Part {
                start,
                end,
                ..inner
            });
        }
        match self.cursor.word() {
            word @ ("any" | "all") => {
                let mut probe = self.cursor;
                probe.at += word.len();
                probe.skip_blanks();
                if probe.eat("(") {
                    self.cursor = probe;
                    return self.quantified(word == "any", start);
                }
            }
            word @ ("true" | "false") => {
                self.cursor.at += word.len();
                return Ok(Part {
                    node: Node::Constant(word == "true"),
                    many: false,
                    start,
                    end: self.cursor.at,
                });
            }
            _ => {}
        }
        self.comparison()
    }

    fn close(&mut self, start: usize) -> Result<()> {
        self.cursor.skip_blanks();
        if self.cursor.eat(")") {
            return Ok(());
        }
        if self.cursor.peek().is_none() {
            let message = "this parenthesis is not closed";
            return Err(self.cursor.error_at(start, start + 1, message, "`)`"));
        }
        let mut error = self.trailing();
        "`)`, `and`, `xor` or `or`".clone_into(&mut error.expected);
        Err(error)
    }

    /// `any(…)` and `all(…)` behind the parenthesis.
    fn quantified(&mut self, any: bool, start: usize) -> Result<Part> {
        let open = self.cursor.at - 1;
        self.deeper(start)?;
        let inner = self.expression()?;
        self.close(open)?;
        self.shallower();
        if !inner.many {
            let error = self.cursor.error_at(
                inner.start,
                inner.end,
                "this is one truth value",
                "one truth value per element",
            );
            return Err(error.hint("unpack an array: any(http.request.headers.names[*] eq \"…\")"));
        }
        let node = Box::new(inner.node);
        Ok(Part {
            node: if any {
                Node::Any(node)
            } else {
                Node::All(node)
            },
            many: false,
            start,
            end: self.cursor.at,
        })
    }

    fn comparison(&mut self) -> Result<Part> {
        let start = self.cursor.at;
        if self.cursor.at_quote() || self.cursor.peek().is_some_and(|c| c.is_ascii_digit()) {
            let error = self.cursor.unexpected(START);
            return Err(error.hint("a literal stands on the right side of an operator"));
        }
        let operand = self.operand()?;
        let operand_end = self.cursor.at;
        let check = self.check(&operand, start)?;
        let (operand, many) = if operand.mapped() {
            (operand, true)
        } else if operand.kind().shape == Shape::Array {
            (Operand::Each(Box::new(operand)), true)
        } else {
            (operand, false)
        };
        if matches!(check, Check::Truth) {
            self.cursor.at = operand_end;
        }
        let span = start..self.cursor.at;
        Ok(Part {
            many,
            start,
            end: span.end,
            node: Node::Test(Box::new(Test {
                operand,
                check,
                span,
            })),
        })
    }
}
