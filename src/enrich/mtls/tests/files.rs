//! Tables of configuration files and hosts.

use rcgen::KeyUsagePurpose;

use super::*;

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
    let mut unknown = authority_params("unknown");
    unknown.custom_extensions = vec![unknown_critical()];
    let unknown = Authority::new(unknown);
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
        (
            ca(&unknown.pem),
            "ca",
            "no authority can be used: a critical extension is not understood (RFC 5280 section 4.2)",
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
    // Next to one that can be used it does no harm.
    let both = zone(with(ca(&format!("{}{}", unknown.pem, root.pem))));
    assert_eq!(now(&both, &root.issue(&client(1))), GOOD);
    assert_eq!(now(&both, &unknown.issue(&client(1))), failed(WrongUsage));
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
            ..super::object(&one.pem)
        },
        MtlsObject {
            hosts: vec!["*.b.example".to_owned(), "c.example".to_owned()],
            ..super::object(&two.pem)
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
