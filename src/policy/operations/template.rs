//! Path templates: `/orders/{id}`, `/files/{name}.json`, `/{a}.{b}`.
//!
//! Enters: the text of a template. Leaves: its segments, its canonical and its declared spelling, and the values of its
//! variables in a path. Which of several templates a path belongs to is decided by the router.

use std::cmp::Ordering;
use std::fmt::Write as _;

use crate::policy::path::normalise_literal;

/// Segments that a template may have; the router descends one level per segment.
const MAX_SEGMENTS: usize = 256;

/// One parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Segments after the leading slash; a trailing slash is an empty literal at the end.
    pub segments: Vec<Segment>,
    /// Names of the variables as declared, left to right.
    pub names: Vec<Box<str>>,
}

/// One segment of a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// Text in normal form.
    Literal(Box<str>),
    /// A variable that fills the segment.
    Whole,
    /// Literals and variables mixed.
    Partial(Pattern),
}

/// A segment of literals and variables: `literals[0] {} literals[1] {} … literals[n]`, so there is one variable fewer
/// than literals. The outer literals may be empty, an inner one is empty where two variables touch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    /// Literals in normal form.
    pub literals: Vec<Box<str>>,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err("a path template starts with a slash".into());
        };
        let mut names: Vec<Box<str>> = Vec::new();
        let mut segments = Vec::new();
        let mut parts = rest.split('/').peekable();
        while let Some(part) = parts.next() {
            match part {
                // `//` and `/./` never survive normalisation of a request path.
                "" | "." if parts.peek().is_some() => continue,
                ".." => return Err("a path template has no `..` segment".into()),
                _ => {}
            }
            segments.push(parse_segment(part, &mut names)?);
        }
        if segments.len() > MAX_SEGMENTS {
            return Err(format!(
                "a path template has at most {MAX_SEGMENTS} segments"
            ));
        }
        for (at, name) in names.iter().enumerate() {
            if names.iter().take(at).any(|earlier| earlier == name) {
                return Err(format!("parameter {name:?} stands in the path twice"));
            }
        }
        Ok(Self { segments, names })
    }

    /// This template behind the literal segments of a base path (`/api/v1`).
    #[must_use]
    pub fn behind(&self, base: &str) -> Self {
        let mut segments: Vec<Segment> = base
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(|segment| Segment::Literal(normalise_literal(segment).into()))
            .collect();
        segments.extend(self.segments.iter().cloned());
        Self {
            segments,
            names: self.names.clone(),
        }
    }

    /// The template with `{var1}`, `{var2}` … left to right.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut number = 0_u32;
        self.spell(|out| {
            number += 1;
            let _ = write!(out, "{{var{number}}}");
        })
    }

    /// The template with the declared names.
    #[must_use]
    pub fn declared(&self) -> String {
        let mut names = self.names.iter();
        self.spell(|out| {
            let _ = write!(out, "{{{}}}", names.next().map_or("", |name| name));
        })
    }

    fn spell(&self, mut variable: impl FnMut(&mut String)) -> String {
        let mut out = String::new();
        for segment in &self.segments {
            out.push('/');
            match segment {
                Segment::Literal(text) => out.push_str(text),
                Segment::Whole => variable(&mut out),
                Segment::Partial(pattern) => {
                    for (number, literal) in pattern.literals.iter().enumerate() {
                        if number > 0 {
                            variable(&mut out);
                        }
                        out.push_str(literal);
                    }
                }
            }
        }
        out
    }

    /// Calls `each` with the number of every variable and its raw text in a path that this template matches.
    pub fn capture<'p>(&self, path: &'p str, mut each: impl FnMut(usize, &'p str)) {
        let mut variable = 0;
        let parts = path.strip_prefix('/').unwrap_or(path).split('/');
        for (segment, part) in self.segments.iter().zip(parts) {
            match segment {
                Segment::Literal(_) => {}
                Segment::Whole => {
                    each(variable, part);
                    variable += 1;
                }
                Segment::Partial(pattern) => {
                    pattern.matches(part, |value| {
                        each(variable, value);
                        variable += 1;
                    });
                }
            }
        }
    }

    /// Which template is more specific: per segment, left to right, a literal beats a mix beats a variable, and of two
    /// mixes the one with more literal text, then the one spelt first; `Less` = `self` is more specific.
    #[must_use]
    pub fn specificity(&self, other: &Self) -> Ordering {
        self.segments
            .iter()
            .zip(&other.segments)
            .map(|(mine, theirs)| mine.rank().cmp(&theirs.rank()))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl Segment {
    /// Lower is more specific.
    fn rank(&self) -> (u8, usize, Option<&Pattern>) {
        match self {
            Self::Literal(_) => (0, 0, None),
            Self::Partial(pattern) => (1, usize::MAX - pattern.weight(), Some(pattern)),
            Self::Whole => (2, 0, None),
        }
    }
}

impl Pattern {
    /// Bytes of literal text.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.literals.iter().map(|literal| literal.len()).sum()
    }

    /// Whether a segment matches; `each` receives the values of the variables. Every variable takes at least one
    /// character, and of several ways the one with the shortest variables on the left.
    pub fn matches<'p>(&self, segment: &'p str, mut each: impl FnMut(&'p str)) -> bool {
        let Some((first, middle)) = self.literals.split_first() else {
            return false;
        };
        let Some((last, middle)) = middle.split_last() else {
            return segment == first.as_ref();
        };
        let Some(mut rest) = segment
            .strip_prefix(first.as_ref())
            .and_then(|rest| rest.strip_suffix(last.as_ref()))
        else {
            return false;
        };
        for literal in middle {
            // The variable in front takes at least one character, so the search starts behind it.
            let Some(skip) = rest.chars().next().map(char::len_utf8) else {
                return false;
            };
            let Some(found) = rest
                .get(skip..)
                .and_then(|tail| tail.find(literal.as_ref()))
            else {
                return false;
            };
            let (value, tail) = rest.split_at(skip + found);
            each(value);
            rest = tail.get(literal.len()..).unwrap_or_default();
        }
        if rest.is_empty() {
            return false;
        }
        each(rest);
        true
    }
}

