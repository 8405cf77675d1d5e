//! The feed of a process follows the topic: what was there, what is added, what ends, and nothing of others.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gatewatch::enforce::Asked;
use gatewatch::model::{Proposal, Wish};
use gatewatch::pipeline::feeding::follow;
use gatewatch::publish;
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
