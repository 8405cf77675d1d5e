//! Revocation lists: which certificate was revoked from when.
//!
//! Enters: CRLs (RFC 5280 section 5) and the certificates that may have signed them. Leaves: a table from issuer and
//! serial number to spans of time. Judged in event time, so a list says more than its newest state:
//!
//! - An entry holds from its revocation date on, even where its list was issued later; what `thisUpdate` and
//!   `nextUpdate` say about freshness plays no part, because every list that is configured is knowledge.
//! - Entries of several lists add up. A list that leaves an entry out does not undo it (issuers drop what has expired),
//!   except that a hold ends where a later complete list leaves it out or a delta list says `removeFromCRL`.
//! - Indirect lists, lists for attribute certificates and lists with critical extensions that are not understood are
//!   refused, as is a list that none of the configured certificates signed.

use std::collections::HashMap;

use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::{
    OID_X509_EXT_DELTA_CRL_INDICATOR, OID_X509_EXT_ISSUER, OID_X509_EXT_ISSUER_DISTRIBUTION_POINT,
};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::{CertificateRevocationList, RevokedCertificate};
use x509_parser::x509::{ReasonCode, X509Version};

use super::certificate::{Certificate, significant};
use super::names::DistinguishedName;
use super::signature::is_signed_by;

/// Spans of revocation by issuer and serial number.
#[derive(Debug, Default)]
pub struct Revocations {
    spans: HashMap<DistinguishedName, HashMap<Vec<u8>, Vec<Span>>>,
}

/// Revoked from the first second (inclusive) to the other (exclusive), epoch seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The revocation date.
    pub from: i64,
    /// When a hold ended; `None` = never.
    pub until: Option<i64>,
}

impl Span {
    /// Whether this second lies in it.
    #[must_use]
    pub fn covers(self, second: i64) -> bool {
        second >= self.from && self.until.is_none_or(|until| second < until)
    }
}

/// One list, read and verified.
#[derive(Debug)]
pub(super) struct List {
    issuer: DistinguishedName,
    this_update: i64,
    /// Whether it lists everything that its issuer has revoked: no delta, no part of a scope.
    complete: bool,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    serial: Vec<u8>,
    date: i64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Revoked,
    Held,
    Removed,
}

const AGAIN: &str = "export the list from its authority again, as PEM or DER";

/// Why a list is refused, and what to do about it.
pub(super) struct Refused(pub(super) String, pub(super) &'static str);

impl List {
    /// Reads one list and checks that one of `signers` signed it.
    pub(super) fn read<'c>(
        bytes: &[u8],
        signers: impl Iterator<Item = &'c Certificate>,
    ) -> Result<Self, Refused> {
        let parsed = CertificateRevocationList::from_der(bytes)
            .ok()
            .filter(|(rest, _)| rest.is_empty())
            .map(|(_, list)| list)
            .ok_or_else(|| Refused("not a revocation list".to_owned(), AGAIN))?;
        if parsed.signature_algorithm != parsed.tbs_cert_list.signature {
            return Err(Refused(
                "the list names two signature algorithms".to_owned(),
                AGAIN,
            ));
        }
        // RFC 5280 section 5.1.2.1: absent, or 2.
        if !matches!(parsed.version(), None | Some(X509Version::V2)) {
            return Err(Refused("the list has an unknown version".to_owned(), AGAIN));
        }
        let complete = scope(&parsed)?;
        let entries = parsed
            .iter_revoked_certificates()
            .map(entry)
            .collect::<Result<_, _>>()?;
        let issuer = DistinguishedName::of(parsed.issuer());
        signed(bytes, &issuer, signers)?;
        Ok(Self {
            issuer,
            this_update: parsed.last_update().timestamp(),
            complete,
            entries,
        })
    }
}

/// Looks at the list's extensions; whether it is complete.
fn scope(list: &CertificateRevocationList<'_>) -> Result<bool, Refused> {
    let mut complete = true;
    let mut seen = Vec::new();
    for extension in list.extensions() {
        if seen.contains(&&extension.oid) {
            return Err(Refused(
                format!("the list has the extension {} twice", extension.oid),
                AGAIN,
            ));
        }
        seen.push(&extension.oid);
        if extension.oid == OID_X509_EXT_DELTA_CRL_INDICATOR {
            complete = false;
        } else if extension.oid == OID_X509_EXT_ISSUER_DISTRIBUTION_POINT {
            complete = false;
            let ParsedExtension::IssuingDistributionPoint(point) = extension.parsed_extension()
            else {
                return Err(Refused(
                    "the list's issuing distribution point cannot be read".to_owned(),
                    AGAIN,
                ));
            };
            if point.indirect_crl {
                return Err(Refused(
                    "the list is indirect: it speaks for other issuers".to_owned(),
                    "configure the lists of the issuers themselves",
                ));
            }
            if point.only_contains_attribute_certs {
                return Err(Refused(
                    "the list is for attribute certificates only".to_owned(),
                    "configure the list for client certificates",
                ));
            }
        } else if extension.critical {
            return Err(Refused(
                format!(
                    "the list has the critical extension {}, which is not understood",
                    extension.oid
                ),
                "a list with unknown critical extensions must not be used (RFC 5280 section 5.2)",
            ));
        }
    }
    Ok(complete)
}

