//! [`CognitoCredentialsProvider`]: who is signed in, as AWS credentials.
//!
//! Who owns whom (`=>` weakly):
//!
//! ```text
//! CognitoCredentialsProvider, Session      handles; the first follows the login, the second is bound to one epoch
//!   CurrentSession                         the pointer to the session in force, and its change
//!     Context                              what all sessions share: service, flow, clock, policy, events
//!       GuestSlot -> RememberedId          the guest's id, and whether it is in doubt, with the turn to show it to somebody
//!       Named     -> RememberedId          the ids of users with a subject
//!         StoreQueue                       writes to the app's IdentityStore, one at a time
//!       EventSource => Events              told of what happens
//!     SessionState                         one session: its login and its epoch
//!       RefreshCache<Snapshot>             the credentials, loaded by
//!         SessionCaches                    the exchange: login -> proof -> identity -> credentials
//!           IdentityState                  what is known of the identity; outlives the caches when credentials are cleared
//!           Proofs                         the login proof that was supplied last
//! ```
//!
//! The locks. None is held across an `.await`, and nothing of the app's runs under any: no drop of its values, waker, closure,
//! listener, store or log event. They are taken in this order, each by itself or after those above it:
//!
//! | lock | guards |
//! |---|---|
//! | `CurrentSession::switching` | the order of changes of the pointer, hot and leased copies, who decides |
//! | `Context::named` | the table of users' remembered ids |
//! | `SessionCaches::newest` | the login that supplies proofs now |
//! | `Proofs::last` | the proof that was supplied last |
//! | `IdentityState::known` | what is known of the identity |
//! | `RememberedId::state` | one remembered id |
//! | `StoreQueue::queue` | the writes that are pending; under the one above, so that their order is that of the changes |
//! | `Turns::state` | who has a turn (a deadline ends it: `turns`) |
//! | `EventSource::audience`, then one `Inbox` | who listens, and what one has not fetched |

mod app_code;
mod builder;
#[cfg(feature = "classic-flow")]
mod classic;
mod context;
mod current_session;
mod detached;
mod env_settings;
mod events;
mod exchange;
mod failure;
mod flow;
mod guest;
mod identity_cache;
mod identity_state;
mod kept_identities;
pub(crate) mod lease;
mod login;
mod login_status;
mod login_subjects;
mod pin;
mod rejection;
mod remembered_ids;
mod resolution;
mod session;
mod session_state;
mod store_queue;
mod turns;
pub(crate) mod user_sessions;

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_smithy_runtime_api::client::identity::SharedIdentityCache;
use aws_types::SdkConfig;

use self::app_code::drop_quietly;
use self::context::Context;
use self::current_session::{BoundProvider, CurrentSession, NEXT_EPOCH, decided, undecided};
use self::identity_state::IdentityState;
use self::lease::LeaseSlot;
use self::login::Who;
use self::resolution::{SessionId, SessionMark};
use self::session_state::{Demand, state};
use crate::error::Error;
use crate::ids::{IdentityId, IdentityPoolId, IntoId};
use crate::refresh::HotValue;

pub use self::builder::CognitoCredentialsProviderBuilder;
#[cfg(feature = "classic-flow")]
pub use self::classic::{ClassicFlow, ClassicFlowBuilder, ClassicLogin};
pub use self::events::{Event, EventKind, Events};
pub use self::flow::Flow;
pub use self::guest::IdentityPolicy;
pub use self::identity_state::{IdentityOutcome, SignIn};
pub use self::login::Login;
pub use self::login_status::{LoginKind, LoginStatus};
pub use self::rejection::{RejectionInterceptor, RejectionRetry};
pub use self::session::Session;

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
/// An SDK client keeps credentials in an identity cache of its own until they expire, and cannot be told that their user has signed
/// out. [`sdk_config`](Self::sdk_config) installs one that is told. Where the configuration is built by aws-config's loader:
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
///
/// Under any other cache a client follows a switch or a sign-out within a lease of 60 seconds, see
/// [`lease`](CognitoCredentialsProviderBuilder::lease).
#[derive(Clone)]
pub struct CognitoCredentialsProvider {
    current: Arc<CurrentSession>,
    #[allow(dead_code, reason = "held for its drop: the last clone ends the subscriptions")]
    listened_to: Arc<EndsSubscriptions>,
}

struct EndsSubscriptions(Arc<Context>);

impl Drop for EndsSubscriptions {
    fn drop(&mut self) {
        self.0.events.close();
    }
}

impl CognitoCredentialsProvider {
    /// Starts building a provider for an identity pool: its id, or text that is to be one.
    pub fn builder(identity_pool_id: impl IntoId<IdentityPoolId>) -> CognitoCredentialsProviderBuilder {
        CognitoCredentialsProviderBuilder::new(identity_pool_id.into_id())
    }

