//! The Kafka source alone: everything is delivered once and in order, and a commit of an ended assignment is refused.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use gatewatch::source::kafka::{Event, Lag, Lease, Refused, Request, Requests, Settings, start};

use super::{Services, services, unique};

fn settings(services: &Services, topic: &str, group: &str) -> Settings {
    Settings {
        brokers: services.kafka.clone(),
        topics: vec![topic.to_owned()],
        group: group.to_owned(),
        options: [("session.timeout.ms".to_owned(), "6000".to_owned())].into(),
    }
}

/// One member of the group, and what it was given.
struct Member {
    requests: Requests,
    events: Receiver<Event>,
    seen: HashMap<i32, Vec<u64>>,
    leases: Vec<Lease>,
}

impl Member {
    fn join(settings: &Settings) -> Self {
        let (to, events) = channel();
        let requests = start(settings, &Lag::default(), move |event| {
            let _ = to.send(event);
        });
        Self {
            requests: requests.unwrap(),
            events,
            seen: HashMap::new(),
            leases: Vec::new(),
        }
    }

    fn read(&self) -> usize {
        self.seen.values().map(Vec::len).sum()
    }

    /// Follows the next event, if one comes soon. Partitions start where the group stands.
    fn follow(&mut self) {
        let event = match self.events.recv_timeout(Duration::from_millis(20)) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return,
            Err(gone) => panic!("{gone}"),
        };
        match event {
            Event::Assigned(assignment) => {
                let from = assignment
                    .committed
                    .map_or(assignment.low, |(offset, _)| offset);
                self.leases.push(assignment.lease.clone());
                self.requests.send(Request::Start {
                    lease: assignment.lease,
                    from,
                    reach: from,
                });
            }
            Event::Revoked(lease) => self.leases.retain(|held| *held != lease),
            Event::Records(batch) => {
                let offsets = self.seen.entry(batch.lease.at.partition).or_default();
                for record in &batch.records {
                    let expected = record.offset.to_string();
                    assert_eq!(batch.payload(record), expected.as_bytes());
                    offsets.push(record.offset);
                }
            }
            Event::Joined | Event::Reached(..) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn records_are_delivered_once_and_commits_of_an_ended_assignment_are_refused() {
    let Some(services) = services("services::source") else {
        return;
    };
    let (topic, group) = (unique("source"), unique("group"));
    services.topic(&topic, 4).await;
    let payloads: Vec<String> = (0..20_000).map(|offset| offset.to_string()).collect();
    for partition in 0..4 {
        let records = payloads.iter().map(|text| (partition, "", text.as_bytes()));
        services.produce(&topic, records);
    }
    let settings = settings(&services, &topic, &group);

    let mut first = Member::join(&settings);
    while first.read() < 80_000 {
        first.follow();
    }
    for offsets in first.seen.values() {
        assert!(offsets.iter().copied().eq(0..20_000), "in order, once each");
    }
    // Half is committed, with metadata.
    for lease in &first.leases {
        let committed = first.requests.commit(lease, 10_000, "half".to_owned());
        assert_eq!(committed.await, Ok(()));
    }

    // A second member takes partitions over: they start where they were committed, the others go on undisturbed.
    let before = first.leases.clone();
    let mut second = Member::join(&settings);
    while second.leases.len() != 2 || second.read() != 20_000 {
        first.follow();
        second.follow();
    }
    for offsets in second.seen.values() {
        assert!(
            offsets.iter().copied().eq(10_000..20_000),
            "from the committed offset"
        );
    }
    assert_eq!(first.read(), 80_000, "nothing is delivered again");
    // The leases that ended cannot commit, though this member is in good standing with the group.
    assert_eq!(first.leases.len(), 2);
    for lease in &before {
        let expected = if first.leases.contains(lease) {
            Ok(())
        } else {
            Err(Refused)
        };
        let outcome = first.requests.commit(lease, 20_000, String::new()).await;
        assert_eq!(outcome, expected, "{lease:?}");
    }
    first.requests.send(Request::Stop);
    second.requests.send(Request::Stop);
}
