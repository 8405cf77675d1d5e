//! Format `haproxy`: a `HAProxy` log in JSON, as the `log-format` in `pipelines/gateways/haproxy` writes it.
//!
//! Enters: a line, perhaps behind a syslog header. Leaves: a [`Record`].
//!
//! What this log can show: everything in the header blocks, so absent, empty and repeated fields can be told apart. Where
//! the blocks are objects instead, their members are what was logged. A dash is what `HAProxy` writes for a sample that
//! is missing: variables of a request that it could not parse, a body that did not fit.

use std::borrow::Cow;

use super::draft::{Draft, base64};
use super::line::{self, Value};
use super::{Limits, Record};
use crate::model::{ClientCertificate, MtlsReason, Reject};

/// `HAProxy` hands over what it holds when its buffer (16 kB by default) is full. A body whose length was not announced is
/// known to be whole only if there was room left.
const SURELY_BUFFERED: usize = 8 << 10;

/// Decodes one line.
///
/// # Errors
/// The reason why the line is refused.
pub fn decode(payload: &[u8], limits: Limits) -> Result<Record<'_>, Reject> {
    let mut line = Line::default();
    line::members(payload, limits, &mut |name, value| line.take(&name, value))?;
    line.finish(limits)
}

#[derive(Default)]
struct Line<'a> {
    draft: Draft<'a>,
    header_bytes: usize,
    body: Option<Cow<'a, str>>,
    /// `req.body_size`: announced, or what is there.
    body_bytes: Option<u64>,
    tls: bool,
    used: Option<bool>,
    verify: Option<i64>,
    ca_verify: Option<i64>,
    certificate: ClientCertificate<'a>,
}

impl<'a> Line<'a> {
    fn take(&mut self, name: &str, value: Value<'a>) {
        let draft = &mut self.draft;
        match name {
            "time" => draft.at = value.time(),
            "request_id" => draft.id = value.filled(),
            "client_ip" => draft.client.ip = value.filled(),
            "client_port" => {
                draft.client.port = value.unsigned().and_then(|port| u16::try_from(port).ok());
            }
            "method" => draft.method = value.filled().filter(|method| method != "<BADREQ>"),
            "scheme" => draft.scheme = value.filled(),
            "host" => draft.host = value.filled().map(utf8),
            "path" => draft.target = value.filled().map(utf8),
            "request_headers" => match value {
                Value::Object(members) => draft.request.object(members),
                value => {
                    if let Some(block) = value.filled().map(utf8) {
                        self.header_bytes = block.len();
                        draft.request.block(&block);
                    }
                }
            },
            "request_body_base64" => self.body = value.text(),
            "request_body_bytes" => self.body_bytes = value.unsigned(),
            "status" => draft.status = value.integer(),
            "response_headers" => match value {
                Value::Object(members) => draft.response.object(members),
                value => {
                    if let Some(block) = value.filled().map(utf8) {
                        draft.response.block(&block);
                    }
                }
            },
            "duration_ms" => draft.duration_ms = value.number().filter(|millis| *millis >= 0.0),
            "tls" => self.tls = value.flag() == Some(true),
            "certificate_used" => self.used = value.flag(),
            "certificate_verify" => self.verify = value.integer(),
            "certificate_ca_verify" => self.ca_verify = value.integer(),
            "certificate_base64" => self.certificate.pem = value.filled(),
            "certificate_sha256" => self.certificate.fingerprint_sha256 = value.filled(),
            "certificate_subject_dn" => self.certificate.subject_dn = value.filled(),
            "certificate_issuer_dn" => self.certificate.issuer_dn = value.filled(),
            "certificate_serial" => self.certificate.serial = value.filled(),
            other => {
                draft.constant(other, value);
            }
        }
    }

    fn finish(mut self, limits: Limits) -> Result<Record<'a>, Reject> {
        let draft = &mut self.draft;
        if let Some(length) = draft.response.first("content-length") {
            draft.response.body_bytes = length.parse().ok();
        }
        draft.request.body_bytes = self.body_bytes;
        let announced = draft.request.first("content-length").is_some();
        draft.request.body = match (self.body.as_deref(), self.body_bytes) {
            // A missing sample: nothing was there, or it did not fit.
            (Some("" | "-"), Some(0)) => Some(Cow::Borrowed(&[])),
            (None | Some("" | "-"), _) => None,
            (Some(text), _) => {
                let bytes = base64(text)?;
                let room_left = bytes.len() + self.header_bytes <= SURELY_BUFFERED;
                (announced || room_left).then_some(bytes)
            }
        };
        if self.tls && self.used.is_some() {
            let error = match self.verify {
                Some(0) => self.ca_verify.filter(|code| *code != 0).or(self.verify),
                other => other,
            };
            draft.certificate = Some(findings(self.used, error, self.certificate));
        }
        self.draft.finish(limits)
    }
}

/// What `OpenSSL`'s numbers of verification errors mean (`openssl/x509_vfy.h`).
fn findings(
    used: Option<bool>,
    error: Option<i64>,
    stated: ClientCertificate<'_>,
) -> ClientCertificate<'_> {
    let presented = used;
    if presented != Some(true) {
        return ClientCertificate {
            presented,
            ..ClientCertificate::default()
        };
    }
    let (verified, revoked, reason) = match error {
        None => (None, None, None),
        Some(0) => (Some(true), None, None),
        Some(23) => (Some(true), Some(true), None),
        Some(code) => {
            let reason = match code {
                2 | 18..=21 | 27 | 28 | 24 => Some(MtlsReason::Untrusted),
                7 => Some(MtlsReason::BadSignature),
                9 => Some(MtlsReason::NotYetValid),
                10 => Some(MtlsReason::Expired),
                26 => Some(MtlsReason::WrongUsage),
                _ => None,
            };
            (Some(false), None, reason)
        }
    };
    ClientCertificate {
        presented,
        verified,
        revoked,
        reason,
        ..stated
    }
}

