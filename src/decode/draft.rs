//! An exchange in the making: what an adapter has gathered from a gateway's log line, and what follows from it.
//!
//! Enters: members, one by one. Leaves: a [`Record`], or the reason why not. The names of members are the adapters'.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

use super::line::Value;
use super::{Kind, Limits, MAX_HEADERS, Record, split_query};
use crate::model::{
    COOKIE, Captured, Client, ClientCertificate, EventTime, Exchange, Headers, MtlsReason, Reject,
    Request, Response,
};

/// What is known so far; everything may stay unknown.
#[derive(Debug, Default)]
pub(super) struct Draft<'a> {
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) zone: Option<Cow<'a, str>>,
    /// When the request began.
    pub(super) at: Option<EventTime>,
    pub(super) client: Client<'a>,
    pub(super) certificate: Option<ClientCertificate<'a>>,
    pub(super) method: Option<Cow<'a, str>>,
    pub(super) scheme: Option<Cow<'a, str>>,
    pub(super) host: Option<Cow<'a, str>>,
    /// Path with the query, as sent.
    pub(super) target: Option<Cow<'a, str>>,
    pub(super) request: Message<'a>,
    /// 0 or less: the client got no answer.
    pub(super) status: Option<i64>,
    pub(super) response: Message<'a>,
    pub(super) duration_ms: Option<f64>,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Message<'a> {
    fields: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    names: Vec<Cow<'a, str>>,
    all: bool,
    too_many: bool,
    pub(super) body: Option<Cow<'a, [u8]>>,
    pub(super) body_bytes: Option<u64>,
}

impl<'a> Message<'a> {
    /// The log shows this header, and `value` is what it says; nothing when the header was not sent.
    pub(super) fn logged(&mut self, name: Cow<'a, str>, value: Option<Cow<'a, str>>) {
        if let Some(value) = value {
            self.push(name.clone(), value);
        }
        self.shows(name);
    }

    /// The log would show this header.
    pub(super) fn shows(&mut self, name: Cow<'a, str>) {
        if self.names.len() < MAX_HEADERS {
            self.names.push(name);
        } else {
            self.too_many = true;
        }
    }

    /// One header field.
    pub(super) fn push(&mut self, name: Cow<'a, str>, value: Cow<'a, str>) {
        if self.fields.len() < MAX_HEADERS {
            self.fields.push((name, value));
        } else {
            self.too_many = true;
        }
    }

    /// An object of headers: text or list of texts, `null` for a header that was not sent.
    pub(super) fn object(&mut self, members: Vec<(Cow<'a, str>, Value<'a>)>) {
        for (name, value) in members {
            if let Value::List(values) = value {
                for value in values.into_iter().filter_map(Value::text) {
                    self.push(name.clone(), value);
                }
                self.shows(name);
            } else {
                self.logged(name, value.text());
            }
        }
    }

    /// The whole header block, `name: value` and CRLF each.
    pub(super) fn block(&mut self, block: &str) {
        self.all = true;
        for line in block.split("\r\n") {
            if let Some((name, value)) = line.split_once(':') {
                let value = value.trim_matches([' ', '\t']);
                self.push(Cow::Owned(name.to_owned()), Cow::Owned(value.to_owned()));
            }
        }
    }

    /// One cookie that is logged apart from the header.
    pub(super) fn cookie(&mut self, name: &str, value: Option<Cow<'a, str>>) {
        if let Some(value) = value {
            self.push(Cow::Borrowed("cookie"), format!("{name}={value}").into());
        }
        self.shows(format!("{COOKIE}{name}").into());
    }

    /// First value of a header.
    pub(super) fn first(&self, name: &str) -> Option<&Cow<'a, str>> {
        self.fields
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Whether the log proves that this header was not sent.
    pub(super) fn lacks(&self, name: &str) -> bool {
        let shown = self.all
            || self
                .names
                .iter()
                .any(|shown| shown.eq_ignore_ascii_case(name));
        shown && self.first(name).is_none()
    }

    /// Replaces all values of a header by one.
    pub(super) fn replace(&mut self, name: &'static str, value: Cow<'a, str>) {
        self.fields
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.logged(Cow::Borrowed(name), Some(value));
    }

    /// Whether the headers prove that no body follows (RFC 9112 section 6.3). They do not in HTTP/2 and 3, where a body
    /// may come without a word about its length.
    pub(super) fn announces_no_body(&self, protocol: Option<&str>) -> bool {
        if let Some(length) = self.first("content-length") {
            return length.as_ref() == "0";
        }
        protocol.is_some_and(|protocol| protocol.starts_with("HTTP/1"))
            && self.lacks("content-length")
            && self.lacks("transfer-encoding")
    }

