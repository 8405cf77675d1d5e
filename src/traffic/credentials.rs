//! What callers show of themselves: tokens of every outcome, cookies, keys, and their truth.
//!
//! Tokens come from a pool that is signed before the first event: a few users, a new token for each stretch of time.
//! RS256 and `EdDSA` signatures are deterministic, so equal seeds give equal bytes; the bank's tokens use ECDSA and PSS,
//! whose signatures are random, and were therefore signed once and embedded.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{Ed25519KeyPair, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use thiserror::Error;

use super::random::Random;
use crate::model::{EventTime, TokenOutcome, TokenReason};

const RSA_KEY: &str = include_str!("keys/shop-rs256.pem");
const ED_KEY: &str = include_str!("keys/shop-eddsa.pem");
const BANK_TOKENS: &str = include_str!("keys/bank-tokens.txt");

/// Users with a token of their own; every sixth has an RSA key, which is slow to sign with.
const USERS: usize = 30;
/// Stretches of time with tokens of their own; bounds the number of signatures, however long the span.
const STRETCHES: i64 = 48;
/// Seconds around the end of the lapsing token in which it is not used, so that the truth does not hang on rounding.
const UNSURE_SECONDS: i64 = 3;

/// An embedded demo key cannot be used.
#[derive(Debug, Error)]
#[error("cannot sign demo tokens with the embedded key {0}")]
pub struct SigningFault(&'static str);

/// A token with its outcome.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) outcome: TokenOutcome,
    pub(super) text: Vec<u8>,
    /// Whether the payload has a `sub` claim.
    pub(super) subject: bool,
}

/// Tokens of one stretch of time.
#[derive(Clone, Debug, Default)]
struct Stretch {
    good: Vec<Token>,
    bad: Vec<Token>,
}

/// Every token of a run.
#[derive(Debug)]
pub(super) struct Wallet {
    start: i64,
    stretch_seconds: i64,
    stretches: Vec<Stretch>,
    /// Signed once, holds until `lapses_at`.
    lapsing: Vec<u8>,
    lapses_at: i64,
    bank_good: Vec<Token>,
    bank_bad: Vec<Token>,
}

struct Signer {
    rsa: rsa::KeyPair,
    ed: Ed25519KeyPair,
    random: SystemRandom,
}

#[derive(Clone, Copy)]
enum Key {
    Rsa,
    Ed,
}

impl Wallet {
    /// Signs the tokens of a run.
    pub(super) fn new(start: EventTime, span_seconds: u32) -> Result<Self, SigningFault> {
        let signer = Signer::embedded()?;
        let start = start.seconds();
        let span = i64::from(span_seconds);
        let stretch_seconds = (span / STRETCHES).max(3600);
        let lapses_at = start + span * 3 / 4;
        let count = span / stretch_seconds + 1;
        let mut stretches = Vec::new();
        for index in 0..count {
            stretches.push(signer.stretch(start + index * stretch_seconds, stretch_seconds)?);
        }
        let lapsing = signer.token(
            Key::Ed,
            ED_HEADER,
            &claims("batch-client", start - 86_400, lapses_at, ISSUER),
        )?;
        let (bank_good, bank_bad) = bank_tokens();
        Ok(Self {
            start,
            stretch_seconds,
            stretches,
            lapsing,
            lapses_at,
            bank_good,
            bank_bad,
        })
    }

    /// A token that holds at that second; `user` chooses whose.
    pub(super) fn good(&self, seconds: i64, user: u32) -> Option<&Token> {
        let good = &self.stretch(seconds)?.good;
        good.get(user as usize % good.len().max(1))
    }

    /// A token that does not hold at that second.
    pub(super) fn bad(&self, seconds: i64, random: &mut Random) -> Option<&Token> {
        random.pick(&self.stretch(seconds)?.bad)
    }

    /// The token of the client that never renews it; none close to its end.
    pub(super) fn lapsing(&self, seconds: i64, skew_seconds: i64) -> Option<(&[u8], TokenOutcome)> {
        let last = self.lapses_at + skew_seconds;
        if (seconds - last).abs() <= UNSURE_SECONDS {
            None
        } else if seconds < last {
            Some((&self.lapsing, TokenOutcome::Valid))
        } else {
            Some((&self.lapsing, TokenOutcome::Invalid(TokenReason::Expired)))
        }
    }

    /// A bank token that holds (`good`) or not.
    pub(super) fn bank(&self, good: bool, random: &mut Random) -> Option<&Token> {
        random.pick(if good {
            &self.bank_good
        } else {
            &self.bank_bad
        })
    }

    fn stretch(&self, seconds: i64) -> Option<&Stretch> {
        let index = (seconds - self.start) / self.stretch_seconds;
        self.stretches.get(usize::try_from(index).ok()?)
    }
}

/// Issuer that the shop's token configuration asks for.
pub(super) const ISSUER: &str = "https://id.shop.example";

