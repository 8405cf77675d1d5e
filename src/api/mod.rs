//! What the program answers over HTTP. Layer 3: knows what others report, decides nothing.

mod server;

pub use server::serve;
