//! From a login to an identity id and credentials: what a session's three caches load, and what a refusal makes them do again.
//!
//! - *proof*: the logins to show. For a developer user the backend's token, kept as long as it serves; for external logins
//!   whatever their provider says, once per exchange.
//! - *identity*: the id from the guest slot, the store, or `GetId`. A developer's comes with the proof.
//! - *credentials*: the exchange of the two.

mod identity_id;
mod login_proof;
mod snapshot;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use self::login_proof::{LoginProof, ProofRequest, Proofs};
pub(super) use self::snapshot::Snapshot;
use super::app_code::{drop_quietly, quietly};
use super::context::{Context, PROVIDER_NAME};
use super::detached::to_its_end;
use super::events::EventKind;
use super::guest::IdentityPolicy;
use super::guest::LinkReservation;
use super::identity_state::{Expected, IdentityState, SignIn};
use super::login::{Login, Who};
use super::pin::UNPINNED;
use super::remembered_ids::RememberedId;
use super::resolution::SessionId;
use crate::clock::Expiry;
use crate::developer::RefreshRequest;
use crate::error::{BackendError, Cause, CauseKind, Error, ErrorKind};
use crate::ids::IdentityId;
use crate::logins::Logins;
use crate::metrics::{self, By, Since};
use crate::refresh::{Failure, LoadRequest, Loaded, Reason, Reentry, RefreshCache, RefreshPolicy, Source, load_fn};
use crate::service::Exchanged;
use crate::service::refusal::{Refused, Remedy};
use crate::token::RefreshReason;

/// A refresh that fails is news when the credentials at hand have less life left.
const FAILING: Duration = Duration::from_secs(5 * 60);

/// A session's caches.
pub(super) struct SessionCaches {
    context: Arc<Context>,
    /// How the session began. Who supplies the proof may have been renewed since: see [`newest_login`](Self::newest_login).
    login: Login,
    newest: Mutex<Login>,
    renewals: AtomicU64,
    epoch: u64,
    identity_state: Arc<IdentityState>,
    /// Where the identity of a person with a name is remembered.
    remembered: Option<Arc<RememberedId>>,
    proofs: Proofs,
    identity: RefreshCache<IdentityId, Error>,
    /// Asks the app whose the session is to be, before each exchange. `false`: it is over.
    consult: Option<Consult>,
    /// When the first exchange began.
    first_use: OnceLock<Since>,
}

pub(super) type Consult = Box<dyn Fn() -> bool + Send + Sync>;

/// The exchanges of a session.
struct Exchanges(Arc<SessionCaches>);

impl Source<Snapshot, Error> for Exchanges {
    fn load(&self, request: LoadRequest) -> BoxFuture<'static, Result<Loaded<Snapshot>, Error>> {
        let caches = Arc::clone(&self.0);
        async move {
            if caches.consult.as_ref().is_some_and(|goes_on| !goes_on()) {
                return Err(Error::ended());
            }
            let since = Since::now(&caches.context.clock);
            let began = *caches.first_use.get_or_init(|| since);
            let first = caches.is_first();
            let (context, login) = (Arc::clone(&caches.context), caches.login.kind());
            let exchanged = caches.exchange(request).await;
            metrics::exchange_took(By::Client, since, &context.clock);
            if exchanged.is_ok() {
                metrics::exchange(By::Client, first, "ok");
                if first {
                    metrics::first_credentials(login, began, &context.clock);
                }
            }
            exchanged
        }
        .boxed()
    }

    fn failed(&self, error: &Error) {
        metrics::exchange(By::Client, self.0.is_first(), metrics::of_kind(error.kind()));
        self.0.tell_of_failure(error);
    }
}

