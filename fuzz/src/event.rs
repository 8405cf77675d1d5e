//! Log lines of every format: decoding, and judging what was decoded.

use std::sync::LazyLock;

use gatewatch::decode::{ADAPTERS, Limits};
use gatewatch::enrich::Judge;

use super::judging;

static JUDGE: LazyLock<Judge> =
    LazyLock::new(|| judging::judge(judging::zone()).expect("the zone compiles"));

/// One payload.
pub fn run(payload: &[u8]) {
    for (_, adapter) in ADAPTERS {
        if let Ok(record) = adapter(payload, Limits::default()) {
            judging::judged(&JUDGE, &record.exchange);
        }
    }
}
