//! [`CognitoCredentialsProviderBuilder`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_cognitoidentity::config::retry::RetryConfig;
use aws_sdk_cognitoidentity::config::timeout::TimeoutConfig;
use aws_types::SdkConfig;

use super::CognitoCredentialsProvider;
use super::context::Context;
use super::events::EventSource;
use super::flow::{Exchange, Flow};
use super::guest::{GuestSlot, IdentityPolicy};
use super::lease::DEFAULT_LEASE;
use super::login::Login;
use super::remembered_ids::RememberedId;
use super::store_queue::StoreQueue;
use super::turns::Patience;
use crate::clock::{Clock, Timer};
use crate::error::{Error, ErrorKind};
use crate::ids::{IdentityPoolId, InvalidId};
use crate::refresh::RefreshPolicy;
use crate::service::IdentityService;
use crate::service::settings::{ServiceSettings, sleep_impl, time_source};
use crate::store::{IdentityStore, MemoryStore, StoreKey};

/// Builds a [`CognitoCredentialsProvider`].
///
/// ```
/// # use cognito_identity_pool::{refresh::RefreshPolicy, CognitoCredentialsProvider};
/// # fn example(config: &aws_config::SdkConfig) -> Result<(), cognito_identity_pool::Error> {
/// let provider = CognitoCredentialsProvider::builder("us-east-1:1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d")
///     .configure(config)
///     .refresh_policy(RefreshPolicy::builder().background_refresh(true).build())
///     .build()?;
/// # Ok(()) }
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct CognitoCredentialsProviderBuilder {
    pub(super) pool: Result<IdentityPoolId, InvalidId>,
    app: Option<SdkConfig>,
    pub(super) settings: ServiceSettings,
    flow: Flow,
    policy: RefreshPolicy,
    identity_policy: IdentityPolicy,
    lease: Option<Duration>,
    store: Arc<dyn IdentityStore>,
    namespace: String,
    issuer_host: Option<String>,
    pub(super) login: Login,
}

impl CognitoCredentialsProviderBuilder {
    pub(super) fn new(pool: Result<IdentityPoolId, InvalidId>) -> Self {
        Self {
            pool,
            app: None,
            settings: ServiceSettings::default(),
            flow: Flow::Enhanced,
            policy: RefreshPolicy::default(),
            identity_policy: IdentityPolicy::default(),
            lease: Some(DEFAULT_LEASE),
            store: Arc::new(MemoryStore::new()),
            namespace: "default".to_owned(),
            issuer_host: None,
            login: Login::signed_out(),
        }
    }

    /// With the settings of another client of the crate.
    pub(crate) fn reaching(mut self, settings: &ServiceSettings, app: &SdkConfig) -> Self {
        self.settings = settings.clone();
        self.app = Some(app.clone());
        self
    }

    /// Takes from the app's configuration: HTTP client, sleep, time source, behavior version, app name, FIPS and dual-stack, and an
    /// endpoint that is set for Cognito Identity itself (`AWS_ENDPOINT_URL_COGNITO_IDENTITY`, or a profile's service section), or by the
    /// environment or the profile for all services (`AWS_ENDPOINT_URL`).
    ///
    /// Its timeouts, retries, region, credentials, identity cache, and an endpoint that was set in code, are meant for other services
    /// and are not taken.
    pub fn configure(mut self, config: &SdkConfig) -> Self {
        self.app = Some(config.clone());
        self
    }

    /// The endpoint of Cognito Identity, e.g. a local pool's. Wins over what the environment says.
    pub fn endpoint_url(mut self, url: impl Into<String>) -> Self {
        self.settings.endpoint_url = Some(url.into());
        self
    }

