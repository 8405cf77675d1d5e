//! What thresholds have said, as records of the compacted topic `control`: so that another evaluator says nothing twice, and a
//! withdrawn entry does not come back because a node was restarted. Between evaluators only.
//!
//! ```json
//! {"v":1,"kind":"said","pipeline":"shop","entity":"023e…/ip/203.0.113.7","said":{"token forging":{"1763629500000":12}}}
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::detect::thresholds::Said;
use crate::model::BlockKey;
use crate::publish::CONTROL;
use crate::publish::kafka::Message;

/// Version that is written and understood.
const VERSION: u32 = 1;
/// What keys of these records start with.
const PREFIX: &str = "said/";

#[derive(Serialize, Deserialize)]
struct Wire {
    v: u32,
    kind: String,
    pipeline: String,
    entity: String,
    said: Said,
}

/// What was said about an entity, all of it; nothing = it is forgotten.
#[must_use]
pub fn record(pipeline: &str, key: &BlockKey, said: Option<&Said>) -> Message {
    let wire = said.map(|said| Wire {
        v: VERSION,
        kind: "said".to_owned(),
        pipeline: pipeline.to_owned(),
        entity: key.to_string(),
        said: said.clone(),
    });
    Message {
        topic: CONTROL,
        key: format!("{PREFIX}{pipeline}/{key}"),
        // Maps keyed by strings and numbers always serialize.
        value: wire.map(|wire| serde_json::to_vec(&wire).unwrap_or_default()),
        headers: Vec::new(),
    }
}

/// What the topic holds of this pipeline. What cannot be read is not ours, or of a newer version that has said it.
#[must_use]
pub fn read(pipeline: &str, held: &BTreeMap<String, Vec<u8>>) -> BTreeMap<BlockKey, Said> {
    let ours = held.iter().filter(|(key, _)| key.starts_with(PREFIX));
    ours.filter_map(|(_, value)| {
        let wire: Wire = serde_json::from_slice(value).ok()?;
        let known = wire.v == VERSION && wire.kind == "said" && wire.pipeline == pipeline;
        known.then_some((BlockKey::parse(&wire.entity)?, wire.said))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BlockKind;

    #[test]
    fn records_are_read_back_by_their_own_pipeline() {
        let key = BlockKey::new("z", BlockKind::Ip, "203.0.113.7").unwrap();
        let said = Said::from([("t".to_owned(), BTreeMap::from([(60_000, 5)]))]);
        let message = record("shop", &key, Some(&said));
        assert_eq!(message.key, "said/shop/z/ip/203.0.113.7");
        let held = BTreeMap::from([
            (message.key, message.value.unwrap()),
            ("rule/1".to_owned(), b"{}".to_vec()),
            ("said/shop/x".to_owned(), b"{".to_vec()),
        ]);
        assert_eq!(read("shop", &held), BTreeMap::from([(key.clone(), said)]));
        assert_eq!(read("bank", &held), BTreeMap::new());
        assert_eq!(record("shop", &key, None).value, None);
    }
}
