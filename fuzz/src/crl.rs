//! Revocation lists: one that an operator configures, and a certificate judged by it.

use gatewatch::policy::objects::{MtlsObject, ZoneObject};

use super::judging::{self, AUTHORITY, HOST, REVOCATIONS, file};

const CLIENTS: &str = include_str!("../../src/traffic/keys/clients.pem");

/// One list, PEM or DER.
pub fn run(input: &[u8]) {
    let judge = judging::judge(ZoneObject {
        mtls: vec![MtlsObject {
            hosts: vec![HOST.to_owned()],
            ca: vec![file("ca.pem", AUTHORITY)],
            crl: vec![file("known", REVOCATIONS), file("hostile", input)],
            ..MtlsObject::default()
        }],
        schemas: Vec::new(),
        ..judging::zone()
    });
    if let Some(judge) = judge {
        let client = CLIENTS.split("name: ").nth(1).unwrap_or_default();
        judging::judged(&judge, &judging::presenting(client));
    }
}
