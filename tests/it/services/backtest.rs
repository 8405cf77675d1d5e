//! `gatewatch backtest` over real topics: a range of the records' timestamps, read by nobody that the cluster would remember.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use gatewatch::clock::now_millis;
use gatewatch::model::EventTime;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use super::{Services, services, unique};
use crate::command::{output, succeeds};

const MINUTE: i64 = 60_000;
const PARTITIONS: i32 = 3;
const PATIENCE: Duration = Duration::from_mins(1);

/// An exchange of this time.
fn event(id: &str, millis: i64) -> String {
    let request = json!({"method": "GET", "host": "api.example", "path": "/orders", "headers": {}});
    let time = EventTime::from_millis(millis).unwrap().to_string();
    json!({"kind": "exchange", "id": id, "time": time, "request": request, "response": {"status": 200}})
        .to_string()
}

/// Writes exchanges whose records have the times of the events, over all partitions.
fn write(services: &Services, topic: &str, events: &[(String, i64)]) {
    let producer: ThreadedProducer<DefaultProducerContext> = services.config().create().unwrap();
    for (number, (id, millis)) in events.iter().enumerate() {
        let payload = event(id, *millis);
        let partition = i32::try_from(number).unwrap() % PARTITIONS;
        let record = BaseRecord::to(topic)
            .partition(partition)
            .key(id)
            .payload(&payload);
        assert!(producer.send(record.timestamp(*millis)).is_ok());
    }
    producer.flush(PATIENCE).unwrap();
}

/// Committed offsets of a group.
fn committed(services: &Services, group: &str, topic: &str) -> Vec<(i32, Offset)> {
    let member: BaseConsumer = services.config().set("group.id", group).create().unwrap();
    let mut asked = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        asked.add_partition(topic, partition);
    }
    let found = member.committed_offsets(asked, PATIENCE).unwrap();
    let elements = found.elements();
    elements
        .iter()
        .map(|at| (at.partition(), at.offset()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_a_topic_is_tried_and_the_group_is_left_alone() {
    let Some(services) = services("back-test of a topic") else {
        return;
    };
    let (topic, other, group) = (unique("events"), unique("archive"), unique("group"));
    services.topic(&topic, PARTITIONS).await;
    services.topic(&other, PARTITIONS).await;
    // One exchange a minute for an hour of yesterday, and one an hour ago.
    let begin = (now_millis() / MINUTE) * MINUTE - 40 * 60 * MINUTE;
    let mut events: Vec<_> = (0..60)
        .map(|minute| (format!("m{minute:02}"), begin + minute * MINUTE))
        .collect();
    events.push(("recent".to_owned(), now_millis() - 60 * MINUTE));
    write(&services, &topic, &events);
    write(&services, &other, &[("archived".to_owned(), begin)]);

    let folder = tempfile::tempdir().unwrap();
    let (pipeline, rule) = (
        folder.path().join("p.toml"),
        folder.path().join("rule.toml"),
    );
    let text = format!(
        "name = \"p\"\n[source]\nkind = \"kafka\"\nbrokers = \"{}\"\ntopics = [\"{topic}\"]\ngroup = \"{group}\"\n\
         [store]\nkind = \"clickhouse\"\nurl = \"http://127.0.0.1:1\"\n[publish]\nkind = \"kafka\"\n\
         [privacy]\nhash_key = {{ file = \"hash.key\" }}\n[[zones]]\nid = \"z\"\nhosts = [\"api.example\"]\n",
        services.kafka
    );
    fs::write(&pipeline, text).unwrap();
    fs::write(folder.path().join("hash.key"), "0123456789abcdef").unwrap();
    fs::write(
        &rule,
        "[[rules]]\ntitle = \"all\"\nexpression = 'http.host eq \"api.example\"'\n",
    )
    .unwrap();
    let (pipeline, rule) = (pipeline.to_str().unwrap(), rule.to_str().unwrap());

    // A member of the pipeline's group with a position of its own.
    let member: BaseConsumer = services.config().set("group.id", &group).create().unwrap();
    let mut position = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let offset = Offset::Offset(i64::from(partition) + 4);
        position
            .add_partition_offset(&topic, partition, offset)
            .unwrap();
    }
    member.commit(&position, CommitMode::Sync).unwrap();
    let before = committed(&services, &group, &topic);
    assert!(before.contains(&(2, Offset::Offset(6))), "{before:?}");

    let moment = |minute: i64| {
        EventTime::from_millis(begin + minute * MINUTE)
            .unwrap()
            .to_string()
    };
    let (twenty, forty) = (moment(20), moment(40));
    let tried = |arguments: &[&str]| -> Value {
        let all = [
            &[
                "backtest",
                pipeline,
                "--json",
                "--samples",
                "100",
                "--rule",
                rule,
            ],
            arguments,
        ];
        serde_json::from_str(&succeeds(&all.concat())).unwrap()
    };
    let ids = |found: &Value| -> BTreeSet<String> {
        let samples = found["candidates"][0]["samples"].as_array().unwrap().iter();
        samples
            .map(|sample| sample["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let names = |minutes: std::ops::Range<i64>| -> BTreeSet<String> {
        minutes.map(|minute| format!("m{minute:02}")).collect()
    };
    let found = tried(&["--from", &twenty, "--until", &forty, "--late", "5m"]);
    assert_eq!(ids(&found), names(20..40));
    // Ten minutes more at the beginning, because events may be that far ahead of their records; five at the end.
    assert_eq!(found["traffic"]["records"], 35, "{found}");
    assert_eq!(found["traffic"]["in_range"], 20);
    let found = tried(&["--range", "7m", "--until", &forty]);
    assert_eq!(ids(&found), names(33..40));
    // A topic is a day long unless more is asked for.
    assert_eq!(ids(&tried(&[])), BTreeSet::from(["recent".to_owned()]));
    assert_eq!(tried(&["--range", "48h"])["candidates"][0]["matches"], 61);
    let found = tried(&["--topic", &other, "--range", "48h"]);
    assert_eq!(ids(&found), BTreeSet::from(["archived".to_owned()]));
    let both = tried(&["--topic", &other, "--topic", &topic, "--range", "48h"]);
    assert_eq!(both["candidates"][0]["matches"], 62);

    let missing = output(&["backtest", pipeline, "--rule", rule, "--topic", "nowhere"]);
    assert_eq!(missing.status.code(), Some(1));
    let said = String::from_utf8(missing.stderr).unwrap();
    assert!(said.contains("the cluster has no topic nowhere"), "{said}");

    assert_eq!(committed(&services, &group, &topic), before);
    let own = member
        .fetch_group_list(Some("gatewatch.backtest"), PATIENCE)
        .unwrap();
    let members: usize = own.groups().iter().map(|group| group.members().len()).sum();
    assert_eq!(members, 0);
    let left = committed(&services, "gatewatch.backtest", &topic);
    assert!(
        left.iter().all(|(_, offset)| *offset == Offset::Invalid),
        "{left:?}"
    );
}
