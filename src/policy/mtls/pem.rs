//! Certificates and CRLs out of text: PEM blocks, base64 of the DER, or the DER itself.
//!
//! Enters: a configuration file or what a gateway logged. Leaves: DER. Line breaks need not survive: gateways log PEM
//! with blanks, tabs, `\n` in two characters or percent escapes in their place, and none of that can change what the
//! base64 says.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Padding may be missing: RFC 9440 senders and log writers drop it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Tag of an ASN.1 SEQUENCE: what every certificate and CRL in DER begins with.
const SEQUENCE: u8 = 0x30;

/// What a block holds, by its label (RFC 7468 sections 5 and 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// `CERTIFICATE`.
    Certificate,
    /// `X509 CRL`.
    Crl,
}

impl Label {
    fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "CERTIFICATE",
            Self::Crl => "X509 CRL",
        }
    }
}

/// Every block with this label, or the whole file when it is DER.
///
/// # Errors
/// What is wrong with the file.
pub fn blocks(file: &[u8], label: Label) -> Result<Vec<Vec<u8>>, String> {
    if file.first() == Some(&SEQUENCE) {
        return Ok(vec![file.to_vec()]);
    }
    let text = std::str::from_utf8(file).map_err(|_| "neither PEM nor DER".to_owned())?;
    let blocks = sections(text, label)
        .enumerate()
        .map(|(number, body)| {
            body.and_then(decode)
                .ok_or_else(|| format!("block {} is not base64", number + 1))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if blocks.is_empty() {
        return Err(format!("no {} block", label.as_str()));
    }
    Ok(blocks)
}

/// The certificate that a gateway logged and those that it logged after it: PEM, base64 of the DER, or either as RFC
/// 9440 (`:…:`), nginx (`$ssl_client_escaped_cert`) or Envoy (`x-forwarded-client-cert` with `Cert` or `Chain`) write
/// it. `None` when it is none of these.
#[must_use]
pub fn logged(text: &str) -> Option<Vec<Vec<u8>>> {
    let text = if text.contains('%') {
        percent_encoding::percent_decode_str(text)
            .decode_utf8()
            .ok()?
    } else {
        Cow::Borrowed(text)
    };
    if text.contains("-----BEGIN") {
        let blocks: Option<Vec<_>> = sections(&text, Label::Certificate)
            .map(|body| body.and_then(decode))
            .collect();
        return blocks.filter(|blocks| !blocks.is_empty());
    }
    text.split(',')
        .map(|item| {
            let item = item.trim_ascii();
            // A byte sequence may have parameters, which mean nothing here (RFC 9440 section 2.2).
            let inner = item
                .strip_prefix(':')
                .and_then(|item| item.split_once(':'))
                .filter(|(_, rest)| rest.is_empty() || rest.starts_with(';'));
            decode(inner.map_or(item, |(inner, _)| inner))
        })
        .collect()
}

/// The text between the markers of each block; `None` for a block without its end.
fn sections(text: &str, label: Label) -> impl Iterator<Item = Option<&str>> {
    let begin = format!("-----BEGIN {}-----", label.as_str());
    let end = format!("-----END {}-----", label.as_str());
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&begin)?;
        if let Some((body, after)) = after.split_once(&end) {
            rest = after;
            Some(Some(body))
        } else {
            rest = "";
            Some(None)
        }
    })
}

/// Base64 with anything in place of line breaks; empty text is nothing.
fn decode(body: &str) -> Option<Vec<u8>> {
    let mut packed = String::with_capacity(body.len());
    for piece in body.split("\\n") {
        packed.extend(piece.chars().filter(|c| !c.is_ascii_whitespace()));
    }
    if packed.is_empty() {
        return None;
    }
    BASE64.decode(packed).ok()
}

#[cfg(test)]
mod tests {
    use super::{Label, blocks, logged};

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nMAEC\nAwQ=\n-----END CERTIFICATE-----\n";
    const DER: &[u8] = &[0x30, 1, 2, 3, 4];

    #[test]
    fn reads_files() {
        let two = format!("comment\n{ONE}-----BEGIN X-----\n?\n-----END X-----\n{ONE}");
        for (file, label, expected) in [
            (ONE.as_bytes(), Label::Certificate, Ok(1)),
            (two.as_bytes(), Label::Certificate, Ok(2)),
            (DER, Label::Certificate, Ok(1)),
            (ONE.as_bytes(), Label::Crl, Err("no X509 CRL block")),
            (b"", Label::Certificate, Err("no CERTIFICATE block")),
            (b"\xff\xfe", Label::Certificate, Err("neither PEM nor DER")),
            (
                b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----",
                Label::Certificate,
                Err("block 1 is not base64"),
            ),
            (
                b"-----BEGIN CERTIFICATE-----\nMAEC",
                Label::Certificate,
                Err("block 1 is not base64"),
            ),
        ] {
            let got = blocks(file, label);
            assert_eq!(
                got.as_ref().map(Vec::len).map_err(String::as_str),
                expected,
                "{file:?}"
            );
            for block in got.unwrap_or_default() {
                assert_eq!(block, DER);
            }
        }
    }

    #[test]
    fn reads_what_gateways_log() {
        let blanks = ONE.replace('\n', " ");
        let tabs = ONE.replace('\n', "\n\t");
        let literal = ONE.replace('\n', "\\n");
        let escaped = ONE
            .replace('\n', "%0A")
            .replace('=', "%3D")
            .replace(' ', "%20");
        let chain = format!("{ONE}{ONE}");
        let envoy = format!("Hash=00ff;Cert=\"{escaped}\";Subject=\"CN=a\"");
        for (text, expected) in [
            (ONE, Some(1)),
            (blanks.as_str(), Some(1)),
            (tabs.as_str(), Some(1)),
            (literal.as_str(), Some(1)),
            (escaped.as_str(), Some(1)),
            (chain.as_str(), Some(2)),
            (envoy.as_str(), Some(1)),
            ("MAECAwQ=", Some(1)),
            ("MAECAwQ", Some(1)),
            (":MAECAwQ=:", Some(1)),
            (":MAECAwQ=:, :MAECAwQ=:", Some(2)),
            (":MAECAwQ=:;a=1, :MAECAwQ=:", Some(2)),
            (":MAECAwQ=:x", None),
            (":MAECAwQ=", None),
            ("MAEC\r\nAwQ=", Some(1)),
            ("", None),
            ("-", None),
            ("::", None),
            ("%ff", None),
            ("not base64!", None),
            ("-----BEGIN CERTIFICATE-----", None),
            (
                "-----BEGIN PRIVATE KEY-----\nMAEC\n-----END PRIVATE KEY-----",
                None,
            ),
        ] {
            let got = logged(text);
            assert_eq!(got.as_ref().map(Vec::len), expected, "{text}");
            assert!(got.unwrap_or_default().iter().all(|der| der == DER));
        }
    }
}
