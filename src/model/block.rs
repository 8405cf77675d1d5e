//! The block list's nouns: what may be refused, for how long, who asked for it. Nothing is decided here.
//!
//! An entity has one canonical text per kind, so that the same address is never listed twice. Session and token
//! entities are the keyed hashes that the windows hold; raw values have no place in the list.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest zone id (design section 1).
const MAX_ZONE: usize = 32;
/// Longest user agent that can be listed, bytes; longer ones are not sent by browsers.
const MAX_USER_AGENT: usize = 512;

/// What kind of entity an entry refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockKind {
    /// One address.
    Ip,
    /// A network.
    Cidr,
    /// An autonomous system.
    Asn,
    /// A session, by keyed hash.
    Session,
    /// A token, by keyed hash.
    Token,
    /// A client certificate, by SHA-256 fingerprint.
    Certificate,
    /// A `User-Agent`, verbatim.
    UserAgent,
}

impl BlockKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Ip,
        Self::Cidr,
        Self::Asn,
        Self::Session,
        Self::Token,
        Self::Certificate,
        Self::UserAgent,
    ];

    /// The name in keys and payloads.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Cidr => "cidr",
            Self::Asn => "asn",
            Self::Session => "session",
            Self::Token => "token",
            Self::Certificate => "certificate",
            Self::UserAgent => "user_agent",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The one text that stands for an entity of this kind.
    ///
    /// # Errors
    /// What an entity of this kind looks like.
    pub fn canonical(self, entity: &str) -> Result<String, &'static str> {
        match self {
            Self::Ip => {
                let address: Result<IpAddr, _> = entity.parse();
                let address = address.map_err(|_| "an IP address, e.g. 203.0.113.7")?;
                Ok(address.to_canonical().to_string())
            }
            Self::Cidr => Network::parse(entity)
                .map(|network| network.to_string())
                .ok_or("a network, e.g. 203.0.113.0/24"),
            Self::Asn => {
                let digits = entity.strip_prefix("AS").unwrap_or(entity);
                let number: Result<u32, _> = digits.parse();
                number
                    .map(|number| number.to_string())
                    .map_err(|_| "a number of an autonomous system, e.g. 64500")
            }
            Self::Session | Self::Token => hexadecimal(entity, 32)
                .ok_or("the keyed hash that windows and insights show, 32 hexadecimal digits"),
            Self::Certificate => hexadecimal(&entity.replace(':', ""), 64)
                .ok_or("a SHA-256 fingerprint, 64 hexadecimal digits"),
            Self::UserAgent => {
                let plain = !entity.chars().any(char::is_control);
                if plain && !entity.trim().is_empty() && entity.len() <= MAX_USER_AGENT {
                    Ok(entity.to_owned())
                } else {
                    Err("a user agent of up to 512 bytes without control characters")
                }
            }
        }
    }
}

fn hexadecimal(text: &str, digits: usize) -> Option<String> {
    let valid = text.len() == digits && text.chars().all(|c| c.is_ascii_hexdigit());
    valid.then(|| text.to_ascii_lowercase())
}

/// A network in CIDR notation, host bits cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// `address/prefix`; an address alone is the network of that address only. A network of IPv4-mapped addresses (RFC 4291
    /// section 2.5.5.2) is the IPv4 network, as its addresses are: one written that way would get past an allow list.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix: u8 = match prefix {
            // A sign or a leading zero is no prefix length (RFC 4632 section 3.1).
            Some(digits) if digits.len() > 1 && !digits.starts_with(|c| matches!(c, '1'..='9')) => {
                return None;
            }
            Some(digits) => digits.parse().ok().filter(|prefix| *prefix <= width)?,
            None => width,
        };
        let (address, prefix) = match (address.to_canonical(), prefix.checked_sub(96)) {
            (v4 @ IpAddr::V4(_), Some(prefix)) if address.is_ipv6() => (v4, prefix),
            _ => (address, prefix),
        };
        Some(Self {
            address: first(address, prefix),
            prefix,
        })
    }

    /// Its first address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Length of its prefix, bits.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether the two networks share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let prefix = self.prefix.min(other.prefix);
        self.address.is_ipv4() == other.address.is_ipv4()
            && first(self.address, prefix) == first(other.address, prefix)
    }

    /// Whether it holds an address; an IPv4-mapped one is the IPv4 address.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.address.is_ipv4() == address.is_ipv4() && first(address, self.prefix) == self.address
    }
}

