//! [`CurrentSession`]: the pointer to the session in force, what that session serves, and how another takes its place.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};

use super::context::{Context, PROVIDER_NAME};
use super::events::EventKind;
use super::exchange::{SessionCaches, Snapshot};
use super::identity_state::IdentityState;
use super::kept_identities::KeptIdentities;
use super::lease::{LeaseSlot, Leased};
use super::login::{Login, Who};
use super::pin;
use super::remembered_ids::RememberedId;
use super::resolution::{self, SessionId, SessionMark};
use crate::error::{Error, ErrorKind};
use crate::ids::IdentityId;
use crate::refresh::{self, Failure, HotValue, Reentry, RefreshCache};
use crate::store::Swapped;

/// What provider and sessions share: the one pointer to the session in force.
pub(super) struct CurrentSession {
    /// Whose sessions these are, see [`SessionId`].
    pub(super) provider: usize,
    pub(super) context: Arc<Context>,
    pub(super) in_force: ArcSwap<SessionState>,
    /// What the session in force serves, for hits. Changed under the lock of `switching`.
    pub(super) hot: HotValue<Snapshot>,
    /// The same as plain `ProvideCredentials` hands it out. Changed under the same lock.
    pub(super) leased: LeaseSlot,
    /// Asked when there is nothing fresh: see [`Login::decided_by`]. Its lock orders the changes of the pointer.
    pub(super) switching: Mutex<Option<Decide>>,
}

pub(super) type Decide = Arc<dyn Fn() -> Login + Send + Sync>;

/// The numbers of sessions, over all providers: an operation that is pinned to one is never taken for another's.
pub(super) static NEXT_EPOCH: AtomicU64 = AtomicU64::new(1);

impl CurrentSession {
    /// The number of the session in force.
    pub(super) fn epoch(&self) -> u64 {
        self.in_force.load().epoch
    }

    /// A hit: one pointer and a look at the clock.
    #[inline]
    pub(super) fn hit<R>(&self, bound: Option<u64>, read: impl FnOnce(Option<&Snapshot>) -> R) -> R {
        self.hot.read(&self.context.clock, |snapshot| {
            read(snapshot.filter(|snapshot| snapshot.serves(bound)))
        })
    }

