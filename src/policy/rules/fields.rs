//! The fields of the language: name, type, whether stored evidence has it, and what it says.
//!
//! The only list of fields: the parser, the evaluator, the columns of stored evidence and the documentation go by it.
//! Names and types are the vendor's (feature map sections 4.4, 5.1 and 6.2); `gatewatch.*` are our own. What each one
//! is worth for an exchange is in `enrich::rules::facts`.

use super::types::{Scalar, Shape, Type};

/// What is known about a field.
#[derive(Debug)]
pub struct Definition {
    /// Name in expressions.
    pub name: &'static str,
    /// Type.
    pub kind: Type,
    /// Whether stored evidence has a column for it.
    pub stored: Stored,
    /// What it says, in a few words.
    pub about: &'static str,
}

/// Whether stored evidence has a field. What may hold a secret is never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// In a column of its own.
    Column,
    /// Only the members of [`STORED_HEADERS`].
    SomeHeaders,
    /// Not at all: it may hold credentials, session values or personal data.
    Secret,
    /// Not at all: it follows from other fields.
    Derived,
}

/// Header fields whose values may be stored: they say how a message is to be read and hold no credential.
pub const STORED_HEADERS: &[&str] = &[
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "content-encoding",
    "content-language",
    "content-length",
    "content-type",
    "origin",
    "retry-after",
    "server",
    "user-agent",
    "via",
    "www-authenticate",
];

macro_rules! fields {
    ($($variant:ident $name:literal $shape:ident $of:ident $stored:ident $about:literal;)+) => {
        /// A field.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Field { $(#[doc = $about] $variant),+ }

        /// Every field, in the order of [`Field`].
        pub const FIELDS: &[(Field, Definition)] = &[$((
            Field::$variant,
            Definition {
                name: $name,
                kind: Type { shape: Shape::$shape, of: Scalar::$of },
                stored: Stored::$stored,
                about: $about,
            },
        )),+];
    };
}

