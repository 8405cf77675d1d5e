//! What is not there yet is waited for and said; what is refused ends the service with exit 1 in the server's words.

use std::fs;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::super::deployment::{Deployment, Options};
use super::super::{free_ports, services, unique};
use super::protocol::{append, by_status, event};
use crate::services_clickhouse::{migrated, sql};

const PATIENCE: Duration = Duration::from_mins(3);

/// An address at which nobody listens until it is opened; then it leads to another one.
struct Gate {
    address: String,
    to: String,
}

impl Gate {
    fn closed(to: &str) -> Self {
        let [port] = free_ports();
        let address = format!("127.0.0.1:{port}");
        let to = to
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .to_owned();
        Self { address, to }
    }

    async fn open(&self) -> JoinHandle<()> {
        let listener = TcpListener::bind(&self.address).await.unwrap();
        let to = self.to.clone();
        tokio::spawn(async move {
            loop {
                let (mut here, _) = listener.accept().await.unwrap();
                let mut there = TcpStream::connect(&to).await.unwrap();
                // Either side may hang up at any time.
                tokio::spawn(async move { copy_bidirectional(&mut here, &mut there).await });
            }
        })
    }
}

/// Waits until the only event is counted, and ends the service in good order.
async fn counts_one(deployment: &Deployment, mut replica: super::Replica) {
    deployment
        .until("the event counted", PATIENCE, |standing| {
            standing.get(&0).is_some_and(|at| at.last == 1)
        })
        .await;
    assert!(replica.runs());
    replica.stop();
    assert_eq!(by_status(deployment).await, [[200, 1]]);
}

#[tokio::test]
async fn servers_that_are_down_at_start_are_waited_for() {
    let Some(services) = services("services::chaos::starting (servers down)") else {
        return;
    };
    let topic = unique("later");
    services.topic(&topic, 1).await;
    append(&services, &topic, 0, &[event("exchange", "x", 0)]);
    let kafka = Gate::closed(&services.kafka);
    let clickhouse = Gate::closed(&services.clickhouse);
    let url = format!("http://{}", clickhouse.address);
    let addresses = (kafka.address.as_str(), url.as_str());
    let deployment = Deployment::reached_by(addresses, &topic, Options::default());
    let mut replica = deployment.start();
    replica.says("the store is not reachable").await;
    assert!(
        replica.log().contains(&clickhouse.address),
        "{}",
        replica.log()
    );
    let _clickhouse = clickhouse.open().await;
    replica.says("the publisher is not reachable").await;
    assert!(replica.log().contains(&kafka.address), "{}", replica.log());
    let _kafka = kafka.open().await;
    counts_one(&deployment, replica).await;
}

#[tokio::test]
async fn a_missing_topic_is_named_and_waited_for() {
    let Some(services) = services("services::chaos::starting (missing topic)") else {
        return;
    };
    let topic = unique("missing");
    let deployment = Deployment::new(&services, &topic, Options::default());
    // A new topic is found within seconds, not within the five minutes of librdkafka's default.
    let mut replica = deployment.start();
    replica.says(&format!("a topic is missing ({topic})")).await;
    services.topic(&topic, 1).await;
    append(&services, &topic, 0, &[event("exchange", "x", 0)]);
    counts_one(&deployment, replica).await;
}

#[tokio::test]
async fn wrong_credentials_of_kafka_end_the_service_in_the_servers_words() {
    let Some(services) = services("services::chaos::starting (wrong credentials)") else {
        return;
    };
    let Ok(address) = std::env::var("GATEWATCH_TEST_KAFKA_SASL") else {
        panic!("GATEWATCH_TEST_KAFKA_SASL is not set; tests/services/run sets it");
    };
    let (authority, user, password) = (
        std::env::var("GATEWATCH_TEST_KAFKA_CA").unwrap(),
        std::env::var("GATEWATCH_TEST_KAFKA_USER").unwrap(),
        std::env::var("GATEWATCH_TEST_KAFKA_PASSWORD").unwrap(),
    );
    let topic = unique("secret");
    services.topic(&topic, 1).await;
    append(&services, &topic, 0, &[event("exchange", "x", 0)]);
    let with = |password: &str, of: &[&str]| {
        let options = format!(
            "\"security.protocol\" = \"sasl_ssl\", \"ssl.ca.location\" = \"{authority}\", \
             \"sasl.mechanism\" = \"SCRAM-SHA-256\", \"sasl.username\" = \"{user}\", \
             \"sasl.password\" = {{ file = \"{password}\" }}"
        );
        let addresses = (address.as_str(), services.clickhouse.as_str());
        let deployment = Deployment::reached_by(addresses, &topic, Options::default());
        if of.contains(&"source") {
            deployment.edit("options = { ", &format!("options = {{ {options}, "));
        }
        if of.contains(&"publish") {
            let section = "[publish]\nkind = \"kafka\"\n";
            let options = format!("{section}options = {{ {options} }}\n");
            deployment.edit(section, &options);
        }
        deployment
    };
    for (source, publish) in [("right", "wrong"), ("wrong", "right")] {
        let deployment = with("right", &["source", "publish"]);
        let folder = deployment.folder.path();
        fs::write(folder.join("right"), &password).unwrap();
        fs::write(folder.join("wrong"), "not the password").unwrap();
        let text = fs::read_to_string(deployment.file()).unwrap();
        let (before, after) = text.split_once("[publish]").unwrap();
        let text = [
            before.replace("file = \"right\"", &format!("file = \"{source}\"")),
            after.replace("file = \"right\"", &format!("file = \"{publish}\"")),
        ]
        .join("[publish]");
        fs::write(deployment.file(), text).unwrap();
        let mut replica = deployment.start();
        let status = replica.ended();
        let log = replica.log();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(
            log.to_lowercase().contains("authentication failed"),
            "{log}"
        );
        assert!(
            log.contains("hint:") && !log.contains("not the password"),
            "{log}"
        );
    }
    // The control: with the right ones everything works over TLS.
    let deployment = with("right", &["source", "publish"]);
    fs::write(deployment.folder.path().join("right"), &password).unwrap();
    let replica = deployment.start();
    counts_one(&deployment, replica).await;
}

#[tokio::test]
async fn tables_of_a_newer_program_are_refused() {
    let Some(services) = services("services::chaos::starting (newer tables)") else {
        return;
    };
    let topic = unique("newer");
    services.topic(&topic, 1).await;
    let deployment = Deployment::new(&services, &topic, Options::default());
    migrated(&deployment.store).await;
    let newer = format!(
        "INSERT INTO {}.gatewatch_schema (version, name) SELECT 9999, 'tomorrow'",
        deployment.store.database
    );
    sql(&deployment.store, &newer).await.unwrap();
    let mut replica = deployment.start();
    let status = replica.ended();
    let log = replica.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains("version 9999") && log.contains("newer gatewatch"),
        "{log}"
    );
}
