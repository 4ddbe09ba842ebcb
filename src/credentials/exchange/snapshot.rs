//! [`Snapshot`]: what a session serves.

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::identity::Identity;

use crate::credentials::sdk::{Pinned, PinnedForm};
use crate::ids::IdentityId;

/// What a session serves, as one value: who, and with what.
pub(in crate::credentials) struct Snapshot {
    pub(in crate::credentials) identity_id: IdentityId,
    pub(in crate::credentials) credentials: Credentials,
    /// `None` for sessions that are never replaced by another, of which there may be very many.
    pinned: Option<Box<PinnedForm>>,
}

impl Snapshot {
    pub(super) fn new(identity_id: IdentityId, credentials: Credentials, pin: Option<Pinned>) -> Self {
        Self {
            pinned: pin.map(|pin| Box::new(PinnedForm::new(&credentials, pin))),
            identity_id,
            credentials,
        }
    }

    /// Whether it is for a caller who is bound to that session, if to any. What is never replaced is for whoever reaches it.
    #[inline]
    pub(in crate::credentials) fn serves(&self, bound: Option<u64>) -> bool {
        match (bound, &self.pinned) {
            (Some(epoch), Some(pinned)) => pinned.epoch() == epoch,
            _ => true,
        }
    }

    /// Whether they are these credentials.
    pub(in crate::credentials) fn is_of(&self, credentials: &Credentials) -> bool {
        self.credentials.access_key_id() == credentials.access_key_id()
    }

    /// The credentials, as a credentials provider answers them.
    #[inline]
    pub(in crate::credentials) fn hand_out(&self) -> Credentials {
        if let Some(pinned) = &self.pinned {
            pinned.announce();
        }
        self.credentials.clone()
    }

    /// The credentials, as an identity cache answers them.
    pub(in crate::credentials) fn identity(&self) -> Identity {
        match &self.pinned {
            Some(pinned) => pinned.identity(),
            None => Identity::from(self.credentials.clone()),
        }
    }
}
