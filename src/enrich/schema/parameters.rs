//! Path, query, header and cookie parameters, and headers of responses.
//!
//! Enters: the declared parameters and where their texts stand. Leaves: violations, or the note that a carrier was not
//! captured. A conforming text costs no allocation beyond the value that is validated.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::text::{Assembly, BadEncoding, Decoding, Preference, scalar};
use super::{Side, json};
use crate::model::{Headers, Location, Request, ViolationClass};
use crate::policy::operations::OperationEntry;
use crate::policy::schemas::contract::{Carrier, Contract, Parameter, Style};

/// Where name-value pairs stand.
#[derive(Clone, Copy)]
enum Pairs<'a> {
    Query(&'a str),
    Cookies(&'a Headers<'a>),
}

impl<'a> Pairs<'a> {
    /// Calls `each` with every decoded name and raw value, in order.
    fn each(self, each: &mut dyn FnMut(&str, &'a str)) {
        match self {
            Self::Query(query) => {
                for pair in query.split('&').filter(|pair| !pair.is_empty()) {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    let name = Decoding::Form.decode(name).unwrap_or(Cow::Borrowed(name));
                    each(&name, value);
                }
            }
            Self::Cookies(headers) => {
                for pair in headers.values("cookie").flat_map(|line| line.split(';')) {
                    if let Some((name, value)) = pair.split_once('=') {
                        each(name.trim(), value.trim());
                    }
                }
            }
        }
    }

    fn decoding(self) -> Decoding {
        match self {
            Self::Query(_) => Decoding::Form,
            Self::Cookies(_) => Decoding::Lenient,
        }
    }
}

/// Judges all parameters of a request.
pub(super) fn request(
    entry: &OperationEntry,
    contract: &Contract,
    request: &Request<'_>,
    path: &str,
    side: &mut Side<'_>,
) {
    let query = Pairs::Query(request.query.as_deref().unwrap_or_default());
    if contract
        .parameters
        .first()
        .is_some_and(|first| first.location == Location::Path)
    {
        entry.template.capture(path, |variable, raw| {
            let declared = contract
                .parameters
                .iter()
                .find(|p| p.location == Location::Path && p.variable == variable);
            if let Some(parameter) = declared {
                in_path(parameter, raw, side);
            }
        });
    }
    for parameter in &contract.parameters {
        match parameter.location {
            Location::Query if !in_pairs(parameter, query, side) && parameter.required => {
                missing(parameter, side);
            }
            Location::Header => header(parameter, &request.headers, side),
            Location::Cookie => {
                let present = in_pairs(parameter, Pairs::Cookies(&request.headers), side);
                if !present {
                    let shown = request.headers.would_show_cookie(&parameter.name);
                    absent(parameter, shown, side);
                }
            }
            _ => {}
        }
    }
    if contract.undeclared_parameters {
        undeclared(contract, Location::Query, query, side);
    }
    if contract.undeclared_cookies {
        let cookies = Pairs::Cookies(&request.headers);
        undeclared(contract, Location::Cookie, cookies, side);
    }
}

/// Judges one header of a request or a response.
pub(super) fn header(parameter: &Parameter, headers: &Headers<'_>, side: &mut Side<'_>) {
    if headers.first(&parameter.name).is_none() {
        absent(parameter, headers.would_show(&parameter.name), side);
        return;
    }
    let decoding = Decoding::Raw;
    if compound(parameter) {
        // Lines of one name are one list (RFC 9110 section 5.3).
        let items = || {
            headers
                .values(&parameter.name)
                .flat_map(|line| line.split(','))
                .map(str::trim)
        };
        judge(parameter, decoding, side, |assembly| {
            delimited(assembly, parameter, items())
        });
        return;
    }
    for line in headers.values(&parameter.name) {
        single(parameter, decoding, line.trim(), side);
    }
}

/// Whether the text stands for a list or an object that is taken apart; `content` parameters are not.
fn compound(parameter: &Parameter) -> bool {
    !matches!(parameter.style, Style::Json | Style::Raw)
        && (parameter.shape.is_array() || parameter.shape.is_object())
}

/// A parameter that is not there: missing when it is required and would have been seen.
fn absent(parameter: &Parameter, shown: bool, side: &mut Side<'_>) {
    if !shown {
        side.skip();
    } else if parameter.required {
        missing(parameter, side);
    }
}

fn missing(parameter: &Parameter, side: &mut Side<'_>) {
    let kind = parameter.location.as_str();
    side.add(
        parameter.location,
        ViolationClass::MissingRequired,
        Cow::Owned(parameter.name.to_string()),
        || format!("{}/required", parameter.pointer),
        || format!("the {kind} parameter is required"),
    );
}

fn fault(parameter: &Parameter, class: ViolationClass, detail: &'static str, side: &mut Side<'_>) {
    side.add(
        parameter.location,
        class,
        Cow::Owned(parameter.name.to_string()),
        || parameter.pointer.to_string(),
        || detail.into(),
    );
}

fn bad_encoding(parameter: &Parameter, side: &mut Side<'_>) {
    fault(
        parameter,
        ViolationClass::InvalidEncoding,
        "escapes must be well formed and stand for UTF-8",
        side,
    );
}

/// Judges the value that `make` assembles; when it could be several values, one that conforms is enough.
fn judge(
    parameter: &Parameter,
    decoding: Decoding,
    side: &mut Side<'_>,
    make: impl Fn(&Assembly<'_>) -> Result<Value, Fault>,
) {
    let mut first = None;
    for preference in [Preference::Typed, Preference::Text] {
        let assembly = Assembly {
            shape: &parameter.shape,
            decoding,
            preference,
        };
        let value = match make(&assembly) {
            Ok(value) => value,
            Err(Fault::Encoding) => return bad_encoding(parameter, side),
            Err(Fault::Style) => {
                return fault(
                    parameter,
                    ViolationClass::InvalidSyntax,
                    "the text must follow the declared style",
                    side,
                );
            }
        };
        let Some(check) = &parameter.check else {
            return;
        };
        if side.accepts(check, &value) {
            return;
        }
        if first.as_ref() == Some(&value) {
            break;
        }
        first.get_or_insert(value);
    }
    if let Some(value) = first {
        explain(parameter, &value, side);
    }
}

/// Why an assembled value could not be made.
enum Fault {
    Encoding,
    Style,
}

impl From<BadEncoding> for Fault {
    fn from(_: BadEncoding) -> Self {
        Self::Encoding
    }
}

fn explain(parameter: &Parameter, value: &Value, side: &mut Side<'_>) {
    let Some(check) = &parameter.check else {
        return;
    };
    side.explain(parameter.location, Some(&parameter.name), check, value);
}

/// Judges one text that is one value.
fn single(parameter: &Parameter, decoding: Decoding, raw: &str, side: &mut Side<'_>) {
    if raw.is_empty() && parameter.allow_empty {
        return;
    }
    if parameter.style == Style::Json {
        let Ok(text) = decoding.decode(raw) else {
            return bad_encoding(parameter, side);
        };
        match json::parse_text(&text) {
            Ok(value) => {
                let check = parameter.check.as_ref();
                if check.is_some_and(|check| !side.accepts(check, &value)) {
                    explain(parameter, &value, side);
                }
            }
            Err((class, detail)) => fault(parameter, class, detail, side),
        }
        return;
    }
    if parameter.shape.any_text || parameter.check.is_none() {
        // Every text conforms; only the encoding can be wrong.
        if decoding.decode(raw).is_err() {
            bad_encoding(parameter, side);
        }
        return;
    }
    judge(parameter, decoding, side, |assembly| {
        let text = assembly.decoding.decode(raw)?;
        Ok(scalar(text, assembly.shape, assembly.preference))
    });
}

/// A list, or an object as a list of names and values (or of `name=value` when exploded).
fn delimited<'r>(
    assembly: &Assembly<'_>,
    parameter: &Parameter,
    items: impl Iterator<Item = &'r str>,
) -> Result<Value, Fault> {
    if !parameter.shape.is_object() {
        return Ok(assembly.list(items)?);
    }
    let mut map = Map::new();
    let mut items = items.filter(|item| !item.is_empty());
    while let Some(item) = items.next() {
        let (name, value) = if parameter.explode {
            item.split_once('=').ok_or(Fault::Style)?
        } else {
            (item, items.next().ok_or(Fault::Style)?)
        };
        let name = assembly.decoding.decode(name)?;
        let text = assembly.decoding.decode(value)?;
        assembly.put(&mut map, name, text);
    }
    Ok(Value::Object(map))
}

fn in_path(parameter: &Parameter, raw: &str, side: &mut Side<'_>) {
    let decoding = Decoding::Percent;
    let compound = compound(parameter);
    let style_fault = |side: &mut Side<'_>| {
        fault(
            parameter,
            ViolationClass::InvalidSyntax,
            "the text must follow the declared style",
            side,
        );
    };
    match parameter.style {
        Style::Label => {
            let Some(rest) = raw.strip_prefix('.') else {
                return style_fault(side);
            };
            if !compound {
                return single(parameter, decoding, rest, side);
            }
            let delimiter = if parameter.explode { '.' } else { ',' };
            judge(parameter, decoding, side, |assembly| {
                delimited(assembly, parameter, rest.split(delimiter))
            });
        }
        Style::Matrix => {
            let Some(rest) = raw.strip_prefix(';') else {
                return style_fault(side);
            };
            let own = |part: &str| -> Option<usize> {
                let value = part.strip_prefix(&*parameter.name)?;
                if value.is_empty() {
                    return Some(part.len());
                }
                value
                    .starts_with('=')
                    .then_some(part.len() - value.len() + 1)
            };
            let value_of = |part: &'_ str| own(part).map(|at| at..part.len());
            if !compound {
                match value_of(rest) {
                    Some(range) => {
                        single(parameter, decoding, rest.get(range).unwrap_or(""), side);
                    }
                    None => style_fault(side),
                }
                return;
            }
            judge(parameter, decoding, side, |assembly| {
                if !parameter.explode {
                    let range = value_of(rest).ok_or(Fault::Style)?;
                    let list = rest.get(range).unwrap_or("");
                    return delimited(assembly, parameter, list.split(','));
                }
                if parameter.shape.is_object() {
                    return delimited(assembly, parameter, rest.split(';'));
                }
                let mut items = Vec::new();
                for part in rest.split(';') {
                    let range = value_of(part).ok_or(Fault::Style)?;
                    items.push(part.get(range).unwrap_or(""));
                }
                Ok(assembly.list(items.into_iter())?)
            });
        }
        _ if compound => judge(parameter, decoding, side, |assembly| {
            delimited(assembly, parameter, raw.split(','))
        }),
        _ => single(parameter, decoding, raw, side),
    }
}

