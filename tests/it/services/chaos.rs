//! Kill it, move it, starve it, lie to it: the tables are those of a run that nobody touched (design section 6). And a
//! control, which does not know the protocol and must fail the same test.
//!
//! The topic grows while processes die, so every kill hits one at work, on a fast machine and on a slow one.

mod bounds;
mod naive;
pub mod protocol;
mod starting;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gatewatch::clock::Stopwatch;
use gatewatch::model::EventTime;
use gatewatch::traffic::{DEFAULT_START_SECONDS, Generator, Scenario};

use super::contents::{dead_letters, differences, holding, tables};
use super::deployment::{Deployment, Options};
use super::replica::Replica;
use super::{Services, random_number, services, unique};
use crate::services_clickhouse;

const PARTITIONS: i32 = 4;

/// A partition must not fall silent for this long while the topic grows: what waits would be let go in the middle.
const IDLE: &str = "15s";

/// Ticks are judged when the latest halves (20 minutes) are in, and with every partition, so that they do not depend on
/// which partition was read first.
const DETECT: &str = "[detect]\nlateness = \"25m\"\nidle = \"1h\"\n[evidence]\nsample = 0.2\n";

/// How long half of the inserts take longer, seconds.
const SLOW: f64 = 0.15;

/// Names the file that a child of this test binary is to work on, naively.
const NAIVE: &str = "GATEWATCH_TEST_NAIVE";

/// A record to be: partition, key, payload.
type Line = (i32, String, Vec<u8>);

/// Generated traffic over four hours, halves and late and refused lines included, in `portions` of equal size. Both halves
/// of an exchange lie in the partition of their id.
fn traffic(seed: u64, events: u64, portions: usize) -> Vec<Vec<Line>> {
    let start = EventTime::from_seconds(DEFAULT_START_SECONDS).unwrap();
    let generator = Generator::new(&Scenario::everything(), seed, events, start, 4 * 3_600);
    let mut generator = generator.unwrap().bad_per_mille(5);
    let (mut lines, mut text) = (Vec::new(), Vec::new());
    while generator.next_line(&mut text) {
        let line = text.trim_ascii_end().to_vec();
        let event = serde_json::from_slice::<serde_json::Value>(&line).ok();
        let id = event.and_then(|event| event["id"].as_str().map(str::to_owned));
        let key = id.unwrap_or_default();
        let hash = key
            .bytes()
            .fold(lines.len() * usize::from(key.is_empty()), |hash, byte| {
                hash.wrapping_mul(31) + usize::from(byte)
            });
        let partition = i32::try_from(hash % 4).unwrap();
        lines.push((partition, key, line));
        text.clear();
    }
    let size = lines.len().div_ceil(portions);
    lines.chunks(size).map(<[Line]>::to_vec).collect()
}

fn produce(services: &Services, topic: &str, lines: &[Line]) {
    let records = lines
        .iter()
        .map(|(at, key, line)| (*at, key.as_str(), line.as_slice()));
    services.produce(topic, records);
}

/// What has happened to a deployment.
#[derive(Debug, Default)]
struct Struck {
    kills: usize,
    joins: usize,
    leaves: usize,
    /// Faults of the sink that have struck, by kind.
    faults: BTreeMap<String, u64>,
    /// Flushes whose writing had begun and that somebody else repeated.
    repeated: usize,
    /// Inserts that were tried again by the same process.
    retried: usize,
    /// Partitions that were taken from a process that was alive.
    revoked: usize,
}

impl Struck {
    fn read(&mut self, log: &str) {
        self.repeated += log.matches("repeating an unfinished flush").count();
        self.retried += log.matches("is tried again").count();
        self.revoked += log.matches("no longer ours").count();
    }
}

