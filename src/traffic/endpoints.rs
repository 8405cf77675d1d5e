//! What an endpoint of the synthetic traffic is: the words of the tables in [`super::shop`] and [`super::bank`].
//!
//! Every request and response case carries its own truth: the flaw that was put into it on purpose. Nothing here looks
//! at a schema; the tables and the schema documents are kept together by hand and checked by the truth test.

use crate::model::{Location, OperationSource, ViolationClass};

/// Who calls an endpoint and whom it lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Posture {
    /// Nobody shows who they are, and nobody is asked.
    Open,
    /// Everybody shows who they are, else they get 401.
    Guarded,
    /// As guarded, but a part of the invalid tokens is let in.
    Careless,
    /// Needs a bearer token by its schema.
    BearerOnly,
    /// Some callers show who they are, all are let in.
    Mixed,
    /// An API key, and a client certificate that decides who is let in.
    Certificate,
    /// Bank tokens in a cookie or header, or a session cookie.
    Bank,
    /// Open until somebody noticed in the first quarter of the span, guarded since.
    Repaired,
    /// Guarded until a release in the last quarter of the span forgot it, mixed since.
    Slipping,
}

impl Posture {
    /// The posture after `elapsed` thousandths of the span.
    pub(super) fn at(self, elapsed: u32) -> Self {
        match self {
            Self::Repaired if elapsed < 250 => Self::Open,
            Self::Slipping if elapsed >= 750 => Self::Mixed,
            Self::Repaired | Self::Slipping => Self::Guarded,
            steady => steady,
        }
    }
}

/// How an exchange of the endpoint is judged against schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coverage {
    /// An operation of a schema.
    Operation,
    /// A schema covers the host but has no such operation.
    NoOperation,
    /// No schema covers the host.
    Uncovered,
}

/// A violation put into a message on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    /// Part of the message.
    pub(super) location: Location,
    /// Kind.
    pub(super) class: ViolationClass,
}

/// One way to call an endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestCase {
    pub(super) weight: u32,
    pub(super) path: &'static str,
    pub(super) query: &'static str,
    /// A header of its own besides credentials and content type.
    pub(super) header: Option<(&'static str, &'static str)>,
    /// A cookie of its own besides credentials.
    pub(super) cookie: Option<&'static str>,
    pub(super) content_type: &'static str,
    pub(super) body: Option<&'static str>,
    pub(super) flaw: Option<Flaw>,
    /// Only sent with every header captured, because the flaw is about the content type.
    pub(super) whole_headers: bool,
    /// The body is no UTF-8 and can only be logged in base64.
    pub(super) binary: bool,
}

/// One way to answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseCase {
    pub(super) weight: u32,
    pub(super) status: u16,
    pub(super) header: Option<(&'static str, &'static str)>,
    pub(super) content_type: &'static str,
    /// Empty = known to be empty.
    pub(super) body: &'static str,
    pub(super) flaw: Option<Flaw>,
}

/// One endpoint. Everything that the report says about it apart from counts is here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endpoint {
    /// Index of its zone in the scenario.
    pub(super) zone: usize,
    pub(super) weight: u32,
    pub(super) method: &'static str,
    pub(super) host: &'static str,
    /// Template with declared names, as reported.
    pub(super) template: &'static str,
    pub(super) source: OperationSource,
    pub(super) coverage: Coverage,
    pub(super) posture: Posture,
    /// The schema declares header or cookie parameters, or a security requirement.
    pub(super) reads_headers: bool,
    /// The schema declares a header of the successful response.
    pub(super) answers_headers: bool,
    pub(super) requests: &'static [RequestCase],
    /// Answers to callers that are let in with a good request.
    pub(super) admitted: &'static [ResponseCase],
    /// Answer to callers that are not let in.
    pub(super) refused: ResponseCase,
    /// Answer to a flawed request, when it is noticed.
    pub(super) bad: ResponseCase,
}

