//! Decides about one request before it reaches the API: is one of its entities on the block list, and, when asked to
//! judge, does a rule with action `block` fire.
//!
//! Enters: an exchange without a response, as a gateway describes it. Leaves: an [`Answer`]. Everything is in memory:
//! nothing here waits for I/O. Sessions, tokens and certificates are read from the request by the very code that judges
//! logs, so both see the same entities. A host that no zone lists is nobody's to refuse and passes.
//!
//! The cheap comes first: addresses, networks, certificates and tokens are looked up without verifying anything. A
//! signature is verified only for a session that is known by a claim, while the list has sessions, and for rules; and only
//! so many tokens a second. A token whose key is not known yet causes a fetch that nobody waits for. Where the answer rests
//! on a token that was not verified, for one reason or the other, it is the configured one; so it is where the gateway
//! names a client that cannot be read and nothing else refuses the request.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

use super::client;
use crate::config::{CheckSettings, Unavailable};
use crate::enforce::{Asked, entry_id};
use crate::enrich::token::{Budget, Meter, TokenVerdict};
use crate::enrich::{Judge, Judged};
use crate::model::{Exchange, RuleAction, TokenOutcome};
use crate::publish::feed::Feed;
use crate::telemetry::Metrics;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It may pass.
    Allowed,
    /// The block list has one of its entities: the id of the entry.
    Blocked(Uuid),
    /// A rule refuses it.
    Ruled,
    /// There is nothing to decide by, and then it may not pass.
    Unavailable,
}

impl Answer {
    /// Whether it may pass.
    #[must_use]
    pub fn allows(self) -> bool {
        self == Self::Allowed
    }

    /// What gateways and metrics are told. It names no kind of entity: a client must not learn which of the things that
    /// it sent is known.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Blocked(_) => "blocked",
            Self::Ruled => "rule",
            Self::Unavailable => "unavailable",
        }
    }

    /// The id of the entry that refuses.
    #[must_use]
    pub fn entry(self) -> Option<Uuid> {
        match self {
            Self::Blocked(id) => Some(id),
            _ => None,
        }
    }
}

/// What an exchange does not show of what was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unread {
    /// An autonomous system was named that cannot be read.
    pub(super) asn: bool,
    /// A user agent is not UTF-8; what replaces it is nobody's.
    pub(super) agent: bool,
}

/// Decides about requests. Cheap to clone.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    feed: Feed,
    judge: Judge,
    settings: CheckSettings,
    metrics: Metrics,
    meter: Arc<Meter>,
    /// Whether a rule of the zone can refuse a request, by the zone's index.
    ruled: Vec<bool>,
}

