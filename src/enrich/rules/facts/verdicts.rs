//! Facts about tokens and certificates, which come from verdicts instead of the message.
//!
//! Only claims of valid tokens are shown: nobody vouches for the others.

use serde_json::Value as Json;

use super::{Facts, flag};
use crate::enrich::mtls::facts::{CertificateFacts, Flag, Text};
use crate::enrich::rules::source::{Fact, See};
use crate::enrich::token::TokenVerdict;
use crate::model::{MtlsOutcome, TokenOutcome};
use crate::policy::rules::fields::Field;
use crate::policy::rules::types::{Scalar, Value};

impl Facts<'_> {
    pub(super) fn tokens(&self) -> impl Iterator<Item = (&str, &TokenVerdict)> {
        let configurations = self.zone.tokens.configurations.iter();
        let ids = configurations.map(|configuration| configuration.id.as_str());
        ids.zip(&self.judged.tokens)
    }

    /// The verdicts, of one configuration or all.
    pub(super) fn tokens_of<'s>(
        &'s self,
        key: Option<&'s str>,
    ) -> impl Iterator<Item = (&'s str, &'s TokenVerdict)> {
        self.tokens()
            .filter(move |(id, _)| key.is_none_or(|key| key == *id))
    }

    /// What the fields of one claim give: the values of valid tokens, with their places in the claim.
    pub(super) fn claims<'s>(
        &'s self,
        claim: &str,
        of: Scalar,
        key: Option<&'s str>,
        see: &mut dyn FnMut(usize, Value<'s>) -> bool,
    ) -> Fact<()> {
        let mut found = false;
        let mut captured = true;
        for (_, verdict) in self.tokens_of(key) {
            captured &= !unknown(verdict.outcome);
            let Some(claims) = verdict.claims.as_deref() else {
                continue;
            };
            let values = match claims.get(claim) {
                Some(Json::Array(items)) => items.as_slice(),
                Some(value) => std::slice::from_ref(value),
                None => continue,
            };
            found = true;
            let values = values.iter().filter_map(|value| typed(value, of));
            for (place, value) in values.enumerate() {
                if !see(place, value) {
                    return Fact::Known(());
                }
            }
        }
        match (found, captured) {
            (true, true) => Fact::Known(()),
            (true, false) => Fact::Partly(()),
            (false, true) => Fact::Missing,
            (false, false) => Fact::NotCaptured,
        }
    }

    /// Ids of the configurations whose valid token has the claim.
    pub(super) fn claim_names<'s>(&'s self, claim: &str, see: See<'_, 's>) -> Fact<()> {
        let mut captured = true;
        for (id, verdict) in self.tokens() {
            captured &= !unknown(verdict.outcome);
            let claims = verdict.claims.as_deref();
            if claims.is_some_and(|claims| claims.contains_key(claim)) && !see(Value::text(id)) {
                return Fact::Known(());
            }
        }
        if captured {
            Fact::Known(())
        } else {
            Fact::Partly(())
        }
    }

    /// The claims of valid tokens as JSON.
    pub(super) fn raw_claims<'s>(
        &'s self,
        key: Option<&'s str>,
        see: &mut dyn FnMut(usize, Value<'s>) -> bool,
    ) -> Fact<()> {
        let mut fact = Fact::Missing;
        for (_, verdict) in self.tokens_of(key) {
            if unknown(verdict.outcome) {
                fact = Fact::NotCaptured;
            }
            let text = verdict
                .claims
                .as_deref()
                .and_then(|claims| serde_json::to_vec(claims).ok());
            if let Some(text) = text {
                fact = Fact::Known(());
                if !see(0, Value::Bytes(text.into())) {
                    break;
                }
            }
        }
        fact
    }

    /// A text about the client certificate; empty when none was presented, or when a certificate that is at hand says
    /// nothing about it.
    pub(super) fn certificate(&self, field: Text) -> Fact<Value<'_>> {
        let text = CertificateFacts::new(self.zone, self.exchange, self.judged).text(field);
        let silent =
            self.judged.mtls.outcome == MtlsOutcome::Absent || self.judged.certificate.is_some();
        if text.is_empty() && !silent {
            return Fact::NotCaptured;
        }
        Fact::Known(Value::Bytes(text.into_bytes().into()))
    }

    /// Whether a certificate is too large to be forwarded; unknown unless it is at hand or there is none.
    pub(super) fn too_large(&self, field: Flag) -> Fact<Value<'_>> {
        let known =
            self.judged.mtls.outcome == MtlsOutcome::Absent || self.judged.certificate.is_some();
        let facts = CertificateFacts::new(self.zone, self.exchange, self.judged);
        flag(known.then(|| facts.flag(field)))
    }
}

