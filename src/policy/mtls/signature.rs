//! Whether one key signed one DER object.
//!
//! Enters: a certificate or CRL and a public key, both in DER. Leaves: yes or no. The algorithms are webpki's: RSA with
//! SHA-2, ECDSA, Ed25519; SHA-1 is not among them.

use super::der;

/// Whether the key verifies the object's signature.
#[must_use]
pub fn is_signed_by(signed: &[u8], public_key: &[u8]) -> bool {
    let (Some(parts), Some(public)) = (der::signed(signed), der::public_key(public_key)) else {
        return false;
    };
    webpki::ALL_VERIFICATION_ALGS
        .iter()
        .filter(|known| {
            known.signature_alg_id().as_ref() == parts.algorithm
                && known.public_key_alg_id().as_ref() == public.algorithm
        })
        .any(|known| {
            known
                .verify_signature(public.key, parts.message, parts.signature)
                .is_ok()
        })
}
