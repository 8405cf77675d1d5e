//! The table `events`: which exchanges are kept as evidence, and what is said of each.
//!
//! Enters: judged exchanges with the position of the record that completed them. Leaves: one record batch per flush, its
//! rows in offset order: when and where, why it was kept, what its rules and its schema had to say, and the columns of
//! [the fields](super). Whether an exchange is kept follows from the exchange, its verdicts and its position, so a
//! repetition of the flush, by whatever node, keeps the same rows.

use std::hash::Hasher as _;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Builder, ListBuilder, RecordBatch, StringBuilder, TimestampMillisecondBuilder,
    UInt64Builder,
};
use arrow::datatypes::{DataType, Field as Column, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use siphasher::sip::SipHasher13;

use super::Evidence;
use super::withheld::Withheld;
use crate::enrich::Judged;
use crate::enrich::batch::forged;
use crate::enrich::privacy::Hasher;
use crate::enrich::rules::Facts;
use crate::model::{EventTime, Exchange, MtlsOutcome, TokenOutcome};
use crate::policy::Zone;

/// Name of the table.
pub const TABLE: &str = "events";

/// Its first column: event time in milliseconds.
pub const TIME: &str = "time";

/// Why an exchange is kept; several reasons may apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A rule fired, whatever its action; the actions of schema validation are one too.
    Rule,
    /// The request or the response violates its schema.
    Violation,
    /// Its token is invalid and the answer was a success; or nobody can have issued such a token.
    Token,
    /// Its client certificate was revoked or did not verify.
    Certificate,
    /// The hash of its position and time is in the sample. Said of every such exchange, so that those with this reason are a fair
    /// sample of all traffic.
    Sample,
}

impl Reason {
    /// Every reason, in the order in which they are stored.
    pub const ALL: [Self; 5] = [
        Self::Rule,
        Self::Violation,
        Self::Token,
        Self::Certificate,
        Self::Sample,
    ];

    /// The name in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Violation => "violation",
            Self::Token => "token",
            Self::Certificate => "certificate",
            Self::Sample => "sample",
        }
    }

    /// Whether it applies to an exchange; the sample depends on the position alone.
    fn applies(self, exchange: &Exchange<'_>, judged: &Judged, sampled: bool) -> bool {
        let successful = || {
            let response = exchange.response.as_ref();
            response.is_some_and(|response| (200..300).contains(&response.status))
        };
        match self {
            Self::Rule => judged.rules.iter().any(|verdict| verdict.fires),
            Self::Violation => !judged.schema.violations.is_empty(),
            // The best outcome, as for signals: a token of one issuer is no forgery because another does not know it.
            Self::Token => {
                matches!(judged.token, Some(TokenOutcome::Invalid(_)))
                    && (successful() || judged.tokens.iter().any(|token| forged(token.outcome)))
            }
            Self::Certificate => matches!(
                judged.mtls.outcome,
                MtlsOutcome::Failed | MtlsOutcome::Revoked
            ),
            Self::Sample => sampled,
        }
    }
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Keeping {
    /// Share of all exchanges, 0 to 1.
    pub sample: f64,
    /// Most rows of one flush; further ones are counted.
    pub most: usize,
}

/// Decides by position and time which exchanges are in the sample: alike on every node that has the key, and not to be aimed at by
/// clients.
#[derive(Clone, Debug)]
struct Sample {
    key: [u8; 16],
    /// Greatest hash that is in it; `None` = nothing is.
    last: Option<u64>,
}

impl Sample {
    fn new(share: f64, hasher: &Hasher) -> Self {
        // Of the 2^64 hashes as many as the share says; the conversion saturates.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates"
        )]
        let last = (share * 2_f64.powi(64)) as u64;
        Self {
            key: hasher.hash("", "evidence sample", b""),
            last: (share > 0.0).then_some(last),
        }
    }

    /// The name of the source is not part of it: a file that was rotated, and a batch that is sent again, keep their sample.
    fn takes(&self, partition: i32, offset: u64, at: EventTime) -> bool {
        let Some(last) = self.last else {
            return false;
        };
        let mut hash = SipHasher13::new_with_key(&self.key);
        hash.write(&partition.to_le_bytes());
        hash.write(&offset.to_le_bytes());
        hash.write(&at.nanos().to_le_bytes());
        hash.finish() <= last
    }
}

type Texts = ListBuilder<StringBuilder>;

/// Columns besides those of fields, in their order.
#[derive(Debug, Default)]
struct Own {
    time: TimestampMillisecondBuilder,
    source: StringBuilder,
    partition: Int32Builder,
    offset: UInt64Builder,
    request_id: StringBuilder,
    operation_id: StringBuilder,
    kept_for: Texts,
    rules: Texts,
    rule_actions: Texts,
    violation_sides: Texts,
    violation_locations: Texts,
    violation_details: Texts,
    session_id: StringBuilder,
    token_id: StringBuilder,
}

impl Own {
    fn schema() -> Vec<Column> {
        let texts = DataType::List(Arc::new(Column::new_list_field(DataType::Utf8, true)));
        let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        [
            (TIME, time, false),
            ("source", DataType::Utf8, false),
            ("partition", DataType::Int32, false),
            ("offset", DataType::UInt64, false),
            ("request_id", DataType::Utf8, true),
            ("operation_id", DataType::Utf8, false),
            ("kept_for", texts.clone(), false),
            ("rules", texts.clone(), false),
            ("rule_actions", texts.clone(), false),
            ("violation_sides", texts.clone(), false),
            ("violation_locations", texts.clone(), false),
            ("violation_details", texts, false),
            ("session_id", DataType::Utf8, true),
            ("token_id", DataType::Utf8, true),
        ]
        .map(|(name, kind, null)| Column::new(name, kind, null))
        .into()
    }

