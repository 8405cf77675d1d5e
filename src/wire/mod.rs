//! What several edges share: how a Kafka cluster is reached, how a port is served. Layer 1½: below sources and
//! publishers, above the model.

pub mod http;
pub mod kafka;
pub mod secret;
