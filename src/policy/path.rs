//! Paths: RFC 3986 normalisation, and templates for paths without a schema.
use std::borrow::Cow;
/// Normalises a path.
#[must_use]
pub fn normalise(path: &str) -> Cow<'_, str> {
    Cow::Borrowed(path)
}
/// Replaces typed ids by `{var1}`, `{var2}` … and appends the template to `out`.
pub fn template(path: &str, out: &mut String) {
    out.push_str(path);
}