/// Judges a parameter among pairs; tells whether it is there.
fn in_pairs(parameter: &Parameter, pairs: Pairs<'_>, side: &mut Side<'_>) -> bool {
    let decoding = pairs.decoding();
    let shape = &parameter.shape;
    let mut present = false;
    match parameter.style {
        Style::DeepObject => {
            pairs.each(&mut |name, _| present |= deep_keys(parameter, name).is_some());
            if present {
                judge(parameter, decoding, side, |assembly| {
                    deep_object(assembly, parameter, pairs)
                });
                return true;
            }
        }
        Style::Form if parameter.explode && shape.is_object() && !shape.is_array() => {
            pairs.each(&mut |name, _| present |= shape.members.contains_key(name));
            if present {
                judge(parameter, decoding, side, |assembly| {
                    let mut map = Map::new();
                    let mut broken = false;
                    pairs.each(&mut |name, raw| {
                        if shape.members.contains_key(name) {
                            match assembly.decoding.decode(raw) {
                                Ok(text) => assembly.put(&mut map, Cow::Borrowed(name), text),
                                Err(BadEncoding) => broken = true,
                            }
                        }
                    });
                    if broken {
                        return Err(Fault::Encoding);
                    }
                    Ok(Value::Object(map))
                });
            }
            return present;
        }
        Style::Json | Style::Raw => {}
        _ if shape.is_array() && parameter.explode => {
            let mut empty = true;
            pairs.each(&mut |name, raw| {
                present |= name == &*parameter.name;
                empty &= raw.is_empty();
            });
            if present && !(empty && parameter.allow_empty) {
                judge(parameter, decoding, side, |assembly| {
                    let mut items = Vec::new();
                    pairs.each(&mut |name, raw| {
                        if name == &*parameter.name {
                            items.push(raw);
                        }
                    });
                    if let [only] = items.as_slice()
                        && assembly.preference == Preference::Text
                        && !shape.compound()
                    {
                        // The schema admits a single value as well.
                        let text = assembly.decoding.decode(only)?;
                        return Ok(scalar(text, shape, Preference::Text));
                    }
                    Ok(assembly.list(items.into_iter())?)
                });
            }
            return present;
        }
        _ if shape.is_array() || shape.is_object() => {
            pairs.each(&mut |name, raw| {
                if name == &*parameter.name {
                    present = true;
                    if !(raw.is_empty() && parameter.allow_empty) {
                        judge(parameter, decoding, side, |assembly| {
                            delimited(assembly, parameter, split(parameter.style, raw))
                        });
                    }
                }
            });
            return present;
        }
        _ => {}
    }
    pairs.each(&mut |name, raw| {
        if name == &*parameter.name {
            present = true;
            single(parameter, decoding, raw, side);
        }
    });
    present
}

