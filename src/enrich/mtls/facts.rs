//! What rules may ask about a client certificate: the fields `cf.tls_client_auth.*` (feature map 5.1).
//!
//! Enters: an exchange and its verdict. Leaves: the value of any field, worked out when it is asked for: from the
//! certificate where it was logged, else from what the gateway wrote of it, brought into the same form. What nobody
//! knows is `false` or the empty text, as for a connection without certificates.
//!
//! The names are written as OpenSSL writes them, non-ASCII characters byte by byte: `CN=J\C3\BCrg,O=b` and
//! `/O=b/CN=J\xC3\xBCrg`. The vendor's `cert_verified` is also true of a revoked certificate, and so it is here.

use std::borrow::Cow;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};

use super::super::Judged;
use super::Known;
use super::chain::Issuer;
use super::source::Source;
use crate::model::{ClientCertificate, Exchange};
use crate::policy::Zone;
use crate::policy::mtls::{Alternatives, Certificate, WrittenName, logged_certificates};

/// Longest `cert_rfc9440`, bytes (feature map 5.1).
const MAX_RFC9440: usize = 10 * 1024;

/// Longest `cert_chain_rfc9440`, bytes (feature map 5.1).
const MAX_CHAIN_RFC9440: usize = 16 * 1024;

macro_rules! fields {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// Every field.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name after `cf.tls_client_auth.`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The field of this name.
            #[must_use]
            pub fn of_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|field| field.name() == name)
            }
        }
    };
}

fields! {
    /// A field that is true or false.
    Flag {
        /// A certificate was sent, valid or not.
        Presented = "cert_presented",
        /// It is valid; also when it is revoked.
        Verified = "cert_verified",
        /// It is valid and revoked.
        Revoked = "cert_revoked",
        /// `cert_rfc9440` would be longer than 10 KiB.
        Rfc9440TooLarge = "cert_rfc9440_too_large",
        /// `cert_chain_rfc9440` would be longer than 16 KiB.
        ChainRfc9440TooLarge = "cert_chain_rfc9440_too_large",
    }
}

fields! {
    /// A field that is text.
    Text {
        /// Issuer's name, RFC 2253.
        IssuerDn = "cert_issuer_dn",
        /// Subject's name, RFC 2253.
        SubjectDn = "cert_subject_dn",
        /// Issuer's name, RFC 2253.
        IssuerDnRfc2253 = "cert_issuer_dn_rfc2253",
        /// Subject's name, RFC 2253.
        SubjectDnRfc2253 = "cert_subject_dn_rfc2253",
        /// Issuer's name with slashes, the most general part first.
        IssuerDnLegacy = "cert_issuer_dn_legacy",
        /// Subject's name with slashes, the most general part first.
        SubjectDnLegacy = "cert_subject_dn_legacy",
        /// Serial number, upper-case hexadecimal.
        Serial = "cert_serial",
        /// Serial number of the direct issuer's certificate, upper-case hexadecimal.
        IssuerSerial = "cert_issuer_serial",
        /// SHA-256 over the DER, lower-case hexadecimal.
        FingerprintSha256 = "cert_fingerprint_sha256",
        /// SHA-1 over the DER, lower-case hexadecimal.
        FingerprintSha1 = "cert_fingerprint_sha1",
        /// Start of validity, `Nov  5 08:15:30 2026 GMT`.
        NotBefore = "cert_not_before",
        /// End of validity in the same form.
        NotAfter = "cert_not_after",
        /// Key identifier, upper-case hexadecimal.
        Ski = "cert_ski",
        /// Key identifier of the direct issuer, upper-case hexadecimal.
        IssuerSki = "cert_issuer_ski",
        /// The value of RFC 9440's `Client-Cert`; also of a certificate that is not valid.
        Rfc9440 = "cert_rfc9440",
        /// The value of RFC 9440's `Client-Cert-Chain`: what was sent along, without the client's certificate.
        ChainRfc9440 = "cert_chain_rfc9440",
    }
}

/// The certificate fields of one exchange. Cheap to make: nothing is worked out before it is asked for.
#[derive(Clone, Debug)]
pub struct CertificateFacts<'a> {
    source: Source<'a>,
    known: Option<&'a Known>,
    /// Of the certificate's DER, else as logged.
    fingerprint: Option<&'a [u8; 32]>,
    flags: [bool; 3],
    second: i64,
}

impl<'a> CertificateFacts<'a> {
    /// The fields of an exchange of this zone that was judged.
    #[must_use]
    pub fn new(zone: &Zone, exchange: &'a Exchange<'_>, judged: &'a Judged) -> Self {
        let verdict = judged.mtls;
        Self {
            source: Source::of(exchange, zone.mtls.for_host(&judged.host)),
            known: judged.certificate.as_deref(),
            fingerprint: judged.fingerprint.as_ref(),
            flags: [verdict.presented, verdict.verified, verdict.revoked]
                .map(|flag| flag == Some(true)),
            second: exchange.at.seconds(),
        }
    }

