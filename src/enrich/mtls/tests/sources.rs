//! Tables of where a certificate may stand: the event's own member, or a header that the operator has named.

use aws_lc_rs::digest;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::*;

/// RFC 9440: the DER of a PEM text between colons.
fn byte_sequence(pem: &str) -> String {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    format!(":{body}:")
}

fn escaped(pem: &str) -> String {
    utf8_percent_encode(pem, NON_ALPHANUMERIC).to_string()
}

fn sha256(pem: &str) -> [u8; 32] {
    let der = pem::logged(pem).unwrap().remove(0);
    digest::digest(&digest::SHA256, &der)
        .as_ref()
        .try_into()
        .unwrap()
}

/// What the log shows in headers.
fn shown(
    zone: &Zone,
    certificate: Option<ClientCertificate<'_>>,
    fields: &[(&str, &str)],
    captured: Captured<'_>,
) -> Examined {
    let mut exchange = exchange(fields, captured);
    exchange.certificate = certificate;
    examine(zone, &exchange, "api.example", &CertificateCache::new(4))
}

#[test]
fn every_gateway_has_a_way_to_write_a_certificate() {
    let root = Authority::root("root");
    let intermediate = root.intermediate(authority_params("intermediate"));
    let direct = root.issue(&client(1));
    let below = intermediate.issue(&client(2));
    let zone = zone(with(object(&root.pem)));
    let xfcc = |cert: &str, chain: &str| {
        let chain = format!("{}{}", escaped(cert), escaped(chain));
        format!(
            "By=spiffe://gate;Hash={};Chain=\"{chain}\";Subject=\"CN=a\"",
            hex::encode(sha256(cert))
        )
    };
    let earlier = format!("Hash=00;Cert=\"{}\"", escaped(&direct));
    for (name, text, leaf, expected) in [
        ("RFC 9440", byte_sequence(&direct), &direct, GOOD),
        (
            "RFC 9440 and its chain",
            format!(
                "{}, {}",
                byte_sequence(&below),
                byte_sequence(&intermediate.pem)
            ),
            &below,
            GOOD,
        ),
        (
            "RFC 9440 without the chain",
            byte_sequence(&below),
            &below,
            failed(Untrusted),
        ),
        ("nginx", escaped(&direct), &direct, GOOD),
        (
            "Envoy, Cert",
            format!("Cert=\"{}\"", escaped(&direct)),
            &direct,
            GOOD,
        ),
        (
            "Envoy, Chain",
            xfcc(&below, &intermediate.pem),
            &below,
            GOOD,
        ),
        (
            "Envoy, both",
            format!(
                "Cert=\"{}\";Chain=\"{}{}\"",
                escaped(&below),
                escaped(&below),
                escaped(&intermediate.pem)
            ),
            &below,
            GOOD,
        ),
        // A client wrote the first element, the gateway the last one.
        (
            "Envoy, two elements",
            format!("{earlier},{}", xfcc(&below, &intermediate.pem)),
            &below,
            GOOD,
        ),
        (
            "Envoy, a certificate that cannot be read",
            "Hash=00;Cert=\"x%ff\"".to_owned(),
            &direct,
            failed(Malformed),
        ),
    ] {
        let found = examined(&zone, Some(logged(&text)), NOW, &CertificateCache::new(4));
        assert_eq!(
            (found.verdict.outcome, found.verdict.reason),
            expected,
            "{name}"
        );
        if expected != failed(Malformed) {
            assert_eq!(found.fingerprint, Some(sha256(leaf)), "{name}");
        }
    }
}

#[test]
fn a_hash_alone_says_that_one_was_presented() {
    let root = Authority::root("root");
    let zone = zone(with(object(&root.pem)));
    let (yes, no) = (Some(true), Some(false));
    let hash = "0a".repeat(32);
    let element = format!("Hash={hash};Subject=\"CN=a,O=b\"");
    for (presented, verified, text, outcome, facts) in [
        (None, None, element.as_str(), NotCaptured, [yes, None, None]),
        (yes, None, &element, NotCaptured, [yes, None, None]),
        (None, yes, &element, Verified, [yes, yes, None]),
        (None, no, &element, Failed, [yes, no, None]),
        (no, None, &element, Absent, [no, no, no]),
    ] {
        let certificate = ClientCertificate {
            presented,
            verified,
            ..logged(text)
        };
        let found = examined(&zone, Some(certificate), NOW, &CertificateCache::new(4));
        let verdict = found.verdict;
        assert_eq!(verdict.outcome, outcome, "{presented:?} {verified:?}");
        assert_eq!(
            [verdict.presented, verdict.verified, verdict.revoked],
            facts
        );
        assert_eq!(found.fingerprint, Some([0x0a; 32]));
        assert!(found.certificate.is_none());
    }
}

