//! Tokens and key sets: the input is a JWK set, a line end, and a token.

use std::sync::LazyLock;

use gatewatch::enrich::Judge;
use gatewatch::policy::objects::ZoneObject;

use super::judging;

static JUDGE: LazyLock<Judge> =
    LazyLock::new(|| judging::judge(judging::zone()).expect("the zone compiles"));

/// One key set and one token.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (keys, token) = text.split_once('\n').unwrap_or(("", text));
    let fields = format!("authorization: Bearer {token}\ncookie: sid={token}; sid=x");
    let exchange = judging::exchange("GET", "/products", &fields);
    judging::judged(&JUDGE, &exchange).expect("the host is in the zone");
    if !keys.is_empty()
        && let Some(judge) = judging::judge(ZoneObject {
            token_configurations: vec![judging::tokens("hostile", keys.as_bytes())],
            session_identifiers: Vec::new(),
            schemas: Vec::new(),
            mtls: Vec::new(),
            ..judging::zone()
        })
    {
        judging::judged(&judge, &exchange);
    }
}
