//! Format `nginx-json`: an nginx access log whose members have the names of their variables.
//!
//! Enters: a line of `log_format … escape=json`, see `pipelines/gateways/nginx`. Leaves: a [`Record`].
//!
//! What this log can show: `http_name`, `sent_http_name` and `cookie_name` members are headers and cookies that were
//! logged, anything else was not captured. nginx writes an empty text for a header that is absent and for one that is
//! empty; both count as absent, neither identifies anybody. The body is there when nginx held it in memory: an empty one
//! counts as empty only where the headers say that none was sent.

use std::borrow::Cow;

use super::draft::{Draft, failure, percent_decoded, started};
use super::line::{self, Value};
use super::{Limits, Record};
use crate::model::{ClientCertificate, EventTime, Reject};

/// Decodes one line.
///
/// # Errors
/// The reason why the line is refused.
pub fn decode(payload: &[u8], limits: Limits) -> Result<Record<'_>, Reject> {
    let mut line = Line::default();
    line::members(payload, limits, &mut |name, value| line.take(name, value))?;
    line.finish(limits)
}

#[derive(Default)]
struct Line<'a> {
    draft: Draft<'a>,
    /// `$msec`, else `$time_iso8601`: when the line was written, which is at the request's end.
    logged_at: Option<EventTime>,
    seconds: bool,
    protocol: Option<Cow<'a, str>>,
    /// `$request`, for want of its parts.
    request: Option<Cow<'a, str>>,
    body: Option<Cow<'a, [u8]>>,
    in_file: bool,
    tls: bool,
    verify: Option<Cow<'a, str>>,
    certificate: ClientCertificate<'a>,
}

impl<'a> Line<'a> {
    fn take(&mut self, name: Cow<'a, str>, value: Value<'a>) {
        let draft = &mut self.draft;
        match name.as_ref() {
            "msec" => self.logged_at = value.time().or(self.logged_at),
            "time_iso8601" => {
                if self.logged_at.is_none() {
                    self.logged_at = value.time();
                    self.seconds = true;
                }
            }
            "request_time" => draft.duration_ms = value.number().map(|seconds| seconds * 1_000.0),
            "request_id" => draft.id = value.filled(),
            "remote_addr" => draft.client.ip = value.filled(),
            "remote_port" => {
                draft.client.port = value.unsigned().and_then(|port| u16::try_from(port).ok());
            }
            "request_method" => draft.method = value.filled(),
            "scheme" => draft.scheme = value.filled(),
            "host" => draft.host = value.filled(),
            "request_uri" => draft.target = value.filled(),
            "request" => self.request = value.filled(),
            "server_protocol" => self.protocol = value.filled(),
            "content_type" => log_header(draft, Cow::Borrowed("content-type"), value),
            "content_length" => log_header(draft, Cow::Borrowed("content-length"), value),
            "request_body" => {
                if let Value::Bytes(bytes) = value {
                    self.body = Some(bytes);
                }
            }
            "request_body_file" => self.in_file = value.filled().is_some(),
            "status" => draft.status = value.integer(),
            "body_bytes_sent" => draft.response.body_bytes = value.unsigned(),
            "https" => self.tls = value.flag() == Some(true),
            "ssl_protocol" => self.tls |= value.filled().is_some(),
            "ssl_client_verify" => self.verify = value.filled(),
            "ssl_client_s_dn" => self.certificate.subject_dn = value.filled(),
            "ssl_client_i_dn" => self.certificate.issuer_dn = value.filled(),
            "ssl_client_serial" => self.certificate.serial = value.filled(),
            "ssl_client_escaped_cert" => {
                self.certificate.pem = value.filled().map(percent_decoded);
            }
            "ssl_client_raw_cert" => self.certificate.pem = value.filled(),
            _ => listed(draft, name, value),
        }
    }

    fn finish(mut self, limits: Limits) -> Result<Record<'a>, Reject> {
        let draft = &mut self.draft;
        // Whole seconds are rounded down already: nothing is gained by going back a fraction.
        let duration = draft.duration_ms.filter(|_| !self.seconds);
        draft.at = self.logged_at.and_then(|end| started(end, duration));
        if let Some(line) = self.request
            && draft.target.is_none()
        {
            let (method, target, protocol) = split_request_line(&line);
            draft.method = draft.method.take().or(method);
            draft.target = target;
            self.protocol = self.protocol.take().or(protocol);
        }
        let length = draft
            .request
            .first("content-length")
            .and_then(|n| n.parse().ok());
        draft.request.body_bytes = length;
        draft.request.body = match self.body {
            Some(body) if !body.is_empty() => Some(body),
            Some(empty)
                if !self.in_file && draft.request.announces_no_body(self.protocol.as_deref()) =>
            {
                Some(empty)
            }
            _ => None,
        };
        draft.certificate = certificate(self.verify.as_deref(), self.tls, self.certificate);
        self.draft.finish(limits)
    }
}

/// What names of variables that hold a header start with.
const REQUEST: &str = "http_";
const RESPONSE: &str = "sent_http_";

