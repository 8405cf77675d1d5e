//! Large and hostile certificates, revocation lists and documents: each has an outcome, and nothing grows without bound.

use std::fmt::Write as _;

use gatewatch::enrich::Judge;
use gatewatch::model::{MtlsOutcome, MtlsReason, Problems, SchemaOutcome};
use gatewatch::policy::compile;
use gatewatch::policy::objects::{MtlsObject, SchemaObject, ZoneObject};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    NameConstraints, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};

use crate::fuzz_targets::judging::{self, HOST, file, judged, presenting};

/// Serial number of the client's certificate.
const SERIAL: u64 = 77_777;
/// Names that fit into the 64 KiB of text that are looked at, and names that do not.
const FITTING: usize = 1_800;
const TOO_MANY: usize = 10_000;

struct Authority {
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    /// An authority that allows names below these domains only; none = all.
    fn new(permitted: &[String]) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        if !permitted.is_empty() {
            let names = permitted.iter().cloned().map(GeneralSubtree::DnsName);
            params.name_constraints = Some(NameConstraints {
                permitted_subtrees: names.collect(),
                excluded_subtrees: Vec::new(),
            });
        }
        let key = KeyPair::generate().unwrap();
        Self { params, key }
    }

    fn pem(&self) -> String {
        self.params.self_signed(&self.key).unwrap().pem()
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// A client's certificate with as many names.
    fn client(&self, names: usize) -> String {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(SERIAL));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = (0..names)
            .map(|number| SanType::DnsName(format!("n{number}.shop.example").try_into().unwrap()))
            .collect();
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &self.issuer()).unwrap().pem()
    }

    /// A list with as many entries, the client's among them or not.
    fn list(&self, entries: u64, revoked: bool) -> String {
        let entry = |serial: u64| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let others = (1_000_000..).take(usize::try_from(entries).unwrap());
        let mut entries: Vec<_> = others.map(entry).collect();
        if revoked {
            let middle = entries.len() / 2;
            entries.insert(middle, entry(SERIAL));
        }
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 11, 1),
            next_update: date_time_ymd(2027, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: entries,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer()).unwrap().pem().unwrap()
    }

    fn judge(&self, crl: Option<&str>) -> Judge {
        let zone = ZoneObject {
            mtls: vec![MtlsObject {
                hosts: vec![HOST.to_owned()],
                ca: vec![file("ca.pem", self.pem().as_bytes())],
                crl: crl
                    .map(|crl| file("crl.pem", crl.as_bytes()))
                    .into_iter()
                    .collect(),
                ..MtlsObject::default()
            }],
            ..judging::zone()
        };
        judging::judge(zone).unwrap()
    }
}

fn outcome(judge: &Judge, pem: &str) -> (MtlsOutcome, Option<MtlsReason>) {
    let verdict = judged(judge, &presenting(pem)).unwrap().mtls;
    (verdict.outcome, verdict.reason)
}

#[test]
fn certificates_with_thousands_of_names() {
    let authority = Authority::new(&[]);
    let judge = authority.judge(None);
    let good = (MtlsOutcome::Verified, None);
    assert_eq!(outcome(&judge, &authority.client(1)), good);
    let large = authority.client(FITTING);
    assert!(large.len() > 40 << 10, "{}", large.len());
    assert_eq!(outcome(&judge, &large), good);
    let (what, why) = outcome(&judge, &authority.client(TOO_MANY));
    assert_eq!(what, MtlsOutcome::Failed, "{why:?}");

    // Every name is held against every constraint, until that is too much; a path that was not looked at whole is none.
    let domains = |count: usize| -> Vec<String> {
        let others = (1..count).map(|number| format!("d{number}.example"));
        others.chain(["shop.example".to_owned()]).collect()
    };
    let authority = Authority::new(&domains(100));
    assert_eq!(
        outcome(&authority.judge(None), &authority.client(FITTING)),
        good
    );
    let authority = Authority::new(&domains(1_000));
    let (what, why) = outcome(&authority.judge(None), &authority.client(FITTING));
    assert_eq!(what, MtlsOutcome::Failed, "{why:?}");
}

#[test]
fn lists_with_a_hundred_thousand_entries() {
    let authority = Authority::new(&[]);
    let client = authority.client(1);
    for revoked in [true, false] {
        let judge = authority.judge(Some(&authority.list(100_000, revoked)));
        let expected = if revoked {
            MtlsOutcome::Revoked
        } else {
            MtlsOutcome::Verified
        };
        assert_eq!(outcome(&judge, &client).0, expected);
    }
}

/// A zone with this document.
fn zone(document: &str) -> ZoneObject {
    ZoneObject {
        schemas: vec![SchemaObject {
            name: "hostile".to_owned(),
            document: file("hostile.yaml", document.as_bytes()),
            ..SchemaObject::default()
        }],
        ..judging::zone()
    }
}

/// What is wrong with a document.
fn refused(document: &str) -> Option<Problems> {
    compile(&[zone(document)]).err()
}

#[test]
fn documents_that_multiply_themselves_are_refused() {
    let head = "openapi: 3.0.3\ninfo: {title: t, version: '1'}\npaths: {}\n";
    assert!(refused(head).is_none());
    // Ten times the line before, ten times over.
    let mut laughs = format!("{head}x-0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..10 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        let below = below.trim_end_matches(", ");
        writeln!(laughs, "x-{level}: &a{level} [{below}]").unwrap();
    }
    let problems = refused(&laughs).expect("a billion nodes are too many");
    assert!(
        format!("{problems:?}").contains("hostile.yaml"),
        "{problems:?}"
    );
    // An alias of what it stands in.
    assert!(refused(&format!("{head}x-a: &a [*a]\n")).is_some());
    let deep = format!("{head}x-a: {}{}\n", "[".repeat(10_000), "]".repeat(10_000));
    assert!(refused(&deep).is_some());
}

/// Schemas of which each is all of the next ones, `often` in a circle of eight.
fn circle(often: usize) -> String {
    let schema = |number: usize| {
        let next = |part| format!("{{$ref: '#/components/schemas/s{}'}}", (number + part) % 8);
        let parts: Vec<_> = (0..often).map(next).collect();
        let parts = parts.join(", ");
        format!("    s{number}: {{type: object, required: [a], allOf: [{parts}]}}\n")
    };
    let schemas: String = (0..8).map(schema).collect();
    format!(
        "openapi: 3.0.3\ninfo: {{title: t, version: '1'}}\npaths:\n  /x:\n    post:\n      requestBody:\n        \
         content: {{application/json: {{schema: {{$ref: '#/components/schemas/s0'}}}}}}\n      \
         responses: {{default: {{description: d}}}}\ncomponents:\n  schemas:\n{schemas}"
    )
}

#[test]
fn schemas_that_are_part_of_themselves_in_too_many_ways_are_refused() {
    let problems = refused(&circle(16)).expect("more ways than anybody can go");
    assert!(
        format!("{problems:?}").contains("10,000 ways"),
        "{problems:?}"
    );
    // Once or twice is common where a type lists its subtypes, and harmless.
    let judge = compile(&[zone(&circle(2))]).map(judging::judge_by).unwrap();
    for (body, expected) in [
        ("{}", SchemaOutcome::Violates),
        (r#"{"a": 1}"#, SchemaOutcome::Conforms),
    ] {
        let mut exchange = judging::exchange("POST", "/x", "content-type: application/json");
        exchange.request.body = Some(body.as_bytes().into());
        let judged = judged(&judge, &exchange).unwrap();
        assert_eq!(judged.schema.request, expected, "{body}");
    }
}
