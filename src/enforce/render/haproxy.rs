//! Pattern files for `HAProxy`'s ACLs, one for each kind.
//!
//! Whatever is not a network or a number is hexadecimal in upper case, as the converter `hex` writes it: user agents
//! byte by byte, certificates as `ssl_c_der,sha2(256),hex`, sessions and tokens as the first 32 digits of
//! `hmac(sha256,…),hex`. So no pattern holds a blank, a `#` or a quote, and files and the runtime API need no escapes.
//!
//! `HAProxy` looks an IPv4 address up among the IPv6 networks too, as `::ffff:a.b.c.d` (`pat_match_ip`): a network that holds
//! those, like `::/0`, is written as what it holds besides.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use super::{Format, Omitted, Sorted, comment};
use crate::model::BlockKind;

pub(super) const FORMAT: Format = Format {
    name: "haproxy",
    content_type: "text/plain; charset=utf-8",
    files: &[
        "blocked_ips.acl",
        "blocked_certificates.acl",
        "blocked_user_agents.acl",
        "blocked_sessions.acl",
        "blocked_tokens.acl",
        "blocked_asns.acl",
    ],
    omits: |_| None,
    dated: false,
    render,
};

fn render(sorted: &Sorted<'_>, omitted: &[Omitted], _: i64) -> Vec<String> {
    let mut files: [String; 6] = std::array::from_fn(|_| comment(omitted));
    let [ips, certificates, agents, sessions, tokens, asns] = &mut files;
    for (address, prefix) in sorted.networks.iter().copied().flat_map(unmapped) {
        // A string takes everything that is written to it.
        let _ = writeln!(ips, "{address}/{prefix}");
    }
    for agent in sorted.entities(BlockKind::UserAgent) {
        let _ = writeln!(agents, "{}", hex::encode_upper(agent));
    }
    for (kind, file) in [
        (BlockKind::Certificate, certificates),
        (BlockKind::Session, sessions),
        (BlockKind::Token, tokens),
    ] {
        for digits in sorted.entities(kind) {
            let _ = writeln!(file, "{}", digits.to_ascii_uppercase());
        }
    }
    for asn in &sorted.asns {
        let _ = writeln!(asns, "{asn}");
    }
    files.into()
}

/// A network without the IPv4-mapped addresses (`::ffff:0:0/96`): itself, or what lies beside the way from it to them.
fn unmapped((address, prefix): (IpAddr, u8)) -> Vec<(IpAddr, u8)> {
    const MAPPED: u128 = 0xffff << 32;
    let first = |bits: u128, prefix: u8| {
        let host = 128_u32.saturating_sub(u32::from(prefix));
        bits & u128::MAX.checked_shl(host).unwrap_or_default()
    };
    match address {
        IpAddr::V6(v6) if prefix < 96 && v6.to_bits() == first(MAPPED, prefix) => (prefix..96)
            .map(|above| {
                let beside = first(MAPPED, above + 1) ^ (1 << (127 - above));
                (IpAddr::V6(Ipv6Addr::from_bits(beside)), above + 1)
            })
            .collect(),
        _ => vec![(address, prefix)],
    }
}
