//! The declarative objects that policy is compiled from. Files are already read: policy does no I/O.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::rules::Lists;
use crate::model::{BlockKind, RuleAction, RuleKind};

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
#[derive(Clone, Debug, Default)]
pub struct SchemaActionObject {
    /// What follows where the operation does not say; `None` = nothing.
    pub default: Option<RuleAction>,
    /// Nothing follows, whatever else says.
    pub suspended: bool,
    /// Operations with an action of their own; `None` = nothing follows.
    pub operations: Vec<(OperationObject, Option<RuleAction>)>,
    /// Kinds of entities that are listed; `None` = the address.
    pub block: Option<Vec<BlockKind>>,
    /// How long they are listed, milliseconds; `None` = one hour.
    pub duration: Option<i64>,
}

/// Carrier of a session identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionIdentifierKind {
    /// Header field; the name has no case.
    Header,
    /// Cookie; the name has case.
    Cookie,
    /// Claim of a verified token: `<configuration id or title>:<restricted JSONPath>`.
    Jwt,
}

/// One session identifier.
#[derive(Clone, Debug)]
pub struct SessionIdentifierObject {
    /// Carrier.
    pub kind: SessionIdentifierKind,
    /// Name as configured.
    pub name: String,
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
    /// JWK set (RFC 7517 section 5).
    pub jwks: FileText,
    /// Tolerance for `exp` and `nbf`.
    pub clock_skew: Duration,
    /// Expected `iss`.
    pub issuer: Option<String>,
    /// Accepted `aud` values; empty = not checked.
    pub audience: Vec<String>,
    /// Whether a token without `exp` is refused.
    pub require_exp: bool,
    /// Longest token that is looked at, bytes.
    pub max_token_bytes: usize,
}

/// One uploaded OpenAPI document.
#[derive(Clone, Debug, Default)]
pub struct SchemaObject {
    /// Display name.
    pub name: String,
    /// The document, YAML or JSON.
    pub document: FileText,
    /// Further documents by the URI or relative path that a `$ref` names.
    pub referenced: BTreeMap<String, FileText>,
    /// Whether undeclared query parameters violate.
    pub undeclared_parameters: bool,
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
}
