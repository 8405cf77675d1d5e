//! Verdicts: the outcome of one check of one exchange. Closed enums with reasons (design section 4).

use std::borrow::Cow;
use std::sync::Arc;

macro_rules! names {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// Every variant, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in tables, reports and topics.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

names! {
    /// Whether the client showed who it is.
    SessionOutcome {
        /// At least one configured identifier has a non-empty value.
        Present = "present",
        /// No identifier, and every carrier was captured.
        Absent = "absent",
        /// No identifier seen, but some carrier was not captured.
        NotCaptured = "not_captured",
        /// The zone has no identifiers configured.
        NotConfigured = "not_configured",
    }
}

names! {
    /// Why a token is invalid; the first that applies, in this order.
    TokenReason {
        /// Not three base64url parts, header or payload not a JSON object, or over the size limit.
        Malformed = "malformed",
        /// `none` in any case, or an algorithm that is not verified here.
        UnsupportedAlgorithm = "unsupported_algorithm",
        /// The header has no `kid`.
        NoKeyId = "no_key_id",
        /// No key has this `kid`.
        UnknownKey = "unknown_key",
        /// The `kid` exists for other algorithms only.
        AlgorithmMismatch = "algorithm_mismatch",
        /// The signature does not verify.
        BadSignature = "bad_signature",
        /// `exp`, or `iat` and the maximum age, lie more than the skew before event time.
        Expired = "expired",
        /// `nbf`, or an `iat` that may not lie ahead, lies more than the skew after event time.
        NotYetValid = "not_yet_valid",
        /// `iss`, `aud` or `typ` differ from the configuration, or a required claim is missing.
        ClaimMismatch = "claim_mismatch",
    }
}

/// Outcome of one token configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenOutcome {
    /// Verified, in time, claims as configured.
    Valid,
    /// A token is there and does not hold.
    Invalid(TokenReason),
    /// A token is there and was not judged: too many different ones in one flush, or no key set was had yet.
    NotEvaluated,
    /// No token was sent.
    Missing,
    /// No token seen, but some source was not captured.
    NotCaptured,
}

impl TokenOutcome {
    /// The name without its reason.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid(_) => "invalid",
            Self::NotEvaluated => "not_evaluated",
            Self::Missing => "missing",
            Self::NotCaptured => "not_captured",
        }
    }

    /// The reason of an invalid token.
    #[must_use]
    pub fn reason(self) -> Option<TokenReason> {
        match self {
            Self::Invalid(reason) => Some(reason),
            _ => None,
        }
    }
}

names! {
    /// Conformance of one side of an exchange.
    SchemaOutcome {
        /// Everything captured conforms.
        Conforms = "conforms",
        /// At least one violation.
        Violates = "violates",
        /// A schema covers the host but has no such operation.
        NoOperation = "no_operation",
        /// No schema covers the host, or the side was not captured.
        NotEvaluated = "not_evaluated",
    }
}

names! {
    /// Side of an exchange.
    Direction {
        /// The request.
        Request = "request",
        /// The response.
        Response = "response",
    }
}

names! {
    /// Part of the message that violates.
    Location {
        /// Path parameter.
        Path = "path",
        /// Query parameter.
        Query = "query",
        /// Header field.
        Header = "header",
        /// Cookie.
        Cookie = "cookie",
        /// Body.
        Body = "body",
        /// Security requirement.
        Security = "security",
        /// Response status.
        Status = "status",
    }
}

names! {
    /// Kind of a violation.
    ViolationClass {
        /// A required parameter, member or body is absent.
        MissingRequired = "missing_required",
        /// A declared security requirement is absent.
        MissingCredential = "missing_credential",
        /// The value has another type.
        InvalidType = "invalid_type",
        /// The value breaks a constraint of its schema.
        ConstraintViolation = "constraint_violation",
        /// Items that must be unique are not.
        DuplicateValue = "duplicate_value",
        /// Bytes that are not valid in the declared character encoding or content coding.
        InvalidEncoding = "invalid_encoding",
        /// The text is not in the syntax of its media type or parameter style.
        InvalidSyntax = "invalid_syntax",
        /// A media type that the operation does not declare.
        UnsupportedMediaType = "unsupported_media_type",
        /// A parameter that the operation does not declare.
        UndeclaredParameter = "undeclared_parameter",
        /// A status that the operation does not declare.
        UndeclaredStatus = "undeclared_status",
    }
}

