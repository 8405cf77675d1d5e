//! Judges one exchange: plain calls in a row, one per verdict.
//!
//! Enters: an exchange and a policy. Leaves: [`Judged`]. No I/O and no clock: time is the event's.
//! A fifth verdict is a field of [`Judged`] and a call in [`Judge::judge`]; the compiler then lists the other places.

pub mod batch;
pub mod entity;
pub mod evidence;
#[cfg(test)]
mod fixtures;
pub mod mtls;
pub mod privacy;
mod recognise;
pub mod rulebook;
pub mod rules;
pub mod schema;
pub mod session;
pub mod token;

use std::borrow::Cow;
use std::sync::Arc;

use crate::decode::host_name;
use crate::model::{
    Exchange, Method, MtlsOutcome, MtlsVerdict, OVERFLOW, OperationKey, OperationSource,
    RuleVerdict, SchemaOutcome, SchemaVerdict, SessionVerdict, TokenOutcome,
};
use crate::policy::operations::Match;
use crate::policy::{Policy, Zone, path};
use mtls::CertificateCache;
use privacy::Hasher;
use token::{Budget, TokenCache, TokenVerdict};

/// Longest endpoint that becomes a key of its own, bytes; a learned template over it is `{overflow}`.
const MAX_ENDPOINT: usize = 1_024;

/// What several judges share: caches whose content never changes a verdict, and the key of the hashes.
#[derive(Debug)]
pub struct Shared {
    /// Verdicts on tokens up to the signature.
    pub tokens: TokenCache,
    /// Verdicts on certificates.
    pub certificates: CertificateCache,
    /// Keyed hashes of what must not be stored.
    pub hasher: Hasher,
}

impl Shared {
    /// Tokens remembered: at about 1 KiB each with its claims, a bound of some 50 MB.
    const TOKENS: usize = 50_000;
    /// Certificates remembered; clients with certificates are few.
    const CERTIFICATES: usize = 10_000;

    /// Empty caches, hashing under `key`.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self {
            tokens: TokenCache::new(Self::TOKENS),
            certificates: CertificateCache::new(Self::CERTIFICATES),
            hasher: Hasher::new(key),
        }
    }
}

/// Judges exchanges by one policy.
#[derive(Clone, Debug)]
pub struct Judge {
    policy: Arc<Policy>,
    shared: Arc<Shared>,
}

/// An exchange with everything that was found. Reused from exchange to exchange.
#[derive(Debug)]
pub struct Judged {
    /// Index of the zone in the policy.
    pub zone: usize,
    /// Method.
    pub method: Method,
    /// Lower-case host without port.
    pub host: String,
    /// Normalised path.
    pub path: String,
    /// Canonical template of the endpoint.
    pub endpoint: String,
    /// Where the endpoint is known from.
    pub source: OperationSource,
    /// The operation that matched.
    pub matched: Match,
    /// Session verdict.
    pub session: SessionVerdict,
    /// How many more tokens of this flush may be verified; whoever cuts flushes renews it.
    pub budget: Budget,
    /// One verdict per token configuration, in order.
    pub tokens: Vec<TokenVerdict>,
    /// The best of them; `None` without configurations.
    pub token: Option<TokenOutcome>,
    /// Schema verdict.
    pub schema: SchemaVerdict,
    /// Steps that the schema verdict took (see [`schema::MAX_STEPS`]).
    pub schema_steps: u32,
    /// mTLS verdict.
    pub mtls: MtlsVerdict,
    /// SHA-256 of the client certificate, where known.
    pub fingerprint: Option<[u8; 32]>,
    /// The client certificate, where it was logged: what rules ask for, see [`mtls::facts`].
    pub certificate: Option<Arc<mtls::Known>>,
    /// What rules say, in their order, without those that say plainly no, which are most: false, known to be, and so of no
    /// consequence. [`rulebook::verdicts`] has them too.
    pub rules: Vec<RuleVerdict>,
}

impl Default for Judged {
    fn default() -> Self {
        Self {
            zone: 0,
            method: Method::Other,
            host: String::new(),
            path: String::new(),
            endpoint: String::new(),
            source: OperationSource::Learned,
            matched: Match::default(),
            session: SessionVerdict::default(),
            budget: Budget::default(),
            tokens: Vec::new(),
            token: None,
            schema: SchemaVerdict {
                request: SchemaOutcome::NotEvaluated,
                response: SchemaOutcome::NotEvaluated,
                violations: Vec::new(),
            },
            schema_steps: 0,
            mtls: MtlsVerdict {
                outcome: MtlsOutcome::NotCaptured,
                reason: None,
                presented: None,
                verified: None,
                revoked: None,
            },
            fingerprint: None,
            certificate: None,
            rules: Vec::new(),
        }
    }
}

