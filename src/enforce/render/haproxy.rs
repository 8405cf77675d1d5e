//! Pattern files for `HAProxy`'s ACLs, one for each kind.
//!
//! Whatever is not a network or a number is hexadecimal in upper case, as the converter `hex` writes it: user agents
//! byte by byte, certificates as `ssl_c_der,sha2(256),hex`, sessions and tokens as the first 32 digits of
//! `hmac(sha256,…),hex`. So no pattern holds a blank, a `#` or a quote, and files and the runtime API need no escapes.

use std::fmt::Write as _;

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
    render,
};

fn render(sorted: &Sorted<'_>, omitted: &[Omitted], _: i64) -> Vec<String> {
    let mut files: [String; 6] = std::array::from_fn(|_| comment(omitted));
    let [ips, certificates, agents, sessions, tokens, asns] = &mut files;
    for network in sorted.networks() {
        // A string takes everything that is written to it.
        let _ = writeln!(ips, "{network}");
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
