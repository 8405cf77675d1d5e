//! One certificate: what path building, revocation and the clock need to know of it.
//!
//! Enters: DER. Leaves: names, dates, what it may be used for, and whether the standard lets anybody use it at all.
//! Paths are in `enrich::mtls`.

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::{
    OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, OID_X509_EXT_BASIC_CONSTRAINTS,
    OID_X509_EXT_CERTIFICATE_POLICIES, OID_X509_EXT_CRL_DISTRIBUTION_POINTS,
    OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_INHIBIT_ANY_POLICY, OID_X509_EXT_KEY_USAGE,
    OID_X509_EXT_NAME_CONSTRAINTS, OID_X509_EXT_POLICY_CONSTRAINTS, OID_X509_EXT_POLICY_MAPPINGS,
    OID_X509_EXT_SUBJECT_ALT_NAME, OID_X509_EXT_SUBJECT_KEY_IDENTIFIER, Oid,
};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use super::names::{Alternatives, Constraints, DistinguishedName, Names};
use super::policies::Policies;
use super::written::WrittenName;
use crate::model::MtlsReason;

/// The extensions that are processed, so that they may be critical. Distribution points say where to fetch lists, which
/// is the operator's part here.
const UNDERSTOOD: [Oid<'_>; 10] = [
    OID_X509_EXT_BASIC_CONSTRAINTS,
    OID_X509_EXT_KEY_USAGE,
    OID_X509_EXT_EXTENDED_KEY_USAGE,
    OID_X509_EXT_SUBJECT_ALT_NAME,
    OID_X509_EXT_NAME_CONSTRAINTS,
    OID_X509_EXT_CERTIFICATE_POLICIES,
    OID_X509_EXT_POLICY_MAPPINGS,
    OID_X509_EXT_POLICY_CONSTRAINTS,
    OID_X509_EXT_INHIBIT_ANY_POLICY,
    OID_X509_EXT_CRL_DISTRIBUTION_POINTS,
];

/// A certificate that could be read.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The bytes.
    pub der: CertificateDer<'static>,
    /// SHA-256 over the DER.
    pub fingerprint: [u8; 32],
    /// Who it is about.
    pub subject: DistinguishedName,
    /// Who says so.
    pub issuer: DistinguishedName,
    /// Serial number in two's complement, as short as possible.
    pub serial: Vec<u8>,
    /// Its key as its issuer names it (RFC 5280 section 4.2.1.2).
    pub key_identifier: Option<Vec<u8>>,
    /// Its issuer's key and serial number as it names them (RFC 5280 section 4.2.1.1).
    pub authority: AuthorityIdentifier,
    /// Public key, DER of the `SubjectPublicKeyInfo`.
    pub public_key: Vec<u8>,
    /// First second of validity, epoch seconds.
    pub not_before: i64,
    /// Last second of validity, epoch seconds: the end is inclusive (RFC 5280 section 4.1.2.5).
    pub not_after: i64,
    /// Whether it is of version 3, the only one with extensions.
    pub is_version_3: bool,
    /// What it may issue.
    pub issuing: Issuing,
    /// Whether it may be used by clients, or by authorities of clients (RFC 5280 section 4.2.1.12).
    pub for_clients: bool,
    /// The names that constraints above it are held against.
    pub names: Names,
    /// What constrains the names below it.
    pub constraints: Option<Constraints>,
    /// What it says about policies.
    pub policies: Policies,
    /// Why it must not be used, whatever its path.
    pub fault: Option<Fault>,
}

/// What a certificate says of its issuer's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorityIdentifier {
    /// Key identifier.
    pub key: Option<Vec<u8>>,
    /// Serial number in two's complement.
    pub serial: Option<Vec<u8>>,
}

/// Why a certificate must not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The reason to report of a client's certificate.
    pub reason: MtlsReason,
    /// The fact, for the operator.
    pub what: &'static str,
}

