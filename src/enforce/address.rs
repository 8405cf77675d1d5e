//! Addresses and networks of one zone, found by longest prefix. Copies share what they have in common.

use std::net::IpAddr;
use std::sync::Arc;

use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

use crate::model::{BlockEntry, BlockKey, Network};

/// Networks of one address family: one look-up per prefix length in use, so a list of single addresses costs one.
#[derive(Clone, Debug)]
struct Family {
    /// Bits of an address.
    width: u8,
    /// (prefix length, address) → entries; the host bits of the address are zero. One network has several entries when
    /// it is listed as an address and as a network.
    entries: HashTrieMapSync<(u8, u128), Vec<Arc<BlockEntry>>>,
    /// Prefix lengths in use, and by how many networks.
    lengths: RedBlackTreeMapSync<u8, usize>,
}

impl Family {
    fn new(width: u8) -> Self {
        Self {
            width,
            entries: HashTrieMapSync::new_sync(),
            lengths: RedBlackTreeMapSync::new_sync(),
        }
    }

    /// The leading `prefix` bits of an address.
    fn cut(&self, bits: u128, prefix: u8) -> u128 {
        let host = u32::from(self.width.saturating_sub(prefix));
        bits & u128::MAX.checked_shl(host).unwrap_or_default()
    }

    fn insert(&mut self, prefix: u8, bits: u128, entry: Arc<BlockEntry>) {
        let at = (prefix, self.cut(bits, prefix));
        let mut held = self.entries.get(&at).cloned().unwrap_or_default();
        if held.is_empty() {
            let used = self.lengths.get(&prefix).copied().unwrap_or_default();
            self.lengths.insert_mut(prefix, used + 1);
        }
        held.retain(|other| other.key != entry.key);
        held.push(entry);
        self.entries.insert_mut(at, held);
    }

    fn remove(&mut self, prefix: u8, bits: u128, key: &BlockKey) {
        let at = (prefix, self.cut(bits, prefix));
        let Some(held) = self.entries.get(&at) else {
            return;
        };
        let left: Vec<_> = held
            .iter()
            .filter(|entry| entry.key != *key)
            .cloned()
            .collect();
        if !left.is_empty() {
            self.entries.insert_mut(at, left);
            return;
        }
        self.entries.remove_mut(&at);
        match self.lengths.get(&prefix).copied() {
            Some(used) if used > 1 => self.lengths.insert_mut(prefix, used - 1),
            _ => {
                self.lengths.remove_mut(&prefix);
            }
        }
    }

    fn find(&self, bits: u128, now: i64) -> Option<&Arc<BlockEntry>> {
        self.lengths.keys().rev().find_map(|prefix| {
            let held = self.entries.get(&(*prefix, self.cut(bits, *prefix)))?;
            // One that is over must not hide a wider network that still holds.
            held.iter().find(|entry| entry.expires_at > now)
        })
    }

    fn covering(&self, bits: u128, now: i64) -> impl Iterator<Item = &Arc<BlockEntry>> {
        let held = self
            .lengths
            .keys()
            .filter_map(move |prefix| self.entries.get(&(*prefix, self.cut(bits, *prefix))));
        held.flatten().filter(move |entry| entry.expires_at > now)
    }
}

/// The networks of one zone.
#[derive(Clone, Debug)]
pub(super) struct Networks {
    v4: Family,
    v6: Family,
}

impl Default for Networks {
    fn default() -> Self {
        Self {
            v4: Family::new(32),
            v6: Family::new(128),
        }
    }
}

/// Where a network lies: IPv4 or not, its prefix length, its bits.
fn place(network: Network) -> (bool, u8, u128) {
    let (v4, bits) = match network.address() {
        IpAddr::V4(v4) => (true, u128::from(v4.to_bits())),
        IpAddr::V6(v6) => (false, v6.to_bits()),
    };
    (v4, network.prefix(), bits)
}

impl Networks {
    pub(super) fn insert(&mut self, network: Network, entry: Arc<BlockEntry>) {
        let (v4, prefix, bits) = place(network);
        let family = if v4 { &mut self.v4 } else { &mut self.v6 };
        family.insert(prefix, bits, entry);
    }

    pub(super) fn remove(&mut self, network: Network, key: &BlockKey) {
        let (v4, prefix, bits) = place(network);
        let family = if v4 { &mut self.v4 } else { &mut self.v6 };
        family.remove(prefix, bits, key);
    }

    /// An IPv6 network wider than the mapped block, like `::/0`, is meant for IPv6 and holds no IPv4 address.
    fn family(&self, address: IpAddr) -> (&Family, u128) {
        match address.to_canonical() {
            IpAddr::V4(v4) => (&self.v4, u128::from(v4.to_bits())),
            IpAddr::V6(v6) => (&self.v6, v6.to_bits()),
        }
    }

    /// The narrowest network that holds the address.
    pub(super) fn find(&self, address: IpAddr, now: i64) -> Option<&Arc<BlockEntry>> {
        let (family, bits) = self.family(address);
        family.find(bits, now)
    }

    /// Every network that holds the address.
    pub(super) fn covering(
        &self,
        address: IpAddr,
        now: i64,
    ) -> impl Iterator<Item = &Arc<BlockEntry>> {
        let (family, bits) = self.family(address);
        family.covering(bits, now)
    }
}
