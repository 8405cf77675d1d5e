//! What a flush asks of the block list: entities that rules list at once, and entities that crossed a threshold.
//!
//! Enters: hits and crossings. Leaves: proposals, whose ids are the same however often the flush is repeated. Expiry is
//! counted from the moment of the decision, in wall time: that is when the gateways begin to refuse.

use std::collections::BTreeMap;

use crate::detect::thresholds::{Crossing, Threshold};
use crate::enrich::batch::hits::Hit;
use crate::model::{BlockKey, Proposal, Wish};
use crate::policy::Policy;
use crate::publish::blocklist::proposal_id;

/// The proposals of rules that block; `flush` names the flush among all flushes of the pipeline.
pub(crate) fn by_rules(
    (pipeline, flush): (&str, &str),
    hits: &[Hit],
    policy: &Policy,
    now: i64,
) -> Vec<Proposal> {
    let proposal = |hit: &Hit| {
        let zone = policy.zones.get(policy.zone_by_id(&hit.zone)?)?;
        let (title, lists) = zone.rules.lists_of(&hit.signal)?;
        let key = BlockKey::new(&hit.zone, hit.kind, &hit.entity).ok()?;
        Some(Proposal {
            id: proposal_id(&[pipeline, flush, &hit.signal, &key.to_string()]),
            answer: false,
            reason: format!("the rule {title:?} fired"),
            wish: Wish::Block {
                rule: Some(hit.signal.clone()),
                evidence: BTreeMap::from([(hit.signal.clone(), hit.count)]),
                samples: hit.samples.ids(),
                expires_at: now.saturating_add(lists.duration),
            },
            key,
        })
    };
    hits.iter().filter_map(proposal).collect()
}

/// The proposals of thresholds that were crossed. The minutes that it tells of make a crossing the same one wherever it is
/// found, and another one than every other.
pub(crate) fn by_thresholds(
    pipeline: &str,
    (thresholds, crossings): (&[Threshold], &[Crossing]),
    now: i64,
) -> Vec<Proposal> {
    let proposal = |crossing: &Crossing| {
        let threshold = thresholds.get(crossing.threshold)?;
        let key = &crossing.key;
        let minutes = crossing.minutes.iter();
        let minutes: Vec<String> = minutes.map(|(at, count)| format!("{at}:{count}")).collect();
        Some(Proposal {
            id: proposal_id(&[
                pipeline,
                "threshold",
                &threshold.name,
                &key.to_string(),
                &minutes.join(","),
            ]),
            answer: false,
            key: key.clone(),
            reason: threshold.reason(),
            wish: Wish::Block {
                rule: Some(threshold.name.clone()),
                evidence: BTreeMap::from([(threshold.signal.clone(), crossing.signals)]),
                samples: crossing.samples.ids(),
                expires_at: now.saturating_add(threshold.duration),
            },
        })
    };
    crossings.iter().filter_map(proposal).collect()
}