/// Buffers of an answer, reused from request to request.
#[derive(Default)]
struct Scratch {
    judged: Judged,
    tokens: Vec<[u8; 16]>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Gate {
    /// A gate before the list of `feed`, by the policy and the hash key of `judge`.
    #[must_use]
    pub fn new(feed: Feed, judge: Judge, settings: CheckSettings, metrics: Metrics) -> Self {
        let zones = judge.policy().zones.iter();
        let ruled = zones.map(|zone| settings.judge && zone.rules.blocks());
        Self(Arc::new(Inner {
            ruled: ruled.collect(),
            meter: Arc::new(Meter::new(settings.verifications)),
            feed,
            judge,
            settings,
            metrics,
        }))
    }

    /// Whether somebody who shows this key, or none, may ask.
    #[must_use]
    pub fn admits(&self, shown: Option<&[u8]>) -> bool {
        match &self.0.settings.key {
            None => true,
            Some(key) => shown.is_some_and(|shown| key.matches(shown)),
        }
    }

    /// The client in the lines of a list of forwarders, as far as they are trusted.
    #[must_use]
    pub(super) fn forwarded<'h>(
        &self,
        lines: impl DoubleEndedIterator<Item = &'h [u8]>,
    ) -> Option<&'h [u8]> {
        client::forwarded(lines, self.0.settings.trusted_hops)
    }

    /// Whether proxies in front of the gateway are trusted.
    pub(super) fn trusts_hops(&self) -> bool {
        self.0.settings.trusted_hops > 0
    }

    /// What becomes of a request that is asked about at its time, the present.
    #[must_use]
    pub fn ask(&self, exchange: &Exchange<'_>) -> Answer {
        self.ask_about(exchange, Unread::default())
    }

    /// As [`Self::ask`], about a request of which not everything could be read.
    #[must_use]
    pub(super) fn ask_about(&self, exchange: &Exchange<'_>, unread: Unread) -> Answer {
        let answer = SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
            Ok(mut scratch) => self.decide(exchange, unread, &mut scratch),
            Err(_) => self.decide(exchange, unread, &mut Scratch::default()),
        });
        self.0.metrics.checked(answer.as_str());
        answer
    }

    fn decide(&self, exchange: &Exchange<'_>, unread: Unread, scratch: &mut Scratch) -> Answer {
        let Inner { feed, judge, .. } = &*self.0;
        let Scratch { judged, tokens } = scratch;
        let named = exchange.client.ip.as_deref();
        let address: Option<IpAddr> = named.and_then(|address| address.parse().ok());
        // Somebody was named, and whether that is somebody who is listed cannot be said.
        let stranger = unread.asn || (named.is_some() && address.is_none());
        if self.allows(address) || !judge.recognise(exchange, judged) {
            return Answer::Allowed;
        }
        let Some(zone) = judge.policy().zones.get(judged.zone) else {
            return Answer::Allowed;
        };
        let (view, now) = (feed.view(), exchange.at.millis());
        tokens.clear();
        tokens.extend(judged.tokens.iter().filter_map(|token| token.hash));
        let headers = &exchange.request.headers;
        let text = |agent: &&str| !(unread.agent && agent.contains(char::REPLACEMENT_CHARACTER));
        let mut agents = headers.values("user-agent").filter(text);
        let asked = Asked {
            zone: &zone.id,
            address,
            asn: exchange.client.asn,
            sessions: &[],
            tokens,
            certificate: judged.fingerprint,
            user_agent: agents.next(),
        };
        let others = agents.map(|agent| Asked {
            zone: &zone.id,
            user_agent: Some(agent),
            ..Asked::default()
        });
        let mut entities = std::iter::once(asked).chain(others);
        if let Some(entry) = entities.find_map(|asked| view.refuses(&asked, now)) {
            return Answer::Blocked(entry_id(entry));
        }
        if !feed.loaded() && self.0.settings.unavailable == Unavailable::Refuse {
            return Answer::Unavailable;
        }
        let ruled = self.0.ruled.get(judged.zone).copied().unwrap_or_default();
        let by_session = view.refuses_sessions(&zone.id);
        let unrefused = || {
            if stranger {
                self.undecided("address")
            } else {
                Answer::Allowed
            }
        };
        if !ruled && !by_session {
            return unrefused();
        }
        judged.budget = Budget::metered(Arc::clone(&self.0.meter));
        let known = if ruled {
            judge.judge(exchange, judged);
            !by_session || judge.knows_session(judged)
        } else {
            judge.recognise_session(exchange, judged)
        };
        self.0
            .metrics
            .check_signatures(judge.token_counts().signatures);
        let asked = Asked {
            zone: &zone.id,
            sessions: judged.session.hash.as_slice(),
            ..Asked::default()
        };
        if let Some(entry) = view.refuses(&asked, now) {
            return Answer::Blocked(entry_id(entry));
        }
        if ruled && judged.blocking().next().is_some() {
            return Answer::Ruled;
        }
        if known && !(ruled && rests_on_unverified(judged)) {
            return unrefused();
        }
        self.undecided(if judged.budget.exceeded() {
            "verifications"
        } else {
            "keys"
        })
    }

    /// Whether the allow list names the address: then nothing refuses it.
    fn allows(&self, address: Option<IpAddr>) -> bool {
        let allow = &self.0.settings.allow;
        address.is_some_and(|address| {
            let address = address.to_canonical();
            allow.iter().any(|network| network.contains(address))
        })
    }

    /// The answer that is configured for what cannot be decided.
    fn undecided(&self, reason: &'static str) -> Answer {
        self.0.metrics.undecided(reason);
        match self.0.settings.unavailable {
            Unavailable::Refuse => Answer::Unavailable,
            Unavailable::Allow => Answer::Allowed,
        }
    }
}

/// Whether a rule that could refuse the request is open while a token was not verified.
fn rests_on_unverified(judged: &Judged) -> bool {
    let verified = |token: &TokenVerdict| token.outcome != TokenOutcome::NotEvaluated;
    let mut rules = judged.rules.iter();
    !judged.tokens.iter().all(verified)
        && rules.any(|rule| rule.action == RuleAction::Block && !rule.known)
}
