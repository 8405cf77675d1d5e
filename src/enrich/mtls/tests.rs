//! Tables of findings and certificates.

mod files;
mod lists;
mod paths;
mod sources;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};

use super::super::fixtures::{NOW, bare_zone, exchange, problems, zone};
use super::known::TYPICAL_WEIGHT;
use super::pki::{
    Authority, DAY, authority_params, client, extension, file, params, tlv, unknown_critical, valid,
};
use super::*;
use crate::model::{Captured, EventTime};
use crate::policy::mtls::{Certificate, pem};
use crate::policy::objects::{MtlsObject, ZoneObject};
use MtlsOutcome::{Absent, Failed, NotCaptured, Revoked, Verified};
use MtlsReason::{BadSignature, Expired, Malformed, NotYetValid, Untrusted, WrongUsage};

fn object(ca: &str) -> MtlsObject {
    MtlsObject {
        hosts: vec!["api.example".to_owned()],
        ca: vec![file("ca.pem", ca)],
        ..MtlsObject::default()
    }
}

fn with(mtls: MtlsObject) -> ZoneObject {
    let mut object = bare_zone();
    object.mtls = vec![mtls];
    object
}

fn logged(pem: &str) -> ClientCertificate<'_> {
    ClientCertificate {
        pem: Some(pem.into()),
        ..ClientCertificate::default()
    }
}

fn examined(
    zone: &Zone,
    certificate: Option<ClientCertificate<'_>>,
    second: i64,
    cache: &CertificateCache,
) -> Examined {
    let mut exchange = exchange(&[], Captured::Nothing);
    exchange.certificate = certificate;
    exchange.at = EventTime::from_millis(second * 1000 + 999).unwrap();
    examine(zone, &exchange, "api.example", cache)
}

/// Outcome and reason of a PEM text at each of some seconds, with one cache over all of them.
fn over_time(zone: &Zone, pem: &str, seconds: &[i64]) -> Vec<(MtlsOutcome, Option<MtlsReason>)> {
    let cache = CertificateCache::new(4);
    seconds
        .iter()
        .map(|second| {
            let verdict = examined(zone, Some(logged(pem)), *second, &cache).verdict;
            let flags = match verdict.outcome {
                Verified => [true, true, false],
                Revoked => [true, true, true],
                _ => [true, false, false],
            };
            assert_eq!(
                [verdict.presented, verdict.verified, verdict.revoked],
                flags.map(Some)
            );
            (verdict.outcome, verdict.reason)
        })
        .collect()
}

fn now(zone: &Zone, pem: &str) -> (MtlsOutcome, Option<MtlsReason>) {
    over_time(zone, pem, &[NOW])[0]
}

const GOOD: (MtlsOutcome, Option<MtlsReason>) = (Verified, None);

fn failed(reason: MtlsReason) -> (MtlsOutcome, Option<MtlsReason>) {
    (Failed, Some(reason))
}

#[test]
fn findings_of_the_gateway() {
    let zone = zone(bare_zone());
    let (yes, no) = (Some(true), Some(false));
    for (presented, verified, revoked, pem, outcome, facts) in [
        (no, None, None, None, Absent, [no, no, no]),
        (no, yes, yes, None, Absent, [no, no, no]),
        (no, None, None, Some("-"), Absent, [no, no, no]),
        (yes, yes, no, None, Verified, [yes, yes, no]),
        (yes, yes, None, None, Verified, [yes, yes, None]),
        (None, yes, None, None, Verified, [yes, yes, None]),
        (yes, yes, yes, None, Revoked, [yes, yes, yes]),
        (yes, no, yes, None, Revoked, [yes, yes, yes]),
        (None, None, yes, None, Revoked, [yes, yes, yes]),
        (yes, no, None, None, Failed, [yes, no, None]),
        (yes, no, no, None, Failed, [yes, no, no]),
        (None, no, None, None, Failed, [None, no, None]),
        (yes, None, None, None, NotCaptured, [yes, None, None]),
        (yes, None, no, None, NotCaptured, [yes, None, no]),
        (None, None, None, None, NotCaptured, [None, None, None]),
        // A certificate and nobody to verify it.
        (None, None, None, Some("x"), NotCaptured, [yes, None, None]),
        (None, no, None, Some("x"), Failed, [yes, no, None]),
        (no, None, None, Some("x"), Absent, [no, no, no]),
    ] {
        let certificate = ClientCertificate {
            presented,
            verified,
            revoked,
            pem: pem.map(Into::into),
            ..ClientCertificate::default()
        };
        let label = format!("{certificate:?}");
        let verdict = examined(&zone, Some(certificate), NOW, &CertificateCache::new(1)).verdict;
        assert_eq!(verdict.outcome, outcome, "{label}");
        assert_eq!(verdict.reason, None);
        assert_eq!(
            [verdict.presented, verdict.verified, verdict.revoked],
            facts,
            "{label}"
        );
    }
    let nothing = examined(&zone, None, NOW, &CertificateCache::new(1));
    assert_eq!(nothing.verdict.outcome, NotCaptured);
    assert_eq!(nothing.fingerprint, None);
}

