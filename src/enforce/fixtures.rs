//! Entries for the tests of this module.

use std::collections::BTreeMap;

use crate::model::{BlockEntry, BlockKey, BlockKind};

/// An enforced entry of zone `z` that ends at `until`.
pub(crate) fn entry(kind: BlockKind, entity: &str, until: i64) -> BlockEntry {
    in_zone("z", kind, entity, until)
}

/// As [`entry`], of another zone.
pub(crate) fn in_zone(zone: &str, kind: BlockKind, entity: &str, until: i64) -> BlockEntry {
    BlockEntry {
        key: BlockKey::new(zone, kind, entity).unwrap(),
        simulated: false,
        reason: "a \"reason\"".to_owned(),
        rule: Some("stuffing".to_owned()),
        evidence: BTreeMap::from([("invalid_token".to_owned(), 12)]),
        samples: vec!["req-1".to_owned()],
        created_at: 1_000,
        updated_at: 2_000,
        expires_at: until,
        revision: 1,
        sequence: 7,
    }
}