    fn start(context: Context, login: Login) -> Self {
        let context = Arc::new(context);
        let epoch = NEXT_EPOCH.fetch_add(1, Ordering::Relaxed);
        let provider = context.id();
        let mark = SessionMark::new(SessionId { epoch, provider });
        let in_force = ArcSwap::new(state(&context, Login::signed_out(), mark, Arc::default(), None));
        let provider = Self {
            listened_to: Arc::new(EndsSubscriptions(Arc::clone(&context))),
            current: Arc::new(CurrentSession {
                provider,
                context,
                in_force,
                hot: HotValue::empty(),
                leased: LeaseSlot::default(),
                switching: Mutex::default(),
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
        let state = self.current.in_force.load_full();
        // A guest is offered from its slot, as to any login; and a guest is never the user.
        let both_users = state.login.is_user() && login.is_user();
        let caches = state.caches.as_ref().filter(|_| both_users);
        let known = caches.and_then(|caches| caches.known_identity());
        drop_quietly(state);
        self.change(login, IdentityState::expecting(known))
    }

    fn change(&self, login: Login, identity: Arc<IdentityState>) -> Session {
        let (decide, login) = match login.who {
            Who::Decided(decide) => {
                let login = decided(&decide, self.current.context.id()).unwrap_or_else(undecided);
                (Some(decide), login)
            }
            _ => (None, login),
        };
        let epoch = self.current.change(decide, login, identity).epoch;
        Session {
            current: Arc::clone(&self.current),
            epoch,
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
        self.current.context.events.subscribe()
    }

    /// The session that is in force.
    pub fn session(&self) -> Session {
        Session {
            current: Arc::clone(&self.current),
            epoch: self.current.epoch(),
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
        self.current.identity_id(None).await
    }

    /// Throws the credentials and the token away; the login and its identity stay. Handles that are bound to the session go on
    /// with new ones.
    pub fn clear_credentials(&self) {
        self.current.clear_credentials();
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
        let old = self.current.in_force.load_full();
        let slot = match &old.caches {
            Some(_) if old.login.is_guest() => Some(Arc::clone(self.current.context.guest.slot())),
            Some(caches) => caches.remembered(),
            None => None,
        };
        if let Some(slot) = &slot {
            drop(slot.get().await?);
        }
        let (state, stored) = self.current.begin_anew(&old, slot)?;
        if let Some(stored) = stored {
            drop(stored.wait().await?);
        }
        Ok(Session {
            current: Arc::clone(&self.current),
            epoch: state.epoch,
        })
    }

    /// Signs out, and forgets every identity of this provider's pool and namespace, the guest's and all users', in memory and in the
    /// [`IdentityStore`](crate::store::IdentityStore): for a device that changes hands, as iOS's `clearKeychain`. The identities
    /// themselves stay in the pool.
    ///
    /// ```
    /// # use cognito_identity_pool::{CognitoCredentialsProvider, Error};
    /// # async fn example(provider: CognitoCredentialsProvider) -> Result<(), Error> {
    /// provider.forget_everything().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`](crate::ErrorKind::Store): nobody is signed in and nothing is in memory, but the store may still hold ids,
    /// because it failed, did not answer within two seconds, or cannot list what it holds
    /// ([`IdentityStore::remove_all`](crate::store::IdentityStore::remove_all)).
    ///
    /// # Cancel safety
    ///
    /// Signing out is done at the call. Dropped before it is ready, some ids may be left in the store; call it again.
    pub async fn forget_everything(&self) -> Result<(), Error> {
        self.sign_out();
        self.current.context.forget_everything().await
    }

    /// What is known of the login without asking anybody, neither the network nor the store: for what an app shows at its start.
    ///
    /// ```no_run
    /// # use cognito_identity_pool::{client::LoginKind, CognitoCredentialsProvider};
    /// # fn example(provider: CognitoCredentialsProvider) {
    /// let status = provider.current();
    /// if status.needs_sign_in || status.kind == LoginKind::SignedOut {
    ///     println!("please sign in");
    /// }
    /// # }
    /// ```
    pub fn current(&self) -> LoginStatus {
        self.current.status()
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
        self.current.serve_from(None, Demand::Forced).await.map(drop)
    }

    /// Credentials that are valid for at least `least` longer, for presigned URLs and long jobs: the cached ones if they are, else
    /// those of one refresh that all who ask at the time share. They say when they really end, not the end of a lease.
    ///
    /// The enhanced flow gives credentials for one hour; the classic flow for its own duration, up to 12 hours
    /// (`ClassicFlow`, `DurationSeconds` in the API reference).
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(provider: cognito_identity_pool::CognitoCredentialsProvider) -> Result<(), cognito_identity_pool::Error> {
    /// let credentials = provider.credentials_valid_for(Duration::from_secs(15 * 60)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) if the service never gives them for so long; otherwise what the
    /// refresh failed with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the refresh to others.
    pub async fn credentials_valid_for(&self, least: Duration) -> Result<Credentials, Error> {
        let (_, snapshot) = self.current.serve_from(None, Demand::ValidFor(least)).await?;
        Ok(snapshot.credentials.clone())
    }

    /// Says that a service has refused these credentials. If, and only if, they are still the current ones, the next caller waits
    /// for new ones; what was derived from them, such as a role that was assumed with them, is derived anew, too. Derived
    /// credentials can be named here as well. `false`: they are not current.
    pub fn invalidate(&self, credentials: &Credentials) -> bool {
        self.current.invalidate_signer(credentials.access_key_id())
    }

    /// `base` with this provider's credentials, and the identity cache that is told of every switch. An operation is signed by
    /// whoever is signed in when it starts, to its last retry; one that cannot go on so fails with
    /// [`ErrorKind::SessionEnded`](crate::ErrorKind::SessionEnded).
    ///
    /// # Other credentials on this configuration
    ///
    /// The cache answers for other credentials providers, too, if a client has one in the place of ours:
    ///
    /// | | |
    /// |---|---|
    /// | one that asks ours: a role that is assumed with our credentials, a chain, a wrapper | what it answers belongs to the session that it asked: it is cached for that session, and ends with it |
    /// | one that asks ours in a task of its own | the same for our credentials as they are. What it derives from them is cached for the session, and an operation whose retry would be signed with another access key after a switch fails |
    /// | one that has nothing to do with ours: the machine's own role, a bearer token | it goes on working after a sign-out; it is cached as by the SDK, until the login changes |
    /// | a provider of other users, with sessions of its own | its operations keep to its sessions |
    ///
    /// Operations on an S3 directory bucket, which S3 signs with a session of the bucket, keep to the user's session, too.
    ///
    /// # What it cannot know
    ///
    /// - A wrapper that itself keeps what it has *derived*, such as the credentials of an assumed role, across a switch: what comes from
    ///   such a store does not tell whose it is. Let the cache do the keeping. (Our credentials as they are it does recognise.)
    /// - In a client that is bound to a session, what a wrapper derives in a task of its own from the *provider*: give it the session.
    /// - An operation that has credentials or an identity cache of its own, by `config_override`: the lease covers it.
    ///
    /// Under the SDK's cache, with a lease that is over in the middle of an operation, a retry may be signed by the next user:
    /// [`rejection_interceptor`](Self::rejection_interceptor) stops it.
    ///
    /// ```
    /// # use cognito_identity_pool::CognitoCredentialsProvider;
    /// # async fn example(provider: CognitoCredentialsProvider, base: aws_config::SdkConfig) {
    /// let config = provider.sdk_config(&base);
    /// let reports = aws_config::sts::AssumeRoleProvider::builder("arn:aws:iam::123456789012:role/reports")
    ///     .configure(&config)
    ///     .build()
    ///     .await;
    /// let on_role = aws_sdk_sts::config::Builder::from(&config).credentials_provider(reports).build();
    /// let client = aws_sdk_sts::Client::from_conf(on_role); // the role, as assumed by whoever is signed in
    /// # }
    /// ```
    pub fn sdk_config(&self, base: &SdkConfig) -> SdkConfig {
        identity_cache::config(base, self.served())
    }

    /// The identity cache of [`sdk_config`](Self::sdk_config), for a configuration that is built elsewhere.
    ///
    /// Our provider arrives there in a wrapper, so the cache asks it about once a second whether its credentials are still the
    /// session's own. All else is as for [`sdk_config`](Self::sdk_config).
    ///
    /// ```
    /// # use cognito_identity_pool::CognitoCredentialsProvider;
    /// # fn example(provider: CognitoCredentialsProvider, base: aws_config::SdkConfig) {
    /// let config = aws_sdk_sts::config::Builder::from(&base)
    ///     .credentials_provider(provider.clone())
    ///     .identity_cache(provider.identity_cache())
    ///     .build();
    /// # }
    /// ```
    pub fn identity_cache(&self) -> SharedIdentityCache {
        identity_cache::identity_cache(self.served())
    }

    fn served(&self) -> BoundProvider {
        BoundProvider {
            current: Arc::clone(&self.current),
            bound: None,
        }
    }
}

impl ProvideCredentials for CognitoCredentialsProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.current.provide(None)
    }
}

impl fmt::Debug for CognitoCredentialsProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.current.in_force.load();
        f.debug_struct("CognitoCredentialsProvider")
            .field("identity_pool_id", &self.current.context.pool)
            .field("login", &state.login)
            .field("epoch", &state.epoch)
            .finish()
    }
}
