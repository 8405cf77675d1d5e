//! What an expression of the rules language says about an exchange.
//!
//! Enters: a compiled [`Expression`] and the [`Facts`] of an exchange that was judged. Leaves: a truth value, and
//! whether it would be the same had the log shown everything. Compiling is in `policy::rules`; which rules there are and
//! what they do is not here.
//!
//! A missing value makes a comparison false, as documented by the vendor. A fact that the log did not capture counts as
//! missing too, but then the answer may be worth nothing: [`Answer::known`] says so, because "not captured" must never
//! block anybody.

mod evaluate;
pub mod facts;
mod filter;
mod functions;
mod http;
#[cfg(test)]
pub(in crate::enrich) mod random;
mod source;
mod stored;
#[cfg(test)]
mod tests;

pub use evaluate::{Answer, evaluate, holds};
pub use facts::Facts;
pub use filter::{NotStored, filter};
pub use source::{Fact, Source};

#[cfg(doc)]
use crate::policy::rules::Expression;
