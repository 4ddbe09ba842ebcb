//! [`CurrentSession`]: the pointer to the session in force, what that session serves, and how another takes its place.

mod deciding;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};

use super::app_code::{drop_quietly, quietly};
use super::context::{Context, PROVIDER_NAME};
use super::events::EventKind;
use super::exchange::{Consult, Snapshot};
use super::identity_state::{IdentityState, SignIn};
use super::lease::{LeaseSlot, Leased};
use super::login::{Login, Who};
use super::login_status::{LoginKind, LoginStatus};
use super::pin;
use super::remembered_ids::RememberedId;
use super::resolution::{self, SessionId, SessionMark};
use super::session_state::{Demand, Served, SessionState, state};
use super::store_queue::Stored;
use crate::error::{Error, ErrorKind};
use crate::ids::IdentityId;
use crate::metrics;
use crate::refresh::{self, Failure, HotValue, Reentry, RefreshCache};
use crate::token::OpenIdToken;

pub(super) use self::deciding::{decided, undecided};

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
    /// Its lock orders the changes of the pointer. Nothing of the app's runs under it: what is replaced is ended, woken, dropped and
    /// told of afterwards, see [`install`](Self::install).
    pub(super) switching: Mutex<Switching>,
}

/// Who decides the login, and which of its answers counts.
#[derive(Default)]
pub(super) struct Switching {
    /// Asked when there are no credentials that serve: see [`Login::decided_by`].
    decide: Option<Decide>,
    /// How often it was asked; each question has the next number.
    asked: u64,
    /// The answers up to this number count no more: a newer one was taken, or the login changed otherwise.
    settled: u64,
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
        let _switching = self.switching();
        if Arc::ptr_eq(&self.in_force.load(), state) {
            self.hot.put(served);
        }
    }

    fn switching(&self) -> MutexGuard<'_, Switching> {
        self.switching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for credentials of the session in force, or of the one that the caller is bound to. Whoever waits while the pointer
    /// moves gets `SessionEnded`: neither the old nor the new user's. Only where it was the app's closure that decided for another
    /// login, on behalf of those who wait, they go on with that one.
    pub(super) async fn serve(self: &Arc<Self>, bound: Option<u64>) -> Result<Served, Error> {
        self.serve_from(bound, Demand::Fresh).await
    }

    pub(super) async fn serve_from(self: &Arc<Self>, bound: Option<u64>, mut demand: Demand) -> Result<Served, Error> {
        let mut state = self.look_up(bound)?;
        let asked = self.switching().asked;
        let mut consulted = false;
        loop {
            let renewals = state.renewals();
            let result = state.obtain(demand).await;
            let error = match self.follow(&mut state, bound)? {
                Followed::Elsewhere => continue,
                Followed::InForce => match result {
                    Ok(snapshot) => {
                        self.keep_hot(&state, &snapshot);
                        state.count_use();
                        return Ok((state, snapshot));
                    }
                    Err(error) => error,
                },
            };
            // A failure that is remembered, or that a load has met which was begun before this call: the app may know better by now.
            if std::mem::replace(&mut consulted, true) || !self.consult(asked) {
                return Err(error);
            }
            match self.follow(&mut state, bound)? {
                Followed::Elsewhere => {}
                Followed::InForce if state.renewals() != renewals => demand = Demand::Forced,
                Followed::InForce => return Err(error),
            }
        }
    }

    /// Goes on with the session that took the place of `state`, if the caller may.
    fn follow(&self, state: &mut Arc<SessionState>, bound: Option<u64>) -> Result<Followed, Error> {
        let now = self.in_force.load_full();
        if Arc::ptr_eq(&now, state) {
            return Ok(Followed::InForce);
        }
        // `clear_credentials` leaves the number; or the closure has decided.
        let follows = now.epoch == state.epoch || (bound.is_none() && state.overruled.load(Ordering::SeqCst));
        drop_quietly(std::mem::replace(state, now));
        if follows {
            Ok(Followed::Elsewhere)
        } else {
            Err(Error::ended())
        }
    }

    /// The session in force, after asking the app's closure where it is the only one who can say whose that is.
    fn look_up(self: &Arc<Self>, bound: Option<u64>) -> Result<Arc<SessionState>, Error> {
        if Reentry::is_inside(self.context.id()) {
            return Err(Error::reentered());
        }
        let mut state = self.in_force.load_full();
        if state.credentials.is_none() && self.consult(u64::MAX) {
            state = self.in_force.load_full();
        }
        if bound.is_some_and(|epoch| epoch != state.epoch) {
            Err(Error::ended())
        } else {
            Ok(state)
        }
    }

    pub(super) async fn identity_id(self: &Arc<Self>, bound: Option<u64>) -> Result<IdentityId, Error> {
        let mut state = self.look_up(bound)?;
        if !state.serves() && self.consult(u64::MAX) {
            self.follow(&mut state, bound)?;
        }
        loop {
            let result = match &state.caches {
                None if state.credentials.is_some() => Ok(None),
                None => return Err(state.nobody()),
                Some(caches) => caches.identity_id().await,
            };
            if let Followed::InForce = self.follow(&mut state, bound)? {
                return match result? {
                    Some(id) => Ok(id),
                    None => Ok(self.serve(Some(state.epoch)).await?.1.identity_id.clone()),
                };
            }
        }
    }

    /// The user's token, for whoever waits in the session that is in force or bound to.
    pub(super) async fn open_id_token(self: &Arc<Self>, bound: Option<u64>) -> Result<OpenIdToken, Error> {
        // The first exchange decides who the user is.
        let (state, snapshot) = self.serve(bound).await?;
        let token = match &state.caches {
            Some(caches) => caches.open_id_token(&snapshot.identity_id).await,
            None => Err(Error::new(
                ErrorKind::Configuration,
                "this session gets credentials from a vendor in this process, and has no token",
            )
            .with_hint("ask the vendor itself")),
        };
        if self.in_force.load().epoch != state.epoch {
            return Err(Error::ended());
        }
        token
    }

    /// As [`serve`](Self::serve), for whoever may be part of a resolution that is listened to.
    pub(super) async fn serve_heard(self: &Arc<Self>, bound: Option<u64>) -> Result<Served, Error> {
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

    pub(super) fn provide<'a>(self: &'a Arc<Self>, bound: Option<u64>) -> future::ProvideCredentials<'a> {
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
        let _switching = self.switching();
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

    /// What became of the sign-in of this session, if it is in force and has made its first exchange.
    pub(super) fn signed_in(&self, epoch: u64) -> Option<SignIn> {
        let state = self.in_force.load();
        state.caches.as_ref().filter(|_| state.epoch == epoch)?.sign_in()
    }

    /// What is known without asking anybody.
    pub(super) fn status(&self) -> LoginStatus {
        let state = self.in_force.load_full();
        let (cached, now) = (
            state.credentials.as_ref().and_then(RefreshCache::current),
            self.context.clock.now(),
        );
        let known = state.caches.as_ref().map(|caches| caches.identity_state().known());
        let expires = known
            .as_ref()
            .and_then(|known| known.expires)
            .filter(|expiry| cached.is_some() && !expiry.is_over(now));
        let kind = match state.login.who {
            Who::SignedOut | Who::Decided(_) if state.credentials.is_none() => LoginKind::SignedOut,
            Who::Guest => LoginKind::Guest,
            _ => LoginKind::User,
        };
        let identity_id = cached.map(|snapshot| snapshot.identity_id.clone());
        let identity_id = identity_id.or_else(|| known.as_ref().and_then(|known| known.identity.clone()));
        let remembered = || match &state.caches {
            Some(_) if state.login.is_guest() => self.context.guest.in_memory(),
            Some(caches) => caches.remembered().and_then(|slot| slot.in_memory()),
            None => None,
        };
        LoginStatus {
            epoch: state.epoch,
            kind,
            identity_id: identity_id.or_else(remembered),
            expires_at: expires.map(|expiry| expiry.system_time()),
            needs_sign_in: kind == LoginKind::SignedOut || known.is_some_and(|known| known.needs_sign_in),
        }
    }

    /// Puts a session for `login` in the place of the one in force.
    pub(super) fn change(
        self: &Arc<Self>,
        decide: Option<Decide>,
        login: Login,
        identity: Arc<IdentityState>,
    ) -> Arc<SessionState> {
        self.replace(self.switching(), Cause::App, decide, login, identity)
    }

    fn replace(
        self: &Arc<Self>,
        mut switching: MutexGuard<'_, Switching>,
        cause: Cause,
        decide: Option<Decide>,
        login: Login,
        identity: Arc<IdentityState>,
    ) -> Arc<SessionState> {
        let epoch = NEXT_EPOCH.fetch_add(1, Ordering::Relaxed);
        if let Cause::App = cause {
            // Answers to what was asked before are about another state of the app.
            switching.settled = switching.asked;
        }
        let old_decide = std::mem::replace(&mut switching.decide, decide);
        let was_out = self.in_force.load().login.is_signed_out();
        let mark = SessionMark::new(SessionId {
            epoch,
            provider: self.provider,
        });
        let state = self.state(&switching, cause, login, mark, identity);
        self.install(switching, Arc::clone(&state));
        drop_quietly(old_decide);
        metrics::login_changed(state.login.kind());
        if state.login.is_signed_out() && !was_out {
            self.context.events.publish(epoch, EventKind::SignedOut);
        }
        state
    }

    /// The same session with empty caches.
    pub(super) fn clear_credentials(self: &Arc<Self>) {
        let mut switching = self.switching();
        switching.settled = switching.asked;
        let old = self.in_force.load_full();
        let (login, identity) = match &old.caches {
            Some(caches) => (caches.newest_login(), caches.identity_state()),
            None => (old.login.clone(), Arc::default()),
        };
        let state = self.state(&switching, Cause::App, login, Arc::clone(&old.mark), identity);
        self.install(switching, state);
        drop_quietly(old);
    }

    /// A new session with the login of `old`, if that is still in force, and without what the slot remembers.
    pub(super) fn begin_anew(
        self: &Arc<Self>,
        old: &SessionState,
        slot: Option<Arc<RememberedId>>,
    ) -> Result<(Arc<SessionState>, Option<Stored>), Error> {
        let switching = self.switching();
        if self.in_force.load().epoch != old.epoch {
            return Err(Error::ended());
        }
        let id = slot.as_ref().and_then(|slot| slot.in_memory());
        let stored = slot.zip(id).and_then(|(slot, id)| slot.swap(Some(&id), None));
        let login = old
            .caches
            .as_ref()
            .map_or_else(|| old.login.clone(), |caches| caches.newest_login());
        let decide = switching.decide.clone();
        let state = self.replace(switching, Cause::App, decide, login, Arc::default());
        Ok((state, stored))
    }

    fn state(
        self: &Arc<Self>,
        switching: &Switching,
        cause: Cause,
        login: Login,
        mark: Arc<SessionMark>,
        identity: Arc<IdentityState>,
    ) -> Arc<SessionState> {
        let epoch = mark.id.epoch;
        let consult = switching.decide.is_some().then(|| {
            let current = Arc::downgrade(self);
            let just_decided = AtomicBool::new(matches!(cause, Cause::Decision));
            let consult: Consult = Box::new(move || match current.upgrade() {
                // It was made by an answer, for those who wait.
                Some(_) if just_decided.swap(false, Ordering::SeqCst) => true,
                Some(current) => {
                    current.consult(u64::MAX);
                    current.epoch() == epoch
                }
                None => false,
            });
            consult
        });
        state(&self.context, login, mark, identity, consult)
    }

    /// Puts `state` in force. The lock is given back before anything of the app's runs: the old session is ended, which wakes those
    /// who wait for it and drops what it was loading; its login is dropped; and a panic in any of that skips none of the rest.
    pub(super) fn install(&self, switching: MutexGuard<'_, Switching>, state: Arc<SessionState>) {
        let (epoch, login) = (state.epoch, format!("{:?}", state.login));
        let mark = Arc::clone(&state.mark);
        let old = self.in_force.swap(state);
        if Arc::ptr_eq(&old.mark, &mark) {
            mark.renew();
        } else {
            old.mark.end();
        }
        self.hot.clear();
        self.leased.put(None);
        drop(switching);
        old.end();
        drop_quietly(old);
        quietly(|| tracing::debug!(epoch, login, "session in force"));
    }
}

/// Who changes the login.
#[derive(Clone, Copy)]
enum Cause {
    /// By a call.
    App,
    /// By the answer of [`Login::decided_by`], which those who wait go on with.
    Decision,
}

enum Followed {
    /// What the caller has waited for.
    InForce,
    /// Another one is, and the caller goes on with that.
    Elsewhere,
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
