//! Who sends a request, as far as the block list asks, without judging the request.
//!
//! Enters: an exchange. Leaves: in a [`Judged`] its zone, what its tokens and its certificate are listed under, and its
//! session. A token and a certificate are what they are, whoever made them: their hashes need no signature. What a token
//! *says* does, so its signature is verified where a session identifier rests on a claim, and only there. Everything else
//! of the `Judged` means nothing afterwards.

use super::session::before_first;
use super::{Judge, Judged, mtls, token};
use crate::model::{Exchange, MtlsOutcome, MtlsVerdict, SessionOutcome, TokenOutcome};
use crate::policy::Zone;
use crate::policy::sessions::Carrier;

/// The verdict on a certificate that nobody has looked at.
const NOT_LOOKED_AT: MtlsVerdict = MtlsVerdict {
    outcome: MtlsOutcome::NotCaptured,
    reason: None,
    presented: None,
    verified: None,
    revoked: None,
};

impl Judge {
    /// Finds the zone, the hashes of the tokens and the fingerprint of the certificate. Nothing is verified. `false` = the
    /// exchange belongs to no zone.
    pub fn recognise(&self, exchange: &Exchange<'_>, judged: &mut Judged) -> bool {
        let Some((zone, host)) = self.enter(exchange, judged) else {
            return false;
        };
        let shared = &self.shared;
        token::recognise(zone, exchange, &shared.hasher, &mut judged.tokens);
        judged.fingerprint = mtls::recognise(zone, exchange, &host, &shared.certificates);
        judged.session.outcome = SessionOutcome::NotCaptured;
        judged.session.identifiers.clear();
        judged.session.hash = None;
        true
    }

    /// Finds the session of an exchange that was recognised: by what can be read, else by claims and certificates, which
    /// are verified for it. `false` = a token that it rests on was not verified, so there may be another session, or one.
    pub fn recognise_session(&self, exchange: &Exchange<'_>, judged: &mut Judged) -> bool {
        let Some(zone) = self.policy.zones.get(judged.zone) else {
            return true;
        };
        judged.mtls = NOT_LOOKED_AT;
        judged.certificate = None;
        self.judge_session(zone, exchange, judged);
        if !self.verify_session(zone, exchange, judged) {
            return true;
        }
        self.judge_session(zone, exchange, judged);
        self.knows_session(judged)
    }

    /// Whether the session of a judged exchange is the one: `false` = a token that it rests on was not verified.
    #[must_use]
    pub fn knows_session(&self, judged: &Judged) -> bool {
        let Some(zone) = self.policy.zones.get(judged.zone) else {
            return true;
        };
        let mut open = before_first(zone, &judged.host, &judged.session);
        !open.any(|carrier| match carrier {
            Carrier::Claim { configuration, .. } => {
                let verdict = judged.tokens.get(*configuration);
                verdict.is_some_and(|verdict| verdict.outcome == TokenOutcome::NotEvaluated)
            }
            _ => false,
        })
    }

