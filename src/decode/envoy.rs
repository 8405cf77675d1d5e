//! Format `envoy-json`: an Envoy access log in JSON, with the names that Istio made usual.
//!
//! Enters: a line of a `json_format`, see `pipelines/gateways/envoy`. Leaves: a [`Record`].
//!
//! What this log can show: the members of `request_headers` and `response_headers` are the headers that were logged;
//! `null` is one that was not sent, whatever is not listed was not captured. Of several fields of a name it shows the first,
//! or all of them joined by commas (`authorization`), as Envoy thinks right. Bodies
//! are there when the Lua filter of the example put them there. Of the client certificate Envoy says what it is and not
//! whether it was verified: that follows from the listener, and the operator states it as a constant.
//!
//! The certificate of the connection counts where its members are logged and there is one, else the header
//! `x-forwarded-client-cert`, whose last element this Envoy, or a proxy that it trusts, has written. Envoy removes the header
//! from requests before it logs them unless it is told to forward it.

use std::borrow::Cow;

use super::draft::{Draft, base64, percent_decoded};
use super::line::{self, Value};
use super::{Limits, Record};
use crate::model::{ClientCertificate, Reject};

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
    protocol: Option<Cow<'a, str>>,
    cookies: Option<Cow<'a, str>>,
    body: Option<Cow<'a, str>>,
    /// Body bytes that arrived before Envoy stopped listening: fewer than were sent when it answered early.
    received: Option<u64>,
    tls: bool,
    peer: ClientCertificate<'a>,
    /// Every certificate that gets a connection was verified.
    verified: Option<bool>,
}

impl<'a> Line<'a> {
    fn take(&mut self, name: &str, value: Value<'a>) {
        let draft = &mut self.draft;
        match name {
            "start_time" => draft.at = value.time(),
            "duration" => draft.duration_ms = value.number(),
            "request_id" => draft.id = value.filled(),
            "downstream_remote_address" => {
                let (ip, port) = value.filled().map(split_port).unwrap_or_default();
                draft.client.ip = ip;
                draft.client.port = port;
            }
            "method" => draft.method = value.filled(),
            "scheme" => draft.scheme = value.filled(),
            "authority" => draft.host = value.filled(),
            "path" => draft.target = value.filled(),
            "protocol" => self.protocol = value.filled(),
            "user_agent" => draft
                .request
                .logged(Cow::Borrowed("user-agent"), value.text()),
            "request_headers" => {
                if let Value::Object(members) = value {
                    draft.request.object(members);
                }
            }
            "request_cookies" => self.cookies = value.text(),
            "request_body_base64" => self.body = value.filled(),
            "bytes_received" => self.received = value.unsigned(),
            "response_code" => draft.status = value.integer(),
            "response_headers" => {
                if let Value::Object(members) = value {
                    draft.response.object(members);
                }
            }
            "bytes_sent" => draft.response.body_bytes = value.unsigned(),
            "tls_version" => self.tls = value.filled().is_some(),
            "peer_certificate" => self.peer.pem = value.filled().map(percent_decoded),
            "peer_fingerprint_256" => self.peer.fingerprint_sha256 = value.filled(),
            "peer_subject" => self.peer.subject_dn = value.filled(),
            "peer_issuer" => self.peer.issuer_dn = value.filled(),
            "peer_serial" => self.peer.serial = value.filled(),
            "peer_certificates_verified" => self.verified = value.flag(),
            other => {
                draft.constant(other, value);
            }
        }
    }

    fn finish(mut self, limits: Limits) -> Result<Record<'a>, Reject> {
        let draft = &mut self.draft;
        if let Some(cookies) = self.cookies {
            draft.request.replace("cookie", cookies);
        }
        let announced = draft
            .request
            .first("content-length")
            .and_then(|n| n.parse().ok());
        draft.request.body_bytes = announced.or(self.received);
        draft.request.body = match self.body {
            Some(body) => Some(base64(&body)?),
            None => draft
                .request
                .announces_no_body(self.protocol.as_deref())
                .then_some(Cow::Borrowed(&[])),
        };
        let forwarded = draft.request.first("x-forwarded-client-cert").cloned();
        draft.certificate = certificate(self.peer, forwarded, self.tls, self.verified);
        self.draft.finish(limits)
    }
}

