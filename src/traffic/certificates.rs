//! Client certificates of the synthetic partners, with what each was worth at which time.
//!
//! The certificates were signed once and their keys thrown away, so their dates are fixed: the demo starts on 2026-11-18 for their
//! sake. Started at another time the traffic is still true, because the outcome is computed from the dates.

use crate::model::MtlsOutcome;

use super::events::push_json;
use super::random::Random;

/// Every certificate, each after a line `name: …`.
const CLIENTS: &str = include_str!("keys/clients.pem");
/// The authority that the partner hosts trust.
pub(super) const AUTHORITY: &str = include_str!("keys/partners-ca.pem");
/// Its revocation list.
pub(super) const REVOCATIONS: &str = include_str!("keys/partners.crl.pem");

/// 2026-01-01T00:00:00Z, from when on the authority and most certificates hold.
const ISSUED: i64 = 1_767_225_600;
/// 2031-01-01T00:00:00Z, until when most certificates hold.
const LAST: i64 = 1_924_992_000;
/// 2026-11-19T04:00:00Z, the last second of the certificate that lapses during the demo.
const LAPSES: i64 = 1_795_060_800;
/// 2026-11-18T20:00:00Z, the first second of the certificate that begins during the demo.
const BEGINS: i64 = 1_795_032_000;
/// 2026-11-19T08:00:00Z, the revocation date in the list.
const REVOKED: i64 = 1_795_075_200;

/// One client certificate.
#[derive(Clone, Debug)]
struct Client {
    weight: u32,
    not_before: i64,
    not_after: i64,
    revoked_at: Option<i64>,
    /// Refused whatever the time: another authority, another usage, a broken signature, or no certificate at all.
    refused: bool,
    /// `"pem"` values as JSON strings: PEM, and base64 of the DER.
    forms: [Vec<u8>; 2],
}

/// What a request shows of the client's certificate.
#[derive(Clone, Debug)]
pub(super) struct Certificates {
    clients: Vec<Client>,
}

impl Certificates {
    /// Reads the embedded certificates.
    pub(super) fn embedded() -> Self {
        let mut clients = Vec::new();
        for block in CLIENTS.split("name: ").skip(1) {
            let Some((name, pem)) = block.split_once('\n') else {
                continue;
            };
            let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
            clients.push(Client::new(name, pem, &der));
        }
        // Cut short on its way into the log.
        clients.push(Client::new(
            "broken",
            "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIB\n-----END CERTIFICATE-----\n",
            "MIIBszCCAVmgAwIB",
        ));
        Self { clients }
    }

