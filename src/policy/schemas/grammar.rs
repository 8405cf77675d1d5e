//! The objects of OpenAPI 3.0 and 3.1 as tables: which members each has and of what shape.
//!
//! Data only; the walk over a document is in `walk`. Sources: OpenAPI Specification 3.0.4 and 3.1.1, section 4.8.

/// Version of the specification that a document follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// 3.0.x
    V30,
    /// 3.1.x
    V31,
}

/// What a member holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    Text,
    Bool,
    Any,
    /// One of these words.
    Word(&'static [&'static str]),
    Object(&'static Kind),
    /// The object, or a Reference Object.
    RefOr(&'static Kind),
    List(&'static Shape),
    NonEmptyList(&'static Shape),
    Map(&'static Shape),
    /// Map whose keys are component names.
    Components(&'static Shape),
    Schema,
}

/// One member.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) required: bool,
    /// `None` = both versions.
    pub(super) only: Option<Version>,
}

/// Members that the table does not list.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rest {
    /// Only `x-` extensions.
    Extensions,
    /// Paths (a leading slash) to this shape.
    Paths(Shape),
    /// Status codes, ranges and `default` to this shape.
    Statuses(Shape),
    /// Any key to this shape.
    Keys(Shape),
}

/// One kind of object.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
    pub(super) rest: Rest,
}

const fn may(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        shape,
        required: false,
        only: None,
    }
}

const fn must(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        shape,
        required: true,
        only: None,
    }
}

const fn in_31(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        shape,
        required: false,
        only: Some(Version::V31),
    }
}

const fn in_30(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        shape,
        required: false,
        only: Some(Version::V30),
    }
}

use Shape::{Any, Bool, Components, List, Map, NonEmptyList, Object, RefOr, Schema, Text, Word};

const fn kind(name: &'static str, fields: &'static [Field]) -> Kind {
    Kind {
        name,
        fields,
        rest: Rest::Extensions,
    }
}

pub(super) static OPENAPI: Kind = kind(
    "the document",
    &[
        must("openapi", Text),
        must("info", Object(&INFO)),
        in_31("jsonSchemaDialect", Text),
        may("servers", List(&Object(&SERVER))),
        may("paths", Object(&PATHS)),
        in_31("webhooks", Map(&RefOr(&PATH_ITEM))),
        may("components", Object(&COMPONENTS)),
        may("security", List(&Map(&List(&Text)))),
        may("tags", List(&Object(&TAG))),
        may("externalDocs", Object(&EXTERNAL_DOCS)),
    ],
);

static INFO: Kind = kind(
    "an info object",
    &[
        must("title", Text),
        in_31("summary", Text),
        may("description", Text),
        may("termsOfService", Text),
        may("contact", Object(&CONTACT)),
        may("license", Object(&LICENSE)),
        must("version", Text),
    ],
);

static CONTACT: Kind = kind(
    "a contact object",
    &[may("name", Text), may("url", Text), may("email", Text)],
);

static LICENSE: Kind = kind(
    "a license object",
    &[
        must("name", Text),
        in_31("identifier", Text),
        may("url", Text),
    ],
);

static SERVER: Kind = kind(
    "a server object",
    &[
        must("url", Text),
        may("description", Text),
        may("variables", Map(&Object(&SERVER_VARIABLE))),
    ],
);

static SERVER_VARIABLE: Kind = kind(
    "a server variable",
    &[
        may("enum", NonEmptyList(&Text)),
        must("default", Text),
        may("description", Text),
    ],
);

static COMPONENTS: Kind = kind(
    "the components object",
    &[
        may("schemas", Components(&Schema)),
        may("responses", Components(&RefOr(&RESPONSE))),
        may("parameters", Components(&RefOr(&PARAMETER))),
        may("examples", Components(&RefOr(&EXAMPLE))),
        may("requestBodies", Components(&RefOr(&REQUEST_BODY))),
        may("headers", Components(&RefOr(&HEADER))),
        may("securitySchemes", Components(&RefOr(&SECURITY_SCHEME))),
        may("links", Components(&RefOr(&LINK))),
        may("callbacks", Components(&RefOr(&CALLBACK))),
        in_31("pathItems", Components(&RefOr(&PATH_ITEM))),
    ],
);

static PATHS: Kind = Kind {
    name: "the paths object",
    fields: &[],
    rest: Rest::Paths(Object(&PATH_ITEM)),
};

