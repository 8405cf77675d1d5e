//! Judged exchanges → columns of one flush.
//!
//! Enters: exchanges with their verdicts, in offset order. Leaves: [`FlushBatches`], the Arrow tables that the SQL in
//! `sql/windows/` adds up. Secrets stay here: what leaves are keyed hashes, addresses and fingerprints.

mod columns;
pub mod hits;
mod interner;

use std::net::IpAddr;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use siphasher::sip::SipHasher13;

use self::columns::{Entities, Exchanges, Identifiers, Tokens, Violations};
use self::hits::{Hit, Hits};
use self::interner::{Entitled, Operations};
use super::Judged;
use super::entity::{self, address, hexadecimal};
use super::evidence::kept::{Keeping, Kept};
use super::privacy::Hasher;
use crate::model::{
    BlockKind, Exchange, MtlsOutcome, Network, OVERFLOW, RuleAction, RuleVerdict, Samples,
    SessionOutcome, TokenOutcome, TokenReason,
};
use crate::policy::Zone;

/// Rows of one Arrow batch; DataFusion's own batch size.
const BATCH_ROWS: usize = 8_192;

/// Register index bits of the distinct-count sketches: 2,048 registers, standard error 1.04/√2048 = 2.3 %
/// (Flajolet et al., HyperLogLog, 2007).
const SKETCH_BITS: u32 = 11;

/// One table of a flush.
#[derive(Debug)]
pub struct FlushTable {
    /// Name in the SQL of `sql/windows/`.
    pub name: &'static str,
    /// Columns.
    pub schema: SchemaRef,
    /// Rows in offset order.
    pub batches: Vec<RecordBatch>,
}

/// What was appended since the last flush.
#[derive(Debug)]
pub struct FlushBatches {
    /// The tables.
    pub tables: Vec<FlushTable>,
    /// Exchanges whose endpoint or host fell into `{overflow}`.
    pub overflowed: u64,
    /// Signals whose entity fell into `{overflow}`.
    pub entities_overflowed: u64,
    /// What rules that block found, in the order in which it was first seen.
    pub hits: Vec<Hit>,
    /// Exchanges that are kept as evidence; `None` when none are.
    pub events: Option<RecordBatch>,
    /// Exchanges that would have been kept too, were there no bound.
    pub events_overflowed: u64,
}

/// Appends exchanges to the columns of the current flush.
#[derive(Debug)]
pub struct FlushBuilder {
    operations: Operations,
    entities: Entitled,
    exchanges: Exchanges,
    identifiers: Identifiers,
    tokens: Tokens,
    violations: Violations,
    signals: Entities,
    hits: Hits,
    kept: Option<Kept>,
    /// Whose requests list nobody.
    spared: Vec<Network>,
    sketch_key: [u8; 16],
    appended: usize,
    /// Rows of the tables that have several for one exchange.
    detail_rows: usize,
}

/// One observation for a distinct-count sketch: which register, and its rank.
#[derive(Clone, Copy, Debug)]
struct Observation {
    register: u16,
    rank: u8,
}

impl FlushBuilder {
    /// An empty flush. Sketch hashes are keyed, so nobody can aim at registers.
    #[must_use]
    pub fn new(hasher: &Hasher) -> Self {
        Self {
            operations: Operations::default(),
            entities: Entitled::default(),
            exchanges: Exchanges::default(),
            identifiers: Identifiers::default(),
            tokens: Tokens::default(),
            violations: Violations::default(),
            signals: Entities::default(),
            hits: Hits::default(),
            kept: None,
            spared: Vec::new(),
            sketch_key: hasher.hash("", "sketch", b""),
            appended: 0,
            detail_rows: 0,
        }
    }

    /// The same flush, which keeps exchanges as evidence too.
    #[must_use]
    pub fn keeping(mut self, keeping: Keeping, hasher: &Hasher) -> Self {
        self.kept = Some(Kept::new(keeping, hasher));
        self
    }

    /// The same flush, in which requests from these networks list nobody: refusing the session or the user agent of an
    /// allowed client would refuse the client.
    #[must_use]
    pub fn sparing(mut self, allowed: &[Network]) -> Self {
        self.spared = allowed.to_vec();
        self
    }

    /// Keeps an exchange as evidence if there is a reason to; `position` is (source, partition, offset) of its record.
    ///
    /// # Errors
    /// Only when Arrow refuses our own columns, which is a bug.
    pub fn keep(
        &mut self,
        zone: &Zone,
        exchange: &Exchange<'_>,
        judged: &Judged,
        position: (&str, i32, u64),
    ) -> Result<(), ArrowError> {
        match &mut self.kept {
            Some(kept) => kept.append(zone, exchange, judged, position),
            None => Ok(()),
        }
    }

