//! What the program answers: probes, feeds of the block list, the inline check. Layer 3: knows what others report and
//! decided; decides nothing itself.

mod access;
mod check;
mod client;
mod coding;
mod crowdsec;
mod events;
mod ext_authz;
mod feeds;
mod gate;
mod server;

pub use gate::Gate;
pub use server::{Offers, Servers, serve};
