//! Tables of paths: names, constraints, hostile meshes, mutations.

use rcgen::{DistinguishedName, DnType, DnValue, GeneralSubtree, NameConstraints, SanType};

use super::*;

fn named(value: DnValue) -> rcgen::CertificateParams {
    let mut params = authority_params("x");
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, value);
    params
}

#[test]
fn equal_names_may_be_written_differently() {
    let printable = |text: &str| DnValue::PrintableString(text.try_into().unwrap());
    let utf8 = |text: &str| DnValue::Utf8String(text.to_owned());
    let bmp = |text: &str| {
        let bytes: Vec<_> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        DnValue::BmpString(rcgen::string::BmpString::from_utf16be(bytes).unwrap())
    };
    for (of_root, in_leaf, expected) in [
        (printable("Root CA"), utf8("Root CA"), GOOD),
        (printable("Root CA"), utf8(" ROOT   ca "), GOOD),
        (utf8("Größe"), bmp("GRÖSSE"), failed(Untrusted)),
        (utf8("Größe"), bmp("GRÖßE"), GOOD),
        (printable("Root CA"), printable("RootCA"), failed(Untrusted)),
    ] {
        let mut root = Authority::new(named(of_root));
        let zone = zone(with(object(&root.pem)));
        root.params = named(in_leaf);
        assert_eq!(now(&zone, &root.issue(&client(1))), expected);
    }
}

#[test]
fn names_must_be_allowed_by_every_issuer() {
    let name = |text: &str| SanType::DnsName(text.try_into().unwrap());
    let mail = |text: &str| SanType::Rfc822Name(text.try_into().unwrap());
    let dns = |text: &str| GeneralSubtree::DnsName(text.to_owned());
    let email = |text: &str| GeneralSubtree::Rfc822Name(text.to_owned());
    let directory = |text: &str| {
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, text);
        GeneralSubtree::DirectoryName(name)
    };
    for (permitted, excluded, names, expected) in [
        (
            vec![dns("a.example")],
            vec![],
            vec![name("x.a.example")],
            GOOD,
        ),
        (
            vec![dns("a.example")],
            vec![],
            vec![name("b.example")],
            failed(WrongUsage),
        ),
        (
            vec![dns("a.example")],
            vec![],
            vec![name("a.example"), name("b.example")],
            failed(WrongUsage),
        ),
        (
            vec![dns("a.example")],
            vec![],
            vec![mail("u@b.example")],
            GOOD,
        ),
        (
            vec![],
            vec![dns("a.example")],
            vec![name("x.a.example")],
            failed(WrongUsage),
        ),
        (
            vec![],
            vec![dns("a.example")],
            vec![name("b.example")],
            GOOD,
        ),
        (
            vec![dns("a.example")],
            vec![dns("x.a.example")],
            vec![name("x.a.example")],
            failed(WrongUsage),
        ),
        (
            vec![email("u@a.example")],
            vec![],
            vec![mail("u@a.example")],
            GOOD,
        ),
        (
            vec![email("u@a.example")],
            vec![],
            vec![mail("v@a.example")],
            failed(WrongUsage),
        ),
        (
            vec![email("a.example")],
            vec![],
            vec![mail("v@a.example")],
            GOOD,
        ),
        (vec![directory("client")], vec![], vec![], GOOD),
        (vec![directory("CLIENT")], vec![], vec![], GOOD),
        (
            vec![directory("server")],
            vec![],
            vec![],
            failed(WrongUsage),
        ),
        (
            vec![],
            vec![directory("client")],
            vec![],
            failed(WrongUsage),
        ),
    ] {
        let mut root = authority_params("root");
        root.name_constraints = Some(NameConstraints {
            permitted_subtrees: permitted.clone(),
            excluded_subtrees: excluded.clone(),
        });
        let root = Authority::new(root);
        let mut leaf = client(1);
        leaf.subject_alt_names = names.clone();
        let label = format!("{permitted:?} {excluded:?} {names:?}");
        let direct = zone(with(object(&root.pem)));
        assert_eq!(now(&direct, &root.issue(&leaf)), expected, "{label}");
        // An authority in between changes nothing, as long as its own name is allowed.
        let mut below = authority_params("client");
        below.key_usages.clear();
        let below = root.intermediate(below);
        let text = below.issue(&leaf) + &below.pem;
        if excluded.is_empty() {
            assert_eq!(now(&direct, &text), expected, "{label}");
        }
    }
}

