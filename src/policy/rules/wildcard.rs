//! Patterns of `wildcard` and `strict wildcard`: the whole value, `*` stands for any number of bytes.
//!
//! Matching is greedy from the left and never goes back further than one part, so it takes at most the product of the
//! lengths of pattern and value, and without a fold of case about their sum.

use memchr::memmem;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Wildcard {
    /// What stands between the stars, in lower case when case does not count.
    parts: Vec<Part>,
    /// Whether upper and lower case differ (ASCII only).
    strict: bool,
}

#[derive(Clone, Debug)]
struct Part {
    bytes: Box<[u8]>,
    finder: memmem::Finder<'static>,
}

/// What is wrong with a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPattern {
    /// Two stars in a row.
    TwoStars,
    /// A backslash before something else than a star or a backslash.
    Escape,
}

impl Wildcard {
    /// Compiles a pattern: `\*` is a star, `\\` a backslash.
    ///
    /// # Errors
    /// Two stars in a row, or another escape.
    pub fn new(pattern: &[u8], strict: bool) -> Result<Self, BadPattern> {
        let mut parts = Vec::new();
        let mut part = Vec::new();
        let mut after_star = false;
        let mut bytes = pattern.iter();
        while let Some(byte) = bytes.next() {
            let star = *byte == b'*';
            match byte {
                b'*' if after_star => return Err(BadPattern::TwoStars),
                b'*' => parts.push(Part::new(&std::mem::take(&mut part))),
                b'\\' => match bytes.next() {
                    Some(escaped @ (b'*' | b'\\')) => part.push(*escaped),
                    _ => return Err(BadPattern::Escape),
                },
                byte if strict => part.push(*byte),
                byte => part.push(byte.to_ascii_lowercase()),
            }
            after_star = star;
        }
        parts.push(Part::new(&part));
        Ok(Self { parts, strict })
    }

    /// Whether the pattern covers all of `value`.
    #[must_use]
    pub fn matches(&self, value: &[u8]) -> bool {
        let (Some(first), Some(last)) = (self.parts.first(), self.parts.last()) else {
            return false;
        };
        if self.parts.len() == 1 {
            return value.len() == first.bytes.len() && self.same(value, &first.bytes);
        }
        let Some((head, rest)) = value.split_at_checked(first.bytes.len()) else {
            return false;
        };
        let Some((middle, tail)) = rest
            .len()
            .checked_sub(last.bytes.len())
            .and_then(|length| rest.split_at_checked(length))
        else {
            return false;
        };
        if !self.same(head, &first.bytes) || !self.same(tail, &last.bytes) {
            return false;
        }
        let mut open = middle;
        let between = self.parts.len() - 2;
        for part in self.parts.iter().skip(1).take(between) {
            let Some(at) = self.find(open, part) else {
                return false;
            };
            open = open.get(at + part.bytes.len()..).unwrap_or_default();
        }
        true
    }

    fn same(&self, value: &[u8], part: &[u8]) -> bool {
        if self.strict {
            value == part
        } else {
            value.eq_ignore_ascii_case(part)
        }
    }

    fn find(&self, value: &[u8], part: &Part) -> Option<usize> {
        if self.strict {
            part.finder.find(value)
        } else if part.bytes.is_empty() {
            Some(0)
        } else {
            value
                .windows(part.bytes.len())
                .position(|window| window.eq_ignore_ascii_case(&part.bytes))
        }
    }

    /// The parts between the stars, and whether case counts.
    #[must_use]
    pub fn parts(&self) -> (Vec<&[u8]>, bool) {
        let parts = self.parts.iter().map(|part| part.bytes.as_ref());
        (parts.collect(), self.strict)
    }
}

impl Part {
    fn new(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.into(),
            finder: memmem::Finder::new(bytes).into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_the_whole_value() {
        for (pattern, value, loose, strict) in [
            ("", "", true, true),
            ("", "a", false, false),
            ("*", "", true, true),
            ("*", "anything", true, true),
            ("abc", "abc", true, true),
            ("abc", "ABC", true, false),
            ("abc", "abcd", false, false),
            ("a*", "a", true, true),
            ("a*", "ba", false, false),
            ("*a", "ba", true, true),
            ("*a", "bA", true, false),
            ("a*a", "a", false, false),
            ("a*a", "aa", true, true),
            ("*b*", "abc", true, true),
            ("*B*", "abc", true, false),
            ("*ab*ab*", "ab", false, false),
            ("*ab*ab*", "xabyabz", true, true),
            ("*ab*b", "ab", false, false),
            (r"a\*b", "a*b", true, true),
            (r"a\*b", "axb", false, false),
            (r"a\\b", r"a\b", true, true),
            ("*.é", "x.é", true, true),
        ] {
            for (is_strict, expected) in [(false, loose), (true, strict)] {
                let compiled = Wildcard::new(pattern.as_bytes(), is_strict).unwrap();
                assert_eq!(
                    compiled.matches(value.as_bytes()),
                    expected,
                    "{pattern} on {value}, strict {is_strict}"
                );
            }
        }
    }

    #[test]
    fn bad_patterns() {
        for (pattern, expected) in [
            ("**", Some(BadPattern::TwoStars)),
            ("a**b", Some(BadPattern::TwoStars)),
            (r"\**", None),
            (r"*\*", None),
            (r"\a", Some(BadPattern::Escape)),
            (r"a\", Some(BadPattern::Escape)),
        ] {
            let compiled = Wildcard::new(pattern.as_bytes(), true);
            assert_eq!(compiled.err(), expected, "{pattern}");
        }
    }
}
