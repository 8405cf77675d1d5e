//! What several edges share: how a Kafka cluster is reached. Layer 1½: below sources and publishers, above the model.

pub mod kafka;
