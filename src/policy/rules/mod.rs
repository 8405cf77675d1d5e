//! The rules language: what operators say about requests, in the words that they know (feature map section 6).
//!
//! Enters: the text of an expression and the names that it may use. Leaves: an [`Expression`], or the place where it
//! stops making sense. Everything that can be decided here is: fields are resolved, types fit, patterns are compiled,
//! sets are sorted. What an expression says about an exchange is in `enrich::rules`.
//!
//! Where the vendor's documents and engine differ, the documents win: a comparison with a missing value is false, `ne`
//! included; a tab is not a blank; keywords end where a name would end.
//!
//! **A new field**: a line in [`fields`], an arm in `enrich::rules::facts`. **A new function**: a line in [`functions`], an
//! arm in `calls`, an arm in `enrich::rules::functions`.

pub mod ast;
mod calls;
mod checks;
mod error;
pub mod fields;
pub mod functions;
mod lexer;
mod lint;
pub mod lists;
mod operands;
mod parser;
pub mod required;
#[cfg(test)]
mod tests;
pub mod types;
pub mod wildcard;

use std::sync::Arc;

use super::tokens::Tokens;
use ast::{Node, Operand};
pub use error::ExpressionError;
use fields::Field;
pub use lint::{Lint, LintKind, Polarity, lint};
pub use lists::Lists;
use lists::Set;
use parser::Parser;

/// Longest expression, characters (feature map section 6.1).
pub const MAX_LENGTH: usize = 4_096;

/// Deepest nesting (feature map section 6.1).
pub const MAX_DEPTH: usize = 128;

/// Most regular expressions in one expression (feature map section 6.1).
pub const MAX_REGEXES: usize = 64;

/// The names that an expression may use besides fields and functions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'a> {
    tokens: Option<&'a Tokens>,
    lists: Option<&'a Lists>,
}

impl<'a> Names<'a> {
    /// The token configurations of a zone, by id and title, and the lists, by `$name`.
    #[must_use]
    pub fn new(tokens: &'a Tokens, lists: &'a Lists) -> Self {
        Self {
            tokens: Some(tokens),
            lists: Some(lists),
        }
    }

    fn configuration(&self, name: &str) -> Option<usize> {
        self.tokens?.find(name)
    }

    fn id(&self, index: usize) -> Option<&'a str> {
        let configuration = self.tokens?.configurations.get(index)?;
        Some(&configuration.id)
    }

    /// Titles of all configurations.
    fn configurations(&self) -> Vec<&'a str> {
        let all = self.tokens.map(|tokens| tokens.configurations.iter());
        let titles = all.into_iter().flatten();
        titles.map(|known| known.title.as_str()).collect()
    }

    fn list(&self, name: &str) -> Option<&'a Arc<Set>> {
        self.lists?.get(name)
    }

    fn lists(&self) -> Vec<&'a str> {
        self.lists
            .map_or_else(Vec::new, |lists| lists.names().collect())
    }
}

/// A compiled expression. It belongs to the zone whose names it was compiled with.
#[derive(Clone, Debug)]
pub struct Expression {
    text: Box<str>,
    root: Node,
}

impl Expression {
    /// Compiles an expression that gives one truth value.
    ///
    /// # Errors
    /// The first place where it is wrong, and what was expected there.
    pub fn compile(text: &str, names: &Names<'_>) -> Result<Self, ExpressionError> {
        let length = text.chars().count();
        if length > MAX_LENGTH {
            let cut = text.char_indices().nth(MAX_LENGTH).map_or(0, |(at, _)| at);
            let message = format!("the expression has {length} characters");
            let expected = format!("at most {MAX_LENGTH}");
            return Err(ExpressionError::new(
                text,
                cut,
                text.len(),
                message,
                expected,
            ));
        }
        let root = Parser::parse(text, names)?;
        Ok(Self {
            text: text.into(),
            root,
        })
    }

    /// The expression as written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it was compiled to.
    #[must_use]
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// Every field that it reads, in the order of the text, with repetitions.
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        let mut fields = Vec::new();
        self.operands(&mut |operand| {
            if let Operand::Field(field) | Operand::Member(field, _) | Operand::Spread(field, _) =
                operand
            {
                fields.push(*field);
            }
        });
        fields
    }

    /// Whether the response decides about it, so that it cannot be judged before there is one.
    #[must_use]
    pub fn reads_response(&self) -> bool {
        self.fields().into_iter().any(Field::of_response)
    }

    /// Indexes of the token configurations that `is_jwt_valid` and `is_jwt_present` ask for.
    #[must_use]
    pub fn configurations(&self) -> Vec<usize> {
        let mut found = Vec::new();
        self.operands(&mut |operand| {
            if let Operand::TokenValid(index) | Operand::TokenPresent(index) = operand {
                found.push(*index);
            }
        });
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The one answer that it ever gives; `None` when it can give both, or when that is too much to find out. Only what
    /// follows from the expression counts, so `Some` is never wrong.
    #[must_use]
    pub fn constant(&self) -> Option<bool> {
        lint::constant(&self.root)
    }

    fn operands<'n>(&'n self, see: &mut dyn FnMut(&'n Operand)) {
        self.root.walk(false, &mut |test, _| test.operand.walk(see));
    }
}