    /// Bytes of the evidence kept since the last flush.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.kept.as_ref().map_or(0, Kept::bytes)
    }

    /// Exchanges appended since the last flush.
    #[must_use]
    pub fn len(&self) -> usize {
        self.appended
    }

    /// Rows appended to all tables since the last flush.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.appended + self.detail_rows
    }

    /// Whether nothing was appended since the last flush.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.appended == 0
    }

    /// Appends one exchange of `zone`.
    ///
    /// # Errors
    /// Only when Arrow refuses our own columns, which is a bug.
    pub fn append(
        &mut self,
        zone: &Zone,
        exchange: &Exchange<'_>,
        judged: &Judged,
    ) -> Result<(), ArrowError> {
        let minute = exchange.at.minute_millis();
        let operation = self.operations.intern(zone, judged);
        let status = exchange
            .response
            .as_ref()
            .map_or(0, |response| response.status);
        let class = status_class(status);
        let client = exchange.client.ip.as_deref().and_then(address);
        let client_seen = client.map(|ip| self.observe_address(ip));

        for identifier in &judged.session.identifiers {
            if let Some(name) = zone.sessions.names.get(usize::from(*identifier)) {
                self.identifiers.append(minute, operation, class, name);
            }
        }
        if judged.session.outcome == SessionOutcome::Absent {
            self.identifiers.append(minute, operation, class, "none");
        }
        for (configuration, verdict) in zone.tokens.configurations.iter().zip(&judged.tokens) {
            self.tokens.append(
                minute,
                operation,
                class,
                &configuration.title,
                verdict.outcome,
            );
        }
        for violation in &judged.schema.violations {
            self.violations.append(minute, operation, class, violation);
        }
        self.append_signals(zone, (minute, operation, status), exchange, judged, client);
        let session_seen = judged.session.hash.as_ref().map(|hash| self.observe(hash));
        let path_seen = self.observe(judged.path.as_bytes());
        self.exchanges.append(
            minute,
            operation,
            status,
            exchange,
            judged,
            [session_seen, client_seen, Some(path_seen)],
        )?;
        self.appended += 1;
        self.detail_rows +=
            judged.session.identifiers.len() + judged.tokens.len() + judged.schema.violations.len();
        if self.appended.is_multiple_of(BATCH_ROWS) {
            self.exchanges.cut()?;
        }
        Ok(())
    }

    /// Appends one row per entity and signal; only exchanges with a signal have any.
    fn append_signals(
        &mut self,
        zone: &Zone,
        (minute, operation, status): (i64, u32, u16),
        exchange: &Exchange<'_>,
        judged: &Judged,
        client: Option<IpAddr>,
    ) {
        let built_in = signals(status, judged);
        let fired = || judged.rules.iter().filter(|verdict| verdict.fires);
        if built_in.iter().all(|(raised, _)| !raised) && fired().next().is_none() {
            return;
        }
        let spared = client.is_some_and(|ip| self.spared.iter().any(|of| of.contains(ip)));
        let endpoint = self.observe(self.operations.key().as_bytes());
        let address = client.map(|ip| self.observe_address(ip));
        let ip = client.map(|ip| ip.to_string());
        let token = judged.tokens.iter().find_map(|token| token.hash);
        let (mut session, mut bearer, mut certificate) = ([0; 32], [0; 32], [0; 64]);
        let entities = [
            (BlockKind::Ip, ip.as_deref()),
            (
                BlockKind::Session,
                judged
                    .session
                    .hash
                    .and_then(|hash| hexadecimal(&hash, &mut session)),
            ),
            (
                BlockKind::Token,
                token.and_then(|hash| hexadecimal(&hash, &mut bearer)),
            ),
            (
                BlockKind::Certificate,
                judged
                    .fingerprint
                    .and_then(|hash| hexadecimal(&hash, &mut certificate)),
            ),
        ];
        let id = exchange.id.as_deref();
        let sample = id.and_then(|id| Some((Samples::place(id)?, id)));
        for (kind, entity) in entities {
            let Some(entity) = entity else {
                continue;
            };
            let admitted = self.entities.admit(kind.as_str(), entity);
            let raised = built_in
                .iter()
                .filter(|(raised, _)| *raised)
                .map(|(_, signal)| (*signal, false));
            let by_rules = fired().map(|verdict| {
                let lists = zone.rules.lists(*verdict).kinds.contains(&kind);
                let blocks = verdict.action == RuleAction::Block && lists;
                (zone.rules.id(*verdict), blocks)
            });
            for signal in raised.chain(by_rules) {
                self.detail_rows += 1;
                let kind = kind.as_str();
                self.signals.append(
                    (minute, operation),
                    [kind, admitted, signal.0],
                    endpoint,
                    address,
                    sample,
                );
                if signal.1 && admitted != OVERFLOW && !spared {
                    let entity = (BlockKind::parse(kind).unwrap_or(BlockKind::Ip), entity);
                    let seen = (exchange.at.millis(), id);
                    self.hits.add(&zone.id, entity, signal.0, seen);
                }
            }
        }
        for verdict in judged.blocking().filter(|_| !spared) {
            self.add_unwindowed(zone, exchange, judged, *verdict);
        }
    }

    /// Entities that have no window of their own, where a rule lists them.
    fn add_unwindowed(
        &mut self,
        zone: &Zone,
        exchange: &Exchange<'_>,
        judged: &Judged,
        verdict: RuleVerdict,
    ) {
        let signal = zone.rules.id(verdict);
        for kind in &zone.rules.lists(verdict).kinds {
            // The others were told with their windows.
            let entity = match kind {
                BlockKind::Cidr | BlockKind::Asn | BlockKind::UserAgent => {
                    entity::of(*kind, exchange, judged)
                }
                _ => None,
            };
            if let Some(entity) = entity {
                let seen = (exchange.at.millis(), exchange.id.as_deref());
                self.hits.add(&zone.id, (*kind, &entity), signal, seen);
            }
        }
    }

    /// Takes the flush out and starts the next one.
    ///
    /// # Errors
    /// Only when Arrow refuses our own columns, which is a bug.
    pub fn finish(&mut self) -> Result<FlushBatches, ArrowError> {
        let overflowed = std::mem::take(&mut self.operations.overflowed);
        self.detail_rows = 0;
        self.appended = 0;
        let entities_overflowed = std::mem::take(&mut self.entities.overflowed)
            + std::mem::take(&mut self.hits.overflowed);
        self.entities.clear();
        let (events, events_overflowed) = match &mut self.kept {
            Some(kept) => {
                let (rows, overflowed) = kept.finish()?;
                ((rows.num_rows() > 0).then_some(rows), overflowed)
            }
            None => (None, 0),
        };
        Ok(FlushBatches {
            events,
            events_overflowed,
            overflowed,
            entities_overflowed,
            hits: self.hits.finish(),
            tables: vec![
                self.operations.finish()?,
                self.exchanges.finish()?,
                self.identifiers.finish()?,
                self.tokens.finish()?,
                self.violations.finish()?,
                self.signals.finish()?,
            ],
        })
    }

    fn observe_address(&self, ip: IpAddr) -> Observation {
        match ip {
            IpAddr::V4(ip) => self.observe(&ip.octets()),
            IpAddr::V6(ip) => self.observe(&ip.octets()),
        }
    }

    /// Register and rank of a value: low bits choose the register, the rest give the rank.
    fn observe(&self, value: &[u8]) -> Observation {
        let hash = SipHasher13::new_with_key(&self.sketch_key).hash(value);
        let register = u16::try_from(hash & ((1 << SKETCH_BITS) - 1)).unwrap_or(0);
        let rest = hash >> SKETCH_BITS;
        let rank = rest.trailing_zeros().min(64 - SKETCH_BITS) + 1;
        Observation {
            register,
            rank: u8::try_from(rank).unwrap_or(u8::MAX),
        }
    }
}

/// The signals that need no rule, and whether the exchange raises them.
fn signals(status: u16, judged: &Judged) -> [(bool, &'static str); 5] {
    // The best outcome: a token of one issuer is no forgery because another configuration does not know it.
    let invalid = matches!(judged.token, Some(TokenOutcome::Invalid(_)));
    let forged = invalid && judged.tokens.iter().any(|token| forged(token.outcome));
    [
        (invalid, "invalid_token"),
        (forged, "forged_token"),
        (status == 401 || status == 403, "refused"),
        // What the server answers is not the client's doing.
        (judged.request_violates(), "violation"),
        (
            judged.mtls.outcome == MtlsOutcome::Revoked,
            "revoked_certificate",
        ),
    ]
}

/// Whether nobody can have been given such a token. An expired one was issued once, and an unknown key may be a new one.
pub(super) fn forged(outcome: TokenOutcome) -> bool {
    matches!(
        outcome.reason(),
        Some(
            TokenReason::UnsupportedAlgorithm
                | TokenReason::AlgorithmMismatch
                | TokenReason::BadSignature
        )
    )
}

/// `2xx` and so on; `none` for an unanswered request, whose status is 0.
fn status_class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "none",
    }
}
