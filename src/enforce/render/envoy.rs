//! An extension of Envoy's RBAC filter, to be loaded by extension config discovery from a watched file.
//!
//! The document is a `DiscoveryResponse` with one `TypedExtensionConfig`: Envoy reads it again whenever the file is
//! replaced, without a restart. Written by a JSON writer, so no value can leave its string; YAML readers take it too.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Format, Omitted, Sorted};
use crate::model::BlockKind;

/// Name of the extension; the filter in Envoy's configuration has the same.
pub const EXTENSION: &str = "gatewatch_blocklist";

pub(super) const FORMAT: Format = Format {
    name: "envoy",
    content_type: "application/json",
    files: &["blocklist.rbac.json"],
    omits,
    dated: false,
    render,
};

fn omits(kind: BlockKind) -> Option<&'static str> {
    match kind {
        BlockKind::Ip | BlockKind::Cidr | BlockKind::UserAgent => None,
        BlockKind::Asn => Some("Envoy knows no autonomous systems; the inline check refuses them"),
        BlockKind::Session | BlockKind::Token => Some(
            "the list holds keyed hashes and Envoy compares raw values; the inline check refuses them",
        ),
        BlockKind::Certificate => {
            Some("the RBAC filter compares no fingerprints; the inline check refuses them")
        }
    }
}

fn render(sorted: &Sorted<'_>, _: &[Omitted], _: i64) -> Vec<String> {
    let networks: Vec<Value> = sorted
        .networks
        .iter()
        .map(|(address, prefix)| {
            json!({"remote_ip": {"address_prefix": address.to_string(), "prefix_len": prefix}})
        })
        .collect();
    let agents: Vec<Value> = sorted
        .entities(BlockKind::UserAgent)
        .map(|agent| json!({"header": {"name": "user-agent", "string_match": {"exact": agent}}}))
        .collect();
    let policies: serde_json::Map<String, Value> =
        [("addresses", networks), ("user_agents", agents)]
            .into_iter()
            // A policy must have at least one principal; without policies nothing is denied.
            .filter(|(_, principals)| !principals.is_empty())
            .map(|(name, principals)| {
                let policy = json!({"permissions": [{"any": true}], "principals": principals});
                (name.to_owned(), policy)
            })
            .collect();
    let rbac = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        "rules": {"action": "DENY", "policies": policies},
    });
    let version = Uuid::new_v5(&Uuid::NAMESPACE_URL, rbac.to_string().as_bytes());
    let document = json!({
        "version_info": version.to_string(),
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": EXTENSION,
            "typed_config": rbac,
        }],
    });
    vec![format!("{document:#}\n")]
}
