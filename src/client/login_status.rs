//! [`LoginStatus`]: what is known of the login without asking anybody.

use std::time::SystemTime;

use crate::ids::IdentityId;

/// Who is signed in, from what is known at this moment: see [`CognitoCredentialsProvider::current`](crate::CognitoCredentialsProvider::current).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoginStatus {
    /// The number of the session in force: see [`Session::epoch`](crate::Session::epoch).
    pub epoch: u64,
    /// Guest, user, or nobody.
    pub kind: LoginKind,
    /// The identity id, if it is in memory already.
    pub identity_id: Option<IdentityId>,
    /// When the cached credentials really end, on the local clock; a lease does not shorten it. `None`: there are none, or they
    /// have ended.
    pub expires_at: Option<SystemTime>,
    /// Nothing can succeed before the user has signed in again: the last refresh failed with an error that says so
    /// ([`Error::needs_sign_in`](crate::Error::needs_sign_in)), or nobody is signed in.
    pub needs_sign_in: bool,
}

/// Whose the login is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LoginKind {
    /// Nobody is signed in.
    SignedOut,
    /// The guest of this device.
    Guest,
    /// A user: of the app's backend, or of public providers.
    User,
}
