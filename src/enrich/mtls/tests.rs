//! Tables of findings, certificates, authorities and revocation lists.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, RevocationReason};

use super::super::fixtures::{NOW, bare_zone, exchange, problems, zone};
use super::pki::{
    Authority, DAY, authority_params, client, extension, file, params, tlv, unknown_critical, valid,
};
use super::*;
use crate::model::{Captured, EventTime};
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
fn revoked_from_the_date_on() {
    let root = Authority::root("root");
    let below = root.intermediate(authority_params("below"));
    let mut object = object(&root.pem);
    object.intermediates = vec![file("int.pem", &below.pem)];
    object.crl = vec![
        // Issued a day after the revocation that it tells of.
        file("a.pem", root.list(NOW + DAY, &[(1, NOW, None)])),
        file(
            "b.pem",
            below.list(NOW, &[(2, NOW + 5, Some(RevocationReason::KeyCompromise))]),
        ),
    ];
    let zone = zone(with(object));
    let seconds = [NOW - 1, NOW, NOW + 4, NOW + 5, NOW + 10 * DAY];
    let gone = (Revoked, None);
    for (leaf, expected) in [
        (root.issue(&client(1)), [GOOD, gone, gone, gone, gone]),
        (root.issue(&client(2)), [GOOD; 5]),
        (below.issue(&client(1)), [GOOD; 5]),
        (below.issue(&client(2)), [GOOD, GOOD, GOOD, gone, gone]),
    ] {
        assert_eq!(over_time(&zone, &leaf, &seconds), expected);
    }
    // Only what would be verified can be revoked.
    let mut lapsed = client(1);
    valid(&mut lapsed, NOW - DAY, NOW + 3);
    let expired = failed(Expired);
    assert_eq!(
        over_time(&zone, &root.issue(&lapsed), &seconds),
        [GOOD, gone, expired, expired, expired]
    );
}

#[test]
fn a_revoked_issuer_revokes_unless_another_path_holds() {
    let root = Authority::root("root");
    let second = Authority::root("second");
    let mut params = authority_params("below");
    params.serial_number = Some(77_u64.into());
    let below = root.intermediate(params);
    let crossed = below.crossed(&second, &authority_params("below"));
    let leaf = below.issue(&client(1));
    let list = root.list(NOW, &[(77, NOW, None)]);
    let mut single = object(&root.pem);
    single.intermediates = vec![file("int.pem", &below.pem)];
    single.crl = vec![file("a.pem", &list)];
    let single = zone(with(single));
    assert_eq!(
        over_time(&single, &leaf, &[NOW, NOW - 1]),
        [(Revoked, None), GOOD]
    );
    let mut double = object(&format!("{}{}", root.pem, second.pem));
    double.intermediates = vec![file("int.pem", format!("{}{crossed}", below.pem))];
    double.crl = vec![file("a.pem", &list)];
    let double = zone(with(double));
    assert_eq!(over_time(&double, &leaf, &[NOW, NOW - 1]), [GOOD, GOOD]);
}

#[test]
fn lists_add_up_and_holds_end() {
    use RevocationReason::{CertificateHold, KeyCompromise, RemoveFromCrl};
    let root = Authority::root("root");
    let hold = |date| (1, date, Some(CertificateHold));
    let days = [0, 1, 2, 3, 4].map(|day| NOW + day * DAY);
    let (gone, good) = ((Revoked, None), GOOD);
    for (name, lists, expected) in [
        (
            "one hold",
            vec![(1, vec![hold(NOW + DAY)])],
            [good, gone, gone, gone, gone],
        ),
        (
            "left out later",
            vec![(1, vec![hold(NOW + DAY)]), (3, vec![(9, NOW, None)])],
            [good, gone, gone, good, good],
        ),
        (
            "listed again",
            vec![(1, vec![hold(NOW + DAY)]), (3, vec![hold(NOW + DAY)])],
            [good, gone, gone, gone, gone],
        ),
        (
            "held again",
            vec![
                (1, vec![hold(NOW + DAY)]),
                (2, vec![]),
                (4, vec![hold(NOW + 4 * DAY)]),
            ],
            [good, gone, good, good, gone],
        ),
        (
            "removed",
            vec![
                (1, vec![hold(NOW + DAY)]),
                (3, vec![(1, NOW + 2 * DAY, Some(RemoveFromCrl))]),
            ],
            [good, gone, good, good, good],
        ),
        (
            "removed with the date of the hold",
            vec![
                (1, vec![hold(NOW + DAY)]),
                (3, vec![(1, NOW + DAY, Some(RemoveFromCrl))]),
            ],
            [good, gone, gone, good, good],
        ),
        (
            "removed without a hold",
            vec![(3, vec![(1, NOW, Some(RemoveFromCrl))])],
            [good; 5],
        ),
        (
            "a revocation is not undone by leaving it out",
            vec![(1, vec![(1, NOW + DAY, None)]), (2, vec![])],
            [good, gone, gone, gone, gone],
        ),
        (
            "a hold that became final",
            vec![
                (1, vec![hold(NOW + DAY)]),
                (2, vec![(1, NOW + 3 * DAY, Some(KeyCompromise))]),
                (3, vec![]),
            ],
            [good, gone, gone, gone, gone],
        ),
        (
            "the earlier date counts",
            vec![
                (1, vec![(1, NOW + 3 * DAY, None)]),
                (2, vec![(1, NOW + DAY, None)]),
            ],
            [good, gone, gone, gone, gone],
        ),
    ] {
        // In any order of files.
        for reversed in [false, true] {
            let mut object = object(&root.pem);
            object.crl = lists
                .iter()
                .map(|(day, entries)| file("l.pem", root.list(NOW + day * DAY, entries)))
                .collect();
            if reversed {
                object.crl.reverse();
            }
            let zone = zone(with(object));
            let leaf = root.issue(&client(1));
            assert_eq!(over_time(&zone, &leaf, &days), expected, "{name}");
        }
    }
}

