//! Security requirements of an operation → the credentials that must be there.
//!
//! Enters: a list of requirements and the declared schemes. Leaves: alternatives of credentials with their carriers.

use serde_json::{Map, Value};

use super::super::contract::{Carrier, Credential, Security};
use super::super::documents::Address;
use super::Builder;

impl<'d> Builder<'d> {
    pub(super) fn security(
        &mut self,
        value: Option<&'d Value>,
        at: &Address,
        document: &'d Value,
    ) -> Security {
        let mut alternatives = Vec::new();
        // A document that declares no scheme at all leaves the requirements to something else.
        let list = document
            .pointer("/components/securitySchemes")
            .and(value)
            .and_then(Value::as_array);
        for (index, requirement) in list.into_iter().flatten().enumerate() {
            let mut credentials = Vec::new();
            for name in requirement.as_object().into_iter().flat_map(Map::keys) {
                let scheme_at = Address {
                    document: 0,
                    pointer: "/components/securitySchemes".into(),
                }
                .member(name);
                let declared = document
                    .pointer("/components/securitySchemes")
                    .is_some_and(|schemes| schemes.get(name).is_some());
                match self.documents.follow(scheme_at) {
                    Some((_, scheme)) if declared => {
                        if let Some(carrier) = carrier(scheme) {
                            credentials.push(Credential {
                                name: name.as_str().into(),
                                carrier,
                            });
                        }
                    }
                    _ => self.problems.hint(
                        self.documents.place(&at.item(index).member(name)),
                        format!("security scheme {name:?} is not declared"),
                        "declare it under components.securitySchemes",
                    ),
                }
            }
            alternatives.push(credentials);
        }
        Security {
            alternatives,
            pointer: self.shown(at),
        }
    }
}

fn carrier(scheme: &Value) -> Option<Carrier> {
    let text = |member: &str| scheme.get(member).and_then(Value::as_str);
    Some(match text("type")? {
        "apiKey" => {
            let name = text("name")?;
            match text("in")? {
                "header" => Carrier::Header(name.into()),
                "query" => Carrier::Query(name.into()),
                "cookie" => Carrier::Cookie(name.into()),
                _ => return None,
            }
        }
        "http" => Carrier::Authorization(text("scheme")?.to_ascii_lowercase().into()),
        "oauth2" | "openIdConnect" => Carrier::AnyAuthorization,
        "mutualTLS" => Carrier::Certificate,
        _ => return None,
    })
}
