//! Names in certificates: how they compare (RFC 5280 section 7.1) and which ones an authority may give out (section
//! 4.2.1.10).
//!
//! Enters: names and name constraints as `x509-parser` reads them. Leaves: owned values that compare as the standard
//! says. A name or constraint of a form that cannot be compared is never taken for allowed.

use std::net::IpAddr;

use x509_parser::extensions::{GeneralName, GeneralSubtree};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// A distinguished name, one entry for each relative name, folded so that equal names have equal bytes: letters
/// without case, runs of blanks as one, string types alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DistinguishedName(Vec<Vec<u8>>);

impl DistinguishedName {
    pub(super) fn of(name: &X509Name<'_>) -> Self {
        let relative_names = name.iter().map(|relative| {
            let mut attributes: Vec<_> = relative.iter().map(attribute).collect();
            // A SET: the order says nothing.
            attributes.sort_unstable();
            attributes.concat()
        });
        Self(relative_names.collect())
    }

    /// Whether nothing is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this name lies at or below `other` in the directory.
    fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

/// Type and folded value of an attribute, each after its length.
fn attribute(attribute: &AttributeTypeAndValue<'_>) -> Vec<u8> {
    let value = attribute.attr_value();
    let text = match value.tag().0 {
        // UTF8String, NumericString, PrintableString, TeletexString, IA5String.
        12 | 18 | 19 | 20 | 22 => std::str::from_utf8(value.data).ok().map(str::to_owned),
        // BMPString.
        30 => {
            let units = value.data.chunks(2).map(|unit| {
                unit.iter()
                    .fold(0, |unit, byte| unit << 8 | u16::from(*byte))
            });
            char::decode_utf16(units).collect::<Result<_, _>>().ok()
        }
        _ => None,
    };
    let value = match text {
        Some(text) => {
            let words: Vec<_> = text.split_whitespace().map(str::to_lowercase).collect();
            words.join(" ").into_bytes()
        }
        // A length that no text can have keeps bytes apart from text.
        None => [&[value.tag().0.to_be_bytes()[3], 0xff][..], value.data].concat(),
    };
    let mut folded = Vec::new();
    for part in [attribute.attr_type().as_bytes(), &value] {
        folded.extend((part.len() as u64).to_be_bytes());
        folded.extend(part);
    }
    folded
}

/// A name that a certificate gives to its subject, or the base of a constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Dns(String),
    Email(String),
    Uri(String),
    /// An address, or an address and a mask.
    Ip(Vec<u8>),
    Directory(DistinguishedName),
    /// A form that is not compared, by its tag.
    Other(u8),
}

impl Name {
    /// `None` when the name cannot be read.
    fn of(name: &GeneralName<'_>) -> Option<Self> {
        Some(match name {
            GeneralName::DNSName(name) => Self::Dns(name.to_ascii_lowercase()),
            GeneralName::RFC822Name(name) => Self::Email((*name).to_owned()),
            GeneralName::URI(name) => Self::Uri((*name).to_owned()),
            GeneralName::IPAddress(address) => Self::Ip(address.to_vec()),
            GeneralName::DirectoryName(name) => Self::Directory(DistinguishedName::of(name)),
            GeneralName::OtherName(..) => Self::Other(0),
            GeneralName::X400Address(_) => Self::Other(3),
            GeneralName::EDIPartyName(_) => Self::Other(5),
            GeneralName::RegisteredID(_) => Self::Other(8),
            GeneralName::Invalid(..) => return None,
        })
    }

    fn is_form_of(&self, base: &Self) -> bool {
        match (self, base) {
            (Self::Other(one), Self::Other(other)) => one == other,
            _ => std::mem::discriminant(self) == std::mem::discriminant(base),
        }
    }

    /// Whether a constraint with this base covers the name; both are of one form.
    fn is_within(&self, base: &Self) -> bool {
        match (self, base) {
            (Self::Dns(name), Self::Dns(base)) => host_is_within(name, base),
            (Self::Email(name), Self::Email(base)) => mailbox_is_within(name, base),
            (Self::Uri(name), Self::Uri(base)) => {
                uri_host(name).is_some_and(|host| match base.strip_prefix('.') {
                    Some(_) => host_is_within(&host, &base.to_ascii_lowercase()),
                    None => host.eq_ignore_ascii_case(base),
                })
            }
            (Self::Ip(address), Self::Ip(base)) => address_is_within(address, base),
            (Self::Directory(name), Self::Directory(base)) => name.is_within(base),
            _ => false,
        }
    }

    /// Whether a constraint with this base may cover something that the name stands for.
    fn touches(&self, base: &Self) -> bool {
        match (self, base) {
            // `*.b` stands for `a.b` too, which the base may be.
            (Self::Dns(name), Self::Dns(base)) => {
                host_is_within(name, base)
                    || name
                        .strip_prefix("*.")
                        .zip(base.split_once('.'))
                        .is_some_and(|(below, (_, parent))| below == parent)
            }
            // Without a host nothing can be said, and nothing is not a permission.
            (Self::Uri(name), Self::Uri(_)) if uri_host(name).is_none() => true,
            (Self::Other(_), Self::Other(_)) => true,
            _ => self.is_within(base),
        }
    }