pub(super) static PATH_ITEM: Kind = kind(
    "a path item",
    &[
        may("$ref", Text),
        may("summary", Text),
        may("description", Text),
        may("get", Object(&OPERATION)),
        may("put", Object(&OPERATION)),
        may("post", Object(&OPERATION)),
        may("delete", Object(&OPERATION)),
        may("options", Object(&OPERATION)),
        may("head", Object(&OPERATION)),
        may("patch", Object(&OPERATION)),
        may("trace", Object(&OPERATION)),
        may("servers", List(&Object(&SERVER))),
        may("parameters", List(&RefOr(&PARAMETER))),
    ],
);

static OPERATION: Kind = kind(
    "an operation",
    &[
        may("tags", List(&Text)),
        may("summary", Text),
        may("description", Text),
        may("externalDocs", Object(&EXTERNAL_DOCS)),
        may("operationId", Text),
        may("parameters", List(&RefOr(&PARAMETER))),
        may("requestBody", RefOr(&REQUEST_BODY)),
        may("responses", Object(&RESPONSES)),
        may("callbacks", Map(&RefOr(&CALLBACK))),
        may("deprecated", Bool),
        may("security", List(&Map(&List(&Text)))),
        may("servers", List(&Object(&SERVER))),
    ],
);

static EXTERNAL_DOCS: Kind = kind(
    "an external documentation object",
    &[may("description", Text), must("url", Text)],
);

pub(super) static PARAMETER: Kind = kind(
    "a parameter",
    &[
        must("name", Text),
        must("in", Word(&["path", "query", "header", "cookie"])),
        may("description", Text),
        may("required", Bool),
        may("deprecated", Bool),
        may("allowEmptyValue", Bool),
        may("style", Text),
        may("explode", Bool),
        may("allowReserved", Bool),
        may("schema", Schema),
        may("content", Map(&Object(&MEDIA_TYPE))),
        may("example", Any),
        may("examples", Map(&RefOr(&EXAMPLE))),
    ],
);

static REQUEST_BODY: Kind = kind(
    "a request body",
    &[
        may("description", Text),
        must("content", Map(&Object(&MEDIA_TYPE))),
        may("required", Bool),
    ],
);

static MEDIA_TYPE: Kind = kind(
    "a media type object",
    &[
        may("schema", Schema),
        may("example", Any),
        may("examples", Map(&RefOr(&EXAMPLE))),
        may("encoding", Map(&Object(&ENCODING))),
    ],
);

static ENCODING: Kind = kind(
    "an encoding object",
    &[
        may("contentType", Text),
        may("headers", Map(&RefOr(&HEADER))),
        may(
            "style",
            Word(&["form", "spaceDelimited", "pipeDelimited", "deepObject"]),
        ),
        may("explode", Bool),
        may("allowReserved", Bool),
    ],
);

static RESPONSES: Kind = Kind {
    name: "a responses object",
    fields: &[],
    rest: Rest::Statuses(RefOr(&RESPONSE)),
};

static RESPONSE: Kind = kind(
    "a response",
    &[
        must("description", Text),
        may("headers", Map(&RefOr(&HEADER))),
        may("content", Map(&Object(&MEDIA_TYPE))),
        may("links", Map(&RefOr(&LINK))),
    ],
);

static CALLBACK: Kind = Kind {
    name: "a callback",
    fields: &[],
    rest: Rest::Keys(RefOr(&PATH_ITEM)),
};

pub(super) static EXAMPLE: Kind = kind(
    "an example object",
    &[
        may("summary", Text),
        may("description", Text),
        may("value", Any),
        may("externalValue", Text),
    ],
);

static LINK: Kind = kind(
    "a link",
    &[
        may("operationRef", Text),
        may("operationId", Text),
        may("parameters", Map(&Any)),
        may("requestBody", Any),
        may("description", Text),
        may("server", Object(&SERVER)),
    ],
);

pub(super) static HEADER: Kind = kind(
    "a header",
    &[
        may("description", Text),
        may("required", Bool),
        may("deprecated", Bool),
        in_30("allowEmptyValue", Bool),
        may("style", Word(&["simple"])),
        may("explode", Bool),
        in_30("allowReserved", Bool),
        may("schema", Schema),
        may("content", Map(&Object(&MEDIA_TYPE))),
        may("example", Any),
        may("examples", Map(&RefOr(&EXAMPLE))),
    ],
);

static TAG: Kind = kind(
    "a tag",
    &[
        must("name", Text),
        may("description", Text),
        may("externalDocs", Object(&EXTERNAL_DOCS)),
    ],
);

