//! Keyed hashes of what must never leave the enricher: session values and tokens.
//!
//! Enters: a secret value with its zone and kind. Leaves: 128 bits. Who holds the key can compute the same hash for a
//! value that it sees (the inline check, a bouncer, `HAProxy`'s `hmac` converter); who does not can neither reverse
//! nor recognise one.

use aws_lc_rs::hmac;

/// Hashes under one key. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hasher {
    key: hmac::Key,
    identity: [u8; 16],
}

impl Hasher {
    /// A hasher under `privacy.hash_key`.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let identity = truncate(&hmac::sign(&key, b"gatewatch hash key"));
        Self { key, identity }
    }

    /// HMAC-SHA-256, cut to its first 128 bits, over `<length>:<zone>,<length>:<kind>,<value>` with decimal lengths in
    /// bytes. The lengths keep zones and kinds apart whatever they hold, and the part in front of the value is a
    /// constant that any `hmac` function can be given.
    #[must_use]
    pub fn hash(&self, zone: &str, kind: &str, value: &[u8]) -> [u8; 16] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [zone, kind] {
            let mut digits = [0; 20];
            context.update(decimal(part.len(), &mut digits));
            context.update(b":");
            context.update(part.as_bytes());
            context.update(b",");
        }
        context.update(value);
        truncate(&context.sign())
    }

    /// Tells two keys apart without showing them: caches that hold hashes are filed under it.
    #[must_use]
    pub fn identity(&self) -> [u8; 16] {
        self.identity
    }
}

fn truncate(tag: &hmac::Tag) -> [u8; 16] {
    tag.as_ref().first_chunk().copied().unwrap_or_default()
}

/// Writes a number in decimal without allocating.
fn decimal(mut number: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        // The remainder is below 10.
        #[expect(clippy::cast_possible_truncation, reason = "below 10")]
        let low = (number % 10) as u8;
        *digit = b'0' + low;
        used += 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    digits.get(digits.len() - used..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Hasher, hmac};

    #[test]
    fn is_an_hmac_over_a_constant_and_the_value() {
        let zone = "0123456789ab";
        let hash = Hasher::new(b"key").hash(zone, "header:sid", b"value");
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        let tag = hmac::sign(&key, b"12:0123456789ab,10:header:sid,value");
        assert_eq!(hash, tag.as_ref()[..16]);
    }

    #[test]
    fn separates_zone_kind_value_and_key() {
        let one = Hasher::new(b"one");
        let mut seen = std::collections::HashSet::new();
        for (hasher, zone, kind, value) in [
            (&one, "a", "b", "c"),
            (&one, "ab", "", "c"),
            (&one, "", "ab", "c"),
            (&one, "a", "bc", ""),
            (&one, "a", "", "bc"),
            (&one, "a,1:b", "b", "c"),
            (&one, "a", "b,c", ""),
            (&Hasher::new(b"two"), "a", "b", "c"),
        ] {
            assert!(seen.insert(hasher.hash(zone, kind, value.as_bytes())));
        }
        assert_eq!(
            one.hash("a", "b", b"c"),
            Hasher::new(b"one").hash("a", "b", b"c")
        );
        assert_ne!(one.identity(), Hasher::new(b"two").identity());
    }
}