impl SessionCaches {
    /// `identity_state` is what is known beforehand: of the same session, before its credentials were cleared, or of the same
    /// person.
    pub(super) fn new(
        context: Arc<Context>,
        login: Login,
        epoch: u64,
        identity_state: Arc<IdentityState>,
        consult: Option<Consult>,
    ) -> Arc<Self> {
        let policy = RefreshPolicy::builder()
            .load_timeout(context.policy.load_timeout())
            .build();
        let remembered = login.subject.as_deref().and_then(|subject| context.remembered(subject));
        Arc::new_cyclic(|caches: &Weak<Self>| {
            let caches = Weak::clone(caches);
            let identity = context.cache(
                policy,
                load_fn(move |request| {
                    let forced = request.reason == Reason::Forced;
                    match caches.upgrade() {
                        Some(caches) => caches.load_identity(forced).boxed(),
                        None => ready(Err(Error::ended())).boxed(),
                    }
                }),
            );
            Self {
                context,
                newest: Mutex::new(login.clone()),
                login,
                renewals: AtomicU64::new(0),
                epoch,
                identity_state,
                remembered,
                proofs: Proofs::default(),
                identity,
                consult,
                first_use: OnceLock::new(),
            }
        })
    }

    /// The login with whoever supplies the newest tokens of the same person.
    pub(super) fn newest_login(&self) -> Login {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts `login` in the place of the newest, and answers that one, which is to be dropped.
    pub(super) fn renew(&self, login: Login) -> Login {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if login.has_other_tokens_than(&newest) {
            self.renewals.fetch_add(1, Ordering::SeqCst);
        }
        std::mem::replace(&mut newest, login)
    }

    /// How often other tokens came with a renewal.
    pub(super) fn renewals(&self) -> u64 {
        self.renewals.load(Ordering::SeqCst)
    }

    /// The cache that the session serves from.
    pub(super) fn credentials(self: &Arc<Self>) -> RefreshCache<Snapshot, Error> {
        // The caches do not own it, so it may own them.
        let exchanges = Exchanges(Arc::clone(self));
        self.context.cache(self.context.policy.clone(), Arc::new(exchanges))
    }

    pub(super) fn end(&self) {
        quietly(|| self.identity.end());
        self.proofs.end();
    }

    pub(super) fn sign_in(&self) -> Option<SignIn> {
        let known = self.identity_state.known();
        Some(SignIn {
            identity_id: known.identity?,
            outcome: known.outcome?,
            not_stored: known.not_stored,
        })
    }

    /// Where the identity of a person with a name is remembered.
    pub(super) fn remembered(&self) -> Option<Arc<RememberedId>> {
        self.remembered.clone()
    }

    pub(super) fn identity_state(&self) -> Arc<IdentityState> {
        Arc::clone(&self.identity_state)
    }

    pub(super) fn known_identity(&self) -> Option<IdentityId> {
        self.identity_state.known().identity
    }

    /// The identity id without an exchange, where it can be had so. `None`: the exchange decides it.
    pub(super) async fn identity_id(&self) -> Result<Option<IdentityId>, Error> {
        if let Some(known) = self.known_identity() {
            return Ok(Some(known));
        }
        if let Some(fixed) = self.login.fixed_identity() {
            return Ok(Some(fixed.clone()));
        }
        let undecided = match self.login.who {
            // A guest who may be linked decides who the user is, and only the exchange tells.
            Who::External(_) => self.context.guest.peek().await?.is_some(),
            // It may be a user by now.
            Who::Guest => self.context.guest.known().await?.in_doubt,
            _ => false,
        };
        if undecided {
            return Ok(None);
        }
        match (self.identity.get().await, &self.login.who) {
            (Ok(id), _) => Ok(Some(IdentityId::clone(&id))),
            // As for a guest, what is remembered does where nobody can be asked. The exchange finds out if it has changed.
            (Err(error), Who::Developer { .. }) if error.is_retryable() => match self.stored().await {
                Ok(Some(stored)) => Ok(Some(stored)),
                _ => Err(error),
            },
            (Err(error), _) => Err(error),
        }
    }

    /// What is remembered of a person with a name.
    async fn stored(&self) -> Result<Option<IdentityId>, Error> {
        match &self.remembered {
            Some(slot) => slot.get().await,
            None => Ok(None),
        }
    }

    /// Sets what the outcome is measured by, unless it is set.
    fn set_expected(&self, id: Option<IdentityId>, as_whose: Expected) {
        if let Some(id) = id {
            self.identity_state
                .change(|known| _ = known.expected.get_or_insert((id, as_whose)));
        }
    }

    /// There have been no credentials yet.
    fn is_first(&self) -> bool {
        metrics::ENABLED && self.identity_state.known().expires.is_none()
    }

    fn tell(&self, what: EventKind) {
        self.context.events.publish(self.epoch, what);
    }

    fn tell_of_failure(&self, error: &Error) {
        let (mut expires, mut news) = (None, false);
        self.identity_state.change(|known| {
            expires = known.expires;
            news = !std::mem::replace(&mut known.needs_sign_in, error.needs_sign_in());
        });
        let error = error.clone();
        if error.needs_sign_in() {
            if news {
                self.tell(EventKind::NeedsSignIn { error });
            }
        } else if expires.is_some_and(|expiry| expiry.remaining(self.context.clock.now()) < FAILING) {
            self.tell(EventKind::RefreshFailing { error });
        }
    }

    /// Calls the app's code: one call at a time in a session, marked so that it is recognised if it comes back.
    async fn hook<T>(&self, call: BoxFuture<'_, Result<T, BackendError>>) -> Result<T, Error> {
        let _turn = self.identity_state.turn(&self.context.patience).await;
        let id = self.context.id();
        let marked = Reentry { id, load: call };
        match AssertUnwindSafe(marked).catch_unwind().await {
            Ok(answer) => Ok(answer?),
            Err(panic) => {
                drop_quietly(panic);
                // Not its message: it may quote a response.
                Err(Error::new(ErrorKind::Panicked, "the app's hook panicked")
                    .with_hint("the panic's own message went to the panic hook of the process, stderr by default"))
            }
        }
    }

    /// Keeps in mind that an id could not be stored, for the report of the sign-in.
    fn note_stored(&self, stored: Result<(), Error>) {
        if let Err(error) = stored {
            self.identity_state.change(|known| known.not_stored = Some(error));
        }
    }

    fn request(&self, ask: ProofRequest, guest: Option<&LinkReservation>, external_logins: Logins) -> RefreshRequest {
        RefreshRequest {
            reason: ask.reason,
            attempt: ask.attempt,
            identity_id: self.known_identity().filter(|_| !ask.forget),
            guest_to_link: guest.map(|reservation| reservation.id().clone()),
            external_logins,
        }
    }

    pub(super) async fn exchange(self: Arc<Self>, request: LoadRequest) -> Result<Loaded<Snapshot>, Error> {
        self.context.check_runtime()?;
        let mut ask = ProofRequest {
            reason: why(request.reason),
            forget: self.identity_state.known().lost,
            ..ProofRequest::FIRST
        };
        let mut held = self.proof(ask).await?;
        // At most one new token and one reset of the identity in an exchange.
        let (mut new_token, mut reset) = (true, true);
        loop {
            let refused = match self.attempt(&mut held, ask.forget).await {
                Ok(loaded) => return Ok(loaded),
                Err(refused) => refused,
            };
            let external = matches!(self.login.who, Who::External(_));
            ask.attempt += 1;
            self.tell_if_lost(&refused.error, &held).await;
            match refused.remedy {
                Remedy::NewToken if !self.login.is_guest() => {
                    held.reject();
                    if !new_token || (external && held.renewed) {
                        return Err(self.explained(refused.error));
                    }
                    new_token = false;
                    held = self.proof(ask).await?;
                }
                Remedy::NewIdentity | Remedy::NewIdentityIfStored if reset && self.may_reset(&refused, &held).await => {
                    reset = false;
                    ask.forget = true;
                    if let Who::Developer { .. } = self.login.who {
                        // An outage in the middle of the recovery must not end it: the next exchange goes on with it.
                        self.identity_state.change(|known| known.lost = true);
                        new_token = false;
                        held.reject();
                        held = self.proof(ask).await?;
                    } else {
                        self.identity.refresh_now().await?;
                    }
                }
                _ => return Err(self.explained(refused.error)),
            }
        }
    }

    async fn tell_if_lost(&self, error: &Error, held: &LoginProof) {
        let shown = held.identity.clone().or_else(|| self.known_identity());
        let shown = shown.or_else(|| self.identity.current().map(|id| IdentityId::clone(&id)));
        let (Some(gone), Some(identity_id)) = (Gone::of(error), shown) else {
            return;
        };
        // A guest that was linked is not lost.
        let linked = self.login.is_guest()
            && matches!(gone, Gone::Forbidden)
            && self.context.guest.known().await.is_ok_and(|guest| guest.in_doubt);
        if !linked {
            self.tell(EventKind::IdentityLost { identity_id });
        }
    }

    /// Whether the refusal is one that another identity mends, and the app's policy lets us look for it.
    async fn may_reset(&self, refused: &Refused, held: &LoginProof) -> bool {
        if self.login.fixed_identity().is_some() {
            return false;
        }
        let known = self.identity_state.known();
        let settled = known.outcome.is_some();
        match &self.login.who {
            Who::Guest => {
                let recreates = self.context.identity_policy == IdentityPolicy::Recreate;
                match Gone::of(&refused.error) {
                    Some(Gone::NotFound) => recreates,
                    // It was shown to somebody who may have linked it: then this is nobody's guest any more.
                    Some(Gone::Forbidden) => {
                        recreates || self.context.guest.known().await.is_ok_and(|guest| guest.in_doubt)
                    }
                    None => false,
                }
            }
            Who::External(_) if refused.remedy == Remedy::NewIdentityIfStored => {
                !settled && self.stored().await.is_ok_and(|stored| stored.is_some())
            }
            // The login may be somebody else's by now, who would take over the session.
            Who::External(_) if settled && Gone::of(&refused.error).is_none() => held.person.is_surely(&known.person),
            Who::External(_) => true,
            Who::Developer { .. } => refused.remedy == Remedy::NewIdentity,
            Who::SignedOut | Who::Decided(_) => false,
        }
    }

    /// An external login whose token is refused for good has to be made anew.
    fn explained(&self, error: Error) -> Error {
        let expired = error
            .causes()
            .first()
            .is_some_and(|cause| cause.kind == CauseKind::TokenExpired);
        if expired && matches!(self.login.who, Who::External(_)) {
            error.sign_in_again()
        } else {
            error
        }
    }

    async fn attempt(self: &Arc<Self>, held: &mut LoginProof, recovering: bool) -> Result<Loaded<Snapshot>, Refused> {
        let known = self.identity_state.known();
        let settled = known.outcome.is_some();
        let foreign = held.identity.is_some() && held.identity != known.identity;
        if settled && ((foreign && !recovering) || held.person.differs_from(&known.person)) {
            held.reject();
            return Err(changed(self.supplier()).into());
        }
        let shown = match (&held.identity, known.identity) {
            (Some(id), _) => id.clone(),
            (None, Some(known)) if !recovering => known,
            (None, known) => {
                let fixed = self.login.fixed_identity().is_some();
                if matches!(self.login.who, Who::External(_)) && known.is_none() && !recovering && !fixed {
                    self.set_expected(self.stored().await?, Expected::Remembered);
                    let (reservation, marked) = self.context.guest.reserve().await?;
                    self.note_stored(marked);
                    if let Some(reservation) = reservation {
                        return self.linking(held, reservation).await;
                    }
                }
                let id = IdentityId::clone(&*self.identity.get().await?);
                if let (Who::External(_), Some(newest)) = (&self.login.who, self.proofs.last()) {
                    *held = newest;
                }
                id
            }
        };
        held.mark_sent();
        let exchanged = self
            .context
            .flow
            .trade(&self.context.service, &shown, &held.proof, &self.login)
            .await?;
        Ok(self.adopt(exchanged, &shown, held, recovering).await?)
    }

    /// Who supplies what Cognito is shown.
    fn supplier(&self) -> &'static str {
        match self.login.who {
            Who::External(_) => "the logins provider",
            _ => "the backend",
        }
    }

