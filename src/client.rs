//! [`CognitoCredentialsProvider`]: who is signed in, as AWS credentials.

mod builder;
#[cfg(feature = "classic-flow")]
mod classic;
mod events;
mod exchange;
mod flow;
mod guest;
mod hook;
mod login;
mod memory;
mod person;
mod rejection;
pub(crate) mod scoped;
mod sdk;
mod session;
mod shared;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep};
use aws_smithy_runtime_api::client::identity::SharedIdentityCache;
use aws_types::SdkConfig;
use futures_util::future::{Either, select};

use self::events::EventSource;
use self::exchange::Snapshot;
use self::flow::Exchange;
use self::guest::GuestSlot;
use self::login::Who;
use self::memory::{Slot, Writes};
use self::session::Settled;
use self::shared::{NEXT_EPOCH, Served, Shared, decided, state};
use crate::clock::Clock;
use crate::error::Error;
use crate::ids::{IdentityId, IdentityPoolId, IntoId};
use crate::refresh::{self, Failure, HotValue, Load, RefreshCache, RefreshPolicy};
use crate::service::IdentityService;
use crate::store::StoreKey;
use crate::token::OpenIdToken;

pub use self::builder::{CognitoCredentialsProviderBuilder, IdentityPolicy};
#[cfg(feature = "classic-flow")]
pub use self::classic::{ClassicFlow, ClassicFlowBuilder, ClassicLogin};
pub use self::events::{Event, EventKind, Events};
pub use self::flow::Flow;
pub use self::login::Login;
pub use self::rejection::{RejectionInterceptor, RejectionRetry};
pub use self::session::{IdentityOutcome, Session, SignIn};

/// The name that our credentials carry.
const PROVIDER_NAME: &str = "CognitoIdentityPool";

/// AWS credentials of whoever is signed in, by way of an Amazon Cognito identity pool: guests, users of the app's own backend
/// (developer authenticated identities), users of public providers, one after the other.
///
/// It caches and refreshes by itself, for any number of callers, and starts signed out. Cheap to clone; clones share everything.
///
/// ```no_run
/// # use cognito_identity_pool::{CognitoCredentialsProvider, DeveloperIdentity, Error, Login};
/// # async fn example(backend: DeveloperIdentity, base: aws_config::SdkConfig) -> Result<(), Error> {
/// let provider = CognitoCredentialsProvider::builder("us-east-1:1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d")
///     .configure(&base)
///     .build()?;
/// let alice = provider.switch_to(Login::developer(backend));
/// let bound = aws_sdk_sts::Client::new(&alice.sdk_config(&base)); // Alice, or `SessionEnded`
/// let current = aws_sdk_sts::Client::new(&provider.sdk_config(&base)); // whoever is signed in when an operation starts
/// provider.sign_out();
/// # Ok(()) }
/// ```
///
/// # Identity caches
///
/// An SDK client keeps credentials in an identity cache of its own until they expire, and would go on signing as a user who has
/// signed out. [`sdk_config`](Self::sdk_config) installs one that is told. Where the configuration is built by aws-config's loader:
///
/// ```no_run
/// # use cognito_identity_pool::CognitoCredentialsProvider;
/// # async fn example(provider: CognitoCredentialsProvider) {
/// let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
///     .credentials_provider(provider.clone())
///     .identity_cache(provider.identity_cache())
///     .load()
///     .await;
/// # }
/// ```
#[derive(Clone)]
pub struct CognitoCredentialsProvider {
    shared: Arc<Shared>,
}

/// What all sessions have in common.
struct Core {
    pool: IdentityPoolId,
    service: IdentityService,
    flow: Exchange,
    clock: Clock,
    sleep: SharedAsyncSleep,
    policy: RefreshPolicy,
    identity_policy: IdentityPolicy,
    issuer_host: Option<String>,
    namespace: String,
    writes: Arc<Writes>,
    guest: Arc<GuestSlot>,
    events: EventSource,
    /// The memory of persons with a name.
    named: Mutex<HashMap<StoreKey, Arc<Slot>>>,
}

impl Core {
    /// Tells this provider from others, as long as it lives.
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn cache<T: refresh::Value>(&self, policy: RefreshPolicy, load: Load<T, Error>) -> RefreshCache<T, Error> {
        RefreshCache::new(policy, self.clock.clone(), Some(self.sleep.clone()), load)
    }

