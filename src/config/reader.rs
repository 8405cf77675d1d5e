//! Reads TOML section by section and notes every problem with its place, instead of stopping at the first.
//!
//! Enters: the text of a pipeline file. Leaves: typed values, and [`Problems`] for what is missing, of the wrong type,
//! out of range or unknown. What the values mean is decided in `resolve.rs`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::model::Problems;

/// A place where a secret is kept; never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// Environment variable.
    Env(String),
    /// File, relative to the pipeline file.
    File(PathBuf),
}

impl Secret {
    /// The bytes of the secret without surrounding white space, and where they came from.
    ///
    /// # Errors
    /// What the system says, with the place.
    pub fn load(&self, folder: &Path) -> Result<(Vec<u8>, String), String> {
        let (bytes, from) = match self {
            Self::Env(name) => (
                std::env::var(name)
                    .map(String::into_bytes)
                    .map_err(|error| error.to_string()),
                name.clone(),
            ),
            Self::File(path) => {
                let path = folder.join(path);
                (
                    std::fs::read(&path).map_err(|error| error.to_string()),
                    path.display().to_string(),
                )
            }
        };
        match bytes {
            Ok(bytes) => Ok((bytes.trim_ascii().to_vec(), from)),
            Err(error) => Err(format!("{from}: {error}")),
        }
    }
}

/// What all sections of one file share: its line starts, the line of every place seen, and the problems.
pub(super) struct Sheet {
    line_starts: Vec<usize>,
    lines: RefCell<HashMap<String, usize>>,
    pub(super) problems: RefCell<Problems>,
}

impl Sheet {
    pub(super) fn new(text: &str) -> Self {
        let line_starts = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
        Self {
            line_starts: std::iter::once(0).chain(line_starts).collect(),
            lines: RefCell::default(),
            problems: RefCell::default(),
        }
    }

    /// One-based line of a byte offset.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    fn remember(&self, place: &str, offset: usize) {
        self.lines
            .borrow_mut()
            .insert(place.to_owned(), self.line(offset));
    }

    /// Line of a place, or of the longest known place that it lies in.
    pub(super) fn line_of(&self, place: &str) -> Option<usize> {
        let lines = self.lines.borrow();
        let mut place = place;
        loop {
            if let Some(line) = lines.get(place) {
                return Some(*line);
            }
            place = place.get(..place.rfind(['.', '['])?)?;
        }
    }

    pub(super) fn problem(&self, place: &str, message: impl Into<String>, hint: &str) {
        if hint.is_empty() {
            self.problems.borrow_mut().add(place, message);
        } else {
            self.problems.borrow_mut().hint(place, message, hint);
        }
    }
}