    fn finish(&mut self) -> Vec<ArrayRef> {
        vec![
            Arc::new(self.time.finish().with_timezone("UTC")),
            Arc::new(self.source.finish()),
            Arc::new(self.partition.finish()),
            Arc::new(self.offset.finish()),
            Arc::new(self.request_id.finish()),
            Arc::new(self.operation_id.finish()),
            Arc::new(self.kept_for.finish()),
            Arc::new(self.rules.finish()),
            Arc::new(self.rule_actions.finish()),
            Arc::new(self.violation_sides.finish()),
            Arc::new(self.violation_locations.finish()),
            Arc::new(self.violation_details.finish()),
            Arc::new(self.session_id.finish()),
            Arc::new(self.token_id.finish()),
        ]
    }
}

/// Appends one list.
fn list<'t>(builder: &mut Texts, texts: impl Iterator<Item = &'t str>) {
    for text in texts {
        builder.values().append_value(text);
    }
    builder.append(true);
}

/// The columns of the table.
#[must_use]
pub fn schema() -> SchemaRef {
    let mut columns = Own::schema();
    let fields = super::schema();
    columns.extend(fields.fields().iter().map(|field| field.as_ref().clone()));
    Arc::new(Schema::new(columns))
}

/// The exchanges of one flush that are kept.
#[derive(Debug)]
pub struct Kept {
    schema: SchemaRef,
    sample: Sample,
    most: usize,
    own: Own,
    fields: Evidence,
    /// Rows that were over the bound since the last flush.
    overflowed: u64,
    /// Bytes of text since the last flush.
    bytes: usize,
}

impl Kept {
    /// Nothing yet.
    #[must_use]
    pub fn new(keeping: Keeping, hasher: &Hasher) -> Self {
        Self {
            schema: schema(),
            sample: Sample::new(keeping.sample, hasher),
            most: keeping.most,
            own: Own::default(),
            fields: Evidence::default(),
            overflowed: 0,
            bytes: 0,
        }
    }

    /// Bytes of text since the last flush: what bounds the memory that rows may take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps an exchange of `zone` if there is a reason to; `position` is (source, partition, offset) of the record that
    /// completed it.
    ///
    /// # Errors
    /// Only when Arrow refuses our own columns, which is a bug.
    pub fn append(
        &mut self,
        zone: &Zone,
        exchange: &Exchange<'_>,
        judged: &Judged,
        position: (&str, i32, u64),
    ) -> Result<(), ArrowError> {
        let (source, partition, offset) = position;
        let sampled = self.sample.takes(partition, offset, exchange.at);
        let applies = |reason: &Reason| reason.applies(exchange, judged, sampled);
        if !Reason::ALL.iter().any(applies) {
            return Ok(());
        }
        if self.fields.len() >= self.most {
            self.overflowed += 1;
            return Ok(());
        }
        let withheld = Withheld::of(zone, exchange, judged);
        let own = &mut self.own;
        own.time.append_value(exchange.at.millis());
        own.source.append_value(source);
        own.partition.append_value(partition);
        own.offset.append_value(offset);
        let id = exchange.id.as_deref();
        own.request_id
            .append_option(id.map(|id| withheld.strike(id.into())));
        own.operation_id
            .append_value(judged.operation(zone).id().to_string());
        let reasons = Reason::ALL.into_iter().filter(applies);
        list(&mut own.kept_for, reasons.map(Reason::as_str));
        let fired = || judged.rules.iter().filter(|verdict| verdict.fires);
        list(
            &mut own.rules,
            fired().map(|fired| zone.rules.title(*fired)),
        );
        list(
            &mut own.rule_actions,
            fired().map(|fired| fired.action.as_str()),
        );
        let violations = &judged.schema.violations;
        let sides = violations
            .iter()
            .map(|violation| violation.direction.as_str());
        list(&mut own.violation_sides, sides);
        let locations = violations
            .iter()
            .map(|violation| violation.location.as_str());
        list(&mut own.violation_locations, locations);
        let details = violations.iter().map(|violation| violation.detail.as_str());
        list(&mut own.violation_details, details);
        let hash = |hash: Option<[u8; 16]>| hash.map(hex::encode);
        own.session_id.append_option(hash(judged.session.hash));
        let token = judged.tokens.iter().find_map(|token| token.hash);
        own.token_id.append_option(hash(token));
        self.fields
            .append(&Facts::new(zone, exchange, judged), &withheld)?;
        let own = id.map_or(0, str::len) + self.own.violation_details.values().values_slice().len();
        self.bytes = own + self.fields.bytes();
        Ok(())
    }

    /// The rows since the last flush, and how many more there would have been.
    ///
    /// # Errors
    /// Only when Arrow refuses our own columns, which is a bug.
    pub fn finish(&mut self) -> Result<(RecordBatch, u64), ArrowError> {
        let mut columns = self.own.finish();
        columns.extend(self.fields.finish()?.columns().iter().cloned());
        self.bytes = 0;
        let overflowed = std::mem::take(&mut self.overflowed);
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        Ok((rows, overflowed))
    }
}

#[cfg(test)]
mod tests;
