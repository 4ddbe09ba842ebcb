//! [`Snapshot`]: what a session serves.

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::identity::Identity;

use crate::client::pin::{OperationPin, PinnedIdentity};
use crate::client::resolution::SessionId;
use crate::ids::IdentityId;

/// What a session serves, as one value: who, and with what.
pub(in crate::client) struct Snapshot {
    pub(in crate::client) identity_id: IdentityId,
    pub(in crate::client) credentials: Credentials,
    /// `None` for sessions that are never replaced by another, of which there may be very many.
    pinned: Option<Box<Pinned>>,
}

struct Pinned {
    session: SessionId,
    pin: OperationPin,
    identity: PinnedIdentity,
}

impl Snapshot {
    pub(super) fn new(identity_id: IdentityId, credentials: Credentials, session: Option<SessionId>) -> Self {
        let pinned = session.map(|session| {
            let pin = OperationPin::to(session, &credentials);
            let identity = PinnedIdentity::new(&credentials, &pin);
            Box::new(Pinned { session, pin, identity })
        });
        Self {
            pinned,
            identity_id,
            credentials,
        }
    }

    /// Whether it is for a caller who is bound to that session, if to any. What is never replaced is for whoever reaches it.
    #[inline]
    pub(in crate::client) fn serves(&self, bound: Option<u64>) -> bool {
        match (bound, &self.pinned) {
            (Some(epoch), Some(pinned)) => pinned.session.epoch == epoch,
            _ => true,
        }
    }

    /// Whether they are the credentials with this access key.
    pub(in crate::client) fn has_key(&self, access_key_id: &str) -> bool {
        self.credentials.access_key_id() == access_key_id
    }

    /// What an operation that is signed with the credentials is pinned to.
    pub(in crate::client) fn pin(&self) -> Option<&OperationPin> {
        self.pinned.as_ref().map(|pinned| &pinned.pin)
    }

    /// The credentials, as an identity cache answers them.
    pub(in crate::client) fn identity(&self) -> Identity {
        match &self.pinned {
            Some(pinned) => pinned.identity.get(),
            None => Identity::from(self.credentials.clone()),
        }
    }
}
