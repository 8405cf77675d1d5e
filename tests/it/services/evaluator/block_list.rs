//! The block list: its one writer, its one history, and the command.

use std::collections::BTreeMap;
use std::process::Output;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gatewatch::clock;
use gatewatch::detect::blocklist;
use gatewatch::model::{BlockKey, BlockKind, Network, Proposal, Wish};
use gatewatch::publish;
use gatewatch::publish::blocklist::{Answer, Entry, parse, proposal, read_entry};
use gatewatch::publish::kafka::{
    Log, Message, Outbox, Position, Read, WriteError, Writer, read_compacted,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{MINUTE, PATIENCE, World};
use crate::command::output;

impl World {
    /// Waits for the outcome of a proposal.
    pub(super) fn answer(&self, log: &mut Log, id: &str) -> Answer {
        loop {
            match log.next(PATIENCE).unwrap() {
                Read::Record(record) => {
                    let entry = parse(&self.plan.pipeline, &record.value.unwrap());
                    if let Ok(Entry::Outcome(answer)) = entry
                        && answer.proposal == id
                    {
                        return answer;
                    }
                }
                Read::End => {}
                Read::Silence => panic!("no answer to {id}"),
            }
        }
    }

    pub(super) fn propose(&self, proposals: &[&Proposal]) {
        let messages: Vec<_> = proposals
            .iter()
            .map(|sent| proposal(&self.plan.pipeline, sent))
            .collect();
        self.send(&messages);
    }

    pub(super) fn send(&self, messages: &[Message]) {
        let outbox = Outbox::open(&self.plan.cluster).unwrap();
        self.runtime.block_on(outbox.write(messages)).unwrap();
    }

    /// Key → (revision, requests) of the block list.
    fn listed(&self) -> BTreeMap<String, (u64, u64)> {
        let held = read_compacted(&self.plan.cluster, publish::BLOCK_LIST).unwrap();
        held.iter()
            .map(|(key, record)| {
                let entry = read_entry(&self.plan.pipeline, key, record)
                    .unwrap()
                    .unwrap();
                let requests = entry.evidence.get("requests").copied().unwrap_or_default();
                (key.clone(), (entry.revision, requests))
            })
            .collect()
    }
}

pub(super) fn wish(id: &str, entity: &str, lasts: i64) -> Proposal {
    Proposal {
        id: id.to_owned(),
        answer: true,
        key: BlockKey::new("z", BlockKind::Ip, entity).unwrap(),
        reason: "a test".to_owned(),
        wish: Wish::Block {
            rule: None,
            evidence: BTreeMap::from([("requests".to_owned(), 2)]),
            samples: Vec::new(),
            expires_at: clock::now_millis() + lasts,
        },
    }
}

#[test]
fn the_block_list_has_one_writer_and_one_history() {
    let Some(world) = World::real("the_block_list_has_one_writer_and_one_history") else {
        return;
    };
    let mut log = Log::tail(&world.plan.cluster, publish::PROPOSALS).unwrap();
    let hour = 60 * MINUTE;
    let (one, two) = (
        wish("1", "203.0.113.1", hour),
        wish("2", "203.0.113.2", hour),
    );
    let brief = wish("3", "203.0.113.3", 20_000);
    let allowed = wish("4", "192.0.2.9", hour);
    let garbage = Message {
        topic: publish::PROPOSALS,
        key: String::new(),
        value: Some(b"{\"v\":1".to_vec()),
        headers: Vec::new(),
    };
    world.send(&[garbage]);
    // The second one is sent twice, as after a crash of its sender.
    world.propose(&[&one, &two, &two, &brief, &allowed]);
    let first = world.evaluate();
    let answer = world.answer(&mut log, "1");
    assert_eq!(
        (answer.outcome.as_str(), answer.simulated),
        ("added", Some(false))
    );
    assert_eq!(world.answer(&mut log, "4").outcome, "allowed");
    assert_eq!(world.listed()["z/ip/203.0.113.2"], (1, 2), "counted once");
    let withdraw = Proposal {
        id: "5".to_owned(),
        wish: Wish::Withdraw,
        ..one.clone()
    };
    world.propose(&[&withdraw]);
    assert_eq!(world.answer(&mut log, "5").outcome, "withdrawn");
    let counters = first.counters.clone();
    first.stop();
    assert_eq!(counters.applied.load(Ordering::Relaxed), 4);
    assert_eq!(counters.refused.load(Ordering::Relaxed), 2);
    // A sender repeats its proposal of an entry that was withdrawn; nothing comes of it, after a take-over either.
    let again = wish("6", "203.0.113.2", 2 * hour);
    world.propose(&[&one, &two, &again]);
    let second = world.evaluate();
    assert_eq!(world.answer(&mut log, "6").outcome, "extended");
    // The brief one ends by wall time; its tombstone is the newest record then.
    let mut entries = Log::whole(&world.plan.cluster, publish::BLOCK_LIST).unwrap();
    loop {
        match entries.next(PATIENCE).unwrap() {
            Read::Record(record) if record.key == "z/ip/203.0.113.3" && record.value.is_none() => {
                break;
            }
            Read::Silence => panic!("nothing ends"),
            _ => {}
        }
    }
    let expected = [("z/ip/203.0.113.2".to_owned(), (2, 4))];
    assert_eq!(world.listed(), BTreeMap::from(expected));
    second.stop();
}

#[test]
fn pipelines_that_share_a_topic_leave_each_others_entries_alone() {
    let Some(shop) = World::real("pipelines_that_share_a_topic_leave_each_others_entries_alone")
    else {
        return;
    };
    let mut log = Log::tail(&shop.plan.cluster, publish::PROPOSALS).unwrap();
    let held = |entity: &str| {
        let mut held = read_compacted(&shop.plan.cluster, publish::BLOCK_LIST).unwrap();
        held.remove(&format!("z/ip/{entity}"))
    };
    shop.propose(&[&wish("1", "203.0.113.1", 60 * MINUTE)]);
    let running = shop.evaluate();
    assert_eq!(shop.answer(&mut log, "1").outcome, "added");
    running.stop();
    let before = held("203.0.113.1").unwrap();
    // The other one enforces nothing, allows the entity and has room for one entry.
    let mut bank = World::on(shop.plan.cluster.brokers.clone(), None, "unused");
    bank.plan.pipeline = "bank".to_owned();
    bank.plan
        .cluster
        .prefix
        .clone_from(&shop.plan.cluster.prefix);
    bank.plan.group = format!("bank.{}", shop.plan.group);
    bank.plan.rules = blocklist::Rules {
        enforce: false,
        allow: vec![Network::parse("203.0.113.1/32").unwrap()],
        max: 1,
        log_only: std::collections::BTreeSet::new(),
    };
    bank.propose(&[&wish("2", "203.0.113.2", 60 * MINUTE)]);
    let running = bank.evaluate();
    let answer = bank.answer(&mut log, "2");
    assert_eq!(
        (answer.outcome.as_str(), answer.simulated),
        ("added", Some(true))
    );
    running.stop();
    assert_eq!(held("203.0.113.1"), Some(before));
    assert!(held("203.0.113.2").is_some());
}

#[test]
fn a_stale_writer_cannot_revive_a_withdrawn_entry() {
    let Some(world) = World::real("a_stale_writer_cannot_revive_a_withdrawn_entry") else {
        return;
    };
    let cluster = &world.plan.cluster;
    let member: BaseConsumer = cluster
        .reader()
        .set("group.id", &world.plan.group)
        .create()
        .unwrap();
    member
        .subscribe(&[&cluster.topic(publish::PROPOSALS)])
        .unwrap();
    let mut rounds = 0;
    while member.assignment().unwrap().count() == 0 {
        rounds += 1;
        assert!(rounds < 600, "the group is never joined");
        member.poll(Duration::from_millis(100));
    }
    let position = Position {
        topic: cluster.topic(publish::PROPOSALS),
        offset: 0,
        metadata: String::new(),
    };
    let entry = |value: Option<&str>| Message {
        topic: publish::BLOCK_LIST,
        key: "z/ip/203.0.113.1".to_owned(),
        value: value.map(|text| text.as_bytes().to_vec()),
        headers: Vec::new(),
    };
    let identity = member.group_metadata().unwrap();
    let open = || Writer::open(cluster, "shop", &world.plan.group).unwrap();
    let stale = open();
    stale
        .write(&[entry(Some("listed"))], &position, &identity)
        .unwrap();
    // It wants to write on, but somebody else took the pen and withdrew the entry. Its open transaction ends with that.
    let dying: BaseProducer = cluster
        .reader()
        .set("transactional.id", format!("{}.shop", world.plan.group))
        .create()
        .unwrap();
    dying.init_transactions(PATIENCE).unwrap();
    dying.begin_transaction().unwrap();
    let topic = cluster.topic(publish::BLOCK_LIST);
    let record = BaseRecord::to(&topic)
        .key("z/ip/203.0.113.2")
        .payload("unfinished");
    dying.send(record).map_err(|(error, _)| error).unwrap();
    dying.flush(PATIENCE).unwrap();
    let fresh = open();
    fresh.write(&[entry(None)], &position, &identity).unwrap();
    let error = stale
        .write(&[entry(Some("revived"))], &position, &identity)
        .unwrap_err();
    assert!(matches!(error, WriteError::Fenced(_)), "{error:?}");
    let held = || read_compacted(cluster, publish::BLOCK_LIST).unwrap();
    assert_eq!(held(), BTreeMap::new());
    // Nor can one write whose member left the group, though its producer is the newest.
    member.unsubscribe();
    drop(member);
    let error = fresh
        .write(&[entry(Some("revived"))], &position, &identity)
        .unwrap_err();
    assert!(matches!(error, WriteError::Fenced(_)), "{error:?}");
    assert_eq!(held(), BTreeMap::new());
}

/// A pipeline file for the command, with the world's topics.
fn pipeline(world: &World, folder: &std::path::Path) -> String {
    let path = folder.join("pipeline.toml");
    let cluster = &world.plan.cluster;
    let text = format!(
        "name = \"shop\"\n[source]\nkind = \"kafka\"\nbrokers = \"{brokers}\"\ntopics = [\"events\"]\n\
         [store]\nkind = \"clickhouse\"\nurl = \"http://127.0.0.1:1\"\n\
         [publish]\nkind = \"kafka\"\nprefix = \"{prefix}\"\n\
         [privacy]\nhash_key = {{ file = \"key\" }}\n\
         [[zones]]\nid = \"z\"\nname = \"shop.example\"\nhosts = [\"api.shop.example\"]\n",
        brokers = cluster.brokers,
        prefix = cluster.prefix,
    );
    std::fs::write(folder.join("key"), "0123456789abcdef0123456789abcdef").unwrap();
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn the_command_waits_for_its_outcome() {
    let Some(world) = World::real("the_command_waits_for_its_outcome") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = pipeline(&world, folder.path());
    let run = |arguments: &[&str]| said(&output(&[&["blocklist", &file], arguments].concat()));
    let add = |entity: &str, wait: &str| {
        let what = ["--kind", "ip", "--entity", entity, "--for", "1h"];
        let why = ["--reason", "a\u{7} test", "--wait", wait];
        run(&[&["add"], &what[..], &why[..]].concat())
    };
    let (code, _, errors) = add("203.0.113.9", "1s");
    assert_eq!(code, Some(1), "{errors}");
    assert!(
        errors.contains("no evaluator answered within 1s"),
        "{errors}"
    );
    let (code, shown, _) = run(&["show"]);
    assert_eq!((code, shown.as_str()), (Some(0), "nothing is listed\n"));
    // What was proposed while nobody evaluated is applied first.
    let running = world.evaluate();
    let (code, shown, errors) = add("203.0.113.10", "60s");
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        shown.starts_with("z/ip/203.0.113.10 is listed until 20"),
        "{shown}"
    );
    let (code, _, errors) = add("192.0.2.77", "60s");
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("blocklist.allow names it"), "{errors}");
    let (_, shown, _) = run(&["show", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let entities = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["entity"].clone());
    assert_eq!(
        entities.collect::<Vec<_>>(),
        ["203.0.113.10", "203.0.113.9"]
    );
    assert_eq!(listed[0]["reason"], "a\u{7} test");
    let (_, shown, _) = run(&["show"]);
    assert!(
        shown.contains("a\\u{7} test") && !shown.contains('\u{7}'),
        "{shown}"
    );
    let gone = [
        "withdraw",
        "--kind",
        "ip",
        "--entity",
        "203.0.113.10",
        "--reason",
        "-",
    ];
    let (code, shown, errors) = run(&gone);
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(shown, "z/ip/203.0.113.10 is no longer listed\n");
    running.stop();
    for (kind, entity, problem) in [
        ("ip", "300.1.1.1", "is not an IP address"),
        ("session", "sid=secret", "is not the keyed hash"),
        ("planet", "mars", "one of ip, cidr"),
    ] {
        let arguments = [
            "withdraw", "--kind", kind, "--entity", entity, "--reason", "-",
        ];
        let (code, _, errors) = run(&arguments);
        assert_eq!(code, Some(64), "{errors}");
        assert!(errors.contains(problem), "{errors}");
    }
}
