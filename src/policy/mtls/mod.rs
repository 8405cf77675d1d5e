//! Client certificate authorities: whose certificates are worth something on which host.
//!
//! Enters: CA bundles, intermediates and CRLs already read. Leaves: trust anchors, intermediates and a table of
//! revocations per host. Judging a certificate is in `enrich::mtls`.

mod certificate;
mod crl;
mod der;
mod forwarded;
mod names;
pub mod pem;
mod policies;
mod signature;
mod written;

use aws_lc_rs::digest;

use super::objects::{FileText, MtlsObject};
use super::tokens::is_name;
use super::zones::{host_matches, host_pattern};
use crate::model::Problems;
use pem::Label;

pub use certificate::{AuthorityIdentifier, Certificate, Fault, Issuing};
pub use crl::{Revocations, Span};
pub use forwarded::{Forwarded, certificates as logged_certificates};
pub use names::{Alternatives, Constraints, DistinguishedName, Names};
pub use policies::Policies;
pub use written::WrittenName;

/// Authorities of one zone.
#[derive(Debug, Default)]
pub struct Mtls {
    /// In configured order.
    pub authorities: Vec<Authority>,
}

/// What certificates on some hosts are verified against.
#[derive(Debug)]
pub struct Authority {
    /// Host patterns in lower case.
    pub hosts: Vec<String>,
    /// Trust anchors. One with a fault stays, but no path through it holds.
    pub roots: Vec<Certificate>,
    /// Configured intermediates.
    pub intermediates: Vec<Certificate>,
    /// Who was revoked when.
    pub revocations: Revocations,
    /// SHA-256 of the certificates that may have issued a client's; empty = any.
    pub issuers: Vec<[u8; 32]>,
    /// Most authorities between a client's certificate and an anchor, those that issued to themselves aside.
    pub max_intermediates: usize,
    /// Header of the request, in lower case, in which the gateway shows the certificate; `None` = no header counts.
    pub header: Option<String>,
    /// Seconds at which the worth of a path may change, ascending: validity of roots and intermediates begins or has
    /// ended, an intermediate is revoked or released. Between two of them only the client's own certificate matters.
    pub turns: Vec<i64>,
    /// SHA-256 over everything above: cached verdicts are filed under it.
    pub identity: [u8; 32],
}

impl Mtls {
    pub(super) fn compile(objects: &[MtlsObject], place: &str, problems: &mut Problems) -> Self {
        let mut authorities: Vec<Authority> = Vec::with_capacity(objects.len());
        for (number, object) in objects.iter().enumerate() {
            let place = format!("{place}.mtls[{number}]");
            let hosts = hosts(object, &place, &authorities, problems);
            authorities.push(Authority::compile(object, hosts, &place, problems));
        }
        Self { authorities }
    }

    /// The authority for a host (lower case, without port): a literal host wins over a wildcard, a longer wildcard over
    /// a shorter one.
    #[must_use]
    pub fn for_host(&self, host: &str) -> Option<&Authority> {
        self.authorities
            .iter()
            .flat_map(|authority| authority.hosts.iter().map(move |name| (name, authority)))
            .filter(|(name, _)| host_matches(name, host))
            .max_by_key(|(name, _)| (!name.starts_with('*'), name.len()))
            .map(|(_, authority)| authority)
    }
}

fn hosts(
    object: &MtlsObject,
    place: &str,
    earlier: &[Authority],
    problems: &mut Problems,
) -> Vec<String> {
    if object.hosts.is_empty() {
        problems.hint(
            format!("{place}.hosts"),
            "no host",
            "hosts = [\"api.example.com\"]",
        );
    }
    let mut hosts: Vec<String> = Vec::with_capacity(object.hosts.len());
    for (number, host) in object.hosts.iter().enumerate() {
        let place = format!("{place}.hosts[{number}]");
        let Some(lower) = host_pattern(host, &place, problems) else {
            continue;
        };
        if hosts.contains(&lower) || earlier.iter().any(|other| other.hosts.contains(&lower)) {
            problems.hint(
                place,
                format!("{host:?} has authorities already"),
                "list all authorities of a host in one entry: ca takes several files",
            );
        } else {
            hosts.push(lower);
        }
    }
    hosts
}