const RSA_HEADER: &str = r#"{"alg":"RS256","typ":"JWT","kid":"shop-2026-rs"}"#;
const ED_HEADER: &str = r#"{"alg":"EdDSA","typ":"JWT","kid":"shop-2026-ed"}"#;

fn claims(subject: &str, issued: i64, expires: i64, by: &str) -> String {
    format!(r#"{{"iss":"{by}","sub":"{subject}","iat":{issued},"exp":{expires}}}"#)
}

impl Signer {
    fn embedded() -> Result<Self, SigningFault> {
        let der = |pem: &str, name| {
            PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| SigningFault(name))
        };
        let rsa = der(RSA_KEY, "shop-rs256")?;
        let ed = der(ED_KEY, "shop-eddsa")?;
        Ok(Self {
            rsa: rsa::KeyPair::from_pkcs8(rsa.secret_pkcs8_der())
                .map_err(|_| SigningFault("shop-rs256"))?,
            ed: Ed25519KeyPair::from_pkcs8_maybe_unchecked(ed.secret_pkcs8_der())
                .map_err(|_| SigningFault("shop-eddsa"))?,
            random: SystemRandom::new(),
        })
    }

    fn token(&self, key: Key, header: &str, payload: &str) -> Result<Vec<u8>, SigningFault> {
        let mut text = URL_SAFE_NO_PAD.encode(header);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut text);
        let signature = match key {
            Key::Ed => self.ed.sign(text.as_bytes()).as_ref().to_vec(),
            Key::Rsa => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                // PKCS #1 v1.5 takes the random source and does not use it.
                self.rsa
                    .sign(
                        &RSA_PKCS1_SHA256,
                        &self.random,
                        text.as_bytes(),
                        &mut signature,
                    )
                    .map_err(|_| SigningFault("shop-rs256"))?;
                signature
            }
        };
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        Ok(text.into_bytes())
    }

    /// Tokens for the stretch of time that begins at `from`.
    fn stretch(&self, from: i64, length: i64) -> Result<Stretch, SigningFault> {
        let end = from + length;
        let hour = 3600;
        let mut good = Vec::new();
        for user in 0..USERS {
            let (key, header) = if user % 6 == 0 {
                (Key::Rsa, RSA_HEADER)
            } else {
                (Key::Ed, ED_HEADER)
            };
            let payload = claims(&format!("user-{user}"), from - 60, end + hour, ISSUER);
            good.push(Token {
                outcome: TokenOutcome::Valid,
                text: self.token(key, header, &payload)?,
                subject: true,
            });
        }

        let now = claims("mallory", from - 60, end + hour, ISSUER);
        let past = claims("late", from - 9 * hour, from - hour, ISSUER);
        let future = format!(
            r#"{{"iss":"{ISSUER}","sub":"early","nbf":{},"exp":{}}}"#,
            end + hour,
            end + 9 * hour
        );
        let stranger = claims("guest", from - 60, end + hour, "https://id.other.example");
        // Several things wrong at once: the first reason in the design's order counts.
        let past_stranger = claims("guest", from - 9 * hour, from - hour, "https://x.example");
        let renamed = ED_HEADER.replace("shop-2026-ed", "shop-2019");
        let nameless = ED_HEADER.replace(r#","kid":"shop-2026-ed""#, "");
        let confused = ED_HEADER.replace("shop-2026-ed", "shop-2026-rs");
        let other_hash = RSA_HEADER.replace("RS256", "RS384");

        let mut bad = Vec::new();
        let mut add = |reason, text| {
            bad.push(Token {
                outcome: TokenOutcome::Invalid(reason),
                text,
                subject: true,
            });
        };
        add(TokenReason::Expired, self.token(Key::Ed, ED_HEADER, &past)?);
        add(
            TokenReason::Expired,
            self.token(Key::Rsa, RSA_HEADER, &past)?,
        );
        add(
            TokenReason::Expired,
            self.token(Key::Ed, ED_HEADER, &past_stranger)?,
        );
        add(
            TokenReason::NotYetValid,
            self.token(Key::Ed, ED_HEADER, &future)?,
        );
        add(
            TokenReason::ClaimMismatch,
            self.token(Key::Ed, ED_HEADER, &stranger)?,
        );
        add(
            TokenReason::UnknownKey,
            self.token(Key::Ed, &renamed, &now)?,
        );
        add(TokenReason::NoKeyId, self.token(Key::Ed, &nameless, &now)?);
        add(
            TokenReason::AlgorithmMismatch,
            self.token(Key::Ed, &confused, &now)?,
        );
        add(
            TokenReason::AlgorithmMismatch,
            self.token(Key::Rsa, &other_hash, &now)?,
        );
        // The confusion attack: an HMAC where the key set has a public key of that name.
        let confused = format!(
            "{}.{}.{}",
            URL_SAFE_NO_PAD.encode(RSA_HEADER.replace("RS256", "HS256")),
            URL_SAFE_NO_PAD.encode(&now),
            URL_SAFE_NO_PAD.encode([7; 32])
        );
        add(TokenReason::AlgorithmMismatch, confused.into_bytes());
        let signed = self.token(Key::Ed, ED_HEADER, &now)?;
        add(
            TokenReason::BadSignature,
            forged(&signed, &now.replace("mallory", "admin")),
        );
        let signed = self.token(Key::Rsa, RSA_HEADER, &past)?;
        add(
            TokenReason::BadSignature,
            forged(&signed, &past.replace("late", "root")),
        );
        for algorithm in ["none", "NONE", "nOnE", "XS256"] {
            let header = format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#);
            let text = format!(
                "{}.{}.",
                URL_SAFE_NO_PAD.encode(header),
                URL_SAFE_NO_PAD.encode(&now)
            );
            add(TokenReason::UnsupportedAlgorithm, text.into_bytes());
        }
        let parts = String::from_utf8_lossy(&signed).into_owned();
        let (two_parts, _) = parts.rsplit_once('.').unwrap_or_default();
        for text in [
            "letmein".to_owned(),
            two_parts.to_owned(),
            format!("{parts}.e30"),
            format!("{parts}=="),
            format!("{}.{parts}", URL_SAFE_NO_PAD.encode("[]")),
            format!("{}.W10.c2ln", URL_SAFE_NO_PAD.encode(ED_HEADER)),
            format!("bm90LWpzb24.{}.c2ln", URL_SAFE_NO_PAD.encode(&now)),
        ] {
            add(TokenReason::Malformed, text.into_bytes());
        }
        Ok(Stretch { good, bad })
    }
}

