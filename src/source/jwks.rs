//! Key sets that issuers serve, kept up to date while a pipeline runs.
//!
//! Enters: the URLs of a policy. Leaves: a [`KeyFeed`] attached to each. One thread per URL fetches, with a runtime of its
//! own, so that whoever judges may wait for it from any thread:
//!
//! - when the last answer is no longer fresh by its `Cache-Control` or `Expires`, not sooner than the cool-down and not
//!   later than `refresh`;
//! - when a token names a key that the set lacks, at most once per cool-down. That token waits, those after it do not.
//!
//! When the issuer is down or answers nonsense, the last good set goes on, and the logs and metrics say so. A key that is
//! no longer served keeps serving the events from before its removal. With a folder to keep them in, both survive a restart.
//! What a URL may lead to is [`wire::outbound`](crate::wire::outbound)'s business.

mod fetch;
mod kept;
mod schedule;

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use thiserror::Error;

use self::fetch::{Fetched, Fetcher, Validators};
use self::schedule::Schedule;
use crate::clock::{self, Stopwatch};
use crate::model::EventTime;
use crate::policy::Policy;
use crate::policy::objects::JwksUrl;
use crate::policy::tokens::{Keep, KeyFeed, KeyHistory, KeySet, ServedKeys};
use crate::telemetry::{KeyFetch, Metrics};

/// Most retired keys of one issuer.
const MAX_RETIRED: usize = 64;
/// What a token waits for an answer beyond the time that the answer may take: reading the set, and the thread's turn.
const MARGIN: Duration = Duration::from_millis(500);

/// Why the keys of an issuer cannot be kept up to date.
#[derive(Debug, Error)]
#[error("the key set at {url} cannot be fetched: {source}")]
pub struct JwksError {
    url: String,
    source: std::io::Error,
}

/// Whether anything is written to the folders that key sets are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// Sets are read from there and kept there.
    Keep,
    /// Sets are read from there; nothing is written.
    Read,
}

/// The key sets of a policy at work. They are fetched until this is dropped; the sets at hand stay usable.
#[derive(Debug)]
pub struct KeySets {
    feeds: Vec<Arc<Feed>>,
}

impl KeySets {
    /// Starts fetching every key set by URL of the policy. Configurations that share URL and settings share the set.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(policy: &Policy, metrics: &Metrics, disk: Disk) -> Result<Self, JwksError> {
        let mut sets = Self { feeds: Vec::new() };
        let configurations = policy
            .zones
            .iter()
            .flat_map(|zone| &zone.tokens.configurations);
        for served in configurations.filter_map(|configuration| configuration.keys.served()) {
            let settings = &served.settings;
            let known = sets.feeds.iter().find(|feed| feed.settings == *settings);
            let feed = if let Some(feed) = known {
                Arc::clone(feed)
            } else {
                let feed = Feed::open(settings.clone(), metrics.clone(), disk);
                let working = Arc::clone(&feed);
                std::thread::Builder::new()
                    .name("jwks".to_owned())
                    .spawn(move || working.work())
                    .map_err(|source| JwksError {
                        url: settings.url.clone(),
                        source,
                    })?;
                sets.feeds.push(Arc::clone(&feed));
                feed
            };
            served.attach(feed);
        }
        Ok(sets)
    }

    /// What is still waited for, and why: issuers of which no set was ever had. `None` = nothing.
    #[must_use]
    pub fn waiting(&self) -> Option<String> {
        let waiting = self.feeds.iter().filter(|feed| feed.current().is_none());
        let reasons: Vec<String> = waiting.map(|feed| feed.reason()).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Waits until every issuer was asked once.
    ///
    /// # Errors
    /// What is still waited for.
    pub fn first(&self) -> Result<(), String> {
        for feed in &self.feeds {
            let state = feed.state();
            let longest = feed.settings.timeout + MARGIN;
            let first = |state: &mut State| state.rounds == 0 && feed.current().is_none();
            drop(feed.changed.wait_timeout_while(state, longest, first));
        }
        self.waiting().map_or(Ok(()), Err)
    }
}

