//! Tables of fields. The two PEM files were made with `openssl ca`, and what is expected of them is what `openssl x509`
//! prints of them (`-nameopt RFC2253`, `-nameopt compat`, `-serial`, `-dates`, `-fingerprint`).

use std::sync::Arc;

use rcgen::{DnType, DnValue, KeyIdMethod};

use super::super::super::fixtures::{NOW, bare_zone, exchange};
use super::super::super::{Judge, Judged, Shared};
use super::super::pki::{Authority, DAY, authority_params, client, file, params};
use super::*;
use crate::model::Captured;
use crate::policy;
use crate::policy::objects::MtlsObject;

const LEAF: &str = include_str!("../tests/leaf.pem");
const CA: &str = include_str!("../tests/ca.pem");

/// Judges a certificate as the product does and asks for fields.
struct Asked {
    judge: Judge,
    judged: Judged,
}

impl Asked {
    fn new(ca: Option<&str>) -> Self {
        let mut object = bare_zone();
        object.mtls = ca
            .map(|ca| MtlsObject {
                hosts: vec!["api.example".to_owned()],
                ca: vec![file("ca.pem", ca)],
                ..MtlsObject::default()
            })
            .into_iter()
            .collect();
        let policy = policy::compile(&[object]).unwrap();
        Self {
            judge: Judge::new(Arc::new(policy), Arc::new(Shared::new(b"k"))),
            judged: Judged::default(),
        }
    }

    fn of<T>(
        &mut self,
        certificate: Option<ClientCertificate<'_>>,
        ask: impl FnOnce(&CertificateFacts<'_>) -> T,
    ) -> T {
        let mut exchange = exchange(&[], Captured::Nothing);
        exchange.certificate = certificate;
        assert!(self.judge.judge(&exchange, &mut self.judged));
        let zone = &self.judge.policy().zones[self.judged.zone];
        ask(&CertificateFacts::new(zone, &exchange, &self.judged))
    }
}

fn pem(text: &str) -> ClientCertificate<'_> {
    ClientCertificate {
        pem: Some(text.into()),
        ..ClientCertificate::default()
    }
}

fn texts(asked: &CertificateFacts<'_>, fields: &[Text]) -> Vec<String> {
    fields.iter().map(|field| asked.text(*field)).collect()
}

fn flags(asked: &CertificateFacts<'_>) -> Vec<bool> {
    Flag::ALL.iter().map(|field| asked.flag(*field)).collect()
}

/// The base64 of a PEM text with one certificate.
fn base64_of(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with('-')).collect()
}

#[test]
fn every_field_is_known_by_its_name() {
    let names: std::collections::BTreeSet<_> = (Flag::ALL.iter().map(|field| field.name()))
        .chain(Text::ALL.iter().map(|field| field.name()))
        .collect();
    // The vendor has 21 of them.
    assert_eq!(names.len(), 21);
    for name in names {
        assert!(name.starts_with("cert_"));
        assert!(
            Flag::of_name(name).is_some() != Text::of_name(name).is_some(),
            "{name}"
        );
    }
    assert_eq!(Text::of_name("cert_ski"), Some(Text::Ski));
    assert_eq!(Flag::of_name("cert_nothing"), None);
}

