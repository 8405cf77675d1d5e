//! `x-forwarded-client-cert` as Envoy writes it: elements of `Key=Value` pairs, one for each proxy on the way.
//!
//! Enters: the header's value. Leaves: the certificates and facts of the last element, the only one that the gateway
//! which wrote the log vouches for: the others came with the request, and a client can write them too.

use super::pem;

/// What the last element says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded<'a> {
    /// `Cert`, as written.
    pub certificate: Option<&'a str>,
    /// `Chain`, as written.
    pub chain: Option<&'a str>,
    /// `Hash`: SHA-256 over the DER, as written.
    pub hash: Option<&'a str>,
    /// `Subject`, RFC 2253.
    pub subject: Option<&'a str>,
}

/// Keys of a pair; anything else does not make a header of this kind.
const KEYS: [&str; 7] = ["By", "Hash", "Cert", "Chain", "Subject", "URI", "DNS"];

impl<'a> Forwarded<'a> {
    /// Reads a value; `None` when it is not of this kind.
    #[must_use]
    pub fn read(text: &'a str) -> Option<Self> {
        let text = text.trim_ascii();
        let (key, _) = text.split_once('=')?;
        if !KEYS.iter().any(|known| known.eq_ignore_ascii_case(key)) {
            return None;
        }
        let last = split(text, ',').last()?;
        let mut forwarded = Self::default();
        for pair in split(last, ';') {
            let Some((key, value)) = pair.split_once('=') else {
                continue;
            };
            let value = unquoted(value.trim_ascii());
            let place = match key.trim_ascii().to_ascii_lowercase().as_str() {
                "hash" => &mut forwarded.hash,
                "subject" => &mut forwarded.subject,
                "cert" => &mut forwarded.certificate,
                "chain" => &mut forwarded.chain,
                _ => continue,
            };
            *place = Some(value).filter(|value| !value.is_empty());
        }
        Some(forwarded)
    }

    /// `Cert`, and what `Chain` has besides it; `None` when one of them cannot be read.
    #[must_use]
    pub fn certificates(&self) -> Option<Vec<Vec<u8>>> {
        let read = |text: Option<&str>| match text {
            Some(text) => pem::logged(text),
            None => Some(Vec::new()),
        };
        let mut certificates = read(self.certificate)?;
        certificates.truncate(1);
        // The chain begins with the client's certificate.
        for der in read(self.chain)? {
            if certificates.first() != Some(&der) {
                certificates.push(der);
            }
        }
        Some(certificates)
    }
}

/// The certificates of a logged text of any kind, the client's first. `None` = it cannot be read.
#[must_use]
pub fn certificates(text: &str) -> Option<Vec<Vec<u8>>> {
    let found = match Forwarded::read(text) {
        Some(forwarded) => forwarded.certificates()?,
        None => pem::logged(text)?,
    };
    (!found.is_empty()).then_some(found)
}

/// Splits at separators outside of quotes; a backslash takes the meaning from the character after it.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut escaped) = (false, false);
        let end = text.find(|c: char| {
            if escaped {
                escaped = false;
                return false;
            }
            match c {
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                _ => {}
            }
            c == separator && !quoted
        });
        let (item, after) = match end {
            Some(end) => (text.get(..end)?, text.get(end + separator.len_utf8()..)),
            None => (text, None),
        };
        rest = after;
        Some(item)
    })
}

/// Without the quotes around it. Escapes stay: a subject has those of RFC 2253.
fn unquoted(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::{Forwarded, certificates};

    /// A PEM block whose DER is `30 01` and the byte.
    fn block(byte: u8) -> String {
        use base64::Engine;
        let body = base64::engine::general_purpose::STANDARD.encode([0x30, 1, byte]);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        percent_encoding::utf8_percent_encode(&pem, percent_encoding::NON_ALPHANUMERIC).to_string()
    }

    #[test]
    fn the_last_element_counts() {
        let [a, b, c] = [block(1), block(2), block(3)];
        for (text, expected, hash, subject) in [
            ("Hash=ab", &[][..], Some("ab"), None),
            (
                r#"By=spiffe://x;Hash=ab;Subject="CN=a,O=b""#,
                &[],
                Some("ab"),
                Some("CN=a,O=b"),
            ),
            (
                r#"Hash=ab;Subject="";URI=spiffe://y"#,
                &[],
                Some("ab"),
                None,
            ),
            (
                r#"hash=ab;SUBJECT="/C=DE/CN=a""#,
                &[],
                Some("ab"),
                Some("/C=DE/CN=a"),
            ),
            (
                r#"Hash=aa;Subject="CN=a",Hash=bb;Subject="CN=b""#,
                &[],
                Some("bb"),
                Some("CN=b"),
            ),
            // Separators and quotes inside of quotes.
            (
                r#"Subject="CN=a;Hash=ff\",b",Hash=cc"#,
                &[],
                Some("cc"),
                None,
            ),
            (
                r#"Hash=cc;Subject="CN=a;Hash=ff\",b\\""#,
                &[],
                Some("cc"),
                Some(r#"CN=a;Hash=ff\",b\\"#),
            ),
            (&format!("Hash=ab;Cert=\"{a}\""), &[1], Some("ab"), None),
            (&format!("Cert={a};Chain=\"{a}{b}\""), &[1, 2], None, None),
            (&format!("Chain=\"{a}{b}{c}\""), &[1, 2, 3], None, None),
            (&format!("Cert=\"{a}\";Chain=\"{b}\""), &[1, 2], None, None),
            (
                &format!("Cert=\"{a}\",By=x;Cert=\"{b}\";DNS=y"),
                &[2],
                None,
                None,
            ),
        ] {
            let read = Forwarded::read(text).unwrap_or_else(|| panic!("{text}"));
            let bytes: Vec<_> = read
                .certificates()
                .unwrap()
                .iter()
                .map(|der| der[2])
                .collect();
            assert_eq!(bytes, expected, "{text}");
            assert_eq!((read.hash, read.subject), (hash, subject), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_certificate() {
        let own = block(1);
        for text in [
            "Cert=\"%%\"".to_owned(),
            "Hash=ab;Cert=\"-----BEGIN CERTIFICATE-----\"".to_owned(),
            format!("Cert=\"{own}\";Chain=\"x\""),
            "Hash=ab".to_owned(),
            String::new(),
            "nothing=1".to_owned(),
        ] {
            assert_eq!(certificates(&text), None, "{text}");
        }
        // Not of this kind.
        for text in [
            "",
            "MAEC",
            ":MAEC:",
            "Other=1;Hash=ab",
            "-----BEGIN CERTIFICATE-----",
        ] {
            assert_eq!(Forwarded::read(text), None, "{text}");
        }
    }
}
