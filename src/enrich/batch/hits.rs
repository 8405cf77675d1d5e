//! Whom rules that block have found in one flush: how often, and which exchanges show it.
//!
//! What is listed at once does not wait for the windows; some entities (networks, autonomous systems, user agents) have none.

use std::collections::HashMap;

use crate::model::{BlockKind, Samples};

/// Most hits of one flush.
const MAX_HITS: usize = 40_000;

/// One entity and one rule that blocks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Zone id.
    pub zone: String,
    /// Kind of the entity.
    pub kind: BlockKind,
    /// The entity as it is written in the windows.
    pub entity: String,
    /// Id of the rule.
    pub signal: String,
    /// How often.
    pub count: u64,
    /// Time of the newest exchange, epoch milliseconds.
    pub newest: i64,
    /// Ids of some of the exchanges.
    pub samples: Samples,
}

/// The hits of a flush, in the order in which they were first seen.
#[derive(Debug, Default)]
pub(super) struct Hits {
    known: HashMap<Box<str>, usize, foldhash::fast::RandomState>,
    found: Vec<Hit>,
    key: String,
    pub(super) overflowed: u64,
}

impl Hits {
    pub(super) fn add(
        &mut self,
        zone: &str,
        (kind, entity): (BlockKind, &str),
        signal: &str,
        (seen, id): (i64, Option<&str>),
    ) {
        self.key.clear();
        for part in [zone, kind.as_str(), signal, entity] {
            self.key.push_str(part);
            self.key.push('\n');
        }
        let at = if let Some(at) = self.known.get(self.key.as_str()) {
            *at
        } else if self.found.len() < MAX_HITS {
            self.known
                .insert(self.key.as_str().into(), self.found.len());
            self.found.push(Hit {
                zone: zone.to_owned(),
                kind,
                entity: entity.to_owned(),
                signal: signal.to_owned(),
                count: 0,
                newest: seen,
                samples: Samples::default(),
            });
            self.found.len() - 1
        } else {
            self.overflowed += 1;
            return;
        };
        let Some(hit) = self.found.get_mut(at) else {
            return;
        };
        hit.count += 1;
        hit.newest = hit.newest.max(seen);
        if let Some(id) = id {
            hit.samples.add(id);
        }
    }

    pub(super) fn finish(&mut self) -> Vec<Hit> {
        self.known.clear();
        std::mem::take(&mut self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_counted_with_their_samples() {
        let mut hits = Hits::default();
        let ip = (BlockKind::Ip, "203.0.113.7");
        for at in [5, 9] {
            hits.add("z", ip, "r", (at, Some("req-1")));
        }
        hits.add("z", ip, "r", (7, None));
        hits.add("z", (BlockKind::UserAgent, "curl"), "r", (3, Some("")));
        hits.add("y", ip, "r", (1, None));
        let finished = hits.finish();
        let counts: Vec<_> = finished
            .iter()
            .map(|hit| (hit.zone.as_str(), hit.count, hit.newest, hit.samples.ids()))
            .collect();
        let one = vec!["req-1".to_owned()];
        assert_eq!(
            counts,
            [
                ("z", 3, 9, one),
                ("z", 1, 3, Vec::new()),
                ("y", 1, 1, Vec::new())
            ]
        );
        assert_eq!(hits.finish(), []);
        hits.found = vec![finished[0].clone(); MAX_HITS];
        hits.add("z", ip, "r", (0, None));
        assert_eq!(hits.overflowed, 1);
    }
}
