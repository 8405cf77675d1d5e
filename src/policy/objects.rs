//! The declarative objects that policy is compiled from. Files are already read: policy does no I/O.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::rules::Lists;
use crate::model::{BlockKind, RuleAction, RuleKind, SchemaAction};

/// A file as it was read, with the name to show in problems.
#[derive(Clone, Debug, Default)]
pub struct FileText {
    /// Name to show.
    pub name: String,
    /// Content.
    pub bytes: Vec<u8>,
}

/// One zone.
#[derive(Clone, Debug, Default)]
pub struct ZoneObject {
    /// Up to 32 characters.
    pub id: String,
    /// Display name.
    pub name: String,
    /// Hosts, lower case or not; `*.` in front covers one or more labels.
    pub hosts: Vec<String>,
    /// Where authenticated clients show who they are, in order.
    pub session_identifiers: Vec<SessionIdentifierObject>,
    /// Where tokens are found and the keys that verify them.
    pub token_configurations: Vec<TokenConfigurationObject>,
    /// Uploaded OpenAPI documents.
    pub schemas: Vec<SchemaObject>,
    /// Operations saved without a schema.
    pub operations: Vec<OperationObject>,
    /// Client certificate authorities per host.
    pub mtls: Vec<MtlsObject>,
    /// Rules, in their order.
    pub rules: Vec<RuleObject>,
    /// What follows from requests that violate their schema.
    pub schema_validation: SchemaActionObject,
    /// The lists that rules may name; shared by all zones. `None` = there are none.
    pub lists: Option<Arc<Lists>>,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct RuleObject {
    /// Id; the title where there is none.
    pub id: Option<String>,
    /// Title.
    pub title: String,
    /// What it is for.
    pub description: String,
    /// Kind.
    pub kind: RuleKind,
    /// What follows when it fires.
    pub action: RuleAction,
    /// Whether it is evaluated.
    pub enabled: bool,
    /// Hosts that it covers; empty = every host of the zone.
    pub include_hosts: Vec<String>,
    /// Operations that it does not cover, by id or in words.
    pub exclude_operations: Vec<String>,
    /// The expression.
    pub expression: String,
    /// Kinds of entities that it lists; `None` = those of its kind.
    pub block: Option<Vec<BlockKind>>,
    /// How long they are listed, milliseconds; `None` = one hour.
    pub duration: Option<i64>,
}

/// What follows from requests that violate their schema.
#[derive(Clone, Debug)]
pub struct SchemaActionObject {
    /// What follows where the operation does not say.
    pub default: SchemaAction,
    /// Nothing follows, whatever else says.
    pub suspended: bool,
    /// Operations with an action of their own.
    pub operations: Vec<(OperationObject, SchemaAction)>,
    /// Kinds of entities that are listed; `None` = the address.
    pub block: Option<Vec<BlockKind>>,
    /// How long they are listed, milliseconds; `None` = one hour.
    pub duration: Option<i64>,
}

impl Default for SchemaActionObject {
    fn default() -> Self {
        Self {
            default: SchemaAction::None,
            suspended: false,
            operations: Vec::new(),
            block: None,
            duration: None,
        }
    }
}

/// Carrier of a session identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionIdentifierKind {
    /// Header field; the name has no case.
    #[default]
    Header,
    /// Cookie; the name has case.
    Cookie,
    /// Claim of a verified token: `<configuration id or title>:<restricted JSONPath>`.
    Jwt,
    /// Query parameter; the name has case.
    Query,
    /// What a verified client certificate says of its subject.
    Certificate,
    /// Several identifiers that count together.
    Composite,
}

impl SessionIdentifierKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Header,
        Self::Cookie,
        Self::Jwt,
        Self::Query,
        Self::Certificate,
        Self::Composite,
    ];

    /// The name in configurations and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Cookie => "cookie",
            Self::Jwt => "jwt",
            Self::Query => "query",
            Self::Certificate => "certificate",
            Self::Composite => "composite",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// One session identifier.
#[derive(Clone, Debug, Default)]
pub struct SessionIdentifierObject {
    /// Carrier.
    pub kind: SessionIdentifierKind,
    /// Name as configured.
    pub name: String,
    /// Parts of a composite, `<type>:<name>` each.
    pub of: Vec<String>,
    /// Hosts on which it counts, `*.` allowed; empty = every host of the zone.
    pub hosts: Vec<String>,
}

/// Where the keys of a token configuration come from: a JWK set (RFC 7517 section 5).
#[derive(Clone, Debug)]
pub enum JwksObject {
    /// The set itself.
    Written(FileText),
    /// A URL that an issuer serves it at.
    Served(JwksUrl),
}