    /// Whether this can be the base of a constraint.
    fn is_base(&self) -> bool {
        match self {
            Self::Dns(name) => {
                name.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                    && !name.contains("..")
            }
            Self::Email(name) => name
                .split_once('@')
                .is_none_or(|(local, host)| !local.is_empty() && is_host(host)),
            Self::Ip(range) => is_range(range),
            _ => true,
        }
    }
}

fn is_host(name: &str) -> bool {
    !name.is_empty()
        && name
            .split('.')
            .all(|label| !label.is_empty() && !label.contains(['@', ' ', '*']))
}

/// Whole labels from the right. A leading period, which the standard has for URIs only but authorities write for hosts
/// too, asks for at least one more label.
fn host_is_within(name: &str, base: &str) -> bool {
    if base.is_empty() {
        return true;
    }
    match name.strip_suffix(base) {
        Some("") => true,
        Some(front) => front.ends_with('.') || base.starts_with('.'),
        None => false,
    }
}

/// A mailbox, a host, or with a leading period the hosts below one.
fn mailbox_is_within(name: &str, base: &str) -> bool {
    let Some((local, host)) = name.rsplit_once('@') else {
        return false;
    };
    match base.rsplit_once('@') {
        Some((base_local, base_host)) => {
            local == base_local && host.eq_ignore_ascii_case(base_host)
        }
        None if base.starts_with('.') => {
            host_is_within(&host.to_ascii_lowercase(), &base.to_ascii_lowercase())
        }
        None => base.is_empty() || host.eq_ignore_ascii_case(base),
    }
}

/// The host of a URI, in lower case; addresses are none.
fn uri_host(uri: &str) -> Option<String> {
    let (_, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host_and_port = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = host_and_port
        .split_once(':')
        .map_or(host_and_port, |(host, _)| host);
    (is_host(host) && host.parse::<IpAddr>().is_err()).then(|| host.to_ascii_lowercase())
}

/// An address and a mask of ones followed by zeros.
fn is_range(range: &[u8]) -> bool {
    if !matches!(range.len(), 8 | 32) {
        return false;
    }
    let (_, mask) = range.split_at(range.len() / 2);
    let bits = mask
        .iter()
        .fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
    let width = u32::try_from(mask.len() * 8).unwrap_or_default();
    let mask = bits << (128 - width);
    mask.leading_ones() == mask.count_ones()
}

fn address_is_within(address: &[u8], range: &[u8]) -> bool {
    let (base, mask) = range.split_at(range.len() / 2);
    address.len() == base.len()
        && address
            .iter()
            .zip(base)
            .zip(mask)
            .all(|((address, base), mask)| address & mask == base & mask)
}

/// The names that constraints are held against.
#[derive(Clone, Debug, Default)]
pub struct Names(Vec<Name>);

/// E-mail address as an attribute of a subject: 1.2.840.113549.1.9.1.
const EMAIL_ADDRESS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1];

impl Names {
    /// `None` when an alternative name cannot be read.
    pub(super) fn of(
        subject: &X509Name<'_>,
        alternatives: Option<&[GeneralName<'_>]>,
    ) -> Option<Self> {
        let mut names = Vec::new();
        for alternative in alternatives.into_iter().flatten() {
            let name = Name::of(alternative)?;
            let readable = match &name {
                Name::Ip(address) => matches!(address.len(), 4 | 16),
                _ => true,
            };
            if !readable {
                return None;
            }
            names.push(name);
        }
        let directory = DistinguishedName::of(subject);
        if !directory.is_empty() {
            names.push(Name::Directory(directory));
        }
        // Without an alternative name of that form the subject's attribute counts.
        if !names.iter().any(|name| matches!(name, Name::Email(_))) {
            let addresses = subject
                .iter_attributes()
                .filter(|attribute| attribute.attr_type().as_bytes() == EMAIL_ADDRESS)
                .filter_map(|attribute| attribute.as_str().ok())
                .map(|address| Name::Email(address.to_owned()));
            names.extend(addresses);
        }
        Some(Self(names))
    }
}

/// Alternative names of a certificate's subject, the first of each form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alternatives {
    /// `uniformResourceIdentifier`.
    pub uri: Option<String>,
    /// `dNSName`, in lower case.
    pub dns: Option<String>,
    /// `rfc822Name`.
    pub email: Option<String>,
}

