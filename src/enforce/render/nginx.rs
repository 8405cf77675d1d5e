//! Files for nginx's `include`: a `geo` block, a list of `deny` directives, `map` blocks.
//!
//! Networks and numbers have no character that nginx's syntax knows. A user agent is written as a regular expression in
//! which every byte that is no ASCII letter or digit is `\xHH`: string keys of a `map` are compared without case, which
//! would refuse more than is listed, and a byte in hexadecimal is neither syntax of the file nor of the expression.

use std::fmt::Write as _;

use super::{Format, Omitted, Sorted, comment};
use crate::model::BlockKind;

pub(super) const FORMAT: Format = Format {
    name: "nginx",
    content_type: "text/plain; charset=utf-8",
    files: &[
        "blocked_ips.geo.conf",
        "blocked_ips.deny.conf",
        "blocked_user_agents.map.conf",
        "blocked_asns.map.conf",
    ],
    omits,
    dated: false,
    render,
};

fn omits(kind: BlockKind) -> Option<&'static str> {
    match kind {
        BlockKind::Ip | BlockKind::Cidr | BlockKind::Asn | BlockKind::UserAgent => None,
        BlockKind::Session | BlockKind::Token => Some(
            "the list holds keyed hashes and nginx compares raw values; the inline check refuses them",
        ),
        BlockKind::Certificate => Some(
            "the list holds SHA-256 fingerprints and nginx knows only SHA-1; the inline check refuses them",
        ),
    }
}

fn render(sorted: &Sorted<'_>, omitted: &[Omitted], _: i64) -> Vec<String> {
    let mut files: [String; 4] = std::array::from_fn(|_| comment(omitted));
    let [geo, deny, agents, asns] = &mut files;
    for network in sorted.networks() {
        // A string takes everything that is written to it.
        let _ = writeln!(geo, "{network} 1;");
        let _ = writeln!(deny, "deny {network};");
    }
    for agent in sorted.entities(BlockKind::UserAgent) {
        agents.push_str("\"~^");
        for byte in agent.bytes() {
            if byte.is_ascii_alphanumeric() {
                agents.push(char::from(byte));
            } else {
                let _ = write!(agents, "\\x{byte:02x}");
            }
        }
        agents.push_str("$\" 1;\n");
    }
    for asn in &sorted.asns {
        let _ = writeln!(asns, "{asn} 1;");
    }
    files.into()
}