/// Splits raw text at the delimiter of a style, also where the delimiter is escaped, as it must be on the wire.
pub(super) fn split(style: Style, raw: &str) -> impl Iterator<Item = &str> {
    let delimiters: &'static [&'static str] = match style {
        Style::SpaceDelimited => &["%20", "+", " "],
        Style::PipeDelimited => &["%7C", "%7c", "|"],
        _ => &[","],
    };
    let mut rest = Some(raw);
    std::iter::from_fn(move || {
        let text = rest?;
        let next = delimiters
            .iter()
            .filter_map(|delimiter| Some((text.find(delimiter)?, delimiter.len())))
            .min();
        if let Some((at, length)) = next {
            rest = text.get(at + length..);
            text.get(..at)
        } else {
            rest = None;
            Some(text)
        }
    })
}

/// The part of a name behind the parameter's own: `[a]` or `[a][b]`.
fn deep_keys<'n>(parameter: &Parameter, name: &'n str) -> Option<&'n str> {
    let keys = name.strip_prefix(&*parameter.name)?;
    (keys.starts_with('[') && keys.ends_with(']')).then_some(keys)
}

/// Levels of brackets that are read; deeper ones are not in any style.
const MAX_BRACKETS: usize = 8;

fn deep_object(
    assembly: &Assembly<'_>,
    parameter: &Parameter,
    pairs: Pairs<'_>,
) -> Result<Value, Fault> {
    let mut root = Map::new();
    let mut outcome = Ok(());
    pairs.each(&mut |name, raw| {
        let Some(keys) = deep_keys(parameter, name) else {
            return;
        };
        let keys: Vec<&str> = keys
            .get(1..keys.len() - 1)
            .unwrap_or_default()
            .split("][")
            .collect();
        match assembly.decoding.decode(raw) {
            Ok(text) if keys.len() <= MAX_BRACKETS => {
                if put_deep(assembly, &mut root, &keys, text).is_none() {
                    outcome = Err(Fault::Style);
                }
            }
            Ok(_) => outcome = Err(Fault::Style),
            Err(BadEncoding) => outcome = Err(Fault::Encoding),
        }
    });
    outcome.map(|()| Value::Object(root))
}