impl Drop for KeySets {
    fn drop(&mut self) {
        for feed in &self.feeds {
            feed.state().stopped = true;
            feed.changed.notify_all();
        }
    }
}

/// One issuer.
#[derive(Debug)]
struct Feed {
    settings: JwksUrl,
    metrics: Metrics,
    /// Where the set is kept, and whether it may be written there.
    file: Option<(PathBuf, Disk)>,
    /// What was kept by an earlier run; taken by the thread.
    found: Mutex<Option<(KeyHistory, Validators)>>,
    set: RwLock<Option<Arc<KeySet>>>,
    state: Mutex<State>,
    changed: Condvar,
    since: Stopwatch,
}

#[derive(Debug)]
struct State {
    schedule: Schedule,
    /// Fetches that have ended.
    rounds: u64,
    /// A fetch is on its way.
    fetching: bool,
    /// A token waits for one.
    asked: bool,
    /// Why the last fetch had nothing.
    failure: Option<String>,
    stopped: bool,
}

impl KeyFeed for Feed {
    fn current(&self) -> Option<Arc<KeySet>> {
        let set = self.set.read().unwrap_or_else(PoisonError::into_inner);
        set.clone()
    }

    fn missing(&self, id: &str) -> Option<Arc<KeySet>> {
        let mut state = self.state();
        if self.asks(&mut state, id) {
            let round = state.rounds;
            let longest = self.settings.timeout + MARGIN;
            let same = |state: &mut State| state.rounds == round && !state.stopped;
            drop(self.changed.wait_timeout_while(state, longest, same));
        } else {
            drop(state);
        }
        self.current()
    }

    fn wanted(&self, id: &str) -> bool {
        self.asks(&mut self.state(), id)
    }
}

impl Feed {
    /// Whether a newer set is on its way, after asking for it where an unknown key may. A fetch that has begun is as good
    /// as one that this key causes.
    fn asks(&self, state: &mut State, id: &str) -> bool {
        let asks = state.fetching || state.asked || state.schedule.asks(id, self.since.elapsed());
        let comes = asks && !state.stopped;
        if comes && !state.fetching {
            state.asked = true;
            self.changed.notify_all();
        }
        comes
    }

    fn open(settings: JwksUrl, metrics: Metrics, disk: Disk) -> Arc<Self> {
        let path = settings.cache.as_ref();
        let path = path.map(|folder| kept::file(folder, &settings.url));
        let found = path.as_ref().and_then(|path| {
            kept::read(path, &settings.url).unwrap_or_else(|error| {
                tracing::warn!("the kept key set {} is not used: {error}", path.display());
                None
            })
        });
        let set = found.as_ref().map(|kept| Arc::new(kept.history.set()));
        Arc::new(Self {
            state: Mutex::new(State {
                schedule: Schedule::new(settings.cooldown, settings.refresh),
                rounds: 0,
                fetching: false,
                asked: false,
                failure: None,
                stopped: false,
            }),
            file: path.map(|path| (path, disk)),
            found: Mutex::new(found.map(|kept| (kept.history, kept.validators))),
            set: RwLock::new(set),
            changed: Condvar::new(),
            since: Stopwatch::start(),
            settings,
            metrics,
        })
    }

    /// A panic elsewhere leaves the state whole, so it is still the truth.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why there is no set.
    fn reason(&self) -> String {
        let state = self.state();
        let why = state.failure.as_deref().unwrap_or("not answered yet");
        format!("the key set at {} was never had: {why}", self.settings.url)
    }

