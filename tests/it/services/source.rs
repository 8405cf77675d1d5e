//! The Kafka source alone: everything is delivered once and in order, and a commit of an ended assignment is refused.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, channel};
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

fn consumer(settings: &Settings) -> (Requests, Receiver<Event>) {
    let (to, events) = channel();
    let requests = start(settings, &Lag::default(), move |event| {
        let _ = to.send(event);
    });
    (requests.unwrap(), events)
}

/// Starts every assigned partition where the group stands, until `enough` says so.
fn read(
    requests: &Requests,
    events: &Receiver<Event>,
    seen: &mut HashMap<i32, Vec<u64>>,
    leases: &mut Vec<Lease>,
    mut enough: impl FnMut(&HashMap<i32, Vec<u64>>, &[Lease]) -> bool,
) {
    while !enough(seen, leases) {
        match events.recv_timeout(Duration::from_secs(60)).unwrap() {
            Event::Assigned(assignment) => {
                let from = assignment
                    .committed
                    .map_or(assignment.low, |(offset, _)| offset);
                leases.push(assignment.lease.clone());
                requests.send(Request::Start {
                    lease: assignment.lease,
                    from,
                    reach: from,
                });
            }
            Event::Revoked(lease) => leases.retain(|held| *held != lease),
            Event::Records(batch) => {
                let offsets = seen.entry(batch.lease.at.partition).or_default();
                for record in &batch.records {
                    assert_eq!(
                        batch.payload(record),
                        format!("{}", record.offset).as_bytes()
                    );
                    offsets.push(record.offset);
                }
            }
            Event::Reached(..) => {}
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

    let (first, first_events) = consumer(&settings);
    let (mut seen, mut leases) = (HashMap::new(), Vec::new());
    let all = |seen: &HashMap<i32, Vec<u64>>| seen.values().map(Vec::len).sum::<usize>();
    read(&first, &first_events, &mut seen, &mut leases, |seen, _| {
        all(seen) == 80_000
    });
    for offsets in seen.values() {
        assert!(offsets.iter().copied().eq(0..20_000), "in order, once each");
    }
    // Half is committed, with metadata.
    for lease in &leases {
        assert_eq!(first.commit(lease, 10_000, "half".to_owned()).await, Ok(()));
    }

    // A second member takes partitions over; what it was not given stays, and the ended leases cannot commit.
    let before = leases.clone();
    let (second, second_events) = consumer(&settings);
    let (mut seen_there, mut leases_there) = (HashMap::new(), Vec::new());
    let mut sent = false;
    while leases_there.len() != 2 || all(&seen_there) != 20_000 {
        read(
            &first,
            &first_events,
            &mut seen,
            &mut leases,
            |_, leases| std::mem::replace(&mut sent, true) && leases.len() != 3,
        );
        if leases.len() == 2 {
            read(
                &second,
                &second_events,
                &mut seen_there,
                &mut leases_there,
                |seen, leases| leases.len() == 2 && all(seen) == 20_000,
            );
        }
    }
    for offsets in seen_there.values() {
        assert!(
            offsets.iter().copied().eq(10_000..20_000),
            "from the committed offset"
        );
    }
    for lease in &before {
        let expected = if leases.contains(lease) {
            Ok(())
        } else {
            Err(Refused)
        };
        let outcome = first.commit(lease, 20_000, String::new()).await;
        assert_eq!(outcome, expected, "{lease:?}");
    }
    first.send(Request::Stop);
    second.send(Request::Stop);
}
