//! What the synthetic traffic goes to: zones with everything that is configured for them.
//!
//! Leaves in two shapes that say the same: the objects that policy is compiled from, and the files of a pipeline folder.

use std::fmt::Write as _;
use std::time::Duration;

use super::bank::BANK_AND_STATUS;
use super::certificates::{AUTHORITY, REVOCATIONS};
use super::credentials::ISSUER;
use super::endpoints::Endpoint;
use super::shop::SHOP;
use crate::policy::objects::{
    FileText, MtlsObject, OperationObject, SchemaObject, SessionIdentifierKind,
    SessionIdentifierObject, TokenConfigurationObject, ZoneObject,
};

/// Clock skew of the token configurations, the design's default.
pub(super) const SKEW_SECONDS: i64 = 60;
/// Longest token, the design's default.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// A file that a zone needs.
#[derive(Clone, Copy, Debug)]
struct Document {
    file: &'static str,
    text: &'static str,
}

/// One token configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenPlan {
    pub(super) title: &'static str,
    sources: &'static [&'static str],
    keys: Document,
    issuer: Option<&'static str>,
    audience: &'static [&'static str],
}

/// One zone.
#[derive(Clone, Debug)]
pub(super) struct ZonePlan {
    pub(super) id: &'static str,
    name: &'static str,
    hosts: &'static [&'static str],
    /// Kind and name, in order.
    pub(super) identifiers: &'static [(SessionIdentifierKind, &'static str)],
    pub(super) tokens: &'static [TokenPlan],
    schemas: &'static [(&'static str, Document)],
    /// Method, host, template.
    operations: &'static [(&'static str, &'static str, &'static str)],
    /// Hosts whose client certificates the demo authority issues.
    mtls: &'static [&'static str],
}

const SHOP_KEYS: Document = Document {
    file: "shop.jwks.json",
    text: include_str!("keys/shop.jwks.json"),
};