fn certificate<'a>(
    peer: ClientCertificate<'a>,
    forwarded: Option<Cow<'a, str>>,
    tls: bool,
    verified: Option<bool>,
) -> Option<ClientCertificate<'a>> {
    let shown = peer.pem.is_some() || peer.fingerprint_sha256.is_some();
    match (shown, forwarded.filter(|header| !header.is_empty())) {
        (true, _) => Some(ClientCertificate {
            presented: Some(true),
            verified,
            ..peer
        }),
        // Whoever judges takes the header apart; it may hold no certificate at all.
        (false, Some(header)) => Some(ClientCertificate {
            verified,
            pem: Some(header),
            ..ClientCertificate::default()
        }),
        (false, None) if tls => Some(ClientCertificate {
            presented: Some(false),
            ..ClientCertificate::default()
        }),
        // A plain connection says nothing: what is in front of this Envoy may know more.
        (false, None) => None,
    }
}

/// `192.0.2.1:443` or `[2001:db8::1]:443`; an address alone stays whole.
fn split_port(address: Cow<'_, str>) -> (Option<Cow<'_, str>>, Option<u16>) {
    let Ok(address_and_port) = address.parse::<std::net::SocketAddr>() else {
        return (Some(address), None);
    };
    let port = Some(address_and_port.port());
    let end = address.rfind(':').unwrap_or(address.len());
    let ip = match &address {
        Cow::Borrowed(text) => text
            .get(..end)
            .map(|ip| Cow::Borrowed(ip.trim_matches(['[', ']']))),
        Cow::Owned(_) => Some(Cow::Owned(address_and_port.ip().to_string())),
    };
    (ip, port)
}

#[cfg(test)]
mod tests {
    use super::{decode, split_port};
    use crate::decode::Limits;

    #[test]
    fn the_connections_certificate_counts_before_a_header() {
        let header = r#""request_headers":{"x-forwarded-client-cert":"Hash=ab;Subject=\"CN=a\""}"#;
        let none = r#""request_headers":{"x-forwarded-client-cert":null}"#;
        for (members, expected) in [
            (
                format!(r#"{header},"tls_version":"TLSv1.3","peer_fingerprint_256":"cd""#),
                Some((Some(true), Some("cd"), None)),
            ),
            (
                format!(r#"{header},"tls_version":"TLSv1.3","peer_fingerprint_256":null"#),
                Some((None, None, Some("Hash=ab;Subject=\"CN=a\""))),
            ),
            (
                format!(r#"{none},"tls_version":"TLSv1.3","peer_fingerprint_256":null"#),
                Some((Some(false), None, None)),
            ),
            (format!(r#"{none},"tls_version":null"#), None),
        ] {
            let line = format!(
                r#"{{"start_time":"2026-11-23T05:00:00.5Z","method":"GET","path":"/",{members}}}"#
            );
            let record = decode(line.as_bytes(), Limits::default()).unwrap();
            let found = record.exchange.certificate.as_ref().map(|c| {
                (
                    c.presented,
                    c.fingerprint_sha256.as_deref(),
                    c.pem.as_deref(),
                )
            });
            assert_eq!(found, expected, "{members}");
        }
    }

    #[test]
    fn addresses_lose_their_ports() {
        for (text, ip, port) in [
            ("192.0.2.1:443", "192.0.2.1", Some(443)),
            ("[2001:db8::1]:443", "2001:db8::1", Some(443)),
            ("192.0.2.1", "192.0.2.1", None),
            ("2001:db8::1", "2001:db8::1", None),
            ("@/run/socket", "@/run/socket", None),
        ] {
            assert_eq!(split_port(text.into()), (Some(ip.into()), port));
            assert_eq!(split_port(text.to_owned().into()), (Some(ip.into()), port));
        }
    }
}
