//! The feed of a process follows the topic: what was there, what is added, what ends, and nothing of others.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gatewatch::detect::blocklist::{Edit, Outcome};
use gatewatch::enforce::Asked;
use gatewatch::model::{BlockEntry, BlockKey, BlockKind, Proposal, Wish};
use gatewatch::pipeline::feeding::follow;
use gatewatch::publish;
use gatewatch::publish::blocklist::decided;
use gatewatch::publish::feed::Feed;
use gatewatch::publish::kafka::{Log, Message};
use gatewatch::telemetry::Telemetry;

use super::block_list::wish;
use super::{MINUTE, PATIENCE, World};

/// Whether the feed refuses an address now.
fn refuses(feed: &Feed, address: &str) -> bool {
    let asked = Asked {
        zone: "z",
        address: address.parse::<IpAddr>().ok(),
        ..Asked::default()
    };
    let now = gatewatch::clock::now_millis();
    feed.view().refuses(&asked, now).is_some()
}

/// Whether the feed refuses an address, once `expected` or when patience ends.
fn settles(world: &World, feed: &Feed, address: &str, expected: bool) -> bool {
    let mut told = feed.subscribe();
    let wait = async {
        while refuses(feed, address) != expected {
            told.changed().await.unwrap();
        }
    };
    let _ = world
        .runtime
        .block_on(async { tokio::time::timeout(PATIENCE, wait).await });
    refuses(feed, address) == expected
}

#[test]
fn a_feed_follows_the_topic_of_the_list() {
    let Some(world) = World::real("a_feed_follows_the_topic_of_the_list") else {
        return;
    };
    let mut log = Log::tail(&world.plan.cluster, publish::PROPOSALS).unwrap();
    let (first, second) = (
        wish("1", "203.0.113.1", 60 * MINUTE),
        wish("2", "203.0.113.2", 60 * MINUTE),
    );
    world.propose(&[&first]);
    let evaluator = world.evaluate();
    assert_eq!(world.answer(&mut log, "1").outcome, "added");

    let (feed, stop) = (Feed::new(), Arc::new(AtomicBool::new(false)));
    let telemetry = Telemetry::default();
    assert!(!feed.loaded());
    let follower = {
        let (plan, feed, stop) = (world.plan.clone(), feed.clone(), Arc::clone(&stop));
        let telemetry = telemetry.clone();
        std::thread::spawn(move || follow(plan, feed, telemetry, stop))
    };
    let loaded = async { tokio::time::timeout(PATIENCE, feed.wait_loaded()).await };
    world.runtime.block_on(loaded).expect("the list is read");
    assert!(refuses(&feed, "203.0.113.1"), "what was there");
    world.propose(&[&second]);
    assert!(settles(&world, &feed, "203.0.113.2", true), "what is added");

    // Another pipeline's entry under a key of its own is nobody's here, whatever it holds.
    let foreign = Message {
        topic: publish::BLOCK_LIST,
        key: "z/ip/203.0.113.9".to_owned(),
        value: Some(br#"{"source":"/gatewatch/another","data":["?"]}"#.to_vec()),
        headers: Vec::new(),
    };
    world.send(&[foreign]);
    let withdraw = Proposal {
        id: "3".to_owned(),
        wish: Wish::Withdraw,
        ..first
    };
    world.propose(&[&withdraw]);
    assert!(settles(&world, &feed, "203.0.113.1", false), "what ends");
    assert!(settles(&world, &feed, "203.0.113.9", false));
    assert!(settles(&world, &feed, "203.0.113.2", true));
    stop.store(true, Ordering::Relaxed);
    follower.join().unwrap();
    evaluator.stop();
}

/// Whether the metric of the list's age is there and as wanted, once it is or when patience ends.
fn stale(telemetry: &Telemetry, wanted: impl Fn(u64) -> bool) -> bool {
    let age = || {
        let text = telemetry.metrics.encode();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("gatewatch_blocklist_stale_seconds "));
        line.and_then(|age| age.parse().ok())
    };
    let watch = gatewatch::clock::Stopwatch::start();
    while !age().is_some_and(&wanted) && watch.elapsed() < PATIENCE {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    age().is_some_and(wanted)
}

#[test]
fn an_outage_of_the_cluster_leaves_the_list_as_it_was_and_shows() {
    let world = World::mocked();
    let listed = |entity: &str| {
        let entry = BlockEntry {
            key: BlockKey::new("z", BlockKind::Ip, entity).unwrap(),
            simulated: false,
            reason: "a test".to_owned(),
            rule: None,
            evidence: std::collections::BTreeMap::new(),
            samples: Vec::new(),
            created_at: 0,
            updated_at: 0,
            expires_at: gatewatch::clock::now_millis() + 60 * MINUTE,
            revision: 1,
            sequence: 1,
        };
        decided(
            &world.plan.pipeline,
            "1",
            Outcome::Added,
            &Edit::Listed(entry),
        )
    };
    world.send(&[listed("203.0.113.1")]);
    let (feed, stop) = (Feed::new(), Arc::new(AtomicBool::new(false)));
    let telemetry = Telemetry::default();
    let follower = {
        let (plan, feed, stop) = (world.plan.clone(), feed.clone(), Arc::clone(&stop));
        let telemetry = telemetry.clone();
        std::thread::spawn(move || follow(plan, feed, telemetry, stop))
    };
    assert!(settles(&world, &feed, "203.0.113.1", true));
    assert!(stale(&telemetry, |age| age == 0));
    let mock = world.mock.as_ref().unwrap();
    mock.broker_down(1).unwrap();
    assert!(stale(&telemetry, |age| age > 0), "it shows");
    assert!(refuses(&feed, "203.0.113.1"), "what is known holds");
    mock.broker_up(1).unwrap();
    assert!(stale(&telemetry, |age| age == 0), "it is over");
    world.send(&[listed("203.0.113.2")]);
    assert!(settles(&world, &feed, "203.0.113.2", true), "and read on");
    stop.store(true, Ordering::Relaxed);
    follower.join().unwrap();
}