/// The first address of the network that this one lies in.
fn first(address: IpAddr, prefix: u8) -> IpAddr {
    let host = |width: u32| width.saturating_sub(u32::from(prefix));
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(host(32)).unwrap_or_default();
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(host(128)).unwrap_or_default();
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// What an entry is found by: zone, kind and canonical entity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockKey {
    zone: String,
    kind: BlockKind,
    entity: String,
}

impl BlockKey {
    /// The key of an entity, in canonical form.
    ///
    /// # Errors
    /// What a zone or an entity of this kind looks like.
    pub fn new(zone: &str, kind: BlockKind, entity: &str) -> Result<Self, &'static str> {
        let plain = |c: char| c != '/' && !c.is_control() && !c.is_whitespace();
        if zone.is_empty() || zone.len() > MAX_ZONE || !zone.chars().all(plain) {
            return Err("a zone id of up to 32 characters");
        }
        Ok(Self {
            zone: zone.to_owned(),
            kind,
            entity: kind.canonical(entity)?,
        })
    }

    /// The key from its text; neither zones nor kinds hold a slash.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (zone, rest) = text.split_once('/')?;
        let (kind, entity) = rest.split_once('/')?;
        Self::new(zone, BlockKind::parse(kind)?, entity).ok()
    }

    /// Zone id.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// Kind of the entity.
    #[must_use]
    pub fn kind(&self) -> BlockKind {
        self.kind
    }

    /// The entity in canonical form.
    #[must_use]
    pub fn entity(&self) -> &str {
        &self.entity
    }

    /// The addresses that it refuses, when it refuses addresses.
    #[must_use]
    pub fn network(&self) -> Option<Network> {
        match self.kind {
            BlockKind::Ip | BlockKind::Cidr => Network::parse(&self.entity),
            _ => None,
        }
    }
}

impl fmt::Display for BlockKey {
    /// The message key: `zone/kind/entity`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.zone, self.kind.as_str(), self.entity)
    }
}

/// An entity that the enforcement tier should refuse, until when, and why. Times are epoch milliseconds of wall time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// What is refused.
    pub key: BlockKey,
    /// Whether the entry only shows what would be refused: `blocklist.enforce` is off.
    pub simulated: bool,
    /// Why, one sentence.
    pub reason: String,
    /// The rule that asked for it; `None` = a person did.
    pub rule: Option<String>,
    /// How often each signal was seen.
    pub evidence: BTreeMap<String, u64>,
    /// Ids of some of the exchanges, sorted.
    pub samples: Vec<String>,
    /// When it was listed.
    pub created_at: i64,
    /// When it changed last.
    pub updated_at: i64,
    /// When it ends; kept by wall time.
    pub expires_at: i64,
    /// How often it changed since it was listed, this time included.
    pub revision: u64,
    /// Position in the log of proposals at which it changed last: grows over all entries, so a feed can go on from it.
    pub sequence: u64,
}

