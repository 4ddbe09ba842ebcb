//! [`UserCredentialsBuilder`].

use std::sync::Arc;
use std::time::Duration;

use super::entry::{Closing, EntryContext};
use super::metrics::Counters;
use super::refresher::Refresher;
use super::table::Table;
use super::{UserCredentials, UsersInner};
use crate::client::lease::DEFAULT_LEASE;
use crate::client::user_sessions::UserSessions;
use crate::client::{CognitoCredentialsProvider, Flow};
use crate::error::{Error, ErrorKind};
use crate::refresh::RefreshPolicy;
use crate::server::TokenVendor;

/// How long before the end callers start a refresh by themselves. The refresher has been there before, as a rule.
pub(super) const ADVISORY: Duration = Duration::from_secs(300);

/// Builds a [`UserCredentials`].
///
/// ```
/// # use std::time::Duration;
/// # use cognito_identity_pool::{Error, TokenVendor, UserCredentials};
/// # fn example(vendor: TokenVendor) -> Result<(), Error> {
/// let users = UserCredentials::builder(vendor)
///     .capacity(20_000)
///     .time_to_idle(Duration::from_secs(30 * 60))
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct UserCredentialsBuilder {
    vendor: TokenVendor,
    flow: Flow,
    capacity: usize,
    time_to_idle: Duration,
    recent_use: Duration,
    max_wait: Duration,
    exchange_timeout: Duration,
    lease: Option<Duration>,
}

impl UserCredentialsBuilder {
    pub(super) fn new(vendor: TokenVendor) -> Self {
        Self {
            vendor,
            flow: Flow::Enhanced,
            capacity: 100_000,
            time_to_idle: Duration::from_secs(3_600),
            recent_use: Duration::from_secs(15 * 60),
            max_wait: Duration::from_secs(300),
            exchange_timeout: Duration::from_secs(15),
            lease: Some(DEFAULT_LEASE),
        }
    }

    /// By which calls credentials are had. The enhanced flow by default.
    pub fn flow(mut self, flow: Flow) -> Self {
        self.flow = flow;
        self
    }

    /// How many sessions are kept at most, by default 100 000 (2 kB each). The least recently used are dropped for others, a
    /// sixteenth at once.
    pub fn capacity(mut self, sessions: usize) -> Self {
        self.capacity = sessions;
        self
    }

    /// After how long without use a session is dropped, by default one hour, give or take the 10 seconds of the refresher.
    pub fn time_to_idle(mut self, idle: Duration) -> Self {
        self.time_to_idle = idle;
        self
    }

    /// Whoever was in use as lately as this is refreshed ahead of time, by default 15 minutes. Others are refreshed when they
    /// are used again.
    pub fn recent_use(mut self, recent: Duration) -> Self {
        self.recent_use = recent;
        self
    }

    /// How long an exchange waits for its turn under the vendor's limit of requests per second before it fails with
    /// [`ErrorKind::Throttled`], by default 5 minutes: 15 000 new users at 50 per second. This is in place of the vendor's own
    /// [`max_wait`](crate::server::TokenVendorBuilder::max_wait), which is meant for callers that cannot wait.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// How long vending and exchange may take once it is their turn, by default 15 s.
    pub fn exchange_timeout(mut self, timeout: Duration) -> Self {
        self.exchange_timeout = timeout;
        self
    }

    /// How far ahead the expiry is at most that credentials say of themselves when a session hands them out, so that whoever keeps them
    /// until then soon hears that the user is denied. 60 seconds by default; `None` lets them say when they really end. What it costs,
    /// see [`CognitoCredentialsProviderBuilder::lease`](crate::client::CognitoCredentialsProviderBuilder::lease).
    pub fn lease(mut self, lease: impl Into<Option<Duration>>) -> Self {
        self.lease = lease.into();
        self
    }

    /// Builds it. Does no I/O, and needs no runtime.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`]: a capacity of 0, a lease of no length, or no HTTP client for STS where the flow needs it.
    pub fn build(self) -> Result<UserCredentials, Error> {
        if self.capacity == 0 {
            return Err(Error::new(
                ErrorKind::Configuration,
                "the capacity is 0: at least 1 session must be kept",
            ));
        }
        let policy = RefreshPolicy::builder()
            .advisory_window(ADVISORY)
            .load_timeout(self.max_wait.saturating_add(self.exchange_timeout))
            .build();
        let (settings, app) = self.vendor.reach();
        let provider = CognitoCredentialsProvider::builder(self.vendor.identity_pool_id())
            .reaching(settings, app)
            .flow(self.flow.clone())
            .lease(self.lease)
            .refresh_policy(policy);
        let inner = Arc::new(UsersInner {
            flow: self.flow,
            table: Table::new(self.capacity),
            refresher: Refresher::new(),
            time_to_idle: self.time_to_idle,
            recent_use: self.recent_use,
            shared: Arc::new(EntryContext {
                sessions: UserSessions::new(provider)?,
                vendor: self.vendor,
                counters: Counters::default(),
                max_wait: self.max_wait,
                closing: Closing::default(),
            }),
        });
        let weak = Arc::downgrade(&inner);
        inner.shared.vendor.register(weak);
        Ok(UserCredentials { inner })
    }
}