/// Two replicas, a third that comes and goes, and somebody with a random hand.
struct Disturbed<'a> {
    deployment: &'a Deployment,
    /// Starts the replica of this place; that of place 0 is a static member where such a thing exists.
    launch: &'a dyn Fn(usize) -> Replica,
    replicas: [Option<Replica>; 2],
    third: Option<Replica>,
    /// Those that were told to leave. One whose insert hangs takes its time, and the topic must grow meanwhile.
    leaving: Vec<Replica>,
    struck: Struck,
}

impl<'a> Disturbed<'a> {
    fn new(deployment: &'a Deployment, launch: &'a dyn Fn(usize) -> Replica) -> Self {
        Self {
            deployment,
            launch,
            replicas: [Some(launch(0)), Some(launch(1))],
            third: None,
            leaving: Vec::new(),
            struck: Struck::default(),
        }
    }

    /// Waits for a random moment, kills one of those that run, and starts those that do not, this one at once or later.
    async fn kill(&mut self) {
        pause(100, 2_200).await;
        let running: Vec<usize> = (0..2).filter(|at| self.replicas[*at].is_some()).collect();
        let victim = running[usize::try_from(random_number() % 2).unwrap() % running.len()];
        let log = self.replicas[victim].take().unwrap().kill();
        self.struck.kills += 1;
        self.struck.read(&log);
        let later = random_number().is_multiple_of(3).then_some(victim);
        for at in 0..2 {
            if self.replicas[at].is_none() && later != Some(at) {
                self.replicas[at] = Some((self.launch)(at));
            }
        }
    }

    fn join(&mut self) {
        self.third = Some((self.launch)(2));
        self.struck.joins += 1;
    }

    /// The third leaves; politely where it knows how.
    fn leave(&mut self, politely: bool) {
        if let Some(third) = self.third.take() {
            if politely {
                third.signal("TERM");
                self.leaving.push(third);
            } else {
                self.struck.read(&third.kill());
            }
            self.struck.leaves += 1;
        }
    }

    /// Breaks inserts: refused, cut in the middle, answered to nobody.
    async fn break_inserts(&self, times: u64) {
        for (seed, (kind, probability)) in [("before", 0.03), ("middle", 0.03), ("after", 0.05)]
            .into_iter()
            .enumerate()
        {
            let wish = serde_json::json!({
                "kind": kind, "times": times, "probability": probability, "seed": seed, "match": self.target(),
            });
            services_clickhouse::fault(&self.deployment.store, &wish.to_string()).await;
        }
    }

    /// The sink is slow, so that more of a process's life is the writing of a flush.
    async fn slow_down(&self) {
        let wish = serde_json::json!({
            "kind": "stall", "seconds": SLOW, "times": 10_000, "probability": 0.5, "seed": 9, "match": self.target(),
        });
        services_clickhouse::fault(&self.deployment.store, &wish.to_string()).await;
    }

    /// Inserts hang for so long and then run after all.
    async fn stall(&self, seconds: u64, times: u64) {
        let wish = serde_json::json!({
            "kind": "stall", "seconds": seconds, "times": times, "match": self.target(),
        });
        services_clickhouse::fault(&self.deployment.store, &wish.to_string()).await;
    }

    fn target(&self) -> String {
        format!("INTO `{}`", self.deployment.store.database)
    }

    /// Counts the faults that have struck out of (kind, asked for).
    async fn count_faults(&mut self, asked: &[(&str, u64)]) {
        let url = format!("{}/fault", self.deployment.store.url.trim_end_matches('/'));
        let shown = reqwest::get(url).await.unwrap().text().await.unwrap();
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let target = self.target();
        for (kind, times) in asked {
            let active = shown["active"].as_array().unwrap().iter();
            let mut mine = active.filter(|wish| {
                wish["kind"] == *kind && wish["match"] == target && wish["seconds"] != SLOW
            });
            let left = mine
                .next()
                .map_or(0, |wish| wish["times"].as_u64().unwrap());
            self.struck.faults.insert((*kind).to_owned(), times - left);
        }
    }