impl Authority {
    fn compile(
        object: &MtlsObject,
        hosts: Vec<String>,
        place: &str,
        problems: &mut Problems,
    ) -> Self {
        let before = problems.0.len();
        let mut roots = Vec::new();
        for (root, place) in certificates(&object.ca, &format!("{place}.ca"), problems) {
            if is_authority(&root, &place, problems) {
                roots.push(root);
            }
        }
        if roots.is_empty() && problems.0.len() == before {
            problems.hint(
                format!("{place}.ca"),
                "no certificate authority",
                "ca = \"clients-ca.pem\"",
            );
        }
        let faults: Option<Vec<_>> = roots.iter().map(|root| root.fault).collect();
        for fault in faults.unwrap_or_default() {
            problems.hint(
                format!("{place}.ca"),
                format!("no authority can be used: {}", fault.what),
                "have the authority's certificate made again",
            );
        }
        let mut intermediates = Vec::new();
        for (certificate, place) in certificates(
            &object.intermediates,
            &format!("{place}.intermediates"),
            problems,
        ) {
            // An authority may keep a key for its lists alone, whose certificate issues nothing.
            if certificate.issuing.lists || is_authority(&certificate, &place, problems) {
                intermediates.push(certificate);
            }
        }
        let revocations = revocations(
            &object.crl,
            &roots,
            &intermediates,
            &format!("{place}.crl"),
            problems,
        );
        let issuers = issuers(object, &format!("{place}.issuers"), problems);
        let max_intermediates = object.max_intermediates.unwrap_or(MAX_INTERMEDIATES);
        if max_intermediates > MAX_INTERMEDIATES {
            problems.hint(
                format!("{place}.max_intermediates"),
                format!("a chain has at most {MAX_INTERMEDIATES} intermediates"),
                "use a number from 0 to 8",
            );
        }
        let header = header(object, &format!("{place}.header"), problems);
        let mut authority = Self {
            hosts,
            turns: turns(roots.iter().chain(&intermediates), &revocations),
            roots,
            intermediates,
            revocations,
            issuers,
            max_intermediates,
            header,
            identity: [0; 32],
        };
        authority.identity = authority.digest(&object.crl);
        authority
    }

    fn digest(&self, lists: &[FileText]) -> [u8; 32] {
        let mut hash = digest::Context::new(&digest::SHA256);
        for group in [&self.roots, &self.intermediates] {
            hash.update(&(group.len() as u64).to_be_bytes());
            for certificate in group {
                hash.update(&certificate.fingerprint);
            }
        }
        hash.update(&(self.issuers.len() as u64).to_be_bytes());
        for issuer in &self.issuers {
            hash.update(issuer);
        }
        hash.update(&(self.max_intermediates as u64).to_be_bytes());
        for list in lists {
            hash.update(&(list.bytes.len() as u64).to_be_bytes());
            hash.update(&list.bytes);
        }
        let mut identity = [0; 32];
        identity.copy_from_slice(hash.finish().as_ref());
        identity
    }
}

/// Most authorities between a client's certificate and an anchor: design section 12 bounds a chain at 10 with both.
pub const MAX_INTERMEDIATES: usize = 8;

fn header(object: &MtlsObject, place: &str, problems: &mut Problems) -> Option<String> {
    let name = object.header.as_deref()?;
    if !is_name(name) {
        problems.hint(
            place,
            format!("{name:?} is not the name of a header"),
            "header = \"client-cert\", a header that the gateway sets or removes on every request",
        );
        return None;
    }
    Some(name.to_ascii_lowercase())
}

