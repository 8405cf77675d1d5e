//! Sets of values: written out in `in {…}`, or named by `in $list`.
//!
//! Enters: single values, ranges and networks. Leaves: sets that answer by binary search or hash. Ranges of numbers and
//! addresses are sorted and merged, so a value lies in at most one of them.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::types::{Scalar, Value};

/// Texts up to this many are compared one after another: cheaper than hashing.
const FEW: usize = 8;

/// A set of values of one type.
#[derive(Clone, Debug)]
pub enum Set {
    /// Whole numbers: inclusive ranges, ascending.
    Ints(Vec<(i64, i64)>),
    /// Texts.
    Texts(Texts),
    /// Addresses.
    Ips(Addresses),
}

/// Texts, in the order given without repetitions.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    all: Vec<Box<[u8]>>,
    hashed: HashSet<Box<[u8]>, foldhash::fast::RandomState>,
}

/// Inclusive ranges of addresses, ascending.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

/// Lists that rules refer to by `$name`.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    by_name: BTreeMap<String, Arc<Set>>,
}

impl Set {
    /// Whole numbers from inclusive ranges in any order.
    #[must_use]
    pub fn ints(ranges: Vec<(i64, i64)>) -> Self {
        Self::Ints(merged(ranges, |end| end.checked_add(1)))
    }

    /// Texts.
    #[must_use]
    pub fn texts(texts: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut set = Texts::default();
        for text in texts {
            let text = text.into_boxed_slice();
            if set.hashed.insert(text.clone()) {
                set.all.push(text);
            }
        }
        if set.all.len() <= FEW {
            set.hashed = HashSet::default();
        }
        Self::Texts(set)
    }

    /// Addresses from inclusive ranges in any order; both ends of a range have the same family.
    #[must_use]
    pub fn ips(ranges: impl IntoIterator<Item = (IpAddr, IpAddr)>) -> Self {
        let mut set = Addresses::default();
        for range in ranges {
            match range {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    set.v4.push((first.to_bits(), last.to_bits()));
                }
                (IpAddr::V6(first), IpAddr::V6(last)) => {
                    set.v6.push((first.to_bits(), last.to_bits()));
                }
                _ => {}
            }
        }
        Self::Ips(Addresses {
            v4: merged(set.v4, |end| end.checked_add(1)),
            v6: merged(set.v6, |end| end.checked_add(1)),
        })
    }

    /// Type of the members.
    #[must_use]
    pub fn of(&self) -> Scalar {
        match self {
            Self::Ints(_) => Scalar::Int,
            Self::Texts(_) => Scalar::Bytes,
            Self::Ips(_) => Scalar::Ip,
        }
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Ints(ranges) => ranges.is_empty(),
            Self::Texts(texts) => texts.all.is_empty(),
            Self::Ips(addresses) => addresses.v4.is_empty() && addresses.v6.is_empty(),
        }
    }

    /// Whether the value is in it.
    #[must_use]
    pub fn contains(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Self::Ints(ranges), Value::Int(value)) => covered(ranges, *value),
            (Self::Texts(texts), Value::Bytes(value)) => texts.contains(value),
            (Self::Ips(set), Value::Ip(IpAddr::V4(ip))) => covered(&set.v4, ip.to_bits()),
            (Self::Ips(set), Value::Ip(IpAddr::V6(ip))) => covered(&set.v6, ip.to_bits()),
            _ => false,
        }
    }
}

impl Texts {
    /// The members, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.all.iter().map(AsRef::as_ref)
    }

    fn contains(&self, value: &[u8]) -> bool {
        if self.all.len() <= FEW {
            self.all.iter().any(|known| **known == *value)
        } else {
            self.hashed.contains(value)
        }
    }
}

impl Addresses {
    /// The ranges, those of version 4 first.
    pub fn ranges(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        let v4 = self.v4.iter().map(|(first, last)| {
            let address = |bits: &u32| IpAddr::V4(Ipv4Addr::from_bits(*bits));
            (address(first), address(last))
        });
        v4.chain(self.v6.iter().map(|(first, last)| {
            let address = |bits: &u128| IpAddr::V6(Ipv6Addr::from_bits(*bits));
            (address(first), address(last))
        }))
    }
}

/// Sorts ranges and joins those that overlap or touch.
fn merged<T: Copy + Ord>(mut ranges: Vec<(T, T)>, after: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut joined: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(open) if after(open.1).is_none_or(|next| first <= next) => {
                open.1 = open.1.max(last);
            }
            _ => joined.push((first, last)),
        }
    }
    joined
}

fn covered<T: Copy + Ord>(ranges: &[(T, T)], value: T) -> bool {
    let at = ranges.partition_point(|(_, last)| *last < value);
    ranges.get(at).is_some_and(|(first, _)| *first <= value)
}

impl Lists {
    /// Adds a list from texts as an operator writes them: addresses, networks and ranges for [`Scalar::Ip`], numbers
    /// and ranges for [`Scalar::Int`], anything for [`Scalar::Bytes`].
    ///
    /// # Errors
    /// The name, or the first item that is not of the type.
    pub fn add(&mut self, name: &str, of: Scalar, items: &[String]) -> Result<(), String> {
        if !is_list_name(name) {
            return Err(format!(
                "{name:?} is not the name of a list: lower-case letters, digits and underscores"
            ));
        }
        let set = match of {
            Scalar::Ip => {
                let ranges = items.iter().map(|item| address_range(item));
                Set::ips(ranges.collect::<Result<Vec<_>, _>>()?)
            }
            Scalar::Int => {
                let ranges = items.iter().map(|item| int_range(item));
                Set::ints(ranges.collect::<Result<Vec<_>, _>>()?)
            }
            Scalar::Bytes => Set::texts(items.iter().map(|item| item.as_bytes().to_vec())),
            Scalar::Bool => return Err("a list of Booleans is of no use".to_owned()),
        };
        self.by_name.insert(name.to_owned(), Arc::new(set));
        Ok(())
    }

