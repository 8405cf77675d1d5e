//! What is wrong with an expression: the place, the fact, what was expected there, and a hint.
//!
//! Enters: byte places of the parser. Leaves: [`ExpressionError`] with character offsets, and its picture with a caret.

use std::fmt;

/// Longest line that is shown whole, characters; of a longer one the surroundings of the place are shown.
const MAX_SHOWN: usize = 100;

/// Why an expression was refused. Nothing of a refused expression is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionError {
    /// Where, in characters from the start of the expression.
    pub at: usize,
    /// How many characters from there on are meant; at least 1.
    pub length: usize,
    /// What is wrong: a lower-case fact without a full stop.
    pub message: String,
    /// What would have been right at this place; empty when the fact says it all.
    pub expected: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl ExpressionError {
    /// An error at the bytes `start..end` of `text`.
    pub(super) fn new(
        text: &str,
        start: usize,
        end: usize,
        message: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        let count = |range: &str| range.chars().count();
        let length = text.get(start..end).map_or(1, count).max(1);
        Self {
            at: text.get(..start).map_or(0, count),
            length,
            message: message.into(),
            expected: expected.into(),
            hint: String::new(),
        }
    }

    /// The same error with a hint.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// The line of the expression that is meant, a caret below the place, and the words.
    ///
    /// ```text
    /// http.hots eq "a"
    /// ^^^^^^^^^ unknown field http.hots
    /// expected: a field, a function, `not` or `(`
    /// hint: did you mean http.host?
    /// ```
    #[must_use]
    pub fn render(&self, text: &str) -> String {
        let mut before = 0;
        let mut line = "";
        for candidate in text.split('\n') {
            line = candidate;
            let length = candidate.chars().count();
            if self.at <= before + length {
                break;
            }
            before += length + 1;
        }
        let column = self.at.saturating_sub(before);
        let from = if line.chars().count() > MAX_SHOWN {
            column.saturating_sub(MAX_SHOWN / 2)
        } else {
            0
        };
        // A control character would move the caret or the terminal.
        let plain = |c: char| if c.is_control() { '\u{b7}' } else { c };
        let shown: String = line.chars().skip(from).take(MAX_SHOWN).map(plain).collect();
        let room = shown.chars().count().saturating_sub(column - from).max(1);
        let carets = "^".repeat(self.length.min(room));
        let mut picture = format!(
            "{shown}\n{}{carets} {}",
            " ".repeat(column - from),
            self.message
        );
        for (name, words) in [("expected", &self.expected), ("hint", &self.hint)] {
            if !words.is_empty() {
                picture.push('\n');
                picture.push_str(name);
                picture.push_str(": ");
                picture.push_str(words);
            }
        }
        picture
    }

    /// The same for a list of problems: the place in words, and the picture below it, indented.
    #[must_use]
    pub fn as_problem(&self, text: &str) -> String {
        let picture = self.render(text).replace('\n', "\n    ");
        format!("refused at character {}\n    {picture}", self.at + 1)
    }
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: {}", self.at + 1, self.message)?;
        if !self.expected.is_empty() {
            write!(f, ", expected {}", self.expected)?;
        }
        Ok(())
    }
}

impl std::error::Error for ExpressionError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_the_place() {
        let text = "ssl\n  and é eq 1";
        let error = ExpressionError::new(text, 10, 12, "no such thing", "a field").hint("look");
        assert_eq!(error.at, 10);
        assert_eq!(error.length, 1);
        assert_eq!(
            error.render(text),
            "  and é eq 1\n      ^ no such thing\nexpected: a field\nhint: look"
        );
        assert_eq!(
            error.to_string(),
            "at character 11: no such thing, expected a field"
        );
    }

    #[test]
    fn long_lines_and_control_characters_do_not_break_the_picture() {
        let text = format!("{}\u{1b}[31m{}", "a".repeat(300), "b".repeat(300));
        let error = ExpressionError::new(&text, 300, 301, "bad", "");
        let picture = error.render(&text);
        let lines: Vec<_> = picture.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].chars().count(), 100);
        assert_eq!(lines[0].chars().nth(50), Some('\u{b7}'));
        assert_eq!(lines[1].find('^'), Some(50));
        let past = ExpressionError::new("ab", 2, 2, "ends too early", "");
        assert_eq!(past.render("ab"), "ab\n  ^ ends too early");
    }
}