fields! {
    Host "http.host" One Bytes Column "host in lower case, without port";
    Method "http.request.method" One Bytes Column "method as sent";
    Uri "http.request.uri" One Bytes Secret "normalised path and query";
    UriPath "http.request.uri.path" One Bytes Column "path, normalised by RFC 3986";
    UriQuery "http.request.uri.query" One Bytes Secret "query without the question mark";
    UriExtension "http.request.uri.path.extension" One Bytes Derived "extension of the last segment in lower case, without the dot";
    UriArgs "http.request.uri.args" MapOfArrays Bytes Secret "query arguments by name, not decoded";
    UriArgNames "http.request.uri.args.names" Array Bytes Column "names of the query arguments";
    UriArgValues "http.request.uri.args.values" Array Bytes Secret "values of the query arguments";
    FullUri "http.request.full_uri" One Bytes Secret "scheme, host, path and query";
    RawUri "raw.http.request.uri" One Bytes Secret "path as sent, and query";
    RawUriPath "raw.http.request.uri.path" One Bytes Column "path as sent";
    Headers "http.request.headers" MapOfArrays Bytes SomeHeaders "header values by name in lower case";
    HeaderNames "http.request.headers.names" Array Bytes Column "header names as sent";
    HeaderValues "http.request.headers.values" Array Bytes Secret "header values, in the order of the names";
    HeadersTruncated "http.request.headers.truncated" One Bool Column "whether the log left out header fields";
    Cookies "http.request.cookies" MapOfArrays Bytes Secret "cookie values by name";
    CookieNames "http.request.cookies.names" Array Bytes Column "names of the cookies";
    CookieValues "http.request.cookies.values" Array Bytes Secret "values of the cookies";
    Cookie "http.cookie" One Bytes Secret "the Cookie header";
    UserAgent "http.user_agent" One Bytes Column "the User-Agent header";
    Referer "http.referer" One Bytes Secret "the Referer header";
    ForwardedFor "http.x_forwarded_for" One Bytes Column "the X-Forwarded-For header";
    BodyRaw "http.request.body.raw" One Bytes Secret "the body, where it was captured";
    BodySize "http.request.body.size" One Int Column "bytes of the body";
    BodyMime "http.request.body.mime" One Bytes Column "media type of the body, without parameters";
    BodyTruncated "http.request.body.truncated" One Bool Column "whether the log left out (part of) the body";
    BodyForm "http.request.body.form" MapOfArrays Bytes Secret "members of an urlencoded body by name, not decoded";
    BodyFormNames "http.request.body.form.names" Array Bytes Column "names of the members of an urlencoded body";
    BodyFormValues "http.request.body.form.values" Array Bytes Secret "values of the members of an urlencoded body";
    Second "http.request.timestamp.sec" One Int Column "seconds since 1970 of the event";
    Millisecond "http.request.timestamp.msec" One Int Column "milliseconds within that second";
    ResponseCode "http.response.code" One Int Column "status of the response";
    ResponseHeaders "http.response.headers" MapOfArrays Bytes SomeHeaders "response header values by name in lower case";
    ResponseHeaderNames "http.response.headers.names" Array Bytes Column "response header names as sent";
    ResponseHeaderValues "http.response.headers.values" Array Bytes Secret "response header values";
    Ssl "ssl" One Bool Column "whether the scheme is https";
    Address "ip.src" One Ip Column "address of the client";
    AsNumber "ip.src.asnum" One Int Column "autonomous system of the client";
    Country "ip.src.country" One Bytes Column "country of the client, two letters";
    CertPresented "cf.tls_client_auth.cert_presented" One Bool Column "whether a client certificate was sent, valid or not";
    CertVerified "cf.tls_client_auth.cert_verified" One Bool Column "whether it is valid; also true when it is revoked";
    CertRevoked "cf.tls_client_auth.cert_revoked" One Bool Column "whether it is valid but revoked";
    CertIssuer "cf.tls_client_auth.cert_issuer_dn" One Bytes Column "name of the issuer";
    CertSubject "cf.tls_client_auth.cert_subject_dn" One Bytes Column "name of the subject";
    CertIssuerRfc2253 "cf.tls_client_auth.cert_issuer_dn_rfc2253" One Bytes Column "name of the issuer by RFC 2253";
    CertSubjectRfc2253 "cf.tls_client_auth.cert_subject_dn_rfc2253" One Bytes Column "name of the subject by RFC 2253";
    CertIssuerLegacy "cf.tls_client_auth.cert_issuer_dn_legacy" One Bytes Column "name of the issuer with slashes";
    CertSubjectLegacy "cf.tls_client_auth.cert_subject_dn_legacy" One Bytes Column "name of the subject with slashes";
    CertSerial "cf.tls_client_auth.cert_serial" One Bytes Column "serial number, hexadecimal in upper case";
    CertIssuerSerial "cf.tls_client_auth.cert_issuer_serial" One Bytes Column "serial number of the issuer's certificate";
    CertSha256 "cf.tls_client_auth.cert_fingerprint_sha256" One Bytes Column "SHA-256 of the certificate, hexadecimal in lower case";
    CertSha1 "cf.tls_client_auth.cert_fingerprint_sha1" One Bytes Column "SHA-1 of the certificate, hexadecimal in lower case";
    CertNotBefore "cf.tls_client_auth.cert_not_before" One Bytes Column "start of validity, as OpenSSL writes dates";
    CertNotAfter "cf.tls_client_auth.cert_not_after" One Bytes Column "end of validity, as OpenSSL writes dates";
    CertSki "cf.tls_client_auth.cert_ski" One Bytes Column "subject key identifier, hexadecimal in upper case";
    CertIssuerSki "cf.tls_client_auth.cert_issuer_ski" One Bytes Column "key identifier of the issuer, hexadecimal in upper case";
    CertRfc9440 "cf.tls_client_auth.cert_rfc9440" One Bytes Derived "the certificate as RFC 9440 writes it";
    CertRfc9440TooLarge "cf.tls_client_auth.cert_rfc9440_too_large" One Bool Column "whether the certificate is over 10 KiB";
    CertChainRfc9440 "cf.tls_client_auth.cert_chain_rfc9440" One Bytes Derived "the chain as sent, without the certificate";
    CertChainRfc9440TooLarge "cf.tls_client_auth.cert_chain_rfc9440_too_large" One Bool Column "whether the chain is over 16 KiB";
    AuthIdPresent "cf.api_gateway.auth_id_present" One Bool Column "whether a session identifier was present";
    RequestViolates "cf.api_gateway.request_violates_schema" One Bool Column "whether the request violates its schema";
    Fallthrough "cf.api_gateway.fallthrough_detected" One Bool Column "whether a schema covers the host but has no such operation";
    Claims "http.request.jwt.claims" MapOfArrays Bytes Secret "claims of valid tokens by configuration, as JSON";
    ClaimAudience "http.request.jwt.claims.aud" MapOfArrays Bytes Column "audiences of valid tokens by configuration";
    ClaimAudienceNames "http.request.jwt.claims.aud.names" Array Bytes Derived "configurations whose token has audiences";
    ClaimAudienceValues "http.request.jwt.claims.aud.values" Array Bytes Derived "audiences of valid tokens";
    ClaimIssuer "http.request.jwt.claims.iss" MapOfArrays Bytes Column "issuers of valid tokens by configuration";
    ClaimIssuerNames "http.request.jwt.claims.iss.names" Array Bytes Derived "configurations whose token has an issuer";
    ClaimIssuerValues "http.request.jwt.claims.iss.values" Array Bytes Derived "issuers of valid tokens";
    ClaimId "http.request.jwt.claims.jti" MapOfArrays Bytes Secret "ids of valid tokens by configuration";
    ClaimIdNames "http.request.jwt.claims.jti.names" Array Bytes Derived "configurations whose token has an id";
    ClaimIdValues "http.request.jwt.claims.jti.values" Array Bytes Secret "ids of valid tokens";
    ClaimSubject "http.request.jwt.claims.sub" MapOfArrays Bytes Secret "subjects of valid tokens by configuration";
    ClaimSubjectNames "http.request.jwt.claims.sub.names" Array Bytes Derived "configurations whose token has a subject";
    ClaimSubjectValues "http.request.jwt.claims.sub.values" Array Bytes Secret "subjects of valid tokens";
    ClaimIssued "http.request.jwt.claims.iat.sec" MapOfArrays Int Column "times of issue of valid tokens by configuration";
    ClaimIssuedNames "http.request.jwt.claims.iat.sec.names" Array Bytes Derived "configurations whose token has a time of issue";
    ClaimIssuedValues "http.request.jwt.claims.iat.sec.values" Array Int Derived "times of issue of valid tokens";
    ClaimStart "http.request.jwt.claims.nbf.sec" MapOfArrays Int Column "starts of validity of valid tokens by configuration";
    ClaimStartNames "http.request.jwt.claims.nbf.sec.names" Array Bytes Derived "configurations whose token has a start of validity";
    ClaimStartValues "http.request.jwt.claims.nbf.sec.values" Array Int Derived "starts of validity of valid tokens";
    Zone "gatewatch.zone" One Bytes Column "id of the zone";
    Endpoint "gatewatch.endpoint" One Bytes Column "path template in canonical form";
    EndpointSource "gatewatch.endpoint.source" One Bytes Column "schema, saved or learned";
    SessionOutcome "gatewatch.session.outcome" One Bytes Column "present, absent, `not_captured` or `not_configured`";
    SessionIdentifiers "gatewatch.session.identifiers" Array Bytes Column "names of the identifiers that were present";
    TokenOutcome "gatewatch.token.outcome" One Bytes Column "best outcome over the configurations: valid, invalid, `not_evaluated`, missing or `not_captured`";
    TokenOutcomes "gatewatch.token.outcomes" Map Bytes Column "outcome by configuration";
    TokenReasons "gatewatch.token.reasons" Map Bytes Column "reason of an invalid token by configuration";
    SchemaRequest "gatewatch.schema.request" One Bytes Column "conforms, violates, `no_operation` or `not_evaluated`";
    SchemaResponse "gatewatch.schema.response" One Bytes Column "conforms, violates, `no_operation` or `not_evaluated`";
    ViolationClasses "gatewatch.schema.violations.classes" Array Bytes Column "classes of the violations";
    ViolationTargets "gatewatch.schema.violations.targets" Array Bytes Column "targets of the violations";
    MtlsOutcome "gatewatch.mtls.outcome" One Bytes Column "verified, absent, failed, revoked or `not_captured`";
    MtlsReason "gatewatch.mtls.reason" One Bytes Column "why our own verification failed";
    Duration "gatewatch.response.duration_ms" One Int Column "milliseconds from request to response, rounded down";
}

