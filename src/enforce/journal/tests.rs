//! Numbers of changes, their bound, and ends by time.

use super::*;
use crate::enforce::fixtures::entry;
use crate::model::BlockKind;

fn ip(address: &str, until: i64) -> BlockEntry {
    entry(BlockKind::Ip, address, until)
}

/// `+1.1.1.1`, `-1.1.1.1`, `~1.1.1.1` for listed, ended, changed.
fn told(changes: Option<Vec<Arc<Change>>>) -> Option<Vec<String>> {
    let shown = |change: Arc<Change>| {
        let (sign, entry) = match (&change.before, &change.after) {
            (None, Some(entry)) => ('+', entry),
            (Some(entry), None) => ('-', entry),
            (_, Some(entry)) => ('~', entry),
            (None, None) => unreachable!("a change of nothing"),
        };
        format!("{} {sign}{}", change.sequence, entry.key.entity())
    };
    Some(changes?.into_iter().map(shown).collect())
}

#[test]
fn changes_are_numbered_and_kept_for_a_while() {
    let mut journal = Journal::bounded(10, 3);
    assert_eq!(told(journal.since(10)).unwrap(), [""; 0]);
    assert_eq!(told(journal.since(9)), None, "of an earlier process");
    assert_eq!(told(journal.since(11)), None, "of a later one");
    let edits = [
        Edit::Listed(ip("1.1.1.1", 50)),
        Edit::Listed(ip("1.1.1.1", 50)),
        Edit::Ended(ip("9.9.9.9", 0).key),
        Edit::Listed(ip("1.1.1.1", 60)),
    ];
    journal.apply(&edits);
    assert_eq!(
        told(journal.since(10)).unwrap(),
        ["11 +1.1.1.1", "12 ~1.1.1.1"]
    );
    journal.apply(&[
        Edit::Ended(ip("1.1.1.1", 0).key),
        Edit::Listed(ip("2.2.2.2", 70)),
    ]);
    assert_eq!(
        told(journal.since(11)).unwrap(),
        ["12 ~1.1.1.1", "13 -1.1.1.1", "14 +2.2.2.2"]
    );
    assert_eq!(told(journal.since(10)), None, "no longer kept");
    assert_eq!(told(journal.since(14)).unwrap(), [""; 0]);
    assert_eq!(journal.view().sequence(), 14);
}

#[test]
fn entries_end_when_their_time_is_over() {
    let mut journal = Journal::new(0);
    journal.apply(&[
        Edit::Listed(ip("1.1.1.1", 50)),
        Edit::Listed(ip("2.2.2.2", 40)),
        Edit::Listed(ip("2.2.2.2", 60)),
        Edit::Listed(ip("3.3.3.3", 55)),
    ]);
    assert_eq!(journal.next_end(), Some(50));
    journal.expire(49);
    assert_eq!(journal.view().len(), 3);
    journal.expire(55);
    assert_eq!(
        told(journal.since(4)).unwrap(),
        ["5 -1.1.1.1", "6 -3.3.3.3"]
    );
    assert_eq!(journal.next_end(), Some(60));
    journal.apply(&[Edit::Ended(ip("2.2.2.2", 0).key)]);
    assert_eq!(journal.next_end(), None);
    journal.expire(i64::MAX);
    assert_eq!(journal.view().sequence(), 7);
}

#[test]
fn a_whole_list_becomes_its_differences() {
    let mut journal = Journal::new(0);
    journal.replace(vec![ip("1.1.1.1", 50), ip("2.2.2.2", 50)]);
    assert_eq!(
        told(journal.since(0)).unwrap(),
        ["1 +1.1.1.1", "2 +2.2.2.2"]
    );
    journal.replace(vec![ip("2.2.2.2", 70), ip("3.3.3.3", 50)]);
    assert_eq!(
        told(journal.since(2)).unwrap(),
        ["3 -1.1.1.1", "4 ~2.2.2.2", "5 +3.3.3.3"]
    );
    journal.replace(vec![ip("2.2.2.2", 70), ip("3.3.3.3", 50)]);
    assert_eq!(journal.view().sequence(), 5, "the same list is no change");
    assert_eq!(journal.next_end(), Some(50));
}
