//! One state of the block list, immutable: everything that is listed, and an index of what is refused.
//!
//! Views share what they have in common, so the next one costs a few microseconds per change however long the list is,
//! and whoever holds one is never waited for.

use std::net::IpAddr;
use std::sync::Arc;

use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

use super::address::Networks;
use crate::model::{BlockEntry, BlockKey, BlockKind};

/// A keyed hash of a session or a token.
type Hash = [u8; 16];

/// One zone, and what is refused in it.
#[derive(Clone, Debug)]
struct Index {
    networks: Networks,
    asns: HashTrieMapSync<u32, Arc<BlockEntry>>,
    sessions: HashTrieMapSync<Hash, Arc<BlockEntry>>,
    tokens: HashTrieMapSync<Hash, Arc<BlockEntry>>,
    certificates: HashTrieMapSync<[u8; 32], Arc<BlockEntry>>,
    agents: HashTrieMapSync<String, Arc<BlockEntry>>,
    /// Entries, simulated ones included.
    size: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            networks: Networks::default(),
            asns: HashTrieMapSync::new_sync(),
            sessions: HashTrieMapSync::new_sync(),
            tokens: HashTrieMapSync::new_sync(),
            certificates: HashTrieMapSync::new_sync(),
            agents: HashTrieMapSync::new_sync(),
            size: 0,
        }
    }
}

/// The bytes of an entity in hexadecimal; a [`BlockKey`] has them in full.
fn bytes<const N: usize>(entity: &str) -> [u8; N] {
    let mut bytes = [0; N];
    // Canonical entities have two digits for each byte.
    let _ = hex::decode_to_slice(entity, &mut bytes);
    bytes
}

impl Index {
    fn insert(&mut self, entry: Arc<BlockEntry>) {
        self.size += 1;
        if entry.simulated {
            return;
        }
        let (kind, entity) = (entry.key.kind(), entry.key.entity().to_owned());
        match kind {
            BlockKind::Ip | BlockKind::Cidr => {
                if let Some(network) = entry.key.network() {
                    self.networks.insert(network, entry);
                }
            }
            BlockKind::Asn => self
                .asns
                .insert_mut(entity.parse().unwrap_or_default(), entry),
            BlockKind::Session => self.sessions.insert_mut(bytes(&entity), entry),
            BlockKind::Token => self.tokens.insert_mut(bytes(&entity), entry),
            BlockKind::Certificate => self.certificates.insert_mut(bytes(&entity), entry),
            BlockKind::UserAgent => self.agents.insert_mut(entity, entry),
        }
    }

    fn remove(&mut self, entry: &BlockEntry) {
        self.size = self.size.saturating_sub(1);
        if entry.simulated {
            return;
        }
        let key = &entry.key;
        let entity = key.entity();
        match key.kind() {
            BlockKind::Ip | BlockKind::Cidr => {
                if let Some(network) = key.network() {
                    self.networks.remove(network, key);
                }
            }
            BlockKind::Asn => {
                self.asns.remove_mut(&entity.parse().unwrap_or_default());
            }
            BlockKind::Session => {
                self.sessions.remove_mut(&bytes(entity));
            }
            BlockKind::Token => {
                self.tokens.remove_mut(&bytes(entity));
            }
            BlockKind::Certificate => {
                self.certificates.remove_mut(&bytes(entity));
            }
            BlockKind::UserAgent => {
                self.agents.remove_mut(entity);
            }
        }
    }
}

/// What is known about a request that may be refused.
#[derive(Clone, Debug, Default)]
pub struct Asked<'a> {
    /// Zone id.
    pub zone: &'a str,
    /// Who sent it.
    pub address: Option<IpAddr>,
    /// The sender's autonomous system.
    pub asn: Option<u32>,
    /// Keyed hashes of its session.
    pub sessions: &'a [Hash],
    /// Keyed hashes of its tokens.
    pub tokens: &'a [Hash],
    /// SHA-256 of the client certificate.
    pub certificate: Option<[u8; 32]>,
    /// `User-Agent`, verbatim.
    pub user_agent: Option<&'a str>,
}

/// Which entries somebody wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Zone ids; empty = all.
    pub zones: Vec<String>,
    /// Whether to give simulated entries too.
    pub simulated: bool,
}

impl Selection {
    /// Whether the entry is wanted, whatever its time.
    #[must_use]
    pub fn takes(&self, entry: &BlockEntry) -> bool {
        (self.simulated || !entry.simulated)
            && (self.zones.is_empty() || self.zones.iter().any(|zone| zone == entry.key.zone()))
    }
}