    fn finish(self, limits: Limits) -> Result<(Headers<'a>, Body<'a>, Option<u64>), Reject> {
        if self.too_many {
            return Err(Reject::TooManyHeaders);
        }
        let captured = match (self.all, self.names.is_empty()) {
            (true, _) => Captured::All,
            (false, true) => Captured::Nothing,
            (false, false) => Captured::Names(self.names),
        };
        let headers = Headers {
            fields: self.fields,
            captured,
        };
        let sent = self.body_bytes;
        let body = self.body.filter(|body| {
            body.len() <= limits.body && sent.is_none_or(|sent| body.len() as u64 >= sent)
        });
        Ok((headers, body, sent))
    }
}

type Body<'a> = Option<Cow<'a, [u8]>>;

impl<'a> Draft<'a> {
    /// The exchange.
    ///
    /// # Errors
    /// The line has no time, names no request (a gateway logs what it could not parse, too), or its status is none.
    pub(super) fn finish(self, limits: Limits) -> Result<Record<'a>, Reject> {
        let (Some(method), Some(target)) = (self.method, self.target) else {
            return Err(Reject::MissingPart);
        };
        let at = self.at.ok_or(Reject::InvalidTime)?;
        let (path, query) = split_query(target, None);
        let (headers, body, body_bytes) = self.request.finish(limits)?;
        let request = Request {
            method,
            scheme: self.scheme,
            host: self.host.unwrap_or_default(),
            path,
            query,
            headers,
            body,
            body_bytes,
        };
        let response = match self.status {
            None | Some(..=0) => None,
            Some(status) => {
                let status = u16::try_from(status)
                    .ok()
                    .filter(|status| (100..=599).contains(status))
                    .ok_or(Reject::InvalidStatus)?;
                let (headers, body, body_bytes) = self.response.finish(limits)?;
                Some(Response {
                    status,
                    headers,
                    body,
                    body_bytes,
                    duration_ms: self.duration_ms,
                })
            }
        };
        let exchange = Exchange {
            id: self.id,
            at,
            zone: self.zone,
            client: self.client,
            certificate: self.certificate,
            request,
            response,
        };
        Ok(Record {
            kind: Kind::Exchange,
            exchange,
        })
    }

    /// Members that have the same name in every gateway's log, because no gateway has a name for them: the zone as a
    /// constant, and what a location database found. Gives back what is none of them.
    pub(super) fn constant(&mut self, name: &str, value: Value<'a>) -> Option<Value<'a>> {
        match name {
            "zone" => self.zone = value.filled(),
            "client_asn" => self.client.asn = value.unsigned().and_then(|n| u32::try_from(n).ok()),
            "client_country" => self.client.country = value.filled(),
            _ => return Some(value),
        }
        None
    }
}

/// The start of a request that was logged at its end.
pub(super) fn started(end: EventTime, duration_ms: Option<f64>) -> Option<EventTime> {
    let Some(millis) = duration_ms else {
        return Some(end);
    };
    // Whole nanoseconds of milliseconds with three decimals; longer than a century is nonsense that the range refuses.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates, and is then refused"
    )]
    let nanos = (millis.max(0.0) * 1e6).round() as i64;
    EventTime::from_nanos(end.nanos().checked_sub(nanos)?)
}

/// Bytes in base64.
///
/// # Errors
/// They are not.
pub(super) fn base64(text: &str) -> Result<Cow<'static, [u8]>, Reject> {
    let bytes = STANDARD.decode(text).map_err(|_| Reject::InvalidBody)?;
    Ok(Cow::Owned(bytes))
}

/// Text with percent escapes, as gateways write certificates.
pub(super) fn percent_decoded(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.contains('%') {
        return text;
    }
    Cow::Owned(percent_decode_str(&text).decode_utf8_lossy().into_owned())
}

/// What OpenSSL's words for a failed verification mean (`X509_verify_cert_error_string`).
pub(super) fn failure(words: &str) -> Option<MtlsReason> {
    const MEANINGS: &[(&str, MtlsReason)] = &[
        ("has expired", MtlsReason::Expired),
        ("not yet valid", MtlsReason::NotYetValid),
        ("signature failure", MtlsReason::BadSignature),
        ("purpose", MtlsReason::WrongUsage),
        ("issuer", MtlsReason::Untrusted),
        ("self signed", MtlsReason::Untrusted),
        ("self-signed", MtlsReason::Untrusted),
        ("first certificate", MtlsReason::Untrusted),
        ("not trusted", MtlsReason::Untrusted),
        ("invalid CA", MtlsReason::Untrusted),
    ];
    let found = MEANINGS.iter().find(|(part, _)| words.contains(part));
    found.map(|(_, reason)| *reason)
}