/// One way in which a message breaks its schema. `detail` is written from the schema, never from the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Side of the exchange.
    pub direction: Direction,
    /// Part of the message.
    pub location: Location,
    /// Kind.
    pub class: ViolationClass,
    /// Parameter name, or JSON pointer into the body with unknown names and indexes as `*`.
    pub target: Cow<'static, str>,
    /// JSON pointer into the schema document.
    pub schema_pointer: Arc<str>,
    /// What the schema asks for.
    pub detail: String,
}

/// Schema conformance of both sides.
#[derive(Clone, Debug)]
pub struct SchemaVerdict {
    /// The request.
    pub request: SchemaOutcome,
    /// The response.
    pub response: SchemaOutcome,
    /// Violations of both sides, request first.
    pub violations: Vec<Violation>,
}

names! {
    /// What the client certificate was worth.
    MtlsOutcome {
        /// Chain and validity hold, not revoked.
        Verified = "verified",
        /// None was presented.
        Absent = "absent",
        /// Presented and refused.
        Failed = "failed",
        /// Verified but revoked.
        Revoked = "revoked",
        /// Nothing is known.
        NotCaptured = "not_captured",
    }
}

names! {
    /// Why a certificate failed our own verification.
    MtlsReason {
        /// No path to a configured authority.
        Untrusted = "untrusted",
        /// `notAfter` lies before event time.
        Expired = "expired",
        /// `notBefore` lies after event time.
        NotYetValid = "not_yet_valid",
        /// A signature on the path does not verify.
        BadSignature = "bad_signature",
        /// The certificate is not for client authentication, or an issuer may not issue.
        WrongUsage = "wrong_usage",
        /// Not a certificate.
        Malformed = "malformed",
    }
}

/// mTLS verdict with the facts that rules see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MtlsVerdict {
    /// Outcome.
    pub outcome: MtlsOutcome,
    /// Reason of our own verification; the gateway's findings have none.
    pub reason: Option<MtlsReason>,
    /// Whether a certificate was sent, valid or not.
    pub presented: Option<bool>,
    /// Whether it is valid; also true when it is revoked (the vendor's trap).
    pub verified: Option<bool>,
    /// Whether it is valid but revoked.
    pub revoked: Option<bool>,
}

names! {
    /// Kind of a rule.
    RuleKind {
        /// What operators say about requests.
        Custom = "custom",
        /// A policy on tokens: it fires when its expression is false.
        Token = "token",
        /// What operators say about client certificates.
        Mtls = "mtls",
        /// Conformance of the request, without a rule of its own.
        Schema = "schema",
    }
}

names! {
    /// What follows when a rule fires.
    RuleAction {
        /// It is counted.
        Log = "log",
        /// Its entities are listed too.
        Block = "block",
    }
}

names! {
    /// What follows when a request violates its schema.
    SchemaAction {
        /// Nothing.
        None = "none",
        /// It is counted.
        Log = "log",
        /// Its entities are listed too.
        Block = "block",
    }
}

impl SchemaAction {
    /// The action of the verdict; `None` = there is no verdict.
    #[must_use]
    pub fn of_rule(self) -> Option<RuleAction> {
        match self {
            Self::None => None,
            Self::Log => Some(RuleAction::Log),
            Self::Block => Some(RuleAction::Block),
        }
    }
}

/// What one rule says about one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleVerdict {
    /// Index in the zone's rule book; `None` = schema validation.
    pub rule: Option<u16>,
    /// Kind.
    pub kind: RuleKind,
    /// The value of the expression.
    pub value: bool,
    /// Whether the action follows.
    pub fires: bool,
    /// The action.
    pub action: RuleAction,
}

/// Session verdict: which configured identifiers were present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionVerdict {
    /// Outcome.
    pub outcome: SessionOutcome,
    /// Indexes of the present identifiers in the zone's list, ascending.
    pub identifiers: Vec<u16>,
    /// Keyed hash of the first present identifier's value; the value itself never leaves the enricher.
    pub hash: Option<[u8; 16]>,
}

impl Default for SessionVerdict {
    /// As on a host without identifiers.
    fn default() -> Self {
        Self {
            outcome: SessionOutcome::NotConfigured,
            identifiers: Vec::new(),
            hash: None,
        }
    }
}