fn put_deep(
    assembly: &Assembly<'_>,
    map: &mut Map<String, Value>,
    keys: &[&str],
    text: Cow<'_, str>,
) -> Option<()> {
    match keys {
        [] => None,
        // `a[b][]` is how some clients write items of a list.
        [name] | [name, ""] => {
            assembly.put(map, Cow::Borrowed(name), text);
            Some(())
        }
        [name, deeper @ ..] => {
            let free = crate::policy::schemas::ValueShape::default();
            let below = Assembly {
                shape: assembly.shape.member(name).unwrap_or(&free),
                decoding: assembly.decoding,
                preference: assembly.preference,
            };
            let member = map
                .entry((*name).to_owned())
                .or_insert_with(|| Value::Object(Map::new()));
            put_deep(&below, member.as_object_mut()?, deeper, text)
        }
    }
}

/// Query parameters or cookies that the operation does not declare.
fn undeclared(contract: &Contract, location: Location, pairs: Pairs<'_>, side: &mut Side<'_>) {
    pairs.each(&mut |name, _| {
        let declared = contract.parameters.iter().any(|p| {
            if p.location != location {
                return false;
            }
            match p.style {
                Style::DeepObject => deep_keys(p, name).is_some(),
                // Members of an exploded object stand on their own; an open one may have any.
                Style::Form if p.explode && p.shape.is_object() => {
                    p.shape.members.contains_key(name) || p.shape.other.is_some()
                }
                _ => *p.name == *name,
            }
        });
        let credential = contract
            .security
            .alternatives
            .iter()
            .flatten()
            .any(|credential| match &credential.carrier {
                Carrier::Query(own) => location == Location::Query && **own == *name,
                Carrier::Cookie(own) => location == Location::Cookie && **own == *name,
                _ => false,
            });
        if !declared && !credential {
            side.add(
                location,
                ViolationClass::UndeclaredParameter,
                Cow::Borrowed("*"),
                || format!("{}/parameters", contract.pointer),
                || match location {
                    Location::Cookie => "only declared cookies are allowed".into(),
                    _ => "only declared query parameters are allowed".into(),
                },
            );
        }
    });
}
