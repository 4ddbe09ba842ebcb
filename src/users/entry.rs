//! A user of this process: whose credentials a session has, and how they are asked for.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::metrics::Counters;
use super::options::UserOptions;
use super::{TARGET, UsersInner};
use crate::client::Login;
use crate::client::user_sessions::{Principal, UserSessions};
use crate::developer::{DeveloperIdentity, DeveloperIdentityProvider, RefreshRequest};
use crate::error::{BackendError, Error, ErrorKind};
use crate::ids::DeveloperUserId;
use crate::server::{PrincipalTags, TokenVendor};

pub(super) struct UserEntry {
    user: DeveloperUserId,
    options: Option<Box<UserOptions>>,
    shared: Arc<EntryContext>,
}

/// What entries share. Apart from [`UsersInner`], which owns them.
pub(super) struct EntryContext {
    pub(super) sessions: UserSessions,
    pub(super) vendor: TokenVendor,
    pub(super) counters: Counters,
    pub(super) max_wait: Duration,
}

impl UserEntry {
    pub(super) fn new(user: &DeveloperUserId, options: Option<&UserOptions>, inner: &UsersInner) -> Arc<Self> {
        Arc::new(Self {
            user: user.clone(),
            options: options.map(|options| Box::new(options.clone())),
            shared: Arc::clone(&inner.shared),
        })
    }

    pub(super) fn user(&self) -> &DeveloperUserId {
        &self.user
    }

    pub(super) fn is(&self, user: &DeveloperUserId, options: Option<&UserOptions>) -> bool {
        self.user == *user && self.options.as_deref() == options
    }
}

impl Principal for UserEntry {
    fn sessions(&self) -> &UserSessions {
        &self.shared.sessions
    }

    fn login(self: &Arc<Self>) -> Login {
        let login = Login::developer(VendorBackend(Arc::clone(self)));
        match self.options.as_ref().and_then(|options| options.role_arn.clone()) {
            Some(role) => login.custom_role_arn(role),
            None => login,
        }
    }

    fn exchanged(&self, first: bool, result: Result<(), &Error>) {
        let counters = &self.shared.counters;
        let count = match (first, &result) {
            (true, Ok(())) => &counters.exchanges,
            (false, Ok(())) => &counters.refreshes,
            (_, Err(error)) if error.kind() == ErrorKind::Throttled => &counters.throttles,
            (_, Err(_)) => &counters.failures,
        };
        Counters::add(count, 1);
        match result {
            Ok(()) => tracing::debug!(target: TARGET, first, "a user's credentials were exchanged"),
            Err(error) => {
                tracing::debug!(target: TARGET, first, kind = ?error.kind(), request_id = error.request_id(), "a user's exchange failed");
            }
        }
    }
}

/// The vendor, as the backend of one user.
struct VendorBackend(Arc<UserEntry>);

#[async_trait]
impl DeveloperIdentityProvider for VendorBackend {
    async fn refresh(&self, _: &RefreshRequest) -> Result<DeveloperIdentity, BackendError> {
        let UserEntry { user, options, shared } = &*self.0;
        let none = PrincipalTags::new();
        let (tags, duration) = match options {
            Some(options) => (&options.tags, options.duration),
            None => (&none, None),
        };
        let vended = shared.vendor.vend_in_process(user, tags, duration, shared.max_wait);
        vended.await.map_err(BackendError::own)
    }
}