fn entry(revoked: &RevokedCertificate<'_>) -> Result<Entry, Refused> {
    let mut seen = Vec::new();
    for extension in revoked.extensions() {
        let known = matches!(
            extension.parsed_extension(),
            ParsedExtension::ReasonCode(_) | ParsedExtension::InvalidityDate(_)
        );
        let unreadable = matches!(
            extension.parsed_extension(),
            ParsedExtension::ParseError { .. }
        );
        if unreadable || seen.contains(&&extension.oid) {
            return Err(Refused(
                format!(
                    "an entry has the extension {} twice or unreadable",
                    extension.oid
                ),
                AGAIN,
            ));
        }
        seen.push(&extension.oid);
        if extension.oid == OID_X509_EXT_ISSUER {
            return Err(Refused(
                "an entry of the list speaks for another issuer".to_owned(),
                "configure the lists of the issuers themselves",
            ));
        }
        if extension.critical && !known {
            return Err(Refused(
                format!(
                    "an entry has the critical extension {}, which is not understood",
                    extension.oid
                ),
                "a list with unknown critical extensions must not be used (RFC 5280 section 5.3)",
            ));
        }
    }
    let kind = match revoked.reason_code().map(|(_, reason)| reason) {
        Some(ReasonCode::CertificateHold) => Kind::Held,
        Some(ReasonCode::RemoveFromCRL) => Kind::Removed,
        _ => Kind::Revoked,
    };
    Ok(Entry {
        serial: significant(revoked.raw_serial()).to_vec(),
        date: revoked.revocation_date.timestamp(),
        kind,
    })
}

/// Whether one of the certificates with the issuer's name signed the list and may do so.
fn signed<'c>(
    bytes: &[u8],
    issuer: &DistinguishedName,
    signers: impl Iterator<Item = &'c Certificate>,
) -> Result<(), Refused> {
    const HINT: &str = "put the certificate that signs the list into ca or intermediates";
    let mut named = false;
    for signer in signers.filter(|signer| signer.subject == *issuer) {
        named = true;
        if signer.fault.is_none() && signer.issuing.lists && is_signed_by(bytes, &signer.public_key)
        {
            return Ok(());
        }
    }
    Err(if named {
        Refused(
            "no certificate with the list's issuer name that may sign lists signed it".to_owned(),
            HINT,
        )
    } else {
        Refused(
            "no configured certificate has the list's issuer name".to_owned(),
            HINT,
        )
    })
}

/// One serial number while lists are added up.
#[derive(Default)]
struct Life {
    past: Vec<Span>,
    /// Since when, and whether it is only on hold.
    open: Option<(i64, bool)>,
}

impl Life {
    fn apply(&mut self, entry: &Entry, this_update: i64) {
        match (entry.kind, self.open) {
            (Kind::Revoked, Some((from, _))) => {
                self.open = Some((from.min(entry.date), false));
            }
            (Kind::Revoked, None) => self.open = Some((entry.date, false)),
            (Kind::Held, None) => self.open = Some((entry.date, true)),
            (Kind::Held, Some((from, held))) => self.open = Some((from.min(entry.date), held)),
            (Kind::Removed, Some((from, true))) => {
                // Issuers write either the day of the release or again the day of the hold here.
                let until = if entry.date > from {
                    entry.date
                } else {
                    this_update
                };
                self.close(until);
            }
            (Kind::Removed, _) => {}
        }
    }

    fn close(&mut self, until: i64) {
        if let Some((from, _)) = self.open.take() {
            self.past.push(Span {
                from,
                until: Some(until),
            });
        }
    }

    fn is_held(&self) -> bool {
        matches!(self.open, Some((_, true)))
    }

    fn into_spans(mut self) -> Vec<Span> {
        self.past
            .extend(self.open.map(|(from, _)| Span { from, until: None }));
        self.past
    }
}

impl Revocations {
    /// Adds the lists up, oldest first.
    pub(super) fn new(mut lists: Vec<List>) -> Self {
        lists.sort_by_key(|list| list.this_update);
        let mut issuers: HashMap<DistinguishedName, HashMap<Vec<u8>, Life>> = HashMap::new();
        for list in lists {
            let lives = issuers.entry(list.issuer).or_default();
            if list.complete {
                let listed: std::collections::HashSet<_> =
                    list.entries.iter().map(|entry| &entry.serial).collect();
                for (serial, life) in lives.iter_mut() {
                    if life.is_held() && !listed.contains(serial) {
                        life.close(list.this_update);
                    }
                }
            }
            for entry in &list.entries {
                lives
                    .entry(entry.serial.clone())
                    .or_default()
                    .apply(entry, list.this_update);
            }
        }
        let spans = issuers
            .into_iter()
            .map(|(issuer, lives)| {
                let spans = lives
                    .into_iter()
                    .map(|(serial, life)| (serial, life.into_spans()))
                    .collect();
                (issuer, spans)
            })
            .collect();
        Self { spans }
    }

    /// When this certificate was revoked.
    #[must_use]
    pub fn of(&self, certificate: &Certificate) -> &[Span] {
        self.spans
            .get(&certificate.issuer)
            .and_then(|serials| serials.get(&certificate.serial))
            .map_or(&[], Vec::as_slice)
    }
}
