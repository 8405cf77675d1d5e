//! What a term takes up from the topics: the list as it was published, and the proposals that were applied lately.

use std::collections::{HashSet, VecDeque};

use super::term::Ended;
use super::{Plan, REPLICA_LAG};
use crate::model::BlockEntry;
use crate::publish;
use crate::publish::blocklist::{self as wire, Entry};
use crate::publish::kafka::{Log, Read, read_compacted};

/// Proposals before the position that are remembered, so that a flush that is repeated proposes nothing twice. A flush
/// is repeated right after a crash; this many proposals are hours of a busy list.
const REMEMBERED: u64 = 65_536;
/// Proposals seen lately.
#[derive(Debug, Default)]
pub(super) struct Recent {
    order: VecDeque<String>,
    ids: HashSet<String>,
}

impl Recent {
    /// Whether the id is new.
    pub(super) fn insert(&mut self, id: &str) -> bool {
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() as u64 > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

/// The block list of this pipeline as it was published; entries of other pipelines and entries that cannot be read are left
/// to whoever wrote them.
pub(super) fn entries(plan: &Plan) -> Result<Vec<BlockEntry>, Ended> {
    let held = read_compacted(&plan.cluster, publish::BLOCK_LIST)?;
    let entries = held.iter().filter_map(|(key, record)| {
        let entry = wire::read_entry(&plan.pipeline, key, record);
        if let Err(problem) = &entry {
            tracing::warn!("the block-list entry {key} is not readable: {problem}");
        }
        entry.ok().flatten()
    });
    Ok(entries.collect())
}

/// The proposals just before the position.
pub(super) fn recent(plan: &Plan, first_kept: u64, position: u64) -> Result<Recent, Ended> {
    let mut recent = Recent::default();
    let from = position.saturating_sub(REMEMBERED).max(first_kept);
    if from >= position {
        return Ok(recent);
    }
    let mut log = Log::since(&plan.cluster, publish::PROPOSALS, from)?;
    loop {
        match log.next(REPLICA_LAG)? {
            Read::Record(record) if record.offset >= position => return Ok(recent),
            Read::Record(record) => {
                let value = record.value.unwrap_or_default();
                if let Ok(Entry::Proposal(proposal)) = wire::parse(&plan.pipeline, &value) {
                    recent.insert(&proposal.id);
                }
            }
            Read::End => return Ok(recent),
            Read::Silence => {
                return Err(Ended::Interrupted(
                    "the proposals are not readable".to_owned(),
                ));
            }
        }
    }
}
