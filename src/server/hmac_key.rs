//! HMAC-SHA256 with a secret of the backend's.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use crate::error::{Error, ErrorKind};

/// A key, kept as the state that it puts HMAC in. Wiped when dropped.
#[derive(Clone)]
pub(super) struct HmacKey(Hmac<Sha256>);

impl HmacKey {
    /// Of at least 32 bytes. `what` is its name in the error.
    pub(super) fn new(secret: &SecretString, what: &str) -> Result<Self, Error> {
        let bytes = secret.expose_secret().as_bytes();
        let keyed = if bytes.len() < 32 {
            None
        } else {
            Hmac::new_from_slice(bytes).ok()
        };
        keyed.map(Self).ok_or_else(|| {
            let message = format!("{what} has {} bytes: must have at least 32", bytes.len());
            Error::new(ErrorKind::Configuration, message)
                .with_hint("make one with `openssl rand -hex 32` and keep it in the backend's secret store")
        })
    }

    pub(super) fn sign(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        self.over(purpose, parts).finalize().into_bytes().into()
    }

    /// Whether `mac` is what [`sign`](Self::sign) gives, in constant time.
    pub(super) fn is_authentic(&self, purpose: &str, parts: &[&[u8]], mac: &[u8]) -> bool {
        self.over(purpose, parts).verify_slice(mac).is_ok()
    }

    /// Each part with its length before it, so that no two lists give the same bytes.
    fn over(&self, purpose: &str, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

impl fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacKey(<redacted>)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> Result<HmacKey, Error> {
        HmacKey::new(&secret.into(), "the key")
    }

    #[test]
    fn a_key_has_at_least_32_bytes() {
        assert!(key(&"k".repeat(32)).is_ok());
        let error = key(&"k".repeat(31)).unwrap_err();
        assert!(error.to_string().contains("31") && error.hint().is_some());
        assert!(!format!("{error:?} {:?}", key(&"k".repeat(32))).contains("kkk"));
    }

    #[test]
    fn parts_do_not_run_together() {
        let key = key("0123456789abcdef0123456789abcdef").unwrap();
        assert_ne!(key.sign("p", &[b"ab", b"c"]), key.sign("p", &[b"a", b"bc"]));
        assert_ne!(key.sign("p", &[b"a"]), key.sign("q", &[b"a"]));
        let mac = key.sign("p", &[b"a"]);
        assert!(key.is_authentic("p", &[b"a"], &mac));
        assert!(!key.is_authentic("p", &[b"b"], &mac) && !key.is_authentic("p", &[b"a"], &mac[..31]));
    }
}
