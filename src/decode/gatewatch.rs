//! Format `gatewatch`: event v1 (design section 3).
//!
//! Enters: one JSON object. Leaves: a [`Record`] borrowed from it, or the reason why not. Zones are resolved later.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::wire::{self, BodyEncoding, Fields, HeadersCaptured, Object, Text};
use super::{Kind, Limits, Record, split_query, too_deep};
use crate::model::{
    Captured, Client, ClientCertificate, Exchange, Headers, Reject, Request, Response,
};

/// Decodes one event.
///
/// # Errors
/// The reason why the record is refused.
pub fn decode(payload: &[u8], limits: Limits) -> Result<Record<'_>, Reject> {
    if payload.len() > limits.event {
        return Err(Reject::TooLarge);
    }
    if too_deep(payload) {
        return Err(Reject::TooDeep);
    }
    let Object(event): Object<wire::Event<'_>> =
        sonic_rs::from_slice(payload).map_err(|_| Reject::Malformed)?;
    let kind = match event.kind.as_ref().map(|Text(kind)| kind.as_ref()) {
        Some("exchange") => Kind::Exchange,
        Some("request") => Kind::Request,
        Some("response") => Kind::Response,
        _ => return Err(Reject::UnknownKind),
    };
    if kind != Kind::Exchange && event.id.as_ref().is_none_or(|Text(id)| id.is_empty()) {
        return Err(Reject::MissingId);
    }
    let at = event.time.0.ok_or(Reject::InvalidTime)?;
    let request = match (kind, event.request) {
        (Kind::Response, _) => nothing_requested(),
        (_, Some(Object(request))) => decode_request(request, limits)?,
        (_, None) => return Err(Reject::MissingPart),
    };
    let response = match (kind, event.response) {
        (Kind::Request, _) | (Kind::Exchange, None) => None,
        (_, Some(Object(response))) => Some(decode_response(response, limits)?),
        (Kind::Response, None) => return Err(Reject::MissingPart),
    };
    let exchange = Exchange {
        id: text(event.id),
        at,
        zone: text(event.zone),
        client: event
            .client
            .map(|Object(client)| decode_client(client))
            .unwrap_or_default(),
        certificate: event
            .tls
            .and_then(|Object(tls)| tls.client_certificate)
            .map(|Object(certificate)| decode_certificate(certificate)),
        request,
        response,
    };
    Ok(Record { kind, exchange })
}