    /// Where the identity of the person `subject` is remembered. `None` for a subject that tells nobody apart.
    fn remembered(&self, subject: &str) -> Option<Arc<Slot>> {
        let key = StoreKey::subject(&self.pool, &self.namespace, subject).ok()?;
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = named
            .entry(key.clone())
            .or_insert_with(|| Arc::new(Slot::new(key, Arc::clone(&self.writes))));
        Some(Arc::clone(slot))
    }

    /// The logins key of a developer's token: its issuer, if that is Cognito's; never an arbitrary host.
    fn issuer_host_of(&self, token: &OpenIdToken) -> String {
        let own = || {
            token
                .unverified_claims()
                .and_then(|claims| claims.cognito_issuer_host().map(str::to_owned))
        };
        self.issuer_host
            .clone()
            .or_else(own)
            .unwrap_or_else(|| self.pool.issuer_host())
    }

    /// `task`, or a timeout after as long as a load may take.
    fn with_deadline<T>(
        &self,
        task: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send + 'static {
        let (limit, sleep, task) = (self.policy.load_timeout(), self.sleep.clone(), Box::pin(task));
        async move {
            match select(task, sleep.sleep(limit)).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => Err(Error::timed_out(limit)),
            }
        }
    }
}

impl CognitoCredentialsProvider {
    /// Starts building a provider for an identity pool: its id, or text that is to be one.
    pub fn builder(identity_pool_id: impl IntoId<IdentityPoolId>) -> CognitoCredentialsProviderBuilder {
        CognitoCredentialsProviderBuilder::new(identity_pool_id.into_id())
    }

    fn start(core: Core, login: Login) -> Self {
        let core = Arc::new(core);
        let epoch = NEXT_EPOCH.fetch_add(1, Ordering::Relaxed);
        let current = ArcSwap::new(state(&core, Login::signed_out(), epoch, Arc::default()));
        let provider = Self {
            shared: Arc::new(Shared {
                core,
                current,
                at_hand: HotValue::empty(),
                switching: Mutex::new(None),
            }),
        };
        if !matches!(login.who, Who::SignedOut) {
            drop(provider.switch_to(login));
        }
        provider
    }

    /// Signs in as somebody else (or as a guest, or out): the session is in force when this returns, and everything that was
    /// begun in the old one ends with [`ErrorKind::SessionEnded`](crate::ErrorKind::SessionEnded).
    ///
    /// Nothing is asked of the network here; [`Session::ready`] waits for that. Nothing of another user is kept. The guest of this
    /// device is offered to a user who signs in, for linking.
    pub fn switch_to(&self, login: Login) -> Session {
        self.change(login, Arc::default())
    }

    /// Changes the login of the *same person*, who has signed in with one provider more: the identity is expected to stay, and
    /// [`Session::ready`] tells whether it did.
    pub fn link(&self, login: Login) -> Session {
        let state = self.shared.current.load();
        // A guest is offered from its slot, as to any login; and a guest is never the user.
        let user = state
            .cells
            .as_ref()
            .filter(|_| state.login.is_user() && login.is_user());
        self.change(login, Settled::expecting(user.and_then(|cells| cells.known_identity())))
    }

    fn change(&self, login: Login, settled: Arc<Settled>) -> Session {
        let (decide, login) = match login.who {
            Who::Decided(decide) => {
                let login = decided(&decide);
                (Some(decide), login)
            }
            _ => (None, login),
        };
        let switching = self.shared.switching.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.shared.replace(switching, decide, login, settled);
        Session {
            shared: Arc::clone(&self.shared),
            epoch: state.epoch,
        }
    }

    /// Signs out: from now on requests fail with [`ErrorKind::SignedOut`](crate::ErrorKind::SignedOut). The guest of this device
    /// is remembered.
    pub fn sign_out(&self) {
        drop(self.switch_to(Login::signed_out()));
    }

    /// What happens to the login from now on: see [`Event`].
    ///
    /// ```no_run
    /// # use cognito_identity_pool::{client::EventKind, CognitoCredentialsProvider};
    /// # async fn example(provider: CognitoCredentialsProvider) {
    /// let mut events = provider.events();
    /// drop(provider); // a subscription does not keep it alive
    /// while let Some(event) = events.next().await {
    ///     if let EventKind::NeedsSignIn { error } = event.kind {
    ///         println!("please sign in again: {error}");
    ///     }
    /// }
    /// # }
    /// ```
    pub fn events(&self) -> Events {
        self.shared.core.events.subscribe()
    }

