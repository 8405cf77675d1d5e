//! What a flush asks of the block list: entities that rules list at once, and entities that crossed a threshold.
//!
//! Enters: hits and crossings. Leaves: proposals, whose ids are the same however often the flush is repeated. Expiry is
//! counted from the newest event, so the same events list the same entities until the same time whenever they are read:
//! yesterday's log, or a backlog after an outage, refuses nobody whose time is over by now.

use std::collections::BTreeMap;

use crate::detect::thresholds::{Crossing, Threshold};
use crate::enrich::batch::hits::Hit;
use crate::model::{BlockKey, EventTime, MINUTE_MILLIS, Proposal, Wish};
use crate::policy::Policy;
use crate::publish::blocklist::proposal_id;

/// Until when an entity is listed whose newest event was at `at`. Nothing counts from later than now: a log whose clock
/// runs ahead would list for longer than was asked. Times end with the century, and so do entries.
fn until(at: i64, duration: i64, now: i64) -> i64 {
    EventTime::clamped(at.min(now).saturating_add(duration)).millis()
}

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
                expires_at: until(hit.newest, lists.duration, now),
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
        // A minute tells of events up to its end.
        let newest = crossing.minutes.last_key_value();
        let newest = newest.map_or(now, |(at, _)| at.saturating_add(MINUTE_MILLIS));
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
                expires_at: until(newest, threshold.duration, now),
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
    fn time_counts_from_the_newest_event_and_never_from_later_than_now() {
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
        for (minutes, now, expected) in [
            (&[120_000, 60_000][..], 5_000_000, 180_000 + 1_000_000),
            (&[120_000], 150_000, 150_000 + 1_000_000),
            (&[600_000], 150_000, 150_000 + 1_000_000),
        ] {
            let found = (std::slice::from_ref(&threshold), &[crossing(minutes)][..]);
            let proposals = by_thresholds("p", found, now);
            let Wish::Block { expires_at, .. } = proposals[0].wish else {
                panic!("{proposals:?}");
            };
            assert_eq!(expires_at, expected, "{minutes:?} at {now}");
        }
        threshold.duration = i64::MAX;
        let found = (std::slice::from_ref(&threshold), &[crossing(&[0])][..]);
        let Wish::Block { expires_at, .. } = by_thresholds("p", found, 60_000)[0].wish else {
            panic!("it is listed");
        };
        assert!(
            EventTime::from_millis(expires_at).is_some(),
            "a time that is read again"
        );
    }
}