/// One state of the block list.
#[derive(Clone, Debug)]
pub struct View {
    sequence: u64,
    entries: RedBlackTreeMapSync<BlockKey, Arc<BlockEntry>>,
    zones: HashTrieMapSync<String, Index>,
}

impl View {
    /// An empty list. `sequence` = its number; later states have greater ones.
    #[must_use]
    pub fn empty(sequence: u64) -> Self {
        Self {
            sequence,
            entries: RedBlackTreeMapSync::new_sync(),
            zones: HashTrieMapSync::new_sync(),
        }
    }

    /// The number of this state: grows by one with every change.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Entries, simulated ones and ones whose time has just passed included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.size()
    }

    /// Whether nothing is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry of a key.
    #[must_use]
    pub fn get(&self, key: &BlockKey) -> Option<&Arc<BlockEntry>> {
        self.entries.get(key)
    }

    /// Entries that hold at `now`, in the order of their keys.
    pub fn select<'v>(
        &'v self,
        selection: &'v Selection,
        now: i64,
    ) -> impl Iterator<Item = &'v Arc<BlockEntry>> + 'v {
        let wanted =
            move |entry: &&Arc<BlockEntry>| entry.expires_at > now && selection.takes(entry);
        self.entries.values().filter(wanted)
    }

    /// The entry that refuses a request at `now`, the most exact kind first.
    #[must_use]
    pub fn refuses(&self, asked: &Asked<'_>, now: i64) -> Option<&Arc<BlockEntry>> {
        let index = self.zones.get(asked.zone)?;
        let holds = |entry: &&Arc<BlockEntry>| entry.expires_at > now;
        let certificate = asked
            .certificate
            .and_then(|hash| index.certificates.get(&hash));
        certificate
            .filter(holds)
            .or_else(|| {
                let mut tokens = asked
                    .tokens
                    .iter()
                    .filter_map(|hash| index.tokens.get(hash));
                tokens.find(holds)
            })
            .or_else(|| {
                let sessions = asked.sessions.iter();
                let mut sessions = sessions.filter_map(|hash| index.sessions.get(hash));
                sessions.find(holds)
            })
            .or_else(|| index.networks.find(asked.address?, now))
            .or_else(|| index.asns.get(&asked.asn?).filter(holds))
            .or_else(|| index.agents.get(asked.user_agent?).filter(holds))
    }

    /// Whether any session of a zone is refused: only then need a request's session be known.
    #[must_use]
    pub fn refuses_sessions(&self, zone: &str) -> bool {
        let index = self.zones.get(zone);
        index.is_some_and(|index| !index.sessions.is_empty())
    }

    /// Zones with entries.
    pub fn zones(&self) -> impl Iterator<Item = &str> {
        self.zones.keys().map(String::as_str)
    }

    /// Every entry of one entity, whatever its zone and time, simulated ones included.
    #[must_use]
    pub fn listed(&self, kind: BlockKind, entity: &str) -> Vec<&Arc<BlockEntry>> {
        let zones = self.zones.keys();
        zones
            .filter_map(|zone| {
                let key = BlockKey::new(zone, kind, entity).ok()?;
                self.entries.get(&key)
            })
            .collect()
    }

    /// Every enforced entry of every zone that holds the address at `now`.
    #[must_use]
    pub fn covering(&self, address: IpAddr, now: i64) -> Vec<&Arc<BlockEntry>> {
        let zones = self.zones.values();
        zones
            .flat_map(|index| index.networks.covering(address, now))
            .collect()
    }

    /// Lists an entry, or changes it.
    pub(super) fn insert(&mut self, entry: &Arc<BlockEntry>) {
        self.unindex(&entry.key);
        self.entries
            .insert_mut(entry.key.clone(), Arc::clone(entry));
        let zone = entry.key.zone();
        let mut index = self.zones.get(zone).cloned().unwrap_or_default();
        index.insert(Arc::clone(entry));
        self.zones.insert_mut(zone.to_owned(), index);
        self.sequence += 1;
    }

    /// Ends an entry.
    pub(super) fn remove(&mut self, key: &BlockKey) {
        self.unindex(key);
        if self.entries.remove_mut(key) {
            self.sequence += 1;
        }
    }

    /// Takes the entry of a key out of the look-ups.
    fn unindex(&mut self, key: &BlockKey) {
        let Some(entry) = self.entries.get(key) else {
            return;
        };
        let Some(mut index) = self.zones.get(key.zone()).cloned() else {
            return;
        };
        index.remove(entry);
        if index.size == 0 {
            self.zones.remove_mut(key.zone());
        } else {
            self.zones.insert_mut(key.zone().to_owned(), index);
        }
    }
}

#[cfg(test)]
mod tests;
