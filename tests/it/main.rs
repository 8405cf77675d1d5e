//! The one integration binary: everything that needs only the public interface.

mod truth;
