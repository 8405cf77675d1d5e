//! Tables of the carriers beyond headers, cookies and claims: query parameters, certificates, several at once, and hosts.

use std::sync::Arc;

use super::super::super::fixtures::{bare_zone, exchange};
use super::super::super::mtls::pki::{Authority, client, file};
use super::super::super::privacy::Hasher;
use super::super::super::{Judge, Judged, Shared};
use crate::model::SessionOutcome::{Absent, NotCaptured, NotConfigured, Present};
use crate::model::{Captured, ClientCertificate, Exchange, SessionOutcome};
use crate::policy;
use crate::policy::objects::SessionIdentifierKind::{
    Certificate, Composite, Cookie, Header, Query,
};
use crate::policy::objects::{MtlsObject, SessionIdentifierKind, SessionIdentifierObject};

fn identifier(kind: SessionIdentifierKind, name: &str) -> SessionIdentifierObject {
    SessionIdentifierObject {
        kind,
        name: name.to_owned(),
        ..SessionIdentifierObject::default()
    }
}

fn composite(name: &str, of: &[&str]) -> SessionIdentifierObject {
    SessionIdentifierObject {
        of: of.iter().map(|part| (*part).to_owned()).collect(),
        ..identifier(Composite, name)
    }
}

fn on(hosts: &[&str], identifier: SessionIdentifierObject) -> SessionIdentifierObject {
    SessionIdentifierObject {
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        ..identifier
    }
}

fn judge_of(identifiers: Vec<SessionIdentifierObject>, ca: Option<&Authority>) -> Judge {
    let mut object = bare_zone();
    object.hosts.push("*.partners.example".to_owned());
    object.session_identifiers = identifiers;
    object.mtls = ca
        .map(|ca| MtlsObject {
            hosts: vec!["api.example".to_owned()],
            ca: vec![file("ca.pem", &ca.pem)],
            ..MtlsObject::default()
        })
        .into_iter()
        .collect();
    let policy = policy::compile(&[object]).unwrap();
    Judge::new(Arc::new(policy), Arc::new(Shared::new(b"k")))
}

fn verdict(judge: &Judge, exchange: &Exchange<'_>) -> (SessionOutcome, Vec<u16>, Option<[u8; 16]>) {
    let mut judged = Judged::default();
    assert!(judge.judge(exchange, &mut judged));
    let session = judged.session;
    assert_eq!(session.hash.is_some(), session.outcome == Present);
    (session.outcome, session.identifiers, session.hash)
}

#[test]
fn query_parameters_are_read_as_forms_write_them() {
    let judge = judge_of(
        vec![identifier(Query, "api key"), identifier(Query, "k")],
        None,
    );
    let hasher = Hasher::new(b"k");
    for (query, outcome, identifiers, first) in [
        (None, Absent, &[][..], None),
        (Some(""), Absent, &[], None),
        (Some("k=v"), Present, &[1], Some(("query:k", &b"v"[..]))),
        (Some("K=v"), Absent, &[], None),
        (Some("kk=v&xk=v"), Absent, &[], None),
        (Some("k"), Absent, &[], None),
        (Some("k="), Absent, &[], None),
        (Some("k=%20+"), Absent, &[], None),
        (Some("k=&k=w&k=x"), Present, &[1], Some(("query:k", b"w"))),
        (
            Some("a=b&%6B=a%2Bb"),
            Present,
            &[1],
            Some(("query:k", b"a+b")),
        ),
        (Some("k=a+b"), Present, &[1], Some(("query:k", b"a b"))),
        (Some("k=a=b"), Present, &[1], Some(("query:k", b"a=b"))),
        (Some("k=%ff"), Present, &[1], Some(("query:k", b"\xff"))),
        (Some("k=%zz"), Present, &[1], Some(("query:k", b"%zz"))),
        (
            Some("k=1&api+key=2"),
            Present,
            &[0, 1],
            Some(("query:api key", b"2")),
        ),
        (
            Some("api%20key=2"),
            Present,
            &[0],
            Some(("query:api key", b"2")),
        ),
    ] {
        let mut exchange = exchange(&[], Captured::Nothing);
        exchange.request.query = query.map(Into::into);
        let hash = first.map(|(kind, value)| hasher.hash("z", kind, value));
        assert_eq!(
            verdict(&judge, &exchange),
            (outcome, identifiers.to_vec(), hash),
            "{query:?}"
        );
    }
}