impl Default for JwksObject {
    fn default() -> Self {
        Self::Written(FileText::default())
    }
}

impl From<FileText> for JwksObject {
    fn from(file: FileText) -> Self {
        Self::Written(file)
    }
}

/// A key set that an issuer serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksUrl {
    /// `https` URL; checked when the file is read.
    pub url: String,
    /// Least time between two fetches because of unknown keys, and between two scheduled ones.
    pub cooldown: Duration,
    /// Most time between two fetches, whatever the issuer's `Cache-Control` says.
    pub refresh: Duration,
    /// Longest time that a fetch may take.
    pub timeout: Duration,
    /// How long a key that is no longer served goes on serving the events from before its removal.
    pub keep_retired: Duration,
    /// Whether the issuer may be in a private network.
    pub allow_private: bool,
    /// PEM of the authorities that the issuer's certificate must chain to; `None` = those of the system.
    pub ca: Option<Vec<u8>>,
    /// Folder in which the last good set and the retired keys survive a restart.
    pub cache: Option<PathBuf>,
}

impl Default for JwksUrl {
    fn default() -> Self {
        Self {
            url: String::new(),
            cooldown: Duration::from_secs(30),
            refresh: Duration::from_hours(1),
            timeout: Duration::from_secs(5),
            keep_retired: Duration::from_hours(30 * 24),
            allow_private: false,
            ca: None,
            cache: None,
        }
    }
}

/// One token configuration.
#[derive(Clone, Debug, Default)]
pub struct TokenConfigurationObject {
    /// Id; made from zone and title when missing.
    pub id: Option<String>,
    /// Title; its name in reports.
    pub title: String,
    /// Expressions such as `http.request.headers["authorization"][0]`, tried in order.
    pub token_sources: Vec<String>,
    /// The keys.
    pub jwks: JwksObject,
    /// Tolerance for `exp`, `nbf`, `iat` and the age.
    pub clock_skew: Duration,
    /// Expected `iss`.
    pub issuer: Option<String>,
    /// Accepted `aud` values; empty = not checked.
    pub audience: Vec<String>,
    /// Accepted `typ` header values (RFC 8725 section 3.11); empty = not checked.
    pub types: Vec<String>,
    /// Whether a token without `exp` is refused.
    pub require_exp: bool,
    /// Whether a token without `iat` is refused; a maximum age implies it.
    pub require_iat: bool,
    /// Whether an `iat` after event time is refused; `None` = when there is a maximum age.
    pub refuse_future_iat: Option<bool>,
    /// Longest time from `iat` to the event.
    pub max_age: Option<Duration>,
    /// Longest token that is looked at, bytes.
    pub max_token_bytes: usize,
}

/// One uploaded OpenAPI document.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches, one key of the pipeline file each"
)]
pub struct SchemaObject {
    /// Display name.
    pub name: String,
    /// The document, YAML or JSON.
    pub document: FileText,
    /// Further documents by the URI or relative path that a `$ref` names.
    pub referenced: BTreeMap<String, FileText>,
    /// Whether undeclared query parameters violate.
    pub undeclared_parameters: bool,
    /// Whether undeclared cookies violate.
    pub undeclared_cookies: bool,
    /// Whether undeclared members of bodies violate.
    pub undeclared_members: bool,
    /// Whether `format` is asserted.
    pub formats: bool,
}

/// One operation saved without a schema.
#[derive(Clone, Debug)]
pub struct OperationObject {
    /// Method name.
    pub method: String,
    /// Host.
    pub host: String,
    /// Path template with any parameter names.
    pub endpoint: String,
}

/// Certificate authorities for client certificates on some hosts.
#[derive(Clone, Debug, Default)]
pub struct MtlsObject {
    /// Hosts; `*.` allowed.
    pub hosts: Vec<String>,
    /// PEM bundle (or DER) of trust anchors.
    pub ca: Vec<FileText>,
    /// PEM bundle (or DER) of intermediates.
    pub intermediates: Vec<FileText>,
    /// CRLs, PEM or DER.
    pub crl: Vec<FileText>,
    /// Accepted issuers (hexadecimal SHA-256 of the issuing certificate); empty = any under the CA.
    pub issuers: Vec<String>,
    /// Most authorities between a client's certificate and an anchor; `None` = 8.
    pub max_intermediates: Option<usize>,
    /// Header of the request in which the gateway shows the certificate; `None` = no header counts.
    pub header: Option<String>,
}