    /// The value of a field that is true or false.
    #[must_use]
    pub fn flag(&self, field: Flag) -> bool {
        let [presented, verified, revoked] = self.flags;
        match field {
            Flag::Presented => presented,
            Flag::Verified => verified,
            Flag::Revoked => revoked,
            Flag::Rfc9440TooLarge => self.rfc9440().is_err(),
            Flag::ChainRfc9440TooLarge => self.chain_rfc9440().is_err(),
        }
    }

    /// The value of a field that is text.
    #[must_use]
    pub fn text(&self, field: Text) -> String {
        let value = match field {
            Text::IssuerDn | Text::IssuerDnRfc2253 => self.issuer(WrittenName::rfc2253, true),
            Text::SubjectDn | Text::SubjectDnRfc2253 => self.subject(WrittenName::rfc2253, true),
            Text::IssuerDnLegacy => self.issuer(WrittenName::legacy, false),
            Text::SubjectDnLegacy => self.subject(WrittenName::legacy, false),
            Text::Serial => self.serial(),
            Text::IssuerSerial => self.issuer_serial(),
            Text::FingerprintSha256 => self.fingerprint.map(hex::encode),
            Text::FingerprintSha1 => self.fingerprint_sha1(),
            Text::NotBefore => self.date(
                |certificate| certificate.not_before,
                |l| l.not_before.as_deref(),
            ),
            Text::NotAfter => self.date(
                |certificate| certificate.not_after,
                |l| l.not_after.as_deref(),
            ),
            Text::Ski => self
                .certificate()
                .and_then(|certificate| certificate.key_identifier.as_ref())
                .map(hex::encode_upper),
            Text::IssuerSki => self.issuer_ski(),
            Text::Rfc9440 => self.rfc9440().unwrap_or_default(),
            Text::ChainRfc9440 => self.chain_rfc9440().unwrap_or_default(),
        };
        value.unwrap_or_default()
    }

    /// The most specific common name of the subject.
    #[must_use]
    pub fn common_name(&self) -> Option<String> {
        if let Some((subject, _)) = self.known.and_then(Known::names) {
            return subject.common_name().map(str::to_owned);
        }
        let subject = WrittenName::read(self.source.subject.as_deref()?)?;
        subject.common_name().map(str::to_owned)
    }

    /// The subject's alternative names; `None` = the certificate was not logged.
    #[must_use]
    pub fn alternatives(&self) -> Option<Alternatives> {
        self.certificate().map(Certificate::alternatives)
    }

    /// Whether the certificate itself is known, so that what it does not say it does not have.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.certificate().is_some()
    }

    fn certificate(&self) -> Option<&'a Certificate> {
        self.known?.certificate()
    }

    fn subject(&self, write: fn(&WrittenName) -> String, as_logged: bool) -> Option<String> {
        match self.known.and_then(Known::names) {
            Some((subject, _)) => Some(write(subject)),
            None => rewritten(self.source.subject.as_deref()?, write, as_logged),
        }
    }

    fn issuer(&self, write: fn(&WrittenName) -> String, as_logged: bool) -> Option<String> {
        match self.known.and_then(Known::names) {
            Some((_, issuer)) => Some(write(issuer)),
            None => rewritten(self.source.logged?.issuer_dn.as_deref()?, write, as_logged),
        }
    }

    fn serial(&self) -> Option<String> {
        if let Some(certificate) = self.certificate() {
            return Some(serial(&certificate.serial));
        }
        let text = self.source.logged?.serial.as_deref()?;
        Some(hexadecimal(text).unwrap_or_else(|| text.trim_ascii().to_owned()))
    }

    fn direct_issuer(&self) -> Option<&'a Issuer> {
        self.known?.issuer_at(self.second)
    }

    /// A known issuer speaks for itself; only without one the certificate says what its issuer's number is.
    fn issuer_serial(&self) -> Option<String> {
        match self.direct_issuer() {
            Some(issuer) => Some(serial(&issuer.serial)),
            None => self.certificate()?.authority.serial.as_deref().map(serial),
        }
    }

    fn issuer_ski(&self) -> Option<String> {
        let key = match self.direct_issuer() {
            Some(issuer) => &issuer.key_identifier,
            None => &self.certificate()?.authority.key,
        };
        key.as_ref().map(hex::encode_upper)
    }

    fn fingerprint_sha1(&self) -> Option<String> {
        if let Some(certificate) = self.certificate() {
            return Some(sha1(&certificate.der));
        }
        if let Some(first) = self.sent().and_then(|sent| sent.into_iter().next()) {
            return Some(sha1(&first));
        }
        // nginx has no other fingerprint than this one, so it may stand where the longer one belongs.
        let text = self.source.fingerprint.as_deref()?;
        let digits: String = text.trim_ascii().chars().filter(|c| *c != ':').collect();
        let is_sha1 = digits.len() == 40 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        is_sha1.then(|| digits.to_ascii_lowercase())
    }

    fn date(
        &self,
        of: fn(&Certificate) -> i64,
        logged: fn(&'a ClientCertificate<'a>) -> Option<&'a str>,
    ) -> Option<String> {
        if let Some(certificate) = self.certificate() {
            return Some(date(of(certificate)));
        }
        let text = logged(self.source.logged?)?.trim_ascii();
        match text.parse::<Timestamp>() {
            Ok(stamp) => Some(date(stamp.as_second())),
            Err(_) => Some(text.to_owned()),
        }
    }

    /// What was sent, in the order of the log, certificates or not.
    fn sent(&self) -> Option<Vec<Vec<u8>>> {
        self.known?;
        logged_certificates(self.source.text.as_deref()?)
    }

    /// `Err` = too large.
    fn rfc9440(&self) -> Result<Option<String>, TooLarge> {
        match self.certificate() {
            Some(certificate) => byte_sequences(&[&*certificate.der], MAX_RFC9440),
            None => match self.sent() {
                Some(sent) => byte_sequences(sent.get(..1).unwrap_or_default(), MAX_RFC9440),
                None => Ok(None),
            },
        }
    }

    /// `Err` = too large.
    fn chain_rfc9440(&self) -> Result<Option<String>, TooLarge> {
        match self.sent() {
            Some(sent) => byte_sequences(sent.get(1..).unwrap_or_default(), MAX_CHAIN_RFC9440),
            None => Ok(None),
        }
    }
}

