//! Lines that must be refused, each for one reason.

use super::random::Random;
use super::template::push_number;
use crate::model::Reject;

/// Appends a bad line and tells why it must be refused. `millis` is a time at which the log stands, so that the line could not
/// advance any clock even if it were read.
pub(super) fn write(random: &mut Random, millis: i64, out: &mut Vec<u8>) -> Reject {
    let cases: &[(Reject, &[u8])] = &[
        (Reject::Malformed, b"{\"kind\":\"exchange\",\"time\":"),
        (Reject::Malformed, b"GET /api/v1/orders 200"),
        (Reject::Malformed, b"[1,2,3]"),
        (Reject::Malformed, b"{\"kind\":\"exchange\",\"id\":\"\xff\xfe\",\"time\":1}"),
        (
            Reject::UnknownKind,
            br#"{"kind":"trace","id":"x","time":@,"request":{"method":"GET","host":"api.shop.example","path":"/"}}"#,
        ),
        (
            Reject::MissingId,
            br#"{"kind":"request","time":@,"request":{"method":"GET","host":"api.shop.example","path":"/"}}"#,
        ),
        (
            Reject::MissingPart,
            br#"{"kind":"exchange","id":"x","time":@,"response":{"status":200}}"#,
        ),
        (Reject::MissingPart, br#"{"kind":"response","id":"x","time":@}"#),
        (
            Reject::InvalidTime,
            br#"{"kind":"exchange","id":"x","time":"yesterday","request":{"method":"GET","host":"api.shop.example","path":"/"},"response":{"status":200}}"#,
        ),
        (
            Reject::InvalidTime,
            br#"{"kind":"exchange","id":"x","time":"2180-01-01T00:00:00Z","request":{"method":"GET","host":"api.shop.example","path":"/"},"response":{"status":200}}"#,
        ),
        (
            Reject::UnknownZone,
            br#"{"kind":"exchange","id":"x","time":@,"zone":"no-such-zone","request":{"method":"GET","host":"api.shop.example","path":"/"},"response":{"status":200}}"#,
        ),
        (
            Reject::InvalidBody,
            br#"{"kind":"exchange","id":"x","time":@,"request":{"method":"POST","host":"api.shop.example","path":"/","body":"%%%","body_encoding":"base64"},"response":{"status":200}}"#,
        ),
        (
            Reject::InvalidStatus,
            br#"{"kind":"exchange","id":"x","time":@,"request":{"method":"GET","host":"api.shop.example","path":"/"},"response":{"status":700}}"#,
        ),
    ];
    // Most logs break in the same way: cut lines.
    let drawn = if random.per_mille(300) {
        cases.first()
    } else {
        random.pick(cases)
    };
    let Some((reason, text)) = drawn else {
        return Reject::Malformed;
    };
    for byte in *text {
        match byte {
            b'@' => push_number(out, u64::try_from(millis).unwrap_or(0)),
            _ => out.push(*byte),
        }
    }
    *reason
}
