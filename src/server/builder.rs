//! How a [`TokenVendor`] is made.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::deny_list::DenyList;
use super::deny_list_updates::DenyListUpdates;
use super::dependents::Dependents;
use super::guest_link::GuestClaims;
use super::rate_limit::{RequestLimit, UserLimit};
use super::request::PrincipalTags;
use super::setup::{ServiceSetup, setup_methods};
use super::shared_deny_list::SharedDenyList;
use super::shared_store::{SharedState, SharedStore};
use super::token_cache::{TokenCache, TokenOptions};
use super::vending::{TokenVendor, VendorInner};
use crate::clock::{Clock, Timer};
use crate::error::Error;
use crate::metrics;
use crate::service::IdentityService;
use crate::service::attempts::AttemptWatch;
use crate::service::settings::{sleep_impl, time_source};
use crate::token::TokenDuration;

/// Builds a [`TokenVendor`]: see [`TokenVendor::builder`].
#[must_use]
pub struct TokenVendorBuilder {
    pub(super) setup: ServiceSetup,
    duration: TokenDuration,
    capacity: usize,
    min_remaining: Duration,
    limit: Option<RequestLimit>,
    user_limit: Option<(NonZeroU32, Duration)>,
    store: Option<Arc<dyn SharedStore>>,
    deny_list: DenyListUpdates,
    max_wait: Duration,
    personal_user_ids: bool,
    guest_claims: Option<GuestClaims>,
    account_id: Option<String>,
}

impl TokenVendorBuilder {
    pub(super) fn new(setup: ServiceSetup) -> Self {
        Self {
            setup,
            duration: TokenDuration::DEFAULT,
            capacity: 10_000,
            min_remaining: Duration::from_secs(300),
            limit: NonZeroU32::new(50).map(RequestLimit::per_second),
            user_limit: NonZeroU32::new(30).map(|burst| (burst, Duration::from_secs(1))),
            store: None,
            deny_list: DenyListUpdates::default(),
            max_wait: Duration::from_secs(1),
            personal_user_ids: false,
            guest_claims: None,
            account_id: None,
        }
    }

    setup_methods!();

    /// How long vended tokens live, unless a [`VendRequest`](crate::server::VendRequest) says otherwise. By default 15 minutes, as the
    /// service has it. A leaked token can be exchanged that long; a longer one does not make credentials live longer.
    pub fn token_duration(mut self, duration: TokenDuration) -> Self {
        self.duration = duration;
        self
    }

    /// How many tokens are kept, by default 10 000 (1 to 2 kB each); 0 turns the cache off, so that each vend is a request of
    /// its own.
    pub fn cache_capacity(mut self, tokens: usize) -> Self {
        self.capacity = tokens;
        self
    }

    /// How much of a token's life has to be left for it to be vended again, by default 5 minutes. Half of its life is always
    /// enough.
    pub fn min_remaining(mut self, remaining: Duration) -> Self {
        self.min_remaining = remaining;
        self
    }

    /// How many requests per second this vendor makes at most; `None` for no limit. The short form of
    /// [`request_limit`](Self::request_limit)`(RequestLimit::per_second(limit))`.
    ///
    /// By default 50, the quota for `GetOpenIdTokenForDeveloperIdentity` that AWS publishes for an account and region (200 in
    /// older editions of the guide). The quota is shared by all pools and processes of the account: with several instances, give
    /// [`request_limit`](Self::request_limit) one that says how many, [`RequestLimit::instances`].
    pub fn requests_per_second(self, limit: impl Into<Option<NonZeroU32>>) -> Self {
        self.request_limit(limit.into().map(RequestLimit::per_second))
    }

    /// The limit of requests that this vendor shares with the other vendors of the account; `None` for no limit. By default 50 per
    /// second, for this vendor alone.
    pub fn request_limit(mut self, limit: impl Into<Option<RequestLimit>>) -> Self {
        self.limit = limit.into();
        self
    }

    /// How many requests one user can cause past the cache: `burst` at once, then one every `interval`; more are refused with
    /// [`ErrorKind::Throttled`](crate::ErrorKind::Throttled). By default 30, and one every second: a client that wants fresh tokens all
    /// the time, or links rubbish, leaves the others their share. Not counted is what
    /// [`UserCredentials`](crate::UserCredentials) asks for.
    pub fn user_limit(mut self, burst: NonZeroU32, interval: Duration) -> Self {
        self.user_limit = Some((burst, interval));
        self
    }