    /// Shows a guest's id together with external logins: Cognito makes the guest the user, or merges it into who the user is.
    async fn linking(
        self: &Arc<Self>,
        held: &LoginProof,
        reservation: LinkReservation,
    ) -> Result<Loaded<Snapshot>, Refused> {
        let (caches, proof, guest) = (Arc::clone(self), Arc::clone(&held.proof), reservation.id().clone());
        held.mark_sent();
        let exchanged = to_its_end(self.context.with_deadline(async move {
            let (flow, service) = (&caches.context.flow, &caches.context.service);
            let refused = match flow.trade(service, reservation.id(), &proof, &caches.login).await {
                Ok(exchanged) => {
                    caches.note_stored(reservation.linked().await);
                    return Ok(Ok(exchanged));
                }
                Err(refused) => refused,
            };
            let recreates = caches.context.identity_policy == IdentityPolicy::Recreate;
            let said_why = refused.error.code().is_some() && !refused.error.is_retryable();
            match Gone::of(&refused.error) {
                Some(_) if recreates => caches.note_stored(reservation.linked().await),
                Some(Gone::NotFound) => reservation.untouched().await,
                // It is about the login, not about the guest.
                None if said_why && refused.remedy != Remedy::NewIdentity && caches.context.flow.is_one_call() => {
                    reservation.untouched().await;
                }
                // There is no answer, or none that says what was done.
                _ => drop(reservation),
            }
            Ok(Err(refused))
        }))
        .await??;
        self.set_expected(Some(guest.clone()), Expected::Before);
        Ok(self.adopt(exchanged, &guest, held, true).await?)
    }

