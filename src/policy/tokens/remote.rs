//! Keys of a configuration: written in a file, or served by an issuer at a URL.
//!
//! Nothing is fetched here. Whoever runs a pipeline attaches a [`KeyFeed`] to every key set by URL; until then nothing is
//! known about its keys, and no token is judged by them.

use std::sync::{Arc, PoisonError, RwLock};

use super::KeySet;
use crate::policy::objects::JwksUrl;

/// Delivers the keys that an issuer serves.
pub trait KeyFeed: std::fmt::Debug + Send + Sync {
    /// The set to judge by now; `None` = none was ever had.
    fn current(&self) -> Option<Arc<KeySet>>;

    /// A token names a key that the current set lacks: the set after trying for a newer one. May take as long as a fetch
    /// may, and answers at once when it was tried lately, so that made-up names hold nobody up.
    fn missing(&self, id: &str) -> Option<Arc<KeySet>>;

    /// The same from somebody who cannot wait: asks for a newer set and returns at once. `true` = one is on its way, so
    /// nobody can tell yet whether the issuer has the key.
    fn wanted(&self, id: &str) -> bool;
}

/// The keys of one token configuration.
#[derive(Debug)]
pub enum Keys {
    /// A set that somebody wrote; it stays as it is.
    Written(Arc<KeySet>),
    /// A set that an issuer serves.
    Served(ServedBy),
}

impl Default for Keys {
    fn default() -> Self {
        Self::Written(Arc::default())
    }
}

impl Keys {
    /// The set to judge by now; `None` = none was ever had.
    #[must_use]
    pub fn current(&self) -> Option<Arc<KeySet>> {
        match self {
            Self::Written(set) => Some(Arc::clone(set)),
            Self::Served(served) => served.feed()?.current(),
        }
    }

    /// The set after trying for a newer one because the current one lacks the key of this `kid`.
    #[must_use]
    pub fn missing(&self, id: &str) -> Option<Arc<KeySet>> {
        match self {
            Self::Written(set) => Some(Arc::clone(set)),
            Self::Served(served) => served.feed()?.missing(id),
        }
    }

    /// Asks for a newer set because the current one lacks the key of this `kid`, without waiting for it. `true` = it is on
    /// its way.
    #[must_use]
    pub fn wanted(&self, id: &str) -> bool {
        match self {
            Self::Written(_) => false,
            Self::Served(served) => served.feed().is_some_and(|feed| feed.wanted(id)),
        }
    }

    /// Where the keys are served, if they are.
    #[must_use]
    pub fn served(&self) -> Option<&ServedBy> {
        match self {
            Self::Written(_) => None,
            Self::Served(served) => Some(served),
        }
    }
}

/// An issuer and whoever asks it.
#[derive(Debug)]
pub struct ServedBy {
    /// Where, and how often.
    pub settings: JwksUrl,
    feed: RwLock<Option<Arc<dyn KeyFeed>>>,
}

impl ServedBy {
    pub(super) fn new(settings: JwksUrl) -> Self {
        Self {
            settings,
            feed: RwLock::new(None),
        }
    }

    /// Has the keys delivered by `feed` from now on.
    pub fn attach(&self, feed: Arc<dyn KeyFeed>) {
        *self.feed.write().unwrap_or_else(PoisonError::into_inner) = Some(feed);
    }

    fn feed(&self) -> Option<Arc<dyn KeyFeed>> {
        let feed = self.feed.read().unwrap_or_else(PoisonError::into_inner);
        feed.clone()
    }
}
