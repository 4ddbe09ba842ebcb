//! [`Snapshot`]: what a session serves.

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::identity::Identity;

use crate::client::pin::{Pin, PinnedIdentity};
use crate::ids::IdentityId;

/// What a session serves, as one value: who, and with what.
pub(in crate::client) struct Snapshot {
    pub(in crate::client) identity_id: IdentityId,
    pub(in crate::client) credentials: Credentials,
    /// `None` for sessions that are never replaced by another, of which there may be very many.
    pinned: Option<Box<PinnedIdentity>>,
}

impl Snapshot {
    pub(super) fn new(identity_id: IdentityId, credentials: Credentials, pin: Option<Pin>) -> Self {
        Self {
            pinned: pin.map(|pin| Box::new(PinnedIdentity::new(&credentials, pin))),
            identity_id,
            credentials,
        }
    }

    /// Whether it is for a caller who is bound to that session, if to any. What is never replaced is for whoever reaches it.
    #[inline]
    pub(in crate::client) fn serves(&self, bound: Option<u64>) -> bool {
        match (bound, &self.pinned) {
            (Some(epoch), Some(pinned)) => pinned.epoch() == epoch,
            _ => true,
        }
    }

    /// Whether they are the credentials with this access key.
    pub(in crate::client) fn has_key(&self, access_key_id: &str) -> bool {
        self.credentials.access_key_id() == access_key_id
    }

    /// The credentials, as a credentials provider answers them.
    #[inline]
    pub(in crate::client) fn hand_out(&self) -> Credentials {
        if let Some(pinned) = &self.pinned {
            pinned.announce();
        }
        self.credentials.clone()
    }

    /// The credentials, as an identity cache answers them.
    pub(in crate::client) fn identity(&self) -> Identity {
        match &self.pinned {
            Some(pinned) => pinned.identity(),
            None => Identity::from(self.credentials.clone()),
        }
    }
}