#[test]
fn a_mesh_of_authorities_ends() {
    // Nine authorities of one name, each certified by each other: more paths than anybody can walk.
    let mesh: Vec<_> = (0..9).map(|_| Authority::root("mesh")).collect();
    let leaf = mesh[0].issue(&client(1));
    let root = Authority::root("root");
    let mut crossed = Vec::new();
    for one in &mesh {
        for other in &mesh {
            crossed.push(one.crossed(other, &one.params));
        }
    }
    let sent = format!("{leaf}{}", crossed[..9].concat());
    let alone = zone(with(object(&root.pem)));
    assert_eq!(now(&alone, &sent), failed(Untrusted));
    let mut configured = object(&root.pem);
    configured.intermediates = vec![file("mesh.pem", crossed.concat())];
    let configured = zone(with(configured));
    assert_eq!(now(&configured, &leaf), failed(BadSignature));
    let cache = CertificateCache::new(4);
    let _ = examined(&configured, Some(logged(&leaf)), NOW, &cache);
    assert!(cache.counts().signatures <= 100, "{:?}", cache.counts());
    // And the good path is found in spite of it.
    let good = mesh[0].crossed(&root, &mesh[0].params);
    assert_eq!(
        now(&alone, &format!("{leaf}{good}{}", crossed[..8].concat())),
        GOOD
    );
}

#[test]
fn no_byte_can_be_changed() {
    let root = Authority::root("root");
    let zone = zone(with(object(&root.pem)));
    let good = pem::logged(&root.issue(&client(1))).unwrap().remove(0);
    assert_eq!(now(&zone, &STANDARD.encode(&good)), GOOD);
    for position in 0..good.len() {
        for change in [1, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[position] ^= change;
            let (outcome, _) = now(&zone, &STANDARD.encode(&bad));
            assert_eq!(outcome, Failed, "byte {position} by {change}");
        }
    }
    for length in 1..good.len() {
        let (outcome, _) = now(&zone, &STANDARD.encode(&good[..length]));
        assert_eq!(outcome, Failed, "cut to {length}");
    }
}

#[test]
fn remembering_never_changes_a_verdict() {
    // Two roots, an intermediate renewed with a gap, cross-signed, revoked for a while, and clients of all lengths.
    let mut first = authority_params("root");
    valid(&mut first, NOW - 90, NOW + 60);
    let root = Authority::new(first);
    let mut other = authority_params("other");
    valid(&mut other, NOW - 30, NOW + 90);
    let other = Authority::new(other);
    let mut below = authority_params("below");
    below.serial_number = Some(7_u64.into());
    valid(&mut below, NOW - 80, NOW - 20);
    let below_authority = root.intermediate(below.clone());
    valid(&mut below, NOW - 10, NOW + 80);
    let renewed = below_authority.crossed(&root, &below);
    valid(&mut below, NOW - 40, NOW + 70);
    let crossed = below_authority.crossed(&other, &below);
    let hold = Some(rcgen::RevocationReason::CertificateHold);
    let mut object = object(&format!("{}{}", root.pem, other.pem));
    object.intermediates = vec![file("i.pem", format!("{}{renewed}", below_authority.pem))];
    object.crl = vec![
        file("1.pem", root.list(NOW - 70, &[(7, NOW - 65, hold)])),
        file("2.pem", root.list(NOW - 55, &[(1, NOW + 5, None)])),
        file("3.pem", root.list(NOW + 20, &[(7, NOW + 15, None)])),
    ];
    let zone = zone(with(object));
    let mut outcomes = std::collections::BTreeSet::new();
    for (begin, end) in [(-100, 100), (-75, -60), (-5, 5), (85, 95)] {
        let mut leaf = client(1);
        valid(&mut leaf, NOW + begin, NOW + end);
        for text in [
            root.issue(&leaf),
            below_authority.issue(&leaf),
            below_authority.issue(&leaf) + &crossed,
        ] {
            let cache = CertificateCache::new(4);
            for step in 0..230 {
                // A stride that visits every second in a scattered order.
                let second = NOW - 115 + (step * 97) % 230;
                let remembered = examined(&zone, Some(logged(&text)), second, &cache);
                let fresh = CertificateCache::new(1);
                let judged = examined(&zone, Some(logged(&text)), second, &fresh);
                assert_eq!(
                    remembered.verdict,
                    judged.verdict,
                    "{begin} to {end} at {}",
                    second - NOW
                );
                let verdict = judged.verdict;
                outcomes.insert((verdict.outcome, verdict.reason));
            }
            assert!(cache.counts().signatures < 100, "{:?}", cache.counts());
        }
    }
    for expected in [GOOD, (Revoked, None), failed(Expired), failed(NotYetValid)] {
        assert!(outcomes.contains(&expected), "{outcomes:?}");
    }
}
