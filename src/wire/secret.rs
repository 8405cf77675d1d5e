//! A secret that two sides share: only its digest is kept, and it is compared in constant time.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

/// A shared secret. Not readable, not printable.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedKey([u8; 32]);

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey")
    }
}

impl SharedKey {
    /// Of this secret.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let digest = digest(&SHA256, secret);
        Self(digest.as_ref().first_chunk().copied().unwrap_or_default())
    }

    /// Whether somebody shows the secret. Digests have one length, so the time tells nothing about it.
    #[must_use]
    pub fn matches(&self, shown: &[u8]) -> bool {
        verify_slices_are_equal(&Self::new(shown).0, &self.0).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::SharedKey;

    #[test]
    fn only_the_secret_matches() {
        let key = SharedKey::new(b"secret");
        assert!(key.matches(b"secret"));
        for shown in [b"secre".as_slice(), b"secrets", b"", b"SECRET"] {
            assert!(!key.matches(shown));
        }
        assert_eq!(format!("{key:?}"), "SharedKey");
    }
}
