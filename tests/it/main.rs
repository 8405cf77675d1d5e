//! The one integration binary: everything that needs only the public interface.

mod conformance_certificates;
mod conformance_tokens;
mod corpora;
mod truth;