fn parse_segment(part: &str, names: &mut Vec<Box<str>>) -> Result<Segment, String> {
    let mut literals: Vec<Box<str>> = Vec::new();
    let mut rest = part;
    while let Some(open) = rest.find(['{', '}']) {
        let (literal, tail) = rest.split_at(open);
        let Some(inside) = tail.strip_prefix('{') else {
            return Err("a path template has a `}` without `{`".into());
        };
        let Some((name, behind)) = inside.split_once('}') else {
            return Err("a path template has a `{` without `}`".into());
        };
        if name.is_empty() || name.contains('{') {
            return Err("a path parameter needs a name between `{` and `}`".into());
        }
        literals.push(normalise_literal(literal).into());
        names.push(name.into());
        rest = behind;
    }
    let last: Box<str> = normalise_literal(rest).into();
    if literals.is_empty() {
        return Ok(Segment::Literal(last));
    }
    literals.push(last);
    if literals.len() == 2 && literals.iter().all(|literal| literal.is_empty()) {
        return Ok(Segment::Whole);
    }
    Ok(Segment::Partial(Pattern { literals }))
}

#[cfg(test)]
mod tests {
    use super::Template;

    #[test]
    fn spells_canonically_and_as_declared() {
        for (text, canonical, declared) in [
            ("/", "/", "/"),
            ("/a", "/a", "/a"),
            ("/a/", "/a/", "/a/"),
            ("/a//b/./c", "/a/b/c", "/a/b/c"),
            ("/a/{id}", "/a/{var1}", "/a/{id}"),
            ("/{x}/b/{y}/", "/{var1}/b/{var2}/", "/{x}/b/{y}/"),
            (
                "/files/{name}.json",
                "/files/{var1}.json",
                "/files/{name}.json",
            ),
            ("/{a}.{b}", "/{var1}.{var2}", "/{a}.{b}"),
            ("/v{n}/{rest}", "/v{var1}/{var2}", "/v{n}/{rest}"),
            ("/%7e/ä", "/~/%C3%A4", "/~/%C3%A4"),
        ] {
            let template = Template::parse(text).unwrap();
            assert_eq!(template.canonical(), canonical);
            assert_eq!(template.declared(), declared);
        }
    }

    #[test]
    fn refuses_bad_syntax() {
        for text in [
            "", "a", "/{", "/}", "/{}", "/{a", "/a}", "/{a{b}}", "/{a}/{a}", "/{a}.{a}", "/a/../b",
        ] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn puts_a_base_path_in_front() {
        for (base, path, expected) in [
            ("", "/a/{id}", "/a/{id}"),
            ("/", "/a", "/a"),
            ("/api/v1", "/a/{id}", "/api/v1/a/{id}"),
            ("/api/v1/", "/", "/api/v1/"),
        ] {
            let template = Template::parse(path).unwrap().behind(base);
            assert_eq!(template.declared(), expected);
        }
    }

    #[test]
    fn captures_the_values_of_variables() {
        for (text, path, values) in [
            ("/a/{id}", "/a/42", vec!["42"]),
            ("/{a}.{b}", "/x.y.z", vec!["x", "y.z"]),
            ("/{a}.{b}", "/..x", vec![".", "x"]),
            ("/f/{n}.json/{m}", "/f/a.json.json/é", vec!["a.json", "é"]),
            ("/{a}{b}", "/éxy", vec!["é", "xy"]),
            ("/v{n}-{m}", "/v1-2-3", vec!["1", "2-3"]),
        ] {
            let template = Template::parse(text).unwrap();
            let mut found = Vec::new();
            template.capture(path, |number, value| {
                assert_eq!(number, found.len());
                found.push(value);
            });
            assert_eq!(found, values, "{text} {path}");
        }
    }
}
