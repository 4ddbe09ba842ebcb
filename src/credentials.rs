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

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep};
use aws_smithy_runtime_api::client::identity::SharedIdentityCache;
use aws_types::SdkConfig;
use futures_util::future::{BoxFuture, Either, select};

use self::events::EventSource;
use self::exchange::{Cells, Snapshot};
use self::flow::Exchange;
use self::guest::GuestSlot;
use self::login::Who;
use self::memory::{Slot, Writes};
use self::session::{SessionState, Settled};
use crate::clock::Clock;
use crate::error::Error;
use crate::ids::{IdentityId, IdentityPoolId, InvalidId};
use crate::refresh::{self, AtHand, Failure, LoadRequest, Loaded, RefreshCache, RefreshPolicy};
use crate::service::IdentityService;
use crate::store::{StoreKey, Swapped};
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

    fn cache<T: refresh::Value>(
        &self,
        policy: RefreshPolicy,
        load: impl Fn(LoadRequest) -> BoxFuture<'static, Result<Loaded<T>, Error>> + Send + Sync + 'static,
    ) -> RefreshCache<T, Error> {
        RefreshCache::new(policy, self.clock.clone(), Some(self.sleep.clone()), Arc::new(load))
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

/// What provider and sessions share: the one pointer to the session in force.
struct Shared {
    core: Arc<Core>,
    current: ArcSwap<SessionState>,
    /// What the session in force serves, for hits. Changed under the lock of `switching`.
    at_hand: AtHand<Snapshot>,
    /// Asked when there is nothing fresh: see [`Login::decided_by`]. Its lock orders the changes of the pointer.
    switching: Mutex<Option<Decide>>,
}

type Decide = Arc<dyn Fn() -> Login + Send + Sync>;

/// The numbers of sessions, over all providers: an operation that is pinned to one is never taken for another's.
static NEXT_EPOCH: AtomicU64 = AtomicU64::new(1);

impl Shared {
    /// A hit: one pointer and a look at the clock.
    #[inline]
    fn hit<R>(&self, bound: Option<u64>, read: impl FnOnce(Option<&Snapshot>) -> R) -> R {
        self.at_hand.read(&self.core.clock, |snapshot| {
            read(snapshot.filter(|snapshot| snapshot.serves(bound)))
        })
    }

    /// Makes hits of what `state` serves, if it is still in force.
    fn keep_at_hand(&self, state: &Arc<SessionState>, served: &refresh::Served<Snapshot>) {
        if self.at_hand.is(served) {
            return;
        }
        let _switching = self.switching.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&self.current.load(), state) {
            self.at_hand.put(served);
        }
    }

    /// Waits for credentials of the session in force, or of the one that the caller is bound to. Whoever waits while the pointer
    /// moves gets `SessionEnded`: neither the old nor the new user's.
    async fn serve(&self, bound: Option<u64>) -> Result<(Arc<SessionState>, refresh::Served<Snapshot>), Error> {
        self.serve_from(bound, false).await
    }

    async fn serve_from(
        &self,
        bound: Option<u64>,
        forced: bool,
    ) -> Result<(Arc<SessionState>, refresh::Served<Snapshot>), Error> {
        let mut state = self.in_force(bound)?;
        loop {
            let result = state.obtain(forced).await;
            let now = self.current.load();
            if now.epoch != state.epoch {
                return Err(Error::ended());
            }
            if !Arc::ptr_eq(&now, &state) {
                // `clear_credentials`: the same login, with empty cells.
                state = Arc::clone(&now);
                continue;
            }
            let snapshot = result?;
            self.keep_at_hand(&state, &snapshot);
            return Ok((state, snapshot));
        }
    }

    /// The session in force, after asking the app's closure where there is one.
    fn in_force(&self, bound: Option<u64>) -> Result<Arc<SessionState>, Error> {
        if hook::is_inside(self.core.id()) {
            return Err(Error::reentered());
        }
        self.decide();
        let state = self.current.load_full();
        if bound.is_some_and(|epoch| epoch != state.epoch) {
            Err(Error::ended())
        } else {
            Ok(state)
        }
    }

    /// Asks the closure of [`Login::decided_by`] and switches if its answer is another login.
    fn decide(&self) {
        let decide = self.switching.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(decide) = decide else { return };
        let credentials = self.current.load().credentials.clone();
        if credentials.is_some_and(|credentials| credentials.peek(|_| ()).is_some()) {
            return;
        }
        let login = decided(&decide);
        let switching = self.switching.lock().unwrap_or_else(PoisonError::into_inner);
        let decides_still = switching.as_ref().is_some_and(|current| Arc::ptr_eq(current, &decide));
        if decides_still && !self.current.load().login.is_same_as(&login) {
            self.replace(switching, Some(decide), login, Arc::default());
        }
    }

    async fn identity_id(&self, bound: Option<u64>) -> Result<IdentityId, Error> {
        let mut state = self.in_force(bound)?;
        loop {
            let result = match &state.cells {
                None if state.credentials.is_some() => Ok(None),
                None => return Err(state.nobody()),
                Some(cells) => cells.identity_id().await,
            };
            let now = self.current.load_full();
            if now.epoch != state.epoch {
                return Err(Error::ended());
            }
            if Arc::ptr_eq(&now, &state) {
                return match result? {
                    Some(id) => Ok(id),
                    None => Ok(self.serve(Some(state.epoch)).await?.1.identity_id.clone()),
                };
            }
            state = now;
        }
    }

    fn provide(&self, bound: Option<u64>) -> future::ProvideCredentials<'_> {
        self.hit(bound, |snapshot| match snapshot {
            Some(snapshot) => future::ProvideCredentials::ready(Ok(snapshot.hand_out())),
            None => future::ProvideCredentials::new(async move {
                let (_, snapshot) = self.serve(bound).await.map_err(CredentialsError::from)?;
                Ok(snapshot.hand_out())
            }),
        })
    }

    fn invalidate_signer(&self, access_key_id: &str) -> bool {
        let state = self.current.load();
        let is_current = |snapshot: &Snapshot| snapshot.credentials.access_key_id() == access_key_id;
        state
            .credentials
            .as_ref()
            .is_some_and(|credentials| credentials.invalidate(is_current))
    }

    /// Puts a session for `login` in the place of the one in force, and gives the lock back.
    fn replace(
        &self,
        mut switching: MutexGuard<'_, Option<Decide>>,
        decide: Option<Decide>,
        login: Login,
        settled: Arc<Settled>,
    ) -> Arc<SessionState> {
        let epoch = NEXT_EPOCH.fetch_add(1, Ordering::Relaxed);
        *switching = decide;
        let was_out = self.current.load().login.is_signed_out();
        let state = self.install(state(&self.core, login, epoch, settled));
        // A listener's waker is anybody's code.
        drop(switching);
        if state.login.is_signed_out() && !was_out {
            self.core.events.publish(epoch, EventKind::SignedOut);
        }
        state
    }

    /// A new session with the login of `old`, if that is still in force, and without what the slot remembers.
    #[allow(clippy::type_complexity, reason = "an `impl Future` has no other name")]
    fn begin_anew(
        &self,
        old: &SessionState,
        slot: Option<Arc<Slot>>,
    ) -> Result<
        (
            Arc<SessionState>,
            Option<impl Future<Output = Result<Swapped, Error>> + use<>>,
        ),
        Error,
    > {
        let switching = self.switching.lock().unwrap_or_else(PoisonError::into_inner);
        if self.current.load().epoch != old.epoch {
            return Err(Error::ended());
        }
        let id = slot.as_ref().and_then(|slot| slot.in_memory());
        let stored = slot.zip(id).and_then(|(slot, id)| slot.swap(Some(&id), None));
        let decide = switching.clone();
        let state = self.replace(switching, decide, old.login.clone(), Arc::default());
        Ok((state, stored))
    }

    fn install(&self, state: Arc<SessionState>) -> Arc<SessionState> {
        let old = self.current.swap(Arc::clone(&state));
        // First the new one in force, then the news to those who wait for the old one.
        old.end();
        self.at_hand.clear();
        tracing::debug!(epoch = state.epoch, login = ?state.login, "session in force");
        state
    }
}

