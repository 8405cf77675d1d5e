//! Thresholds over what all nodes stored: proposed once, applied through the log, and remembered by the next evaluator.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array};
use gatewatch::clock;
use gatewatch::detect::thresholds::Threshold;
use gatewatch::model::{BlockEntry, BlockKey, BlockKind, Proposal, Wish};
use gatewatch::publish;
use gatewatch::publish::blocklist::read_entry;
use gatewatch::publish::kafka::{Log, read_compacted};

use super::{MINUTE, Memory, PATIENCE, World};

impl Memory {
    /// Merged rows of `entity_windows`.
    pub(super) fn entities(&self, table: &str, keep: impl Fn(i64) -> bool) -> Vec<RecordBatch> {
        let mut minutes: BTreeMap<(i64, &str), u64> = BTreeMap::new();
        for (minute, address, requests) in self.refused.lock().unwrap().iter() {
            *minutes.entry((minute * MINUTE, address)).or_default() += requests;
        }
        minutes.retain(|(minute, _), _| keep(*minute));
        if table != "entity_windows" || minutes.is_empty() {
            return Vec::new();
        }
        let times = TimestampMillisecondArray::from_iter_values(minutes.keys().map(|key| key.0));
        let same = |text: &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(minutes.keys().map(|_| text)))
        };
        let addresses = StringArray::from_iter_values(minutes.keys().map(|key| key.1));
        let requests = UInt64Array::from_iter_values(minutes.values().copied());
        let columns = [
            (
                "window_start",
                Arc::new(times.with_timezone("UTC")) as ArrayRef,
            ),
            ("zone", same("z")),
            ("kind", same("ip")),
            ("entity", Arc::new(addresses) as ArrayRef),
            ("signal", same("refused")),
            ("requests", Arc::new(requests) as ArrayRef),
        ];
        vec![RecordBatch::try_from_iter(columns).unwrap()]
    }
}

impl World {
    /// A flush with refused requests.
    fn refuses(&self, minute: i64, address: &'static str, requests: u64) {
        let mut refused = self.memory.refused.lock().unwrap();
        refused.push((minute, address, requests));
        drop(refused);
        self.memory
            .flush(0, minute, &[(minute, "GET", "absent", requests)]);
    }

    fn entries(&self) -> BTreeMap<String, BlockEntry> {
        let held = read_compacted(&self.plan.cluster, publish::BLOCK_LIST).unwrap();
        let read = |(key, record): (&String, &Vec<u8>)| {
            let entry = read_entry(&self.plan.pipeline, key, record).unwrap();
            (key.clone(), entry.unwrap())
        };
        held.iter().map(read).collect()
    }

    /// Looks at the list until it is as wanted. The time is bounded by the evaluator's own pace.
    fn wait_until(&self, what: &str, wanted: impl Fn(&BTreeMap<String, BlockEntry>) -> bool) {
        let watch = clock::Stopwatch::start();
        while watch.elapsed() < PATIENCE {
            if wanted(&self.entries()) {
                return;
            }
        }
        panic!("{what}: {:?}", self.entries());
    }
}

const KEY: &str = "z/ip/203.0.113.7";

fn refused(entries: &BTreeMap<String, BlockEntry>) -> Option<u64> {
    entries.get(KEY)?.evidence.get("refused").copied()
}

#[test]
fn thresholds_are_said_once_whoever_evaluates() {
    let Some(mut world) = World::real("thresholds_are_said_once_whoever_evaluates") else {
        return;
    };
    world.plan.thresholds = vec![Threshold {
        name: "stuffing".to_owned(),
        signal: "refused".to_owned(),
        kind: BlockKind::Ip,
        count: 10,
        within: 5 * MINUTE,
        distinct_endpoints: 0,
        distinct_addresses: 0,
        // Its minutes are of 1970.
        duration: 36_500 * 24 * 60 * MINUTE,
        blocks: true,
    }];
    world.refuses(101, "203.0.113.8", 9);
    world.refuses(101, "203.0.113.7", 6);
    let running = world.evaluate();
    world.refuses(103, "203.0.113.7", 5);
    world.wait_until("crossed", |entries| refused(entries) == Some(11));
    let entry = world.entries().remove(KEY).unwrap();
    assert_eq!(entry.rule.as_deref(), Some("stuffing"));
    assert!(!entry.simulated);
    // More of it extends the entry by what is new.
    world.refuses(104, "203.0.113.7", 2);
    world.wait_until("extended", |entries| refused(entries) == Some(13));

    // Withdrawn, and not listed again by an evaluator that begins anew, which finds the same sums.
    let mut log = Log::tail(&world.plan.cluster, publish::PROPOSALS).unwrap();
    let withdraw = Proposal {
        id: "w".to_owned(),
        answer: true,
        key: BlockKey::parse(KEY).unwrap(),
        reason: "-".to_owned(),
        wish: Wish::Withdraw,
    };
    world.propose(&[&withdraw]);
    assert_eq!(world.answer(&mut log, "w").outcome, "withdrawn");
    running.stop();
    let running = world.evaluate();
    world.refuses(104, "203.0.113.9", 30);
    world.wait_until("another", |entries| {
        entries.contains_key("z/ip/203.0.113.9")
    });
    assert_eq!(refused(&world.entries()), None, "it stays withdrawn");
    // Until it goes on.
    world.refuses(105, "203.0.113.7", 4);
    world.wait_until("again", |entries| refused(entries) == Some(4));
    running.stop();
    let keys: Vec<String> = world.entries().into_keys().collect();
    assert_eq!(keys, [KEY, "z/ip/203.0.113.9"], "nine are not ten");
}