#[test]
fn odd_lists() {
    let root = Authority::root("root");
    let number = extension(20, false, &[2, 1, 5]);
    let point = |content: &[u8]| extension(28, true, &tlv(0x30, &[content.to_vec()]));
    let reason = |code| extension(21, false, &[0x0a, 1, code]);
    for (name, entry, list, expected) in [
        ("plain", vec![], vec![number.clone()], None),
        ("with a reason", vec![reason(1)], vec![number.clone()], None),
        ("delta", vec![], vec![extension(27, true, &[2, 1, 4])], None),
        ("users only", vec![], vec![point(&[0x81, 1, 0xff])], None),
        (
            "unknown, not critical",
            vec![],
            vec![extension(99, false, &[5, 0])],
            None,
        ),
        (
            "indirect",
            vec![],
            vec![point(&[0x84, 1, 0xff])],
            Some("the list is indirect"),
        ),
        (
            "attributes",
            vec![],
            vec![point(&[0x85, 1, 0xff])],
            Some("attribute certificates only"),
        ),
        (
            "entry of another issuer",
            vec![extension(29, true, &tlv(0x30, &[]))],
            vec![number.clone()],
            Some("speaks for another issuer"),
        ),
        (
            "critical number",
            vec![],
            vec![extension(20, true, &[2, 1, 5])],
            Some("critical extension 2.5.29.20"),
        ),
        (
            "critical unknown",
            vec![],
            vec![extension(99, true, &[5, 0])],
            Some("critical extension 2.5.29.99"),
        ),
        (
            "critical unknown of an entry",
            vec![extension(99, true, &[5, 0])],
            vec![number.clone()],
            Some("critical extension 2.5.29.99"),
        ),
        (
            "twice",
            vec![],
            vec![number.clone(), number.clone()],
            Some("2.5.29.20 twice"),
        ),
    ] {
        let mut object = object(&root.pem);
        object.crl = vec![file("odd.crl", root.odd_list(1, &entry, &list))];
        match expected {
            None => {
                let zone = zone(with(object));
                let leaf = root.issue(&client(1));
                assert_eq!(
                    over_time(&zone, &leaf, &[NOW - DAY - 1, NOW - DAY]),
                    [GOOD, (Revoked, None)],
                    "{name}"
                );
            }
            Some(message) => {
                let problems = problems(with(object));
                assert_eq!(problems.len(), 1, "{name}: {problems:?}");
                assert!(problems[0].starts_with("zones[0].mtls[0].crl (odd.crl): "));
                assert!(problems[0].contains(message), "{name}: {problems:?}");
            }
        }
    }
}

