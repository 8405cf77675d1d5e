//! The thresholds that hold unless a pipeline file says otherwise. All of them only log.
//!
//! What a limit is set at is a judgement, so each says why. They are meant to be crossed by what no person and no working
//! client does, also where an office shares one address; a limit that fits a site better takes a line in its pipeline file.

use super::{REQUEST, Threshold};
use crate::model::{BlockKind, MINUTE_MILLIS};

/// How long an entity is listed: long enough that an attack has to move on, short enough that a mistake mends itself.
pub const DURATION: i64 = 60 * MINUTE_MILLIS;

/// Name, signal, kind, count, minutes, distinct endpoints, distinct addresses.
type Line = (&'static str, &'static str, BlockKind, u64, i64, u64, u64);

const LINES: [Line; 6] = [
    // Fifty refusals in five minutes are one every six seconds. Somebody who mistypes a password stops after a few; an office
    // of a hundred people behind one address does not mistype that often together.
    ("credential stuffing", "refused", BlockKind::Ip, 50, 5, 0, 0),
    // A token that was never issued does not come from a working client at all: expired ones, and ones of a key that is not
    // known yet, are told apart and do not count. Ten rule out a proxy that truncated a header once.
    ("token forging", "forged_token", BlockKind::Ip, 10, 10, 0, 0),
    // The same forged token again and again, from wherever: by its own hash, never by the subject that it claims.
    (
        "forged token",
        "forged_token",
        BlockKind::Token,
        5,
        10,
        0,
        0,
    ),
    // A client of an old version breaks the schema in the same place each time. Whoever probes goes from endpoint to endpoint.
    ("schema probing", "violation", BlockKind::Ip, 30, 10, 5, 0),
    // Revoked means that somebody decided it must not be used. Once is enough.
    (
        "revoked certificate",
        "revoked_certificate",
        BlockKind::Certificate,
        1,
        1,
        0,
        0,
    ),
    // A telephone changes between two or three addresses while it moves. Ten in twenty minutes are a session that was copied.
    // Sessions are counted in steps of ten minutes, so the window has two of them.
    (
        "session from many addresses",
        REQUEST,
        BlockKind::Session,
        10,
        20,
        0,
        10,
    ),
];

/// The default thresholds.
#[must_use]
pub fn thresholds() -> Vec<Threshold> {
    let threshold = |line: Line| {
        let (name, signal, kind, count, minutes, distinct_endpoints, distinct_addresses) = line;
        Threshold {
            name: name.to_owned(),
            signal: signal.to_owned(),
            kind,
            count,
            within: minutes * MINUTE_MILLIS,
            distinct_endpoints,
            distinct_addresses,
            duration: DURATION,
            blocks: false,
        }
    };
    LINES.into_iter().map(threshold).collect()
}
