//! Public conformance suites: where they are, and the exceptions that are known.
//!
//! The folder is named by `GATEWATCH_CORPORA`. Without it the suites are skipped, and say so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot read its cases fails"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file of the corpora; `None`, with a word on standard error, when they are not here.
pub fn file(path: &str) -> Option<PathBuf> {
    let found = std::env::var_os("GATEWATCH_CORPORA")
        .map(|folder| Path::new(&folder).join(path))
        .filter(|path| path.exists());
    if found.is_none() {
        eprintln!(
            "skipped: {path} is not here; set GATEWATCH_CORPORA to the folder of the corpora"
        );
    }
    found
}

/// Known divergences: `<case id>: <reason>` a line, `#` for comments.
pub struct Exceptions {
    reasons: BTreeMap<String, String>,
    found: Vec<String>,
    checked: usize,
}

impl Exceptions {
    pub fn read(text: &str) -> Self {
        let reasons = text
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
            .map(|line| {
                let (id, reason) = line.split_once(": ").expect("<case id>: <reason>");
                (id.to_owned(), reason.to_owned())
            })
            .collect();
        Self {
            reasons,
            found: Vec::new(),
            checked: 0,
        }
    }

    /// Compares one case with what is expected of it or of its exception.
    pub fn check(&mut self, id: &str, as_expected: bool, what: impl FnOnce() -> String) {
        self.checked += 1;
        let excepted = self.reasons.remove(id);
        match (as_expected, excepted) {
            (true, Some(reason)) => self.found.push(format!(
                "{id} is as expected now; take its exception out ({reason})"
            )),
            (false, None) => self.found.push(format!("{id}: {}", what())),
            _ => {}
        }
    }

    /// Fails with every divergence without an exception and every exception without a divergence.
    pub fn finish(mut self) {
        let unused = self.reasons.keys();
        self.found
            .extend(unused.map(|id| format!("{id} has an exception and is no case")));
        assert!(
            self.found.is_empty(),
            "{} of {}:\n{}",
            self.found.len(),
            self.checked,
            self.found.join("\n")
        );
    }
}
