//! One certificate: what path building, revocation and the clock need to know of it.
//!
//! Enters: DER. Leaves: names, dates and what the certificate may issue. Signatures and paths are in `enrich::mtls`.

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// A certificate that could be read.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The bytes.
    pub der: CertificateDer<'static>,
    /// SHA-256 over the DER.
    pub fingerprint: [u8; 32],
    /// Subject, DER.
    pub subject: Vec<u8>,
    /// Issuer, DER.
    pub issuer: Vec<u8>,
    /// Serial number without leading zeros.
    pub serial: Vec<u8>,
    /// Public key, DER of the `SubjectPublicKeyInfo`.
    pub public_key: Vec<u8>,
    /// First second of validity, epoch seconds.
    pub not_before: i64,
    /// Last second of validity, epoch seconds: the end is inclusive (RFC 5280 section 4.1.2.5).
    pub not_after: i64,
    /// What it may issue.
    pub issuing: Issuing,
}

/// What a certificate may issue (RFC 5280 sections 4.2.1.3 and 4.2.1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issuing {
    /// Whether it is an authority: `cA` is set, or it is of a version before extensions existed.
    pub authority: bool,
    /// How many further authorities may stand below it on a path.
    pub path_length: Option<u32>,
    /// Whether the key usage, if there is one, lets it sign certificates.
    pub certificates: bool,
    /// Whether the key usage, if there is one, lets it sign CRLs.
    pub lists: bool,
}

impl Certificate {
    /// Reads one certificate; `None` when the bytes are not exactly one.
    #[must_use]
    pub fn parse(der: &[u8]) -> Option<Self> {
        let (rest, parsed) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Some(Self {
            fingerprint,
            subject: parsed.subject().as_raw().to_vec(),
            issuer: parsed.issuer().as_raw().to_vec(),
            serial: significant(parsed.raw_serial()).to_vec(),
            public_key: parsed.public_key().raw.to_vec(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            issuing: Issuing::of(&parsed)?,
            der: CertificateDer::from(der.to_vec()),
        })
    }

    /// Whether this second lies in its validity.
    #[must_use]
    pub fn is_valid_at(&self, second: i64) -> bool {
        (self.not_before..=self.not_after).contains(&second)
    }
}

impl Issuing {
    /// `None` when an extension stands there twice.
    fn of(certificate: &X509Certificate<'_>) -> Option<Self> {
        let constraints = certificate.basic_constraints().ok()?;
        let usage = certificate.key_usage().ok()?;
        Some(Self {
            authority: match &constraints {
                Some(constraints) => constraints.value.ca,
                None => certificate.version() != x509_parser::x509::X509Version::V3,
            },
            path_length: constraints
                .as_ref()
                .and_then(|constraints| constraints.value.path_len_constraint),
            certificates: usage
                .as_ref()
                .is_none_or(|usage| usage.value.key_cert_sign()),
            lists: usage.as_ref().is_none_or(|usage| usage.value.crl_sign()),
        })
    }
}

/// A serial number without the zeros that DER puts in front of it to keep it positive.
pub(super) fn significant(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    serial.get(zeros..).unwrap_or_default()
}