/// The seconds at which the worth of a path over these certificates may change, ascending.
pub fn turns<'c>(
    certificates: impl Iterator<Item = &'c Certificate>,
    revocations: &Revocations,
) -> Vec<i64> {
    let mut turns = Vec::new();
    for certificate in certificates {
        turns.push(certificate.not_before);
        turns.push(certificate.not_after.saturating_add(1));
        for span in revocations.of(certificate) {
            turns.push(span.from);
            turns.extend(span.until);
        }
    }
    turns.sort_unstable();
    turns.dedup();
    turns
}

/// Every certificate of the files, each with its place.
fn certificates(
    files: &[FileText],
    place: &str,
    problems: &mut Problems,
) -> Vec<(Certificate, String)> {
    const HINT: &str = "use a PEM bundle or one certificate in DER";
    let mut found = Vec::new();
    for file in files {
        let place = format!("{place} ({})", file.name);
        let blocks = match pem::blocks(&file.bytes, Label::Certificate) {
            Ok(blocks) => blocks,
            Err(what) => {
                problems.hint(place, what, HINT);
                continue;
            }
        };
        let single = blocks.len() == 1;
        for (number, der) in blocks.iter().enumerate() {
            let place = if single {
                place.clone()
            } else {
                format!("{place} certificate {}", number + 1)
            };
            match Certificate::parse(der) {
                Some(certificate) => found.push((certificate, place)),
                None => problems.hint(place, "not a certificate", HINT),
            }
        }
    }
    found
}

fn is_authority(certificate: &Certificate, place: &str, problems: &mut Problems) -> bool {
    if certificate.fault.is_some() {
        // Set aside: a bundle may hold authorities that nobody can use without harm to the others.
        return true;
    }
    let Issuing {
        authority,
        certificates,
        ..
    } = certificate.issuing;
    if !authority {
        problems.hint(
            place,
            "the certificate is not one of an authority (basic constraints)",
            "configure the certificate that issues the clients' certificates, not one of theirs",
        );
    } else if !certificates {
        problems.hint(
            place,
            "the certificate may not sign certificates (key usage)",
            "configure the certificate that issues the clients' certificates",
        );
    }
    authority && certificates
}

fn revocations(
    files: &[FileText],
    roots: &[Certificate],
    intermediates: &[Certificate],
    place: &str,
    problems: &mut Problems,
) -> Revocations {
    let mut lists = Vec::new();
    for file in files {
        let place = format!("{place} ({})", file.name);
        let blocks = match pem::blocks(&file.bytes, Label::Crl) {
            Ok(blocks) => blocks,
            Err(what) => {
                problems.hint(place, what, "use revocation lists in PEM, or one in DER");
                continue;
            }
        };
        for der in &blocks {
            match crl::List::read(der, roots.iter().chain(intermediates)) {
                Ok(list) => lists.push(list),
                Err(crl::Refused(what, hint)) => problems.hint(&place, what, hint),
            }
        }
    }
    Revocations::new(lists)
}

fn issuers(object: &MtlsObject, place: &str, problems: &mut Problems) -> Vec<[u8; 32]> {
    let mut issuers = Vec::with_capacity(object.issuers.len());
    for (number, text) in object.issuers.iter().enumerate() {
        match fingerprint(text) {
            Some(issuer) => issuers.push(issuer),
            None => problems.hint(
                format!("{place}[{number}]"),
                format!("{text:?} is not a SHA-256 fingerprint"),
                "64 hexadecimal digits, with or without colons",
            ),
        }
    }
    issuers
}

/// A SHA-256 fingerprint from hexadecimal digits in any case, with or without colons.
#[must_use]
pub fn fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: String = text.trim_ascii().chars().filter(|c| *c != ':').collect();
    let mut fingerprint = [0; 32];
    hex::decode_to_slice(digits, &mut fingerprint).ok()?;
    Some(fingerprint)
}
