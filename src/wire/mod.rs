//! What several edges share: how a Kafka cluster is reached, how a port is served, how a URL is asked. Layer 1½: below
//! sources and publishers, above the model.

pub mod address;
pub mod http;
pub mod kafka;
pub mod outbound;
pub mod secret;