/// A conforming request without a body.
pub(super) const fn get(weight: u32, path: &'static str, query: &'static str) -> RequestCase {
    RequestCase {
        weight,
        path,
        query,
        header: None,
        cookie: None,
        content_type: "",
        body: None,
        flaw: None,
        whole_headers: false,
        binary: false,
    }
}

/// A conforming request with a JSON body.
pub(super) const fn send(weight: u32, path: &'static str, body: &'static str) -> RequestCase {
    RequestCase {
        content_type: "application/json",
        body: Some(body),
        ..get(weight, path, "")
    }
}

impl RequestCase {
    /// The same with a flaw.
    pub(super) const fn flawed(self, location: Location, class: ViolationClass) -> Self {
        Self {
            flaw: Some(Flaw { location, class }),
            ..self
        }
    }

    /// The same with a header.
    pub(super) const fn with_header(self, name: &'static str, value: &'static str) -> Self {
        Self {
            header: Some((name, value)),
            ..self
        }
    }

    /// The same with a cookie.
    pub(super) const fn with_cookie(self, cookie: &'static str) -> Self {
        Self {
            cookie: Some(cookie),
            ..self
        }
    }

    /// The same with another content type; empty = none is sent.
    pub(super) const fn typed(self, content_type: &'static str) -> Self {
        Self {
            content_type,
            whole_headers: true,
            ..self
        }
    }

    /// The same with a body that is no UTF-8.
    pub(super) const fn in_base64(self) -> Self {
        Self {
            binary: true,
            ..self
        }
    }
}

/// A conforming JSON answer.
pub(super) const fn json(weight: u32, status: u16, body: &'static str) -> ResponseCase {
    ResponseCase {
        weight,
        status,
        header: None,
        content_type: "application/json",
        body,
        flaw: None,
    }
}

/// A conforming answer without content.
pub(super) const fn empty(weight: u32, status: u16) -> ResponseCase {
    ResponseCase {
        content_type: "",
        ..json(weight, status, "")
    }
}

/// A conforming error in the shape of RFC 9457.
pub(super) const fn problem(weight: u32, status: u16, body: &'static str) -> ResponseCase {
    ResponseCase {
        content_type: "application/problem+json",
        ..json(weight, status, body)
    }
}

impl ResponseCase {
    /// The same with a flaw.
    pub(super) const fn flawed(self, location: Location, class: ViolationClass) -> Self {
        Self {
            flaw: Some(Flaw { location, class }),
            ..self
        }
    }

    /// The same with a header.
    pub(super) const fn with_header(self, name: &'static str, value: &'static str) -> Self {
        Self {
            header: Some((name, value)),
            ..self
        }
    }

    /// An answer with a status that the operation does not declare.
    pub(super) const fn undeclared(self) -> Self {
        self.flawed(Location::Status, ViolationClass::UndeclaredStatus)
    }
}

/// The body of an error with a status in it.
macro_rules! problem_body {
    ($status:literal) => {
        concat!(
            r#"{"title":"see the status","status":"#,
            stringify!($status),
            "}"
        )
    };
}

/// Answer to a caller that is not let in.
pub(super) const UNAUTHORIZED: ResponseCase = problem(1, 401, problem_body!(401));
/// Answer to a request that the endpoint itself refuses.
pub(super) const BAD_REQUEST: ResponseCase = problem(1, 400, problem_body!(400));
/// Answer to what is not there.
pub(super) const NOT_FOUND: ResponseCase = problem(20, 404, problem_body!(404));
/// Answer under load.
pub(super) const TOO_MANY: ResponseCase = problem(8, 429, problem_body!(429));
/// Answer of a broken server.
pub(super) const SERVER_ERROR: ResponseCase = problem(6, 500, problem_body!(500));
/// Answer of a server that is away.
pub(super) const UNAVAILABLE: ResponseCase = problem(4, 503, problem_body!(503));
