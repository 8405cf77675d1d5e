//! The topics that a start makes, and those that it refuses.

use gatewatch::publish::kafka::{PublishError, ensure};

use super::World;

#[test]
fn topics_are_made_once_and_wrong_ones_refused() {
    let Some(world) = World::real("topics_are_made_once_and_wrong_ones_refused") else {
        return;
    };
    let mut cluster = world.plan.cluster.clone();
    // The world made them.
    let made = world.runtime.block_on(ensure(&cluster)).unwrap();
    assert_eq!(made, Vec::<String>::new());
    let services = crate::services::services("topics").unwrap();
    for (name, partitions, problem) in [
        ("proposals", 3, "has 3 partitions"),
        ("blocklist", 1, "has cleanup.policy=delete"),
    ] {
        cluster.prefix = format!("{}.", crate::services::unique("wrong"));
        let topic = format!("{}{name}", cluster.prefix);
        world.runtime.block_on(services.topic(&topic, partitions));
        let error = world.runtime.block_on(ensure(&cluster)).unwrap_err();
        let said = error.to_string();
        assert!(
            !error.retry() && said.contains(problem) && said.contains(&topic),
            "{said}"
        );
    }
    cluster.prefix = format!("{}.", crate::services::unique("many"));
    cluster.replication = 3;
    let said = world
        .runtime
        .block_on(ensure(&cluster))
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("must not exceed the number of brokers"),
        "{said}"
    );
    cluster.brokers = "127.0.0.1:1".to_owned();
    let error = world.runtime.block_on(ensure(&cluster)).unwrap_err();
    assert!(
        error.retry() && matches!(error, PublishError::Kafka { .. }),
        "{error}"
    );
}