/// Variables whose names say which header or cookie they hold.
fn listed<'a>(draft: &mut Draft<'a>, variable: Cow<'a, str>, value: Value<'a>) {
    if let Some(cookie) = variable.strip_prefix("cookie_") {
        let value = value.text().filter(|text| !text.is_empty());
        draft.request.cookie(cookie, value);
    } else if variable.starts_with(REQUEST) {
        log_header(draft, header(variable, REQUEST.len()), value);
    } else if variable.starts_with(RESPONSE) {
        let value = value.text().filter(|text| !text.is_empty());
        draft
            .response
            .logged(header(variable, RESPONSE.len()), value);
    } else {
        draft.constant(&variable, value);
    }
}

fn log_header<'a>(draft: &mut Draft<'a>, name: Cow<'a, str>, value: Value<'a>) {
    let value = value.text().filter(|text| !text.is_empty());
    draft.request.logged(name, value);
}

/// `NONE` is a fact: nothing was presented. Without TLS there is nothing to know; a proxy in front may know more.
fn certificate<'a>(
    verify: Option<&str>,
    tls: bool,
    stated: ClientCertificate<'a>,
) -> Option<ClientCertificate<'a>> {
    let Some(verify) = verify else {
        return stated.pem.is_some().then_some(stated);
    };
    let findings = |presented, verified, revoked, reason| ClientCertificate {
        presented,
        verified,
        revoked,
        reason,
        ..stated
    };
    match verify {
        "NONE" => tls.then(|| findings(Some(false), None, None, None)),
        "SUCCESS" => Some(findings(Some(true), Some(true), None, None)),
        failed => {
            let words = failed.strip_prefix("FAILED")?;
            Some(if words.contains("revoked") {
                findings(Some(true), Some(true), Some(true), None)
            } else {
                findings(Some(true), Some(false), None, failure(words))
            })
        }
    }
}

/// The header that a variable stands for, without what its name starts with: `http_user_agent` is `user-agent`.
fn header(variable: Cow<'_, str>, skipped: usize) -> Cow<'_, str> {
    /// Names that nearly every log has, so that nothing is allocated for them.
    const USUAL: &[(&str, &str)] = &[
        ("user_agent", "user-agent"),
        ("content_type", "content-type"),
        ("content_length", "content-length"),
        ("content_encoding", "content-encoding"),
        ("transfer_encoding", "transfer-encoding"),
        ("x_api_key", "x-api-key"),
        ("x_forwarded_for", "x-forwarded-for"),
        ("x_request_id", "x-request-id"),
    ];
    let name = match variable {
        Cow::Borrowed(variable) => Cow::Borrowed(variable.get(skipped..).unwrap_or_default()),
        Cow::Owned(mut variable) => Cow::Owned(variable.split_off(skipped)),
    };
    if !name.contains('_') {
        return name;
    }
    let usual = USUAL.iter().find(|(known, _)| *known == name);
    usual.map_or_else(
        || Cow::Owned(name.replace('_', "-")),
        |(_, header)| Cow::Borrowed(*header),
    )
}

type RequestLine<'a> = (
    Option<Cow<'a, str>>,
    Option<Cow<'a, str>>,
    Option<Cow<'a, str>>,
);