    /// Makes hits of what `state` serves, if it is still in force.
    fn keep_hot(&self, state: &Arc<SessionState>, served: &refresh::Cached<Snapshot>) {
        if self.hot.is(served) {
            return;
        }
        if served.pin().is_some() {
            pin::remember(served.credentials.access_key_id(), &state.mark);
        }
        let _switching = self.switching.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&self.in_force.load(), state) {
            self.hot.put(served);
        }
    }

    /// Waits for credentials of the session in force, or of the one that the caller is bound to. Whoever waits while the pointer
    /// moves gets `SessionEnded`: neither the old nor the new user's.
    pub(super) async fn serve(&self, bound: Option<u64>) -> Result<Served, Error> {
        self.serve_from(bound, false).await
    }

    pub(super) async fn serve_from(&self, bound: Option<u64>, forced: bool) -> Result<Served, Error> {
        let mut state = self.look_up(bound)?;
        loop {
            let result = state.obtain(forced).await;
            let now = self.in_force.load();
            if now.epoch != state.epoch {
                return Err(Error::ended());
            }
            if !Arc::ptr_eq(&now, &state) {
                // `clear_credentials`: the same login, with empty caches.
                state = Arc::clone(&now);
                continue;
            }
            let snapshot = result?;
            self.keep_hot(&state, &snapshot);
            return Ok((state, snapshot));
        }
    }

    /// The session in force, after asking the app's closure where there is one.
    fn look_up(&self, bound: Option<u64>) -> Result<Arc<SessionState>, Error> {
        if Reentry::is_inside(self.context.id()) {
            return Err(Error::reentered());
        }
        self.decide();
        let state = self.in_force.load_full();
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
        let in_force = self.in_force.load();
        if in_force
            .credentials
            .as_ref()
            .is_some_and(|credentials| credentials.peek(|_| ()).is_some())
        {
            return;
        }
        // Not kept while the app's code runs.
        drop(in_force);
        let login = decided(&decide);
        let switching = self.switching.lock().unwrap_or_else(PoisonError::into_inner);
        let decides_still = switching.as_ref().is_some_and(|current| Arc::ptr_eq(current, &decide));
        if decides_still && !self.in_force.load().login.is_same_as(&login) {
            self.replace(switching, Some(decide), login, Arc::default());
        }
    }

    pub(super) async fn identity_id(&self, bound: Option<u64>) -> Result<IdentityId, Error> {
        let mut state = self.look_up(bound)?;
        loop {
            let result = match &state.caches {
                None if state.credentials.is_some() => Ok(None),
                None => return Err(state.nobody()),
                Some(caches) => caches.identity_id().await,
            };
            let now = self.in_force.load_full();
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

    /// As [`serve`](Self::serve), for whoever may be part of a resolution that is listened to.
    pub(super) async fn serve_heard(&self, bound: Option<u64>) -> Result<Served, Error> {
        if !resolution::is_overheard() {
            return self.serve(bound).await;
        }
        let bound = resolution::session_to_serve(self.provider, bound)?;
        // Noted at once: it counts as asked also if it fails, or if nobody waits for its answer.
        let before = Arc::clone(&self.in_force.load().mark);
        let is_news = !resolution::has_asked(&before);
        resolution::note(before.asked());
        let (state, snapshot) = self.serve(bound).await?;
        if !Arc::ptr_eq(&before, &state.mark) {
            // The app's closure has decided for another login meanwhile.
            if is_news {
                resolution::take_back(&before);
            }
            resolution::note(state.mark.asked());
        }
        Ok((state, snapshot))
    }

    pub(super) fn provide(&self, bound: Option<u64>) -> future::ProvideCredentials<'_> {
        let lease = || {
            future::ProvideCredentials::new(async move {
                let (state, snapshot) = self.serve_heard(bound).await.map_err(CredentialsError::from)?;
                Ok(self.lease(&state, &snapshot).credentials.clone())
            })
        };
        if resolution::is_overheard() {
            return lease();
        }
        let wall = self.context.clock.wall_millis();
        self.leased.read(bound, wall, |credentials| match credentials {
            Some(credentials) => future::ProvideCredentials::ready(Ok(credentials.clone())),
            None => lease(),
        })
    }

    /// What `state` serves, as it is handed out: the copy that there is, or a new one.
    fn lease(&self, state: &Arc<SessionState>, snapshot: &refresh::Cached<Snapshot>) -> Arc<Leased> {
        let now = self.context.clock.now();
        let serves = |leased: &Arc<Leased>| leased.is_of(snapshot, now);
        if let Some(leased) = self.leased.get().filter(serves) {
            return leased;
        }
        let _switching = self.switching.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leased) = self.leased.get().filter(serves) {
            return leased;
        }
        let leased = Arc::new(Leased::new(snapshot, self.context.lease, now));
        if Arc::ptr_eq(&self.in_force.load(), state) {
            self.leased.put(Some(Arc::clone(&leased)));
        }
        leased
    }

    /// A service has refused the credentials with this access key, which are the session's or were derived from them. `false`: they
    /// are not in use any more.
    pub(super) fn invalidate_signer(&self, access_key_id: &str) -> bool {
        let state = self.in_force.load();
        let invalidated = state
            .credentials
            .as_ref()
            .is_some_and(|credentials| credentials.invalidate(|snapshot| snapshot.has_key(access_key_id)));
        if invalidated {
            state.mark.renew();
        }
        state.kept.forget(access_key_id) || invalidated
    }

    /// Puts a session for `login` in the place of the one in force, and gives the lock back.
    pub(super) fn replace(
        &self,
        mut switching: MutexGuard<'_, Option<Decide>>,
        decide: Option<Decide>,
        login: Login,
        settled: Arc<IdentityState>,
    ) -> Arc<SessionState> {
        let epoch = NEXT_EPOCH.fetch_add(1, Ordering::Relaxed);
        *switching = decide;
        let was_out = self.in_force.load().login.is_signed_out();
        let mark = SessionMark::new(SessionId {
            epoch,
            provider: self.provider,
        });
        let state = self.install(state(&self.context, login, mark, settled));
        // A listener's waker is anybody's code.
        drop(switching);
        if state.login.is_signed_out() && !was_out {
            self.context.events.publish(epoch, EventKind::SignedOut);
        }
        state
    }

    /// A new session with the login of `old`, if that is still in force, and without what the slot remembers.
    #[allow(clippy::type_complexity, reason = "an `impl Future` has no other name")]
    pub(super) fn begin_anew(
        &self,
        old: &SessionState,
        slot: Option<Arc<RememberedId>>,
    ) -> Result<
        (
            Arc<SessionState>,
            Option<impl Future<Output = Result<Swapped, Error>> + use<>>,
        ),
        Error,
    > {
        let switching = self.switching.lock().unwrap_or_else(PoisonError::into_inner);
        if self.in_force.load().epoch != old.epoch {
            return Err(Error::ended());
        }
        let id = slot.as_ref().and_then(|slot| slot.in_memory());
        let stored = slot.zip(id).and_then(|(slot, id)| slot.swap(Some(&id), None));
        let decide = switching.clone();
        let state = self.replace(switching, decide, old.login.clone(), Arc::default());
        Ok((state, stored))
    }

    /// Under the lock of `switching`.
    pub(super) fn install(&self, state: Arc<SessionState>) -> Arc<SessionState> {
        let old = self.in_force.swap(Arc::clone(&state));
        // First the new one in force, then the news to those who wait for the old one.
        old.end();
        if Arc::ptr_eq(&old.mark, &state.mark) {
            old.mark.renew();
        } else {
            old.mark.end();
        }
        self.hot.clear();
        self.leased.put(None);
        tracing::debug!(epoch = state.epoch, login = ?state.login, "session in force");
        state
    }
}