impl Judged {
    /// The operation that this exchange belongs to.
    #[must_use]
    pub fn operation(&self, zone: &Zone) -> OperationKey {
        OperationKey {
            zone: zone.id.clone(),
            host: self.host.clone(),
            method: self.method.as_str().to_owned(),
            endpoint: self.endpoint.clone(),
        }
    }
}

impl Judge {
    /// A judge by this policy.
    #[must_use]
    pub fn new(policy: Arc<Policy>, shared: Arc<Shared>) -> Self {
        Self { policy, shared }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The hashes' key.
    #[must_use]
    pub fn hasher(&self) -> &Hasher {
        &self.shared.hasher
    }

    /// What judging tokens took so far.
    #[must_use]
    pub fn token_counts(&self) -> token::Counts {
        self.shared.tokens.counts()
    }

    /// Judges one exchange. `false` = it belongs to no zone, and `judged` means nothing.
    pub fn judge(&self, exchange: &Exchange<'_>, judged: &mut Judged) -> bool {
        let Some((zone, host)) = self.enter(exchange, judged) else {
            return false;
        };
        judged.method = Method::parse(&exchange.request.method);
        locate(zone, &exchange.request.path, judged);

        token::judge(
            zone,
            exchange,
            &self.shared.tokens,
            &self.shared.hasher,
            &mut judged.budget,
            &mut judged.tokens,
        );
        judged.token = token::best(&judged.tokens);
        judged.schema.request = SchemaOutcome::NotEvaluated;
        judged.schema.response = SchemaOutcome::NotEvaluated;
        judged.schema.violations.clear();
        judged.schema_steps = schema::judge(
            &zone.operations,
            judged.matched,
            exchange,
            &host,
            &judged.path,
            &mut judged.schema,
        );
        let certificate = mtls::examine(zone, exchange, &host, &self.shared.certificates);
        judged.mtls = certificate.verdict;
        judged.fingerprint = certificate.fingerprint;
        judged.certificate = certificate.certificate;
        self.judge_session(zone, exchange, judged);
        rulebook::judge(zone, exchange, judged);
        true
    }
}

impl Judge {
    /// Finds the zone of an exchange and its host in lower case without port; `None` = it belongs to none.
    fn enter<'p, 'e>(
        &'p self,
        exchange: &'e Exchange<'_>,
        judged: &mut Judged,
    ) -> Option<(&'p Zone, Cow<'e, str>)> {
        let host = host_name(&exchange.request.host);
        let index = match &exchange.zone {
            Some(id) => self.policy.zone_by_id(id),
            None => self.policy.zone_by_host(&host),
        }?;
        let zone = self.policy.zones.get(index)?;
        judged.zone = index;
        judged.host.clear();
        judged.host.push_str(&host);
        Some((zone, host))
    }

    /// Comes after the tokens and the certificate, which identifiers are read from.
    fn judge_session(&self, zone: &Zone, exchange: &Exchange<'_>, judged: &mut Judged) {
        let mut verdict = std::mem::take(&mut judged.session);
        let evidence = session::Evidence {
            host: &judged.host,
            tokens: &judged.tokens,
            mtls: judged.mtls.outcome,
            certificate: &mtls::facts::CertificateFacts::new(zone, exchange, judged),
        };
        session::judge(zone, exchange, &evidence, &self.shared.hasher, &mut verdict);
        judged.session = verdict;
    }
}

/// Finds the endpoint: the most specific operation, else a template with the typed ids replaced.
fn locate(zone: &Zone, raw_path: &str, judged: &mut Judged) {
    judged.path.clear();
    judged.path.push_str(&path::normalise(raw_path));
    judged.matched = zone
        .operations
        .find(judged.method, &judged.host, &judged.path);
    judged.endpoint.clear();
    let entry = judged
        .matched
        .operation
        .and_then(|at| zone.operations.entries.get(at as usize));
    if let Some(entry) = entry {
        judged.source = entry.source;
        judged.endpoint.push_str(&entry.canonical);
    } else {
        judged.source = OperationSource::Learned;
        path::template(&judged.path, &mut judged.endpoint);
        if judged.endpoint.len() > MAX_ENDPOINT {
            judged.endpoint.clear();
            judged.endpoint.push_str(OVERFLOW);
        }
    }
}