#[test]
fn our_own_verification_wins_over_findings_where_there_is_an_authority() {
    let root = Authority::root("root");
    let zone = zone(with(object(&root.pem)));
    let good = root.issue(&client(1));
    let bad = Authority::root("other").issue(&client(1));
    let cache = CertificateCache::new(4);
    for (pem, claimed, host, outcome) in [
        (&good, false, "api.example", Verified),
        (&bad, true, "api.example", Failed),
        (&good, false, "www.example", Failed),
        (&bad, true, "www.example", Verified),
    ] {
        let mut exchange = exchange(&[], Captured::Nothing);
        exchange.certificate = Some(ClientCertificate {
            presented: Some(true),
            verified: Some(claimed),
            ..logged(pem)
        });
        let verdict = judge(&zone, &exchange, host, &cache);
        assert_eq!(verdict.outcome, outcome, "{host} {claimed}");
    }
}

#[test]
fn the_fingerprint_is_of_the_der_else_as_logged() {
    let root = Authority::root("root");
    let authority = zone(with(object(&root.pem)));
    let nobody = zone(bare_zone());
    let pem = root.issue(&client(1));
    let der = pem::logged(&pem).unwrap().remove(0);
    let text = STANDARD.encode(&der);
    let mut own = [0; 32];
    own.copy_from_slice(digest::digest(&digest::SHA256, &der).as_ref());
    let stated = "AB:".repeat(31) + "ab";
    for zone in [&authority, &nobody] {
        for (pem, expected) in [
            (Some(pem.as_str()), Some(own)),
            (Some(text.as_str()), Some(own)),
            (Some("?"), Some([0xab; 32])),
            (None, Some([0xab; 32])),
        ] {
            let certificate = ClientCertificate {
                pem: pem.map(Into::into),
                fingerprint_sha256: Some(stated.as_str().into()),
                ..ClientCertificate::default()
            };
            let examined = examined(zone, Some(certificate), NOW, &CertificateCache::new(1));
            assert_eq!(examined.fingerprint, expected);
        }
    }
}