/// What the provider's pointer points to.
pub(super) struct SessionState {
    pub(super) epoch: u64,
    pub(super) login: Login,
    /// `None`: signed out.
    pub(super) caches: Option<Arc<SessionCaches>>,
    pub(super) credentials: Option<RefreshCache<Snapshot, Error>>,
    /// Why nobody gets anything any more.
    pub(super) closed: Option<Error>,
    /// What is derived from the session has it.
    pub(super) mark: Arc<SessionMark>,
    /// What identity caches keep of other resolvers while the session is in force.
    pub(super) kept: KeptIdentities,
}

/// What a session serves, and which it was.
pub(super) type Served = (Arc<SessionState>, refresh::Cached<Snapshot>);

impl SessionState {
    /// Waits for credentials of this session; the caller looks afterwards whether it is still in force.
    pub(super) async fn obtain(&self, forced: bool) -> Result<refresh::Cached<Snapshot>, Error> {
        match &self.credentials {
            None => Err(self.nobody()),
            Some(credentials) if forced => credentials.refresh_now().await,
            Some(credentials) => credentials.get().await,
        }
    }

    pub(super) fn nobody(&self) -> Error {
        if let Some(error) = &self.closed {
            return error.clone();
        }
        match self.login.who {
            Who::SignedOut => Error::new(ErrorKind::SignedOut, "nobody is signed in")
                .with_hint("call switch_to with the user's Login, or with Login::guest()"),
            Who::Decided(_) => Error::new(ErrorKind::Configuration, "what decides the login has decided none")
                .with_hint("the closure of Login::decided_by panicked, or answered with another Login::decided_by"),
            _ => Error::ended(),
        }
    }

    /// Tells all who wait that the session is over, and lets go of what is secret.
    pub(super) fn end(&self) {
        if let Some(caches) = &self.caches {
            caches.end();
        }
        if let Some(credentials) = &self.credentials {
            credentials.end();
        }
        self.kept.clear();
    }
}

/// What the app's closure answers. One that panics, or hands the question on, has decided nothing.
pub(super) fn decided(decide: &Decide) -> Login {
    std::panic::catch_unwind(AssertUnwindSafe(|| decide())).unwrap_or_else(|_| Login::decided_by(Login::signed_out))
}

pub(super) fn state(
    context: &Arc<Context>,
    login: Login,
    mark: Arc<SessionMark>,
    settled: Arc<IdentityState>,
) -> Arc<SessionState> {
    let epoch = mark.id.epoch;
    let caches = match login.who {
        Who::SignedOut | Who::Decided(_) => None,
        _ => Some(SessionCaches::new(Arc::clone(context), login.clone(), epoch, settled)),
    };
    let credentials = caches.as_ref().map(SessionCaches::credentials);
    Arc::new(SessionState {
        epoch,
        login,
        caches,
        credentials,
        closed: None,
        mark,
        kept: KeptIdentities::default(),
    })
}

/// What an SDK client is given: the provider, or a session of it.
#[derive(Clone)]
pub(super) struct BoundProvider {
    pub(super) current: Arc<CurrentSession>,
    pub(super) bound: Option<u64>,
}

impl BoundProvider {
    /// The session that it is bound to.
    pub(super) fn session(&self) -> Option<SessionId> {
        let provider = self.current.provider;
        self.bound.map(|epoch| SessionId { epoch, provider })
    }
}

impl ProvideCredentials for BoundProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.current.provide(self.bound)
    }
}

impl fmt::Debug for BoundProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(PROVIDER_NAME).field("session", &self.bound).finish()
    }
}