    /// No limit of what one user can cause.
    pub fn without_user_limit(mut self) -> Self {
        self.user_limit = None;
        self
    }

    /// What the instances of the backend share: who named a guest first, which tickets were used, who is denied or being forgotten.
    /// By default a [`MemorySharedStore`](crate::server::MemorySharedStore), for one process.
    ///
    /// Nothing else is to be wired. Give the same store to [`IdentityAdminBuilder::shared`](crate::server::IdentityAdminBuilder::shared).
    /// [`guide::fleet`](crate::guide::fleet) says what becomes of what while the store is down.
    pub fn shared(mut self, store: impl SharedStore + 'static) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// How this vendor keeps up with the deny list in the [`shared`](Self::shared) store, without which it means nothing. By default
    /// it polls the list every 10 s, and vends nothing once the last one is a minute old.
    pub fn deny_list(mut self, updates: DenyListUpdates) -> Self {
        self.deny_list = updates;
        self
    }

    /// How long a caller waits for its turn before it is refused with [`ErrorKind::Throttled`](crate::ErrorKind::Throttled),
    /// by default 1 s.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// Allows user ids that look like an e-mail address or like JSON. They stand in clear in every token and in CloudTrail.
    pub fn allow_personal_user_ids(mut self) -> Self {
        self.personal_user_ids = true;
        self
    }

    /// Allows guests to be linked, by tickets that `claims` makes: see [`TokenVendor::link_guest`].
    pub fn guest_claims(mut self, claims: GuestClaims) -> Self {
        self.guest_claims = Some(claims);
        self
    }

    /// The AWS account of the pool, for [`TokenVendor::required_iam_policy`] alone. By default the policy leaves it open (`*`).
    pub fn account_id(mut self, account_id: impl Into<String>) -> Self {
        self.account_id = Some(account_id.into());
        self
    }

    /// Makes the vendor. No request is made; [`TokenVendor::ready`] makes one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration): a pool id or provider name that cannot be one, no
    /// SdkConfig, one without credentials, without an HTTP client or a way to wait, a deny list that would serve for less time than
    /// lies between two polls.
    pub fn build(self) -> Result<TokenVendor, Error> {
        let watch = self.limit.clone().map(|limit| Arc::new(limit) as Arc<dyn AttemptWatch>);
        let service = self.setup.service(watch)?;
        let app = self.setup.app()?;
        let clock = Clock::new(time_source(Some(app)));
        let exchange = IdentityService::new(self.setup.pool()?, &self.setup.settings, Some(app))?;
        let sleep = sleep_impl(Some(app))?;
        let timer = Timer::new(Some(sleep.clone()));
        let updates = self.deny_list.checked()?;
        let is_shared = self.store.is_some();
        let store = SharedState::of(self.store, service.pool(), service.provider(), &clock, sleep);
        if let Some(limit) = &self.limit {
            limit.attach(&clock, &timer);
        }
        metrics::describe();
        Ok(TokenVendor {
            inner: Arc::new_cyclic(|inner: &Weak<VendorInner>| VendorInner {
                deny_list: DenyList::new(
                    clock.clone(),
                    is_shared.then(|| {
                        SharedDenyList::new(store.clone(), updates, clock.clone(), Weak::<VendorInner>::clone(inner))
                    }),
                ),
                store,
                service,
                exchange,
                defaults: TokenOptions {
                    duration: self.duration,
                    tags: PrincipalTags::new(),
                },
                cache: TokenCache::new(self.capacity),
                hits: metrics::Hits::default(),
                min_remaining: self.min_remaining,
                limit: self.limit,
                user_limit: self.user_limit.map(|(burst, interval)| UserLimit::new(burst, interval)),
                max_wait: self.max_wait,
                personal_user_ids: self.personal_user_ids,
                guest_claims: self.guest_claims,
                dependents: Dependents::default(),
                ready: AtomicBool::new(false),
                health: Mutex::default(),
                account_id: self.account_id,
                settings: self.setup.settings.clone(),
                app: app.clone(),
                started: clock.now(),
                clock,
                timer,
            }),
        })
    }
}

impl fmt::Debug for TokenVendorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVendorBuilder")
            .field("setup", &self.setup)
            .finish_non_exhaustive()
    }
}
