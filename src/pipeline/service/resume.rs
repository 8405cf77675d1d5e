//! Where a partition goes on: the committed offset, its metadata and the ledger → first offset, join state, and the
//! flush that has to be repeated. Pure; every sentence of design section 6 about a new owner is a branch here.

use super::mark::{Intent, Mark};
use crate::config::{Gap, Start};
use crate::correlate::JoinState;
use crate::model::EventTime;
use crate::source::kafka::Assignment;
use crate::store::clickhouse::LedgerRow;

/// Where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Everything before this offset is counted.
    pub first: u64,
    /// State of the join at `first`; reading starts at its `from`.
    pub join: JoinState,
    /// The flush whose writing may have begun: it is repeated with exactly this end.
    pub repeat: Option<Intent>,
    /// Records that are gone and were never counted, and whether halves that waited are gone.
    pub lost: Option<Lost>,
    /// Something an operator should know.
    pub note: Option<&'static str>,
}

/// What retention removed before it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// First offset that is gone.
    pub from: u64,
    /// First offset that is left.
    pub to: u64,
    /// Records among them that were never counted; the others are halves that waited for theirs.
    pub records: u64,
}

/// Why a partition cannot go on by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// Records are gone and `on_gap = "fail"`.
    Gap(Lost),
    /// The position lies behind the end of the partition: the topic was made anew.
    Beyond {
        /// Position.
        position: u64,
        /// End.
        high: u64,
    },
    /// The ledger row that holds the join state of this offset is missing.
    NoLedger(u64),
}

/// Decides where a partition goes on.
///
/// # Errors
/// What only an operator can decide.
pub fn resume(
    assignment: &Assignment,
    ledger: Option<&LedgerRow>,
    start: Start,
    on_gap: Gap,
) -> Result<Resume, Stuck> {
    let mut resume = position(assignment, ledger, start)?;
    let position = resume
        .repeat
        .map_or(resume.first, |intent| intent.end.max(resume.first));
    if position > assignment.high {
        return Err(Stuck::Beyond {
            position,
            high: assignment.high,
        });
    }
    if resume.join.from < assignment.low {
        let lost = Lost {
            from: resume.join.from,
            to: assignment.low,
            records: assignment.low.saturating_sub(resume.first),
        };
        if on_gap == Gap::Fail {
            return Err(Stuck::Gap(lost));
        }
        resume.lost = Some(lost);
        resume.join.from = assignment.low;
        // A repeated flush keeps its range, so that what was written of it stays as it is.
        if resume.repeat.is_none() {
            resume.first = resume.first.max(assignment.low);
        }
    }
    Ok(resume)
}

fn position(
    assignment: &Assignment,
    ledger: Option<&LedgerRow>,
    start: Start,
) -> Result<Resume, Stuck> {
    let fresh = |first: u64, note| Resume {
        first,
        join: JoinState {
            from: first,
            ..JoinState::default()
        },
        repeat: None,
        lost: None,
        note,
    };
    let Some((offset, metadata)) = &assignment.committed else {
        return Ok(match ledger {
            Some(row) => from_ledger(
                row,
                Some("no offset is committed; going on from the ledger"),
            ),
            None if start == Start::Latest => fresh(assignment.high, None),
            None => fresh(assignment.low, None),
        });
    };
    let mark = Mark::decode(metadata);
    match ledger {
        // The flush was done, only its commit is missing; or somebody moved the offset back.
        Some(row) if row.range.last > *offset => {
            let note = mark.is_none().then_some(
                "the group's offset was moved back; what the ledger knows is not counted again",
            );
            Ok(from_ledger(row, note))
        }
        Some(row) if row.range.last == *offset => {
            let note = mark.is_none().then_some(
                "the committed metadata is not ours; a flush that was begun and not finished cannot be recognised",
            );
            let mut resume = from_ledger(row, note);
            // A drain adds no record, so its row ends where the row before it does.
            let intent = mark.and_then(|mark| mark.intent);
            resume.repeat =
                intent.filter(|intent| intent.end > *offset || (intent.drain && !row.range.drain));
            Ok(resume)
        }
        _ => match mark {
            Some(mark) if mark.closed_elsewhere => Err(Stuck::NoLedger(*offset)),
            Some(mark) => Ok(Resume {
                first: *offset,
                join: mark.join,
                repeat: mark.intent,
                lost: None,
                note: None,
            }),
            None => Ok(fresh(
                *offset,
                Some("the group's offset was set by somebody else; starting there"),
            )),
        },
    }
}

