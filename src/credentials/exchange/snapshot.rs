//! [`Snapshot`]: what a session serves.

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::identity::Identity;

use crate::credentials::sdk;
use crate::ids::IdentityId;

/// What a session serves, as one value: who, and with what.
pub(in crate::credentials) struct Snapshot {
    pub(in crate::credentials) identity_id: IdentityId,
    pub(in crate::credentials) credentials: Credentials,
    /// `None` for sessions that are never replaced by another, of which there may be very many.
    pinned: Option<Box<PinnedForm>>,
}

/// What is answered from a session that another may replace.
struct PinnedForm {
    /// The credentials as an identity cache answers them: with the mark that pins an operation to the session.
    identity: Identity,
    handed_out: sdk::HandedOut,
}

impl Snapshot {
    pub(super) fn new(identity_id: IdentityId, credentials: Credentials, pin: Option<sdk::Pinned>) -> Self {
        let pinned = pin.map(|pin| {
            Box::new(PinnedForm {
                identity: sdk::pinned(credentials.clone(), pin),
                handed_out: sdk::HandedOut::new(&credentials, pin),
            })
        });
        Self {
            identity_id,
            credentials,
            pinned,
        }
    }

    /// The credentials, as a credentials provider answers them.
    pub(in crate::credentials) fn hand_out(&self) -> Credentials {
        if let Some(pinned) = &self.pinned {
            pinned.handed_out.announce();
        }
        self.credentials.clone()
    }

    /// The credentials, as an identity cache answers them.
    pub(in crate::credentials) fn identity(&self) -> Identity {
        match &self.pinned {
            Some(pinned) => pinned.identity.clone(),
            None => Identity::from(self.credentials.clone()),
        }
    }
}
