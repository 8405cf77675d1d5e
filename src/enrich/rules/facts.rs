//! The facts of an exchange that was judged, as fields of the rules language.
//!
//! Enters: an exchange, its verdicts and its zone. Leaves: the value of any field, worked out when it is asked for and
//! borrowed where it can be. A text that was captured and is not there is empty, as with the vendor; a member of a map
//! that is not there is missing; what the log would not have shown is not captured.

mod verdicts;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::IpAddr;

use self::verdicts::{Part, certificate_text, claim_of, unknown};
use super::http::{self, Pair};
use super::source::{Fact, See, Source};
use crate::enrich::Judged;
use crate::enrich::mtls::facts::Flag;
use crate::model::{
    Captured, Exchange, Headers, Response, SchemaOutcome, SessionOutcome, TokenOutcome, TokenReason,
};
use crate::policy::Zone;
use crate::policy::rules::fields::Field;
use crate::policy::rules::types::Value;

/// Media type of a form that is written like a query.
const URLENCODED: &str = "application/x-www-form-urlencoded";

/// What expressions may ask about one exchange. Cheap to make: nothing is worked out before it is asked for.
#[derive(Debug)]
pub struct Facts<'a> {
    zone: &'a Zone,
    exchange: &'a Exchange<'a>,
    judged: &'a Judged,
    // Worked out once, because many rules ask.
    address: OnceCell<Option<IpAddr>>,
    user_agent: OnceCell<Fact<Cow<'a, str>>>,
    uri: OnceCell<String>,
    raw_uri: OnceCell<String>,
    full_uri: OnceCell<String>,
}

impl<'a> Facts<'a> {
    /// The facts of an exchange with the verdicts on it. `zone` is the one that it was judged by.
    #[must_use]
    pub fn new(zone: &'a Zone, exchange: &'a Exchange<'a>, judged: &'a Judged) -> Self {
        Self {
            zone,
            exchange,
            judged,
            address: OnceCell::new(),
            user_agent: OnceCell::new(),
            uri: OnceCell::new(),
            raw_uri: OnceCell::new(),
            full_uri: OnceCell::new(),
        }
    }

    /// Ids of the zone's token configurations, which are the keys of maps about tokens.
    pub(in crate::enrich) fn configurations(&self) -> impl Iterator<Item = &'a str> {
        let configurations = self.zone.tokens.configurations.iter();
        configurations.map(|configuration| configuration.id.as_str())
    }

    fn headers(&self) -> &'a Headers<'a> {
        &self.exchange.request.headers
    }

    fn response(&self) -> Fact<&Response<'a>> {
        Fact::or_not_captured(self.exchange.response.as_ref())
    }

    fn query(&self) -> &str {
        self.exchange.request.query.as_deref().unwrap_or_default()
    }

    fn with_query<'s>(&'s self, path: &'s str, cell: &'s OnceCell<String>) -> &'s str {
        match self.exchange.request.query.as_deref() {
            None => path,
            Some(query) => cell.get_or_init(|| format!("{path}?{query}")),
        }
    }

    fn address(&self) -> Option<IpAddr> {
        *self.address.get_or_init(|| {
            let text = self.exchange.client.ip.as_deref()?;
            text.parse().ok().map(|ip: IpAddr| ip.to_canonical())
        })
    }

    fn body_size(&self) -> Option<i64> {
        let request = &self.exchange.request;
        let captured = || request.body.as_ref().map(|body| body.len() as u64);
        let size = request.body_bytes.or_else(captured)?;
        i64::try_from(size).ok()
    }

    /// The members of an urlencoded body, as text.
    fn form(&self) -> Fact<&str> {
        let Fact::Known(content_type) = http::header(self.headers(), "content-type") else {
            return Fact::NotCaptured;
        };
        if http::essence(&content_type) != URLENCODED {
            return Fact::Missing;
        }
        match self.exchange.request.body.as_deref() {
            None => Fact::NotCaptured,
            Some(body) => Fact::or_missing(std::str::from_utf8(body).ok()),
        }
    }
}

fn text(text: Cow<'_, str>) -> Value<'_> {
    Value::Bytes(match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    })
}

fn flag(flag: Option<bool>) -> Fact<Value<'static>> {
    Fact::or_not_captured(flag.map(Value::Bool))
}

/// Shows the values under `key`. Without a pair of this name the answer is `otherwise`.
fn pick<'a>(
    pairs: impl Iterator<Item = Pair<'a>>,
    key: &str,
    otherwise: Fact<()>,
    see: See<'_, 'a>,
) -> Fact<()> {
    let mut found = false;
    for (_, value) in pairs.filter(|(name, _)| name == key) {
        found = true;
        if !see(Value::text(value)) {
            return Fact::Known(());
        }
    }
    if found { Fact::Known(()) } else { otherwise }
}