#[test]
fn a_header_counts_only_where_it_is_configured() {
    let root = Authority::root("root");
    let intermediate = root.intermediate(authority_params("intermediate"));
    let good = byte_sequence(&root.issue(&client(1)));
    let below = byte_sequence(&intermediate.issue(&client(2)));
    let chain = byte_sequence(&intermediate.pem);
    let stranger = byte_sequence(&Authority::root("other").issue(&client(3)));
    let of = |header: Option<&str>| {
        zone(with(MtlsObject {
            header: header.map(str::to_owned),
            ..object(&root.pem)
        }))
    };
    let named = of(Some("Client-Cert"));
    let unnamed = of(None);
    let only =
        |names: &[&'static str]| Captured::Names(names.iter().map(|n| (*n).into()).collect());
    let not_captured = (NotCaptured, None);
    let absent = (Absent, None);
    for (name, zone, fields, captured, expected) in [
        (
            "not configured",
            &unnamed,
            vec![("client-cert", good.as_str())],
            Captured::All,
            not_captured,
        ),
        (
            "configured",
            &named,
            vec![("CLIENT-CERT", good.as_str())],
            Captured::All,
            GOOD,
        ),
        (
            "of a stranger",
            &named,
            vec![("client-cert", stranger.as_str())],
            Captured::All,
            failed(Untrusted),
        ),
        (
            "nonsense",
            &named,
            vec![("client-cert", "?")],
            Captured::All,
            failed(Malformed),
        ),
        (
            "without its chain",
            &named,
            vec![("client-cert", below.as_str())],
            Captured::All,
            failed(Untrusted),
        ),
        (
            "with its chain",
            &named,
            vec![
                ("client-cert", below.as_str()),
                ("client-cert-chain", chain.as_str()),
            ],
            Captured::All,
            GOOD,
        ),
        ("missing", &named, vec![], Captured::All, absent),
        (
            "empty",
            &named,
            vec![("client-cert", "")],
            Captured::All,
            absent,
        ),
        (
            "a dash",
            &named,
            vec![("client-cert", "-")],
            Captured::All,
            absent,
        ),
        (
            "not captured",
            &named,
            vec![],
            Captured::Nothing,
            not_captured,
        ),
        (
            "captured by name",
            &named,
            vec![],
            only(&["client-cert"]),
            absent,
        ),
        (
            "others captured by name",
            &named,
            vec![],
            only(&["cookie"]),
            not_captured,
        ),
        (
            "twice",
            &named,
            vec![
                ("client-cert", good.as_str()),
                ("client-cert", stranger.as_str()),
            ],
            Captured::All,
            failed(Malformed),
        ),
    ] {
        let verdict = shown(zone, None, &fields, captured).verdict;
        assert_eq!((verdict.outcome, verdict.reason), expected, "{name}");
    }
}

#[test]
fn what_the_gateway_says_counts_before_a_header() {
    let root = Authority::root("root");
    let good = root.issue(&client(1));
    let other = root.issue(&client(2));
    let zone = zone(with(MtlsObject {
        header: Some("x-forwarded-client-cert".to_owned()),
        ..object(&root.pem)
    }));
    let element = format!("Cert=\"{}\"", escaped(&good));
    let said = |presented, verified, pem: Option<&str>| ClientCertificate {
        presented,
        verified,
        pem: pem.map(|pem| pem.to_owned().into()),
        ..ClientCertificate::default()
    };
    let (yes, no) = (Some(true), Some(false));
    for (name, certificate, fields, outcome, of) in [
        (
            "none presented",
            said(no, None, None),
            vec![element.as_str()],
            Absent,
            None,
        ),
        (
            "a certificate",
            said(None, None, Some(&other)),
            vec![&element],
            Verified,
            Some(&other),
        ),
        (
            "a finding without a certificate",
            said(yes, no, None),
            vec![&element],
            Verified,
            Some(&good),
        ),
        (
            "a finding and no header",
            said(None, yes, None),
            vec![],
            Verified,
            None,
        ),
        (
            "presented and no header",
            said(yes, None, None),
            vec![],
            NotCaptured,
            None,
        ),
        (
            "nothing and no header",
            said(None, None, None),
            vec![],
            Absent,
            None,
        ),
        (
            "two lines are one list",
            said(None, None, None),
            vec!["Hash=00", &element],
            Verified,
            Some(&good),
        ),
    ] {
        let fields: Vec<_> = fields
            .iter()
            .map(|value| ("x-forwarded-client-cert", *value))
            .collect();
        let found = shown(&zone, Some(certificate), &fields, Captured::All);
        assert_eq!(found.verdict.outcome, outcome, "{name}");
        assert_eq!(found.fingerprint, of.map(|pem| sha256(pem)), "{name}");
    }
}

#[test]
fn a_limit_on_intermediates_and_pins_are_per_host() {
    let root = Authority::root("root");
    let second = Authority::root("second");
    let intermediate = root.intermediate(authority_params("intermediate"));
    let lower = intermediate.intermediate(authority_params("lower"));
    let direct = root.issue(&client(1));
    let below = format!("{}{}", intermediate.issue(&client(2)), intermediate.pem);
    let deep = format!(
        "{}{}{}",
        lower.issue(&client(3)),
        lower.pem,
        intermediate.pem
    );
    let of_second = second.issue(&client(4));
    let fingerprint = |der: &[u8]| hex::encode(digest::digest(&digest::SHA256, der));
    // Both authorities on both hosts.
    let both = format!("{}{}", root.pem, second.pem);
    let on = |host: &str, max: Option<usize>, issuers: Vec<String>| MtlsObject {
        hosts: vec![host.to_owned()],
        max_intermediates: max,
        issuers,
        ..object(&both)
    };
    let untrusted = failed(Untrusted);
    for (name, max, issuers, expected) in [
        ("no limit, no pin", None, vec![], [GOOD, GOOD, GOOD, GOOD]),
        (
            "none between",
            Some(0),
            vec![],
            [GOOD, untrusted, untrusted, GOOD],
        ),
        (
            "one between",
            Some(1),
            vec![],
            [GOOD, GOOD, untrusted, GOOD],
        ),
        ("two between", Some(2), vec![], [GOOD, GOOD, GOOD, GOOD]),
        (
            "pinned to a root",
            None,
            vec![fingerprint(&root.der)],
            [GOOD, untrusted, untrusted, untrusted],
        ),
        (
            "pinned to an intermediate and the other root",
            None,
            vec![fingerprint(&intermediate.der), fingerprint(&second.der)],
            [untrusted, GOOD, untrusted, GOOD],
        ),
        (
            "pinned to nobody here",
            None,
            vec!["00".repeat(32)],
            [untrusted; 4],
        ),
    ] {
        let mut object = bare_zone();
        object.hosts.push("open.example".to_owned());
        object.mtls = vec![
            on("api.example", max, issuers),
            on("open.example", None, vec![]),
        ];
        let zone = zone(object);
        let cache = CertificateCache::new(16);
        let texts = [&direct, &below, &deep, &of_second];
        for (host, expected) in [("api.example", expected), ("open.example", [GOOD; 4])] {
            let found = texts.map(|text| {
                let mut exchange = exchange(&[], Captured::Nothing);
                exchange.certificate = Some(logged(text));
                let verdict = examine(&zone, &exchange, host, &cache).verdict;
                (verdict.outcome, verdict.reason)
            });
            assert_eq!(found, expected, "{name} on {host}");
        }
    }
    let said = problems(with(on("api.example", Some(9), vec![])));
    assert!(
        said[0].contains("max_intermediates: a chain has at most 8 intermediates"),
        "{said:?}"
    );
    let said = problems(with(MtlsObject {
        header: Some("client cert".to_owned()),
        ..object(&root.pem)
    }));
    assert!(
        said[0].contains("mtls[0].header: \"client cert\" is not the name of a header"),
        "{said:?}"
    );
}