    /// Both replicas run, nobody is hurt any more.
    fn calm(&mut self) {
        for (at, replica) in self.replicas.iter_mut().enumerate() {
            replica.get_or_insert_with(|| (self.launch)(at));
        }
    }

    fn stop(mut self, politely: bool) -> Struck {
        for mut replica in self.leaving {
            let status = replica.ended();
            assert!(status.success(), "{status}\n{}", replica.log());
            self.struck.read(&replica.log());
        }
        for replica in self.replicas.into_iter().flatten() {
            let log = if politely {
                replica.stop()
            } else {
                replica.kill()
            };
            self.struck.read(&log);
        }
        self.struck
    }
}

async fn pause(least: u64, most: u64) {
    let millis = least + random_number() % (most - least);
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

fn options() -> Options {
    Options {
        idle: IDLE,
        more: DETECT,
        ..Options::default()
    }
}

/// A run of one process that nobody touches.
async fn undisturbed(services: &Services, topic: &str, ends: &BTreeMap<i32, u64>) -> Deployment {
    let deployment = Deployment::new(services, topic, options());
    let replica = deployment.start();
    deployment.until_drained(ends, Duration::from_mins(3)).await;
    deployment.until_judged(services).await;
    replica.stop();
    deployment.assert_ledger_is_whole(ends).await;
    deployment
}

/// The stall of the issue is 60 s; a quick run takes less.
fn stall_seconds() -> u64 {
    if std::env::var_os("GATEWATCH_TEST_QUICK").is_some() {
        20
    } else {
        60
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_and_every_fault_of_the_sink_change_nothing() {
    const KILLS: usize = 50;
    const FAULTS: u64 = 12;
    const STALLED: u64 = 3;
    let Some(services) = services("services::chaos") else {
        return;
    };
    let topic = unique("events");
    services.topic(&topic, PARTITIONS).await;
    let portions = traffic(77, 20_000, KILLS + 10);
    let deployment = Deployment::new(&services, &topic, options());
    let launch = |at| match at {
        0 => deployment.start_named(),
        _ => deployment.start(),
    };

    let watch = Stopwatch::start();
    // Portions arrive one a kill; ten of them are there before anybody is.
    produce(&services, &topic, &portions[..10].concat());
    let mut disturbed = Disturbed::new(&deployment, &launch);
    deployment
        .until("something is counted", Duration::from_mins(1), |standing| {
            !standing.is_empty()
        })
        .await;
    disturbed.break_inserts(FAULTS).await;
    disturbed.slow_down().await;
    let mut stall = None;
    for (number, portion) in portions[10..].iter().enumerate() {
        produce(&services, &topic, portion);
        match number % 9 {
            2 => disturbed.join(),
            6 => disturbed.leave(true),
            _ => {}
        }
        if number == KILLS / 3 {
            disturbed.stall(stall_seconds(), STALLED).await;
            stall = Some(Stopwatch::start());
        }
        disturbed.kill().await;
    }
    let flushes = deployment.number("SELECT count() FROM {db}.flushes").await;
    let counted: u64 = deployment.standing().await.values().map(|at| at.last).sum();
    disturbed.leave(true);
    disturbed.calm();
    eprintln!(
        "{KILLS} kills in {:.0} s; {flushes} flushes of {counted} records stored meanwhile",
        watch.elapsed().as_secs_f64()
    );
    let ends = services.ends(&topic, PARTITIONS);
    deployment
        .until_drained(&ends, Duration::from_mins(3))
        .await;
    deployment.until_judged(&services).await;
    // The last of the stalled inserts has run, long after somebody else repeated it.
    let left = Duration::from_secs(stall_seconds() + 2).saturating_sub(stall.unwrap().elapsed());
    tokio::time::sleep(left).await;
    let asked = [
        ("before", FAULTS),
        ("middle", FAULTS),
        ("after", FAULTS),
        ("stall", STALLED),
    ];
    disturbed.count_faults(&asked).await;
    let struck = disturbed.stop(true);
    eprintln!("chaos: {struck:?}, {:.0} s", watch.elapsed().as_secs_f64());

    let calm = undisturbed(&services, &topic, &ends).await;
    deployment.assert_ledger_is_whole(&ends).await;
    assert_eq!(
        differences(&tables(&calm).await, &tables(&deployment).await),
        Vec::<String>::new()
    );
    for name in ["labels", "insights"] {
        let expected = holding(&services, &calm, name);
        assert_eq!(holding(&services, &deployment, name), expected, "{name}");
        assert!(!expected.is_empty(), "no {name}, so nothing was shown");
    }
    let expected = dead_letters(&services, &calm);
    assert_eq!(dead_letters(&services, &deployment), expected);
    assert!(
        !expected.is_empty(),
        "no dead letters, so nothing was shown"
    );
    // Or nothing was shown at all.
    assert_eq!(struck.kills, KILLS);
    assert!(
        struck.joins >= 5 && struck.leaves == struck.joins,
        "{struck:?}"
    );
    assert!(
        struck.repeated >= 5,
        "too few kills fell into a flush: {struck:?}"
    );
    assert!(struck.faults.values().all(|count| *count > 0), "{struck:?}");
    eprintln!("compared after {:.0} s", watch.elapsed().as_secs_f64());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_kills_and_faults_are_too_much_for_the_naive_way() {
    const KILLS: usize = 12;
    if let Some(file) = std::env::var_os(NAIVE) {
        return naive::work(Path::new(&file)).await;
    }
    let Some(services) = services("services::chaos (control)") else {
        return;
    };
    let topic = unique("control");
    services.topic(&topic, PARTITIONS).await;
    let portions = traffic(78, 4_000, KILLS + 2);
    let deployment = Deployment::new(&services, &topic, options());
    let launch_for = |deployment: &Deployment| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "the_same_kills_and_faults_are_too_much_for_the_naive_way",
            "--nocapture",
        ]);
        command.env(NAIVE, deployment.file());
        Replica::start(command)
    };
    let launch = |_| launch_for(&deployment);
    produce(&services, &topic, &portions[..2].concat());
    // Only the product makes tables.
    services_clickhouse::migrated(&deployment.store).await;
    let mut disturbed = Disturbed::new(&deployment, &launch);
    disturbed.break_inserts(12).await;
    disturbed.slow_down().await;
    for (number, portion) in portions[2..].iter().enumerate() {
        produce(&services, &topic, portion);
        match number % 9 {
            2 => disturbed.join(),
            6 => disturbed.leave(false),
            _ => {}
        }
        disturbed.kill().await;
    }
    disturbed.leave(false);
    disturbed.calm();

    // The yardstick, and the control of the control: as long as nothing happens, the naive way is right, too.
    let ends = services.ends(&topic, PARTITIONS);
    let calm = undisturbed(&services, &topic, &ends).await;
    let expected = tables(&calm).await;
    let untouched = Deployment::new(&services, &topic, options());
    services_clickhouse::migrated(&untouched.store).await;
    let alone = launch_for(&untouched);
    let watch = Stopwatch::start();
    let mut found = differences(&expected, &tables(&untouched).await);
    while !found.is_empty() && watch.elapsed() < Duration::from_mins(2) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        found = differences(&expected, &tables(&untouched).await);
    }
    assert_eq!(found, Vec::<String>::new(), "the naive way without faults");
    alone.kill();
    let struck = disturbed.stop(false);
    assert_eq!(struck.kills, KILLS);
    let total = "SELECT sum(requests) FROM {db}.endpoint_windows";
    let (counted, right) = (deployment.number(total).await, calm.number(total).await);
    eprintln!("control: the naive way counted {counted} of {right} exchanges");
    assert!(
        !differences(&expected, &tables(&deployment).await).is_empty(),
        "the naive way has survived the same kills, so the test shows nothing: {struck:?}"
    );
}