/// Other names of fields: kept by the vendor for older rules, or equal here because nothing rewrites a logged request.
const ALIASES: &[(&str, Field)] = &[
    ("ip.geoip.asnum", Field::AsNumber),
    ("ip.geoip.country", Field::Country),
    ("raw.http.request.full_uri", Field::FullUri),
    ("raw.http.request.uri.query", Field::UriQuery),
    ("raw.http.request.uri.args", Field::UriArgs),
    ("raw.http.request.uri.args.names", Field::UriArgNames),
    ("raw.http.request.uri.args.values", Field::UriArgValues),
    ("raw.http.request.uri.path.extension", Field::UriExtension),
    ("raw.http.request.headers", Field::Headers),
    ("raw.http.request.headers.names", Field::HeaderNames),
    ("raw.http.request.headers.values", Field::HeaderValues),
    ("raw.http.response.headers", Field::ResponseHeaders),
    (
        "raw.http.response.headers.names",
        Field::ResponseHeaderNames,
    ),
    (
        "raw.http.response.headers.values",
        Field::ResponseHeaderValues,
    ),
    ("cf.api_gateway.fallthrough_triggered", Field::Fallthrough),
];

/// Fields of the vendor that no log can show, by how their names start, with the reason.
const UNAVAILABLE: &[(&str, &str)] = &[
    (
        "cf.bot_management.",
        "the vendor's bot scores are in no log",
    ),
    ("cf.client.bot", "the vendor's list of bots is in no log"),
    (
        "cf.verified_bot_category",
        "the vendor's list of bots is in no log",
    ),
    ("cf.threat_score", "the vendor's threat score is in no log"),
    ("cf.waf.", "the vendor's attack scores are in no log"),
    ("cf.llm.", "the vendor's prompt scores are in no log"),
    ("cf.edge.", "an event does not say which edge served it"),
    (
        "cf.random_seed",
        "a random value would make a replay differ",
    ),
    (
        "cf.ray_id",
        "an event has an id of its gateway, not the vendor's",
    ),
    ("cf.zone.", "use gatewatch.zone"),
    (
        "cf.schema_validation.",
        "use gatewatch.schema.request and gatewatch.schema.violations.classes",
    ),
    ("cf.response.", "an event does not say why an edge failed"),
    (
        "cf.tls_cipher",
        "an event holds nothing of the handshake but the certificate",
    ),
    (
        "cf.tls_version",
        "an event holds nothing of the handshake but the certificate",
    ),
    (
        "cf.tls_client_hello",
        "an event holds nothing of the handshake but the certificate",
    ),
    (
        "cf.tls_client_random",
        "an event holds nothing of the handshake but the certificate",
    ),
    (
        "cf.tls_client_extensions",
        "an event holds nothing of the handshake but the certificate",
    ),
    (
        "cf.tls_ciphers",
        "an event holds nothing of the handshake but the certificate",
    ),
    ("cf.worker.", "an event does not come from a worker"),
    (
        "http.request.version",
        "an event does not hold the protocol version",
    ),
    (
        "http.request.accepted_languages",
        "read http.request.headers[\"accept-language\"]",
    ),
    (
        "http.request.body.multipart",
        "bodies of several parts are not taken apart",
    ),
    (
        "http.request.jwt.claims.exp",
        "the vendor has no such field either",
    ),
    (
        "ip.src.",
        "an event holds the country and the autonomous system only",
    ),
    (
        "ip.geoip.",
        "an event holds the country and the autonomous system only",
    ),
    ("icmp", "for network firewalls only"),
    ("tcp.", "for network firewalls only"),
    ("udp.", "for network firewalls only"),
];

