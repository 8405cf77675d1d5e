//! What entities did in one flush: how often each raised a signal, and which exchanges show it.
//!
//! The windows hold the sums; a hit holds what a block-list entry needs besides: ids to look at, and entities that have no
//! window of their own (networks, autonomous systems, user agents).

use std::collections::HashMap;

use crate::model::BlockKind;

/// Ids kept of each hit, the newest: as many as an entry keeps.
const MAX_SAMPLES: usize = 10;
/// Longest id that is kept, bytes; ids of gateways have some 40.
pub(super) const MAX_ID: usize = 200;
/// Most hits of one flush.
const MAX_HITS: usize = 40_000;

/// One entity and one signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Zone id.
    pub zone: String,
    /// Kind of the entity.
    pub kind: BlockKind,
    /// The entity as it is written in the windows.
    pub entity: String,
    /// The signal: a built-in one, or the id of a rule.
    pub signal: String,
    /// Whether a rule that blocks raised it for this kind of entity.
    pub blocks: bool,
    /// How often.
    pub count: u64,
    /// Ids of some of the exchanges, the newest last.
    pub samples: Vec<String>,
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
        (signal, blocks): (&str, bool),
        id: Option<&str>,
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
                blocks,
                count: 0,
                samples: Vec::new(),
            });
            self.found.len() - 1
        } else {
            self.overflowed += 1;
            return;
        };
        let Some(hit) = self.found.get_mut(at) else {
            return;
        };
        hit.blocks |= blocks;
        hit.count += 1;
        let Some(id) = id.filter(|id| !id.is_empty() && id.len() <= MAX_ID) else {
            return;
        };
        if hit.samples.len() == MAX_SAMPLES {
            // The oldest makes room, and lends its memory.
            hit.samples.rotate_left(1);
            if let Some(last) = hit.samples.last_mut() {
                last.clear();
                last.push_str(id);
            }
        } else {
            hit.samples.push(id.to_owned());
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
    fn hits_are_counted_with_their_newest_samples() {
        let mut hits = Hits::default();
        let ip = (BlockKind::Ip, "203.0.113.7");
        for number in 0..13 {
            hits.add("z", ip, ("refused", false), Some(&format!("req-{number}")));
        }
        hits.add("z", ip, ("refused", true), None);
        hits.add("z", ip, ("refused", false), Some(&"x".repeat(201)));
        hits.add("z", (BlockKind::UserAgent, "curl"), ("r", true), Some(""));
        hits.add("y", ip, ("refused", false), None);
        let finished = hits.finish();
        let counts: Vec<_> = finished
            .iter()
            .map(|hit| (hit.zone.as_str(), hit.count, hit.blocks))
            .collect();
        assert_eq!(counts, [("z", 15, true), ("z", 1, true), ("y", 1, false)]);
        assert_eq!(finished[0].samples.len(), 10);
        assert_eq!(finished[0].samples[0], "req-3");
        assert_eq!(finished[0].samples[9], "req-12");
        assert_eq!(hits.finish(), []);
        hits.found = vec![finished[0].clone(); MAX_HITS];
        hits.add("z", ip, ("refused", false), None);
        assert_eq!(hits.overflowed, 1);
    }
}