#[test]
fn every_reason() {
    let root = Authority::root("root");
    let intermediate = root.intermediate(authority_params("intermediate"));
    let mut object = object(&root.pem);
    object.intermediates = vec![file("int.pem", &intermediate.pem)];
    let zone = zone(with(object));
    let same_name = Authority::root("root");
    let other = Authority::root("other");

    let good = root.issue(&client(1));
    let mut tampered = pem::logged(&good).unwrap().remove(0);
    let middle = tampered.len() / 4;
    let serial = tampered
        .windows(3)
        .position(|bytes| bytes == [2, 1, 1])
        .unwrap();
    tampered[serial + 2] = 2;
    let mut no_usage = client(2);
    no_usage.extended_key_usages = vec![];
    let mut server = client(3);
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut both = client(4);
    both.extended_key_usages
        .push(ExtendedKeyUsagePurpose::ServerAuth);
    let mut any = client(5);
    any.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
    let mut ca = client(6);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut critical = client(7);
    critical.custom_extensions = vec![unknown_critical()];
    let mut backwards = client(8);
    valid(&mut backwards, NOW + DAY, NOW - DAY);
    // Issued by a client's certificate, which may not.
    let mut end = params("end");
    end.is_ca = IsCa::ExplicitNoCa;
    let end = root.intermediate(end);
    let by_end = end.issue(&client(9)) + &end.pem;
    let own_authority = Authority::root("self");
    let own = Authority::new(client(10));

    for (name, text, expected) in [
        ("direct", good.clone(), GOOD),
        ("by an intermediate", intermediate.issue(&client(1)), GOOD),
        ("without extended key usage", root.issue(&no_usage), GOOD),
        ("for servers and clients", root.issue(&both), GOOD),
        (
            "base64",
            STANDARD.encode(pem::logged(&good).unwrap().remove(0)),
            GOOD,
        ),
        ("nginx", good.replace('\n', "%0A").replace('+', "%2B"), GOOD),
        (
            "unknown authority",
            other.issue(&client(1)),
            failed(Untrusted),
        ),
        ("signed by itself", own.pem.clone(), failed(Untrusted)),
        (
            "an authority of its own",
            own_authority.pem.clone(),
            failed(WrongUsage),
        ),
        ("the anchor itself", root.pem.clone(), failed(WrongUsage)),
        (
            "an authority of the same name",
            same_name.issue(&client(1)),
            failed(BadSignature),
        ),
        ("tampered", STANDARD.encode(&tampered), failed(BadSignature)),
        ("for servers", root.issue(&server), failed(WrongUsage)),
        ("for anything", root.issue(&any), failed(WrongUsage)),
        ("an authority's", root.issue(&ca), failed(WrongUsage)),
        ("by an end entity", by_end, failed(WrongUsage)),
        (
            "unknown critical extension",
            root.issue(&critical),
            failed(Malformed),
        ),
        (
            "ends before it begins",
            root.issue(&backwards),
            failed(Malformed),
        ),
        ("text", "hello".to_owned(), failed(Malformed)),
        (
            "base64 of text",
            STANDARD.encode("hello"),
            failed(Malformed),
        ),
        ("an empty sequence", "MAA=".to_owned(), failed(Malformed)),
        (
            "cut",
            STANDARD.encode(&tampered[..middle]),
            failed(Malformed),
        ),
        (
            "trailing bytes",
            STANDARD.encode([&tampered[..], &[0]].concat()),
            failed(Malformed),
        ),
        (
            "too long",
            good.replacen('\n', &" ".repeat(MAX_TEXT), 1),
            failed(Malformed),
        ),
    ] {
        assert_eq!(now(&zone, &text), expected, "{name}");
    }
}

#[test]
fn dates_are_inclusive_and_floored() {
    let root = Authority::root("root");
    let zone = zone(with(object(&root.pem)));
    let mut short = client(1);
    valid(&mut short, NOW, NOW + 10);
    let expected = [
        failed(NotYetValid),
        GOOD,
        GOOD,
        failed(Expired),
        GOOD,
        failed(NotYetValid),
    ];
    let seconds = [NOW - 1, NOW, NOW + 10, NOW + 11, NOW + 5, 0];
    assert_eq!(over_time(&zone, &root.issue(&short), &seconds), expected);
    // What nobody vouches for stays untrusted whatever its dates say.
    let foreign = Authority::root("other").issue(&short);
    assert_eq!(over_time(&zone, &foreign, &seconds), [failed(Untrusted); 6]);
    // And what is for something else stays wrong.
    short.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server = root.issue(&short);
    assert_eq!(over_time(&zone, &server, &seconds), [failed(WrongUsage); 6]);
}

#[test]
fn issuers_have_dates_too() {
    let mut root_params = authority_params("root");
    valid(&mut root_params, NOW - 20, NOW + 20);
    let root = Authority::new(root_params);
    let mut below = authority_params("below");
    valid(&mut below, NOW - 10, NOW + 10);
    let below_authority = root.intermediate(below);
    let mut object = object(&root.pem);
    object.intermediates = vec![file("int.pem", &below_authority.pem)];
    let zone = zone(with(object));
    let seconds = [
        NOW - 21,
        NOW - 20,
        NOW - 11,
        NOW - 10,
        NOW + 10,
        NOW + 11,
        NOW + 20,
        NOW + 21,
    ];
    assert_eq!(
        over_time(&zone, &root.issue(&client(1)), &seconds),
        [
            failed(NotYetValid),
            GOOD,
            GOOD,
            GOOD,
            GOOD,
            GOOD,
            GOOD,
            failed(Expired)
        ]
    );
    assert_eq!(
        over_time(&zone, &below_authority.issue(&client(1)), &seconds),
        [
            failed(NotYetValid),
            failed(NotYetValid),
            failed(NotYetValid),
            GOOD,
            GOOD,
            failed(Expired),
            failed(Expired),
            failed(Expired)
        ]
    );
}