/// Shows names or values of all pairs.
fn all<'a>(values: impl Iterator<Item = Value<'a>>, complete: bool, see: See<'_, 'a>) -> Fact<()> {
    let mut any = false;
    for value in values {
        any = true;
        if !see(value) {
            return Fact::Known(());
        }
    }
    match (complete, any) {
        (true, _) => Fact::Known(()),
        (false, true) => Fact::Partly(()),
        (false, false) => Fact::NotCaptured,
    }
}

fn name(pair: Pair<'_>) -> Value<'_> {
    text(pair.0)
}

fn value((_, value): Pair<'_>) -> Value<'_> {
    Value::text(value)
}

/// Shows all pairs with the place of each value among those of its name; false after an early stop.
fn places<'a, I: Iterator<Item = Pair<'a>>>(
    pairs: impl Fn() -> I,
    same: impl Fn(&str, &str) -> bool,
    see: &mut dyn FnMut(usize, Value<'a>) -> bool,
) -> bool {
    for (number, (name, value)) in pairs().enumerate() {
        let before = pairs().take(number);
        let place = before.filter(|(other, _)| same(other, &name)).count();
        if !see(place, Value::text(value)) {
            return false;
        }
    }
    true
}

/// The values of a header field; keys are in lower case, so any other key names nothing.
fn header_values<'a>(headers: &'a Headers<'_>, key: &str, see: See<'_, 'a>) -> Fact<()> {
    let mut found = false;
    if !key.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let fields = headers.fields.iter();
        for (_, value) in fields.filter(|(name, _)| name.eq_ignore_ascii_case(key)) {
            found = true;
            if !see(Value::text(value)) {
                return Fact::Known(());
            }
        }
    }
    if found {
        Fact::Known(())
    } else if headers.would_show(key) {
        Fact::Missing
    } else {
        Fact::NotCaptured
    }
}

impl Source for Facts<'_> {
    fn value(&self, field: Field) -> Fact<Value<'_>> {
        let request = &self.exchange.request;
        let judged = self.judged;
        let header = |name| http::header(self.headers(), name).map(text);
        let known = |text| Fact::Known(Value::text(text));
        match field {
            Field::Host => known(&judged.host),
            Field::Method => known(&request.method),
            Field::Uri => known(self.with_query(&judged.path, &self.uri)),
            Field::UriPath => known(&judged.path),
            Field::UriQuery => known(self.query()),
            Field::UriExtension => Fact::Known(text(http::extension(&judged.path))),
            Field::FullUri => match request.scheme.as_deref() {
                None => Fact::NotCaptured,
                Some(scheme) => known(self.full_uri.get_or_init(|| {
                    let uri = self.with_query(&judged.path, &self.uri);
                    format!("{scheme}://{}{uri}", judged.host)
                })),
            },
            Field::RawUri => known(self.with_query(&request.path, &self.raw_uri)),
            Field::RawUriPath => known(&request.path),
            Field::HeadersTruncated => Fact::Known(Value::Bool(!self.headers().complete())),
            Field::Cookie => header("cookie"),
            Field::UserAgent => {
                let cell = &self.user_agent;
                let found = cell.get_or_init(|| http::header(self.headers(), "user-agent"));
                found.as_ref().map(|found| Value::text(found))
            }
            Field::Referer => header("referer"),
            Field::ForwardedFor => header("x-forwarded-for"),
            Field::BodyRaw => {
                let body = request.body.as_deref();
                Fact::or_not_captured(body.map(|body| Value::Bytes(Cow::Borrowed(body))))
            }
            Field::BodySize => Fact::or_not_captured(self.body_size().map(Value::Int)),
            Field::BodyMime => {
                http::header(self.headers(), "content-type").map(|found| match found {
                    Cow::Borrowed(found) => text(http::essence(found)),
                    Cow::Owned(found) => text(Cow::Owned(http::essence(&found).into_owned())),
                })
            }
            Field::BodyTruncated => match (&request.body, request.body_bytes) {
                (Some(_), _) => flag(Some(false)),
                (None, bytes) => flag(bytes.map(|bytes| bytes > 0)),
            },
            Field::Second => Fact::Known(Value::Int(self.exchange.at.seconds())),
            Field::Millisecond => Fact::Known(Value::Int(self.exchange.at.millis() % 1_000)),
            Field::ResponseCode => self
                .response()
                .map(|response| Value::Int(response.status.into())),
            Field::Ssl => flag(request.scheme.as_deref().map(|scheme| scheme == "https")),
            Field::Address => Fact::or_not_captured(self.address().map(Value::Ip)),
            Field::AsNumber => {
                let number = self.exchange.client.asn;
                Fact::or_not_captured(number.map(|number| Value::Int(number.into())))
            }
            Field::Country => {
                Fact::or_not_captured(self.exchange.client.country.as_deref().map(Value::text))
            }
            Field::CertPresented => flag(judged.mtls.presented),
            Field::CertVerified => flag(judged.mtls.verified),
            // Only a valid certificate counts as revoked (feature map section 5.1).
            Field::CertRevoked if judged.mtls.verified == Some(false) => flag(Some(false)),
            Field::CertRevoked => flag(judged.mtls.revoked),
            Field::CertRfc9440TooLarge => self.too_large(Flag::Rfc9440TooLarge),
            Field::CertChainRfc9440TooLarge => self.too_large(Flag::ChainRfc9440TooLarge),
            Field::AuthIdPresent => flag(match judged.session.outcome {
                SessionOutcome::Present => Some(true),
                SessionOutcome::Absent => Some(false),
                SessionOutcome::NotCaptured | SessionOutcome::NotConfigured => None,
            }),
            Field::RequestViolates => flag(match judged.schema.request {
                SchemaOutcome::Violates => Some(true),
                SchemaOutcome::Conforms | SchemaOutcome::NoOperation => Some(false),
                SchemaOutcome::NotEvaluated => None,
            }),
            Field::Fallthrough => {
                let outcome = judged.schema.request;
                Fact::Known(Value::Bool(outcome == SchemaOutcome::NoOperation))
            }
            Field::Zone => known(&self.zone.id),
            Field::Endpoint => known(&judged.endpoint),
            Field::EndpointSource => known(judged.source.as_str()),
            Field::SessionOutcome => known(judged.session.outcome.as_str()),
            Field::TokenOutcome => {
                Fact::or_missing(judged.token.map(|outcome| Value::text(outcome.as_str())))
            }
            Field::SchemaRequest => known(judged.schema.request.as_str()),
            Field::SchemaResponse => known(judged.schema.response.as_str()),
            Field::MtlsOutcome => known(judged.mtls.outcome.as_str()),
            Field::MtlsReason => known(judged.mtls.reason.map_or("", |reason| reason.as_str())),
            Field::Duration => {
                let response = self.exchange.response.as_ref();
                let duration = response.and_then(|response| response.duration_ms);
                #[expect(clippy::cast_possible_truncation, reason = "saturates")]
                let millis = duration.map(|millis| Value::Int(millis.floor() as i64));
                Fact::or_not_captured(millis)
            }
            field => match certificate_text(field) {
                Some(text) => self.certificate(text),
                None => Fact::Missing,
            },
        }
    }

    fn each<'s>(&'s self, field: Field, key: Option<&str>, see: See<'_, 's>) -> Fact<()> {
        let headers = self.headers();
        let complete = headers.complete();
        let shows_cookies = headers.would_show("cookie");
        let unless = |captured: bool| {
            if captured {
                Fact::Missing
            } else {
                Fact::NotCaptured
            }
        };
        let response = self
            .exchange
            .response
            .as_ref()
            .map(|response| &response.headers);
        match (field, key) {
            (Field::UriArgs, Some(key)) => {
                pick(http::arguments(self.query()), key, Fact::Missing, see)
            }
            (Field::UriArgNames, _) => all(http::arguments(self.query()).map(name), true, see),
            (Field::UriArgValues, _) => all(http::arguments(self.query()).map(value), true, see),
            (Field::Headers, Some(key)) => header_values(headers, key, see),
            (Field::HeaderNames, _) => all(http::fields(headers).map(name), complete, see),
            (Field::HeaderValues, _) => all(http::fields(headers).map(value), complete, see),
            (Field::Cookies, Some(key)) => {
                pick(http::cookies(headers), key, unless(shows_cookies), see)
            }
            (Field::CookieNames, _) => all(http::cookies(headers).map(name), shows_cookies, see),
            (Field::CookieValues, _) => all(http::cookies(headers).map(value), shows_cookies, see),
            (Field::BodyForm | Field::BodyFormNames | Field::BodyFormValues, _) => {
                match (self.form(), key) {
                    (Fact::Known(form), Some(key)) => {
                        pick(http::arguments(form), key, Fact::Missing, see)
                    }
                    (Fact::Known(form), None) if field == Field::BodyFormNames => {
                        all(http::arguments(form).map(name), true, see)
                    }
                    (Fact::Known(form), None) => all(http::arguments(form).map(value), true, see),
                    (fact, _) => fact.map(|_| ()),
                }
            }
            (Field::ResponseHeaders, Some(key)) => match response {
                Some(headers) => header_values(headers, key, see),
                None => Fact::NotCaptured,
            },
            (Field::ResponseHeaderNames | Field::ResponseHeaderValues, _) => match response {
                Some(headers) if field == Field::ResponseHeaderNames => {
                    all(http::fields(headers).map(name), headers.complete(), see)
                }
                Some(headers) => all(http::fields(headers).map(value), headers.complete(), see),
                None => Fact::NotCaptured,
            },
            (Field::SessionIdentifiers, _) => {
                let names = &self.zone.sessions.names;
                let present = self.judged.session.identifiers.iter();
                let present = present.filter_map(|at| names.get(usize::from(*at)));
                let known = self.judged.session.outcome != SessionOutcome::NotCaptured;
                all(present.map(|name| Value::text(name)), known, see)
            }
            (Field::TokenOutcomes | Field::TokenReasons, key) => {
                let mut fact = unless(true);
                for (id, verdict) in self.tokens() {
                    if key.is_some_and(|key| key != id) {
                        continue;
                    }
                    let text = match field {
                        Field::TokenOutcomes => Some(verdict.outcome.as_str()),
                        _ => verdict.outcome.reason().map(TokenReason::as_str),
                    };
                    if let Some(text) = text {
                        fact = Fact::Known(());
                        if !see(Value::text(text)) {
                            break;
                        }
                    }
                }
                fact
            }
            (Field::ViolationClasses, _) => {
                let violations = self.judged.schema.violations.iter();
                all(violations.map(|v| Value::text(v.class.as_str())), true, see)
            }
            (Field::ViolationTargets, _) => {
                let violations = self.judged.schema.violations.iter();
                all(violations.map(|v| Value::text(&v.target)), true, see)
            }
            (Field::Claims, Some(key)) => {
                let id = self.tokens().map(|(id, _)| id).find(|id| *id == key);
                self.raw_claims(Some(id.unwrap_or("")), &mut |_, value| see(value))
            }
            (field, key) => {
                let Some((claim, part)) = claim_of(field) else {
                    return Fact::Missing;
                };
                if part == Part::Names {
                    return self.claim_names(claim, see);
                }
                let id = match key {
                    None => None,
                    Some(key) => Some(
                        self.tokens()
                            .map(|(id, _)| id)
                            .find(|id| *id == key)
                            .unwrap_or(""),
                    ),
                };
                self.claims(claim, field.kind().of, id, &mut |_, value| see(value))
            }
        }
    }

    fn spread<'s>(
        &'s self,
        field: Field,
        see: &mut dyn FnMut(usize, Value<'s>) -> bool,
    ) -> Fact<()> {
        let headers = self.headers();
        let exact = |left: &str, right: &str| left == right;
        let loose = |left: &str, right: &str| left.eq_ignore_ascii_case(right);
        // What was found before an early stop is there, whatever else there may be.
        let of = |whole: bool, complete: bool, captured: &Captured<'_>| match captured {
            _ if complete || !whole => Fact::Known(()),
            Captured::Nothing => Fact::NotCaptured,
            _ => Fact::Partly(()),
        };
        let of_headers = |headers: &'s Headers<'s>,
                          see: &mut dyn FnMut(usize, Value<'s>) -> bool| {
            let whole = places(|| http::fields(headers), loose, see);
            of(whole, headers.complete(), &headers.captured)
        };
        match field {
            Field::UriArgs => {
                places(|| http::arguments(self.query()), exact, see);
                Fact::Known(())
            }
            Field::Headers => of_headers(headers, see),
            Field::ResponseHeaders => match &self.exchange.response {
                None => Fact::NotCaptured,
                Some(response) => of_headers(&response.headers, see),
            },
            Field::Cookies => {
                let whole = places(|| http::cookies(headers), exact, see);
                of(whole, headers.would_show("cookie"), &headers.captured)
            }
            Field::BodyForm => self.form().map(|form| {
                places(|| http::arguments(form), exact, see);
            }),
            Field::Claims => self.raw_claims(None, see),
            field => match claim_of(field) {
                Some((claim, _)) => self.claims(claim, field.kind().of, None, see),
                None => Fact::Missing,
            },
        }
    }

    fn token_valid(&self, index: usize) -> Fact<bool> {
        match self.judged.tokens.get(index).map(|verdict| verdict.outcome) {
            Some(outcome) if !unknown(outcome) => Fact::Known(outcome == TokenOutcome::Valid),
            _ => Fact::NotCaptured,
        }
    }

    fn token_present(&self, index: usize) -> Fact<bool> {
        match self.judged.tokens.get(index).map(|verdict| verdict.outcome) {
            None | Some(TokenOutcome::NotCaptured) => Fact::NotCaptured,
            Some(outcome) => Fact::Known(outcome != TokenOutcome::Missing),
        }
    }
}
