//! A user of this process: whose credentials a session has, and how they are asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::metrics::Counters;
use super::options::UserOptions;
use super::{TARGET, UsersInner};
use crate::client::Login;
use crate::client::user_sessions::{Principal, UserSessions};
use crate::developer::{DeveloperIdentity, DeveloperIdentityProvider, RefreshRequest};
use crate::error::{BackendError, Error, ErrorKind};
use crate::ids::DeveloperUserId;
use crate::metrics;
use crate::server::in_process::InProcessVend;
use crate::server::{PrincipalTags, TokenVendor};

pub(super) struct UserEntry {
    user: DeveloperUserId,
    options: Option<Box<UserOptions>>,
    /// The user was denied or forgotten since: nothing that is out lands any more.
    ended: AtomicBool,
    shared: Arc<EntryContext>,
}

/// What entries share. Apart from [`UsersInner`], which owns them.
pub(super) struct EntryContext {
    pub(super) sessions: UserSessions,
    pub(super) vendor: TokenVendor,
    pub(super) counters: Counters,
    pub(super) max_wait: Duration,
    pub(super) closing: Closing,
}

/// Exchanges that are out, and whether they are to end.
#[derive(Debug, Default)]
pub(super) struct Closing {
    closed: AtomicBool,
    out: AtomicUsize,
    changed: Notify,
}

impl Closing {
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Waits until `done` of what has been said here.
    async fn until(&self, done: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if done(self) {
                return;
            }
            changed.await;
        }
    }

    /// Waits until no exchange is out.
    pub(super) async fn drained(&self) {
        self.until(|closing| closing.out.load(Ordering::SeqCst) == 0).await;
    }
}

impl UserEntry {
    pub(super) fn new(user: &DeveloperUserId, options: Option<&UserOptions>, inner: &UsersInner) -> Arc<Self> {
        Arc::new(Self {
            user: user.clone(),
            options: options.map(|options| Box::new(options.clone())),
            ended: AtomicBool::new(false),
            shared: Arc::clone(&inner.shared),
        })
    }

    pub(super) fn user(&self) -> &DeveloperUserId {
        &self.user
    }

    pub(super) fn options(&self) -> Option<&UserOptions> {
        self.options.as_deref()
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    pub(super) fn is(&self, user: &DeveloperUserId, options: Option<&UserOptions>) -> bool {
        self.user == *user && self.options() == options
    }
}

impl Principal for UserEntry {
    fn sessions(&self) -> &UserSessions {
        &self.shared.sessions
    }

    fn login(self: &Arc<Self>) -> Login {
        let login = Login::developer(VendorBackend::new(self));
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
        metrics::exchange(metrics::By::Users, first, metrics::outcome(&result));
        match result {
            Ok(()) => tracing::debug!(target: TARGET, first, "a user's credentials were exchanged"),
            Err(error) => {
                tracing::debug!(target: TARGET, first, kind = ?error.kind(), request_id = error.request_id(), "a user's exchange failed");
            }
        }
    }
}

/// The vendor, as the backend of one user, for one exchange.
struct VendorBackend(Arc<UserEntry>);

impl VendorBackend {
    fn new(entry: &Arc<UserEntry>) -> Self {
        entry.shared.closing.out.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(entry))
    }
}

impl Drop for VendorBackend {
    fn drop(&mut self) {
        let closing = &self.0.shared.closing;
        closing.out.fetch_sub(1, Ordering::SeqCst);
        closing.changed.notify_waiters();
    }
}

#[async_trait]
impl DeveloperIdentityProvider for VendorBackend {
    async fn refresh(&self, _: &RefreshRequest) -> Result<DeveloperIdentity, BackendError> {
        let entry = &*self.0;
        let shared = &entry.shared;
        let none = PrincipalTags::new();
        let (tags, duration) = match &entry.options {
            Some(options) => (&options.tags, options.duration),
            None => (&none, None),
        };
        let vend = InProcessVend {
            user: &entry.user,
            tags,
            duration,
            patience: shared.max_wait,
            ended: &entry.ended,
        };
        // What waits for its turn when everything is closed need not have it.
        let closed = async {
            shared.closing.until(Closing::is_closed).await;
            closed_error()
        };
        let vended = shared.vendor.vend_in_process(vend, closed);
        vended.await.map_err(BackendError::own)
    }
}

/// The error of whoever asks after [`UserCredentials::close`](crate::UserCredentials::close).
pub(super) fn closed_error() -> Error {
    Error::new(ErrorKind::SessionEnded, "the credentials of all users were closed")
}