    /// Fetches until told to stop.
    fn work(&self) {
        let runtime = match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        {
            Ok(runtime) => runtime,
            Err(error) => return self.give_up(format!("no runtime: {error}")),
        };
        let found = self
            .found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let (history, validators) = found.unzip();
        let mut history: KeyHistory = history.unwrap_or_default();
        let mut fetcher = match Fetcher::new(&self.settings, validators.as_ref()) {
            Ok(fetcher) => fetcher,
            Err(error) => return self.give_up(error.to_string()),
        };
        let mut validators = validators.unwrap_or_default();
        while self.due() {
            let outcome = runtime.block_on(self.fetch(&mut fetcher, &mut history, &mut validators));
            self.ended(outcome);
        }
    }

    /// Nothing will ever be fetched; nobody waits for it.
    fn give_up(&self, why: String) {
        self.ended(Err(why));
        self.state().stopped = true;
        self.changed.notify_all();
    }

    /// Waits until a fetch is due or asked for; `false` = told to stop.
    fn due(&self) -> bool {
        let mut state = self.state();
        loop {
            if state.stopped {
                return false;
            }
            let left = state.schedule.due().saturating_sub(self.since.elapsed());
            if state.asked || left.is_zero() {
                state.asked = false;
                state.fetching = true;
                return true;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// One fetch: what the issuer says of its freshness, and whether the keys changed.
    async fn fetch(
        &self,
        fetcher: &mut Fetcher,
        history: &mut KeyHistory,
        validators: &mut Validators,
    ) -> Result<(Option<Duration>, bool), String> {
        let (found, seen) = fetcher.fetch().await?;
        let fresh_for = seen.fresh_for;
        let served = match found {
            Fetched::Set(bytes) => {
                let served = ServedKeys::read(&bytes)?;
                for left_out in &served.left_out {
                    tracing::warn!("the key set at {}: {left_out}", self.settings.url);
                }
                served.keys
            }
            Fetched::Same => history.current.clone(),
        };
        let now = EventTime::from_millis(clock::now_millis()).ok_or("the clock is wrong")?;
        let keep = Keep {
            age: self.settings.keep_retired,
            count: MAX_RETIRED,
        };
        let next = history.succeed(served, now, keep);
        let changed = !next.is(history);
        let renewed = changed || seen.validators != *validators;
        *validators = seen.validators.clone();
        fetcher.hold(seen);
        if changed {
            let known = |key: &&crate::policy::tokens::ServedKey| {
                let old = history.current.iter();
                old.clone()
                    .any(|old| old.id == key.id && old.key.identity() == key.key.identity())
            };
            tracing::info!(
                "the key set at {} has {} keys, {} of them new; {} retired ones are kept",
                self.settings.url,
                next.current.len(),
                next.current.len() - next.current.iter().filter(known).count(),
                next.retired.len()
            );
            *self.set.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(next.set()));
            *history = next;
        }
        if renewed
            && let Some((path, Disk::Keep)) = &self.file
            && let Err(error) = kept::write(path, &self.settings.url, history, validators)
        {
            tracing::warn!(
                "{}: {error}; a restart will need the issuer",
                path.display()
            );
        }
        Ok((fresh_for, changed))
    }

    /// A fetch has ended; whoever waits for it goes on.
    fn ended(&self, outcome: Result<(Option<Duration>, bool), String>) {
        let has_set = self.current().is_some();
        let now = self.since.elapsed();
        let mut state = self.state();
        let was_failing = state.failure.is_some();
        match outcome {
            Ok((fresh_for, changed)) => {
                state.schedule.fetched(now, fresh_for, changed);
                state.failure = None;
                self.metrics.keys_fetched(if changed {
                    KeyFetch::Changed
                } else {
                    KeyFetch::Same
                });
            }
            Err(why) => {
                state.schedule.failed(now, has_set);
                let then = if has_set {
                    "the last good set goes on"
                } else {
                    "no token is judged by it yet"
                };
                tracing::warn!("the key set at {}: {why}; {then}", self.settings.url);
                state.failure = Some(why);
                self.metrics.keys_fetched(KeyFetch::Failed);
            }
        }
        let failing = state.failure.is_some();
        if failing != was_failing {
            self.metrics.keys_failing(failing);
        }
        state.fetching = false;
        state.rounds += 1;
        drop(state);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests;
