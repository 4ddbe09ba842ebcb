//! The keys of [`GuestClaims`](super::GuestClaims): one signs, several count.

use secrecy::SecretString;

use super::hmac_key::HmacKey;
use crate::error::Error;

/// Says which key signed, and nothing about it.
pub(super) const KEY_ID: usize = 4;

#[derive(Debug, Clone)]
pub(super) struct ClaimKeys {
    signing: ClaimKey,
    accepted: Vec<ClaimKey>,
}

#[derive(Debug, Clone)]
struct ClaimKey {
    id: [u8; KEY_ID],
    key: HmacKey,
}

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotSigned {
    /// There is no key of this id here. Another instance may have it.
    UnknownKey,
    Forged,
}

impl ClaimKey {
    fn new(key: &SecretString) -> Result<Self, Error> {
        let key = HmacKey::new(key, "the key of GuestClaims")?;
        let [a, b, c, d, ..] = key.sign("guest claim key id", &[]);
        Ok(Self { id: [a, b, c, d], key })
    }
}

impl ClaimKeys {
    pub(super) fn new(signing: &SecretString) -> Result<Self, Error> {
        Ok(Self {
            signing: ClaimKey::new(signing)?,
            accepted: Vec::new(),
        })
    }

    pub(super) fn accept(&mut self, key: &SecretString) -> Result<(), Error> {
        self.accepted.push(ClaimKey::new(key)?);
        Ok(())
    }

    pub(super) fn signing_id(&self) -> [u8; KEY_ID] {
        self.signing.id
    }

    pub(super) fn sign(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        self.signing.key.sign(purpose, parts)
    }

    pub(super) fn check(&self, id: &[u8], purpose: &str, parts: &[&[u8]], mac: &[u8]) -> Result<(), NotSigned> {
        let all = std::iter::once(&self.signing).chain(&self.accepted);
        let mut named = all.filter(|key| key.id == id).peekable();
        if named.peek().is_none() {
            Err(NotSigned::UnknownKey)
        } else if named.any(|key| key.key.is_authentic(purpose, parts, mac)) {
            Ok(())
        } else {
            Err(NotSigned::Forged)
        }
    }
}
