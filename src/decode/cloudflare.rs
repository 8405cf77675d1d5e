//! Format `cloudflare-logpush`: Cloudflare's dataset `http_requests` as NDJSON.
//!
//! Enters: one object of a batch. Leaves: a [`Record`]. Fields: feature map 8.1, <https://developers.cloudflare.com/logs/>.
//!
//! What this log can show: user agent and referer always; other headers and cookies only where custom fields are
//! configured, and those that were not sent are left out of the object, so presence is known and absence is not, unless
//! `[source.captured]` says which ones are configured. There are no bodies. The certificate's fields are set on the first
//! request of a connection only: later ones say nothing, which is not the same as a client without a certificate.

use std::borrow::Cow;

use super::draft::Draft;
use super::line::{self, Value};
use super::{Limits, Record};
use crate::model::{ClientCertificate, EventTime, MtlsReason, Reject};

/// Decodes one object.
///
/// # Errors
/// The reason why it is refused.
pub fn decode(payload: &[u8], limits: Limits) -> Result<Record<'_>, Reject> {
    let mut line = Line::default();
    line::members(payload, limits, &mut |name, value| line.take(&name, value))?;
    line.finish(limits)
}

#[derive(Default)]
struct Line<'a> {
    draft: Draft<'a>,
    path: Option<Cow<'a, str>>,
    start: Option<EventTime>,
    end: Option<EventTime>,
    answer_type: Option<Cow<'a, str>>,
    status: Option<Cow<'a, str>>,
    fingerprint: Option<Cow<'a, str>>,
}

impl<'a> Line<'a> {
    fn take(&mut self, name: &str, value: Value<'a>) {
        let draft = &mut self.draft;
        match name {
            "RayID" => draft.id = value.filled(),
            "EdgeStartTimestamp" => self.start = time(&value),
            "EdgeEndTimestamp" => self.end = time(&value),
            "ClientIP" => draft.client.ip = value.filled(),
            "ClientSrcPort" => {
                // 0 where it is not known.
                let port = value.unsigned().and_then(|port| u16::try_from(port).ok());
                draft.client.port = port.filter(|port| *port != 0);
            }
            "ClientASN" => {
                let asn = value.unsigned().and_then(|asn| u32::try_from(asn).ok());
                draft.client.asn = asn.filter(|asn| *asn != 0);
            }
            "ClientCountry" => draft.client.country = value.filled().map(upper_case),
            "ClientRequestHost" => draft.host = value.filled(),
            "ClientRequestMethod" => draft.method = value.filled(),
            // With the query; the path alone is for logs that leave the query out.
            "ClientRequestURI" => draft.target = value.text(),
            "ClientRequestPath" => self.path = value.text(),
            "ClientRequestScheme" => draft.scheme = value.filled(),
            "ClientRequestUserAgent" => log_header(draft, "user-agent", value),
            "ClientRequestReferer" => log_header(draft, "referer", value),
            "RequestHeaders" => {
                if let Value::Object(members) = value {
                    draft.request.object(members);
                }
            }
            "ResponseHeaders" => {
                if let Value::Object(members) = value {
                    draft.response.object(members);
                }
            }
            "Cookies" => {
                if let Value::Object(members) = value {
                    for (name, value) in members {
                        draft.request.cookie(&name, value.text());
                    }
                }
            }
            "EdgeResponseStatus" => draft.status = value.integer(),
            "EdgeResponseContentType" => self.answer_type = value.text(),
            "EdgeResponseBodyBytes" => draft.response.body_bytes = value.unsigned(),
            "ClientMTLSAuthStatus" => self.status = value.filled(),
            "ClientMTLSAuthCertFingerprint" => self.fingerprint = value.filled(),
            _ => {}
        }
    }

    fn finish(mut self, limits: Limits) -> Result<Record<'a>, Reject> {
        let draft = &mut self.draft;
        draft.at = self.start.or(self.end);
        if let (Some(start), Some(end)) = (self.start, self.end) {
            #[expect(clippy::cast_precision_loss, reason = "a duration")]
            let millis = end.nanos().saturating_sub(start.nanos()) as f64 / 1e6;
            draft.duration_ms = (millis >= 0.0).then_some(millis);
        }
        // The root is logged as an empty text by some exports.
        let target = draft.target.take().filter(|target| !target.is_empty());
        draft.target = target.or(self.path).map(|path| match path.as_ref() {
            "" => Cow::Borrowed("/"),
            _ => path,
        });
        if let Some(media_type) = self.answer_type
            && draft.response.first("content-type").is_none()
        {
            let sent = Some(media_type).filter(|media_type| !media_type.is_empty());
            draft.response.logged(Cow::Borrowed("content-type"), sent);
        }
        draft.certificate = certificate(self.status.as_deref(), self.fingerprint);
        self.draft.finish(limits)
    }
}

fn log_header<'a>(draft: &mut Draft<'a>, name: &'static str, value: Value<'a>) {
    let value = value.text().filter(|text| !text.is_empty());
    draft.request.logged(Cow::Borrowed(name), value);
}

/// RFC 3339 or the epoch in a number, as the job is set up; also a time without an offset, which is what databases make of
/// it (`2022-05-07 18:53:12`).
fn time(value: &Value<'_>) -> Option<EventTime> {
    value.time().or_else(|| match value {
        Value::Text(text) => {
            let civil: jiff::civil::DateTime = text.parse().ok()?;
            let stamp = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
            EventTime::from_nanos(i64::try_from(stamp.as_nanosecond()).ok()?)
        }
        _ => None,
    })
}

/// Feature map 5.2. `unknown` stands on every request after a connection's first.
fn certificate<'a>(
    status: Option<&str>,
    fingerprint: Option<Cow<'a, str>>,
) -> Option<ClientCertificate<'a>> {
    let (presented, verified, reason) = match status? {
        "ok" => (true, Some(true), None),
        "absent" => (false, None, None),
        "untrusted" => (true, Some(false), Some(MtlsReason::Untrusted)),
        "notyetvalid" => (true, Some(false), Some(MtlsReason::NotYetValid)),
        "expired" => (true, Some(false), Some(MtlsReason::Expired)),
        _ => return None,
    };
    Some(ClientCertificate {
        presented: Some(presented),
        verified,
        reason,
        fingerprint_sha256: fingerprint.filter(|_| presented),
        ..ClientCertificate::default()
    })
}

fn upper_case(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Cow::Owned(text.to_ascii_uppercase());
    }
    text
}