pub(super) static SECURITY_SCHEME: Kind = kind(
    "a security scheme",
    &[
        must(
            "type",
            Word(&["apiKey", "http", "oauth2", "openIdConnect", "mutualTLS"]),
        ),
        may("description", Text),
        may("name", Text),
        may("in", Word(&["query", "header", "cookie"])),
        may("scheme", Text),
        may("bearerFormat", Text),
        may("flows", Object(&OAUTH_FLOWS)),
        may("openIdConnectUrl", Text),
    ],
);

static OAUTH_FLOWS: Kind = kind(
    "an OAuth flows object",
    &[
        may("implicit", Object(&OAUTH_FLOW)),
        may("password", Object(&OAUTH_FLOW)),
        may("clientCredentials", Object(&OAUTH_FLOW)),
        may("authorizationCode", Object(&OAUTH_FLOW)),
    ],
);

static OAUTH_FLOW: Kind = kind(
    "an OAuth flow",
    &[
        may("authorizationUrl", Text),
        may("tokenUrl", Text),
        may("refreshUrl", Text),
        must("scopes", Map(&Text)),
    ],
);

/// What a keyword of a Schema Object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Schema,
    /// A schema, or (3.0) a boolean as well.
    SchemaOrBool,
    /// List of schemas, not empty.
    Schemas,
    /// Map of schemas.
    SchemaMap,
    /// Map of schemas whose keys are regular expressions.
    PatternMap,
    /// Map of lists of names.
    NamesMap,
    Bool,
    Number,
    /// Number greater than zero.
    Positive,
    /// Boolean in 3.0, number in 3.1.
    Exclusive,
    /// Integer of at least zero.
    Count,
    Text,
    Pattern,
    Names,
    Type,
    List,
    Discriminator,
    /// A reference to a schema.
    Reference,
}

/// Keywords with a shape worth checking; every other keyword is an annotation. `true` = 3.1 only: in 3.0 the keyword
/// has no meaning and is ignored.
pub(super) static KEYWORDS: &[(&str, Keyword, bool)] = &[
    ("$ref", Keyword::Reference, false),
    ("$dynamicRef", Keyword::Text, true),
    ("$id", Keyword::Text, true),
    ("$schema", Keyword::Text, true),
    ("$anchor", Keyword::Text, true),
    ("$dynamicAnchor", Keyword::Text, true),
    ("$defs", Keyword::SchemaMap, true),
    ("definitions", Keyword::SchemaMap, true),
    ("additionalProperties", Keyword::SchemaOrBool, false),
    ("allOf", Keyword::Schemas, false),
    ("anyOf", Keyword::Schemas, false),
    ("oneOf", Keyword::Schemas, false),
    ("not", Keyword::Schema, false),
    ("items", Keyword::Schema, false),
    ("properties", Keyword::SchemaMap, false),
    ("prefixItems", Keyword::Schemas, true),
    ("contains", Keyword::Schema, true),
    ("if", Keyword::Schema, true),
    ("then", Keyword::Schema, true),
    ("else", Keyword::Schema, true),
    ("dependentSchemas", Keyword::SchemaMap, true),
    ("dependentRequired", Keyword::NamesMap, true),
    ("patternProperties", Keyword::PatternMap, true),
    ("propertyNames", Keyword::Schema, true),
    ("unevaluatedItems", Keyword::Schema, true),
    ("unevaluatedProperties", Keyword::Schema, true),
    ("contentSchema", Keyword::Schema, true),
    ("type", Keyword::Type, false),
    ("enum", Keyword::List, false),
    ("required", Keyword::Names, false),
    ("pattern", Keyword::Pattern, false),
    ("format", Keyword::Text, false),
    ("multipleOf", Keyword::Positive, false),
    ("minimum", Keyword::Number, false),
    ("maximum", Keyword::Number, false),
    ("exclusiveMinimum", Keyword::Exclusive, false),
    ("exclusiveMaximum", Keyword::Exclusive, false),
    ("minLength", Keyword::Count, false),
    ("maxLength", Keyword::Count, false),
    ("minItems", Keyword::Count, false),
    ("maxItems", Keyword::Count, false),
    ("uniqueItems", Keyword::Bool, false),
    ("minProperties", Keyword::Count, false),
    ("maxProperties", Keyword::Count, false),
    ("minContains", Keyword::Count, true),
    ("maxContains", Keyword::Count, true),
    ("readOnly", Keyword::Bool, false),
    ("writeOnly", Keyword::Bool, false),
    ("discriminator", Keyword::Discriminator, false),
];