/// Whether nothing is known of what the token of a configuration holds.
pub(super) fn unknown(outcome: TokenOutcome) -> bool {
    matches!(
        outcome,
        TokenOutcome::NotCaptured | TokenOutcome::NotEvaluated
    )
}

/// A claim's value as the type of its field.
fn typed(value: &Json, of: Scalar) -> Option<Value<'_>> {
    match (of, value) {
        (Scalar::Bytes, Json::String(text)) => Some(Value::text(text)),
        (Scalar::Int, Json::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(seconds), _) => Some(Value::Int(seconds)),
            // A fraction of a second is dropped; `as` saturates, which is right for a date beyond all events.
            #[expect(clippy::cast_possible_truncation, reason = "saturates")]
            (None, Some(seconds)) => Some(Value::Int(seconds.floor() as i64)),
            (None, None) => None,
        },
        _ => None,
    }
}

/// The certificate's text that a field is.
pub(super) fn certificate_text(field: Field) -> Option<Text> {
    Some(match field {
        Field::CertIssuer => Text::IssuerDn,
        Field::CertSubject => Text::SubjectDn,
        Field::CertIssuerRfc2253 => Text::IssuerDnRfc2253,
        Field::CertSubjectRfc2253 => Text::SubjectDnRfc2253,
        Field::CertIssuerLegacy => Text::IssuerDnLegacy,
        Field::CertSubjectLegacy => Text::SubjectDnLegacy,
        Field::CertSerial => Text::Serial,
        Field::CertIssuerSerial => Text::IssuerSerial,
        Field::CertSha256 => Text::FingerprintSha256,
        Field::CertSha1 => Text::FingerprintSha1,
        Field::CertNotBefore => Text::NotBefore,
        Field::CertNotAfter => Text::NotAfter,
        Field::CertSki => Text::Ski,
        Field::CertIssuerSki => Text::IssuerSki,
        Field::CertRfc9440 => Text::Rfc9440,
        Field::CertChainRfc9440 => Text::ChainRfc9440,
        _ => return None,
    })
}

/// What a field says about a claim.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Names,
    Values,
}

/// The claim that a field is about.
pub(super) fn claim_of(field: Field) -> Option<(&'static str, Part)> {
    Some(match field {
        Field::ClaimAudience | Field::ClaimAudienceValues => ("aud", Part::Values),
        Field::ClaimAudienceNames => ("aud", Part::Names),
        Field::ClaimIssuer | Field::ClaimIssuerValues => ("iss", Part::Values),
        Field::ClaimIssuerNames => ("iss", Part::Names),
        Field::ClaimId | Field::ClaimIdValues => ("jti", Part::Values),
        Field::ClaimIdNames => ("jti", Part::Names),
        Field::ClaimSubject | Field::ClaimSubjectValues => ("sub", Part::Values),
        Field::ClaimSubjectNames => ("sub", Part::Names),
        Field::ClaimIssued | Field::ClaimIssuedValues => ("iat", Part::Values),
        Field::ClaimIssuedNames => ("iat", Part::Names),
        Field::ClaimStart | Field::ClaimStartValues => ("nbf", Part::Values),
        Field::ClaimStartNames => ("nbf", Part::Names),
        _ => return None,
    })
}