impl Field {
    /// What is known about it.
    #[must_use]
    pub fn definition(self) -> &'static Definition {
        // The table is made by the same macro as the variants, so the place always exists; a test walks it.
        FIELDS
            .get(self as usize)
            .or(FIELDS.first())
            .map_or(&NOTHING, |(_, definition)| definition)
    }

    /// Name in expressions.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.definition().name
    }

    /// Type.
    #[must_use]
    pub fn kind(self) -> Type {
        self.definition().kind
    }

    /// The field of this name or alias.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let by_name = FIELDS.iter().find(|(_, known)| known.name == name);
        by_name.map(|(field, _)| *field).or_else(|| {
            let alias = ALIASES.iter().find(|(known, _)| *known == name);
            alias.map(|(_, field)| *field)
        })
    }

    /// Whether the response decides about it, so that it has no value before there is one.
    #[must_use]
    pub fn of_response(self) -> bool {
        matches!(
            self,
            Self::ResponseCode
                | Self::ResponseHeaders
                | Self::ResponseHeaderNames
                | Self::ResponseHeaderValues
                | Self::SchemaResponse
                | Self::Duration
        )
    }

    /// Whether the keys of this map name token configurations.
    #[must_use]
    pub fn keyed_by_configuration(self) -> bool {
        matches!(
            self,
            Self::Claims
                | Self::ClaimAudience
                | Self::ClaimIssuer
                | Self::ClaimId
                | Self::ClaimSubject
                | Self::ClaimIssued
                | Self::ClaimStart
                | Self::TokenOutcomes
                | Self::TokenReasons
        )
    }
}