#[test]
fn reads_as_openssl_writes() {
    let issuer = r#"CN=clients \"one\",O=Gates\, Inc.,C=DE"#;
    let subject = r#"CN=J\C3\BCrg \"x\"\, \\ end,emailAddress=j@x.example,2.3.4=#0C036F6464,UID=u7+OU=a\+b\;c\<d\>,DC=example,O=\#tag,C=DE"#;
    let own = format!(":{}:", base64_of(LEAF));
    let ca = format!(":{}:", base64_of(CA));
    let expected = |chain: &str| {
        [
            (Text::IssuerDn, issuer),
            (Text::SubjectDn, subject),
            (Text::IssuerDnRfc2253, issuer),
            (Text::SubjectDnRfc2253, subject),
            (Text::IssuerDnLegacy, r#"/C=DE/O=Gates, Inc./CN=clients "one""#),
            (
                Text::SubjectDnLegacy,
                r#"/C=DE/O=#tag/DC=example/OU=a\+b;c<d>+UID=u7/2.3.4=odd/emailAddress=j@x.example/CN=J\xC3\xBCrg "x", \ end"#,
            ),
            (Text::Serial, "0A1B2C3D4E5F60718293A4B5C6D7E8F90A1B2C3D"),
            (Text::IssuerSerial, "C0FFEE01"),
            (
                Text::FingerprintSha256,
                "e61ec7af46410c512807263156da9bd3f71f0d4f915f70925c9b4e6a1878b338",
            ),
            (Text::FingerprintSha1, "ac7391df88d80f8bffe264900895b2084577a155"),
            (Text::NotBefore, "Nov  5 08:15:30 2026 GMT"),
            (Text::NotAfter, "Dec 31 23:59:59 2027 GMT"),
            (Text::Ski, "64A8F7C9FDE7254E280A3DE5601126BB4F021ADC"),
            (Text::IssuerSki, "7CB1F8D9FEAC0241947B051DBBA833D85613056D"),
            (Text::Rfc9440, own.as_str()),
            (Text::ChainRfc9440, chain),
        ]
        .map(|(field, text)| (field, text.to_owned()))
    };
    let chained = format!("{LEAF}{CA}");
    for (name, authority, text, chain, verified) in [
        ("verified here", Some(CA), LEAF, "", true),
        ("nobody to verify it", None, LEAF, "", false),
        ("with its chain", None, chained.as_str(), ca.as_str(), false),
    ] {
        let mut asked = Asked::new(authority);
        let (found, flags) = asked.of(Some(pem(text)), |facts| {
            (
                Text::ALL
                    .iter()
                    .map(|field| (*field, facts.text(*field)))
                    .collect::<Vec<_>>(),
                flags(facts),
            )
        });
        assert_eq!(found, expected(chain), "{name}");
        assert_eq!(flags, [true, verified, false, false, false], "{name}");
    }
}

#[test]
fn nothing_is_known_of_a_certificate_that_is_not_there() {
    let absent = Some(ClientCertificate {
        presented: Some(false),
        ..ClientCertificate::default()
    });
    for certificate in [None, absent, Some(ClientCertificate::default())] {
        let mut asked = Asked::new(Some(CA));
        let (texts, flags) = asked.of(certificate, |facts| (texts(facts, Text::ALL), flags(facts)));
        assert!(texts.iter().all(String::is_empty), "{texts:?}");
        assert_eq!(flags, [false; 5]);
    }
}

#[test]
fn what_the_gateway_wrote_is_brought_into_form() {
    let gateway = |serial, fingerprint, dn, date| {
        Some(ClientCertificate {
            presented: Some(true),
            verified: Some(true),
            serial: Some(Cow::Borrowed(serial)),
            fingerprint_sha256: Some(Cow::Borrowed(fingerprint)),
            subject_dn: Some(Cow::Borrowed(dn)),
            issuer_dn: Some(Cow::Borrowed(dn)),
            not_before: Some(Cow::Borrowed(date)),
            not_after: Some(Cow::Borrowed(date)),
            ..ClientCertificate::default()
        })
    };
    let sha256 = "AB:".repeat(31) + "cd";
    let sha1 = "0F:".repeat(19) + "0f";
    let fields = [
        Text::Serial,
        Text::FingerprintSha256,
        Text::FingerprintSha1,
        Text::SubjectDn,
        Text::IssuerDnRfc2253,
        Text::SubjectDnLegacy,
        Text::NotBefore,
        Text::NotAfter,
    ];
    let long = "ab".repeat(31) + "cd";
    let short = "0f".repeat(20);
    for (certificate, expected) in [
        (
            gateway(
                "0x0a:bc",
                &sha256,
                "/C=DE/CN=a",
                "2026-11-05T09:15:30+01:00",
            ),
            [
                "0ABC",
                &long,
                "",
                "CN=a,C=DE",
                "CN=a,C=DE",
                "/C=DE/CN=a",
                "Nov  5 08:15:30 2026 GMT",
                "Nov  5 08:15:30 2026 GMT",
            ],
        ),
        (
            gateway("abc", &sha1, "CN=a, C=DE", "Nov 15 08:15:30 2026 GMT"),
            [
                "0ABC",
                "",
                &short,
                "CN=a,C=DE",
                "CN=a,C=DE",
                "/C=DE/CN=a",
                "Nov 15 08:15:30 2026 GMT",
                "Nov 15 08:15:30 2026 GMT",
            ],
        ),
        (
            gateway("serial 7", "?", "whoever", ""),
            ["serial 7", "", "", "whoever", "whoever", "", "", ""],
        ),
    ] {
        let mut asked = Asked::new(None);
        let found = asked.of(certificate, |facts| texts(facts, &fields));
        assert_eq!(found, expected);
    }
}

#[test]
fn headers_are_sources_too() {
    let hash = "e61ec7af46410c512807263156da9bd3f71f0d4f915f70925c9b4e6a1878b338";
    let element = format!("By=spiffe://gate;Hash={hash};Subject=\"CN=a,O=b\"");
    let [own, ca] = [LEAF, CA].map(|pem| format!(":{}:", base64_of(pem)));
    let fields = [
        Text::FingerprintSha256,
        Text::SubjectDnLegacy,
        Text::ChainRfc9440,
    ];
    let chain = [("client-cert", own.as_str()), ("client-cert-chain", &ca)];
    for (header, headers, expected, presented) in [
        (None, &chain[..], ["", "", ""], false),
        (
            Some("x-forwarded-client-cert"),
            &[("x-forwarded-client-cert", element.as_str())],
            [hash, "/O=b/CN=a", ""],
            true,
        ),
        (
            Some("client-cert"),
            &chain,
            [hash, "/C=DE/O=#tag", &ca],
            true,
        ),
    ] {
        let mut asked = Asked::new(None);
        let mut object = bare_zone();
        object.mtls = vec![MtlsObject {
            hosts: vec!["api.example".to_owned()],
            ca: vec![file("ca.pem", CA)],
            header: header.map(str::to_owned),
            ..MtlsObject::default()
        }];
        let policy = policy::compile(&[object]).unwrap();
        asked.judge = Judge::new(Arc::new(policy), Arc::new(Shared::new(b"k")));
        let exchange = exchange(headers, Captured::All);
        assert!(asked.judge.judge(&exchange, &mut asked.judged));
        let zone = &asked.judge.policy().zones[0];
        let facts = CertificateFacts::new(zone, &exchange, &asked.judged);
        for (found, expected) in texts(&facts, &fields).iter().zip(expected) {
            assert!(found.starts_with(expected), "{header:?}: {found}");
            assert_eq!(found.is_empty(), expected.is_empty(), "{header:?}: {found}");
        }
        assert_eq!(facts.flag(Flag::Presented), presented);
    }
}

#[test]
fn a_certificate_counts_before_what_is_written_about_it() {
    let mut asked = Asked::new(None);
    let lied = Some(ClientCertificate {
        pem: Some(LEAF.into()),
        subject_dn: Some("CN=somebody else".into()),
        serial: Some("01".into()),
        fingerprint_sha256: Some("00".repeat(32).into()),
        ..ClientCertificate::default()
    });
    asked.of(lied, |facts| {
        assert!(facts.text(Text::SubjectDn).contains("rg"));
        assert_eq!(facts.text(Text::Serial).len(), 40);
        assert!(facts.text(Text::FingerprintSha256).starts_with("e61e"));
    });
}

#[test]
fn the_issuer_is_the_one_that_signed() {
    let mut root_params = authority_params("root");
    root_params.key_identifier_method = KeyIdMethod::PreSpecified(vec![1, 2, 3]);
    root_params.serial_number = Some(77_u64.into());
    let root = Authority::new(root_params);
    // Same name, other key: a client may send anything along.
    let mut forged_params = authority_params("root");
    forged_params.key_identifier_method = KeyIdMethod::PreSpecified(vec![9, 9]);
    forged_params.serial_number = Some(99_u64.into());
    let forged = Authority::new(forged_params);
    let mut leaf = client(1);
    leaf.use_authority_key_identifier_extension = true;
    let leaf = root.issue(&leaf);
    let of_forger = {
        let mut claimed = client(2);
        claimed.use_authority_key_identifier_extension = true;
        forged.issue(&claimed)
    };
    let fields = [Text::IssuerSerial, Text::IssuerSki];
    for (name, ca, text, expected) in [
        (
            "configured",
            Some(root.pem.as_str()),
            leaf.clone(),
            ["4D", "010203"],
        ),
        (
            "configured, a stranger sent along",
            Some(root.pem.as_str()),
            format!("{leaf}{}", forged.pem),
            ["4D", "010203"],
        ),
        (
            "sent along",
            None,
            format!("{leaf}{}{}", forged.pem, root.pem),
            ["4D", "010203"],
        ),
        (
            "only a stranger",
            None,
            format!("{leaf}{}", forged.pem),
            ["", "010203"],
        ),
        (
            "as the certificate says",
            None,
            leaf.clone(),
            ["", "010203"],
        ),
        (
            "not trusted",
            Some(root.pem.as_str()),
            of_forger.clone(),
            ["", "0909"],
        ),
        (
            "not trusted and sent along",
            Some(root.pem.as_str()),
            format!("{of_forger}{}", forged.pem),
            ["63", "0909"],
        ),
    ] {
        let found = Asked::new(ca).of(Some(pem(&text)), |facts| texts(facts, &fields));
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn sizes_are_bounded() {
    let long = "x".repeat(9_000);
    let mut params = params("client");
    params
        .distinguished_name
        .push(DnType::OrganizationName, DnValue::Utf8String(long));
    let root = Authority::root("root");
    let big = root.issue(&params);
    let small = root.issue(&client(1));
    for (name, text, flags_expected, filled) in [
        ("small", small.clone(), [false, false], [true, false]),
        (
            "a long certificate",
            big.clone(),
            [true, false],
            [false, false],
        ),
        (
            "a chain within",
            format!("{small}{big}"),
            [false, false],
            [true, true],
        ),
        (
            "a long chain",
            format!("{small}{big}{big}"),
            [false, true],
            [true, false],
        ),
        (
            "not a certificate",
            ":MAECAwQ=:".to_owned(),
            [false, false],
            [true, false],
        ),
        ("nothing", "!".to_owned(), [false, false], [false, false]),
    ] {
        Asked::new(None).of(Some(pem(&text)), |facts| {
            let too_large = [Flag::Rfc9440TooLarge, Flag::ChainRfc9440TooLarge];
            assert_eq!(
                too_large.map(|field| facts.flag(field)),
                flags_expected,
                "{name}"
            );
            let values = [Text::Rfc9440, Text::ChainRfc9440].map(|field| facts.text(field));
            assert_eq!(values.map(|value| !value.is_empty()), filled, "{name}");
        });
    }
}

#[test]
fn numbers_and_dates() {
    for (bytes, text) in [
        (&[1][..], "01"),
        (&[0], "00"),
        (&[0, 0xff], "FF"),
        (&[0x7f, 0], "7F00"),
        (&[0xff], "-01"),
        (&[0xff, 0], "-0100"),
        (&[0x80], "-80"),
    ] {
        assert_eq!(serial(bytes), text);
    }
    for (second, text) in [
        (0, "Jan  1 00:00:00 1970 GMT"),
        (NOW + 10 * DAY, "Nov 30 08:00:00 2026 GMT"),
        (-1, "Dec 31 23:59:59 1969 GMT"),
        (253_402_300_799, "Dec 31 23:59:59 9999 GMT"),
    ] {
        assert_eq!(date(second), text);
    }
}