    /// The session that is in force.
    pub fn session(&self) -> Session {
        Session {
            shared: Arc::clone(&self.shared),
            epoch: self.shared.current.load().epoch,
        }
    }

    /// The identity id of whoever is signed in: see [`Session::identity_id`].
    ///
    /// # Errors
    ///
    /// As [`Session::identity_id`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the call to others.
    pub async fn identity_id(&self) -> Result<IdentityId, Error> {
        self.shared.identity_id(None).await
    }

    /// Throws the credentials and the token away; the login and its identity stay. Handles that are bound to the session go on
    /// with new ones.
    pub fn clear_credentials(&self) {
        let switching = self.shared.switching.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.shared.current.load_full();
        let settled = old.cells.as_ref().map(|cells| cells.settled()).unwrap_or_default();
        drop(
            self.shared
                .install(state(&self.shared.core, old.login.clone(), old.epoch, settled)),
        );
        drop(switching);
    }

    /// Forgets who the session's login is to Cognito, in memory and in the store, and begins a new session with the same login: a
    /// guest is a new guest from then on; a user is asked for anew. Handles that are bound to the session end with it.
    ///
    /// It is for an app that gives a device away, or offers "forget me"; the identity itself stays in the pool. Nothing is
    /// forgotten while nobody is signed in.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`](crate::ErrorKind::Store): if the store could not be read, nothing has changed; if it could not be
    /// written, the new session is in force, and the id may be remembered again in the next process.
    /// [`ErrorKind::SessionEnded`](crate::ErrorKind::SessionEnded): the login changed meanwhile, and nothing was forgotten.
    ///
    /// # Cancel safety
    ///
    /// Dropped before the store was read, nothing has changed; dropped later, it is done.
    pub async fn clear_identity(&self) -> Result<Session, Error> {
        let old = self.shared.current.load_full();
        let slot = match &old.cells {
            Some(_) if old.login.is_guest() => Some(Arc::clone(self.shared.core.guest.slot())),
            Some(cells) => cells.remembered(),
            None => None,
        };
        if let Some(slot) = &slot {
            drop(slot.get().await?);
        }
        let (state, stored) = self.shared.begin_anew(&old, slot)?;
        if let Some(stored) = stored {
            drop(stored.await?);
        }
        Ok(Session {
            shared: Arc::clone(&self.shared),
            epoch: state.epoch,
        })
    }

    /// Makes credentials of the session in force new, whatever the present ones are worth, asking the app's hook for a new token.
    ///
    /// # Errors
    ///
    /// What the refresh failed with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the refresh to others.
    pub async fn refresh_now(&self) -> Result<(), Error> {
        self.shared.serve_from(None, true).await.map(drop)
    }

    /// Says that a service has refused these credentials. If, and only if, they are still the current ones, the next caller waits
    /// for new ones. `false`: they are not.
    pub fn invalidate(&self, credentials: &Credentials) -> bool {
        self.invalidate_signer(credentials.access_key_id())
    }

    fn invalidate_signer(&self, access_key_id: &str) -> bool {
        let state = self.shared.current.load();
        let is_current = |snapshot: &Snapshot| snapshot.credentials.access_key_id() == access_key_id;
        state
            .credentials
            .as_ref()
            .is_some_and(|credentials| credentials.invalidate(is_current))
    }

    /// `base` with this provider's credentials, and the identity cache that is told of every switch. An operation is signed by
    /// whoever is signed in when it starts, to its last retry.
    pub fn sdk_config(&self, base: &SdkConfig) -> SdkConfig {
        sdk::config(base, self.served())
    }

    /// The identity cache of [`sdk_config`](Self::sdk_config), for a configuration that is built elsewhere.
    ///
    /// Our provider arrives there in a wrapper that cannot be recognised by it, so it is asked for each attempt: right, but a few
    /// hundred nanoseconds slower. A provider on top of ours (assuming a role with our credentials) keeps being cached.
    pub fn identity_cache(&self) -> SharedIdentityCache {
        sdk::identity_cache(self.served())
    }

    fn served(&self) -> Served {
        Served {
            shared: Arc::clone(&self.shared),
            bound: None,
        }
    }
}

impl ProvideCredentials for CognitoCredentialsProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.shared.provide(None)
    }
}

impl fmt::Debug for CognitoCredentialsProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.current.load();
        f.debug_struct("CognitoCredentialsProvider")
            .field("identity_pool_id", &self.shared.core.pool)
            .field("login", &state.login)
            .field("epoch", &state.epoch)
            .finish()
    }
}
