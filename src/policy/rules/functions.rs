//! The functions: names, what they take, what they give (feature map section 6.2).
//!
//! Making a call of a name and arguments is in `calls`, what a call gives for an exchange in `enrich::rules::functions`.

use regex::bytes::Regex;

use super::ast::Operand;
use super::types::{Scalar, Type};

/// A function with its constant arguments.
#[derive(Clone, Debug)]
pub enum Function {
    /// ASCII letters in lower case.
    Lower,
    /// ASCII letters in upper case.
    Upper,
    /// Bytes of a text, elements of an array.
    Len,
    /// Whether the text starts with the second.
    StartsWith,
    /// Whether the text ends with the second.
    EndsWith,
    /// All values as one text.
    Concat,
    /// The elements as one text with the second argument in between.
    Join,
    /// The parts between separators.
    Split {
        /// What stands between the parts.
        separator: Box<[u8]>,
        /// Most parts; the last one holds the rest.
        limit: usize,
    },
    /// A part by byte positions; negative ones count from the end.
    Substring {
        /// First byte.
        start: i64,
        /// Byte behind the last.
        end: Option<i64>,
    },
    /// The value as text.
    ToString,
    /// The text without any of these bytes.
    RemoveBytes(Box<[u8]>),
    /// Percent escapes and plus signs decoded.
    UrlDecode {
        /// Until nothing changes.
        recursive: bool,
        /// `%uXXXX` too.
        unicode: bool,
    },
    /// The first match replaced.
    Replace {
        /// What is replaced.
        pattern: Regex,
        /// By what.
        template: Vec<Piece>,
    },
    /// The query without these arguments.
    RemoveQueryArgs(Vec<Box<[u8]>>),
    /// Base64 decoded.
    DecodeBase64,
    /// Base64 encoded.
    EncodeBase64 {
        /// With the alphabet for URLs.
        url: bool,
        /// With padding.
        padded: bool,
    },
    /// The digest, 32 bytes.
    Sha256,
    /// A text in a JSON document.
    LookupString(Vec<JsonKey>),
    /// A whole number in a JSON document.
    LookupInteger(Vec<JsonKey>),
    /// The network of an address.
    Cidr {
        /// Length for version 4.
        v4: u8,
        /// Length for version 6.
        v6: u8,
    },
    /// Whether the map has this key.
    HasKey(Box<str>),
    /// Whether the map or array has the second argument as a value.
    HasValue,
    /// Whether a message carries a MAC under this key that is not older than the time to live.
    TimedHmac {
        /// The key.
        key: Box<[u8]>,
        /// Seconds.
        lifetime: i64,
        /// Bytes between message and timestamp.
        separator: usize,
        /// Whether the MAC is in the alphabet for URLs.
        url: bool,
    },
}

/// A part of a replacement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(Box<[u8]>),
    /// What this group matched.
    Group(usize),
}

/// A step into a JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonKey {
    /// Member of an object.
    Name(Box<str>),
    /// Element of an array.
    Index(usize),
}

/// A function call.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is called.
    pub function: Function,
    /// The arguments that depend on the event.
    pub arguments: Vec<Operand>,
}

impl Call {
    /// Type of what it gives.
    #[must_use]
    pub fn kind(&self) -> Type {
        let of = match self.function {
            Function::Len | Function::LookupInteger(_) => Scalar::Int,
            Function::StartsWith
            | Function::EndsWith
            | Function::HasKey(_)
            | Function::HasValue
            | Function::TimedHmac { .. } => Scalar::Bool,
            Function::Cidr { .. } => Scalar::Ip,
            Function::Split { .. } => return Type::array(Scalar::Bytes),
            _ => Scalar::Bytes,
        };
        if self.mapped() {
            Type::array(of)
        } else {
            Type::one(of)
        }
    }

    /// Whether it is called once per element of its first argument.
    #[must_use]
    pub fn mapped(&self) -> bool {
        self.arguments.first().is_some_and(Operand::mapped)
    }
}

/// Every function of the vendor that is understood, with its form.
const FUNCTIONS: &[(&str, &str)] = &[
    ("lower", "lower(String)"),
    ("upper", "upper(String)"),
    ("len", "len(String or Array)"),
    ("starts_with", "starts_with(String, String)"),
    ("ends_with", "ends_with(String, String)"),
    ("concat", "concat(value, value, …)"),
    ("join", "join(Array<String>, \"separator\")"),
    ("split", "split(String, \"separator\", limit)"),
    ("substring", "substring(String, start[, end])"),
    ("to_string", "to_string(Integer, Boolean or IP address)"),
    ("remove_bytes", "remove_bytes(String, \"bytes\")"),
    ("url_decode", "url_decode(String[, \"ru\"])"),
    (
        "regex_replace",
        "regex_replace(String, \"pattern\", \"replacement\")",
    ),
    (
        "wildcard_replace",
        "wildcard_replace(String, \"pattern\", \"replacement\"[, \"s\"])",
    ),
    (
        "remove_query_args",
        "remove_query_args(http.request.uri.query, \"name\", …)",
    ),
    ("decode_base64", "decode_base64(String)"),
    ("encode_base64", "encode_base64(String[, \"up\"])"),
    ("sha256", "sha256(String)"),
    ("lookup_json_string", "lookup_json_string(String, key, …)"),
    ("lookup_json_integer", "lookup_json_integer(String, key, …)"),
    (
        "cidr",
        "cidr(IP address, bits of version 4, bits of version 6)",
    ),
    ("cidr6", "cidr6(IP address, bits)"),
    ("has_key", "has_key(Map, \"key\")"),
    ("has_value", "has_value(Map or Array, value)"),
    (
        "is_timed_hmac_valid_v0",
        "is_timed_hmac_valid_v0(\"key\", String, lifetime, now[, separator length][, \"s\"])",
    ),
];

/// Functions of the vendor that cannot work on logs, with the reason.
const UNAVAILABLE: &[(&str, &str)] = &[
    ("uuidv4", "a random value would make a replay differ"),
    ("bit_slice", "it is for network firewalls only"),
];

/// The form of the function of this name.
pub(super) fn form(name: &str) -> Option<&'static str> {
    FUNCTIONS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, form)| *form)
}

/// Why the vendor's function of this name is not available here.
pub(super) fn unavailable(name: &str) -> Option<&'static str> {
    UNAVAILABLE
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, reason)| *reason)
}

/// Names of all functions that can be called.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|(name, _)| *name)
}
