//! Where a token is looked for: `http.request.headers["name"][i]`, `http.request.cookies["name"][i]` or
//! `http.request.uri.args["name"][i]`.
//!
//! Enters: the expression as configured. Leaves: the carrier, or what is wrong. The first two forms are all that the
//! vendor's `token_sources` allow; the third is for APIs that take a token in the query (RFC 6750 section 2.3 says why they
//! should not). The full expression language is not here.

/// One place of a request that may carry a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// The `index`th value of a header field; the name has no case.
    Header {
        /// Field name in lower case.
        name: String,
        /// Which of its values, from 0, in log order.
        index: usize,
    },
    /// The `index`th cookie of this name; the name has case.
    Cookie {
        /// Cookie name.
        name: String,
        /// Which of them, from 0, in log order.
        index: usize,
    },
    /// The `index`th argument of this name in the query; the name has case.
    Argument {
        /// Name, decoded.
        name: String,
        /// Which of them, from 0, in log order.
        index: usize,
    },
}

/// What a good source looks like.
pub(super) const HINT: &str = "write http.request.headers[\"authorization\"][0], http.request.cookies[\"name\"][0] or \
                               http.request.uri.args[\"name\"][0]";

/// Longest number of digits in an index; more values than that never fit in an event.
const MAX_INDEX_DIGITS: usize = 5;

impl TokenSource {
    /// Parses an expression; blanks around its parts do not matter.
    ///
    /// # Errors
    /// What is wrong, as a lower-case fact.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let make: fn(&str, usize) -> Self;
        let rest = if let Some(rest) = text.strip_prefix("http.request.headers") {
            make = |name, index| Self::Header {
                name: name.to_ascii_lowercase(),
                index,
            };
            rest
        } else if let Some(rest) = text.strip_prefix("http.request.cookies") {
            make = |name, index| Self::Cookie {
                name: name.to_owned(),
                index,
            };
            rest
        } else if let Some(rest) = text.strip_prefix("http.request.uri.args") {
            make = |name, index| Self::Argument {
                name: name.to_owned(),
                index,
            };
            rest
        } else {
            return Err(format!(
                "{text:?} reads no header, cookie or query argument"
            ));
        };
        let (name, rest) = bracketed(rest).ok_or("no name in brackets")?;
        let (index, rest) = bracketed(rest).ok_or("no index in brackets after the name")?;
        if !rest.trim().is_empty() {
            return Err(format!("unexpected {:?} after the index", rest.trim()));
        }
        let name = name
            .strip_prefix('"')
            .and_then(|name| name.strip_suffix('"'))
            .ok_or("the name is not in double quotes")?;
        if !is_name(name) {
            return Err(format!(
                "{name:?} is not the name of a header field, cookie or argument"
            ));
        }
        if index.is_empty()
            || index.len() > MAX_INDEX_DIGITS
            || !index.bytes().all(|b| b.is_ascii_digit())
        {
            return Err(format!("{index:?} is not an index"));
        }
        let index = index.parse().map_err(|_| "the index is too large")?;
        Ok(make(name, index))
    }
}

/// Splits `[inner]rest`; `inner` is trimmed. No name that is allowed holds a bracket.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    let (inner, rest) = text.trim_start().strip_prefix('[')?.split_once(']')?;
    Some((inner.trim(), rest))
}

/// Whether this can name a header field or cookie: a token of RFC 9110 section 5.6.2.
pub(in crate::policy) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::TokenSource;

    #[test]
    fn parses_the_three_forms() {
        let header = |name: &str, index| TokenSource::Header {
            name: name.to_owned(),
            index,
        };
        let cookie = |name: &str, index| TokenSource::Cookie {
            name: name.to_owned(),
            index,
        };
        for (text, expected) in [
            (
                r#"http.request.headers["authorization"][0]"#,
                Some(header("authorization", 0)),
            ),
            (
                r#"http.request.headers["X-Token"][12]"#,
                Some(header("x-token", 12)),
            ),
            (
                r#" http.request.cookies [ "Sid" ] [ 1 ] "#,
                Some(cookie("Sid", 1)),
            ),
            (r#"http.request.headers["authorization"]"#, None),
            (r#"http.request.headers["authorization"][-1]"#, None),
            (r#"http.request.headers["authorization"][*]"#, None),
            (r#"http.request.headers["authorization"][0][0]"#, None),
            (r#"http.request.headers["authorization"][999999]"#, None),
            ("http.request.headers[authorization][0]", None),
            (r#"http.request.headers[""][0]"#, None),
            (r#"http.request.headers["a b"][0]"#, None),
            (
                r#"http.request.uri.args["Access_token"][1]"#,
                Some(TokenSource::Argument {
                    name: "Access_token".to_owned(),
                    index: 1,
                }),
            ),
            (r#"http.request.uri.args["t"]"#, None),
            (r#"http.request.uri.query["t"][0]"#, None),
            (r#"http.request.headersx["t"][0]"#, None),
            ("", None),
        ] {
            assert_eq!(TokenSource::parse(text).ok(), expected, "{text}");
        }
    }
}
