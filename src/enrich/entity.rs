//! Who an exchange is from, as the windows and the block list write it: an address, a keyed hash, a fingerprint.
//!
//! Enters: an exchange and what was found about it. Leaves: canonical texts, or nothing where the log does not say. Raw
//! session values and tokens never leave as an entity.

use std::net::IpAddr;

use super::Judged;
use crate::model::{BlockKind, Exchange, Network};

/// The entity of this kind, where the exchange has one that can be listed.
#[must_use]
pub fn of(kind: BlockKind, exchange: &Exchange<'_>, judged: &Judged) -> Option<String> {
    let client = || exchange.client.ip.as_deref().and_then(address);
    let entity = match kind {
        BlockKind::Ip => client().map(|ip| ip.to_string()),
        BlockKind::Cidr => client().and_then(network),
        BlockKind::Asn => exchange.client.asn.map(|asn| asn.to_string()),
        BlockKind::Session => judged.session.hash.map(hex::encode),
        BlockKind::Token => judged
            .tokens
            .iter()
            .find_map(|token| token.hash)
            .map(hex::encode),
        BlockKind::Certificate => judged.fingerprint.map(hex::encode),
        BlockKind::UserAgent => {
            let mut agents = exchange.request.headers.values("user-agent");
            agents.next().map(str::to_owned)
        }
    };
    // What could not be listed is no entity.
    entity.filter(|entity| kind.canonical(entity).is_ok())
}

/// The network that a client's neighbours share: what one customer is usually given (RFC 6177 for version 6).
fn network(ip: IpAddr) -> Option<String> {
    let prefix = if ip.is_ipv4() { 24 } else { 64 };
    Network::parse(&format!("{ip}/{prefix}")).map(|network| network.to_string())
}

/// The address a log line names, IPv4-mapped ones as IPv4. What is no address names nobody: it would become a key of
/// any length and content.
pub(super) fn address(ip: &str) -> Option<IpAddr> {
    ip.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// Bytes as hexadecimal digits in `digits`, which has two for each.
pub(super) fn hexadecimal<'d>(bytes: &[u8], digits: &'d mut [u8]) -> Option<&'d str> {
    hex::encode_to_slice(bytes, digits).ok()?;
    std::str::from_utf8(digits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{self, Limits};

    fn entities(client: &str, agent: &str) -> Vec<(BlockKind, String)> {
        let line = format!(
            r#"{{"kind":"exchange","time":1,"client":{client},"request":{{"method":"GET","host":"h","path":"/",
            "headers":{{"user-agent":"{agent}"}}}}}}"#
        );
        let decode = decode::format("gatewatch").unwrap();
        let exchange = decode(line.as_bytes(), Limits::default()).unwrap().exchange;
        let mut judged = Judged {
            fingerprint: Some([0xab; 32]),
            ..Judged::default()
        };
        judged.session.hash = Some([1; 16]);
        BlockKind::ALL
            .into_iter()
            .filter_map(|kind| Some((kind, of(kind, &exchange, &judged)?)))
            .collect()
    }

    #[test]
    fn an_exchange_is_from_whom_the_log_says() {
        use BlockKind::{Asn, Certificate, Cidr, Ip, Session, UserAgent};
        let hashes = [(Session, "01".repeat(16)), (Certificate, "ab".repeat(32))];
        let with = |more: &[(BlockKind, &str)]| {
            let more = more.iter().map(|(kind, text)| (*kind, (*text).to_owned()));
            let mut all: Vec<_> = more.chain(hashes.clone()).collect();
            all.sort_by_key(|(kind, _)| *kind);
            all
        };
        for (client, agent, expected) in [
            (
                r#"{"ip":"::ffff:203.0.113.7","asn":64500}"#,
                "curl/8",
                with(&[
                    (Ip, "203.0.113.7"),
                    (Cidr, "203.0.113.0/24"),
                    (Asn, "64500"),
                    (UserAgent, "curl/8"),
                ]),
            ),
            (
                r#"{"ip":"2001:DB8::1"}"#,
                " ",
                with(&[(Ip, "2001:db8::1"), (Cidr, "2001:db8::/64")]),
            ),
            (r#"{"ip":"unknown"}"#, "", with(&[])),
        ] {
            assert_eq!(entities(client, agent), expected, "{client}");
        }
    }
}