/// A token over the size limit of 16 KiB; wherever it is used, the answer is `malformed`.
pub(super) fn oversized() -> Token {
    let padding = "A".repeat(17 * 1024);
    Token {
        outcome: TokenOutcome::Invalid(TokenReason::Malformed),
        text: format!(
            "{}.{padding}.c2ln",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","kid":"shop-2026-ed"}"#)
        )
        .into_bytes(),
        subject: false,
    }
}

/// The token with another payload under the old signature.
fn forged(token: &[u8], payload: &str) -> Vec<u8> {
    let mut parts = token.split(|byte| *byte == b'.');
    let header = parts.next().unwrap_or_default();
    let signature = parts.nth(1).unwrap_or_default();
    let mut text = header.to_vec();
    text.push(b'.');
    text.extend_from_slice(URL_SAFE_NO_PAD.encode(payload).as_bytes());
    text.push(b'.');
    text.extend_from_slice(signature);
    text
}

/// The embedded bank tokens: those that hold, and the others.
fn bank_tokens() -> (Vec<Token>, Vec<Token>) {
    BANK_TOKENS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .map(|(name, text)| Token {
            outcome: TokenReason::ALL
                .iter()
                .find(|reason| reason.as_str() == name)
                .map_or(TokenOutcome::Valid, |reason| TokenOutcome::Invalid(*reason)),
            text: text.as_bytes().to_vec(),
            subject: name != "valid_without_subject",
        })
        .partition(|token| token.outcome == TokenOutcome::Valid)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{TokenOutcome, TokenReason, Wallet, oversized};
    use crate::model::EventTime;

    #[test]
    fn the_same_times_give_the_same_tokens_and_every_reason() {
        let start = EventTime::parse("2026-11-18T00:00:00Z").unwrap();
        let wallet = Wallet::new(start, 7200).unwrap();
        let again = Wallet::new(start, 7200).unwrap();
        let reasons: BTreeSet<TokenReason> = wallet
            .stretches
            .iter()
            .flat_map(|stretch| &stretch.bad)
            .filter_map(|token| token.outcome.reason())
            .collect();
        assert_eq!(
            reasons.into_iter().collect::<Vec<_>>(),
            TokenReason::ALL.to_vec()
        );
        for (one, two) in wallet.stretches.iter().zip(&again.stretches) {
            for (one, two) in one.good.iter().zip(&two.good) {
                assert_eq!(one.text, two.text);
            }
        }
        assert_eq!((wallet.bank_good.len(), wallet.bank_bad.len()), (7, 12));
        assert!(oversized().text.len() > 16 * 1024);
    }

    #[test]
    fn the_lapsing_token_is_not_used_near_its_end() {
        let start = EventTime::parse("2026-11-18T00:00:00Z").unwrap();
        let wallet = Wallet::new(start, 4000).unwrap();
        let end = start.seconds() + 3000 + 60;
        let outcome = |seconds| wallet.lapsing(seconds, 60).map(|(_, outcome)| outcome);
        assert_eq!(outcome(end - 4), Some(TokenOutcome::Valid));
        assert_eq!(outcome(end), None);
        assert_eq!(
            outcome(end + 4),
            Some(TokenOutcome::Invalid(TokenReason::Expired))
        );
    }
}