const SHOP_TOKENS: &[TokenPlan] = &[
    TokenPlan {
        title: "shop issuer",
        sources: &[r#"http.request.headers["authorization"][0]"#],
        keys: SHOP_KEYS,
        issuer: Some(ISSUER),
        audience: &[],
    },
    TokenPlan {
        title: "refresh tokens",
        sources: &[r#"http.request.cookies["refresh"][0]"#],
        keys: SHOP_KEYS,
        issuer: Some(ISSUER),
        audience: &[],
    },
];

const BANK_TOKENS: &[TokenPlan] = &[TokenPlan {
    title: "bank issuer",
    sources: &[
        r#"http.request.cookies["bank_token"][0]"#,
        r#"http.request.headers["x-bank-token"][0]"#,
    ],
    keys: Document {
        file: "bank.jwks.json",
        text: include_str!("keys/bank.jwks.json"),
    },
    issuer: None,
    audience: &["https://api.bank.example"],
}];

const SHOP_ZONE: ZonePlan = ZonePlan {
    id: "023e105f4ecef8ad9ca31a8372d0c353",
    name: "shop.example",
    hosts: &[
        "api.shop.example",
        "www.shop.example",
        "*.partners.shop.example",
    ],
    identifiers: &[
        (SessionIdentifierKind::Header, "authorization"),
        (SessionIdentifierKind::Cookie, "sid"),
        (SessionIdentifierKind::Header, "x-api-key"),
    ],
    tokens: SHOP_TOKENS,
    schemas: &[
        (
            "shop v1",
            Document {
                file: "shop.openapi.yaml",
                text: include_str!("documents/shop.openapi.yaml"),
            },
        ),
        (
            "partner feed v2",
            Document {
                file: "partners.openapi.json",
                text: include_str!("documents/partners.openapi.json"),
            },
        ),
    ],
    operations: &[("GET", "api.shop.example", "/health")],
    mtls: &["*.partners.shop.example"],
};

const BANK_ZONE: ZonePlan = ZonePlan {
    id: "9a7806061c88ada191ed06f989cc3dac",
    name: "bank.example",
    hosts: &["api.bank.example", "mobile.bank.example"],
    identifiers: &[
        (SessionIdentifierKind::Jwt, "bank issuer:$.sub"),
        (SessionIdentifierKind::Cookie, "bank_session"),
    ],
    tokens: BANK_TOKENS,
    schemas: &[(
        "bank v3",
        Document {
            file: "bank.openapi.yaml",
            text: include_str!("documents/bank.openapi.yaml"),
        },
    )],
    operations: &[],
    mtls: &[],
};

const STATUS_ZONE: ZonePlan = ZonePlan {
    id: "5fd1cafff1c5a0e3d0f2b2e1a4c8d7b6",
    name: "status.example",
    hosts: &["status.example"],
    identifiers: &[],
    tokens: &[],
    schemas: &[],
    operations: &[],
    mtls: &[],
};

/// Zones, hosts and endpoints that traffic is made for.
#[derive(Clone, Debug)]
pub struct Scenario {
    zones: Vec<ZonePlan>,
    endpoints: Vec<Endpoint>,
}

impl Scenario {
    /// One zone that is easy to read: the shop with its API, partner feed and old site.
    #[must_use]
    pub fn demo() -> Self {
        let zone = ZonePlan {
            tokens: SHOP_TOKENS.split_at(1).0,
            ..SHOP_ZONE
        };
        Self {
            zones: vec![zone],
            endpoints: SHOP.to_vec(),
        }
    }

    /// Everything that the generator can make: the shop with a second token configuration, a bank whose sessions are
    /// token claims, and a zone without any configuration.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            zones: vec![SHOP_ZONE, BANK_ZONE, STATUS_ZONE],
            endpoints: [SHOP, BANK_AND_STATUS].concat(),
        }
    }

    pub(super) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    pub(super) fn zone(&self, index: usize) -> Option<&ZonePlan> {
        self.zones.get(index)
    }

    /// What policy is compiled from.
    #[must_use]
    pub fn objects(&self) -> Vec<ZoneObject> {
        self.zones.iter().map(ZonePlan::object).collect()
    }

    /// The files of a pipeline folder as (name, text), `pipeline.toml` first. `log` is the path of the log, relative to the
    /// folder.
    #[must_use]
    pub fn pipeline_files(&self, log: &str) -> Vec<(String, String)> {
        let mut files = vec![("pipeline.toml".to_owned(), self.pipeline(log))];
        let mut add = |document: Document| {
            if files.iter().all(|(name, _)| name != document.file) {
                files.push((document.file.to_owned(), document.text.to_owned()));
            }
        };
        for zone in &self.zones {
            zone.tokens.iter().for_each(|plan| add(plan.keys));
            zone.schemas.iter().for_each(|(_, document)| add(*document));
            if !zone.mtls.is_empty() {
                add(CA);
                add(CRL);
            }
        }
        files
    }

    fn pipeline(&self, log: &str) -> String {
        let mut text = format!(
            "# Written by `gatewatch generate`. Everything that is not here has its default.\n\
             name = \"demo\"\n\n\
             [source]\n\
             kind = \"file\"\n\
             path = {}\n\
             format = \"gatewatch\"\n\n\
             [store]\n\
             kind = \"local\"\n\
             path = \"data\"\n\n\
             [publish]\n\
             kind = \"file\"\n\
             path = \"data/topics\"\n",
            quoted(log)
        );
        for zone in &self.zones {
            // Writing to a string cannot fail.
            let _ = zone.write(&mut text);
        }
        text
    }
}

const CA: Document = Document {
    file: "partners-ca.pem",
    text: AUTHORITY,
};

const CRL: Document = Document {
    file: "partners.crl.pem",
    text: REVOCATIONS,
};

/// A TOML basic string. The names here hold nothing that would need more than this.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn list(items: &[&str]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(", "))
}

impl Document {
    fn read(self) -> FileText {
        FileText {
            name: self.file.to_owned(),
            bytes: self.text.as_bytes().to_vec(),
        }
    }
}