    /// The region to call, if it is not the pool's.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.settings.region = Some(region.into());
        self
    }

    /// The timeouts of calls to Cognito: by default 3.1 s to connect, 5 s an attempt, 12 s in all.
    pub fn timeout_config(mut self, timeouts: TimeoutConfig) -> Self {
        self.settings.timeouts = Some(timeouts);
        self
    }

    /// The retries of calls to Cognito: by default the SDK's standard mode, 3 attempts.
    pub fn retry_config(mut self, retries: RetryConfig) -> Self {
        self.settings.retries = Some(retries);
        self
    }

    /// By which calls credentials are had. The enhanced flow by default, as AWS recommends.
    pub fn flow(mut self, flow: Flow) -> Self {
        self.flow = flow;
        self
    }

    /// When and how credentials are refreshed.
    pub fn refresh_policy(mut self, policy: RefreshPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// What happens to a guest whose identity is gone. By default a new one takes its place.
    pub fn identity_policy(mut self, policy: IdentityPolicy) -> Self {
        self.identity_policy = policy;
        self
    }

    /// How far ahead the expiry is at most that credentials say of themselves when they are handed out by plain
    /// [`ProvideCredentials`](aws_credential_types::provider::ProvideCredentials), of the provider and of its sessions. 60 seconds by
    /// default; `None` lets them say when they really end.
    ///
    /// Whoever keeps credentials until they expire (the SDK's own identity cache, a signer of another library, an IoT client)
    /// cannot be told of a switch or a sign-out. With a lease it asks again when the lease is over, which costs a hit, and follows
    /// then. The identity cache of [`sdk_config`](CognitoCredentialsProvider::sdk_config) is told, and needs no lease.
    ///
    /// What it costs: whoever reads [`expiry`](aws_credential_types::Credentials::expiry) to learn how long the credentials really
    /// live, such as a presigner that refuses to sign beyond it, reads the end of the lease. And a cache that asks again some time
    /// before the expiry, ten seconds for the SDK's, two minutes for others, asks for each operation if the lease is no longer than that.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use cognito_identity_pool::CognitoCredentialsProvider;
    /// # fn example(config: &aws_config::SdkConfig) -> Result<(), cognito_identity_pool::Error> {
    /// let builder = CognitoCredentialsProvider::builder("us-east-1:1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d").configure(config);
    /// let provider = builder.lease(Duration::from_secs(15)).build()?;
    /// # Ok(()) }
    /// ```
    pub fn lease(mut self, lease: impl Into<Option<Duration>>) -> Self {
        self.lease = lease.into();
        self
    }

    /// Where identity ids are remembered. By default in memory, for the life of the provider.
    pub fn identity_store(mut self, store: impl IdentityStore + 'static) -> Self {
        self.store = Arc::new(store);
        self
    }

    /// Keeps the ids of two apps (or profiles) in one store apart. `default` unless it is set.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// The logins key of developer tokens, where neither the token's `iss` nor the pool's region tells it.
    pub fn issuer_host(mut self, host: impl Into<String>) -> Self {
        self.issuer_host = Some(host.into());
        self
    }

    /// How the provider starts. By default nobody is signed in.
    pub fn login(mut self, login: Login) -> Self {
        self.login = login;
        self
    }

    /// Builds the provider. Does no I/O, and needs no runtime.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration), saying what to set: a value that is not an identity pool id, no HTTP client, no sleep implementation, an
    /// invalid namespace.
    pub fn build(self) -> Result<CognitoCredentialsProvider, Error> {
        let login = self.login.clone();
        crate::metrics::describe();
        Ok(CognitoCredentialsProvider::start(self.context()?, login))
    }

    pub(super) fn context(self) -> Result<Context, Error> {
        let pool = self.pool?;
        if self.lease == Some(Duration::ZERO) {
            return Err(Error::new(
                ErrorKind::Configuration,
                "a lease of no length: credentials would have expired when they are handed out",
            )
            .with_hint("give `lease` a duration, or `None` for credentials that say when they really end"));
        }
        let app = self.app.as_ref();
        let (clock, sleep) = (Clock::new(time_source(app)), sleep_impl(app)?);
        let limit = self.policy.load_timeout();
        let patience = Patience {
            clock: clock.clone(),
            timer: Timer::new(Some(sleep.clone())),
            // What a driven load never needs.
            limit: limit.saturating_add(limit / 10),
        };
        let queue = StoreQueue::new(self.store, patience.clone());
        let slot = |key| RememberedId::new(key, Arc::clone(&queue));
        Ok(Context {
            service: IdentityService::new(pool.clone(), &self.settings, app)?,
            flow: Exchange::new(self.flow, &pool, &self.settings, app)?,
            policy: self.policy,
            identity_policy: self.identity_policy,
            lease: self.lease,
            issuer_host: self.issuer_host,
            guest: GuestSlot::new(
                slot(StoreKey::guest(&pool, &self.namespace)?),
                slot(StoreKey::guest_in_doubt(&pool, &self.namespace)?),
                patience.clone(),
            ),
            clock,
            sleep,
            patience,
            named: Default::default(),
            events: EventSource::default(),
            queue,
            namespace: self.namespace,
            pool,
        })
    }
}

impl fmt::Debug for CognitoCredentialsProviderBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CognitoCredentialsProviderBuilder")
            .field("pool", &self.pool)
            .field("login", &self.login)
            .field("flow", &self.flow)
            .field("policy", &self.policy)
            .field("identity_policy", &self.identity_policy)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