    /// Takes what the service answered as the session's, or refuses it as somebody else's.
    async fn adopt(
        &self,
        exchanged: Exchanged,
        shown: &IdentityId,
        held: &LoginProof,
        recovering: bool,
    ) -> Result<Loaded<Snapshot>, Error> {
        let now = self.context.clock.now();
        let known = self.identity_state.known();
        let id = exchanged.identity_id.clone();
        let differs = known.outcome.is_some() && !recovering && known.identity.as_ref() != Some(&id);
        // A developer's token is one identity's, from the first exchange on.
        let fixed = self.login.fixed_identity();
        if differs || held.identity.as_ref().or(fixed).is_some_and(|own| *own != id) {
            return Err(changed("Cognito"));
        }
        if self.login.is_guest() && fixed.is_none() {
            if id != *shown {
                let (_, stored) = self.context.guest.made(Some(shown), id.clone()).await?;
                self.note_stored(stored);
            }
            // Cognito takes it for a guest, so it was not linked.
            self.context.guest.settle(Some(&id)).await;
        }
        self.remember(&id).await;
        let expires = Expiry::received(now, exchanged.expiration, exchanged.server_date);
        let mut news = Vec::new();
        self.identity_state
            .change(|known| news = known.adopt(&id, held.person.clone(), expires));
        news.into_iter().for_each(|what| self.tell(what));
        let session = (self.epoch != UNPINNED).then(|| SessionId {
            epoch: self.epoch,
            provider: self.context.id(),
        });
        let credentials = exchanged.credentials(expires.system_time(), PROVIDER_NAME);
        tracing::debug!(identity_id = ?id, lifetime = ?expires.life(), epoch = self.epoch, "credentials received");
        Ok(Loaded {
            value: Snapshot::new(id, credentials, session),
            expires: Some(expires),
        })
    }

