//! Who calls: draws what a caller shows of itself, and what it is worth when the log captured it.
//!
//! Enters: the posture of an endpoint, a second, random numbers. Leaves: header values and cookies, with their outcomes.

use super::credentials::{Token, Wallet};
use super::endpoints::Posture;
use super::events::Capture;
use super::random::Random;
use super::scenario::SKEW_SECONDS;
use super::template::push_number;
use crate::model::{SessionOutcome, TokenOutcome};

/// What a caller shows of itself, before the log leaves things out.
#[derive(Debug)]
pub(super) struct Caller<'w> {
    pub(super) authorization: Option<Vec<u8>>,
    pub(super) cookies: Vec<u8>,
    /// Further header.
    pub(super) header: Option<(&'static str, Vec<u8>)>,
    /// The session cookie has a value.
    session_cookie: bool,
    /// Outcome of the token in the first configuration, if any.
    pub(super) token: Option<TokenOutcome>,
    /// Outcome of the token in the second configuration, if any.
    second: Option<TokenOutcome>,
    /// A careful endpoint would let it in.
    pub(super) welcome: bool,
    /// Bank: the token that counts.
    bank: Option<&'w Token>,
}

/// Where callers get their tokens from.
#[derive(Debug)]
pub(super) struct Crowd {
    pub(super) wallet: Wallet,
    pub(super) oversized: Token,
}

impl Crowd {
    /// Draws a caller.
    pub(super) fn caller<'w>(
        &'w self,
        posture: Posture,
        seconds: i64,
        random: &mut Random,
    ) -> Caller<'w> {
        match posture {
            Posture::Open => anonymous(random),
            Posture::Mixed if random.per_mille(400) => anonymous(random),
            Posture::Mixed
            | Posture::Guarded
            | Posture::Careless
            | Posture::Repaired
            | Posture::Slipping => self.member(seconds, random),
            Posture::BearerOnly => {
                let mut caller = nobody();
                if random.per_mille(850)
                    && let Some(token) = self.wallet.good(seconds, random.below(1000))
                {
                    caller.bear(token, b"Bearer ");
                }
                caller
            }
            Posture::Certificate => {
                let mut caller = nobody();
                let mut key = b"partner-".to_vec();
                push_number(&mut key, u64::from(random.below(40)));
                caller.header = Some(("x-api-key", key));
                caller
            }
            Posture::Bank => self.customer(random),
        }
    }

    /// Somebody who mostly shows a good credential of some kind.
    fn member<'w>(&'w self, seconds: i64, random: &mut Random) -> Caller<'w> {
        let mut caller = nobody();
        let scheme: &[u8] = match random.below(20) {
            0 => b"bearer ",
            1 => b"BEARER ",
            2 => b"",
            _ => b"Bearer ",
        };
        match random.below(1000) {
            0..=619 => {
                if let Some(token) = self.wallet.good(seconds, random.below(1000)) {
                    caller.bear(token, scheme);
                }
            }
            620..=729 => caller.sign_in(random),
            730..=779 => {
                let mut key = b"key-".to_vec();
                push_number(&mut key, u64::from(random.below(300)));
                caller.header = Some(("x-api-key", key));
                caller.welcome = true;
            }
            780..=809 => {
                if let Some((text, outcome)) = self.wallet.lapsing(seconds, SKEW_SECONDS) {
                    caller.authorization = Some([scheme, text].concat());
                    caller.token = Some(outcome);
                    caller.welcome = outcome == TokenOutcome::Valid;
                }
            }
            810..=889 => {
                if let Some(token) = self.wallet.bad(seconds, random) {
                    caller.bear(token, scheme);
                }
            }
            890..=891 => caller.bear(&self.oversized, scheme),
            892..=909 => {
                caller.authorization = Some(b"Basic dXNlcjpvcGVuIHNlc2FtZQ==".to_vec());
                caller.welcome = true;
            }
            910..=929 => {
                caller.sign_in(random);
                if let Some(token) = self.wallet.good(seconds, random.below(1000)) {
                    caller.bear(token, scheme);
                }
            }
            930..=969 => {
                caller.sign_in(random);
                let token = if random.per_mille(800) {
                    self.wallet.good(seconds, random.below(1000))
                } else {
                    self.wallet.bad(seconds, random)
                };
                if let Some(token) = token {
                    caller.cookie("refresh", &token.text);
                    caller.second = Some(token.outcome);
                }
            }
            _ => return anonymous(random),
        }
        caller
    }

    /// A customer of the bank.
    fn customer<'w>(&'w self, random: &mut Random) -> Caller<'w> {
        let mut caller = nobody();
        match random.below(100) {
            0..=4 => return anonymous(random),
            5..=24 => {
                caller.cookie("bank_session", b"b7d2");
                caller.session_cookie = true;
                caller.welcome = true;
            }
            draw => {
                let good = draw < 85;
                let Some(token) = self.wallet.bank(good, random) else {
                    return caller;
                };
                caller.token = Some(token.outcome);
                caller.bank = Some(token);
                // A few of the bad ones are let in, because the old app still sends them.
                caller.welcome = good || random.per_mille(100);
                if random.per_mille(500) {
                    caller.cookie("bank_token", &token.text);
                    // The first source wins: what the header says is of no account.
                    if random.per_mille(200)
                        && let Some(other) = self.wallet.bank(true, random)
                    {
                        caller.header = Some(("x-bank-token", other.text.clone()));
                    }
                } else {
                    // An empty cookie is passed over.
                    if random.per_mille(200) {
                        caller.cookie("bank_token", b"");
                    }
                    caller.header = Some(("x-bank-token", token.text.clone()));
                }
            }
        }
        caller
    }
}