    /// Verifies what identifiers in front of the first one rest on. `false` = nothing.
    fn verify_session(&self, zone: &Zone, exchange: &Exchange<'_>, judged: &mut Judged) -> bool {
        let shared = &self.shared;
        let (mut verified, mut looked) = (false, false);
        for carrier in before_first(zone, &judged.host, &judged.session) {
            match carrier {
                Carrier::Claim { configuration, .. } => {
                    let by = zone.tokens.configurations.get(*configuration);
                    let (Some(by), Some(verdict)) = (by, judged.tokens.get_mut(*configuration))
                    else {
                        continue;
                    };
                    if verdict.outcome == TokenOutcome::NotEvaluated {
                        let (tokens, hasher) = (&shared.tokens, &shared.hasher);
                        let budget = &mut judged.budget;
                        *verdict = token::judge_by(zone, by, exchange, tokens, hasher, budget);
                        verified = true;
                    }
                }
                Carrier::Certificate(_) if !looked => {
                    let cache = &shared.certificates;
                    let examined = mtls::examine(zone, exchange, &judged.host, cache);
                    judged.mtls = examined.verdict;
                    judged.certificate = examined.certificate;
                    looked = true;
                }
                _ => {}
            }
        }
        verified || looked
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::fixtures::{bare_zone, configuration, exchange, signer};
    use super::super::token::{Budget, Meter};
    use super::super::{Judge, Judged, Shared};
    use crate::model::{Captured, ClientCertificate};
    use crate::policy::compile;
    use crate::policy::objects::{SessionIdentifierKind, SessionIdentifierObject};
    use SessionIdentifierKind::{Certificate, Composite, Cookie, Header, Jwt};

    fn judge(identifiers: &[(SessionIdentifierKind, &str, &[&str])]) -> Judge {
        let mut zone = bare_zone();
        let object =
            |(kind, name, of): &(SessionIdentifierKind, &str, &[&str])| SessionIdentifierObject {
                kind: *kind,
                name: (*name).to_owned(),
                of: of.iter().map(|part| (*part).to_owned()).collect(),
                ..SessionIdentifierObject::default()
            };
        zone.session_identifiers = identifiers.iter().map(object).collect();
        let key = std::slice::from_ref(&signer("ES256").jwk);
        zone.token_configurations = vec![configuration("shop", key)];
        let policy = Arc::new(compile(&[zone]).unwrap());
        Judge::new(policy, Arc::new(Shared::new(b"a key for the test")))
    }

    const CLAIM: (SessionIdentifierKind, &str, &[&str]) = (Jwt, "shop:$.sub", &[]);
    const SID: (SessionIdentifierKind, &str, &[&str]) = (Cookie, "sid", &[]);
    const BOTH: (SessionIdentifierKind, &str, &[&str]) =
        (Composite, "both", &["cookie:sid", "jwt:shop:$.sub"]);
    const SUBJECT: (SessionIdentifierKind, &str, &[&str]) = (Certificate, "subject_dn", &[]);

    /// Whoever is recognised is the one whom the full verdict finds, with as few signatures as are given.
    #[test]
    fn the_same_as_judged_with_fewer_signatures() {
        let good = format!("Bearer {}", signer("ES256").token(&json!({"sub": "u"})));
        let forged = format!("{}AAAA", &good[..good.len() - 4]);
        let none = "Bearer none";
        for (identifiers, token, cookie, signatures) in [
            (vec![SID, CLAIM], Some(&*good), true, 0),
            (
                vec![(Header, "authorization", &[][..])],
                Some(&*good),
                true,
                0,
            ),
            (vec![CLAIM, SID], Some(&*good), true, 1),
            (vec![CLAIM, SID], Some(&*forged), true, 1),
            (vec![CLAIM, SID], Some(none), true, 0),
            (vec![CLAIM, SID], None, true, 0),
            (vec![SID, CLAIM], Some(&*good), false, 1),
            (vec![BOTH], Some(&*good), true, 1),
            (vec![BOTH, SID], Some(&*forged), true, 1),
            (vec![SUBJECT, SID], Some(&*good), true, 0),
            (vec![], Some(&*good), true, 0),
        ] {
            let cookies = cookie.then_some(("cookie", "sid=s-1"));
            let token = token.map(|token| ("authorization", token));
            let fields: Vec<_> = cookies.into_iter().chain(token).collect();
            let mut exchange = exchange(&fields, Captured::All);
            exchange.certificate = Some(ClientCertificate {
                presented: Some(true),
                verified: Some(true),
                subject_dn: Some("CN=partner".into()),
                fingerprint_sha256: Some("ab".repeat(32).into()),
                ..ClientCertificate::default()
            });
            let what = format!("{identifiers:?} {fields:?}");
            let judge = judge(&identifiers);
            let (mut seen, mut judged) = (Judged::default(), Judged::default());
            assert!(judge.recognise(&exchange, &mut seen));
            assert_eq!(judge.token_counts().signatures, 0, "{what}");
            assert!(judge.recognise_session(&exchange, &mut seen), "{what}");
            assert_eq!(judge.token_counts().signatures, signatures, "{what}");
            assert!(judge.judge(&exchange, &mut judged));
            assert_eq!(seen.session.hash, judged.session.hash, "{what}");
            assert_eq!(seen.fingerprint, judged.fingerprint, "{what}");
            let hash = |judged: &Judged| judged.tokens[0].hash;
            assert_eq!(hash(&seen), hash(&judged), "{what}");
        }
        let mut elsewhere = exchange(&[], Captured::All);
        elsewhere.request.host = "elsewhere.example".into();
        assert!(!judge(&[SID]).recognise(&elsewhere, &mut Judged::default()));
    }

    #[test]
    fn a_session_by_a_token_that_was_not_verified_is_not_known() {
        let good = format!("Bearer {}", signer("ES256").token(&json!({"sub": "u"})));
        let fields = [("authorization", good.as_str()), ("cookie", "sid=s-1")];
        let exchange = exchange(&fields, Captured::All);
        let spent = || Budget::metered(Arc::new(Meter::new(0)));
        for (identifiers, known) in [([CLAIM, SID], false), ([SID, CLAIM], true)] {
            let judge = judge(&identifiers);
            let mut judged = Judged {
                budget: spent(),
                ..Judged::default()
            };
            assert!(judge.recognise(&exchange, &mut judged));
            assert_eq!(judge.recognise_session(&exchange, &mut judged), known);
            assert_eq!(judged.budget.exceeded(), !known);
            let by_cookie = judge.hasher().hash("z", "cookie:sid", b"s-1");
            assert_eq!(judged.session.hash, Some(by_cookie));
            assert_eq!(judge.token_counts().signatures, 0);
            judge.judge(&exchange, &mut judged);
            assert_eq!(judge.knows_session(&judged), known);
        }
    }
}