impl Alternatives {
    pub(super) fn of(names: &[GeneralName<'_>]) -> Self {
        let mut alternatives = Self::default();
        for name in names {
            match name {
                GeneralName::URI(uri) => {
                    alternatives.uri.get_or_insert_with(|| (*uri).to_owned());
                }
                GeneralName::DNSName(name) => {
                    alternatives
                        .dns
                        .get_or_insert_with(|| name.to_ascii_lowercase());
                }
                GeneralName::RFC822Name(name) => {
                    alternatives.email.get_or_insert_with(|| (*name).to_owned());
                }
                _ => {}
            }
        }
        alternatives
    }
}

/// Which names an authority may give out below it.
#[derive(Clone, Debug)]
pub struct Constraints {
    permitted: Vec<Name>,
    excluded: Vec<Name>,
}

impl Constraints {
    /// `None` when a base cannot be read or is none.
    pub(super) fn of(
        permitted: Option<&[GeneralSubtree<'_>]>,
        excluded: Option<&[GeneralSubtree<'_>]>,
    ) -> Option<Self> {
        let bases = |subtrees: Option<&[GeneralSubtree<'_>]>| {
            subtrees
                .into_iter()
                .flatten()
                .map(|subtree| Name::of(&subtree.base).filter(Name::is_base))
                .collect::<Option<Vec<_>>>()
        };
        Some(Self {
            permitted: bases(permitted)?,
            excluded: bases(excluded)?,
        })
    }

    /// How many comparisons one certificate may cost.
    #[must_use]
    pub fn cost(&self, names: &Names) -> usize {
        (self.permitted.len() + self.excluded.len()).saturating_mul(names.0.len())
    }

    /// Whether every one of these names may stand below the authority.
    #[must_use]
    pub fn allow(&self, names: &Names) -> bool {
        names.0.iter().all(|name| {
            let touched = self
                .excluded
                .iter()
                .any(|base| name.is_form_of(base) && name.touches(base));
            let mut of_form = self
                .permitted
                .iter()
                .filter(|base| name.is_form_of(base))
                .peekable();
            !touched && (of_form.peek().is_none() || of_form.any(|base| name.is_within(base)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Name, is_range};

    fn dns(name: &str) -> Name {
        Name::Dns(name.to_owned())
    }

    fn email(name: &str) -> Name {
        Name::Email(name.to_owned())
    }

    fn uri(name: &str) -> Name {
        Name::Uri(name.to_owned())
    }

    #[test]
    fn names_lie_within_bases() {
        for (name, base, within) in [
            (dns("a.example"), dns("a.example"), true),
            (dns("b.a.example"), dns("a.example"), true),
            (dns("ba.example"), dns("a.example"), false),
            (dns("example"), dns("a.example"), false),
            (dns("a.example"), dns(""), true),
            (dns("b.a.example"), dns(".a.example"), true),
            (dns("a.example"), dns(".a.example"), false),
            (email("u@a.example"), email("u@A.example"), true),
            (email("U@a.example"), email("u@a.example"), false),
            (email("u@a.example"), email("a.example"), true),
            (email("u@b.a.example"), email("a.example"), false),
            (email("u@b.a.example"), email(".a.example"), true),
            (email("u@a.example"), email(".a.example"), false),
            (email("*@a.example"), email("*@a.example"), true),
            (email("u@a.example"), email("*@a.example"), false),
            (email("nothing"), email("a.example"), false),
            (uri("https://u@A.example:8/p"), uri("a.example"), true),
            (uri("https://b.a.example/"), uri("a.example"), false),
            (uri("https://b.a.example/"), uri(".a.example"), true),
            (uri("https://192.0.2.1/"), uri("192.0.2.1"), false),
            (uri("urn:x"), uri("x"), false),
            (
                Name::Ip(vec![192, 0, 2, 9]),
                Name::Ip(vec![192, 0, 2, 0, 255, 255, 255, 0]),
                true,
            ),
            (
                Name::Ip(vec![192, 0, 3, 9]),
                Name::Ip(vec![192, 0, 2, 0, 255, 255, 255, 0]),
                false,
            ),
            (Name::Ip(vec![0; 16]), Name::Ip(vec![0; 8]), false),
            (Name::Other(0), Name::Other(0), false),
        ] {
            assert_eq!(name.is_within(&base), within, "{name:?} {base:?}");
        }
    }

    #[test]
    fn what_may_be_excluded_is() {
        for (name, base, touched) in [
            (dns("*.a.example"), dns("b.a.example"), true),
            (dns("*.a.example"), dns("c.b.a.example"), false),
            (dns("*.a.example"), dns("a.example"), true),
            (uri("urn:x"), uri("a.example"), true),
            (Name::Other(0), Name::Other(0), true),
        ] {
            assert_eq!(name.touches(&base), touched, "{name:?} {base:?}");
        }
    }

    #[test]
    fn bases_are_well_formed() {
        for (base, good) in [
            (dns("*.a.example"), false),
            (dns("a..example"), false),
            (dns(".a.example"), true),
            (email("a@b@c"), false),
            (email("@a.example"), false),
            (email("**@a.example"), true),
        ] {
            assert_eq!(base.is_base(), good, "{base:?}");
        }
        assert!(is_range(&[192, 0, 2, 0, 255, 255, 255, 128]));
        assert!(is_range(&[0; 32]));
        assert!(!is_range(&[192, 0, 2, 0, 255, 0, 255, 0]));
        assert!(!is_range(&[192, 0, 2, 0]));
    }
}