fn nobody<'w>() -> Caller<'w> {
    Caller {
        authorization: None,
        cookies: Vec::new(),
        header: None,
        session_cookie: false,
        token: None,
        second: None,
        welcome: false,
        bank: None,
    }
}

/// Somebody who shows nothing, or something that only looks like a credential.
fn anonymous<'w>(random: &mut Random) -> Caller<'w> {
    let mut caller = nobody();
    match random.below(100) {
        0 => caller.authorization = Some(Vec::new()),
        1..=2 => caller.cookie("SID", b"upper-case"),
        3 => caller.cookie("sid", b""),
        4..=15 => caller.cookie("theme", b"dark"),
        _ => {}
    }
    caller
}

impl<'w> Caller<'w> {
    fn bear(&mut self, token: &'w Token, scheme: &[u8]) {
        self.authorization = Some([scheme, &token.text].concat());
        self.token = Some(token.outcome);
        self.welcome = token.outcome == TokenOutcome::Valid;
    }

    fn sign_in(&mut self, random: &mut Random) {
        let mut value = b"s-".to_vec();
        push_number(&mut value, u64::from(random.below(500)));
        self.cookie("lang", b"nl");
        self.cookie("sid", &value);
        self.session_cookie = true;
        self.welcome = true;
    }

    fn cookie(&mut self, name: &str, value: &[u8]) {
        if !self.cookies.is_empty() {
            self.cookies.extend_from_slice(b"; ");
        }
        self.cookies.extend_from_slice(name.as_bytes());
        self.cookies.push(b'=');
        self.cookies.extend_from_slice(value);
    }
}

/// Session outcome, identifiers bit by bit, outcomes of both token configurations.
pub(super) type Shown = (SessionOutcome, u8, [TokenOutcome; 2]);

/// Identifiers: `authorization`, cookie `sid`, `x-api-key`. Tokens: in `authorization`, in the cookie `refresh`.
pub(super) fn judge_shop(caller: &Caller<'_>, capture: Capture) -> Shown {
    let [header, cookie, key] = ["authorization", "cookie", "x-api-key"].map(|n| capture.shows(n));
    let authorization = caller.authorization.as_ref().is_some_and(|v| !v.is_empty());
    let bits = u8::from(header && authorization)
        | u8::from(cookie && caller.session_cookie) << 1
        | u8::from(key && caller.header.is_some()) << 2;
    let token = |seen: bool, token: Option<TokenOutcome>| match token {
        _ if !seen => TokenOutcome::NotCaptured,
        Some(outcome) => outcome,
        None => TokenOutcome::Missing,
    };
    let tokens = [token(header, caller.token), token(cookie, caller.second)];
    (presence(bits, header && cookie && key), bits, tokens)
}

/// Identifiers: the `sub` claim of a valid token, cookie `bank_session`.
pub(super) fn judge_bank(caller: &Caller<'_>, capture: Capture) -> Shown {
    let seen = capture.complete();
    let token = match caller.token {
        _ if !seen => TokenOutcome::NotCaptured,
        Some(outcome) => outcome,
        None => TokenOutcome::Missing,
    };
    let claim = caller.bank.is_some_and(|token| token.subject) && token == TokenOutcome::Valid;
    let bits = u8::from(claim) | u8::from(seen && caller.session_cookie) << 1;
    (presence(bits, seen), bits, [token, TokenOutcome::Missing])
}

fn presence(bits: u8, all_captured: bool) -> SessionOutcome {
    match (bits, all_captured) {
        (0, true) => SessionOutcome::Absent,
        (0, false) => SessionOutcome::NotCaptured,
        _ => SessionOutcome::Present,
    }
}
