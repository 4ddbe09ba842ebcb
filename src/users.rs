//! [`UserCredentials`]: many users in one process, a vendor and a provider joined without HTTP.

mod builder;
mod entry;
mod metrics;
mod options;
#[cfg_attr(
    not(feature = "rt-tokio"),
    allow(dead_code, reason = "for the refresher, which is a task")
)]
mod refresher;
#[cfg_attr(
    not(feature = "rt-tokio"),
    allow(dead_code, reason = "for the refresher, which is a task")
)]
mod table;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::client::{Flow, Session};
use crate::error::Error;
use crate::ids::DeveloperUserId;
use crate::server::TokenVendor;
use crate::server::dependents::Dependent;
use entry::{EntryContext, UserEntry, closed_error};
use refresher::Refresher;
use table::{Lookup, Table};

pub use self::metrics::UserMetrics;
pub use builder::UserCredentialsBuilder;
pub use options::UserOptions;

/// AWS credentials of many users in one process: a backend that acts for users who are not there (agents, schedulers, workers
/// of a SaaS), each with the user's own identity and nobody else's rights. Cheap to clone; clones share everything.
///
/// Tokens are minted by the [`TokenVendor`] and exchanged here, so there is no hook and no HTTP between the two. All users share
/// the vendor's limit of requests per second, one client for each service, and one task that refreshes ahead of time, spread
/// evenly, whoever was in use lately. Of each user the credentials are kept and not the token: some 600 bytes beside the
/// credentials themselves.
///
/// Whoever may choose the user id can act as any user: take it from the app's own authentication or from its own records.
///
/// ```no_run
/// # use cognito_identity_pool::{DeveloperUserId, TokenVendor, UserCredentials};
/// # async fn example(vendor: TokenVendor, base: aws_config::SdkConfig) -> anyhow::Result<()> {
/// let users = UserCredentials::builder(vendor).build()?;
/// // In each job:
/// let session = users.for_user(&DeveloperUserId::new("user-42")?);
/// let sts = aws_sdk_sts::Client::new(&session.sdk_config(&base)); // only ever user-42
/// # Ok(()) }
/// ```
///
/// A client made with [`Session::sdk_config`] is never signed from the SDK's own cache, which holds 64 providers' credentials and
/// drops any one of them.
#[derive(Clone)]
pub struct UserCredentials {
    inner: Arc<UsersInner>,
}

struct UsersInner {
    flow: Flow,
    table: Table,
    refresher: Refresher,
    shared: Arc<EntryContext>,
    time_to_idle: Duration,
    recent_use: Duration,
}

impl UserCredentials {
    /// Starts with the users of `vendor`'s pool, and its way to AWS.
    pub fn builder(vendor: TokenVendor) -> UserCredentialsBuilder {
        UserCredentialsBuilder::new(vendor)
    }

    /// The session of `user`. Nothing is asked of the network here: the first operation, or [`Session::ready`], waits for that.
    ///
    /// Whoever asks for the same user shares the session, and its one exchange. It stays good for as long as it is held, even if
    /// the user is evicted meanwhile.
    pub fn for_user(&self, user: &DeveloperUserId) -> Session {
        self.find(user, None)
    }

    /// As [`for_user`](Self::for_user), with tags, token duration or a role. Sessions with other options are other sessions, with
    /// credentials of their own.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration): a role with [`Flow::Enhanced`], which does not let developer users choose, or what is no
    /// role's ARN.
    pub fn for_user_with(&self, user: &DeveloperUserId, options: &UserOptions) -> Result<Session, Error> {
        if let Some(role) = &options.role_arn {
            self.inner.flow.check_role(role)?;
        }
        Ok(self.find(user, Some(options).filter(|options| !options.is_default())))
    }

    fn find(&self, user: &DeveloperUserId, options: Option<&UserOptions>) -> Session {
        let inner = &self.inner;
        let sessions = &inner.shared.sessions;
        let now = sessions.clock().wall_millis();
        let make = || {
            let entry = UserEntry::new(user, options, inner);
            let credentials = sessions.credentials(&entry);
            (entry, credentials)
        };
        let admit = || {
            if inner.shared.closing.is_closed() {
                return Err(closed_error());
            }
            inner.shared.vendor.check(user)
        };
        match inner
            .table
            .find(user, options, now, admit, make, |c| sessions.session(c))
        {
            Lookup::Refused(error) => sessions.closed(error),
            Lookup::Kept(session) => session,
            Lookup::Made(session) => {
                inner.table.make_room();
                inner.refresher.keep_going(inner);
                session
            }
        }
    }