    /// Remembers a named person's identity, before the app is told of it. A store that fails does not keep anybody from signing in.
    async fn remember(&self, id: &IdentityId) {
        let Some(slot) = &self.remembered else { return };
        let stored = match slot.get().await {
            Ok(before) if before.as_ref() != Some(id) => slot.put(before.as_ref(), Some(id)).await,
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        self.note_stored(stored);
    }
}

/// How an identity is gone, by the service's own words.
enum Gone {
    NotFound,
    /// It has logins of which none was shown, or was merged into another one.
    Forbidden,
}

impl Gone {
    fn of(error: &Error) -> Option<Self> {
        let forbidden = |cause: &Cause| cause.kind == CauseKind::IdentityForbidden;
        match error.kind() {
            ErrorKind::IdentityNotFound => Some(Self::NotFound),
            _ => error
                .causes()
                .first()
                .filter(|cause| forbidden(cause))
                .map(|_| Self::Forbidden),
        }
    }
}

fn why(reason: Reason) -> RefreshReason {
    match reason {
        Reason::FirstUse => RefreshReason::FirstUse,
        Reason::Expiring => RefreshReason::Expiring,
        Reason::Invalidated => RefreshReason::Invalidated,
        Reason::Forced => RefreshReason::Forced,
    }
}

fn changed(who: &str) -> Error {
    Error::new(ErrorKind::IdentityChanged, format!("{who} answered with another identity than the session's"))
        .with_hint("is somebody else signed in at the backend by now (a cookie jar that changed hands)? call switch_to for the new user")
}
