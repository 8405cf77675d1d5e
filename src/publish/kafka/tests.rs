//! Producers against librdkafka's own cluster in this process; what only a real broker does is in `tests/it`.

use rdkafka::mocking::MockCluster;

use super::*;
use crate::model::{Position as Place, Reject};

pub(crate) fn cluster(brokers: String) -> Cluster {
    Cluster {
        brokers,
        options: BTreeMap::new(),
        prefix: "gatewatch.".to_owned(),
        replication: 1,
    }
}

fn message(key: &str, value: &str) -> Message {
    Message {
        topic: crate::publish::BLOCK_LIST,
        key: key.to_owned(),
        value: (!value.is_empty()).then(|| value.as_bytes().to_vec()),
        headers: Vec::new(),
    }
}

#[test]
fn a_dead_letter_says_where_it_came_from() {
    let letter = DeadLetter {
        reason: Reject::TooDeep,
        position: Place {
            source: "events".to_owned(),
            partition: 3,
            offset: 99,
        },
        length: 7,
        sha256: "ab".to_owned(),
        bytes: None,
    };
    let message = Message::dead_letter("shop", &letter);
    assert_eq!(
        (message.topic, message.key.as_str()),
        ("deadletter", "events/3/99")
    );
    let headers = [
        ("content-type", "application/cloudevents+json"),
        ("gatewatch-topic", "events"),
        ("gatewatch-partition", "3"),
        ("gatewatch-offset", "99"),
        ("gatewatch-reason", "too_deep"),
    ];
    assert_eq!(
        message.headers,
        headers.map(|(key, value)| (key, value.to_owned()))
    );
}

#[tokio::test]
async fn what_was_written_is_read_back_without_what_ended() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("gatewatch.blocklist", 2, 1).unwrap();
    let cluster = cluster(mock.bootstrap_servers());
    let outbox = Outbox::open(&cluster).unwrap();
    let messages = [
        message("a", "1"),
        message("b", "2"),
        message("a", "3"),
        message("b", ""),
        message("c", "4"),
    ];
    outbox.write(&messages).await.unwrap();
    let held = read_compacted(&cluster, crate::publish::BLOCK_LIST).unwrap();
    let expected = [("a", "3"), ("c", "4")];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
    assert_eq!(held, BTreeMap::from(expected));
}

#[test]
fn options_of_producers_do_not_reach_readers() {
    let mut cluster = cluster("b:1".to_owned());
    let options = [
        ("security.protocol", "ssl"),
        ("compression.type", "zstd"),
        ("linger.ms", "5"),
    ];
    cluster.options = options.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let (producer, reader) = (cluster.producer(), cluster.reader());
    assert_eq!(producer.get("compression.type"), Some("zstd"));
    assert_eq!(producer.get("linger.ms"), Some("5"));
    assert_eq!(reader.get("compression.type"), None);
    for config in [&producer, &reader] {
        assert_eq!(config.get("security.protocol"), Some("ssl"));
    }
    assert!(!format!("{cluster:?}").contains("zstd"));
}

#[test]
fn a_refusal_is_definite_until_the_cluster_has_accepted_us() {
    let cluster = cluster("b:1".to_owned());
    let refused = || KafkaError::Global(RDKafkaErrorCode::Authentication);
    let silence = || KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
    let heard = Heard::default();
    assert!(heard.judge(&cluster, "a look", silence()).retry());
    heard.error(refused(), "wrong password");
    // The call only times out, and the reason is what was heard.
    let error = heard.judge(&cluster, "a look", silence());
    assert!(
        !error.retry() && error.to_string().contains("wrong password"),
        "{error}"
    );
    heard.accepted();
    for _ in 0..2 {
        assert!(heard.judge(&cluster, "a look", silence()).retry());
        assert!(heard.judge(&cluster, "a look", refused()).retry());
        heard.error(refused(), "wrong password");
    }
    // Rights are not a matter of one broker.
    let rights = KafkaError::MessageConsumption(RDKafkaErrorCode::TopicAuthorizationFailed);
    assert!(!heard.judge(&cluster, "a look", rights).retry());
}