/// What somebody wants of the block list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Chosen by who proposes, the same however often the proposal is sent.
    pub id: String,
    /// Whether an outcome is to be written for it.
    pub answer: bool,
    /// What it is about.
    pub key: BlockKey,
    /// Why, one sentence.
    pub reason: String,
    /// What is wanted.
    pub wish: Wish,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// List the entity, or keep it listed for longer.
    Block {
        /// The rule that fired; `None` = a person asks.
        rule: Option<String>,
        /// How often each signal was seen.
        evidence: BTreeMap<String, u64>,
        /// Ids of some of the exchanges.
        samples: Vec<String>,
        /// Until when, epoch milliseconds of wall time.
        expires_at: i64,
    },
    /// Take the entity off the list.
    Withdraw,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_has_one_text() {
        use BlockKind::{Asn, Certificate, Cidr, Ip, Session, UserAgent};
        let hash = "0123456789abcdef0123456789ABCDEF";
        for (kind, entity, expected) in [
            (Ip, "203.0.113.7", Some("203.0.113.7")),
            (Ip, "::ffff:203.0.113.7", Some("203.0.113.7")),
            (Ip, "2001:DB8:0:0::1", Some("2001:db8::1")),
            (Ip, "203.0.113", None),
            (Ip, "203.0.113.0/24", None),
            (Cidr, "203.0.113.77/24", Some("203.0.113.0/24")),
            (Cidr, "203.0.113.77", Some("203.0.113.77/32")),
            (Cidr, "2001:db8:ffff::/33", Some("2001:db8:8000::/33")),
            (Cidr, "1.2.3.4/0", Some("0.0.0.0/0")),
            // Mapped addresses are IPv4's, however they are written.
            (Cidr, "::ffff:203.0.113.77/120", Some("203.0.113.0/24")),
            (Cidr, "::ffff:203.0.113.77", Some("203.0.113.77/32")),
            (Cidr, "::ffff:0:0/96", Some("0.0.0.0/0")),
            (Cidr, "::ffff:0:0/95", Some("::fffe:0:0/95")),
            (Cidr, "::/0", Some("::/0")),
            (Ip, "::ffff:203.0.113.7%eth0", None),
            (Ip, "203.0.113.7\n", None),
            (Ip, "203.0.113.07", None),
            (Cidr, "203.0.113.0/24;", None),
            (Cidr, "1.2.3.4/33", None),
            (Cidr, "1.2.3.4/+8", None),
            (Cidr, "1.2.3.4/08", None),
            (Cidr, "1.2.3.4/", None),
            (Asn, "AS64500", Some("64500")),
            (Asn, "64500", Some("64500")),
            (Asn, "4294967296", None),
            (Session, hash, Some("0123456789abcdef0123456789abcdef")),
            (Session, "sid=secret", None),
            (Certificate, "9f", None),
            (UserAgent, "curl/8.5.0", Some("curl/8.5.0")),
            (UserAgent, " ", None),
            (UserAgent, "a\nb", None),
            (UserAgent, "a\0b", None),
            (UserAgent, "a\u{85}b", None),
        ] {
            let canonical = kind.canonical(entity).ok();
            assert_eq!(canonical.as_deref(), expected, "{kind:?} {entity}");
        }
    }

    #[test]
    fn networks_overlap_when_one_holds_the_other() {
        for (one, two, expected) in [
            ("192.0.2.0/24", "192.0.2.9", true),
            ("192.0.2.0/24", "192.0.0.0/16", true),
            ("192.0.2.0/24", "192.0.3.0/24", false),
            ("0.0.0.0/0", "198.51.100.1", true),
            ("::/0", "198.51.100.1", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("192.0.2.0/24", "::ffff:192.0.2.0/127", true),
            ("192.0.2.0/24", "::ffff:192.0.3.0/127", false),
        ] {
            let (one, two) = (Network::parse(one).unwrap(), Network::parse(two).unwrap());
            if two.prefix() >= 32 {
                assert_eq!(one.contains(two.address()), expected, "{one} {two}");
            }
            assert_eq!(one.overlaps(two), expected, "{one} {two}");
            assert_eq!(two.overlaps(one), expected, "{two} {one}");
        }
    }

    #[test]
    fn a_key_is_read_back_from_its_text() {
        for text in [
            "z/ip/2001:db8::1",
            "z/cidr/10.0.0.0/8",
            "z/user_agent/a/b c",
        ] {
            assert_eq!(BlockKey::parse(text).unwrap().to_string(), text);
        }
        for text in ["z/ip", "/ip/1.2.3.4", "z/ip/x", "z/what/1", "outcome"] {
            assert_eq!(BlockKey::parse(text), None, "{text}");
        }
    }
}
