//! The outermost layer of signed DER objects, byte for byte.
//!
//! Enters: a CRL or a public key in DER. Leaves: the slices that a signature check needs exactly as they were signed.
//! Everything else is parsed by `x509-parser`.

/// One element: its content, itself with tag and length, and what follows.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
    rest: &'a [u8],
}

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// What was signed, how, and the signature.
pub(super) struct Signed<'a> {
    pub(super) message: &'a [u8],
    /// Content of the `AlgorithmIdentifier`.
    pub(super) algorithm: &'a [u8],
    pub(super) signature: &'a [u8],
}

/// A `SubjectPublicKeyInfo` taken apart.
pub(super) struct PublicKey<'a> {
    /// Content of the `AlgorithmIdentifier`.
    pub(super) algorithm: &'a [u8],
    pub(super) key: &'a [u8],
}

/// Takes `SEQUENCE { message, AlgorithmIdentifier, BIT STRING }` apart.
pub(super) fn signed(der: &[u8]) -> Option<Signed<'_>> {
    let outer = only(der, SEQUENCE)?;
    let message = element(outer)?;
    let algorithm = expect(message.rest, SEQUENCE)?;
    Some(Signed {
        message: message.whole,
        algorithm: algorithm.content,
        signature: bits(only(algorithm.rest, BIT_STRING)?)?,
    })
}

/// Takes `SEQUENCE { AlgorithmIdentifier, BIT STRING }` apart.
pub(super) fn public_key(der: &[u8]) -> Option<PublicKey<'_>> {
    let algorithm = expect(only(der, SEQUENCE)?, SEQUENCE)?;
    Some(PublicKey {
        algorithm: algorithm.content,
        key: bits(only(algorithm.rest, BIT_STRING)?)?,
    })
}

fn only(der: &[u8], tag: u8) -> Option<&[u8]> {
    let element = expect(der, tag)?;
    element.rest.is_empty().then_some(element.content)
}

fn expect(der: &[u8], tag: u8) -> Option<Element<'_>> {
    element(der).filter(|element| element.tag == tag)
}

/// Reads one element with a single-byte tag and a definite length (X.690 section 8.1.3).
fn element(der: &[u8]) -> Option<Element<'_>> {
    let (&[tag, first], body) = der.split_first_chunk::<2>()?;
    let (length, body) = if first < 0x80 {
        (usize::from(first), body)
    } else {
        let (digits, body) = body.split_at_checked(usize::from(first & 0x7f))?;
        if digits.is_empty() || digits.len() > 4 {
            return None;
        }
        let length = digits
            .iter()
            .fold(0, |length, digit| length << 8 | usize::from(*digit));
        (length, body)
    };
    let (content, rest) = body.split_at_checked(length)?;
    Some(Element {
        tag,
        content,
        whole: der.get(..der.len() - rest.len())?,
        rest,
    })
}

/// The octets of a bit string without unused bits.
fn bits(content: &[u8]) -> Option<&[u8]> {
    content.strip_prefix(&[0])
}
