//! Tables of revocation lists.

use rcgen::RevocationReason;

use super::*;

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
fn a_key_for_lists_alone() {
    let root = Authority::root("root");
    let mut params = params("root");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::CrlSign];
    let signer = root.intermediate(params);
    let mut object = object(&root.pem);
    object.intermediates = vec![file("lists.pem", &signer.pem)];
    object.crl = vec![file("l.pem", signer.list(NOW, &[(1, NOW, None)]))];
    let zone = zone(with(object));
    assert_eq!(now(&zone, &root.issue(&client(1))), (Revoked, None));
    assert_eq!(now(&zone, &root.issue(&client(2))), GOOD);
    // It issues lists, not certificates.
    assert_ne!(now(&zone, &signer.issue(&client(3))), GOOD);
}

#[test]
fn a_serial_number_has_a_sign() {
    let root = Authority::root("root");
    let mut object = object(&root.pem);
    object.crl = vec![file("l.pem", root.list(NOW, &[(0xff, NOW, None)]))];
    let zone = zone(with(object));
    assert_eq!(now(&zone, &root.issue(&client(0xff))), (Revoked, None));
    for (written, expected) in [(vec![0, 0xff], (Revoked, None)), (vec![0xff], GOOD)] {
        let mut certificate = Certificate::parse(&root.der).unwrap();
        certificate.serial = written;
        let authority = zone.mtls.for_host("api.example").unwrap();
        let revoked = !authority.revocations.of(&certificate).is_empty();
        assert_eq!(revoked, expected != GOOD);
    }
}

#[test]
fn no_byte_of_a_list_can_be_changed() {
    let root = Authority::root("root");
    let good = root.odd_list(1, &[], &[extension(20, false, &[2, 1, 5])]);
    let refused = |list: &[u8]| {
        let mut object = object(&root.pem);
        object.crl = vec![file("l.crl", list)];
        problems(with(object)).len()
    };
    assert_eq!(refused(&good), 0);
    for position in 0..good.len() {
        for change in [1, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[position] ^= change;
            assert_eq!(refused(&bad), 1, "byte {position} by {change}");
        }
        assert_eq!(refused(&good[..position]), 1, "cut to {position}");
    }
}
