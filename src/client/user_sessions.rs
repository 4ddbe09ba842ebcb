//! Sessions of many users at once. Each is one user's for good, and keeps the user's credentials and nothing else: the caches of an
//! exchange are made for the exchange, and the token goes with them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use aws_smithy_async::rt::sleep::SharedAsyncSleep;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::builder::CognitoCredentialsProviderBuilder;
use super::context::Context;
use super::current_session::{CurrentSession, NEXT_EPOCH};
use super::exchange::{SessionCaches, Snapshot};
use super::identity_state::IdentityState;
use super::kept_identities::KeptIdentities;
use super::lease::LeaseSlot;
use super::login::Login;
use super::pin::UNPINNED;
use super::resolution::{SessionId, SessionMark};
use super::session::Session;
use super::session_state::SessionState;
use crate::clock::Clock;
use crate::error::Error;
use crate::metrics::{self, By, Since};
use crate::refresh::{CacheStatus, HotValue, LoadRequest, Loaded, RefreshCache, Setup, Source, WeakCache};

/// What the sessions have in common.
pub(crate) struct UserSessions {
    context: Arc<Context>,
    setup: Arc<Setup>,
}

/// Whose credentials they are.
pub(crate) trait Principal: Send + Sync + 'static {
    /// The sessions that the user's is one of.
    fn sessions(&self) -> &UserSessions;

    /// How the user signs in, asked for each exchange.
    fn login(self: &Arc<Self>) -> Login;

    /// An exchange has ended; `first` if there were no credentials before.
    fn exchanged(&self, first: bool, result: Result<(), &Error>);
}

/// The exchanges of one user.
struct Exchanges<P> {
    of: Arc<P>,
    cache: WeakCache<Snapshot, Error>,
}

impl<P: Principal> Source<Snapshot, Error> for Exchanges<P> {
    fn load(&self, request: LoadRequest) -> BoxFuture<'static, Result<Loaded<Snapshot>, Error>> {
        let of = Arc::clone(&self.of);
        let known = self.cache.current().map(|snapshot| snapshot.identity_id.clone());
        let first = known.is_none();
        let context = Arc::clone(&of.sessions().context);
        let caches = SessionCaches::new(context, of.login(), UNPINNED, IdentityState::already(known), None);
        async move {
            let since = Since::now(of.sessions().clock());
            let loaded = caches.exchange(request).await;
            metrics::exchange_took(By::Users, since, of.sessions().clock());
            let loaded = loaded?;
            of.exchanged(first, Ok(()));
            Ok(loaded)
        }
        .boxed()
    }

    fn failed(&self, error: &Error) {
        self.of.exchanged(self.cache.current().is_none(), Err(error));
    }
}

/// One user's credentials, kept fresh. Clones share them.
#[derive(Clone)]
pub(crate) struct UserSessionCredentials(RefreshCache<Snapshot, Error>);

/// A session that somebody may still hold.
pub(crate) struct WeakSession(Weak<CurrentSession>);

impl UserSessions {
    pub(crate) fn new(builder: CognitoCredentialsProviderBuilder) -> Result<Self, Error> {
        let context = Arc::new(builder.context()?);
        let setup = Setup::new(
            context.policy.clone(),
            context.clock.clone(),
            Some(context.sleep.clone()),
        );
        Ok(Self { context, setup })
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.context.clock
    }

    #[cfg_attr(
        not(feature = "rt-tokio"),
        allow(dead_code, reason = "for the refresher, which is a task")
    )]
    pub(crate) fn sleep(&self) -> &SharedAsyncSleep {
        &self.context.sleep
    }

    /// Credentials of a user, to be loaded when they are asked for.
    pub(crate) fn credentials<P: Principal>(&self, of: &Arc<P>) -> UserSessionCredentials {
        UserSessionCredentials(RefreshCache::sharing(Arc::clone(&self.setup), |cache| {
            Arc::new(Exchanges {
                of: Arc::clone(of),
                cache,
            })
        }))
    }

    /// A session that serves `credentials`.
    pub(crate) fn session(&self, credentials: &UserSessionCredentials) -> Session {
        self.start(Some(credentials.0.clone()), None)
    }

    /// A session that answers with `error` alone.
    pub(crate) fn closed(&self, error: Error) -> Session {
        self.start(None, Some(error))
    }

    fn start(&self, credentials: Option<RefreshCache<Snapshot, Error>>, closed: Option<Error>) -> Session {
        let epoch = NEXT_EPOCH.fetch_add(1, Ordering::Relaxed);
        let current = CurrentSession {
            context: Arc::clone(&self.context),
            hot: credentials.as_ref().map_or_else(HotValue::empty, HotValue::of),
            in_force: ArcSwap::new(state(epoch, credentials, closed)),
            provider: user_session(epoch).provider,
            leased: LeaseSlot::default(),
            switching: Mutex::default(),
        };
        Session {
            current: Arc::new(current),
            epoch,
        }
    }
}

/// Users have nothing in common with each other: to each session a provider of its own.
fn user_session(epoch: u64) -> SessionId {
    let provider = usize::try_from(epoch).unwrap_or(usize::MAX);
    SessionId { epoch, provider }
}

/// The login is of no use to a session that serves what it was given.
fn state(epoch: u64, credentials: Option<RefreshCache<Snapshot, Error>>, closed: Option<Error>) -> Arc<SessionState> {
    Arc::new(SessionState {
        epoch,
        login: Login::signed_out(),
        caches: None,
        credentials,
        closed,
        mark: SessionMark::new(user_session(epoch)),
        kept: KeptIdentities::default(),
        overruled: AtomicBool::new(false),
    })
}

impl UserSessionCredentials {
    #[cfg_attr(
        not(feature = "rt-tokio"),
        allow(dead_code, reason = "for the refresher, which is a task")
    )]
    pub(crate) fn status(&self) -> CacheStatus {
        self.0.status()
    }

    /// See [`RefreshCache::refresh_ahead`].
    #[cfg_attr(
        not(feature = "rt-tokio"),
        allow(dead_code, reason = "for the refresher, which is a task")
    )]
    pub(crate) fn refresh_ahead(&self) -> bool {
        self.0.refresh_ahead()
    }
}

impl Session {
    /// From now on everybody who holds the session gets `error`, those who wait included.
    pub(crate) fn close(&self, error: Error) {
        let switching = self.current.switching.lock().unwrap_or_else(PoisonError::into_inner);
        self.current.install(switching, state(self.epoch, None, Some(error)));
    }

    /// Whether anybody has it besides whoever asks.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.current) > 1
    }

    pub(crate) fn downgrade(&self) -> WeakSession {
        WeakSession(Arc::downgrade(&self.current))
    }
}

impl WeakSession {
    pub(crate) fn upgrade(&self) -> Option<Session> {
        let current = self.0.upgrade()?;
        let epoch = current.epoch();
        Some(Session { current, epoch })
    }
}