    /// Writes the `tls` member of a request to the partner feed and tells what it was worth at that second.
    pub(super) fn show(&self, random: &mut Random, seconds: i64, out: &mut Vec<u8>) -> MtlsOutcome {
        let draw = random.below(1000);
        let fixed: &[(u32, &str, MtlsOutcome)] = &[
            (20, "", MtlsOutcome::NotCaptured),
            (
                50,
                r#","tls":{"client_certificate":{"presented":false}}"#,
                MtlsOutcome::Absent,
            ),
            // Without the certificate itself the gateway's finding stands.
            (
                70,
                r#","tls":{"client_certificate":{"presented":true,"verified":true,"revoked":false}}"#,
                MtlsOutcome::Verified,
            ),
            (
                80,
                r#","tls":{"client_certificate":{"presented":true,"verified":false}}"#,
                MtlsOutcome::Failed,
            ),
            (
                90,
                r#","tls":{"client_certificate":{"presented":true,"verified":true,"revoked":true}}"#,
                MtlsOutcome::Revoked,
            ),
            (
                100,
                r#","tls":{"client_certificate":{"presented":true}}"#,
                MtlsOutcome::NotCaptured,
            ),
        ];
        if let Some((_, text, outcome)) = fixed.iter().find(|(end, ..)| draw < *end) {
            out.extend_from_slice(text.as_bytes());
            return *outcome;
        }
        let Some(client) = random.weighted(&self.clients, |client| client.weight) else {
            return MtlsOutcome::NotCaptured;
        };
        out.extend_from_slice(br#","tls":{"client_certificate":{"presented":true,"#);
        if random.per_mille(300) {
            // The gateway thinks well of everything; our own verification has the last word.
            out.extend_from_slice(br#""verified":true,"revoked":false,"#);
        }
        out.extend_from_slice(br#""pem":"#);
        if let Some(form) = random.pick(&client.forms) {
            out.extend_from_slice(form);
        }
        out.extend_from_slice(b"}}");
        client.worth(seconds)
    }
}

/// Writes the `tls` member for a host without a certificate authority, and tells what it is worth.
pub(super) fn show_finding(random: &mut Random, out: &mut Vec<u8>) -> MtlsOutcome {
    let (text, outcome) = match random.below(100) {
        0..=79 => ("", MtlsOutcome::NotCaptured),
        80..=95 => (
            r#","tls":{"client_certificate":{"presented":false}}"#,
            MtlsOutcome::Absent,
        ),
        96..=97 => (
            r#","tls":{"client_certificate":{"presented":true,"verified":true,"revoked":false,"subject_dn":"CN=intern","serial":"0A"}}"#,
            MtlsOutcome::Verified,
        ),
        98 => (
            r#","tls":{"client_certificate":{"presented":true,"verified":false,"subject_dn":"CN=guest"}}"#,
            MtlsOutcome::Failed,
        ),
        _ => (
            r#","tls":{"client_certificate":{"presented":true}}"#,
            MtlsOutcome::NotCaptured,
        ),
    };
    out.extend_from_slice(text.as_bytes());
    outcome
}

impl Client {
    fn new(name: &str, pem: &str, der: &str) -> Self {
        let (weight, not_before, not_after) = match name {
            "warehouse" => (400, ISSUED, LAST),
            "carrier" => (250, ISSUED, LAST),
            "lapsing" => (100, ISSUED, LAPSES),
            "early" => (60, BEGINS, LAST),
            "revoked" => (120, ISSUED, LAST),
            _ => (20, ISSUED, LAST),
        };
        let mut forms = [Vec::new(), Vec::new()];
        for (form, text) in forms.iter_mut().zip([pem, der]) {
            push_json(text.as_bytes(), form);
        }
        Self {
            weight,
            not_before,
            not_after,
            revoked_at: (name == "revoked").then_some(REVOKED),
            refused: matches!(name, "untrusted" | "server_only" | "tampered" | "broken"),
            forms,
        }
    }

    /// Design section 4: both ends of the validity are inside, revoked from the revocation date on.
    fn worth(&self, seconds: i64) -> MtlsOutcome {
        if self.refused || seconds < self.not_before || seconds > self.not_after {
            MtlsOutcome::Failed
        } else if self.revoked_at.is_some_and(|at| seconds >= at) {
            MtlsOutcome::Revoked
        } else {
            MtlsOutcome::Verified
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AUTHORITY, BEGINS, Certificates, LAPSES, LAST, REVOCATIONS, REVOKED};
    use crate::model::EventTime;

    #[test]
    fn dates_are_those_of_the_embedded_files() {
        let stamp = |text| EventTime::parse(text).unwrap().seconds();
        assert_eq!(super::ISSUED, stamp("2026-01-01T00:00:00Z"));
        assert_eq!(LAST, stamp("2031-01-01T00:00:00Z"));
        assert_eq!(LAPSES, stamp("2026-11-19T04:00:00Z"));
        assert_eq!(BEGINS, stamp("2026-11-18T20:00:00Z"));
        assert_eq!(REVOKED, stamp("2026-11-19T08:00:00Z"));

        let mut seen = Vec::new();
        for block in super::CLIENTS.split("name: ").skip(1) {
            let (name, pem) = block.split_once('\n').unwrap();
            let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
            let certificate = pem.parse_x509().unwrap();
            let validity = certificate.validity();
            let (from, to) = (
                validity.not_before.timestamp(),
                validity.not_after.timestamp(),
            );
            let expected = super::Client::new(name, "", "");
            assert_eq!(
                (from, to),
                (expected.not_before, expected.not_after),
                "{name}"
            );
            seen.push(name);
        }
        assert_eq!(seen.len(), 8);
        assert_eq!(Certificates::embedded().clients.len(), 9);

        let (_, pem) = x509_parser::pem::parse_x509_pem(REVOCATIONS.as_bytes()).unwrap();
        let (_, list) = x509_parser::parse_x509_crl(&pem.contents).unwrap();
        let dates: Vec<i64> = list
            .iter_revoked_certificates()
            .map(|entry| entry.revocation_date.timestamp())
            .collect();
        assert_eq!(dates, [REVOKED]);
        assert!(AUTHORITY.contains("BEGIN CERTIFICATE"));
    }
}