/// `HAProxy`'s `json` writes every byte above 127 as the code point of that number. Put together again they are the text
/// that was sent, where that was UTF-8.
fn utf8(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.is_ascii() {
        return text;
    }
    let bytes: Option<Vec<u8>> = text
        .chars()
        .map(|c| u8::try_from(u32::from(c)).ok())
        .collect();
    match bytes {
        Some(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::decode;
    use crate::decode::Limits;
    use crate::model::{Exchange, MtlsReason, Reject};

    const POST: &str = r#""time":"1712790000500","method":"POST","path":"\/a?b","status":"200""#;

    fn exchange(members: &str, check: impl FnOnce(&Exchange<'_>)) {
        let line = format!("<134>Nov 23 04:31:37 gate haproxy[7]: {{{POST},{members}}}");
        check(&decode(line.as_bytes(), Limits::default()).unwrap().exchange);
    }

    #[test]
    fn blocks_show_every_header_and_objects_the_listed_ones() {
        let block = r#""request_headers":"host: a\r\nx-empty: \r\ncookie: a=1\r\ncookie: b=2\r\nx-utf: \u00c3\u00a9 \u00ff\r\n\r\n""#;
        exchange(block, |found| {
            let headers = &found.request.headers;
            assert!(headers.complete());
            assert_eq!(headers.first("x-empty"), Some(""));
            assert_eq!(headers.cookies("b").collect::<Vec<_>>(), ["2"]);
            assert_eq!(headers.first("x-utf"), Some("é \u{fffd}"));
        });
        let object = r#""request_headers":{"authorization":null,"x-api-key":["1","2"]}"#;
        exchange(object, |found| {
            let headers = &found.request.headers;
            assert!(headers.would_show("authorization") && !headers.would_show("cookie"));
            assert_eq!(headers.values("x-api-key").collect::<Vec<_>>(), ["1", "2"]);
        });
        for nothing in [r#""request_headers":"-""#, r#""x":1"#] {
            exchange(nothing, |found| {
                assert!(!found.request.headers.would_show("host"));
            });
        }
    }

    #[test]
    fn bodies_are_whole_empty_or_not_captured() {
        let long = "eHh4".repeat(2_800);
        for (members, expected) in [
            (
                r#""request_body_base64":"eHh4","request_body_bytes":"3""#.to_owned(),
                Some(3),
            ),
            (
                r#""request_body_base64":"eHh4","request_body_bytes":"4""#.to_owned(),
                None,
            ),
            (
                r#""request_body_base64":"-","request_body_bytes":"0""#.to_owned(),
                Some(0),
            ),
            (
                r#""request_body_base64":"-","request_body_bytes":"40000""#.to_owned(),
                None,
            ),
            (
                r#""request_body_base64":"-","request_body_bytes":"-""#.to_owned(),
                None,
            ),
            (r#""x":"y""#.to_owned(), None),
            // Nobody said how long it is, and HAProxy's buffer may have been full.
            (
                format!(r#""request_body_base64":"{long}","request_body_bytes":"8400""#),
                None,
            ),
            (
                format!(
                    r#""request_headers":"content-length: 8400\r\n\r\n","request_body_base64":"{long}","request_body_bytes":"8400""#
                ),
                Some(8_400),
            ),
        ] {
            exchange(&members, |found| {
                let length = found.request.body.as_ref().map(|body| body.len());
                assert_eq!(
                    length,
                    expected,
                    "{}",
                    members.get(..60).unwrap_or(&members)
                );
            });
        }
    }

    #[test]
    fn certificates_by_number() {
        for (members, expected) in [
            (r#""tls":"0","certificate_used":"-""#, None),
            (
                r#""tls":"1","certificate_used":"0""#,
                Some((Some(false), None, None, None)),
            ),
            (
                r#""tls":"1","certificate_used":"1","certificate_verify":"0","certificate_ca_verify":"0""#,
                Some((Some(true), Some(true), None, None)),
            ),
            (
                r#""tls":1,"certificate_used":1,"certificate_verify":10"#,
                Some((Some(true), Some(false), None, Some(MtlsReason::Expired))),
            ),
            (
                r#""tls":"1","certificate_used":"1","certificate_verify":"23""#,
                Some((Some(true), Some(true), Some(true), None)),
            ),
            (
                r#""tls":"1","certificate_used":"1","certificate_verify":"0","certificate_ca_verify":"19""#,
                Some((Some(true), Some(false), None, Some(MtlsReason::Untrusted))),
            ),
            (
                r#""tls":"1","certificate_used":"1","certificate_verify":"-""#,
                Some((Some(true), None, None, None)),
            ),
            (r#""tls":"1""#, None),
        ] {
            exchange(members, |found| {
                let found = found.certificate.as_ref();
                let found = found.map(|c| (c.presented, c.verified, c.revoked, c.reason));
                assert_eq!(found, expected, "{members}");
            });
        }
    }

    #[test]
    fn what_haproxy_could_not_parse_and_what_nobody_answered() {
        let line = br#"{"time":"-","method":"<BADREQ>","path":"-","status":"400"}"#;
        assert_eq!(
            decode(line, Limits::default()).err(),
            Some(Reject::MissingPart)
        );
        let line = br#"{"time":"1712790000500","method":"GET","path":"/","status":"-1","duration_ms":"-1"}"#;
        assert!(
            decode(line, Limits::default())
                .unwrap()
                .exchange
                .response
                .is_none()
        );
        assert_eq!(
            decode(b"Proxy api started.", Limits::default()).err(),
            Some(Reject::Malformed)
        );
    }
}
