//! Who a gateway says the client is, read from the bytes of headers.
//!
//! Enters: values as they were sent, in which a client may have put any bytes. Leaves: the one that counts, cut out before
//! anything is read, so that what stands next to it cannot hide it; and whether it could be read. Nothing is decided here.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

/// The client in lists of forwarders (`x-forwarded-for`, all lines of it are one list, RFC 9110 section 5.3), each of which
/// has appended whom it saw. The last one was appended by the gateway itself; of those before it only `hops` count.
pub(super) fn forwarded<'h>(
    lines: impl DoubleEndedIterator<Item = &'h [u8]>,
    hops: usize,
) -> Option<&'h [u8]> {
    let mut forwarders = lines
        .rev()
        .flat_map(|line| line.rsplit(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|one| !one.is_empty());
    let first = forwarders.next()?;
    Some(forwarders.take(hops).last().unwrap_or(first))
}

/// An address as an exchange has it. What nobody can read stays what it is, and is no address to whoever asks.
pub(super) fn described(sent: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(sent.trim_ascii()) {
        Ok(text) if text.parse::<IpAddr>().is_ok() => Cow::Borrowed(text),
        Ok(text) => match address(text) {
            Some(address) => Cow::Owned(address.to_string()),
            None => Cow::Borrowed(text),
        },
        Err(_) => String::from_utf8_lossy(sent),
    }
}

/// An address with what gateways write around it: brackets, a port, a zone (RFC 4007 section 11).
fn address(text: &str) -> Option<IpAddr> {
    let unzoned = match text.split_once('%') {
        None => Cow::Borrowed(text),
        Some((address, zone)) => match zone.split_once(']') {
            Some((_, port)) => Cow::Owned(format!("{address}]{port}")),
            None => Cow::Borrowed(address),
        },
    };
    let bare = unzoned
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = bare.unwrap_or(&unzoned).parse::<IpAddr>().ok();
    address.or_else(|| Some(unzoned.parse::<SocketAddr>().ok()?.ip()))
}

/// What was said about an autonomous system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asn {
    /// Nothing: databases do not know every address.
    Unknown,
    /// Its number.
    Known(u32),
    /// Something that nobody can read.
    Unread,
}

/// A number of an autonomous system, as databases write it: `64500`, `AS64500`, `AS64500 Example`.
pub(super) fn asn(sent: Option<&[u8]>) -> Asn {
    let sent = sent.unwrap_or_default().trim_ascii();
    if matches!(sent, b"" | b"-") {
        return Asn::Unknown;
    }
    let word = sent
        .split(u8::is_ascii_whitespace)
        .next()
        .unwrap_or_default();
    let digits = match word.split_at_checked(2) {
        Some((prefix, digits)) if prefix.eq_ignore_ascii_case(b"AS") => digits,
        _ => word,
    };
    let plain = digits.iter().all(u8::is_ascii_digit);
    let number = str::from_utf8(digits).ok().filter(|_| plain);
    number
        .and_then(|digits| digits.parse().ok())
        .map_or(Asn::Unread, Asn::Known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen<'l>(lines: &[&'l [u8]], hops: usize) -> Option<&'l [u8]> {
        forwarded(lines.iter().copied(), hops)
    }

    #[test]
    fn what_a_client_sends_does_not_hide_whom_the_gateway_saw() {
        let last = Some(&b"192.0.2.1"[..]);
        for lines in [
            &[&b"192.0.2.1"[..]][..],
            &[b"\xc3\xa9, 192.0.2.1"],
            &[b"\xff,192.0.2.1"],
            &[b"\xe9\t ,\t192.0.2.1 "],
            &[b",,, 192.0.2.1"],
            &[b"192.0.2.9", b"192.0.2.1"],
            &[b"192.0.2.1", b""],
            &[b"192.0.2.1,", b" , "],
            &[b"\"a, b\", 192.0.2.1"],
        ] {
            assert_eq!(seen(lines, 0), last, "{lines:?}");
        }
        for (lines, expected) in [
            (&[&b"192.0.2.1, 10.0.0.1"[..]][..], &b"192.0.2.1"[..]),
            (&[b"192.0.2.1", b"10.0.0.1"], b"192.0.2.1"),
            (&[b"\xe9", b"192.0.2.1", b"10.0.0.1"], b"192.0.2.1"),
            (&[b"192.0.2.1"], b"192.0.2.1"),
        ] {
            assert_eq!(seen(lines, 1), Some(expected), "{lines:?}");
        }
        assert_eq!(seen(&[], 0), None);
        assert_eq!(seen(&[b" , "], 0), None);
    }

    #[test]
    fn addresses_are_read_as_gateways_write_them() {
        for (sent, expected) in [
            (&b"192.0.2.1"[..], Some("192.0.2.1")),
            (b" 192.0.2.1\t", Some("192.0.2.1")),
            (b"192.0.2.1:5555", Some("192.0.2.1")),
            (b"[2001:db8::1]:44", Some("2001:db8::1")),
            (b"[2001:db8::1]", Some("2001:db8::1")),
            (b"2001:DB8::1", Some("2001:db8::1")),
            (b"[::ffff:192.0.2.1]", Some("::ffff:192.0.2.1")),
            (b"fe80::1%eth0", Some("fe80::1")),
            (b"[fe80::1%eth0]:44", Some("fe80::1")),
            (b"unknown", None),
            (b"", None),
            (b"192.0.2.1:", None),
            (b"192.0.2.1:70000", None),
            (b"192.0.2.1 192.0.2.2", None),
            (b"192.0.2.01", None),
            (b"192.0.2.1\xe9", None),
            (b"[192.0.2.1", None),
        ] {
            let read = described(sent).parse::<IpAddr>().ok();
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(read, expected, "{sent:?}");
        }
    }

    #[test]
    fn autonomous_systems_are_read_as_databases_write_them() {
        for (sent, expected) in [
            (&b"64500"[..], Asn::Known(64_500)),
            (b"AS64500", Asn::Known(64_500)),
            (b" as64500 Example \xe9", Asn::Known(64_500)),
            (b"", Asn::Unknown),
            (b"-", Asn::Unknown),
            (b"AS", Asn::Unread),
            (b"+1", Asn::Unread),
            (b"4294967296", Asn::Unread),
            (b"\xff64500", Asn::Unread),
        ] {
            assert_eq!(asn(Some(sent)), expected, "{sent:?}");
        }
        assert_eq!(asn(None), Asn::Unknown);
    }
}
