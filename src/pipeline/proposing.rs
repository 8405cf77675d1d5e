//! What a flush asks of the block list: entities that rules list at once, and entities that crossed a threshold.
//!
//! Enters: hits and crossings. Leaves: proposals, whose ids are the same however often the flush is repeated. Expiry is
//! counted from the moment of the decision, in wall time: that is when the gateways begin to refuse. Events that are older
//! than `blocklist.max_age` by then list nobody.

use std::collections::BTreeMap;

use crate::detect::thresholds::{Crossing, Threshold};
use crate::enrich::batch::hits::Hit;
use crate::model::{BlockKey, EventTime, MINUTE_MILLIS, Proposal, Wish};
use crate::policy::Policy;
use crate::publish::blocklist::proposal_id;

/// When it is decided, epoch milliseconds, and how old the newest event may be by then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decided {
    pub(crate) now: i64,
    pub(crate) max_age: Option<i64>,
}

impl Decided {
    /// Until when an entity is listed whose newest event was at `newest`; `None` = that is too long ago. Times end with
    /// the century, and so do entries.
    fn until(self, newest: i64, duration: i64) -> Option<i64> {
        let counts = |age| newest >= self.now.saturating_sub(age);
        let until = EventTime::clamped(self.now.saturating_add(duration)).millis();
        self.max_age.is_none_or(counts).then_some(until)
    }
}

/// The proposals of rules that block; `flush` names the flush among all flushes of the pipeline.
pub(crate) fn by_rules(
    (pipeline, flush): (&str, &str),
    hits: &[Hit],
    policy: &Policy,
    decided: Decided,
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
                expires_at: decided.until(hit.newest, lists.duration)?,
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
    decided: Decided,
) -> Vec<Proposal> {
    let proposal = |crossing: &Crossing| {
        let threshold = thresholds.get(crossing.threshold)?;
        let key = &crossing.key;
        // A minute tells of events up to its end.
        let newest = crossing.minutes.last_key_value();
        let newest = newest.map_or(decided.now, |(at, _)| at.saturating_add(MINUTE_MILLIS));
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
                expires_at: decided.until(newest, threshold.duration)?,
            },
        })
    };
    crossings.iter().filter_map(proposal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BlockKind, Samples};

    #[test]
    fn time_counts_from_the_decision_and_old_events_may_be_left_alone() {
        let mut threshold = Threshold {
            name: "t".to_owned(),
            signal: "refused".to_owned(),
            kind: BlockKind::Ip,
            count: 1,
            within: MINUTE_MILLIS,
            distinct_endpoints: 0,
            distinct_addresses: 0,
            duration: 1_000_000,
            blocks: true,
        };
        let crossing = |minutes: &[i64]| Crossing {
            threshold: 0,
            key: BlockKey::new("z", BlockKind::Ip, "192.0.2.1").unwrap(),
            signals: 1,
            minutes: minutes.iter().map(|at| (*at, 1)).collect(),
            samples: Samples::default(),
        };
        let until = |threshold: &Threshold, minutes: &[i64], now, max_age| {
            let found = (std::slice::from_ref(threshold), &[crossing(minutes)][..]);
            let proposals = by_thresholds("p", found, Decided { now, max_age });
            proposals.first().map(|proposal| match proposal.wish {
                Wish::Block { expires_at, .. } => expires_at,
                Wish::Withdraw => panic!("{proposal:?}"),
            })
        };
        for (minutes, now, max_age, expected) in [
            (&[120_000, 60_000][..], 5_000_000, None, Some(6_000_000)),
            (&[600_000], 150_000, None, Some(1_150_000)),
            // The newest minute ends at 180,000.
            (
                &[120_000, 60_000],
                5_000_000,
                Some(4_820_000),
                Some(6_000_000),
            ),
            (&[120_000, 60_000], 5_000_000, Some(4_819_999), None),
        ] {
            let found = until(&threshold, minutes, now, max_age);
            assert_eq!(found, expected, "{minutes:?} at {now}");
        }
        threshold.duration = i64::MAX;
        let longest = until(&threshold, &[0], 60_000, None).unwrap();
        assert!(
            EventTime::from_millis(longest).is_some(),
            "it is read again"
        );
    }
}