/// What the app's closure answers. One that panics, or hands the question on, has decided nothing.
fn decided(decide: &Decide) -> Login {
    std::panic::catch_unwind(AssertUnwindSafe(|| decide())).unwrap_or_else(|_| Login::decided_by(Login::signed_out))
}

fn state(core: &Arc<Core>, login: Login, epoch: u64, settled: Arc<Settled>) -> Arc<SessionState> {
    let cells = match login.who {
        Who::SignedOut | Who::Decided(_) => None,
        _ => Some(Cells::new(Arc::clone(core), login.clone(), epoch, settled)),
    };
    let credentials = cells.as_ref().map(Cells::credentials);
    Arc::new(SessionState {
        epoch,
        login,
        cells,
        credentials,
        closed: None,
    })
}

/// What an SDK client is given: the provider, or a session of it.
#[derive(Clone)]
struct Served {
    shared: Arc<Shared>,
    bound: Option<u64>,
}

impl ProvideCredentials for Served {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.shared.provide(self.bound)
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(PROVIDER_NAME).field("session", &self.bound).finish()
    }
}

impl CognitoCredentialsProvider {
    /// Starts building a provider for an identity pool: its id, or text that is to be one.
    pub fn builder<P>(identity_pool_id: P) -> CognitoCredentialsProviderBuilder
    where
        P: TryInto<IdentityPoolId>,
        InvalidId: From<P::Error>,
    {
        CognitoCredentialsProviderBuilder::new(identity_pool_id.try_into().map_err(InvalidId::from))
    }

    fn start(core: Core, login: Login) -> Self {
        let core = Arc::new(core);
        let epoch = NEXT_EPOCH.fetch_add(1, Ordering::Relaxed);
        let current = ArcSwap::new(state(&core, Login::signed_out(), epoch, Arc::default()));
        let provider = Self {
            shared: Arc::new(Shared {
                core,
                current,
                at_hand: AtHand::empty(),
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
    /// # use cognito_identity_pool::{CognitoCredentialsProvider, EventKind};
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