struct TooLarge;

/// A list of byte sequences (RFC 8941 sections 3.1 and 3.3.5).
fn byte_sequences(items: &[impl AsRef<[u8]>], limit: usize) -> Result<Option<String>, TooLarge> {
    // Four characters for three bytes begun, two colons each, a comma and a blank between them.
    let length: usize = items
        .iter()
        .map(|item| item.as_ref().len().div_ceil(3) * 4 + 2)
        .sum::<usize>()
        + items.len().saturating_sub(1) * 2;
    if length > limit {
        return Err(TooLarge);
    }
    let items: Vec<_> = items
        .iter()
        .map(|item| format!(":{}:", STANDARD.encode(item)))
        .collect();
    Ok(Some(items.join(", ")))
}

/// A name that a gateway wrote, in another form. One that cannot be read stays as it is where that is of use.
fn rewritten(text: &str, write: fn(&WrittenName) -> String, as_logged: bool) -> Option<String> {
    match WrittenName::read(text) {
        Some(name) => Some(write(&name)),
        None => as_logged.then(|| text.to_owned()),
    }
}

/// A serial number as OpenSSL prints it: whole bytes, and what the sign bit makes negative with a minus.
fn serial(number: &[u8]) -> String {
    let (sign, magnitude): (_, Cow<'_, [u8]>) = match number {
        [first, ..] if first & 0x80 != 0 => {
            let mut carry = true;
            let mut magnitude: Vec<u8> = number
                .iter()
                .rev()
                .map(|byte| {
                    let (negated, overflow) = (!byte).overflowing_add(u8::from(carry));
                    carry = overflow;
                    negated
                })
                .collect();
            magnitude.reverse();
            ("-", Cow::Owned(magnitude))
        }
        // A zero in front only keeps the number positive.
        [0, rest @ ..] if !rest.is_empty() => ("", Cow::Borrowed(rest)),
        _ => ("", Cow::Borrowed(number)),
    };
    format!("{sign}{}", hex::encode_upper(magnitude))
}

/// A logged serial number in upper case and whole bytes; `None` when it is not hexadecimal.
fn hexadecimal(text: &str) -> Option<String> {
    let text = text.trim_ascii();
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let mut digits: String = digits
        .unwrap_or(text)
        .chars()
        .filter(|c| *c != ':')
        .collect::<String>()
        .to_ascii_uppercase();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    if digits.len() % 2 == 1 {
        digits.insert(0, '0');
    }
    Some(digits)
}

fn sha1(der: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der))
}

/// `Mon DD HH:MM:SS YYYY GMT`, the day padded with a blank.
fn date(second: i64) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    // Not a timestamp: those end before the last second of 9999, which stands for no end at all (RFC 5280 section
    // 4.1.2.5).
    let date = DateTime::constant(1970, 1, 1, 0, 0, 0, 0)
        .checked_add(SignedDuration::from_secs(second))
        .unwrap_or(DateTime::MAX);
    let month = usize::try_from(date.month() - 1)
        .ok()
        .and_then(|month| MONTHS.get(month))
        .unwrap_or(&"");
    format!(
        "{month} {:2} {:02}:{:02}:{:02} {} GMT",
        date.day(),
        date.hour(),
        date.minute(),
        date.second(),
        date.year()
    )
}

#[cfg(test)]
mod tests;
