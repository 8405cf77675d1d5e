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
//! `x-forwarded-client-cert` speaks of the client where the connection's own certificate is a proxy's, so it wins. Envoy
//! removes the header from untrusted requests before it logs them, unless told otherwise.

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
    line::members(payload, limits, &mut |name, value| line.take(name, value))?;
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
    fn take(&mut self, name: Cow<'a, str>, value: Value<'a>) {
        let draft = &mut self.draft;
        match name.as_ref() {
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
        let forwarded = draft.request.first("x-forwarded-client-cert");
        let forwarded = forwarded.and_then(|header| forwarded_certificate(header));
        draft.certificate = match forwarded {
            Some(client) => Some(ClientCertificate {
                verified: self.verified,
                ..client
            }),
            None => peer_certificate(self.peer, self.tls, self.verified),
        };
        self.draft.finish(limits)
    }
}

/// A plain connection says nothing: what is in front of this Envoy may know more.
fn peer_certificate(
    peer: ClientCertificate<'_>,
    tls: bool,
    verified: Option<bool>,
) -> Option<ClientCertificate<'_>> {
    let shown = peer.pem.is_some() || peer.fingerprint_sha256.is_some();
    match (shown, tls) {
        (true, _) => Some(ClientCertificate {
            presented: Some(true),
            verified,
            ..peer
        }),
        // An operator that is not logged leaves the question open.
        (false, true) => Some(ClientCertificate {
            presented: Some(false),
            ..ClientCertificate::default()
        }),
        (false, false) => None,
    }
}

/// The client's certificate in an `x-forwarded-client-cert` header. Its first element is the one that was added first,
/// by the proxy that the client talked to. Elements are parted by commas, their pairs by semicolons; a value in double
/// quotes may hold both, and a quote behind a backslash.
fn forwarded_certificate(header: &str) -> Option<ClientCertificate<'static>> {
    let mut certificate = ClientCertificate::default();
    let mut found = false;
    let mut rest = header;
    loop {
        let (key, value) = rest.split_once('=')?;
        let (value, ending, after) = split_value(value);
        match key.trim().to_ascii_lowercase().as_str() {
            "hash" => certificate.fingerprint_sha256 = Some(value.into()),
            "subject" => certificate.subject_dn = Some(value.into()),
            "cert" => certificate.pem = Some(percent_decoded(value.into())),
            "by" | "chain" | "uri" | "dns" => {}
            _ => return None,
        }
        // `By` is the proxy itself; every other key is about the client's certificate.
        found |= !key.trim().eq_ignore_ascii_case("by");
        if ending != Some(';') || after.is_empty() {
            break;
        }
        rest = after;
    }
    certificate.presented = Some(true);
    found.then_some(certificate)
}

/// A value, what ended it, and what stands behind that.
fn split_value(text: &str) -> (String, Option<char>, &str) {
    let (mut value, mut quoted) = (String::new(), false);
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => quoted = !quoted,
            '\\' if quoted => value.extend(characters.next().map(|(_, escaped)| escaped)),
            ',' | ';' if !quoted => {
                let after = text.get(at + 1..).unwrap_or_default();
                return (value, Some(character), after);
            }
            _ => value.push(character),
        }
    }
    (value, None, "")
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
    use super::{forwarded_certificate, split_port};

    #[test]
    fn the_first_forwarded_certificate_is_the_clients() {
        let header = r#"By=spiffe://front;Hash=AB12;Subject="CN=a\"b;c,d,O=x";URI=;Cert="-----BEGIN%20X%0A",By=back;Hash=FF"#;
        let found = forwarded_certificate(header).unwrap();
        assert_eq!(found.fingerprint_sha256.as_deref(), Some("AB12"));
        assert_eq!(found.subject_dn.as_deref(), Some("CN=a\"b;c,d,O=x"));
        assert_eq!(found.pem.as_deref(), Some("-----BEGIN X\n"));
        assert_eq!((found.presented, found.verified), (Some(true), None));
        let short = forwarded_certificate("hash=ab").unwrap();
        assert_eq!(short.fingerprint_sha256.as_deref(), Some("ab"));
        for nothing in ["", "By=front", "nonsense", "a=b", "Hash=ab;nonsense"] {
            assert!(forwarded_certificate(nothing).is_none(), "{nothing}");
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