fn owned(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

impl ZonePlan {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\n[[zones]]\nid = {}", quoted(self.id))?;
        writeln!(out, "name = {}", quoted(self.name))?;
        writeln!(out, "hosts = {}", list(self.hosts))?;
        for (kind, name) in self.identifiers {
            writeln!(
                out,
                "\n[[zones.session_identifiers]]\ntype = {}",
                quoted(kind.as_str())
            )?;
            writeln!(out, "name = {}", quoted(name))?;
        }
        for plan in self.tokens {
            writeln!(
                out,
                "\n[[zones.token_configurations]]\ntitle = {}",
                quoted(plan.title)
            )?;
            writeln!(out, "token_sources = {}", list(plan.sources))?;
            writeln!(out, "jwks = {}", quoted(plan.keys.file))?;
            if let Some(issuer) = plan.issuer {
                writeln!(out, "issuer = {}", quoted(issuer))?;
            }
            if !plan.audience.is_empty() {
                writeln!(out, "audience = {}", list(plan.audience))?;
            }
        }
        for (name, document) in self.schemas {
            writeln!(out, "\n[[zones.schemas]]\nname = {}", quoted(name))?;
            writeln!(out, "path = {}", quoted(document.file))?;
        }
        for (method, host, endpoint) in self.operations {
            writeln!(out, "\n[[zones.operations]]\nmethod = {}", quoted(method))?;
            writeln!(out, "host = {}", quoted(host))?;
            writeln!(out, "endpoint = {}", quoted(endpoint))?;
        }
        if !self.mtls.is_empty() {
            writeln!(out, "\n[[zones.mtls]]\nhosts = {}", list(self.mtls))?;
            writeln!(out, "ca = {}\ncrl = {}", quoted(CA.file), quoted(CRL.file))?;
        }
        Ok(())
    }

    fn object(&self) -> ZoneObject {
        let identifiers = self.identifiers.iter().map(|(kind, name)| {
            let (kind, name) = (*kind, (*name).to_owned());
            SessionIdentifierObject {
                kind,
                name,
                ..SessionIdentifierObject::default()
            }
        });
        let tokens = self.tokens.iter().map(|plan| TokenConfigurationObject {
            title: plan.title.to_owned(),
            token_sources: owned(plan.sources),
            jwks: plan.keys.read().into(),
            clock_skew: Duration::from_secs(SKEW_SECONDS.unsigned_abs()),
            issuer: plan.issuer.map(str::to_owned),
            audience: owned(plan.audience),
            max_token_bytes: MAX_TOKEN_BYTES,
            ..TokenConfigurationObject::default()
        });
        let schemas = self.schemas.iter().map(|(name, document)| SchemaObject {
            name: (*name).to_owned(),
            document: document.read(),
            formats: true,
            ..SchemaObject::default()
        });
        let operations = self
            .operations
            .iter()
            .map(|(method, host, endpoint)| OperationObject {
                method: (*method).to_owned(),
                host: (*host).to_owned(),
                endpoint: (*endpoint).to_owned(),
            });
        let mtls = (!self.mtls.is_empty()).then(|| MtlsObject {
            hosts: owned(self.mtls),
            ca: vec![CA.read()],
            crl: vec![CRL.read()],
            ..MtlsObject::default()
        });
        ZoneObject {
            id: self.id.to_owned(),
            name: self.name.to_owned(),
            hosts: owned(self.hosts),
            session_identifiers: identifiers.collect(),
            token_configurations: tokens.collect(),
            schemas: schemas.collect(),
            operations: operations.collect(),
            mtls: mtls.into_iter().collect(),
            ..ZoneObject::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Scenario;

    #[test]
    fn the_pipeline_file_is_toml_and_names_files_that_are_there() {
        for scenario in [Scenario::demo(), Scenario::everything()] {
            let files = scenario.pipeline_files("traffic.ndjson");
            let (name, text) = &files[0];
            assert_eq!(name, "pipeline.toml");
            let value: toml::Table = text.parse().unwrap();
            let zones = value["zones"].as_array().unwrap();
            assert_eq!(zones.len(), scenario.objects().len());
            for (zone, object) in zones.iter().zip(scenario.objects()) {
                assert_eq!(zone["id"].as_str(), Some(object.id.as_str()));
                let mut named = Vec::new();
                for (table, key) in [("token_configurations", "jwks"), ("schemas", "path")] {
                    let entries = zone.get(table).and_then(|entries| entries.as_array());
                    for entry in entries.into_iter().flatten() {
                        named.push(entry[key].as_str().unwrap().to_owned());
                    }
                }
                for entry in zone
                    .get("mtls")
                    .and_then(|m| m.as_array())
                    .into_iter()
                    .flatten()
                {
                    named.push(entry["ca"].as_str().unwrap().to_owned());
                    named.push(entry["crl"].as_str().unwrap().to_owned());
                }
                for file in named {
                    assert!(files.iter().any(|(name, _)| *name == file), "{file}");
                }
            }
        }
    }
}
