//! Decides about one request before it reaches the API: is one of its entities on the block list, and, when asked to
//! judge, does a rule with action `block` fire.
//!
//! Enters: an exchange without a response, as a gateway describes it. Leaves: an [`Answer`]. Everything is in memory:
//! nothing here waits for I/O. Sessions, tokens and certificates are read from the request by the very code that judges
//! logs, so both see the same entities. A host that no zone lists is nobody's to refuse and passes.

use std::cell::RefCell;
use std::sync::Arc;

use uuid::Uuid;

use crate::clock;
use crate::config::{CheckSettings, Unavailable};
use crate::enforce::{Asked, entry_id};
use crate::enrich::{Judge, Judged};
use crate::model::Exchange;
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

/// Decides about requests. Cheap to clone.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    feed: Feed,
    judge: Judge,
    settings: CheckSettings,
    metrics: Metrics,
}

thread_local! {
    /// Buffers of a verdict, reused from request to request.
    static JUDGED: RefCell<Judged> = RefCell::default();
}

impl Gate {
    /// A gate before the list of `feed`, by the policy and the hash key of `judge`.
    #[must_use]
    pub fn new(feed: Feed, judge: Judge, settings: CheckSettings, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
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

    /// The client in a list of forwarders, each of which has appended whom it saw (`x-forwarded-for`). The last one was
    /// appended by the gateway itself; of those before it only trusted ones count.
    #[must_use]
    pub(super) fn forwarded<'h>(&self, list: &'h str) -> Option<&'h str> {
        let mut forwarders = list
            .rsplit(',')
            .map(str::trim)
            .filter(|one| !one.is_empty());
        let first = forwarders.next()?;
        Some(
            forwarders
                .take(self.0.settings.trusted_hops)
                .last()
                .unwrap_or(first),
        )
    }

    /// Whether proxies in front of the gateway are trusted.
    pub(super) fn trusts_hops(&self) -> bool {
        self.0.settings.trusted_hops > 0
    }

    /// What becomes of a request that is asked about now.
    #[must_use]
    pub fn ask(&self, exchange: &Exchange<'_>) -> Answer {
        let answer = JUDGED.with(|judged| match judged.try_borrow_mut() {
            Ok(mut judged) => self.decide(exchange, &mut judged),
            Err(_) => self.decide(exchange, &mut Judged::default()),
        });
        self.0.metrics.checked(answer.as_str());
        answer
    }

    fn decide(&self, exchange: &Exchange<'_>, judged: &mut Judged) -> Answer {
        let Inner {
            feed,
            judge,
            settings,
            ..
        } = &*self.0;
        if !judge.judge(exchange, judged) {
            return Answer::Allowed;
        }
        let Some(zone) = judge.policy().zones.get(judged.zone) else {
            return Answer::Allowed;
        };
        let address = exchange.client.ip.as_deref();
        let tokens: Vec<[u8; 16]> = judged
            .tokens
            .iter()
            .filter_map(|token| token.hash)
            .collect();
        let asked = Asked {
            zone: &zone.id,
            address: address.and_then(|address| address.parse().ok()),
            asn: exchange.client.asn,
            sessions: judged.session.hash.as_slice(),
            tokens: &tokens,
            certificate: judged.fingerprint,
            user_agent: exchange.request.headers.first("user-agent"),
        };
        let view = feed.view();
        if let Some(entry) = view.refuses(&asked, clock::now_millis()) {
            return Answer::Blocked(entry_id(entry));
        }
        if !feed.loaded() && settings.unavailable == Unavailable::Refuse {
            return Answer::Unavailable;
        }
        if settings.judge && refused_by_rule(judged) {
            return Answer::Ruled;
        }
        Answer::Allowed
    }
}

/// Whether a rule with action `block` fires.
fn refused_by_rule(judged: &Judged) -> bool {
    judged.blocking().next().is_some()
}
