//! What one declared operation asks of a request and promises of a response.
//!
//! Data only, ready to judge with; made by `build`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::members::DeclaredMembers;
use super::shape::ValueShape;
use super::validators::Check;
use crate::model::Location;

/// One operation.
#[derive(Debug, Default)]
pub struct Contract {
    /// Path, query, header and cookie parameters.
    pub parameters: Vec<Parameter>,
    /// Request body.
    pub body: Option<Body>,
    /// Responses; exact codes first, then ranges, then the default.
    pub responses: Vec<Response>,
    /// Security requirements.
    pub security: Security,
    /// Whether undeclared query parameters violate.
    pub undeclared_parameters: bool,
    /// Whether undeclared cookies violate.
    pub undeclared_cookies: bool,
    /// Pointer of the operation.
    pub pointer: Arc<str>,
}

/// How the text of a parameter stands for its value (OpenAPI 3.1.1 section 4.8.12.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Values separated by commas.
    Simple,
    /// A leading dot.
    Label,
    /// `;name=value`.
    Matrix,
    /// `name=value`.
    Form,
    /// Separated by spaces.
    SpaceDelimited,
    /// Separated by bars.
    PipeDelimited,
    /// `name[member]=value`.
    DeepObject,
    /// The text is a JSON value (`content`).
    Json,
    /// The text is taken as it is (`content` of another media type).
    Raw,
}

/// One parameter, or one header of a response.
#[derive(Debug)]
pub struct Parameter {
    /// Name as declared.
    pub name: Box<str>,
    /// Where it stands.
    pub location: Location,
    /// Number of the path variable with this name.
    pub variable: usize,
    /// Whether it must be there.
    pub required: bool,
    /// Whether an empty value is as good as a conforming one.
    pub allow_empty: bool,
    /// Serialization.
    pub style: Style,
    /// Whether items and members stand apart.
    pub explode: bool,
    /// Schema; `None` = anything.
    pub check: Option<Arc<Check>>,
    /// Types of the value.
    pub shape: Arc<ValueShape>,
    /// Pointer of the parameter.
    pub pointer: Arc<str>,
}

/// A body.
#[derive(Debug)]
pub struct Body {
    /// Whether it must be there.
    pub required: bool,
    /// Media types, most specific first.
    pub media: Vec<Media>,
    /// Pointer of the body.
    pub pointer: Arc<str>,
}

/// One media type of a body.
#[derive(Debug)]
pub struct Media {
    /// Type, lower case; `*` = any.
    pub kind: Box<str>,
    /// Subtype, lower case; `*` = any.
    pub subtype: Box<str>,
    /// Parameters that the declaration asks for, lower-case names.
    pub parameters: Vec<(Box<str>, Box<str>)>,
    /// Schema; `None` = anything.
    pub check: Option<Arc<Check>>,
    /// Which members it may have; `None` = any that the schema accepts.
    pub members: Option<DeclaredMembers>,
    /// Types of the value, for texts.
    pub shape: Arc<ValueShape>,
    /// How members of a form are written, where the declaration says so.
    pub encoding: BTreeMap<Box<str>, Encoding>,
    /// Pointer of the media type object.
    pub pointer: Arc<str>,
}

/// How one member of a form is written (OpenAPI 3.1.1 section 4.8.15).
#[derive(Debug, Default)]
pub struct Encoding {
    /// Media types that a part may have, lower case, `*` = any; empty = not declared.
    pub content_types: Vec<(Box<str>, Box<str>)>,
    /// Serialization; `None` = not declared.
    pub style: Option<Style>,
    /// Whether items stand apart; `None` = not declared.
    pub explode: Option<bool>,
}

/// Statuses that a response is declared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// One code.
    Code(u16),
    /// `2XX`: the hundreds.
    Range(u16),
    /// Every other code.
    Default,
}

impl Status {
    /// Whether a status code is meant.
    #[must_use]
    pub fn covers(self, code: u16) -> bool {
        match self {
            Self::Code(own) => own == code,
            Self::Range(hundreds) => code / 100 == hundreds,
            Self::Default => true,
        }
    }
}

/// One response.
#[derive(Debug)]
pub struct Response {
    /// Statuses.
    pub status: Status,
    /// Headers.
    pub headers: Vec<Parameter>,
    /// Body, when content is declared.
    pub body: Option<Body>,
}

/// Security requirements: alternatives, each a list of credentials that belong together.
#[derive(Debug, Default)]
pub struct Security {
    /// Alternatives; empty = nothing is asked for.
    pub alternatives: Vec<Vec<Credential>>,
    /// Pointer of the list.
    pub pointer: Arc<str>,
}

/// One credential.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Name of the security scheme.
    pub name: Box<str>,
    /// Where it stands.
    pub carrier: Carrier,
}

/// Where a credential stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Header field.
    Header(Box<str>),
    /// Query parameter.
    Query(Box<str>),
    /// Cookie.
    Cookie(Box<str>),
    /// `Authorization` with this scheme, lower case.
    Authorization(Box<str>),
    /// `Authorization` with any scheme.
    AnyAuthorization,
    /// Client certificate.
    Certificate,
}