    /// Forgets what is kept of `user`, whatever the options, here and at the vendor: the next session makes new credentials, e.g. with
    /// rights that have changed. Sessions that are held go on as they are. What was vended is not revoked: no API does that.
    pub fn evict(&self, user: &DeveloperUserId) {
        self.inner.shared.vendor.evict(user);
    }

    /// Refuses `user` from now on, with [`ErrorKind::Denied`](crate::ErrorKind::Denied). The same as [`TokenVendor::deny`] of the vendor, which
    /// reaches this, too: at once for everybody who holds a session of the user or waits for one, evicted ones included; in other
    /// instances as soon as they hear of it.
    ///
    /// What was signed, or handed out as [`Credentials`](aws_credential_types::Credentials), before stays good until it expires;
    /// the one way to end that is a policy on the role that denies by `aws:TokenIssueTime`.
    ///
    /// # Errors
    ///
    /// As [`TokenVendor::deny`].
    ///
    /// # Cancel safety
    ///
    /// As [`TokenVendor::deny`].
    pub async fn deny(&self, user: &DeveloperUserId) -> Result<(), Error> {
        self.inner.shared.vendor.deny(user).await
    }

    /// Takes [`deny`](Self::deny) back. Sessions that were refused stay refused: ask for new ones.
    ///
    /// # Errors
    ///
    /// As [`TokenVendor::allow`].
    ///
    /// # Cancel safety
    ///
    /// As [`TokenVendor::allow`].
    pub async fn allow(&self, user: &DeveloperUserId) -> Result<(), Error> {
        self.inner.shared.vendor.allow(user).await
    }

    /// Ends it: no new session and no new exchange begins, nothing is refreshed any more, exchanges that wait for their turn are given
    /// up, and those that have been sent are waited for. When this returns, all sessions answer
    /// [`ErrorKind::SessionEnded`](crate::ErrorKind::SessionEnded).
    ///
    /// # Cancel safety
    ///
    /// Safe: if it is dropped, all sessions end at once, without waiting.
    pub async fn close(&self) {
        let shared = &self.inner.shared;
        shared.closing.close();
        let (sessions, credentials) = self.inner.table.end_all();
        // A session that is closed gives up its exchange, and a request that has been sent would arrive all the same.
        let closed = CloseOnDrop(sessions);
        shared.closing.drained().await;
        drop((closed, credentials));
    }

    /// What has happened so far, and how many users are kept.
    pub fn metrics(&self) -> UserMetrics {
        self.inner.metrics()
    }

    /// The vendor that mints the tokens.
    pub fn vendor(&self) -> &TokenVendor {
        &self.inner.shared.vendor
    }
}

impl UsersInner {
    fn metrics(&self) -> UserMetrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.shared.counters;
        let (hits, misses, evictions) = self.table.counts();
        UserMetrics {
            users: self.table.len(),
            hits,
            misses,
            exchanges: read(&counters.exchanges),
            refreshes: read(&counters.refreshes),
            throttles: read(&counters.throttles),
            failures: read(&counters.failures),
            evictions,
        }
    }
}

/// Sessions that are closed in any case, also when whoever closes them hangs up.
struct CloseOnDrop(Vec<Session>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        for session in self.0.drain(..) {
            session.close(closed_error());
        }
    }
}

/// Denying, forgetting and evicting at the vendor reach the sessions here.
impl Dependent for UsersInner {
    fn evict(&self, user: &DeveloperUserId) {
        self.table.evict(user);
    }

    fn end(&self, user: &DeveloperUserId, error: &Error) {
        for session in self.table.end(user) {
            session.close(error.clone());
        }
    }

    fn end_where(&self, ended: &(dyn Fn(&DeveloperUserId) -> Option<Error> + Sync)) {
        for (user, error) in self.table.users_where(ended) {
            self.end(&user, &error);
        }
    }
}

/// The target of this room's events.
const TARGET: &str = "cognito_identity_pool::users";

impl fmt::Debug for UserCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserCredentials")
            .field("vendor", &self.inner.shared.vendor)
            .field("flow", &self.inner.flow)
            .field("metrics", &self.metrics())
            .finish_non_exhaustive()
    }
}