/// One table of the file.
pub(super) struct Section<'d> {
    sheet: &'d Sheet,
    pub(super) place: String,
    table: Option<&'d DeTable<'d>>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'d> Section<'d> {
    pub(super) fn new(sheet: &'d Sheet, place: String, table: Option<&'d DeTable<'d>>) -> Self {
        if let Some(table) = table {
            for (key, value) in table {
                let name = if place.is_empty() {
                    key.get_ref().to_string()
                } else {
                    format!("{place}.{}", key.get_ref())
                };
                sheet.remember(&name, value.span().start);
            }
        }
        Self {
            sheet,
            place,
            table,
            asked: RefCell::default(),
        }
    }

    /// Place of a key, e.g. `zones[0].hosts`.
    pub(super) fn at(&self, key: &str) -> String {
        if self.place.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.place)
        }
    }

    pub(super) fn problem(&self, key: &str, message: impl Into<String>, hint: &str) {
        self.sheet.problem(&self.at(key), message, hint);
    }

    /// A problem of another section, found where both are known.
    pub(super) fn problem_at(&self, place: &str, message: impl Into<String>, hint: &str) {
        self.sheet.problem(place, message, hint);
    }

    /// Whether the key is written.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Whether the section is written in the file.
    pub(super) fn written(&self) -> bool {
        self.table.is_some()
    }

    fn get(&self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.asked.borrow_mut().push(key);
        self.table?.get(key)
    }

    fn wrong_type(&self, key: &str, wanted: &str, found: &DeValue<'_>) {
        self.problem(
            key,
            format!("{} where {wanted} belongs", found.type_str()),
            "",
        );
    }

    pub(super) fn string(&self, key: &'static str) -> Option<String> {
        let value = self.get(key)?.get_ref();
        let text = value.as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong_type(key, "a string", value);
        }
        text
    }

    /// A string that must be there.
    pub(super) fn required(&self, key: &'static str, hint: &str) -> String {
        if self.table.is_some_and(|table| table.contains_key(key)) {
            return self.string(key).unwrap_or_default();
        }
        self.asked.borrow_mut().push(key);
        self.problem(key, "is missing", hint);
        String::new()
    }

    pub(super) fn boolean(&self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.get(key) else {
            return default;
        };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong_type(key, "true or false", value.get_ref());
            default
        })
    }

    pub(super) fn integer(&self, key: &'static str, default: u64) -> u64 {
        let Some(value) = self.get(key) else {
            return default;
        };
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
        number.unwrap_or_else(|| {
            self.wrong_type(key, "a number of 0 or more", value.get_ref());
            default
        })
    }

    /// A share, 0 to 1.
    pub(super) fn share(&self, key: &'static str, default: f64) -> f64 {
        let Some(value) = self.get(key) else {
            return default;
        };
        let value = value.get_ref();
        let integer = value.as_integer().map(|number| number.as_str().parse());
        let number = value.as_float().map(|number| number.as_str().parse());
        match number.or(integer) {
            Some(Ok(share)) if (0.0..=1.0).contains(&share) => share,
            Some(_) => {
                self.problem(key, "is not a share", "a number from 0 to 1, e.g. 0.001");
                default
            }
            None => {
                self.wrong_type(key, "a number from 0 to 1", value);
                default
            }
        }
    }

    /// `"250ms"`, `"30s"`, `"5m"`, `"24h"`, `"8d"`.
    pub(super) fn duration(&self, key: &'static str, default: Duration) -> Duration {
        let Some(text) = self.string(key) else {
            return default;
        };
        parse_duration(&text).unwrap_or_else(|| {
            let hint = "a number and ms, s, m, h or d, e.g. \"30s\"";
            self.problem(key, format!("{text:?} is not a duration"), hint);
            default
        })
    }

    /// `"256KiB"`, `"2MiB"`, `"4096"`.
    pub(super) fn bytes(&self, key: &'static str, default: usize) -> usize {
        let Some(text) = self.string(key) else {
            return default;
        };
        parse_bytes(&text).unwrap_or_else(|| {
            let hint = "a number and B, KiB, MiB or GiB, e.g. \"256KiB\"";
            self.problem(key, format!("{text:?} is not a size"), hint);
            default
        })
    }

    /// A list of strings; one string counts as a list of one where `single` allows it.
    pub(super) fn strings(&self, key: &'static str, single: bool) -> Vec<String> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        self.strings_in(key, value.get_ref(), single)
    }

    /// The strings of a value; one string counts as a list of one where `single` allows it.
    pub(super) fn strings_in(&self, key: &str, value: &DeValue<'_>, single: bool) -> Vec<String> {
        match value {
            DeValue::Array(items) => {
                let mut strings = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    match item.get_ref().as_str() {
                        Some(text) => strings.push(text.to_owned()),
                        None => {
                            self.wrong_type(&format!("{key}[{index}]"), "a string", item.get_ref());
                        }
                    }
                }
                strings
            }
            DeValue::String(text) if single => vec![text.to_string()],
            other => {
                self.wrong_type(key, "a list of strings", other);
                Vec::new()
            }
        }
    }

    /// A table of strings.
    pub(super) fn string_table(&self, key: &'static str) -> Vec<(String, String)> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, "a table of strings", value.get_ref());
            return Vec::new();
        };
        let mut pairs = Vec::new();
        for (name, value) in table {
            match value.get_ref().as_str() {
                Some(text) => pairs.push((name.get_ref().to_string(), text.to_owned())),
                None => self.wrong_type(
                    &format!("{key}.{}", name.get_ref()),
                    "a string",
                    value.get_ref(),
                ),
            }
        }
        pairs
    }

    /// A table of settings of a library: strings, numbers, booleans as text, or secrets.
    pub(super) fn option_table(&self, key: &'static str) -> Vec<(String, Result<String, Secret>)> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, "a table of settings", value.get_ref());
            return Vec::new();
        };
        let mut settings = Vec::new();
        for (name, value) in table {
            let place = format!("{key}.{}", name.get_ref());
            let setting = match value.get_ref() {
                DeValue::String(text) => Some(Ok(text.to_string())),
                DeValue::Integer(number) => Some(Ok(number.as_str().to_owned())),
                DeValue::Float(number) => Some(Ok(number.as_str().to_owned())),
                DeValue::Boolean(value) => Some(Ok(value.to_string())),
                DeValue::Table(_) => self.secret_of(&place, value.get_ref()).map(Err),
                other => {
                    self.wrong_type(&place, "a string, a number, true or false", other);
                    None
                }
            };
            settings.extend(setting.map(|setting| (name.get_ref().to_string(), setting)));
        }
        settings
    }

    /// `{ env = "NAME" }` or `{ file = "…" }`.
    pub(super) fn secret(&self, key: &'static str) -> Option<Secret> {
        let value = self.get(key)?;
        self.secret_of(key, value.get_ref())
    }

    fn secret_of(&self, key: &str, value: &'d DeValue<'d>) -> Option<Secret> {
        let hint = "a secret is written { env = \"NAME\" } or { file = \"path\" }, never in the file itself";
        let Some(table) = value.as_table() else {
            self.problem(key, "a secret in plain text", hint);
            return None;
        };
        let section = Section::new(self.sheet, self.at(key), Some(table));
        let (env, file) = (section.string("env"), section.string("file"));
        section.finish();
        match (env, file) {
            (Some(name), None) => Some(Secret::Env(name)),
            (None, Some(path)) => Some(Secret::File(PathBuf::from(path))),
            _ => {
                self.problem(key, "neither or both of env and file", hint);
                None
            }
        }
    }

    /// Every member, of a table whose keys are names that the user chooses.
    pub(super) fn members(&self) -> Vec<(String, &'d DeValue<'d>)> {
        let members = self.table.into_iter().flatten();
        members
            .map(|(name, value)| (name.get_ref().to_string(), value.get_ref()))
            .collect()
    }

    /// A sub-table under a name that the user chose.
    pub(super) fn below(&self, name: &str, table: &'d DeTable<'d>) -> Section<'d> {
        Section::new(self.sheet, self.at(name), Some(table))
    }

    /// The raw value, for members of more than one type.
    pub(super) fn raw(&self, key: &'static str) -> Option<&'d DeValue<'d>> {
        self.get(key).map(Spanned::get_ref)
    }

    /// A sub-table; one that is not written reads as all defaults.
    pub(super) fn section(&self, key: &'static str) -> Section<'d> {
        let table = self.get(key).and_then(|value| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                self.problem(
                    key,
                    format!("{} where a section belongs", value.get_ref().type_str()),
                    "",
                );
            }
            table
        });
        Section::new(self.sheet, self.at(key), table)
    }

    /// An array of tables.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Section<'d>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let Some(items) = value.get_ref().as_array() else {
            let hint = format!("write [[{}]] in double brackets", self.at(key));
            self.problem(
                key,
                format!(
                    "{} where a list of sections belongs",
                    value.get_ref().type_str()
                ),
                &hint,
            );
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let place = format!("{}[{index}]", self.at(key));
            self.sheet.remember(&place, item.span().start);
            match item.get_ref().as_table() {
                Some(table) => sections.push(Section::new(self.sheet, place, Some(table))),
                None => self.wrong_type(&format!("{key}[{index}]"), "a section", item.get_ref()),
            }
        }
        sections
    }

    /// Makes keys known that are asked for only when they are written.
    pub(super) fn know(&self, keys: &[&'static str]) {
        self.asked.borrow_mut().extend(keys);
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(&self) {
        let asked = self.asked.borrow();
        for key in self.table.into_iter().flat_map(DeTable::keys) {
            let name = key.get_ref().as_ref();
            if !asked.contains(&name) {
                let mut known: Vec<&str> = asked.clone();
                known.sort_unstable();
                known.dedup();
                self.problem(
                    name,
                    "is not a setting",
                    &format!("known here: {}", known.join(", ")),
                );
            }
        }
    }
}

/// A whole number and a unit.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
}

/// `"30s"` → 30 seconds.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// `"2MiB"` → 2,097,152.
fn parse_bytes(text: &str) -> Option<usize> {
    let (number, unit) = split_unit(text)?;
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    usize::try_from(number).ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        for (text, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            (" 5 m ", 300_000),
            ("0s", 0),
            ("8d", 691_200_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in ["", "s", "30", "-1s", "1w", "99999999999999999999s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(parse_bytes("2MiB"), Some(2 << 20));
        assert_eq!(parse_bytes("7"), Some(7));
        assert_eq!(parse_bytes("7MB"), None);
    }
}