    /// The list of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Set>> {
        self.by_name.get(name)
    }

    /// Every name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

/// Whether a list may have this name (feature map section 6.1).
pub(super) fn is_list_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.';
    !name.is_empty() && name.chars().all(allowed) && !name.starts_with('.') && !name.ends_with('.')
}

/// An address, `address/bits` or `address..address` as an inclusive range.
pub(super) fn address_range(text: &str) -> Result<(IpAddr, IpAddr), String> {
    let (first, last) = written_range(text)?;
    // Addresses of events are canonical, so an IPv4 address in IPv6's clothes is meant as the former (RFC 4291 section
    // 2.5.5.2).
    let canonical = (first.to_canonical(), last.to_canonical());
    Ok(match canonical {
        (IpAddr::V4(_), IpAddr::V4(_)) => canonical,
        _ => (first, last),
    })
}

fn written_range(text: &str) -> Result<(IpAddr, IpAddr), String> {
    let address = |text: &str| {
        let address = text.parse::<IpAddr>();
        address.map_err(|_| format!("{text} is not an IP address"))
    };
    if let Some((first, last)) = text.split_once("..") {
        let (first, last) = (address(first)?, address(last)?);
        if first.is_ipv4() != last.is_ipv4() {
            return Err(format!("{text} goes from one family to the other"));
        }
        if first > last {
            return Err(format!("{text} ends before it starts"));
        }
        return Ok((first, last));
    }
    if !text.contains('/') {
        return address(text).map(|address| (address, address));
    }
    let network = text
        .parse::<IpNet>()
        .map_err(|_| format!("{text} is not a network"))?;
    if network.network() != network.addr() {
        return Err(format!("{text} has bits set behind its length"));
    }
    Ok((network.network(), network.broadcast()))
}

fn int_range(text: &str) -> Result<(i64, i64), String> {
    let number = |text: &str| {
        let number = text.parse::<i64>();
        number.map_err(|_| format!("{text} is not a whole number"))
    };
    let (first, last) = match text.split_once("..") {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    if first > last {
        return Err(format!("{text} ends before it starts"));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_merged() {
        let Set::Ints(ranges) = Set::ints(vec![(5, 9), (1, 2), (3, 4), (20, 20), (7, 12)]) else {
            panic!("not numbers");
        };
        assert_eq!(ranges, [(1, 12), (20, 20)]);
        let Set::Ints(ranges) = Set::ints(vec![(i64::MIN, i64::MAX), (0, 1)]) else {
            panic!("not numbers");
        };
        assert_eq!(ranges, [(i64::MIN, i64::MAX)]);
    }

    #[test]
    fn membership() {
        let mut lists = Lists::default();
        let items = |items: &[&str]| -> Vec<String> {
            items.iter().map(|item| (*item).to_owned()).collect()
        };
        lists
            .add(
                "office",
                Scalar::Ip,
                &items(&[
                    "192.0.2.0/24",
                    "198.51.100.3..198.51.100.7",
                    "2001:db8::/32",
                    "10.0.0.1",
                ]),
            )
            .unwrap();
        let office = lists.get("office").unwrap();
        for (ip, expected) in [
            ("192.0.2.0", true),
            ("192.0.2.255", true),
            ("192.0.3.0", false),
            ("198.51.100.2", false),
            ("198.51.100.7", true),
            ("10.0.0.1", true),
            ("10.0.0.2", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            ("::ffff:192.0.2.1", false),
        ] {
            let value = Value::Ip(ip.parse().unwrap());
            assert_eq!(office.contains(&value), expected, "{ip}");
        }
        let many: Vec<_> = (0..20).map(|n| format!("n{n}").into_bytes()).collect();
        for count in [1, 8, 9, 20] {
            let set = Set::texts(many.iter().take(count).chain(many.first()).cloned());
            for (number, text) in many.iter().enumerate() {
                let value = Value::Bytes(text.as_slice().into());
                assert_eq!(set.contains(&value), number < count);
            }
            let Set::Texts(texts) = &set else {
                panic!("not texts")
            };
            assert_eq!(texts.iter().count(), count);
        }
    }

    #[test]
    fn bad_items_are_named() {
        let mut lists = Lists::default();
        for (name, of, item) in [
            ("Office", Scalar::Ip, "10.0.0.1"),
            (".a", Scalar::Ip, "10.0.0.1"),
            ("", Scalar::Ip, "10.0.0.1"),
            ("a", Scalar::Ip, "10.0.0.1/8"),
            ("a", Scalar::Ip, "10.0.0.2..10.0.0.1"),
            ("a", Scalar::Ip, "10.0.0.2..::1"),
            ("a", Scalar::Ip, "x"),
            ("a", Scalar::Int, "x"),
            ("a", Scalar::Int, "5..1"),
        ] {
            let refused = lists.add(name, of, &[item.to_owned()]);
            assert!(refused.is_err(), "{name} {item}");
        }
        assert_eq!(lists.names().count(), 0);
    }
}