#[test]
fn bad_files_are_problems_with_their_place() {
    let root = Authority::root("root");
    let other = Authority::root("other");
    let same_name = Authority::root("root");
    let mut mute = authority_params("mute");
    mute.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let mute = Authority::new(mute);
    let mut lists_only = authority_params("lists");
    lists_only.key_usages = vec![KeyUsagePurpose::CrlSign];
    let lists_only = Authority::new(lists_only);
    let leaf = root.issue(&client(1));
    let key = "-----BEGIN PRIVATE KEY-----\nMAEC\n-----END PRIVATE KEY-----\n";
    let base = || object(&root.pem);
    let ca = |text: &str| object(text);
    let crl = |ca: &Authority, text: Vec<u8>| MtlsObject {
        crl: vec![file("l.pem", text)],
        ..object(&ca.pem)
    };
    let mut cut = root.list(NOW, &[]).into_bytes();
    cut.truncate(60);
    for (object, place, message) in [
        (
            MtlsObject {
                hosts: vec![],
                ..base()
            },
            "hosts",
            "no host",
        ),
        (
            MtlsObject {
                hosts: vec!["https://x".to_owned()],
                ..base()
            },
            "hosts[0]",
            "\"https://x\" is not a host",
        ),
        (
            MtlsObject {
                hosts: vec!["a.example".to_owned(), "A.example".to_owned()],
                ..base()
            },
            "hosts[1]",
            "\"A.example\" has authorities already",
        ),
        (
            MtlsObject {
                ca: vec![],
                ..base()
            },
            "ca",
            "no certificate authority",
        ),
        (ca(""), "ca (ca.pem)", "no CERTIFICATE block"),
        (ca(key), "ca (ca.pem)", "no CERTIFICATE block"),
        (
            ca("-----BEGIN CERTIFICATE-----\nMAEC\n-----END CERTIFICATE-----\n"),
            "ca (ca.pem)",
            "not a certificate",
        ),
        (
            ca(&format!("{}{leaf}", root.pem)),
            "ca (ca.pem) certificate 2",
            "the certificate is not one of an authority (basic constraints)",
        ),
        (
            ca(&lists_only.pem),
            "ca (ca.pem)",
            "the certificate may not sign certificates (key usage)",
        ),
        (
            MtlsObject {
                intermediates: vec![file("i.pem", &leaf)],
                ..base()
            },
            "intermediates (i.pem)",
            "the certificate is not one of an authority (basic constraints)",
        ),
        (
            MtlsObject {
                issuers: vec!["ab".to_owned()],
                ..base()
            },
            "issuers[0]",
            "\"ab\" is not a SHA-256 fingerprint",
        ),
        (crl(&root, b"".to_vec()), "crl (l.pem)", "no X509 CRL block"),
        (crl(&root, cut), "crl (l.pem)", "block 1 is not base64"),
        (
            crl(&root, tlv(0x30, &[])),
            "crl (l.pem)",
            "not a revocation list",
        ),
        (
            crl(&root, other.list(NOW, &[]).into_bytes()),
            "crl (l.pem)",
            "no configured certificate has the list's issuer name",
        ),
        (
            crl(&root, same_name.list(NOW, &[]).into_bytes()),
            "crl (l.pem)",
            "no certificate with the list's issuer name that may sign lists signed it",
        ),
        (
            crl(&mute, mute.odd_list(1, &[], &[])),
            "crl (l.pem)",
            "no certificate with the list's issuer name that may sign lists signed it",
        ),
    ] {
        let found = problems(with(object));
        assert_eq!(found.len(), 1, "{place} {message}: {found:?}");
        let expected = format!("zones[0].mtls[0].{place}: {message}\n    hint: ");
        assert!(found[0].starts_with(&expected), "{expected}: {found:?}");
    }
    // DER is as good as PEM.
    let mut der = base();
    der.ca = vec![file("ca.der", &root.der)];
    der.crl = vec![file("l.der", root.odd_list(1, &[], &[]))];
    let leaf = root.issue(&client(1));
    assert_eq!(now(&zone(with(der)), &leaf), (Revoked, None));
}

#[test]
fn the_most_specific_host_has_the_say() {
    let (one, two) = (Authority::root("one"), Authority::root("two"));
    let mut object = bare_zone();
    object.mtls = vec![
        MtlsObject {
            hosts: vec!["*.example".to_owned()],
            ..super::tests::object(&one.pem)
        },
        MtlsObject {
            hosts: vec!["*.b.example".to_owned(), "c.example".to_owned()],
            ..super::tests::object(&two.pem)
        },
    ];
    let zone = zone(object);
    for (host, expected) in [
        ("a.example", Some(&one)),
        ("a.b.example", Some(&two)),
        ("b.example", Some(&one)),
        ("c.example", Some(&two)),
        ("example", None),
    ] {
        let found = zone
            .mtls
            .for_host(host)
            .map(|authority| authority.roots[0].der.to_vec());
        assert_eq!(
            found,
            expected.map(|authority| authority.der.clone()),
            "{host}"
        );
    }
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
    let facts = cache.look(pem.trim_ascii(), zone.mtls.for_host("api.example"));
    let judged = facts
        .subject
        .as_ref()
        .unwrap()
        .stretches
        .iter()
        .filter(|stretch| stretch.get().is_some())
        .count();
    assert_eq!(judged, 1);
    for number in 0..500 {
        let text = format!("MAA{number}");
        let _ = examined(&zone, Some(logged(&text)), NOW, &cache);
    }
    assert!(cache.entries.weight() <= 4 * TYPICAL_WEIGHT);
}