fn from_ledger(row: &LedgerRow, note: Option<&'static str>) -> Resume {
    Resume {
        first: row.range.last,
        join: JoinState {
            from: row.from,
            clock: row.clock.and_then(EventTime::from_nanos),
            closed: row.closed.clone(),
        },
        repeat: None,
        lost: None,
        note,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::kafka::{Lease, TopicPartition};
    use crate::store::clickhouse::FlushRange;

    fn assignment(committed: Option<(u64, &Mark)>) -> Assignment {
        Assignment {
            lease: Lease {
                at: TopicPartition {
                    topic: "t".into(),
                    partition: 0,
                },
                epoch: 1,
            },
            committed: committed.map(|(offset, mark)| (offset, mark.encode().unwrap())),
            low: 10,
            high: 1_000,
        }
    }

    fn row(first: u64, last: u64, drain: bool, from: u64) -> LedgerRow {
        LedgerRow {
            range: FlushRange {
                topic: "t".to_owned(),
                partition: 0,
                first,
                last,
                drain,
            },
            from,
            clock: None,
            greatest: None,
            closed: vec![],
            minutes: vec![],
            all_minutes: false,
            records: 0,
            exchanges: 0,
            rejected: 0,
            blocks: 1,
            stored_at: 0,
        }
    }

    fn mark(from: u64, intent: Option<(u64, bool)>) -> Mark {
        Mark {
            join: JoinState {
                from,
                ..JoinState::default()
            },
            closed_elsewhere: false,
            intent: intent.map(|(end, drain)| Intent { end, drain, at: 9 }),
        }
    }

    #[test]
    fn every_case_of_a_new_owner() {
        let (plain, intent) = (mark(90, None), mark(90, Some((200, false))));
        let drain = mark(100, Some((100, true)));
        for (committed, ledger, first, from, repeat) in [
            // Nobody was here before.
            (None, None, 10, 10, None),
            // No offset (expired), but a ledger.
            (None, Some(row(50, 100, false, 95)), 100, 95, None),
            // An ordinary restart.
            (
                Some((100, &plain)),
                Some(row(50, 100, false, 90)),
                100,
                90,
                None,
            ),
            // Died between intent and ledger: exactly the same range again.
            (
                Some((100, &intent)),
                Some(row(50, 100, false, 90)),
                100,
                90,
                Some((200, false)),
            ),
            // The first flush of all, died before the ledger.
            (Some((100, &intent)), None, 100, 90, Some((200, false))),
            // Died between ledger and commit.
            (
                Some((100, &intent)),
                Some(row(100, 200, false, 150)),
                200,
                150,
                None,
            ),
            // A drain that was not written, and one that was.
            (
                Some((100, &drain)),
                Some(row(50, 100, false, 100)),
                100,
                100,
                Some((100, true)),
            ),
            (
                Some((100, &drain)),
                Some(row(100, 100, true, 100)),
                100,
                100,
                None,
            ),
            // Somebody moved the offset back: nothing is counted twice.
            (
                Some((50, &plain)),
                Some(row(50, 100, false, 95)),
                100,
                95,
                None,
            ),
        ] {
            let found = resume(
                &assignment(committed),
                ledger.as_ref(),
                Start::Earliest,
                Gap::Fail,
            );
            let found = found.unwrap();
            let repeated = found.repeat.map(|intent| (intent.end, intent.drain));
            assert_eq!(
                (found.first, found.join.from, repeated),
                (first, from, repeat),
                "{committed:?}"
            );
        }
    }

    #[test]
    fn latest_starts_at_the_end() {
        let found = resume(&assignment(None), None, Start::Latest, Gap::Fail).unwrap();
        assert_eq!(found.first, 1_000);
    }

    #[test]
    fn lost_records_are_a_fault_or_are_counted() {
        let early = mark(4, None);
        let assignment = assignment(Some((6, &early)));
        let lost = Lost {
            from: 4,
            to: 10,
            records: 4,
        };
        assert_eq!(
            resume(&assignment, None, Start::Earliest, Gap::Fail),
            Err(Stuck::Gap(lost))
        );
        let found = resume(&assignment, None, Start::Earliest, Gap::Continue).unwrap();
        assert_eq!(
            (found.first, found.join.from, found.lost),
            (10, 10, Some(lost))
        );
    }

    #[test]
    fn what_only_an_operator_can_decide() {
        let plain = mark(2_000, None);
        assert_eq!(
            resume(
                &assignment(Some((2_000, &plain))),
                None,
                Start::Earliest,
                Gap::Continue
            ),
            Err(Stuck::Beyond {
                position: 2_000,
                high: 1_000
            })
        );
        let mut long = mark(90, None);
        long.join.closed = (0..5_000).map(|n| 1_000_000_000 + n * 1_000).collect();
        assert_eq!(
            resume(
                &assignment(Some((100, &long))),
                None,
                Start::Earliest,
                Gap::Fail
            ),
            Err(Stuck::NoLedger(100))
        );
    }
}