fn text(text: Option<Text<'_>>) -> Option<Cow<'_, str>> {
    text.map(|Text(text)| text)
}

fn decode_client(client: wire::Client<'_>) -> Client<'_> {
    Client {
        ip: text(client.ip),
        port: client.port,
        asn: client.asn,
        country: text(client.country),
    }
}

fn decode_certificate(certificate: wire::Certificate<'_>) -> ClientCertificate<'_> {
    ClientCertificate {
        presented: certificate.presented,
        verified: certificate.verified,
        revoked: certificate.revoked,
        reason: None,
        fingerprint_sha256: text(certificate.fingerprint_sha256),
        subject_dn: text(certificate.subject_dn),
        issuer_dn: text(certificate.issuer_dn),
        serial: text(certificate.serial),
        not_before: text(certificate.not_before),
        not_after: text(certificate.not_after),
        pem: text(certificate.pem),
    }
}

/// The request side of a lone response: never judged, replaced when the halves are joined.
fn nothing_requested<'a>() -> Request<'a> {
    Request {
        method: Cow::Borrowed(""),
        scheme: None,
        host: Cow::Borrowed(""),
        path: Cow::Borrowed(""),
        query: None,
        headers: Headers::default(),
        body: None,
        body_bytes: None,
    }
}

fn decode_request(request: wire::Request<'_>, limits: Limits) -> Result<Request<'_>, Reject> {
    let (path, query) = split_query(request.path.0, text(request.query));
    Ok(Request {
        method: request.method.0,
        scheme: text(request.scheme),
        host: request.host.0,
        path,
        query,
        headers: decode_headers(request.headers, request.headers_captured)?,
        body: decode_body(
            request.body,
            request.body_encoding,
            request.body_bytes,
            limits,
        )?,
        body_bytes: request.body_bytes,
    })
}

fn decode_response(response: wire::Response<'_>, limits: Limits) -> Result<Response<'_>, Reject> {
    let status = u16::try_from(response.status)
        .ok()
        .filter(|status| (100..=599).contains(status))
        .ok_or(Reject::InvalidStatus)?;
    Ok(Response {
        status,
        headers: decode_headers(response.headers, response.headers_captured)?,
        body: decode_body(
            response.body,
            response.body_encoding,
            response.body_bytes,
            limits,
        )?,
        body_bytes: response.body_bytes,
        duration_ms: response.duration_ms,
    })
}

fn decode_headers<'a>(
    fields: Option<Fields<'a>>,
    captured: Option<HeadersCaptured<'a>>,
) -> Result<Headers<'a>, Reject> {
    let captured = match (captured, &fields) {
        (Some(HeadersCaptured::All(true)), _) | (None, Some(_)) => Captured::All,
        (Some(HeadersCaptured::All(false)), _) | (None, None) => Captured::Nothing,
        (Some(HeadersCaptured::Names(names)), _) => Captured::Names(names),
    };
    let fields = fields.unwrap_or_default();
    if fields.too_many {
        return Err(Reject::TooManyHeaders);
    }
    Ok(Headers {
        fields: fields.fields,
        captured,
    })
}

/// A body that is missing, over the limit or shorter than `body_bytes` was not captured.
fn decode_body(
    body: Option<Text<'_>>,
    encoding: Option<BodyEncoding>,
    body_bytes: Option<u64>,
    limits: Limits,
) -> Result<Option<Cow<'_, [u8]>>, Reject> {
    let Some(Text(body)) = body else {
        return Ok(None);
    };
    let bytes = match (encoding.unwrap_or_default(), body) {
        (BodyEncoding::Utf8, Cow::Borrowed(text)) => Cow::Borrowed(text.as_bytes()),
        (BodyEncoding::Utf8, Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
        (BodyEncoding::Base64, text) => Cow::Owned(
            STANDARD
                .decode(text.as_bytes())
                .map_err(|_| Reject::InvalidBody)?,
        ),
    };
    let complete = body_bytes.is_none_or(|sent| bytes.len() as u64 >= sent);
    Ok((complete && bytes.len() <= limits.body).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(payload: &str) -> Option<Reject> {
        decode(payload.as_bytes(), Limits::default()).err()
    }

    const REQUEST: &str = r#""request":{"method":"GET","host":"h","path":"/"}"#;

    #[test]
    fn every_reason_to_refuse() {
        let bytes = format!(
            r#"{{"kind":"exchange","time":1,{REQUEST},"x":"{}"}}"#,
            "a".repeat(2 << 20)
        );
        let deep = format!(
            r#"{{"kind":"exchange","time":1,{REQUEST},"x":{}1{}}}"#,
            "[".repeat(64),
            "]".repeat(64)
        );
        let headers: Vec<String> = (0..257).map(|n| format!(r#""h{n}":"v""#)).collect();
        let headers = format!(
            r#"{{"kind":"exchange","time":1,"request":{{"method":"GET","host":"h","path":"/","headers":{{{}}}}}}}"#,
            headers.join(",")
        );
        for (payload, reason) in [
            ("{", Reject::Malformed),
            ("[]", Reject::Malformed),
            (r#"["exchange","a",1]"#, Reject::Malformed),
            (
                r#"{"kind":"exchange","time":1,"request":["GET","https","h","/"]}"#,
                Reject::Malformed,
            ),
            ("not json", Reject::Malformed),
            (
                r#"{"kind":"exchange","time":1,"request":{"method":"GET","host":"h"}}"#,
                Reject::Malformed,
            ),
            (
                r#"{"kind":"exchange","time":1,"x":{"y":[1,}}}"#,
                Reject::Malformed,
            ),
            (
                r#"{"kind":"exchange","kind":"exchange","time":1}"#,
                Reject::Malformed,
            ),
            (
                r#"{"kind":"exchange","time":1} trailing"#,
                Reject::Malformed,
            ),
            (bytes.as_str(), Reject::TooLarge),
            (deep.as_str(), Reject::TooDeep),
            (headers.as_str(), Reject::TooManyHeaders),
            (r#"{"kind":"other","time":1}"#, Reject::UnknownKind),
            (r#"{"time":1}"#, Reject::UnknownKind),
            (
                r#"{"kind":"request","time":1,"request":{"method":"GET","host":"h","path":"/"}}"#,
                Reject::MissingId,
            ),
            (
                r#"{"kind":"response","id":"","time":1,"response":{"status":200}}"#,
                Reject::MissingId,
            ),
            (r#"{"kind":"exchange","time":1}"#, Reject::MissingPart),
            (
                r#"{"kind":"response","id":"a","time":1}"#,
                Reject::MissingPart,
            ),
            (
                r#"{"kind":"exchange","time":"yesterday"}"#,
                Reject::InvalidTime,
            ),
            (r#"{"kind":"exchange","time":1.5}"#, Reject::InvalidTime),
            (r#"{"kind":"exchange","time":-1}"#, Reject::InvalidTime),
            (r#"{"kind":"exchange","time":null}"#, Reject::InvalidTime),
            (r#"{"kind":"exchange"}"#, Reject::InvalidTime),
            (
                r#"{"kind":"response","id":"a","time":1,"response":{"status":99}}"#,
                Reject::InvalidStatus,
            ),
            (
                r#"{"kind":"response","id":"a","time":1,"response":{"status":200,"body":"*","body_encoding":"base64"}}"#,
                Reject::InvalidBody,
            ),
        ] {
            assert_eq!(
                rejected(payload),
                Some(reason),
                "{}",
                payload.get(..60).unwrap_or(payload)
            );
        }
    }

    #[test]
    fn sixty_four_levels_and_brackets_in_strings_are_fine() {
        let deep = format!(
            r#"{{"kind":"exchange","time":1,{REQUEST},"x":{}1{}}}"#,
            "[".repeat(63),
            "]".repeat(63)
        );
        assert_eq!(rejected(&deep), None);
        let text = format!(
            r#"{{"kind":"exchange","time":1,{REQUEST},"x":"\"{}"}}"#,
            "[".repeat(100)
        );
        assert_eq!(rejected(&text), None);
    }

    #[test]
    fn invalid_utf8_is_refused() {
        let payload = b"{\"kind\":\"exchange\",\"time\":1,\"id\":\"\xff\"}";
        assert_eq!(
            decode(payload, Limits::default()).err(),
            Some(Reject::Malformed)
        );
    }

    #[test]
    fn headers_keep_order_and_say_what_they_prove() {
        let payload = r#"{"kind":"exchange","time":1,"request":{"method":"GET","host":"h","path":"/p?a=1",
            "headers":{"A":"1","b":["2","3"],"c":null},"headers_captured":["a","x"]}}"#;
        let record = decode(payload.as_bytes(), Limits::default()).unwrap();
        let request = record.exchange.request;
        assert_eq!(request.headers.values("B").collect::<Vec<_>>(), ["2", "3"]);
        assert!(request.headers.would_show("X") && !request.headers.would_show("b"));
        assert_eq!(
            (request.path.as_ref(), request.query.as_deref()),
            ("/p", Some("a=1"))
        );
        assert!(
            matches!(request.headers.fields[0].0, Cow::Borrowed("A")),
            "names are borrowed"
        );
    }

    #[test]
    fn bodies_are_captured_or_not() {
        let body = |fields: &str| {
            let payload = format!(
                r#"{{"kind":"response","id":"a","time":1,"response":{{"status":200,{fields}}}}}"#
            );
            let limits = Limits {
                body: 8,
                ..Limits::default()
            };
            decode(payload.as_bytes(), limits)
                .unwrap()
                .exchange
                .response
                .unwrap()
                .body
                .map(Cow::into_owned)
        };
        assert_eq!(body(r#""headers":{}"#), None);
        assert_eq!(body(r#""body":"""#), Some(vec![]));
        assert_eq!(
            body(r#""body":"YWJj","body_encoding":"base64","body_bytes":3"#),
            Some(b"abc".to_vec())
        );
        assert_eq!(body(r#""body":"abc","body_bytes":4"#), None);
        assert_eq!(body(r#""body":"abcdefghi""#), None);
        assert_eq!(body(r#""body":"a\"b""#), Some(b"a\"b".to_vec()));
    }
}