#[test]
fn several_paths_over_time() {
    // The intermediate was renewed: two certificates for one key, and a gap between them.
    let root = Authority::root("root");
    let mut first = authority_params("below");
    valid(&mut first, NOW - 100, NOW - 10);
    let below = root.intermediate(first);
    let mut second = authority_params("below");
    valid(&mut second, NOW, NOW + 100);
    let renewed = below.crossed(&root, &second);
    let mut object = object(&root.pem);
    object.intermediates = vec![file("int.pem", format!("{}{renewed}", below.pem))];
    let both = zone(with(object));
    let leaf = below.issue(&client(1));
    assert_eq!(
        over_time(
            &both,
            &leaf,
            &[NOW - 10, NOW - 5, NOW, NOW + 101, NOW - 101, NOW + 100]
        ),
        // In the gap one is over and the other has not begun: the first to be tried gives the reason.
        [
            GOOD,
            failed(Expired),
            GOOD,
            failed(Expired),
            failed(NotYetValid),
            GOOD
        ]
    );
    // The same when the client sends the intermediates along.
    let sent = format!("{leaf}{}{renewed}", below.pem);
    let alone = zone(with(super::tests::object(&root.pem)));
    assert_eq!(now(&alone, &leaf), failed(Untrusted));
    assert_eq!(
        over_time(&alone, &sent, &[NOW - 10, NOW, NOW + 101]),
        [GOOD, GOOD, failed(Expired)]
    );
}

#[test]
fn path_length_key_usage_and_pins() {
    let mut flat = authority_params("flat");
    flat.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let flat = Authority::new(flat);
    let below = flat.intermediate(authority_params("below"));
    let mut mute = authority_params("mute");
    mute.key_usages = vec![KeyUsagePurpose::CrlSign];
    let mute = flat.intermediate(mute);
    let alone = zone(with(object(&flat.pem)));
    assert_eq!(now(&alone, &flat.issue(&client(1))), GOOD);
    let leaf = below.issue(&client(1)) + &below.pem;
    assert_eq!(now(&alone, &leaf), failed(WrongUsage));
    let root = Authority::root("root");
    let quiet = root.intermediate(mute.params.clone());
    let open = zone(with(object(&root.pem)));
    let leaf = quiet.issue(&client(1)) + &quiet.pem;
    assert_eq!(now(&open, &leaf), failed(WrongUsage));

    let (one, two) = (
        root.intermediate(authority_params("one")),
        root.intermediate(authority_params("two")),
    );
    let mut object = object(&root.pem);
    object.intermediates = vec![file("i.pem", format!("{}{}", one.pem, two.pem))];
    object.issuers = vec![hex::encode_upper(digest::digest(&digest::SHA256, &one.der))];
    let pinned = zone(with(object));
    assert_eq!(now(&pinned, &one.issue(&client(1))), GOOD);
    assert_eq!(now(&pinned, &two.issue(&client(1))), failed(Untrusted));
    assert_eq!(now(&pinned, &root.issue(&client(1))), failed(Untrusted));
}

#[test]
fn the_cache_judges_a_stretch_once_and_stays_within_its_bound() {
    let root = Authority::root("root");
    let zone = zone(with(object(&root.pem)));
    let pem = root.issue(&client(1));
    let cache = CertificateCache::new(4);
    for second in [NOW, NOW + 1, NOW - 1000 * DAY, NOW + 1000 * DAY] {
        let _ = examined(&zone, Some(logged(&pem)), second, &cache);
    }
    // One signature for four times, because nothing about the authority changes in between.
    let counts = Counts {
        hits: 3,
        misses: 1,
        signatures: 1,
    };
    assert_eq!(cache.counts(), counts);
    for number in 0..500 {
        let text = format!("MAA{number}");
        let _ = examined(&zone, Some(logged(&text)), NOW, &cache);
    }
    assert!(cache.weight() <= 4 * TYPICAL_WEIGHT);
}
