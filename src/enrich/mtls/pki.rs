//! Authorities, certificates and revocation lists for the tests.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, SerialNumber, SigningKey, date_time_ymd,
};

use super::super::fixtures::NOW;
use crate::policy::objects::FileText;

/// One day, seconds.
pub(in crate::enrich) const DAY: i64 = 86_400;

/// Builds a date from epoch seconds, whose type is not among our dependencies.
macro_rules! date {
    ($second:expr) => {
        date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from($second).unwrap())
    };
}

/// An authority that issues certificates and lists.
pub(in crate::enrich) struct Authority {
    pub(in crate::enrich) pem: String,
    pub(in crate::enrich) der: Vec<u8>,
    pub(in crate::enrich) params: CertificateParams,
    pub(in crate::enrich) key: KeyPair,
}

/// Parameters valid a year around `NOW`.
pub(in crate::enrich) fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    valid(&mut params, NOW - 180 * DAY, NOW + 180 * DAY);
    params
}

/// Sets the first and last second of validity.
pub(in crate::enrich) fn valid(params: &mut CertificateParams, first: i64, last: i64) {
    params.not_before = date!(first);
    params.not_after = date!(last);
}

pub(in crate::enrich) fn authority_params(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A client's certificate with this serial number.
pub(in crate::enrich) fn client(serial: u64) -> CertificateParams {
    let mut params = params("client");
    params.serial_number = Some(SerialNumber::from(serial));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// A critical extension that nobody knows.
pub(in crate::enrich) fn unknown_critical() -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    extension.set_criticality(true);
    extension
}

impl Authority {
    pub(in crate::enrich) fn new(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            params,
            key,
        }
    }

    pub(in crate::enrich) fn root(name: &str) -> Self {
        Self::new(authority_params(name))
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// An authority below this one.
    pub(in crate::enrich) fn intermediate(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        Self {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            params,
            key,
        }
    }

    /// This authority once more, signed by another one.
    pub(in crate::enrich) fn crossed(&self, by: &Self, params: &CertificateParams) -> String {
        params.signed_by(&self.key, &by.issuer()).unwrap().pem()
    }

    /// PEM of a certificate.
    pub(in crate::enrich) fn issue(&self, params: &CertificateParams) -> String {
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &self.issuer()).unwrap().pem()
    }

    /// PEM of a list issued at a second: serial number, revocation date, reason.
    pub(in crate::enrich) fn list(
        &self,
        issued: i64,
        entries: &[(u64, i64, Option<RevocationReason>)],
    ) -> String {
        CertificateRevocationListParams {
            this_update: date!(issued),
            next_update: date!(issued + DAY),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: entries
                .iter()
                .map(|(serial, date, reason)| RevokedCertParams {
                    serial_number: SerialNumber::from(*serial),
                    revocation_time: date!(*date),
                    reason_code: *reason,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&self.issuer())
        .unwrap()
        .pem()
        .unwrap()
    }

    /// DER of a list that rcgen does not make: its own extensions and those of one entry, revoked at `NOW` − 1 day.
    pub(in crate::enrich) fn odd_list(
        &self,
        serial: u8,
        entry: &[Vec<u8>],
        list: &[Vec<u8>],
    ) -> Vec<u8> {
        // ecdsa-with-SHA256.
        let algorithm = tlv(
            0x30,
            &[tlv(0x06, &[vec![0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]])],
        );
        let name = x509_parser::parse_x509_certificate(&self.der)
            .unwrap()
            .1
            .subject()
            .as_raw()
            .to_vec();
        let mut revoked = vec![tlv(0x02, &[vec![serial]]), time("261119080000Z")];
        if !entry.is_empty() {
            revoked.push(tlv(0x30, entry));
        }
        let body = tlv(
            0x30,
            &[
                tlv(0x02, &[vec![1]]),
                algorithm.clone(),
                name,
                time("261120080000Z"),
                tlv(0x30, &[tlv(0x30, &revoked)]),
                tlv(0xa0, &[tlv(0x30, list)]),
            ],
        );
        let mut signature = vec![0];
        signature.extend(self.key.sign(&body).unwrap());
        tlv(0x30, &[body, algorithm, tlv(0x03, &[signature])])
    }
}

/// One DER element.
pub(in crate::enrich) fn tlv(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    let content = parts.concat();
    let mut element = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length) if length < 0x80 => element.push(length),
        _ => {
            element.push(0x82);
            element.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        }
    }
    element.extend(content);
    element
}

fn time(text: &str) -> Vec<u8> {
    tlv(0x17, &[text.as_bytes().to_vec()])
}

/// An extension under 2.5.29 in DER.
pub(in crate::enrich) fn extension(last: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    let mut parts = vec![tlv(0x06, &[vec![0x55, 0x1d, last]])];
    if critical {
        parts.push(vec![1, 1, 0xff]);
    }
    parts.push(tlv(0x04, &[value.to_vec()]));
    tlv(0x30, &parts)
}

pub(in crate::enrich) fn file(name: &str, bytes: impl AsRef<[u8]>) -> FileText {
    FileText {
        name: name.to_owned(),
        bytes: bytes.as_ref().to_vec(),
    }
}