#[test]
fn a_certificate_counts_only_when_it_is_verified() {
    let root = Authority::root("root");
    let mut params = client(7);
    params.subject_alt_names = vec![
        rcgen::SanType::DnsName("A.clients.example".try_into().unwrap()),
        rcgen::SanType::URI("spiffe://x/a".try_into().unwrap()),
        rcgen::SanType::URI("spiffe://x/b".try_into().unwrap()),
    ];
    let good = root.issue(&params);
    let stranger = Authority::root("other").issue(&params);
    let gateway = |verified, revoked, subject: Option<&'static str>| ClientCertificate {
        presented: Some(true),
        verified: Some(verified),
        revoked: Some(revoked),
        subject_dn: subject.map(Into::into),
        ..ClientCertificate::default()
    };
    let pem = |pem: &str| ClientCertificate {
        pem: Some(pem.to_owned().into()),
        ..ClientCertificate::default()
    };
    let absent = ClientCertificate {
        presented: Some(false),
        ..ClientCertificate::default()
    };
    let slashed = Some("/O=o/CN=client");
    for (name, certificate, of, expected, value) in [
        ("not captured", None, "subject_dn", NotCaptured, None),
        ("absent", Some(absent), "subject_dn", Absent, None),
        (
            "verified here",
            Some(pem(&good)),
            "subject_dn",
            Present,
            Some("CN=client"),
        ),
        (
            "common name",
            Some(pem(&good)),
            "common_name",
            Present,
            Some("client"),
        ),
        (
            "first URI",
            Some(pem(&good)),
            "san_uri",
            Present,
            Some("spiffe://x/a"),
        ),
        (
            "host name",
            Some(pem(&good)),
            "san_dns",
            Present,
            Some("a.clients.example"),
        ),
        ("no mailbox", Some(pem(&good)), "san_email", Absent, None),
        (
            "refused here",
            Some(pem(&stranger)),
            "common_name",
            Absent,
            None,
        ),
        ("malformed", Some(pem("x")), "common_name", Absent, None),
        (
            "gateway",
            Some(gateway(true, false, slashed)),
            "subject_dn",
            Present,
            Some("CN=client,O=o"),
        ),
        (
            "gateway, name",
            Some(gateway(true, false, slashed)),
            "common_name",
            Present,
            Some("client"),
        ),
        (
            "gateway, nothing said",
            Some(gateway(true, false, None)),
            "subject_dn",
            NotCaptured,
            None,
        ),
        (
            "gateway, alternatives",
            Some(gateway(true, false, slashed)),
            "san_uri",
            NotCaptured,
            None,
        ),
        (
            "gateway, revoked",
            Some(gateway(true, true, slashed)),
            "subject_dn",
            Absent,
            None,
        ),
        (
            "gateway, failed",
            Some(gateway(false, false, slashed)),
            "subject_dn",
            Absent,
            None,
        ),
    ] {
        let judge = judge_of(vec![identifier(Certificate, of)], Some(&root));
        let mut exchange = exchange(&[], Captured::All);
        exchange.certificate = certificate;
        let kind = format!("certificate:{of}");
        let hash = value.map(|value: &str| Hasher::new(b"k").hash("z", &kind, value.as_bytes()));
        let (outcome, _, found) = verdict(&judge, &exchange);
        assert_eq!((outcome, found), (expected, hash), "{name}");
    }
}

#[test]
fn a_composite_needs_all_of_its_parts() {
    let judge = judge_of(
        vec![composite(
            "tenant",
            &["header:X-Tenant", "cookie:sid", "query:k"],
        )],
        None,
    );
    let names =
        |names: &[&'static str]| Captured::Names(names.iter().map(|n| (*n).into()).collect());
    for (fields, query, captured, expected, value) in [
        (
            vec![("x-tenant", "t"), ("cookie", "sid=ab")],
            "k=c",
            Captured::All,
            Present,
            Some("1:t,2:ab,1:c,"),
        ),
        (
            vec![("x-tenant", "t"), ("cookie", "sid=ab")],
            "",
            Captured::All,
            Absent,
            None,
        ),
        (
            vec![("x-tenant", ""), ("cookie", "sid=ab")],
            "k=c",
            Captured::All,
            Absent,
            None,
        ),
        (
            vec![("cookie", "sid=ab")],
            "k=c",
            names(&["cookie"]),
            NotCaptured,
            None,
        ),
        // One part is known to be missing, so the others no longer matter.
        (vec![], "", names(&["cookie"]), Absent, None),
        (vec![], "k=c", Captured::Nothing, NotCaptured, None),
    ] {
        let mut exchange = exchange(&fields, captured);
        exchange.request.query = Some(query.into());
        let hash = value
            .map(|value: &str| Hasher::new(b"k").hash("z", "composite:tenant", value.as_bytes()));
        let (outcome, _, found) = verdict(&judge, &exchange);
        assert_eq!((outcome, found), (expected, hash), "{fields:?} {query}");
    }
}

#[test]
fn identifiers_of_other_hosts_do_not_exist() {
    let judge = judge_of(
        vec![
            on(&["API.example"], identifier(Header, "x-key")),
            on(&["*.partners.example"], identifier(Cookie, "sid")),
            on(&["b.partners.example"], identifier(Header, "x-key")),
        ],
        None,
    );
    let both = [("x-key", "1"), ("cookie", "sid=2")];
    for (host, fields, captured, outcome, identifiers) in [
        ("api.example", &both[..], Captured::All, Present, &[0][..]),
        (
            "a.partners.example:8443",
            &both,
            Captured::All,
            Present,
            &[1],
        ),
        ("B.partners.example", &both, Captured::All, Present, &[1, 2]),
        ("api.example", &both[1..], Captured::All, Absent, &[]),
        // The cookie header was not captured, which does not matter where no cookie counts.
        (
            "api.example",
            &[],
            Captured::Names(vec!["x-key".into()]),
            Absent,
            &[],
        ),
        (
            "b.partners.example",
            &[],
            Captured::Names(vec!["x-key".into()]),
            NotCaptured,
            &[],
        ),
    ] {
        let mut exchange = exchange(fields, captured);
        exchange.request.host = host.into();
        let (found, present, _) = verdict(&judge, &exchange);
        assert_eq!(
            (found, &present[..]),
            (outcome, identifiers),
            "{host} {fields:?}"
        );
    }
    let elsewhere = judge_of(
        vec![on(&["api.example"], identifier(Header, "x-key"))],
        None,
    );
    let mut exchange = exchange(&both, Captured::All);
    exchange.request.host = "c.partners.example".into();
    assert_eq!(verdict(&elsewhere, &exchange).0, NotConfigured);
}