const NOTHING: Definition = Definition {
    name: "",
    kind: Type::one(Scalar::Bool),
    stored: Stored::Derived,
    about: "",
};

/// Why the vendor's field of this name is not available here.
pub(super) fn unavailable(name: &str) -> Option<&'static str> {
    UNAVAILABLE
        .iter()
        .find(|(start, _)| name.starts_with(start))
        .map(|(_, reason)| *reason)
}

/// Every name of a field, aliases included.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let names = FIELDS.iter().map(|(_, definition)| definition.name);
    names.chain(ALIASES.iter().map(|(name, _)| *name))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_field_is_found_by_its_name() {
        let mut seen = HashSet::new();
        for (at, (field, definition)) in FIELDS.iter().enumerate() {
            assert_eq!(*field as usize, at);
            assert_eq!(field.name(), definition.name);
            assert_eq!(Field::find(definition.name), Some(*field));
            assert!(seen.insert(definition.name), "{}", definition.name);
            assert!(!definition.about.is_empty());
        }
        for (alias, field) in ALIASES {
            assert_eq!(Field::find(alias), Some(*field));
            assert!(seen.insert(alias), "{alias}");
        }
    }

    #[test]
    fn what_holds_credentials_is_not_stored() {
        for name in [
            "http.request.uri",
            "http.request.uri.query",
            "http.request.uri.args",
            "http.request.uri.args.values",
            "http.request.full_uri",
            "http.request.headers.values",
            "http.request.cookies",
            "http.request.cookies.values",
            "http.cookie",
            "http.referer",
            "http.request.body.raw",
            "http.request.body.form",
            "http.request.body.form.values",
            "http.response.headers.values",
            "http.request.jwt.claims",
            "http.request.jwt.claims.sub",
            "http.request.jwt.claims.jti",
        ] {
            let field = Field::find(name).unwrap();
            assert_eq!(field.definition().stored, Stored::Secret, "{name}");
        }
        for secret in [
            "authorization",
            "cookie",
            "set-cookie",
            "x-api-key",
            "proxy-authorization",
        ] {
            assert!(!STORED_HEADERS.contains(&secret));
        }
        assert!(STORED_HEADERS.is_sorted());
    }

    #[test]
    fn reasons_for_what_is_not_there() {
        assert!(unavailable("cf.bot_management.score").is_some());
        assert!(unavailable("http.hots").is_none());
        for (_, definition) in FIELDS {
            let start = UNAVAILABLE
                .iter()
                .any(|(start, _)| *start == definition.name);
            assert!(!start, "{}", definition.name);
        }
    }
}
