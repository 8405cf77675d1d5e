//! A whole list in the words of a gateway: text that is complete, that no entity can break or widen, and that says what
//! it had to leave out. Equal lists give equal bytes, or, where times are counted from the present, say the same.
//!
//! **A new format**: `<name>.rs` with a pure `render`, a line in [`FORMATS`], a case in the tests of every hostile value,
//! and the gateway's snippet in the README.

mod crowdsec;
mod envoy;
mod haproxy;
mod nginx;

pub use crowdsec::{Decision, Filter, Page, Wanted, live, startup, stream};
pub use envoy::EXTENSION as ENVOY_EXTENSION;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use super::{Selection, View};
use crate::model::{BlockEntry, BlockKind};

/// One file of a rendering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// Its whole content.
    pub text: String,
    /// What the content says, where the text has the time of its writing in it.
    pub(crate) said: Option<[u8; 32]>,
}

impl File {
    /// A file whose text depends on the list alone.
    #[must_use]
    pub fn steady(name: &'static str, text: String) -> Self {
        Self {
            name,
            text,
            said: None,
        }
    }

    /// SHA-256 of what it says: the same for the same list, whenever it was written.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.said.unwrap_or_else(|| sha256(&self.text))
    }

    /// Whether it says the same as another, whatever the time passed in between.
    #[must_use]
    pub fn says_as(&self, other: &Self) -> bool {
        let same = match (self.said, other.said) {
            (None, None) => self.text == other.text,
            (one, other) => one == other,
        };
        self.name == other.name && same
    }
}

fn sha256(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    let digest = digest(&SHA256, text.as_bytes());
    for (byte, own) in bytes.iter_mut().zip(digest.as_ref()) {
        *byte = *own;
    }
    bytes
}

/// Entries that a format cannot express.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Omitted {
    /// Their kind.
    pub kind: BlockKind,
    /// How many.
    pub count: usize,
    /// Why, and what refuses them instead.
    pub why: &'static str,
}

/// A list in one format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendering {
    /// The files; always the same names, whatever is listed.
    pub files: Vec<File>,
    /// Entries that are expressed.
    pub written: usize,
    /// Those that are not.
    pub omitted: Vec<Omitted>,
}

impl Rendering {
    /// Whether the time of writing stands in the text.
    #[must_use]
    pub fn dated(&self) -> bool {
        self.files.iter().any(|file| file.said.is_some())
    }

    /// Whether every file says the same as in another rendering.
    #[must_use]
    pub fn says_as(&self, other: &Self) -> bool {
        let mut pairs = self.files.iter().zip(&other.files);
        self.files.len() == other.files.len() && pairs.all(|(one, other)| one.says_as(other))
    }

    /// Number of entries left out.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.omitted.iter().map(|omitted| omitted.count).sum()
    }

    /// All files as one text; several are told apart by a line with their names.
    #[must_use]
    pub fn concatenated(&self) -> String {
        match self.files.as_slice() {
            [only] => only.text.clone(),
            files => {
                let mut text = String::new();
                for File {
                    name, text: whole, ..
                } in files
                {
                    // A string takes everything that is written to it.
                    let _ = write!(text, "# file: {name}\n{whole}");
                }
                text
            }
        }
    }
}

/// A format that gateways read.
#[derive(Debug)]
pub struct Format {
    /// Its name in commands, addresses and configuration.
    pub name: &'static str,
    /// Content type of its files.
    pub content_type: &'static str,
    /// Names of its files.
    pub files: &'static [&'static str],
    /// Why entries of a kind are left out; `None` = they are expressed.
    omits: fn(BlockKind) -> Option<&'static str>,
    /// Whether its text counts time from when it is written.
    dated: bool,
    render: fn(&Sorted<'_>, &[Omitted], i64) -> Vec<String>,
}

/// Every format but JSON, which is [`crate::publish`]'s own.
pub const FORMATS: &[Format] = &[
    nginx::FORMAT,
    haproxy::FORMAT,
    envoy::FORMAT,
    crowdsec::FORMAT,
];

/// The format of this name.
#[must_use]
pub fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

impl Format {
    /// The whole list as it holds at `now`.
    #[must_use]
    pub fn render(&self, view: &View, selection: &Selection, now: i64) -> Rendering {
        let mut omitted: BTreeMap<BlockKind, Omitted> = BTreeMap::new();
        let mut sorted = Sorted::default();
        let mut written = 0;
        for entry in view.select(selection, now) {
            let kind = entry.key.kind();
            if let Some(why) = (self.omits)(kind) {
                let omitted = omitted.entry(kind).or_insert(Omitted {
                    kind,
                    count: 0,
                    why,
                });
                omitted.count += 1;
            } else {
                written += 1;
                sorted.add(entry);
            }
        }
        let omitted: Vec<_> = omitted.into_values().collect();
        let texts = (self.render)(&sorted, &omitted, now);
        // Counted from the beginning of time, times are what they are.
        let said = self.dated.then(|| (self.render)(&sorted, &omitted, 0));
        let mut said = said.into_iter().flatten();
        let files = self.files.iter().zip(texts);
        Rendering {
            files: files
                .map(|(name, text)| File {
                    name,
                    text,
                    said: said.next().map(|said| sha256(&said)),
                })
                .collect(),
            written,
            omitted,
        }
    }
}

/// What is to be expressed: each entity once, however many zones list it, in a stable order.
#[derive(Debug, Default)]
struct Sorted<'v> {
    /// (address, prefix length).
    networks: BTreeSet<(IpAddr, u8)>,
    asns: BTreeSet<u32>,
    named: BTreeSet<(BlockKind, &'v str)>,
    entries: Vec<&'v Arc<BlockEntry>>,
}

impl<'v> Sorted<'v> {
    fn add(&mut self, entry: &'v Arc<BlockEntry>) {
        self.entries.push(entry);
        let entity = entry.key.entity();
        match (entry.key.kind(), entry.key.network()) {
            (BlockKind::Ip | BlockKind::Cidr, Some(network)) => {
                self.networks.insert((network.address(), network.prefix()));
            }
            (BlockKind::Asn, _) => {
                self.asns.extend(entity.parse::<u32>());
            }
            (kind, _) => {
                self.named.insert((kind, entity));
            }
        }
    }

    /// `192.0.2.0/24`, one after the other.
    fn networks(&self) -> impl Iterator<Item = String> {
        self.networks
            .iter()
            .map(|(address, prefix)| format!("{address}/{prefix}"))
    }

    fn entities(&self, kind: BlockKind) -> impl Iterator<Item = &'v str> {
        let of_kind = self.named.range((kind, "")..);
        of_kind
            .map(|(of, entity)| (*of, *entity))
            .take_while(move |(of, _)| *of == kind)
            .map(|(_, entity)| entity)
    }
}

/// What stands at the top of a file in which `#` starts a comment.
fn comment(omitted: &[Omitted]) -> String {
    let mut text =
        "# Written by gatewatch: the whole list, replaced with every change.\n".to_owned();
    for Omitted { kind, count, why } in omitted {
        let kind = kind.as_str();
        // A string takes everything that is written to it.
        let _ = writeln!(text, "# left out: {count} of kind {kind}: {why}");
    }
    text
}

#[cfg(test)]
mod tests;