const fn malformed(what: &'static str) -> Fault {
    Fault {
        reason: MtlsReason::Malformed,
        what,
    }
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
    /// Whether it may sign CRLs: its key usage says so, or it is an authority without one.
    pub lists: bool,
}

/// Extensions of one certificate; real ones have about ten. Each is compared with those before it.
const MAX_EXTENSIONS: usize = 64;

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
        let mut certificate = Self {
            der: CertificateDer::from(der.to_vec()),
            fingerprint,
            subject: DistinguishedName::of(parsed.subject()),
            issuer: DistinguishedName::of(parsed.issuer()),
            serial: significant(parsed.raw_serial()).to_vec(),
            key_identifier: None,
            authority: AuthorityIdentifier::default(),
            public_key: parsed.public_key().raw.to_vec(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            is_version_3: parsed.version() == X509Version::V3,
            issuing: Issuing {
                // Before version 3 nobody could say who is an authority.
                authority: parsed.version() != X509Version::V3,
                path_length: None,
                certificates: true,
                lists: true,
            },
            for_clients: true,
            names: Names::default(),
            constraints: None,
            policies: Policies::default(),
            fault: None,
        };
        certificate.read_identifiers(&parsed);
        certificate.fault = certificate.read_extensions(&parsed).err();
        Some(certificate)
    }

    /// Takes over who the keys are, which a fault elsewhere does not change.
    fn read_identifiers(&mut self, parsed: &X509Certificate<'_>) {
        for extension in parsed.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(key) => {
                    self.key_identifier = Some(key.0.to_vec());
                }
                ParsedExtension::AuthorityKeyIdentifier(authority) => {
                    self.authority = AuthorityIdentifier {
                        key: authority.key_identifier.as_ref().map(|key| key.0.to_vec()),
                        serial: authority.authority_cert_serial.map(<[u8]>::to_vec),
                    };
                }
                _ => {}
            }
        }
    }

    /// Subject and issuer as they are written.
    #[must_use]
    pub fn written_names(&self) -> Option<(WrittenName, WrittenName)> {
        let (_, parsed) = X509Certificate::from_der(&self.der).ok()?;
        Some((
            WrittenName::of(parsed.subject()),
            WrittenName::of(parsed.issuer()),
        ))
    }

    /// Who else the certificate says its subject is.
    #[must_use]
    pub fn alternatives(&self) -> Alternatives {
        let Ok((_, parsed)) = X509Certificate::from_der(&self.der) else {
            return Alternatives::default();
        };
        let names =
            parsed
                .extensions()
                .iter()
                .find_map(|extension| match extension.parsed_extension() {
                    ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
                    _ => None,
                });
        names.map_or_else(Alternatives::default, |names| Alternatives::of(names))
    }

    /// Takes over what the extensions say; `Err` = they forbid any use.
    fn read_extensions(&mut self, parsed: &X509Certificate<'_>) -> Result<(), Fault> {
        let mut seen = Vec::new();
        let mut alternatives = None;
        let mut usage_signs = None;
        let mut authority_is_critical = None;
        for extension in parsed.extensions() {
            if seen.contains(&&extension.oid) {
                return Err(malformed("an extension stands there twice"));
            }
            if seen.len() == MAX_EXTENSIONS {
                return Err(malformed("it has more extensions than any use needs"));
            }
            seen.push(&extension.oid);
            if extension.critical
                && (extension.oid == OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER
                    || extension.oid == OID_X509_EXT_SUBJECT_KEY_IDENTIFIER)
            {
                return Err(malformed(
                    "a key identifier is critical (RFC 5280 sections 4.2.1.1 and 4.2.1.2)",
                ));
            }
            if extension.critical && !UNDERSTOOD.contains(&extension.oid) {
                return Err(malformed(
                    "a critical extension is not understood (RFC 5280 section 4.2)",
                ));
            }
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(constraints) => {
                    self.issuing.authority = constraints.ca;
                    self.issuing.path_length = constraints.path_len_constraint;
                    authority_is_critical = constraints.ca.then_some(extension.critical);
                }
                ParsedExtension::KeyUsage(usage) => {
                    usage_signs = Some(usage.key_cert_sign());
                    self.issuing.certificates = usage.key_cert_sign();
                    self.issuing.lists = usage.crl_sign();
                }
                ParsedExtension::ExtendedKeyUsage(usage) => self.for_clients = usage.client_auth,
                ParsedExtension::NameConstraints(constraints) => {
                    let constraints = Constraints::of(
                        constraints.permitted_subtrees.as_deref(),
                        constraints.excluded_subtrees.as_deref(),
                    );
                    let constraints =
                        constraints.ok_or(malformed("a name constraint cannot be read"))?;
                    self.constraints = Some(constraints);
                }
                ParsedExtension::SubjectAlternativeName(names) => {
                    if self.subject.is_empty() && !extension.critical {
                        return Err(malformed(
                            "the only name is in an extension that is not critical (RFC 5280 section 4.2.1.6)",
                        ));
                    }
                    alternatives = Some(names.general_names.as_slice());
                }
                ParsedExtension::CertificatePolicies(policies) => self
                    .policies
                    .assert(policies.iter().map(|policy| &policy.policy_id)),
                ParsedExtension::PolicyMappings(mappings) => {
                    self.policies.map(mappings.mappings.iter().map(|mapping| {
                        (
                            &mapping.issuer_domain_policy,
                            &mapping.subject_domain_policy,
                        )
                    }));
                }
                ParsedExtension::PolicyConstraints(constraints) => self.policies.constrain(
                    constraints.require_explicit_policy,
                    constraints.inhibit_policy_mapping,
                ),
                ParsedExtension::InhibitAnyPolicy(inhibit) => {
                    self.policies.inhibit_any(inhibit.skip_certs);
                }
                ParsedExtension::ParseError { .. } if UNDERSTOOD.contains(&extension.oid) => {
                    return Err(malformed("an extension cannot be read"));
                }
                _ => {}
            }
        }
        if usage_signs.is_none() {
            self.issuing.lists = self.issuing.authority;
        }
        self.names = Names::of(parsed.subject(), alternatives)
            .ok_or(malformed("an alternative name cannot be read"))?;
        // webpki is strict about DER and about the algorithm that is named twice.
        webpki::anchor_from_trusted_cert(&self.der)
            .map_err(|_| malformed("it is not in DER or names two algorithms"))?;
        if usage_signs == Some(true) && !self.issuing.authority {
            return Err(Fault {
                reason: MtlsReason::WrongUsage,
                what: "it may sign certificates and is no authority (RFC 5280 section 4.2.1.9)",
            });
        }
        match authority_is_critical {
            Some(_) if self.subject.is_empty() => Err(malformed(
                "an authority without a name (RFC 5280 section 4.1.2.6)",
            )),
            // Of an authority that is not its own issuer the issuer has vouched for as much (NIST PKITS 4.6.4).
            Some(false) if self.is_self_issued() => Err(Fault {
                reason: MtlsReason::WrongUsage,
                what: "its basic constraints are not critical (RFC 5280 section 4.2.1.9)",
            }),
            _ => Ok(()),
        }
    }

    /// Whether this second lies in its validity.
    #[must_use]
    pub fn is_valid_at(&self, second: i64) -> bool {
        (self.not_before..=self.not_after).contains(&second)
    }

    /// Whether issuer and subject are the same, as when an authority changes its key.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether the certificate of `issuer` has the key that signed this one.
    #[must_use]
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        super::signature::is_signed_by(&self.der, &issuer.public_key)
    }
}

/// A serial number without the zeros that mean nothing; one that keeps the number positive stays (X.690 section 8.3.2).
pub(super) fn significant(mut serial: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = serial
        && rest.first().is_some_and(|next| *next < 0x80)
    {
        serial = rest;
    }
    serial
}
