//! Client certificates: PEM, base64 and escaped forms, chains, and authorities made of the same bytes.

use std::sync::LazyLock;

use gatewatch::enrich::Judge;
use gatewatch::policy::objects::{MtlsObject, ZoneObject};

use super::judging::{self, AUTHORITY, HOST, file};

static JUDGE: LazyLock<Judge> =
    LazyLock::new(|| judging::judge(judging::zone()).expect("the zone compiles"));

/// One text that a gateway logged, or one file that an operator named.
pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    judging::judged(&JUDGE, &judging::presenting(&text));
    // Bytes that are no text reach the reader of DER as a PEM block would bring them.
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        base64(input)
    );
    judging::judged(&JUDGE, &judging::presenting(&pem));
    let authority = judging::judge(ZoneObject {
        mtls: vec![MtlsObject {
            hosts: vec![HOST.to_owned()],
            ca: vec![file("ca.pem", AUTHORITY), file("more", input)],
            intermediates: vec![file("intermediate", input)],
            ..MtlsObject::default()
        }],
        schemas: Vec::new(),
        ..judging::zone()
    });
    if let Some(judge) = authority {
        judging::judged(&judge, &judging::presenting(&text));
        judging::judged(&judge, &judging::presenting(&pem));
    }
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut word = [0; 3];
        word[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, word[0], word[1], word[2]]);
        for place in 0..4 {
            if place <= chunk.len() {
                let index = bits >> (18 - 6 * place) & 63;
                out.push(char::from(ALPHABET[index as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}