/// `GET /path HTTP/1.1` in its parts; a request line that nginx could not parse has none.
fn split_request_line<'a>(line: &Cow<'a, str>) -> RequestLine<'a> {
    let part = |range: std::ops::Range<usize>| match line {
        Cow::Borrowed(line) => line.get(range).map(Cow::Borrowed),
        Cow::Owned(line) => line.get(range).map(|part| Cow::Owned(part.to_owned())),
    };
    let (Some(first), Some(last)) = (line.find(' '), line.rfind(" HTTP/")) else {
        return (None, None, None);
    };
    (
        part(0..first),
        part(first + 1..last),
        part(last + 1..line.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::decode;
    use crate::decode::Limits;
    use crate::model::{Exchange, MtlsReason, Reject};

    const GET: &str = r#""msec":"1712790000.500","request_method":"GET","request_uri":"/a?b""#;

    fn exchange(members: &str, check: impl FnOnce(&Exchange<'_>)) {
        let line = format!("{{{GET},{members}}}");
        check(&decode(line.as_bytes(), Limits::default()).unwrap().exchange);
    }

    #[test]
    fn the_time_is_the_requests_beginning() {
        for (members, expected) in [
            (r#""request_time":"0.250""#, "2024-04-10T23:00:00.250Z"),
            (r#""request_time":0.5"#, "2024-04-10T23:00:00Z"),
            (r#""request_time":"""#, "2024-04-10T23:00:00.500Z"),
            (
                r#""time_iso8601":"2020-01-01T00:00:00Z""#,
                "2024-04-10T23:00:00.500Z",
            ),
        ] {
            exchange(members, |found| {
                assert_eq!(found.at.to_string(), expected, "{members}");
            });
        }
        let seconds = br#"{"time_iso8601":"2024-04-11T01:00:00+02:00","request_time":"0.9","request_method":"GET","request_uri":"/"}"#;
        let found = decode(seconds, Limits::default()).unwrap().exchange;
        assert_eq!(found.at.to_string(), "2024-04-10T23:00:00Z");
    }

    #[test]
    fn bodies_are_whole_empty_or_not_captured() {
        let json = r#"\"x\""#;
        for (members, expected) in [
            (format!(r#""content_length":"3","request_body":"{json}""#), Some("\"x\"")),
            (format!(r#""content_length":"4","request_body":"{json}""#), None),
            (format!(r#""content_length":"","request_body":"{json}""#), Some("\"x\"")),
            (r#""content_length":"0","request_body":"""#.to_owned(), Some("")),
            (r#""content_length":"9","request_body":"""#.to_owned(), None),
            (r#""content_length":"0""#.to_owned(), None),
            (r#""content_length":"","http_transfer_encoding":"","request_body":"","server_protocol":"HTTP/1.1""#.to_owned(), Some("")),
            // The log does not say whether there was a transfer coding.
            (r#""content_length":"","request_body":"","server_protocol":"HTTP/1.1""#.to_owned(), None),
            (r#""content_length":"","http_transfer_encoding":"chunked","request_body":"","server_protocol":"HTTP/1.1""#.to_owned(), None),
            // In HTTP/2 a body needs no announcement.
            (r#""content_length":"","http_transfer_encoding":"","request_body":"","server_protocol":"HTTP/2.0""#.to_owned(), None),
            (r#""content_length":"0","request_body":"","request_body_file":"/var/lib/nginx/body/1""#.to_owned(), None),
        ] {
            exchange(&members, |found| {
                let body = found.request.body.as_deref();
                assert_eq!(body, expected.map(str::as_bytes), "{members}");
            });
        }
    }

    #[test]
    fn headers_and_cookies_are_those_that_are_listed() {
        let members = r#""http_authorization":"","http_x_tenant_id":"t","cookie_sid":"s","cookie_lang":"","content_type":"text/plain""#;
        exchange(members, |found| {
            let headers = &found.request.headers;
            assert_eq!(headers.first("x-tenant-id"), Some("t"));
            assert_eq!(headers.first("content-type"), Some("text/plain"));
            assert_eq!(headers.first("authorization"), None);
            assert!(headers.would_show("Authorization") && !headers.would_show("accept"));
            assert_eq!(headers.cookies("sid").collect::<Vec<_>>(), ["s"]);
            assert!(!headers.would_show("cookie") && !headers.would_show_cookie("other"));
            assert!(headers.would_show_cookie("lang") && headers.would_show_cookie("sid"));
            assert!(found.response.is_none());
        });
    }

    #[test]
    fn certificates_in_nginx_words() {
        let expired = Some(MtlsReason::Expired);
        for (members, expected) in [
            (
                r#""https":"on","ssl_client_verify":"NONE""#,
                Some((Some(false), None, None, None)),
            ),
            (r#""https":"","ssl_client_verify":"""#, None),
            (r#""https":"","ssl_client_verify":"NONE""#, None),
            (
                r#""https":"on","ssl_client_verify":"SUCCESS""#,
                Some((Some(true), Some(true), None, None)),
            ),
            (
                r#""https":"on","ssl_client_verify":"FAILED:certificate has expired""#,
                Some((Some(true), Some(false), None, expired)),
            ),
            (
                r#""https":"on","ssl_client_verify":"FAILED:certificate revoked""#,
                Some((Some(true), Some(true), Some(true), None)),
            ),
            (
                r#""https":"on","ssl_client_verify":"FAILED:unable to get certificate CRL""#,
                Some((Some(true), Some(false), None, None)),
            ),
        ] {
            exchange(members, |found| {
                let found = found.certificate.as_ref();
                let found = found.map(|c| (c.presented, c.verified, c.revoked, c.reason));
                assert_eq!(found, expected, "{members}");
            });
        }
    }

    #[test]
    fn a_request_line_stands_in_for_its_parts() {
        let line = br#"{"msec":1712790000.5,"request":"GET /a b?c HTTP/1.1","status":200}"#;
        let found = decode(line, Limits::default()).unwrap().exchange;
        assert_eq!(
            (found.request.method.as_ref(), found.request.path.as_ref()),
            ("GET", "/a b")
        );
        for (line, reason) in [
            (
                r#"{"msec":"1","request":"garbage","status":"400"}"#,
                Reject::MissingPart,
            ),
            (
                r#"{"msec":"1","request_method":"","request_uri":"","status":"400"}"#,
                Reject::MissingPart,
            ),
            (
                r#"{"request_method":"GET","request_uri":"/"}"#,
                Reject::InvalidTime,
            ),
            (
                r#"{"msec":"1","request_method":"GET","request_uri":"/","status":"700"}"#,
                Reject::InvalidStatus,
            ),
        ] {
            assert_eq!(
                decode(line.as_bytes(), Limits::default()).err(),
                Some(reason),
                "{line}"
            );
        }
    }
}
